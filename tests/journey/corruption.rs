//! Somebody ruins data at a known time while others go on working: the shipped runbook finds when, says what going back loses, and
//! goes back to just before, on volumes beside the old ones. Only later work is lost.

use std::{
    fs,
    process::{Command, Output},
    time::Duration,
};

use jiff::Timestamp;
use lifeboat_testkit::testbed;
use serde_json::Value;

use crate::{
    production::{Machine, Writer, copy_runbooks, docker, production_that_is_used, until},
    support::{Site, text},
};

/// What tells good from bad: nobody writes a number below zero.
const CHECK: &str = "SELECT count(*) FROM on_call WHERE id < 0";

/// The server's clock.
fn now(machine: &Machine) -> Timestamp {
    let micros = machine.psql("demo", "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").unwrap();
    Timestamp::from_microsecond(micros.parse().unwrap()).unwrap()
}

/// What was acknowledged before, and the times between which data was ruined.
struct Planted {
    acknowledged: i64,
    before: Timestamp,
    after: Timestamp,
}

fn plant(machine: &Machine, writer: &Writer) -> Planted {
    until("rows", || writer.last() > 100);
    let acknowledged = writer.last();
    let before = now(machine);
    machine.psql("demo", "UPDATE on_call SET id = -id WHERE id % 4 = 0").unwrap();
    let after = now(machine);
    Planted { acknowledged, before, after }
}

/// Until the log is held past this moment.
fn held(site: &Site, past: Timestamp) {
    until("log that is held", || {
        let windows = site.json(&["points", "windows", "clinic"]);
        let reaches = windows["instances"][0]["windows"].as_array().unwrap().iter();
        reaches.map(|window| window["to"]["time"].as_str().unwrap().parse::<Timestamp>().unwrap()).any(|to| to > past)
    });
}

/// Runs the runbook, or goes on with it.
fn runbook(site: &Site, words: &[&str], settings: &[(&str, String)], answers: &[&str]) -> (i32, Value) {
    let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut arguments = [&["runbook"], words, &["--json"]].concat();
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    answers.iter().for_each(|answer| arguments.extend(["--answer", answer]));
    let output: Output = site.run(&arguments);
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    (output.status.code().unwrap(), answer)
}

fn is_running(container: &str) -> bool {
    docker(&["inspect", "--format", "{{.State.Running}}", container]).trim() == "true"
}

fn step<'a>(run: &'a Value, id: &str) -> &'a Value {
    run["steps"].as_array().unwrap().iter().find(|step| step["id"] == id).unwrap_or_else(|| panic!("{id}: {run:#}"))
}

#[test]
fn a_planted_corruption_is_found_and_undone_and_only_later_work_is_lost() {
    if !testbed::enabled() {
        return;
    }
    let mut machine = Machine::new("ruined");
    let (site, mut stream, writer) = production_that_is_used(&machine);
    copy_runbooks(&site);
    site.succeed(&["incident", "open", "the numbers are wrong", "--instance", "clinic"]);
    let planted = plant(&machine, &writer);
    until("later work", || writer.last() > planted.acknowledged + 100);
    held(&site, planted.after);

    let folder = site.dir.path().join("before");
    let (old, web) = (machine.part("db"), machine.part("web"));
    machine.generation = "-before";
    let mut settings = vec![
        ("platform", "docker".to_owned()),
        ("key", site.identity().display().to_string()),
        ("folder", folder.display().to_string()),
        ("database", "demo".to_owned()),
        ("check", CHECK.to_owned()),
        ("good", "0".to_owned()),
        ("postgres", old.clone()),
        ("odoo", web.clone()),
        ("new-postgres-volume", machine.volume("db")),
        ("new-odoo-volume", machine.volume("files")),
        ("url", format!("http://127.0.0.1:{}", machine.web)),
    ];
    let begin = ["run", "database-corruption", "--instance", "clinic", "--yes", "--confirm", "clinic"];

    // A volume that is there is refused before anything is stopped.
    let mut taken = settings.clone();
    taken.push(("new-odoo-volume", machine.part("files")));
    taken.retain(|setting| *setting != ("new-odoo-volume", machine.volume("files")));
    let (code, refused) = runbook(&site, &begin, &taken, &[]);
    assert_eq!((code, &refused["at"]), (1, &"free-odoo-volume".into()), "{refused:#}");
    assert!(is_running(&web), "Odoo was stopped before the names were looked at");

    let (code, found) = runbook(&site, &begin, &settings, &["known=end and begin again@lead"]);
    assert_eq!((code, &found["stand"]), (0, &"ended by an answer".into()), "{found:#}");
    assert_eq!(machine.psql("demo", "SELECT 1").as_deref(), Some("1"), "only Odoo was stopped");
    let printed = step(&found, "find")["outputs"]["output"].as_str().unwrap();
    assert!(printed.contains("public.on_call"), "{printed}");
    let told = printed.split_whitespace().skip_while(|word| *word != "--at").nth(1);
    let good: Timestamp = told.unwrap_or_else(|| panic!("{printed}")).parse().unwrap();
    assert!(good < planted.after && good >= planted.before - Duration::from_secs(2), "{good}: {printed}");

    // Again, with the moment. What an aborted run has stopped runs again.
    settings.push(("moment", good.to_string()));
    let (code, waits) = runbook(&site, &begin, &settings, &[]);
    assert_eq!((code, &waits["at"]), (5, &"known".into()), "{waits:#}");
    assert!(!is_running(&web));
    let abort = ["abort", waits["run"].as_str().unwrap(), "--why", "not yet", "--yes"];
    let (code, back) = runbook(&site, &abort, &[], &[]);
    assert_eq!((code, &back["stand"]), (1, &"rolled back".into()), "{back:#}");
    assert!(is_running(&web), "an aborted run left Odoo off");

    // Whoever is to make the containers is waited for.
    let agreed = ["known=go back to it@lead", "approve=yes@ann", "approve=yes@lead"];
    let (code, waits) = runbook(&site, &begin, &settings, &agreed);
    assert_eq!((code, &waits["stand"], &waits["at"]), (5, &"waits".into(), &"make-containers".into()), "{waits:#}");
    let acknowledged = writer.last();
    drop(writer);
    stream.kill();
    machine.put_aside();
    let maker = machine.maker(site.dir.path());
    assert!(Command::new(&maker).status().unwrap().success());
    let run = waits["run"].as_str().unwrap();
    let rest = ["make-containers=yes@ann", "the-wrong-figures-are-right=yes@ann", "tell-by-hand=yes@lead"];
    let (code, passed) = runbook(&site, &["resume", run], &[], &rest);
    assert_eq!((code, &passed["stand"]), (0, &"passed".into()), "{passed:#}");
    assert_eq!(step(&passed, "verify-volumes")["outcome"], "passed", "{passed:#}");

    // What was acknowledged before is there, without a hole; what came later is what is lost, and was said to be.
    assert_eq!(machine.psql("demo", CHECK).as_deref(), Some("0"));
    let rows = machine.psql("demo", "SELECT count(*) || ' ' || max(id) FROM on_call").unwrap();
    let (count, newest) = rows.split_once(' ').unwrap();
    assert_eq!(count, newest, "rows without a hole");
    let newest: i64 = newest.parse().unwrap();
    let second = 60; // rows are 20 ms and more apart, and the moment is at most a second early
    assert!(newest > planted.acknowledged - second && newest < acknowledged - 50, "{newest}: {}", planted.acknowledged);
    eprintln!("{acknowledged} rows were acknowledged, {} before the damage; {newest} are back", planted.acknowledged);

    // The report says which.
    site.succeed(&["incident", "close", "the moment before is back"]);
    let report = site.dir.path().join("report.md");
    site.succeed(&["incident", "report", "--out", report.to_str().unwrap()]);
    let report = fs::read_to_string(&report).unwrap();
    let lost = report.lines().find(|line| line.contains("public.on_call"));
    assert!(lost.is_some(), "{report}");
    eprintln!("{}", lost.unwrap_or_default().trim());

    // The old data is where it was.
    docker(&["stop", &old]);
    let aside = format!("{old}-aside");
    docker(&["start", &aside]);
    until("the old data", || {
        let asked = ["exec", "-u", "postgres", &aside, "psql", "-XAtqd", "demo", "-c", CHECK];
        let output = Command::new("docker").args(asked).output().unwrap();
        output.status.success() && String::from_utf8_lossy(&output.stdout).trim() != "0"
    });
}
