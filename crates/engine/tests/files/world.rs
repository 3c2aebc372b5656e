//! A repository in a folder, its keys, and the two verbs.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use lifeboat_engine::{
    details::{PostgresDetails, SourceNotes, encode},
    file_source,
    recovery::Plan,
    restore::{self, Parts, RestoreReport, RestoreRequest},
};
use lifeboat_model::{config::ConfigSources, id::RepositoryId, lsn::Lsn, signature::SigningKey};
use lifeboat_repo::{
    point::{Point, PointDetails},
    progress::{Counter, Progress, Silent},
    repository::{InstanceRepo, Repository},
    seal::Identity,
    writer::{PointDraft, TreeStats, WalSpan, Writer, WriterKeys, WriterOptions},
};
use lifeboat_store::local::LocalStore;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Files that were touched this recently get no change mark (`RACY_SECONDS` of the walk), with a second to spare.
const SETTLED: Duration = Duration::from_secs(4);

/// Counts what passes by.
#[derive(Default)]
pub struct Counts(Mutex<BTreeMap<Counter, u64>>);

impl Counts {
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.lock().unwrap().get(&counter).copied().unwrap_or_default()
    }
}

impl Progress for Counts {
    fn add(&self, counter: Counter, n: u64) {
        *self.0.lock().unwrap().entry(counter).or_default() += n;
    }

    fn note(&self, _: &str) {}
}

/// What a backup of one tree did.
pub struct Backup {
    pub point: Point,
    pub stats: TreeStats,
    pub notes: SourceNotes,
    /// Bytes that were read from files.
    pub read: u64,
}

/// A folder with a source, a repository and room for targets.
pub struct World {
    folder: TempDir,
    pub repo: InstanceRepo,
    pub recovery: Identity,
    host: Identity,
    signing: SigningKey,
}

impl World {
    /// On the disk of the build output: temporary folders may lie in memory, where holes and attributes differ.
    pub async fn new() -> World {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::create_dir(folder.path().join("source")).unwrap();
        let store = LocalStore::open(&folder.path().join("repository"), true).unwrap();
        let repository = Repository::init(Arc::new(store), RepositoryId([1; 16]), Timestamp::now()).await.unwrap();
        World {
            repo: repository.instance(&"hospital".parse().unwrap(), &"clinic".parse().unwrap()),
            folder,
            recovery: Identity::generate(),
            host: Identity::generate(),
            signing: SigningKey::from_seed(&[7; 32]),
        }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn source(&self) -> PathBuf {
        self.at("source")
    }

    /// All packs of the repository.
    pub fn packs(&self) -> Vec<PathBuf> {
        let packs = self.at("repository/hospital/clinic/packs");
        lifeboat_testkit::folder::files(&packs).into_iter().map(|name| packs.join(name)).collect()
    }

    pub async fn writer(&self, progress: Arc<dyn Progress>) -> Writer {
        let keys = WriterKeys {
            recipients: vec![self.recovery.recipient()],
            host: self.host.clone(),
            signing: self.signing.clone(),
            trusted: vec![self.signing.public()],
        };
        let options = WriterOptions {
            level: 3,
            pack_size: 4 << 20,
            workers: 2,
            uploads: 2,
            cache_dir: self.at("cache"),
            software: "lifeboat test".into(),
            clock: Arc::new(Timestamp::now),
        };
        Writer::begin(self.repo.clone(), keys, options, progress).await.unwrap()
    }

    /// Makes a point of what was written, with details that a restore needs.
    pub async fn commit(&self, writer: Writer, notes: &SourceNotes, wal: Option<WalSpan>) -> Point {
        let details = PointDetails {
            postgres: encode(&postgres()).unwrap(),
            facts: [(SourceNotes::FACT.to_owned(), encode(notes).unwrap())].into(),
            ..PointDetails::default()
        };
        writer.commit(PointDraft { started: Timestamp::now(), details, wal }).await.unwrap()
    }

    /// Backs the source folder up as a filestore.
    pub async fn backup(&self) -> Backup {
        self.try_backup(&self.source()).await.unwrap()
    }

    pub async fn try_backup(&self, root: &Path) -> lifeboat_engine::Result<Backup> {
        let (counts, mut notes) = (Arc::new(Counts::default()), SourceNotes::default());
        let mut writer = self.writer(counts.clone()).await;
        match file_source::filestore(&mut writer, root, &mut notes).await {
            Ok(stats) => self.finish(writer, counts, stats, notes).await,
            Err(error) => {
                writer.abort().await.unwrap();
                Err(error)
            }
        }
    }

    pub async fn backup_config(&self, sources: &ConfigSources) -> lifeboat_engine::Result<Backup> {
        let (counts, mut notes) = (Arc::new(Counts::default()), SourceNotes::default());
        let mut writer = self.writer(counts.clone()).await;
        match file_source::config(&mut writer, sources, &mut notes).await {
            Ok(stats) => self.finish(writer, counts, stats, notes).await,
            Err(error) => {
                writer.abort().await.unwrap();
                Err(error)
            }
        }
    }

    async fn finish(
        &self,
        writer: Writer,
        counts: Arc<Counts>,
        stats: TreeStats,
        notes: SourceNotes,
    ) -> lifeboat_engine::Result<Backup> {
        let point = self.commit(writer, &notes, None).await;
        Ok(Backup { point, stats, notes, read: counts.get(Counter::ReadBytes) })
    }

    /// Restores everything of a point into a folder.
    pub async fn restore(&self, point: &Point, to: &str, delta: bool) -> lifeboat_engine::Result<RestoreReport> {
        self.restore_watched(point, to, delta, Arc::new(Silent), &CancellationToken::new()).await
    }

    pub async fn restore_watched(
        &self,
        point: &Point,
        to: &str,
        delta: bool,
        progress: Arc<dyn Progress>,
        cancel: &CancellationToken,
    ) -> lifeboat_engine::Result<RestoreReport> {
        let identities = [self.recovery.clone()];
        let plan = Plan::of_point(point.clone(), &identities)?;
        let trusted = [self.signing.public()];
        let request = RestoreRequest {
            repo: &self.repo,
            plan: &plan,
            trusted: &trusted,
            identities: &identities,
            to: self.at(to),
            delta,
            parts: Parts {
                database: point.header.tree(lifeboat_repo::tree::TreeKind::Database).is_some(),
                ..Parts::ALL
            },
        };
        restore::run(request, progress, cancel).await
    }
}

impl Drop for World {
    /// Opens folders that their owner may not write to, so that they can be removed.
    fn drop(&mut self) {
        fn open(folder: &Path) {
            crate::odd::set_mode(folder, 0o700);
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    open(&entry.path());
                }
            }
        }
        if !is_root() && !std::thread::panicking() {
            open(self.folder.path());
        }
    }
}

/// Of a server that never was: these tests are about files.
pub fn postgres() -> PostgresDetails {
    PostgresDetails {
        version: 170_006,
        system_id: "7000000000000000001".into(),
        timeline: 1,
        start: Lsn(0x100_0000),
        backup_end: Lsn(0x100_0000),
        wal_end: Lsn(0x100_1000),
        mark: None,
        segment_size: 16 << 20,
        data_checksums: true,
        tablespaces: Vec::new(),
        databases: vec!["demo".into()],
        started: Timestamp::now(),
        finished: Timestamp::now(),
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Waits until nothing below the folder was touched within the time in which a change could stay unseen. Change times
/// cannot be set back, so there is nothing to do but to let the clock go on.
pub fn settle(root: &Path) {
    fn newest(path: &Path) -> i64 {
        let metadata = fs::symlink_metadata(path).unwrap();
        let below = metadata.is_dir().then(|| fs::read_dir(path).unwrap());
        let below = below.into_iter().flatten().map(|entry| newest(&entry.unwrap().path()));
        below.fold(metadata.ctime(), i64::max)
    }
    let settled = SystemTime::UNIX_EPOCH + Duration::from_secs(newest(root).unsigned_abs()) + SETTLED;
    while let Ok(left) = settled.duration_since(SystemTime::now()) {
        std::thread::sleep(left);
    }
}

/// Bytes that do not compress and do not repeat, always the same for a seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}
