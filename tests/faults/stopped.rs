//! Somebody presses Ctrl-C, or the machine shuts down.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use lifeboat_testkit::{postgres::Options, testbed};
use rustix::process::Signal;

use crate::{
    gate::{Gate, Held},
    site::{Site, assert_refused, cluster, fill, loopback, until},
};

/// How soon a command that was told to stop has to be gone.
const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_backup_that_is_stopped() {
    if !testbed::enabled() {
        return;
    }
    let cluster = cluster(15, &Options::default());
    fill(&cluster, "filler", 40);
    let slots = "SELECT count(*) FROM pg_replication_slots";
    for signal in [Signal::INT, Signal::TERM] {
        let gate = Gate::start(loopback(cluster.port()), Held::Replies, 16 << 20);
        let mut site = Site::new(gate.address().port());
        let backup = site.start(&["backup", "clinic"]);
        gate.wait_until_held();
        assert_eq!(cluster.psql("postgres", slots).unwrap(), "1");
        let began = Instant::now();
        backup.signal(signal);
        let output = backup.end();
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        assert_refused(&output, 130, &["stopped"]);
        assert_eq!(site.points(), Vec::<String>::new());
        // The lease is given back and nothing stays behind at the server.
        gate.open();
        until("no slot is left", || cluster.psql("postgres", slots).unwrap() == "0");
        site.port = cluster.port();
        site.configure();
        site.works();
    }
}

/// Impatience is served too: the second signal ends the program at once, and the next run still works.
#[test]
fn a_backup_that_is_stopped_twice() {
    if !testbed::enabled() {
        return;
    }
    let cluster = cluster(17, &Options::default());
    fill(&cluster, "filler", 40);
    let gate = Gate::start(loopback(cluster.port()), Held::Replies, 16 << 20);
    let site = Site::new(gate.address().port());
    let backup = site.start(&["backup", "clinic"]);
    gate.wait_until_held();
    backup.signal(Signal::INT);
    backup.signal(Signal::INT);
    let output = backup.end();
    assert_eq!(output.status.code(), Some(130), "{}", crate::site::text(&output));
    assert_eq!(site.points(), Vec::<String>::new());
    gate.open();
    site.works();
}

#[test]
fn a_restore_that_is_stopped() {
    if !testbed::enabled() {
        return;
    }
    let cluster = cluster(17, &Options::default());
    fill(&cluster, "filler", 100);
    let site = Site::new(cluster.port());
    site.succeed(&["backup", "clinic"]);
    let (to, identity) = (site.at("to"), site.identity());
    let mut restore = site.start(&site.restore_to(&to, &identity));
    // It has begun to place files, and more than 100 MB are to come.
    until("the restore has begun", || {
        let placed = fs::read_dir(to.join("pgdata/base")).is_ok_and(|found| found.count() > 0);
        assert!(placed || !restore.has_ended(), "the restore has ended");
        placed
    });
    let began = Instant::now();
    restore.signal(Signal::INT);
    let output = restore.end();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_refused(&output, 130, &["stopped", "RESTORE-INCOMPLETE"]);
    assert!(to.join("RESTORE-INCOMPLETE").exists());
    assert!(!to.join("pgdata/global/pg_control").exists(), "the cluster could be started");

    let refused = site.run(&site.restore_to(&to, &identity));
    assert_refused(&refused, 1, &["is not empty", "--delta"]);
    let arguments = site.restore_to(&to, &identity);
    site.succeed(&arguments.iter().copied().chain(["--delta"]).collect::<Vec<_>>());
    assert!(!to.join("RESTORE-INCOMPLETE").exists() && to.join("pgdata/global/pg_control").exists());
    let fresh = site.at("fresh");
    site.succeed(&site.restore_to(&fresh, &identity));
    // The record of each restore says when it was.
    let options = ["-r", "--no-dereference", "--exclude=RESTORED.json"];
    let differences = Command::new("diff").args(options).arg(&to).arg(&fresh).output().unwrap();
    assert!(differences.status.success(), "{}", crate::site::text(&differences));
}
