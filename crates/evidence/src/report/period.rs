//! The sums of a period: what a report says, before anybody decides what it looks like. The form of the JSON report, too:
//! under one schema number fields are added, never renamed or removed.
//!
//! Of each drill only a line is kept here, so that a year of many instances fits in memory; the full records are written one
//! by one behind it.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use lifeboat_model::{
    check::Outcome,
    id::{Instance, PointId, RepositoryId, RunId, Sha256Digest, Tenant, TierName},
};
use serde::Serialize;

use super::{clauses::Clause, trend::Trend};
use crate::{
    act::Decision,
    backup::{NotCovered, StartedBy},
};

/// What a tenant's evidence says of a period.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Period {
    /// The owner.
    pub tenant: Tenant,
    /// Drills that started from here on …
    pub from: Timestamp,
    /// … and before this.
    pub to: Timestamp,
    /// When the report was made.
    pub made: Timestamp,
    /// By whom.
    pub made_by: StartedBy,
    /// With which software.
    pub software: String,
    /// The repository.
    pub repository: RepositoryId,
    /// Where it is, as people call it.
    pub storage: String,
    /// The worst of the instances' states.
    pub state: State,
    /// The sums of all instances.
    pub sums: Sums,
    /// Whether the evidence itself is sound.
    pub ledger: Ledger,
    /// How many statements the report rests on.
    pub statements: Statements,
    /// What somebody has to decide, the gravest first.
    pub decisions: Vec<Question>,
    /// Each instance, in the order of their names.
    pub instances: Vec<InstancePeriod>,
    /// What the evidence supports, clause by clause, and what it does not show.
    pub clauses: Vec<Clause>,
}

/// How well an instance's recovery is proven at the end of the period, by the evidence in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The last rehearsal passed within its targets, and the next one is not overdue.
    Protected,
    /// It is not known to be lost, and it is not proven either.
    AtRisk,
    /// The last rehearsal failed, or there is nothing to restore from.
    Unprotected,
}

impl State {
    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            State::Protected => "protected",
            State::AtRisk => "at risk",
            State::Unprotected => "unprotected",
        }
    }
}

/// Sums over all instances.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Sums {
    /// Instances that are protected.
    pub protected: u64,
    /// At risk.
    pub at_risk: u64,
    /// Unprotected.
    pub unprotected: u64,
    /// Rehearsals that were due; of instances of which somebody has said how often.
    pub due: u64,
    /// Of them: not done in time.
    pub missed: u64,
    /// Instances of which nobody has said how often they are to be rehearsed.
    pub without_rhythm: u64,
    /// Rehearsals done.
    pub rehearsals: u64,
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// Ended without a failed check, and a required one did not run.
    pub incomplete: u64,
    /// Rehearsals that somebody has accepted.
    pub accepted: u64,
    /// Negative controls.
    pub controls: u64,
    /// Of them: exactly the right checks failed.
    pub controls_passed: u64,
    /// Recovery points that backups have made.
    pub backups: u64,
    /// Exceptions about which somebody has to do something.
    pub open_exceptions: u64,
}

/// Whether the evidence that a report rests on is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "audit")]
pub enum Ledger {
    /// Nobody has looked.
    NotExecuted {
        /// Why not.
        why: String,
    },
    /// Somebody has.
    Executed {
        /// Entries in the ledger.
        entries: u64,
        /// Its newest root, in hexadecimal digits.
        root: Option<String>,
        /// Findings that tell of a loss or of a lie, by their word: empty when it is sound.
        findings: BTreeMap<String, u64>,
        /// Findings that tell of age alone, by their word, as `stale`.
        remarks: BTreeMap<String, u64>,
    },
}

impl Ledger {
    /// Nothing was found that tells of a loss or of a lie.
    pub fn is_sound(&self) -> bool {
        !matches!(self, Ledger::Executed { findings, .. } if !findings.is_empty())
    }
}

impl Backups {
    /// The longest time for which nothing newer than a backup was there, up to the end of the period.
    pub fn exposed_seconds(&self) -> Option<u64> {
        self.longest_gap_seconds.max(self.newest_age_seconds)
    }
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Statements {
    /// Signed by a trusted key, in their place, without contradiction.
    pub believed: u64,
    /// Not believed, and thus not in any sum.
    pub not_believed: u64,
    /// The first of them, at most [`Statements::LISTED`].
    pub listed: Vec<NotBelieved>,
}

impl Statements {
    /// How many are listed.
    pub const LISTED: usize = 50;
}

/// A statement that is not believed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NotBelieved {
    /// Where it is stored.
    pub key: String,
    /// Why not.
    pub why: String,
}

/// What somebody has to decide.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Question {
    /// About which instance; none: about all of it.
    pub instance: Option<Instance>,
    /// What is to be decided.
    pub what: String,
    /// How the decision is written down, or the next command.
    pub how: Option<String>,
}

/// One instance's part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstancePeriod {
    /// Its name.
    pub instance: Instance,
    /// Its recovery class.
    pub tier: TierName,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Whether it is in the configuration still.
    pub configured: bool,
    /// How well its recovery is proven.
    pub state: State,
    /// Why not better.
    pub reasons: Vec<String>,
    /// How much work may be lost.
    pub rpo_target_seconds: u64,
    /// How long it may take.
    pub rto_target_seconds: u64,
    /// What was due; none: nobody has said how often.
    pub due: Option<Due>,
    /// Rehearsals, oldest first.
    pub rehearsals: Vec<Rehearsal>,
    /// Negative controls, oldest first: they are no rehearsals.
    pub controls: Vec<ControlRun>,
    /// RPO over the rehearsals.
    pub rpo: Measured,
    /// RTO over the rehearsals.
    pub rto: Measured,
    /// Recovery points that were made.
    pub backups: Backups,
    /// Other acts in the period, by their word.
    pub acts: BTreeMap<String, u64>,
    /// Deviations, the oldest first.
    pub exceptions: Vec<Exception>,
    /// What belongs to it and was not in the newest rehearsal.
    pub not_covered: Vec<NotCovered>,
}

/// Rehearsals that were due.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Due {
    /// How often one is due.
    pub every_seconds: u64,
    /// From when on that counts in this period.
    pub since: Timestamp,
    /// How many were due.
    pub due: u64,
    /// Of them: not done in time.
    pub missed: u64,
    /// Stretches without one.
    pub gaps: Vec<Gap>,
}

/// A stretch of time without a rehearsal that was due.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gap {
    /// When it was due.
    pub due: Timestamp,
    /// When it was done; none: it is overdue still.
    pub done: Option<Timestamp>,
    /// How late that is.
    pub late_seconds: u64,
    /// Rehearsals that did not take place.
    pub missed: u64,
}

/// A rehearsal in a line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rehearsal {
    /// The run.
    pub run: RunId,
    /// Where its statement is stored.
    pub statement: String,
    /// SHA-256 of the statement's envelope as stored.
    pub sha256: Sha256Digest,
    /// When it began.
    pub started: Timestamp,
    /// When it had ended.
    pub finished: Timestamp,
    /// The answer.
    pub outcome: Outcome,
    /// The recovery point.
    pub point: Option<PointId>,
    /// The work lost at the moment that was rehearsed, if it was measured.
    pub rpo_seconds: Option<f64>,
    /// That moment was the latest that could be had, by the write-ahead log; else mostly the end of the backup itself.
    pub to_latest: bool,
    /// What the tier allowed then.
    pub rpo_target_seconds: u64,
    /// The RTO, if it was measured.
    pub rto_seconds: Option<f64>,
    /// What the tier allowed then.
    pub rto_target_seconds: u64,
    /// What a restore of production would take, where that was predicted.
    pub predicted_seconds: Option<f64>,
    /// Checks that passed.
    pub checks_passed: u64,
    /// Checks that failed.
    pub checks_failed: u64,
    /// Checks that did not run.
    pub checks_not_executed: u64,
    /// The first failed check, or the first required one that did not run, and why.
    pub first_bad: Option<String>,
    /// Whether the data was compared with the source exactly.
    pub exact: bool,
    /// Deviations that its statement tells of.
    pub exceptions: Vec<String>,
    /// What its statement says will be done.
    pub corrective_action: Option<String>,
    /// What people have said of it, oldest first.
    pub sign_offs: Vec<Signed>,
}

/// A negative control in a line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ControlRun {
    /// The run.
    pub run: RunId,
    /// Where its statement is stored.
    pub statement: String,
    /// SHA-256 of the statement's envelope as stored.
    pub sha256: Sha256Digest,
    /// When it began.
    pub started: Timestamp,
    /// What was damaged on purpose.
    pub kind: String,
    /// The control's answer; none: its statement does not judge it.
    pub outcome: Option<Outcome>,
    /// Checks that had to fail.
    pub expected: Vec<String>,
    /// Checks that did.
    pub failed: Vec<String>,
    /// In a sentence.
    pub why: String,
    /// What people have said of it, oldest first.
    pub sign_offs: Vec<Signed>,
}

/// What a person has said of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Signed {
    /// When.
    pub time: Timestamp,
    /// Who.
    pub who: String,
    /// As what.
    pub role: String,
    /// What they decided; none: the drill's own statement does not say.
    pub decision: Option<Decision>,
    /// Why.
    pub comment: String,
    /// A deviation that they allow.
    pub exception: Option<String>,
    /// What will be done.
    pub corrective_action: Option<String>,
    /// By when.
    pub due: Option<Date>,
}

/// A measure over the rehearsals of a period.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Measured {
    /// The longest that was measured.
    pub worst_seconds: Option<f64>,
    /// The newest.
    pub newest_seconds: Option<f64>,
    /// Rehearsals within their target.
    pub met: u64,
    /// Rehearsals that missed it.
    pub missed: u64,
    /// Rehearsals that did not get so far.
    pub not_measured: u64,
    /// The newest beside those before it.
    pub trend: Option<Trend>,
}

/// Recovery points that were made.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Backups {
    /// Backups that ended with a recovery point.
    pub made: u64,
    /// Logical dumps.
    pub dumps: u64,
    /// When the newest was durable.
    pub newest: Option<Timestamp>,
    /// The longest time from one to the next, or from the beginning of the period to the first.
    pub longest_gap_seconds: Option<u64>,
    /// How old the newest was when the period ended.
    pub newest_age_seconds: Option<u64>,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes that were stored.
    pub stored_bytes: u64,
}

/// A deviation from the plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Exception {
    /// When it was seen.
    pub time: Timestamp,
    /// The run that it was seen in.
    pub run: Option<RunId>,
    /// What deviates.
    pub what: String,
    /// How far it is.
    pub status: Status,
    /// What is done about it, if somebody has said so.
    pub corrective_action: Option<String>,
    /// By when.
    pub due: Option<Date>,
}

/// How far a deviation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Nobody has said what is done about it, or it is not done in time.
    Open,
    /// Somebody has, and no rehearsal has passed since.
    InHand,
    /// It is over, or it was allowed.
    Closed,
}

impl Status {
    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            Status::Open => "open",
            Status::InHand => "in hand",
            Status::Closed => "closed",
        }
    }
}
