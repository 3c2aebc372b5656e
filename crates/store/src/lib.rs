//! Objects in a bucket or folder: put, ranged get, list, versions, delete.
//!
//! **In:** keys and ciphertext. **Out:** the same bytes, with what the store says of them (length, VersionId).
//! **Never here:** encryption keys, plaintext, or knowledge of what an object means.
//!
//! One trait, [`Store`], is all that the layers above see. Its contract is one test suite ([`suite`]) which every
//! backend passes, real servers included. Read on: [`local`] for a directory, [`s3`] for buckets, [`cloud`] for Google's and
//! Microsoft's.

use std::{borrow::Borrow, fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use lifeboat_model::retention::LockMode;
use serde::{Deserialize, Serialize};

pub mod cloud;
mod error;
pub mod fault;
pub mod first;
pub mod local;
pub mod probe;
pub mod retry;
pub mod s3;
pub mod suite;
pub mod throttle;
pub mod vault;

pub use error::{Error, Result};

/// The name of an object: segments joined by `/`, relative to the repository's root.
///
/// Segments hold only `A-Z a-z 0-9 . _ -`, are not empty and are neither `.` nor `..`: the same key is valid as a
/// path, in a URL and in every bucket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

impl Key {
    /// Checks the text and makes it a key.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let segment_ok = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
        };
        if text.split('/').all(segment_ok) { Ok(Self(text)) } else { Err(Error::InvalidKey { key: text }) }
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Key {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.0
    }
}

/// The store's name for one version of an object. Stores without versions give none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionId(pub String);

/// What a finished put left in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The version that this put made, where the store has versions.
    pub version: Option<VersionId>,
}

/// What the store says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key, relative to the root.
    pub key: Key,
    /// Length in bytes.
    pub len: u64,
    /// The version looked at (in a listing of objects: the first), where the store has versions.
    pub version: Option<VersionId>,
    /// The store's own clock when it was written.
    pub modified: Timestamp,
}

/// Until when a version may not be deleted, and how firmly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// How firmly.
    pub mode: LockMode,
    /// By the store's clock, to the second.
    pub until: Timestamp,
}

impl Retention {
    /// The least that is as long and as firm as both.
    pub fn join(self, other: Self) -> Self {
        Self { mode: self.mode.max(other.mode), until: self.until.max(other.until) }
    }

    /// Whether it lasts as long as `wanted` and is as firm.
    pub fn covers(self, wanted: Self) -> bool {
        self.join(wanted) == self
    }
}

/// What the store says of a version's lock, as read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LockState {
    /// None: it has no retention.
    pub retention: Option<Retention>,
    /// Kept until somebody releases it, whatever the retention.
    pub legal_hold: bool,
}

/// One version of a key, or a marker that says that the key was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionInfo {
    /// The object.
    pub info: ObjectInfo,
    /// Whether a reader who names no version gets this one.
    pub latest: bool,
    /// A delete marker: it has no content, and hides the key from who names no version.
    pub delete_marker: bool,
}

/// What a backend promises beyond the common contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Every put makes a version of its own, and `get`, `head` and `delete` obey the [`VersionId`] they are given.
    pub versions: bool,
    /// A put to a key that is taken is sure to be refused. Where this is false (many servers accept
    /// `If-None-Match: *` and overwrite all the same), only unique keys keep writers apart.
    pub refuses_overwrite: bool,
    /// The store refuses to delete a version before its retention has passed.
    pub locks: bool,
    /// What is put without a retention gets one all the same: the bucket's default.
    pub default_retention: bool,
}

/// A place that keeps objects. Implementations are cheap to share and retry transient faults by themselves.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// A name for people: `directory /srv/backup` or `s3://bucket/prefix at https://…`. Never a credential.
    fn describe(&self) -> String;

    /// Writes a new object; returns only when it is durable. Every object has one writer and one version: where the
    /// store can tell that the key is taken, this is [`Error::AlreadyExists`] and the object there is untouched.
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Stored> {
        self.put_locked(key, bytes, None).await
    }

    /// [`put`](Self::put), and the new version cannot be deleted before `retention` has passed. A store without locks
    /// refuses a retention ([`Error::NoLocks`]): nothing is ever left unlocked in silence.
    async fn put_locked(&self, key: &Key, bytes: Bytes, retention: Option<Retention>) -> Result<Stored>;

    /// Reads bytes `range` (all when `None`) of the given version (the newest when `None`). A range must lie inside
    /// the object; fewer bytes than asked for is an error, never a short answer.
    async fn get(&self, key: &Key, version: Option<&VersionId>, range: Option<Range<u64>>) -> Result<Bytes>;

    /// Looks at an object without reading it.
    async fn head(&self, key: &Key, version: Option<&VersionId>) -> Result<ObjectInfo>;

    /// All objects whose key starts with `prefix` (a plain text prefix; `""` lists everything), in key order. Of a key
    /// with several versions it is the **first** that was written, delete markers are passed over: whoever adds
    /// versions or markers later changes nothing of what is listed.
    fn list(&self, prefix: &str) -> BoxStream<'static, Result<ObjectInfo>> {
        self.list_from(prefix, "")
    }

    /// Those of them whose key comes after `after`, which is compared with the whole key and need be neither a key nor
    /// start with the prefix. What lies before is not looked at: a caller that knows where to begin, and drops the
    /// stream where it wants no more, pays for what it reads.
    fn list_from(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>>;

    /// Removes an object (this version of it; the newest when `None`). Absent is not an error.
    async fn delete(&self, key: &Key, version: Option<&VersionId>) -> Result<()>;

    /// Every version and delete marker, in key order, of each key the newest first; begins like
    /// [`list_from`](Self::list_from).
    fn list_versions(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<VersionInfo>> {
        let only = |info| VersionInfo { info, latest: true, delete_marker: false };
        self.list_from(prefix, after).map_ok(only).boxed()
    }

    /// Reads a version's lock back. A store without locks says that there is none.
    async fn lock_state(&self, key: &Key, version: Option<&VersionId>) -> Result<LockState> {
        let _ = (key, version);
        Ok(LockState::default())
    }

    /// Makes sure that a version is locked at least so long and so firmly; never shortens or weakens. Can be repeated.
    async fn extend_lock(&self, key: &Key, version: Option<&VersionId>, retention: Retention) -> Result<()> {
        let _ = (version, retention);
        Err(Error::NoLocks { key: key.to_string(), store: self.describe() })
    }

    /// Puts a legal hold on a version, or takes it away. Can be repeated.
    async fn set_legal_hold(&self, key: &Key, version: Option<&VersionId>, held: bool) -> Result<()> {
        let _ = (version, held);
        Err(Error::NoLocks { key: key.to_string(), store: self.describe() })
    }

    /// The time by the store's own clock, which decides when a lock ends.
    async fn clock(&self) -> Result<Timestamp>;

    /// The requests of a thief, where this backend has such; for [`probe`].
    fn raw(&self) -> Option<&dyn Raw> {
        None
    }

    /// What this backend promises beyond the common contract. Nothing, unless it says so.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Whether the store itself refuses early deletion. A local directory never does.
    fn is_immutable(&self) -> bool {
        self.capabilities().locks
    }
}

/// Requests that [`Store`] never makes: what a thief or a bad hour would send, to see that the server refuses it.
#[async_trait]
pub trait Raw: Send + Sync {
    /// Deletes without naming a version: where there are versions, a delete marker is laid, whose version this gives.
    async fn lay_marker(&self, key: &Key) -> Result<Option<VersionId>>;

    /// Sends a retention as it stands, be it shorter or weaker; `bypass` asks to pass over governance.
    async fn set_retention(&self, key: &Key, version: &VersionId, retention: Retention, bypass: bool) -> Result<()>;

    /// Deletes a version and asks to pass over governance.
    async fn delete_with_bypass(&self, key: &Key, version: &VersionId) -> Result<()>;

    /// Puts bytes with the checksum of others; whether that was refused. None: nothing is checked on the way.
    async fn refuses_a_wrong_checksum(&self, key: &Key) -> Result<Option<bool>>;

    /// A put in parts, however short.
    async fn put_in_parts(&self, key: &Key, bytes: Bytes, retention: Option<Retention>) -> Result<Stored>;

    /// Switches the whole bucket's versioning off or on.
    async fn set_versioning(&self, on: bool) -> Result<()>;
}

/// A shared store.
pub type SharedStore = Arc<dyn Store>;

/// Refuses a range that does not lie inside an object of `len` bytes.
fn check_range(key: &Key, range: &Range<u64>, len: u64) -> Result<()> {
    if range.start <= range.end && range.end <= len {
        return Ok(());
    }
    let reason = format!("bytes {}..{} were asked for, the object has {len}", range.start, range.end);
    Err(Error::Damaged { key: key.to_string(), reason })
}

/// Refuses an answer that is shorter or longer than what was asked for.
fn check_length(key: &Key, wanted: u64, got: u64) -> Result<()> {
    if wanted == got {
        return Ok(());
    }
    Err(Error::Damaged { key: key.to_string(), reason: format!("{wanted} bytes were asked for, {got} came") })
}
