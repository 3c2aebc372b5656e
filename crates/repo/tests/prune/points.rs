//! Points that cannot be read, that are not ours, or that came meanwhile: nothing goes that any of them could need.

use std::sync::Arc;

use lifeboat_model::{id::PointId, signature::SigningKey};
use lifeboat_repo::{Error, point::Point, prune::Fate, reach::Needs};
use lifeboat_store::{
    Key, Store as _,
    fault::{Fault, FaultStore, Operation, Rule},
};

use crate::world::*;

/// Three points, each with a pack of its own; the first is not kept.
async fn three() -> (World, [Point; 3], Needs) {
    let world = World::new(no_locks());
    let mut points = Vec::new();
    for n in 0..3 {
        points.push(world.backup(&files(n), stream(SEGMENT * (n + 1))).await);
        world.store_clock.advance(HOUR);
    }
    world.store_clock.advance(2 * HOUR);
    let needs = keep(&[&points[1], &points[2]], &[&points[0]]);
    (world, points.try_into().unwrap(), needs)
}

/// The prune ends with an error that has these words, and nothing was removed.
async fn assert_refused(world: &World, needs: &Needs, faults: Option<FaultStore>, words: &str) {
    let before = world.versions().await;
    let store = faults.map_or_else(|| world.store(), |faults| Arc::new(faults));
    let repo = world.repo_on(store).await.unwrap();
    let error = world.prune_with(&repo, needs, world.prune_options()).await.unwrap_err();
    assert!(error.to_string().contains(words), "{error}");
    assert!(world.versions().await == before, "{words}: something was removed");
}

/// The faults begin once the repository is open.
async fn faults(world: &World, rule: Rule) -> FaultStore {
    let faults = FaultStore::new(world.store());
    let calls = {
        world.repo_on(Arc::new(faults.clone())).await.unwrap();
        faults.calls()
    };
    assert!(calls.iter().all(|(_, key)| !key.contains("points/")), "opening reads no points: {calls:?}");
    faults.add(rule);
    faults
}

#[tokio::test]
async fn a_point_that_cannot_be_read_ends_the_run() {
    let (world, _, needs) = three().await;
    let get = |fault| Rule::on(Operation::Get, fault).key("points/");
    for (rule, words) in [
        (get(Fault::FailBefore), "did not succeed"),
        (get(Fault::FailBefore).nth(3), "did not succeed"),
        (get(Fault::FlipByte(500)), "does not tell what it needs"),
        (get(Fault::Truncate(500)), "does not tell what it needs"),
        (get(Fault::Missing).nth(2), "does not list it"),
        (Rule::on(Operation::ListVersions, Fault::Missing).key("points/"), "does not list it"),
        (Rule::on(Operation::ListVersions, Fault::Truncate(2)).key("points/"), "does not list it"),
        (Rule::on(Operation::ListVersions, Fault::FailBefore).key("points/"), "did not succeed"),
    ] {
        let faults = faults(&world, rule).await;
        assert_refused(&world, &needs, Some(faults), words).await;
    }
    let (report, _) = world.prune_with(&world.repo().await, &needs, world.prune_options()).await.unwrap();
    assert_eq!(report.points_removed.len(), 1, "without a fault it goes: {report:?}");
}

#[tokio::test]
async fn what_is_not_said_to_be_dropped_stays() {
    let (world, [first, second, third], _) = three().await;
    let needs = keep(&[&third], &[]);
    let (report, items) = world.prune_with(&world.repo().await, &needs, world.prune_options()).await.unwrap();
    assert_eq!((report.removed, report.points_kept), (0, 3), "{items:?}");
    for point in [&first, &second, &third] {
        world.assert_restores(point).await;
    }
    assert_refused(&world, &keep(&[], &[&first, &second, &third]), None, "keeps not a single point").await;
    let absent = Needs { points: [(PointId([7; 8]), world.now())].into(), ..needs };
    assert_refused(&world, &absent, None, "0707070707070707").await;
}

#[tokio::test]
async fn garbage_among_the_points_ends_the_run_until_a_person_has_looked() {
    let (world, [first, ..], needs) = three().await;
    let key = Key::new(format!("{ROOT}points/20270301T000000Z-0123456789abcdef")).unwrap();
    world.vault.put(&key, "nothing of the kind".into()).await.unwrap();
    let newer = world
        .forge(&first, &world.signing, |header| {
            header.features = vec!["sparse".into()];
            header.point = PointId([3; 8]);
        })
        .await;
    world.store_clock.advance(2 * HOUR);
    assert_refused(&world, &needs, None, "does not tell what it needs").await;
    let mut options = world.prune_options();
    options.disregard = [key.clone()].into();
    let error = world.prune_with(&world.repo().await, &needs, options.clone()).await.unwrap_err();
    assert!(matches!(&error, Error::Unreliable { object, .. } if *object == newer.to_string()), "{error}");
    options.disregard.insert(newer.clone());
    let (report, items) = world.prune_with(&world.repo().await, &needs, options).await.unwrap();
    assert_eq!((fate(&items, &key), fate(&items, &newer)), (&Fate::Removed, &Fate::Removed));
    assert!(report.points_removed.contains(&first.header.point));
    assert!(!world.names("points/").await.contains(&key.to_string()));
}

#[tokio::test]
async fn what_a_foreign_point_names_is_left_alone_until_it_is_disregarded() {
    let (world, [first, second, third], needs) = three().await;
    let own: Vec<Key> = first.header.objects.iter().map(|object| object.key.clone()).collect();
    // A genuine point whose key was forgotten in the configuration looks the same.
    let strange = SigningKey::from_seed(&[8; 32]);
    let forged = world.forge(&first, &strange, |header| header.point = PointId([1; 8])).await;
    // An old point copied to a newer name.
    let copied = Key::new(format!("{ROOT}points/20280101T000000Z-{}", second.header.point)).unwrap();
    let bytes = world.vault.get(&second.key, second.version.as_ref(), None).await.unwrap();
    world.vault.put(&copied, bytes).await.unwrap();
    world.store_clock.advance(2 * HOUR);
    let repo = world.repo().await;
    let (report, items) = world.prune_with(&repo, &needs, world.prune_options()).await.unwrap();
    assert_eq!(report.points_removed, [first.header.point]);
    let mut strange: Vec<&Key> = report.strange_points.iter().map(|(key, _)| key).collect();
    strange.sort();
    let mut expected = [&forged, &copied];
    expected.sort();
    assert_eq!(strange, expected);
    assert_eq!((fate(&items, &forged), fate(&items, &copied)), (&Fate::Foreign, &Fate::Foreign));
    for key in &own {
        assert!(!world.vault.versions_of(key).is_empty(), "{key} is named by an object that is not understood");
    }
    let mut options = world.prune_options();
    options.disregard = [forged, copied].into();
    world.prune_with(&repo, &needs, options).await.unwrap();
    let shared = |key: &&Key| [&second, &third].iter().any(|point| point.header.objects.iter().any(|o| o.key == **key));
    let (kept, gone): (Vec<&Key>, Vec<&Key>) = own.iter().partition(|key| shared(key));
    assert!(kept.iter().all(|key| !world.vault.versions_of(key).is_empty()));
    assert!(!gone.is_empty() && gone.iter().all(|key| world.vault.versions_of(key).is_empty()), "{gone:?}");
    world.assert_restores(&second).await;
    world.assert_restores(&third).await;
}

#[tokio::test]
async fn a_point_that_stays_against_policy_keeps_what_it_names() {
    let (world, [first, second, third], needs) = three().await;
    let repo = world.repo().await;
    world.vault.set_legal_hold(&first.key, first.version.as_ref(), true).await.unwrap();
    let (report, items) = world.prune_with(&repo, &needs, world.prune_options()).await.unwrap();
    assert_eq!((report.removed, report.held.objects, fate(&items, &first.key)), (0, 1, &Fate::Held));
    world.assert_restores(&first).await;
    world.vault.set_legal_hold(&first.key, first.version.as_ref(), false).await.unwrap();
    let until = lifeboat_model::retention::later(world.now(), std::time::Duration::from_secs(86_400));
    let lock = lifeboat_store::Retention { mode: lifeboat_model::retention::LockMode::Governance, until };
    world.vault.extend_lock(&first.key, first.version.as_ref(), lock).await.unwrap();
    let (report, items) = world.prune_with(&repo, &needs, world.prune_options()).await.unwrap();
    assert_eq!((report.removed, fate(&items, &first.key)), (0, &Fate::LockedUntil(until)));
    assert_eq!((report.locked_until, report.locked_bytes), (Some(until), report.locked.bytes));
    world.assert_restores(&first).await;
    world.store_clock.advance(DAY + 1);
    let (report, _) = world.prune_with(&repo, &needs, world.prune_options()).await.unwrap();
    assert_eq!(report.points_removed, [first.header.point]);
    world.assert_restores(&second).await;
    world.assert_restores(&third).await;
}

#[tokio::test]
async fn a_large_object_that_is_no_point_is_not_read_whole() {
    let (world, ..) = three().await;
    let faults = FaultStore::new(world.store());
    let repo = world.repo_on(Arc::new(faults.clone())).await.unwrap();
    let long = [b"LBPOINT1".as_slice(), &0x1fff_ffff_u32.to_le_bytes()].concat();
    for (start, words) in [(b"nothing of the kind".to_vec(), "start with LBPOINT1"), (long, "cut short")] {
        let key = Key::new(format!("{ROOT}points/20270301T000000Z-{:016x}", start.len())).unwrap();
        let mut bytes = start;
        bytes.resize(2 << 20, 7);
        world.vault.put(&key, bytes.into()).await.unwrap();
        let listed = repo.list_points().await.unwrap();
        let reference = listed.iter().find(|point| point.key == key).unwrap();
        let error = repo.read_point(reference, &world.trusted()).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(faults.count(Operation::Get, key.as_str()), 1, "its first bytes alone");
    }
}
