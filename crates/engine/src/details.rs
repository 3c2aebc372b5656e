//! What a recovery point tells about its source, sealed inside it: for the restore and the drill.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lifeboat_model::lsn::Lsn;
use lifeboat_postgres::digest::DatabaseDigest;
pub use lifeboat_postgres::witness::Kind as WitnessKind;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The PostgreSQL side of a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PostgresDetails {
    /// `server_version_num`, for example 170006.
    pub version: u32,
    /// Cluster identity (`IDENTIFY_SYSTEM`), as decimal text: it exceeds what JSON numbers carry.
    pub system_id: String,
    /// Timeline of the backup.
    pub timeline: u32,
    /// Where replay begins.
    pub start: Lsn,
    /// Where the base backup became consistent.
    pub backup_end: Lsn,
    /// Where the stored WAL ends; replay goes to here.
    pub wal_end: Lsn,
    /// The end of our own last message in the log: a replay must reach it.
    #[serde(default)]
    pub mark: Option<Lsn>,
    /// Bytes in a WAL segment file.
    pub segment_size: u64,
    /// Whether the server checks its pages.
    pub data_checksums: bool,
    /// Tablespaces other than the default ones.
    pub tablespaces: Vec<TablespaceDetails>,
    /// The Odoo databases named in the configuration.
    pub databases: Vec<String>,
    /// When the base backup began and ended, by this host's clock.
    pub started: Timestamp,
    /// See `started`.
    pub finished: Timestamp,
}

impl PostgresDetails {
    /// `17.6` of 170006.
    pub fn version_text(&self) -> String {
        format!("{}.{}", self.version / 10_000, self.version % 10_000)
    }
}

/// One tablespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablespaceDetails {
    /// Its oid: the name of the link in `pg_tblspc`.
    pub oid: u32,
    /// Where it lies on the source.
    pub location: String,
}

/// How the recorded digests relate to the restored state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Comparison {
    /// The digests are those of a snapshot at an exact position: a recovery to there, exclusive, must show the same.
    Exact {
        /// The position.
        lsn: Lsn,
        /// Its timeline.
        timeline: u32,
        /// The cluster, as decimal text.
        system_id: String,
        /// Where it was taken.
        from: WitnessKind,
        /// The first database's `pg_current_snapshot()`; each database has its own in its digest.
        snapshot: String,
        /// Snapshots that were tried.
        tries: u32,
    },
    /// Written by the first release: no transaction took an id from before the first digest to the end of the stored WAL,
    /// so the digests must be equal at the point's end.
    QuietSource {
        /// The unchanged `pg_current_snapshot()`.
        snapshot: String,
    },
    /// No snapshot had an exact position, or no digests were taken: there is nothing exact to compare with, and nothing is
    /// compared.
    NotExact {
        /// Why not.
        why: String,
    },
}

impl Comparison {
    /// Whether there is something to compare a restore with.
    pub fn is_exact(&self) -> bool {
        !matches!(self, Comparison::NotExact { .. })
    }
}

/// What the source's tables looked like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Witness {
    /// What a comparison with the restored state is worth.
    pub comparison: Comparison,
    /// When it was taken, by this host's clock.
    pub taken: Timestamp,
    /// Digests by database.
    pub databases: BTreeMap<String, DatabaseDigest>,
    /// What ran at the source.
    #[serde(default)]
    pub facts: SourceFacts,
}

/// What ran at the source when the witness was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFacts {
    /// PostgreSQL, as it tells its version.
    pub version: String,
    /// The settings that the digests were taken with.
    pub settings: BTreeMap<String, String>,
    /// Extensions with their versions, by database.
    pub extensions: BTreeMap<String, BTreeMap<String, String>>,
    /// Installed Odoo modules with their versions, by database; none for a database without Odoo.
    pub modules: BTreeMap<String, BTreeMap<String, String>>,
}

/// How many files of one tree changed or were skipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteCounts {
    /// Changed while they were read.
    pub changed: u64,
    /// Vanished, or of a kind that is not kept.
    pub skipped: u64,
}

/// Files that a point could not or did not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceNotes {
    /// Files that changed while they were read (at most [`SourceNotes::MOST`] named).
    pub changed: Vec<String>,
    /// Files that vanished or could not be kept (at most [`SourceNotes::MOST`] named), with the reason.
    pub skipped: Vec<String>,
    /// How many changed in all.
    pub changed_count: u64,
    /// How many were skipped in all.
    pub skipped_count: u64,
    /// Counts by tree.
    #[serde(default)]
    pub by_tree: BTreeMap<String, NoteCounts>,
    /// Commands whose output was to be kept and which failed.
    pub failed_commands: Vec<String>,
    /// Sources that gave less than they should: each makes the backup incomplete.
    #[serde(default)]
    pub incomplete: Vec<String>,
    /// Anything else that a reader must know.
    pub remarks: Vec<String>,
    /// Files of the filestore that vanished before they were read, relative to its root: a drill must not miss them.
    #[serde(default)]
    pub vanished: Vec<String>,
}

impl SourceNotes {
    /// Their name among a point's facts.
    pub const FACT: &'static str = "source";

    /// What a walk says of a file that went before it was read.
    pub const VANISHED: &'static str = "vanished before it was read";

    /// How many vanished files are known by name; a clean-up of more than these during one backup shows in a drill.
    const MOST_VANISHED: usize = 100_000;

    /// How many files are named one by one; the counts are always exact.
    pub const MOST: usize = 100;

    /// The counts of one tree.
    pub fn of(&self, tree: &str) -> NoteCounts {
        self.by_tree.get(tree).copied().unwrap_or_default()
    }

    /// The files of the filestore that vanished before they were read, relative to its root.
    pub fn vanished_files(&self) -> impl Iterator<Item = String> + '_ {
        self.vanished.iter().cloned()
    }

    /// Records a file that changed while it was read.
    pub fn file_changed(&mut self, tree: &str, path: &[u8], why: &str) {
        self.changed_count += 1;
        self.by_tree.entry(tree.to_owned()).or_default().changed += 1;
        if self.changed.len() < Self::MOST {
            self.changed.push(format!("{}: {why}", String::from_utf8_lossy(path)));
        }
    }

    /// Records a file that is not in the point.
    pub fn file_skipped(&mut self, tree: &str, path: &[u8], why: &str) {
        self.skipped_count += 1;
        self.by_tree.entry(tree.to_owned()).or_default().skipped += 1;
        if tree == "filestore" && why == Self::VANISHED && self.vanished.len() < Self::MOST_VANISHED {
            self.vanished.push(String::from_utf8_lossy(path).into_owned());
        }
        if self.skipped.len() < Self::MOST {
            self.skipped.push(format!("{}: {why}", String::from_utf8_lossy(path)));
        }
    }
}

/// Reads a part of the sealed details.
pub fn decode<T: serde::de::DeserializeOwned>(value: &serde_json::Value) -> Result<T> {
    T::deserialize(value).map_err(|error| Error::Details(error.to_string()))
}

/// Writes a part of the sealed details.
pub fn encode<T: Serialize>(value: &T) -> Result<serde_json::Value> {
    serde_json::to_value(value).map_err(|error| Error::Details(error.to_string()))
}
