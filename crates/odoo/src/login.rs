//! A login that exists in the sandbox only: a real user of the restored system gets a random password that dies with it.
//!
//! The user is not invented: a real one has real companies, groups and rights, and columns of `res_users` differ by version.
//! The password is written as it is; every supported Odoo verifies a plain `res_users.password` and replaces it by a
//! pbkdf2-sha512 hash at the first login (`_crypt_context`, schemes `pbkdf2_sha512` and `plaintext`, in
//! `addons/base/models/res_users.py`, 14.0 to 19.0). So no second implementation of passlib's format is needed. A second
//! factor of that user is switched off, because nobody can answer for it.

use std::fmt;

use lifeboat_model::secret::Secret;
use tokio_postgres::Client;

use crate::error::{Error, Result};

/// Who to log in as, and the password that now works.
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

/// An active internal user, an administrator rather than another, `base.user_admin` rather than another administrator.
/// User 1 (OdooBot) cannot log in. `res_groups_users_rel(gid, uid)` is the same in 14.0 to 19.0.
const CHOOSE: &str = "\
    SELECT u.id, u.login \
      FROM res_users u \
      LEFT JOIN ir_model_data x ON x.model = 'res.users' AND x.res_id = u.id AND x.module = 'base' AND x.name = 'user_admin' \
     WHERE u.active AND u.id <> 1 AND u.login IS NOT NULL \
       AND EXISTS (SELECT FROM res_groups_users_rel r JOIN ir_model_data g ON g.model = 'res.groups' AND g.res_id = r.gid \
                    WHERE r.uid = u.id AND g.module = 'base' AND g.name IN ('group_system', 'group_user')) \
     ORDER BY EXISTS (SELECT FROM res_groups_users_rel r JOIN ir_model_data g ON g.model = 'res.groups' AND g.res_id = r.gid \
                       WHERE r.uid = u.id AND g.module = 'base' AND g.name = 'group_system') DESC, \
              x.id IS NULL, u.id \
     LIMIT 1";

/// Accounting's own check of the books wants this group (`_check_hash_integrity`).
const ACCOUNTANT: &str = "\
    INSERT INTO res_groups_users_rel (gid, uid) \
    SELECT res_id, $1 FROM ir_model_data WHERE model = 'res.groups' AND module = 'account' AND name = 'group_account_user' \
    ON CONFLICT DO NOTHING";

/// Chooses a user and gives it a random password. Call it before Odoo loads the database: users are cached.
pub async fn prepare(client: &mut Client) -> Result<SandboxLogin> {
    let mut random = [0; 24];
    getrandom::fill(&mut random)
        .map_err(|error| Error::unexpected("the system's random numbers", error.to_string()))?;
    let password = Secret::new(hex::encode(random));

    let transaction = client.transaction().await.map_err(Error::sql("begin to prepare a login"))?;
    let row = transaction.query_opt(CHOOSE, &[]).await.map_err(Error::sql("choose a user"))?.ok_or(Error::NoUser)?;
    let id: i32 = row.try_get(0).map_err(Error::sql("choose a user"))?;
    let login: String = row.try_get(1).map_err(Error::sql("choose a user"))?;
    transaction
        .execute("UPDATE res_users SET password = $2 WHERE id = $1", &[&id, &password.expose()])
        .await
        .map_err(Error::sql("set the sandbox password"))?;
    transaction.execute(ACCOUNTANT, &[&id]).await.map_err(Error::sql("let the sandbox user see the books"))?;
    let second_factor = "SELECT count(*) FROM information_schema.columns WHERE table_schema = current_schema() \
                         AND table_name = 'res_users' AND column_name = 'totp_secret'";
    let row = transaction.query_one(second_factor, &[]).await.map_err(Error::sql("look for a second factor"))?;
    if row.try_get::<_, i64>(0).map_err(Error::sql("look for a second factor"))? > 0 {
        transaction
            .execute("UPDATE res_users SET totp_secret = NULL WHERE id = $1", &[&id])
            .await
            .map_err(Error::sql("switch the second factor off"))?;
    }
    transaction
        .execute("DELETE FROM ir_config_parameter WHERE key = 'auth_totp.policy'", &[])
        .await
        .map_err(Error::sql("switch the second factor off"))?;
    transaction.commit().await.map_err(Error::sql("commit the sandbox login"))?;
    Ok(SandboxLogin { id, login, password })
}
