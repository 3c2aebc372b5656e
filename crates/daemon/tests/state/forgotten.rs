//! Audits and reports, whose commands leave no statement, are remembered all the same.

use std::path::PathBuf;

use lifeboat_daemon::{
    Scope,
    job::{Because, Job, RunOutcome, Verb},
    look,
    view::{self, RunsFilter},
};
use lifeboat_evidence::{Act, act::Access};
use lifeboat_model::{check::Outcome, id::RunId};

use crate::{
    HOUR, tenant,
    world::{World, moment},
};

fn due(id: u8, schedule: &str, due: i64, verb: Verb) -> Job {
    let because = Because::Schedule { schedule: schedule.into(), due: moment(due) };
    Job { run: RunId([id; 8]), tenant: tenant(), instance: None, verb, because }
}

fn report() -> Verb {
    Verb::Report { period: "week".into(), folder: PathBuf::new() }
}

#[tokio::test]
async fn audits_and_reports_are_known_after_the_state_was_wiped() {
    let world = World::new().await;
    let daemon = world.daemon("state");
    let (audit, bad, report) =
        (due(1, "audit", 0, Verb::Audit), due(2, "audit", HOUR, Verb::Audit), due(3, "report", 600, report()));
    for (job, began, outcome) in
        [(&audit, 1, Outcome::Passed), (&bad, HOUR + 1, Outcome::Failed), (&report, 601, Outcome::Passed)]
    {
        daemon.state.queue(job, 1, moment(began)).await.unwrap();
        daemon.state.begun(job.run, moment(began)).await.unwrap();
        world.set(began + 9);
        daemon.surroundings.past.keep_run(&daemon, job, outcome, moment(began)).await.unwrap();
        let row = daemon.state.run(job.run).await.unwrap().unwrap();
        assert!(row.evidence.unwrap().contains("-access-"), "the run is shown with its statement");
    }
    // What people did is of the same kind, and is no run.
    let act = Act::Access(Access::default());
    let context = daemon.context(&tenant()).await.unwrap();
    lifeboat_engine::record::keep_act(&context, None, moment(HOUR), Outcome::Passed, act).await.unwrap();
    world.set(2 * HOUR);

    let wiped = world.daemon("wiped");
    for _ in 0..2 {
        look::recall(&wiped, &tenant()).await.unwrap();
    }
    let runs = view::runs(&wiped, &Scope::all(), RunsFilter::default(), 100).await.unwrap();
    let told =
        |run: view::RunLine| (run.schedule.unwrap(), run.due.unwrap(), run.verb, run.outcome.unwrap(), run.started);
    let runs: Vec<_> = runs.into_iter().map(told).collect();
    let line = |schedule: &str, due: i64, began: i64, outcome: &str| {
        (schedule.to_owned(), moment(due), schedule.to_owned(), outcome.to_owned(), Some(moment(began)))
    };
    let expected =
        [line("audit", HOUR, HOUR + 1, "failed"), line("report", 600, 601, "passed"), line("audit", 0, 1, "passed")];
    assert_eq!(runs, expected);
    // Nothing is done twice, and what was due since is known to be missing.
    assert!(!wiped.state.queue(&due(9, "audit", 0, Verb::Audit), 1, moment(0)).await.unwrap());
    assert_eq!(wiped.state.newest_due(&tenant(), "report", None).await.unwrap(), Some(moment(600)));
    let rows = wiped.state.attempts(&tenant(), "report", None, moment(600)).await.unwrap();
    assert_eq!(rows[0].job.verb, Verb::Report { period: "week".into(), folder: folder(&wiped) });
}

/// As the schedule has it.
fn folder(daemon: &lifeboat_daemon::Daemon) -> PathBuf {
    daemon.policies().sites[&tenant()].config.engine.state_dir.join("reports")
}

#[tokio::test]
async fn an_audit_whose_end_nobody_saw_is_found() {
    let world = World::new().await;
    let daemon = world.daemon("state");
    let (audit, killed) = (due(1, "audit", 0, Verb::Audit), due(2, "audit", HOUR, Verb::Audit));
    for (job, began) in [(&audit, 1), (&killed, HOUR + 1)] {
        daemon.state.queue(job, 1, moment(began)).await.unwrap();
        daemon.state.begun(job.run, moment(began)).await.unwrap();
    }
    world.set(20);
    // Its process ended, the ledger has it, and the daemon was killed before its state had.
    daemon.surroundings.past.keep_run(&daemon, &audit, Outcome::Passed, moment(2)).await.unwrap();
    assert_eq!(look::happened(&daemon, &audit).await.unwrap().unwrap().outcome, RunOutcome::Passed);
    assert_eq!(look::happened(&daemon, &killed).await.unwrap(), None);
    let report = due(3, "report", 0, report());
    assert_eq!(look::happened(&daemon, &report).await.unwrap(), None, "an audit is no report");
}
