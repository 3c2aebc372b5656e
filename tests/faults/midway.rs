//! The server or the way to it goes away in the middle of a base backup. A gate holds the backup there.

use lifeboat_testkit::{
    postgres::{Options, Postgres},
    testbed,
};

use crate::{
    gate::{Gate, Held},
    site::{Site, assert_refused, cluster, fill, loopback, text, until},
};

/// Bytes of a connection's replies after which it is held: within the base backup, and far from its end.
const MIDDLE: u64 = 16 << 20;

struct Midway {
    cluster: Postgres,
    gate: Gate,
    site: Site,
}

impl Midway {
    fn new(major: u32) -> Midway {
        let cluster = cluster(major, &Options::default());
        fill(&cluster, "filler", 40);
        let gate = Gate::start(loopback(cluster.port()), Held::Replies, MIDDLE);
        let site = Site::new(gate.address().port());
        Midway { cluster, gate, site }
    }

    /// Starts a backup, lets `strike` do harm in its middle, and checks what is said.
    fn strike(&mut self, exit: i32, words: &[&str], strike: impl FnOnce(&mut Postgres, &Gate)) {
        let backup = self.site.start(&["backup", "clinic"]);
        self.gate.wait_until_held();
        strike(&mut self.cluster, &self.gate);
        let output = backup.end();
        assert_refused(&output, exit, words);
        assert_eq!(self.site.points(), Vec::<String>::new());
    }

    fn works_again(&self) {
        self.gate.open();
        self.site.works();
        let slots = "SELECT count(*) FROM pg_replication_slots";
        until("no slot is left", || self.cluster.psql("postgres", slots).unwrap() == "0");
    }
}

#[test]
fn a_cut_connection_of_15() {
    cut(15);
}

#[test]
fn a_cut_connection_of_17() {
    cut(17);
}

fn cut(major: u32) {
    if !testbed::enabled() {
        return;
    }
    let mut midway = Midway::new(major);
    midway.strike(10, &["lost the connection", "run it again"], |_, gate| gate.cut());
    midway.works_again();
}

#[test]
fn a_server_that_is_restarted() {
    if !testbed::enabled() {
        return;
    }
    let mut midway = Midway::new(15);
    midway.strike(10, &["PostgreSQL at 127.0.0.1", "run it again"], |cluster, gate| {
        cluster.stop().unwrap();
        gate.open();
    });
    midway.cluster.resume().unwrap();
    midway.works_again();
}

#[test]
fn a_server_that_is_stopped_at_once() {
    if !testbed::enabled() {
        return;
    }
    let mut midway = Midway::new(17);
    midway.strike(10, &["PostgreSQL at 127.0.0.1", "run it again"], |cluster, gate| {
        cluster.signal("QUIT").unwrap();
        until("the server has ended", || !cluster.is_running());
        gate.open();
    });
    let _ = midway.cluster.stop(); // it is gone already
    midway.cluster.resume().unwrap();
    midway.works_again();
}

#[test]
fn a_server_that_crashes() {
    if !testbed::enabled() {
        return;
    }
    let mut midway = Midway::new(15);
    midway.strike(10, &["PostgreSQL at 127.0.0.1", "run it again"], |cluster, gate| {
        cluster.crash().unwrap();
        gate.open();
    });
    midway.cluster.resume().unwrap();
    midway.works_again();
}

/// An administrator ends the session.
#[test]
fn a_session_that_is_terminated() {
    if !testbed::enabled() {
        return;
    }
    let mut midway = Midway::new(17);
    midway.strike(10, &["PostgreSQL at 127.0.0.1", "run it again"], |cluster, gate| {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE state = 'backup'";
        assert_eq!(cluster.psql("postgres", end).unwrap(), "t");
        gate.open();
    });
    midway.works_again();
}

/// Two at once: the second is told who is at work, the first is not disturbed.
#[test]
fn a_second_backup_while_one_runs() {
    if !testbed::enabled() {
        return;
    }
    let midway = Midway::new(15);
    let first = midway.site.start(&["backup", "clinic"]);
    midway.gate.wait_until_held();
    // Past the gate, so that nothing but the lease is in its way.
    let mut second = Site::new(midway.cluster.port());
    second.repository = format!("[repository]\npath = \"{}\"", midway.site.at("repository").display());
    second.configure();
    for site in [&midway.site, &second] {
        let output = site.run(&["backup", "clinic"]);
        assert_refused(&output, 7, &["another backup of clinic is running", "process", "wait for it"]);
    }
    assert_eq!(midway.site.points(), Vec::<String>::new());
    midway.gate.open();
    let output = first.end();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(midway.site.points().len(), 1);
    midway.works_again();
}
