//! What can go wrong with the stored format, in words that name the object and say what to do.

use std::{io, path::PathBuf};

use lifeboat_model::{
    id::{Instance, PointId, RepositoryId},
    lsn::Lsn,
};

/// The result of a repository operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A repository operation that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed; its own message names the object.
    #[error(transparent)]
    Store(#[from] lifeboat_store::Error),
    /// There is no `lifeboat.json`.
    #[error(
        "{store} holds no repository: there is no lifeboat.json; check the address, or create one with `lifeboat init`"
    )]
    NotARepository {
        /// The store, as people name it.
        store: String,
    },
    /// A backup, a stream or a dump was to go into a copy.
    #[error(
        "{store} is a copy of a repository, and only `lifeboat copy` writes into it; write to the primary, or where that is lost, make a new repository elsewhere and restore from the copy"
    )]
    Replica {
        /// The store, as people name it.
        store: String,
    },
    /// A copy was to go into something else.
    #[error(
        "{store} is {is}, not a copy of repository {of}; name an empty folder, or a bucket or prefix that holds nothing"
    )]
    NotACopy {
        /// The store, as people name it.
        store: String,
        /// What it is.
        is: String,
        /// The primary's id.
        of: RepositoryId,
    },
    /// Written by a newer release.
    #[error("{object} uses {what}, which this release does not know; use the release that wrote it, or a newer one")]
    Unknown {
        /// The object's key.
        object: String,
        /// The version or feature.
        what: String,
    },
    /// Bytes are not what was stored.
    #[error("{object} is damaged: {reason}")]
    Damaged {
        /// The object's key.
        object: String,
        /// What does not fit.
        reason: String,
    },
    /// No trusted key signed this object, or it does not belong where it lies.
    #[error("{object} is not to be trusted: {reason}")]
    Untrusted {
        /// The object's key.
        object: String,
        /// Which check failed.
        reason: String,
    },
    /// What a point needs cannot be known, so nothing may be removed.
    #[error(
        "{object} does not tell what it needs ({reason}), so nothing is removed or taken as proven; look at it with `lifeboat verify`, and if it is no recovery point of yours, say so by naming it to prune with --disregard"
    )]
    Unreliable {
        /// The object's key, or the point's id.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing to restore.
    #[error("instance {instance} has no recovery point {wanted}")]
    NoPoint {
        /// The instance looked at.
        instance: Instance,
        /// What was asked for.
        wanted: String,
    },
    /// A prefix fits several points.
    #[error("\"{prefix}\" fits {count} recovery points of {instance}; give more digits")]
    Ambiguous {
        /// The instance looked at.
        instance: Instance,
        /// The prefix given.
        prefix: String,
        /// How many fit.
        count: usize,
    },
    /// None of the identities opens the object.
    #[error("none of the given identities opens {object}; it needs {needed}")]
    WrongIdentity {
        /// The object's key.
        object: String,
        /// Whose identity opens it.
        needed: String,
    },
    /// A plugin that an identity needs did not do its part.
    #[error("{object} was not opened: {reason}")]
    Plugin {
        /// The object's key.
        object: String,
        /// What the plugin said, or that it is missing.
        reason: String,
    },
    /// A key text that does not parse. The text itself is never repeated.
    #[error("not an age {what}: {reason}")]
    BadKey {
        /// `recipient` or `identity`.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Another holds the lease.
    #[error("{what} of {of} is running: {holder}; wait for it, or if it is gone, until {retry}")]
    Busy {
        /// What is at it: `another backup`, `a prune`, `a copy`, `another daemon`.
        what: &'static str,
        /// The instance, or the tenant.
        of: String,
        /// Who holds the lease.
        holder: String,
        /// When it ends by itself.
        retry: String,
    },
    /// Our lease ran out or was taken.
    #[error("the writer's lease on {of} was lost ({reason}); no recovery point was written, start the backup again")]
    LeaseLost {
        /// The instance, or the tenant.
        of: String,
        /// Why it counts as lost.
        reason: String,
    },
    /// A new point would sort before the newest one.
    #[error(
        "this host's clock says {now}, but the newest recovery point is of {newest}: set the clock and start the backup again"
    )]
    Clock {
        /// What the clock says.
        now: String,
        /// When the newest point was finished.
        newest: String,
    },
    /// The WAL handed in does not cover the base backup.
    #[error("WAL of the recovery point has a gap: {expected} is missing, the next slice starts at {found}")]
    WalGap {
        /// The first position that is missing.
        expected: Lsn,
        /// What came instead (or the end that was not reached).
        found: Lsn,
    },
    /// Ranges of a WAL stream do not follow on each other.
    #[error("WAL {first} to {last} does not fit the stream: {reason}; start the stream again from what is durable")]
    WalOrder {
        /// First position of the range.
        first: Lsn,
        /// Position after its last one.
        last: Lsn,
        /// What was expected instead.
        reason: String,
    },
    /// The key to sign with was revoked.
    #[error(
        "the signing key was revoked as of {at:.0}: nobody would believe what it signs; make a new one with `lifeboat key rotate signing`"
    )]
    RevokedSigner {
        /// When.
        at: jiff::Timestamp,
    },
    /// An object the point would name is not in the store.
    #[error(
        "{object} is not in the repository any more ({reason}); no recovery point was written, start the backup again"
    )]
    Gone {
        /// The object's key.
        object: String,
        /// What the store said.
        reason: String,
    },
    /// A point would need a lock that an object cannot be given.
    #[error("the lock of {object} cannot be extended until {until}: {source}; no recovery point was written; {todo}")]
    Unextendable {
        /// The object's key.
        object: String,
        /// Until when the point needs it.
        until: jiff::Timestamp,
        /// What the store said.
        source: Box<lifeboat_store::Error>,
        /// What to do.
        todo: &'static str,
    },
    /// A file of the local cache cannot be written.
    #[error("cache file {path}: {source}; free space there or set engine.state_dir elsewhere")]
    Cache {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// The receiver of restored files failed.
    #[error("cannot write {path}: {source}")]
    Sink {
        /// The path inside the tree.
        path: String,
        /// The operating system's words.
        source: io::Error,
    },
    /// Methods were called in an impossible order or with impossible values.
    #[error("repository writer: {0}")]
    Usage(String),
    /// An earlier call reported why the run ended.
    #[error("the backup run has ended already after an earlier error (point {0} was not written)")]
    Ended(PointId),
    /// The operating system failed in a way that has no better name here.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The operating system's words.
        source: io::Error,
    },
}

impl Error {
    /// Whether the same call may succeed later without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Store(error) => error.is_transient(),
            Error::Unextendable { source, .. } => {
                source.is_transient() || matches!(**source, lifeboat_store::Error::NotFound { .. })
            }
            Error::Busy { .. } | Error::LeaseLost { .. } | Error::Gone { .. } => true,
            _ => false,
        }
    }

    pub(crate) fn damaged(object: impl ToString, reason: impl ToString) -> Self {
        Error::Damaged { object: object.to_string(), reason: reason.to_string() }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Error::Usage(text.into())
    }
}
