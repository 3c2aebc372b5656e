//! What is kept and what goes: prune, holds, proofs. In a directory, which locks nothing and says so.

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    program::{Program, shape},
    repository::add_point,
};

const TIER: &str = "[tiers.standard]\nrpo = \"24h\"\nrto = \"4h\"\n";

/// Three points: the first of its day, the second of it, and a newer one. `keep` is the tier's retention.
fn with_points(keep: &str) -> (Program, [String; 3]) {
    let program = Program::initialised();
    program.edit(TIER, &format!("{TIER}{keep}"));
    let points = ["2026-01-02T10:00:00Z", "2026-01-02T11:00:00Z", "2026-03-01T10:00:00Z"];
    let points = points.map(|time| add_point(&program, time));
    age(&program.path("repository"));
    (program, points)
}

/// Nothing is removed from a directory before it is an hour old.
fn age(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => age(&path),
            false => {
                let before = SystemTime::now() - Duration::from_secs(2 * 3600);
                File::open(path).unwrap().set_modified(before).unwrap();
            }
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(names(&path)) } else { found.push(path.display().to_string()) }
    }
    found.sort();
    found
}

fn point_ids(program: &Program) -> Vec<String> {
    let listed = program.run("points list clinic --json").expect(0).json();
    listed["points"].as_array().unwrap().iter().map(|point| point["point"].as_str().unwrap().to_owned()).collect()
}

const DAILY: &str = "[tiers.standard.retention]\ndaily = 10000\n";

#[test]
fn prune_shows_first_and_then_removes_what_nothing_keeps() {
    let (program, [first, second, newest]) = with_points(DAILY);
    let before = names(&program.path("repository"));
    let planned = program.run("prune --dry-run --objects --json").expect(0).json();
    insta::assert_snapshot!("prune-json", shape(&planned));
    assert_eq!(names(&program.path("repository")), before, "a dry run changes nothing");
    let points = planned["instances"][0]["points"].as_array().unwrap().clone();
    let keeps: Vec<bool> = points.iter().map(|point| point["keep"].as_bool().unwrap()).collect();
    assert_eq!(keeps, [true, false, true], "{planned:#}");
    let text = program.run("prune clinic --dry-run").expect(0).stdout;
    assert!(text.contains("no reason to keep it") && text.contains("would be freed"), "{text}");
    assert!(text.contains("Nothing was changed.") && text.contains("new each month, if it goes on"), "{text}");

    let done = program.run("prune --json").expect(0).json();
    let row = &done["instances"][0];
    assert_eq!(row["freed_bytes"], planned["instances"][0]["freed_bytes"]);
    assert!(row["freed_bytes"].as_u64() > Some(0) && row["evidence"].is_string(), "{done:#}");
    assert_eq!(point_ids(&program), [first, newest]);
    assert!(!names(&program.path("repository")).join(" ").contains(&second));
    program.run("verify").expect(0);
    let again = program.run("prune --json").expect(0).json();
    assert_eq!(again["instances"][0]["removed_objects"], 0, "twice changes nothing");
    let evidence = program.run("evidence list --kind prune --json").expect(0).json();
    assert_eq!(evidence["statements"].as_array().unwrap().len(), 2, "{evidence:#}");
}

#[test]
fn prune_says_why_something_waits() {
    let program = Program::initialised();
    program.edit(TIER, &format!("{TIER}{DAILY}"));
    for time in ["2026-01-02T10:00:00Z", "2026-01-02T11:00:00Z", "2026-03-01T10:00:00Z"] {
        add_point(&program, time);
    }
    let row = program.run("prune --dry-run --json").expect(0).json()["instances"][0].clone();
    let why = "nothing locks it, and it is not an hour old";
    assert_eq!(
        (row["waiting"].as_array().unwrap().len(), &row["waiting"][0]["why"]),
        (1, &Value::from(why)),
        "{row:#}"
    );
    let objects = row["waiting_objects"].as_u64().unwrap();
    assert!(objects > 0 && row["waiting"][0]["objects"] == objects, "{row:#}");
    let text = program.run("prune --dry-run").expect(0).stdout;
    let line = text.lines().find(|line| line.trim_start().starts_with("waits")).unwrap();
    assert!(line.contains(&format!(" in {objects} object")) && line.ends_with(why), "{text}");
}

#[test]
fn without_retention_prune_leaves_everything() {
    let (program, points) = with_points("");
    let text = program.run("prune").expect(0).stdout;
    assert!(text.contains("left alone: its tier has no retention section"), "{text}");
    assert_eq!(point_ids(&program), points);
    program.run("prune nobody").expect(6);
}

#[test]
fn a_held_point_stays_until_it_is_released() {
    let (program, [first, second, newest]) = with_points(DAILY);
    let hold =
        |verb: &str, point: &str| program.run_with(&["points", verb, point, "--reason", "case 12/2026", "--json"], &[]);
    let held = hold("hold", &second[..6]).expect(0).json();
    insta::assert_snapshot!("points-hold-json", shape(&held));
    assert_eq!((&held["point"], &held["in_store"]), (&Value::from(second.clone()), &Value::from(false)));
    let listed = program.run("points list clinic").expect(0).stdout;
    assert!(listed.contains("further notice") && listed.contains("held"), "{listed}");
    program.run("prune").expect(0);
    assert_eq!(point_ids(&program), [&first, &second, &newest].map(String::clone));
    let run = held["evidence"].as_str().unwrap().split('/').next_back().unwrap().to_owned();
    let shown = program.run(&format!("evidence show {run}")).expect(0).stdout;
    assert!(shown.contains("case 12/2026") && shown.contains("by this record alone"), "{shown}");

    std::thread::sleep(Duration::from_millis(1100)); // names of evidence have whole seconds; what counts is finer
    let text = program.run_with(&["points", "release", &second, "--reason", "closed"], &[]).expect(0).stdout;
    assert!(text.contains("released:"), "{text}");
    hold("release", &second).expect(6);
    program.run("prune").expect(0);
    assert_eq!(point_ids(&program), [first, newest]);

    program.run_with(&["points", "hold", "latest", "--reason", "x"], &[]).expect(2);
    program.run("points hold 0000000000000000").expect(2);
    hold("hold", "0000000000000000").expect(6);
    let elsewhere = ["points", "hold", &point_ids(&program)[0], "--instance", "nobody", "--reason", "x"];
    program.run_with(&elsewhere, &[]).expect(6);
}

#[test]
fn proofs_say_what_they_saw_and_what_they_did_not_look_at() {
    let (program, _) = with_points("");
    let unlocked = program.run("verify --locks").expect(5).stdout;
    assert!(unlocked.contains("locks not looked at: its tier has no lock"), "{unlocked}");
    let sound = program.run("verify --signs --sample 100%/day --json").expect(0).json();
    insta::assert_snapshot!("verify-proof-json", shape(&sound));
    assert!(sound["instances"][0]["sample"]["objects"].as_u64() > Some(0), "{sound:#}");
    let text = program.run("verify clinic --signs").expect(0).stdout;
    assert!(text.contains("no sign of an attack"), "{text}");

    program.write("repository/hospital/clinic/packs/ab/not-ours.exe", "x");
    let signs = program.run("verify --signs").expect(4).stdout;
    assert!(signs.contains("SIGNS OF AN ATTACK") && signs.contains("not-ours.exe"), "{signs}");
    for wrong in ["verify --sample 1%", "verify --locks --quick", "verify --sample 0%/day"] {
        program.run(wrong).expect(2);
    }
    program.run("verify nobody --signs").expect(6);
}

#[test]
fn a_sample_finds_what_rotted() {
    let (program, _) = with_points("");
    let pack = names(&program.path("repository/hospital/clinic/packs")).remove(0);
    let mut bytes = fs::read(&pack).unwrap();
    bytes[100] ^= 1;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    let text = program.run("verify --sample 100%/day").expect(4).stdout;
    let name = pack.rsplit('/').next().unwrap();
    assert!(text.contains("DAMAGED") && text.contains(name) && text.contains("needed by"), "{text}");
}

#[test]
fn nothing_is_called_locked_that_is_not() {
    let (program, [first, ..]) = with_points(DAILY);
    let status = program.run("status").expect(5).stdout;
    assert!(
        status.contains("clinic: not locked: its tier has no lock") && status.contains("not immutable"),
        "{status}"
    );
    let shown = program.run(&format!("points show clinic {first} --objects")).expect(0).stdout;
    assert!(shown.contains("not when it was made") && shown.contains("not locked"), "{shown}");
    assert!(shown.contains("(daily)"), "{shown}");
    // A tier that demands locks of a directory is refused at once.
    program.edit(TIER, &format!("{TIER}[tiers.standard.lock]\nmode = \"compliance\"\nminimum = \"1d\"\n"));
    for verb in ["backup clinic", "status", "prune", "wal stream clinic"] {
        let refused = program.run(verb).expect(3);
        assert!(refused.stderr.contains("a directory is not immutable"), "{verb}: {}", refused.stderr);
    }
}
