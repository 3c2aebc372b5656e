//! The archive: WAL that a stream has stored beyond the recovery points' own slices.
//!
//! A **slice** is cut a few seconds after WAL has come, so that the last commit is durable soon; when a segment ends,
//! it is stored once more, whole, as a **segment**. A segment supersedes the slices of its range: listings look for
//! slices only where no segment is, so that a year of WAL is as many names as it has segments. Nothing is overwritten
//! for it: the slices stay, and serve where a segment's object is damaged.
//!
//! [`WalWriter`] stores, [`WalArchive`] finds and [`WalReader`] reads back. Every
//! object is signed, and its header must fit its name, repository and instance: neither a renamed object nor one of
//! another stream is ever replayed.

use std::fmt;

use jiff::Timestamp;
use lifeboat_model::{
    id::{Instance, ObjectId, RepositoryId, Tenant},
    lsn::Lsn,
};
use lifeboat_store::{Key, ObjectInfo, VersionId};
use serde::{Deserialize, Serialize};

use crate::{
    envelope::{Envelope, Header, SealedPart, decimal_text},
    layout::Layout,
};

mod archive;
pub(crate) mod content;
mod listing;
mod reader;
mod writer;

pub(crate) use archive::Named;
pub use archive::WalArchive;
pub use listing::{WalListing, WalRun};
pub use reader::{WalBytes, WalReader};
pub use writer::WalWriter;

/// The most bytes of WAL in one object. PostgreSQL's segments have 1 MiB to 1 GiB; of larger ones than this, each
/// aligned part is an object of its own: see [`segment_object_size`].
pub const MAX_OBJECT: u64 = 64 << 20;
/// PostgreSQL's smallest segment.
const MIN_SEGMENT: u64 = 1 << 20;
/// PostgreSQL's largest segment.
const MAX_SEGMENT: u64 = 1 << 30;

/// How much of the WAL one [`WalObjectKind::Segment`] covers: a whole segment, or [`MAX_OBJECT`] of a larger one.
pub fn segment_object_size(segment_size: u64) -> u64 {
    segment_size.min(MAX_OBJECT)
}

/// What an object of the archive covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WalObjectKind {
    /// A part of a segment, stored as soon as it had come.
    Slice,
    /// A whole segment (of those above 64 MiB, an aligned part).
    Segment,
}

impl WalObjectKind {
    pub(crate) fn folder(self) -> &'static str {
        match self {
            WalObjectKind::Slice => "slice",
            WalObjectKind::Segment => "segment",
        }
    }

    pub(crate) fn of_folder(folder: &str) -> Option<Self> {
        [WalObjectKind::Slice, WalObjectKind::Segment].into_iter().find(|kind| kind.folder() == folder)
    }
}

impl fmt::Display for WalObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}

/// All that the key of an object of the archive tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WalName {
    pub kind: WalObjectKind,
    pub system_id: u64,
    pub timeline: u32,
    pub first: Lsn,
    pub last: Lsn,
    pub id: ObjectId,
}

impl WalName {
    /// Whether such an object can have been written: a segment begins at a multiple of its power of two, a slice does not
    /// reach from one aligned [`MAX_OBJECT`] into the next. Listings rest on it.
    pub fn is_possible(&self) -> bool {
        let (first, last) = (self.first.0, self.last.0);
        let Some(len) = last.checked_sub(first).filter(|len| *len > 0 && *len <= MAX_OBJECT) else { return false };
        match self.kind {
            WalObjectKind::Segment => len >= MIN_SEGMENT && len.is_power_of_two() && first % len == 0,
            WalObjectKind::Slice => first / MAX_OBJECT == (last - 1) / MAX_OBJECT,
        }
    }
}

/// An object of the archive, as a listing names it.
#[derive(Debug, Clone, Eq)]
pub struct WalObject {
    /// What it covers.
    pub kind: WalObjectKind,
    /// Where it lies.
    pub key: Key,
    /// PostgreSQL's system identifier.
    pub system_id: u64,
    /// The timeline.
    pub timeline: u32,
    /// First position.
    pub first: Lsn,
    /// Position after the last.
    pub last: Lsn,
    /// Length of the object.
    pub len: u64,
    /// The first version of the key, or the one written, where the store has versions.
    pub version: Option<VersionId>,
    /// When the store received it, by its own clock; of one just written, by the writer's if it has one, else 1970.
    pub modified: Timestamp,
}

/// The same object: of the time, a listing and the writer may say different things.
impl PartialEq for WalObject {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.version, self.len) == (&other.key, &other.version, other.len)
    }
}

impl WalObject {
    fn new(name: &WalName, info: ObjectInfo) -> Self {
        let WalName { kind, system_id, timeline, first, last, .. } = *name;
        let ObjectInfo { key, len, version, modified } = info;
        Self { kind, key, system_id, timeline, first, last, len, version, modified }
    }

    pub(crate) fn listed(layout: &Layout, info: ObjectInfo) -> std::result::Result<Self, Key> {
        match layout.wal_name(&info.key) {
            Some(name) => Ok(Self::new(&name, info)),
            None => Err(info.key),
        }
    }
}

/// The times of the first and the last commit record that *ends* in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commits {
    /// Of the first.
    pub first: Timestamp,
    /// Of the last.
    pub last: Timestamp,
}

/// What everybody may read of an object of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalHeader {
    /// Format version, 1.
    pub format: u32,
    /// What a reader must know beyond the format version. Version 1 has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// What it covers.
    pub kind: WalObjectKind,
    /// Its id.
    pub id: ObjectId,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// The owner.
    pub tenant: Tenant,
    /// The instance.
    pub instance: Instance,
    /// PostgreSQL's system identifier; text in JSON, since it does not fit a double.
    #[serde(with = "decimal_text")]
    pub system_id: u64,
    /// The timeline.
    pub timeline: u32,
    /// First position.
    pub first: Lsn,
    /// Position after the last.
    pub last: Lsn,
    /// Which commits end in it; none where no commit does.
    pub commits: Option<Commits>,
    /// The server's segment size.
    pub segment_size: u64,
    /// The recovery recipients it is sealed to.
    pub recipients: Vec<String>,
    /// The sealed WAL.
    pub sealed: SealedPart,
}

impl Header for WalHeader {
    const ENVELOPE: Envelope = Envelope { magic: b"LBWALOB1", domain: b"lifeboat wal v1\n", longest: 64 << 10 };

    fn sealed(&self) -> &SealedPart {
        &self.sealed
    }
}

impl WalHeader {
    fn name(&self) -> WalName {
        let WalHeader { kind, system_id, timeline, first, last, id, .. } = *self;
        WalName { kind, system_id, timeline, first, last, id }
    }
}
