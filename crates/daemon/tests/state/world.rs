//! One tenant with one instance, a local repository, and statements in it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_daemon::{
    Daemon, Sources, Surroundings,
    job::{Because, Job, RunOutcome},
    policies,
    runner::{Ended, How, RunEvent, Runner},
    state::State,
    time::Time,
    work,
};
use lifeboat_engine::{
    context::{Context, Initiator},
    record,
};
use lifeboat_evidence::{
    BackupPredicate, Statement,
    backup::{DataChecksums, PointReference, Sizes, Source, StartedBy},
};
use lifeboat_model::{
    config::parse,
    id::{PointId, RepositoryId, RunId, Sha256Digest},
    lsn::Lsn,
    signature::SigningKey,
};
use lifeboat_repo::{repository::Repository, seal::Identity};
use lifeboat_store::local::LocalStore;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const BEGIN: i64 = 1_795_000_000;

/// So many seconds after the beginning.
pub fn moment(second: i64) -> Timestamp {
    Timestamp::from_second(BEGIN + second).unwrap()
}

/// A clock that stands where it is put.
struct Set(Arc<AtomicI64>);

#[async_trait]
impl Time for Set {
    fn now(&self) -> Timestamp {
        moment(self.0.load(Ordering::SeqCst))
    }

    async fn sleep_until(&self, _: Timestamp) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Nothing is begun here.
struct Nobody;

#[async_trait]
impl Runner for Nobody {
    async fn run(&self, _: &Job, _: &How, _: mpsc::Sender<RunEvent>, _: CancellationToken) -> Ended {
        let outcome = RunOutcome::Failed;
        Ended { outcome, exit: None, answer: None, reason: Some("nobody works here".into()), is_transient: false }
    }

    async fn is_alive(&self, _: &Job, _: &How) -> bool {
        false
    }
}

pub struct World {
    pub folder: tempfile::TempDir,
    context: Context,
    clock: Arc<AtomicI64>,
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn config(folder: &Path) -> String {
    let (recovery, host, signing) = (Identity::generate(), Identity::generate(), SigningKey::from_seed(&[7; 32]));
    secret(&folder.join("host"), host.to_secret_text().expose());
    secret(&folder.join("signing"), signing.to_secret_text().expose());
    format!(
        r#"tenant = "acme"
[repository]
path = "repository"
[keys]
recovery_recipients = ["{}"]
host_identity_file = "host"
signing_key_file = "signing"
trusted_keys = ["{}"]
[tiers.gold]
rpo = "15m"
rto = "1h"
[instances.clinic]
tier = "gold"
[instances.clinic.postgres]
host = "127.0.0.1"
port = 1
user = "lifeboat"
tls = "disable"
databases = ["demo"]
[instances.clinic.drill]
postgres_image = "postgres:17"
odoo_image = "odoo:19"
[engine]
state_dir = "engine"
"#,
        recovery.recipient(),
        signing.public(),
    )
}

impl World {
    pub async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lifeboat.toml");
        let text = config(folder.path());
        fs::write(&path, &text).unwrap();
        fs::create_dir(folder.path().join("schedules")).unwrap();
        let schedule = "[schedule.nightly]\ndo = \"backup\"\ntiers = [\"gold\"]\ncron = \"0 * * * *\"\n\
                        [schedule.audit]\ndo = \"audit\"\ncron = \"30 * * * *\"\nmissed = { once_within = \"12h\" }\n\
                        [schedule.report]\ndo = \"report\"\nperiod = \"week\"\ncron = \"40 * * * *\"\n";
        fs::write(folder.path().join("schedules/all.toml"), schedule).unwrap();
        let store = LocalStore::open(&folder.path().join("repository"), true).unwrap();
        let repository = Repository::init(Arc::new(store), RepositoryId([1; 16]), moment(-86_400)).await.unwrap();
        let (config, _) = parse(&text, &path).unwrap();
        let clock = Arc::new(AtomicI64::new(4 * 3600));
        let shown = Arc::clone(&clock);
        let now = Arc::new(move || moment(shown.load(Ordering::SeqCst)));
        let initiator = Initiator { who: "root@backup-1".into(), command: "lifeboat backup clinic".into() };
        let context = Context::new(config, "0".repeat(64), repository, now, initiator);
        World { folder, context, clock }
    }

    pub fn set(&self, second: i64) {
        self.clock.store(second, Ordering::SeqCst);
    }

    /// Where its schedules stand.
    pub fn schedules(&self) -> PathBuf {
        self.folder.path().join("schedules/all.toml")
    }

    /// A daemon with a state of its own.
    pub fn daemon(&self, state: &str) -> Daemon {
        self.daemon_with(state, |_| {})
    }

    /// The same with other surroundings.
    pub fn daemon_with(&self, state: &str, change: impl FnOnce(&mut Surroundings)) -> Daemon {
        let sources = Sources { settings: None, config: Some(self.folder.path().join("lifeboat.toml")) };
        let policies = policies::read(&sources).unwrap();
        let state = self.folder.path().join(state);
        fs::create_dir_all(state.join("runs")).unwrap();
        let state = State::open(&state).unwrap();
        let mut surroundings = Surroundings {
            time: Arc::new(Set(Arc::clone(&self.clock))),
            runner: Arc::new(Nobody),
            lead: Arc::new(work::Alone),
            past: Arc::new(work::FromEvidence),
            environment: Arc::new(|_| None),
            who: "lifeboat@backup-1".into(),
            listen: None,
            ready: Arc::new(|_| {}),
            reload: Arc::default(),
            alive: Arc::new(|| {}),
        };
        change(&mut surroundings);
        Daemon::new(sources, policies, state, surroundings)
    }

    /// The statement of a finished backup: by a schedule, or typed by somebody.
    pub async fn backup(&self, run: u8, because: Option<&Because>, started: i64, finished: i64) {
        let command = match because {
            Some(because) => format!("lifeboat backup clinic ({because})"),
            None => "lifeboat backup clinic".to_owned(),
        };
        let statement = Statement::backup(BackupPredicate {
            run: RunId([run; 8]),
            started_by: StartedBy { user: "root".into(), host: "backup-1".into(), command },
            software: "lifeboat 0.1.0".into(),
            config_sha256: Sha256Digest([2; 32]),
            tenant: "acme".parse().unwrap(),
            instance: "clinic".parse().unwrap(),
            tier: "gold".parse().unwrap(),
            repository: RepositoryId([1; 16]),
            storage: "directory, not immutable".into(),
            started: moment(started),
            finished: moment(finished),
            point: PointReference {
                id: PointId([4; 8]),
                key: "acme/clinic/points/20261121T200732Z-0404040404040404".into(),
                sha256: Sha256Digest([5; 32]),
                version: None,
            },
            source: Source {
                system_id: "7440123456789012345".into(),
                postgres_version: "17.6".into(),
                timeline: 1,
                start_lsn: Lsn(0x200_0028),
                end_lsn: Lsn(0x200_0158),
                data_checksums: DataChecksums::Verified,
                databases: vec!["demo".into()],
            },
            sizes: Sizes { read_bytes: 64, new_bytes: 60, stored_bytes: 9, reused_bytes: 4, files: 31 },
            trees: vec![],
            notes: vec![],
            not_covered: vec![],
        });
        record::keep(&self.context, &statement).await.unwrap();
    }
}
