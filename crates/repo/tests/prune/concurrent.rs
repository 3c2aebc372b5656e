//! Prune beside a backup, a stream of WAL and another prune.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use lifeboat_model::lsn::Lsn;
use lifeboat_repo::{
    point::{ObjectKind, Point},
    progress::Silent,
    prune::Fate,
    writer::Writer,
};
use lifeboat_store::{
    Key,
    fault::{Fault, FaultStore, Operation, Rule},
};

use crate::world::*;

/// Points that are not kept but for the last; what they alone hold can be used again.
async fn dropped(count: u64) -> (World, Vec<Point>) {
    let world = World::new(no_locks());
    let mut points = Vec::new();
    for n in 0..count {
        points.push(world.backup(&files(n * 10), stream(SEGMENT + n * 4096)).await);
        world.store_clock.advance(HOUR);
    }
    world.store_clock.advance(2 * HOUR);
    (world, points)
}

/// Whether a point uses a pack that of the earlier ones only the second had.
fn uses_own_pack(point: &Point, points: &[Point]) -> bool {
    let has = |point: &Point, key: &Key| point.header.objects.iter().any(|object| object.key == *key);
    let own = points[1].header.objects.iter().filter(|object| object.kind == ObjectKind::Pack);
    own.map(|object| &object.key).any(|key| has(point, key) && !has(&points[2], key) && !has(&points[0], key))
}

fn all_but_last(points: &[Point]) -> lifeboat_repo::reach::Needs {
    let (last, others) = points.split_last().unwrap();
    keep(&[last], &others.iter().collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_backup_runs_only_what_it_cannot_use_goes() {
    let (world, points) = dropped(3).await;
    let needs = all_but_last(&points);
    let writer = Writer::begin(world.repo().await, world.keys(), world.options(), Arc::new(Silent)).await.unwrap();
    let (report, items) = world.prune_with(&world.repo().await, &needs, world.prune_options()).await.unwrap();
    assert!(report.busy.is_some(), "{report:?}");
    assert_eq!(report.points_removed.len(), 2);
    let waits = |folder: &str| {
        let of_folder = items.iter().filter(|item| item.key.as_str().contains(folder));
        of_folder.map(|item| matches!(item.fate, Fate::Waits(_))).collect::<Vec<_>>()
    };
    assert!(!waits("/packs/").is_empty() && waits("/packs/").iter().all(|waits| *waits), "{items:?}");
    assert!(waits("/trees/").iter().all(|waits| !waits) && waits("/trees/").len() == 2, "trees of points that went");
    // It uses what the points that went alone held.
    let point = world.finish(writer, &files(10), stream(5 * SEGMENT)).await.unwrap();
    assert!(uses_own_pack(&point, &points));
    world.assert_restores(&point).await;
    let needs = keep(&[&points[2], &point], &[]);
    let (report, _) = world.prune_with(&world.repo().await, &needs, world.prune_options()).await.unwrap();
    assert!(report.busy.is_none(), "{report:?}");
    world.assert_restores(&point).await;
    world.assert_restores(&points[2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_comes_between_plan_and_removal_is_seen() {
    let (world, points) = dropped(3).await;
    let (world, needs) = (Arc::new(world), all_but_last(&points));
    let faults = FaultStore::new(world.store());
    faults.add(Rule::on(Operation::ListVersions, Fault::Delay(Duration::from_secs(2))).key("/trees/"));
    let (pruning, store) = (world.clone(), faults.clone());
    let prune = tokio::spawn(async move {
        let repo = pruning.repo_on(Arc::new(store)).await.unwrap();
        pruning.prune_with(&repo, &needs, pruning.prune_options()).await.unwrap()
    });
    while faults.count(Operation::ListVersions, "/trees/") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.names("points/").await.len(), 1, "the points went first");
    let point = world.backup(&files(10), stream(5 * SEGMENT)).await;
    let (report, _) = prune.await.unwrap();
    assert!(uses_own_pack(&point, &points));
    assert_eq!(report.points_kept, 2);
    assert!(report.removed > 2, "{report:?}");
    world.assert_restores(&point).await;
    world.assert_restores(&points[2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_prunes_a_stream_and_backups_at_the_same_time() {
    let (world, points) = dropped(6).await;
    let world = Arc::new(world);
    let pruning = |delay: u64| {
        let (world, needs) = (world.clone(), all_but_last(&points));
        async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            let faults = FaultStore::new(world.store());
            for operation in [Operation::Delete, Operation::LockState, Operation::ListVersions] {
                faults.add(Rule::on(operation, Fault::Delay(Duration::from_millis(15))).and_ever_after());
            }
            let repo = world.repo_on(Arc::new(faults)).await.unwrap();
            world.prune_with(&repo, &needs, world.prune_options()).await.unwrap().0
        }
    };
    let backups = {
        let world = world.clone();
        async move {
            let mut made = Vec::new();
            for n in 0..4 {
                world.host_ahead.fetch_add(1, Ordering::SeqCst);
                made.push(world.backup(&files(n * 10), stream(5 * SEGMENT + n * 4096)).await);
            }
            made
        }
    };
    let streaming = {
        let world = world.clone();
        async move {
            for n in 0..20 {
                let from = stream(5 * SEGMENT + n * 1000);
                world.put_wal(world.store(), from, from.lsn + 1000).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let (first, second, made, ()) =
        tokio::join!(tokio::spawn(pruning(0)), tokio::spawn(pruning(40)), tokio::spawn(backups), async {
            tokio::spawn(streaming).await.unwrap()
        },);
    let (first, second, made) = (first.unwrap(), second.unwrap(), made.unwrap());
    assert!(first.removed + second.removed >= 5, "{first:?} {second:?}");
    for point in made.iter().chain(points.last()) {
        world.assert_restores(point).await;
    }
    let archive = world.repo().await.wal_archive();
    let begin = stream(5 * SEGMENT);
    let listing = archive.list(begin.system_id, begin.timeline, Lsn(begin.lsn)).await.unwrap();
    let run = listing.from(Lsn(begin.lsn)).unwrap();
    assert_eq!((run.first.0, run.last.0), (begin.lsn, begin.lsn + 20_000));
    // What they left behind of each other's work goes with the next one.
    world.store_clock.advance(2 * HOUR);
    let kept: Vec<&Point> = made.iter().chain(points.last()).collect();
    let needs = keep(&kept, &[]);
    world.prune_with(&world.repo().await, &needs, world.prune_options()).await.unwrap();
    for point in kept {
        world.assert_restores(point).await;
    }
    let named: std::collections::BTreeSet<String> =
        world.points().await.iter().flat_map(|point| point.header.objects.clone()).map(|o| o.key.to_string()).collect();
    let packs = world.names("packs/").await;
    assert!(packs.iter().all(|pack| named.contains(pack)), "{packs:?}");
}
