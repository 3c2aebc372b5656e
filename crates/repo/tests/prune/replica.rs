//! Prune in a copy, where whole points come from elsewhere and may come again.

use std::sync::Arc;

use lifeboat_repo::{
    lease::Purpose,
    progress::Silent,
    prune::Fate,
    repository::{InstanceRepo, Repository},
};
use lifeboat_store::{Store as _, vault::VaultStore};

use crate::world::*;

/// A copy of all that the world has, byte for byte.
async fn copied(world: &World) -> InstanceRepo {
    let copy = VaultStore::new(world.store_clock.closure());
    let primary = Repository::open(world.store()).await.unwrap();
    let replica = Repository::init_replica(Arc::new(copy.clone()), &primary).await.unwrap();
    for version in world.versions().await {
        let key = version.info.key;
        copy.put(&key, world.vault.get(&key, version.info.version.as_ref(), None).await.unwrap()).await.unwrap();
    }
    replica.instance(&"hospital".parse().unwrap(), &"clinic".parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn while_a_copy_runs_trees_and_wal_of_points_that_went_stay() {
    let world = World::new(no_locks());
    let first = world.backup(&files(0), stream(SEGMENT)).await;
    world.store_clock.advance(HOUR);
    let second = world.backup(&files(10), stream(2 * SEGMENT)).await;
    let replica = copied(&world).await;
    world.store_clock.advance(2 * HOUR);
    let needs = keep(&[&second], &[&first]);
    // The copy has seen what is there, and goes on to publish the first point, which is not dropped at the primary.
    let copying = replica.claim(Purpose::Copy, "lifeboat test", world.now(), Arc::new(Silent)).await.unwrap();
    let (report, items) = world.prune_with(&replica, &needs, world.prune_options()).await.unwrap();
    assert_eq!(report.points_removed, [first.header.point]);
    let own: Vec<_> = ["/trees/", "/wal/"].into_iter().flat_map(|folder| of(&first, folder)).collect();
    assert!(own.len() >= 2, "{:?}", first.header.objects);
    for key in &own {
        assert!(matches!(fate(&items, key), Fate::Waits(why) if why.contains("a copy is running")), "{items:?}");
        replica.store().head(key, None).await.unwrap();
    }
    copying.release().await.unwrap();
    let (_, items) = world.prune_with(&replica, &needs, world.prune_options()).await.unwrap();
    for key in &own {
        assert_eq!(fate(&items, key), &Fate::Removed);
    }
}

fn of(point: &lifeboat_repo::point::Point, folder: &str) -> Vec<lifeboat_store::Key> {
    let objects = point.header.objects.iter().map(|object| object.key.clone());
    objects.filter(|key| key.as_str().contains(folder)).collect()
}
