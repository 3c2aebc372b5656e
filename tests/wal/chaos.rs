//! Kills, restarts, cuts: the log stays whole, and every moment comes back.

use std::{net::SocketAddr, time::Duration};

use jiff::Timestamp;
use lifeboat_testkit::{
    postgres::{Options, Postgres},
    testbed,
};
use rustix::process::Signal;

use crate::{
    gate::{Gate, Held},
    restored::restore,
    site::{Running, Site, cluster, loopback, text, until},
    transfers::{Clients, Logs, prepare},
};

/// Restarts of the server; each comes with a cut of the network.
const RESTARTS: u32 = 5;
/// The newest version here is run in a container, where everything takes longer.
const RESTARTS_IN_CONTAINER: u32 = 2;
/// Kills of the stream for each of them.
const KILLS: u32 = 6;
const MOMENTS: u32 = 8;
const CLIENTS: i32 = 4;

#[test]
fn every_moment_of_15_comes_back_after_kills_restarts_and_cuts() {
    every_moment_comes_back(15, RESTARTS);
}

#[test]
fn every_moment_of_17_comes_back_after_kills_restarts_and_cuts() {
    every_moment_comes_back(17, RESTARTS_IN_CONTAINER);
}

fn every_moment_comes_back(major: u32, restarts: u32) {
    if !testbed::enabled() {
        return;
    }
    let mut source = cluster(major, &Options::default());
    prepare(&source);
    let gate = Gate::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), loopback(source.port()), Held::Replies, None);
    let site = Site::new(gate.address().port());
    let clients = Clients::start(&source.superuser_dsn("demo"), 0, CLIENTS);
    site.works();
    disturb(&site, &gate, &mut source, restarts);
    let logs = clients.stop();

    // What is left at the server is stored, and the log is whole.
    site.succeed(&["wal", "stream", "clinic", "--once"]);
    site.succeed(&["wal", "check", "clinic", "--read"]);
    let answer = json(&site, &["wal", "check", "clinic"]);
    assert_eq!(answer["instances"][0]["streams"][0]["runs"].as_array().unwrap().len(), 1, "{answer:#}");
    drop(source);
    assert_moments(&site, major, &logs);
    if major == 17 {
        assert_witness(&site);
    }
}

/// The images of a drill are of this major; there is no Odoo, so only the rungs up to the data can pass.
fn assert_witness(site: &Site) {
    let config = std::fs::read_to_string(site.at("lifeboat.toml")).unwrap();
    let image = testbed::setting("LIFEBOAT_TESTBED_PG_IMAGE", "lifeboat-testbed/postgres:17");
    let odoo = testbed::setting("LIFEBOAT_TESTBED_ODOO_IMAGE", "lifeboat-testbed/odoo:19");
    let config = config.replace("\"postgres:17\"", &format!("{image:?}")).replace("\"odoo:19\"", &format!("{odoo:?}"));
    std::fs::write(site.at("lifeboat.toml"), config).unwrap();
    let output = site.run(&["drill", "clinic", "--identity", &site.identity(), "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = answer["checks"].as_array().unwrap();
    let digests = checks.iter().find(|check| check["id"] == "data.digests").unwrap();
    assert_eq!(digests["verdict"]["outcome"], "passed", "{answer:#}");
    assert!(digests["observed"].as_str().unwrap().starts_with("exact witness at"), "{answer:#}");
}

/// Streams while the streamer is killed, the server restarted and the network cut.
fn disturb(site: &Site, gate: &Gate, source: &mut Postgres, restarts: u32) {
    let mut stream = site.start(&["wal", "stream", "clinic"]);
    for round in 0..restarts {
        for _ in 0..KILLS {
            pause(600);
            stream.signal(Signal::KILL);
            drop(stream);
            stream = site.start(&["wal", "stream", "clinic"]);
        }
        if round == 0 {
            // Taken from the server at work, and kept when the log past it is.
            site.succeed(&["witness", "take", "clinic"]);
        }
        pause(300);
        gate.cut();
        pause(500);
        // Every other time without a shutdown checkpoint.
        if round % 2 == 0 {
            source.restart().unwrap()
        } else {
            crash(source)
        }
        pause(500);
    }
    assert!(!stream.has_ended(), "the stream lives through restarts and cuts");
    end(stream);
}

fn crash(source: &mut Postgres) {
    source.stop_immediate().unwrap();
    source.resume().unwrap();
}

fn end(stream: Running) {
    stream.signal(Signal::TERM);
    let output = stream.end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

fn assert_moments(site: &Site, major: u32, logs: &Logs) {
    let (first, last) = logs.span();
    assert!(logs.count() > 500, "{} transfers are too few to show anything", logs.count());
    // The base backup ended some time after the first transfer.
    let windows = json(site, &["points", "windows", "clinic"]);
    let from: Timestamp = windows["instances"][0]["windows"][0]["from"]["time"].as_str().unwrap().parse().unwrap();
    let from = from.max(first) + Duration::from_millis(200);
    let span = Duration::try_from(last.duration_since(from)).unwrap();
    for _ in 0..MOMENTS {
        let moment = from + span.mul_f64(f64::from(random() % 1000) / 1010.0);
        let restored = restore(site, major, &["--at", &moment.to_string()]);
        logs.assert_moment(&restored, moment);
    }
    let restored = restore(site, major, &[]);
    logs.assert_held_until(&restored, last);
}

#[test]
fn what_is_lost_with_the_server_is_no_older_than_what_was_told() {
    if !testbed::enabled() {
        return;
    }
    let mut source = cluster(15, &Options::default());
    prepare(&source);
    let site = Site::new(source.port());
    site.works();
    let stream = site.start(&["wal", "stream", "clinic"]);
    let clients = Clients::start(&source.superuser_dsn("demo"), 0, CLIENTS);
    let status = || {
        let output = site.run(&["wal", "status", "clinic", "--json"]);
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["instances"][0].clone()
    };
    until("the stream holds WAL", || status()["newest_commit"].is_string());
    pause(2000);
    let told = status();
    let held: Timestamp = told["newest_commit"].as_str().unwrap().parse().unwrap();
    assert!(told["exposed_seconds"].as_f64().unwrap() < 30.0, "{told:#}");
    source.stop_immediate().unwrap();
    let logs = clients.stop();
    end(stream);
    drop(source); // its disk is gone
    let restored = restore(&site, 15, &[]);
    logs.assert_held_until(&restored, held);
}

pub fn json(site: &Site, arguments: &[&str]) -> serde_json::Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&site.succeed(&arguments)).unwrap()
}

pub fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis + u64::from(random() % 100)));
}

pub fn random() -> u32 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).unwrap();
    u32::from_le_bytes(bytes)
}
