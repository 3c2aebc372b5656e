//! A repository in a bucket of Google Cloud Storage or a container of Azure Blob Storage, through `object_store`.
//!
//! **What it does not do.** `object_store` has no words for these services' own protection (bucket lock, immutability
//! policies, soft delete, versions), and nothing here speaks to them past it. So this backend has no locks, keeps no
//! versions, and is reported as **not immutable** wherever that matters, whatever somebody has set up at the service:
//! what cannot be read back is not claimed. A delete that such a policy refuses is told as [`Error::Locked`].
//!
//! **One put, one object.** An object goes in one request that the service refuses if the key is taken, up to
//! [`CloudOptions::MULTIPART_THRESHOLD`]: far above every pack. Longer ones go in parts, for which neither service takes
//! a condition through `object_store`: the key is looked at first, and apart from that only unique names keep writers
//! apart. Each put carries a random tag as metadata; after any fault that leaves doubt the key is looked at before
//! anything is sent again, and length and tag tell whether the object there is ours.
//!
//! **Retries** are [`crate::retry`]'s alone; `object_store`'s own are off. Every wait has a time limit.
//!
//! Read on: `connect.rs` for the services, `http.rs` for what is heard of every answer, `failure.rs` for what it means.

use std::{fmt, future::Future, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use object_store::{ObjectStore, list::PaginatedListStore, path::Path};

use crate::{
    Capabilities, Error, Key, ObjectInfo, Result, Retention, Store, Stored, VersionId, s3::Limits, throttle::within,
};

mod clock;
mod connect;
mod download;
mod failure;
mod http;
mod listing;
mod upload;

pub use connect::{AzureCredential, CloudOptions, Service};

/// A bucket or container (or a prefix in one) as a [`Store`].
#[derive(Clone)]
pub struct CloudStore {
    place: Arc<Place>,
}

/// What this needs of a service.
trait Objects: ObjectStore + PaginatedListStore {}

impl<T: ObjectStore + PaginatedListStore> Objects for T {}

/// What the operations share.
struct Place {
    objects: Arc<dyn Objects>,
    /// `gs://bucket` or `azure://account/container`.
    name: String,
    /// Empty, or ends with `/`.
    prefix: String,
    /// Where requests go, for messages.
    endpoint: String,
    /// The host in it: answers of others are about tokens.
    host: String,
    /// Whether an object whose name is the prefix asked for is missing in a listing.
    drops_the_prefix: bool,
    limits: Limits,
    multipart_threshold: u64,
}

impl CloudStore {
    /// Makes the client and lists one name: a wrong address, bucket or credential is found here, with words for it,
    /// before any work has begun.
    pub async fn connect(options: CloudOptions) -> Result<Self> {
        let place = connect::place(&options)?;
        place.answers().await?;
        Ok(Self { place: Arc::new(place) })
    }
}

impl fmt::Debug for CloudStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CloudStore").field(&self.place.describe()).finish()
    }
}

impl Place {
    fn describe(&self) -> String {
        format!("{}/{} at {}", self.name, self.prefix.trim_end_matches('/'), self.endpoint)
    }

    fn path(&self, key: &Key) -> Path {
        Path::from(format!("{}{key}", self.prefix))
    }

    fn time_to_move(&self, len: u64) -> Duration {
        self.limits.attempt + Duration::from_secs(len / self.limits.slowest_rate.max(1))
    }

    /// One attempt within its time limit, which grows with the bytes to be moved (what the throttle holds them back is left
    /// out); its failure sorted by what was heard.
    async fn attempt<T>(
        &self,
        operation: &'static str,
        key: &str,
        len: u64,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        let limit = self.time_to_move(len);
        let (answer, heard) = http::listening(within(limit, work)).await;
        match answer {
            Some(answer) => answer.map_err(|error| self.failure(operation, key, &error, &heard)),
            None => {
                let reason = format!("{} did not answer within {} s", self.endpoint, limit.as_secs());
                Err(Error::Unavailable { operation, key: key.to_owned(), reason })
            }
        }
    }
}

#[async_trait]
impl Store for CloudStore {
    fn describe(&self) -> String {
        self.place.describe()
    }

    /// None: a taken key is refused for all that goes in one request, but not for what goes in parts.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn put_locked(&self, key: &Key, bytes: Bytes, retention: Option<Retention>) -> Result<Stored> {
        if retention.is_some() {
            return Err(Error::NoLocks { key: key.to_string(), store: self.describe() });
        }
        self.place.put(key, bytes).await
    }

    /// A version (recorded when the same repository lay in a bucket with versions) is ignored, as in a directory.
    async fn get(&self, key: &Key, _version: Option<&VersionId>, range: Option<Range<u64>>) -> Result<Bytes> {
        self.place.get(key, range).await
    }

    async fn head(&self, key: &Key, _version: Option<&VersionId>) -> Result<ObjectInfo> {
        self.place.head(key).await
    }

    fn list_from(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>> {
        listing::list(Arc::clone(&self.place), prefix, after)
    }

    async fn delete(&self, key: &Key, _version: Option<&VersionId>) -> Result<()> {
        self.place.delete(key).await
    }

    async fn clock(&self) -> Result<Timestamp> {
        self.place.clock().await
    }
}
