//! Plans and windows over archives that were made up: gaps, borders, timelines.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use lifeboat_model::{id::RepositoryId, signature::SigningKey};
use lifeboat_repo::{
    document::DocumentKeys,
    point::PointDetails,
    progress::Silent,
    repository::Repository,
    wal::{Commits, WalObjectKind, WalWriter},
    writer::{PointDraft, WalSpan, Writer, WriterKeys, WriterOptions},
};
use lifeboat_store::local::LocalStore;
use tempfile::TempDir;

use super::{super::windows, *};
use crate::{details::encode, stream::TimelineDetails};

const SIZE: u64 = 1 << 20;
const SYSTEM: u64 = 7;

/// Seconds after the beginning.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// A position: segments, and bytes in the last of them.
fn lsn(segment: u64, bytes: u64) -> Lsn {
    Lsn(segment * SIZE + bytes)
}

struct World {
    folder: TempDir,
    repo: InstanceRepo,
    recovery: Identity,
    host: Identity,
    signing: SigningKey,
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&folder.path().join("repository"), true).unwrap();
        let repository = Repository::init(Arc::new(store), RepositoryId([1; 16]), at(0)).await.unwrap();
        let repo = repository.instance(&"hospital".parse().unwrap(), &"clinic".parse().unwrap());
        let (recovery, host) = (Identity::generate(), Identity::generate());
        World { folder, repo, recovery, host, signing: SigningKey::from_seed(&[7; 32]) }
    }

    /// A point whose base backup begins at the start of a segment, is consistent 100 bytes later, and whose log ends 200
    /// bytes later; its backup is finished at this second.
    async fn point(&self, timeline: u32, segment: u64, seconds: i64) -> Point {
        let keys = WriterKeys {
            recipients: vec![self.recovery.recipient()],
            host: self.host.clone(),
            signing: self.signing.clone(),
            trusted: vec![self.signing.public()],
        };
        let options = WriterOptions {
            level: 1,
            pack_size: 4 << 20,
            workers: 1,
            uploads: 1,
            cache_dir: self.folder.path().join("cache"),
            software: "test".into(),
            clock: Arc::new(move || at(seconds + 1)),
        };
        let writer = Writer::begin(self.repo.clone(), keys, options, Arc::new(Silent)).await.unwrap();
        let (start, end) = (lsn(segment, 0), lsn(segment, 200));
        writer.wal_sink().put(SYSTEM, timeline, start, Bytes::from(vec![1; 200])).await.unwrap();
        let postgres = PostgresDetails {
            version: 150_000,
            system_id: SYSTEM.to_string(),
            timeline,
            start,
            backup_end: lsn(segment, 100),
            wal_end: end,
            mark: None,
            segment_size: SIZE,
            data_checksums: true,
            tablespaces: Vec::new(),
            databases: vec!["demo".into()],
            started: at(seconds - 1),
            finished: at(seconds),
        };
        let details = PointDetails { postgres: encode(&postgres).unwrap(), ..PointDetails::default() };
        let wal = Some(WalSpan { system_id: SYSTEM, timeline, start, end });
        writer.commit(PointDraft { started: at(seconds - 1), details, wal }).await.unwrap()
    }

    fn wal_writer(&self) -> WalWriter {
        WalWriter::new(self.repo.clone(), vec![self.recovery.recipient()], self.signing.clone(), 1)
    }

    /// One object, with commits at these seconds.
    async fn wal(&self, timeline: u32, first: Lsn, last: Lsn, commits: Option<(i64, i64)>) {
        let len = last.0 - first.0;
        let kind = if len == SIZE { WalObjectKind::Segment } else { WalObjectKind::Slice };
        let commits = commits.map(|(first, last)| Commits { first: at(first), last: at(last) });
        let bytes = Bytes::from(vec![timeline as u8; len as usize]);
        self.wal_writer().put(kind, SYSTEM, timeline, SIZE, first, bytes, commits).await.unwrap();
    }

    async fn document<T: serde::Serialize>(&self, kind: DocumentKind, timeline: u32, lsn: Lsn, details: &T) {
        let recipients = vec![self.recovery.recipient(), self.host.recipient()];
        let keys = DocumentKeys { recipients, signing: self.signing.clone() };
        let position = Position { system_id: SYSTEM, timeline, lsn };
        self.repo.put_document(kind, position, details, &keys, at(0)).await.unwrap();
    }

    async fn timeline(&self, timeline: u32, begin: Lsn, history: Option<&str>) {
        let history = history.map(str::to_owned);
        let details = TimelineDetails { history, segment_size: SIZE, server_version: 150_000 };
        self.document(DocumentKind::Timeline, timeline, begin, &details).await;
    }

    async fn plan_with(&self, target: Target, timeline: Option<u32>) -> Result<Plan> {
        let wish = Wish { point: None, target, timeline };
        plan(&self.repo, &[self.signing.public()], std::slice::from_ref(&self.recovery), &wish).await
    }

    async fn plan(&self, target: Target) -> Result<Plan> {
        self.plan_with(target, None).await
    }

    async fn windows(&self) -> Vec<windows::Window> {
        let host = std::slice::from_ref(&self.host);
        windows::windows(&self.repo, &[self.signing.public()], host).await.unwrap().windows
    }
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.log.order.segments.iter().map(|segment| segment.name.as_str()).collect()
}

/// The moments that an error names.
fn nearest(error: Error) -> (Option<Timestamp>, Option<Timestamp>) {
    match error {
        Error::TargetOutOfReach { before, after, .. } => {
            (before.map(|moment| moment.time), after.map(|moment| moment.time))
        }
        other => panic!("{other}"),
    }
}

/// A point at second 10 in segment 2, then log to the middle of segment 5, a commit each 10 s.
async fn one_run() -> World {
    let world = World::new().await;
    world.point(1, 2, 10).await;
    world.timeline(1, lsn(2, 0), None).await;
    world.wal(1, lsn(2, 0), lsn(3, 0), Some((5, 20))).await;
    world.wal(1, lsn(3, 0), lsn(4, 0), None).await;
    world.wal(1, lsn(4, 0), lsn(5, 0), Some((30, 40))).await;
    world.wal(1, lsn(5, 0), lsn(5, 1000), Some((50, 50))).await;
    world.wal(1, lsn(5, 1000), lsn(5, 3000), Some((60, 70))).await;
    world
}

#[tokio::test]
async fn a_time_is_reached_when_a_later_commit_is_held() {
    let world = one_run().await;
    for (seconds, stop, end) in [
        (10, true, lsn(3, 0)),
        (19, true, lsn(3, 0)),
        (20, true, lsn(5, 0)),
        (39, true, lsn(5, 0)),
        (40, true, lsn(5, 1000)),
        (69, true, lsn(5, 3000)),
        // The last commit of all: nothing follows at which PostgreSQL could stop.
        (70, false, lsn(5, 3000)),
    ] {
        let plan = world.plan(Target::Time(at(seconds))).await.unwrap();
        assert_eq!(plan.end, end, "at {seconds}");
        assert_eq!(plan.stop, if stop { Stop::Time(at(seconds)) } else { Stop::End }, "at {seconds}");
        assert!(plan.certain <= plan.end && plan.settings().staged);
    }
    let plan = world.plan(Target::Time(at(45))).await.unwrap();
    assert_eq!(
        names(&plan),
        [
            "000000010000000000000002",
            "000000010000000000000003",
            "000000010000000000000004",
            "000000010000000000000005"
        ],
        "from the segment in which the point's own log ends"
    );
    assert_eq!(plan.log.order.segments.last().unwrap().parts[0].last, lsn(5, 1000), "the rest is zeros");
    assert_eq!((plan.certain, plan.moment), (lsn(5, 0), Some(at(45))));
    assert_eq!(nearest(world.plan(Target::Time(at(9))).await.unwrap_err()), (None, Some(at(10))));
    assert_eq!(nearest(world.plan(Target::Time(at(71))).await.unwrap_err()), (Some(at(70)), None));
}

#[tokio::test]
async fn a_position_is_reached_up_to_the_end_of_what_is_held() {
    let world = one_run().await;
    let plan = |target| world.plan(Target::Lsn(target));
    assert_eq!(plan(lsn(2, 100)).await.unwrap().stop, Stop::Lsn(lsn(2, 100)));
    let middle = plan(lsn(3, 5)).await.unwrap();
    assert_eq!((middle.end, middle.certain), (lsn(5, 0), lsn(3, 5)), "the record at it may end in the next segment");
    assert_eq!(plan(lsn(5, 2999)).await.unwrap().stop, Stop::Lsn(lsn(5, 2999)));
    assert_eq!(plan(lsn(5, 3000)).await.unwrap().stop, Stop::End);
    assert_eq!(nearest(plan(lsn(5, 3001)).await.unwrap_err()), (Some(at(70)), None));
    assert_eq!(nearest(plan(lsn(2, 99)).await.unwrap_err()), (None, Some(at(10))), "not consistent yet");
    let latest = world.plan(Target::Latest).await.unwrap();
    assert_eq!((latest.end, latest.newest_commit, latest.stop), (lsn(5, 3000), Some(at(70)), Stop::End));
    let windows = world.windows().await;
    let window = &windows[0];
    assert_eq!((windows.len(), window.from.lsn, window.from.time), (1, lsn(2, 100), at(10)));
    assert_eq!((window.to.lsn, window.to.time, window.is_cut), (lsn(5, 3000), at(70), false));
}

#[tokio::test]
async fn the_nearest_base_is_chosen_and_a_gap_is_not_crossed() {
    let world = one_run().await;
    // Behind a gap at 6, log goes on, with a point in the middle of it.
    world.wal(1, lsn(7, 0), lsn(8, 0), Some((100, 110))).await;
    let second = world.point(1, 8, 120).await;
    world.wal(1, lsn(8, 0), lsn(9, 0), Some((115, 130))).await;
    world.wal(1, lsn(9, 0), lsn(9, 50), Some((140, 140))).await;

    assert_eq!(world.plan(Target::Time(at(125))).await.unwrap().base.header.point, second.header.point);
    let early = world.plan(Target::Time(at(60))).await.unwrap();
    assert!(early.base.header.point != second.header.point);
    let inside = world.plan(Target::Time(at(105))).await.unwrap_err();
    assert!(inside.to_string().contains("newest commit held"), "{inside}");
    assert_eq!(nearest(inside), (Some(at(70)), Some(at(120))));
    assert_eq!(nearest(world.plan(Target::Lsn(lsn(7, 5))).await.unwrap_err()), (Some(at(70)), Some(at(120))));
    let windows = world.windows().await;
    let ends: Vec<_> = windows.iter().map(|window| (window.from.time, window.to.time, window.is_cut)).collect();
    assert_eq!(ends, [(at(10), at(70), true), (at(120), at(140), false)]);
    // The first point alone: the latest moment is before the gap, and that is said.
    let wish = Wish {
        point: Some(format!("{}", early.base.header.point).parse().unwrap()),
        ..Wish::point(PointSelector::Latest)
    };
    let wish = Wish { target: Target::Latest, ..wish };
    let identities = [world.recovery.clone()];
    let cut = plan(&world.repo, &[world.signing.public()], &identities, &wish).await.unwrap();
    assert_eq!(cut.end, lsn(5, 3000));
    assert!(cut.remarks.iter().any(|remark| remark.contains("is missing")), "{:?}", cut.remarks);
}

#[tokio::test]
async fn a_stream_behind_a_hole_is_not_what_the_log_of_a_point_leads_to() {
    let world = one_run().await;
    let first = world.point(1, 3, 25).await;
    let end = async |point: &Point, system_id, timeline, lsn| {
        let (host, to) = (std::slice::from_ref(&world.host), Position { system_id, timeline, lsn });
        let end = windows::log_end(&world.repo, &[world.signing.public()], host, point, Some(to)).await.unwrap();
        end.map(|end| (end.newest_commit, end.is_cut))
    };
    assert_eq!(end(&first, SYSTEM, 1, lsn(5, 3000)).await, None);
    assert_eq!(end(&first, SYSTEM + 1, 1, lsn(5, 0)).await, Some((Some(at(70)), true)), "another cluster");
    assert_eq!(end(&first, SYSTEM, 2, lsn(5, 0)).await, Some((Some(at(70)), true)), "a timeline that nothing leads to");
    world.wal(1, lsn(7, 0), lsn(8, 0), Some((100, 110))).await;
    assert_eq!(end(&first, SYSTEM, 1, lsn(8, 0)).await, Some((Some(at(70)), true)));
    let second = world.point(1, 8, 120).await;
    assert_eq!(end(&second, SYSTEM, 1, lsn(8, 0)).await, None, "the next backup begins behind it");
    let host = std::slice::from_ref(&world.host);
    for (point, newest_commit, is_cut) in [(&first, Some(at(70)), true), (&second, None, false)] {
        let end = windows::log_end(&world.repo, &[world.signing.public()], host, point, None).await.unwrap();
        assert_eq!(end, Some(windows::LogEnd { newest_commit, is_cut }), "the server is gone");
    }
}

#[tokio::test]
async fn the_log_of_a_point_leads_to_the_timelines_that_left_its_own() {
    let world = two_timelines().await;
    let point = world.point(1, 2, 10).await;
    let host = std::slice::from_ref(&world.host);
    let end = async |to| windows::log_end(&world.repo, &[world.signing.public()], host, &point, to).await.unwrap();
    assert_eq!(end(Some(Position { system_id: SYSTEM, timeline: 2, lsn: lsn(5, 100) })).await, None);
    let gone = end(None).await.unwrap();
    assert_eq!((gone.newest_commit, gone.is_cut), (Some(at(70)), false));
}

/// Timeline 1 was left in the middle of segment 4, and the old primary wrote on for a while.
async fn two_timelines() -> World {
    let world = World::new().await;
    world.point(1, 2, 10).await;
    world.timeline(1, lsn(2, 0), None).await;
    world.wal(1, lsn(2, 0), lsn(3, 0), Some((5, 20))).await;
    world.wal(1, lsn(3, 0), lsn(4, 0), Some((30, 30))).await;
    world.wal(1, lsn(4, 0), lsn(4, 500), Some((40, 40))).await;
    world.wal(1, lsn(4, 500), lsn(4, 900), Some((55, 58))).await;
    let history = format!("1\t{}\tno recovery target specified\n", lsn(4, 500));
    world.timeline(2, lsn(4, 0), Some(&history)).await;
    world.wal(2, lsn(4, 0), lsn(5, 0), Some((50, 60))).await;
    world.wal(2, lsn(5, 0), lsn(5, 100), Some((70, 70))).await;
    world
}

#[tokio::test]
async fn a_recovery_follows_the_timelines() {
    let world = two_timelines().await;
    let plan = world.plan(Target::Latest).await.unwrap();
    assert_eq!((plan.timeline, plan.end, plan.newest_commit), (2, lsn(5, 100), Some(at(70))));
    assert_eq!(plan.settings().timeline, Some(2));
    assert_eq!(
        names(&plan),
        [
            "000000010000000000000002",
            "000000010000000000000003",
            "000000020000000000000004",
            "000000020000000000000005"
        ]
    );
    let switch = &plan.log.order.segments[2];
    let parts: Vec<_> = switch.parts.iter().map(|part| (part.timeline, part.first, part.last)).collect();
    assert_eq!(parts, [(1, lsn(4, 0), lsn(4, 500)), (2, lsn(4, 500), lsn(5, 0))]);
    assert_eq!(plan.log.order.histories[0].0, "00000002.history");
    assert!(plan.passes(1, lsn(3, 0)) && plan.passes(2, lsn(5, 0)) && !plan.passes(1, lsn(4, 600)));

    // Before the switch, on the timeline that was followed then.
    let before = world.plan(Target::Time(at(25))).await.unwrap();
    assert_eq!((before.timeline, before.settings().timeline), (1, None));
    // After it: the newest timeline, unless the old one is asked for.
    assert_eq!(world.plan(Target::Time(at(55))).await.unwrap().timeline, 2);
    let old = world.plan_with(Target::Time(at(56)), Some(1)).await.unwrap();
    assert_eq!((old.timeline, old.end), (1, lsn(4, 900)));
    let beyond = world.plan_with(Target::Time(at(65)), Some(1)).await.unwrap_err();
    assert!(!beyond.to_string().contains("--timeline"), "{beyond}");
    assert_eq!(nearest(beyond).0, Some(at(58)));

    let windows = world.windows().await;
    let found: Vec<_> = windows.iter().map(|window| (window.timeline, window.to.time)).collect();
    assert_eq!(found, [(1, at(58)), (2, at(70))], "the branch that was left is a window of its own");
}

#[tokio::test]
async fn a_restore_point_is_found_by_its_newest_use_and_on_its_timeline() {
    let world = two_timelines().await;
    let mark = |timeline, position, name: &str, seconds| {
        let details = RestorePointDetails { name: name.into(), time: at(seconds) };
        let world = &world;
        async move { world.document(DocumentKind::RestorePoint, timeline, position, &details).await }
    };
    mark(1, lsn(3, 10), "upgrade", 25).await;
    mark(2, lsn(5, 20), "upgrade", 65).await;
    mark(1, lsn(4, 700), "abandoned", 56).await;
    mark(2, lsn(9, 0), "lost", 90).await;
    let named = |name: &str| world.plan(Target::RestorePoint(name.to_owned()));
    let newest = named("upgrade").await.unwrap();
    assert_eq!((newest.timeline, newest.stop, newest.moment), (2, Stop::Lsn(lsn(5, 20)), Some(at(65))));
    assert!(newest.remarks.iter().any(|remark| remark.contains("1 older restore point")), "{:?}", newest.remarks);
    let abandoned = named("abandoned").await.unwrap();
    assert_eq!((abandoned.timeline, abandoned.stop), (1, Stop::Lsn(lsn(4, 700))));
    assert_eq!(nearest(named("lost").await.unwrap_err()), (Some(at(70)), None));
    assert!(matches!(named("Upgrade").await, Err(Error::NoRestorePoint { .. })));
    let first = world.plan_with(Target::RestorePoint("upgrade".into()), Some(1)).await.unwrap();
    assert_eq!(first.stop, Stop::Lsn(lsn(3, 10)));
}

#[tokio::test]
async fn without_an_archive_only_points_are_moments() {
    let world = World::new().await;
    let point = world.point(1, 2, 10).await;
    let windows = world.windows().await;
    assert_eq!((windows.len(), windows[0].to.lsn), (1, lsn(2, 200)));
    let latest = world.plan(Target::Latest).await.unwrap();
    assert_eq!((latest.base.header.point, latest.end), (point.header.point, lsn(2, 200)));
    assert!(latest.log.order.segments.is_empty());
    let late = world.plan(Target::Time(at(10) + Duration::from_secs(5))).await.unwrap_err();
    assert_eq!(nearest(late), (Some(at(10)), None));
    let exact = world.plan(Target::PointEnd).await.unwrap();
    assert!(!exact.settings().staged && exact.end == lsn(2, 200));
}
