//! Damage in the rows and indexes of the promoted server.
//!
//! Done by SQL in the sandbox's own server, promoted at the position of the source's digests: what is left is what a source
//! would have had that lost a row, changed a value or forgot an index entry without anybody's doing. Triggers and foreign
//! keys do not follow (`session_replication_role`), so that nothing else changes.
//!
//! - **deleted row**, **changed value**: every page is sound and every index agrees. Only the digests know.
//! - **dropped index entry**: the rows are all there, so the digests agree. Reading them by the index misses one: `pg_amcheck`
//!   with `heapallindexed` knows.

use tokio_postgres::Client;

use super::{chance::Chance, nothing};
use crate::{
    error::{Error, Result},
    source::OwnCopy,
};

/// Tables that every Odoo database has, with rows, and that change with an upgrade only.
pub(super) const STEADY: &[&str] = &[
    "ir_act_window",
    "ir_model",
    "ir_model_access",
    "ir_model_data",
    "ir_model_fields",
    "ir_ui_menu",
    "ir_ui_view",
    "res_country",
    "res_country_state",
    "res_currency",
];

/// Nobody else follows what is done in here.
const ALONE: &str = "BEGIN; SET LOCAL session_replication_role = replica; SET LOCAL statement_timeout = '60s'";

/// A row of a table.
struct Row {
    database: usize,
    /// Quoted for SQL.
    table: String,
    /// Its place.
    ctid: String,
}

/// Draws a row; with a column, one in which it has a value.
async fn draw(
    clients: &[(String, Client)],
    tables: &[(usize, &str)],
    column: Option<&str>,
    chance: &mut Chance,
) -> Result<Option<Row>> {
    for (database, table) in chance.shuffled(tables.to_vec()) {
        let client = &clients[database].1;
        let find = "SELECT c.oid::regclass::text FROM pg_class c WHERE c.oid = to_regclass('public.' || quote_ident($1)) \
                    AND c.relkind = 'r' AND ($2::text IS NULL OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid \
                    AND a.attname = $2 AND a.atttypid IN (25, 1043) AND a.atttypmod = -1 AND NOT a.attisdropped))";
        let found = client.query_opt(find, &[&table, &column]).await.map_err(Error::sql("find a table"))?;
        let Some(table) = found.map(|row| row.get::<_, String>(0)) else { continue };
        let filter = column.map_or_else(|| "true".to_owned(), |column| format!("length({column}) > 1"));
        let query = format!("SELECT count(*) FROM ONLY {table} WHERE {filter}");
        let count: i64 = client.query_one(&query, &[]).await.map_err(Error::sql("count rows"))?.get(0);
        let Ok(count @ 1..) = u64::try_from(count) else { continue };
        let query = format!(
            "SELECT ctid::text FROM ONLY {table} WHERE {filter} ORDER BY ctid OFFSET {} LIMIT 1",
            chance.below(count)
        );
        let row = client.query_opt(&query, &[]).await.map_err(Error::sql("draw a row"))?;
        if let Some(row) = row {
            return Ok(Some(Row { database, table, ctid: row.get(0) }));
        }
    }
    Ok(None)
}

/// Those of these tables that the source has digested whole.
fn digested<'a>(copy: &OwnCopy<'_>, clients: &[(String, Client)], tables: &[&'a str]) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for (place, (database, _)) in clients.iter().enumerate() {
        let known = copy.digested(database);
        found.extend(tables.iter().filter(|table| known.iter().any(|one| one == **table)).map(|table| (place, *table)));
    }
    found
}

const NO_DIGEST: &str = "the point has no digest of a table that every Odoo database has";

/// Deletes a row.
pub(super) async fn delete(copy: &OwnCopy<'_>, clients: &[(String, Client)], mut chance: Chance) -> Result<String> {
    let tables = digested(copy, clients, STEADY);
    let Some(row) = draw(clients, &tables, None, &mut chance).await? else { return nothing(NO_DIGEST) };
    let Row { database, table, ctid } = row;
    let delete = format!("DELETE FROM ONLY {table} WHERE ctid = $1::text::tid");
    alone(&clients[database].1, &delete, &ctid).await?;
    Ok(format!("row {ctid} of {table}, deleted"))
}

/// Text columns that are not numbers of anything, not limited in length and in every Odoo database.
const VALUES: &[(&str, &str)] = &[
    ("ir_attachment", "name"),
    ("ir_model_data", "name"),
    ("ir_model_fields", "complete_name"),
    ("ir_ui_view", "name"),
    ("res_partner", "name"),
];

/// Changes the last character of a value.
pub(super) async fn change(copy: &OwnCopy<'_>, clients: &[(String, Client)], mut chance: Chance) -> Result<String> {
    for (table, column) in chance.clone().shuffled(VALUES.to_vec()) {
        let tables = digested(copy, clients, &[table]);
        let Some(row) = draw(clients, &tables, Some(column), &mut chance).await? else { continue };
        let Row { database, table, ctid } = row;
        let change = format!(
            "UPDATE ONLY {table} SET {column} = left({column}, -1) || CASE right({column}, 1) WHEN '~' THEN '#' ELSE '~' END \
             WHERE ctid = $1::text::tid"
        );
        alone(&clients[database].1, &change, &ctid).await?;
        return Ok(format!("{column} of row {ctid} of {table}, its last character changed"));
    }
    nothing(NO_DIGEST)
}

/// Makes the primary key's index forget a row, by writing the row anew while the index is not kept.
pub(super) async fn drop_index_entry(clients: &[(String, Client)], mut chance: Chance) -> Result<String> {
    let tables: Vec<(usize, &str)> =
        (0..clients.len()).flat_map(|place| STEADY.iter().map(move |table| (place, *table))).collect();
    let Some(row) = draw(clients, &tables, None, &mut chance).await? else {
        return nothing("there is no table that every Odoo database has");
    };
    let Row { database, table, ctid } = row;
    let client = &clients[database].1;
    let find = "SELECT i.indexrelid, i.indexrelid::regclass::text FROM pg_index i \
                WHERE i.indrelid = to_regclass($1) AND i.indisprimary AND i.indisvalid AND i.indisready";
    let index = client.query_opt(find, &[&table]).await.map_err(Error::sql("find an index"))?;
    let Some(index) = index else { return nothing("its table has no primary key") };
    let (oid, name): (u32, String) = (index.get(0), index.get(1));
    let script = format!(
        "{ALONE};
         CREATE TEMP TABLE lifeboat_row ON COMMIT DROP AS SELECT * FROM ONLY {table} WHERE ctid = '{ctid}'::tid;
         UPDATE pg_index SET indisready = false WHERE indexrelid = {oid};
         DELETE FROM ONLY {table} WHERE ctid = '{ctid}'::tid;
         INSERT INTO {table} SELECT * FROM lifeboat_row;
         UPDATE pg_index SET indisready = true WHERE indexrelid = {oid};
         COMMIT"
    );
    ended(client, client.batch_execute(&script).await.map_err(Error::sql("drop an index entry"))).await?;
    Ok(format!("the entry of row {ctid} of {table} in {name}"))
}

/// One statement on one row, which must be there.
async fn alone(client: &Client, statement: &str, ctid: &str) -> Result<()> {
    client.batch_execute(ALONE).await.map_err(Error::sql("begin a transaction"))?;
    let done = client.execute(statement, &[&ctid]).await.map_err(Error::sql("damage a row"));
    let done = match done {
        Ok(1) => client.batch_execute("COMMIT").await.map_err(Error::sql("commit the damage")),
        Ok(_) => nothing("the row that was drawn is not there any more"),
        Err(error) => Err(error),
    };
    ended(client, done).await
}

/// Whatever happened, the session is not left in a transaction: the drill goes on with it.
async fn ended(client: &Client, done: Result<()>) -> Result<()> {
    if done.is_err() {
        client.batch_execute("ROLLBACK").await.map_err(Error::sql("roll back"))?;
    }
    done
}
