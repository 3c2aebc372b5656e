//! A daemon that loses the lead: what goes on ends and is begun again, nothing is begun meanwhile, and it says so. The same when
//! the part that holds the lead fails itself.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_daemon::{
    Daemon, Error, Result,
    job::{Job, RunOutcome, Verb},
    runner::{Ended, How, RunEvent, Runner},
    state::{RunFilter, RunRow},
    work::{self, Asked, Claim, FromEvidence, Held, Lead, Past, Refused},
};
use lifeboat_evidence::act::Policy;
use lifeboat_model::{
    check::Outcome,
    id::{Instance, Tenant},
};
use lifeboat_testkit::clock::hurry;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{HOUR, clinic, tenant, world::World};

/// Who leads: nobody else, or another, or nobody can tell.
#[derive(Debug, Clone, PartialEq)]
enum Who {
    Free,
    Another(&'static str),
    Unknown,
}

/// A lead that a test gives and takes.
#[derive(Clone)]
struct Baton {
    who: watch::Sender<Who>,
    /// The next claim panics.
    is_broken: Arc<AtomicBool>,
    /// The one that is held panics.
    breaks: watch::Sender<bool>,
}

struct Hand(Baton);

#[async_trait]
impl Lead for Baton {
    async fn claim(&self, _: &Daemon, tenant: &Tenant, _: &CancellationToken) -> Result<Claim> {
        assert!(!self.is_broken.swap(false, Ordering::SeqCst), "broken on purpose");
        let who = self.who.borrow().clone();
        match who {
            Who::Free => Ok(Claim::Ours(Box::new(Hand(self.clone())))),
            Who::Another(who) => Ok(Claim::Theirs { who: who.to_owned() }),
            Who::Unknown => {
                let why = "the bucket does not answer".to_owned();
                Err(Error::NotOpen { tenant: tenant.clone(), why, absent: false })
            }
        }
    }
}

#[async_trait]
impl Held for Hand {
    async fn lost(&self) -> String {
        let (mut who, mut breaks) = (self.0.who.subscribe(), self.0.breaks.subscribe());
        tokio::select! {
            who = who.wait_for(|who| *who != Who::Free) => format!("it was taken: {:?}", *who.unwrap()),
            broken = breaks.wait_for(|breaks| *breaks) => { broken.unwrap(); panic!("broken on purpose") }
        }
    }

    async fn give_back(self: Box<Self>) {}
}

/// Evidence that does not answer when a test says so.
#[derive(Clone, Default)]
struct Ledger {
    /// It cannot be read.
    is_away: Arc<AtomicBool>,
    /// Whatever keeps a run in it panics.
    is_broken: Arc<AtomicBool>,
}

#[async_trait]
impl Past for Ledger {
    async fn recall(&self, daemon: &Daemon, tenant: &Tenant) -> Result<()> {
        if self.is_away.load(Ordering::SeqCst) {
            let why = "the evidence does not answer".to_owned();
            return Err(Error::NotOpen { tenant: tenant.clone(), why, absent: false });
        }
        FromEvidence.recall(daemon, tenant).await
    }

    async fn happened(&self, daemon: &Daemon, job: &Job) -> Result<Option<Ended>> {
        FromEvidence.happened(daemon, job).await
    }

    async fn keep_run(&self, daemon: &Daemon, job: &Job, outcome: Outcome, started: Timestamp) -> Result<()> {
        assert!(!self.is_broken.load(Ordering::SeqCst), "broken on purpose");
        FromEvidence.keep_run(daemon, job, outcome, started).await
    }

    async fn keep_policy(&self, daemon: &Daemon, tenant: &Tenant, policy: Policy) -> Result<()> {
        FromEvidence.keep_policy(daemon, tenant, policy).await
    }

    async fn changed(&self, daemon: &Daemon, tenant: &Tenant, instance: &Instance) {
        FromEvidence.changed(daemon, tenant, instance).await;
    }
}

/// Carries runs out until the gate is open, or they are called off.
struct Gate {
    open: watch::Sender<bool>,
    /// Which runs were begun, and how they ended.
    seen: Mutex<Vec<(String, Option<RunOutcome>)>>,
}

#[async_trait]
impl Runner for Gate {
    async fn run(&self, job: &Job, _: &How, _: mpsc::Sender<RunEvent>, cancel: CancellationToken) -> Ended {
        let number = {
            let mut seen = self.seen.lock().unwrap();
            seen.push((job.because.to_string(), None));
            seen.len() - 1
        };
        let mut open = self.open.subscribe();
        let outcome = tokio::select! {
            opened = open.wait_for(|open| *open) => { opened.unwrap(); RunOutcome::Passed }
            () = cancel.cancelled() => RunOutcome::Interrupted,
        };
        self.seen.lock().unwrap()[number].1 = Some(outcome);
        let reason = (outcome != RunOutcome::Passed).then(|| "torn down".to_owned());
        Ended { outcome, exit: Some(0), answer: None, reason, is_transient: false }
    }

    async fn is_alive(&self, _: &Job, _: &How) -> bool {
        false
    }
}

struct Place {
    world: World,
    daemon: Arc<Daemon>,
    baton: Baton,
    ledger: Ledger,
    gate: Arc<Gate>,
    cancel: CancellationToken,
    works: JoinHandle<()>,
}

impl Place {
    /// At work, an hour after the beginning, with nothing due.
    async fn new() -> Place {
        hurry(10);
        let world = World::new().await;
        world.set(HOUR);
        let baton =
            Baton { who: watch::Sender::new(Who::Free), is_broken: Arc::default(), breaks: watch::Sender::new(false) };
        let gate = Arc::new(Gate { open: watch::Sender::new(false), seen: Mutex::default() });
        let ledger = Ledger::default();
        let daemon = Arc::new(world.daemon_with("state", |surroundings| {
            surroundings.lead = Arc::new(baton.clone());
            surroundings.past = Arc::new(ledger.clone());
            surroundings.runner = Arc::clone(&gate) as Arc<dyn Runner>;
        }));
        let cancel = CancellationToken::new();
        let works = tokio::spawn(work::run(Arc::clone(&daemon), cancel.clone()));
        Place { world, daemon, baton, ledger, gate, cancel, works }
    }

    async fn rows(&self) -> Vec<RunRow> {
        let mut rows = self.daemon.state.runs(RunFilter::default(), 100).await.unwrap();
        rows.sort_by_key(|row| (row.at, row.attempt));
        rows
    }

    async fn ask(&self) -> std::result::Result<(), Refused> {
        let asked = Asked {
            tenant: tenant(),
            instance: Some(clinic()),
            verb: Verb::Drill { random: false },
            who: "ann".into(),
        };
        self.daemon.start(asked).await.map(drop)
    }

    fn seen(&self) -> Vec<(String, Option<RunOutcome>)> {
        self.gate.seen.lock().unwrap().clone()
    }

    /// What is said of the lead.
    fn said(&self) -> Option<String> {
        let all = self.daemon.troubles.all();
        all.into_iter().find(|trouble| matches!(&*trouble.of, "leader" | "lead")).map(|trouble| trouble.text)
    }

    /// Whether another is said to lead: then nothing that is wrong is told to people.
    fn is_led_elsewhere(&self) -> bool {
        self.daemon.troubles.all().iter().any(|trouble| trouble.of == "leader")
    }

    async fn leads(&self) {
        // It says so before the dispatcher has heard of it.
        let is_led = async || match self.ask().await {
            Ok(()) | Err(Refused::Already(_)) => Some(()),
            Err(_) => None,
        };
        until("it leads", is_led).await;
    }

    async fn end(self) {
        self.gate.open.send_replace(true);
        self.cancel.cancel();
        self.works.await.unwrap();
    }
}

async fn until<T>(what: &str, mut is: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = is().await {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_goes_on_ends_with_the_lead_and_is_begun_again_with_the_next() {
    let place = Place::new().await;
    place.leads().await;
    until("a run to go on", async || (place.seen().len() == 1).then_some(())).await;

    // Another takes it.
    place.baton.who.send_replace(Who::Another("backup-2"));
    until("the run to be called off", async || (place.seen()[0].1 == Some(RunOutcome::Interrupted)).then_some(()))
        .await;
    until("it to be recorded", async || {
        place.rows().await.first().is_some_and(|row| row.ended.is_some()).then_some(())
    })
    .await;
    let rows = place.rows().await;
    let reason = rows[0].reason.clone().unwrap();
    assert!(reason.contains("does not lead any more: it was taken") && reason.contains("begun again"), "{reason}");
    until("it to say who leads", async || place.said().filter(|said| said.contains("backup-2"))).await;
    assert!(
        matches!(place.ask().await, Err(Refused::NotNow(why)) if why.contains("backup-2")),
        "and to say it to people"
    );

    // Time goes by, things are due, and nothing is begun here.
    place.world.set(2 * HOUR + 60);
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(place.seen().len(), 1, "{:?}", place.seen());
    assert!(place.rows().await.iter().all(|row| row.job.because == rows[0].job.because), "nothing else is queued");

    // Nobody can tell who leads: the same.
    place.baton.who.send_replace(Who::Unknown);
    until("it to say so", async || place.said().filter(|said| said.contains("the bucket does not answer"))).await;
    assert_eq!(place.seen().len(), 1, "{:?}", place.seen());
    assert!(!place.is_led_elsewhere(), "that is told to nobody: {:?}", place.daemon.troubles.all());

    // Another has it again, and goes: what it did cannot be read.
    place.baton.who.send_replace(Who::Another("backup-3"));
    until("it to say who leads", async || place.said().filter(|said| said.contains("backup-3"))).await;
    place.ledger.is_away.store(true, Ordering::SeqCst);
    place.baton.who.send_replace(Who::Free);
    until("it to say so", async || place.said().filter(|said| said.contains("the evidence does not answer"))).await;
    assert_eq!(place.seen().len(), 1, "{:?}", place.seen());
    assert!(!place.is_led_elsewhere(), "that is told to nobody: {:?}", place.daemon.troubles.all());

    // It can be read.
    place.ledger.is_away.store(false, Ordering::SeqCst);
    place.baton.who.send_replace(Who::Free);
    place.leads().await;
    until("what was cut off, and what was due meanwhile, to be begun", async || {
        (place.seen().len() >= 5).then_some(())
    })
    .await;
    assert_eq!(place.said(), None);
    place.gate.open.send_replace(true);
    until("all to be over", async || place.rows().await.iter().all(|row| row.ended.is_some()).then_some(())).await;
    let seen = place.seen();
    let count = |what: &str| {
        seen.iter().filter(|(because, how)| because.contains(what) && *how == Some(RunOutcome::Passed)).count()
    };
    assert_eq!(count("ann"), 1, "asked for once, done once: {seen:?}");
    for schedule in ["nightly", "audit", "report"] {
        assert_eq!(count(schedule), 1, "{schedule} once: {seen:?}");
    }
    let missed: Vec<_> = place.rows().await.into_iter().filter(|row| row.outcome == Some(RunOutcome::Missed)).collect();
    assert!(missed.iter().all(|row| row.reason.is_some()), "{missed:?}");
    place.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_fails_itself_is_taken_again() {
    let place = Place::new().await;
    place.leads().await;
    until("a run to go on", async || (place.seen().len() == 1).then_some(())).await;
    // First what holds it, then the next try to have it.
    place.baton.is_broken.store(true, Ordering::SeqCst);
    place.baton.breaks.send_replace(true);
    until("the run to be called off", async || (place.seen()[0].1 == Some(RunOutcome::Interrupted)).then_some(()))
        .await;
    place.baton.breaks.send_replace(false);
    until("it to be told", async || place.said().filter(|said| said.contains("the daemon itself failed"))).await;
    until("the run to be begun again", async || (place.seen().len() == 2).then_some(())).await;
    assert!(!place.baton.is_broken.load(Ordering::SeqCst), "the next try failed as well");
    until("nothing to be wrong", async || place.said().is_none().then_some(())).await;
    assert_eq!(place.seen()[1].0, place.seen()[0].0);
    place.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_is_over_although_keeping_it_in_the_ledger_fails_itself() {
    let place = Place::new().await;
    place.leads().await;
    place.ledger.is_broken.store(true, Ordering::SeqCst);
    place.gate.open.send_replace(true);
    place.world.set(2 * HOUR);
    let audit = until("the audit to be over", async || {
        let rows = place.rows().await;
        rows.into_iter().find(|row| row.job.verb == Verb::Audit && row.ended.is_some())
    })
    .await;
    assert_eq!(audit.outcome, Some(RunOutcome::Passed), "{audit:?}");
    place.end().await;
}
