//! Every kind of target, on a log of several segments and on one that is being written.

use std::{fs, time::Duration};

use jiff::Timestamp;
use lifeboat_engine::{
    Error,
    recovery::{Stop, Target, Wish},
    restore::{INCOMPLETE_MARKER, Parts},
};
use lifeboat_model::lsn::Lsn;
use lifeboat_testkit::testbed;
use tokio_util::sync::CancellationToken;

use crate::world::{Row, World, up_to};

/// Some of the rows, the first and the last among them.
fn some(rows: &[Row], count: usize) -> Vec<Row> {
    let step = (rows.len() - 1).max(1) as f64 / (count - 1) as f64;
    (0..count).map(|n| rows[(n as f64 * step) as usize]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_commit_any_position_and_a_name_are_reached_exactly() {
    if !testbed::enabled() {
        return;
    }
    let mut world = World::new().await;
    world.write(3, 1);
    let mut stream = world.stream();
    let before = Timestamp::now();
    world.backup().await;
    let rows = world.write(60, 30_000); // about 1 MiB of log each
    world.source.psql("postgres", "SELECT pg_create_restore_point('before the upgrade')").unwrap();
    let named = rows.last().unwrap().id;
    let more = world.write(10, 10);
    let last = more.last().unwrap().id;
    world.source.psql("postgres", "SELECT pg_create_restore_point('the end')").unwrap();
    stream.durable_to(world.position()).await;
    stream.stop().await;

    for row in some(&rows, 6) {
        assert_eq!(world.rows_at(&World::wish(Target::Time(row.time))).await, up_to(row.id), "at {row:?}");
    }
    for row in some(&more, 3) {
        let just_before = row.time - Duration::from_micros(1);
        let rows = world.rows_at(&World::wish(Target::Time(just_before))).await;
        assert_eq!(rows, up_to(row.id - 1), "before {row:?}");
        assert_eq!(world.rows_at(&World::wish(Target::Lsn(row.lsn))).await, up_to(row.id), "at {row:?}");
    }
    for row in some(&rows, 3) {
        assert_eq!(world.rows_at(&World::wish(Target::Lsn(row.lsn))).await, up_to(row.id), "at {row:?}");
    }
    let name = |name: &str| World::wish(Target::RestorePoint(name.to_owned()));
    assert_eq!(world.rows_at(&name("before the upgrade")).await, up_to(named));
    assert_eq!(world.rows_at(&name("the end")).await, up_to(last), "the very last record");
    assert_eq!(world.rows_at(&World::wish(Target::Latest)).await, up_to(last));

    let missing = world.plan(&name("no such")).await.unwrap_err();
    assert!(matches!(missing, Error::NoRestorePoint { .. }), "{missing}");
    let early = world.plan(&World::wish(Target::Time(before))).await.unwrap_err();
    let Error::TargetOutOfReach { before: None, after: Some(after), .. } = &early else { panic!("{early:?}") };
    assert!(after.time > before && early.to_string().contains("earliest moment"), "{early}");
    let late = Timestamp::now() + Duration::from_secs(60);
    let late = world.plan(&World::wish(Target::Time(late))).await.unwrap_err();
    let Error::TargetOutOfReach { before: Some(newest), after: None, .. } = &late else { panic!("{late:?}") };
    assert_eq!(newest.time, more.last().unwrap().time, "the nearest moment is the last commit");
    // What the error names can be reached.
    let plan = world.plan(&World::wish(Target::Time(newest.time))).await.unwrap();
    assert_eq!(plan.stop, Stop::End);
    let beyond = world.plan(&World::wish(Target::Lsn(Lsn(plan.end.0 + 1)))).await.unwrap_err();
    assert!(matches!(beyond, Error::TargetOutOfReach { .. }), "{beyond}");

    let windows = world.windows().await;
    assert_eq!(windows.windows.len(), 1, "{windows:?}");
    let window = &windows.windows[0];
    assert_eq!((window.to.lsn, window.to.time, window.timeline), (plan.end, newest.time, 1));
    assert!(!window.is_cut && windows.skipped.is_empty(), "{windows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_waits_for_the_log_that_is_on_its_way() {
    if !testbed::enabled() {
        return;
    }
    let mut world = World::new().await;
    let mut stream = world.stream();
    world.backup().await;
    let last = world.write(40, 30_000).last().unwrap().id;
    stream.durable_to(world.position()).await;
    stream.stop().await;
    let plan = world.plan(&World::wish(Target::Latest)).await.unwrap();
    let mut restored = world.bring(&plan, Parts { database: true, filestore: false, config: false }).await;
    let marker = restored.to.join(INCOMPLETE_MARKER);
    assert!(fs::read_to_string(&marker).unwrap().contains("can be started"), "staging is not done");
    restored.start().unwrap();
    assert_eq!(restored.rows(), up_to(last));
    restored.report.stage(&CancellationToken::new()).await.unwrap();
    assert!(restored.report.is_complete() && !marker.exists());
    assert!(!restored.to.join("pgdata/lifeboat_wal").exists(), "the server has removed it at the end of recovery");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_leaves_a_gap_that_is_named() {
    if !testbed::enabled() {
        return;
    }
    let mut world = World::new().await;
    let mut stream = world.stream();
    let first = world.backup().await;
    let early = world.write(5, 10);
    stream.durable_to(world.position()).await;
    stream.stop().await;
    // The slot is dropped: what the server writes now is not held by anybody.
    let slot = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots";
    world.source.psql("postgres", slot).unwrap();
    let lost = world.write(3, 10);
    for _ in 0..2 {
        world.source.psql("postgres", "SELECT pg_switch_wal(); CHECKPOINT").unwrap();
        world.write_one(10);
    }
    let mut stream = world.stream();
    let second = world.backup().await;
    let late = world.write(5, 10);
    stream.durable_to(world.position()).await;
    stream.stop().await;

    let windows = world.windows().await.windows;
    assert_eq!(windows.len(), 2, "{windows:?}");
    assert_eq!(windows[0].points, [first.header.point]);
    assert_eq!(windows[1].points, [second.header.point]);
    assert!(windows[0].is_cut, "more is held behind the gap: {windows:?}");
    assert_eq!(world.rows_at(&World::wish(Target::Time(early[2].time))).await, up_to(early[2].id));
    assert_eq!(world.rows_at(&World::wish(Target::Time(late[2].time))).await, up_to(late[2].id));
    let inside = world.plan(&World::wish(Target::Time(lost[1].time))).await.unwrap_err();
    let Error::TargetOutOfReach { before: Some(before), after: Some(after), .. } = &inside else {
        panic!("{inside:?}");
    };
    assert_eq!(before.time, early.last().unwrap().time);
    assert!(after.time > lost[1].time && after.time < late[0].time, "{inside}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filestore_of_a_moment_has_files_that_came_after_the_base() {
    if !testbed::enabled() {
        return;
    }
    let mut world = World::new().await;
    let filestore = world.folder.path().join("filestore/demo/ab");
    fs::write(filestore.join("ab01"), "in the base").unwrap();
    let mut stream = world.stream();
    let base = world.backup().await;
    fs::write(filestore.join("ab02"), "after the base").unwrap();
    let moment = world.write(1, 10)[0];
    world.write(2, 10);
    stream.durable_to(world.position()).await;
    let parts = Parts { database: false, filestore: true, config: false };
    let alone = world.plan(&World::wish(Target::Time(moment.time))).await.unwrap();
    assert!(alone.later.is_empty());
    assert!(alone.remarks.iter().any(|remark| remark.contains("no recovery point was made after")), "{alone:?}");
    fs::remove_file(filestore.join("ab01")).unwrap();
    let second = world.backup().await;
    fs::write(filestore.join("ab03"), "after the second").unwrap();
    world.backup().await;
    stream.stop().await;

    let plan = world.plan(&World::wish(Target::Time(moment.time))).await.unwrap();
    assert_eq!(plan.base.header.point, base.header.point);
    let later: Vec<_> = plan.later.iter().map(|point| point.header.point).collect();
    assert_eq!(later, [second.header.point], "the first whose walk began after the moment is the last");
    assert!(plan.remarks.is_empty(), "{:?}", plan.remarks);
    let restored = world.bring(&plan, parts).await;
    assert!(restored.report.is_complete(), "{:?}", restored.report);
    let folder = restored.to.join("filestore/demo/ab");
    assert_eq!(fs::read_to_string(folder.join("ab01")).unwrap(), "in the base");
    assert_eq!(fs::read_to_string(folder.join("ab02")).unwrap(), "after the base");
    assert!(!folder.join("ab03").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_folder_is_taken_to_another_moment() {
    if !testbed::enabled() {
        return;
    }
    let mut world = World::new().await;
    let mut stream = world.stream();
    world.backup().await;
    let rows = world.write(20, 30_000);
    stream.durable_to(world.position()).await;
    stream.stop().await;
    let database = Parts { database: true, filestore: false, config: false };
    let (late, early) = (rows[15], rows[4]);
    let plan = world.plan(&World::wish(Target::Time(late.time))).await.unwrap();
    let mut restored = world.bring(&plan, database).await;
    restored.start().unwrap();
    restored.report.stage(&CancellationToken::new()).await.unwrap();
    assert_eq!(restored.rows(), up_to(late.id));
    // It has been used since.
    restored.server.psql("demo", "DELETE FROM entry; CHECKPOINT").unwrap();
    restored.server.stop().unwrap();
    for row in [early, late] {
        // What was written since is really given up: without that it is refused.
        fs::remove_file(restored.to.join("pgdata/global/pg_control")).unwrap();
        let plan = world.plan(&World::wish(Target::Lsn(row.lsn))).await.unwrap();
        restored.report = world.bring_to(&plan, database, &restored.to.clone(), true).await;
        restored.start().unwrap();
        restored.report.stage(&CancellationToken::new()).await.unwrap();
        assert!(restored.report.is_complete(), "{:?}", restored.report);
        assert_eq!(restored.rows(), up_to(row.id));
        restored.server.stop().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_major_stops_where_it_is_told_to() {
    if !testbed::enabled() {
        return;
    }
    let majors: Vec<u32> = lifeboat_testkit::postgres::versions().into_iter().filter(|major| *major > 15).collect();
    assert!(majors.contains(&17), "PostgreSQL 17 is missing (testbed/testbed images); found {majors:?}");
    for major in majors {
        let mut world = World::of(major).await;
        let mut stream = world.stream();
        world.backup().await;
        let rows = world.write(12, 20_000);
        stream.durable_to(world.position()).await;
        stream.stop().await;
        let (middle, last) = (rows[5], rows[11]);
        assert_eq!(world.rows_at(&World::wish(Target::Time(middle.time))).await, up_to(middle.id), "{major}");
        assert_eq!(world.rows_at(&World::wish(Target::Lsn(middle.lsn))).await, up_to(middle.id), "{major}");
        assert_eq!(world.rows_at(&World::wish(Target::Latest)).await, up_to(last.id), "{major}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_is_followed_and_the_old_branch_stays_reachable() {
    if !testbed::enabled() {
        return;
    }
    let mut world = World::new().await;
    let mut stream = world.stream();
    world.backup().await;
    let before = world.write(12, 20_000);
    let standby = world.source.standby("standby").unwrap();
    world.source.wait_for_replay(&standby).unwrap();
    // The standby hears no more of what its primary does.
    standby.psql("postgres", "ALTER SYSTEM SET primary_conninfo = ''").unwrap();
    standby.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    standby.wait_for("SELECT count(*) FROM pg_stat_wal_receiver", "0").unwrap();
    let common = before.last().unwrap().id;
    let abandoned = world.write(3, 10);
    stream.durable_to(world.position()).await;
    stream.stop().await;
    standby.promote().unwrap();
    world.source.stop().unwrap();
    world.source = standby;
    world.connect.port = world.source.port();
    let (before_id, old_end) = (common, abandoned.last().unwrap().id);
    let mut stream = world.stream();
    let after = world.write(12, 20_000);
    stream.durable_to(world.position()).await;
    stream.stop().await;
    let followed = |until: i64| -> Vec<i64> { (1..=before_id).chain(old_end + 1..=until).collect() };

    let last = after.last().unwrap();
    assert_eq!(world.rows_at(&World::wish(Target::Latest)).await, followed(last.id));
    assert_eq!(world.rows_at(&World::wish(Target::Time(after[4].time))).await, followed(after[4].id));
    assert_eq!(world.rows_at(&World::wish(Target::Lsn(after[9].lsn))).await, followed(after[9].id));
    assert_eq!(world.rows_at(&World::wish(Target::Time(before[6].time))).await, up_to(before[6].id));
    let old = |target| Wish { timeline: Some(1), ..World::wish(target) };
    assert_eq!(world.rows_at(&old(Target::Time(abandoned[1].time))).await, up_to(abandoned[1].id));
    assert_eq!(world.rows_at(&old(Target::Latest)).await, up_to(old_end));
    let windows = world.windows().await.windows;
    let timelines: Vec<u32> = windows.iter().map(|window| window.timeline).collect();
    assert_eq!(timelines.len(), 2, "{windows:?}");
    assert!(timelines.contains(&1) && timelines.contains(&2), "{windows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_of_the_host_brings_no_other_moment_back() {
    if !testbed::enabled() {
        return;
    }
    let mut world = World::new().await;
    world.slow_clock(Duration::from_secs(600));
    let before = world.write(3, 10);
    let mut stream = world.stream();
    let base = world.backup().await;
    let after = world.write(3, 10);
    stream.durable_to(world.position()).await;
    stream.stop().await;
    assert!(base.header.finished < before[0].time, "by the host's clock the base is older than what is in it");
    let refused = world.plan(&World::wish(Target::Time(before[1].time))).await.unwrap_err();
    assert!(matches!(refused, Error::TargetOutOfReach { .. }), "{refused}");
    assert!(refused.to_string().contains("became consistent only at"), "{refused}");
    assert_eq!(world.rows_at(&World::wish(Target::Time(after[0].time))).await, up_to(after[0].id));
}
