//! Digests of every table of a database: order-free, comparable across servers and major versions.
//!
//! A table's digest is its row count and two sums of 64-bit hashes (`hashtextextended` with two seeds) over the text of
//! each row. All of a database is read in one `REPEATABLE READ READ ONLY` snapshot, with the settings pinned that change
//! how a value is written as text. Big-endian servers would hash differently; they are not supported for comparison.
//!
//! Left out, and listed: unlogged tables (a restore empties them), foreign tables (their rows are elsewhere), tables that
//! could not be read in time or at all. Temporary tables belong to sessions and are not looked at.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use crate::{
    error::{Error, Result},
    sql,
};

/// Why a relation without rows of its own is left out.
const FOREIGN: &str = "a foreign table: its rows are elsewhere";
const UNLOGGED: &str = "unlogged: a restore empties it";
const UNPOPULATED: &str = "a materialized view without data";

/// How the digests are taken.
#[derive(Debug, Clone)]
pub struct Options {
    /// The longest that one table may take.
    pub statement_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { statement_timeout: Duration::from_secs(1800) }
    }
}

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDigest {
    /// Number of rows.
    pub rows: u64,
    /// The sums of the rows' hashes with seed 0 and seed 1, as decimal text: they exceed 64 bits.
    pub sums: [String; 2],
}

/// What a database holds. Names are `schema.relation`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseDigest {
    /// Tables (leaf partitions each by itself), materialized views, and `pg_catalog.pg_largeobject`.
    pub tables: BTreeMap<String, TableDigest>,
    /// By sequence: the value up to which WAL has promised numbers, `last_value + log_cnt * increment`. Replay restores
    /// this, not `last_value`, because a sequence logs 32 numbers ahead.
    pub sequences: BTreeMap<String, i64>,
    /// What has no digest, and why.
    pub left_out: BTreeMap<String, String>,
}

impl DatabaseDigest {
    /// Relations that hold rows and could not be digested, and why: no right, no time, damage.
    pub fn unread(&self) -> impl Iterator<Item = (&str, &str)> {
        let left = self.left_out.iter().map(|(name, why)| (name.as_str(), why.as_str()));
        left.filter(|(_, why)| ![FOREIGN, UNLOGGED, UNPOPULATED].contains(why))
    }

    /// All rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.values().map(|table| table.rows).sum()
    }
}

/// One way in which a restored database is not what the source was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// `schema.relation`.
    pub name: String,
    /// What the source had.
    pub source: String,
    /// What the restored database has.
    pub restored: String,
}

/// What differs, in the order of the names. What either side left out is not compared.
pub fn compare(source: &DatabaseDigest, restored: &DatabaseDigest) -> Vec<Difference> {
    let skipped = |name: &String| source.left_out.contains_key(name) || restored.left_out.contains_key(name);
    let table = |digest: &TableDigest| format!("{} rows, digest {}/{}", digest.rows, digest.sums[0], digest.sums[1]);
    let sequence = |reach: &i64| format!("reaches {reach}");
    let mut found = differences(&source.tables, &restored.tables, table);
    found.extend(differences(&source.sequences, &restored.sequences, sequence));
    found.retain(|difference| !skipped(&difference.name));
    found
}

fn differences<T: PartialEq>(
    source: &BTreeMap<String, T>,
    restored: &BTreeMap<String, T>,
    show: impl Fn(&T) -> String,
) -> Vec<Difference> {
    let names: std::collections::BTreeSet<&String> = source.keys().chain(restored.keys()).collect();
    let shown = |value: Option<&T>| value.map_or_else(|| "not there".to_owned(), &show);
    let differs = |name: &&String| source.get(*name) != restored.get(*name);
    let difference = |name: &String| Difference {
        name: name.clone(),
        source: shown(source.get(name)),
        restored: shown(restored.get(name)),
    };
    names.into_iter().filter(differs).map(difference).collect()
}

/// Everything that changes how a value is written as text, and who may see which rows.
const PINNED: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL TimeZone = 'UTC'; SET LOCAL IntervalStyle = 'postgres';
    SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; SET LOCAL lc_monetary = 'C';
    SET LOCAL search_path = pg_catalog; SET LOCAL row_security = off; SET LOCAL max_parallel_workers_per_gather = 0;
    SET LOCAL lock_timeout = '10s';";

const RELATIONS: &str = "SELECT n.nspname, c.relname, c.relkind::text, c.relpersistence::text, c.relispopulated
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 'f', 'S') AND c.relpersistence <> 't'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    ORDER BY 1, 2";

/// Digests everything that the session's role may read in its database.
///
/// # Errors
/// Only where the session itself fails; a table that cannot be read is in [`DatabaseDigest::left_out`].
pub async fn run(client: &Client, options: &Options) -> Result<DatabaseDigest> {
    let digest = Digest { client, found: DatabaseDigest::default() };
    let timeout = format!("SET LOCAL statement_timeout = {}", options.statement_timeout.as_millis());
    digest.batch(PINNED).await?;
    digest.batch(&timeout).await?;
    let result = digest.all().await;
    client.batch_execute("ROLLBACK").await.map_err(|error| error_of("ROLLBACK", error))?;
    result
}

struct Digest<'a> {
    client: &'a Client,
    found: DatabaseDigest,
}

impl Digest<'_> {
    async fn all(mut self) -> Result<DatabaseDigest> {
        let relations = self.client.query(RELATIONS, &[]).await.map_err(|error| error_of(RELATIONS, error))?;
        for row in &relations {
            let (schema, name): (&str, &str) = (row.get(0), row.get(1));
            let (kind, persistence, populated): (&str, &str, bool) = (row.get(2), row.get(3), row.get(4));
            match (kind, persistence) {
                ("f", _) => self.leave_out(schema, name, FOREIGN),
                (_, "u") => self.leave_out(schema, name, UNLOGGED),
                ("S", _) => self.sequence(schema, name).await?,
                ("m", _) if !populated => self.leave_out(schema, name, UNPOPULATED),
                _ => self.table(schema, name).await?,
            }
        }
        self.table("pg_catalog", "pg_largeobject").await?;
        Ok(self.found)
    }

    /// WITNESS: `(q.*)::text`, since a column named like the table would otherwise be digested alone.
    async fn table(&mut self, schema: &str, name: &str) -> Result<()> {
        let query = format!(
            "SELECT count(*)::text, coalesce(sum(hashtextextended(x, 0)), 0)::text, \
             coalesce(sum(hashtextextended(x, 1)), 0)::text \
             FROM (SELECT (q.*)::text x FROM ONLY {}.{} q OFFSET 0) z",
            quoted(schema),
            quoted(name)
        );
        if let Some(row) = self.guarded(schema, name, &query).await? {
            let rows: String = row.get(0);
            let rows = rows.parse().unwrap_or_default();
            let digest = TableDigest { rows, sums: [row.get(1), row.get(2)] };
            self.found.tables.insert(format!("{schema}.{name}"), digest);
        }
        Ok(())
    }

    async fn sequence(&mut self, schema: &str, name: &str) -> Result<()> {
        let query = format!(
            "SELECT s.last_value + s.log_cnt * q.seqincrement FROM {}.{} s, pg_sequence q \
             WHERE q.seqrelid = $1::text::regclass",
            quoted(schema),
            quoted(name)
        );
        let regclass = format!("{}.{}", quoted(schema), quoted(name));
        self.batch("SAVEPOINT one").await?;
        match self.client.query_one(&query, &[&regclass]).await {
            Ok(row) => {
                self.found.sequences.insert(format!("{schema}.{name}"), row.get(0));
                self.batch("RELEASE one").await
            }
            Err(error) => self.failed(schema, name, error).await,
        }
    }

    /// A statement that may fail without ending the snapshot.
    async fn guarded(&mut self, schema: &str, name: &str, query: &str) -> Result<Option<tokio_postgres::Row>> {
        self.batch("SAVEPOINT one").await?;
        match self.client.query_one(query, &[]).await {
            Ok(row) => {
                self.batch("RELEASE one").await?;
                Ok(Some(row))
            }
            Err(error) => {
                self.failed(schema, name, error).await?;
                Ok(None)
            }
        }
    }

    /// Leaves out what the server refused; a lost connection ends the digest.
    async fn failed(&mut self, schema: &str, name: &str, error: tokio_postgres::Error) -> Result<()> {
        let Some(cause) = error.as_db_error().map(ToString::to_string) else {
            return Err(error_of("a table's digest", error));
        };
        self.leave_out(schema, name, &cause);
        self.batch("ROLLBACK TO one").await
    }

    fn leave_out(&mut self, schema: &str, name: &str, why: &str) {
        self.found.left_out.insert(format!("{schema}.{name}"), why.to_owned());
    }

    async fn batch(&self, statement: &str) -> Result<()> {
        self.client.batch_execute(statement).await.map_err(|error| error_of(statement, error))
    }
}

fn error_of(statement: &str, error: tokio_postgres::Error) -> Error {
    sql::error_of("the database", statement, error)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(tables: &[(&str, u64, &str)]) -> DatabaseDigest {
        let table = |(name, rows, sum): &(&str, u64, &str)| {
            ((*name).to_owned(), TableDigest { rows: *rows, sums: [(*sum).to_owned(), "0".to_owned()] })
        };
        DatabaseDigest { tables: tables.iter().map(table).collect(), ..DatabaseDigest::default() }
    }

    #[test]
    fn differences_name_the_table_and_both_values() {
        let source = digest(&[("public.a", 1, "7"), ("public.b", 2, "8"), ("public.c", 3, "9")]);
        assert_eq!(compare(&source, &source), []);
        let restored = digest(&[("public.a", 1, "7"), ("public.b", 2, "-8"), ("public.d", 0, "0")]);
        let found = compare(&source, &restored);
        let names: Vec<&str> = found.iter().map(|difference| difference.name.as_str()).collect();
        assert_eq!(names, ["public.b", "public.c", "public.d"]);
        assert_eq!(found[0].source, "2 rows, digest 8/0");
        assert_eq!(found[1].restored, "not there");
    }

    #[test]
    fn what_is_left_out_is_not_compared_and_sequences_are() {
        let mut source = digest(&[("public.a", 1, "7")]);
        let mut restored = digest(&[]);
        restored.left_out.insert("public.a".into(), "timed out".into());
        source.sequences.insert("public.s".into(), 33);
        restored.sequences.insert("public.s".into(), 34);
        let found = compare(&source, &restored);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].source.as_str(), found[0].restored.as_str()), ("reaches 33", "reaches 34"));
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("odd\"name"), "\"odd\"\"name\"");
    }
}
