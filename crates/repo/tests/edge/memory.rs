//! A store in memory with versions and a clock of its own. Like some real servers it overwrites without a word.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use lifeboat_store::{Error, Key, ObjectInfo, Result, Retention, Store, Stored, VersionId};

#[derive(Debug, Clone)]
struct Version {
    id: VersionId,
    bytes: Bytes,
    modified: Timestamp,
}

#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<String, Vec<Version>>>>,
    clock: Arc<AtomicI64>,
    serial: Arc<AtomicI64>,
}

impl MemoryStore {
    /// Lets the store's clock run ahead.
    pub fn advance(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + self.clock.load(Ordering::SeqCst)).unwrap()
    }

    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.objects.lock().unwrap().keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// An exact copy, on its own from now on.
    pub fn fork(&self) -> MemoryStore {
        let objects = Arc::new(Mutex::new(self.objects.lock().unwrap().clone()));
        MemoryStore { objects, clock: Arc::new(AtomicI64::new(self.clock.load(Ordering::SeqCst))), ..self.clone() }
    }

    /// Changes an object's newest version behind everybody's back.
    pub fn tamper(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut objects = self.objects.lock().unwrap();
        let version = objects.get_mut(key).unwrap().last_mut().unwrap();
        let mut bytes = version.bytes.to_vec();
        change(&mut bytes);
        version.bytes = bytes.into();
    }

    /// Removes an object with all its versions.
    pub fn remove(&self, key: &str) {
        self.objects.lock().unwrap().remove(key).unwrap();
    }

    pub fn size(&self, prefix: &str) -> u64 {
        let objects = self.objects.lock().unwrap();
        let sizes = objects.iter().filter(|(key, _)| key.starts_with(prefix));
        sizes.map(|(_, versions)| versions.last().unwrap().bytes.len() as u64).sum()
    }

    fn find(&self, key: &Key, version: Option<&VersionId>) -> Result<Version> {
        let objects = self.objects.lock().unwrap();
        let versions = objects.get(key.as_str()).map_or(&[][..], Vec::as_slice);
        let found = versions.iter().rfind(|found| version.is_none_or(|wanted| *wanted == found.id));
        found.cloned().ok_or_else(|| Error::NotFound { key: key.to_string() })
    }
}

fn info(key: &str, version: &Version) -> ObjectInfo {
    let (key, len) = (Key::new(key).unwrap(), version.bytes.len() as u64);
    ObjectInfo { key, len, version: Some(version.id.clone()), modified: version.modified }
}

#[async_trait]
impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory".into()
    }

    async fn put_locked(&self, key: &Key, bytes: Bytes, _: Option<Retention>) -> Result<Stored> {
        let id = VersionId(format!("v{}", self.serial.fetch_add(1, Ordering::SeqCst)));
        let version = Version { id: id.clone(), bytes, modified: self.now() };
        self.objects.lock().unwrap().entry(key.to_string()).or_default().push(version);
        Ok(Stored { version: Some(id) })
    }

    async fn get(&self, key: &Key, version: Option<&VersionId>, range: Option<Range<u64>>) -> Result<Bytes> {
        let bytes = self.find(key, version)?.bytes;
        let range = range.unwrap_or(0..bytes.len() as u64);
        if range.end > bytes.len() as u64 || range.start > range.end {
            return Err(Error::Damaged { key: key.to_string(), reason: format!("{range:?} of {}", bytes.len()) });
        }
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    async fn head(&self, key: &Key, version: Option<&VersionId>) -> Result<ObjectInfo> {
        Ok(info(key.as_str(), &self.find(key, version)?))
    }

    fn list_from(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>> {
        let objects = self.objects.lock().unwrap();
        let fitting = objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
        let list: Vec<_> = fitting.map(|(key, versions)| Ok(info(key, versions.last().unwrap()))).collect();
        futures::stream::iter(list).boxed()
    }

    async fn clock(&self) -> Result<jiff::Timestamp> {
        Ok(self.now())
    }

    async fn delete(&self, key: &Key, version: Option<&VersionId>) -> Result<()> {
        let mut objects = self.objects.lock().unwrap();
        if let Some(versions) = objects.get_mut(key.as_str()) {
            match version {
                Some(wanted) => versions.retain(|found| found.id != *wanted),
                None => versions.clear(),
            }
            if versions.is_empty() {
                objects.remove(key.as_str());
            }
        }
        Ok(())
    }
}
