//! A repository in an S3 bucket: AWS and whatever speaks the same protocol.
//!
//! **Integrity.** Each body is hashed once (SHA-256), off the async threads; the hash is both signed as the payload's
//! and sent as `x-amz-checksum-sha256`, so a server that ignores the one still checks the other. Nothing is copied:
//! a body, and each part of it, is a slice of the caller's buffer.
//!
//! **One put, one version.** A reply can be lost after the server did its work. Each put therefore carries a random
//! tag as object metadata, and after any fault that leaves doubt the key is looked at before anything is sent again:
//! our tag there means that the put had succeeded. `If-None-Match: *` is sent too, and honoured servers then refuse a
//! taken key; some accept the header and overwrite all the same, so nothing here rests on it and keys must be unique.
//!
//! **Retries** are [`crate::retry`]'s alone; the SDK's own are off. Every attempt has a time limit, and a body that
//! stalls is given up early. Dropping a future drops its connection; an unfinished multipart upload is then aborted.
//!
//! Read on: `connect.rs` for the client and its TLS, `upload.rs`, `download.rs`, `listing.rs`; and `failure.rs` for
//! what the servers' answers mean.

use std::{fmt, future::Future, ops::Range, sync::Arc, sync::atomic::AtomicBool, time::Duration};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{Capabilities, Error, Key, ObjectInfo, Result, Retention, Store, Stored, VersionId, retry::Policy};

mod connect;
mod download;
mod failure;
mod listing;
mod upload;

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
    /// Whether the bucket keeps versions.
    versions: bool,
    /// Whether `If-None-Match: *` is sent; off once the server has said that it does not know it.
    conditional: AtomicBool,
    limits: Limits,
    multipart_threshold: u64,
}

impl S3Store {
    /// Makes the client and asks the bucket whether it keeps versions: a wrong endpoint, bucket, key or clock is
    /// found here, with words for it, before any work has begun.
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

    fn policy(&self) -> &Policy {
        &self.limits.retry
    }

    /// One attempt within its time limit, which grows with the bytes to be moved.
    async fn attempt<T>(
        &self,
        operation: &'static str,
        key: &str,
        len: u64,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let limit = self.limits.attempt + Duration::from_secs(len / self.limits.slowest_rate.max(1));
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let reason = format!("{} did not answer within {} s", self.endpoint, limit.as_secs());
            Err(Error::Unavailable { operation, key: key.to_owned(), reason })
        })
    }
}

/// A version id worth recording: servers say `null` where there are none.
fn version(text: Option<&str>) -> Option<VersionId> {
    text.filter(|text| !text.is_empty() && *text != "null").map(|text| VersionId(text.to_owned()))
}

#[async_trait]
impl Store for S3Store {
    fn describe(&self) -> String {
        self.bucket.describe()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { versions: self.bucket.versions, ..Capabilities::default() }
    }

    async fn put_locked(&self, key: &Key, bytes: Bytes, retention: Option<Retention>) -> Result<Stored> {
        if retention.is_some() {
            return Err(Error::NoLocks { key: key.to_string(), store: self.describe() });
        }
        self.bucket.put(key, bytes).await
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

    async fn clock(&self) -> Result<jiff::Timestamp> {
        Ok(jiff::Timestamp::now())
    }

    async fn delete(&self, key: &Key, version: Option<&VersionId>) -> Result<()> {
        self.bucket.delete(key, version).await
    }
}
