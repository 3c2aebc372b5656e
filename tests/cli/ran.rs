//! `lifeboat runbook run`, `resume`, `abort`: real programs as steps, an executor that is killed wherever it stands.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{incident::other_host, program::Program, repository::add_point};

/// Longer than any step here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two steps that leave a line each and can tell whether they did, one for which twice is as once, one that is asked about.
/// Each sleeps before and after its effect, so that a kill can come on both sides of it.
const RUNBOOK: &str = r#"# Move

```toml
[runbook]
id = "move"
summary = "Something is to be moved"
roles = ["lead"]
rto = "1h"

[parameters.folder]
kind = "path"
description = "Where"
```

## 1. First

```toml
action = "command"
run = ["{{folder}}/effect", "first"]
done_when = ["grep", "-q", "first", "{{folder}}/effects"]
touches = ["the folder"]
undo = { action = "command", run = ["{{folder}}/effect", "undo-first"], repeatable = true }
```

## 2. Approve

```toml
action = "approve"
role = "lead"
question = "Go on in {{folder}}?"
people = 2
```

## 3. Second

```toml
action = "command"
run = ["{{folder}}/effect", "second"]
done_when = ["grep", "-q", "second", "{{folder}}/effects"]
touches = ["the folder"]
environment_files = { TOKEN = "{{folder}}/token" }
```

## 4. State

```toml
action = "command"
run = ["touch", "{{folder}}/state"]
repeatable = true
touches = ["the folder"]
```

## 5. Look

```toml
action = "command"
run = ["cat", "{{folder}}/effects"]
effect = "nothing"
repeatable = true
contains = "second"
```
"#;

/// Leaves a line once the file `go` is there for it; tells a secret, which nobody may write down.
const EFFECT: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo "$1" >> begun
sleep 0.15
echo "$1" >> effects
echo "the token is $TOKEN"
sleep 0.15
"#;

/// The same, but the second step does not come to its end behind its effect, unless this is so.
fn hanging(unless: &str) -> String {
    let hangs = EFFECT.replace("echo \"the", &format!("[ \"$1\" != second ] || {unless} sleep 600\necho \"the"));
    assert!(hangs.contains("sleep 600"));
    hangs
}

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { folder };
        fs::write(place.at("move.md"), RUNBOOK).unwrap();
        fs::write(place.at("effect"), EFFECT).unwrap();
        fs::write(place.at("token"), "s3cret-of-the-step\n").unwrap();
        for (name, mode) in [("effect", "755"), ("token", "600")] {
            assert!(Command::new("chmod").arg(mode).arg(place.at(name)).status().unwrap().success());
        }
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(["runbook"]).args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_remove("LIFEBOAT_CONFIG").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The words of a whole run, with everything answered.
    fn all<'a>(&self, folder: &'a str) -> Vec<&'a str> {
        vec!["run", "move.md", "--set", folder, "--yes", "--answer", "approve=yes@ann", "--answer", "approve=yes@bob"]
    }

    fn setting(&self) -> String {
        format!("folder={}", self.folder.path().display())
    }

    fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.at(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// The journal of the only run.
    fn journal(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(self.at("lifeboat-runs")).ok()?;
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|end| end == "jsonl"))
    }

    fn journal_lines(&self) -> Vec<Value> {
        let Some(path) = self.journal() else { return Vec::new() };
        let text = fs::read_to_string(path).unwrap();
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn text(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}\n{err}", output.status)
}

#[track_caller]
fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "no {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_run_goes_through_and_its_journal_tells_all_but_secrets() {
    let place = Place::new();
    let setting = place.setting();
    let refused = place.run(&["run", "move.md", "--set", &setting]);
    assert_eq!(refused.status.code(), Some(2), "nobody has agreed: {}", text(&refused));
    assert!(place.journal().is_none() && place.lines("begun").is_empty(), "and nothing was done");

    let ran = place.run(&[&place.all(&setting)[..], &["--json"]].concat());
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran));
    assert_eq!(place.lines("effects"), ["first", "second"]);
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&told["stand"], &told["within_rto"]), (&"passed".into(), &true.into()), "{told}");
    let steps: Vec<&str> = told["steps"].as_array().unwrap().iter().map(|step| step["id"].as_str().unwrap()).collect();
    assert_eq!(steps, ["first", "approve", "second", "state", "look"]);
    let journal = fs::read_to_string(place.journal().unwrap()).unwrap();
    assert!(journal.contains("the token is ***"), "{journal}");
    for said in [&journal, &text(&ran)] {
        assert!(!said.contains("s3cret-of-the-step"), "{said}");
    }
    for who in ["ann (at ", "bob (at "] {
        assert!(journal.contains(who), "{journal}");
    }
    let again = place.run(&["resume", "latest"]);
    assert!(again.status.code() == Some(6) && text(&again).contains("is over"), "{}", text(&again));
    assert_eq!(place.lines("begun"), ["first", "second"], "what is over is not begun again");
}

#[test]
fn one_person_is_not_two_and_a_run_waits_for_the_other() {
    let place = Place::new();
    let setting = place.setting();
    let answers = ["--answer", "approve=yes@ann", "--answer", "approve=yes@ann"];
    let ran = place.run(&[&["run", "move.md", "--set", &setting, "--yes"][..], &answers].concat());
    assert_eq!(ran.status.code(), Some(5), "{}", text(&ran));
    assert_eq!(place.lines("effects"), ["first"]);
    let ran = place.run(&["resume", "latest", "--answer", "approve=yes@bob"]);
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran));
    assert_eq!(place.lines("effects"), ["first", "second"]);
}

/// When an executor is killed.
enum Moment {
    /// Behind so many lines of the journal.
    Line(usize),
    /// Once this word stands in this file.
    Wrote(&'static str, &'static str),
}

impl Moment {
    fn is_come(&self, place: &Place) -> bool {
        match self {
            Moment::Line(count) => place.journal_lines().len() >= *count,
            Moment::Wrote(file, word) => place.lines(file).iter().any(|line| line == word),
        }
    }
}

/// Killed behind every line of the journal, and in the middle of each step before and after its effect: what is resumed ends in the
/// same state, and no effect is there twice.
#[test]
fn killed_anywhere_a_run_goes_on_and_does_nothing_twice() {
    let whole = Place::new();
    let setting = whole.setting();
    assert!(whole.run(&whole.all(&setting)).status.success());
    let lines = whole.journal_lines().len();
    let in_steps = ["begun", "effects"].map(|file| ["first", "second"].map(|word| Moment::Wrote(file, word)));
    let moments: Vec<Moment> = (1..lines).map(Moment::Line).chain(in_steps.into_iter().flatten()).collect();
    let mut cut_off = 0;
    for (index, moment) in moments.iter().enumerate() {
        let place = Place::new();
        let setting = place.setting();
        let mut child = place.command(&place.all(&setting)).spawn().unwrap();
        wait("moment", || moment.is_come(&place) || child.try_wait().unwrap().is_some());
        kill(child);
        cut_off += usize::from(place.journal_lines().last().is_some_and(|line| line["event"] != "finished"));
        let resumed = place.run(&["resume", "latest", "--answer", "approve=yes@ann", "--answer", "approve=yes@bob"]);
        let is_over = text(&resumed).contains("is over");
        assert!(is_over || resumed.status.success(), "moment {index}: {}", text(&resumed));
        assert_eq!(place.lines("effects"), ["first", "second"], "moment {index}: {:#?}", place.journal_lines());
        assert!(place.at("state").exists(), "moment {index}");
        assert_eq!(place.journal_lines().last().unwrap()["ending"], "passed", "moment {index}");
    }
    assert!(cut_off > lines / 2, "of {} kills only {cut_off} came before the end", moments.len());
}

/// Called off from another terminal while a step runs: whoever executes it takes back what was done.
#[test]
fn a_run_is_called_off_from_elsewhere_and_takes_back_what_was_done() {
    let place = Place::new();
    fs::write(place.at("effect"), hanging("")).unwrap();
    let setting = place.setting();
    let mut child = place.command(&[&place.all(&setting)[..], &["--json"]].concat()).spawn().unwrap();
    wait("second step", || place.lines("effects").len() == 2);
    let busy = place.run(&["resume", "latest"]);
    assert!(busy.status.code() == Some(7), "{}", text(&busy));
    let aborted = place.run(&["abort", "latest", "--why", "wrong host", "--json"]);
    assert_eq!(aborted.status.code(), Some(1), "{}", text(&aborted));
    let told: Value = serde_json::from_slice(&aborted.stdout).unwrap();
    assert_eq!(told["stand"], "rolled back", "{told}");
    assert_eq!(told["why"], "tried and not taken back: second", "{told}");
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["stand"], "rolled back", "{out}");
    assert_eq!(place.lines("effects"), ["first", "second", "undo-first"], "the step that was cut off has no undo");
    let line = place.journal_lines().into_iter().find(|line| line["event"] == "aborted").unwrap();
    assert_eq!(line["why"], "wrong host");
    assert!(!is_running(place.folder.path()), "what the step had started is gone");
}

/// Another person on another host goes on with a run whose host is still at it: that one stops in the middle of its step and says who
/// went on; what it had begun is over before the step is begun again.
#[test]
fn a_run_is_taken_over_by_another_host_through_the_repository() {
    let place = Place::new();
    // Two hosts with the same keys over one repository, each with a state of its own.
    let program = Program::initialised();
    add_point(&program, "2026-11-21T09:00:00Z");
    let other = other_host(&program);
    let (here, there) = (program.path(""), other.path(""));
    let lifeboat = |at: &Path, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(arguments).current_dir(at).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    fs::write(place.at("effect"), hanging("[ -e again ] ||")).unwrap();

    let (runbook, setting) = (place.at("move.md"), place.setting());
    let mut begin = vec!["runbook", "run", runbook.to_str().unwrap(), "--set", &setting, "--yes"];
    let answers = ["--answer", "approve=yes@ann", "--answer", "approve=yes@bob"];
    begin.extend(answers);
    let first = lifeboat(&here, &begin).spawn().unwrap();
    wait("second step", || place.lines("effects").len() == 2);
    let run = fs::read_dir(here.join("state/runs"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().path().file_stem().map(|name| name.to_string_lossy().into_owned()))
        .next()
        .unwrap();
    let mut refused = String::new();
    let begun = Instant::now();
    while !refused.contains("--take-over") {
        assert!(begun.elapsed() < PATIENCE, "no journal in the repository: {refused}");
        let output = lifeboat(&there, &["runbook", "resume", &run]).output().unwrap();
        assert!(!output.status.success(), "{}", text(&output));
        refused = text(&output);
    }
    fs::write(place.at("again"), "").unwrap();
    let resumed = lifeboat(&there, &["runbook", "resume", &run, "--take-over", "--json"]).output().unwrap();
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed));
    let first = first.wait_with_output().unwrap();
    assert!(!first.status.success() && text(&first).contains("taken over"), "{}", text(&first));
    assert_eq!(place.lines("effects"), ["first", "second"], "done_when was asked: {}", text(&resumed));
    let told: Value = serde_json::from_slice(&resumed.stdout).unwrap();
    assert_eq!(told["stand"], "passed", "{told}");
    let journal = fs::read_to_string(there.join(format!("state/runs/{run}.jsonl"))).unwrap();
    let begun: Value = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
    assert_eq!(begun["tenant"], "hospital", "daemons of several tenants ask whose it is: {begun}");
    assert!(!is_running(place.folder.path()), "what the first had begun is over");
    let listed = lifeboat(&there, &["evidence", "list", "--kind", "runbook", "--json"]).output().unwrap();
    assert!(listed.status.success(), "{}", text(&listed));
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert!(listed["statements"].as_array().unwrap().len() >= 3, "begun, taken up, over: {listed:#}");
    let verified = lifeboat(&there, &["evidence", "verify"]).output().unwrap();
    assert!(verified.status.success(), "{}", text(&verified));
}

/// Whether a program of this folder runs.
fn is_running(folder: &Path) -> bool {
    let folder = folder.display().to_string();
    let is_it = |entry: fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("{folder}/effect"))
    };
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(is_it)
}
