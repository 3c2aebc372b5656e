//! What is told of runbooks and of their runs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Runbooks, by tenant and file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Runbooks {
    /// The runbooks.
    pub runbooks: Vec<RunbookView>,
    /// What could not be read, and why.
    pub doubts: Vec<String>,
}

/// A runbook in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunbookView {
    /// The owner.
    pub tenant: String,
    /// The file in the folder `runbooks/` beside the configuration.
    pub file: String,
    /// Its id; none: it is only for reading, or cannot be read.
    pub runbook: Option<String>,
    /// Its title; none: it cannot be read.
    pub title: Option<String>,
    /// When to use it.
    pub summary: Option<String>,
    /// Its author's own count.
    pub version: Option<String>,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: Option<String>,
    /// How many steps it has.
    pub steps: u64,
    /// The longest way through, as far as it is known.
    pub expected_seconds: Option<f64>,
    /// Steps on it of which no duration is known.
    pub expected_unknown: u64,
    /// How long it may take.
    pub rto_target_seconds: Option<f64>,
    /// What is wrong with it: with any, it is not executed.
    pub errors: u64,
    /// What works and should not stay.
    pub warnings: u64,
    /// Whether this very text was practised: `rehearsed`, `failed` (the last time), `changed` (another text was, it was edited since),
    /// `never` or `not-known`.
    pub rehearsed: String,
    /// When that practice was over.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub rehearsed_at: Option<Timestamp>,
}

/// A runbook, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunbookText {
    /// As in the list.
    pub line: RunbookView,
    /// The Markdown.
    pub text: String,
    /// What is wrong with it, or doubtful.
    pub findings: Vec<TextNote>,
    /// What each step would do, in the order of the file.
    pub steps: Vec<StepPlan>,
    /// What it relies on.
    pub needs: Vec<String>,
    /// What it changes.
    pub touches: Vec<String>,
}

/// Something about a line of a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TextNote {
    /// From 1.
    pub line: u64,
    /// `error` or `warning`.
    pub severity: String,
    /// What.
    pub text: String,
}

/// What a step would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepPlan {
    /// Its id.
    pub id: String,
    /// The byte of the text at which its heading begins.
    pub at: u64,
    /// In one line.
    pub words: String,
    /// `nothing`, `changes` or `destroys`.
    pub effect: String,
    /// What it changes.
    pub touches: Vec<String>,
    /// How long it should take.
    pub expected_seconds: Option<f64>,
    /// Who does it, or decides.
    pub role: Option<String>,
    /// Answers, and where they lead.
    pub answers: Vec<String>,
}

/// Runs of runbooks, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunbookRuns {
    /// The runs; of each tenant the newest 50.
    pub runs: Vec<RunbookRunLine>,
    /// Journals that could not be read, and why.
    pub doubts: Vec<String>,
}

/// A run of a runbook in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunbookRunLine {
    /// Its id.
    pub run: String,
    /// The owner.
    pub tenant: String,
    /// The runbook's id.
    pub runbook: String,
    /// Its title, where the runbook is known here.
    pub title: Option<String>,
    /// `practice` or `real`.
    pub mode: String,
    /// The instance that it is about.
    pub instance: Option<String>,
    /// The incident during which it was begun.
    pub incident: Option<String>,
    /// Who began it.
    pub who: String,
    /// `going-on`, `asks` (a person), `stopped` (a step failed) or `over`.
    pub phase: String,
    /// `passed`, `failed`, `answered` (an answer ended it), `rolled-back` or `half-rolled-back`; none before the end.
    pub ending: Option<String>,
    /// The step that it is at.
    pub at: Option<String>,
    /// Why it asks or stands still.
    pub reason: Option<String>,
    /// When it was begun.
    #[schema(value_type = String, format = DateTime)]
    pub started: Timestamp,
    /// When its journal was last written.
    #[schema(value_type = String, format = DateTime)]
    pub last: Timestamp,
    /// How long it took, or has been going on.
    pub elapsed_seconds: f64,
    /// How long it may take: by the runbook, else by the instance's tier.
    pub rto_target_seconds: Option<f64>,
    /// Steps in all.
    pub steps: u64,
    /// Steps that are over.
    pub steps_over: u64,
}

/// A run of a runbook, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunbookRunView {
    /// As in lists.
    pub line: RunbookRunLine,
    /// SHA-256 of the text that is executed.
    pub sha256: String,
    /// Whether that text is here: else steps are known only as far as they were begun.
    pub is_text_known: bool,
    /// Parameters and their values; of secrets, where they lie.
    pub parameters: BTreeMap<String, String>,
    /// All steps, in order.
    pub steps: Vec<StepView>,
    /// What comes next, unless an answer leads elsewhere.
    pub next: Vec<String>,
    /// The last 200 lines of its journal.
    pub notes: Vec<JournalNote>,
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    /// Its id; of a step of a runbook that is run by a step, `call/step`.
    pub id: String,
    /// Its heading.
    pub title: String,
    /// How deep it stands, from 0.
    pub depth: u64,
    /// It does nothing itself: others stand below it.
    pub is_group: bool,
    /// What it does, in a word.
    pub action: Option<String>,
    /// Who does it, or decides.
    pub role: Option<String>,
    /// The step that it takes back: it runs for no other reason.
    pub undoes: Option<String>,
    /// `untouched`, `running`, `passed`, `failed`, `skipped`, `not-practised`, `taking-back`, `taken-back` or `not-taken-back`.
    pub state: String,
    /// The how-manieth try; 0: none yet.
    pub attempt: u64,
    /// When it was first begun.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started: Option<Timestamp>,
    /// When its last try ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    /// How long it should take.
    pub expected_seconds: Option<f64>,
    /// Why it failed, or was passed over.
    pub why: Option<String>,
    /// What people answered, in order.
    pub answers: Vec<AnswerView>,
    /// What it printed or found out, the last lines of it.
    pub printed: Vec<String>,
    /// How many lines stand before them in the journal.
    pub printed_before: u64,
}

/// What somebody answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnswerView {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// `question` (the step's own), `failure` (what now?) or `doubt` (was it done?).
    pub asked: String,
    /// The answer.
    pub answer: String,
    /// In their own words.
    pub comment: Option<String>,
}

/// A line of a journal, in words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JournalNote {
    /// From 1.
    pub number: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// What.
    pub text: String,
    /// Something failed.
    pub is_bad: bool,
}
