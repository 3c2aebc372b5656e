//! A clock that goes wrong while a stream runs: locks follow the store's, and the stream goes on.

use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::{
    Error,
    keys::writer_keys,
    stream::{State, watch_clock},
};
use lifeboat_model::lsn::Lsn;
use lifeboat_repo::wal::{WalObjectKind, WalWriter};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use crate::world::{LOCK, TestClock, World};

/// What a stream holds for months.
async fn wal_writer(world: &World) -> WalWriter {
    let keys = writer_keys(&world.context.config.keys).unwrap();
    let repo = world.context.writing_repo(&world.name).await.unwrap();
    WalWriter::new(repo, keys.recipients, keys.signing, 1)
}

/// Until when the next slice is locked.
async fn lock_of_a_slice(world: &World, writer: &WalWriter, at: u64) -> Timestamp {
    const SEGMENT: u64 = 16 << 20;
    let bytes = Bytes::from(vec![1; 512]);
    let put = writer.put(WalObjectKind::Slice, 7, 1, SEGMENT, Lsn(SEGMENT + at * 512), bytes, None);
    let slice = put.await.unwrap();
    let store = world.context.repository.store();
    store.lock_state(&slice.key, slice.version.as_ref()).await.unwrap().retention.unwrap().until
}

/// Lets the watch run until it has said so many things; gives the last, and how long that took.
async fn watched(world: &World, again: &Notify, remarks: usize) -> (String, Duration) {
    let (state, mut seen) = watch::channel(State::default());
    let begun = Instant::now();
    let said = tokio::select! {
        () = watch_clock(&world.context, &state, again) => unreachable!("it never ends"),
        said = timeout(Duration::from_secs(86_400), seen.wait_for(|state| state.remarks.len() >= remarks)) => {
            said.expect("within a day").unwrap().remarks.last().cloned().unwrap()
        }
    };
    (said, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_stream_locks_by_the_stores_clock_however_wrong_the_hosts_becomes() {
    let host = TestClock::begin();
    let world = World::in_bucket(LOCK).await.with_host_clock(&host);
    let writer = wal_writer(&world).await;
    let right = lock_of_a_slice(&world, &writer, 0).await;

    // Two hours behind, as after a reboot without a network: every lock would end two hours too early.
    host.advance(-2);
    assert!(lock_of_a_slice(&world, &writer, 1).await < right);
    let (said, took) = watched(&world, &Notify::new(), 1).await;
    assert!(said.contains("2h 0m ahead of this host's") && said.contains("nothing else is written"), "{said}");
    assert!((3600..3700).contains(&took.as_secs()), "{took:?}");
    assert_eq!(lock_of_a_slice(&world, &writer, 2).await, right, "the stream's own writer locks as before");
    let refused = world.context.writing_repo(&world.name).await.err().unwrap();
    assert!(matches!(refused, Error::ClockSkew { .. }), "nothing else begins: {refused}");

    // Mended: the next look finds it, and a connection that broke asks for one.
    host.advance(2);
    let again = Notify::new();
    again.notify_one();
    let (said, took) = watched(&world, &again, 1).await;
    assert!(said.contains("agree again"), "{said}");
    assert!((60..120).contains(&took.as_secs()), "{took:?}");
    assert_eq!(lock_of_a_slice(&world, &writer, 3).await, right);
    world.context.writing_repo(&world.name).await.expect("and everything may be written again");
}

#[tokio::test(start_paused = true)]
async fn a_small_difference_is_told_once() {
    let host = TestClock::begin();
    let world = World::in_bucket(LOCK).await.with_host_clock(&host);
    let (state, seen) = watch::channel(State::default());
    assert_eq!(world.context.skew().await.unwrap().0, SignedDuration::ZERO);
    host.advance(1);
    let again = Notify::new();
    let watching = watch_clock(&world.context, &state, &again);
    assert!(timeout(Duration::from_secs(24 * 3600), watching).await.is_err(), "it never ends");
    assert_eq!(seen.borrow().remarks.len(), 1, "{:?}", seen.borrow().remarks);
}
