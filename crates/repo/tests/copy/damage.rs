//! What is damaged or forged at the primary stays there, and is named.

use std::sync::Arc;

use lifeboat_model::signature::SigningKey;
use lifeboat_repo::{
    copy::Side,
    point::{ObjectKind, Point},
    repository::Repository,
    wal::{WalObjectKind, WalWriter},
};
use lifeboat_store::{
    Store as _,
    fault::{Fault, Operation, Rule},
};

use crate::world::*;

/// An object of this kind that only the newer point names.
fn own(older: &Point, newer: &Point, kind: ObjectKind) -> String {
    let shared = |key: &lifeboat_store::Key| older.header.objects.iter().any(|object| object.key == *key);
    let own = newer.header.objects.iter().find(|object| object.kind == kind && !shared(&object.key));
    own.unwrap().key.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_object_is_named_and_its_points_stay_out() {
    let mut world = World::new();
    let (older, newer) = world.fill().await;
    for kind in [ObjectKind::Pack, ObjectKind::Tree, ObjectKind::Wal] {
        for fault in [Fault::FlipByte(100), Fault::Truncate(10), Fault::Missing] {
            let what = format!("{kind:?}, {fault:?}");
            world = world.elsewhere();
            let key = own(&older, &newer, kind);
            world.from.add(Rule::on(Operation::Get, fault).key(&key).and_ever_after());
            let report = world.copy().await.unwrap();
            let [problem] = report.problems.as_slice() else { panic!("{what}: {:?}", report.problems) };
            assert_eq!((problem.side, problem.key.as_str()), (Side::Source, key.as_str()), "{what}");
            assert_eq!(problem.points, [newer.header.point], "{what}");
            let copied: Vec<_> = report.copied.iter().map(|point| point.id).collect();
            assert_eq!(copied, [older.header.point], "{what}");
            assert!(!versions(&world.offsite).contains_key(&key), "{what}");
            assert_eq!(world.assert_restores(&world.replica().await).await, 1);
            // Once it is whole again, the point follows.
            world.from.heal();
            let report = world.copy().await.unwrap();
            assert_eq!((report.copied.len(), report.problems.len()), (1, 0), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_object_keeps_out_every_point_that_needs_it() {
    let world = World::new();
    let (older, newer) = world.fill().await;
    let shared = older.header.objects.iter().find(|object| object.kind == ObjectKind::Pack).unwrap();
    assert!(newer.header.objects.iter().any(|object| object.key == shared.key));
    world.from.add(Rule::on(Operation::Get, Fault::FlipByte(9)).key(shared.key.as_str()).and_ever_after());
    let report = world.copy().await.unwrap();
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].points, [newer.header.point, older.header.point]);
    assert_eq!(report.copied, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_points_and_wal_are_not_copied() {
    let world = World::new();
    world.fill().await;
    let stranger = World { signing: SigningKey::from_seed(&[6; 32]), ..World::new() };
    let forging = World { primary: world.primary.clone(), time: world.time.clone(), ..stranger };
    let forged = forging.backup(&first()).await;
    let repo = forging.source().await;
    let writer = WalWriter::new(repo, vec![world.recovery.recipient()], forging.signing.clone(), 1);
    let first = lifeboat_model::lsn::Lsn(SEGMENT + 700);
    let put = writer.put(WalObjectKind::Slice, SYSTEM, 1, SEGMENT, first, wal(first.0, first.0 + 100), None);
    let slice = put.await.unwrap();
    let report = world.copy().await.unwrap();
    let named: Vec<_> = report.problems.iter().map(|problem| problem.key.clone()).collect();
    assert_eq!(named.len(), 3, "{named:?}");
    assert!(named[0].as_str().contains("/index/"), "the forger's index as well: {named:?}");
    assert_eq!(named[1..], [forged.key.clone(), slice.key]);
    assert!(report.problems.iter().all(|problem| problem.what.contains("keys.trusted_keys")), "{report:?}");
    assert_eq!(report.wal[0].copy, first, "the copy's WAL ends where the true one does");
    assert!(!versions(&world.offsite).contains_key(forged.key.as_str()));
    assert_eq!(world.assert_restores(&world.replica().await).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_stand_in_for_a_damaged_segment() {
    let world = World::new();
    world.fill().await;
    world.from.add(Rule::on(Operation::Get, Fault::FlipByte(5000)).key("/segment/").and_ever_after());
    let report = world.copy().await.unwrap();
    assert_eq!(report.problems.len(), 1);
    assert_eq!((report.wal_objects, report.copied.len()), (3, 2), "all three slices");
    assert_eq!(report.wal[0].copy, report.wal[0].source);
    let slices = versions(&world.offsite).into_keys().filter(|key| key.contains("/slice/")).count();
    assert_eq!(slices, 3);
    assert!(world.stream(&world.replica().await).await == wal(0, SEGMENT + 700));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_copy_with_other_bytes_is_told() {
    let world = World::new();
    let (older, newer) = world.fill().await;
    let primary = Repository::open(Arc::new(world.primary.clone())).await.unwrap();
    Repository::init_replica(Arc::new(world.offsite.clone()), &primary).await.unwrap();
    let key = lifeboat_store::Key::new(own(&older, &newer, ObjectKind::Pack)).unwrap();
    world.offsite.put(&key, bytes::Bytes::from_static(b"somebody was here before")).await.unwrap();
    let report = world.copy().await.unwrap();
    assert_eq!((report.problems.len(), report.problems[0].side), (1, Side::Copy));
    assert!(report.problems[0].what.starts_with("it has 24 bytes"), "{:?}", report.problems);
    assert_eq!(report.copied.iter().map(|point| point.id).collect::<Vec<_>>(), [older.header.point]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_puts_there_is_not_read_into_memory() {
    let world = World::new();
    world.fill().await;
    let id = "ab".repeat(16);
    let names = [
        format!("{ROOT}wal/{SYSTEM}/00000001/slice/{:016x}-{:016x}-{id}", SEGMENT + 700, SEGMENT + 800),
        format!("{ROOT}index/{id}"),
    ];
    for name in &names {
        let key = lifeboat_store::Key::new(name.as_str()).unwrap();
        world.primary.put(&key, vec![0; 73 << 20].into()).await.unwrap();
    }
    let report = world.copy().await.unwrap();
    let named: Vec<&str> = report.problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(named, [&names[1], &names[0]]);
    assert!(report.problems.iter().all(|problem| problem.what.contains("no object of its kind has so many")));
    assert_eq!((world.from.count(Operation::Get, &names[0]), report.copied.len()), (0, 2));
}
