//! Against processes that do what a run may do.

use std::{fs, path::Path};

use lifeboat_model::{check::Verdict, config::LimitsConfig, size::ByteRate};
use lifeboat_testkit::folder::put_program;

use super::*;

/// A program that does this, and what it was given as arguments in the file `arguments`.
fn program(dir: &Path, script: &str) -> ProcessRunner {
    let path = dir.join("program");
    // A shell cannot trap what was ignored when it began, as SIGINT is in the background of a script.
    let text = format!(
        "#!/usr/bin/env -S --default-signal=INT sh\nprintf '%s\\n' \"$@\" > {}/arguments\n{script}\n",
        dir.display()
    );
    put_program(&path, text);
    ProcessRunner::of(&path)
}

fn job(verb: Verb) -> Job {
    Job {
        run: lifeboat_engine::record::new_run().unwrap(),
        tenant: "hospital".parse().unwrap(),
        instance: (!verb.is_tenant_wide()).then(|| "clinic".parse().unwrap()),
        verb,
        because: Because::Schedule { schedule: "gold".into(), due: "2026-11-22T01:00:00Z".parse().unwrap() },
    }
}

fn how(dir: &Path) -> How {
    let limits = LimitsConfig { upload: Some(ByteRate::of(1_234_567)), download: None };
    How { config_file: "/etc/lifeboat/lifeboat.toml".into(), nice: 5, limits, alive_file: dir.join("run.lock") }
}

/// Runs it; gives what it told and how it ended.
async fn run(dir: &Path, script: &str, cancel: CancellationToken) -> (Vec<RunEvent>, Ended) {
    let runner = program(dir, script);
    let (sender, mut events) = mpsc::channel(1000);
    let ended = timeout(Duration::from_secs(30), runner.run(&job(Verb::Backup), &how(dir), sender, cancel)).await;
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.push(event);
    }
    (told, ended.unwrap())
}

#[tokio::test]
async fn what_it_tells_and_answers_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"echo '{"event":"check","id":"boot.log","verdict":{"outcome":"passed"},"observed":"ok","seconds":1.5}' >&2
        echo '{"level":"INFO","message":"halfway"}' >&2
        echo '{"schema":"lifeboat.backup/1","evidence":"k"}'"#;
    let (told, ended) = run(dir.path(), script, CancellationToken::new()).await;
    let check =
        RunEvent::Check { id: "boot.log".into(), verdict: Verdict::Passed, observed: "ok".into(), seconds: 1.5 };
    let note = RunEvent::Note { level: "INFO".into(), message: "halfway".into() };
    assert_eq!(told, [check, note]);
    assert_eq!(ended.outcome, RunOutcome::Passed);
    assert_eq!(ended.answer.unwrap()["evidence"], "k");
    let arguments = fs::read_to_string(dir.path().join("arguments")).unwrap();
    let line = "--started-by=schedule gold, due 2026-11-22T01:00:00Z";
    assert!(arguments.lines().any(|word| word == line), "{arguments}");
    assert!(arguments.lines().any(|word| word == "--upload-limit=1234567 B/s"), "{arguments}");
    assert!(!arguments.contains("--download-limit"), "{arguments}");
    assert!(arguments.ends_with("--json\nbackup\nclinic\n"), "{arguments}");
}

#[tokio::test]
async fn exit_codes_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    for (code, outcome, is_transient) in [
        (0, RunOutcome::Passed, false),
        (1, RunOutcome::Failed, false),
        (4, RunOutcome::Failed, false),
        (5, RunOutcome::Incomplete, false),
        (7, RunOutcome::Failed, true),
        (10, RunOutcome::Failed, true),
        (11, RunOutcome::Failed, true),
        (130, RunOutcome::Interrupted, false),
    ] {
        let (_, ended) = run(dir.path(), &format!("exit {code}"), CancellationToken::new()).await;
        let seen = (ended.outcome, ended.is_transient, ended.exit);
        assert_eq!(seen, (outcome, is_transient, Some(code)), "{code}");
        assert_eq!(ended.reason.is_none(), code == 0);
    }
    let (_, ended) = run(dir.path(), "kill -9 $$", CancellationToken::new()).await;
    assert_eq!((ended.outcome, ended.exit, ended.is_transient), (RunOutcome::Failed, None, true));
}

#[tokio::test]
async fn last_words_are_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"echo '{"level":"ERROR","message":"backup of clinic failed","causes":["no answer"],"details":["x"],
"#
    .trim_end()
    .to_owned()
        + r#""safe":null,"hint":"look","next":null,"exit":10,"exit_name":"unavailable"}' | tr -d '\n' >&2; exit 10"#;
    let (_, ended) = run(dir.path(), &script, CancellationToken::new()).await;
    assert_eq!(ended.reason.as_deref(), Some("backup of clinic failed: no answer; look"));
}

#[tokio::test]
async fn cancelled_it_tears_down_first() {
    let dir = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();
    let soon = cancel.clone();
    let begun = dir.path().join("begun");
    let shown = begun.display().to_string();
    tokio::spawn(async move {
        while !begun.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        soon.cancel();
    });
    let torn_down = dir.path().join("torn-down");
    let script = format!(
        "trap 'touch {}; exit 130' INT\ntouch {shown}\nfor _ in $(seq 1200); do sleep 0.05; done",
        torn_down.display()
    );
    let (_, ended) = run(dir.path(), &script, cancel).await;
    assert_eq!((ended.outcome, ended.is_transient), (RunOutcome::Interrupted, false));
    assert!(torn_down.exists());
}

#[tokio::test]
async fn what_outlives_the_run_does_not_hold_it_up() {
    let dir = tempfile::tempdir().unwrap();
    let (_, ended) = run(dir.path(), "sleep 600 & exit 4", CancellationToken::new()).await;
    assert_eq!(ended.exit, Some(4));
}

/// Whoever follows it is gone: a part of the daemon that failed, or one that waits no longer.
#[tokio::test]
async fn a_run_that_nobody_follows_any_more_tears_down_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (begun, torn_down) = (dir.path().join("begun"), dir.path().join("torn-down"));
    let script =
        format!("touch {}\ncat > {}.part; sleep 0.2; touch {}", begun.display(), begun.display(), torn_down.display());
    let appears = async |file: &Path| {
        for _ in 0..500 {
            if file.exists() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    };
    let path = dir.path().to_owned();
    let followed = tokio::spawn(async move { run(&path, &script, CancellationToken::new()).await });
    assert!(appears(&begun).await);
    followed.abort();
    assert!(appears(&torn_down).await, "its teardown was cut off");
}

#[tokio::test]
async fn a_run_lives_as_long_as_it_holds_its_lock() {
    let dir = tempfile::tempdir().unwrap();
    let (runner, how, job) = (program(dir.path(), ""), how(dir.path()), job(Verb::Backup));
    assert!(!runner.is_alive(&job, &how).await);
    let child = crate::cli::Child { alive_file: Some(how.alive_file.clone()), ..Default::default() };
    let alive = crate::child::begin(&child).unwrap();
    assert!(runner.is_alive(&job, &how).await);
    assert_eq!(crate::child::begin(&child).err().unwrap().exit, Exit::Busy);
    drop(alive);
    assert!(!runner.is_alive(&job, &how).await);
}

#[test]
fn reasons_come_from_the_answer_where_nothing_else_was_said() {
    let drill = serde_json::json!({ "checks": [
        { "id": "a", "verdict": { "outcome": "passed" } },
        { "id": "b", "verdict": { "outcome": "not-executed", "why": "no image" } },
        { "id": "c", "verdict": { "outcome": "failed", "why": "2 rows differ" } },
    ]});
    assert_eq!(answered_reason(Some(&drill)).as_deref(), Some("c: 2 rows differ"));
    let backup = serde_json::json!({ "incomplete": ["the filestore has no files"], "failed_commands": [] });
    assert_eq!(answered_reason(Some(&backup)).as_deref(), Some("the filestore has no files"));
    assert_eq!(answered_reason(Some(&serde_json::json!({}))), None);
}

/// Each verb is a command that this program understands.
#[test]
fn every_verb_is_a_command() {
    use clap::Parser as _;
    let verbs = [
        Verb::Backup,
        Verb::Drill { random: false },
        Verb::Drill { random: true },
        Verb::Control { kind: "random".into() },
        Verb::Dump,
        Verb::Scrub { sample: "1%/day".into() },
        Verb::Locks,
        Verb::Signs,
        Verb::Prune,
        Verb::Copy { to: None },
        Verb::Copy { to: Some("offsite".into()) },
        Verb::Audit,
        Verb::Report { period: "month".into(), folder: "/srv/reports".into() },
        Verb::Stream,
    ];
    for verb in verbs {
        let job = job(verb);
        let arguments = argv::arguments(&job, &how(Path::new("/run")));
        let line = std::iter::once("lifeboat".into()).chain(arguments);
        let cli = crate::cli::Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{:?}: {error}", job.verb));
        assert_eq!(cli.global.child.started_by, Some(job.because.to_string()));
        assert!(cli.global.child.until_stdin_closes);
    }
}
