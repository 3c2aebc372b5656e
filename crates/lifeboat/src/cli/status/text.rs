//! The status for people: a table, what speaks against each instance, and a few facts; all of them where one is named.

use jiff::Timestamp;
use lifeboat_engine::status::{Copy, LockProof, Locks, Slot, Wal};
use lifeboat_model::check::Outcome;

use super::{Row, Shown, details, tone, word};
use crate::output::{Page, Rows, Tone, ago, bytes, count, moment, seconds};

pub fn write(shown: &Shown, page: &mut Page) {
    table(shown, page);
    for row in shown.instances.iter().filter(|row| !row.judged.reasons.is_empty()) {
        reasons(row, page);
    }
    match (shown.in_full, shown.instances.as_slice()) {
        (true, [row]) => details::write(row, shown.now, page),
        _ => {
            page.gap();
            shown.instances.iter().for_each(|row| facts(row, shown.now, page));
        }
    }
    page.gap();
    let immutable = if shown.immutable { "immutable" } else { "not immutable" };
    page.line(format_args!("Repository: {}, {immutable}.", shown.repository));
}

fn table(shown: &Shown, page: &mut Page) {
    let header =
        ["instance", "tier", "state", "exposed", "RPO target", "newest point", "last drill", "RTO", "RTO target"];
    let mut rows = Rows::new(&header);
    for row in &shown.instances {
        let facts = &row.facts;
        let exposed = row.judged.exposure_seconds;
        let newest = facts.points.newest.as_ref().map_or("none".to_owned(), |point| ago(shown.now, point.finished));
        let drill = facts
            .drill
            .as_ref()
            .map_or("none".to_owned(), |drill| format!("{}, {}", drill.outcome.word(), ago(shown.now, drill.started)));
        let rto = facts.drill.as_ref().and_then(|drill| drill.rto_seconds);
        let targets = (seconds(facts.targets.rpo_seconds), seconds(facts.targets.rto_seconds));
        let measured = |value: Option<f64>, target: f64| match value {
            Some(value) if value > target => (Tone::Doubtful, seconds(value)),
            Some(value) => (Tone::Plain, seconds(value)),
            None => (Tone::Plain, "–".to_owned()),
        };
        let exposed = measured(exposed, facts.targets.rpo_seconds);
        let rto = measured(rto, facts.targets.rto_seconds);
        let failed = facts.drill.as_ref().is_some_and(|drill| drill.outcome == Outcome::Failed);
        let plain = |text| (Tone::Plain, text);
        rows.row([
            plain(facts.instance.as_str()),
            plain(&facts.tier),
            (tone(row.judged.state), word(row.judged.state)),
            (exposed.0, &exposed.1),
            plain(&targets.0),
            plain(&newest),
            (if failed { Tone::Bad } else { Tone::Plain }, &drill),
            (rto.0, &rto.1),
            plain(&targets.1),
        ]);
    }
    page.table(rows);
}

fn reasons(row: &Row, page: &mut Page) {
    page.heading(format_args!("{} is {}", row.facts.instance, word(row.judged.state)));
    for reason in &row.judged.reasons {
        page.line(format_args!("  - {}", reason.text));
    }
    if let Some(next) = &row.judged.next {
        page.line(format_args!("  next: {next}"));
    }
}

/// What an overview tells of each.
fn facts(row: &Row, now: Timestamp, page: &mut Page) {
    let (name, facts) = (&row.facts.instance, &row.facts);
    if let Some(wal) = &facts.wal {
        page.line(format_args!("{name}: {}", log(wal, now)));
    }
    page.line(format_args!("{name}: {}", locks(&facts.locks, now)));
    for copy in &facts.copies {
        page.line(format_args!("{name}: copy {}: {}", copy.name, behind(copy, now)));
    }
}

pub fn log(wal: &Wal, now: Timestamp) -> String {
    let held = wal.newest_commit.map_or_else(
        || "no commit of the database is held in the streamed log yet".to_owned(),
        |time| format!("newest commit held {}", ago(now, time)),
    );
    match (&wal.not_asked, wal.waiting_since, wal.waiting_bytes) {
        (Some(why), ..) => format!("what of the database is not held is not known: {why}; {held}"),
        (None, None, _) => format!("all of the database's log is held; {held}"),
        (None, Some(_), Some(waiting)) => format!("{} of the database's log not held; {held}", bytes(waiting)),
        (None, Some(_), None) => format!("the log that is held does not go on to the server's; {held}"),
    }
}

pub fn slot(slot: &Slot) -> String {
    let state = if matches!(slot.wal_status.as_str(), "reserved") { Tone::Plain } else { Tone::Bad };
    let who = if slot.active { "streamed from" } else { "nobody streams" };
    let held = slot.held_back_bytes.map(|held| format!(", {} kept for it", bytes(held))).unwrap_or_default();
    let limit = slot.limit_bytes.map_or_else(|| "no limit".to_owned(), |limit| format!("limit {}", bytes(limit)));
    format!("{}: {}, {who}{held}, {limit}", slot.name, state.paint(&slot.wal_status))
}

pub fn locks(locks: &Locks, now: Timestamp) -> String {
    let proof = match &locks.proof {
        None => "; never proven: lifeboat verify --locks".to_owned(),
        Some(LockProof { at, objects, short: 0 }) => {
            format!("; proven {}: {}", ago(now, *at), count(*objects, "object", "objects"))
        }
        Some(LockProof { at, short, .. }) => {
            let short = count(*short, "object short", "objects short");
            format!("; {} {}: {short}", Tone::Bad.paint("NOT PROVEN"), ago(now, *at))
        }
    };
    match (&locks.mode, &locks.not_locked, locks.newest_until) {
        (None, Some(why), _) => format!("{} {why}", Tone::Doubtful.paint("not locked:")),
        (None, None, _) => "what is locked is not known".to_owned(),
        (Some(_), Some(why), _) => format!("{} {why}{proof}", Tone::Bad.paint("NOT LOCKED:")),
        (Some(mode), None, Some(until)) => format!("locked ({mode}), the newest point until {}{proof}", moment(until)),
        _ => "no point to lock yet".to_owned(),
    }
}

pub fn behind(copy: &Copy, now: Timestamp) -> String {
    if let Some(why) = &copy.not_asked {
        return format!("how far it is behind is not known: {why}");
    }
    let Some(reaches) = copy.reaches else { return "nothing was copied yet".to_owned() };
    let points = copy.missing_points.filter(|missing| *missing > 0).map(|missing| count(missing, "point", "points"));
    let log = match copy.missing_wal_bytes {
        _ if copy.lacks_wal => Some("all of the log".to_owned()),
        Some(missing) if missing > 0 => Some(format!("{} of log", bytes(missing))),
        _ => None,
    };
    let lacks: Vec<String> = points.into_iter().chain(log).collect();
    let lacks = if lacks.is_empty() { "nothing".to_owned() } else { lacks.join(", ") };
    format!("lacks {lacks}; the newest moment in it is {}", ago(now, reaches))
}
