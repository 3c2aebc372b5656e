//! Runs of runbooks, and incidents: statements about journals, whose lines each name the digest of the line before, so that one
//! digest stands for all of them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lifeboat_model::id::{RunId, Sha256Digest};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Where a runbook's run stood, and what its journal held then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunbookRun {
    /// The run.
    #[serde(rename = "of")]
    pub run: RunId,
    /// The runbook's id.
    pub runbook: String,
    /// SHA-256 of the runbook's file.
    pub runbook_sha256: Sha256Digest,
    /// SHA-256 over its text and those of all runbooks that it runs ([`texts_sha256`]); none from releases that kept none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts_sha256: Option<Sha256Digest>,
    /// `practice` or `real`.
    pub mode: String,
    /// Names and values; where a value is secret, it is the name of a file.
    pub parameters: BTreeMap<String, String>,
    /// The incident during which it was begun.
    #[serde(default)]
    pub incident: Option<RunId>,
    /// When it was begun.
    pub begun: Timestamp,
    /// Where it stood.
    pub stage: Stage,
    /// How it ended, or the step and the reason why it stands still.
    #[serde(default)]
    pub ending: Option<String>,
    /// Steps that failed, each once.
    pub failed: Vec<String>,
    /// Steps that practice could not do.
    pub not_practised: Vec<String>,
    /// Steps that passed, those of called runbooks included; of steps that only call one, none. None from releases that kept none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps_passed: Option<u64>,
    /// Lines of its journal.
    pub lines: u64,
    /// SHA-256 of the last of them.
    pub head: Sha256Digest,
}

/// SHA-256 over several texts of which ids and digests are given: that of lines `<digest>  <id>`, sorted by id.
pub fn texts_sha256(texts: &BTreeMap<String, Sha256Digest>) -> Sha256Digest {
    let lines: String = texts.iter().map(|(id, digest)| format!("{digest}  {id}\n")).collect();
    Sha256Digest(Sha256::digest(lines.as_bytes()).into())
}

/// Where a run stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It was begun.
    Begun,
    /// Somebody took it up that stood still.
    TakenUp,
    /// It stands still.
    StandsStill,
    /// It is over.
    Over,
}

impl Stage {
    /// The word in the statement.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Begun => "begun",
            Stage::TakenUp => "taken-up",
            Stage::StandsStill => "stands-still",
            Stage::Over => "over",
        }
    }
}

/// The word in [`RunbookRun::ending`] of a run all of whose steps passed.
pub const PASSED: &str = "passed";

/// An incident, when it was opened or closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// The incident.
    #[serde(rename = "of")]
    pub incident: RunId,
    /// What was wrong, in the words of whoever opened it.
    pub text: String,
    /// Since when: what was committed before and did not come back is lost.
    pub since: Timestamp,
    /// Whether it is over.
    pub closed: bool,
    /// Lines of its journal.
    pub lines: u64,
    /// SHA-256 of the last of them.
    pub head: Sha256Digest,
}
