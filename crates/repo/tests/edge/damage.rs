//! Damage to any object is caught, named, and hits no more than it must.

use std::sync::Arc;

use lifeboat_repo::{
    Error,
    check::{VerifyMode, VerifyReport, verify},
    point::{ObjectKind, Point, PointDetails},
    progress::Silent,
    tree::TreeKind,
    writer::{Chunking, PointDraft},
};
use lifeboat_store::{Key, Store as _};

use crate::{memory::MemoryStore, world::*};

fn sample() -> Vec<File> {
    let mut files: Vec<File> = (0..12).map(|n| file(&format!("doc{n:02}"), noise(n, 900_000))).collect();
    files.push(File { chunking: Chunking::RELATION, ..file("relation", text(50, 3 << 20)) });
    files
}

fn objects(point: &Point, kind: ObjectKind) -> Vec<String> {
    let objects = point.header.objects.iter().filter(|object| object.kind == kind);
    objects.map(|object| object.key.to_string()).collect()
}

async fn look(world: &World, point: &Point, mode: VerifyMode) -> VerifyReport {
    verify(&world.clean_repo().await, std::slice::from_ref(point), mode, Arc::new(Silent)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_of_any_object_is_named_without_keys() {
    let world = World::new();
    let point = world.backup(&sample()).await.unwrap();
    for kind in [ObjectKind::Key, ObjectKind::Pack, ObjectKind::Tree, ObjectKind::Wal] {
        let keys = objects(&point, kind);
        assert!(!keys.is_empty(), "{kind:?}");
        let world = world.on(world.memory.fork());
        world.memory.tamper(&keys[0], |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        assert_eq!(look(&world, &point, VerifyMode::Heads).await.problems, [], "lengths are as they were");
        let report = look(&world, &point, VerifyMode::ReadCiphertext).await;
        assert_eq!(report.problems.len(), 1, "{kind:?}");
        let problem = &report.problems[0];
        assert_eq!((problem.key.as_str(), &problem.points[..]), (keys[0].as_str(), &[point.header.point][..]));
        if kind != ObjectKind::Key {
            let report = look(&world, &point, VerifyMode::ReadData(vec![world.recovery.clone()])).await;
            assert_eq!(report.problems.iter().map(|p| p.key.as_str()).collect::<Vec<_>>(), [keys[0].as_str()]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_object_is_named_by_its_head() {
    let world = World::new();
    let point = world.backup(&sample()).await.unwrap();
    for key in point.header.objects.iter().map(|object| object.key.to_string()) {
        let world = world.on(world.memory.fork());
        world.memory.remove(&key);
        let report = look(&world, &point, VerifyMode::Heads).await;
        assert_eq!(report.problems.len(), 1);
        assert!(report.problems[0].key.as_str() == key && report.problems[0].what.contains("missing"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_pack_costs_its_files_and_no_others() {
    let world = World::new();
    let files = sample();
    let point = world.backup(&files).await.unwrap();
    let packs = objects(&point, ObjectKind::Pack);
    assert!(packs.len() >= 3, "{} packs", packs.len());
    for cut in [false, true] {
        let world = world.on(world.memory.fork());
        match cut {
            true => world.memory.tamper(&packs[0], |bytes| bytes.truncate(bytes.len() / 2)),
            false => world.memory.remove(&packs[0]),
        }
        let (restored, report) = world.restore(&point, TreeKind::Filestore).await;
        assert_eq!(report.damage.len(), 1);
        let damage = &report.damage[0];
        assert_eq!(damage.object.as_str(), packs[0]);
        assert_eq!(damage.file_count, restored.damaged.len() as u64);
        assert!(!restored.damaged.is_empty() && restored.damaged.len() < files.len());
        let mut named = damage.files.clone();
        named.sort();
        let mut damaged = restored.damaged.clone();
        damaged.sort();
        assert_eq!(named, damaged);
        for file in files.iter().filter(|file| !damaged.contains(&file.path)) {
            assert!(restored.files[&file.path.as_bytes().to_vec()] == file.bytes, "{}", file.path);
        }
        let report = look(&world, &point, VerifyMode::ReadData(vec![world.recovery.clone()])).await;
        assert_eq!(report.problems.len(), 1);
        assert_eq!(
            report.problems[0].file_count,
            match cut {
                true => report.problems[0].file_count.max(1),
                false => damaged.len() as u64,
            }
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_costs_only_the_frames_it_touches() {
    let world = World::new();
    let files: Vec<File> = (0..3).map(|n| file(&format!("doc{n}"), noise(n, 1_100_000))).collect();
    let point = world.backup(&files).await.unwrap();
    let pack = objects(&point, ObjectKind::Pack)[0].clone();
    // Three frames of 1.1 MB in one pack: the first is hit, the others, read in the same range, are not.
    world.memory.tamper(&pack, |bytes| bytes[500_000] ^= 1);
    let (restored, report) = world.restore(&point, TreeKind::Filestore).await;
    assert_eq!(restored.damaged, ["doc0"]);
    assert_eq!((report.damage.len(), report.damage[0].file_count), (1, 1));
    assert!(restored.files[&b"doc1"[..]] == files[1].bytes && restored.files[&b"doc2"[..]] == files[2].bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_tree_object_costs_its_entries_only() {
    let world = World::new();
    // Enough entries for several tree objects.
    let mut writer = world.writer().await.unwrap();
    writer.begin_tree(TreeKind::Filestore).await.unwrap();
    for n in 0..60_000 {
        let path = format!("{n:06}-{}", "x".repeat(150));
        writer.entry(lifeboat_repo::tree::Entry { path: path.into(), ..Default::default() }).await.unwrap();
    }
    writer.end_tree().await.unwrap();
    let point = world.finish(writer).await.unwrap();
    let trees = objects(&point, ObjectKind::Tree);
    assert!(trees.len() >= 2);
    world.memory.tamper(&trees[0], |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let (restored, report) = world.restore(&point, TreeKind::Filestore).await;
    assert_eq!(report.damage.len(), 1);
    assert!(report.damage[0].object.as_str() == trees[0] && report.damage[0].reason.contains("entries"));
    assert!(!restored.entries.is_empty() && restored.entries.len() < 60_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn restores_read_the_version_that_was_written() {
    let world = World::new();
    let files = sample();
    let point = world.backup(&files).await.unwrap();
    let repo = world.clean_repo().await;
    for object in &point.header.objects {
        repo.store().put(&object.key, bytes::Bytes::from_static(b"overwritten")).await.unwrap();
    }
    world.assert_restores(&point, &files).await;
    assert_eq!(look(&world, &point, VerifyMode::ReadCiphertext).await.problems, []);
    // And a later backup does not build on what was tampered with.
    let next = world.backup(&files).await.unwrap();
    world.assert_restores(&next, &files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_point_that_shares_a_damaged_pack_is_named() {
    let world = World::new();
    let first = world.backup(&sample()[..2]).await.unwrap();
    let second = world.backup(&sample()[..2]).await.unwrap();
    let third = world.backup(&sample()[..1]).await.unwrap();
    let alone = world.backup(&[file("other", noise(77, 100_000))]).await.unwrap();
    let pack = objects(&first, ObjectKind::Pack)[0].clone();
    world.memory.remove(&pack);
    let points = [first, second, third, alone];
    let mode = VerifyMode::ReadData(vec![world.recovery.clone()]);
    let report = verify(&world.clean_repo().await, &points, mode, Arc::new(Silent)).await.unwrap();
    assert_eq!((report.points, report.problems.len()), (4, 1));
    let hit: Vec<_> = points[..3].iter().map(|point| point.header.point).collect();
    assert_eq!((&report.problems[0].points, report.problems[0].key.as_str()), (&hit, pack.as_str()));
    assert_eq!(report.problems[0].file_count, 5, "two, two and one");
}

/// A point whose every byte depends on the seed.
async fn noisy(world: &World, seed: u64) -> Point {
    let mut writer = world.writer().await.unwrap();
    write_tree(&mut writer, &[file("a", noise(seed, 100_000))]).await.unwrap();
    let length = (WAL.end.0 - WAL.start.0) as usize;
    writer.put_wal(WAL.system_id, WAL.timeline, WAL.start, noise(seed, length).into()).await.unwrap();
    writer.commit(PointDraft { started: now(), details: PointDetails::default(), wal: Some(WAL) }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_somebody_else_sealed_to_the_same_recipients_are_refused() {
    let world = World::new();
    let point = noisy(&world, 1).await;
    // Recipients are public: the forger needs nothing but them.
    let forger = world.on(MemoryStore::default());
    let forged = noisy(&forger, 2).await;
    for kind in [ObjectKind::Key, ObjectKind::Tree, ObjectKind::Wal] {
        let (key, other) = (objects(&point, kind)[0].clone(), objects(&forged, kind)[0].clone());
        let bytes = forger.memory.get(&Key::new(other).unwrap(), None, None).await.unwrap();
        let world = world.on(world.memory.fork());
        world.memory.tamper(&key, |stored| *stored = bytes.to_vec());
        let error = match world.reader(&point).await {
            Err(error) => error,
            Ok(reader) if kind == ObjectKind::Wal => reader.read_wal(&reader.wal_slices()[0]).await.unwrap_err(),
            Ok(reader) => reader.entries(TreeKind::Filestore).unwrap().unwrap().next().await.unwrap_err(),
        };
        assert!(matches!(&error, Error::Damaged { object, .. } if *object == key), "{kind:?}: {error}");
    }
}
