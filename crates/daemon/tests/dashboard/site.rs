//! A daemon that is really served, with as many instances as are wanted, whose state was made up: facts, and what happened in the
//! last two weeks. Runs are carried out by a stand-in that takes its time, and leaves signed evidence.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::TcpListener,
    num::NonZeroU32,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use lifeboat_daemon::{
    Daemon, Sources, Surroundings, api,
    auth::{
        Allowances,
        tokens::{self, NewToken},
    },
    job::{Because, Job, RunOutcome, Verb},
    policies,
    runner::{Ended, How, RunEvent, Runner},
    settings::{Role, Tenants},
    state::State,
    time::Time,
    work::{self, Alone},
};
use lifeboat_engine::{record, status::Facts};
use lifeboat_evidence::{Act, act::Access};
use lifeboat_model::{
    check::{Outcome, Verdict},
    id::{RepositoryId, RunId, Tenant},
    signature::SigningKey,
};
use lifeboat_repo::{repository::Repository, seal::Identity};
use lifeboat_runbook::{document::Document, event::Event, execute::Journal as _, journal::FileJournal, plan::Mode};
use lifeboat_store::local::LocalStore;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::support::NoPast;

/// Whose pages are looked at.
pub const TENANT: &str = "northern";
/// Whose pages nobody else may learn of.
pub const OTHER: &str = "hidden-south";

/// Due at a time of the year at which nobody runs tests.
const SCHEDULES: &str = "
time_zone = \"UTC\"
[schedule.gold-backup]
description = \"Once a year\"
do = \"backup\"
tiers = [\"gold\"]
cron = \"0 2 1 1 *\"
";

/// One that nobody can ask, and others that nobody asks here.
const DEPENDENCIES: &str = "
[instances.INSTANCE.dependencies.sign-in]
kind = \"identity\"
address = \"https://id.example.org\"
note = \"IT service desk, 4711; staff can work with local passwords for a day\"
[instances.INSTANCE.dependencies.cache]
kind = \"redis\"
address = \"cache.clinic.internal:6379\"
[instances.INSTANCE.dependencies.attachments]
kind = \"object-storage\"
address = \"s3://clinic-attachments\"
";

/// A run of a runbook that goes on, and what it is told.
pub struct Course {
    journal: FileJournal,
    pub run: String,
}

impl Course {
    pub async fn tell(&mut self, who: Option<&str>, event: Event) {
        self.journal.append(who, event).await.unwrap();
    }
}

struct Clock;

#[async_trait]
impl Time for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep_until(&self, time: Timestamp) {
        let wait = time.duration_since(self.now()).max(SignedDuration::ZERO).unsigned_abs();
        tokio::time::sleep(wait).await;
    }
}

/// What a drill of these pages climbs.
pub const RUNGS: [&str; 6] =
    ["select.point", "point.signature", "fetch.place", "replay.end", "data.digests", "teardown.proof"];

/// Tells what a drill tells, a rung whenever the test lets it, and keeps a signed statement.
struct Standin {
    daemon: OnceLock<Weak<Daemon>>,
    rungs: Arc<Semaphore>,
}

#[async_trait]
impl Runner for Standin {
    async fn run(&self, job: &Job, _: &How, events: mpsc::Sender<RunEvent>, cancel: CancellationToken) -> Ended {
        let ended = |outcome, reason: Option<&str>| Ended {
            outcome,
            exit: Some(0),
            answer: Some(json!({"outcome": "passed", "rto_seconds": 3.1})),
            reason: reason.map(str::to_owned),
            is_transient: false,
        };
        for id in RUNGS {
            events.send(RunEvent::Phase { name: id.split('.').next().unwrap().to_owned() }).await.unwrap();
            tokio::select! {
                rung = self.rungs.acquire() => rung.unwrap().forget(),
                () = cancel.cancelled() => return ended(RunOutcome::Interrupted, Some("called off, and torn down")),
            }
            let observed = format!("what was to be seen of {id}");
            let check = RunEvent::Check { id: id.to_owned(), verdict: Verdict::Passed, observed, seconds: 0.9 };
            events.send(check).await.unwrap();
        }
        let daemon = self.daemon.get().unwrap().upgrade().unwrap();
        let context = daemon.context(&job.tenant).await.unwrap();
        let act = Act::Access(Access::default());
        let kept = record::keep_act(&context, None, daemon.now(), Outcome::Passed, act).await.unwrap();
        daemon.state.set_evidence(job.run, &kept.0.to_string()).await.unwrap();
        ended(RunOutcome::Passed, None)
    }

    async fn is_alive(&self, _: &Job, _: &How) -> bool {
        false
    }
}

pub struct Site {
    pub folder: TempDir,
    pub daemon: Arc<Daemon>,
    pub base: String,
    rungs: Arc<Semaphore>,
    cancel: CancellationToken,
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The name of an instance.
pub fn name(number: usize) -> String {
    let names =
        ["clinic", "pharmacy", "archive", "laboratory", "radiology-and-nuclear-medicine", "payroll", "maternity"];
    if number < names.len() { names[number].to_owned() } else { format!("{}-{number}", names[number % names.len()]) }
}

async fn tenant(folder: &Path, name: &str, instances: &[String], number: u8) {
    fs::create_dir_all(folder.join("schedules")).unwrap();
    let (recovery, host) = (Identity::generate(), Identity::generate());
    let signing = SigningKey::from_seed(&[number; 32]);
    secret(&folder.join("host"), host.to_secret_text().expose());
    secret(&folder.join("signing"), signing.to_secret_text().expose());
    let mut text = format!(
        "tenant = \"{name}\"\n[repository]\npath = \"repository\"\n[keys]\nrecovery_recipients = [\"{}\"]\n\
         host_identity_file = \"host\"\nsigning_key_file = \"signing\"\ntrusted_keys = [\"{}\"]\n\
         [tiers.gold]\nrpo = \"15m\"\nrto = \"1h\"\n[tiers.silver]\nrpo = \"4h\"\nrto = \"8h\"\n[engine]\nstate_dir = \"state\"\n",
        recovery.recipient(),
        signing.public(),
    );
    for (at, instance) in instances.iter().enumerate() {
        let (tier, owner) = (["gold", "silver"][at % 2], ["Dr. Ada Weiss", "Hosting team"][at % 2]);
        write!(
            text,
            "[instances.{instance}]\ntier = \"{tier}\"\nowner = \"{owner}\"\n[instances.{instance}.postgres]\nhost = \"127.0.0.1\"\n\
             port = 1\nuser = \"lifeboat\"\ntls = \"disable\"\ndatabases = [\"demo\"]\n[instances.{instance}.drill]\n\
             postgres_image = \"postgres:17\"\nodoo_image = \"odoo:19\"\n"
        )
        .unwrap();
        if at == 0 {
            text.push_str(&DEPENDENCIES.replace("INSTANCE", instance));
        }
    }
    fs::write(folder.join("lifeboat.toml"), text).unwrap();
    let store = Arc::new(LocalStore::open(&folder.join("repository"), true).unwrap());
    Repository::init(store, RepositoryId([number; 16]), Timestamp::now()).await.unwrap();
}

impl Site {
    /// With so many instances of [`TENANT`], and one of [`OTHER`].
    pub async fn new(many: usize) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..many).map(name).collect();
        tenant(&folder.path().join(TENANT), TENANT, &names, 1).await;
        tenant(&folder.path().join(OTHER), OTHER, &["hidden-ward".to_owned()], 2).await;
        fs::write(folder.path().join(TENANT).join("schedules/gold.toml"), SCHEDULES).unwrap();
        let file = folder.path().join("daemon.toml");
        let settings = "state_dir = \"state\"\ntokens_file = \"tokens.toml\"\n";
        let settings = format!(
            "{settings}[[tenant]]\nconfig = \"{TENANT}/lifeboat.toml\"\nschedules = \"{TENANT}/schedules\"\n\
             [[tenant]]\nconfig = \"{OTHER}/lifeboat.toml\"\n"
        );
        fs::write(&file, settings).unwrap();
        let sources = Sources { settings: Some(file), config: None };
        let policies = policies::read(&sources).unwrap_or_else(|error| panic!("{error}: {error:?}"));
        let state = State::open(&folder.path().join("state")).unwrap();
        let rungs = Arc::new(Semaphore::new(0));
        let runner = Arc::new(Standin { daemon: OnceLock::new(), rungs: Arc::clone(&rungs) });
        let surroundings = Surroundings {
            time: Arc::new(Clock),
            runner: Arc::clone(&runner) as Arc<dyn Runner>,
            lead: Arc::new(Alone),
            past: Arc::new(NoPast),
            environment: Arc::new(|_: &str| None),
            who: "lifeboat@test".to_owned(),
            listen: None,
            ready: Arc::new(|_| {}),
            reload: Arc::new(Notify::new()),
            alive: Arc::new(|| {}),
        };
        fs::create_dir_all(folder.path().join("state/runs")).unwrap();
        let daemon = Arc::new(Daemon::new(sources, policies, state, surroundings));
        runner.daemon.set(Arc::downgrade(&daemon)).unwrap();
        for (number, instance) in names.iter().enumerate() {
            lived(&daemon, instance, number).await;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let cancel = CancellationToken::new();
        tokio::spawn(work::run(Arc::clone(&daemon), cancel.clone()));
        works_for(&daemon, TENANT).await;
        let many = NonZeroU32::new(100_000).unwrap();
        let roomy = Allowances { caller: many, stranger: many, failures: many, followed: 32 };
        tokio::spawn(api::serve_with(Arc::clone(&daemon), listener, None, roomy, cancel.clone()));
        Site { folder, daemon, base, rungs, cancel }
    }

    /// Lets drills climb so many rungs more.
    pub fn climb(&self, rungs: usize) {
        self.rungs.add_permits(rungs);
    }

    /// A runbook that Lifeboat ships, and a run of it that has just begun.
    pub async fn runbook(&self, file: &str) -> Course {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runbooks").join(file);
        let text = fs::read_to_string(&shipped).unwrap();
        let folder = self.folder.path().join(TENANT);
        fs::create_dir_all(folder.join("runbooks")).unwrap();
        fs::write(folder.join("runbooks").join(file), &text).unwrap();
        fs::create_dir_all(folder.join("state/runs")).unwrap();
        let document = Document::parse(&text).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
        let id = document.head.as_ref().unwrap().id.value.clone();
        let run = RunId([0xb7; 8]);
        let path = folder.join(format!("state/runs/{run}.jsonl"));
        let mut journal = FileJournal::create(&path, "ann@rescue", Arc::new(Timestamp::now)).unwrap();
        let begun = Event::Begun {
            runbook: id.clone(),
            sha256: document.digest,
            mode: Mode::Real,
            parameters: [("instance".to_owned(), "clinic".to_owned())].into(),
            texts: [(id, text)].into(),
            tenant: Some(TENANT.to_owned()),
            instance: Some("clinic".to_owned()),
            incident: None,
            reference: None,
        };
        journal.append(None, begun).await.unwrap();
        Course { journal, run: run.to_string() }
    }

    /// A token for a day.
    pub fn token(&self, name: &str, role: Role, tenants: &[&str]) -> String {
        let tenants = match tenants {
            [] => Tenants::All,
            some => Tenants::Some(some.iter().map(|tenant| tenant.parse().unwrap()).collect()),
        };
        let now = self.daemon.now();
        let expires = now + Duration::from_secs(86_400);
        let new = NewToken { name: name.to_owned(), roles: BTreeSet::from([role]), tenants, expires };
        let file = self.folder.path().join("tokens.toml");
        tokens::create(&file, &new, now).unwrap().expose().to_owned()
    }
}

/// Waits until the dispatcher has begun its work for a tenant: before that nobody can ask for a run.
async fn works_for(daemon: &Daemon, tenant: &str) {
    let (tenant, began) = (tenant.parse().unwrap(), std::time::Instant::now());
    while daemon.state.planned_until(&tenant).await.unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "the dispatcher never began its work for {tenant}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Two weeks of an instance: most are well, the first is lost, some are at risk, one was never looked at.
async fn lived(daemon: &Daemon, instance: &str, number: usize) {
    let (tenant, now): (Tenant, _) = (TENANT.parse().unwrap(), daemon.now());
    let before = |seconds: i64| now - SignedDuration::from_secs(seconds);
    if number == 3 {
        return;
    }
    let (is_lost, is_late) = (number == 0, number % 20 == 1);
    let (tier, owner) = (["gold", "silver"][number % 2], ["Dr. Ada Weiss", "Hosting team"][number % 2]);
    let newest = if is_late { 40_000 } else { 300 };
    let drill = json!({"run": "00000000000000000000000000000005", "started": before(400_000), "finished": before(398_000),
        "outcome": if is_lost { "failed" } else { "passed" }, "rpo_seconds": 3.2, "rto_seconds": 1512.0,
        "first_bad": if is_lost { Some("data.digests") } else { None }, "other_images": [], "evidence": "northern/evidence/x"});
    let trend: Vec<_> =
        (0..9).map(|at| json!({"at": before((9 - at) * 604_800), "seconds": 1200.0 + at as f64 * 90.0})).collect();
    let facts: Facts = serde_json::from_value(json!({
        "instance": instance, "tier": tier, "owner": owner,
        "looked": before(30), "looked_slowly": before(30),
        "targets": {"rpo_seconds": 900.0, "rto_seconds": 3600.0, "drill_every_seconds": 604_800.0},
        "points": {"stored": 41, "newest": {"id": "20261122T130009Z-4fd1a8c2", "started": before(newest + 60), "finished": before(newest)}, "passed_over": 0},
        "wal": null, "windows": [{"timeline": 1, "from": before(1_200_000), "to": before(newest)}],
        "drill": drill, "drills_passed_over": 0, "rto_trend": trend, "control": null,
        "locks": {"mode": "compliance", "newest_until": before(-2_592_000), "not_locked": null, "proof": {"at": before(86_400), "objects": 1811, "short": 0}},
        "copies": [{"name": "offsite", "newest_started": before(7200), "missing_points": 1, "missing_wal_bytes": 33_554_432, "lacks_wal": false, "reaches": before(7000), "not_asked": null}],
        "standbys": {"found": [{"name": "standby-a", "address": "10.0.4.12", "state": "streaming", "sync_state": "async", "replay_lag_bytes": 12, "replay_lag_seconds": 0.2, "ready": {"Ok": null}}], "not_asked": null},
        "certificates": [{"of": "repository primary", "endpoint": "bucket.example.org:443", "not_after": before(-9_520_000), "not_trusted": null, "not_asked": null}],
        "keys": [{"recipient": "age1qy352euf40x77qfrg4ncn27daujjx3pfmej8yz8zwsha4tv8dupsg53j8r", "name": "escrow", "last_rehearsed": before(900_000), "worries": []}],
        "storage": {"objects": 1811, "bytes": 32_212_254_720_u64, "wal_bytes": 4_294_967_296_u64, "pack_bytes": 27_900_000_000_u64, "not_known": null},
        "unknown": []
    }))
    .unwrap();
    daemon.state.put_facts(&tenant, &facts).await.unwrap();
    if number >= 120 {
        return; // not on the first page, and each run is written for itself
    }
    for at in (0..14).rev() {
        let outcome = if is_late && at % 5 == 0 { RunOutcome::Failed } else { RunOutcome::Passed };
        happened(daemon, &tenant, instance, Verb::Backup, outcome, before(at * 86_400 + 300), number, at).await;
    }
    let drilled = if is_lost { RunOutcome::Failed } else { RunOutcome::Passed };
    happened(daemon, &tenant, instance, Verb::Drill { random: false }, drilled, before(400_000), number, 90).await;
    let control = Verb::Control { kind: "random".to_owned() };
    happened(daemon, &tenant, instance, control, RunOutcome::Passed, before(800_000), number, 91).await;
}

#[expect(clippy::too_many_arguments, reason = "a row of a table")]
async fn happened(
    daemon: &Daemon,
    tenant: &Tenant,
    instance: &str,
    verb: Verb,
    outcome: RunOutcome,
    at: Timestamp,
    number: usize,
    serial: i64,
) {
    let id = ((number as u64 + 1) << 32 | serial.unsigned_abs()).to_be_bytes();
    let because = Because::Schedule { schedule: format!("gold-{}", verb.word()), due: at };
    let job = Job { run: RunId(id), tenant: tenant.clone(), instance: Some(instance.parse().unwrap()), verb, because };
    daemon.state.queue(&job, 1, at).await.unwrap();
    daemon.state.begun(job.run, at).await.unwrap();
    let reason =
        (outcome != RunOutcome::Passed).then(|| "the bucket refused a write\nhint: look at its policy".to_owned());
    let ended = Ended { outcome, exit: Some(0), answer: None, reason, is_transient: false };
    daemon.state.ended(job.run, &ended, at + SignedDuration::from_secs(200)).await.unwrap();
}
