//! Everything that is known of an instance, as it was looked up.

use jiff::Timestamp;
use lifeboat_engine::status::{Copy, Facts, RecoveryKey, Slot, Standbys, Wal};
use maud::{Markup, html};

use crate::pages::{
    context::PageContext,
    parts::{self, Table, Tone},
    words,
};

/// The sections.
pub(super) fn all(facts: &Facts, context: &PageContext) -> Markup {
    let now = context.now;
    html! {
        @if !facts.unknown.is_empty() {
            section.unknown #unknown data-part aria-labelledby="unknown-title" {
                h2 #unknown-title { "Could not be looked up" }
                p { "Nothing of this counts as good." }
                ul { @for what in &facts.unknown { li { (what) } } }
            }
        }
        div.two {
            section #trend data-part aria-labelledby="trend-title" {
                h2 #trend-title { "Back in time?" }
                @if facts.rto_trend.is_empty() {
                    (parts::nothing("No drill has passed yet", html! { p { "Until one has, nobody knows how long it takes to be back." } }))
                } @else { (super::trend(facts)) }
            }
            section #points data-part aria-labelledby="points-title" {
                h2 #points-title { "What can be brought back" }
                (reach(facts, now))
            }
            section #source data-part aria-labelledby="source-title" {
                h2 #source-title { "The source" }
                (source(facts, now))
            }
            section #lock data-part aria-labelledby="lock-title" {
                h2 #lock-title { "Locks and copies" }
                (locks(facts, now))
                (copies(&facts.copies, now))
            }
            section #keys data-part aria-labelledby="keys-title" {
                h2 #keys-title { "Keys to open it" }
                (keys(&facts.keys, now))
            }
            section #certificates data-part aria-labelledby="certificates-title" {
                h2 #certificates-title { "Certificates" }
                (certificates(facts, now))
            }
        }
    }
}

fn reach(facts: &Facts, now: Timestamp) -> Markup {
    let points = &facts.points;
    let mut windows = Table::new("windows", "Moments that can be reached", &["From", "To", "Timeline"]);
    for window in facts.windows.iter().rev().take(6) {
        windows.row(vec![words::time(window.from), words::time_and_ago(now, window.to), html! { (window.timeline) }]);
    }
    html! {
        (parts::facts(vec![
            ("Recovery points", Some(html! { (words::number(points.stored)) " stored" @if points.passed_over > 0 { ", of which the newest " (points.passed_over) " cannot be believed" } })),
            ("Newest", points.newest.as_ref().map(|point| html! { (words::time_and_ago(now, point.finished)) " " code.id { (point.id) } })),
            ("Stored", Some(html! { (words::bytes(facts.storage.bytes)) " in " (words::count(facts.storage.objects, "object", "objects"))
                ", of which " (words::bytes(facts.storage.wal_bytes)) " log" })),
        ]))
        @if windows.is_empty() { p { "Between the points nothing can be reached: no log is streamed." } } @else { (windows) }
    }
}

fn source(facts: &Facts, now: Timestamp) -> Markup {
    html! {
        @match &facts.wal {
            Some(wal) => { (stream(wal, now)) }
            None => { p { "No log is streamed: what came after the newest point would be lost." } }
        }
        (standbys(&facts.standbys))
    }
}

fn stream(wal: &Wal, now: Timestamp) -> Markup {
    parts::facts(vec![
        ("Newest commit held", wal.newest_commit.map(|at| words::time_and_ago(now, at))),
        (
            "Waiting",
            Some(html! {
                @match (wal.waiting_since, wal.waiting_bytes) {
                    (Some(since), bytes) => { "since " (words::ago(now, since)) @if let Some(bytes) = bytes { ", " (words::bytes(bytes)) } }
                    (None, _) if wal.not_asked.is_some() => { "not known" }
                    (None, _) => { "nothing" }
                }
            }),
        ),
        ("Slot", wal.slot.as_ref().map(|slot| self::slot(slot, now))),
        ("Not asked", wal.not_asked.as_ref().map(|why| html! { (why) })),
    ])
}

fn slot(slot: &Slot, now: Timestamp) -> Markup {
    let tone = match slot.wal_status.as_str() {
        "reserved" => Tone::Good,
        "extended" => Tone::Doubt,
        _ => Tone::Bad,
    };
    html! {
        (parts::word(tone, &slot.wal_status)) " " code { (slot.name) }
        @if !slot.active { ", nobody streams from it" }
        @match (slot.held_back_bytes, slot.limit_bytes) {
            (Some(held), Some(limit)) => { ", " (words::bytes(held)) " held back of " (words::bytes(limit)) " allowed" }
            (Some(held), None) => { ", " (words::bytes(held)) " held back without a limit: its disk can fill" }
            _ => {}
        }
        @if let Some(lost) = slot.lost_at { ". Lost " (words::ago(now, lost)) " if nothing changes" }
    }
}

fn standbys(standbys: &Standbys) -> Markup {
    let mut table = Table::new("standbys", "Standbys", &["Standby", "State", "Behind", "Failover"]);
    for one in &standbys.found {
        table.row(vec![
            html! { (one.name) @if let Some(address) = &one.address { " " span.soft { (address) } } },
            html! { (one.state) ", " (one.sync_state) },
            html! {
                @match (one.replay_lag_seconds, one.replay_lag_bytes) {
                    (Some(seconds), _) => { (words::span(seconds)) }
                    (None, Some(bytes)) => { (words::bytes(bytes)) }
                    (None, None) => { "not known" }
                }
            },
            match &one.not_ready {
                None => parts::word(Tone::Good, "ready"),
                Some(why) => html! { (parts::word(Tone::Doubt, "not ready")) span.because { (why) } },
            },
        ]);
    }
    html! {
        @if let Some(why) = &standbys.not_asked { p { "Standbys are not known: " (why) } }
        @else if table.is_empty() { p.soft { "No standby." } }
        @else { (table) }
    }
}

fn locks(facts: &Facts, now: Timestamp) -> Markup {
    let locks = &facts.locks;
    parts::facts(vec![
        (
            "Lock",
            Some(
                html! { @match &locks.mode { Some(mode) => { (mode) } None => { (parts::word(Tone::Doubt, "nothing is locked")) } } },
            ),
        ),
        ("Newest point until", locks.newest_until.map(|until| words::time_and_ago(now, until))),
        ("Not locked", locks.not_locked.as_ref().map(|why| html! { (why) })),
        (
            "Proven",
            Some(html! {
                @match &locks.proof {
                    Some(proof) if proof.short == 0 => {
                        (parts::word(Tone::Good, html! { (words::count(proof.objects, "object", "objects")) })) " " (words::ago(now, proof.at))
                    }
                    Some(proof) => {
                        (parts::word(Tone::Bad, html! { (words::number(proof.short)) " of " (words::number(proof.objects)) " locked too short" })) " " (words::ago(now, proof.at))
                    }
                    None => { "never: " (parts::command(&format!("lifeboat verify --locks --instance {}", facts.instance))) }
                }
            }),
        ),
    ])
}

fn copies(copies: &[Copy], now: Timestamp) -> Markup {
    let mut table = Table::new("copies", "Copies", &["Copy", "Newest", "Behind"]);
    for copy in copies {
        let behind = match (copy.missing_points, copy.missing_wal_bytes) {
            (Some(0), Some(0) | None) => "nothing".to_owned(),
            (Some(points), bytes) => {
                let log = bytes.map(|bytes| format!(", {} of log", words::bytes(bytes))).unwrap_or_default();
                format!("{}{log}", words::count(points, "point", "points"))
            }
            (None, Some(bytes)) => format!("{} of log", words::bytes(bytes)),
            (None, None) => "not known".to_owned(),
        };
        table.row(vec![
            html! { (copy.name) },
            html! { @match copy.newest_started { Some(at) => { (words::ago(now, at)) } None => { "none" } } },
            html! { (behind) @if let Some(why) = &copy.not_asked { span.because { (why) } } },
        ]);
    }
    html! { @if table.is_empty() { p.soft { "No copy elsewhere." } } @else { (table) } }
}

fn keys(keys: &[RecoveryKey], now: Timestamp) -> Markup {
    let mut table = Table::new("keys", "Recovery identities", &["Key", "Last opened a point", "Worries"]);
    for key in keys {
        table.row(vec![
            html! { @if let Some(name) = &key.name { (name) " " } code.id { (key.recipient) } },
            html! { @match key.last_rehearsed { Some(at) => { (words::ago(now, at)) } None => { (parts::word(Tone::Doubt, "never")) } } },
            html! { @if key.worries.is_empty() { "none" } @else { (key.worries.join("; ")) } },
        ]);
    }
    html! { @if table.is_empty() { p.soft { "No recovery identity is known." } } @else { (table) } }
}

fn certificates(facts: &Facts, now: Timestamp) -> Markup {
    let mut table = Table::new("certificates", "Certificates of the endpoints in use", &["Of", "Endpoint", "Ends"]);
    for one in &facts.certificates {
        table.row(vec![
            html! { (one.of) },
            html! { code { (one.endpoint) } },
            html! {
                @match one.not_after { Some(at) => { (words::time_and_ago(now, at)) } None => { "not known" } }
                @if let Some(why) = &one.not_asked { span.because { (why) } }
            },
        ]);
    }
    html! { @if table.is_empty() { p.soft { "No endpoint in use shows one." } } @else { (table) } }
}
