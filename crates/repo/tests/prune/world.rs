//! A bucket whose clock the test sets, a host with a clock of its own, and tiny backups that share packs.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use lifeboat_model::{
    id::{PointId, RepositoryId, Sha256Digest},
    lsn::Lsn,
    retention::{self, LockMode, LockPolicy, PointFacts, RetentionPolicy},
    signature::{PublicKey, SigningKey},
};
use lifeboat_repo::{
    Result,
    document::{DocumentKeys, DocumentKind, Position},
    locks::Locks,
    point::{Point, PointDetails, PointHeader, PointRef, SealedPart},
    progress::Silent,
    prune::{self, Fate, PruneItem, PruneOptions, PruneReport},
    reach::{Needs, WalNeeds},
    reader::{Reader, ReaderOptions, Sink, Wanted},
    repository::{InstanceRepo, Repository},
    retain::{self, RetainReport},
    seal::Identity,
    tree::{Entry, EntryKind, TreeKind},
    wal::{WalObjectKind, WalWriter},
    writer::{Chunking, Finish, PointDraft, WalSpan, Writer, WriterKeys, WriterOptions},
};
use lifeboat_store::{Key, SharedStore, Store as _, VersionInfo, vault::VaultStore};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

pub const ROOT: &str = "hospital/clinic/";
pub const SEGMENT: u64 = 1 << 20;
pub const HOUR: i64 = 3600;
pub const DAY: i64 = 24 * HOUR;
/// A Monday.
pub const BEGIN: i64 = 1_798_416_000;

/// A clock that stands where it is put.
#[derive(Clone, Default)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub fn at(second: i64) -> Self {
        Self(Arc::new(AtomicI64::new(second)))
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }

    pub fn second(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn closure(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

/// What the tier demands.
#[derive(Clone)]
pub struct Policy {
    pub retention: Option<RetentionPolicy>,
    pub lock: Option<LockPolicy>,
}

pub fn policy(minimum: Duration) -> Policy {
    let lock = LockPolicy { mode: LockMode::Compliance, minimum: lifeboat_model::time::Span(minimum) };
    let retention = RetentionPolicy {
        time_zone: "Europe/Berlin".parse().unwrap(),
        last: 2,
        hourly: 0,
        daily: 7,
        weekly: 4,
        monthly: 3,
        yearly: 1,
        pitr: Some(lifeboat_model::time::Span(Duration::from_secs(3 * 86_400))),
        drilled: 1,
    };
    Policy { retention: Some(retention), lock: Some(lock) }
}

/// Of the source, at the time of a backup.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Where WAL stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    pub system_id: u64,
    pub timeline: u32,
    pub lsn: u64,
}

pub struct World {
    pub vault: VaultStore,
    pub store_clock: TestClock,
    /// Seconds by which the host's clock is ahead of the store's.
    pub host_ahead: Arc<AtomicI64>,
    pub recovery: Identity,
    pub host: Identity,
    pub signing: SigningKey,
    pub cache: PathBuf,
    pub policy: Policy,
    /// What each point was made of.
    pub made: Arc<Mutex<BTreeMap<PointId, Files>>>,
    pub passed: Arc<Mutex<BTreeMap<PointId, Timestamp>>>,
    /// Points that were read: none ever changes.
    pub known: Arc<Mutex<BTreeMap<Key, Point>>>,
    pub _dir: Arc<tempfile::TempDir>,
}

impl World {
    pub fn new(policy: Policy) -> Self {
        let (store_clock, dir) = (TestClock::at(BEGIN), Arc::new(tempfile::tempdir().unwrap()));
        World {
            vault: VaultStore::new(store_clock.closure()),
            store_clock,
            host_ahead: Arc::default(),
            recovery: Identity::generate(),
            host: Identity::generate(),
            signing: SigningKey::from_seed(&[5; 32]),
            cache: dir.path().to_owned(),
            policy,
            made: Arc::default(),
            passed: Arc::default(),
            known: Arc::default(),
            _dir: dir,
        }
    }

    /// The same world as it is now, on its own from now on.
    pub fn fork(&self) -> World {
        let (store_clock, dir) = (TestClock::at(self.store_clock.second()), Arc::new(tempfile::tempdir().unwrap()));
        World {
            vault: self.vault.fork(store_clock.closure()),
            store_clock,
            host_ahead: Arc::new(AtomicI64::new(self.host_ahead.load(Ordering::SeqCst))),
            recovery: self.recovery.clone(),
            host: self.host.clone(),
            signing: self.signing.clone(),
            cache: dir.path().to_owned(),
            policy: self.policy.clone(),
            made: Arc::new(Mutex::new(self.made.lock().unwrap().clone())),
            passed: Arc::new(Mutex::new(self.passed.lock().unwrap().clone())),
            known: self.known.clone(),
            _dir: dir,
        }
    }

    pub fn trusted(&self) -> Vec<PublicKey> {
        vec![self.signing.public()]
    }

    pub fn now(&self) -> Timestamp {
        self.store_clock.now()
    }

    pub fn host_clock(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let (clock, ahead) = (self.store_clock.clone(), self.host_ahead.clone());
        Arc::new(move || Timestamp::from_second(clock.second() + ahead.load(Ordering::SeqCst)).unwrap())
    }

    /// The instance's part of the repository over this store, opened for writing: with locks where policy has them.
    pub async fn repo_on(&self, store: SharedStore) -> Result<InstanceRepo> {
        let repository = match Repository::open(store.clone()).await {
            Err(lifeboat_repo::Error::NotARepository { .. }) => {
                Repository::init(store, RepositoryId([1; 16]), self.now()).await?
            }
            other => other?,
        };
        let repo = repository.instance(&"hospital".parse().unwrap(), &"clinic".parse().unwrap());
        let locks = match &self.policy.lock {
            Some(lock) => Some(self.locks(*lock, self.facts(&repo).await?)),
            None => None,
        };
        Ok(repo.with_locks(locks))
    }

    pub fn store(&self) -> SharedStore {
        Arc::new(self.vault.clone())
    }

    pub async fn repo(&self) -> InstanceRepo {
        self.repo_on(self.store()).await.unwrap()
    }

    fn locks(&self, lock: LockPolicy, facts: Vec<PointFacts>) -> Locks {
        let retention = self.policy.retention.clone();
        let pitr = retention.as_ref().and_then(|policy| policy.pitr).map_or(Duration::ZERO, |pitr| pitr.0);
        let end = move |time| retention::end_of_new(retention.as_ref(), Some(&lock), &facts, time).unwrap();
        Locks {
            mode: lock.mode,
            clock: self.store_clock.closure(),
            minimum: lock.minimum.0,
            segment: pitr + lock.minimum.0,
            slice: lock.minimum.0.min(Duration::from_secs(7 * 86_400)),
            evidence: Duration::from_secs(86_400),
            point_end: Arc::new(end),
        }
    }

    /// What policy needs to know of the points that are there.
    pub async fn facts(&self, repo: &InstanceRepo) -> Result<Vec<PointFacts>> {
        let passed = self.passed.lock().unwrap().clone();
        let mut facts = Vec::new();
        for reference in repo.list_points().await? {
            let (id, passed) = (reference.id, passed.get(&reference.id).copied());
            match self.read(repo, &reference).await {
                Ok(point) => facts.push(PointFacts {
                    id,
                    time: point.header.finished,
                    received: None,
                    dump: false,
                    passed,
                    held: false,
                }),
                Err(lifeboat_repo::Error::Store(error)) => return Err(error.into()),
                Err(_) => {} // counts for nothing
            }
        }
        Ok(facts)
    }

    async fn read(&self, repo: &InstanceRepo, reference: &PointRef) -> Result<Point> {
        if let Some(point) = self.known.lock().unwrap().get(&reference.key) {
            return Ok(point.clone());
        }
        let point = repo.read_point(reference, &self.trusted()).await?;
        self.known.lock().unwrap().insert(reference.key.clone(), point.clone());
        Ok(point)
    }

    /// What policy keeps now. `demanded`: what a proof may demand, instead of what a renewal gives.
    pub async fn needs(&self, repo: &InstanceRepo, demanded: bool) -> Result<Needs> {
        let (facts, now) = (self.facts(repo).await?, self.now());
        let (policy, lock) = (self.policy.retention.as_ref(), self.policy.lock.as_ref());
        let mut needs = Needs::default();
        for decision in retention::decide(policy, lock, &facts, now) {
            match decision.keep {
                true => {
                    let end = if demanded { decision.demanded } else { decision.end };
                    needs.points.insert(decision.id, end);
                }
                false => {
                    needs.dropped.insert(decision.id);
                }
            }
        }
        let base = policy.and_then(|policy| retention::pitr_base(policy, &facts, now));
        let until = match (lock, demanded) {
            (Some(lock), true) => lock.demanded(now),
            (Some(lock), false) => lock.renewed(now),
            (None, _) => Timestamp::UNIX_EPOCH,
        };
        let since = retention::earlier(now, Duration::from_secs(HOUR as u64));
        needs.wal = WalNeeds { base, since, until };
        needs.slice_until = match demanded {
            true => Timestamp::UNIX_EPOCH,
            false => retention::later(now, Duration::from_secs(DAY as u64)),
        };
        Ok(needs)
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
        WriterOptions {
            level: 1,
            pack_size: 4 << 20,
            workers: 1,
            uploads: 2,
            cache_dir: self.cache.clone(),
            software: "lifeboat test".into(),
            clock: self.host_clock(),
        }
    }

    pub async fn writer(&self, store: SharedStore) -> Result<Writer> {
        let repo = self.repo_on(store).await?;
        Writer::begin(repo, self.keys(), self.options(), Arc::new(Silent)).await
    }

    /// Backs up these files, and a piece of WAL.
    pub async fn backup_on(&self, store: SharedStore, files: &Files, stream: Stream) -> Result<Point> {
        let writer = self.writer(store).await?;
        self.finish(writer, files, stream).await
    }

    pub async fn finish(&self, mut writer: Writer, files: &Files, stream: Stream) -> Result<Point> {
        self.made.lock().unwrap().insert(writer.point_id(), files.clone());
        writer.begin_tree(TreeKind::Filestore).await?;
        for (path, bytes) in files {
            let kind = EntryKind::File { size: 0, extents: vec![] };
            let entry = Entry { path: path.as_bytes().to_vec(), kind, mode: 0o640, ..Entry::default() };
            writer.begin_file(entry, Chunking::DOCUMENT).await?;
            writer.data(Bytes::copy_from_slice(bytes)).await?;
            writer.end_file(Finish::default()).await?;
        }
        writer.end_tree().await?;
        let Stream { system_id, timeline, lsn } = stream;
        writer.put_wal(system_id, timeline, Lsn(lsn), wal(lsn, lsn + 512)).await?;
        let wal = Some(WalSpan { system_id, timeline, start: Lsn(lsn), end: Lsn(lsn + 512) });
        writer.commit(PointDraft { started: self.now(), details: PointDetails::default(), wal }).await
    }

    pub async fn backup(&self, files: &Files, stream: Stream) -> Point {
        self.backup_on(self.store(), files, stream).await.unwrap()
    }

    pub async fn wal_writer(&self, store: SharedStore) -> Result<WalWriter> {
        let repo = self.repo_on(store).await?;
        Ok(WalWriter::new(repo, vec![self.recovery.recipient()], self.signing.clone(), 1))
    }

    /// Stores the WAL from `first` up to `last`: slices, and whole segments.
    pub async fn put_wal(&self, store: SharedStore, stream: Stream, last: u64) -> Result<()> {
        let writer = self.wal_writer(store).await?;
        let Stream { system_id, timeline, lsn: mut first } = stream;
        while first < last {
            let end = (first - first % SEGMENT + SEGMENT).min(last);
            let bytes = wal(first, end);
            writer.put(WalObjectKind::Slice, system_id, timeline, SEGMENT, Lsn(first), bytes, None).await?;
            if end.is_multiple_of(SEGMENT) {
                let begin = end - SEGMENT;
                let bytes = wal(begin, end);
                writer.put(WalObjectKind::Segment, system_id, timeline, SEGMENT, Lsn(begin), bytes, None).await?;
            }
            first = end;
        }
        Ok(())
    }

    pub async fn put_document(&self, store: SharedStore, kind: DocumentKind, stream: Stream) -> Result<Key> {
        let repo = self.repo_on(store).await?;
        let Stream { system_id, timeline, lsn } = stream;
        let position = Position { system_id, timeline, lsn: Lsn(lsn) };
        let recipients = vec![self.recovery.recipient(), self.host.recipient()];
        let keys = DocumentKeys { recipients, signing: self.signing.clone() };
        Ok(repo.put_document(kind, position, &"a document", &keys, self.now()).await?.key)
    }

    pub fn prune_options(&self) -> PruneOptions {
        PruneOptions {
            remove: true,
            foreign: false,
            disregard: Default::default(),
            software: "lifeboat test".into(),
            scratch: self.cache.clone(),
            now: self.now(),
            cancel: CancellationToken::new(),
        }
    }

    pub async fn prune_on(&self, store: SharedStore) -> Result<(PruneReport, Vec<PruneItem>)> {
        let repo = self.repo_on(store).await?;
        let needs = self.needs(&repo, false).await?;
        self.prune_with(&repo, &needs, self.prune_options()).await
    }

    pub async fn prune_with(
        &self,
        repo: &InstanceRepo,
        needs: &Needs,
        options: PruneOptions,
    ) -> Result<(PruneReport, Vec<PruneItem>)> {
        let mut items = Vec::new();
        let mut each = |item: &PruneItem| items.push(item.clone());
        let report = prune::run(repo, needs, options, &self.trusted(), &mut each, Arc::new(Silent)).await?;
        Ok((report, items))
    }

    pub async fn prune(&self) -> (PruneReport, Vec<PruneItem>) {
        self.prune_on(self.store()).await.unwrap()
    }

    pub async fn retain_on(&self, store: SharedStore) -> Result<RetainReport> {
        let repo = self.repo_on(store).await?;
        let needs = self.needs(&repo, false).await?;
        let mode = self.policy.lock.unwrap().mode;
        retain::extend(&repo, &needs, mode, &self.trusted(), self.now(), false, Arc::new(Silent)).await
    }

    /// Checks that the point comes back byte for byte.
    pub async fn assert_restores(&self, point: &Point) {
        let repo = self.repo().await;
        let identities = [self.recovery.clone()];
        let options = ReaderOptions { workers: 1, ..ReaderOptions::default() };
        let reader = Reader::open(repo, point, &identities, options, Arc::new(Silent)).await.unwrap();
        let sink = Arc::new(MemorySink::default());
        let report = reader.restore_tree(TreeKind::Filestore, sink.clone(), None).await.unwrap();
        assert_eq!(report.damage, [], "{}", point.key);
        let restored = std::mem::take(&mut *sink.0.lock().unwrap());
        let made = self.made.lock().unwrap()[&point.header.point].clone();
        assert!(restored == made, "{} differs", point.key);
        let wanted = point.header.wal.as_ref().unwrap();
        for slice in reader.wal_slices() {
            let bytes = reader.read_wal(&slice).await.unwrap();
            assert!(bytes == wal(wanted.start.0, wanted.end.0), "WAL of {} differs", point.key);
        }
    }

    pub async fn points(&self) -> Vec<Point> {
        let repo = self.repo().await;
        let mut points = Vec::new();
        for reference in repo.list_points().await.unwrap() {
            points.push(self.read(&repo, &reference).await.unwrap());
        }
        points
    }

    /// All versions that are there, but those of leases.
    pub async fn versions(&self) -> Vec<VersionInfo> {
        let all: Vec<VersionInfo> = self.vault.list_versions(ROOT, "").try_collect().await.unwrap();
        all.into_iter().filter(|found| !found.info.key.as_str().contains("/lease/")).collect()
    }

    pub async fn names(&self, folder: &str) -> Vec<String> {
        let prefix = format!("{ROOT}{folder}");
        let found = self.versions().await.into_iter().map(|found| found.info.key.to_string());
        found.filter(|key| key.starts_with(&prefix)).collect()
    }
}

/// Bytes that tell their own position, and compress.
pub fn wal(first: u64, last: u64) -> Bytes {
    let mut bytes = vec![0; (last - first) as usize];
    let to_cut = (512 - first % 512).min(last - first) as usize;
    let (head, rest) = bytes.split_at_mut(to_cut);
    head.fill((first >> 9) as u8);
    for (n, part) in (1..).zip(rest.chunks_mut(512)) {
        part.fill(((first >> 9) + n) as u8);
    }
    bytes.into()
}

/// Bytes that look random and are the same each time.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Some files that never change, and one that is this backup's own.
pub fn files(own: u64) -> Files {
    let mut files: Files = (0..4).map(|n| (format!("old/{n}"), noise(n, 3000))).collect();
    // A part of them changes every tenth backup.
    files.insert("slow".into(), noise(1_000_000 + own / 10, 5000));
    files.insert("own".into(), noise(2_000_000 + own, 2000));
    files
}

pub fn stream(lsn: u64) -> Stream {
    Stream { system_id: 7_000_000_000_000_000_001, timeline: 1, lsn }
}

#[derive(Default)]
pub struct MemorySink(Mutex<Files>);

fn name(path: &[u8]) -> String {
    String::from_utf8(path.to_vec()).unwrap()
}

impl Sink for MemorySink {
    fn begin(&self, entry: &Entry) -> io::Result<Wanted> {
        if let EntryKind::File { size, .. } = entry.kind {
            self.0.lock().unwrap().insert(name(&entry.path), vec![0; size as usize]);
        }
        Ok(Wanted::All)
    }

    fn write(&self, path: &[u8], offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        let file = files.get_mut(&name(path)).unwrap();
        file[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn end(&self, _: &Entry) -> io::Result<()> {
        Ok(())
    }
}

/// A point as FORMAT.md has it, without the code that is tested.
pub fn envelope(header: &PointHeader, signing: &SigningKey) -> Bytes {
    let (sealed, json) = ([9; 100], serde_json::to_vec(header).unwrap());
    let mut out = b"LBPOINT1".to_vec();
    out.extend((json.len() as u32).to_le_bytes());
    out.extend(&json);
    out.extend(1u16.to_le_bytes());
    out.extend(signing.public().as_bytes());
    out.extend(signing.sign(&[b"lifeboat recovery point v1\n".as_slice(), &json].concat()));
    out.extend((sealed.len() as u64).to_le_bytes());
    out.extend(sealed);
    let digest = Sha256::digest(&out);
    out.extend(digest);
    out.into()
}

impl World {
    /// Puts a point like `like`, changed, at the key that its header says.
    pub async fn forge(&self, like: &Point, signing: &SigningKey, change: impl FnOnce(&mut PointHeader)) -> Key {
        let mut header = like.header.clone();
        header.sealed = SealedPart { len: 100, sha256: Sha256Digest(Sha256::digest([9; 100]).into()) };
        change(&mut header);
        let name = format!("{}-{}", lifeboat_model::time::compact(header.finished), header.point);
        let key = Key::new(format!("{ROOT}points/{name}")).unwrap();
        self.vault.put(&key, envelope(&header, signing)).await.unwrap();
        key
    }
}

pub fn fate<'a>(items: &'a [PruneItem], key: &Key) -> &'a Fate {
    &items.iter().find(|item| item.key == *key).unwrap_or_else(|| panic!("{key} was not told of")).fate
}

pub fn no_locks() -> Policy {
    Policy { lock: None, ..policy(Duration::from_secs(6 * 86_400)) }
}

/// Keeps these, drops those, and all WAL from the oldest of them on.
pub fn keep(kept: &[&Point], dropped: &[&Point]) -> Needs {
    let far = Timestamp::from_second(BEGIN + 400 * DAY).unwrap();
    let mut needs = Needs { slice_until: far, ..Needs::default() };
    needs.points = kept.iter().map(|point| (point.header.point, far)).collect();
    needs.dropped = dropped.iter().map(|point| point.header.point).collect();
    needs.wal = WalNeeds { base: None, since: Timestamp::MAX, until: far };
    needs
}
