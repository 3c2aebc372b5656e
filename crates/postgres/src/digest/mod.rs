//! Digests of every table of a database: order-free, comparable across servers and major versions.
//!
//! A table's digest is its row count and two sums of 64-bit hashes (`hashtextextended` with two seeds) over the text of
//! each row, with the settings pinned that change how a value is written as text. Sums add up, so a table is read in steps
//! of block ranges, each in a short transaction of its own: no lock is held for longer than a step, and there can be
//! pauses between them. A larger table's digest also tells the sums of up to 64 ranges, so that a difference can be
//! located; a table of few rows tells the hash of each.
//!
//! How it grows: at most 64 ranges (about 90 bytes each) or 200 rows (about 30 bytes each) a table, whatever its size.
//!
//! Left out, and listed: unlogged tables (a restore empties them), temporary ones, foreign tables (their rows are elsewhere),
//! tables that could not be read in time or at all. Big-endian servers would hash differently; they are not supported for
//! comparison.
//!
//! In the order of the work: [`catalog`] lists, [`layout`] cuts into ranges, [`work`] and [`read`] read, [`compare()`] tells.

pub(crate) mod catalog;
mod compare;
pub(crate) mod layout;
pub(crate) mod read;
pub(crate) mod sequences;
pub(crate) mod work;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

pub use compare::{Difference, compare};

use crate::error::{Error, Result};
use read::{Pace, Reader};

/// Why a relation without rows of its own is left out.
const FOREIGN: &str = "a foreign table: its rows are elsewhere";
const TEMPORARY: &str = "temporary: it belongs to a session";
const UNLOGGED: &str = "unlogged: a restore empties it";
const UNPOPULATED: &str = "a materialized view without data";
/// These have nothing that a restore could show.
const WITHOUT_ROWS: [&str; 4] = [FOREIGN, TEMPORARY, UNLOGGED, UNPOPULATED];

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDigest {
    /// Number of rows; of a sample, those in it.
    pub rows: u64,
    /// The sums of the rows' hashes with seed 0 and seed 1, as decimal text: they exceed 64 bits.
    pub sums: [String; 2],
    /// By range of blocks; none for a small table. They add up to the whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<RangeDigest>,
    /// Of a table with few rows: the hash of each with seed 0, in hexadecimal, by its place (`block,item`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<String, String>,
    /// Only a part of the table was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
}

/// What some blocks of a table hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeDigest {
    /// The first block.
    pub first: u64,
    /// The block behind the last one; none: to the table's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
    /// Number of rows.
    pub rows: u64,
    /// As [`TableDigest::sums`].
    pub sums: [String; 2],
}

/// How much of a table a digest is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Blocks that were read.
    pub blocks: u64,
    /// Blocks that the table had.
    pub of: u64,
}

/// What a sequence may show after a restore: the value up to which WAL has promised numbers, `last_value + log_cnt *
/// increment`. Replay restores this, not `last_value`, because a sequence logs 32 numbers ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Sequence {
    /// Read once, while nobody took numbers.
    At(i64),
    /// Sequences are not transactional: read before and after a snapshot.
    Between {
        /// No later than the snapshot.
        before: i64,
        /// No earlier than the snapshot.
        after: i64,
    },
}

/// What a database holds. Names are `schema.relation`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseDigest {
    /// The snapshot that the tables were read in (`pg_current_snapshot()`), where they were read in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Tables (leaf partitions each by itself), materialized views, and `pg_catalog.pg_largeobject`.
    pub tables: BTreeMap<String, TableDigest>,
    /// Sequences.
    pub sequences: BTreeMap<String, Sequence>,
    /// What has no digest, and why.
    pub left_out: BTreeMap<String, String>,
    /// What changed its shape while it was read, so that nothing can be said about it, and how.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inconclusive: BTreeMap<String, String>,
}

impl DatabaseDigest {
    /// Relations that hold rows and could not be digested, and why: no right, no time, damage.
    pub fn unread(&self) -> impl Iterator<Item = (&str, &str)> {
        let left = self.left_out.iter().map(|(name, why)| (name.as_str(), why.as_str()));
        left.filter(|(_, why)| !WITHOUT_ROWS.contains(why))
    }

    /// All rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.values().map(|table| table.rows).sum()
    }

    /// Tables that were read in part only.
    pub fn sampled(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().filter(|(_, table)| table.sample.is_some()).map(|(name, _)| name.as_str())
    }

    /// Takes out what another look has shown to be of another shape now.
    pub(crate) fn doubt(&mut self, name: String, why: &str) {
        if self.left_out.get(&name).is_some_and(|why| WITHOUT_ROWS.contains(&why.as_str())) {
            return;
        }
        self.tables.remove(&name);
        self.sequences.remove(&name);
        self.left_out.remove(&name);
        self.inconclusive.insert(name, why.to_owned());
    }
}

/// Digests everything that the session's role may read in its database, of a server on which nobody writes.
///
/// # Errors
/// Only where the session itself fails; a table that cannot be read is in [`DatabaseDigest::left_out`].
pub async fn run(client: &Client, options: &Options) -> Result<DatabaseDigest> {
    run_like(std::slice::from_ref(client), None, options).await
}

/// As [`run`], by several sessions with the database, in the ranges and samples that another digest of the same blocks has.
///
/// # Errors
/// As [`run`], and without any session.
pub async fn run_like(clients: &[Client], like: Option<&DatabaseDigest>, options: &Options) -> Result<DatabaseDigest> {
    let Some(first) = clients.first() else {
        return Err(Error::Invalid { what: "the list of sessions", reason: "it is empty".into() });
    };
    let pace = Pace { statement_timeout: options.statement_timeout, duty_cycle: 100, deadline: None };
    let reader = |client| Reader { client, snapshot: None, pace: &pace };
    let listed = catalog::list(&reader(first)).await?;
    let layout = |relation: &catalog::Relation| {
        let like = like.and_then(|like| like.tables.get(&relation.name));
        layout::Layout::like(like, relation, listed.block_size)
    };
    let readers: Vec<Reader<'_>> = clients.iter().map(reader).collect();
    let mut found = work::tables(&readers, &listed.relations, layout).await?;
    let sequences = sequences::read(&reader(first), &listed.sequences).await?;
    found.left_out.extend(sequences.refused);
    found.sequences.extend(sequences.reach.into_iter().map(|(name, reach)| (name, Sequence::At(reach))));
    Ok(found)
}
