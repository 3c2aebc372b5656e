//! A daemon of one tenant in a folder, whose clock goes sixty times as fast; only what tells and shows is running.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use lifeboat_daemon::{
    Daemon, Sources, Surroundings,
    job::{Job, RunOutcome},
    notify, policies,
    runner::{Ended, How, RunEvent, Runner},
    state::State,
    time::Time,
    view::Trouble,
    work::Alone,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::support::NoPast;

/// How much faster the daemon's time goes.
const FAST: i32 = 60;

pub struct Site {
    pub folder: tempfile::TempDir,
}

/// The parts that run.
pub struct Served {
    pub daemon: Arc<Daemon>,
    cancel: CancellationToken,
    told: JoinHandle<()>,
}

struct Clock {
    began: Instant,
    start: Timestamp,
}

#[async_trait]
impl Time for Clock {
    fn now(&self) -> Timestamp {
        self.start + SignedDuration::try_from(self.began.elapsed() * FAST as u32).unwrap()
    }

    async fn sleep_until(&self, time: Timestamp) {
        let left = Duration::try_from(time.duration_since(self.now())).unwrap_or_default();
        tokio::time::sleep(left / FAST as u32).await;
    }
}

/// Goes on at once when nothing is to be done, in a runtime whose time is paused.
pub struct Paused {
    began: tokio::time::Instant,
    start: Timestamp,
}

impl Paused {
    pub fn begin() -> Paused {
        Paused { began: tokio::time::Instant::now(), start: Timestamp::now() }
    }
}

#[async_trait]
impl Time for Paused {
    fn now(&self) -> Timestamp {
        self.start + SignedDuration::try_from(self.began.elapsed()).unwrap()
    }

    async fn sleep_until(&self, time: Timestamp) {
        let left = Duration::try_from(time.duration_since(self.now())).unwrap_or_default();
        tokio::time::sleep(left).await;
    }
}

/// Begins nothing: these tests are about telling.
struct Nothing;

#[async_trait]
impl Runner for Nothing {
    async fn run(&self, _: &Job, _: &How, _: mpsc::Sender<RunEvent>, _: CancellationToken) -> Ended {
        Ended { outcome: RunOutcome::Passed, exit: Some(0), answer: None, reason: None, is_transient: false }
    }

    async fn is_alive(&self, _: &Job, _: &How) -> bool {
        false
    }
}

const CONFIG: &str = r#"tenant = "acme"
[repository]
path = "backups"
[keys]
recovery_recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]
host_identity_file = "host.age"
signing_key_file = "signing"
trusted_keys = ["lifeboat-ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw="]
[tiers.gold]
rpo = "15m"
rto = "4h"
[instances.clinic]
tier = "gold"
postgres = { host = "db", user = "lifeboat", databases = ["clinic"], tls = "disable" }
drill = { postgres_image = "postgres:17", odoo_image = "odoo:19" }
[engine]
state_dir = "engine"
"#;

impl Site {
    /// With these settings of `[notify]`; secrets lie as files in the folder.
    pub fn new(notify: &str) -> Site {
        let site = Site { folder: tempfile::tempdir().unwrap() };
        site.write("lifeboat.toml", CONFIG);
        fs::create_dir(site.path("schedules")).unwrap();
        let tenant = "state_dir = \"state\"\n[[tenant]]\nconfig = \"lifeboat.toml\"\nschedules = \"schedules\"\n";
        site.write("daemon.toml", &format!("{tenant}{notify}"));
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Starts what tells people.
    pub async fn serve(&self) -> Served {
        self.serve_by(Arc::new(Clock { began: Instant::now(), start: Timestamp::now() })).await
    }

    /// The same, by another clock.
    pub async fn serve_by(&self, time: Arc<dyn Time>) -> Served {
        let sources = Sources { settings: Some(self.path("daemon.toml")), config: None };
        let policies = policies::read(&sources).unwrap_or_else(|error| panic!("{error:#?}"));
        // The lock of an earlier daemon goes with its last task.
        let state = within("the state can be opened", async || State::open(&self.path("state")).ok()).await;
        let surroundings = Surroundings {
            time,
            runner: Arc::new(Nothing),
            lead: Arc::new(Alone),
            past: Arc::new(NoPast),
            environment: Arc::new(|_| None),
            who: "test@alarms".to_owned(),
            listen: None,
            ready: Arc::new(|_| {}),
            reload: Arc::default(),
            alive: Arc::new(|| {}),
        };
        let daemon = Arc::new(Daemon::new(sources, policies, state, surroundings));
        let cancel = CancellationToken::new();
        let told = tokio::spawn(notify::run(Arc::clone(&daemon), cancel.clone()));
        Served { daemon, cancel, told }
    }
}

impl Served {
    /// Something does not work.
    pub fn breaks(&self, of: &str) {
        self.daemon.troubles.begin(Trouble {
            tenant: Some("acme".to_owned()),
            of: of.to_owned(),
            since: self.daemon.now(),
            text: format!("{of} does not answer"),
            next: Some("look at it".to_owned()),
        });
    }

    /// It works again.
    pub fn mends(&self, of: &str) {
        self.daemon.troubles.end(Some("acme"), of);
    }

    /// Whether the daemon says that this does not work.
    pub fn lacks(&self, of: &str) -> bool {
        self.daemon.troubles.all().iter().any(|trouble| trouble.of == of)
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        self.told.await.unwrap();
    }
}

/// Looks again and again until there is an answer.
pub async fn within<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
