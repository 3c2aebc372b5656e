//! A daemon with two tenants, `north` and `hidden-south`, whose clock can be set.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    num::NonZeroU32,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_daemon::{
    Daemon, Sources, Surroundings, api,
    auth::{
        Allowances,
        tokens::{self, NewToken},
    },
    job::{Job, RunOutcome, Verb},
    policies,
    runner::{Ended, How, RunEvent, Runner},
    settings::{Role, Tenants, Tls},
    state::State,
    time::Time,
    work::{self, Alone, Asked},
};
use lifeboat_engine::record;
use lifeboat_evidence::{Act, act::Access};
use lifeboat_model::{
    check::Outcome,
    id::{RepositoryId, RunId},
    signature::SigningKey,
};
use lifeboat_repo::{repository::Repository, seal::Identity};
use lifeboat_runbook::{document::Document, event::Event, execute::Journal as _, journal::FileJournal, plan::Mode};
use lifeboat_store::local::LocalStore;
use reqwest::{Method, Response};
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::support::NoPast;

pub const OWN: &str = "north";
pub const OTHER: &str = "hidden-south";
/// The instance of each tenant.
pub const INSTANCES: [(&str, &str); 2] = [(OWN, "clinic"), (OTHER, "hidden-ward")];

/// A clock that goes on by itself and can be set forward.
#[derive(Default)]
pub struct Clock(AtomicI64);

impl Clock {
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs() as i64, Ordering::SeqCst);
    }
}

#[async_trait]
impl Time for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::now() + jiff::SignedDuration::from_secs(self.0.load(Ordering::SeqCst))
    }

    async fn sleep_until(&self, time: Timestamp) {
        let wait = time.duration_since(self.now()).max(jiff::SignedDuration::ZERO).unsigned_abs();
        tokio::time::sleep(wait.min(Duration::from_millis(200))).await;
    }
}

/// Carries out runs: tells two events, waits for the gate, tells a third.
struct Standin(watch::Sender<bool>);

#[async_trait]
impl Runner for Standin {
    async fn run(&self, _: &Job, _: &How, events: mpsc::Sender<RunEvent>, cancel: CancellationToken) -> Ended {
        let ended = |outcome, reason: Option<&str>| Ended {
            outcome,
            exit: Some(0),
            answer: None,
            reason: reason.map(str::to_owned),
            is_transient: false,
        };
        for name in ["first", "second"] {
            events.send(RunEvent::Phase { name: name.to_owned() }).await.unwrap();
        }
        let mut gate = self.0.subscribe();
        tokio::select! {
            opened = gate.wait_for(|open| *open) => { opened.unwrap(); }
            () = cancel.cancelled() => return ended(RunOutcome::Interrupted, Some("called off")),
        }
        events.send(RunEvent::Phase { name: "third".to_owned() }).await.unwrap();
        ended(RunOutcome::Passed, None)
    }

    async fn is_alive(&self, _: &Job, _: &How) -> bool {
        false
    }
}

/// What a world is made with.
#[derive(Default)]
pub struct Plan {
    /// More lines of `daemon.toml`, above its sections.
    pub settings: String,
    /// Sections of `daemon.toml`.
    pub sections: String,
    pub tls: Option<Tls>,
    pub allowances: Option<Allowances>,
    /// Called by the dispatcher in each of its turns.
    pub alive: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Where it listens; chosen by the system unless somebody has to know before.
    pub listener: Option<TcpListener>,
}

pub struct World {
    pub folder: TempDir,
    pub clock: Arc<Clock>,
    pub daemon: Arc<Daemon>,
    pub gate: watch::Sender<bool>,
    pub base: String,
    pub client: reqwest::Client,
    cancel: CancellationToken,
    served: Option<tokio::task::JoinHandle<lifeboat_daemon::Result<()>>>,
}

pub fn roomy() -> Allowances {
    let many = NonZeroU32::new(100_000).unwrap();
    Allowances { caller: many, stranger: many, failures: many, followed: 32 }
}

/// A client that follows nothing by itself.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let none = reqwest::redirect::Policy::none();
    reqwest::Client::builder().redirect(none).no_proxy().timeout(Duration::from_secs(60)).build().unwrap()
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

async fn tenant(folder: &Path, name: &str, instance: &str, number: u8) {
    fs::create_dir_all(folder).unwrap();
    let (recovery, host) = (Identity::generate(), Identity::generate());
    let signing = SigningKey::from_seed(&[number; 32]);
    secret(&folder.join("host"), host.to_secret_text().expose());
    secret(&folder.join("signing"), signing.to_secret_text().expose());
    let text = format!(
        r#"tenant = "{name}"
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
[instances.{instance}]
tier = "gold"
[instances.{instance}.postgres]
host = "127.0.0.1"
port = 1
user = "lifeboat"
tls = "disable"
databases = ["demo"]
[instances.{instance}.drill]
postgres_image = "postgres:17"
odoo_image = "odoo:19"
[engine]
state_dir = "state"
"#,
        recovery.recipient(),
        signing.public(),
    );
    fs::write(folder.join("lifeboat.toml"), text).unwrap();
    let store = Arc::new(LocalStore::open(&folder.join("repository"), true).unwrap());
    Repository::init(store, RepositoryId([number; 16]), Timestamp::now()).await.unwrap();
}

impl World {
    pub async fn new() -> World {
        World::with(Plan::default()).await
    }

    pub async fn with(plan: Plan) -> World {
        let folder = tempfile::tempdir().unwrap();
        for (number, (name, instance)) in INSTANCES.into_iter().enumerate() {
            tenant(&folder.path().join(name), name, instance, number as u8 + 1).await;
        }
        let settings = format!(
            "state_dir = \"state\"\ntokens_file = \"tokens.toml\"\n{}\n[[tenant]]\nconfig = \"{OWN}/lifeboat.toml\"\n\
             [[tenant]]\nconfig = \"{OTHER}/lifeboat.toml\"\n{}",
            plan.settings, plan.sections
        );
        let file = folder.path().join("daemon.toml");
        fs::write(&file, settings).unwrap();
        let sources = Sources { settings: Some(file), config: None };
        let policies = policies::read(&sources).unwrap_or_else(|error| panic!("{error}: {error:?}"));
        let state = State::open(&folder.path().join("state")).unwrap();
        let (clock, gate) = (Arc::new(Clock::default()), watch::Sender::new(false));
        let surroundings = Surroundings {
            time: Arc::clone(&clock) as Arc<dyn Time>,
            runner: Arc::new(Standin(gate.clone())),
            lead: Arc::new(Alone),
            past: Arc::new(NoPast),
            environment: Arc::new(|_: &str| None),
            who: "lifeboat@test".to_owned(),
            listen: None,
            ready: Arc::new(|_| {}),
            reload: Arc::new(Notify::new()),
            alive: plan.alive.unwrap_or_else(|| Arc::new(|| {})),
        };
        fs::create_dir_all(folder.path().join("state/runs")).unwrap();
        let daemon = Arc::new(Daemon::new(sources, policies, state, surroundings));
        let listener = plan.listener.unwrap_or_else(|| TcpListener::bind("127.0.0.1:0").unwrap());
        let scheme = if plan.tls.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{}", listener.local_addr().unwrap());
        let cancel = CancellationToken::new();
        tokio::spawn(work::run(Arc::clone(&daemon), cancel.clone()));
        let allowances = plan.allowances.unwrap_or_else(roomy);
        let serving = api::serve_with(Arc::clone(&daemon), listener, plan.tls, allowances, cancel.clone());
        let served = Some(tokio::spawn(serving));
        World { folder, clock, daemon, gate, base, client: client(), cancel, served }
    }

    /// A token for a day.
    pub fn token(&self, name: &str, roles: &[Role], tenant: Option<&str>) -> String {
        let tenants = match tenant {
            None => Tenants::All,
            Some(tenant) => Tenants::Some(BTreeSet::from([tenant.parse().unwrap()])),
        };
        let now = self.daemon.now();
        let new = NewToken {
            name: name.to_owned(),
            roles: roles.iter().copied().collect(),
            tenants,
            expires: now + Duration::from_secs(86_400),
        };
        tokens::create(&self.tokens_file(), &new, now).unwrap().expose().to_owned()
    }

    pub fn tokens_file(&self) -> std::path::PathBuf {
        self.folder.path().join("tokens.toml")
    }

    /// Until the daemon has read the tokens that were just made, or revoked.
    pub async fn tokens_are_read(&self) {
        tokio::time::sleep(Duration::from_millis(1200)).await;
    }

    pub async fn start(&self, tenant: &str, instance: &str) -> RunId {
        let order = || Asked {
            tenant: tenant.parse().unwrap(),
            instance: Some(instance.parse().unwrap()),
            verb: Verb::Backup,
            who: "setup".to_owned(),
        };
        // It begins its work for a tenant soon after it serves.
        let began = std::time::Instant::now();
        loop {
            match self.daemon.start(order()).await {
                Err(work::Refused::NotNow(_)) if began.elapsed() < Duration::from_secs(30) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                started => return started.unwrap(),
            }
        }
    }

    /// Keeps a statement and tells its key.
    pub async fn statement(&self, tenant: &str) -> String {
        let context = self.daemon.context(&tenant.parse().unwrap()).await.unwrap();
        let act = Act::Access(Access::default());
        let kept = record::keep_act(&context, None, self.daemon.now(), Outcome::Passed, act).await.unwrap();
        kept.0.to_string()
    }

    /// A runbook, and a run of it that waits for an answer.
    pub async fn runbook(&self, tenant: &str, instance: &str, run: &str) {
        let folder = self.folder.path().join(tenant);
        let text = format!(
            "# Evacuate {tenant}\n\n```toml\n[runbook]\nid = \"evacuate\"\nsummary = \"{instance} must move\"\nroles = [\"lead\"]\n```\n\n\
             ## Leave\n\n```toml\naction = \"approve\"\nrole = \"lead\"\nquestion = \"Leave?\"\n```\n"
        );
        fs::create_dir_all(folder.join("runbooks")).unwrap();
        fs::write(folder.join("runbooks/evacuate.md"), &text).unwrap();
        fs::create_dir_all(folder.join("state/runs")).unwrap();
        let path = folder.join(format!("state/runs/{run}.jsonl"));
        let mut journal = FileJournal::create(&path, "ann@rescue", Arc::new(Timestamp::now)).unwrap();
        let begun = Event::Begun {
            runbook: "evacuate".to_owned(),
            sha256: Document::parse(&text).unwrap().digest,
            mode: Mode::Real,
            parameters: [("instance".to_owned(), instance.to_owned())].into(),
            texts: [("evacuate".to_owned(), text)].into(),
            tenant: Some(tenant.to_owned()),
            instance: Some(instance.to_owned()),
            incident: None,
            reference: None,
        };
        journal.append(None, begun).await.unwrap();
        journal.append(None, Event::Started { step: "leave".to_owned(), attempt: 1 }).await.unwrap();
    }

    pub async fn get(&self, path: &str, key: &str) -> (u16, String) {
        self.ask(Method::GET, path, Some(key), None).await
    }

    pub async fn ask(&self, method: Method, path: &str, key: Option<&str>, body: Option<&str>) -> (u16, String) {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        told(request.send().await.unwrap()).await
    }

    /// Ends the daemon's server and waits for it.
    pub async fn end(mut self) {
        self.cancel.cancel();
        let served = self.served.take().unwrap();
        tokio::time::timeout(Duration::from_secs(15), served).await.expect("it ends in time").unwrap().unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Status and body; of a stream that does not end by itself, its beginning.
pub async fn told(mut answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    if kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
        let part = answer.chunk().await.unwrap().unwrap_or_default();
        return (status, String::from_utf8(part.to_vec()).unwrap());
    }
    (status, answer.text().await.unwrap())
}
