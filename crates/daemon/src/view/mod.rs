//! One model of how things are: the API gives it as JSON, the pages show it, metrics and alerts count it. Separate from what
//! the state keeps and from what the engine finds, so that those may change without breaking anybody's program.
//!
//! Every view is made for a [`Scope`](crate::daemon::Scope): what lies outside of it is not there.

mod activity;
mod evidence;
mod instance;
mod overview;
mod points;
mod runbook_model;
mod runbooks;
mod runs;
mod schedules;
mod storage;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use self::overview::{facts_now, next_run_of, troubles};
pub use self::{
    activity::activity,
    evidence::{EvidenceFilter, evidence, statement},
    instance::instance,
    overview::overview,
    points::points,
    runbook_model::{
        AnswerView, JournalNote, RunbookRunLine, RunbookRunView, RunbookRuns, RunbookText, RunbookView, Runbooks,
        StepPlan, StepView, TextNote,
    },
    runbooks::{runbook, runbook_run, runbook_runs, runbooks},
    runs::{RunsFilter, events, run, runs},
    schedules::schedules,
    storage::storage,
};

/// All instances that somebody may see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Overview {
    /// When this was true.
    #[schema(value_type = String, format = DateTime)]
    pub now: Timestamp,
    /// How many of all are `protected`, `at-risk`, `unprotected`.
    pub counts: Counts,
    /// The daemon itself: what does not work at the moment, and since when.
    pub troubles: Vec<Trouble>,
    /// One line each, gravest first.
    pub instances: Vec<Line>,
}

/// How many instances are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Of `protected`.
    pub protected: u64,
    /// Of `at-risk`.
    pub at_risk: u64,
    /// Of `unprotected`.
    pub unprotected: u64,
    /// Not looked at yet.
    pub unknown: u64,
}

/// Something that the daemon needs and has not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trouble {
    /// Whose; none: the daemon's own.
    pub tenant: Option<String>,
    /// `docker`, `postgres clinic`, `dependency sign-in of clinic`, `repository main`, `channel mail`, `policies`, `leader`.
    pub of: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub next: Option<String>,
}

/// One instance in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Line {
    /// The owner.
    pub tenant: String,
    /// The instance.
    pub instance: String,
    /// Its recovery class.
    pub tier: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// `protected`, `at-risk`, `unprotected` or `unknown`.
    pub state: String,
    /// The gravest reason.
    pub reason: Option<String>,
    /// The next command.
    pub next: Option<String>,
    /// What a loss would cost now, in seconds.
    pub exposure_seconds: Option<f64>,
    /// What it may cost.
    pub rpo_target_seconds: Option<f64>,
    /// When the newest point's backup began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub newest_point: Option<Timestamp>,
    /// The last drill's answer.
    pub drill_outcome: Option<String>,
    /// When it began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub drill_started: Option<Timestamp>,
    /// What it measured.
    pub rto_seconds: Option<f64>,
    /// What it may take.
    pub rto_target_seconds: Option<f64>,
    /// The next run.
    pub next_run: Option<Due>,
    /// What is running now.
    pub running: Vec<RunLine>,
    /// The last 14 days, for the timeline.
    pub timeline: Timeline,
}

/// What happened on a stretch of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Timeline {
    /// Its beginning.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// Its end: now.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// Backups, drills and controls, oldest first, at most 400.
    pub marks: Vec<Mark>,
    /// Moments that can be reached.
    pub windows: Vec<Stretch>,
}

/// A run on a timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Mark {
    /// `backup`, `drill` or `control`.
    pub verb: String,
    /// As in [`RunLine::outcome`].
    pub outcome: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The run; none where only evidence tells of it.
    pub run: Option<String>,
}

/// From then to then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stretch {
    /// From.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// To.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
}

/// All of one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    /// As in the overview.
    pub line: Line,
    /// Every reason, gravest first.
    pub reasons: Vec<ReasonView>,
    /// Everything that is known, as `lifeboat status --json` prints it; none: not looked at yet.
    #[schema(value_type = Option<Object>)]
    pub facts: Option<lifeboat_engine::status::Facts>,
    /// The last runs, newest first, at most 50.
    pub runs: Vec<RunLine>,
    /// The next runs, soonest first, at most 20.
    pub due: Vec<Due>,
    /// What it cannot work without, and whether that answers.
    #[serde(default)]
    pub dependencies: Vec<DependencyView>,
}

/// Something that an instance cannot work without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DependencyView {
    /// Its name in the configuration.
    pub name: String,
    /// `postgresql`, `redis`, `object-storage`, `dns`, `ingress`, `identity`, `integration`, `mail` or `other`.
    pub kind: String,
    /// Where it is.
    pub address: String,
    /// For people: who answers for it, what to do without it.
    pub note: Option<String>,
    /// `answers`, `silent`, `not-checked` (its address says not how) or `unknown` (not asked yet).
    pub state: String,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// When it was last asked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub asked: Option<Timestamp>,
    /// Why it is silent, or not checked.
    pub why: Option<String>,
}

/// Why an instance is not protected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReasonView {
    /// A fixed word.
    pub kind: String,
    /// How grave: `at-risk` or `unprotected`.
    pub state: String,
    /// For people.
    pub text: String,
    /// The next command.
    pub next: String,
}

/// A run in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunLine {
    /// Its id.
    pub run: String,
    /// The owner.
    pub tenant: String,
    /// The instance; none: the tenant as a whole.
    pub instance: Option<String>,
    /// `backup`, `drill`, …
    pub verb: String,
    /// The schedule; none: somebody asked for it.
    pub schedule: Option<String>,
    /// When it was due.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due: Option<Timestamp>,
    /// Who asked for it.
    pub who: Option<String>,
    /// `queued`, `running` or `ended`.
    pub phase: String,
    /// `passed`, `failed`, `incomplete`, `interrupted` or `missed`; none before the end.
    pub outcome: Option<String>,
    /// Which try it is, from 1.
    pub attempt: u32,
    /// When it was begun.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started: Option<Timestamp>,
    /// When it was over.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    /// Why it waits, or why it did not pass.
    pub reason: Option<String>,
}

/// A run with what it told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// As in lists.
    pub line: RunLine,
    /// The last number of an event: a follower goes on behind it.
    pub last_event: u64,
    /// The rungs so far, in order; of drills and controls.
    pub checks: Vec<CheckView>,
    /// What is being done.
    pub doing: Option<String>,
    /// The last 200 lines.
    pub notes: Vec<NoteView>,
    /// What the command printed at its end.
    #[schema(value_type = Option<Object>)]
    pub answer: Option<serde_json::Value>,
    /// Key of the statement, if one was kept.
    pub evidence: Option<String>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckView {
    /// As in docs/drill.md.
    pub id: String,
    /// `passed`, `failed` or `not-executed`.
    pub verdict: String,
    /// What was seen, or why it failed or did not run.
    pub detail: String,
    /// How long it took.
    pub seconds: f64,
}

/// A line that a run told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NoteView {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// `INFO`, `WARN` or `ERROR`.
    pub level: String,
    /// What.
    pub text: String,
}

/// An event of a run, as it is followed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// The run.
    pub run: String,
    /// Counted from 1 within the run.
    pub number: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What: see docs/json.md, "Events of a run".
    #[schema(value_type = Object)]
    pub event: crate::runner::RunEvent,
}

/// A run that is due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Due {
    /// The owner.
    pub tenant: String,
    /// The instance; none: the tenant as a whole.
    pub instance: Option<String>,
    /// The schedule.
    pub schedule: String,
    /// What.
    pub verb: String,
    /// When it is due.
    #[schema(value_type = String, format = DateTime)]
    pub due: Timestamp,
    /// When it is begun: jitter and blackouts counted in.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// A schedule, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleView {
    /// The owner.
    pub tenant: String,
    /// Its name.
    pub schedule: String,
    /// For people.
    pub description: Option<String>,
    /// The file that it stands in.
    pub file: String,
    /// What.
    pub verb: String,
    /// When, in words: the cron line with its zone, "after gold-backup", "always".
    pub when: String,
    /// Whose: instances it counts for now.
    pub instances: Vec<String>,
    /// The next runs, soonest first, at most 100.
    pub next: Vec<Due>,
    /// The last runs, newest first, at most 100.
    pub past: Vec<RunLine>,
}

/// A recovery point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PointView {
    /// Its id.
    pub point: String,
    /// When its backup began.
    #[schema(value_type = String, format = DateTime)]
    pub started: Timestamp,
    /// When it was durable.
    #[schema(value_type = String, format = DateTime)]
    pub finished: Timestamp,
    /// Bytes of what is in it, restored.
    pub bytes: Option<u64>,
    /// Whether its signature is believed; why not, if not.
    pub doubt: Option<String>,
}

/// A statement of evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EvidenceView {
    /// Its key in the repository.
    pub key: String,
    /// The owner.
    pub tenant: String,
    /// The instance; none: the tenant as a whole.
    pub instance: Option<String>,
    /// `backup`, `drill`, …
    pub kind: String,
    /// The run.
    pub run: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Whether its signature is believed; why not, if not.
    pub doubt: Option<String>,
}

/// A statement of evidence, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatementView {
    /// As in the list.
    pub line: EvidenceView,
    /// What it says; none where that cannot be read.
    #[schema(value_type = Option<Object>)]
    pub statement: Option<serde_json::Value>,
    /// The signed envelope as it is stored: `lifeboat evidence verify` checks it without the daemon.
    pub envelope: String,
}

/// What is stored for a tenant, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StorageView {
    /// The owner.
    pub tenant: String,
    /// Where, and whether it is immutable.
    pub place: String,
    /// By instance.
    pub instances: Vec<StorageLine>,
    /// All together over time, oldest first, at most 400.
    pub growth: Vec<Size>,
    /// Locks that end, by day, soonest first; the newest point of each instance.
    pub locks_ending: Vec<LockEnd>,
    /// What it costs; none: the configuration names no price.
    pub cost: Option<CostView>,
}

/// What storage costs, by the price that the configuration names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostView {
    /// For a GiB and a month.
    pub price: f64,
    /// What all of these are of, as the configuration calls it.
    pub currency: String,
    /// The calendar month, by UTC, if nothing changes until its end; none: no size is known.
    pub this_month: Option<f64>,
    /// What is stored and locked, until the locks end: at most, as what is older is locked for a shorter time.
    pub committed: f64,
}

/// What is stored of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StorageLine {
    /// The instance.
    pub instance: String,
    /// Objects.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
    /// Of these, the streamed log.
    pub wal_bytes: u64,
}

/// A size at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Size {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Bytes.
    pub bytes: u64,
}

/// The end of a lock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LockEnd {
    /// The instance.
    pub instance: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// What its bytes cost until then, at most; none: there is no price.
    pub cost: Option<f64>,
}

/// Something that somebody did, or was not allowed to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ActivityView {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Whose; none: the daemon's own.
    pub tenant: Option<String>,
    /// Who; `daemon` for itself.
    pub who: String,
    /// `start`, `cancel`, `sign-in`, `policies`, `run`, …
    pub act: String,
    /// To what.
    pub target: Option<String>,
    /// Whether it was allowed.
    pub allowed: bool,
    /// What became of it, or why it was refused.
    pub detail: Option<String>,
}
