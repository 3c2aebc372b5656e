//! `lifeboat incident`: noted on two hosts over one repository, with a run of a runbook, up to the report; and whether a runbook
//! was rehearsed.

use std::{collections::BTreeMap, fs, sync::Arc};

use jiff::Timestamp;
use lifeboat_engine::keys::read_signing_key;
use lifeboat_evidence::{
    Act, ActPredicate, Predicate, Statement,
    act::{RunbookRun, Stage},
    seal, verify,
};
use lifeboat_model::{check::Outcome, id::RunId};
use lifeboat_runbook::{
    event::{Asked, Ending, Event, Outcome as StepOutcome},
    journal::FileJournal,
    plan::Mode,
};
use serde_json::Value;

use crate::{
    program::{Program, shape},
    repository::add_point,
};

const SINCE: &str = "2026-11-21T10:00:00Z";

fn words<'a>(first: &[&'a str], text: &'a str) -> Vec<&'a str> {
    first.iter().copied().chain([text]).collect()
}

/// A host with a state folder of its own, and the same repository and keys.
pub fn other_host(program: &Program) -> Program {
    let other = Program::new();
    fs::create_dir(other.path("keys")).unwrap();
    for file in ["host.identity", "signing.key"] {
        fs::copy(program.path("keys").join(file), other.path("keys").join(file)).unwrap();
    }
    let place = program.path("repository").display().to_string();
    let text = program.read("lifeboat.toml");
    let path = text.lines().find(|line| line.starts_with("path = ")).unwrap();
    other.write("lifeboat.toml", text.replace(path, &format!("path = \"{place}\"")));
    other
}

/// A run of `total-loss` that belongs to an incident, as its executor would have written it.
fn run_of(program: &Program, incident: &str) {
    let at = |second: i64| Timestamp::from_second(SINCE.parse::<Timestamp>().unwrap().as_second() + second).unwrap();
    let outputs: BTreeMap<String, String> = [
        ("checks".to_owned(), "41".to_owned()),
        ("newest-commit".to_owned(), "2026-11-21T09:59:57.5Z".to_owned()),
        ("rpo-seconds".to_owned(), "2.5".to_owned()),
    ]
    .into();
    let started = |step: &str, attempt| Event::Started { step: step.into(), attempt };
    let ended = |step: &str, attempt, outcome, outputs, why: Option<&str>| Event::Ended {
        step: step.into(),
        attempt,
        outcome,
        outputs,
        why: why.map(str::to_owned),
    };
    let events = [
        (
            600,
            None,
            Event::Begun {
                runbook: "total-loss".into(),
                sha256: "ab".repeat(32),
                mode: Mode::Real,
                parameters: [("instance".to_owned(), "clinic".to_owned())].into(),
                texts: BTreeMap::new(),
                tenant: None,
                instance: Some("clinic".into()),
                incident: Some(incident.into()),
                reference: None,
            },
        ),
        (610, None, started("approve", 1)),
        (
            700,
            Some("boss"),
            Event::Answered {
                step: "approve".into(),
                asked: Asked::Question,
                answer: "yes".into(),
                comment: Some("go <on>".into()),
            },
        ),
        (700, None, ended("approve", 1, StepOutcome::Passed, BTreeMap::new(), None)),
        (700, None, started("verify", 1)),
        (800, None, ended("verify", 1, StepOutcome::Failed, BTreeMap::new(), Some("the registry was not loaded"))),
        (800, None, started("verify", 2)),
        (900, None, ended("verify", 2, StepOutcome::Passed, outputs, None)),
        (901, None, Event::Finished { ending: Ending::Passed, outputs: BTreeMap::new(), why: None }),
    ];
    fs::create_dir_all(program.path("state/runs")).unwrap();
    let path = program.path("state/runs/0707070707070707.jsonl");
    let mut journal = FileJournal::create(&path, "ann@a", Arc::new(Timestamp::now)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (second, who, event) in events {
        runtime.block_on(journal.add_at(at(second), who, event)).unwrap();
    }
}

#[test]
fn from_the_first_word_to_the_report() {
    let program = Program::initialised();
    add_point(&program, "2026-11-21T09:00:00Z");
    assert_eq!(program.run("incident list").expect(0).stdout, "no incident is known\n");
    program.run("incident note nothing").expect(6);
    program.run("incident report").expect(6);
    program.run("incident open x --instance other").expect(6);

    let open = ["incident", "open", "--instance", "clinic", "--at", SINCE, "--json"];
    let opened = program.run_with(&words(&open, "the host is <gone>"), &[]).expect(0).json();
    insta::assert_snapshot!("incident-json", shape(&opened));
    let id = opened["incident"].as_str().unwrap().to_owned();
    assert_eq!((&opened["since"], &opened["closed"]), (&Value::from(SINCE), &Value::Null));
    let evidence = opened["evidence"].as_str().unwrap();
    assert!(evidence.contains("-incident-"), "{evidence}");

    let other = other_host(&program);
    other.run_with(&["incident", "note", "ben is at the console"], &[]).expect(0);
    let shown = program.run("incident show").expect(0).stdout;
    assert!(shown.contains("OPEN") && shown.contains("ben is at the console"), "{shown}");
    insta::assert_snapshot!("incident-list-json", shape(&other.run("incident list --json").expect(0).json()));
    run_of(&program, &id);
    program.run_with(&["incident", "close", "all work again"], &[]).expect(0);
    let late = other.run_with(&["incident", "note", "late", "--incident", &id[..4]], &[]).expect(2);
    assert!(late.stderr.contains("was closed"), "{}", late.stderr);

    let told = program.run("incident report --json").expect(0).json();
    insta::assert_snapshot!("incident-report-json", shape(&told));
    assert_eq!((&told["recovery_seconds"], &told["rpo_seconds"]), (&900.0.into(), &2.5.into()));
    let text = program.run("incident report").expect(0).stdout;
    for wanted in [
        "**Time to recovery**: 15m",
        "**Lost work (RPO)**: 2",
        "ben is at the console",
        "the registry was not loaded",
        "| boss | approve (0707070707070707) | decided | yes | go \\<on\\> |",
        "What went well?",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is not in {text}");
    }
    program.run("incident report --out report.html").expect(0);
    let html = program.read("report.html");
    assert!(html.contains("the host is &lt;gone&gt;") && !html.contains("<gone>") && html.contains("</html>"));
    let verified = program.run("evidence verify").expect(0).stdout;
    assert!(verified.contains("incident"), "{verified}");

    // An auditor has the journals too, and offline.
    program.run("evidence export --to exported").expect(0);
    let public = read_signing_key(&program.path("keys/signing.key")).unwrap().public();
    let audited =
        |code| program.run_with(&["evidence", "verify", "exported", "--key", &public.to_string()], &[]).expect(code);
    audited(0);
    let line = program.path(&format!("exported/journals/incidents/{id}/00000003.json"));
    let text = fs::read_to_string(&line).unwrap();
    fs::write(&line, text.replace("all work", "none works")).unwrap();
    assert!(audited(4).stdout.contains("are not those that were signed for"));
    fs::remove_file(&line).unwrap();
    assert!(audited(5).stdout.contains("had 3 lines then, and 2 are there"));
    fs::remove_dir_all(program.path("exported/journals")).unwrap();
    assert!(audited(0).stdout.contains("not executed: whether the journals of runs and incidents"));

    // Whoever changes what was noted is found out, and so is a line that has gone.
    let line = program.path(&format!("repository/hospital/_journals/incidents/{id}/00000002.json"));
    let text = fs::read_to_string(&line).unwrap();
    fs::remove_file(&line).unwrap();
    fs::write(&line, text.replace("ben is at", "ben was not at")).unwrap();
    let verified = program.run("evidence verify").expect(4).stdout;
    assert!(verified.contains("are not those that were signed for"), "{verified}");
    fs::remove_file(&line).unwrap();
    let verified = program.run("evidence verify").expect(5).stdout;
    assert!(verified.contains("had 3 lines then, and 1 are there"), "{verified}");
}

/// While the primary was away it went on in the copy: what is signed for is there, and the primary lacks nothing that nobody has.
#[test]
fn lines_that_lie_in_a_copy_are_not_missing() {
    let program = Program::initialised();
    add_point(&program, "2026-11-21T09:00:00Z");
    let places = "[[repository]]\nname = \"main\"\nrole = \"primary\"\npath = \"repository\"\n\n\
                  [[repository]]\nname = \"offsite\"\nrole = \"copy\"\npath = \"offsite\"\n";
    program.edit("[repository]\npath = \"repository\"\n", places);
    program.run_with(&["incident", "open", "it went on"], &[]).expect(0);
    program.run_with(&["incident", "close", "in the copy"], &[]).expect(0);
    program.run("copy clinic --to offsite").expect(0);
    let folder = program.path("repository/hospital/_journals/incidents");
    let id = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().file_name();
    fs::remove_file(folder.join(&id).join("00000002.json")).unwrap();
    let verified = program.run("evidence verify").stdout;
    assert!(!verified.contains("lines then"), "{verified}");
    // Of which the copy has another beginning, that is no answer.
    let line = program.path("offsite/hospital/_journals/incidents").join(&id).join("00000001.json");
    let text = fs::read_to_string(&line).unwrap();
    fs::remove_file(&line).unwrap();
    fs::write(&line, text.replace("it went on", "it went off")).unwrap();
    let verified = program.run("evidence verify").stdout;
    assert!(verified.contains("had 2 lines then, and 1 are there"), "{verified}");
}

#[test]
fn no_repository_stops_nobody() {
    let program = Program::initialised();
    let opened = program.run_with(&["incident", "open", "no network"], &[]).expect(0);
    assert!(opened.stderr.contains("others do not see it"), "{}", opened.stderr);
    program.run_with(&["incident", "note", "noted alone"], &[]).expect(0);
    // As soon as there is one, others see it.
    add_point(&program, "2026-11-21T09:00:00Z");
    program.run("incident list").expect(0);
    let shown = other_host(&program).run("incident show").expect(0).stdout;
    assert!(shown.contains("noted alone"), "{shown}");
}

/// A practised runbook is called so until a letter of it is changed.
#[test]
fn an_edited_runbook_is_unrehearsed() {
    let program = Program::initialised();
    let book = "# Notes\n\n```toml\n[runbook]\nid = \"notes\"\nsummary = \"x\"\nroles = [\"operator\"]\n```\n\n## Look\n\n```toml\naction = \"manual\"\n\
                role = \"operator\"\nlook_for = \"light\"\ntouches = []\n```\n";
    program.write("runbooks/notes.md", book);
    let list = || program.run("runbook list").expect(0).stdout;
    assert!(list().contains("is not known: "), "{}", list());
    add_point(&program, "2026-11-21T09:00:00Z");
    program.run("repo check --json").expect(0);
    assert!(list().contains("UNREHEARSED: never practised"), "{}", list());
    let listed = program.run("runbook list --json").expect(0).json();
    let sha256 = listed["runbooks"][0]["sha256"].as_str().unwrap().to_owned();
    let day = practised(&program, &sha256);
    assert!(list().contains("rehearsed "), "{}", list());
    let listed = program.run("runbook list --json").expect(0).json();
    assert_eq!(listed["runbooks"][0]["rehearsed"]["state"], "rehearsed", "{listed:#}");
    assert!(program.run("runbook show notes").expect(0).stdout.contains("rehearsed "));
    program.write("runbooks/notes.md", book.replace("light", "the light"));
    assert!(list().contains(&format!("UNREHEARSED: edited since {day}")), "{}", list());
    assert!(program.run("runbook show notes").expect(0).stdout.contains("UNREHEARSED"));
}

/// The statement of a practice run that passed; the day of it.
fn practised(program: &Program, sha256: &str) -> String {
    let listed = program.run("evidence list --json").expect(0).json();
    let name = listed["statements"][0]["key"].as_str().unwrap().to_owned();
    let key = read_signing_key(&program.path("keys/signing.key")).unwrap();
    let envelope = fs::read(program.path("repository").join(name)).unwrap();
    let Predicate::Act(act) = verify(&envelope, &[key.public()]).unwrap().statement.predicate else { panic!("an act") };
    let run = RunbookRun {
        run: RunId([7; 8]),
        runbook: "notes".into(),
        runbook_sha256: sha256.parse().unwrap(),
        texts_sha256: None,
        mode: "practice".into(),
        parameters: BTreeMap::new(),
        incident: None,
        begun: act.started,
        stage: Stage::Over,
        ending: Some("passed".into()),
        failed: Vec::new(),
        not_practised: Vec::new(),
        steps_passed: None,
        lines: 4,
        head: sha256.parse().unwrap(),
    };
    let (run, outcome) = (Act::Runbook(run), Outcome::Passed);
    let statement = Statement::act(ActPredicate { run: RunId([9; 8]), instance: None, outcome, act: run, ..*act });
    let name = statement.storage_key().unwrap().to_string();
    fs::write(program.path("repository").join(name), seal(&statement, &key)).unwrap();
    act.started.strftime("%Y-%m-%d").to_string()
}
