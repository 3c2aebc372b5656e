//! What relations a database has, and of what shape: as a snapshot shows it, or as it is now.
//!
//! A snapshot hides changed rows, but not a changed table: after TRUNCATE, a rewrite or ADD COLUMN … DEFAULT, a session
//! with an old snapshot reads the new table. The file node and the columns' numbers are never used again, so equal ones
//! before and after the reading mean that the table kept its shape in between.

use std::collections::BTreeMap;

use tokio_postgres::SimpleQueryRow;

use super::{FOREIGN, TEMPORARY, UNLOGGED, UNPOPULATED, read::Reader};
use crate::error::{Error, Result};

/// From here on a range of ctids is read without reading the rest of the table (TID Range Scan).
const RANGE_SCANS: u32 = 140_000;

/// A table or materialized view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) oid: u32,
    /// `schema.relation`, for people.
    pub(crate) name: String,
    /// The same, quoted for SQL.
    pub(crate) quoted: String,
    /// Its columns, quoted for SQL, of an alias `q`.
    pub(crate) columns: String,
    /// Its length, roughly: asking for the true one waits for whoever has it locked.
    pub(crate) blocks: u64,
    /// Whether ranges of its blocks can be read.
    pub(crate) in_ranges: bool,
    kind: String,
    persistence: String,
    populated: bool,
}

impl Relation {
    #[cfg(test)]
    pub(crate) fn example(name: &str, blocks: u64) -> Relation {
        Relation {
            oid: 1,
            name: name.into(),
            quoted: name.into(),
            columns: "q.id".into(),
            blocks,
            in_ranges: true,
            kind: "r".into(),
            persistence: "p".into(),
            populated: true,
        }
    }

    /// Why it has no rows that could be compared.
    pub(crate) fn left_out(&self) -> Option<&'static str> {
        match (self.kind.as_str(), self.persistence.as_str()) {
            ("f", _) => Some(FOREIGN),
            (_, "t") => Some(TEMPORARY),
            (_, "u") => Some(UNLOGGED),
            ("m", _) if !self.populated => Some(UNPOPULATED),
            _ => None,
        }
    }
}

/// A sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SequenceName {
    pub(crate) name: String,
    pub(crate) quoted: String,
    pub(crate) increment: i64,
    pub(crate) cycles: bool,
    /// Why it is not looked at.
    pub(crate) left_out: Option<&'static str>,
    pub(crate) readable: bool,
}

/// What makes a relation the same one: file node and columns, by oid.
pub(crate) type Shapes = BTreeMap<u32, (String, String)>;

/// A database's relations, in the order of their names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listed {
    pub(crate) relations: Vec<Relation>,
    pub(crate) sequences: Vec<SequenceName>,
    pub(crate) shapes: Shapes,
    pub(crate) block_size: u64,
}

const LIST: &str = "SELECT c.oid::text, n.nspname, c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname),
        c.relkind::text, c.relpersistence::text, c.relispopulated::text, c.relfilenode::text,
        coalesce(m.amname, ''), greatest(c.relpages, 0)::text,
        coalesce(a.expressions, ''), coalesce(a.shape, ''),
        coalesce(s.seqincrement, 1)::text, coalesce(s.seqcycle, false)::text,
        CASE c.relkind WHEN 'S' THEN coalesce(has_sequence_privilege(c.oid, 'SELECT'), false) ELSE true END::text,
        current_setting('block_size'), current_setting('server_version_num')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_am m ON m.oid = c.relam LEFT JOIN pg_sequence s ON s.seqrelid = c.oid
    LEFT JOIN LATERAL (SELECT string_agg('q.' || quote_ident(attname), ', ' ORDER BY attnum) AS expressions,
            string_agg(attnum || ':' || atttypid || ':' || attname, ',' ORDER BY attnum) AS shape
        FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) a ON true
    WHERE c.relkind IN ('r', 'm', 'f', 'S')
      AND (n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') OR c.oid = 'pg_largeobject'::regclass)
    ORDER BY 2, 3";

/// Lists the database; in the reader's snapshot, if it has one.
pub(crate) async fn list(reader: &Reader<'_>) -> Result<Listed> {
    let rows = reader.rows(LIST).await?.map_err(|cause| refused("the list of relations", &cause))?;
    let mut listed = Listed::default();
    for row in &rows {
        listed.add(row).ok_or_else(|| refused("the list of relations", "a row of an unknown form"))?;
    }
    Ok(listed)
}

fn refused(what: &'static str, cause: &str) -> Error {
    Error::Protocol { server: "the database".into(), during: what, reason: cause.to_owned() }
}

impl Listed {
    fn add(&mut self, row: &SimpleQueryRow) -> Option<()> {
        let text = |column: usize| row.get(column);
        let name = format!("{}.{}", text(1)?, text(2)?);
        let is_true = |column: usize| Some(matches!(text(column)?, "true" | "t"));
        self.block_size = text(15)?.parse().ok()?;
        self.shapes.insert(text(0)?.parse().ok()?, (name.clone(), format!("{} {}", text(7)?, text(11)?)));
        if text(4)? == "S" {
            self.sequences.push(SequenceName {
                name,
                quoted: text(3)?.to_owned(),
                increment: text(12)?.parse().ok()?,
                cycles: is_true(13)?,
                left_out: match text(5)? {
                    "t" => Some(TEMPORARY),
                    "u" => Some(UNLOGGED),
                    _ => None,
                },
                readable: is_true(14)?,
            });
            return Some(());
        }
        self.relations.push(Relation {
            oid: text(0)?.parse().ok()?,
            name,
            quoted: text(3)?.to_owned(),
            columns: text(10)?.to_owned(),
            blocks: text(9)?.parse().ok()?,
            in_ranges: text(8)? == "heap" && text(16)?.parse::<u32>().ok()? >= RANGE_SCANS,
            kind: text(4)?.to_owned(),
            persistence: text(5)?.to_owned(),
            populated: is_true(6)?,
        });
        Some(())
    }
}

/// Names of relations that are not what they were.
pub(crate) fn changed(before: &Shapes, now: &Shapes) -> Vec<(String, &'static str)> {
    let why = |(oid, (_, shape)): (&u32, &(String, String))| match now.get(oid) {
        None => Some("dropped while it was read"),
        Some((_, now)) if now != shape => Some("truncated, rewritten or altered while it was read"),
        Some(_) => None,
    };
    before.iter().filter_map(|one| why(one).map(|why| (one.1.0.clone(), why))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_or_column_is_another_table() {
        let shapes = |of: &[(u32, &str, &str)]| -> Shapes {
            of.iter().map(|(oid, name, shape)| (*oid, ((*name).to_owned(), (*shape).to_owned()))).collect()
        };
        let before = shapes(&[(1, "public.a", "10 1:23:id"), (2, "public.b", "11 1:23:id"), (3, "public.c", "12 ")]);
        assert_eq!(changed(&before, &before), []);
        let now = shapes(&[(1, "public.a", "10 1:23:id,2:23:more"), (3, "public.c", "99 "), (4, "public.b", "11 ")]);
        let names: Vec<String> = changed(&before, &now).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["public.a", "public.b", "public.c"]);
    }
}
