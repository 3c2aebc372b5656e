//! Legal holds, in the store and by record alone.

use std::sync::Arc;

use lifeboat_engine::{Error, hold};
use lifeboat_repo::{
    point::{Point, PointSelector},
    progress::Silent,
};

use crate::world::{KEEP, LOCK, World};

async fn set(world: &World, point: &Point, held: bool) -> Result<hold::Held, Error> {
    let selector = PointSelector::Id(point.header.point.to_string());
    hold::run(&world.context, None, &selector, held, "case 12/2026", Arc::new(Silent)).await
}

/// How many of a point's objects, itself included, the store holds.
async fn held(world: &World, point: &Point) -> usize {
    let store = world.context.repository.store();
    let own = (&point.key, &point.version);
    let mut held = 0;
    for (key, version) in point.header.objects.iter().map(|object| (&object.key, &object.version)).chain([own]) {
        held += usize::from(store.lock_state(key, version.as_ref()).await.unwrap().legal_hold);
    }
    held
}

#[tokio::test]
async fn a_hold_is_put_on_every_object_and_taken_away_where_nobody_else_needs_it() {
    let world = World::in_bucket(&format!("{LOCK}{KEEP}")).await;
    let first = world.backup().await;
    world.clock.advance(1);
    let second = world.backup().await;
    let all = |point: &Point| point.header.objects.len() + 1;
    let done = set(&world, &first, true).await.unwrap();
    assert!(done.in_store && done.hold.objects == all(&first) as u64, "{done:?}");
    assert_eq!(held(&world, &first).await, all(&first));
    set(&world, &second, true).await.unwrap();
    world.clock.advance(1);
    let done = set(&world, &first, false).await.unwrap();
    assert!(done.hold.shared > 0, "packs that both need: {done:?}");
    assert_eq!(done.hold.objects + done.hold.shared, all(&first) as u64);
    assert_eq!(held(&world, &second).await, all(&second), "the other hold is whole");
    world.clock.advance(1);
    let done = set(&world, &second, false).await.unwrap();
    assert_eq!((done.hold.shared, held(&world, &second).await, held(&world, &first).await), (0, 0, 0));
    let refused = set(&world, &second, false).await.unwrap_err();
    assert!(matches!(refused, Error::NotHeld { .. }), "{refused}");
}

#[tokio::test]
async fn a_held_point_outlives_policy_and_goes_when_it_is_released() {
    for bucket in [true, false] {
        let world = match bucket {
            true => World::in_bucket(KEEP).await,
            false => World::in_directory(KEEP).await,
        };
        let first = world.backup().await;
        world.clock.advance(1);
        let done = set(&world, &first, true).await.unwrap();
        assert_eq!((done.in_store, done.hold.objects > 0), (bucket, bucket));
        for _ in 0..2 {
            world.clock.advance(24 * 100);
            world.backup().await;
        }
        let of_first = |kept: Vec<(Point, String)>| {
            kept.into_iter().find(|(point, _)| point.header.point == first.header.point).map(|(_, why)| why)
        };
        assert_eq!(of_first(world.kept().await).as_deref(), Some("held"));
        world.forget();
        assert_eq!(of_first(world.kept().await).as_deref(), Some("held"), "evidence tells");
        set(&world, &first, false).await.unwrap();
        assert_eq!(of_first(world.kept().await), None);
    }
}

#[tokio::test]
async fn a_hold_that_was_never_recorded_can_be_released() {
    let world = World::in_bucket(LOCK).await;
    let point = world.backup().await;
    let store = world.context.repository.store();
    store.set_legal_hold(&point.key, point.version.as_ref(), true).await.unwrap();
    set(&world, &point, false).await.unwrap();
    assert_eq!(held(&world, &point).await, 0);
    let nobody = PointSelector::Id("ffff".to_owned());
    let refused = hold::run(&world.context, None, &nobody, true, "x", Arc::new(Silent)).await.unwrap_err();
    assert!(matches!(refused, Error::NoSuchPoint { .. }), "{refused}");
}
