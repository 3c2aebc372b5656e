//! A standby becomes the primary: the stream follows it onto the new timeline, and moments of both come back.

use std::net::SocketAddr;

use jiff::Timestamp;
use lifeboat_testkit::{postgres::Options, testbed};
use rustix::process::Signal;

use crate::{
    chaos::{json, pause},
    gate::{Gate, Held},
    restored::restore,
    site::{Site, cluster, loopback, text, until},
    transfers::{Clients, prepare},
};

#[test]
fn the_stream_follows_a_promoted_standby() {
    if !testbed::enabled() {
        return;
    }
    let mut old = cluster(15, &Options::default());
    prepare(&old);
    let standby = old.standby("standby").unwrap();
    // The address that people use: first of the old primary, then of the new one.
    let front = Gate::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), loopback(old.port()), Held::Replies, None);
    let address = front.address();
    let site = Site::new(address.port());
    site.works();
    let stream = site.start(&["wal", "stream", "clinic"]);
    let before = Clients::start(&old.superuser_dsn("demo"), 0, 2);
    pause(3000);
    let middle = Timestamp::now();
    pause(1000);
    let before = before.stop();
    old.wait_for_replay(&standby).unwrap();
    old.stop().unwrap();
    drop(front);
    standby.promote().unwrap();
    let front = Gate::start_at(address, loopback(standby.port()), Held::Replies, None);
    let after = Clients::start(&standby.superuser_dsn("demo"), 10, 2);
    let timelines = || {
        let answer = json(&site, &["wal", "check", "clinic"]);
        answer["instances"][0]["streams"].as_array().unwrap().len()
    };
    until("the new timeline is held", || timelines() == 2);
    pause(3000);
    let logs = after.stop();
    stream.signal(Signal::TERM);
    let output = stream.end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    site.succeed(&["wal", "stream", "clinic", "--once"]);
    site.succeed(&["wal", "check", "clinic", "--heads"]);
    drop((front, standby, old));

    let restored = restore(&site, 15, &["--at", &middle.to_string()]);
    before.assert_moment(&restored, middle);
    drop(restored);
    let (first, last) = logs.span();
    // A moment of the new timeline, and the newest that is held.
    let later = first + (last.duration_since(first) / 2);
    let restored = restore(&site, 15, &["--at", &later.to_string()]);
    logs.assert_moment(&restored, later);
    before.assert_moment(&restored, later);
    drop(restored);
    let restored = restore(&site, 15, &[]);
    logs.assert_held_until(&restored, last);
    // The end of the old timeline, as if the standby had not been promoted.
    let restored = restore(&site, 15, &["--timeline", "1"]);
    before.assert_held_until(&restored, middle);
    assert_eq!(restored.psql("demo", "SELECT count(*) FROM transfer WHERE client >= 10").unwrap(), "0");
}

#[test]
fn a_copy_that_was_tried_and_thrown_away_is_not_what_comes_back() {
    if !testbed::enabled() {
        return;
    }
    let source = cluster(15, &Options::default());
    let mut site = Site::new(source.port());
    site.works();
    site.succeed(&["wal", "stream", "clinic", "--once"]);
    let copy = restore(&site, 15, &["--point", "latest"]);
    assert!(timeline(&copy).starts_with("00000002"));
    site.port = copy.port();
    site.configure();
    copy.psql("demo", "CREATE TABLE tried AS SELECT 1").unwrap();
    site.succeed(&["wal", "stream", "clinic", "--once"]);
    // Production has gone on meanwhile.
    source.psql("demo", "CREATE TABLE later AS SELECT 1").unwrap();
    site.port = source.port();
    site.configure();
    site.succeed(&["wal", "stream", "clinic", "--once"]);
    drop((copy, source));

    let tables = "SELECT string_agg(relname, ' ' ORDER BY 1) FROM pg_class WHERE relname IN ('tried', 'later')";
    let restored = restore(&site, 15, &[]);
    assert_eq!(restored.psql("demo", tables).unwrap(), "later");
    assert!(timeline(&restored).starts_with("00000003"), "a number that is taken is not taken again");
    drop(restored);
    let restored = restore(&site, 15, &["--timeline", "2"]);
    assert_eq!(restored.psql("demo", tables).unwrap(), "tried");
    drop(restored);
    let restored = restore(&site, 15, &["--point", "latest"]);
    assert!(timeline(&restored).starts_with("00000003"), "also where nothing is fetched");
}

fn timeline(server: &lifeboat_testkit::postgres::Postgres) -> String {
    server.psql("postgres", "SELECT pg_walfile_name(pg_current_wal_insert_lsn())").unwrap()
}

#[test]
fn a_first_stream_of_a_later_timeline_misses_nothing() {
    if !testbed::enabled() {
        return;
    }
    let mut old = cluster(15, &Options::default());
    let standby = old.standby("standby").unwrap();
    old.stop().unwrap();
    standby.promote().unwrap();
    let site = Site::new(standby.port());
    site.works();
    let answer = json(&site, &["wal", "stream", "clinic", "--once"]);
    assert_eq!((answer["timeline"].as_u64(), answer["gaps"].as_array().unwrap().len()), (Some(2), 0), "{answer:#}");
    standby.psql("demo", "CREATE TABLE later AS SELECT 1").unwrap();
    site.succeed(&["wal", "stream", "clinic", "--once"]);
    site.succeed(&["wal", "check", "clinic", "--heads"]);
    drop((standby, old));
    let restored = restore(&site, 15, &[]);
    assert_eq!(restored.psql("demo", "SELECT count(*) FROM later").unwrap(), "1");
}
