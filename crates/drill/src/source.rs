//! Where a drill's data comes from: a recovery point of a repository, or, for a rehearsal of the drill itself, anything that can
//! fill the same folders. What the drill then does is the same.
//!
//! The folders are those of every restore: `pgdata`, `tablespaces/<oid>`, `filestore`, `config/paths/…`.

use std::{collections::HashSet, path::Path};

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_engine::{
    details::Witness,
    recovery::{Stop, staging::Staged},
};
use lifeboat_evidence::drill::{DrilledPoint, VersionsReadBack};
use lifeboat_model::{id::RepositoryId, lsn::Lsn};
use tokio_postgres::Client;

use crate::{error::Result, ladder::Answered};

/// What was chosen to be rehearsed.
#[derive(Debug, Clone)]
pub struct Selected {
    /// How people call it.
    pub name: String,
    /// When the backup had finished.
    pub finished: Timestamp,
    /// The moment at which the source is taken to have died: what the RPO is measured from. None where it is not known when
    /// the target was (a position in the log).
    pub reference: Option<Timestamp>,
    /// How old it is.
    pub age_seconds: u64,
    /// The point, where it is one of a repository.
    pub point: Option<DrilledPoint>,
    /// The repository.
    pub repository: Option<RepositoryId>,
    /// VersionIds read back.
    pub versions: VersionsReadBack,
    /// The answers of rung 2.
    pub checks: Vec<Answered>,
}

/// What was brought back.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// Files placed.
    pub files: u64,
    /// Bytes placed.
    pub bytes: u64,
    /// By part: name and seconds.
    pub parts: Vec<(String, f64)>,
    /// What could not be brought back: anything here fails the rung.
    pub damage: Vec<String>,
    /// When the base backup began: everything committed before is in it.
    pub began: Option<Timestamp>,
    /// Where the base backup became consistent.
    pub consistent_at: Option<Lsn>,
    /// Where the log that was brought back ends.
    pub wal_end: Option<Lsn>,
    /// Where recovery was told to stop.
    pub stop: Stop,
    /// The newest commit that is known to be held, where recovery goes to the end of all that is.
    pub newest_held: Option<Timestamp>,
    /// Behind the commit that the backup marked at its end: replay must reach it.
    pub mark: Option<Lsn>,
    /// What the source's tables looked like, at a position that recovery passes.
    pub witness: Option<Witness>,
    /// Names below the filestore that the backup recorded as not there when it read them.
    pub known_missing: HashSet<String>,
    /// What people should know.
    pub notes: Vec<String>,
}

/// What a source brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A cluster's files, its log, a filestore, configuration.
    Cluster,
    /// `dump.sql` of one database, and its filestore: no cluster, no log, nothing signed.
    Sql,
}

/// Chooses and fetches.
#[async_trait]
pub trait Source: Send + Sync {
    /// What it brings.
    fn form(&self) -> Form {
        Form::Cluster
    }

    /// Chooses what to rehearse, and checks what can be checked before anything is fetched.
    async fn select(&self) -> Result<Selected>;

    /// Brings it into an empty folder. The log may still be on its way when this returns.
    async fn fetch(&self, selected: &Selected, to: &Path) -> Result<Fetched>;

    /// Waits until the log is in place, or is known not to come. Asked once, while the server replays.
    async fn staged(&self) -> Result<Staged> {
        Ok(Staged::default())
    }

    /// Looks at what surrounds what was rehearsed, once the sandbox is gone: it costs no time of the recovery.
    async fn look_around(&self) -> Vec<Answered> {
        Vec::new()
    }

    /// Ends whatever is still being brought: the folder is about to be removed.
    fn stop(&self) {}
}

/// Damages a copy on purpose: the negative control of a drill, which passes only if the drill fails. A drill with one is
/// recorded as such and can never be taken for a rehearsal.
#[async_trait]
pub trait Sabotage: Send + Sync {
    /// What is damaged.
    fn describe(&self) -> String;

    /// After everything is placed, before anything is verified.
    async fn placed(&self, _folder: &Path) -> Result<()> {
        Ok(())
    }

    /// After replay, before the data is compared; once per database.
    async fn replayed(&self, _database: &str, _client: &Client) -> Result<()> {
        Ok(())
    }
}
