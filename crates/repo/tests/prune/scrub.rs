//! The scrubber reads everything within its calendar, goes on where it ended, and names what is damaged.

use std::{collections::BTreeMap, sync::Arc};

use lifeboat_repo::{
    check::{self, ScrubCursor, ScrubOptions, ScrubReport},
    document::DocumentKind,
    progress::Silent,
};
use lifeboat_store::fault::{Fault, FaultStore, Operation, Rule};
use tokio_util::sync::CancellationToken;

use crate::world::*;

async fn world() -> World {
    let world = World::new(no_locks());
    world.put_document(world.store(), DocumentKind::Timeline, stream(SEGMENT)).await.unwrap();
    for n in 0..4 {
        world.backup(&files(n), stream(SEGMENT + n * 4096)).await;
        world.store_clock.advance(HOUR);
    }
    world.put_wal(world.store(), stream(SEGMENT), 3 * SEGMENT + 1000).await.unwrap();
    world
}

fn options(world: &World, days: u32, cursor: ScrubCursor) -> ScrubOptions {
    ScrubOptions { days, cursor, now: world.now(), cancel: CancellationToken::new() }
}

async fn scrub(world: &World, faults: &FaultStore, options: ScrubOptions) -> ScrubReport {
    let repo = world.repo_on(Arc::new(faults.clone())).await.unwrap();
    check::scrub(&repo, &world.trusted(), options, Arc::new(Silent)).await.unwrap()
}

#[tokio::test]
async fn within_its_calendar_it_reads_everything_once() {
    let world = world().await;
    let index = |name: &String| name.contains("/index/");
    let all: Vec<String> = world.names("").await.into_iter().filter(|name| !index(name)).collect();
    let (mut cursor, mut read, mut due) = (ScrubCursor::default(), BTreeMap::<String, u32>::new(), Vec::new());
    for _ in 0..7 {
        let report = scrub(&world, &FaultStore::new(world.store()), options(&world, 7, cursor)).await;
        assert!(report.complete && report.problems.is_empty() && report.objects == report.due, "{report:?}");
        cursor = report.cursor.clone();
        let again = scrub(&world, &FaultStore::new(world.store()), options(&world, 7, cursor.clone())).await;
        assert_eq!((again.due, again.complete), (0, true), "a day is read once");
        due.push(report.due);
        world.store_clock.advance(DAY);
    }
    assert_eq!(due.iter().sum::<u64>(), all.len() as u64, "{due:?}");
    assert!(due.iter().filter(|due| **due > 0).count() > 3, "{due:?}");
    // What is read is the object itself: damage of any one is found by the run on its day.
    let faults = FaultStore::new(world.store());
    let report = scrub(&world, &faults, options(&world, 1, ScrubCursor::default())).await;
    assert_eq!(report.objects, all.len() as u64);
    for (operation, key) in faults.calls() {
        if operation == Operation::Get {
            *read.entry(key).or_default() += 1;
        }
    }
    assert!(all.iter().all(|name| read.contains_key(name)), "{read:?}");
}

#[tokio::test]
async fn it_goes_on_where_it_ended() {
    let world = world().await;
    let whole = scrub(&world, &FaultStore::new(world.store()), options(&world, 1, ScrubCursor::default())).await;
    let (mut cursor, mut objects, mut runs) = (ScrubCursor::default(), 0, 0);
    loop {
        let options = options(&world, 1, cursor);
        // Ends after a few objects: the store watches how many were read.
        let store = Ending { inner: FaultStore::new(world.store()), cancel: options.cancel.clone(), after: 12.into() };
        let repo = world.repo_on(Arc::new(store)).await.unwrap();
        let report = check::scrub(&repo, &world.trusted(), options, Arc::new(Silent)).await.unwrap();
        (cursor, objects, runs) = (report.cursor, objects + report.objects, runs + 1);
        assert!(runs < 100, "it makes headway");
        if report.complete {
            break;
        }
    }
    assert!(runs > 2, "{runs} runs");
    assert_eq!(objects, whole.objects, "each once");
}

#[tokio::test]
async fn damage_is_named_with_the_points_that_it_hits() {
    let world = world().await;
    let points = world.points().await;
    let shared = points[0].header.objects.iter().find(|o| points[3].header.objects.iter().any(|p| p.key == o.key));
    let shared = shared.unwrap().key.clone();
    let segment = world.names("wal/7000000000000000001/00000001/segment").await[0].clone();
    let faults = FaultStore::new(world.store());
    for key in [shared.as_str(), segment.as_str(), points[1].key.as_str()] {
        faults.add(Rule::on(Operation::Get, Fault::FlipByte(200)).key(key).and_ever_after());
    }
    let report = scrub(&world, &faults, options(&world, 1, ScrubCursor::default())).await;
    assert!(report.complete);
    let hit = |key: &str| report.problems.iter().find(|problem| problem.key.as_str() == key).unwrap();
    assert!(hit(shared.as_str()).points.len() >= 3, "{:?}", report.problems);
    assert!(hit(&segment).points.is_empty());
    assert!(hit(points[1].key.as_str()).what.contains("cannot be read"));
    faults.heal();
    faults.add(Rule::on(Operation::Get, Fault::FailBefore).key("/packs/"));
    let repo = world.repo_on(Arc::new(faults)).await.unwrap();
    let (trusted, options) = (world.trusted(), options(&world, 1, ScrubCursor::default()));
    let error = check::scrub(&repo, &trusted, options, Arc::new(Silent)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}

/// Cancels after so many heads.
#[derive(Debug)]
struct Ending {
    inner: FaultStore,
    cancel: CancellationToken,
    after: std::sync::atomic::AtomicI64,
}

#[async_trait::async_trait]
impl lifeboat_store::Store for Ending {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn capabilities(&self) -> lifeboat_store::Capabilities {
        self.inner.capabilities()
    }
    async fn put_locked(
        &self,
        key: &lifeboat_store::Key,
        bytes: bytes::Bytes,
        retention: Option<lifeboat_store::Retention>,
    ) -> lifeboat_store::Result<lifeboat_store::Stored> {
        self.inner.put_locked(key, bytes, retention).await
    }
    async fn get(
        &self,
        key: &lifeboat_store::Key,
        version: Option<&lifeboat_store::VersionId>,
        range: Option<std::ops::Range<u64>>,
    ) -> lifeboat_store::Result<bytes::Bytes> {
        if self.after.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) <= 0 {
            self.cancel.cancel();
        }
        self.inner.get(key, version, range).await
    }
    async fn head(
        &self,
        key: &lifeboat_store::Key,
        version: Option<&lifeboat_store::VersionId>,
    ) -> lifeboat_store::Result<lifeboat_store::ObjectInfo> {
        self.inner.head(key, version).await
    }
    fn list_from(
        &self,
        prefix: &str,
        after: &str,
    ) -> futures::stream::BoxStream<'static, lifeboat_store::Result<lifeboat_store::ObjectInfo>> {
        self.inner.list_from(prefix, after)
    }
    async fn delete(
        &self,
        key: &lifeboat_store::Key,
        version: Option<&lifeboat_store::VersionId>,
    ) -> lifeboat_store::Result<()> {
        self.inner.delete(key, version).await
    }
    async fn clock(&self) -> lifeboat_store::Result<jiff::Timestamp> {
        self.inner.clock().await
    }
}
