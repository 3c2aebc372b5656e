//! All that is known of one instance.

use jiff::Timestamp;
use lifeboat_engine::status::{Certificate, Drill, Facts, Measured, RecoveryKey, Standby, Storage};

use super::{
    Row,
    text::{behind, locks, log, slot},
};
use crate::output::{Page, Tone, ago, bytes, count, moment, seconds};

/// Windows that are shown; `lifeboat points windows` shows all.
const WINDOWS: usize = 5;

pub fn write(row: &Row, now: Timestamp, page: &mut Page) {
    let facts = &row.facts;
    page.heading(format_args!("What is known of {}", facts.instance));
    if let Some(owner) = &facts.owner {
        page.field("owner", owner);
    }
    page.field("exposed", exposed(row, now));
    page.field("points", points(facts, now));
    if let Some(wal) = &facts.wal {
        page.field("log", log(wal, now));
        if let Some(found) = &wal.slot {
            page.field("slot", slot(found));
        }
    }
    for window in facts.windows.iter().rev().take(WINDOWS) {
        let length = seconds(window.to.duration_since(window.from).as_secs_f64());
        let (from, to) = (moment(window.from), moment(window.to));
        page.field("can go back to", format_args!("{from} – {to} ({length}, timeline {})", window.timeline));
    }
    if facts.windows.len() > WINDOWS {
        let more = count((facts.windows.len() - WINDOWS) as u64, "window", "windows");
        page.field("", format_args!("and {more} more: lifeboat points windows {}", facts.instance));
    }
    match &facts.drill {
        Some(last) => page.field("last drill", drill(last, now)),
        None => page.field("last drill", "none"),
    }
    if facts.rto_trend.len() > 1 {
        page.field("RTO of drills", trend(&facts.rto_trend));
    }
    if let Some(control) = &facts.control {
        let kind = control.kind.as_deref().unwrap_or("control");
        page.field("negative control", format_args!("{kind}: {}", drill(control, now)));
    }
    page.field("locks", locks(&facts.locks, now));
    for copy in &facts.copies {
        page.field(&format!("copy {}", copy.name), behind(copy, now));
    }
    standbys(facts, page);
    facts.certificates.iter().for_each(|certificate| page.field("certificate", end(certificate, now)));
    facts.keys.iter().for_each(|one| page.field("recovery identity", key(one, now)));
    page.field("stored", storage(&facts.storage));
}

fn exposed(row: &Row, now: Timestamp) -> String {
    let target = seconds(row.facts.targets.rpo_seconds);
    let Some(exposed) = row.judged.exposure_seconds else { return "to a loss of everything".to_owned() };
    let left = row
        .judged
        .rpo_broken_at
        .map(|at| format!("; beyond it in {} if nothing more is held", seconds(at.duration_since(now).as_secs_f64())));
    format!("to a loss of {} (RPO target {target}){}", seconds(exposed), left.unwrap_or_default())
}

fn points(facts: &Facts, now: Timestamp) -> String {
    let held = count(facts.points.stored, "point", "points");
    match &facts.points.newest {
        None => held,
        Some(newest) => {
            format!(
                "{held}; the newest is {}, begun {}, done {}",
                newest.id,
                moment(newest.started),
                ago(now, newest.finished)
            )
        }
    }
}

fn drill(drill: &Drill, now: Timestamp) -> String {
    let measured = |name, value: Option<f64>| value.map(|value| format!(", {name} {}", seconds(value)));
    let rung = drill.first_bad.as_ref().map(|id| format!(" at {id}")).unwrap_or_default();
    let (rpo, rto) = (measured("RPO", drill.rpo_seconds), measured("RTO", drill.rto_seconds));
    format!(
        "{}{rung}, {}{}{}; run {}",
        drill.outcome.word(),
        ago(now, drill.started),
        rpo.unwrap_or_default(),
        rto.unwrap_or_default(),
        drill.run
    )
}

/// Oldest first.
fn trend(measured: &[Measured]) -> String {
    measured.iter().map(|one| seconds(one.seconds)).collect::<Vec<_>>().join(", ")
}

fn standbys(facts: &Facts, page: &mut Page) {
    for standby in &facts.standbys.found {
        page.field("standby", one_standby(standby));
    }
    match &facts.standbys.not_asked {
        Some(why) => page.field("standbys", format_args!("not known: {why}")),
        None if facts.standbys.found.is_empty() => page.field("standbys", "none"),
        None => {}
    }
}

fn one_standby(standby: &Standby) -> String {
    let address = standby.address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default();
    let lag = match (standby.replay_lag_seconds, standby.replay_lag_bytes) {
        (Some(lag), Some(waiting)) => format!("replays {} ({}) behind", seconds(lag), bytes(waiting)),
        (None, Some(0)) => "has replayed everything".to_owned(),
        (_, Some(waiting)) => format!("has {} to replay", bytes(waiting)),
        (_, None) => "has not said what it replayed".to_owned(),
    };
    let ready = match &standby.not_ready {
        None => Tone::Good.paint("ready"),
        Some(why) => format!("{}: {why}", Tone::Doubtful.paint("NOT READY")),
    };
    format!("{}{address}, {}, {}, {lag}; {ready}", standby.name, standby.state, standby.sync_state)
}

fn end(certificate: &Certificate, now: Timestamp) -> String {
    let Certificate { of, endpoint, .. } = certificate;
    let trusted = certificate.not_trusted.as_ref();
    let trusted = trusted.map(|why| format!("; {}: {why}", Tone::Bad.paint("NOT TRUSTED"))).unwrap_or_default();
    match (&certificate.not_after, &certificate.not_asked) {
        (Some(end), _) if *end <= now => {
            format!("{of} ({endpoint}) {} {}{trusted}", Tone::Bad.paint("EXPIRED"), ago(now, *end))
        }
        (Some(end), _) => {
            let left = seconds(end.duration_since(now).as_secs_f64());
            format!("{of} ({endpoint}) ends {}, in {left}{trusted}", moment(*end))
        }
        (None, why) => format!("{of} ({endpoint}) is not known: {}", why.as_deref().unwrap_or("it was not asked")),
    }
}

fn key(key: &RecoveryKey, now: Timestamp) -> String {
    let called = key.name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
    let last = key.last_rehearsed.map_or("never rehearsed".to_owned(), |at| format!("rehearsed {}", ago(now, at)));
    let worries = key.worries.join("; ");
    match key.worries.is_empty() {
        true => format!("{}{called}: {last}", key.recipient),
        false => format!("{}{called}: {}", key.recipient, Tone::Doubtful.paint(&worries)),
    }
}

fn storage(storage: &Storage) -> String {
    match &storage.not_known {
        Some(why) => format!("not known: {why}"),
        None => format!(
            "{} in {}: {} of packs, {} of log",
            bytes(storage.bytes),
            count(storage.objects, "object", "objects"),
            bytes(storage.pack_bytes),
            bytes(storage.wal_bytes)
        ),
    }
}
