//! A repository in an S3 bucket: AWS and whatever speaks the same protocol.
//!
//! **Integrity.** Each body is hashed once (SHA-256), off the async threads; the hash is both signed as the payload's
//! and sent as `x-amz-checksum-sha256`, so a server that ignores the one still checks the other. Nothing is copied:
//! a body, and each part of it, is a slice of the caller's buffer.
//!
//! **One put, one version.** A reply can be lost after the server did its work. Each put therefore carries a random
//! tag as object metadata, and after any fault that leaves doubt the key is looked at (all its versions, for a thief
//! may have laid a newer one over ours) before anything is sent again: our tag there means that the put had succeeded. `If-None-Match: *` is sent too, and honoured servers then refuse a
//! taken key; some accept the header and overwrite all the same, so nothing here rests on it and keys must be unique.
//!
//! **Retries** are [`crate::retry`]'s alone; the SDK's own are off. Every attempt has a time limit, and a body that
//! stalls is given up early. Dropping a future drops its connection; an unfinished multipart upload is then aborted.
//!
//! Read on: `connect.rs` for the client and its TLS, `upload.rs`, `download.rs`, `listing.rs`, `lock.rs` for Object
//! Lock and what a credential must be allowed to see of it; and `failure.rs` for what the servers' answers mean.

use std::{fmt, future::Future, ops::Range, sync::Arc, sync::atomic::AtomicBool, time::Duration};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{
    Capabilities, Error, Key, LockState, ObjectInfo, Raw, Result, Retention, Store, Stored, VersionId, VersionInfo,
    retry::Policy, throttle::within,
};

mod clock;
mod connect;
mod download;
mod failure;
mod listing;
mod lock;
mod raw;
mod upload;

pub(crate) use connect::tls;
pub use connect::{Limits, S3Options};

/// A bucket (or a prefix in one) as a [`Store`].
#[derive(Clone)]
pub struct S3Store {
    bucket: Arc<Bucket>,
}

/// What the operations share.
struct Bucket {
    client: Client,
    name: String,
    /// Empty, or ends with `/`.
    prefix: String,
    /// Where requests go, for messages.
    endpoint: String,
    versioning: Versioning,
    /// Whether the bucket has Object Lock.
    locks: bool,
    /// Whether it locks by itself what is put without a lock.
    default_retention: bool,
    /// Whether this credential was seen to be allowed to read legal holds.
    reads_holds: AtomicBool,
    /// Whether `If-None-Match: *` is sent; off once the server has said that it does not know it.
    conditional: AtomicBool,
    limits: Limits,
    multipart_threshold: u64,
}

/// Whether the bucket keeps versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Versioning {
    Off,
    /// Also where it is suspended now: there are versions, and whoever suspended it may have hidden some.
    On,
    /// This credential may not ask.
    Unknown,
}

impl S3Store {
    /// Makes the client and asks the bucket whether it keeps versions and has Object Lock: a wrong endpoint, bucket,
    /// key or clock is found here, with words for it, before any work has begun.
    ///
    /// A credential should have `s3:GetBucketVersioning` and `s3:GetBucketObjectLockConfiguration`, which reveal
    /// nothing (`lifeboat repo policy` grants them to every role). One that may not ask about locks is taken to have
    /// none, with a warning: then a tier that wants locks is refused, and nothing is left unlocked in silence.
    pub async fn connect(options: S3Options) -> Result<Self> {
        let bucket = connect::open(options).await?;
        Ok(Self { bucket: Arc::new(bucket) })
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("S3Store").field(&self.bucket.describe()).finish()
    }
}

impl Bucket {
    fn describe(&self) -> String {
        format!("s3://{}/{} at {}", self.name, self.prefix.trim_end_matches('/'), self.endpoint)
    }

    fn path(&self, key: &Key) -> String {
        format!("{}{key}", self.prefix)
    }

    /// A version id worth recording. Servers say `null` where there are no versions; where there are, `null` names what
    /// was put while there were none.
    fn version(&self, text: Option<&str>) -> Option<VersionId> {
        let named = text.filter(|text| !text.is_empty() && (*text != "null" || self.versioning == Versioning::On));
        named.map(|text| VersionId(text.to_owned()))
    }

    fn policy(&self) -> &Policy {
        &self.limits.retry
    }

    /// One attempt within its time limit, which grows with the bytes to be moved; what the throttle holds them back is left out.
    async fn attempt<T>(
        &self,
        operation: &'static str,
        key: &str,
        len: u64,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let limit = self.limits.attempt + Duration::from_secs(len / self.limits.slowest_rate.max(1));
        within(limit, work).await.unwrap_or_else(|| {
            let reason = format!("{} did not answer within {} s", self.endpoint, limit.as_secs());
            Err(Error::Unavailable { operation, key: key.to_owned(), reason })
        })
    }
}

#[async_trait]
impl Store for S3Store {
    fn describe(&self) -> String {
        self.bucket.describe()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            versions: self.bucket.versioning == Versioning::On,
            refuses_overwrite: false,
            locks: self.bucket.locks,
            default_retention: self.bucket.default_retention,
        }
    }

    async fn put_locked(&self, key: &Key, bytes: Bytes, retention: Option<Retention>) -> Result<Stored> {
        if retention.is_some() {
            self.bucket.demand_locks(key)?;
        }
        self.bucket.put(key, bytes, retention).await
    }

    async fn get(&self, key: &Key, version: Option<&VersionId>, range: Option<Range<u64>>) -> Result<Bytes> {
        self.bucket.get(key, version, range).await
    }

    async fn head(&self, key: &Key, version: Option<&VersionId>) -> Result<ObjectInfo> {
        self.bucket.head(key, version).await
    }

    fn list_from(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>> {
        listing::list(Arc::clone(&self.bucket), prefix, after)
    }

    fn list_versions(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<VersionInfo>> {
        listing::versions(Arc::clone(&self.bucket), prefix, after)
    }

    async fn delete(&self, key: &Key, version: Option<&VersionId>) -> Result<()> {
        self.bucket.delete(key, version).await
    }

    async fn lock_state(&self, key: &Key, version: Option<&VersionId>) -> Result<LockState> {
        self.bucket.lock_state(key, version).await
    }

    async fn extend_lock(&self, key: &Key, version: Option<&VersionId>, retention: Retention) -> Result<()> {
        self.bucket.extend_lock(key, version, retention).await
    }

    async fn set_legal_hold(&self, key: &Key, version: Option<&VersionId>, held: bool) -> Result<()> {
        self.bucket.set_legal_hold(key, version, held).await
    }

    async fn clock(&self) -> Result<jiff::Timestamp> {
        self.bucket.clock().await
    }

    fn raw(&self) -> Option<&dyn Raw> {
        Some(self)
    }
}
