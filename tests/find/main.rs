//! A corruption that was planted at a known time is found by bisection, and what going back would lose is named. Real servers; needs
//! the testbed's Docker engine and images (`LIFEBOAT_TESTBED=1`, set by `make test`).

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "../dump/world.rs"]
#[allow(dead_code, reason = "shared with another test binary")]
mod world;

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lifeboat_testkit::{folder, postgres::Postgres, testbed};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use world::{Site, nothing_left, text};

/// No patient is without a name.
const CHECK: &str = "SELECT count(*) FROM patient WHERE name = ''";

/// What the server's own clock says.
fn now(cluster: &Postgres) -> Timestamp {
    let micros = cluster.psql("north", "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").unwrap();
    Timestamp::from_microsecond(micros.parse().unwrap()).unwrap()
}

/// Business goes on: a commit for each document.
fn work(cluster: &Postgres, documents: u32) {
    for _ in 0..documents {
        cluster.psql("north", "INSERT INTO document (body) SELECT '\\x00'").unwrap();
    }
}

/// The objects that hold data.
fn packs(site: &Site) -> BTreeSet<PathBuf> {
    let packs = site.at("repository/hospital/clinic/packs");
    folder::files(&packs).into_iter().map(|name| packs.join(name)).collect()
}

/// Changes a byte in the middle.
fn damage(object: &PathBuf) {
    let mut bytes = fs::read(object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(object).unwrap();
    fs::write(object, bytes).unwrap();
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap()
}

fn arguments<'a>(sql: &'a str, identity: &'a str) -> Vec<&'a str> {
    let fixed = ["find-corruption", "clinic", "--database", "north", "--expect", "0", "--identity", identity];
    [fixed.as_slice(), &["--sql", sql]].concat()
}

#[test]
fn a_planted_corruption_is_found_and_what_going_back_loses_is_named() {
    if !testbed::enabled() {
        return;
    }
    let cluster = world::cluster(17, false);
    let site = Site::new(&cluster, false);
    let identity = site.identity();
    let first = site.json(&["backup", "clinic"]);
    site.json(&["wal", "stream", "clinic", "--once"]);
    work(&cluster, 3);
    let whole = packs(&site);
    let second = site.json(&["backup", "clinic"]);
    packs(&site).difference(&whole).for_each(damage);
    work(&cluster, 3);
    let before = now(&cluster);
    cluster.psql("north", "UPDATE patient SET name = '' WHERE id % 10 = 0").unwrap();
    let after = now(&cluster);
    work(&cluster, 7);
    site.json(&["wal", "stream", "clinic", "--once"]);

    let found = site.json(&[arguments(CHECK, &identity).as_slice(), &["--resolution", "1ms", "-v"]].concat());
    assert_eq!((&found["schema"], &found["outcome"]), (&"lifeboat.find-corruption/1".into(), &"found".into()));
    let (good, bad) = (&found["last_good"], &found["first_bad"]);
    // Nothing but commits of others lies on either side: the interval is as narrow as it can be.
    assert_eq!(found["narrowed"], "neighbouring-commits", "{found:#}");
    assert!((before..=after).contains(&time(&bad["time"])), "planted between {before} and {after}: {found:#}");
    assert!(time(&good["time"]) < time(&bad["time"]), "{found:#}");
    assert_eq!(good["next_commit"], bad["time"], "{found:#}");
    assert!(good["lsn"].is_string() && bad["lsn"].is_string(), "{found:#}");

    let probes = found["probes"].as_array().unwrap();
    let asked = |at: usize| (probes[at]["kind"].as_str().unwrap(), probes[at]["verdict"].as_str().unwrap());
    // The second point is damaged: it says nothing, and what lies behind it is replayed from the first.
    let points = [("latest", "bad"), ("point", "good"), ("point", "not-executed")];
    assert_eq!([asked(0), asked(1), asked(2)], points, "{found:#}");
    assert_eq!((&probes[1]["point"], &probes[2]["point"]), (&first["point"], &second["point"]));
    let restored = |at: usize| probes[at]["restored"].as_str().unwrap();
    assert!(restored(0).contains(first["point"].as_str().unwrap()), "{found:#}");
    assert!(probes[3..].iter().all(|probe| probe["kind"] == "time"), "{found:#}");
    assert_eq!((&probes[0]["answer"], &probes[1]["answer"]), (&"400".into(), &"0".into()), "{found:#}");

    let lost = &found["lost"];
    let tables: Vec<(&str, i64)> = lost["tables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|table| (table["table"].as_str().unwrap(), table["more_rows"].as_i64().unwrap()))
        .collect();
    assert_eq!(tables, [("public.document", 7), ("public.patient", 0)], "{lost:#}");
    let command = found["next"][0].as_str().unwrap();
    let at = command.split_whitespace().skip_while(|word| *word != "--at").nth(1).unwrap();
    assert!(at.parse::<Timestamp>().unwrap() < time(&bad["time"]), "{command}");
    nothing_left(&site);

    // What is no question is told as that, and nothing is taken for an answer.
    site.refused(&arguments("SELECT count(* FROM patient", &identity), 2, &["syntax error", "one statement"]);
    stopped(&site, &arguments(CHECK, &identity));
}

/// Stopped in the middle, it leaves nothing.
fn stopped(site: &Site, arguments: &[&str]) {
    let mut command = site.command(arguments);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let drills = site.at("state/drills");
    let has_sandbox = || drills.exists() && std::fs::read_dir(&drills).unwrap().next().is_some();
    let deadline = Instant::now() + Duration::from_secs(55);
    while !has_sandbox() {
        assert!(Instant::now() < deadline, "no sandbox was made");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    nothing_left(site);
}
