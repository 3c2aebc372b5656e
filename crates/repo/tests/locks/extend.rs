//! What is written is locked at once; what is reused is extended first.

use lifeboat_model::retention::LockMode;
use lifeboat_repo::Error;
use lifeboat_store::fault::{Fault, FaultStore, Operation, Rule};

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_point_names_is_locked_to_its_end() {
    let world = World::new();
    let first = world.backup(&files(5)).await.unwrap();
    world.assert_locked(&first).await;
    let end = first.header.retain_until.unwrap();
    let days = end.duration_since(first.header.finished).as_secs();
    assert!((30 * DAY..30 * DAY + 3600).contains(&days), "{days} s");
    assert_eq!(first.header.lock_mode, Some(LockMode::Compliance));

    world.clock.advance(10 * DAY);
    let second = world.backup(&files(6)).await.unwrap();
    assert!(second.header.retain_until > first.header.retain_until);
    let shared = |point: &lifeboat_repo::point::Point| {
        point.header.objects.iter().filter(|o| o.key.as_str().contains("/packs/")).count()
    };
    assert!(shared(&second) > shared(&first), "the second has the first one's pack and one of its own");
    world.assert_locked(&second).await;
    world.assert_locked(&first).await;
    assert_eq!(world.restore(&second).await, files(6));
    assert_eq!(world.latest().await.unwrap().header, second.header);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_is_locked_by_the_put_that_makes_it() {
    let world = World::new();
    // Nothing can be extended: what is locked was put so.
    world.repo().await;
    world.faults.add(Rule::on(Operation::ExtendLock, Fault::Refuse).and_ever_after());
    world.backup(&files(3)).await.unwrap_err();
    let mut seen = 0;
    for key in world.stored(ROOT).await.into_iter().filter(|key| !key.as_str().contains("/lease/")) {
        let until = world.locked_until(&key, None).await;
        let least = world.clock.now() + std::time::Duration::from_secs(29 * DAY as u64);
        assert!(until > Some((least, LockMode::Governance)), "{key}: {until:?}");
        seen += 1;
    }
    assert!(seen >= 4, "key, pack, index, tree, WAL: {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_extension_and_point_leaves_longer_locks_and_nothing_else() {
    let world = World::new();
    let first = world.backup(&files(5)).await.unwrap();
    world.clock.advance(10 * DAY);
    world.faults.add(Rule::on(Operation::Put, Fault::FailBefore).key("/points/"));
    world.backup(&files(5)).await.unwrap_err();
    let due = world.clock.now() + std::time::Duration::from_secs(29 * DAY as u64);
    for object in first.header.objects.iter().filter(|object| object.key.as_str().contains("/packs/")) {
        let until = world.locked_until(&object.key, object.version.as_ref()).await.unwrap().0;
        assert!(until > due, "{} was not extended before the point: {until}", object.key);
    }
    assert_eq!(world.latest().await.unwrap().header, first.header);
    let next = world.backup(&files(5)).await.unwrap();
    world.assert_locked(&next).await;
    assert_eq!(world.restore(&next).await, files(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_promised_already_costs_no_request() {
    let world = World::new();
    world.backup(&files(5)).await.unwrap();
    let before = world.faults.count(Operation::ExtendLock, "/packs/");
    let again = world.backup(&files(5)).await.unwrap();
    // The clock of the test stands within one hour, so that both ask for the same end.
    assert_eq!(world.faults.count(Operation::ExtendLock, "/packs/"), before);
    world.assert_locked(&again).await;
    world.clock.advance(DAY);
    let later = world.backup(&files(5)).await.unwrap();
    assert_eq!(world.faults.count(Operation::ExtendLock, "/packs/"), before + 1);
    world.assert_locked(&later).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weaker_promise_is_not_relied_upon() {
    let mut world = World::new();
    world.mode = LockMode::Governance;
    world.assert_locked(&world.backup(&files(5)).await.unwrap()).await;
    world.mode = LockMode::Compliance;
    world.assert_locked(&world.backup(&files(5)).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_extended_ends_the_backup_with_its_name() {
    for (fault, words) in [(Fault::Refuse, "repo policy"), (Fault::Missing, "gone"), (Fault::FailBefore, "again")] {
        let world = World::new();
        let first = world.backup(&files(5)).await.unwrap();
        world.clock.advance(DAY);
        world.faults.add(Rule::on(Operation::ExtendLock, fault.clone()).key("/packs/").and_ever_after());
        let error = world.backup(&files(5)).await.unwrap_err();
        let pack = first.header.objects.iter().find(|object| object.key.as_str().contains("/packs/")).unwrap();
        let text = error.to_string();
        assert!(matches!(error, Error::Unextendable { .. }), "{text}");
        assert!(text.contains(pack.key.as_str()) && text.contains(words), "{text}");
        assert_eq!(error.is_transient(), fault != Fault::Refuse, "{text}");
        assert_eq!(world.latest().await.unwrap().header, first.header, "no point was written");
        world.faults.heal();
        world.assert_locked(&world.backup(&files(5)).await.unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_locks_nothing_is_locked_and_nothing_promised() {
    let world = World::new();
    let point = world.backup_into(world.repo().await.with_locks(None), &files(2)).await.unwrap();
    assert_eq!((point.header.retain_until, point.header.lock_mode), (None, None));
    assert!(point.header.objects.iter().all(|object| object.retain_until.is_none()));
    assert_eq!(world.vault.snapshot().locked, 0);
    assert_eq!(world.faults.count(Operation::ExtendLock, ""), 0);
    let json = serde_json::to_string(&point.header).unwrap();
    assert!(!json.contains("retain_until") && !json.contains("lock_mode"), "the bytes are those of earlier releases");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_locks_is_refused_before_anything_is_written() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let store = lifeboat_store::local::LocalStore::open(folder.path(), true).unwrap();
    let store = FaultStore::new(std::sync::Arc::new(store));
    let repository = world.repository(std::sync::Arc::new(store.clone())).await;
    let repo = repository.instance(&tenant(), &"clinic".parse().unwrap()).with_locks(Some(world.locks()));
    let error = world.backup_into(repo, &files(1)).await.unwrap_err();
    assert!(matches!(error, Error::Store(lifeboat_store::Error::NoLocks { .. })), "{error}");
    assert_eq!(store.count(Operation::Put, ROOT), 0, "not even a lease");
}
