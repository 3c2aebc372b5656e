//! Two prefixes of a real bucket with versions and object lock. Needs the testbed (LIFEBOAT_TESTBED=1).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use lifeboat_model::{id::RepositoryId, retention::LockMode};
use lifeboat_repo::{
    copy::{self, CopyOptions},
    locks::Locks,
    progress::Silent,
    repository::Repository,
};
use lifeboat_store::SharedStore;
use lifeboat_testkit::{bucket, testbed};

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn from_one_prefix_to_another_locked_and_attacked() {
    if !testbed::enabled() {
        return;
    }
    let world = World::new();
    let near: SharedStore = Arc::new(bucket::store("copy-near").await);
    let far: SharedStore = Arc::new(bucket::store("copy-far").await);
    let primary = Repository::init(near.clone(), RepositoryId([1; 16]), Timestamp::now()).await.unwrap();
    let from = primary.instance(&tenant(), &instance());
    world.backup_to(from.clone(), &first()).await;
    world.backup_to(from.clone(), &second()).await;
    let replica = Repository::init_replica(far.clone(), &primary).await.unwrap();
    let seconds = Duration::from_secs(20);
    let locks = Locks {
        mode: LockMode::Governance,
        clock: Arc::new(Timestamp::now),
        minimum: seconds,
        segment: seconds,
        slice: seconds,
        evidence: seconds,
        point_end: Arc::new(|_| Timestamp::now() + SignedDuration::from_secs(20)),
    };
    let to = replica.instance(&tenant(), &instance()).with_locks(Some(locks));
    let options = CopyOptions::everything("lifeboat test", Timestamp::now());
    let trusted = [world.signing.public()];
    let report = copy::run(&from, &to, &options, &trusted, Arc::new(Silent)).await.unwrap();
    assert_eq!((report.copied.len(), report.problems.len()), (2, 0));
    let again = copy::run(&from, &to, &options, &trusted, Arc::new(Silent)).await.unwrap();
    assert_eq!((again.objects, again.there), (0, 2));

    // The first prefix is emptied, and every key of the copy is written over.
    for store in [&near] {
        let listed: Vec<_> = store.list("").try_collect().await.unwrap();
        for info in listed {
            store.delete(&info.key, info.version.as_ref()).await.unwrap();
        }
    }
    let listed: Vec<_> = far.list(ROOT).try_collect().await.unwrap();
    for info in &listed {
        far.put(&info.key, Bytes::from_static(b"ransom")).await.unwrap();
    }
    let replica = Repository::open(far).await.unwrap().instance(&tenant(), &instance());
    assert_eq!(world.assert_restores(&replica).await, 2);
}
