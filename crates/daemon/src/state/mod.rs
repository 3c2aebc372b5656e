//! The state of the daemon in SQLite: a cache. What is lost with it is found again in the repository.
//!
//! One thread owns the connection and is handed work through a bounded channel, so that no async thread ever waits for a
//! disk. WAL mode: `kill -9` loses nothing that was answered. What a run is (queued, begun, ended, missed) is also synced to
//! the disk before it is answered, because a run that a power cut makes forgotten would be done twice; events, facts and
//! the rest are not, because they come again.
//!
//! What is asked for all the time (facts, timelines, how far streams are) is also kept in memory: [`board`].

mod activity;
pub mod board;
mod conditions;
mod events;
mod facts;
mod migrations;
mod runs;
mod sessions;
mod totals;

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use jiff::Timestamp;
use rusqlite::{Connection, ffi};
use tokio::sync::{mpsc, oneshot};

use self::{board::Board, events::Pending};
pub use self::{
    runs::{RunFilter, RunRow},
    totals::{DURATIONS, RunTotal},
};
use crate::{Error, Result};

/// The SQLite file in the state folder.
const FILE: &str = "daemon.sqlite";
/// Held for as long as a daemon is at work with the folder.
const LOCK: &str = "daemon.lock";
/// Requests that may wait for the thread.
const WAITING: usize = 256;

/// The opened state. Cheap to clone.
#[derive(Clone)]
pub struct State(Arc<Inner>);

struct Inner {
    work: mpsc::Sender<Work>,
    file: PathBuf,
    board: Arc<Board>,
    // Given back when the last clone is dropped.
    _lock: File,
}

type Work = Box<dyn FnOnce(&mut Cache) + Send>;

/// What the thread owns.
pub(crate) struct Cache {
    connection: Connection,
    pending: Pending,
    board: Arc<Board>,
}

impl State {
    /// Opens the state in a folder, which is made where it is not there. A file that is damaged, or of a newer release, is
    /// put aside: it is a cache.
    ///
    /// # Errors
    /// [`Error::Busy`] when another daemon is at work with it.
    pub fn open(folder: &Path) -> Result<State> {
        make_folder(folder)?;
        let lock = lock(folder)?;
        let file = folder.join(FILE);
        let failed = |source| Error::State { file: file.clone(), source };
        let connection = match connect(&file) {
            Ok(connection) => connection,
            Err(why) => {
                put_aside(&file)?;
                tracing::warn!(
                    file = %file.display(),
                    "the state could not be used and was put aside ({why}); it is rebuilt from the repository"
                );
                connect(&file).map_err(failed)?
            }
        };
        let board = Arc::new(Board::load(&connection).map_err(failed)?);
        let (work, waiting) = mpsc::channel(WAITING);
        let cache = Cache { connection, pending: Pending::default(), board: Arc::clone(&board) };
        thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || serve(cache, waiting))
            .map_err(Error::io("cannot start the thread of", &file))?;
        Ok(State(Arc::new(Inner { work, file, board, _lock: lock })))
    }

    /// What is kept in memory.
    pub fn board(&self) -> &Board {
        &self.0.board
    }

    /// Has the thread do something, and waits for its answer.
    pub(crate) async fn ask<T, F>(&self, what: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Cache) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |cache| {
            // Whoever asked may have gone: what was asked for is done all the same.
            let _ = answer.send(what(cache));
        });
        let sent = self.0.work.send(work).await.is_ok();
        let answered = if sent { answered.await.ok() } else { None };
        answered.unwrap_or_else(|| Err(ended())).map_err(|source| Error::State { file: self.0.file.clone(), source })
    }

    /// Forgets what is older, and what is more than a cache may hold: events of ended runs after 30 days or beyond 100,000,
    /// runs and activity from before `oldest`. When a schedule was last due is never forgotten.
    pub async fn forget_before(&self, oldest: Timestamp, now: Timestamp) -> Result<()> {
        self.ask(move |cache| {
            events::flush(cache)?;
            events::forget(&cache.connection, now)?;
            runs::forget(&cache.connection, oldest)?;
            activity::forget(&cache.connection, oldest)?;
            sessions::forget(&cache.connection, now)?;
            cache.board.forget_before(now);
            cache.connection.execute_batch("PRAGMA optimize; PRAGMA incremental_vacuum(1000);")
        })
        .await
    }
}

impl Cache {
    /// Does something whole or not at all. `durable`: it is on the disk before this comes back.
    fn transact<T>(
        &mut self,
        durable: bool,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        // Events that were told before are kept before.
        events::flush(self)?;
        if durable {
            self.connection.pragma_update(None, "synchronous", "FULL")?;
        }
        let done = (|| {
            let transaction = self.connection.transaction()?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })();
        if durable {
            self.connection.pragma_update(None, "synchronous", "NORMAL")?;
        }
        done
    }
}

/// Works until nobody can ask any more. Events wait only as long as there is other work: then they share a transaction.
fn serve(mut cache: Cache, mut waiting: mpsc::Receiver<Work>) {
    loop {
        let work = match waiting.try_recv() {
            Ok(work) => work,
            Err(_) => {
                if let Err(error) = events::flush(&mut cache) {
                    tracing::warn!(%error, "events of runs could not be kept");
                }
                match waiting.blocking_recv() {
                    Some(work) => work,
                    None => break,
                }
            }
        };
        work(&mut cache);
    }
    // SQLite writes its log back into the file when the connection is closed.
}

fn ended() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT), Some("its thread has ended".to_owned()))
}

fn make_folder(folder: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(Error::io("cannot make", folder))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(Error::io("cannot protect", folder))
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = opened.map_err(Error::io("cannot open", &path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Busy { folder: folder.to_owned() }),
        Err(error) => Err(Error::Io { what: "cannot lock", path, source: error.into() }),
    }
}

/// Opens the file and brings it to this release's form; says why it cannot be used.
fn connect(file: &Path) -> rusqlite::Result<Connection> {
    // Made here and not by SQLite, so that it is never readable by others, not even for a moment.
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(file);
    if let Err(error) = made {
        tracing::debug!(%error, file = %file.display(), "cannot open");
    }
    let connection = Connection::open(file)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
    let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if sound != "ok" {
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(sound)));
    }
    migrations::migrate(&connection)?;
    Ok(connection)
}

/// One such file is kept, the newest: for whoever wants to know what happened.
fn put_aside(file: &Path) -> Result<()> {
    for suffix in ["-wal", "-shm", ""] {
        let mut from = file.as_os_str().to_owned();
        from.push(suffix);
        let mut to = file.as_os_str().to_owned();
        to.push(format!(".unusable{suffix}"));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            moved => moved.map_err(Error::io("cannot put aside", Path::new(&from)))?,
        }
    }
    Ok(())
}

/// As it is kept: microseconds.
fn to_micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// From what was kept.
fn from_micros(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}

/// A kept text that this release cannot read.
fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

/// A limit, as SQLite takes it.
fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A count that SQLite keeps with a sign.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count from there.
fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

#[cfg(test)]
mod tests;
