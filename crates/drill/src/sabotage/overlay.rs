//! A store that shows one object more than there is, and writes nothing: what a thief would put beside the points is seen by
//! the drill, and the repository never holds it.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream, stream::BoxStream};
use jiff::Timestamp;
use lifeboat_store::{
    Capabilities, Error, Key, LockState, ObjectInfo, Result, Retention, SharedStore, Store, Stored, VersionId,
    VersionInfo,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Overlay {
    inner: SharedStore,
    shown: ObjectInfo,
    bytes: Bytes,
}

impl Overlay {
    /// Shows `bytes` under `key`.
    pub fn new(inner: SharedStore, key: Key, bytes: Bytes, modified: Timestamp) -> Overlay {
        let version = inner.capabilities().versions.then(|| VersionId("shown-by-a-negative-control".to_owned()));
        Overlay { inner, shown: ObjectInfo { key, len: bytes.len() as u64, version, modified }, bytes }
    }

    fn is_listed(&self, prefix: &str, after: &str) -> bool {
        self.shown.key.as_str().starts_with(prefix) && self.shown.key.as_str() > after
    }

    fn refused<T>(operation: &'static str, key: &Key) -> Result<T> {
        let reason = "a negative control writes nothing into a repository".to_owned();
        Err(Error::Denied { operation, key: key.to_string(), reason })
    }
}

/// Puts one item into a stream that is in the order of keys.
fn with<T: Send + 'static>(
    listed: BoxStream<'static, Result<T>>,
    shown: T,
    key: impl Fn(&T) -> &Key + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    let mut shown = Some(shown);
    let ended = stream::once(std::future::ready(None));
    let both = listed.map(Some).chain(ended).flat_map(move |next| {
        let is_due = match (&next, &shown) {
            (Some(Ok(next)), Some(shown)) => key(next) > key(shown),
            (None, _) => true,
            _ => false,
        };
        let before = if is_due { shown.take() } else { None };
        stream::iter(before.map(Ok).into_iter().chain(next))
    });
    both.boxed()
}

#[async_trait]
impl Store for Overlay {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put_locked(&self, key: &Key, _: Bytes, _: Option<Retention>) -> Result<Stored> {
        Overlay::refused("put", key)
    }

    async fn get(&self, key: &Key, version: Option<&VersionId>, range: Option<Range<u64>>) -> Result<Bytes> {
        if *key != self.shown.key {
            return self.inner.get(key, version, range).await;
        }
        let Some(range) = range else { return Ok(self.bytes.clone()) };
        let inside = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        match inside {
            Some((start, end)) if start <= end && end <= self.bytes.len() => Ok(self.bytes.slice(start..end)),
            _ => {
                Err(Error::Damaged { key: key.to_string(), reason: "a range behind its end was asked for".to_owned() })
            }
        }
    }

    async fn head(&self, key: &Key, version: Option<&VersionId>) -> Result<ObjectInfo> {
        match *key == self.shown.key {
            true => Ok(self.shown.clone()),
            false => self.inner.head(key, version).await,
        }
    }

    fn list_from(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>> {
        let listed = self.inner.list_from(prefix, after);
        match self.is_listed(prefix, after) {
            true => with(listed, self.shown.clone(), |info| &info.key),
            false => listed,
        }
    }

    async fn delete(&self, key: &Key, _: Option<&VersionId>) -> Result<()> {
        Overlay::refused("delete", key)
    }

    fn list_versions(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<VersionInfo>> {
        let listed = self.inner.list_versions(prefix, after);
        let shown = VersionInfo { info: self.shown.clone(), latest: true, delete_marker: false };
        match self.is_listed(prefix, after) {
            true => with(listed, shown, |version| &version.info.key),
            false => listed,
        }
    }

    async fn lock_state(&self, key: &Key, version: Option<&VersionId>) -> Result<LockState> {
        match *key == self.shown.key {
            true => Ok(LockState::default()),
            false => self.inner.lock_state(key, version).await,
        }
    }

    async fn clock(&self) -> Result<Timestamp> {
        self.inner.clock().await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn is_immutable(&self) -> bool {
        self.inner.is_immutable()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::TryStreamExt as _;
    use lifeboat_store::local::LocalStore;

    use super::*;

    #[tokio::test]
    async fn one_object_more_is_shown_in_its_place_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let inner: SharedStore = Arc::new(LocalStore::open(folder.path(), true).unwrap());
        let key = |name: &str| Key::new(name).unwrap();
        for name in ["t/points/a", "t/points/c", "t/wal/a"] {
            inner.put(&key(name), Bytes::from_static(b"stored")).await.unwrap();
        }
        let list = async |store: &dyn Store, prefix: &str, after: &str| {
            let listed: Vec<ObjectInfo> = store.list_from(prefix, after).try_collect().await.unwrap();
            listed.into_iter().map(|info| info.key.to_string()).collect::<Vec<_>>()
        };
        for (name, place) in [("t/points/0", 0), ("t/points/b", 1), ("t/points/d", 2)] {
            let overlay = Overlay::new(inner.clone(), key(name), Bytes::from_static(b"shown"), Timestamp::UNIX_EPOCH);
            let listed = list(&overlay, "t/points/", "").await;
            assert_eq!((listed.len(), listed[place].as_str()), (3, name));
            assert_eq!(list(&overlay, "t/wal", "").await, ["t/wal/a"]);
            assert!(!list(&overlay, "t/points/", name).await.contains(&name.to_owned()));
            assert_eq!(overlay.get(&key(name), None, None).await.unwrap(), "shown");
            assert_eq!(overlay.get(&key(name), None, Some(1..3)).await.unwrap(), "ho");
            assert!(overlay.get(&key(name), None, Some(1..9)).await.is_err());
            assert_eq!(overlay.get(&key("t/points/a"), None, None).await.unwrap(), "stored");
            let versions: Vec<VersionInfo> = overlay.list_versions("", "").try_collect().await.unwrap();
            assert_eq!(versions.len(), 4);
            assert!(overlay.put(&key("t/new"), Bytes::new()).await.is_err());
            assert!(overlay.delete(&key("t/points/a"), None).await.is_err());
        }
        assert_eq!(list(inner.as_ref(), "", "").await.len(), 3);
    }
}
