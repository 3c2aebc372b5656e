//! A login that exists in the sandbox only: a user of our own, made by SQL before Odoo loads the database.
//!
//! No real user's password is used, set or needed, so it does not matter that the administrator is archived, has a second
//! factor, or that people come in through an identity provider. The user gets every right that an administrator has, so that
//! what he cannot see is not there, and every company.
//!
//! Columns differ by version and by installed module. What a column must hold and has no default for is copied from a real
//! row; everything else is left empty, so that no unique value is there twice.
//!
//! The password is written as it is; every supported Odoo verifies a plain `res_users.password` and replaces it by a
//! pbkdf2-sha512 hash at the first login (`_crypt_context`, schemes `pbkdf2_sha512` and `plaintext`, in
//! `addons/base/models/res_users.py`, 14.0 to 19.0). So no second implementation of passlib's format is needed.

use std::fmt;

use lifeboat_model::secret::Secret;
use tokio_postgres::{Client, Transaction, types::ToSql};

use crate::error::{Error, Result};

/// Who to log in as, and the password that works.
#[derive(Clone)]
pub struct SandboxLogin {
    /// The user's id.
    pub id: i32,
    /// The login name.
    pub login: String,
    /// The sandbox's own password.
    pub password: Secret,
}

impl fmt::Debug for SandboxLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SandboxLogin(user {})", self.id)
    }
}

/// Whose rows serve as examples: `base.user_admin`, archived or not, else another internal user. Every database has user 1.
const EXAMPLE: &str = "\
    SELECT u.id, u.partner_id, u.company_id \
      FROM res_users u \
      LEFT JOIN ir_model_data x ON x.model = 'res.users' AND x.res_id = u.id AND x.module = 'base' AND x.name = 'user_admin' \
     ORDER BY x.id IS NULL, u.active DESC, u.id \
     LIMIT 1";

/// A language that Odoo knows: ours if it is active.
const LANGUAGE: &str = "SELECT code::text FROM res_lang WHERE active ORDER BY code = 'en_US' DESC, id LIMIT 1";

/// An administrator's groups, those of the example, who is one in most databases, and everything that they imply: until 18.0
/// the table holds implied groups too, 19.0 computes them. Accounting's own check of the books wants `group_account_user`.
/// `res_groups_users_rel(gid, uid)` and `res_groups_implied_rel(gid, hid)` are the same in 14.0 to 19.0.
const GROUPS: &str = "\
    INSERT INTO res_groups_users_rel (gid, uid) \
    WITH RECURSIVE wanted(gid) AS ( \
        (SELECT res_id FROM ir_model_data WHERE model = 'res.groups' AND \
            (module = 'base' AND name IN ('group_user', 'group_system', 'group_erp_manager', 'group_partner_manager', 'group_multi_company') \
             OR module = 'account' AND name IN ('group_account_user', 'group_account_manager')) \
         UNION \
         SELECT r.gid FROM res_groups_users_rel r WHERE r.uid = $2 AND EXISTS ( \
            SELECT FROM res_groups_users_rel s JOIN ir_model_data g ON g.model = 'res.groups' AND g.res_id = s.gid \
             WHERE s.uid = $2 AND g.module = 'base' AND g.name = 'group_system')) \
        UNION \
        SELECT i.hid FROM res_groups_implied_rel i JOIN wanted w ON i.gid = w.gid) \
    SELECT g.id, $1 FROM res_groups g JOIN wanted w ON w.gid = g.id \
    ON CONFLICT DO NOTHING";

/// `res_company_users_rel(cid, user_id)` is the same in 14.0 to 19.0.
const COMPANIES: &str = "\
    INSERT INTO res_company_users_rel (cid, user_id) SELECT id, $1 FROM res_company ON CONFLICT DO NOTHING";

/// Makes the user. Call it before Odoo loads the database: users are cached.
pub async fn prepare(client: &mut Client) -> Result<SandboxLogin> {
    let login = format!("lifeboat-sandbox-{}", random(4)?);
    let password = Secret::new(random(24)?);
    let transaction = client.transaction().await.map_err(Error::sql("begin to make a sandbox user"))?;
    let row = transaction.query_opt(EXAMPLE, &[]).await.map_err(Error::sql("look for a user"))?.ok_or(Error::NoUser)?;
    let read = |index: usize| row.try_get::<_, i32>(index).map_err(Error::sql("look for a user"));
    let (example, partner, company) = (read(0)?, read(1)?, read(2)?);
    let language = transaction.query_opt(LANGUAGE, &[]).await.map_err(Error::sql("look for a language"))?;
    let language = language.map_or_else(|| "en_US".to_owned(), |row| row.get::<_, String>(0));

    let partner = make_partner(&transaction, partner, &language).await?;
    let id = make_user(&transaction, (example, partner, company), &login, &password).await?;
    let rights: [(&str, &str, &[&(dyn ToSql + Sync)]); 3] = [
        ("give the sandbox user its groups", GROUPS, &[&id, &example]),
        ("give the sandbox user its companies", COMPANIES, &[&id]),
        // A policy that demands a second factor of everybody: nobody could answer for it.
        ("drop the second factor's policy", "DELETE FROM ir_config_parameter WHERE key = 'auth_totp.policy'", &[]),
    ];
    for (what, sql, parameters) in rights {
        transaction.execute(sql, parameters).await.map_err(Error::sql(what))?;
    }
    transaction.commit().await.map_err(Error::sql("commit the sandbox user"))?;
    Ok(SandboxLogin { id, login, password })
}

fn random(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random)
        .map_err(|error| Error::unexpected("the system's random numbers", error.to_string()))?;
    Ok(hex::encode(random))
}

async fn make_partner(transaction: &Transaction<'_>, example: i32, language: &str) -> Result<i32> {
    let columns = columns(transaction, "res_partner").await?;
    let values = [
        ("name", "'Lifeboat sandbox'"),
        ("display_name", "'Lifeboat sandbox'"),
        ("complete_name", "'Lifeboat sandbox'"),
        ("email", "'sandbox@lifeboat.invalid'"),
        ("lang", "$2::varchar"),
        ("active", "true"),
        ("type", "'contact'"),
        ("is_company", "false"),
        ("partner_share", "false"),
    ];
    let sql = copy("res_partner", &columns, &values);
    let failed = || Error::sql("make the sandbox user's partner");
    let id: i32 =
        transaction.query_one(&sql, &[&example, &language]).await.and_then(|row| row.try_get(0)).map_err(failed())?;
    let own = "UPDATE res_partner SET commercial_partner_id = id WHERE id = $1";
    transaction.execute(own, &[&id]).await.map_err(failed())?;
    Ok(id)
}

async fn make_user(
    transaction: &Transaction<'_>,
    (example, partner, company): (i32, i32, i32),
    login: &str,
    password: &Secret,
) -> Result<i32> {
    let columns = columns(transaction, "res_users").await?;
    let values = [
        ("login", "$2::varchar"),
        ("password", "$3::varchar"),
        ("partner_id", "$4::int"),
        ("company_id", "$5::int"),
        ("active", "true"),
        ("share", "false"),
        ("notification_type", "'inbox'"),
        ("odoobot_state", "'disabled'"),
        // OCA's password_security: a password without a date has expired.
        ("password_write_date", "now() AT TIME ZONE 'UTC'"),
    ];
    let sql = copy("res_users", &columns, &values);
    let failed = || Error::sql("make the sandbox user");
    let parameters: [&(dyn ToSql + Sync); 5] = [&example, &login, &password.expose(), &partner, &company];
    transaction.query_one(&sql, &parameters).await.and_then(|row| row.try_get(0)).map_err(failed())
}

/// A column, and whether a row without a value for it would be refused.
struct Column {
    name: String,
    is_demanded: bool,
}

async fn columns(transaction: &Transaction<'_>, table: &'static str) -> Result<Vec<Column>> {
    let query = "SELECT column_name::text, is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO' \
                 FROM information_schema.columns \
                 WHERE table_schema = current_schema() AND table_name = $1 AND is_generated = 'NEVER' \
                 ORDER BY ordinal_position";
    let failed = || Error::sql(format!("list the columns of {table}"));
    let rows = transaction.query(query, &[&table]).await.map_err(failed())?;
    let read = |row: &tokio_postgres::Row| {
        let (name, is_demanded) = (row.try_get(0).map_err(failed())?, row.try_get(1).map_err(failed())?);
        Ok(Column { name, is_demanded })
    };
    rows.iter().map(read).collect()
}

/// Inserts a row with the given values where such columns exist, and with the example's where a value is demanded.
fn copy(table: &str, columns: &[Column], values: &[(&str, &str)]) -> String {
    let (mut names, mut expressions) = (Vec::new(), Vec::new());
    for Column { name, is_demanded } in columns {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let given = values.iter().find(|(column, _)| column == name).map(|(_, value)| (*value).to_owned());
        let copied = (*is_demanded && name != "id").then(|| format!("example.{quoted}"));
        if let Some(expression) = given.or(copied) {
            names.push(quoted);
            expressions.push(expression);
        }
    }
    format!(
        "INSERT INTO {table} ({}) SELECT {} FROM {table} example WHERE example.id = $1 RETURNING id",
        names.join(", "),
        expressions.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_demanded_is_copied_and_nothing_else() {
        let column = |name: &str, is_demanded| Column { name: name.into(), is_demanded };
        let columns =
            [column("id", true), column("login", true), column("notification_type", true), column("barcode", false)];
        assert_eq!(
            copy("res_users", &columns, &[("login", "$2"), ("share", "false")]),
            "INSERT INTO res_users (\"login\", \"notification_type\") SELECT $2, example.\"notification_type\" \
             FROM res_users example WHERE example.id = $1 RETURNING id"
        );
    }

    #[test]
    fn a_login_is_not_shown() {
        let login = SandboxLogin { id: 7, login: "x".into(), password: Secret::new("swordfish") };
        assert_eq!(format!("{login:?}"), "SandboxLogin(user 7)");
    }
}
