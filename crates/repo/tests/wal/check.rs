//! The check of the archive needs no decryption key, and names what is wrong.

use std::sync::Arc;

use bytes::Bytes;
use lifeboat_model::{lsn::Lsn, signature::SigningKey};
use lifeboat_repo::{
    Error,
    check::{self, WalCheckMode, WalCheckReport},
    document::{DocumentKind, Position},
    progress::Silent,
    wal::WalObjectKind,
};
use lifeboat_store::{
    Key,
    fault::{Fault, Operation, Rule},
    local::LocalStore,
};
use lifeboat_testkit::{bucket, folder::TempFolder, testbed};

use crate::world::*;

const S: u64 = SEGMENT;
const MODES: [WalCheckMode; 3] = [WalCheckMode::Names, WalCheckMode::Heads, WalCheckMode::ReadCiphertext];

async fn checked(world: &World, mode: WalCheckMode) -> WalCheckReport {
    check::wal(&world.repo().await, &[world.signing.public()], mode, Arc::new(Silent)).await.unwrap()
}

fn runs(report: &WalCheckReport) -> Vec<(u64, u64)> {
    report.streams.iter().flat_map(|stream| &stream.runs).map(|(first, last)| (first.0, last.0)).collect()
}

fn problems(report: &WalCheckReport) -> Vec<(&str, &str)> {
    report.problems.iter().map(|problem| (problem.key.as_str(), problem.what.as_str())).collect()
}

async fn begin(world: &World) {
    let position = Position { system_id: SYSTEM, timeline: TIMELINE, lsn: Lsn(0) };
    let repo = world.repo().await;
    repo.put_document(DocumentKind::Timeline, position, &"begun", &world.document_keys(), now()).await.unwrap();
}

/// Two segments with their slices, a hole, a segment, and a tail of slices.
async fn archive(world: &World) {
    begin(world).await;
    for segment in [0, 1, 3] {
        world.slice(segment * S, segment * S + 500).await;
        world.slice(segment * S + 500, segment * S + S).await;
        world.segment(segment).await;
    }
    world.slice(4 * S, 4 * S + 1000).await;
    world.slice(4 * S + 1000, 4 * S + 1001).await;
}

async fn a_good_archive_passes(world: World) {
    archive(&world).await;
    for mode in MODES {
        let report = checked(&world, mode).await;
        assert_eq!(problems(&report), [], "{mode:?}");
        assert_eq!(runs(&report), [(0, 2 * S), (3 * S, 4 * S + 1001)], "{mode:?}");
        let stream = &report.streams[0];
        assert_eq!((stream.system_id, stream.timeline), (SYSTEM, TIMELINE));
        assert_eq!((report.streams.len(), report.documents, stream.segments, stream.slices), (1, 1, 3, 2));
        let listed = world.list(0).await;
        assert_eq!(stream.bytes, listed.objects().iter().map(|object| object.len).sum::<u64>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory() {
    a_good_archive_passes(World::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_folder() {
    let folder = TempFolder::new();
    a_good_archive_passes(World::over(Arc::new(LocalStore::open(folder.path(), true).unwrap()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_bucket() {
    if testbed::enabled() {
        a_good_archive_passes(World::over(Arc::new(bucket::store("wal-check").await))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_is_named_and_its_slices_hold_the_range() {
    let world = World::new();
    archive(&world).await;
    let segment = world.list(0).await.objects()[1].clone();
    let sealed = segment.len as usize - 100;
    // A header that does not verify is seen by both; changed ciphertext only by reading it.
    for (at, modes) in [(40, &MODES[1..]), (sealed, &MODES[2..])] {
        world.memory.tamper(segment.key.as_str(), |bytes| bytes[at] ^= 1);
        for mode in MODES {
            let report = checked(&world, mode).await;
            let expected: &[&str] = if modes.contains(&mode) { &[segment.key.as_str()] } else { &[] };
            assert_eq!(problems(&report).iter().map(|found| found.0).collect::<Vec<_>>(), expected, "{mode:?}");
            assert_eq!(runs(&report), [(0, 2 * S), (3 * S, 4 * S + 1001)], "its slices serve: {mode:?}");
        }
        world.memory.tamper(segment.key.as_str(), |bytes| bytes[at] ^= 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_replaces_is_a_gap() {
    let world = World::new();
    archive(&world).await;
    let tail = world.list(4 * S).await.objects()[0].clone();
    world.memory.tamper(tail.key.as_str(), |bytes| bytes.truncate(600));
    let report = checked(&world, WalCheckMode::Heads).await;
    assert_eq!(problems(&report).len(), 1);
    assert_eq!(report.problems[0].key, tail.key);
    assert_eq!(runs(&report), [(0, 2 * S), (3 * S, 4 * S), (4 * S + 1000, 4 * S + 1001)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_and_renamed_objects_fill_no_hole() {
    let world = World::new();
    archive(&world).await;
    let (good, bytes) = {
        let good = world.list(0).await.objects()[0].clone();
        let bytes = world.store.get(&good.key, None, None).await.unwrap();
        (good, bytes)
    };
    let hole = format!("{:016x}-{:016x}", 2 * S, 3 * S);
    let renamed = good.key.as_str().replace(&format!("{:016x}-{S:016x}", 0), &hole);
    world.store.put(&Key::new(renamed.as_str()).unwrap(), bytes).await.unwrap();
    let forger = World { signing: SigningKey::from_seed(&[6; 32]), ..World::over(world.store.clone()) };
    let forged = forger.slice(2 * S, 3 * S).await;
    assert_eq!(runs(&checked(&world, WalCheckMode::Names).await), [(0, 4 * S + 1001)], "names alone believe it");
    for mode in &MODES[1..] {
        let report = checked(&world, *mode).await;
        let found = problems(&report);
        assert_eq!(found.iter().map(|found| found.0).collect::<Vec<_>>(), [renamed.as_str(), forged.key.as_str()]);
        assert!(found.iter().all(|found| found.1.contains("not to be trusted")), "{found:?}");
        assert_eq!(runs(&report), [(0, 2 * S), (3 * S, 4 * S + 1001)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_names_damaged_documents_and_streams_without_a_beginning_are_told() {
    let world = World::new();
    archive(&world).await;
    let strange = format!("{ROOT}wal/{SYSTEM}/{TIMELINE:08x}/segment/readme");
    world.store.put(&Key::new(strange.as_str()).unwrap(), Bytes::from_static(b"x")).await.unwrap();
    let document = world.repo().await.list_documents(DocumentKind::Timeline).await.unwrap().remove(0);
    world.memory.tamper(document.key.as_str(), |bytes| bytes[100] ^= 1);
    let writer = world.writer().await;
    let orphan = writer.put(WalObjectKind::Slice, 99, 1, S, Lsn(0), wal(0, 50), None).await.unwrap();
    // A recovery point's own slice makes no stream.
    let own = format!("{ROOT}wal/77/00000001/{:016x}-{:016x}-{:032x}", 0, 50, 1);
    world.store.put(&Key::new(own).unwrap(), Bytes::from_static(b"x")).await.unwrap();

    let report = checked(&world, WalCheckMode::Heads).await;
    let mut keys: Vec<&str> = problems(&report).iter().map(|found| found.0).collect();
    keys.sort_unstable();
    let mut expected = [strange.as_str(), document.key.as_str(), orphan.key.as_str()];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    let streams: Vec<_> = report.streams.iter().map(|stream| (stream.system_id, stream.timeline)).collect();
    assert_eq!(streams, [(99, 1), (SYSTEM, TIMELINE)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_begun_and_holds_nothing_is_told() {
    let world = World::new();
    begin(&world).await;
    let report = checked(&world, WalCheckMode::ReadCiphertext).await;
    assert_eq!((report.streams.len(), runs(&report), problems(&report)), (1, vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_problems_are_counted() {
    let world = World::new();
    begin(&world).await;
    for n in 0..1200u64 {
        let key = format!("{ROOT}wal/{SYSTEM}/{TIMELINE:08x}/segment/{:016x}-{:016x}-{n:032x}", n * S, (n + 1) * S);
        world.store.put(&Key::new(key).unwrap(), Bytes::from_static(b"junk")).await.unwrap();
    }
    let report = checked(&world, WalCheckMode::Heads).await;
    assert_eq!((report.problems.len(), report.more_problems, report.streams.len()), (1000, 200, 1));
    assert_eq!(runs(&report), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_store_ends_the_check() {
    let world = World::new();
    archive(&world).await;
    for rule in [
        Rule::on(Operation::List, Fault::FailBefore).key("/segment/"),
        Rule::on(Operation::List, Fault::FailBefore).key("/slice/"),
        Rule::on(Operation::List, Fault::FailBefore).key("/marks/"),
        Rule::on(Operation::Get, Fault::FailBefore).key("/segment/").nth(2),
        Rule::on(Operation::Get, Fault::Refuse).key("/slice/"),
    ] {
        world.faults.heal();
        world.faults.add(rule);
        let repo = world.repo().await;
        let trusted = [world.signing.public()];
        let error = check::wal(&repo, &trusted, WalCheckMode::Heads, Arc::new(Silent)).await.unwrap_err();
        assert!(matches!(error, Error::Store(_)), "{error}");
    }
}
