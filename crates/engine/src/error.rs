//! What can stop a verb. A damaged page or a file that changed is an outcome in a report, not an error here.

use std::{io, path::PathBuf};

use lifeboat_model::{config::UnknownInstance, id::TierName, lsn::Lsn};

/// The result of a verb.
pub type Result<T> = std::result::Result<T, Error>;

/// A verb that could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration has no such instance.
    #[error(transparent)]
    UnknownInstance(#[from] UnknownInstance),
    /// An instance points at a tier that is not there.
    #[error("tier \"{0}\" is not in the configuration")]
    NoTier(TierName),
    /// A key or password could not be loaded.
    #[error(transparent)]
    Key(#[from] crate::keys::KeyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] lifeboat_store::Error),
    /// The repository failed or refused.
    #[error(transparent)]
    Repo(#[from] lifeboat_repo::Error),
    /// PostgreSQL failed or refused.
    #[error(transparent)]
    Postgres(#[from] lifeboat_postgres::Error),
    /// A source folder could not be read.
    #[error(transparent)]
    Walk(#[from] crate::files::walk::WalkError),
    /// The write-ahead log that a base backup needs did not arrive.
    #[error("the write-ahead log stopped at {reached}, but the backup needs it up to {needed}: {why}")]
    WalIncomplete {
        /// How far it came.
        reached: Lsn,
        /// How far it had to come.
        needed: Lsn,
        /// What happened.
        why: String,
    },
    /// Source and backup would not be of one cluster.
    #[error("the server changed during the backup: {0}; run the backup again")]
    ServerChanged(String),
    /// A repository that was there before.
    #[error(
        "{place} held a repository before and holds none now: is its disk mounted? If a new repository is meant to begin there, remove {memory}"
    )]
    RepositoryGone {
        /// Where it was.
        place: String,
        /// The file that remembers it.
        memory: PathBuf,
    },
    /// A delta restore into a folder that no restore made.
    #[error(
        "{path} was not made by a restore, and --delta removes everything in it that is not in the point: choose another folder, or if this is really meant, create an empty file {marker} in it"
    )]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// The file that a restore leaves.
        marker: &'static str,
    },
    /// A server is running on the folder.
    #[error("{path} is there, so a PostgreSQL server may be running on this folder: stop it first")]
    ServerRunning {
        /// Its `postmaster.pid`.
        path: PathBuf,
    },
    /// The folder to restore into holds something.
    #[error(
        "{path} is not empty: choose an empty or new folder, or pass --delta to reuse the files in it that match (everything else in it will be removed)"
    )]
    TargetNotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A file or folder of ours failed.
    #[error("{action} {path}")]
    Io {
        /// What was tried, for example `cannot create`.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// A part of the point's content does not have the form that this version reads.
    #[error("point details have an unknown form ({0}); a newer lifeboat may read it")]
    Details(String),
    /// Some files could not be brought back.
    #[error("{0}")]
    Damaged(String),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
    /// A person or a deadline stopped it.
    #[error("stopped before it was done")]
    Cancelled,
    /// A task of ours ended without an answer: a defect.
    #[error("an internal task ended unexpectedly: {0}; please report this")]
    Task(String),
}

impl Error {
    /// Makes an [`Error::Io`].
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }

    /// Whether the same call may succeed later without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Store(error) => error.is_transient(),
            Error::Repo(error) => error.is_transient(),
            Error::Postgres(error) => error.is_transient(),
            Error::ServerChanged(_) => true,
            _ => false,
        }
    }
}
