//! A primary with points, streamed WAL and documents, and a store to copy it to.

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
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use lifeboat_model::{
    id::{Instance, RepositoryId, Tenant},
    lsn::Lsn,
    retention::LockMode,
    signature::SigningKey,
};
use lifeboat_repo::{
    Result,
    copy::{self, CopyOptions, CopyReport},
    document::{DocumentKeys, DocumentKind, Position},
    locks::Locks,
    point::{Point, PointDetails},
    progress::Silent,
    reader::{Reader, ReaderOptions, Sink, Wanted},
    repository::{InstanceRepo, Repository},
    seal::Identity,
    tree::{Entry, EntryKind, FileTime, TreeKind},
    wal::{WalObject, WalObjectKind, WalWriter},
    writer::{Chunking, Clock, Finish, PointDraft, WalSpan, Writer, WriterKeys, WriterOptions},
};
use lifeboat_store::{Key, SharedStore, fault::FaultStore, vault::VaultStore};

pub const SYSTEM: u64 = 7_000_000_000_000_000_001;
pub const SEGMENT: u64 = 1 << 20;
pub const ROOT: &str = "hospital/clinic/";

pub fn tenant() -> Tenant {
    "hospital".parse().unwrap()
}

pub fn instance() -> Instance {
    "clinic".parse().unwrap()
}

/// A host, its keys, and the time that passes for it.
pub struct World {
    pub primary: VaultStore,
    pub offsite: VaultStore,
    /// What the copy sees of either.
    pub from: FaultStore,
    pub to: FaultStore,
    pub time: Arc<AtomicI64>,
    pub recovery: Identity,
    pub host: Identity,
    pub signing: SigningKey,
    pub cache: tempfile::TempDir,
}

/// Seconds since 1970; each look is a second later, so that every point gets one of its own.
pub fn ticking(time: &Arc<AtomicI64>) -> Clock {
    let time = time.clone();
    Arc::new(move || Timestamp::from_second(time.fetch_add(1, Ordering::SeqCst)).unwrap())
}

impl World {
    pub fn new() -> Self {
        let time = Arc::new(AtomicI64::new(1_795_000_000));
        let vault = || {
            let time = time.clone();
            VaultStore::new(Arc::new(move || Timestamp::from_second(time.load(Ordering::SeqCst)).unwrap()))
        };
        let (primary, offsite) = (vault(), vault());
        World {
            from: FaultStore::new(Arc::new(primary.clone())),
            to: FaultStore::new(Arc::new(offsite.clone())),
            primary,
            offsite,
            time,
            recovery: Identity::generate(),
            host: Identity::generate(),
            signing: SigningKey::from_seed(&[5; 32]),
            cache: tempfile::tempdir().unwrap(),
        }
    }

    /// Another empty place to copy to, for the same primary.
    pub fn elsewhere(self) -> Self {
        let time = self.time.clone();
        let offsite = VaultStore::new(Arc::new(move || Timestamp::from_second(time.load(Ordering::SeqCst)).unwrap()));
        let from = FaultStore::new(Arc::new(self.primary.clone()));
        World { from, to: FaultStore::new(Arc::new(offsite.clone())), offsite, ..self }
    }

    pub fn pass(&self, hours: i64) {
        self.time.fetch_add(hours * 3600, Ordering::SeqCst);
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_second(self.time.load(Ordering::SeqCst)).unwrap()
    }

    /// Points stay for `days` from their end on.
    pub fn locks(&self, days: i64) -> Locks {
        let day = Duration::from_secs(86_400);
        Locks {
            mode: LockMode::Compliance,
            clock: {
                let time = self.time.clone();
                Arc::new(move || Timestamp::from_second(time.load(Ordering::SeqCst)).unwrap())
            },
            minimum: day,
            segment: 3 * day,
            slice: day,
            evidence: 100 * day,
            point_end: Arc::new(move |finished| finished + SignedDuration::from_hours(24 * days)),
        }
    }

    pub async fn repository(&self, store: SharedStore) -> Repository {
        Repository::init(store, RepositoryId([1; 16]), self.now()).await.unwrap()
    }

    pub async fn source(&self) -> InstanceRepo {
        self.repository(Arc::new(self.primary.clone())).await.instance(&tenant(), &instance())
    }

    /// The copy, opened like anybody does who finds it.
    pub async fn replica(&self) -> InstanceRepo {
        Repository::open(Arc::new(self.offsite.clone())).await.unwrap().instance(&tenant(), &instance())
    }

    pub fn writer_keys(&self) -> WriterKeys {
        WriterKeys {
            recipients: vec![self.recovery.recipient()],
            host: self.host.clone(),
            signing: self.signing.clone(),
            trusted: vec![],
        }
    }

    pub fn writer_options(&self) -> WriterOptions {
        WriterOptions {
            level: 1,
            pack_size: 4 << 20,
            workers: 2,
            uploads: 2,
            cache_dir: self.cache.path().to_owned(),
            software: "lifeboat test".into(),
            clock: ticking(&self.time),
        }
    }

    pub async fn backup(&self, files: &[File]) -> Point {
        self.backup_to(self.source().await.with_locks(Some(self.locks(2))), files).await
    }

    pub async fn backup_to(&self, repo: InstanceRepo, files: &[File]) -> Point {
        let writing = Writer::begin(repo, self.writer_keys(), self.writer_options(), Arc::new(Silent)).await;
        let mut writer = writing.unwrap();
        writer.begin_tree(TreeKind::Filestore).await.unwrap();
        for (path, bytes) in files {
            let mtime = FileTime { seconds: 1_700_000_000, nanos: 5 };
            let kind = EntryKind::File { size: 0, extents: vec![] };
            let entry = Entry { path: (*path).into(), kind, mode: 0o640, mtime, ..Entry::default() };
            writer.begin_file(entry, Chunking::DOCUMENT).await.unwrap();
            writer.data_from(bytes).await.unwrap();
            writer.end_file(Finish::default()).await.unwrap();
        }
        writer.end_tree().await.unwrap();
        let span = WalSpan { system_id: SYSTEM, timeline: 1, start: Lsn(0x100), end: Lsn(0x5000) };
        writer.put_wal(SYSTEM, 1, Lsn(0x100), wal(0x100, 0x6000)).await.unwrap();
        let details = PointDetails { notes: vec!["a note".into()], ..PointDetails::default() };
        writer.commit(PointDraft { started: self.now(), details, wal: Some(span) }).await.unwrap()
    }

    pub async fn wal(&self, kind: WalObjectKind, first: u64, last: u64) -> WalObject {
        let repo = self.source().await.with_locks(Some(self.locks(2)));
        let writer = WalWriter::new(repo, vec![self.recovery.recipient()], self.signing.clone(), 1);
        writer.put(kind, SYSTEM, 1, SEGMENT, Lsn(first), wal(first, last), None).await.unwrap()
    }

    pub async fn document(&self, kind: DocumentKind, lsn: u64, text: &str) {
        let recipients = vec![self.recovery.recipient(), self.host.recipient()];
        let keys = DocumentKeys { recipients, signing: self.signing.clone() };
        let position = Position { system_id: SYSTEM, timeline: 1, lsn: Lsn(lsn) };
        let repo = self.source().await.with_locks(Some(self.locks(2)));
        repo.put_document(kind, position, &text, &keys, self.now()).await.unwrap();
    }

    /// Two points that share a pack, a stream with a segment and slices, and documents.
    pub async fn fill(&self) -> (Point, Point) {
        self.document(DocumentKind::Timeline, 0, "a stream begins").await;
        let older = self.backup(&first()).await;
        self.wal(WalObjectKind::Slice, 0, SEGMENT / 2).await;
        self.wal(WalObjectKind::Slice, SEGMENT / 2, SEGMENT).await;
        self.wal(WalObjectKind::Segment, 0, SEGMENT).await;
        self.wal(WalObjectKind::Slice, SEGMENT, SEGMENT + 700).await;
        self.document(DocumentKind::RestorePoint, 500, "before the upgrade").await;
        let newer = self.backup(&second()).await;
        self.from.heal();
        (older, newer)
    }

    pub async fn copy(&self) -> Result<CopyReport> {
        self.copy_locked(None).await
    }

    pub async fn copy_locked(&self, locks: Option<Locks>) -> Result<CopyReport> {
        let primary = Repository::open(Arc::new(self.from.clone())).await?;
        let replica = Repository::init_replica(Arc::new(self.to.clone()), &primary).await?;
        let (from, to) = (primary.instance(&tenant(), &instance()), replica.instance(&tenant(), &instance()));
        let options = CopyOptions::everything("lifeboat test", self.now());
        copy::run(&from, &to.with_locks(locks), &options, &[self.signing.public()], Arc::new(Silent)).await
    }

    /// Checks that every point that the copy shows comes back exactly; gives their number.
    pub async fn assert_restores(&self, repo: &InstanceRepo) -> usize {
        let points = repo.list_points().await.unwrap();
        for reference in &points {
            let point = repo.read_point(reference, &[self.signing.public()]).await.unwrap();
            let files = if point.header.trees[0].entries == 2 { first() } else { second() };
            self.assert_restores_point(repo, &point, &files).await;
        }
        points.len()
    }

    pub async fn assert_restores_point(&self, repo: &InstanceRepo, point: &Point, files: &[File]) {
        let identities = [self.recovery.clone()];
        assert_eq!(point.open_details(&identities).unwrap().notes, ["a note"]);
        let options = ReaderOptions::default();
        let reader = Reader::open(repo.clone(), point, &identities, options, Arc::new(Silent)).await.unwrap();
        let sink = Arc::new(MemorySink::default());
        let report = reader.restore_tree(TreeKind::Filestore, sink.clone(), None).await.unwrap();
        assert_eq!(report.damage, []);
        let restored = std::mem::take(&mut *sink.0.lock().unwrap());
        assert_eq!(restored.len(), files.len());
        for (path, bytes) in files {
            assert!(restored[path.as_bytes()] == *bytes, "{path} differs");
        }
        let slices = reader.wal_slices();
        assert_eq!(slices.len(), 1);
        assert!(reader.read_wal(&slices[0]).await.unwrap() == wal(0x100, 0x6000));
    }

    /// The bytes of the archive from the beginning on, as far as they are held without a gap.
    pub async fn stream(&self, repo: &InstanceRepo) -> Vec<u8> {
        let archive = repo.wal_archive();
        let run = archive.list(SYSTEM, 1, Lsn(0)).await.unwrap().from(Lsn(0));
        let reader = archive.reader(vec![self.signing.public()], vec![self.recovery.clone()]);
        let mut bytes = Vec::new();
        for object in run.map(|run| run.objects).unwrap_or_default() {
            let part = reader.read_or_replace(&object).await.unwrap().bytes;
            bytes.truncate(object.first.0 as usize);
            bytes.extend_from_slice(&part);
        }
        bytes
    }
}

/// All keys of the instance but leases, and of each the number of its versions.
pub fn versions(vault: &VaultStore) -> BTreeMap<String, usize> {
    let keys: Vec<Key> = futures::executor::block_on(async {
        lifeboat_store::Store::list_versions(vault, ROOT, "")
            .map_ok(|found| found.info.key)
            .try_collect()
            .await
            .unwrap()
    });
    let mut counted = BTreeMap::new();
    for key in keys.iter().filter(|key| !key.as_str().contains("/lease/")) {
        *counted.entry(key.to_string()).or_default() += 1;
    }
    counted
}

pub type File = (&'static str, Vec<u8>);

pub fn first() -> Vec<File> {
    vec![("a", noise(1, 300_000)), ("b", noise(2, 5 << 20))]
}

pub fn second() -> Vec<File> {
    let mut files = first();
    files[0].1[10] ^= 1;
    files.push(("c", noise(3, 5 << 20)));
    files
}

/// Bytes that look random and are the same each time.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Bytes that tell their own position.
pub fn wal(first: u64, last: u64) -> Bytes {
    (first..last).map(|at| (at / 8).to_le_bytes()[(at % 8) as usize] ^ (at >> 13) as u8).collect()
}

#[derive(Default)]
pub struct MemorySink(pub Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

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
