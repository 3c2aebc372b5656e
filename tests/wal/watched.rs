//! What `lifeboat status` tells of a live server: the exposure with a stream and without, the slot, a standby, and how long the
//! certificate is good; and the line of a monitoring plugin.

use lifeboat_testkit::{postgres::Options, testbed};
use rustix::process::Signal;
use serde_json::Value;

use crate::site::{PASSWORD, ROLE, Site, cluster, text, until};

pub fn status(site: &Site) -> Value {
    let output = site.run(&["status", "clinic", "--json"]);
    let answer: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    assert_eq!(answer["schema"], "lifeboat.status/2");
    answer["instances"][0].clone()
}

fn kinds(status: &Value) -> Vec<&str> {
    status["reasons"].as_array().unwrap().iter().map(|reason| reason["kind"].as_str().unwrap()).collect()
}

#[test]
fn a_status_tells_the_stream_the_slot_and_the_standby() {
    if !testbed::enabled() {
        return;
    }
    let conf = vec!["max_slot_wal_keep_size = '1GB'".to_owned()];
    let mut source = cluster(15, &Options { tls: true, conf, ..Options::default() });
    source.psql("postgres", &format!("GRANT pg_read_all_stats TO {ROLE}")).unwrap();
    let mut site = Site::new(source.port());
    site.tls = "require";
    site.configure();
    site.works();
    let alone = status(&site);
    assert_eq!(alone["wal"], Value::Null, "nothing is streamed yet: {alone:#}");
    let exposed = |status: &Value| status["exposure_seconds"].as_f64().unwrap();
    assert!(exposed(&alone) > 0.0 && alone["rpo_broken_at"].is_string(), "{alone:#}");
    // The certificate was made for the test and ends in two days.
    assert_eq!(kinds(&alone), ["drill", "certificate", "key"], "{alone:#}");
    let certificate = &alone["certificates"][0];
    assert_eq!((&certificate["of"], &certificate["not_trusted"]), (&"PostgreSQL of clinic".into(), &Value::Null));
    assert!(certificate["not_after"].is_string(), "{certificate:#}");
    assert!(alone["storage"]["bytes"].as_u64() > Some(1000) && alone["windows"].as_array().unwrap().len() == 1);

    let stream = site.start(&["wal", "stream", "clinic"]);
    until("the stream is told", || status(&site)["wal"]["slot"]["active"] == true);
    let standby = source.standby("spare").unwrap();
    source.wait_for_replay(&standby).unwrap();
    until("a commit is held", || status(&site)["wal"]["newest_commit"].is_string());
    let streamed = status(&site);
    assert!(exposed(&streamed) < exposed(&alone) + 60.0 && streamed["rpo_broken_at"].is_null(), "{streamed:#}");
    let slot = &streamed["wal"]["slot"];
    assert_eq!((&slot["wal_status"], &slot["limit_bytes"]), (&"reserved".into(), &(1u64 << 30).into()), "{slot:#}");
    let found = streamed["standbys"]["found"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{streamed:#}");
    assert_eq!((&found[0]["state"], &found[0]["not_ready"]), (&"streaming".into(), &Value::Null), "{streamed:#}");
    assert_eq!(kinds(&streamed), ["drill", "certificate", "key"], "{streamed:#}");
    let people = text(&site.run(&["status", "clinic"]));
    for words in ["standby", "ready", "lifeboat_clinic: reserved, streamed from", "certificate", "can go back to"] {
        assert!(people.contains(words), "no {words:?} in {people}");
    }
    assert!(!people.contains(PASSWORD));

    stream.signal(Signal::TERM);
    assert_eq!(stream.end().status.code(), Some(0));
    site.succeed(&["wal", "drop-slot", "clinic"]);
    let missing = status(&site);
    assert_eq!(missing["wal"]["slot"]["wal_status"], "missing", "{missing:#}");
    assert!(kinds(&missing).contains(&"wal-slot"), "{missing:#}");

    let plugin = site.run(&["status", "--plugin"]);
    let line = String::from_utf8_lossy(&plugin.stdout).into_owned();
    assert_eq!((plugin.status.code(), line.lines().count()), (Some(1), 1), "{}", text(&plugin));
    assert!(
        line.starts_with("LIFEBOAT WARNING - clinic is at risk: ") && line.contains("| 'clinic_exposure'="),
        "{line}"
    );

    // A server that is gone: what is held is known, the rest is not.
    drop(standby);
    source.stop().unwrap();
    let gone = status(&site);
    assert!(kinds(&gone).contains(&"unknown") && gone["wal"]["not_asked"].is_string(), "{gone:#}");
    assert!(gone["wal"]["newest_commit"].is_string() && gone["exposure_seconds"].is_number(), "{gone:#}");
}
