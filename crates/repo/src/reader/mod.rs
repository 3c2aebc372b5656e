//! Reading a recovery point back.

use std::{io, sync::Arc};

use bytes::Bytes;
use lifeboat_model::{id::ObjectId, lsn::Lsn};
use lifeboat_store::Key;

use crate::{
    error::Result,
    point::Point,
    progress::Progress,
    repository::InstanceRepo,
    seal::Identity,
    tree::{Entry, TreeCursor, TreeKind},
};

/// How a reader works.
#[derive(Debug, Clone)]
pub struct ReaderOptions {
    /// Threads that open, decompress, check and hand over; 0 means one a core.
    pub workers: usize,
    /// Fetches at the same time.
    pub fetches: usize,
    /// Most bytes in flight.
    pub memory: u64,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self { workers: 0, fetches: 4, memory: 64 << 20 }
    }
}

/// Whether a sink wants an entry's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of them.
    All,
    /// None: what is there matches already. [`Sink::end`] is not called.
    Nothing,
}

/// Receives a tree. Called from blocking threads; `write` and `end` of different files, and `write`s of one file,
/// come at the same time and in any order.
pub trait Sink: Send + Sync {
    /// An entry, in stored order: directories before what is in them, files before their hard links.
    /// A file's holes are not written: begin it empty and give it its size.
    fn begin(&self, entry: &Entry) -> io::Result<Wanted>;
    /// Bytes of a file.
    fn write(&self, path: &[u8], offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// A file is complete. For anything but a file this directly follows its `begin`.
    fn end(&self, entry: &Entry) -> io::Result<()>;
    /// A file stays incomplete: some of its bytes could not be read.
    fn damaged(&self, _entry: &Entry, _reason: &str) -> io::Result<()> {
        Ok(())
    }
}

/// Something that could not be read, and whom it hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The object.
    pub object: Key,
    /// What is wrong with it.
    pub reason: String,
    /// The first files hit, for people.
    pub files: Vec<String>,
    /// How many files are hit.
    pub file_count: u64,
}

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Entries handed to the sink.
    pub entries: u64,
    /// Files completed.
    pub files: u64,
    /// Files the sink had already.
    pub matching: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Ciphertext bytes fetched.
    pub fetched: u64,
    /// What could not be read. Everything else was restored.
    pub damage: Vec<Damage>,
}

/// A slice of WAL of the point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalSlice {
    /// Its object.
    pub key: Key,
    /// PostgreSQL's system identifier.
    pub system_id: u64,
    /// The timeline.
    pub timeline: u32,
    /// First position.
    pub first: Lsn,
    /// Position after the last.
    pub last: Lsn,
}

/// Chooses entries by path and kind.
pub type Filter = Arc<dyn Fn(&Entry) -> bool + Send + Sync>;

/// Reads one recovery point.
pub struct Reader {
    repo: InstanceRepo,
    pack: Option<ObjectId>,
}

impl Reader {
    /// Opens the point's chunk key: a wrong identity is told here, before anything is written.
    pub async fn open(
        repo: InstanceRepo,
        point: &Point,
        identities: &[Identity],
        options: ReaderOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<Reader> {
        let _ = (point, identities, options, progress);
        Ok(Reader { repo, pack: None })
    }

    /// A tree's entries in stored order; none where the point has no such tree.
    pub fn entries(&self, _kind: TreeKind) -> Result<Option<TreeCursor>> {
        let _ = (&self.repo, self.pack);
        todo!()
    }

    /// Restores what `filter` lets pass (everything when `None`) into `sink`.
    pub async fn restore_tree(
        &self,
        _kind: TreeKind,
        _sink: Arc<dyn Sink>,
        _filter: Option<Filter>,
    ) -> Result<RestoreReport> {
        todo!()
    }

    /// The point's WAL, in order.
    pub fn wal_slices(&self) -> Vec<WalSlice> {
        todo!()
    }

    /// The bytes of a slice, exactly `last - first` of them.
    pub async fn read_wal(&self, _slice: &WalSlice) -> Result<Bytes> {
        todo!()
    }
}
