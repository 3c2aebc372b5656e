//! Writing a recovery point in bounded memory.
//!
//! ```text
//! caller ─ data ─► batch ─► workers (hash, look up, compress) ─► packer (order, seal, trees) ─► uploads ─► store
//!   async, copies    1 MiB      one thread a core                  one thread                    async, a few
//! ```
//! The packer takes batches in the caller's order, so trees are written as a stream. Waiting goes backwards: a slow
//! store fills the upload queue, the packer waits on it, batches in flight reach their bound, [`Writer::data`] waits.
//!
//! Memory, with the defaults on two cores (16 MiB packs, 3 uploads):
//! - batches in flight: 24 MiB ([`BATCH_BYTES`]), including those that wait for their turn in the packer;
//! - a worker: zstd context 4 MiB, frame and gathering buffer 1 MiB each (up to 5 MiB while a batch holds a 4 MiB chunk);
//! - packs: one being filled, one queued, 3 uploading: 80 MiB, their buffers used again and again;
//! - chunks of this run in the lookup: 12 MiB, then spilled to disk; index entries not yet written: 5 MiB;
//! - a tree object: 10 MiB; the extents of the one file that is being written: 80 bytes a chunk (1.3 MiB for 1 GiB);
//! - WAL: two slices, each raw and sealed: 64 MiB at most, 32 MiB as a rule;
//! - what is known of packs: about 150 bytes each (10 MiB for a repository of 1 TiB).
//!
//! A crash leaves packs and trees that no point names. Packs that were durable some time before it are in an index
//! object, and the next run uses them.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use jiff::Timestamp;
use lifeboat_model::{
    id::PointId,
    lsn::Lsn,
    signature::{PublicKey, SigningKey},
};

use crate::{
    chunk::ChunkKey,
    error::Result,
    index::Index,
    point::{Point, PointDetails},
    progress::Progress,
    repository::InstanceRepo,
    seal::{Identity, Recipient},
    tree::{ChangeMark, Entry, FileTime, TreeCursor, TreeKind},
};

mod batch;
mod begin;
mod collect;
mod commit;
mod failure;
mod packer;
mod uploads;
mod wal;
mod work;

use batch::Buffers;
use collect::Collector;
use failure::Failure;
pub use wal::WalSink;

/// Bytes of batches in flight.
const BATCH_BYTES: usize = 24 << 20;

/// Tells the time; tests bring their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The keys a writer needs. None of them opens a pack.
#[derive(Clone)]
pub struct WriterKeys {
    /// Who can restore.
    pub recipients: Vec<Recipient>,
    /// The host's metadata identity: opens chunk keys, indexes and trees.
    pub host: Identity,
    /// Signs the point.
    pub signing: SigningKey,
    /// Whose points may be built upon. The signing key's own public half always counts.
    pub trusted: Vec<PublicKey>,
}

/// How a writer works.
#[derive(Clone)]
pub struct WriterOptions {
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Size of a pack's ciphertext, 4 to 64 MiB.
    pub pack_size: u64,
    /// Compression threads; 0 means one a core.
    pub workers: usize,
    /// Uploads at the same time.
    pub uploads: usize,
    /// A folder for the index cache. May be wiped at any time.
    pub cache_dir: PathBuf,
    /// What wrote the point: name and version.
    pub software: String,
    /// Tells the time.
    pub clock: Clock,
}

/// How a file is cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunking {
    /// At multiples of `chunk`: for files that are changed in place.
    Pages {
        /// The distance of the cuts, 4 KiB to 4 MiB.
        chunk: u32,
    },
    /// In one piece, or in pieces of `max` where it is longer: for files that are never changed.
    Whole {
        /// The longest piece, 4 KiB to 4 MiB.
        max: u32,
    },
}

impl Chunking {
    /// For relation files: 64 KiB, eight pages of PostgreSQL.
    pub const RELATION: Chunking = Chunking::Pages { chunk: 64 << 10 };
    /// For attachments and configuration.
    pub const DOCUMENT: Chunking = Chunking::Whole { max: 4 << 20 };
}

/// What is known of a file only once it has been read. Fields that are `Some` replace those given at its begin.
#[derive(Debug, Clone, Default)]
pub struct Finish {
    /// The length; `None`: as many bytes as were given. More than were given: a hole at the end.
    pub size: Option<u64>,
    /// Modification time.
    pub mtime: Option<FileTime>,
    /// Change mark.
    pub change: Option<ChangeMark>,
    /// The file changed while it was read: no change mark is kept, so that the next run reads it again.
    pub changed: bool,
    /// What happened, for people.
    pub note: Option<String>,
}

/// What a finished tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeStats {
    /// All entries.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// The sum of their sizes.
    pub bytes: u64,
    /// Bytes of chunks that were not stored before.
    pub new_bytes: u64,
    /// Bytes of chunks that were.
    pub reused_bytes: u64,
}

/// The WAL a point needs: all of `[start, end)` must have been handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalSpan {
    /// PostgreSQL's system identifier.
    pub system_id: u64,
    /// The timeline.
    pub timeline: u32,
    /// First position needed.
    pub start: Lsn,
    /// Position after the last one needed.
    pub end: Lsn,
}

/// What the layers above add to a point.
#[derive(Debug, Clone)]
pub struct PointDraft {
    /// When the backup began.
    pub started: Timestamp,
    /// The sealed part.
    pub details: PointDetails,
    /// The WAL it needs, where it has a database.
    pub wal: Option<WalSpan>,
}

/// What all stages of a run share.
struct Shared {
    repo: InstanceRepo,
    point: PointId,
    /// Who can open data.
    recipients: Vec<Recipient>,
    /// Who can open trees, indexes and details: the same, and this host.
    metadata_recipients: Vec<Recipient>,
    chunk_key: ChunkKey,
    /// Vouches for indexes.
    signing: SigningKey,
    index: Index,
    progress: Arc<dyn Progress>,
    failure: Failure,
    level: i32,
    pack_size: u64,
    uploads: usize,
    data_buffers: Buffers,
    pack_buffers: Buffers,
    stored_bytes: Mutex<u64>,
}

impl Shared {
    fn is_stored(&self, entry: &Entry) -> bool {
        entry.extents().iter().all(|extent| self.index.stored_pack(extent.pack).is_some())
    }
}

/// Starts a thread of the pipeline; it ends by itself when the stage before it has ended.
fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map_err(|source| crate::Error::Io { what: format!("starting the thread {name}"), source })
}

/// Writes one recovery point. Dropped without [`commit`](Writer::commit), it leaves nothing visible.
pub struct Writer {
    shared: Arc<Shared>,
    collector: Collector,
    uploading: tokio::task::JoinHandle<uploads::Durable>,
    wal: WalSink,
    lease: crate::lease::Claim,
    run: begin::Run,
}

impl Writer {
    /// Takes the lease, opens or makes the chunk key and loads the index.
    pub async fn begin(
        repo: InstanceRepo,
        keys: WriterKeys,
        options: WriterOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<Writer> {
        begin::begin(repo, keys, options, progress).await
    }

    /// The id the point will have.
    pub fn point_id(&self) -> PointId {
        self.shared.point
    }

    /// The newest valid point of the instance, whether or not its trees can be built upon.
    pub fn previous_point(&self) -> Option<&Point> {
        self.run.previous.as_ref()
    }

    /// The newest point's tree of this kind, in stored order. None where there is none, where this host cannot open
    /// it, or where it is sealed to other recipients than this run's: then everything must be read. Files whose bytes
    /// are not all stored any more are left out, so that they are read again.
    pub fn previous(&self, kind: TreeKind) -> Option<TreeCursor> {
        let point = self.run.previous.as_ref().filter(|_| self.run.builds_on_previous)?;
        let host = [self.run.keys.host.clone()];
        let cursor = TreeCursor::new(self.shared.repo.as_named_by([point]), point, kind, &host).ok().flatten()?;
        let shared = self.shared.clone();
        Some(cursor.keeping(move |entry| shared.is_stored(entry)))
    }

    /// Whether all bytes of an entry of [`previous`](Self::previous) are still stored, so that it may be handed to
    /// [`entry`](Self::entry) as it is.
    pub fn is_stored(&self, entry: &Entry) -> bool {
        self.shared.is_stored(entry)
    }

    /// Begins a tree. Each kind at most once, one after the other.
    pub async fn begin_tree(&mut self, kind: TreeKind) -> Result<()> {
        self.collector.begin_tree(kind).await
    }

    /// Adds a directory, link or pipe, or a file whose extents are known from the previous tree.
    pub async fn entry(&mut self, entry: Entry) -> Result<()> {
        self.collector.entry(entry).await
    }

    /// Begins a file; size and extents in `entry` are ignored.
    pub async fn begin_file(&mut self, entry: Entry, chunking: Chunking) -> Result<()> {
        self.collector.begin_file(entry, chunking)
    }

    /// The file's next bytes.
    pub async fn data(&mut self, bytes: Bytes) -> Result<()> {
        self.collector.data(&bytes).await
    }

    /// The file's next bytes, from a buffer that is the caller's again afterwards.
    pub async fn data_from(&mut self, bytes: &[u8]) -> Result<()> {
        self.collector.data(bytes).await
    }

    /// The file's next `len` bytes are zeros.
    pub async fn hole(&mut self, len: u64) -> Result<()> {
        self.collector.hole(len)
    }

    /// Ends the file.
    pub async fn end_file(&mut self, finish: Finish) -> Result<()> {
        self.collector.end_file(finish).await
    }

    /// Ends the tree; returns once it has been packed.
    pub async fn end_tree(&mut self) -> Result<TreeStats> {
        self.collector.end_tree().await
    }

    /// Takes WAL from another task while this one writes trees.
    pub fn wal_sink(&self) -> WalSink {
        self.wal.clone()
    }

    /// [`WalSink::put`].
    pub async fn put_wal(&mut self, system_id: u64, timeline: u32, first: Lsn, bytes: Bytes) -> Result<()> {
        self.wal.put(system_id, timeline, first, bytes).await
    }

    /// Waits until everything is durable, checks that it is, writes the point last and gives the lease back.
    pub async fn commit(self, draft: PointDraft) -> Result<Point> {
        commit::commit(self, draft).await
    }

    /// Ends without a point. What was stored is indexed, so that the next run uses it.
    pub async fn abort(self) -> Result<()> {
        commit::abort(self).await
    }
}
