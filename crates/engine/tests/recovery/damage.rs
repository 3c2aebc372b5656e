//! A log that is damaged, or that nobody brings any more: other copies serve, and without one a server must never take the
//! log for ended.

use std::{fs, path::Path};

use lifeboat_engine::{
    recovery::Target,
    restore::{INCOMPLETE_MARKER, Parts},
};
use lifeboat_testkit::testbed;
use tokio_util::sync::CancellationToken;

use crate::world::{Row, World, up_to};

const DATABASE: Parts = Parts { database: true, filestore: false, config: false };

/// A source whose log is held in whole segments and, slowly written, in slices below them.
async fn world() -> (World, Vec<Row>) {
    let mut world = World::new().await;
    let mut stream = world.stream();
    world.backup().await;
    let mut rows = Vec::new();
    for _ in 0..6 {
        rows.extend(world.write(4, 30_000));
        // Each a slice of its own, so that segments have slices below them.
        stream.durable_to(world.position()).await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    world.source.psql("postgres", "SELECT pg_switch_wal()").unwrap();
    rows.extend(world.write(2, 10));
    stream.durable_to(world.position()).await;
    stream.stop().await;
    (world, rows)
}

fn break_file(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_stand_in_for_a_damaged_segment() {
    if !testbed::enabled() {
        return;
    }
    let (world, rows) = world().await;
    // The last whole one is well behind the base. A busy stream has no slices below it, so they are made.
    let segment = world.objects(&["/wal/", "/segment/"]).pop().unwrap();
    world.store_in_slices(&segment).await;
    break_file(&segment);
    let plan = world.plan(&World::wish(Target::Latest)).await.unwrap();
    let mut restored = world.bring(&plan, DATABASE).await;
    restored.start().unwrap();
    restored.report.stage(&CancellationToken::new()).await.unwrap();
    assert!(restored.report.is_complete(), "{:?}", restored.report);
    assert!(restored.report.remarks.iter().any(|remark| remark.contains("another copy")), "{:?}", restored.report);
    assert_eq!(restored.rows(), up_to(rows.last().unwrap().id));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_without_another_copy_ends_with_an_error_and_not_with_an_early_promotion() {
    if !testbed::enabled() {
        return;
    }
    let (world, rows) = world().await;
    let segment = world.objects(&["/wal/", "/segment/"]).pop().unwrap();
    break_file(&segment);
    let name = segment.file_name().unwrap().to_str().unwrap();
    let (first, last) = (&name[..16], &name[17..33]);
    for slice in world.objects(&["/wal/", "/slice/"]) {
        let range = slice.file_name().unwrap().to_str().unwrap().to_owned();
        if &range[..16] < last && &range[17..33] > first {
            break_file(&slice);
        }
    }
    for target in [Target::Latest, Target::Time(rows[rows.len() - 2].time)] {
        let plan = world.plan(&World::wish(target.clone())).await.unwrap();
        let mut restored = world.bring(&plan, DATABASE).await;
        assert!(restored.start().is_err(), "{target:?}: {}", restored.server.log());
        let log = restored.server.log();
        assert!(log.contains("could not restore file"), "{target:?}: {log}");
        assert!(!log.contains("selected new timeline"), "{target:?}: {log}");
        restored.report.stage(&CancellationToken::new()).await.unwrap();
        assert_eq!(restored.report.damage.len(), 1, "{target:?}: {:?}", restored.report);
        assert!(restored.to.join(INCOMPLETE_MARKER).exists());
    }
    // What lies before the damage is reached.
    let before = &rows[1];
    assert_eq!(world.rows_at(&World::wish(Target::Time(before.time))).await, up_to(before.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_stopped_does_not_end_recovery() {
    if !testbed::enabled() {
        return;
    }
    let (world, _) = world().await;
    let plan = world.plan(&World::wish(Target::Latest)).await.unwrap();
    let mut restored = world.bring(&plan, DATABASE).await;
    drop(restored.report.staging.take());
    // Nothing of it is there, whatever was quick enough.
    for file in fs::read_dir(restored.to.join("pgdata/lifeboat_wal")).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().len() == 24 {
            fs::remove_file(path).unwrap();
        }
    }
    assert!(restored.start().is_err(), "{}", restored.server.log());
    assert!(restored.server.log().contains("staging is over (broken)"), "{}", restored.server.log());
    assert!(!restored.server.log().contains("selected new timeline"), "{}", restored.server.log());
    assert!(restored.to.join(INCOMPLETE_MARKER).exists());
}
