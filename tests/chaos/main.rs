//! The plug is pulled. Whatever happens, no point that does not restore is visible, and the next run works.
//! Needs the testbed (`LIFEBOAT_TESTBED=1`, set by `make test`).

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "../support/mod.rs"]
mod support;

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lifeboat_testkit::testbed;
use support::{Settings, Site, text};

/// How often the plug is pulled.
const KILLS: u32 = 20;

fn points(site: &Site) -> Vec<String> {
    let answer = site.json(&["points", "list", "clinic"]);
    let list = answer["points"].as_array().unwrap();
    list.iter().map(|point| point["point"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_killed_backup_leaves_nothing_half_done_and_the_next_one_works() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(&Settings::default());
    // The first whole backup tells how long one takes.
    let began = Instant::now();
    site.succeed(&["backup", "clinic"]);
    let whole = began.elapsed();
    let mut known = points(&site);
    assert_eq!(known.len(), 1);

    for round in 0..KILLS {
        // Every other round meets an empty repository: a first backup is the longest, and has no cache.
        if round % 2 == 0 {
            std::fs::remove_dir_all(site.repository()).unwrap();
            std::fs::remove_dir_all(site.dir.path().join("state")).unwrap();
            known.clear();
        }
        let moment =
            whole.mul_f64(f64::from(round) / f64::from(KILLS)) + Duration::from_millis(u64::from(random() % 100));
        let mut child =
            site.command(&["backup", "clinic"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moment);
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        if !site.repository().join("lifeboat.json").exists() {
            continue; // killed before there was a repository; the next backup makes it
        }
        for point in points(&site).iter().filter(|point| !known.contains(point)) {
            assert_restores(&site, point);
        }
        known = points(&site);
    }
    site.succeed(&["backup", "clinic"]);
    let newest = points(&site).pop().unwrap();
    assert!(!known.contains(&newest), "the run after the last kill made a point");
    assert_restores(&site, &newest);
    site.succeed(&["verify", "clinic"]);
    assert_no_slots_left();
}

fn assert_restores(site: &Site, point: &str) {
    let to = site.dir.path().join(format!("restored-{point}"));
    let identity = site.identity();
    let output = site.run(&[
        "restore",
        "clinic",
        "--point",
        point,
        "--to",
        to.to_str().unwrap(),
        "--identity",
        identity.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "visible point {point} does not restore: {}", text(&output));
    std::fs::remove_dir_all(&to).unwrap();
}

/// Temporary slots end with the session; one that stayed would fill the server's disk. The server notices a dead
/// client when it next writes to it, so this polls.
fn assert_no_slots_left() {
    let container = testbed::setting("LIFEBOAT_TESTBED_PG_CONTAINER", "lifeboat-testbed-postgres");
    // A stream's own slot stays on purpose; other tests, and people, stream from this server.
    let query = "SELECT string_agg(slot_name, ' ') FROM pg_replication_slots \
                 WHERE slot_name LIKE 'lifeboat%' AND slot_name <> 'lifeboat_clinic'";
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let output = Command::new("docker")
            .args(["exec", "-u", "postgres", &container, "psql", "-XAtc", query])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let slots = String::from_utf8(output.stdout).unwrap();
        if slots.trim().is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "slots left: {slots}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).unwrap();
    u32::from_le_bytes(bytes)
}
