//! Reading a recovery point back.
//!
//! A tree is read as a stream, in windows. The window's extents are sorted by their place, frames that lie near each
//! other are fetched with one ranged read, and every range is opened, decompressed, checked and handed to the [`Sink`]
//! by one worker. Nothing else is read: no index, and of a pack only what is wanted.
//!
//! # Memory
//! One tree object (8 MiB of records), one window of entries, and [`ReaderOptions::memory`] bytes of ranges in flight,
//! of at most 4 MiB as a rule, and in each worker one frame (8 MiB at most, 1 MiB as a rule) open. None of it grows with the size of the point, except 100
//! bytes for every pack that the header names.

mod fetch;
pub(crate) mod restore;
mod sparse;

use std::{io, sync::Arc};

use bytes::Bytes;
use lifeboat_model::lsn::Lsn;
use lifeboat_store::Key;

use crate::{
    blocking::blocking,
    chunk::ChunkKey,
    error::{Error, Result},
    layout,
    point::Point,
    progress::{Counter, Progress},
    repository::InstanceRepo,
    seal::{self, Identity},
    tree::{Entry, TreeCursor, TreeKind},
    wal::content::{self, Range},
};

/// How a reader works. The limits hold for all trees that it restores at the same time.
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
        Self { workers: 0, fetches: 4, memory: 32 << 20 }
    }
}

/// Whether a sink wants an entry's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of them.
    All,
    /// None: what is there matches already. [`Sink::end`] is not called.
    Nothing,
    /// Those that are not there yet: what [`Sink::existing`] gives is checked against the chunks' hashes.
    Differences,
}

/// Receives a tree. Called from blocking threads; `write` and `end` of different files, and `write`s of one file,
/// come at the same time and in any order.
pub trait Sink: Send + Sync {
    /// An entry, in stored order: directories before what is in them, files before their hard links.
    /// A file's holes are not written: begin it empty and give it its size.
    fn begin(&self, entry: &Entry) -> io::Result<Wanted>;
    /// Bytes of a file.
    fn write(&self, path: &[u8], offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Bytes that are there already, for [`Wanted::Differences`]: fills `buffer` and says so, or says that the file
    /// is too short.
    fn existing(&self, _path: &[u8], _offset: u64, _buffer: &mut [u8]) -> io::Result<bool> {
        Ok(false)
    }
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
    point: Point,
    identities: Vec<Identity>,
    needed: String,
    chunk_key: ChunkKey,
    packs: Arc<fetch::Packs>,
    limits: restore::Limits,
    progress: Arc<dyn Progress>,
}

impl Reader {
    /// Opens the point's chunk key. The identity of the host that wrote the point suffices here and for
    /// [`entries`](Self::entries); everything else needs a recovery identity.
    pub async fn open(
        repo: InstanceRepo,
        point: &Point,
        identities: &[Identity],
        options: ReaderOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<Reader> {
        let repo = repo.as_named_by([point]);
        let needed = format!("a recovery identity of {}", point.header.recipients.join(" or "));
        let object = point.object(&repo.layout().chunk_key(point.header.chunk_key))?;
        let file = repo.store().get(&object.key, object.version.as_ref(), None).await?;
        object.check(&file)?;
        let plain = seal::open_all(identities, &file).map_err(|e| e.of(&object.key, &needed))?;
        let chunk_key = ChunkKey::from_json(&plain).map_err(|reason| Error::damaged(&object.key, reason))?;
        let packs = Arc::new(fetch::Packs::new(&repo, point, identities, &needed));
        let identities = identities.to_vec();
        let limits = restore::Limits::new(&options);
        Ok(Reader { repo, point: point.clone(), identities, needed, chunk_key, packs, limits, progress })
    }

    /// A tree's entries in stored order; none where the point has no such tree.
    pub fn entries(&self, kind: TreeKind) -> Result<Option<TreeCursor>> {
        TreeCursor::new(self.repo.clone(), &self.point, kind, &self.identities)
    }

    /// Restores what `filter` lets pass (everything when `None`) into `sink`. Damage is reported, not an error: all that
    /// can be read is restored. A wrong identity is told before anything is written.
    pub async fn restore_tree(
        &self,
        kind: TreeKind,
        sink: Arc<dyn Sink>,
        filter: Option<Filter>,
    ) -> Result<RestoreReport> {
        self.packs.check_identity().await?;
        match self.entries(kind)? {
            Some(cursor) => restore::Restore::new(self, sink, filter).run(cursor).await,
            None => Ok(RestoreReport::default()),
        }
    }

    /// Whether the identities open the point's data: to be asked before anything is written.
    pub async fn check_identity(&self) -> Result<()> {
        self.packs.check_identity().await
    }

    pub(crate) fn chunk_key(&self) -> &ChunkKey {
        &self.chunk_key
    }

    /// The point's WAL, in order.
    pub fn wal_slices(&self) -> Vec<WalSlice> {
        let Some(wal) = &self.point.header.wal else { return Vec::new() };
        let slice = |key: &Key| {
            let (first, last) = layout::wal_parts(key)?;
            Some(WalSlice { key: key.clone(), system_id: wal.system_id, timeline: wal.timeline, first, last })
        };
        wal.objects.iter().filter_map(slice).collect()
    }

    /// The bytes of a slice, exactly `last - first` of them.
    pub async fn read_wal(&self, slice: &WalSlice) -> Result<Bytes> {
        let object = self.point.object(&slice.key)?;
        let file = self.repo.store().get(&object.key, object.version.as_ref(), None).await?;
        self.progress.add(Counter::FetchedBytes, file.len() as u64);
        let (slice, object) = (slice.clone(), object.clone());
        let (needed, identities) = (self.needed.clone(), self.identities.clone());
        let opening = move || {
            object.check(&file)?;
            let WalSlice { key, system_id, timeline, first, last } = slice;
            content::open(&key, Range { system_id, timeline, first, last }, &file, &identities, &needed)
        };
        blocking("opening WAL", opening).await
    }
}
