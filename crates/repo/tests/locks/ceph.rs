//! The same on a real server, where the testbed is up: locks are read back from it, and its owner turns thief.

use std::{sync::Arc, time::Duration};

use lifeboat_model::{id::RepositoryId, retention::LockMode};
use lifeboat_repo::{
    locks::Locks,
    point::{Point, PointSelector},
    progress::Counter,
    repository::{InstanceRepo, Repository},
    writer::{Clock, Writer, WriterOptions},
};
use lifeboat_store::{Error, SharedStore};
use lifeboat_testkit::{
    account::{Account, Who},
    bucket, testbed,
};

use crate::world::*;

/// Short and by governance, so that nothing stays.
fn locks(clock: Clock) -> Locks {
    let short = Duration::from_secs(60);
    Locks {
        mode: LockMode::Governance,
        clock,
        minimum: short,
        segment: short,
        slice: short,
        evidence: short,
        point_end: Arc::new(|finished| finished + Duration::from_secs(120)),
    }
}

struct Ceph {
    world: World,
    store: SharedStore,
    repo: InstanceRepo,
    clock: Clock,
    owner: Account,
    prefix: String,
}

impl Ceph {
    async fn new() -> Self {
        let prefix = bucket::random_prefix("repo-locks");
        let options = bucket::options(&prefix);
        let owner = Account::new(Who::Owner, &options.bucket);
        let store: SharedStore = Arc::new(bucket::connect(options).await);
        assert!(store.capabilities().locks && store.capabilities().versions, "the testbed's bucket has object lock");
        // The writer's clock is the server's; of this host's only the seconds that pass are used.
        let (server, began) = (store.clock().await.unwrap(), std::time::Instant::now());
        let clock: Clock = Arc::new(move || server + began.elapsed());
        let repository = Repository::init(store.clone(), RepositoryId([1; 16]), server).await.unwrap();
        let repo = repository.instance(&tenant(), &"clinic".parse().unwrap()).with_locks(Some(locks(clock.clone())));
        Ceph { world: World::new(), store, repo, clock, owner, prefix }
    }

    async fn backup(&self, count: u64) -> Point {
        let options = WriterOptions { clock: self.clock.clone(), ..self.world.options() };
        let begun = Writer::begin(self.repo.clone(), self.world.keys(), options, self.world.tally.clone());
        let mut writer = begun.await.unwrap();
        self.world.write(&mut writer, &files(count)).await.unwrap();
        self.world.commit(writer).await.unwrap()
    }

    async fn latest(&self) -> Point {
        self.repo.find_point(&PointSelector::Latest, &[self.world.signing.public()]).await.unwrap()
    }

    /// Reads back that all is locked to the point's end, and tries to delete it.
    async fn assert_locked(&self, point: &Point) {
        let end = point.header.retain_until.unwrap();
        let named = point.header.objects.iter().map(|object| (&object.key, object.version.as_ref()));
        for (key, version) in named.chain([(&point.key, point.version.as_ref())]) {
            assert!(version.is_some(), "{key}");
            let state = self.store.lock_state(key, version).await.unwrap();
            assert!(state.retention.is_some_and(|retention| retention.until >= end), "{key}: {state:?}");
            let deleted = self.store.delete(key, version).await.unwrap_err();
            assert!(matches!(deleted, Error::Locked { .. } | Error::Denied { .. }), "{key}: {deleted}");
        }
    }

    /// Garbage and then a delete marker over every key.
    async fn attack(&self) -> usize {
        let mut keys: Vec<String> =
            self.owner.versions(&self.prefix).await.into_iter().map(|version| version.key).collect();
        keys.dedup();
        for key in &keys {
            self.owner.put(key, b"{\"pay\": \"us\"}".to_vec()).await.unwrap();
            self.owner.hide(key).await.unwrap();
        }
        keys.len()
    }

    /// Removes everything, as only the owner can, so that nothing stays on the testbed.
    async fn remove(&self) {
        for version in self.owner.versions(&self.prefix).await {
            self.owner.delete_version(&version.key, &version.version, true).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_is_locked_its_lock_extended_before_reuse_and_a_thief_changes_nothing() {
    if !testbed::enabled() {
        return;
    }
    let ceph = Ceph::new().await;
    let first = ceph.backup(3).await;
    ceph.assert_locked(&first).await;
    // Locks of a minute end at whole minutes: the next point's end is a later one.
    tokio::time::sleep(Duration::from_secs(61)).await;
    let second = ceph.backup(4).await;
    assert!(second.header.retain_until > first.header.retain_until);
    ceph.assert_locked(&second).await;
    assert_eq!(ceph.latest().await.header, second.header);

    let (points, attacked) = (ceph.repo.list_points().await.unwrap(), ceph.attack().await);
    assert!(attacked >= 10, "{attacked}");
    assert_eq!(ceph.repo.list_points().await.unwrap(), points);
    let reopened = Repository::open(ceph.store.clone()).await.unwrap();
    assert_eq!(reopened.id(), RepositoryId([1; 16]));
    let latest = ceph.latest().await;
    assert_eq!((&latest.header, latest.skipped.len()), (&second.header, 0));
    assert_eq!(ceph.world.restore_from(ceph.repo.clone(), &latest).await, files(4));

    let stored = ceph.world.tally.get(Counter::NewBytes);
    let next = ceph.backup(5).await;
    assert_eq!(ceph.world.tally.get(Counter::NewBytes) - stored, 20_000, "one new file");
    ceph.assert_locked(&next).await;
    assert_eq!(ceph.world.restore_from(ceph.repo.clone(), &next).await, files(5));
    ceph.remove().await;
}
