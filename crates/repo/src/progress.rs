//! How the layers above follow a run, without this crate printing anything.

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Counter {
    /// Bytes of source data taken in (holes not counted).
    ReadBytes,
    /// Bytes of source data that were not stored before.
    NewBytes,
    /// Bytes of source data that were stored already, by content or by unchanged entry.
    ReusedBytes,
    /// Ciphertext bytes that became durable.
    StoredBytes,
    /// Entries that went into a tree.
    Entries,
    /// Regular files that went into a tree, or that were restored.
    Files,
    /// Packs that became durable.
    Packs,
    /// WAL bytes taken in.
    WalBytes,
    /// Ciphertext bytes fetched.
    FetchedBytes,
    /// Bytes handed to the sink of a restore.
    RestoredBytes,
    /// Objects that a verification has looked at.
    Objects,
}

/// Receives counts and notes; called from many threads, must return at once.
pub trait Progress: Send + Sync {
    /// `counter` grew by `n`.
    fn add(&self, counter: Counter, n: u64);
    /// Something a person may want to know; one line.
    fn note(&self, text: &str);
}

/// Ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn add(&self, _: Counter, _: u64) {}
    fn note(&self, _: &str) {}
}
