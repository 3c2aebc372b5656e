//! Writing a recovery point.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use lifeboat_model::{
    id::PointId,
    lsn::Lsn,
    signature::{PublicKey, SigningKey},
};

use crate::{
    error::Result,
    point::{Point, PointDetails},
    progress::Progress,
    repository::InstanceRepo,
    seal::{Identity, Recipient},
    tree::{ChangeMark, Entry, FileTime, TreeCursor, TreeKind},
};

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
    /// Change mark. Leave it out where the file changed while it was read.
    pub change: Option<ChangeMark>,
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

/// Writes one recovery point. Dropped without [`commit`](Writer::commit), it leaves nothing visible.
pub struct Writer {
    repo: InstanceRepo,
}

/// Takes WAL slices, from any task.
#[derive(Clone)]
pub struct WalSink {
    repo: InstanceRepo,
}

impl WalSink {
    /// Hands in the bytes that start at `first`. Returns once they are accepted; they are durable after
    /// [`Writer::commit`] has succeeded.
    pub async fn put(&self, system_id: u64, timeline: u32, first: Lsn, bytes: Bytes) -> Result<()> {
        let _ = (&self.repo, system_id, timeline, first, bytes);
        todo!()
    }
}

impl Writer {
    /// Takes the lease, opens or makes the chunk key and loads the index.
    pub async fn begin(
        repo: InstanceRepo,
        keys: WriterKeys,
        options: WriterOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<Writer> {
        let _ = (keys, options, progress);
        Ok(Writer { repo })
    }

    /// The id the point will have.
    pub fn point_id(&self) -> PointId {
        let _ = &self.repo;
        todo!()
    }

    /// The newest valid point that this run builds upon.
    pub fn previous_point(&self) -> Option<&Point> {
        todo!()
    }

    /// Its tree of this kind, in stored order; none where there is none that this host can open.
    pub fn previous(&self, _kind: TreeKind) -> Option<TreeCursor> {
        todo!()
    }

    /// Whether all bytes of an entry of [`previous`](Self::previous) are still stored, so that it may be handed to
    /// [`entry`](Self::entry) as it is.
    pub fn is_stored(&self, _entry: &Entry) -> bool {
        todo!()
    }

    /// Begins a tree. Each kind at most once, one after the other.
    pub async fn begin_tree(&mut self, _kind: TreeKind) -> Result<()> {
        todo!()
    }

    /// Adds a directory, link or pipe, or a file whose extents are known from the previous tree.
    pub async fn entry(&mut self, _entry: Entry) -> Result<()> {
        todo!()
    }

    /// Begins a file; size and extents in `entry` are ignored.
    pub async fn begin_file(&mut self, _entry: Entry, _chunking: Chunking) -> Result<()> {
        todo!()
    }

    /// The file's next bytes.
    pub async fn data(&mut self, _bytes: Bytes) -> Result<()> {
        todo!()
    }

    /// The file's next `len` bytes are zeros.
    pub async fn hole(&mut self, _len: u64) -> Result<()> {
        todo!()
    }

    /// Ends the file.
    pub async fn end_file(&mut self, _finish: Finish) -> Result<()> {
        todo!()
    }

    /// Ends the tree; returns once it has been packed.
    pub async fn end_tree(&mut self) -> Result<TreeStats> {
        todo!()
    }

    /// Takes WAL from another task while this one writes trees.
    pub fn wal_sink(&self) -> WalSink {
        WalSink { repo: self.repo.clone() }
    }

    /// [`WalSink::put`].
    pub async fn put_wal(&mut self, system_id: u64, timeline: u32, first: Lsn, bytes: Bytes) -> Result<()> {
        self.wal_sink().put(system_id, timeline, first, bytes).await
    }

    /// Waits until everything is durable, checks that it is, writes the point last and gives the lease back.
    pub async fn commit(self, _draft: PointDraft) -> Result<Point> {
        todo!()
    }

    /// Ends without a point. What was stored is indexed, so that the next run uses it.
    pub async fn abort(self) -> Result<()> {
        todo!()
    }
}
