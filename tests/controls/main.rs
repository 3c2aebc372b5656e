//! Negative controls, run as a person would: `lifeboat drill clinic --sabotage all` against a live Odoo with a backup, an
//! archived log, a filestore and addons. Every kind of damage has to be found by exactly the right checks, and the table in
//! `docs/controls.md` has to say what was found.
//! Needs the testbed (`LIFEBOAT_TESTBED=1`, set by `make test`). With `LIFEBOAT_UPDATE_DOCS=1` the table is written anew.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "../support/mod.rs"]
mod support;
mod table;

use std::{fs, process::Command};

use lifeboat_testkit::testbed;
use serde_json::Value;
use support::{Settings, Site, text};

/// A site with everything that the kinds damage: a point, and log behind it that the point alone does not hold.
fn site() -> Site {
    let site = Site::new(&Settings::default());
    site.succeed(&["wal", "stream", "clinic", "--once"]);
    let backup = site.json(&["backup", "clinic"]);
    assert_eq!(backup["witness_exact"], true, "{backup:#}");
    site.succeed(&["wal", "stream", "clinic", "--once"]);
    site
}

fn drill(site: &Site, more: &[&str]) -> (i32, Value) {
    let identity = site.identity();
    let mut arguments = vec!["drill", "clinic", "--identity", identity.to_str().unwrap(), "--json"];
    arguments.extend(more);
    let output = site.run(&arguments);
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    (output.status.code().unwrap(), answer)
}

fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().unwrap_or_else(|| panic!("no list {name} in {answer:#}"))
}

fn files_below(folder: &std::path::Path) -> usize {
    fs::read_dir(folder).map_or(0, |entries| entries.count())
}

/// Other drills may run on this machine: only this one's things are looked for.
fn nothing_left(run: &str) {
    let label = format!("label=lifeboat.drill={run}");
    for kind in ["container", "network", "volume"] {
        let all: &[&str] = if kind == "container" { &["-a"] } else { &[] };
        let output = Command::new("docker").args([kind, "ls", "-q"]).args(all).args(["--filter", &label]).output();
        assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), "", "{kind} left behind");
    }
}

#[test]
fn every_kind_of_damage_is_found_by_the_right_checks() {
    if !testbed::enabled() {
        return;
    }
    let site = site();
    let (code, answer) = drill(&site, &["--sabotage", "all"]);
    let controls = list(&answer, "controls");
    for control in controls {
        assert_eq!(control["outcome"], "passed", "{control:#}");
        assert!(control["damage"].is_string() && control["torn_down"] == true, "{control:#}");
        let failed: Vec<&Value> = list(control, "failed").iter().map(|check| &check["id"]).collect();
        assert_eq!(failed, list(control, "expected").iter().collect::<Vec<_>>(), "{control:#}");
        nothing_left(control["run"].as_str().unwrap());
    }
    assert_eq!((code, answer["outcome"].as_str(), controls.len()), (0, Some("passed"), 15), "{answer:#}");
    table::compare(controls);
    assert_eq!(files_below(&site.dir.path().join("state/drills")), 0, "no plaintext is left");

    statements(&site, controls);
    again(&site, &answer);
}

/// A statement each, which verifies and says that it is a control; and none of them is taken for a rehearsal.
fn statements(site: &Site, controls: &[Value]) {
    site.succeed(&["evidence", "verify"]);
    let listed = site.json(&["evidence", "list", "clinic", "--kind", "drill", "--limit", "0"]);
    let listed = list(&listed, "statements");
    assert_eq!(listed.len(), controls.len());
    for control in controls {
        let (run, kind) = (control["run"].as_str().unwrap(), control["kind"].as_str().unwrap());
        let row = listed.iter().find(|row| row["run"] == run).unwrap_or_else(|| panic!("no statement of {run}"));
        assert!(row["verified"] == true && row["sabotage"].as_str().unwrap().starts_with(kind), "{row:#}");
        assert_eq!(row["control"], "passed", "{row:#}");
        let shown = site.json(&["evidence", "show", run]);
        let statement = &shown["statement"]["predicate"]["control"];
        assert_eq!((&statement["kind"], &statement["outcome"]), (&control["kind"], &"passed".into()), "{statement:#}");
        assert_eq!((&statement["expected"], &statement["failed"]), (&control["expected"], &control["expected"]));
        // What was damaged names the inside of the backup, and stays here.
        let damage = control["damage"].as_str().unwrap();
        assert!(!shown.to_string().contains(damage), "{damage}");
        let people = site.succeed(&["evidence", "show", run]);
        assert!(people.contains("NEGATIVE CONTROL") && people.contains(kind), "{people}");
    }
    // An instance that was never rehearsed is at risk, so it does not end with 0.
    let status: Value = serde_json::from_slice(&site.run(&["status", "--json"]).stdout).unwrap();
    assert!(status["instances"][0]["drill"].is_null(), "no control is a rehearsal: {status:#}");
    let points = site.json(&["points", "list", "clinic"]).to_string();
    assert!(!points.contains("last-passed") && !points.contains("drilled"), "{points}");
}

/// The same seed damages the same.
fn again(site: &Site, answer: &Value) {
    let kind = "deleted-attachment";
    let (code, repeated) = drill(site, &["--sabotage", kind, "--seed", answer["seed"].as_str().unwrap()]);
    let first = list(answer, "controls").iter().find(|control| control["kind"] == kind).unwrap();
    let second = &list(&repeated, "controls")[0];
    assert_eq!((code, &second["damage"]), (0, &first["damage"]), "{repeated:#}");
}

#[test]
fn damage_that_cannot_be_done_is_not_executed() {
    if !testbed::enabled() {
        return;
    }
    // Nothing of the addons is configured for drills, so none can go missing.
    let site = Site::new(&Settings { addons: None, ..Settings::default() });
    site.succeed(&["backup", "clinic"]);
    let (code, answer) = drill(&site, &["--sabotage", "missing-addon"]);
    let control = &list(&answer, "controls")[0];
    assert_eq!((code, answer["outcome"].as_str()), (5, Some("incomplete")), "{answer:#}");
    assert!(control["damage"].is_null(), "{control:#}");
    let why = control["why"].as_str().unwrap();
    assert!(why.contains("no installed module"), "{why}");
    assert!(control["evidence"].is_string(), "that it was not executed is kept as well");
    nothing_left(control["run"].as_str().unwrap());
}
