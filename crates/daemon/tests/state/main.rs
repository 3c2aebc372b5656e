//! The state, and what is rebuilt of it, against a real local repository with signed statements.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
#![recursion_limit = "256"]

mod entered;
mod forgotten;
mod lead;
mod looks;
mod world;

use std::sync::Arc;

use lifeboat_daemon::{
    Error, Scope,
    job::{Because, Job, RunOutcome, Verb},
    look,
    runner::Ended,
    settings::Tenants,
    view::{self, EvidenceFilter, RunsFilter},
};
use lifeboat_model::id::{Instance, RunId, Tenant};
use world::{World, moment};

fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

fn clinic() -> Instance {
    "clinic".parse().unwrap()
}

fn only(tenant: &str) -> Scope {
    Scope(Tenants::Some([tenant.parse().unwrap()].into()))
}

fn job(id: u8, due: i64, verb: Verb) -> Job {
    let because = Because::Schedule { schedule: "nightly".into(), due: moment(due) };
    Job { run: RunId([id; 8]), tenant: tenant(), instance: Some(clinic()), verb, because }
}

const HOUR: i64 = 3600;

#[tokio::test]
async fn a_wiped_state_is_rebuilt_from_evidence() {
    let world = World::new().await;
    let daemon = world.daemon("state");
    // Three scheduled backups as the daemon carried them out, and one that somebody typed.
    for (id, due) in [(1, 0), (2, HOUR), (3, 2 * HOUR)] {
        let job = job(id, due, Verb::Backup);
        daemon.state.queue(&job, 1, moment(due)).await.unwrap();
        daemon.state.begun(job.run, moment(due + 1)).await.unwrap();
        // The process has a run id of its own.
        world.backup(100 + id, Some(&job.because), due + 1, due + 60).await;
        let ended =
            Ended { outcome: RunOutcome::Passed, exit: Some(0), answer: None, reason: None, is_transient: false };
        daemon.state.ended(job.run, &ended, moment(due + 60)).await.unwrap();
    }
    look::recall(&daemon, &tenant()).await.unwrap();
    let lines = async |daemon: &lifeboat_daemon::Daemon| {
        let runs = view::runs(daemon, &Scope::all(), RunsFilter::default(), 100).await.unwrap();
        let line =
            |run: view::RunLine| (run.schedule, run.due, run.who, run.verb, run.outcome, run.started, run.attempt);
        runs.into_iter().map(line).collect::<Vec<_>>()
    };
    let before = lines(&daemon).await;
    assert_eq!(before.len(), 3, "what is known already is not taken twice: {before:?}");
    world.backup(200, None, 3 * HOUR, 3 * HOUR + 60).await;
    look::recall(&daemon, &tenant()).await.unwrap();
    let before = lines(&daemon).await;
    assert_eq!(before.len(), 4);
    assert_eq!(before[0].2.as_deref(), Some("root@backup-1"));
    let marks = view::overview(&daemon, &Scope::all()).await.unwrap().instances[0].timeline.marks.clone();

    let wiped = world.daemon("wiped");
    look::recall(&wiped, &tenant()).await.unwrap();
    assert_eq!(lines(&wiped).await, before);
    let rebuilt = view::overview(&wiped, &Scope::all()).await.unwrap();
    let shown = |marks: &[view::Mark]| {
        marks.iter().map(|mark| (mark.verb.clone(), mark.outcome.clone(), mark.at)).collect::<Vec<_>>()
    };
    assert_eq!(shown(&rebuilt.instances[0].timeline.marks), shown(&marks));
    // Nothing is done twice: this try is known.
    assert!(!wiped.state.queue(&job(9, HOUR, Verb::Backup), 1, moment(HOUR)).await.unwrap());
    let newest = wiped.state.newest_due(&tenant(), "nightly", Some(&clinic())).await.unwrap();
    assert_eq!(newest, Some(moment(2 * HOUR)));
}

#[tokio::test]
async fn what_happened_is_found_in_evidence() {
    let world = World::new().await;
    let daemon = world.daemon("state");
    let (done, killed) = (job(1, 0, Verb::Backup), job(2, HOUR, Verb::Backup));
    for (job, began) in [(&done, 1), (&killed, HOUR + 1)] {
        daemon.state.queue(job, 1, moment(began)).await.unwrap();
        daemon.state.begun(job.run, moment(began)).await.unwrap();
    }
    world.backup(100, Some(&done.because), 2, 60).await;
    let ended = look::happened(&daemon, &done).await.unwrap().unwrap();
    assert_eq!(ended.outcome, RunOutcome::Passed);
    let row = daemon.state.run(done.run).await.unwrap().unwrap();
    assert!(row.evidence.unwrap().contains("-clinic-backup-"));
    assert_eq!(look::happened(&daemon, &killed).await.unwrap(), None);
    // The statement of an earlier try, or of another verb, is none of this run.
    let again = job(3, 0, Verb::Backup);
    daemon.state.queue(&again, 2, moment(120)).await.unwrap();
    daemon.state.begun(again.run, moment(120)).await.unwrap();
    assert_eq!(look::happened(&daemon, &again).await.unwrap(), None);
    let drill = job(4, 0, Verb::Drill { random: false });
    assert_eq!(look::happened(&daemon, &drill).await.unwrap(), None);
}

#[tokio::test]
async fn evidence_is_paged_newest_first() {
    let world = World::new().await;
    let daemon = world.daemon("state");
    for day in 0..30 {
        world.backup(day, None, i64::from(day) * 24 * HOUR, i64::from(day) * 24 * HOUR + 60).await;
    }
    world.set(31 * 24 * HOUR);
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let filter = EvidenceFilter { before, ..EvidenceFilter::default() };
        let page = view::evidence(&daemon, &Scope::all(), filter, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.at);
        assert!(page.iter().all(|line| line.doubt.is_none() && line.kind == "backup"), "{page:?}");
        seen.extend(page.into_iter().map(|line| line.at));
    }
    assert_eq!(seen, (0..30).rev().map(|day| moment(day * 24 * HOUR)).collect::<Vec<_>>());
    let other = EvidenceFilter { instance: Some("other".parse().unwrap()), ..EvidenceFilter::default() };
    assert_eq!(view::evidence(&daemon, &Scope::all(), other, 7).await.unwrap(), []);
    let newest = view::evidence(&daemon, &Scope::all(), EvidenceFilter::default(), 1).await.unwrap().remove(0);
    let whole = view::statement(&daemon, &Scope::all(), &tenant(), &newest.key).await.unwrap().unwrap();
    assert_eq!(whole.line, newest);
    assert_eq!(whole.statement.unwrap()["predicate"]["instance"], "clinic");
    assert!(whole.envelope.contains("payload"));
}

#[tokio::test]
async fn nobody_sees_what_is_not_theirs() {
    let world = World::new().await;
    let daemon = world.daemon("state");
    world.backup(1, None, 0, 60).await;
    look::recall(&daemon, &tenant()).await.unwrap();
    let key = view::evidence(&daemon, &Scope::all(), EvidenceFilter::default(), 1).await.unwrap().remove(0).key;
    let run = RunId([1; 8]);
    assert!(view::run(&daemon, &only("acme"), run).await.unwrap().is_some());
    let other = only("other");
    assert_eq!(view::overview(&daemon, &other).await.unwrap().instances, []);
    assert_eq!(view::instance(&daemon, &other, &tenant(), &clinic()).await.unwrap(), None);
    assert_eq!(view::runs(&daemon, &other, RunsFilter::default(), 10).await.unwrap(), []);
    let named = RunsFilter { tenant: Some(tenant()), ..RunsFilter::default() };
    assert_eq!(view::runs(&daemon, &other, named, 10).await.unwrap(), []);
    assert_eq!(view::run(&daemon, &other, run).await.unwrap(), None);
    assert_eq!(view::events(&daemon, &other, run, 0, 10).await.unwrap(), None);
    assert_eq!(view::schedules(&daemon, &other).await.unwrap(), []);
    assert_eq!(view::points(&daemon, &other, &tenant(), &clinic()).await.unwrap(), None);
    assert_eq!(view::evidence(&daemon, &other, EvidenceFilter::default(), 10).await.unwrap(), []);
    assert_eq!(view::statement(&daemon, &other, &tenant(), &key).await.unwrap(), None);
    assert_eq!(view::storage(&daemon, &other).await.unwrap(), []);
}

#[tokio::test]
async fn a_look_finds_facts_and_says_what_it_misses() {
    let world = World::new().await;
    let daemon = Arc::new(world.daemon("state"));
    let unknown = view::overview(&daemon, &Scope::all()).await.unwrap();
    assert_eq!((unknown.counts.unknown, unknown.instances[0].state.as_str()), (1, "unknown"));
    look::once(&daemon, &tenant(), &clinic()).await.unwrap();
    let seen = view::overview(&daemon, &Scope::all()).await.unwrap();
    assert_eq!(seen.instances[0].state, "unprotected", "there is no recovery point: {:?}", seen.instances[0]);
    let troubles: Vec<&str> = seen.troubles.iter().map(|trouble| trouble.of.as_str()).collect();
    assert_eq!(troubles, ["postgres clinic"], "nothing listens at its port");
    // The repository goes away, and comes back.
    let (here, away) = (world.folder.path().join("repository"), world.folder.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    assert!(look::once(&daemon, &tenant(), &clinic()).await.is_err());
    let gone = view::overview(&daemon, &Scope::all()).await.unwrap();
    assert!(gone.troubles.iter().any(|trouble| trouble.of == "repository main"), "{:?}", gone.troubles);
    assert_eq!(gone.instances[0].state, "unprotected", "older facts stay");
    std::fs::rename(&away, &here).unwrap();
    for _ in 0..100 {
        if look::once(&daemon, &tenant(), &clinic()).await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let back = view::overview(&daemon, &Scope::all()).await.unwrap();
    assert!(back.troubles.iter().all(|trouble| trouble.of != "repository main"), "{:?}", back.troubles);
}

#[tokio::test]
async fn a_repository_that_is_not_there_yet_has_nothing_to_tell() {
    let world = World::new().await;
    let daemon = world.daemon("state");
    std::fs::remove_dir_all(world.folder.path().join("repository")).unwrap();
    look::recall(&daemon, &tenant()).await.unwrap();
    assert!(matches!(daemon.context(&tenant()).await, Err(Error::NotOpen { absent: true, .. })));
    assert_eq!(look::happened(&daemon, &job(1, 0, Verb::Backup)).await.unwrap(), None);
    assert_eq!(view::points(&daemon, &Scope::all(), &tenant(), &clinic()).await.unwrap(), Some(vec![]));
    assert_eq!(view::evidence(&daemon, &Scope::all(), EvidenceFilter::default(), 5).await.unwrap(), []);
}
