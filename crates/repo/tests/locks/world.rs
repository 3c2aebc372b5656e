//! A bucket with locks whose clock the test sets, a host that writes into it, and a sink that remembers.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use lifeboat_model::{
    id::{RepositoryId, Tenant},
    lsn::Lsn,
    retention::LockMode,
    signature::SigningKey,
};
use lifeboat_repo::{
    Result,
    locks::Locks,
    point::{Point, PointDetails, PointSelector},
    progress::{Counter, Progress},
    reader::{Reader, ReaderOptions, Sink, Wanted},
    repository::{InstanceRepo, Repository},
    seal::Identity,
    tree::{Entry, EntryKind, FileTime, TreeKind},
    writer::{Chunking, Clock, Finish, PointDraft, WalSpan, Writer, WriterKeys, WriterOptions},
};
use lifeboat_store::{Key, SharedStore, Store as _, VersionId, fault::FaultStore, vault::VaultStore};

pub const DAY: i64 = 86_400;
pub const ROOT: &str = "hospital/clinic/";
pub const WAL: WalSpan = WalSpan { system_id: 7, timeline: 1, start: Lsn(0x100), end: Lsn(0x2100) };

pub fn tenant() -> Tenant {
    "hospital".parse().unwrap()
}

pub fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Keeps counts and notes.
#[derive(Default)]
pub struct Tally {
    counts: Mutex<BTreeMap<Counter, u64>>,
    notes: Mutex<Vec<String>>,
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

    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap().clone()
    }

    pub fn noted(&self, text: &str) -> bool {
        self.notes().iter().any(|note| note.contains(text))
    }
}

/// Seconds since 1970, which every party of the test reads; each look of the writer takes a second.
#[derive(Clone)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_795_000_000)))
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }

    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn standing(&self) -> Clock {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }

    pub fn ticking(&self) -> Clock {
        let clock = self.clone();
        Arc::new(move || {
            clock.advance(1);
            clock.now()
        })
    }
}

pub struct World {
    pub clock: TestClock,
    pub vault: VaultStore,
    pub faults: FaultStore,
    pub recovery: Identity,
    pub host: Identity,
    pub signing: SigningKey,
    pub cache: tempfile::TempDir,
    pub tally: Arc<Tally>,
    pub mode: LockMode,
}

impl World {
    pub fn new() -> Self {
        let clock = TestClock::new();
        Self::on(VaultStore::new(clock.standing()), clock)
    }

    pub fn on(vault: VaultStore, clock: TestClock) -> Self {
        World {
            clock,
            faults: FaultStore::new(Arc::new(vault.clone())),
            vault,
            recovery: Identity::generate(),
            host: Identity::generate(),
            signing: SigningKey::from_seed(&[5; 32]),
            cache: tempfile::tempdir().unwrap(),
            tally: Arc::default(),
            mode: LockMode::Compliance,
        }
    }

    /// The same host and people, whose cache was lost.
    pub fn with_empty_cache(&mut self) {
        self.cache = tempfile::tempdir().unwrap();
    }

    /// Points are kept for 30 days from their end on, everything for two weeks at least.
    pub fn locks(&self) -> Locks {
        let day = Duration::from_secs(DAY as u64);
        Locks {
            mode: self.mode,
            clock: self.clock.standing(),
            minimum: 14 * day,
            segment: 21 * day,
            slice: 7 * day,
            evidence: 2192 * day,
            point_end: Arc::new(move |finished| finished + 30 * day),
        }
    }

    pub async fn repository(&self, store: SharedStore) -> Repository {
        let repository = Repository::init(store, RepositoryId([1; 16]), self.clock.now()).await.unwrap();
        let day = Duration::from_secs(DAY as u64);
        repository.with_evidence_lock(Some((self.mode, 2192 * day, self.clock.standing())))
    }

    pub async fn repo(&self) -> InstanceRepo {
        let repository = self.repository(Arc::new(self.faults.clone())).await;
        repository.instance(&tenant(), &"clinic".parse().unwrap()).with_locks(Some(self.locks()))
    }

    /// The repository without faults, as a reader sees it.
    pub async fn clean(&self) -> InstanceRepo {
        let repository = self.repository(Arc::new(self.vault.clone())).await;
        repository.instance(&tenant(), &"clinic".parse().unwrap())
    }

    pub fn keys(&self) -> WriterKeys {
        let (host, signing) = (self.host.clone(), self.signing.clone());
        WriterKeys { recipients: vec![self.recovery.recipient()], host, signing, trusted: vec![] }
    }

    pub fn options(&self) -> WriterOptions {
        WriterOptions {
            level: 3,
            pack_size: 4 << 20,
            workers: 1,
            uploads: 2,
            cache_dir: self.cache.path().to_owned(),
            software: "lifeboat test".into(),
            clock: self.clock.ticking(),
        }
    }

    pub async fn backup(&self, files: &[File]) -> Result<Point> {
        self.backup_into(self.repo().await, files).await
    }

    pub async fn backup_into(&self, repo: InstanceRepo, files: &[File]) -> Result<Point> {
        let mut writer = Writer::begin(repo, self.keys(), self.options(), self.tally.clone()).await?;
        self.write(&mut writer, files).await?;
        self.commit(writer).await
    }

    pub async fn write(&self, writer: &mut Writer, files: &[File]) -> Result<()> {
        writer.begin_tree(TreeKind::Filestore).await?;
        for (path, bytes) in files {
            writer.begin_file(entry(path), Chunking::DOCUMENT).await?;
            writer.data(Bytes::copy_from_slice(bytes)).await?;
            writer.end_file(Finish::default()).await?;
        }
        writer.end_tree().await?;
        writer.put_wal(WAL.system_id, WAL.timeline, WAL.start, wal_bytes().into()).await
    }

    pub async fn commit(&self, writer: Writer) -> Result<Point> {
        let draft = PointDraft { started: self.clock.now(), details: PointDetails::default(), wal: Some(WAL) };
        writer.commit(draft).await
    }

    pub async fn latest(&self) -> Result<Point> {
        self.clean().await.find_point(&PointSelector::Latest, &[self.signing.public()]).await
    }

    /// The files of a point; panics where anything is damaged.
    pub async fn restore(&self, point: &Point) -> Vec<File> {
        self.restore_from(self.clean().await, point).await
    }

    pub async fn restore_from(&self, repo: InstanceRepo, point: &Point) -> Vec<File> {
        let options = ReaderOptions::default();
        let identities = [self.recovery.clone()];
        let reader = Reader::open(repo, point, &identities, options, self.tally.clone()).await.unwrap();
        let sink = Arc::new(MemorySink::default());
        let report = reader.restore_tree(TreeKind::Filestore, sink.clone(), None).await.unwrap();
        assert_eq!(report.damage, []);
        for slice in reader.wal_slices() {
            assert!(reader.read_wal(&slice).await.unwrap() == wal_bytes());
        }
        let files = sink.0.lock().unwrap();
        files.iter().map(|(path, bytes)| (String::from_utf8(path.clone()).unwrap(), bytes.clone())).collect()
    }

    /// Reads back that all that the point names, the point and the marker are locked to its end.
    pub async fn assert_locked(&self, point: &Point) {
        let end = point.header.retain_until.expect("the point promises an end");
        let named = point.header.objects.iter().map(|object| (object.key.clone(), object.version.clone()));
        let marker = key("lifeboat.json");
        let first = self.vault.versions_of(&marker).last().unwrap().info.version.clone();
        let all = named.chain([(point.key.clone(), point.version.clone()), (marker, first)]);
        for (key, version) in all {
            let until = self.locked_until(&key, version.as_ref()).await;
            assert!(until >= Some((end, self.mode)), "{key}: {until:?}, the point's end is {end}");
        }
        for object in &point.header.objects {
            assert!(object.retain_until >= Some(end), "{}: {:?}", object.key, object.retain_until);
        }
    }

    pub async fn locked_until(&self, key: &Key, version: Option<&VersionId>) -> Option<(Timestamp, LockMode)> {
        let state = self.vault.lock_state(key, version).await.unwrap();
        state.retention.map(|retention| (retention.until, retention.mode))
    }

    /// All keys with this prefix.
    pub async fn stored(&self, prefix: &str) -> Vec<Key> {
        use futures::TryStreamExt as _;
        self.vault.list(prefix).map_ok(|object| object.key).try_collect().await.unwrap()
    }
}

/// Path and content.
pub type File = (String, Vec<u8>);

pub fn wal_bytes() -> Vec<u8> {
    (0..0x2000u32).map(|n| (n / 3) as u8).collect()
}

/// Bytes that look random and are the same each time.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub fn files(count: u64) -> Vec<File> {
    (0..count).map(|n| (format!("file-{n:03}"), noise(n, 20_000))).collect()
}

fn entry(path: &str) -> Entry {
    let mtime = FileTime { seconds: 1_700_000_000, nanos: 0 };
    let kind = EntryKind::File { size: 0, extents: vec![] };
    Entry { path: path.into(), kind, mode: 0o640, mtime, ..Entry::default() }
}

#[derive(Default)]
pub struct MemorySink(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Sink for MemorySink {
    fn begin(&self, entry: &Entry) -> io::Result<Wanted> {
        if let EntryKind::File { size, .. } = entry.kind {
            self.0.lock().unwrap().insert(entry.path.clone(), vec![0; size as usize]);
        }
        Ok(Wanted::All)
    }

    fn write(&self, path: &[u8], offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        files.get_mut(path).unwrap()[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn end(&self, _: &Entry) -> io::Result<()> {
        Ok(())
    }
}
