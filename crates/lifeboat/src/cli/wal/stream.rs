//! `lifeboat wal stream`: runs until it is stopped. What it has done is the answer.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use lifeboat_daemon::runner::RunEvent;
use lifeboat_engine::{
    context::Clock,
    keys::writer_keys,
    stream::{self, Phase, State, Until},
};
use lifeboat_model::{id::Instance, lsn::Lsn};
use serde::Serialize;
use tokio::{sync::watch, time::Instant};

use super::super::Session;
use crate::{
    exit::Exit,
    failure::{Advise as _, Result},
    log::Voice,
    output::{Answer, Page, Tone, bytes, count, moment, seconds},
    wire,
};

/// Stream an instance's write-ahead log into the repository, until stopped
///
/// WAL is durable in the repository about max_lag (2 s) after its commit, and only then told to the server as flushed: its
/// replication slot keeps the rest. The slot is made if it is not there; a broken connection is made again. Ctrl-C stores what
/// has come, then ends.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat wal stream clinic
  lifeboat wal stream clinic --once --json     store what the server has now, then end

Exit codes: 0 ended as asked, 5 WAL was lost before it could be stored, 7 another stream of this instance runs.")]
pub struct Stream {
    /// The instance
    instance: Instance,
    /// End when everything that the server had at the beginning is stored
    #[arg(long)]
    once: bool,
}

#[derive(Serialize)]
struct Done {
    instance: String,
    system_id: String,
    timeline: u32,
    durable: Lsn,
    newest_commit: Option<Timestamp>,
    slices: u64,
    segments: u64,
    wal_bytes: u64,
    stored_bytes: u64,
    /// From commit (the server's clock) to durable (this host's).
    lag: Lag,
    reconnects: u64,
    gaps: Vec<Gap>,
    remarks: Vec<String>,
}

#[derive(Serialize)]
struct Lag {
    commits: u64,
    /// Bounds, at most a twentieth above the truth.
    p50_seconds: Option<f64>,
    p99_seconds: Option<f64>,
    longest_seconds: f64,
}

#[derive(Serialize)]
struct Gap {
    timeline: u32,
    from: Lsn,
    to: Lsn,
}

impl Done {
    fn new(instance: &Instance, state: State) -> Done {
        let quantile = |share| state.lags.quantile(share).map(|lag| lag.as_secs_f64());
        Done {
            instance: instance.to_string(),
            system_id: state.system_id.to_string(),
            timeline: state.timeline,
            durable: state.durable,
            newest_commit: state.newest_commit,
            slices: state.slices,
            segments: state.segments,
            wal_bytes: state.wal_bytes,
            stored_bytes: state.stored_bytes,
            lag: Lag {
                commits: state.lags.count(),
                p50_seconds: quantile(0.5),
                p99_seconds: quantile(0.99),
                longest_seconds: state.lags.longest().as_secs_f64(),
            },
            reconnects: state.reconnects,
            gaps: state.gaps.iter().map(|gap| Gap { timeline: gap.timeline, from: gap.from, to: gap.to }).collect(),
            remarks: state.remarks,
        }
    }
}

impl Answer for Done {
    const SCHEMA: &'static str = "lifeboat.wal-stream/1";

    fn text(&self, page: &mut Page) {
        page.line(format_args!("{} is held to {} of timeline {}.", self.instance, self.durable, self.timeline));
        if let Some(newest) = self.newest_commit {
            page.line(format_args!("Newest commit held: {}.", moment(newest)));
        }
        let (segments, slices) =
            (count(self.segments, "whole segment", "whole segments"), count(self.slices, "slice", "slices"));
        page.line(format_args!(
            "Stored {} of WAL as {segments} and {slices}, {} after compression.",
            bytes(self.wal_bytes),
            bytes(self.stored_bytes)
        ));
        if let (Some(p50), Some(p99)) = (self.lag.p50_seconds, self.lag.p99_seconds) {
            page.line(format_args!(
                "From commit to durable: half within {}, 99 % within {}, the longest {} ({}).",
                seconds(p50),
                seconds(p99),
                seconds(self.lag.longest_seconds),
                count(self.lag.commits, "commit", "commits")
            ));
        }
        for gap in &self.gaps {
            let text =
                format!("LOST: nothing between {} and {} of timeline {} is held", gap.from, gap.to, gap.timeline);
            page.line(format_args!("{}", Tone::Bad.paint(&text)));
        }
    }
}

impl Stream {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = wire::load_config(session)?;
        loaded.config.instance(self.instance.as_str())?;
        writer_keys(&loaded.config.keys)?; // a wrong key is told before anything is connected to
        let repository = wire::open_or_make(session, &loaded).await?;
        let context = wire::context(session, loaded, repository, &format!("lifeboat wal stream {}", self.instance));
        let (connect, _) = super::server(&context, &self.instance)?;
        let (state, watched) = watch::channel(State::default());
        let teller =
            tokio::spawn(tell(session.voice.clone(), session.clock.clone(), self.instance.to_string(), watched));
        let until = if self.once { Until::CaughtUp } else { Until::Cancelled };
        let ended = stream::run(&context, self.instance.as_str(), &connect, until, &state, &session.cancel).await;
        let done = Done::new(&self.instance, state.borrow().clone());
        drop(state);
        let _ = teller.await; // it only talks
        match ended {
            Err(lifeboat_engine::Error::Cancelled) | Ok(()) => {}
            Err(error) => {
                return Err(error)
                    .safe("WAL that was stored stays; the server keeps the rest in its slot")
                    .context(format!("the WAL stream of {} ended", self.instance));
            }
        }
        session.output.show(&done)?;
        Ok(if done.gaps.is_empty() { Exit::Ok } else { Exit::Incomplete })
    }
}

/// Programs are told at most so often.
const PACE: Duration = Duration::from_secs(1);

/// Tells when the phase changes; programs also how far it is.
async fn tell(voice: Voice, clock: Clock, instance: String, mut watched: watch::Receiver<State>) {
    let mut told = String::new();
    let mut progress = Progress::default();
    let mut last = None;
    loop {
        let (text, event) = {
            let state = watched.borrow_and_update();
            let event = voice.tells_events().then(|| progress.event(&state, &clock));
            (words(&instance, &state), event)
        };
        match event {
            Some(event) if last.as_ref() != Some(&event) => {
                voice.event(&event, &text);
                last = Some(event);
            }
            None if !text.is_empty() && text != told => {
                voice.say(&text);
                told = text;
            }
            _ => {}
        }
        let spoke = Instant::now();
        if watched.changed().await.is_err() {
            return;
        }
        if voice.tells_events() {
            tokio::time::sleep_until(spoke + PACE).await; // what changes meanwhile is told together
        }
    }
}

fn words(instance: &str, state: &State) -> String {
    match &state.phase {
        Phase::Connecting => String::new(),
        Phase::Streaming => format!("{instance}: streaming timeline {}", state.timeline),
        Phase::Waiting { why, pause } => {
            format!("{instance}: {why}; trying again every {}", seconds(pause.as_secs_f64()))
        }
    }
}

/// Since when something waits.
#[derive(Default)]
struct Progress {
    waiting_since: Option<Timestamp>,
}

impl Progress {
    fn event(&mut self, state: &State, clock: &Clock) -> RunEvent {
        let phase = match &state.phase {
            Phase::Connecting => "connecting",
            Phase::Streaming => "streaming",
            Phase::Waiting { .. } => "waiting",
        };
        let end = state.server_end.max(state.received);
        // Before the first connection nothing is known of the server.
        let waiting_bytes = (end.0 > 0).then(|| end.0.saturating_sub(state.durable.0));
        match waiting_bytes {
            Some(0) => self.waiting_since = None,
            Some(_) => {
                self.waiting_since.get_or_insert_with(|| clock());
            }
            None => {}
        }
        let (newest_commit, waiting_since) = (state.newest_commit, self.waiting_since);
        RunEvent::Wal { phase: phase.to_owned(), newest_commit, waiting_bytes, waiting_since }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_waits_has_waited_since_it_was_first_seen() {
        let at = |second| -> Clock { Arc::new(move || Timestamp::from_second(second).unwrap_or_default()) };
        let mut progress = Progress::default();
        let mut since = |state: &State, second: i64| match progress.event(state, &at(second)) {
            RunEvent::Wal { waiting_bytes, waiting_since, .. } => {
                (waiting_bytes, waiting_since.map(Timestamp::as_second))
            }
            _ => panic!("not about WAL"),
        };
        let mut state = State::default();
        assert_eq!(since(&state, 1), (None, None));
        (state.durable, state.server_end) = (Lsn(100), Lsn(100));
        assert_eq!(since(&state, 2), (Some(0), None));
        state.server_end = Lsn(150);
        assert_eq!(since(&state, 3), (Some(50), Some(3)));
        state.durable = Lsn(120);
        assert_eq!(since(&state, 9), (Some(30), Some(3)));
        state.durable = Lsn(150);
        assert_eq!(since(&state, 10), (Some(0), None));
    }
}
