//! A cluster, captured over the replication protocol: the base backup into a tree, and beside it the WAL that makes
//! it consistent.
//!
//! Two connections. The WAL one comes first and holds a temporary slot, so that the server keeps what we need however
//! slow the repository is, and forgets the slot when we are gone (`pg_basebackup` does the same). WAL streams until
//! the caller names the position where the point ends ([`WalTask::finish`]).

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_model::lsn::Lsn;
use lifeboat_postgres::{BackupEvent, BaseBackupOptions, ConnectOptions, Replication, Segmenter, WalSlice};
use lifeboat_repo::{
    tree::{Entry, EntryKind, FileTime, TreeKind},
    writer::{Chunking, Finish, TreeStats, WalSink, Writer},
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    details::TablespaceDetails,
    error::{Error, Result},
};

/// A slice of WAL is at most this long, however big the server's segments are.
const MOST_SLICE: usize = 16 << 20;
/// How long storage may take nothing of a backup's WAL before the backup has failed.
const STORAGE_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// What the server said before the first byte.
#[derive(Debug, Clone)]
pub struct Source {
    /// `server_version_num`.
    pub version: u32,
    /// Cluster identity.
    pub system_id: u64,
    /// Bytes in a WAL segment file.
    pub segment_size: u64,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
}

/// The base backup, done.
#[derive(Debug, Clone)]
pub struct BaseBackup {
    /// Where replay begins.
    pub start: Lsn,
    /// From where on the files are consistent.
    pub end: Lsn,
    /// The cluster's timeline.
    pub timeline: u32,
    /// Its tablespaces other than the default ones.
    pub tablespaces: Vec<TablespaceDetails>,
    /// What went into the tree.
    pub stats: TreeStats,
}

/// WAL on its way into the repository.
pub struct WalTask {
    stop: watch::Sender<Option<Lsn>>,
    task: JoinHandle<Result<Lsn>>,
}

impl WalTask {
    /// Lets the stream end at exactly `end`, and waits until all of it is handed to the repository.
    pub async fn finish(mut self, end: Lsn) -> Result<Lsn> {
        // A task that has ended already has an error to tell.
        let _ = self.stop.send(Some(end));
        (&mut self.task).await.map_err(|error| Error::Task(error.to_string()))?
    }
}

impl Drop for WalTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks the server what it is.
pub async fn look(replication: &mut Replication) -> Result<Source> {
    let identity = replication.identify_system().await?;
    Ok(Source {
        version: replication.server_version(),
        system_id: identity.system_id,
        segment_size: replication.wal_segment_size().await?,
        data_checksums: replication.show("data_checksums").await? == "on",
    })
}

/// Captures the cluster. WAL goes on streaming until the returned task is told where to end.
pub async fn capture(
    options: &ConnectOptions,
    writer: &mut Writer,
    source: &Source,
    label: &str,
    now: Timestamp,
) -> Result<(BaseBackup, WalTask)> {
    let mut wal_connection = Replication::connect(options).await?;
    let slot = format!("lifeboat_{}", writer.point_id());
    wal_connection.create_physical_slot(&slot, true).await?;
    let replication = Replication::connect(options).await?;
    let mut events =
        replication.base_backup(BaseBackupOptions { label: label.to_owned(), ..Default::default() }).await?;
    writer.begin_tree(TreeKind::Database).await?;
    let mut wal = Some((wal_connection, slot));
    let mut task = None;
    let mut tablespaces = Vec::new();
    let (mut start, mut finished) = (Lsn(0), None);
    let mut manifest_open = false;
    while let Some(event) = events.next().await? {
        match event {
            BackupEvent::Started { start: at, timeline, tablespaces: found, .. } => {
                start = at;
                tablespaces = found
                    .into_iter()
                    .map(|found| TablespaceDetails { oid: found.oid, location: found.location })
                    .collect();
                if let Some((connection, slot)) = wal.take() {
                    task = Some(stream_wal(connection, slot, writer.wal_sink(), source, at, timeline));
                }
            }
            BackupEvent::File { path, mode, uid, gid, mtime, size } => {
                let kind = EntryKind::File { size, extents: Vec::new() };
                writer.begin_file(entry(path, kind, mode, uid, gid, mtime), Chunking::RELATION).await?;
            }
            BackupEvent::Data(bytes) => writer.data(bytes).await?,
            BackupEvent::EndFile => writer.end_file(Finish::default()).await?,
            BackupEvent::Directory { path, mode, uid, gid, mtime } => {
                writer.entry(entry(path, EntryKind::Directory, mode, uid, gid, mtime)).await?;
            }
            BackupEvent::Symlink { path, target, mode, uid, gid, mtime } => {
                writer.entry(entry(path, EntryKind::Symlink { target }, mode, uid, gid, mtime)).await?;
            }
            BackupEvent::Manifest(bytes) => {
                if !std::mem::replace(&mut manifest_open, true) {
                    let kind = EntryKind::File { size: 0, extents: Vec::new() };
                    let file = entry(b"backup_manifest".to_vec(), kind, 0o600, 0, 0, now.as_second());
                    writer.begin_file(file, Chunking::DOCUMENT).await?;
                }
                writer.data(bytes).await?;
            }
            BackupEvent::Finished { end, timeline } => finished = Some((end, timeline)),
        }
    }
    if manifest_open {
        writer.end_file(Finish::default()).await?;
    }
    let stats = writer.end_tree().await?;
    let (Some((end, timeline)), Some(task)) = (finished, task) else {
        return Err(Error::ServerChanged("the base backup ended without its end position".to_owned()));
    };
    Ok((BaseBackup { start, end, timeline, tablespaces, stats }, task))
}

fn entry(path: Vec<u8>, kind: EntryKind, mode: u32, uid: u32, gid: u32, mtime_s: i64) -> Entry {
    let mtime = FileTime { seconds: mtime_s, nanos: 0 };
    Entry { path, kind, mode: mode & 0o7777, uid, gid, mtime, ..Entry::default() }
}

fn stream_wal(
    connection: Replication,
    slot: String,
    sink: WalSink,
    source: &Source,
    start: Lsn,
    timeline: u32,
) -> WalTask {
    let (stop, stopped) = watch::channel(None);
    let first = start.segment_start(source.segment_size);
    let pump = Pump {
        sink,
        system_id: source.system_id,
        timeline,
        segmenter: Segmenter::new(first, source.segment_size, MOST_SLICE),
    };
    let task = tokio::spawn(async move { pump.run(connection, &slot, first, stopped).await });
    WalTask { stop, task }
}

struct Pump {
    sink: WalSink,
    system_id: u64,
    timeline: u32,
    segmenter: Segmenter,
}

impl Pump {
    async fn run(
        mut self,
        connection: Replication,
        slot: &str,
        first: Lsn,
        mut stop: watch::Receiver<Option<Lsn>>,
    ) -> Result<Lsn> {
        let mut stream = connection.start_wal(first, self.timeline, Some(slot)).await?;
        // A backup cannot go on over another connection: its slot would be gone.
        stream.give_up_after(STORAGE_PATIENCE);
        let mut reached = first;
        loop {
            if let Some(end) = *stop.borrow_and_update()
                && reached >= end
            {
                break;
            }
            tokio::select! {
                chunk = stream.next() => {
                    let Some(mut chunk) = chunk? else {
                        let needed = stop.borrow().unwrap_or(reached);
                        return Err(Error::WalIncomplete { reached, needed, why: "the server's timeline ended (a promotion?)".to_owned() });
                    };
                    if let Some(end) = *stop.borrow() {
                        chunk.bytes.truncate(usize::try_from(end.0.saturating_sub(chunk.start.0)).unwrap_or(usize::MAX));
                    }
                    reached = chunk.end();
                    for slice in self.segmenter.push(&chunk)? {
                        self.put(slice).await?;
                    }
                    // The slot ends with this session, and so does the point that would need this WAL: the server need not
                    // keep what we have taken.
                    stream.acknowledge(self.segmenter.position());
                }
                // The end was named, or everybody who could name it is gone.
                changed = stop.changed() => if changed.is_err() { return Err(Error::Cancelled) },
            }
        }
        let end = stop.borrow().unwrap_or(reached);
        if let Some(slice) = self.segmenter.cut() {
            self.put(slice).await?;
        }
        Ok(end)
    }

    async fn put(&self, slice: WalSlice) -> Result<()> {
        Ok(self.sink.put(self.system_id, self.timeline, slice.start, slice.bytes).await?)
    }
}
