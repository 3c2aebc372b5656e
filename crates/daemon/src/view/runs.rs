//! Runs, in lists and one by one.

use jiff::Timestamp;
use lifeboat_model::id::{Instance, RunId, Tenant};

use super::{CheckView, EventView, NoteView, RunLine, RunView};
use crate::{
    Result,
    daemon::{Daemon, Scope},
    job::{Because, RunOutcome},
    runner::RunEvent,
    settings::Tenants,
    state::{RunFilter, RunRow},
};

/// Events that are read to show a run: its rungs and its last notes are among them.
const READ: usize = 5_000;
/// Lines that are shown of a run.
const NOTES: usize = 200;

/// Which runs are wanted. Nothing said: all that may be seen.
#[derive(Debug, Clone, Default)]
pub struct RunsFilter {
    /// Of this tenant.
    pub tenant: Option<Tenant>,
    /// Of this instance.
    pub instance: Option<Instance>,
    /// The verb's word.
    pub verb: Option<String>,
    /// Of this schedule.
    pub schedule: Option<String>,
    /// How they ended.
    pub outcome: Option<RunOutcome>,
    /// Begun, or due, before.
    pub before: Option<Timestamp>,
    /// Begun, or due, then or later.
    pub since: Option<Timestamp>,
}

/// Runs, newest first.
pub async fn runs(daemon: &Daemon, scope: &Scope, filter: RunsFilter, limit: usize) -> Result<Vec<RunLine>> {
    let RunsFilter { tenant, instance, verb, schedule, outcome, before, since } = filter;
    let tenants = match tenant {
        Some(tenant) if scope.has(&tenant) => Some(Tenants::Some([tenant].into())),
        Some(_) => return Ok(Vec::new()),
        None => Some(scope.0.clone()),
    };
    let filter = RunFilter { tenants, instance, verb, schedule, outcome, before, since };
    Ok(daemon.state.runs(filter, limit).await?.iter().map(RunLine::from).collect())
}

/// A run with what it told; none where there is none that may be seen.
pub async fn run(daemon: &Daemon, scope: &Scope, run: RunId) -> Result<Option<RunView>> {
    let Some(row) = daemon.state.run(run).await?.filter(|row| scope.has(&row.job.tenant)) else { return Ok(None) };
    let events = daemon.state.last_events(run, READ).await?;
    let mut view = RunView {
        line: RunLine::from(&row),
        last_event: events.last().map_or(0, |event| event.number),
        checks: Vec::new(),
        doing: None,
        notes: Vec::new(),
        answer: row.answer,
        evidence: row.evidence,
    };
    for EventView { at, event, .. } in events {
        view.told(at, event);
    }
    let beyond = view.notes.len().saturating_sub(NOTES);
    view.notes.drain(..beyond);
    if row.ended.is_some() {
        view.doing = None;
    }
    Ok(Some(view))
}

/// What a run told behind an event; none where there is no such run that may be seen.
pub async fn events(
    daemon: &Daemon,
    scope: &Scope,
    run: RunId,
    after: u64,
    limit: usize,
) -> Result<Option<Vec<EventView>>> {
    let seen = daemon.state.run(run).await?.is_some_and(|row| scope.has(&row.job.tenant));
    if seen { daemon.state.events(run, after, limit).await.map(Some) } else { Ok(None) }
}

impl RunView {
    /// Takes in what the run told next.
    fn told(&mut self, at: Timestamp, event: RunEvent) {
        match event {
            RunEvent::Phase { name } => self.doing = Some(name),
            RunEvent::Check { id, verdict, observed, seconds } => {
                let (verdict, why) = words(&verdict);
                let detail = why.unwrap_or(observed);
                // A rung that answers again has been tried again.
                self.checks.retain(|known| known.id != id);
                self.checks.push(CheckView { id, verdict: verdict.to_owned(), detail, seconds });
            }
            RunEvent::Note { level, message } => self.notes.push(NoteView { at, level, text: message }),
            RunEvent::Wal { phase, .. } => self.doing = Some(phase),
            RunEvent::Progress { .. } => {}
        }
    }
}

/// The word of a check's answer, and why it is not a pass.
fn words(verdict: &lifeboat_model::check::Verdict) -> (&'static str, Option<String>) {
    use lifeboat_model::check::Verdict::{Failed, NotExecuted, Passed};
    match verdict {
        Passed => ("passed", None),
        Failed(why) => ("failed", Some(why.clone())),
        NotExecuted(why) => ("not-executed", Some(why.clone())),
    }
}

impl From<&RunRow> for RunLine {
    fn from(row: &RunRow) -> RunLine {
        let (schedule, due, who) = match &row.job.because {
            Because::Schedule { schedule, due } => (Some(schedule.clone()), Some(*due), None),
            Because::Asked { who, .. } => (None, None, Some(who.clone())),
        };
        let phase = match (row.started, row.ended) {
            (_, Some(_)) => "ended",
            (Some(_), None) => "running",
            (None, None) => "queued",
        };
        RunLine {
            run: row.job.run.to_string(),
            tenant: row.job.tenant.to_string(),
            instance: row.job.instance.as_ref().map(Instance::to_string),
            verb: row.job.verb.word().to_owned(),
            schedule,
            due,
            who,
            phase: phase.to_owned(),
            outcome: row.outcome.map(|outcome| outcome.word().to_owned()),
            attempt: row.attempt,
            started: row.started,
            ended: row.ended,
            reason: row.reason.clone(),
        }
    }
}
