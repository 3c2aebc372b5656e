//! Reads one table in steps, each a transaction of its own and one round trip.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::{
    DatabaseDigest, RangeDigest, TableDigest,
    catalog::Relation,
    layout::{Blocks, Layout},
};
use crate::{
    error::{Error, Result},
    sql,
};

/// Everything that changes how a value is written as text, and who may see which rows.
pub(crate) const PINNED: &[(&str, &str)] = &[
    ("DateStyle", "ISO, YMD"),
    ("TimeZone", "UTC"),
    ("IntervalStyle", "postgres"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("lc_monetary", "C"),
    ("search_path", "pg_catalog"),
    ("row_security", "off"),
];

/// Rows whose own hashes are kept.
pub(crate) const FEW_ROWS: u64 = 200;
/// Catalogs and sequences are read whole or not at all.
const CATALOG_TIMEOUT: Duration = Duration::from_secs(60);
/// A table that somebody holds locked is left out after this.
const LOCK_TIMEOUT: &str = "10s";

/// What the reading may cost.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// The longest that one table may take, pauses not counted.
    pub(crate) statement_timeout: Duration,
    /// The share of its time that a session works, in percent.
    pub(crate) duty_cycle: u8,
    /// When a snapshot has been held for too long.
    pub(crate) deadline: Option<Instant>,
}

impl Pace {
    async fn rest(&self, worked: Duration) {
        let share = u32::from(self.duty_cycle.clamp(1, 100));
        if share < 100 {
            tokio::time::sleep(worked * (100 - share) / share).await;
        }
    }
}

/// What came of a table.
pub(crate) enum Read {
    Digest(TableDigest),
    LeftOut(String),
}

/// Files an answer under the table's name.
pub(crate) fn into(found: &mut DatabaseDigest, name: String, read: Read) {
    match read {
        Read::Digest(digest) => drop(found.tables.insert(name, digest)),
        Read::LeftOut(why) => drop(found.left_out.insert(name, why)),
    }
}

/// A session that reads, in an exported snapshot if one is given.
pub(crate) struct Reader<'a> {
    pub(crate) client: &'a Client,
    pub(crate) snapshot: Option<&'a str>,
    pub(crate) pace: &'a Pace,
}

impl Reader<'_> {
    /// A table's length in blocks, or why it is not known.
    pub(crate) async fn blocks(&self, relation: &Relation) -> Result<std::result::Result<u64, String>> {
        let statement = format!(
            "SELECT (coalesce(pg_relation_size({}), 0) / current_setting('block_size')::bigint)::text",
            relation.oid
        );
        match self.within(self.pace.statement_timeout, &statement).await? {
            Ok(rows) => {
                let blocks = rows.first().and_then(|row| row.get(0)).and_then(|blocks| blocks.parse().ok());
                blocks.map(Ok).ok_or_else(|| self.garbled(&relation.name))
            }
            Err(cause) => Ok(Err(cause)),
        }
    }

    /// A table's digest, or why there is none. How it is cut is decided when its length is known.
    pub(crate) async fn table(&self, mut relation: Relation, layout: impl Fn(&Relation) -> Layout) -> Result<Read> {
        if self.is_late() {
            return Ok(Read::LeftOut(HELD_TOO_LONG.to_owned()));
        }
        match self.blocks(&relation).await? {
            Ok(blocks) => relation.blocks = blocks,
            Err(cause) => return Ok(Read::LeftOut(cause)),
        }
        self.ranges(&relation, &layout(&relation)).await
    }

    fn is_late(&self) -> bool {
        self.pace.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    async fn ranges(&self, relation: &Relation, layout: &Layout) -> Result<Read> {
        let mut whole = Sums::default();
        let (mut ranges, mut worked) = (Vec::new(), Duration::ZERO);
        for range in &layout.ranges {
            let mut of_range = Sums::default();
            for step in layout.steps(*range) {
                let Some(left) = self.pace.statement_timeout.checked_sub(worked).filter(|left| left.as_millis() > 0)
                else {
                    return Ok(Read::LeftOut(self.too_long()));
                };
                if self.is_late() {
                    return Ok(Read::LeftOut(HELD_TOO_LONG.to_owned()));
                }
                let began = Instant::now();
                let rows = self.within(left, &statement(relation, step, layout.places)).await?;
                match rows.map(|rows| rows.first().and_then(Sums::of_row)) {
                    Ok(Some(step)) => of_range.add(step),
                    Ok(None) => return Err(self.garbled(&relation.name)),
                    Err(cause) => return Ok(Read::LeftOut(cause)),
                }
                worked += began.elapsed();
                self.pace.rest(began.elapsed()).await;
            }
            let RangeSums { rows, sums } = of_range.told();
            ranges.push(RangeDigest { first: range.first, end: range.end, rows, sums });
            whole.add(of_range);
        }
        if ranges.len() == 1 {
            ranges.clear();
        }
        let RangeSums { rows, sums } = whole.told();
        let places = if rows <= FEW_ROWS { whole.places } else { Vec::new() };
        let places = places.into_iter().collect();
        Ok(Read::Digest(TableDigest { rows, sums, ranges, places, sample: layout.sample }))
    }

    fn too_long(&self) -> String {
        format!("statement timeout: reading it took longer than {} s", self.pace.statement_timeout.as_secs_f64())
    }

    fn garbled(&self, name: &str) -> Error {
        let reason = format!("the digest of {name} has an unknown form");
        Error::Protocol { server: "the database".into(), during: "digesting a table", reason }
    }

    /// The rows of one statement, or what the server had against it.
    pub(crate) async fn rows(&self, statement: &str) -> Result<std::result::Result<Vec<SimpleQueryRow>, String>> {
        self.within(self.pace.statement_timeout.max(CATALOG_TIMEOUT), statement).await
    }

    async fn within(
        &self,
        limit: Duration,
        statement: &str,
    ) -> Result<std::result::Result<Vec<SimpleQueryRow>, String>> {
        let text = format!("{}; {statement}; COMMIT", self.preamble(limit));
        match self.client.simple_query(&text).await {
            Ok(messages) => Ok(Ok(messages.into_iter().filter_map(row).collect())),
            Err(error) => match error.as_db_error().map(ToString::to_string) {
                Some(cause) if !self.client.is_closed() => {
                    let rolled_back = self.client.batch_execute("ROLLBACK").await;
                    rolled_back.map_err(|error| sql::error_of("the database", "ROLLBACK", error))?;
                    Ok(Err(cause))
                }
                _ => Err(sql::error_of("the database", statement, error)),
            },
        }
    }

    fn preamble(&self, limit: Duration) -> String {
        let mut text = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".to_owned();
        if let Some(snapshot) = self.snapshot {
            // The name is hexadecimal digits and dashes, from the server itself.
            text += &format!("; SET TRANSACTION SNAPSHOT '{}'", snapshot.replace('\'', ""));
        }
        for (name, value) in PINNED {
            text += &format!("; SET LOCAL {name} = '{value}'");
        }
        text += "; SET LOCAL max_parallel_workers_per_gather = 0";
        text += &format!("; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'");
        text += &format!("; SET LOCAL statement_timeout = {}", limit.as_millis().max(1));
        text
    }
}

/// A session's snapshot pins old rows on the whole server.
const HELD_TOO_LONG: &str = "the snapshot had been held for too long (four times witness.statement_timeout): raise it, or sample_above, parallel or duty_cycle";

fn row(message: SimpleQueryMessage) -> Option<SimpleQueryRow> {
    match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    }
}

/// The columns are named one by one: a column that somebody adds meanwhile is not read, and one called like the table
/// does not take its place. `ROW(…)::text` is what `(q.*)::text` gives.
fn statement(relation: &Relation, blocks: Blocks, places: bool) -> String {
    let (quoted, columns) = (&relation.quoted, &relation.columns);
    let condition = match blocks {
        Blocks { first: 0, end: None } => String::new(),
        Blocks { first, end: None } => format!(" WHERE q.ctid >= '({first},0)'"),
        Blocks { first, end: Some(end) } => format!(" WHERE q.ctid >= '({first},0)' AND q.ctid < '({end},0)'"),
    };
    let few = if places {
        format!(
            ", coalesce(string_agg(at || ' ' || to_hex(hashtextextended(x, 0)), ';') FILTER (WHERE n <= {}), '')",
            FEW_ROWS + 1
        )
    } else {
        String::new()
    };
    let (at, n) = if places { (", q.ctid::text AS at", ", row_number() OVER () AS n") } else { ("", "") };
    format!(
        "SELECT count(*)::text, coalesce(sum(hashtextextended(x, 0)), 0)::text, \
         coalesce(sum(hashtextextended(x, 1)), 0)::text{few} \
         FROM (SELECT ROW({columns})::text AS x{at}{n} FROM ONLY {quoted} q{condition} OFFSET 0) z"
    )
}

/// Sums while they are made.
#[derive(Debug, Default, Clone)]
struct Sums {
    rows: u64,
    sums: [i128; 2],
    places: Vec<(String, String)>,
}

struct RangeSums {
    rows: u64,
    sums: [String; 2],
}

impl Sums {
    fn of_row(row: &SimpleQueryRow) -> Option<Sums> {
        let places = if row.len() > 3 { row.get(3)? } else { "" };
        let place = |text: &str| {
            let (at, hash) = text.split_once(' ')?;
            Some((at.trim_matches(['(', ')']).to_owned(), hash.to_owned()))
        };
        Some(Sums {
            rows: row.get(0)?.parse().ok()?,
            sums: [row.get(1)?.parse().ok()?, row.get(2)?.parse().ok()?],
            places: places.split(';').filter_map(place).collect(),
        })
    }

    /// 2^63 rows of the largest hash fit 128 bits.
    fn add(&mut self, more: Sums) {
        self.rows += more.rows;
        self.sums[0] += more.sums[0];
        self.sums[1] += more.sums[1];
        if self.places.len() <= FEW_ROWS as usize {
            self.places.extend(more.places);
        }
    }

    fn told(&self) -> RangeSums {
        RangeSums { rows: self.rows, sums: self.sums.map(|sum| sum.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_reads_its_blocks_and_no_more() {
        let relation = Relation::example("public.t", 10);
        let all = statement(&relation, Blocks { first: 0, end: None }, false);
        assert!(all.ends_with("FROM (SELECT ROW(q.id)::text AS x FROM ONLY public.t q OFFSET 0) z"), "{all}");
        let some = statement(&relation, Blocks { first: 64, end: Some(128) }, false);
        assert!(some.contains("q.ctid >= '(64,0)' AND q.ctid < '(128,0)'"), "{some}");
        let last = statement(&relation, Blocks { first: 64, end: None }, false);
        assert!(last.contains("q.ctid >= '(64,0)' OFFSET"), "{last}");
    }
}
