//! The primary dies under load, the standby takes over, the old primary comes back: what was acknowledged is there, but for what the
//! standby lacked when the primary died.

use std::collections::BTreeSet;

use jiff::Timestamp;
use lifeboat_testkit::{postgres::Postgres, testbed};
use rustix::process::Signal;

use crate::{
    pair::Pair,
    site::{text, until},
    transfers::{Clients, Logs, Transfer, numbers},
};

const CLIENTS: i32 = 2;

/// Acknowledged and not there.
fn lost(logs: &Logs, server: &Postgres) -> Vec<(i32, Transfer)> {
    let of = |(client, log): (i32, &Vec<Transfer>)| {
        let there: BTreeSet<i64> = numbers(server, client).into_iter().collect();
        let missing = log.iter().filter(move |it| it.acknowledged.is_some() && !there.contains(&it.number));
        missing.map(|transfer| (client, *transfer)).collect::<Vec<_>>()
    };
    (logs.first..).zip(&logs.clients).flat_map(of).collect()
}

fn count(server: &Postgres) -> u64 {
    server.psql("demo", "SELECT count(*) FROM transfer").unwrap().parse().unwrap()
}

/// So many more transfers than now.
fn more(what: &str, server: &Postgres, transfers: u64) {
    let now = count(server);
    until(what, || count(server) >= now + transfers);
}

/// What a runbook is told. One cuts the old primary off, the other one stops it cleanly.
fn said(pair: &Pair, id: &str, old: u16, new: u16) -> Vec<String> {
    let file = |name: &str| pair.program(name).display().to_string();
    let settings = [
        ("platform", "other".to_owned()),
        ("old-host", "127.0.0.1".to_owned()),
        ("old-port", old.to_string()),
        ("new-host", "127.0.0.1".to_owned()),
        ("new-port", new.to_string()),
        ("password", file("superuser-password")),
        ("tls", "disable".to_owned()),
        (if id == "failover" { "fence" } else { "clean-stop" }, file("fence")),
        ("repoint", file("repoint")),
        ("url", String::new()),
    ];
    let answers = ["approve=yes@ann", "stop-odoo-other=yes", "fence=yes", "start-odoo-other=yes", "tell-by-hand=yes"];
    let answers = answers.into_iter().chain((id == "failback").then_some("settled=yes@ann"));
    let settings = settings.map(|(name, value)| ["--set".to_owned(), format!("{name}={value}")]);
    let answers = answers.map(|answer| ["--answer".to_owned(), answer.to_owned()]);
    let beginning = ["--instance", "clinic", "--json"].map(str::to_owned);
    beginning.into_iter().chain(settings.into_iter().chain(answers).flatten()).collect()
}

fn words<'w>(first: &[&'w str], said: &'w [String]) -> Vec<&'w str> {
    first.iter().copied().chain(said.iter().map(String::as_str)).collect()
}

#[test]
fn the_standby_takes_over_and_gives_back() {
    if !testbed::enabled() {
        return;
    }
    let mut pair = Pair::new();
    let (one, two) = (pair.one.port(), pair.two.port());
    pair.site.succeed(&["backup", "clinic"]);
    let stream = pair.site.start(&["wal", "stream", "clinic"]);
    let clients = Clients::start(&pair.dsn(), 0, CLIENTS);
    more("transfers on the first server", &pair.one, 100);

    // Rehearsed while all is well: both sides stay what they are.
    for (id, answer) in [("failover", "is-the-primary-gone=it is gone"), ("failback", "rebuild-by-hand=yes")] {
        let told = said(&pair, id, one, two);
        let more = ["--answer", "standby-by-hand=yes", "--answer", answer];
        let ran = pair.run(&words(&[&[id, "--mode", "practice"], &more[..]].concat(), &told));
        assert_eq!(ran["stand"], "passed", "{ran:#}");
        let left_out = ran["not_practised"].as_array().unwrap();
        assert!(["promote", "fence-by-program"].iter().all(|step| left_out.contains(&(*step).into())), "{ran:#}");
    }
    assert!(pair.one.is_running(), "a rehearsal fenced the primary");
    assert_eq!(pair.two.psql("postgres", "SELECT pg_is_in_recovery()").unwrap(), "t", "a rehearsal promoted");

    // What is acknowledged until here is on the standby; what comes now is not.
    let safe = Timestamp::now();
    pair.one.wait_for_replay(&pair.two).unwrap();
    pair.cut_between();
    more("transfers that the standby lacks", &pair.one, 100);
    pair.one.crash().unwrap();
    let died = Timestamp::now();
    pair.close_front();
    let on_standby: Vec<Vec<i64>> = (0..CLIENTS).map(|client| numbers(&pair.two, client)).collect();

    let told = said(&pair, "failover", one, two);
    let ran = pair.run(&words(&["failover", "--yes", "--answer", "is-the-primary-gone=it is gone"], &told));
    assert_eq!(ran["stand"], "passed", "{ran:#}");
    more("transfers on the second server", &pair.two, 100);
    for (client, before) in (0..).zip(&on_standby) {
        let after: BTreeSet<i64> = numbers(&pair.two, client).into_iter().collect();
        assert!(before.iter().all(|number| after.contains(number)), "the promotion lost what the standby had");
    }

    // Back, under the same load.
    let rebuild = format!("rebuild={}", pair.program("rebuild").display());
    let told = said(&pair, "failback", two, one);
    let ran = pair.run(&words(&["failback", "--confirm", "clinic", "--yes", "--set", &rebuild], &told));
    assert_eq!(ran["stand"], "passed", "{ran:#}");
    let back = Timestamp::now();
    more("transfers on the first server again", &pair.one, 100);
    let logs = clients.stop();

    let lost = lost(&logs, &pair.one);
    assert!(!lost.is_empty(), "the standby lacked nothing: nothing was measured");
    for (client, transfer) in &lost {
        let acknowledged = transfer.acknowledged.unwrap();
        assert!(
            safe < acknowledged && acknowledged < died,
            "{transfer:?} of client {client} is lost, and the standby lacked only {safe} to {died}"
        );
        assert!(!on_standby[*client as usize].contains(&transfer.number), "{transfer:?} was on the standby");
    }
    logs.assert_held_until(&pair.one, safe);
    let (_, last) = logs.span();
    assert!(last > back, "nobody worked after the return");
    pair.one.wait_for_replay(&pair.two).unwrap();
    assert_eq!(count(&pair.two), count(&pair.one), "the other follows");

    stream.signal(Signal::TERM);
    let output = stream.end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    pair.site.succeed(&["wal", "stream", "clinic", "--once"]);
    let checked: serde_json::Value =
        serde_json::from_str(&pair.site.succeed(&["wal", "check", "clinic", "--json"])).unwrap();
    assert_eq!(checked["instances"][0]["streams"].as_array().unwrap().len(), 3, "{checked:#}");
    eprintln!("acknowledged and lost: {} of {} transfers, all in {:#}", lost.len(), logs.count(), died - safe);
}

#[test]
fn nothing_is_promoted_unless_all_of_the_log_has_arrived() {
    if !testbed::enabled() {
        return;
    }
    let mut pair = Pair::new();
    // Both are well and stream; it stands still before the end of the log is looked at.
    let told: Vec<String> = said(&pair, "failback", pair.one.port(), pair.two.port());
    let told: Vec<String> = told.iter().map(|word| word.replace("stop-odoo-other=yes", "stop-odoo-other=no")).collect();
    let begin = ["run", "failback", "--confirm", "clinic", "--yes", "--answer", "rebuild-by-hand=yes"];
    let stands = pair.runbook(&words(&begin, &told), 1);
    assert_eq!(stands["at"], "stop-odoo-other", "{stands:#}");

    pair.cut_between();
    pair.one.psql("demo", "CREATE TABLE never_sent AS SELECT generate_series(1, 1000)").unwrap();
    let run = stands["run"].as_str().unwrap();
    let resume = ["resume", run, "--json", "--answer", "stop-odoo-other=yes", "--answer", "fence=yes"];
    let stands = pair.runbook(&resume, 1);
    assert_eq!(stands["at"], "all-arrived", "{stands:#}");
    assert!(!pair.one.is_running(), "it was stopped");
    assert_eq!(pair.two.psql("postgres", "SELECT pg_is_in_recovery()").unwrap(), "t", "promoted without the rest");
}
