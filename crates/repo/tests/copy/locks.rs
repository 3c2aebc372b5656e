//! Locks of the copy are its own: put with the objects, extended before a newer point needs them longer.

use lifeboat_repo::{locks::Keep, point::ObjectKind};
use lifeboat_store::{
    Key, Store as _,
    fault::{Fault, Rule},
};

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_object_is_locked_to_the_end_of_its_points() {
    let world = World::new();
    let (older, newer) = world.fill().await;
    world.copy_locked(Some(world.locks(5))).await.unwrap();
    let replica = world.replica().await;
    for point in [&older, &newer] {
        let end = (world.locks(5).point_end)(point.header.finished);
        for key in point.header.objects.iter().map(|object| &object.key).chain([&point.key]) {
            let state = replica.store().lock_state(key, None).await.unwrap();
            assert!(state.retention.is_some_and(|retention| retention.until >= end), "{key}: {state:?}, {end}");
        }
    }
    let marker = world.offsite.lock_state(&Key::new("lifeboat.json").unwrap(), None).await.unwrap();
    let end = (world.locks(5).point_end)(newer.header.finished);
    assert!(marker.retention.is_some_and(|retention| retention.until >= end), "{marker:?}: nothing opens without it");
    let kinds = [("/segment/", Keep::Segment), ("/slice/", Keep::Slice), ("/timelines/", Keep::Document)];
    for (folder, keep) in kinds {
        let key = versions(&world.offsite).into_keys().find(|key| key.contains(folder)).unwrap();
        let state = world.offsite.lock_state(&Key::new(key.as_str()).unwrap(), None).await.unwrap();
        assert_eq!(state.retention, Some(world.locks(5).until(keep)), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_extended_before_the_point_is_written() {
    let world = World::new();
    let older = world.backup(&first()).await;
    world.copy_locked(Some(world.locks(5))).await.unwrap();
    world.pass(48);
    let newer = world.backup(&second()).await;
    let shared: Vec<_> =
        older.header.objects.iter().filter(|old| newer.header.objects.iter().any(|new| new.key == old.key)).collect();
    assert!(shared.iter().any(|object| object.kind == ObjectKind::Pack));
    // The point's put fails: by then everything that it needs is locked long enough.
    world.to.add(Rule::on(lifeboat_store::fault::Operation::Put, Fault::FailBefore).key(newer.key.as_str()));
    world.copy_locked(Some(world.locks(5))).await.unwrap_err();
    let end = (world.locks(5).point_end)(newer.header.finished);
    for object in &shared {
        let state = world.offsite.lock_state(&object.key, None).await.unwrap();
        assert!(state.retention.is_some_and(|retention| retention.until >= end), "{}: {state:?}", object.key);
    }
    let report = world.copy_locked(Some(world.locks(5))).await.unwrap();
    assert_eq!((report.copied.len(), report.objects), (1, 2), "the point, and the index that comes after it");
    assert!(report.copied[0].locked_until.is_some_and(|until| until >= end));
}
