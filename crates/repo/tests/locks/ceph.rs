//! The same on a real server, where the testbed is up.

use std::{sync::Arc, time::Duration};

use lifeboat_model::{
    id::{RepositoryId, Tenant},
    retention::LockMode,
};
use lifeboat_repo::{locks::Locks, point::PointSelector, repository::Repository};
use lifeboat_store::SharedStore;
use lifeboat_testkit::{bucket, testbed};

use crate::world::*;

/// Short and by governance, so that nothing stays.
fn locks(clock: lifeboat_repo::writer::Clock) -> Locks {
    let short = Duration::from_secs(60);
    Locks {
        mode: LockMode::Governance,
        clock,
        minimum: short,
        segment: short,
        slice: short,
        evidence: short,
        point_end: Arc::new(|finished| finished + Duration::from_secs(90)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_on_ceph_is_locked_and_its_lock_is_extended_before_reuse() {
    if !testbed::enabled() {
        return;
    }
    let store: SharedStore = Arc::new(bucket::store("repo-locks").await);
    assert!(store.capabilities().locks && store.capabilities().versions, "the testbed's bucket has object lock");
    // The writer's clock is the server's; of this host's only the seconds that pass are used.
    let (server, began) = (store.clock().await.unwrap(), std::time::Instant::now());
    let clock: lifeboat_repo::writer::Clock = Arc::new(move || server + began.elapsed());
    let tenant: Tenant = tenant();
    let repository = Repository::init(store.clone(), RepositoryId([1; 16]), server).await.unwrap();
    let repo = repository.instance(&tenant, &"clinic".parse().unwrap()).with_locks(Some(locks(clock.clone())));
    let world = World::new();

    let mut ends = Vec::new();
    for round in 0..2 {
        let options = lifeboat_repo::writer::WriterOptions { clock: clock.clone(), ..world.options() };
        let begun = lifeboat_repo::writer::Writer::begin(repo.clone(), world.keys(), options, world.tally.clone());
        let mut writer = begun.await.unwrap();
        world.write(&mut writer, &files(3 + round)).await.unwrap();
        let point = world.commit(writer).await.unwrap();
        let end = point.header.retain_until.unwrap();
        for object in &point.header.objects {
            assert!(object.version.is_some(), "{}", object.key);
            let state = store.lock_state(&object.key, object.version.as_ref()).await.unwrap();
            assert!(state.retention.is_some_and(|retention| retention.until >= end), "{}: {state:?}", object.key);
            store.delete(&object.key, object.version.as_ref()).await.unwrap_err();
        }
        let state = store.lock_state(&point.key, point.version.as_ref()).await.unwrap();
        assert!(state.retention.is_some_and(|retention| retention.until >= end), "{state:?}");
        ends.push(end);
        // Locks of a minute end at whole minutes: the next point's end is a later one.
        tokio::time::sleep(Duration::from_secs(if round == 0 { 61 } else { 0 })).await;
    }
    assert!(ends[1] > ends[0], "{ends:?}");
    let latest = repo.find_point(&PointSelector::Latest, &[world.signing.public()]).await.unwrap();
    assert_eq!(latest.header.retain_until, Some(ends[1]));
    assert_eq!(repo.list_points().await.unwrap().len(), 2);
}
