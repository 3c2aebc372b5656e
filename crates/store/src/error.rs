//! What can go wrong with a store, and whether trying again can help.

/// The result of a store operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A store operation that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key has characters that some store would not take.
    #[error("\"{key}\" is not a valid object key")]
    InvalidKey {
        /// The refused text.
        key: String,
    },
    /// Nothing is stored under the key (or not this version of it).
    #[error("object {key} does not exist")]
    NotFound {
        /// The key asked for.
        key: String,
    },
    /// The key is taken, and objects are never overwritten.
    #[error("object {key} already exists")]
    AlreadyExists {
        /// The key that was to be written.
        key: String,
    },
    /// The store refused our credentials or rights.
    #[error("{operation} of {key} was refused: {reason}")]
    Denied {
        /// What was tried, for example `put`.
        operation: &'static str,
        /// The key concerned.
        key: String,
        /// The store's words.
        reason: String,
    },
    /// No room is left.
    #[error("no space left for {key}: {reason}")]
    Full {
        /// The key that was to be written.
        key: String,
        /// The store's words.
        reason: String,
    },
    /// Bytes came back fewer, more or other than stored.
    #[error("object {key} came back damaged: {reason}")]
    Damaged {
        /// The key read.
        key: String,
        /// What did not fit.
        reason: String,
    },
    /// The store did not answer, or answered that it cannot now.
    #[error("{operation} of {key} did not succeed: {reason}")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// The key concerned.
        key: String,
        /// The last cause, after all retries.
        reason: String,
    },
    /// The store's address, bucket or folder is unusable.
    #[error("cannot use {store}: {reason}")]
    Unusable {
        /// The store, as people name it.
        store: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A lock was asked for where there are none.
    #[error("{key} cannot be locked: {store} has no object lock")]
    NoLocks {
        /// The key concerned.
        key: String,
        /// The store.
        store: String,
    },
    /// The version is locked, and the lock has not ended.
    #[error("{key} is locked{}", until.map_or_else(String::new, |until| format!(" until {until}")))]
    Locked {
        /// The key concerned.
        key: String,
        /// Until when, where it could be read; none also for a legal hold.
        until: Option<jiff::Timestamp>,
    },
    /// Any other refusal.
    #[error("{operation} of {key} failed: {reason}")]
    Other {
        /// What was tried.
        operation: &'static str,
        /// The key concerned.
        key: String,
        /// The store's words.
        reason: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without anybody mending anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Unavailable { .. })
    }
}
