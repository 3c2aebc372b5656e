//! Hosts with state folders of their own, and one repository that can be away.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Instant,
};

use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::{
    context::{Context, Initiator},
    journal::Journals,
};
use lifeboat_model::{
    config::{Config, parse},
    id::RepositoryId,
    signature::SigningKey,
};
use lifeboat_repo::{repository::Repository, seal::Identity};
use lifeboat_runbook::{event::Outcome, plan::Mode};
use lifeboat_store::{
    SharedStore,
    fault::{Fault, FaultStore, Rule},
    vault::VaultStore,
};

use super::{place::Opener, *};
use crate::exit::Exit;

mod copies;

const RUN: RunId = RunId([7; 8]);
const PATIENCE: Duration = Duration::from_secs(20);

/// Of a tenant with one instance, with keys that are nowhere.
pub fn config() -> Config {
    let recipient = Identity::generate().recipient().to_string();
    let trusted = SigningKey::from_seed(&[1; 32]).public();
    let text = format!(
        r#"tenant = "hospital"
[repository]
path = "repository"
[keys]
recovery_recipients = ["{recipient}"]
host_identity_file = "host"
signing_key_file = "signing"
trusted_keys = ["{trusted}"]
[tiers.gold]
rpo = "15m"
rto = "1h"
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
"#
    );
    parse(&text, Path::new("/nowhere/lifeboat.toml")).unwrap().0
}

/// A repository that hosts share.
struct Shared {
    faults: FaultStore,
    context: Arc<Context>,
}

impl Shared {
    async fn new() -> Shared {
        let clock: Clock = Arc::new(Timestamp::now);
        let faults = FaultStore::new(Arc::new(VaultStore::new(clock.clone())));
        let store: SharedStore = Arc::new(faults.clone());
        let repository = Repository::init(store, RepositoryId([1; 16]), Timestamp::now()).await.unwrap();
        let initiator = Initiator { who: "test@here".into(), command: "test".into() };
        let context = Arc::new(Context::new(config(), "0".repeat(64), repository, clock, initiator));
        Shared { faults, context }
    }

    fn goes_away(&self) {
        self.faults.add(Rule::on_any(Fault::FailBefore).and_ever_after());
    }

    fn place(&self, name: &str) -> Place {
        let context = self.context.clone();
        let open: Opener = Arc::new(move || {
            let context = context.clone();
            Box::pin(async move { Journals::of(&context).await.map_err(|error| error.to_string()) })
        });
        Place { name: name.to_owned(), open }
    }

    async fn lines(&self) -> usize {
        Journals::of_reader(&self.context).read(Name { kind: Kind::Run, id: RUN }, 1).await.unwrap().len()
    }
}

/// A host.
struct Host {
    folder: tempfile::TempDir,
    who: &'static str,
    told: Arc<Mutex<Vec<String>>>,
    cancel: CancellationToken,
    clock: Clock,
}

impl Host {
    fn new(who: &'static str) -> Host {
        let folder = tempfile::tempdir().unwrap();
        Host { folder, who, told: Arc::default(), cancel: CancellationToken::new(), clock: Arc::new(Timestamp::now) }
    }

    fn keeping(&self, shared: &Shared) -> Keeping {
        self.keeping_in(vec![shared.place("main")])
    }

    fn keeping_in(&self, places: Vec<Place>) -> Keeping {
        let told = self.told.clone();
        let notice: Notice = Arc::new(move |words: &str| told.lock().unwrap().push(words.to_owned()));
        let ms = Duration::from_millis;
        Keeping {
            who: self.who.to_owned(),
            clock: self.clock.clone(),
            places,
            keeper: None,
            notice,
            cancel: self.cancel.clone(),
            pace: Pace { look: ms(20), step: ms(2000), other: ms(200), take: ms(2000) },
        }
    }

    fn runs(&self) -> PathBuf {
        self.folder.path().join("runs")
    }

    fn create(&self, shared: &Shared) -> KeptJournal {
        KeptJournal::create(&self.runs(), RUN, self.keeping(shared)).unwrap()
    }

    async fn open(&self, shared: &Shared, take_over: bool) -> Result<Opened, crate::failure::Failure> {
        open(&self.runs(), RUN, take_over, self.keeping(shared)).await
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

fn begun() -> Event {
    Event::Begun {
        runbook: "total-loss".to_owned(),
        sha256: "0".repeat(64),
        mode: Mode::Real,
        parameters: Default::default(),
        texts: Default::default(),
        tenant: None,
        instance: None,
        incident: None,
        reference: None,
    }
}

fn started(step: &str) -> Event {
    Event::Started { step: step.into(), attempt: 1 }
}

fn ended(step: &str) -> Event {
    let outputs = Default::default();
    Event::Ended { step: step.into(), attempt: 1, outcome: Outcome::Passed, outputs, why: None }
}

fn finished() -> Event {
    Event::Finished { ending: lifeboat_runbook::event::Ending::Passed, outputs: Default::default(), why: None }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_line_is_in_the_repository_before_the_step_goes_on() {
    let (shared, ann) = (Shared::new().await, Host::new("ann@a"));
    let mut journal = ann.create(&shared);
    for (number, event) in (1..).zip([begun(), started("one"), ended("one")]) {
        journal.append(None, event).await.unwrap();
        assert_eq!(shared.lines().await, number);
    }
    let head = journal.head().to_owned();
    let state = journal.close().await.unwrap();
    assert_eq!((state.kept, state.away, state.taken_over), (3, None, None));
    assert!(ann.told().is_empty());
    // Another host has nothing but the repository.
    let ben = Host::new("ben@b");
    let opened = ben.open(&shared, true).await.unwrap();
    assert_eq!((opened.lines.len(), opened.journal.head(), opened.remarks.len()), (3, head.as_str(), 0));
}

#[tokio::test]
async fn a_repository_that_is_away_stops_nothing_and_is_made_good() {
    let (shared, ann) = (Shared::new().await, Host::new("ann@a"));
    let mut journal = ann.create(&shared);
    journal.append(None, begun()).await.unwrap();
    shared.goes_away();
    let before = Instant::now();
    for number in 0..20 {
        journal.append(None, started(&format!("step-{number}"))).await.unwrap();
    }
    assert!(before.elapsed() < Duration::from_secs(8), "20 steps took {:?}", before.elapsed());
    until("it is told", async || !ann.told().is_empty()).await;
    assert!(ann.told()[0].contains("not in a repository from line 2 on"), "{:?}", ann.told());
    // For longer than it takes to ask another one.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(ann.told().len(), 1, "told once: {:?}", ann.told());
    shared.faults.heal();
    until("all is there", async || journal.state().unwrap().kept == 21).await;
    assert_eq!(shared.lines().await, 21);
    until("it is told", async || ann.told().len() == 2).await;
    assert!(ann.told()[1].contains("answers again"), "{:?}", ann.told());
    assert!(!ann.cancel.is_cancelled());
}

/// It ended while the repository was away: whoever takes it up on this host sends what is missing.
#[tokio::test]
async fn what_was_never_sent_is_sent_by_the_next() {
    let (shared, ann) = (Shared::new().await, Host::new("ann@a"));
    shared.goes_away();
    let mut journal = ann.create(&shared);
    journal.append(None, begun()).await.unwrap();
    journal.append(None, started("one")).await.unwrap();
    let state = journal.close().await.unwrap();
    assert!(state.kept == 0 && state.away.is_some(), "{state:?}");
    let other = Host::new("ben@b").open(&shared, false).await.err().unwrap();
    assert_eq!(other.exit, Exit::Unavailable);
    let opened = ann.open(&shared, false).await.unwrap();
    assert!(opened.remarks.iter().any(|remark| remark.contains("cannot be seen")), "{:?}", opened.remarks);
    drop(opened);
    shared.faults.heal();
    let opened = ann.open(&shared, false).await.unwrap();
    assert_eq!((opened.lines.len(), opened.remarks.len()), (2, 0));
    until("all is there", async || opened.journal.state().unwrap().kept == 2).await;
}

#[tokio::test]
async fn who_was_taken_over_from_stops_in_the_middle_of_a_step() {
    let (shared, ann, ben) = (Shared::new().await, Host::new("ann@a"), Host::new("ben@b"));
    let mut journal = ann.create(&shared);
    journal.append(None, begun()).await.unwrap();
    journal.append(None, started("one")).await.unwrap();
    let refused = ben.open(&shared, false).await.err().unwrap();
    assert_eq!(refused.exit, Exit::Busy);
    let words = refused.messages().join(": ");
    assert!(words.contains("ann@a wrote line 2") && words.contains("in the middle of step one"), "{words}");
    assert!(!ben.runs().exists(), "nothing was done");

    let mut opened = ben.open(&shared, true).await.unwrap();
    assert_eq!(opened.lines.len(), 2);
    opened.journal.append(None, Event::Resumed).await.unwrap();
    assert!(ann.cancel.is_cancelled(), "whoever takes over waits until the other one has seen it");
    let by = journal.taken_over().unwrap();
    assert!(by.starts_with("ben@b wrote line 3"), "{by}");
    let refused = journal.append(None, ended("one")).await.unwrap_err();
    assert!(refused.contains("ben@b"), "{refused}");
    assert_eq!(journal.lines(), 2, "nothing was written behind the other's back");
    assert!(!ben.cancel.is_cancelled());
}

/// Both went on while the first could not reach the repository: what is there counts, and what was not seen is kept.
#[tokio::test]
async fn lines_that_nobody_saw_are_kept_aside() {
    let (shared, ann, ben) = (Shared::new().await, Host::new("ann@a"), Host::new("ben@b"));
    let mut journal = ann.create(&shared);
    journal.append(None, begun()).await.unwrap();
    journal.append(None, started("one")).await.unwrap();
    journal.close().await;
    shared.goes_away();
    let mut alone = ann.open(&shared, false).await.unwrap().journal;
    alone.append(None, Event::Resumed).await.unwrap();
    alone.append(None, ended("one")).await.unwrap();
    alone.close().await;
    shared.faults.heal();
    let mut opened = ben.open(&shared, true).await.unwrap().journal;
    opened.append(None, Event::Resumed).await.unwrap();
    opened.append(None, finished()).await.unwrap();
    opened.close().await;

    let opened = ann.open(&shared, false).await.unwrap();
    assert_eq!((opened.lines.len(), opened.lines[2].who.as_str()), (4, "ben@b"));
    assert!(opened.remarks[0].contains("2 lines of this host"), "{:?}", opened.remarks);
    let aside = FileJournal::look(&ann.runs().join(format!("{RUN}.aside-1"))).unwrap();
    assert!(matches!(aside[3].event, Event::Ended { .. }));
}

/// Nobody can tell from afar whether somebody is asked, waits to try again, or cannot send what was done since.
#[tokio::test]
async fn only_what_is_over_is_nobodys() {
    let (shared, mut ann, ben) = (Shared::new().await, Host::new("ann@a"), Host::new("ben@b"));
    ann.clock = Arc::new(|| Timestamp::now() - SignedDuration::from_mins(3));
    let mut journal = ann.create(&shared);
    for event in [begun(), started("one"), ended("one")] {
        journal.append(None, event).await.unwrap();
    }
    let refused = ben.open(&shared, false).await.err().unwrap();
    assert!(refused.messages().join(": ").contains("and the run is not over"), "{:?}", refused.messages());
    let failed = Event::Ended {
        step: "two".into(),
        attempt: 1,
        outcome: Outcome::Failed,
        outputs: Default::default(),
        why: None,
    };
    journal.append(None, failed).await.unwrap();
    let refused = ben.open(&shared, false).await.err().unwrap();
    assert_eq!(refused.exit, Exit::Busy);
    assert!(refused.messages().join(": ").contains("it may be asking somebody"), "{:?}", refused.messages());
    journal.append(None, finished()).await.unwrap();
    journal.close().await;
    assert_eq!(ben.open(&shared, false).await.unwrap().lines.len(), 5);
    assert_eq!(elsewhere("0707", &ben.keeping(&shared)).await.unwrap(), [RUN]);
    assert_eq!(elsewhere("08", &ben.keeping(&shared)).await.unwrap(), []);
    let nobody = open(&ben.runs(), RunId([8; 8]), false, ben.keeping(&shared)).await.err().unwrap();
    assert_eq!(nobody.exit, Exit::NotFound);
}
