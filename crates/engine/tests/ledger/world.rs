//! Hosts over one bucket or directory, whose clock the test sets, and a reader who recomputes the whole log.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use futures::TryStreamExt as _;
use jiff::Timestamp;
use lifeboat_engine::{
    Result,
    context::{Context, Initiator},
    ledger::{self, Leaf},
    record::{self, Kept},
};
use lifeboat_evidence::{
    Act, ActPredicate, Statement, act,
    backup::StartedBy,
    ledger::{Entry, Hash, Tree, checkpoint, place},
};
use lifeboat_model::{
    check::Outcome,
    config::parse,
    id::{RepositoryId, RunId, Sha256Digest, Tenant},
    signature::{PublicKey, SigningKey},
};
use lifeboat_repo::{repository::Repository, seal::Identity};
use lifeboat_store::{SharedStore, vault::VaultStore};
use sha2::{Digest as _, Sha256};

pub const ID: RepositoryId = RepositoryId([1; 16]);

/// A clock that stands where it is put, the same for hosts and stores.
#[derive(Clone)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub fn begin() -> Self {
        Self(Arc::new(AtomicI64::new("2026-06-01T00:00:00Z".parse::<Timestamp>().unwrap().as_millisecond())))
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap()
    }

    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub fn shown(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }
}

/// A host with a state folder of its own; all of them sign with keys that all trust.
pub struct Host {
    pub folder: tempfile::TempDir,
    pub context: Context,
}

pub fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32])
}

pub fn trusted() -> Vec<PublicKey> {
    (1..=3).map(|number| key(number).public()).collect()
}

pub fn tenant() -> Tenant {
    "hospital".parse().unwrap()
}

pub fn origin() -> String {
    lifeboat_evidence::ledger::origin(ID, &tenant())
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn config_text(folder: &Path, number: u8, sections: &str) -> String {
    let (recovery, host) = (Identity::generate(), Identity::generate());
    secret(&folder.join("host"), host.to_secret_text().expose());
    secret(&folder.join("signing"), key(number).to_secret_text().expose());
    let keys: Vec<String> = trusted().iter().map(|key| format!("\"{key}\"")).collect();
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
trusted_keys = [{}]
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
"#,
        recovery.recipient(),
        keys.join(", "),
    )
}

pub const LOCK: &str = "[tiers.gold.lock]\nmode = \"compliance\"\nminimum = \"4d\"\n";

impl Host {
    /// Host `number`, whose key has that number, over a store.
    pub async fn over(store: SharedStore, number: u8, clock: &TestClock, sections: &str) -> Host {
        let repository = Repository::init(store, ID, clock.now()).await.unwrap();
        Self::of(repository, number, clock.shown(), sections)
    }

    pub fn of(
        repository: Repository,
        number: u8,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        sections: &str,
    ) -> Host {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lifeboat.toml");
        let (config, _) = parse(&config_text(folder.path(), number, sections), &path).unwrap();
        let initiator = Initiator { who: "test@here".into(), command: "test".into() };
        let context = Context::new(config, "0".repeat(64), repository, clock, initiator);
        Host { folder, context }
    }

    /// Whatever was remembered is gone.
    pub fn forget(&self) {
        let _ = fs::remove_dir_all(self.folder.path().join("state"));
    }

    pub async fn keep(&self, run: u64) -> Result<Kept> {
        record::keep_and_enter(&self.context, &statement(&self.context, run)).await
    }

    /// Keeps a statement, which must be entered.
    pub async fn kept(&self, run: u64) -> ledger::Place {
        self.keep(run).await.unwrap().entered.unwrap()
    }

    pub async fn log(&self) -> Audit {
        audit(&self.context.repository).await
    }
}

/// A statement of a run.
pub fn statement(context: &Context, run: u64) -> Statement {
    let now = (context.clock)();
    let act = Act::Retain(act::Retain { points: 0, objects: run, extended: 0, enough: run, refused: vec![] });
    Statement::act(ActPredicate {
        run: RunId(run.to_be_bytes()),
        started_by: StartedBy { user: "test".into(), host: "here".into(), command: "test".into() },
        software: "test".into(),
        config_sha256: Sha256Digest([0; 32]),
        tenant: context.config.tenant.clone(),
        instance: None,
        repository: context.repository.id(),
        storage: "here".into(),
        started: now,
        finished: now,
        outcome: Outcome::Passed,
        act,
    })
}

/// What somebody finds who reads everything and believes nothing that is not proved.
pub struct Audit {
    pub leaves: Vec<Leaf>,
    /// The entries that are genuine at their place; none: foreign.
    pub entries: Vec<Option<Entry>>,
    pub roots: Vec<Hash>,
    /// Sizes of the checkpoints, which all have the right root.
    pub checkpoints: Vec<u64>,
    /// Objects in a checkpoint's place that are none.
    pub junk: usize,
}

impl Audit {
    /// The runs that were entered, in order; those that stand there twice, twice.
    pub fn runs(&self) -> Vec<u64> {
        let run = |entry: &Entry| {
            let name = entry.statement.strip_suffix(".dsse.json").unwrap();
            u64::from_str_radix(name.rsplit('-').next().unwrap(), 16).unwrap()
        };
        self.entries.iter().flatten().map(run).collect()
    }

    /// Runs that were entered, each once.
    pub fn set(&self) -> Vec<u64> {
        let mut runs = self.runs();
        runs.sort_unstable();
        runs.dedup();
        runs
    }
}

/// Reads all of a ledger, and ends the test where it is not one log: a gap, a checkpoint whose root is not that of the
/// entries, an entry that refers to a checkpoint that never was, or a statement that is not what was entered.
pub async fn audit(repository: &Repository) -> Audit {
    let leaves: Vec<Leaf> = ledger::read(repository, &tenant(), 0).try_collect().await.unwrap();
    let mut tree = Tree::new();
    let mut roots = vec![tree.root()];
    for (index, leaf) in (0..).zip(&leaves) {
        assert_eq!(leaf.index, index, "a gap");
        tree.push(&leaf.bytes);
        roots.push(tree.root());
    }
    let genuine = |leaf: &Leaf| Entry::open_at(&leaf.bytes, &trusted(), &origin(), leaf.index).ok();
    let entries: Vec<Option<Entry>> = leaves.iter().map(|leaf| genuine(leaf).map(|signed| signed.entry)).collect();
    let (mut checkpoints, mut junk) = (Vec::new(), 0);
    let found: Vec<ledger::Found> = ledger::checkpoints(repository, &tenant(), 0).try_collect().await.unwrap();
    for found in found {
        match checkpoint::open_of(&found.note, &trusted(), &origin()) {
            Ok(signed) if signed.checkpoint.size != found.size => junk += 1, // a copy of another one
            Ok(signed) => {
                assert_eq!(roots.get(found.size as usize), Some(&signed.checkpoint.root), "a fork at {}", found.size);
                checkpoints.push(found.size);
            }
            Err(_) => junk += 1,
        }
    }
    let statements = repository.list_evidence(&tenant(), "").await.unwrap();
    for entry in entries.iter().flatten() {
        if let Some(previous) = &entry.previous {
            assert!(previous.size <= entry.index && checkpoints.contains(&previous.size), "{entry:?}");
            assert_eq!(roots[previous.size as usize], previous.root, "{entry:?}");
        }
        let name = format!("hospital/evidence/{}", entry.statement);
        let stored = statements.iter().find(|found| found.key.as_str() == name).expect("it is there");
        let bytes = repository.get_evidence(stored).await.unwrap();
        assert_eq!(entry.sha256.0, <[u8; 32]>::from(Sha256::digest(&bytes)), "{name}");
    }
    Audit { leaves, entries, roots, checkpoints, junk }
}

pub fn vault(clock: &TestClock) -> VaultStore {
    VaultStore::new(clock.shown())
}

/// The key of a slot.
pub fn slot(index: u64) -> lifeboat_store::Key {
    lifeboat_store::Key::new(format!("hospital/evidence/{}", place::entry(index))).unwrap()
}
