//! What goes in comes out.

use std::sync::Arc;

use bytes::Bytes;
use lifeboat_model::{id::RepositoryId, lsn::Lsn};
use lifeboat_repo::{
    Error,
    check::{VerifyMode, verify},
    point::{PointDetails, PointSelector},
    progress::{Counter, Silent},
    reader::{Filter, Reader, ReaderOptions, Wanted},
    repository::Repository,
    tree::{Entry, EntryKind, FileTime, TreeKind},
    writer::{Chunking, Finish, PointDraft, Writer},
};
use lifeboat_store::local::LocalStore;
use proptest::prelude::*;

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_every_kind_come_back_exactly() {
    let world = World::new();
    let mut writer = world.writer().await.unwrap();
    let mut list = vec![
        Entry { path: vec![], kind: EntryKind::Directory, mode: 0o750, ..Entry::default() },
        Entry { path: b"dir".to_vec(), kind: EntryKind::Directory, mode: 0o1777, ..Entry::default() },
        Entry { path: b"dir/\xff\n".to_vec(), kind: EntryKind::Fifo, ..Entry::default() },
        Entry { kind: EntryKind::Symlink { target: b"../else\xfe".to_vec() }, ..entry("dir/link") },
        Entry { mtime: FileTime { seconds: -5, nanos: 1 }, note: Some("vanished".into()), ..entry("empty") },
        Entry { xattrs: vec![(b"user.a".to_vec(), vec![0, 255])], ..entry("file") },
        Entry { kind: EntryKind::HardLink { target: b"file".to_vec() }, ..entry("other name") },
    ];
    writer.begin_tree(TreeKind::Config).await.unwrap();
    for entry in &list {
        if matches!(entry.kind, EntryKind::File { .. }) {
            writer.begin_file(entry.clone(), Chunking::DOCUMENT).await.unwrap();
            if entry.path == b"file" {
                writer.data(Bytes::from_static(b"content")).await.unwrap();
            }
            writer.end_file(Finish::default()).await.unwrap();
        } else {
            writer.entry(entry.clone()).await.unwrap();
        }
    }
    let stats = writer.end_tree().await.unwrap();
    assert_eq!((stats.entries, stats.files, stats.bytes, stats.new_bytes), (7, 2, 7, 7));
    let point = world.finish(writer).await.unwrap();
    let (restored, report) = world.restore(&point, TreeKind::Config).await;
    assert_eq!((report.entries, report.files, report.bytes, report.damage.len()), (7, 2, 7, 0));
    for (back, was) in restored.entries.iter().zip(&mut list) {
        if let (EntryKind::File { size, extents }, EntryKind::File { size: wanted, extents: place }) =
            (&back.kind, &mut was.kind)
        {
            *wanted = *size;
            place.clone_from(extents);
        }
        assert_eq!(back, was);
    }
    assert_eq!(restored.files[&b"file"[..]], b"content");
    let details = world.latest().await.unwrap().open_details(std::slice::from_ref(&world.recovery)).unwrap();
    assert_eq!(details.notes, ["made by a test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn zeros_become_holes_and_cost_nothing() {
    let world = World::new();
    let mut writer = world.writer().await.unwrap();
    writer.begin_tree(TreeKind::Database).await.unwrap();
    writer.begin_file(entry("relation"), Chunking::RELATION).await.unwrap();
    let mut whole = vec![0u8; 1_000_000];
    whole[200_000..200_100].fill(7);
    writer.data(Bytes::from(whole.clone())).await.unwrap();
    writer.hole(3_000_000).await.unwrap();
    writer.data(Bytes::from(vec![9; 10])).await.unwrap();
    writer.end_file(Finish { size: Some(5_000_000), ..Finish::default() }).await.unwrap();
    writer.end_tree().await.unwrap();
    let point = world.finish(writer).await.unwrap();
    whole.resize(4_000_000, 0);
    whole.extend_from_slice(&[9; 10]);
    whole.resize(5_000_000, 0);
    let (restored, report) = world.restore(&point, TreeKind::Database).await;
    assert!(restored.files[&b"relation"[..]] == whole);
    assert_eq!(report.bytes, (64 << 10) + 10, "only what is not zero is stored");
    assert_eq!(restored.entries[0].extents().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_packs_and_many_small_files_on_a_real_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalStore::open(folder.path(), true).unwrap());
    let repository = Repository::init(store, RepositoryId([1; 16]), now()).await.unwrap();
    let repo = repository.instance(&tenant(), &instance());
    let world = World::new();
    let mut writer = Writer::begin(repo.clone(), world.keys(), world.options(), world.tally.clone()).await.unwrap();
    let mut files: Vec<File> = (0..3000).map(|n| file(&format!("f{n:05}"), text(n, 10 + n as usize % 3000))).collect();
    files.push(file("big noise", noise(1, 11 << 20)));
    files.push(File { chunking: Chunking::RELATION, ..file("big text", text(2, 9 << 20)) });
    writer.begin_tree(TreeKind::Filestore).await.unwrap();
    write_files(&mut writer, &files).await.unwrap();
    writer.end_tree().await.unwrap();
    let draft = PointDraft { started: now(), details: PointDetails::default(), wal: None };
    let point = writer.commit(draft).await.unwrap();
    let total: u64 = files.iter().map(|file| file.bytes.len() as u64).sum();
    assert_eq!(world.tally.get(Counter::ReadBytes), total);
    assert_eq!(point.header.sizes["source"], total);
    assert!(world.tally.get(Counter::Packs) >= 3);

    let sink = Arc::new(MemorySink::default());
    let identities = [world.recovery.clone()];
    let options = ReaderOptions::default();
    let reader = Reader::open(repo.clone(), &point, &identities, options, Arc::new(Silent)).await.unwrap();
    let report = reader.restore_tree(TreeKind::Filestore, sink.clone(), None).await.unwrap();
    assert_eq!((report.bytes, report.damage.len()), (total, 0));
    let restored = sink.take();
    assert!(files.iter().all(|file| restored.files[&file.path.as_bytes().to_vec()] == file.bytes));
    // What was written in a row is read in a row: hardly anything twice.
    assert!(report.fetched < point.header.sizes["referenced"] * 11 / 10, "{} fetched", report.fetched);

    for mode in [VerifyMode::Heads, VerifyMode::ReadCiphertext, VerifyMode::ReadData(identities.to_vec())] {
        let report = verify(&repo, std::slice::from_ref(&point), mode, Arc::new(Silent)).await.unwrap();
        assert_eq!(report.problems, []);
        assert_eq!(report.objects, point.header.objects.len() as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_restores_and_fetches_only_its_part() {
    let world = World::new();
    let files: Vec<File> = (0..8).map(|n| file(&format!("f{n}"), noise(n, 2 << 20))).collect();
    let point = world.backup(&files).await.unwrap();
    let sink = Arc::new(MemorySink::default());
    let filter: Filter = Arc::new(|entry| entry.path == b"f5");
    let reader = world.reader(&point).await.unwrap();
    let report = reader.restore_tree(TreeKind::Filestore, sink.clone(), Some(filter)).await.unwrap();
    assert!(report.fetched < 3 << 20, "{} bytes for 2 MiB", report.fetched);
    assert!(sink.take().files[&b"f5"[..]] == files[5].bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_are_found_by_content() {
    struct Had(Vec<u8>, MemorySink);
    impl lifeboat_repo::reader::Sink for Had {
        fn begin(&self, entry: &Entry) -> std::io::Result<Wanted> {
            self.1.begin(entry).map(|_| Wanted::Differences)
        }
        fn existing(&self, _: &[u8], offset: u64, buffer: &mut [u8]) -> std::io::Result<bool> {
            let part = self.0.get(offset as usize..).and_then(|rest| rest.get(..buffer.len()));
            Ok(part.map(|part| buffer.copy_from_slice(part)).is_some())
        }
        fn write(&self, path: &[u8], offset: u64, bytes: &[u8]) -> std::io::Result<()> {
            self.1.write(path, offset, bytes)
        }
        fn end(&self, entry: &Entry) -> std::io::Result<()> {
            self.1.end(entry)
        }
    }
    let world = World::new();
    let bytes = noise(1, 1 << 20);
    let relation = File { chunking: Chunking::RELATION, ..file("relation", bytes.clone()) };
    let point = world.backup(&[relation]).await.unwrap();
    let mut had = bytes[..900_000].to_vec();
    had[500_000] ^= 1;
    let sink = Arc::new(Had(had, MemorySink::default()));
    let reader = world.reader(&point).await.unwrap();
    let report = reader.restore_tree(TreeKind::Filestore, sink.clone(), None).await.unwrap();
    let chunk = 64 << 10;
    assert_eq!(report.bytes, chunk * 4, "one changed chunk, one cut short, two missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn wal_with_a_gap_makes_no_point() {
    let world = World::new();
    let mut writer = world.writer().await.unwrap();
    for first in [0x100, 0x3000] {
        writer.put_wal(WAL.system_id, WAL.timeline, Lsn(first), Bytes::from(vec![1; 0x2000])).await.unwrap();
    }
    let draft = PointDraft { started: now(), details: PointDetails::default(), wal: Some(WAL) };
    let error = writer.commit(draft).await.unwrap_err();
    assert!(matches!(error, Error::WalGap { expected: Lsn(0x2100), found: Lsn(0x3000) }), "{error}");
    assert_eq!(world.memory.keys(&format!("{ROOT}points/")), Vec::<String>::new());
    // The lease was given back, so the next run works at once.
    world.backup(&[]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_newest_point_sorts_last_whatever_the_clock_does() {
    let world = World::new();
    let at = |second: i64| -> lifeboat_repo::writer::Clock {
        std::sync::Arc::new(move || jiff::Timestamp::from_second(second).unwrap())
    };
    let begin = async |clock| {
        let options = lifeboat_repo::writer::WriterOptions { clock, ..world.options() };
        Writer::begin(world.repo().await, world.keys(), options, world.tally.clone()).await
    };
    world.finish(begin(at(2_000_000_000)).await.unwrap()).await.unwrap();
    let error = begin(at(1_999_999_000)).await.err().unwrap();
    assert!(matches!(error, Error::Clock { .. }), "{error}");
    // A second run within the same second: its clock goes on while it waits.
    let began = tokio::time::Instant::now();
    let clock: lifeboat_repo::writer::Clock = std::sync::Arc::new(move || {
        jiff::Timestamp::from_second(2_000_000_000 + began.elapsed().as_secs() as i64).unwrap()
    });
    let second = world.finish(begin(clock).await.unwrap()).await.unwrap();
    assert_eq!(world.latest().await.unwrap().header.point, second.header.point);
}

#[tokio::test(flavor = "multi_thread")]
async fn misuse_is_refused_in_words() {
    let world = World::new();
    let mut writer = world.writer().await.unwrap();
    assert!(writer.entry(entry("early")).await.is_err());
    writer.begin_tree(TreeKind::Config).await.unwrap();
    assert!(writer.begin_tree(TreeKind::Filestore).await.is_err(), "two trees at once");
    for path in ["/etc", "a/../b", "a//b"] {
        assert!(writer.begin_file(entry(path), Chunking::DOCUMENT).await.is_err(), "{path}");
    }
    assert!(writer.data(Bytes::from_static(b"x")).await.is_err(), "bytes without a file");
    writer.begin_file(entry("a"), Chunking::DOCUMENT).await.unwrap();
    assert!(writer.end_tree().await.is_err(), "a file is open");
    writer.data(Bytes::from_static(b"four")).await.unwrap();
    let short = Finish { size: Some(3), ..Finish::default() };
    assert!(writer.end_file(short).await.is_err(), "shorter than what was given");
    writer.abort().await.unwrap();
    let selector: PointSelector = "latest".parse().unwrap();
    let error = world.clean_repo().await.find_point(&selector, &[world.signing.public()]).await.unwrap_err();
    assert!(matches!(error, Error::NoPoint { .. }), "{error}");
}

/// Parts of a file (random or text, seed, length), and where it is cut.
type Shape = (Vec<(bool, u64, usize)>, u32);

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let part = (any::<bool>(), 0u64..4, prop_oneof![0usize..200, 4000usize..5000, 60_000usize..70_000, Just(300_000)]);
    let cut = prop_oneof![Just(4096u32), Just(65_536), Just(4 << 20)];
    prop::collection::vec((prop::collection::vec(part, 0..5), cut), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any files, cut anyhow, of zeros, text and noise, with repeated parts.
    #[test]
    fn any_bytes_come_back(shapes in shapes()) {
        let file_of = |(n, (parts, cut)): (usize, &Shape)| {
            let part = |(random, seed, len): &(bool, u64, usize)| match (random, seed) {
                (_, 0) => vec![0; *len],
                (true, seed) => noise(*seed, *len),
                (false, seed) => text(*seed, *len),
            };
            let bytes = parts.iter().flat_map(part).collect();
            File { path: format!("f{n}"), bytes, chunking: Chunking::Pages { chunk: *cut } }
        };
        let files: Vec<File> = shapes.iter().enumerate().map(file_of).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let point = world.backup(&files).await.unwrap();
            world.assert_restores(&point, &files).await;
        });
    }
}
