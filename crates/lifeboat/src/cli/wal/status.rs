//! `lifeboat wal status`: what would be lost if the server were lost now, and what its slot costs it.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use lifeboat_engine::{
    context::Context,
    stream::status::{self, Exposure},
};
use lifeboat_model::{id::Instance, lsn::Lsn};
use serde::Serialize;

use super::super::Session;
use crate::{
    exit::Exit,
    failure::Result,
    output::{Answer, Page, Rows, Tone, bytes, seconds},
    wire,
};

/// How long the server's WAL is watched to see how fast it grows.
const SAMPLE: Duration = Duration::from_secs(2);
/// A slot is in danger when its limit is reached within this time.
const ALARM: Duration = Duration::from_secs(6 * 3600);

/// Say what would be lost now, and what the slots hold back at the servers
///
/// Asks the server and the repository, not the stream: so the answer is true whether or not a stream runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat wal status
  lifeboat wal status clinic --json

Exit codes: 0 all within their tier's RPO, 5 beyond it or in danger, 4 nothing is held or the slot is lost.")]
pub struct Status {
    /// Only this instance [default: all that are configured]
    instance: Option<Instance>,
}

#[derive(Serialize)]
struct Shown {
    instances: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    instance: String,
    /// `held`, `behind`, `not-held` or `unreachable`.
    state: State,
    reasons: Vec<String>,
    rpo_target_seconds: f64,
    #[serde(flatten)]
    facts: Option<Facts>,
}

#[derive(Serialize)]
struct Facts {
    /// What a loss of the server would cost now: the age of the newest commit held, while WAL waits; 0 when none does.
    exposed_seconds: Option<f64>,
    exposed_bytes: Option<u64>,
    newest_commit: Option<Timestamp>,
    durable: Option<Lsn>,
    flushed: Lsn,
    timeline: u32,
    system_id: String,
    slot: String,
    slot_exists: bool,
    slot_active: bool,
    wal_status: Option<String>,
    held_back_bytes: Option<u64>,
    /// `max_slot_wal_keep_size`; without it the slot can fill the server's disk.
    limit_bytes: Option<u64>,
    growth_bytes_per_second: f64,
    limit_reached_in_seconds: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Held,
    Behind,
    NotHeld,
    Unreachable,
}

impl State {
    fn shown(self) -> (Tone, &'static str) {
        match self {
            State::Held => (Tone::Good, "held"),
            State::Behind => (Tone::Doubtful, "BEHIND"),
            State::NotHeld => (Tone::Bad, "NOT HELD"),
            State::Unreachable => (Tone::Bad, "UNREACHABLE"),
        }
    }

    fn exit(self) -> Exit {
        match self {
            State::Held => Exit::Ok,
            State::Behind => Exit::Incomplete,
            State::NotHeld => Exit::CheckFailed,
            State::Unreachable => Exit::Unavailable,
        }
    }
}

/// The state, and everything that speaks against the best one.
fn judge(exposure: &Exposure, rpo: Duration) -> (State, Vec<String>) {
    let (mut state, mut reasons) = (State::Held, Vec::new());
    let mut found = |worse: State, reason: String| {
        state = state.max(worse);
        reasons.push(reason);
    };
    match &exposure.found {
        None => {
            found(State::NotHeld, format!("the server has no slot {}: lifeboat wal stream makes it", exposure.slot))
        }
        Some(slot) if slot.wal_status.as_deref() == Some("lost") => {
            found(State::NotHeld, "the slot was invalidated: WAL is lost; make a new backup".to_owned());
        }
        Some(slot) if !slot.active => found(State::Behind, "no stream runs: lifeboat wal stream".to_owned()),
        Some(_) => {}
    }
    match (exposure.durable, exposure.age) {
        (None, _) => found(State::NotHeld, "no WAL of the server's timeline is in the repository".to_owned()),
        (Some(_), Some(age)) if age > rpo => {
            let (age, rpo) = (seconds(age.as_secs_f64()), seconds(rpo.as_secs_f64()));
            found(State::Behind, format!("the newest commit held is {age} old, and the tier allows {rpo}"));
        }
        _ => {}
    }
    match exposure.limit {
        None => {
            reasons.push("max_slot_wal_keep_size is not set: a stream that stops for long can fill the disk".into())
        }
        Some(limit) => {
            if let Some(left) = exposure.hurts_in.filter(|left| *left < ALARM && exposure.held_back > Some(limit / 2)) {
                let (left, limit) = (seconds(left.as_secs_f64()), bytes(limit));
                reasons.push(format!("the slot reaches its limit of {limit} in {left} at the present rate"));
                state = state.max(State::Behind);
            }
        }
    }
    (state, reasons)
}

impl From<Exposure> for Facts {
    fn from(exposure: Exposure) -> Facts {
        let slot = exposure.found.as_ref();
        Facts {
            exposed_seconds: exposure.age.map(|age| age.as_secs_f64()),
            exposed_bytes: exposure.bytes,
            newest_commit: exposure.newest_commit,
            durable: exposure.durable,
            flushed: exposure.flushed,
            timeline: exposure.timeline,
            system_id: exposure.system_id.to_string(),
            slot_exists: slot.is_some(),
            slot_active: slot.is_some_and(|slot| slot.active),
            wal_status: slot.and_then(|slot| slot.wal_status.clone()),
            slot: exposure.slot,
            held_back_bytes: exposure.held_back,
            limit_bytes: exposure.limit,
            growth_bytes_per_second: exposure.growth,
            limit_reached_in_seconds: exposure.hurts_in.map(|left| left.as_secs_f64()),
        }
    }
}

impl Answer for Shown {
    const SCHEMA: &'static str = "lifeboat.wal-status/1";

    fn text(&self, page: &mut Page) {
        let header = ["instance", "state", "exposed", "not held", "RPO target", "slot keeps", "WAL grows"];
        let mut rows = Rows::new(&header).numbers(&[3, 5]);
        let none = || "–".to_owned();
        for row in &self.instances {
            let facts = row.facts.as_ref();
            let exposed = facts.and_then(|facts| facts.exposed_seconds).map_or_else(none, seconds);
            let not_held = facts.and_then(|facts| facts.exposed_bytes).map_or_else(none, bytes);
            let kept = facts.and_then(|facts| facts.held_back_bytes).map_or_else(none, bytes);
            let growth = facts.map_or_else(none, |facts| format!("{}/s", bytes(facts.growth_bytes_per_second as u64)));
            let target = seconds(row.rpo_target_seconds);
            let plain = |text| (Tone::Plain, text);
            let cells = [&exposed, &not_held, &target, &kept, &growth].map(|text| plain(text.as_str()));
            rows.row([plain(row.instance.as_str()), row.state.shown()].into_iter().chain(cells));
        }
        page.table(rows);
        for row in self.instances.iter().filter(|row| !row.reasons.is_empty()) {
            page.heading(&row.instance);
            row.reasons.iter().for_each(|reason| page.line(format_args!("  - {reason}")));
        }
    }
}

impl Status {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = wire::load_config(session)?;
        if let Some(instance) = &self.instance {
            loaded.config.instance(instance.as_str())?;
        }
        let (repository, _) = wire::open_for_reading(&loaded).await?;
        let context = wire::context(session, loaded, repository, "lifeboat wal status");
        let names = wire::instances(self.instance.as_ref(), &context.config);
        let mut instances = Vec::new();
        for name in names {
            instances.push(look(&context, &name).await?);
        }
        let worst = instances.iter().map(|row| row.state).max().unwrap_or(State::Held);
        session.output.show(&Shown { instances })?;
        Ok(worst.exit())
    }
}

/// One instance's row. A server that does not answer is an answer, so that the others are seen too.
async fn look(context: &Context, name: &Instance) -> Result<Row> {
    let (connect, _) = super::server(context, name)?;
    let (_, config) = context.instance(name.as_str())?;
    let rpo = context.tier(config)?.rpo.0;
    let row = |state, reasons, facts| Row {
        instance: name.to_string(),
        state,
        reasons,
        rpo_target_seconds: rpo.as_secs_f64(),
        facts,
    };
    match status::look(context, name.as_str(), &connect, SAMPLE).await {
        Ok(exposure) => {
            let (state, reasons) = judge(&exposure, rpo);
            Ok(row(state, reasons, Some(Facts::from(exposure))))
        }
        Err(lifeboat_engine::Error::Postgres(error)) => Ok(row(State::Unreachable, vec![error.to_string()], None)),
        Err(error) => Err(error.into()),
    }
}
