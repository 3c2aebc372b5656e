//! Reading a copy of a repository: the first version of each key is the object.
//!
//! The signed headers of a copy are those of the primary, byte for byte, and so record the primary's VersionIds, which
//! mean nothing here. [`FirstVersionStore`] asks for the first version of the key instead, whatever version the caller
//! names: each object has one writer and one version, so what was there first is what was copied, and who adds newer
//! versions or delete markers changes nothing. Whether it holds the right bytes is for digests to decide, not for versions.
//!
//! Which version is the first is learned from listings and kept, for a bounded number of keys. A store without versions
//! is passed through.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use jiff::Timestamp;

use crate::{
    Capabilities, Error, Key, LockState, ObjectInfo, Raw, Result, Retention, SharedStore, Store, Stored, VersionId,
    VersionInfo,
};

/// Keys whose first version is remembered: about 200 bytes each. There are two generations of half as many.
const REMEMBERED: usize = 64 << 10;

/// A store in which the first version of a key stands for the key. Clones share what they know.
#[derive(Debug, Clone)]
pub struct FirstVersionStore {
    inner: SharedStore,
    known: Arc<Mutex<Known>>,
}

/// First versions, in two generations: when the young one is full, it becomes the old one, and the old is forgotten.
#[derive(Debug, Default)]
struct Known {
    young: HashMap<Key, VersionId>,
    old: HashMap<Key, VersionId>,
}

impl Known {
    fn get(&self, key: &Key) -> Option<VersionId> {
        self.young.get(key).or_else(|| self.old.get(key)).cloned()
    }

    fn insert(&mut self, key: Key, version: VersionId) {
        if self.young.len() >= REMEMBERED / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, version);
    }

    fn remove(&mut self, key: &Key) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

impl FirstVersionStore {
    /// Wraps a store.
    pub fn new(inner: SharedStore) -> Self {
        Self { inner, known: Arc::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version that stands for the key; none where the store has no versions.
    async fn first(&self, key: &Key) -> Result<Option<VersionId>> {
        if !self.inner.capabilities().versions {
            return Ok(None);
        }
        if let Some(version) = self.known().get(key) {
            return Ok(Some(version));
        }
        // A key sorts before all that it is a prefix of. What is listed is the first version, without delete markers.
        let found = self.inner.list(key.as_str()).try_next().await?.filter(|info| info.key == *key);
        let found = found.ok_or_else(|| Error::NotFound { key: key.to_string() })?;
        if let Some(version) = &found.version {
            self.known().insert(key.clone(), version.clone());
        }
        Ok(found.version)
    }

    /// What a delete means: a version that this key has here is meant as it is; a recorded one of the primary's means the
    /// first, and so does none.
    async fn meant(&self, key: &Key, version: Option<&VersionId>) -> Result<Option<VersionId>> {
        let first = self.first(key).await?;
        let (Some(first), Some(version)) = (&first, version) else { return Ok(first) };
        let mut versions = self.inner.list_versions(key.as_str(), "");
        while let Some(found) = versions.try_next().await?.filter(|found| found.info.key == *key) {
            if found.info.version.as_ref() == Some(version) {
                return Ok(Some(version.clone()));
            }
        }
        Ok(Some(first.clone()))
    }
}

#[async_trait]
impl Store for FirstVersionStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    /// The inner store's, though `get` and `head` do not go by the version they are given: that is what this is for.
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn is_immutable(&self) -> bool {
        self.inner.is_immutable()
    }

    fn raw(&self) -> Option<&dyn Raw> {
        self.inner.raw()
    }

    async fn put_locked(&self, key: &Key, bytes: Bytes, retention: Option<Retention>) -> Result<Stored> {
        let stored = self.inner.put_locked(key, bytes, retention).await?;
        // What was known to be first may be gone, since there was room for this.
        self.known().remove(key);
        Ok(stored)
    }

    async fn get(&self, key: &Key, _version: Option<&VersionId>, range: Option<Range<u64>>) -> Result<Bytes> {
        let first = self.first(key).await?;
        self.inner.get(key, first.as_ref(), range).await
    }

    async fn head(&self, key: &Key, _version: Option<&VersionId>) -> Result<ObjectInfo> {
        let first = self.first(key).await?;
        self.inner.head(key, first.as_ref()).await
    }

    fn list_from(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>> {
        let store = self.clone();
        let learn = move |info: &ObjectInfo| {
            if let Some(version) = &info.version {
                store.known().insert(info.key.clone(), version.clone());
            }
        };
        self.inner.list_from(prefix, after).inspect_ok(learn).boxed()
    }

    fn list_versions(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<VersionInfo>> {
        self.inner.list_versions(prefix, after)
    }

    async fn lock_state(&self, key: &Key, _version: Option<&VersionId>) -> Result<LockState> {
        let first = self.first(key).await?;
        self.inner.lock_state(key, first.as_ref()).await
    }

    async fn extend_lock(&self, key: &Key, _version: Option<&VersionId>, retention: Retention) -> Result<()> {
        let first = self.first(key).await?;
        self.inner.extend_lock(key, first.as_ref(), retention).await
    }

    async fn set_legal_hold(&self, key: &Key, _version: Option<&VersionId>, held: bool) -> Result<()> {
        let first = self.first(key).await?;
        self.inner.set_legal_hold(key, first.as_ref(), held).await
    }

    async fn clock(&self) -> Result<Timestamp> {
        self.inner.clock().await
    }

    async fn delete(&self, key: &Key, version: Option<&VersionId>) -> Result<()> {
        let meant = match self.meant(key, version).await {
            Err(Error::NotFound { .. }) => return Ok(()), // absent is no error
            meant => meant?,
        };
        self.known().remove(key);
        self.inner.delete(key, meant.as_ref()).await
    }
}
