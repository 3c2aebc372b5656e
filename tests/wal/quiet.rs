//! What the commands say when there is nothing, when two want the same, and when a slot is given up.

use lifeboat_testkit::{postgres::Options, testbed};
use rustix::process::Signal;

use crate::{
    chaos::json,
    site::{Site, cluster, text, until},
    watched::status,
};

#[test]
fn an_idle_server_has_a_provable_moment() {
    if !testbed::enabled() {
        return;
    }
    let source = cluster(15, &Options::default());
    let site = Site::new(source.port());
    site.works();
    let stream = site.start(&["wal", "stream", "clinic"]);
    let newest = || {
        let output = site.run(&["wal", "status", "clinic", "--json"]);
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["instances"][0]["newest_commit"].as_str().map(str::to_owned)
    };
    until("a heartbeat is durable", || newest().is_some());
    let first = newest();
    until("another heartbeat is durable", || newest() > first);
    // A second stream of the same instance is refused by the server.
    let refused = site.run(&["wal", "stream", "clinic", "--once"]);
    assert_eq!(refused.status.code(), Some(7), "{}", text(&refused));
    let kept = site.run(&["wal", "drop-slot", "clinic"]);
    assert_eq!(kept.status.code(), Some(7), "{}", text(&kept));
    stream.signal(Signal::TERM);
    assert_eq!(stream.end().status.code(), Some(0));
    assert_eq!(slots(&source), "lifeboat_clinic");
    site.succeed(&["wal", "drop-slot", "clinic"]);
    assert_eq!(slots(&source), "");
    assert_eq!(site.run(&["wal", "drop-slot", "clinic"]).status.code(), Some(6));
}

fn slots(source: &lifeboat_testkit::postgres::Postgres) -> String {
    source.psql("postgres", "SELECT coalesce(string_agg(slot_name, ' '), '') FROM pg_replication_slots").unwrap()
}

#[test]
fn wal_that_the_server_gave_up_is_told_as_a_gap() {
    if !testbed::enabled() {
        return;
    }
    let source = cluster(15, &Options::default());
    let site = Site::new(source.port());
    site.works();
    site.succeed(&["wal", "stream", "clinic", "--once"]);
    site.succeed(&["wal", "drop-slot", "clinic"]);
    // More than the server keeps by itself.
    source.psql("demo", "CREATE TABLE filler (text text)").unwrap();
    for _ in 0..3 {
        source
            .psql("demo", "INSERT INTO filler SELECT repeat(md5(g::text), 60) FROM generate_series(1, 20000) g")
            .unwrap();
        source.psql("postgres", "SELECT pg_switch_wal()").unwrap();
        source.psql("postgres", "CHECKPOINT").unwrap();
    }
    source.psql("postgres", "CHECKPOINT").unwrap();
    let output = site.run(&["wal", "stream", "clinic", "--once", "--json"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["gaps"].as_array().unwrap().len(), 1, "{answer:#}");
    assert_eq!(site.run(&["wal", "check", "clinic"]).status.code(), Some(4));
    let hole = |status: &serde_json::Value| {
        let reasons = status["reasons"].as_array().unwrap();
        reasons.iter().find(|reason| reason["kind"] == "wal-hole").map(|reason| reason["next"].clone())
    };
    let behind = status(&site);
    assert_eq!(hole(&behind), Some("lifeboat backup clinic".into()), "{behind:#}");
    assert_eq!(behind["wal"]["waiting_since"], behind["wal"]["cut_since"], "{behind:#}");
    assert!(behind["exposure_seconds"].as_f64() > Some(0.0) && behind["rpo_broken_at"].is_string(), "{behind:#}");
    assert_eq!(behind["windows"].as_array().unwrap().last().unwrap()["grows"], false, "{behind:#}");
    let windows = || json(&site, &["points", "windows", "clinic"])["instances"][0].clone();
    let cut = windows();
    assert_eq!(cut["windows"].as_array().unwrap().last().unwrap()["cut"], true, "{cut:#}");
    // A backup begins a new window; what lies between cannot be reached, and that is told.
    site.works();
    let whole = windows();
    assert_eq!(whole["windows"].as_array().unwrap().last().unwrap()["cut"], false, "{whole:#}");
    assert_eq!(whole["gaps"].as_array().unwrap().len(), 1, "{whole:#}");
    let begun_anew = status(&site);
    assert_eq!(hole(&begun_anew), None, "{begun_anew:#}");
    assert_eq!(begun_anew["windows"].as_array().unwrap().last().unwrap()["grows"], true, "{begun_anew:#}");
}
