//! A repository, its keys, a source of files and a sink that remembers.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use jiff::Timestamp;
use lifeboat_model::{
    id::{Instance, RepositoryId, Tenant},
    lsn::Lsn,
    signature::SigningKey,
};
use lifeboat_repo::{
    Result,
    point::{Point, PointDetails, PointSelector},
    progress::{Counter, Progress},
    reader::{Reader, ReaderOptions, RestoreReport, Sink, Wanted},
    repository::{InstanceRepo, Repository},
    seal::Identity,
    tree::{ChangeMark, Entry, EntryKind, FileTime, TreeKind},
    writer::{Chunking, Finish, PointDraft, TreeStats, WalSpan, Writer, WriterKeys, WriterOptions},
};
use lifeboat_store::{SharedStore, fault::FaultStore};

use crate::memory::MemoryStore;

/// Counts, and keeps notes.
#[derive(Default)]
pub struct Tally {
    pub counts: Mutex<BTreeMap<Counter, u64>>,
    pub notes: Mutex<Vec<String>>,
}

impl Progress for Tally {
    fn add(&self, counter: Counter, n: u64) {
        *self.counts.lock().unwrap().entry(counter).or_default() += n;
    }

    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
}

impl Tally {
    pub fn get(&self, counter: Counter) -> u64 {
        self.counts.lock().unwrap().get(&counter).copied().unwrap_or(0)
    }
}

/// A host with its keys and cache, and the people who can restore.
pub struct World {
    pub memory: MemoryStore,
    pub faults: FaultStore,
    pub recovery: Identity,
    pub host: Identity,
    pub signing: SigningKey,
    pub cache: tempfile::TempDir,
    pub tally: Arc<Tally>,
    pub pack_size: u64,
}

pub const ROOT: &str = "hospital/clinic/";
pub const WAL: WalSpan =
    WalSpan { system_id: 7_000_000_000_000_000_001, timeline: 1, start: Lsn(0x100), end: Lsn(0x5000) };

pub fn tenant() -> Tenant {
    "hospital".parse().unwrap()
}

pub fn instance() -> Instance {
    "clinic".parse().unwrap()
}

impl World {
    pub fn new() -> Self {
        let memory = MemoryStore::default();
        World {
            faults: FaultStore::new(Arc::new(memory.clone())),
            memory,
            recovery: Identity::generate(),
            host: Identity::generate(),
            signing: SigningKey::from_seed(&[5; 32]),
            cache: tempfile::tempdir().unwrap(),
            tally: Arc::default(),
            pack_size: 4 << 20,
        }
    }

    /// The same host and people before a copy of the repository.
    pub fn on(&self, memory: MemoryStore) -> World {
        World {
            faults: FaultStore::new(Arc::new(memory.clone())),
            memory,
            recovery: self.recovery.clone(),
            host: self.host.clone(),
            signing: self.signing.clone(),
            cache: tempfile::tempdir().unwrap(),
            tally: Arc::default(),
            pack_size: self.pack_size,
        }
    }

    pub async fn repo(&self) -> InstanceRepo {
        let store: SharedStore = Arc::new(self.faults.clone());
        let repository = Repository::init(store, RepositoryId([1; 16]), now()).await.unwrap();
        repository.instance(&tenant(), &instance())
    }

    /// The repository without faults.
    pub async fn clean_repo(&self) -> InstanceRepo {
        let store: SharedStore = Arc::new(self.memory.clone());
        let repository = Repository::init(store, RepositoryId([1; 16]), now()).await.unwrap();
        repository.instance(&tenant(), &instance())
    }

    pub fn keys(&self) -> WriterKeys {
        WriterKeys {
            recipients: vec![self.recovery.recipient()],
            host: self.host.clone(),
            signing: self.signing.clone(),
            trusted: vec![],
        }
    }

    pub fn options(&self) -> WriterOptions {
        // Every point gets a second of its own, so that their order is that of their making.
        static SECOND: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(1_795_000_000);
        WriterOptions {
            level: 3,
            pack_size: self.pack_size,
            workers: 2,
            uploads: 2,
            cache_dir: self.cache.path().to_owned(),
            software: "lifeboat test".into(),
            clock: Arc::new(|| {
                Timestamp::from_second(SECOND.fetch_add(1, std::sync::atomic::Ordering::SeqCst)).unwrap()
            }),
        }
    }

    pub async fn writer(&self) -> Result<Writer> {
        Writer::begin(self.repo().await, self.keys(), self.options(), self.tally.clone()).await
    }

    /// Backs up a filestore and some WAL.
    pub async fn backup(&self, files: &[File]) -> Result<Point> {
        let mut writer = self.writer().await?;
        writer.begin_tree(TreeKind::Filestore).await?;
        write_files(&mut writer, files).await?;
        writer.end_tree().await?;
        self.finish(writer).await
    }

    /// WAL, then the point.
    pub async fn finish(&self, mut writer: Writer) -> Result<Point> {
        for (first, part) in wal_bytes().chunks(0x2000).enumerate() {
            let first = Lsn(0x100 + first as u64 * 0x2000);
            writer.put_wal(WAL.system_id, WAL.timeline, first, Bytes::copy_from_slice(part)).await?;
        }
        let details = PointDetails { notes: vec!["made by a test".into()], ..PointDetails::default() };
        writer.commit(PointDraft { started: now(), details, wal: Some(WAL) }).await
    }

    pub async fn latest(&self) -> Result<Point> {
        self.clean_repo().await.find_point(&PointSelector::Latest, &[self.signing.public()]).await
    }

    pub async fn reader(&self, point: &Point) -> Result<Reader> {
        let identities = [self.recovery.clone()];
        Reader::open(self.clean_repo().await, point, &identities, ReaderOptions::default(), self.tally.clone()).await
    }

    pub async fn restore(&self, point: &Point, kind: TreeKind) -> (Restored, RestoreReport) {
        let sink = Arc::new(MemorySink::default());
        let report = self.reader(point).await.unwrap().restore_tree(kind, sink.clone(), None).await.unwrap();
        (sink.take(), report)
    }

    /// Checks that the point comes back exactly, WAL included.
    pub async fn assert_restores(&self, point: &Point, files: &[File]) {
        let (restored, report) = self.restore(point, TreeKind::Filestore).await;
        assert_eq!(report.damage, []);
        assert_eq!(restored.files.len(), files.len());
        for file in files {
            assert!(restored.files[&file.path.as_bytes().to_vec()] == file.bytes, "{} differs", file.path);
        }
        let reader = self.reader(point).await.unwrap();
        let mut wal = Vec::new();
        for slice in reader.wal_slices() {
            assert_eq!(slice.first.0, 0x100 + wal.len() as u64);
            wal.extend_from_slice(&reader.read_wal(&slice).await.unwrap());
        }
        assert!(wal == wal_bytes());
    }
}

pub fn wal_bytes() -> Vec<u8> {
    (0..0x6000u32).map(|n| (n / 3) as u8).collect()
}

pub fn now() -> Timestamp {
    "2026-11-21T20:00:00Z".parse().unwrap()
}

/// A file of a source.
#[derive(Debug, Clone)]
pub struct File {
    pub path: String,
    pub bytes: Vec<u8>,
    pub chunking: Chunking,
}

pub fn file(path: &str, bytes: Vec<u8>) -> File {
    File { path: path.into(), bytes, chunking: Chunking::DOCUMENT }
}

/// Bytes that look random and are the same each time.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Text of words, which compresses.
pub fn text(seed: u64, len: usize) -> Vec<u8> {
    let words = ["patient ", "invoice ", "posted ", "draft ", "ward 7 ", "2026-11-21 ", "null ", "\n"];
    noise(seed, len).iter().flat_map(|n| words[usize::from(*n) % words.len()].bytes()).take(len).collect()
}

pub fn entry(path: &str) -> Entry {
    let mtime = FileTime { seconds: 1_700_000_000, nanos: 123_456_789 };
    let change = Some(ChangeMark { ctime: mtime, inode: 42 });
    let kind = EntryKind::File { size: 0, extents: vec![] };
    Entry { path: path.into(), kind, mode: 0o640, uid: 101, gid: 102, mtime, change, ..Entry::default() }
}

pub async fn write_files(writer: &mut Writer, files: &[File]) -> Result<()> {
    for file in files {
        writer.begin_file(entry(&file.path), file.chunking).await?;
        for part in file.bytes.chunks(37_000) {
            writer.data(Bytes::copy_from_slice(part)).await?;
        }
        writer.end_file(Finish::default()).await?;
    }
    Ok(())
}

/// Files, an unchanged part of which is taken over from the previous point.
pub async fn write_tree(writer: &mut Writer, files: &[File]) -> Result<TreeStats> {
    writer.begin_tree(TreeKind::Filestore).await?;
    write_files(writer, files).await?;
    writer.end_tree().await
}

#[derive(Debug, Default, Clone)]
pub struct Restored {
    pub files: BTreeMap<Vec<u8>, Vec<u8>>,
    pub entries: Vec<Entry>,
    pub damaged: Vec<String>,
}

/// Keeps what it is given; holds the reader to its contract.
#[derive(Default)]
pub struct MemorySink(Mutex<State>);

#[derive(Default)]
struct State {
    open: BTreeMap<Vec<u8>, Vec<u8>>,
    restored: Restored,
}

impl MemorySink {
    pub fn take(&self) -> Restored {
        let mut state = self.0.lock().unwrap();
        assert!(state.open.is_empty(), "files neither ended nor damaged: {:?}", state.open.keys());
        std::mem::take(&mut state.restored)
    }
}

impl Sink for MemorySink {
    fn begin(&self, entry: &Entry) -> io::Result<Wanted> {
        let mut state = self.0.lock().unwrap();
        if let EntryKind::File { size, .. } = entry.kind {
            state.open.insert(entry.path.clone(), vec![0; size as usize]);
        }
        state.restored.entries.push(entry.clone());
        Ok(Wanted::All)
    }

    fn write(&self, path: &[u8], offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if let Some(file) = state.open.get_mut(path) {
            file[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        Ok(())
    }

    fn end(&self, entry: &Entry) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if matches!(entry.kind, EntryKind::File { .. }) {
            let bytes = state.open.remove(&entry.path).expect("ended twice or never begun");
            state.restored.files.insert(entry.path.clone(), bytes);
        }
        Ok(())
    }

    fn damaged(&self, entry: &Entry, _: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.open.remove(&entry.path).expect("damaged twice or never begun");
        state.restored.damaged.push(entry.display_path());
        Ok(())
    }
}
