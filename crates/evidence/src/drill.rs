//! `https://lifeboat.dev/evidence/drill/v1`: what a drill did, saw and measured, whether it passed or not.
//!
//! Field by field in `FORMAT.md`. Later writers may add fields; readers of this version pass over them.

use jiff::Timestamp;
use lifeboat_model::{
    check::{Check, Outcome, Verdict},
    id::{Instance, PointId, RepositoryId, RunId, Sha256Digest, Tenant, TierName},
    time::Span,
};
use serde::{Deserialize, Serialize};

use crate::backup::{NotCovered, StartedBy};

/// A drill. A failed one is evidence as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillPredicate {
    /// The run.
    pub run: RunId,
    /// Who and what started it.
    pub started_by: StartedBy,
    /// Name and version of the software, for example `lifeboat 0.1.0`.
    pub software: String,
    /// SHA-256 of the configuration file's text.
    pub config_sha256: Sha256Digest,
    /// The owner.
    pub tenant: Tenant,
    /// The instance.
    pub instance: Instance,
    /// Its recovery class.
    pub tier: TierName,
    /// The repository; none when it could not be opened.
    pub repository: Option<RepositoryId>,
    /// Where the repository is, as people call it, and whether it is immutable.
    pub storage: String,
    /// When the run began.
    pub started: Timestamp,
    /// When the last check had ended, before signing.
    pub finished: Timestamp,
    /// The recovery point; none when no usable one was found.
    pub point: Option<DrilledPoint>,
    /// VersionIds of the point's objects, as read back.
    pub versions_read_back: VersionsReadBack,
    /// The answer.
    pub outcome: Outcome,
    /// Ids of the checks that had to run.
    pub required: Vec<String>,
    /// Every check with what was expected and seen.
    pub checks: Vec<Check>,
    /// The checks that did not run, and why: never a pass.
    pub not_executed: Vec<NotExecuted>,
    /// How the restored data was compared with the source.
    pub comparison: Comparison,
    /// From the newest restored commit to the reference time, in seconds; none if not measured.
    pub rpo_seconds: Option<f64>,
    /// The newest commit in the restored data, as the restored server says.
    pub newest_commit: Option<Timestamp>,
    /// What the RPO is measured against: in a planned drill, when the point's source had been captured to its end.
    pub rpo_reference: Option<Timestamp>,
    /// From the first second to a served login, in seconds; none if that was not reached.
    pub rto_seconds: Option<f64>,
    /// What was asked for, and whether it was met.
    pub targets: Targets,
    /// Where the time went.
    pub phases: Vec<Phase>,
    /// The images that ran.
    pub images: Vec<Image>,
    /// What ran in them.
    pub software_versions: SoftwareVersions,
    /// What kept the sandbox from touching the world, as observed.
    pub isolation: Vec<Fact>,
    /// What was left when it was torn down.
    pub teardown: Teardown,
    /// What belongs to the instance and could not be rehearsed.
    pub not_covered: Vec<NotCovered>,
    /// What was damaged on purpose before the drill: then it is a negative control, and must not pass.
    pub sabotage: Option<String>,
    /// What the run noticed, one line each.
    pub notes: Vec<String>,
    /// Deviations from the plan that somebody has allowed.
    #[serde(default)]
    pub exceptions: Vec<String>,
    /// What will be done about a failure.
    #[serde(default)]
    pub corrective_action: Option<String>,
    /// Who has seen and accepted it.
    #[serde(default)]
    pub sign_offs: Vec<SignOff>,
    /// Of a negative control: which checks had to fail, and which did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// SHA-256 of the instance's and its tier's settings that bear on recovery: another one now, and the drill is stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_sha256: Option<Sha256Digest>,
    /// Whose work the time was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breakdown: Option<Breakdown>,
    /// How long a restore of production would take, by the rates that this drill has measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// What the logged-in user saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screenshot: Option<Screenshot>,
}

/// A negative control: a drill on a copy that was damaged on purpose. It passes only when exactly the right checks fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// What was damaged, for example `deleted-row`.
    pub kind: String,
    /// Ids of the checks that must fail.
    pub expected: Vec<String>,
    /// Ids of those that did.
    pub failed: Vec<String>,
    /// The control's own answer; the drill's is `failed` in either case that is worth anything.
    pub outcome: Outcome,
    /// In a sentence.
    pub why: String,
}

/// Whose work the time of a drill was, on the critical path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breakdown {
    /// From the first second to the last.
    pub total_ms: u64,
    /// While PostgreSQL or its programs worked.
    pub postgres_ms: u64,
    /// While Odoo worked.
    pub odoo_ms: u64,
    /// Everything else.
    pub own_ms: u64,
}

/// Who works in a part of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Worker {
    /// PostgreSQL and its programs.
    Postgres,
    /// Odoo.
    Odoo,
    /// Lifeboat, the store and Docker.
    Own,
}

/// A part of a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name, for example `replay`.
    pub name: String,
    /// Who worked.
    pub worker: Worker,
    /// How long it took.
    pub duration_ms: u64,
    /// Bytes moved or read, where that means something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// How long a restore of production would take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// In all.
    pub seconds: f64,
    /// What the tier allows.
    pub target_seconds: u64,
    /// Whether it would be kept.
    pub met: bool,
    /// What it is made of.
    pub steps: Vec<PredictedStep>,
    /// What it takes for granted.
    pub assumptions: Vec<String>,
}

/// A step of a predicted restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictedStep {
    /// Its name.
    pub name: String,
    /// Bytes to be moved or read, where it goes by bytes.
    pub bytes: Option<u64>,
    /// Bytes each second, as measured.
    pub bytes_per_second: Option<f64>,
    /// How long it would take.
    pub seconds: f64,
}

/// A picture of the logged-in sandbox. It may show personal data, so the statement has its digest alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screenshot {
    /// SHA-256 of the PNG.
    pub sha256: Sha256Digest,
    /// Its length.
    pub bytes: u64,
    /// Where it is kept, sealed to the recovery recipients; none: nowhere.
    pub key: Option<String>,
}

/// The recovery point of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrilledPoint {
    /// Its id.
    pub id: PointId,
    /// Its object key.
    pub key: String,
    /// SHA-256 of the object.
    pub sha256: Sha256Digest,
    /// The VersionId of the object that was read, where the store has versions.
    pub version: Option<String>,
    /// When its backup had finished.
    pub finished: Timestamp,
    /// How old it was when the drill began.
    pub age_seconds: u64,
    /// How it was chosen: `latest`, or the id that was asked for.
    pub selected_by: String,
}

/// VersionIds of the point's objects against those recorded in its header.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VersionsReadBack {
    /// Objects that the header names.
    pub objects: u64,
    /// Read back and as recorded.
    pub equal: u64,
    /// Read back and another than recorded.
    pub different: u64,
    /// Not there.
    pub missing: u64,
    /// There, in a store without versions.
    pub without_version: u64,
    /// The first objects (all, or at most [`VersionsReadBack::LISTED`]), those that differ first.
    pub listed: Vec<ObjectVersion>,
    /// Their locks; none where the store has no object lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locks: Option<LocksReadBack>,
}

/// The locks of the point and its objects, as the store gave them back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LocksReadBack {
    /// Until when the point's header promises that all is locked; none: it was written without locks.
    pub promised_until: Option<Timestamp>,
    /// Objects asked for, the point itself included.
    pub objects: u64,
    /// Locked at least so long.
    pub locked: u64,
    /// Of them in compliance mode, which nobody can lift.
    pub compliance: u64,
    /// Under a legal hold.
    pub held: u64,
    /// Whose lock could not be asked for.
    pub unread: u64,
    /// The earliest end of all that were read.
    pub earliest_until: Option<Timestamp>,
    /// The first objects (at most [`LocksReadBack::LISTED`]) that are locked for less, or not at all.
    pub short: Vec<String>,
}

impl LocksReadBack {
    /// How many objects are listed by name.
    pub const LISTED: usize = 20;
}

impl VersionsReadBack {
    /// How many objects are listed by name.
    pub const LISTED: usize = 50;
}

/// One object's VersionId, recorded and read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectVersion {
    /// The object's key.
    pub key: String,
    /// What the point's header records.
    pub recorded: Option<String>,
    /// What the store says.
    pub read_back: Option<String>,
}

/// A check that did not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotExecuted {
    /// Its id.
    pub id: String,
    /// Why it did not run.
    pub why: String,
}

/// How the restored data was compared with the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Comparison {
    /// Row counts and digests per table, equal to those of a source that was known to be quiet from before the backup
    /// until the digests were taken. Not exact under load.
    QuietSource {
        /// Tables compared.
        tables: u64,
        /// Rows in them.
        rows: u64,
    },
    /// Digests taken in a snapshot at an exact LSN, equal after replay to that LSN; holds under load.
    ExactWitness(ExactComparison),
    /// The data was not compared with the source.
    None {
        /// Why not.
        why: String,
    },
}

/// What was compared with an exact witness. What differed is in the checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactComparison {
    /// Tables compared.
    pub tables: u64,
    /// Rows in them.
    pub rows: u64,
    /// The LSN.
    pub lsn: lifeboat_model::lsn::Lsn,
    /// Tables of which only a sample of blocks was compared.
    #[serde(default)]
    pub sampled: u64,
    /// Tables and sequences that could not be compared: not read at the source, or changed while they were.
    #[serde(default)]
    pub not_compared: u64,
    /// `primary` or `standby`: where the snapshot was taken. A standby shares the primary's WAL with the restore.
    #[serde(default)]
    pub from: String,
}

/// Recovery targets of the tier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Targets {
    /// How much work may be lost.
    pub rpo_seconds: u64,
    /// How long it may take.
    pub rto_seconds: u64,
    /// Whether the RPO was met; none if it was not measured.
    pub rpo_met: Option<bool>,
    /// Whether the RTO was met; none if it was not measured.
    pub rto_met: Option<bool>,
}

impl Targets {
    /// Compares what was measured with the targets: not measured is not met and not missed.
    pub fn compare(rpo: Span, rto: Span, rpo_seconds: Option<f64>, rto_seconds: Option<f64>) -> Targets {
        let met = |measured: Option<f64>, target: Span| measured.map(|seconds| seconds <= target.0.as_secs_f64());
        Targets {
            rpo_seconds: rpo.0.as_secs(),
            rto_seconds: rto.0.as_secs(),
            rpo_met: met(rpo_seconds, rpo),
            rto_met: met(rto_seconds, rto),
        }
    }
}

/// One phase of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Its name, for example `fetch and place`.
    pub name: String,
    /// How long it took.
    pub duration_ms: u64,
    /// Bytes moved, where that means something.
    pub bytes: Option<u64>,
    /// Files placed, where that means something.
    pub files: Option<u64>,
    /// Whose work it was, in the order of its beginning: on the critical path, without overlaps, adding up to the phase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// An image that ran in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `postgres` or `odoo`.
    pub role: String,
    /// Its name in the configuration.
    pub name: String,
    /// Its id: the digest of its configuration, as the engine says.
    pub id: String,
    /// Its digest in a registry; none for an image that was built locally.
    pub digest: Option<String>,
}

/// What ran in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SoftwareVersions {
    /// PostgreSQL, as the restored server says.
    pub postgres: Option<String>,
    /// Odoo, as the booted server says.
    pub odoo: Option<String>,
    /// Installed Odoo modules.
    pub modules: Option<u64>,
}

/// One observed fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What, for example `network is internal`.
    pub name: String,
    /// What was seen.
    pub observed: String,
}

/// What was left of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Teardown {
    /// Whether it was looked for and nothing was found.
    pub complete: bool,
    /// Containers left.
    pub containers: u64,
    /// Volumes left.
    pub volumes: u64,
    /// Networks left.
    pub networks: u64,
    /// Folders with restored plaintext left.
    pub plaintext: u64,
    /// What is left, by name, or why it is not known.
    pub left: Vec<String>,
}

/// Who has seen and accepted a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignOff {
    /// Who.
    pub who: String,
    /// As what.
    pub role: String,
    /// When.
    pub time: Timestamp,
}

/// The checks that did not run, for [`DrillPredicate::not_executed`].
pub fn not_executed(checks: &[Check]) -> Vec<NotExecuted> {
    let why = |check: &Check| match &check.verdict {
        Verdict::NotExecuted(why) => Some(NotExecuted { id: check.id.clone(), why: why.clone() }),
        Verdict::Passed | Verdict::Failed(_) => None,
    };
    checks.iter().filter_map(why).collect()
}

/// Whether an answer promises more than another. Worse than its checks is allowed: a run knows more than they do.
fn better(said: Outcome, summed: Outcome) -> bool {
    match said {
        Outcome::Passed => summed != Outcome::Passed,
        Outcome::Incomplete => summed == Outcome::Failed,
        Outcome::Failed => false,
    }
}

impl DrillPredicate {
    /// To the second, as the seconds may be rounded.
    fn rpo_fits_its_times(&self) -> bool {
        match (self.rpo_seconds, self.newest_commit, self.rpo_reference) {
            (Some(seconds), Some(commit), Some(reference)) => {
                (reference.duration_since(commit).as_secs_f64().max(0.0) - seconds).abs() <= 1.0
            }
            _ => true,
        }
    }

    /// What its control says and its checks do not.
    fn of_control(&self, control: &Control) -> Vec<String> {
        let mut failed: Vec<&String> = self
            .checks
            .iter()
            .filter(|check| matches!(check.verdict, Verdict::Failed(_)))
            .map(|check| &check.id)
            .collect();
        let mut told: Vec<&String> = control.failed.iter().collect();
        let mut expected: Vec<&String> = control.expected.iter().collect();
        [&mut failed, &mut told, &mut expected].into_iter().for_each(|ids| ids.sort());
        let mut found = Vec::new();
        if failed != told {
            found.push("its control names other failed checks than there are".to_owned());
        }
        if control.outcome == Outcome::Passed && (told != expected || expected.is_empty()) {
            found.push("its control says passed, and other checks failed than had to".to_owned());
        }
        if self.sabotage.is_none() {
            found.push("it has a control, and does not say that anything was damaged".to_owned());
        }
        found
    }

    /// A statement that says *passed* above a failed check must not be believed for its first line.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut say = |wrong: bool, text: String| {
            if wrong {
                found.push(text);
            }
        };
        let is_required = |id: &str| self.required.iter().any(|required| required == id);
        let summed = Outcome::of(&self.checks, is_required);
        say(better(self.outcome, summed), format!("it says {}, its checks say {}", self.outcome.word(), summed.word()));
        for id in &self.required {
            let absent = !self.checks.iter().any(|check| check.id == *id);
            say(absent && self.outcome == Outcome::Passed, format!("it says passed without the required check {id}"));
        }
        say(
            self.not_executed != not_executed(&self.checks),
            "its list of checks not executed is another than its checks say".to_owned(),
        );
        say(
            self.outcome == Outcome::Passed && self.point.is_none(),
            "it says passed without a recovery point".to_owned(),
        );
        say(
            self.outcome == Outcome::Passed && !self.teardown.complete,
            "it says passed without a complete teardown".to_owned(),
        );
        let sabotaged = self.outcome == Outcome::Passed && self.sabotage.is_some();
        say(sabotaged, "it says passed on a copy that was damaged on purpose".to_owned());
        if let Some(control) = &self.control {
            found.extend(self.of_control(control));
        }
        let mut say = |wrong: bool, text: String| {
            if wrong {
                found.push(text);
            }
        };
        say(!self.rpo_fits_its_times(), "its RPO does not fit the times it is measured between".to_owned());
        say(self.finished < self.started, "it finished before it started".to_owned());
        let Targets { rpo_seconds, rto_seconds, rpo_met, rto_met } = self.targets;
        let met = |measured: Option<f64>, target: u64| measured.map(|seconds| seconds <= target as f64);
        say(rpo_met != met(self.rpo_seconds, rpo_seconds), "its RPO does not fit its verdict on the target".to_owned());
        say(rto_met != met(self.rto_seconds, rto_seconds), "its RTO does not fit its verdict on the target".to_owned());
        found
    }
}
