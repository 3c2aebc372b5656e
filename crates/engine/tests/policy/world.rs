//! A configured instance over a bucket in memory, whose clock the test sets, and tiny backups.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::{
    context::{Context, Initiator},
    keys::writer_keys,
    lifetime::Lifetime,
    prune, record,
};
use lifeboat_evidence::{
    DrillPredicate, Statement,
    backup::StartedBy,
    drill::{Comparison, DrilledPoint, SoftwareVersions, Targets, Teardown, VersionsReadBack},
};
use lifeboat_model::{
    check::{Check, Outcome, Verdict},
    config::parse,
    id::{Instance, RepositoryId},
    lsn::Lsn,
    signature::SigningKey,
};
use lifeboat_repo::{
    point::{Point, PointDetails},
    progress::Silent,
    repository::{InstanceRepo, Repository},
    seal::Identity,
    tree::{Entry, EntryKind, TreeKind},
    writer::{Chunking, Finish, PointDraft, WalSpan, Writer, WriterOptions},
};
use lifeboat_store::{SharedStore, fault::FaultStore, local::LocalStore, vault::VaultStore};

/// A Monday, 00:00 UTC.
pub const BEGIN: &str = "2026-06-01T00:00:00Z";
pub const LOCK: &str = "[tiers.gold.lock]\nmode = \"compliance\"\nminimum = \"4d\"\n";
pub const KEEP: &str = "[tiers.gold.retention]\ndaily = 7\nmonthly = 2\npitr = \"1d\"\n";

/// A clock that stands where it is put.
#[derive(Clone)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub fn begin() -> Self {
        Self(Arc::new(AtomicI64::new(BEGIN.parse::<Timestamp>().unwrap().as_second())))
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }

    pub fn advance(&self, hours: i64) {
        self.0.fetch_add(hours * 3600, Ordering::SeqCst);
    }

    pub fn ahead(&self, by: SignedDuration) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let clock = self.clone();
        Arc::new(move || clock.now() + by)
    }
}

pub struct World {
    pub folder: tempfile::TempDir,
    pub clock: TestClock,
    /// None: a directory.
    pub vault: Option<VaultStore>,
    pub context: Context,
    pub name: Instance,
    lsn: AtomicI64,
    text: String,
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn config_text(folder: &Path, sections: &str) -> String {
    let (recovery, host, signing) = (Identity::generate(), Identity::generate(), SigningKey::from_seed(&[5; 32]));
    secret(&folder.join("host"), host.to_secret_text().expose());
    secret(&folder.join("signing"), signing.to_secret_text().expose());
    format!(
        r#"tenant = "hospital"
[repository.s3]
bucket = "lifeboat"
region = "here"
access_key_env = "A"
secret_key_env = "S"
[keys]
recovery_recipients = ["{}"]
host_identity_file = "host"
signing_key_file = "signing"
trusted_keys = ["{}"]
[tiers.gold]
rpo = "15m"
rto = "1h"
{sections}
[instances.clinic]
tier = "gold"
[instances.clinic.postgres]
host = "127.0.0.1"
user = "lifeboat"
tls = "disable"
databases = ["demo"]
[instances.clinic.drill]
postgres_image = "postgres:17"
odoo_image = "odoo:19"
[engine]
state_dir = "state"
workers = 1
"#,
        recovery.recipient(),
        signing.public(),
    )
}

impl World {
    /// In a bucket with object lock; `sections` are those of the tier.
    pub async fn in_bucket(sections: &str) -> World {
        let clock = TestClock::begin();
        let vault = VaultStore::new(clock.ahead(SignedDuration::ZERO));
        World::over(Some(vault.clone()), |_| Arc::new(vault), clock, sections, SignedDuration::ZERO).await
    }

    /// In a bucket with object lock that fails on command.
    pub async fn in_faulty_bucket() -> (World, FaultStore) {
        let clock = TestClock::begin();
        let vault = VaultStore::new(clock.ahead(SignedDuration::ZERO));
        let faults = FaultStore::new(Arc::new(vault.clone()));
        let store: SharedStore = Arc::new(faults.clone());
        (World::over(Some(vault), |_| store, clock, LOCK, SignedDuration::ZERO).await, faults)
    }

    /// In a bucket whose clock is ahead of the host's by so much.
    pub async fn with_skew(sections: &str, ahead: SignedDuration) -> World {
        let clock = TestClock::begin();
        let vault = VaultStore::new(clock.ahead(SignedDuration::ZERO));
        World::over(Some(vault.clone()), |_| Arc::new(vault), clock, sections, -ahead).await
    }

    /// In a directory, by the real clock's side of the store and the test's of the host.
    pub async fn in_directory(sections: &str) -> World {
        let clock = TestClock(Arc::new(AtomicI64::new(Timestamp::now().as_second())));
        let open = |root: &Path| -> SharedStore { Arc::new(LocalStore::open(&root.join("repository"), true).unwrap()) };
        World::over(None, open, clock, sections, SignedDuration::ZERO).await
    }

    async fn over(
        vault: Option<VaultStore>,
        store: impl FnOnce(&Path) -> SharedStore,
        clock: TestClock,
        sections: &str,
        host_ahead: SignedDuration,
    ) -> World {
        let folder = tempfile::tempdir().unwrap();
        let text = config_text(folder.path(), sections);
        let repository = Repository::init(store(folder.path()), RepositoryId([1; 16]), clock.now()).await.unwrap();
        let context = context(folder.path(), &text, repository, clock.ahead(host_ahead));
        let name = "clinic".parse().unwrap();
        World { folder, clock, vault, context, name, lsn: AtomicI64::new(1 << 24), text }
    }

    /// The same host after a restart: whatever was remembered in memory is gone.
    pub fn restart(&mut self) {
        let clock = self.context.clock.clone();
        self.context = context(self.folder.path(), &self.text, self.context.repository.clone(), clock);
    }

    /// A host whose clock is not the store's.
    pub fn with_host_clock(mut self, clock: &TestClock) -> World {
        self.context.clock = clock.ahead(SignedDuration::ZERO);
        self
    }

    pub fn forget(&self) {
        let _ = fs::remove_dir_all(self.state());
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn repo(&self) -> InstanceRepo {
        self.context.instance_repo(&self.name)
    }

    /// A point with a file of its own and one that all share.
    pub async fn backup(&self) -> Point {
        let mut writer = self.writer().await.unwrap();
        let number = self.lsn.fetch_add(1 << 24, Ordering::SeqCst) as u64;
        writer.begin_tree(TreeKind::Filestore).await.unwrap();
        for (path, byte) in [("own", number.to_le_bytes()), ("shared", [7; 8])] {
            let kind = EntryKind::File { size: 0, extents: vec![] };
            let entry = Entry { path: path.into(), kind, mode: 0o640, ..Entry::default() };
            writer.begin_file(entry, Chunking::DOCUMENT).await.unwrap();
            writer.data(Bytes::from(byte.repeat(4096))).await.unwrap();
            writer.end_file(Finish::default()).await.unwrap();
        }
        writer.end_tree().await.unwrap();
        writer.put_wal(7, 1, Lsn(number), Bytes::from(vec![1; 512])).await.unwrap();
        let wal = Some(WalSpan { system_id: 7, timeline: 1, start: Lsn(number), end: Lsn(number + 512) });
        let draft = PointDraft { started: (self.context.clock)(), details: PointDetails::default(), wal };
        writer.commit(draft).await.unwrap()
    }

    pub async fn writer(&self) -> Result<Writer, lifeboat_engine::Error> {
        let options = WriterOptions {
            level: 1,
            pack_size: 4 << 20,
            workers: 1,
            uploads: 2,
            cache_dir: self.state().join("cache"),
            software: "lifeboat test".into(),
            clock: self.context.clock.clone(),
        };
        let keys = writer_keys(&self.context.config.keys)?;
        Ok(Writer::begin(self.context.writing_repo(&self.name).await?, keys, options, Arc::new(Silent)).await?)
    }

    pub async fn lifetime(&self) -> Lifetime {
        Lifetime::look(&self.context, &self.name).await.unwrap()
    }

    /// Each kept point's reasons, oldest first.
    pub async fn kept(&self) -> Vec<(Point, String)> {
        let lifetime = self.lifetime().await;
        let mut kept = Vec::new();
        for (reference, decision) in lifetime.points.iter().zip(&lifetime.decisions) {
            if decision.keep {
                let point = self.repo().read_point(reference, &self.context.config.keys.trusted_keys).await.unwrap();
                let reasons: Vec<&str> = decision.reasons.iter().map(|(reason, _)| reason.word()).collect();
                kept.push((point, reasons.join(" ")));
            }
        }
        kept
    }

    pub async fn prune(&self, dry_run: bool) -> prune::Pruned {
        let request = prune::Request { dry_run, ..prune::Request::default() };
        let pruned = prune::run(&self.context, &self.name, request, &mut |_| {}, Arc::new(Silent)).await;
        pruned.unwrap().expect("the tier has a retention")
    }

    /// The statement of a drill on this point.
    pub fn drill(&self, point: &Point, change: impl FnOnce(&mut DrillPredicate)) -> Statement {
        let now = (self.context.clock)();
        let check = Check {
            id: "boot.log".into(),
            rung: 1,
            purpose: String::new(),
            expected: String::new(),
            observed: String::new(),
            verdict: Verdict::Passed,
            duration_ms: 1,
        };
        let mut drill = DrillPredicate {
            run: record::new_run().unwrap(),
            started_by: StartedBy { user: "test".into(), host: "here".into(), command: "test".into() },
            software: "lifeboat test".into(),
            config_sha256: record::config_digest(&self.context).unwrap(),
            tenant: self.context.config.tenant.clone(),
            instance: self.name.clone(),
            tier: "gold".parse().unwrap(),
            repository: None,
            storage: String::new(),
            started: now,
            finished: now,
            point: Some(DrilledPoint {
                id: point.header.point,
                key: point.key.to_string(),
                sha256: point.sha256,
                version: None,
                finished: point.header.finished,
                age_seconds: 0,
                selected_by: "latest".into(),
            }),
            versions_read_back: VersionsReadBack::default(),
            outcome: Outcome::Passed,
            required: vec![],
            checks: vec![check],
            not_executed: vec![],
            comparison: Comparison::None { why: "a test".into() },
            rpo_seconds: None,
            newest_commit: None,
            rpo_reference: None,
            rto_seconds: None,
            targets: Targets::compare("1h".parse().unwrap(), "1h".parse().unwrap(), None, None),
            phases: vec![],
            images: vec![],
            software_versions: SoftwareVersions::default(),
            isolation: vec![],
            teardown: Teardown { complete: true, ..Teardown::default() },
            not_covered: vec![],
            sabotage: None,
            notes: vec![],
            exceptions: vec![],
            corrective_action: None,
            sign_offs: vec![],
            control: None,
            policy_sha256: None,
            breakdown: None,
            prediction: None,
            screenshot: None,
        };
        change(&mut drill);
        Statement::drill(drill)
    }

    /// Signs it with this key and puts it where it belongs.
    pub async fn keep(&self, statement: &Statement, key: &SigningKey) {
        let place = statement.storage_key().unwrap().to_string();
        let sealed = Bytes::from(lifeboat_evidence::seal(statement, key));
        let tenant = &self.context.config.tenant;
        let name = place.rsplit('/').next().unwrap();
        self.context.repository.put_evidence(tenant, name, sealed).await.unwrap();
    }
}

/// The key whose public half is trusted.
pub fn own_key() -> SigningKey {
    SigningKey::from_seed(&[5; 32])
}

fn context(
    folder: &Path,
    text: &str,
    repository: Repository,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
) -> Context {
    let (config, _) = parse(text, &folder.join("lifeboat.toml")).unwrap_or_else(|found| panic!("{found:#?}"));
    let initiator = Initiator { who: "test@here".into(), command: "test".into() };
    Context::new(config, "0".repeat(64), repository, clock, initiator)
}
