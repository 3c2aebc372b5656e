//! Every store gives back what was put, and tells where it ends.

use std::sync::Arc;

use lifeboat_model::lsn::Lsn;
use lifeboat_repo::{
    Error,
    wal::{MAX_OBJECT, WalObjectKind, segment_object_size},
};
use lifeboat_store::{
    fault::{Fault, Operation, Rule},
    local::LocalStore,
};
use lifeboat_testkit::{bucket, folder::TempFolder, testbed};

use crate::world::*;

async fn stream_comes_back(world: World) {
    // Two whole segments with their slices, then slices of an unfinished one, the last ending in the middle.
    for (first, last) in [(0, 400_000), (400_000, SEGMENT), (SEGMENT, 2 * SEGMENT)] {
        world.slice(first, last).await;
    }
    let written = world.segment(0).await;
    world.segment(1).await;
    let tail = [(2 * SEGMENT, 2 * SEGMENT + 1), (2 * SEGMENT + 1, 2 * SEGMENT + 70_000)];
    for (first, last) in tail {
        world.slice(first, last).await;
    }
    let runs = world.list(0).await.runs();
    assert_eq!(spans(&runs), [(0, 2 * SEGMENT + 70_000)]);
    assert_eq!(pieces(&runs[0]), [&[(0, SEGMENT), (SEGMENT, 2 * SEGMENT)], &tail[..]].concat());
    world.assert_reads(&runs[0]).await;
    assert_eq!(runs[0].objects[0], written, "the listing names what the put gave, version included");

    let archive = world.repo().await.wal_archive();
    for object in &runs[0].objects {
        let header = archive.head(object, &[world.signing.public()]).await.unwrap();
        assert_eq!((header.first, header.last, header.kind), (object.first, object.last, object.kind));
        assert_eq!((header.commits, header.segment_size), (Some(commits()), SEGMENT));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_with_versions() {
    stream_comes_back(World::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_folder() {
    let folder = TempFolder::new();
    stream_comes_back(World::over(Arc::new(LocalStore::open(folder.path(), true).unwrap()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_bucket() {
    if testbed::enabled() {
        stream_comes_back(World::over(Arc::new(bucket::store("wal").await))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once() {
    let world = Arc::new(World::new());
    let parts = (0..16u64).map(|n| (n * SEGMENT / 16, (n + 1) * SEGMENT / 16));
    let puts = parts.map(|(first, last)| {
        let world = world.clone();
        tokio::spawn(async move { world.slice(first, last).await })
    });
    futures::future::join_all(puts).await.into_iter().for_each(|put| assert!(put.is_ok()));
    let runs = world.list(0).await.runs();
    assert_eq!(spans(&runs), [(0, SEGMENT)]);
    world.assert_reads(&runs[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_an_object_is_refused() {
    let world = World::new();
    let cases = [
        (WalObjectKind::Slice, SEGMENT - 1, SEGMENT + 1),
        (WalObjectKind::Slice, 0, SEGMENT + 1),
        (WalObjectKind::Segment, 0, SEGMENT - 1),
        (WalObjectKind::Segment, 0, 2 * SEGMENT),
        (WalObjectKind::Segment, 8, SEGMENT + 8),
    ];
    for (kind, first, last) in cases {
        let error = world.put(kind, first, last).await.unwrap_err();
        assert!(matches!(error, Error::WalOrder { .. }), "{kind} {first} to {last}: {error}");
    }
    let error = world.put(WalObjectKind::Slice, 5, 5).await.unwrap_err();
    assert!(matches!(error, Error::Usage(_)), "{error}");
    for size in [0, 3 << 20, 1 << 19, 1 << 31] {
        let put = world.writer().await.put(WalObjectKind::Slice, SYSTEM, 1, size, Lsn(0), wal(0, 9), None).await;
        assert!(matches!(put, Err(Error::Usage(_))), "segment size {size}: {put:?}");
    }
    assert_eq!(world.memory.keys(&format!("{ROOT}wal/")), [""; 0], "nothing was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_of_a_gigabyte_are_stored_in_parts() {
    let world = World::new();
    let (size, writer) = (1 << 30, world.writer().await);
    assert_eq!((segment_object_size(size), segment_object_size(16 << 20)), (MAX_OBJECT, 16 << 20));
    let zeros = bytes::Bytes::from(vec![0; MAX_OBJECT as usize]);
    for part in 0..2 {
        let first = Lsn(size + part * MAX_OBJECT);
        writer.put(WalObjectKind::Segment, SYSTEM, TIMELINE, size, first, zeros.clone(), None).await.unwrap();
    }
    let runs = world.list(size + MAX_OBJECT + 5).await.runs();
    assert_eq!(spans(&runs), [(size + MAX_OBJECT, size + 2 * MAX_OBJECT)]);
    assert!(world.reader().await.read(&runs[0].objects[0]).await.unwrap() == zeros);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_is_recognised_and_leaves_one_object() {
    let world = World::new();
    world.faults.add(Rule::on(Operation::Put, Fault::LoseReply).key("/slice/"));
    let put = world.slice(0, 1000).await;
    assert_eq!(world.faults.struck(), 1);
    let listing = world.list(0).await;
    assert_eq!(listing.objects(), [put]);
    world.assert_reads(&listing.runs()[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_failed_is_no_success_and_does_not_spoil_the_next() {
    let faults = [Fault::FailBefore, Fault::WriteOnly(0), Fault::WriteOnly(300), Fault::Refuse, Fault::Full];
    for fault in faults {
        let world = World::new();
        world.faults.add(Rule::on(Operation::Put, fault.clone()).key("/slice/"));
        let error = world.put(WalObjectKind::Slice, 0, 1000).await.unwrap_err();
        assert!(matches!(error, Error::Store(_)), "{fault:?}: {error}");
        let again = world.slice(0, 1000).await;
        let listing = world.list(0).await;
        let runs = listing.runs();
        assert_eq!(spans(&runs), [(0, 1000)], "{fault:?}");
        // Of two objects with the range, whichever is chosen: what is read is right.
        let read = world.reader().await.read_or_replace(&runs[0].objects[0]).await.unwrap();
        assert!(read.bytes == wal(0, 1000), "{fault:?}");
        assert!(listing.objects().contains(&again));
    }
    // Neither the put nor the look afterwards got through: then nobody knows, and that is an error.
    let world = World::new();
    world.faults.add(Rule::on(Operation::Put, Fault::LoseReply).key("/slice/"));
    world.faults.add(Rule::on(Operation::List, Fault::FailBefore).key("/slice/"));
    let error = world.put(WalObjectKind::Slice, 0, 1000).await.unwrap_err();
    assert!(error.is_transient() && world.faults.struck() == 2, "{error}");
    world.slice(0, 1000).await;
    let listing = world.list(0).await;
    assert_eq!((listing.objects().len(), spans(&listing.runs())), (2, vec![(0, 1000)]), "stored twice, one range");
    assert_eq!(pieces(&listing.runs()[0]), [(0, 1000)]);
}
