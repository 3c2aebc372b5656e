//! The rows of a small table that differ, for people.

use lifeboat_postgres::digest::{DatabaseDigest, Difference};
use tokio_postgres::Client;

use crate::error::{Error, Result};

const MASK: &str = "•••";

/// How rows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Values {
    /// Names of columns only: patients' data have no place on screens and in tickets.
    Masked,
    /// Somebody asked for them.
    Shown,
}

/// One line a row: where it is, what happened to it, and the restored row.
pub(crate) async fn of_difference(
    client: &Client,
    difference: &Difference,
    source: &DatabaseDigest,
    restored: &DatabaseDigest,
    values: Values,
) -> Result<Vec<String>> {
    if difference.places.is_empty() {
        return Ok(Vec::new());
    }
    let knows = |side: &DatabaseDigest, place: &str| {
        side.tables.get(&difference.name).is_some_and(|table| table.places.contains_key(place))
    };
    let table = match values {
        Values::Masked => Table::columns(client, &difference.name).await?,
        Values::Shown => Table::quoted(client, &difference.name).await?,
    };
    let mut lines = Vec::with_capacity(difference.places.len());
    for place in &difference.places {
        let what = match (knows(source, place), knows(restored, place)) {
            (true, true) => "differs",
            (true, false) => "is not restored",
            _ => "is not in the source",
        };
        let row = match (knows(restored, place), &table) {
            (false, _) | (_, Table::Unknown) => String::new(),
            (true, Table::Columns(columns)) => format!(": {columns}"),
            (true, Table::Quoted(table)) => {
                row(client, table, place).await?.map_or_else(String::new, |row| format!(": {row}"))
            }
        };
        lines.push(format!("({place}) {what}{row}"));
    }
    Ok(lines)
}

enum Table {
    /// `id = •••, name = •••`
    Columns(String),
    /// Its name for SQL.
    Quoted(String),
    /// Not there (any more).
    Unknown,
}

const FIND: &str = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname || '.' || c.relname = $1 AND c.relkind IN ('r', 'm')";

impl Table {
    async fn columns(client: &Client, name: &str) -> Result<Table> {
        let query = format!(
            "SELECT coalesce(string_agg(attname || ' = {MASK}', ', ' ORDER BY attnum), '') FROM pg_attribute
             WHERE attnum > 0 AND NOT attisdropped AND attrelid = (SELECT c.oid {FIND} LIMIT 1)"
        );
        let row = client.query_one(&query, &[&name]).await.map_err(Error::sql("name the columns of a table"))?;
        Ok(Table::Columns(row.get(0)))
    }

    async fn quoted(client: &Client, name: &str) -> Result<Table> {
        let query = format!("SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) {FIND} LIMIT 1");
        let row = client.query_opt(&query, &[&name]).await.map_err(Error::sql("find a table"))?;
        Ok(row.map_or(Table::Unknown, |row| Table::Quoted(row.get(0))))
    }
}

/// A row as text, cut where it is long.
async fn row(client: &Client, table: &str, place: &str) -> Result<Option<String>> {
    let query = format!("SELECT left((q.*)::text, 1000) FROM ONLY {table} q WHERE q.ctid = $1::text::tid");
    let found = client.query_opt(&query, &[&format!("({place})")]).await;
    Ok(found.map_err(Error::sql("show a row that differs"))?.map(|row| row.get(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_postgres::digest::{self, Options};
    use lifeboat_testkit::postgres::{Options as ServerOptions, Postgres, versions};

    /// The newest version that this machine has.
    fn server() -> Option<Postgres> {
        if !lifeboat_testkit::testbed::enabled() {
            return None;
        }
        let major = versions().pop_last().expect("the testbed has images");
        Some(Postgres::start(major, &ServerOptions::default()).expect("it starts"))
    }

    #[tokio::test]
    async fn rows_are_named_and_their_values_are_masked() {
        let Some(server) = server() else { return };
        for statement in [
            "CREATE SCHEMA \"odd.\"\"schema\"",
            "CREATE TABLE \"odd.\"\"schema\".\"a.b\" (id int, \"the name\" text)",
            "INSERT INTO \"odd.\"\"schema\".\"a.b\" VALUES (1, 'Ada'), (2, 'Bob'), (3, 'Eve')",
        ] {
            server.psql("postgres", statement).expect("it runs");
        }
        let dsn = server.superuser_dsn("postgres");
        let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await.expect("it listens");
        tokio::spawn(connection);
        let digest = async || digest::run(&client, &Options::default()).await.expect("it can be read");
        let source = digest().await;
        let change = "UPDATE \"odd.\"\"schema\".\"a.b\" SET \"the name\" = 'Mallory' WHERE id = 2";
        server.psql("postgres", change).expect("it runs");
        let restored = digest().await;
        let found = digest::compare(&source, &restored);
        assert_eq!(found.len(), 1, "{found:?}");
        let lines = async |values| {
            of_difference(&client, &found[0], &source, &restored, values).await.expect("the rows can be shown")
        };
        let masked = ["(0,2) is not restored", "(0,4) is not in the source: id = •••, the name = •••"];
        assert_eq!(lines(Values::Masked).await, masked);
        assert_eq!(lines(Values::Shown).await, ["(0,2) is not restored", "(0,4) is not in the source: (2,Mallory)"]);
    }
}
