use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::json;

use super::*;
use crate::{
    job::{Because, Job, RunOutcome, Verb},
    runner::{Ended, RunEvent},
    settings::Tenants,
    view::ActivityView,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_400_000 + second).unwrap()
}

fn job(id: u8, due: i64) -> Job {
    let because = Because::Schedule { schedule: "gold-backup".into(), due: at(due) };
    let (tenant, instance) = ("acme".parse().unwrap(), Some("clinic".parse().unwrap()));
    Job { run: lifeboat_model::id::RunId([id; 8]), tenant, instance, verb: Verb::Backup, because }
}

fn ended(outcome: RunOutcome) -> Ended {
    let answer = Some(json!({ "point": "abcd" }));
    Ended { outcome, exit: Some(0), answer, reason: None, is_transient: false }
}

fn note(text: &str) -> RunEvent {
    RunEvent::Note { level: "INFO".into(), message: text.into() }
}

/// As after `kill -9`: nothing is closed, and the file is opened again.
fn killed(folder: &Path) -> State {
    let copy = tempfile::tempdir().unwrap().keep();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    State::open(&copy).unwrap()
}

#[tokio::test]
async fn what_was_due_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).unwrap();
    assert!(state.queue(&job(1, 0), 1, at(0)).await.unwrap());
    assert!(!state.queue(&job(2, 0), 1, at(5)).await.unwrap(), "the same try under another id");
    assert!(state.queue(&job(2, 0), 2, at(60)).await.unwrap(), "the next try");
    assert!(state.queue(&job(3, 3600), 1, at(3600)).await.unwrap());
    let mut wide = Job { instance: None, ..job(4, 0) };
    assert!(state.queue(&wide, 1, at(0)).await.unwrap(), "the tenant as a whole is somebody else");
    wide.run = lifeboat_model::id::RunId([5; 8]);
    assert!(!state.queue(&wide, 1, at(0)).await.unwrap());
    let one = job(1, 0);
    let newest = state.newest_due(&one.tenant, "gold-backup", one.instance.as_ref()).await.unwrap();
    assert_eq!(newest, Some(at(3600)));
    assert_eq!(state.newest_due(&one.tenant, "silver", None).await.unwrap(), None);
    let tries = state.attempts(&one.tenant, "gold-backup", one.instance.as_ref(), at(0)).await.unwrap();
    assert_eq!(tries.iter().map(|row| row.attempt).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn what_a_clock_that_ran_ahead_left_is_put_right() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).unwrap();
    let of = |tenant: &str, schedule: &str, id, due| {
        let because = Because::Schedule { schedule: schedule.into(), due: at(due) };
        Job { tenant: tenant.parse().unwrap(), because, ..job(id, due) }
    };
    let (done, missed, waits) = (job(1, 0), job(2, 80_000), of("acme", "signs", 3, 90_000));
    let (begun, other) = (of("acme", "scrub", 4, 10), of("other", "gold-backup", 5, 90_000));
    for (job, second) in [(&done, 0), (&waits, 90_600), (&begun, 10), (&other, 90_000)] {
        state.queue(job, 1, at(second)).await.unwrap();
    }
    state.begun(begun.run, at(10)).await.unwrap();
    state.missed(&missed, "nobody was at work", at(90_000)).await.unwrap();
    let begins = vec![(waits.run, at(100)), (begun.run, at(100))];
    state.set_back(&done.tenant, at(100), begins).await.unwrap();
    let dues = async |tenant: &str| {
        let dues = state.newest_dues(&tenant.parse().unwrap()).await.unwrap();
        dues.into_iter().map(|(schedule, _, due)| (schedule, due)).collect::<Vec<_>>()
    };
    let expected = [("gold-backup", 0), ("scrub", 10), ("signs", 100)];
    assert_eq!(dues("acme").await, expected.map(|(schedule, due)| (schedule.to_owned(), at(due))));
    assert_eq!(dues("other").await, [("gold-backup".to_owned(), at(90_000))]);
    assert_eq!(state.run(missed.run).await.unwrap(), None);
    let begins = state.open_runs().await.unwrap();
    let mut begins: Vec<_> = begins.iter().map(|row| (row.job.run, row.at)).collect();
    begins.sort();
    assert_eq!(begins, [(done.run, at(0)), (waits.run, at(100)), (begun.run, at(10)), (other.run, at(90_000))]);
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).unwrap();
    let (one, two) = (job(1, 0), job(2, 3600));
    state.queue(&one, 1, at(0)).await.unwrap();
    state.begun(one.run, at(1)).await.unwrap();
    state.ended(one.run, &ended(RunOutcome::Passed), at(60)).await.unwrap();
    state.queue(&two, 1, at(3600)).await.unwrap();
    state.begun(two.run, at(3601)).await.unwrap();
    for number in 1..=10 {
        assert_eq!(state.event(two.run, at(3602), &note(&number.to_string())).await.unwrap(), number);
    }
    assert_eq!(state.events(two.run, 8, 100).await.unwrap().len(), 2);
    state.set_planned_until(&one.tenant, at(4000)).await.unwrap();

    let again = killed(folder.path());
    let open = again.open_runs().await.unwrap();
    assert_eq!(open.iter().map(|row| row.job.run).collect::<Vec<_>>(), [two.run]);
    assert_eq!(open[0].started, Some(at(3601)));
    let row = again.run(one.run).await.unwrap().unwrap();
    assert_eq!((row.outcome, row.ended), (Some(RunOutcome::Passed), Some(at(60))));
    assert_eq!(row.answer, Some(json!({ "point": "abcd" })));
    assert!(!again.queue(&Job { run: lifeboat_model::id::RunId([9; 8]), ..one.clone() }, 1, at(0)).await.unwrap());
    assert_eq!(again.event(two.run, at(3700), &note("on")).await.unwrap(), 11, "numbers go on");
    assert_eq!(again.planned_until(&one.tenant).await.unwrap(), Some(at(4000)));
    let known = again.board().known(&one.tenant, one.instance.as_ref().unwrap());
    assert_eq!(known.marks.iter().map(|mark| mark.run).collect::<Vec<_>>(), [one.run]);
}

#[tokio::test]
async fn a_second_daemon_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).unwrap();
    assert!(matches!(State::open(folder.path()), Err(Error::Busy { .. })));
    drop(state);
    State::open(folder.path()).unwrap();
}

#[tokio::test]
async fn nobody_else_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("state");
    let state = State::open(&inner).unwrap();
    state.queue(&job(1, 0), 1, at(0)).await.unwrap();
    assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
    for file in fs::read_dir(&inner).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.path().display());
    }
}

#[tokio::test]
async fn an_unusable_file_is_put_aside() {
    let newer = |path: &Path| Connection::open(path).unwrap().pragma_update(None, "user_version", 1000).unwrap();
    let damaged = |path: &Path| fs::write(path, vec![7; 100_000]).unwrap();
    for spoil in [&newer as &dyn Fn(&Path), &damaged] {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        state.queue(&job(1, 0), 1, at(0)).await.unwrap();
        drop(state);
        // The thread closes the file after the last request.
        while State::open(folder.path()).is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        spoil(&folder.path().join(FILE));
        let state = State::open(folder.path()).unwrap();
        assert_eq!(state.open_runs().await.unwrap(), []);
        assert!(state.queue(&job(1, 0), 1, at(0)).await.unwrap());
        assert!(folder.path().join("daemon.sqlite.unusable").exists());
    }
}

#[tokio::test]
async fn runs_are_found_by_what_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).unwrap();
    for (id, due) in [(1, 0), (2, 3600), (3, 7200)] {
        state.queue(&job(id, due), 1, at(due)).await.unwrap();
        state.begun(job(id, due).run, at(due + 1)).await.unwrap();
        state.ended(job(id, due).run, &ended(RunOutcome::Passed), at(due + 60)).await.unwrap();
    }
    let other = Job { tenant: "other".parse().unwrap(), ..job(4, 0) };
    state.queue(&other, 1, at(0)).await.unwrap();
    state.missed(&job(5, 10_800), "nobody was at work", at(20_000)).await.unwrap();
    let ids = async |filter| {
        let rows = state.runs(filter, 10).await.unwrap();
        rows.iter().map(|row| row.job.run.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(ids(RunFilter::default()).await, [5, 3, 2, 1, 4]);
    let acme = Some(Tenants::Some(["acme".parse().unwrap()].into()));
    let of = RunFilter { tenants: acme.clone(), ..RunFilter::default() };
    assert_eq!(ids(of.clone()).await, [5, 3, 2, 1]);
    assert_eq!(ids(RunFilter { before: Some(at(7200)), ..of.clone() }).await, [2, 1]);
    assert_eq!(ids(RunFilter { since: Some(at(7200)), ..of.clone() }).await, [5, 3]);
    assert_eq!(ids(RunFilter { outcome: Some(RunOutcome::Missed), ..of.clone() }).await, [5]);
    assert_eq!(ids(RunFilter { verb: Some("drill".into()), ..of.clone() }).await, [0_u8; 0]);
    assert_eq!(ids(RunFilter { tenants: Some(Tenants::Some([].into())), ..of }).await, [0_u8; 0]);
    let passed = state.passed_since(&"acme".parse().unwrap(), at(3600)).await.unwrap();
    assert_eq!(passed.iter().map(|row| row.job.run.0[0]).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test]
async fn what_evidence_tells_is_taken_once() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).unwrap();
    let one = job(1, 0);
    let heard = async |job: &Job, attempt| {
        state.heard_of(job, attempt, &ended(RunOutcome::Failed), at(1), at(60), Some("key")).await.unwrap()
    };
    assert!(heard(&one, 1).await);
    assert!(!heard(&one, 1).await);
    assert!(!heard(&one, 2).await, "it is the same run");
    let row = state.run(one.run).await.unwrap().unwrap();
    assert_eq!(
        (row.started, row.outcome, row.evidence.as_deref()),
        (Some(at(1)), Some(RunOutcome::Failed), Some("key"))
    );
    assert!(state.open_runs().await.unwrap().is_empty());
}

#[tokio::test]
async fn growth_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).unwrap();
    let (old, open) = (job(1, 0), job(2, 3600));
    for job in [&old, &open] {
        state.queue(job, 1, at(0)).await.unwrap();
        state.begun(job.run, at(1)).await.unwrap();
        state.event(job.run, at(2), &note("x")).await.unwrap();
    }
    state.ended(old.run, &ended(RunOutcome::Passed), at(60)).await.unwrap();
    let activity = |second, tenant: Option<&str>| ActivityView {
        at: at(second),
        tenant: tenant.map(str::to_owned),
        who: "ann".into(),
        act: "start".into(),
        target: None,
        allowed: true,
        detail: None,
    };
    state.activity(&activity(0, Some("acme"))).await.unwrap();
    state.activity(&activity(100, None)).await.unwrap();
    let month = 31 * 86_400;
    state.forget_before(at(0), at(month)).await.unwrap();
    assert_eq!(state.events(old.run, 0, 10).await.unwrap().len(), 0, "events of ended runs go after 30 days");
    assert_eq!(state.events(open.run, 0, 10).await.unwrap().len(), 1);
    assert!(state.run(old.run).await.unwrap().is_some());
    state.forget_before(at(50), at(month)).await.unwrap();
    assert!(state.run(old.run).await.unwrap().is_none());
    assert!(state.run(open.run).await.unwrap().is_some(), "an open run is not forgotten");
    let due = state.newest_due(&old.tenant, "gold-backup", old.instance.as_ref()).await.unwrap();
    assert_eq!(due, Some(at(3600)), "when it was last due is not forgotten");
    let left = state.activities(&Tenants::All, None, 10).await.unwrap();
    assert_eq!(left, [activity(100, None)]);
    let acme = Tenants::Some(["acme".parse().unwrap()].into());
    assert_eq!(state.activities(&acme, None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn no_flood_of_refusals_pushes_out_what_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).unwrap();
    let entry = |who: &str, allowed| ActivityView {
        at: at(0),
        tenant: Some("acme".to_owned()),
        who: who.to_owned(),
        act: "start".into(),
        target: None,
        allowed,
        detail: None,
    };
    state.activity(&entry("ann", true)).await.unwrap();
    state.activity(&entry("bob", false)).await.unwrap();
    state.stranger(&entry("unknown at 192.0.2.1", false)).await.unwrap();
    let flood = "WITH RECURSIVE more (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more WHERE n < 120000)
        INSERT INTO activity (at, tenant, activity, class) SELECT at, tenant, activity, class FROM activity, more
        WHERE number = 3";
    state.ask(|cache| cache.connection.execute(flood, [])).await.unwrap();
    state.forget_before(at(-1), at(0)).await.unwrap();
    let mut left = state.activities(&Tenants::All, None, 200_000).await.unwrap();
    left.retain(|entry| entry.who != "unknown at 192.0.2.1");
    assert_eq!(left, [entry("bob", false), entry("ann", true)]);
    let rows = "SELECT count(*) FROM activity";
    let rows: i64 = state.ask(|cache| cache.connection.query_row(rows, [], |row| row.get(0))).await.unwrap();
    assert_eq!(rows, 20_002, "and it is bounded itself");
}

#[tokio::test]
async fn what_an_older_release_kept_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(super::FILE);
    let old = rusqlite::Connection::open(&file).unwrap();
    super::migrations::migrate_to(&old, 1).unwrap();
    for (who, allowed) in [("ann", true), ("ann", false), ("unknown at ::1", false)] {
        let entry = format!(r#"{{"who": "{who}", "allowed": {allowed}}}"#);
        old.execute("INSERT INTO activity (at, tenant, activity) VALUES (0, 'acme', ?1)", [entry]).unwrap();
    }
    drop(old);
    let state = State::open(folder.path()).unwrap();
    let classes = state.ask(|cache| {
        let mut statement = cache.connection.prepare("SELECT class, owed FROM activity ORDER BY number")?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<Vec<(i64, i64)>>>()
    });
    assert_eq!(classes.await.unwrap(), [(0, 0), (1, 0), (2, 0)]);
}

#[tokio::test]
async fn a_stream_tells_how_far_it_is_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).unwrap();
    let stream = Job { verb: Verb::Stream, ..job(1, 0) };
    state.queue(&stream, 1, at(0)).await.unwrap();
    state.begun(stream.run, at(1)).await.unwrap();
    let wal = RunEvent::Wal {
        phase: "streaming".into(),
        newest_commit: Some(at(5)),
        waiting_bytes: Some(0),
        waiting_since: None,
    };
    state.event(stream.run, at(6), &wal).await.unwrap();
    let live = || state.board().known(&stream.tenant, stream.instance.as_ref().unwrap()).live;
    assert_eq!(live().map(|live| (live.at, live.newest_commit)), Some((at(6), Some(at(5)))));
    state.ended(stream.run, &ended(RunOutcome::Interrupted), at(7)).await.unwrap();
    assert_eq!(live().map(|live| (live.follows, live.waiting_since)), Some((false, Some(at(7)))), "nobody follows now");
    let again = Job { verb: Verb::Stream, ..job(2, 60) };
    state.queue(&again, 1, at(8)).await.unwrap();
    state.begun(again.run, at(8)).await.unwrap();
    let said = |phase: &str, bytes, since: Option<i64>| RunEvent::Wal {
        phase: phase.into(),
        newest_commit: None,
        waiting_bytes: bytes,
        waiting_since: since.map(at),
    };
    state.event(again.run, at(9), &said("connecting", None, None)).await.unwrap();
    assert_eq!(live().map(|live| (live.follows, live.waiting_since)), Some((false, Some(at(7)))));
    state.event(again.run, at(10), &said("streaming", Some(8), Some(10))).await.unwrap();
    assert_eq!(live().map(|live| (live.follows, live.waiting_since)), Some((true, Some(at(7)))), "it waited before");
    state.event(again.run, at(11), &said("streaming", Some(0), None)).await.unwrap();
    assert_eq!(live().map(|live| (live.newest_commit, live.waiting_since)), Some((Some(at(5)), None)));
}

#[tokio::test]
async fn sessions_expire() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).unwrap();
    state.put_session("hash", "who", at(10)).await.unwrap();
    assert_eq!(state.session("hash", at(9)).await.unwrap().as_deref(), Some("who"));
    assert_eq!(state.session("hash", at(10)).await.unwrap(), None);
    state.end_session("hash").await.unwrap();
    assert_eq!(state.session("hash", at(9)).await.unwrap(), None);
}
