//! What can go wrong in the daemon itself. A run that fails is an outcome, not an error.

use std::{io, path::PathBuf};

pub(crate) use lifeboat_engine::with_causes;
use lifeboat_model::id::Tenant;

/// The daemon's errors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Settings, a policy or a schedule that cannot be used: nothing of it is.
    #[error("{} cannot be used", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// All that is wrong, each with line or key and what to do.
        problems: Vec<String>,
    },
    /// A file or folder.
    #[error("{what} {}", path.display())]
    Io {
        /// `cannot read`, `cannot write`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cache of the state.
    #[error("the state in {}", file.display())]
    State {
        /// The SQLite file.
        file: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The engine or the repository.
    #[error(transparent)]
    Engine(#[from] lifeboat_engine::Error),
    /// A tenant's repository.
    #[error("the repository of tenant {tenant} cannot be used: {why}")]
    NotOpen {
        /// Whose.
        tenant: Tenant,
        /// Why.
        why: String,
        /// There is none yet: the first backup makes it.
        absent: bool,
    },
    /// Something outside does not answer.
    #[error("{why}")]
    Silent {
        /// In its words.
        why: String,
    },
    /// Somebody else is at work with this state folder.
    #[error("another daemon is at work with {}", folder.display())]
    Busy {
        /// The state folder.
        folder: PathBuf,
    },
    /// The address to listen on.
    #[error("cannot listen on {address}")]
    Listen {
        /// As configured.
        address: String,
        /// Why.
        source: io::Error,
    },
}

/// Of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err` on what reads and writes files.
    pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { what, path, source }
    }
}
