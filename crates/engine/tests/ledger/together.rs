//! Two hosts that append at the same time never fork the log.

use std::{
    ops::Range,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, future::join_all, stream::BoxStream};
use jiff::Timestamp;
use lifeboat_repo::repository::Repository;
use lifeboat_store::{
    Capabilities, Key, LockState, ObjectInfo, Result, Retention, SharedStore, Store, Stored, VersionId, VersionInfo,
    local::LocalStore,
};

use crate::world::*;

/// A store whose calls each wait for a number of turns that a seed decides: another interleaving for each.
#[derive(Debug, Clone)]
struct Shuffled {
    inner: SharedStore,
    random: Arc<Mutex<u64>>,
}

impl Shuffled {
    async fn turn(&self) {
        let turns = {
            let mut state = self.random.lock().unwrap();
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 33) % 7
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Store for Shuffled {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn put_locked(&self, key: &Key, bytes: Bytes, retention: Option<Retention>) -> Result<Stored> {
        self.turn().await;
        let stored = self.inner.put_locked(key, bytes, retention).await;
        self.turn().await;
        stored
    }
    async fn get(&self, key: &Key, version: Option<&VersionId>, range: Option<Range<u64>>) -> Result<Bytes> {
        self.turn().await;
        self.inner.get(key, version, range).await
    }
    async fn head(&self, key: &Key, version: Option<&VersionId>) -> Result<ObjectInfo> {
        self.turn().await;
        self.inner.head(key, version).await
    }
    fn list_from(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>> {
        let (store, prefix, after) = (self.clone(), prefix.to_owned(), after.to_owned());
        let begin = async move {
            store.turn().await;
            store.inner.list_from(&prefix, &after)
        };
        futures::stream::once(begin).flatten().boxed()
    }
    fn list_versions(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<VersionInfo>> {
        self.inner.list_versions(prefix, after)
    }
    async fn delete(&self, key: &Key, version: Option<&VersionId>) -> Result<()> {
        self.inner.delete(key, version).await
    }
    async fn lock_state(&self, key: &Key, version: Option<&VersionId>) -> Result<LockState> {
        self.inner.lock_state(key, version).await
    }
    async fn extend_lock(&self, key: &Key, version: Option<&VersionId>, retention: Retention) -> Result<()> {
        self.inner.extend_lock(key, version, retention).await
    }
    async fn clock(&self) -> Result<Timestamp> {
        self.inner.clock().await
    }
}

#[tokio::test]
async fn no_interleaving_of_three_hosts_forks_the_log() {
    let mut lost = 0;
    for seed in 0..60 {
        let clock = TestClock::begin();
        let bucket = vault(&clock);
        let store = Shuffled { inner: Arc::new(bucket.clone()), random: Arc::new(Mutex::new(seed)) };
        let mut hosts = Vec::new();
        for number in 1..=3 {
            hosts.push(Host::over(Arc::new(store.clone()), number, &clock, LOCK).await);
        }
        if seed % 2 == 0 {
            hosts[0].kept(1000).await;
        }
        let work = hosts.iter().zip(0_u64..).map(|(host, number)| async move {
            for run in 0..4 {
                let place = host.kept(number * 10 + run).await;
                assert!(place.size > place.index);
            }
        });
        join_all(work).await;
        let log = hosts[0].log().await;
        let wanted: Vec<u64> = (0..3).flat_map(|host| (0..4).map(move |run| host * 10 + run)).collect();
        let wanted: Vec<u64> = wanted.into_iter().chain((seed % 2 == 0).then_some(1000)).collect();
        assert_eq!(log.set(), wanted, "seed {seed}");
        assert!(log.entries.iter().all(Option::is_some), "seed {seed}");
        let slots: usize = (0..log.leaves.len()).map(|index| usize::from(versions(&bucket, index as u64) > 1)).sum();
        lost += slots;
        // The log goes on from there, also for somebody who remembers nothing.
        hosts[1].forget();
        assert_eq!(hosts[1].kept(2000).await.size as usize, log.leaves.len() + 1, "seed {seed}");
    }
    assert!(lost > 100, "they did meet: {lost} slots were put by more than one host");
}

fn versions(bucket: &lifeboat_store::vault::VaultStore, index: u64) -> usize {
    bucket.versions_of(&slot(index)).len()
}

const ROOT: &str = "LIFEBOAT_TEST_LEDGER_ROOT";
const NUMBER: &str = "LIFEBOAT_TEST_LEDGER_HOST";
const EACH: u64 = 25;

async fn directory(root: &std::path::Path) -> Repository {
    let store = LocalStore::open(root, true).unwrap();
    Repository::init(Arc::new(store), ID, Timestamp::now()).await.unwrap()
}

/// One of the processes below.
#[tokio::test]
async fn appending_process() {
    let (Ok(root), Ok(number)) = (std::env::var(ROOT), std::env::var(NUMBER)) else { return };
    let number: u8 = number.parse().unwrap();
    let host = Host::of(directory(root.as_ref()).await, number, Arc::new(Timestamp::now), "");
    for run in 0..EACH {
        host.kept(u64::from(number) * 100 + run).await;
    }
}

#[tokio::test]
async fn two_processes_share_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("repository");
    let repository = directory(&root).await;
    let start = |number: u8| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "together::appending_process"])
            .env(ROOT, &root)
            .env(NUMBER, number.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut processes = [start(1), start(2)];
    for process in &mut processes {
        assert!(process.wait().unwrap().success());
    }
    let log = audit(&repository).await;
    let wanted: Vec<u64> = [100, 200].iter().flat_map(|first| (0..EACH).map(move |run| first + run)).collect();
    assert_eq!(log.set(), wanted);
    // Where both began with an empty log, both may have entered what the other had just put.
    assert!(log.leaves.len() <= wanted.len() + 2, "{:?}", log.runs());
}
