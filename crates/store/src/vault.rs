//! A bucket with versions, delete markers and Object Lock, in memory, whose clock a test sets.
//!
//! [`VaultStore`] keeps the rules that S3 keeps: a put on a taken key makes a newer version; a locked version is not
//! deleted; a retention is neither shortened nor weakened; a legal hold holds whatever the retention. It passes the
//! contract ([`crate::suite`]). [`Thief`] is what somebody with a stolen credential can do to the same bucket: all
//! that S3 allows, and nothing more. Years pass in it as fast as a test wishes.
//!
//! One object costs its key and some hundred bytes beside its content, which is shared with who put it.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Bound, Range},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use lifeboat_model::retention::LockMode;

use crate::{
    Capabilities, Error, Key, LockState, ObjectInfo, Raw, Result, Retention, Store, Stored, VersionId, VersionInfo,
    check_range,
};

/// Names that a listing takes at a time: what changes behind it is seen, as in a bucket.
const PAGE: usize = 1000;

/// The store's clock, as the test tells it.
pub type VaultClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A bucket in memory. Clones share the content.
#[derive(Clone)]
pub struct VaultStore {
    objects: Arc<Mutex<Objects>>,
    clock: VaultClock,
    default_retention: Option<(LockMode, Duration)>,
    flaw: Option<Flaw>,
}

#[derive(Default)]
struct Objects {
    /// Of each key, the oldest version first.
    keys: BTreeMap<Key, Vec<Version>>,
    made: u64,
}

#[derive(Clone)]
struct Version {
    number: u64,
    /// `None`: a delete marker.
    content: Option<Bytes>,
    modified: Timestamp,
    lock: LockState,
}

/// A promise that an endpoint does not keep: for tests of what finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// A retention in a put is accepted and forgotten.
    ForgetsLocks,
    /// The same, of uploads in parts alone.
    ForgetsLocksOfParts,
    /// Locked versions are deleted.
    DeletesLocked,
    /// An extension is accepted and forgotten.
    ForgetsExtensions,
    /// A retention is made shorter for who asks.
    Shortens,
    /// Compliance is made governance for who asks.
    Weakens,
    /// Everybody may bypass.
    LetsBypass,
    /// Holds are kept, and hold nothing.
    IgnoresHolds,
    /// A put on a taken key replaces what is there.
    Replaces,
    /// A delete marker takes the version below with it.
    MarkersDelete,
    /// Versioning can be switched off.
    Suspends,
}

/// How much is in a [`VaultStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Keys with at least one version that is no delete marker.
    pub keys: usize,
    /// Versions, delete markers left out.
    pub versions: usize,
    /// Delete markers.
    pub markers: usize,
    /// Bytes of all versions.
    pub bytes: u64,
    /// Versions that cannot be deleted now.
    pub locked: usize,
}

impl Version {
    fn id(&self) -> VersionId {
        VersionId(format!("v{:012}", self.number))
    }

    fn info(&self, key: &Key) -> ObjectInfo {
        let len = self.content.as_ref().map_or(0, |bytes| bytes.len() as u64);
        ObjectInfo { key: key.clone(), len, version: Some(self.id()), modified: self.modified }
    }
}

impl LockState {
    /// Whether a version with this lock cannot be deleted at `now`, by the store's clock.
    pub fn is_locked(&self, now: Timestamp) -> bool {
        self.legal_hold || self.retention.is_some_and(|retention| retention.until > now)
    }
}

impl VaultStore {
    /// An empty bucket whose clock shows what `clock` says.
    pub fn new(clock: VaultClock) -> Self {
        Self { objects: Arc::default(), clock, default_retention: None, flaw: None }
    }

    /// What is put without a retention gets this one, counted from its put.
    pub fn with_default_retention(self, mode: LockMode, length: Duration) -> Self {
        Self { default_retention: Some((mode, length)), ..self }
    }

    /// One promise is not kept.
    pub fn with_flaw(self, flaw: Flaw) -> Self {
        Self { flaw: Some(flaw), ..self }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// All versions and delete markers of a key, the newest first.
    pub fn versions_of(&self, key: &Key) -> Vec<VersionInfo> {
        self.objects().keys.get(key).map(|versions| newest_first(key, versions)).unwrap_or_default()
    }

    /// How much there is.
    pub fn snapshot(&self) -> Snapshot {
        let now = (self.clock)();
        let mut sums = Snapshot::default();
        for versions in self.objects().keys.values() {
            sums.keys += usize::from(versions.iter().any(|version| version.content.is_some()));
            for version in versions {
                match &version.content {
                    Some(bytes) => {
                        sums.versions += 1;
                        sums.bytes += bytes.len() as u64;
                    }
                    None => sums.markers += 1,
                }
                sums.locked += usize::from(version.lock.is_locked(now));
            }
        }
        sums
    }

    /// An exact copy, on its own from now on, whose clock shows what `clock` says.
    pub fn fork(&self, clock: VaultClock) -> VaultStore {
        let objects = self.objects();
        let objects = Objects { keys: objects.keys.clone(), made: objects.made };
        VaultStore { objects: Arc::new(Mutex::new(objects)), clock, ..self.clone() }
    }

    /// The same bucket in the hands of somebody who stole a credential that may do everything but bypass locks.
    pub fn thief(&self) -> Thief {
        Thief { vault: self.clone() }
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, key: &Key, content: Option<Bytes>, retention: Option<Retention>) -> VersionId {
        let modified = (self.clock)();
        let by_default = || {
            let (mode, length) = self.default_retention?;
            let until = modified.checked_add(length).unwrap_or(Timestamp::MAX);
            Some(Retention { mode, until })
        };
        let retention = content.as_ref().and_then(|_| retention.or_else(by_default));
        let mut objects = self.objects();
        objects.made += 1;
        let lock = LockState { retention, legal_hold: false };
        let version = Version { number: objects.made, content, modified, lock };
        let id = version.id();
        let versions = objects.keys.entry(key.clone()).or_default();
        if self.has(Flaw::Replaces) || (self.has(Flaw::MarkersDelete) && version.content.is_none()) {
            versions.pop();
        }
        versions.push(version);
        id
    }

    /// Hands the version (the newest when `None`) to `work`; a delete marker is not found.
    fn with<T>(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        work: impl FnOnce(&mut Version) -> Result<T>,
    ) -> Result<T> {
        let mut objects = self.objects();
        let versions = objects.keys.get_mut(key).map(Vec::as_mut_slice).unwrap_or_default();
        let found = match version {
            Some(wanted) => versions.iter_mut().find(|version| version.id() == *wanted),
            None => versions.last_mut(),
        };
        match found.filter(|version| version.content.is_some()) {
            Some(version) => work(version),
            None => Err(Error::NotFound { key: key.to_string() }),
        }
    }

    fn refuses(&self, there: Retention, wanted: Retention) -> bool {
        let shorter = wanted.until < there.until && !self.has(Flaw::Shortens);
        let weaker = wanted.mode < there.mode && !self.has(Flaw::Weakens);
        shorter || weaker
    }

    /// Removes one version or marker; absent is no error.
    fn remove(&self, key: &Key, version: &VersionId) -> Result<()> {
        let now = (self.clock)();
        let mut objects = self.objects();
        let Some(versions) = objects.keys.get_mut(key) else { return Ok(()) };
        let Some(at) = versions.iter().position(|found| found.id() == *version) else { return Ok(()) };
        let held = versions[at].lock.legal_hold && !self.has(Flaw::IgnoresHolds);
        let locked = held || LockState { legal_hold: false, ..versions[at].lock }.is_locked(now);
        if locked && !self.has(Flaw::DeletesLocked) {
            let until = versions[at].lock.retention.map(|retention| retention.until).filter(|until| *until > now);
            return Err(Error::Locked { key: key.to_string(), until });
        }
        versions.remove(at);
        if versions.is_empty() {
            objects.keys.remove(key);
        }
        Ok(())
    }

    fn page(&self, prefix: &str, after: &str) -> Vec<(Key, Vec<VersionInfo>)> {
        let objects = self.objects();
        let begin = if after >= prefix { Bound::Excluded(after) } else { Bound::Included(prefix) };
        let found = objects.keys.range::<str, _>((begin, Bound::Unbounded));
        let found = found.take_while(|(key, _)| key.as_str().starts_with(prefix)).take(PAGE);
        found.map(|(key, versions)| (key.clone(), newest_first(key, versions))).collect()
    }

    fn pages<T: Send + 'static>(
        &self,
        prefix: &str,
        after: &str,
        pick: impl Fn(Vec<VersionInfo>) -> Vec<T> + Send + 'static,
    ) -> BoxStream<'static, Result<T>> {
        let (vault, prefix) = (self.clone(), prefix.to_owned());
        let start = (vault, prefix, after.to_owned());
        stream::unfold(start, |(vault, prefix, after)| async move {
            let page = vault.page(&prefix, &after);
            let after = page.last()?.0.to_string();
            Some((page, (vault, prefix, after)))
        })
        .flat_map(move |page| {
            let found: Vec<T> = page.into_iter().flat_map(|(_, versions)| pick(versions)).collect();
            stream::iter(found).map(Ok)
        })
        .boxed()
    }
}

fn newest_first(key: &Key, versions: &[Version]) -> Vec<VersionInfo> {
    let listed = versions.iter().rev().enumerate().map(|(place, version)| VersionInfo {
        info: version.info(key),
        latest: place == 0,
        delete_marker: version.content.is_none(),
    });
    listed.collect()
}

fn first(versions: Vec<VersionInfo>) -> Vec<ObjectInfo> {
    let first = versions.into_iter().rev().find(|version| !version.delete_marker);
    first.map(|version| version.info).into_iter().collect()
}

impl fmt::Debug for VaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultStore({:?})", self.snapshot())
    }
}

#[async_trait]
impl Store for VaultStore {
    fn describe(&self) -> String {
        "vault in memory".into()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            versions: true,
            refuses_overwrite: false,
            locks: true,
            default_retention: self.default_retention.is_some(),
        }
    }

    async fn put_locked(&self, key: &Key, bytes: Bytes, retention: Option<Retention>) -> Result<Stored> {
        let now = (self.clock)();
        if let Some(until) = retention.map(|retention| retention.until).filter(|until| *until <= now) {
            return Err(refused("put", key, format!("the lock's end {until} has passed")));
        }
        let retention = retention.filter(|_| !self.has(Flaw::ForgetsLocks));
        Ok(Stored { version: Some(self.add(key, Some(bytes), retention)) })
    }

    async fn get(&self, key: &Key, version: Option<&VersionId>, range: Option<Range<u64>>) -> Result<Bytes> {
        let bytes = self.with(key, version, |found| Ok(found.content.clone().unwrap_or_default()))?;
        let Some(range) = range else { return Ok(bytes) };
        check_range(key, &range, bytes.len() as u64)?;
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    async fn head(&self, key: &Key, version: Option<&VersionId>) -> Result<ObjectInfo> {
        self.with(key, version, |found| Ok(found.info(key)))
    }

    fn list_from(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>> {
        self.pages(prefix, after, first)
    }

    fn list_versions(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<VersionInfo>> {
        self.pages(prefix, after, |versions| versions)
    }

    async fn delete(&self, key: &Key, version: Option<&VersionId>) -> Result<()> {
        match version {
            Some(version) => self.remove(key, version),
            None => match self.head(key, None).await.map(|info| info.version) {
                Ok(Some(newest)) => self.remove(key, &newest),
                _ => Ok(()),
            },
        }
    }

    async fn lock_state(&self, key: &Key, version: Option<&VersionId>) -> Result<LockState> {
        self.with(key, version, |found| Ok(found.lock))
    }

    async fn extend_lock(&self, key: &Key, version: Option<&VersionId>, retention: Retention) -> Result<()> {
        let now = (self.clock)();
        self.with(key, version, |found| {
            if found.lock.retention.is_some_and(|there| there.covers(retention)) {
                return Ok(());
            }
            let joined = found.lock.retention.map_or(retention, |there| there.join(retention));
            if joined.until <= now {
                return Err(refused("extend the lock", key, format!("the lock's end {} has passed", joined.until)));
            }
            if !self.has(Flaw::ForgetsExtensions) {
                found.lock.retention = Some(joined);
            }
            Ok(())
        })
    }

    async fn set_legal_hold(&self, key: &Key, version: Option<&VersionId>, held: bool) -> Result<()> {
        self.with(key, version, |found| {
            found.lock.legal_hold = held;
            Ok(())
        })
    }

    async fn clock(&self) -> Result<Timestamp> {
        Ok((self.clock)())
    }

    fn raw(&self) -> Option<&dyn Raw> {
        Some(self)
    }
}

#[async_trait]
impl Raw for VaultStore {
    async fn lay_marker(&self, key: &Key) -> Result<Option<VersionId>> {
        Ok(Some(self.thief().delete_marker(key)))
    }

    /// Nobody has the right to bypass here.
    async fn set_retention(&self, key: &Key, version: &VersionId, retention: Retention, bypass: bool) -> Result<()> {
        if bypass && self.has(Flaw::LetsBypass) {
            return self.with(key, Some(version), |found| {
                found.lock.retention = Some(retention);
                Ok(())
            });
        }
        self.thief().set_retention(key, version, Some(retention))
    }

    async fn delete_with_bypass(&self, key: &Key, version: &VersionId) -> Result<()> {
        self.remove(key, version)
    }

    async fn refuses_a_wrong_checksum(&self, _key: &Key) -> Result<Option<bool>> {
        Ok(None)
    }

    async fn put_in_parts(&self, key: &Key, bytes: Bytes, retention: Option<Retention>) -> Result<Stored> {
        self.put_locked(key, bytes, retention.filter(|_| !self.has(Flaw::ForgetsLocksOfParts))).await
    }

    async fn set_versioning(&self, on: bool) -> Result<()> {
        if on || self.has(Flaw::Suspends) {
            return Ok(());
        }
        let reason = "versioning cannot be switched off where there is Object Lock".to_owned();
        Err(Error::Other { operation: "setting the versioning", key: self.describe(), reason })
    }
}

fn refused(operation: &'static str, key: &Key, reason: String) -> Error {
    Error::Other { operation, key: key.to_string(), reason }
}

/// What a stolen credential can do to the bucket: raw requests, by nobody's conventions but the server's.
#[derive(Debug, Clone)]
pub struct Thief {
    vault: VaultStore,
}

impl Thief {
    /// A put on any key: a newer version, which hides what was there from who names no version.
    pub fn overwrite(&self, key: &Key, bytes: Bytes) -> VersionId {
        self.vault.add(key, Some(bytes), None)
    }

    /// A delete that names no version: lays a marker over the key, also where nothing is.
    pub fn delete_marker(&self, key: &Key) -> VersionId {
        self.vault.add(key, None, None)
    }

    /// A delete of one version (or marker): refused while it is locked.
    pub fn delete_version(&self, key: &Key, version: &VersionId) -> Result<()> {
        self.vault.remove(key, version)
    }

    /// A retention put on a version as it stands in the request: refused where it shortens or weakens.
    pub fn set_retention(&self, key: &Key, version: &VersionId, retention: Option<Retention>) -> Result<()> {
        let now = (self.vault.clock)();
        self.vault.with(key, Some(version), |found| {
            let there = found.lock.retention.filter(|there| there.until > now);
            let refused = there.is_some_and(|there| retention.is_none_or(|wanted| self.vault.refuses(there, wanted)));
            if refused {
                return Err(Error::Locked { key: key.to_string(), until: there.map(|there| there.until) });
            }
            found.lock.retention = retention;
            Ok(())
        })
    }

    /// Takes a legal hold away, or puts one: whoever has the right can do both.
    pub fn set_legal_hold(&self, key: &Key, version: &VersionId, held: bool) -> Result<()> {
        self.vault.with(key, Some(version), |found| {
            found.lock.legal_hold = held;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    /// A vault whose clock stands where the test puts it.
    fn vault() -> (VaultStore, impl Fn(i64)) {
        let now = Arc::new(Mutex::new(at(0)));
        let shown = Arc::clone(&now);
        (VaultStore::new(Arc::new(move || *shown.lock().unwrap())), move |second| *now.lock().unwrap() = at(second))
    }

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    fn until(mode: LockMode, second: i64) -> Retention {
        Retention { mode, until: at(second) }
    }

    #[tokio::test]
    async fn it_passes_the_contract() {
        crate::suite::run(&VaultStore::new(Arc::new(Timestamp::now))).await;
    }

    #[tokio::test]
    async fn what_a_thief_does_hides_nothing_and_removes_nothing() {
        let (vault, _) = vault();
        let key = key("packs/one");
        let retention = Some(until(LockMode::Compliance, 100));
        let version = vault.put_locked(&key, Bytes::from_static(b"ours"), retention).await.unwrap().version.unwrap();
        let thief = vault.thief();
        thief.overwrite(&key, Bytes::from_static(b"theirs"));
        thief.delete_marker(&key);
        let locked =
            |answer: Result<()>| matches!(answer, Err(Error::Locked { until: Some(until), .. }) if until == at(100));
        assert!(locked(thief.delete_version(&key, &version)));
        assert!(locked(thief.set_retention(&key, &version, None)));
        assert!(locked(thief.set_retention(&key, &version, Some(until(LockMode::Compliance, 99)))));
        assert!(locked(thief.set_retention(&key, &version, Some(until(LockMode::Governance, 200)))));
        assert_eq!(vault.get(&key, Some(&version), None).await.unwrap(), "ours");
        assert!(matches!(vault.get(&key, None, None).await, Err(Error::NotFound { .. })), "the marker hides it");
        let listed: Vec<_> = vault.list("").collect().await;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].as_ref().unwrap().version.as_ref(), Some(&version), "the first version is listed");
        let shape: Vec<_> = vault.versions_of(&key).iter().map(|v| (v.latest, v.delete_marker)).collect();
        assert_eq!(shape, [(true, true), (false, false), (false, false)]);
        assert_eq!(vault.snapshot(), Snapshot { keys: 1, versions: 2, markers: 1, bytes: 10, locked: 1 });
    }

    #[tokio::test]
    async fn locks_end_and_are_only_ever_extended() {
        let (vault, set) = vault();
        let key = key("packs/one");
        let retention = Some(until(LockMode::Governance, 100));
        let version = vault.put_locked(&key, Bytes::new(), retention).await.unwrap().version;
        let state = async || vault.lock_state(&key, version.as_ref()).await.unwrap().retention.unwrap();
        for (asked, then) in [
            (until(LockMode::Governance, 50), until(LockMode::Governance, 100)),
            (until(LockMode::Compliance, 50), until(LockMode::Compliance, 100)),
            (until(LockMode::Governance, 200), until(LockMode::Compliance, 200)),
        ] {
            vault.extend_lock(&key, version.as_ref(), asked).await.unwrap();
            assert_eq!(state().await, then);
        }
        set(199);
        assert!(matches!(vault.delete(&key, version.as_ref()).await, Err(Error::Locked { .. })));
        vault.set_legal_hold(&key, version.as_ref(), true).await.unwrap();
        set(201);
        assert!(matches!(vault.delete(&key, version.as_ref()).await, Err(Error::Locked { until: None, .. })));
        vault.set_legal_hold(&key, version.as_ref(), false).await.unwrap();
        vault.delete(&key, version.as_ref()).await.unwrap();
        assert_eq!(vault.snapshot(), Snapshot::default());
        assert!(vault.put_locked(&key, Bytes::new(), retention).await.is_err(), "a lock that has ended is no lock");
    }

    #[tokio::test]
    async fn a_default_retention_yields_to_an_explicit_one() {
        let (vault, set) = vault();
        let vault = vault.with_default_retention(LockMode::Compliance, Duration::from_secs(1000));
        let plain = vault.put(&key("plain"), Bytes::new()).await.unwrap().version;
        let brief = Some(until(LockMode::Governance, 5));
        let lease = vault.put_locked(&key("lease"), Bytes::new(), brief).await.unwrap().version;
        set(6);
        vault.delete(&key("lease"), lease.as_ref()).await.unwrap();
        assert!(matches!(vault.delete(&key("plain"), plain.as_ref()).await, Err(Error::Locked { .. })));
    }
}
