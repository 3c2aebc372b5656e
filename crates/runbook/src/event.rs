//! What happens in a run, as its journal keeps it: each line is durable before the next thing is done.
//!
//! From these lines alone, and the document, it is known where a run stands ([`crate::course`]): on this host after a crash, or on
//! another one that has read them from the ledger. So nothing that decides about the way is kept anywhere else.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::plan::Mode;

/// A line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line<E = Event> {
    /// From 1, without gaps.
    pub number: u64,
    /// When, by the clock of the host.
    pub at: Timestamp,
    /// Who: user and host.
    pub who: String,
    /// What.
    #[serde(flatten)]
    pub event: E,
}

/// What happened. A step is named by its id; a step of a runbook that is run by a step, by both: `call/step`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A run begins. Values that are secret are not among the parameters: these are names of files.
    Begun {
        /// The runbook's id.
        runbook: String,
        /// SHA-256 of the file, in hexadecimal: a run goes on with the same text, or not at all.
        sha256: String,
        /// What it is for.
        mode: Mode,
        /// All parameters that have a value.
        parameters: BTreeMap<String, String>,
        /// The text of the file and of every runbook that it runs, by id: a run goes on with these, wherever it is taken up.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        texts: BTreeMap<String, String>,
        /// The tenant whose configuration it was begun with: hosts keep the journals of several in one folder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
        /// The instance that it is about, where it is about one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<String>,
        /// The incident during which it was begun.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        incident: Option<String>,
        /// Lost work is counted back from here: when the incident began. None: from the beginning of the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<Timestamp>,
    },
    /// Somebody takes up a run that stood still.
    Resumed,
    /// A step is tried.
    Started {
        /// The step.
        step: String,
        /// The how-manieth time, from 1.
        attempt: u32,
    },
    /// A try has ended.
    Ended {
        /// The step.
        step: String,
        /// The try.
        attempt: u32,
        /// How.
        outcome: Outcome,
        /// What it gives to later steps.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        outputs: BTreeMap<String, String>,
        /// Why it failed; or why it is known to have been done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A step, and what stands below it, is passed over.
    Skipped {
        /// The step.
        step: String,
        /// Why.
        why: String,
    },
    /// What practice cannot do.
    NotPractised {
        /// The step.
        step: String,
        /// Why.
        why: String,
    },
    /// A person has answered.
    Answered {
        /// The step.
        step: String,
        /// What was asked.
        asked: Asked,
        /// The answer.
        answer: String,
        /// In their own words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment: Option<String>,
    },
    /// What a step did is being taken back.
    UndoStarted {
        /// The step.
        step: String,
    },
    /// It was, or could not be.
    UndoEnded {
        /// The step.
        step: String,
        /// How.
        outcome: Outcome,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A person calls the run off: what was done is taken back.
    Aborted {
        /// In their own words.
        why: String,
    },
    /// The run is over.
    Finished {
        /// How.
        ending: Ending,
        /// What proves it: of a practice, its drill and where the signed evidence is.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        outputs: BTreeMap<String, String>,
        /// Why it failed as a whole, whatever its steps say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It did what it should.
    Passed,
    /// It did not, or that is not known.
    Failed,
}

/// What a person was asked of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// The step's own question: which way, whether it may go on, whether it was done.
    Question,
    /// It failed: what now? [`AfterFailure`]
    Failure,
    /// The run was cut off in the middle of it: was it done? `yes` or `no`
    Doubt,
}

/// What a person chooses when a step failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// Once more.
    Retry,
    /// As if it did not matter; its outcome is `failed`.
    Continue,
    /// Take back what was done.
    Rollback,
    /// Stand still; it can be resumed.
    Stop,
}

impl AfterFailure {
    /// The words of answers.
    pub const WORDS: [(&'static str, AfterFailure); 4] = [
        ("retry", AfterFailure::Retry),
        ("continue", AfterFailure::Continue),
        ("rollback", AfterFailure::Rollback),
        ("stop", AfterFailure::Stop),
    ];

    /// Of a word.
    pub fn of(word: &str) -> Option<AfterFailure> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, choice)| *choice)
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Every step that ran passed.
    Passed,
    /// It went through to its end, and steps failed on the way.
    Failed,
    /// An answer ended it.
    Answered,
    /// What was done was taken back.
    RolledBack,
    /// What was done was to be taken back, and not all of it could be.
    HalfRolledBack,
}

impl Ending {
    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Ending::Passed => "passed",
            Ending::Failed => "failed",
            Ending::Answered => "ended by an answer",
            Ending::RolledBack => "rolled back",
            Ending::HalfRolledBack => "HALF rolled back",
        }
    }
}

impl Event {
    /// The step that it is about.
    pub fn step(&self) -> Option<&str> {
        match self {
            Event::Started { step, .. }
            | Event::Ended { step, .. }
            | Event::Skipped { step, .. }
            | Event::NotPractised { step, .. }
            | Event::Answered { step, .. }
            | Event::UndoStarted { step }
            | Event::UndoEnded { step, .. } => Some(step),
            Event::Begun { .. } | Event::Resumed | Event::Aborted { .. } | Event::Finished { .. } => None,
        }
    }

    /// The same, to be named anew.
    pub(crate) fn step_mut(&mut self) -> Option<&mut String> {
        match self {
            Event::Started { step, .. }
            | Event::Ended { step, .. }
            | Event::Skipped { step, .. }
            | Event::NotPractised { step, .. }
            | Event::Answered { step, .. }
            | Event::UndoStarted { step }
            | Event::UndoEnded { step, .. } => Some(step),
            Event::Begun { .. } | Event::Resumed | Event::Aborted { .. } | Event::Finished { .. } => None,
        }
    }
}
