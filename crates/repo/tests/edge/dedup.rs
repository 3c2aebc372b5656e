//! Nothing is stored twice, nothing that is gone is relied upon.

use lifeboat_repo::{
    Error,
    progress::Counter,
    tree::{EntryKind, TreeKind},
    writer::Chunking,
};

use crate::world::*;

fn sample() -> Vec<File> {
    let mut files: Vec<File> = (0..20).map(|n| file(&format!("a{n}"), text(n, 20_000))).collect();
    files.push(file("noise", noise(99, 9 << 20)));
    files.push(File { chunking: Chunking::RELATION, ..file("relation", text(98, 4 << 20)) });
    files
}

fn packs(world: &World) -> Vec<String> {
    world.memory.keys(&format!("{ROOT}packs/"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_source_stores_no_pack() {
    let world = World::new();
    let first = world.backup(&sample()).await.unwrap();
    let before = packs(&world);
    // By content, with the cache and without.
    for wiped in [false, true] {
        if wiped {
            std::fs::remove_dir_all(world.cache.path()).unwrap();
        }
        let again = world.backup(&sample()).await.unwrap();
        assert_eq!(packs(&world), before, "cache wiped: {wiped}");
        world.assert_restores(&again, &sample()).await;
    }
    // By unchanged entries, without a byte read.
    let mut writer = world.writer().await.unwrap();
    assert_eq!(writer.previous_point().unwrap().header.chunk_key, first.header.chunk_key);
    let mut cursor = writer.previous(TreeKind::Filestore).unwrap();
    let read = world.tally.get(Counter::ReadBytes);
    writer.begin_tree(TreeKind::Filestore).await.unwrap();
    while let Some(entry) = cursor.next().await.unwrap() {
        assert!(writer.is_stored(&entry));
        writer.entry(entry).await.unwrap();
    }
    let stats = writer.end_tree().await.unwrap();
    assert_eq!(stats.new_bytes, 0);
    assert_eq!(world.tally.get(Counter::ReadBytes), read);
    let point = world.finish(writer).await.unwrap();
    assert_eq!(packs(&world), before);
    world.assert_restores(&point, &sample()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_stores_little_more_than_itself() {
    let world = World::new();
    let mut bytes = noise(1, 8 << 20);
    let relation = |bytes: &[u8]| File { chunking: Chunking::RELATION, ..file("relation", bytes.to_vec()) };
    world.backup(&[relation(&bytes)]).await.unwrap();
    let before = world.memory.size(&format!("{ROOT}packs/"));
    for page in [3, 3 * 64, 5 * 64 + 1] {
        bytes[page * 8192..][..8192].copy_from_slice(&noise(page as u64, 8192));
    }
    let point = world.backup(&[relation(&bytes)]).await.unwrap();
    let grown = world.memory.size(&format!("{ROOT}packs/")) - before;
    assert!(grown < 3 * (64 << 10) + 2000, "{grown} bytes for three chunks of 64 KiB");
    world.assert_restores(&point, &[relation(&bytes)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_run_leaves_its_packs_to_the_next() {
    let world = World::new();
    let mut writer = world.writer().await.unwrap();
    write_tree(&mut writer, &sample()).await.unwrap();
    writer.abort().await.unwrap();
    let before = packs(&world);
    assert!(before.len() >= 2);
    assert!(world.memory.keys(&format!("{ROOT}points/")).is_empty());
    let point = world.backup(&sample()).await.unwrap();
    assert_eq!(packs(&world), before);
    world.assert_restores(&point, &sample()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_short_pack_is_stored_again() {
    for short in [false, true] {
        let world = World::new();
        world.backup(&sample()).await.unwrap();
        for pack in packs(&world) {
            match short {
                true => world.memory.tamper(&pack, |bytes| bytes.truncate(bytes.len() - 1)),
                false => world.memory.remove(&pack),
            }
        }
        let writer = world.writer().await.unwrap();
        let mut cursor = writer.previous(TreeKind::Filestore).unwrap();
        assert!(cursor.next().await.unwrap().is_none(), "no entry of the previous tree is still whole");
        writer.abort().await.unwrap();
        let point = world.backup(&sample()).await.unwrap();
        world.assert_restores(&point, &sample()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_vanishes_during_the_run_makes_no_point() {
    let world = World::new();
    world.backup(&sample()).await.unwrap();
    let points = world.memory.keys(&format!("{ROOT}points/"));
    let mut writer = world.writer().await.unwrap();
    write_tree(&mut writer, &sample()).await.unwrap();
    let victim = packs(&world)[0].clone();
    world.memory.remove(&victim);
    let error = world.finish(writer).await.unwrap_err();
    assert!(matches!(&error, Error::Gone { object, .. } if *object == victim), "{error}");
    assert_eq!(world.memory.keys(&format!("{ROOT}points/")), points);
}

#[tokio::test(flavor = "multi_thread")]
async fn index_objects_that_are_gone_are_not_used_from_the_cache() {
    let world = World::new();
    let mut writer = world.writer().await.unwrap();
    write_tree(&mut writer, &sample()).await.unwrap();
    writer.abort().await.unwrap();
    world.writer().await.unwrap().abort().await.unwrap(); // the cache has them now
    let before = packs(&world).len();
    for index in world.memory.keys(&format!("{ROOT}index/")) {
        world.memory.remove(&index);
    }
    let point = world.backup(&sample()).await.unwrap();
    assert!(packs(&world).len() >= 2 * before, "everything was stored anew");
    world.assert_restores(&point, &sample()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_cache_or_index_costs_space_and_nothing_else() {
    let world = World::new();
    world.backup(&sample()).await.unwrap();
    world.backup(&sample()).await.unwrap();
    let mut files = vec![world.cache.path().to_owned()];
    let mut damaged = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.iter_mut().skip(3).step_by(101).for_each(|byte| *byte ^= 1);
        std::fs::write(&path, bytes).unwrap();
        damaged += 1;
    }
    assert!(damaged >= 2, "a state and a run");
    let point = world.backup(&sample()).await.unwrap();
    world.assert_restores(&point, &sample()).await;
    for index in world.memory.keys(&format!("{ROOT}index/")) {
        world.memory.tamper(&index, |bytes| *bytes.last_mut().unwrap() ^= 1);
    }
    std::fs::remove_dir_all(world.cache.path()).unwrap();
    let point = world.backup(&sample()).await.unwrap();
    world.assert_restores(&point, &sample()).await;
    assert!(world.tally.notes.lock().unwrap().iter().any(|note| note.contains("index/") && note.contains("damaged")));
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_chunks_of_one_run_are_stored_once() {
    let world = World::new();
    let block = noise(1, 3 << 20);
    let files: Vec<File> = (0..6).map(|n| file(&format!("copy{n}"), block.clone())).collect();
    let point = world.backup(&files).await.unwrap();
    // Two batches that race may both store a chunk; six copies must not become six.
    assert!(world.memory.size(&format!("{ROOT}packs/")) < 3 * (3 << 20));
    world.assert_restores(&point, &files).await;
    let (restored, _) = world.restore(&point, TreeKind::Filestore).await;
    let chunks = restored.entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
    let mut ids: Vec<_> = chunks.flat_map(|entry| entry.extents().iter().map(|extent| extent.chunk)).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_index_objects_become_few_files_and_none_is_forgotten() {
    let world = World::new();
    let mut files = Vec::new();
    for n in 0..12 {
        files.push(file(&format!("f{n}"), text(n, 30_000)));
        world.backup(&files).await.unwrap();
    }
    let before = packs(&world);
    assert_eq!((before.len(), world.memory.keys(&format!("{ROOT}index/")).len()), (12, 12));
    let point = world.backup(&files).await.unwrap();
    assert_eq!(packs(&world), before);
    world.assert_restores(&point, &files).await;
    let mut folders = vec![world.cache.path().to_owned()];
    let mut runs = 0;
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            runs += usize::from(path.file_name().unwrap().to_string_lossy().starts_with("run-"));
            folders.extend(path.is_dir().then_some(path));
        }
    }
    assert!(runs <= 8, "{runs} files");
}
