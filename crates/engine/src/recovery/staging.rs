//! WAL on its way to a server that replays it already: `pgdata/lifeboat_wal`.
//!
//! Whole segment files are written there under another name and renamed, several at once and in the order in which they
//! are needed, after the history files. `restore_command` (`fetch.sh`) takes them. It must tell three answers apart: *here
//! it is*; *not held*, at which PostgreSQL ends recovery where nothing forbids it; and *it was to come and does not*, at
//! which PostgreSQL must stop with an error. So the folder holds
//!
//! - `list`: the names of all that is there or will come, complete before the first start;
//! - `staging`: `staging <beat>` while we are at work, the number growing every two seconds, `complete` when everything is
//!   there, `broken` when it will not be. A stager that was killed is known by a beat that stands still.
//!
//! Files get their names there when they are whole: until then they lie in a folder beside PGDATA, so that nothing vanishes
//! under somebody who changes owners in PGDATA meanwhile.
//!
//! Segments are not taken away by being fetched, since a server that is stopped in the middle asks for some of them again.
//! At the end of recovery the server removes the folder itself (`recovery_end_command`).

use std::{
    collections::VecDeque,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use lifeboat_model::lsn::Lsn;
use lifeboat_repo::reader::Damage;
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::pieces::Pieces;
use crate::{
    error::{Error, Result},
    files::is_real_folder,
};

/// The folder in PGDATA.
pub const FOLDER: &str = "lifeboat_wal";
/// Beside PGDATA: files that are not whole yet.
const WAITING: &str = ".lifeboat-staging";
/// The program that PostgreSQL calls.
const FETCH: &str = include_str!("fetch.sh");
/// How often the stager shows that it lives; `fetch.sh` waits for thirty of them.
const BEAT: Duration = Duration::from_secs(2);
/// Segments that are fetched and written at the same time, and the bytes of log that may be in memory for them: an object
/// holds a segment, or 64 MiB of a larger one.
const AT_ONCE: usize = 4;
const IN_MEMORY: u64 = 64 << 20;

/// One segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// As PostgreSQL asks for it.
    pub name: String,
    /// Its first position.
    pub start: Lsn,
    /// What is held of it, by timeline: a segment in which a timeline was left has parts of two. The rest is zeros.
    pub parts: Vec<Span>,
}

/// A range of one timeline's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The timeline.
    pub timeline: u32,
    /// First position.
    pub first: Lsn,
    /// The position behind the last.
    pub last: Lsn,
}

/// All that a recovery will ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// Segments, in order.
    pub segments: Vec<Segment>,
    /// History files: name and content.
    pub histories: Vec<(String, String)>,
    /// Bytes in a segment file.
    pub segment_size: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Staged {
    /// Segment files that are in place.
    pub files: u64,
    /// Bytes of WAL in them.
    pub bytes: u64,
    /// From begin to end.
    pub seconds: f64,
    /// What could not be read, and has no other copy.
    pub damage: Vec<Damage>,
    /// Damage that was got around.
    pub replaced: Vec<String>,
    /// The server came to its target and removed the folder before everything was in it.
    pub unneeded: bool,
}

/// Staging under way. Dropped, it ends, and the server is told that nothing more will come.
pub struct WalStaging {
    task: Option<AbortOnDropHandle<Result<Staged>>>,
    places: Places,
}

/// Where files go.
#[derive(Debug, Clone)]
struct Places {
    folder: PathBuf,
    waiting: PathBuf,
}

impl WalStaging {
    /// Waits until everything is in place, or it is known that it will not be.
    pub async fn finished(mut self, cancel: &CancellationToken) -> Result<Staged> {
        let Some(mut task) = self.task.take() else { return Err(Error::Cancelled) };
        let done = tokio::select! {
            done = &mut task => done.map_err(|error| Error::Task(error.to_string())).flatten(),
            () = cancel.cancelled() => Err(Error::Cancelled),
        };
        if done.is_err() {
            task.abort();
            self.places.say("broken");
        }
        done
    }
}

impl std::fmt::Debug for WalStaging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WalStaging").field("folder", &self.places.folder).finish_non_exhaustive()
    }
}

impl Drop for WalStaging {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            self.places.say("broken");
        }
    }
}

/// Makes the folder with everything but segments. Before the cluster can be started.
pub fn prepare(pgdata: &Path, order: &Order) -> io::Result<()> {
    let folder = pgdata.join(FOLDER);
    match folder.symlink_metadata() {
        Ok(_) if is_real_folder(&folder) => fs::remove_dir_all(&folder)?,
        Ok(_) => fs::remove_file(&folder)?,
        Err(_) => {}
    }
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let waiting = waiting(pgdata);
    if is_real_folder(&waiting) {
        fs::remove_dir_all(&waiting)?;
    }
    fs::DirBuilder::new().mode(0o700).create(&waiting)?;
    let mut list = String::new();
    for (name, content) in &order.histories {
        write(&folder.join(name), content.as_bytes())?;
        list.push_str(name);
        list.push('\n');
    }
    for segment in &order.segments {
        list.push_str(&segment.name);
        list.push('\n');
    }
    write(&folder.join("list"), list.as_bytes())?;
    write(&folder.join("fetch"), FETCH.as_bytes())?;
    write(&folder.join("staging"), b"staging 0\n")
}

fn waiting(pgdata: &Path) -> PathBuf {
    pgdata.parent().unwrap_or(pgdata).join(WAITING)
}

/// Begins to stage what [`prepare`] has announced.
pub fn begin(pgdata: &Path, order: Order, pieces: Arc<Pieces>) -> WalStaging {
    let places = Places { folder: pgdata.join(FOLDER), waiting: waiting(pgdata) };
    let segment_size = order.segment_size;
    let stager = Stager { places: places.clone(), segment_size, pieces, bytes: AtomicU64::new(0) };
    let task = AbortOnDropHandle::new(tokio::spawn(stager.run(order.segments)));
    WalStaging { task: Some(task), places }
}

struct Stager {
    places: Places,
    segment_size: u64,
    pieces: Arc<Pieces>,
    bytes: AtomicU64,
}

impl Stager {
    async fn run(self, segments: Vec<Segment>) -> Result<Staged> {
        let begun = Instant::now();
        let stager = Arc::new(self);
        let done = tokio::select! {
            done = Arc::clone(&stager).segments(segments) => done,
            never = stager.beat() => match never {},
        };
        let ended = match &done {
            Ok(staged) if staged.damage.is_empty() => "complete",
            _ => "broken",
        };
        let places = stager.places.clone();
        let ending = tokio::task::spawn_blocking(move || {
            let adopted = adopt_all(&places.folder);
            places.say(ended);
            adopted.map_err(Error::io("cannot set owners in", &places.folder))?;
            fs::remove_dir_all(&places.waiting).map_err(Error::io("cannot remove", &places.waiting))
        });
        let ending = ending.await.map_err(|error| Error::Task(error.to_string())).flatten();
        let mut staged = done?;
        if !staged.unneeded {
            ending?;
        }
        staged.replaced = stager.pieces.broken();
        staged.bytes = stager.bytes.load(Ordering::Relaxed);
        staged.seconds = begun.elapsed().as_secs_f64();
        Ok(staged)
    }

    async fn beat(&self) -> std::convert::Infallible {
        let mut ticks = tokio::time::interval(BEAT);
        for beat in 1_u64.. {
            ticks.tick().await;
            self.places.say(&format!("staging {beat}"));
        }
        unreachable!("the count does not end")
    }

    /// Several at the same time, begun in order. Ends at the first that is damaged: PostgreSQL gets no further.
    async fn segments(self: Arc<Self>, segments: Vec<Segment>) -> Result<Staged> {
        let mut staged = Staged::default();
        let at_once = usize::try_from(IN_MEMORY / self.segment_size.clamp(1, IN_MEMORY)).unwrap_or(1).min(AT_ONCE);
        let mut rest = segments.into_iter();
        let mut running: VecDeque<AbortOnDropHandle<Result<Outcome>>> = VecDeque::new();
        loop {
            while running.len() < at_once
                && let Some(segment) = rest.next()
            {
                running.push_back(spawn(Arc::clone(&self).segment(segment)));
            }
            let Some(first) = running.pop_front() else { return Ok(staged) };
            match first.await.map_err(|error| Error::Task(error.to_string())).flatten()? {
                Outcome::Placed => staged.files += 1,
                Outcome::Damaged(damage) => {
                    staged.damage.push(damage);
                    return Ok(staged);
                }
                Outcome::Unneeded => {
                    staged.unneeded = true;
                    return Ok(staged);
                }
            }
        }
    }

    async fn segment(self: Arc<Self>, segment: Segment) -> Result<Outcome> {
        let Places { folder, waiting } = &self.places;
        if !folder.exists() {
            return Ok(Outcome::Unneeded);
        }
        let waiting = waiting.join(&segment.name);
        let file = create(&waiting, self.segment_size).map_err(Error::io("cannot create", &waiting))?;
        let file = Arc::new(file);
        for span in &segment.parts {
            let mut position = span.first;
            while position < span.last {
                let read = match self.pieces.read(span.timeline, position, span.last).await? {
                    Ok(bytes) => bytes,
                    Err(damage) => return Ok(Outcome::Damaged(damage)),
                };
                let (offset, len) = (position.0 - segment.start.0, read.len() as u64);
                let file = Arc::clone(&file);
                let writing = tokio::task::spawn_blocking(move || file.write_all_at(&read, offset)).await;
                let written = writing.map_err(|error| Error::Task(error.to_string()))?;
                written.map_err(Error::io("cannot write", &waiting))?;
                self.bytes.fetch_add(len, Ordering::Relaxed);
                position = Lsn(position.0 + len);
            }
        }
        // What has its name is what a server may replay, whatever happens to this host's power meanwhile.
        let syncing = tokio::task::spawn_blocking(move || file.sync_data()).await;
        let synced = syncing.map_err(|error| Error::Task(error.to_string()))?;
        synced.map_err(Error::io("cannot make durable", &waiting))?;
        let named = folder.join(&segment.name);
        match adopt(folder, &waiting).and_then(|()| fs::rename(&waiting, &named)) {
            Ok(()) => Ok(Outcome::Placed),
            Err(_) if !folder.exists() => Ok(Outcome::Unneeded),
            Err(error) => Err(Error::io("cannot put in place", &named)(error)),
        }
    }
}

enum Outcome {
    Placed,
    Damaged(Damage),
    Unneeded,
}

fn spawn(work: impl Future<Output = Result<Outcome>> + Send + 'static) -> AbortOnDropHandle<Result<Outcome>> {
    let handle: JoinHandle<_> = tokio::spawn(work);
    AbortOnDropHandle::new(handle)
}

impl Places {
    /// Says how it stands. Where the folder is gone nobody asks any more.
    fn say(&self, state: &str) {
        let waiting = self.waiting.join("staging");
        let said = write(&waiting, format!("{state}\n").as_bytes())
            .and_then(|()| adopt(&self.folder, &waiting))
            .and_then(|()| fs::rename(&waiting, self.folder.join("staging")));
        if let Err(error) = said {
            tracing::debug!(%error, state, "saying how staging stands");
        }
    }
}

fn create(path: &Path, len: u64) -> io::Result<fs::File> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_len(len)?;
    Ok(file)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all_at(bytes, 0)
}

/// Gives a file to the owner of the folder, who may have been changed meanwhile: the server has to read and later to
/// write it.
fn adopt(folder: &Path, path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::symlink_metadata(folder)?;
    std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()))
}

/// [`adopt`] for everything: a change of owners that went through the folder while files came may have missed some.
fn adopt_all(folder: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        adopt(folder, &entry?.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
