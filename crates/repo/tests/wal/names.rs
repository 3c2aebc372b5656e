//! Listings by names alone: right for every mixture of objects, and no longer than they must be.

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use lifeboat_model::lsn::Lsn;
use lifeboat_repo::{
    check::{self, WalCheckMode},
    progress::Silent,
    repository::Repository,
    wal::{WalListing, WalRun},
};
use lifeboat_store::{Key, ObjectInfo, Result, Retention, Store, Stored, VersionId};
use proptest::prelude::*;

use crate::{memory::MemoryStore, world::*};

const S: u64 = SEGMENT;

/// Counts the names that its listings yield.
#[derive(Debug, Clone, Default)]
struct CountingStore {
    inner: MemoryStore,
    listed: Arc<AtomicUsize>,
}

impl CountingStore {
    fn take(&self) -> usize {
        self.listed.swap(0, Ordering::SeqCst)
    }
}

#[async_trait]
impl Store for CountingStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put_locked(&self, key: &Key, bytes: Bytes, _: Option<Retention>) -> Result<Stored> {
        self.inner.put(key, bytes).await
    }

    async fn get(&self, key: &Key, version: Option<&VersionId>, range: Option<Range<u64>>) -> Result<Bytes> {
        self.inner.get(key, version, range).await
    }

    async fn head(&self, key: &Key, version: Option<&VersionId>) -> Result<ObjectInfo> {
        self.inner.head(key, version).await
    }

    fn list_from(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>> {
        let listed = self.listed.clone();
        let count = move |_: &Result<ObjectInfo>| {
            listed.fetch_add(1, Ordering::SeqCst);
        };
        self.inner.list_from(prefix, after).inspect(count).boxed()
    }

    async fn clock(&self) -> Result<jiff::Timestamp> {
        self.inner.clock().await
    }

    async fn delete(&self, key: &Key, version: Option<&VersionId>) -> Result<()> {
        self.inner.delete(key, version).await
    }
}

/// Names objects without any content.
async fn name(store: &MemoryStore, kind: &str, number: u128, (first, last): (u64, u64)) {
    let key = format!("{ROOT}wal/{SYSTEM}/{TIMELINE:08x}/{kind}/{first:016x}-{last:016x}-{number:032x}");
    store.put(&Key::new(key).unwrap(), Bytes::new()).await.unwrap();
}

#[tokio::test]
async fn superseded_slices_are_not_even_listed() {
    const SEGMENTS: u64 = 1000;
    const SLICES: u64 = 100;
    const MISSING: u64 = 600;
    const TAIL: u64 = 40;
    let store = CountingStore::default();
    let slice = |n: u64| (n * S / SLICES, (n + 1) * S / SLICES);
    for n in 0..SEGMENTS * SLICES + TAIL {
        name(&store.inner, "slice", n.into(), slice(n)).await;
    }
    for n in (0..SEGMENTS).filter(|n| *n != MISSING) {
        name(&store.inner, "segment", n.into(), (n * S, (n + 1) * S)).await;
    }
    let world = World::over(Arc::new(store.clone()));
    let all = (SEGMENTS - 1 + SLICES + TAIL) as usize;

    store.take();
    let listing = world.list(0).await;
    assert_eq!(spans(&listing.runs()), [(0, slice(SEGMENTS * SLICES + TAIL - 1).1)]);
    assert_eq!((listing.objects().len(), store.take()), (all, all + 1), "and the name that ends the hole");

    // From inside the hole, and from the last segment on: what lies before the 64 MiB around is not looked at.
    let listing = world.list(MISSING * S + 5).await;
    assert_eq!(listing.from(Lsn(MISSING * S + 5)).unwrap().first.0, MISSING * S);
    let (segments, listed) = (SEGMENTS - MISSING, store.take());
    assert!(listed as u64 <= segments + SLICES + TAIL + 64, "{listed} names for {segments} segments");
    let listing = world.list((SEGMENTS - 1) * S).await;
    assert_eq!(listing.objects().len(), TAIL as usize + 1);
    let listed = store.take();
    assert!(listed as u64 <= TAIL + 64, "{listed} names for one segment and {TAIL} slices");

    let repo = world.repo().await;
    store.take();
    let report = check::wal(&repo, &[], WalCheckMode::Names, Arc::new(Silent)).await.unwrap();
    let stream = &report.streams[0];
    assert_eq!((stream.segments, stream.slices), (SEGMENTS - 1, SLICES + TAIL));
    assert_eq!(stream.runs, [(Lsn(0), listing.runs()[0].last)]);
    assert!(store.take() <= all + 10, "a check lists no more");

    // Nor does anybody else look through them.
    for instance in ["bakery", "ward", "ward-2"] {
        let key = format!("hospital/{instance}/points/20261121T200732Z-0101010101010101");
        store.put(&Key::new(key).unwrap(), Bytes::new()).await.unwrap();
    }
    let repository = Repository::open(Arc::new(store.clone())).await.unwrap();
    let instances = repository.instances(&"hospital".parse().unwrap()).await.unwrap();
    assert_eq!(instances.iter().map(|instance| instance.as_str()).collect::<Vec<_>>(), ["bakery", "ward", "ward-2"]);
    assert!(store.take() <= 10, "two names of each");
}

const UNIT: u64 = S / 8;
const UNITS: u64 = 8 * 70; // beyond the 64 segments that a listing may look back

type Units = BTreeSet<u64>;

fn units(runs: impl IntoIterator<Item = (u64, u64)>) -> Units {
    runs.into_iter().flat_map(|(first, last)| first / UNIT..last / UNIT).collect()
}

fn chain_is_tight(run: &WalRun) {
    let reach = |at: usize| run.objects[at].last;
    assert_eq!((run.objects[0].first, run.objects.last().unwrap().last), (run.first, run.last));
    for at in 1..run.objects.len() {
        assert!(run.objects[at].first <= reach(at - 1) && reach(at) > reach(at - 1), "{run:?}");
        assert!(at < 2 || run.objects[at].first > reach(at - 2), "one of them is not needed: {run:?}");
    }
}

fn listing_is_right(listing: &WalListing, held: &Units, from: u64) {
    let runs = listing.runs();
    runs.iter().for_each(chain_is_tight);
    assert!(runs.windows(2).all(|pair| pair[0].last < pair[1].first), "runs are apart: {:?}", spans(&runs));
    let beyond = |units: Units| units.into_iter().filter(|unit| *unit >= from / UNIT).collect::<Units>();
    assert_eq!(beyond(units(spans(&runs))), beyond(held.clone()), "from {from:#x}");
    match listing.from(Lsn(from)) {
        Some(run) => {
            chain_is_tight(&run);
            assert!(run.first.0 <= from && run.objects[0].last.0 > from);
            let missing = (from / UNIT..).find(|unit| !held.contains(unit)).unwrap();
            assert_eq!(run.last.0, missing * UNIT);
        }
        None => assert!(!held.contains(&(from / UNIT))),
    }
}

fn a_slice() -> impl Strategy<Value = (u64, u64)> {
    (0..UNITS, 1..8u64).prop_map(|(first, len)| {
        let last = (first + len).min((first / 8 + 1) * 8);
        (first * UNIT, last * UNIT)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_mixture_is_listed_as_what_it_holds(
        segments in prop::collection::vec(0..UNITS / 8, 0..60),
        slices in prop::collection::vec(a_slice(), 0..120),
        froms in prop::collection::vec(0..UNITS * UNIT, 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let segments = segments.iter().map(|n| (n * S, (n + 1) * S));
            let mut held = Units::new();
            for (number, span) in segments.clone().enumerate() {
                name(&world.memory, "segment", number as u128, span).await;
                held.extend(units([span]));
            }
            for (number, span) in slices.iter().enumerate() {
                name(&world.memory, "slice", number as u128, *span).await;
                held.extend(units([*span]));
            }
            for from in froms.iter().map(|from| from / UNIT * UNIT).chain([0]) {
                listing_is_right(&world.list(from).await, &held, from);
            }
            let repo = world.repo().await;
            let report = check::wal(&repo, &[], WalCheckMode::Names, Arc::new(Silent)).await.unwrap();
            let runs = report.streams.iter().flat_map(|stream| &stream.runs).map(|(first, last)| (first.0, last.0));
            assert_eq!(units(runs), held);
        });
    }
}
