//! A daemon that loses the lead: what goes on ends and is begun again, nothing is begun meanwhile, and it says so. The same when
//! the part that holds the lead fails itself.

use std::{
    fs,
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
    job::{Because, Job, RunOutcome, Verb},
    policies,
    runner::{Ended, How, RunEvent, Runner},
    state::{RunFilter, RunRow},
    view::Trouble,
    work::{self, Asked, Claim, FromEvidence, Held, Lead, Past, Refused},
};
use lifeboat_evidence::act::Policy;
use lifeboat_model::{
    check::Outcome,
    id::{Instance, RunId, Tenant},
};
use lifeboat_testkit::clock::hurry;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    HOUR, clinic, tenant,
    world::{World, moment},
};

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
    /// The next run is ended from outside.
    is_cut_off: AtomicBool,
    /// How long what was called off tears down.
    tears_down: Duration,
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
            biased;
            () = async {}, if self.is_cut_off.swap(false, Ordering::SeqCst) => RunOutcome::Interrupted,
            opened = open.wait_for(|open| *open) => { opened.unwrap(); RunOutcome::Passed }
            () = cancel.cancelled() => RunOutcome::Interrupted,
        };
        if cancel.is_cancelled() {
            tokio::time::sleep(self.tears_down).await;
        }
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
        Place::of(World::new().await, Duration::ZERO).await
    }

    /// With other schedules.
    async fn with_schedules(text: &str) -> Place {
        let world = World::new().await;
        fs::write(world.schedules(), text).unwrap();
        Place::of(world, Duration::ZERO).await
    }

    async fn of(world: World, tears_down: Duration) -> Place {
        hurry(10);
        world.set(HOUR);
        let baton =
            Baton { who: watch::Sender::new(Who::Free), is_broken: Arc::default(), breaks: watch::Sender::new(false) };
        let gate = Arc::new(Gate {
            open: watch::Sender::new(false),
            seen: Mutex::default(),
            is_cut_off: AtomicBool::new(false),
            tears_down,
        });
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

    /// Policies with other schedules count from now on.
    fn adopt(&self, schedules: &str) {
        fs::write(self.world.schedules(), schedules).unwrap();
        self.daemon.policies.send_replace(Arc::new(policies::read(&self.daemon.sources).unwrap()));
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

#[tokio::test(start_paused = true)]
async fn what_is_ended_from_outside_is_tried_again() {
    let place = Place::with_schedules("[schedule.audit]\ndo = \"audit\"\ncron = \"30 * * * *\"\n").await;
    place.gate.open.send_replace(true);
    place.leads().await;
    until("nothing to go on", async || place.rows().await.iter().all(|row| row.ended.is_some()).then_some(())).await;
    place.gate.is_cut_off.store(true, Ordering::SeqCst);
    place.world.set(2 * HOUR);
    let again = async || place.rows().await.into_iter().find(|row| row.attempt == 2);
    let again = until("another try", again).await;
    assert!(matches!(again.job.verb, Verb::Audit) && again.at > place.daemon.now(), "{again:?}");
    assert_eq!(place.daemon.state.bad_runs(place.daemon.now()).await.unwrap(), []);
    place.world.set(2 * HOUR + 700);
    let passed = async || place.rows().await.into_iter().find(|row| row.attempt == 2).and_then(|row| row.outcome);
    assert_eq!(until("it to be over", passed).await, RunOutcome::Passed);
    place.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_is_stopped_waits_for_what_tears_down() {
    let place = Place::of(World::new().await, Duration::from_secs(200)).await;
    place.leads().await;
    until("a run to go on", async || (place.seen().len() == 1).then_some(())).await;
    place.cancel.cancel();
    place.works.await.unwrap();
    let seen = place.gate.seen.lock().unwrap().clone();
    assert_eq!(seen[0].1, Some(RunOutcome::Interrupted), "it was torn down: {seen:?}");
}

/// It is 12:06, then 13:06, then 14:06.
#[tokio::test(start_paused = true)]
async fn what_is_held_back_while_its_times_are_changed_is_done() {
    let audit = |until: &str| {
        format!(
            "[schedule.audit]\ndo = \"audit\"\ncron = \"0 13 * * *\"\nblackout = [{{ from = \"12:30\", to = \"{until}\" }}]\n"
        )
    };
    let place = Place::with_schedules(&audit("15:00")).await;
    place.gate.open.send_replace(true);
    place.leads().await;
    place.world.set(2 * HOUR);
    tokio::time::sleep(Duration::from_secs(1)).await;
    place.adopt(&audit("14:00"));
    let held = async || place.rows().await.into_iter().find(|row| row.job.verb == Verb::Audit);
    let held = until("it to be queued", held).await;
    assert_eq!(held.job.because.to_string(), "schedule audit, due 2026-11-18T13:00:00Z");
    assert_eq!((held.at.to_string().as_str(), held.started), ("2026-11-18T14:00:00Z", None), "{held:?}");
    place.world.set(3 * HOUR);
    until("it to be done", async || place.rows().await.iter().all(|row| row.outcome.is_some()).then_some(())).await;
    place.end().await;
}

/// The same, while nothing can be recorded.
#[tokio::test(start_paused = true)]
async fn what_is_held_back_is_not_lost_while_it_cannot_be_recorded() {
    let audit = |until: &str| {
        format!(
            "[schedule.audit]\ndo = \"audit\"\ncron = \"0 13 * * *\"\nblackout = [{{ from = \"12:30\", to = \"{until}\" }}]\n"
        )
    };
    let place = Place::with_schedules(&audit("15:00")).await;
    place.gate.open.send_replace(true);
    place.leads().await;
    place.world.set(2 * HOUR);
    until("nothing to go on", async || place.rows().await.iter().all(|row| row.ended.is_some()).then_some(())).await;
    let file = rusqlite::Connection::open(place.world.folder.path().join("state/daemon.sqlite")).unwrap();
    file.execute_batch("CREATE TRIGGER full BEFORE INSERT ON runs BEGIN SELECT RAISE(ABORT, 'full'); END").unwrap();
    place.adopt(&audit("14:00"));
    let told = async || place.daemon.troubles.all().into_iter().find(|trouble| trouble.of == "state");
    until("it to be told", told).await;
    file.execute_batch("DROP TRIGGER full").unwrap();
    let held = async || place.rows().await.into_iter().find(|row| row.job.verb == Verb::Audit);
    let held = until("it to be queued", held).await;
    assert_eq!((held.at.to_string().as_str(), held.started), ("2026-11-18T14:00:00Z", None), "{held:?}");
    until("nothing to be wrong", async || told().await.is_none().then_some(())).await;
    place.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_no_longer_wanted_troubles_nobody() {
    let stream = "[schedule.stream]\ndo = \"stream\"\ntiers = [\"gold\"]\n";
    let place = Place::with_schedules(stream).await;
    place.leads().await;
    let trouble = |of: &str| Trouble {
        tenant: Some("acme".to_owned()),
        of: of.to_owned(),
        since: place.daemon.now(),
        text: "it does not go on".to_owned(),
        next: None,
    };
    place.daemon.troubles.begin(trouble("stream clinic"));
    place.daemon.troubles.begin(trouble("stream gone"));
    let told = || place.daemon.troubles.all().into_iter().map(|trouble| trouble.of).collect::<Vec<_>>();
    place.adopt(&format!("{stream}retry_after = \"1m\"\n"));
    until("what is gone to be forgotten", async || (told() == ["stream clinic"]).then_some(())).await;
    place.adopt("[schedule.audit]\ndo = \"audit\"\ncron = \"30 * * * *\"\n");
    until("the stream to be forgotten", async || told().is_empty().then_some(())).await;
    place.end().await;
}

/// Another host did what is followed: this one has never led, and knows of it from evidence alone.
#[tokio::test(start_paused = true)]
async fn what_follows_a_run_of_another_host_is_not_lost() {
    let schedules = "[schedule.nightly]\ndo = \"backup\"\ntiers = [\"gold\"]\ncron = \"0 0 * * *\"\n\
                     [schedule.rehearsal]\ndo = \"drill\"\ntiers = [\"gold\"]\nafter = \"nightly\"\nmissed = ";
    for (missed, outcome) in [("{ once_within = \"12h\" }", None), ("\"skip\"", Some(RunOutcome::Missed))] {
        let world = World::new().await;
        fs::write(world.schedules(), format!("{schedules}{missed}\n")).unwrap();
        for (run, due) in [(1, -48 * HOUR), (2, -24 * HOUR), (3, -HOUR)] {
            let because = Because::Schedule { schedule: "nightly".into(), due: moment(due) };
            world.backup(run, Some(&because), due, due + 60).await;
        }
        let place = Place::of(world, Duration::ZERO).await;
        let rehearsals = async || -> Vec<RunRow> {
            let rows = place.rows().await;
            rows.into_iter().filter(|row| matches!(row.job.verb, Verb::Drill { .. })).collect()
        };
        let found = until("what follows", async || Some(rehearsals().await).filter(|found| !found.is_empty())).await;
        assert_eq!((found.len(), found[0].outcome), (1, outcome), "{found:?}");
        assert_eq!(found[0].job.because.to_string(), format!("schedule rehearsal, due {}", moment(60 - HOUR)));
        place.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_ran_ahead_and_was_put_right_stops_nothing() {
    let place = Place::with_schedules("[schedule.audit]\ndo = \"audit\"\ncron = \"30 * * * *\"\n").await;
    place.gate.open.send_replace(true);
    place.leads().await;
    let audits = async |before: i64| -> Vec<RunRow> {
        let rows = place.rows().await;
        rows.into_iter().filter(|row| row.job.verb == Verb::Audit && row.at <= moment(before)).collect()
    };
    let far = 10 * 24 * HOUR;
    place.world.set(far);
    let is_done = |row: &RunRow| row.outcome == Some(RunOutcome::Passed);
    until("the newest of them to be done", async || audits(2 * far).await.iter().any(is_done).then_some(())).await;
    for hour in 1..4 {
        place.world.set(hour * HOUR + 60);
        until("what is yet to come to be forgotten", async || audits(2 * far).await.iter().all(is_done).then_some(()))
            .await;
        place.world.set((hour + 1) * HOUR);
        let done = async || {
            let all = audits((hour + 1) * HOUR).await;
            (all.iter().filter(|row| is_done(row)).count() == hour as usize).then_some(())
        };
        until("the audit of this hour", done).await;
    }
    place.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_clock_that_ran_ahead_left_in_the_state_stops_nothing() {
    let place = Place::with_schedules("[schedule.audit]\ndo = \"audit\"\ncron = \"30 * * * *\"\n").await;
    place.gate.open.send_replace(true);
    place.leads().await;
    place.baton.who.send_replace(Who::Another("backup-2"));
    until("another to lead", async || place.is_led_elsewhere().then_some(())).await;
    // 12:30, which is yet to come.
    let because = Because::Schedule { schedule: "audit".into(), due: moment(HOUR + 1400) };
    let missed = Job { run: RunId([1; 8]), tenant: tenant(), instance: None, verb: Verb::Audit, because };
    place.daemon.state.missed(&missed, "nobody was at work", moment(240 * HOUR)).await.unwrap();
    place.daemon.state.set_planned_until(&tenant(), moment(240 * HOUR)).await.unwrap();
    place.baton.who.send_replace(Who::Free);
    place.leads().await;
    place.world.set(HOUR + 1460);
    let audit = async || place.rows().await.into_iter().find(|row| row.job.verb == Verb::Audit)?.outcome;
    until("the audit", async || audit().await.filter(|outcome| *outcome == RunOutcome::Passed)).await;
    place.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_the_time_of_a_clock_that_was_put_right_is_begun() {
    let place = Place::with_schedules("[schedule.audit]\ndo = \"audit\"\ncron = \"30 * * * *\"\n").await;
    place.gate.open.send_replace(true);
    place.leads().await;
    until("nothing to go on", async || place.rows().await.iter().all(|row| row.ended.is_some()).then_some(())).await;
    place.gate.is_cut_off.store(true, Ordering::SeqCst);
    place.world.set(365 * 24 * HOUR);
    let again = async || place.rows().await.into_iter().find(|row| row.attempt == 2);
    until("another try to wait", again).await;
    place.world.set(HOUR + 60);
    until("it to be over", async || again().await.and_then(|row| row.outcome)).await;
    // 13:06
    place.world.set(2 * HOUR);
    let due = "schedule audit, due 2026-11-18T12:30:00Z";
    let audit = async || place.rows().await.into_iter().find(|row| row.job.because.to_string() == due)?.outcome;
    assert_eq!(until("the audit of this hour", audit).await, RunOutcome::Passed);
    place.end().await;
}

/// It is 12:06, then 14:06: while a clock was ten days ahead, something was missed, and something waits.
#[tokio::test(start_paused = true)]
async fn what_a_clock_that_ran_ahead_left_in_the_state_hides_nothing() {
    let schedules = "[schedule.audit]\ndo = \"audit\"\ncron = \"30 * * * *\"\n\
                     [schedule.report]\ndo = \"report\"\nperiod = \"week\"\ncron = \"0 * * * *\"\n\
                     blackout = [{ from = \"12:00\", to = \"12:10\" }]\n\
                     [schedule.nightly]\ndo = \"backup\"\ntiers = [\"gold\"]\ncron = \"0 0 * * *\"\n\
                     [schedule.rehearsal]\ndo = \"drill\"\ntiers = [\"gold\"]\nafter = \"nightly\"\n";
    let place = Place::with_schedules(schedules).await;
    place.gate.open.send_replace(true);
    place.leads().await;
    place.baton.who.send_replace(Who::Another("backup-2"));
    until("another to lead", async || place.is_led_elsewhere().then_some(())).await;
    let (far, state) = (moment(240 * HOUR), &place.daemon.state);
    let of = |id, schedule: &str, verb| {
        let because = Because::Schedule { schedule: schedule.to_owned(), due: far };
        Job { run: RunId([id; 8]), tenant: tenant(), instance: None, verb, because }
    };
    let waits = of(2, "report", Verb::Report { period: "week".into(), folder: "reports".into() });
    state.missed(&of(1, "audit", Verb::Audit), "nobody was at work", far).await.unwrap();
    state.queue(&waits, 1, far).await.unwrap();
    let passed = Job { instance: Some(clinic()), ..of(3, "nightly", Verb::Backup) };
    let rehearsal = Job { instance: Some(clinic()), ..of(4, "rehearsal", Verb::Drill { random: false }) };
    let ended = Ended { outcome: RunOutcome::Passed, exit: Some(0), answer: None, reason: None, is_transient: false };
    state.queue(&passed, 1, far).await.unwrap();
    state.begun(passed.run, far).await.unwrap();
    state.ended(passed.run, &ended, far).await.unwrap();
    state.missed(&rehearsal, "the run before it is still going on", far).await.unwrap();
    state.set_planned_until(&tenant(), far).await.unwrap();
    place.baton.who.send_replace(Who::Free);
    place.leads().await;
    let at = state.run(waits.run).await.unwrap().unwrap().at;
    assert_eq!(at.to_string(), "2026-11-18T12:10:00Z", "outside of the blackout");
    assert!(place.rows().await.iter().all(|row| row.at < far || row.job.run == passed.run), "none waits for that time");
    for schedule in ["audit", "report"] {
        assert!(state.newest_due(&tenant(), schedule, None).await.unwrap() <= Some(moment(HOUR)), "{schedule}");
    }
    place.baton.who.send_replace(Who::Another("backup-2"));
    until("another to lead", async || place.is_led_elsewhere().then_some(())).await;
    place.world.set(3 * HOUR);
    place.baton.who.send_replace(Who::Free);
    place.leads().await;
    let due = "schedule audit, due 2026-11-18T13:30:00Z";
    until("what was due meanwhile", async || {
        place.rows().await.into_iter().find(|row| row.job.because.to_string() == due)?.outcome
    })
    .await;
    until("what waits", async || state.run(waits.run).await.unwrap()?.outcome).await;
    place.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_whose_clock_ran_ahead_hides_nothing_from_another() {
    let world = World::new().await;
    fs::write(world.schedules(), "[schedule.nightly]\ndo = \"backup\"\ntiers = [\"gold\"]\ncron = \"0 * * * *\"\n")
        .unwrap();
    let because = Because::Schedule { schedule: "nightly".into(), due: moment(240 * HOUR) };
    world.backup(1, Some(&because), 0, 60).await;
    let place = Place::of(world, Duration::ZERO).await;
    place.gate.open.send_replace(true);
    place.leads().await;
    let known = place.daemon.state.newest_due(&tenant(), "nightly", Some(&clinic())).await.unwrap();
    assert_eq!(known, Some(moment(HOUR)), "as of now");
    place.world.set(2 * HOUR);
    let due = "schedule nightly, due 2026-11-18T13:00:00Z";
    let backup = async || place.rows().await.into_iter().find(|row| row.job.because.to_string() == due)?.outcome;
    assert_eq!(until("the next backup", backup).await, RunOutcome::Passed);
    place.end().await;
}
