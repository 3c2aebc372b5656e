//! Where a drill's data comes from: a recovery point of a repository, or, for a rehearsal of the drill itself, anything that can
//! fill the same folders. What the drill then does is the same.
//!
//! The folders are those of every restore: `pgdata`, `tablespaces/<oid>`, `filestore`, `config/paths/…`.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

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
    /// Where the base backup began: replay begins there.
    pub wal_begin: Option<Lsn>,
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

    /// How many bytes will be brought, where that is known before.
    async fn size(&self) -> Result<Option<u64>> {
        Ok(None)
    }

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

/// The drill's own copy, as far as it has come: what a sabotage may damage, and nothing else.
#[derive(Debug, Clone, Copy)]
pub struct OwnCopy<'a> {
    /// The folder of the restored data.
    pub restored: &'a Path,
    /// Its Odoo databases.
    pub databases: &'a [String],
    /// Addons folders, as they are called on the source.
    pub addons: &'a [PathBuf],
    /// What was brought back.
    pub fetched: &'a Fetched,
}

impl OwnCopy<'_> {
    /// Tables of the schema `public` of which the source has a digest of all rows.
    pub fn digested(&self, database: &str) -> Vec<String> {
        let witness = self.fetched.witness.as_ref();
        let Some(source) = witness.and_then(|witness| witness.databases.get(database)) else { return Vec::new() };
        let whole = source
            .tables
            .iter()
            .filter(|(name, table)| table.sample.is_none() && !source.inconclusive.contains_key(*name));
        whole.filter_map(|(name, _)| name.strip_prefix("public.").map(str::to_owned)).collect()
    }
}

/// Damages a copy on purpose: the negative control of a drill, which passes only if the drill fails. A drill with one is
/// recorded as such and can never be taken for a rehearsal. It goes no further than the rung at which a check has failed.
#[async_trait]
pub trait Sabotage: Send + Sync {
    /// What kind of damage it is, in words that may stand in evidence.
    fn describe(&self) -> String;

    /// What was damaged, once it was, for whoever runs the drill.
    fn damage(&self) -> Option<String> {
        None
    }

    /// Whether it writes into the promoted server. Then the server is promoted at the position of the source's digests, which
    /// takes the place of the target: a server that waits there, in recovery, cannot be written to.
    fn writes(&self) -> bool {
        true
    }

    /// Whether it waits for all of the log before replay begins.
    fn damages_log(&self) -> bool {
        false
    }

    /// Whether Odoo's image is asked once more which modules are in reach.
    fn damages_addons(&self) -> bool {
        false
    }

    /// Whether anything of Odoo is asked. Where not, there is no container for it, and the climb ends before neutralisation.
    fn needs_odoo(&self) -> bool {
        true
    }

    /// After everything is placed, before anything is verified.
    async fn placed(&self, _copy: &OwnCopy<'_>) -> Result<()> {
        Ok(())
    }

    /// After the files are verified and all of the log is in place, before replay. Only where it damages the log.
    async fn logged(&self, _copy: &OwnCopy<'_>) -> Result<()> {
        Ok(())
    }

    /// After replay, before what is in the promoted server and in the filestore is compared; with a session with each database.
    async fn replayed(&self, _copy: &OwnCopy<'_>, _clients: &[(String, Client)]) -> Result<()> {
        Ok(())
    }

    /// After data and files were compared, before Odoo is started on them.
    async fn booting(&self, _copy: &OwnCopy<'_>, _clients: &[(String, Client)]) -> Result<()> {
        Ok(())
    }
}
