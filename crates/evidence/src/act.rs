//! `https://lifeboat.dev/evidence/<kind>/v1`: acts upon the repository and its keys that are neither backup, dump nor drill.
//!
//! All of them say the same of the run ([`ActPredicate`]) and differ in what was done ([`Act`]). One that touches the
//! whole tenant has no instance. Field by field in `FORMAT.md`. Later writers may add fields; readers of this version
//! pass over them.

use jiff::{Timestamp, civil::Date};
use lifeboat_model::{
    check::{Outcome, Verdict},
    id::{Instance, PointId, RepositoryId, RunId, Sha256Digest, Tenant},
    signature::PublicKey,
};
use serde::{Deserialize, Serialize};

use crate::backup::{PointReference, StartedBy};

mod runs;

pub use runs::{Incident, PASSED, RunbookRun, Stage, texts_sha256};

/// What all predicate types of ours begin with.
pub(crate) const TYPE_PREFIX: &str = "https://lifeboat.dev/evidence/";
/// Of a tenant-wide act, in place of an instance's name in its key.
pub const TENANT_WIDE: &str = "repository";

/// One act. A failed one is evidence as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActPredicate {
    /// The run.
    pub run: RunId,
    /// Who and what started it.
    pub started_by: StartedBy,
    /// Name and version of the software.
    pub software: String,
    /// SHA-256 of the configuration file's text.
    pub config_sha256: Sha256Digest,
    /// The owner.
    pub tenant: Tenant,
    /// The instance; none when the act is about the whole tenant or repository.
    pub instance: Option<Instance>,
    /// The repository.
    pub repository: RepositoryId,
    /// Where the repository is, as people call it, and whether it is immutable.
    pub storage: String,
    /// When the run began.
    pub started: Timestamp,
    /// When it had ended, before signing.
    pub finished: Timestamp,
    /// The answer.
    pub outcome: Outcome,
    /// What was done.
    pub act: Act,
}

/// What was done. The word in `kind` is the one in the predicate's type and in the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Act {
    /// What no policy keeps was removed.
    Prune(Prune),
    /// A point was put under legal hold.
    Hold(Hold),
    /// A legal hold was taken away.
    Release(Hold),
    /// Locks were extended to what policy promises.
    Retain(Retain),
    /// What the endpoint truly does.
    #[serde(rename = "check")]
    RepositoryCheck(RepositoryCheck),
    /// A named identity opened the newest point.
    #[serde(rename = "rehearsal")]
    KeyRehearsal(KeyRehearsal),
    /// A signing key is no longer believed.
    #[serde(rename = "revocation")]
    KeyRevocation(KeyRevocation),
    /// Keys were replaced.
    #[serde(rename = "rotation")]
    KeyRotation(KeyRotation),
    /// Points and WAL were copied to another repository.
    Copy(Copy),
    /// Ciphertext was read again and its digests compared.
    Scrub(Scrub),
    /// Locks were read back, or signs of an attack looked for.
    Verify(Proof),
    /// Somebody has seen a statement and says something of it.
    SignOff(SignOff),
    /// People and programs asked the daemon for something.
    Access(Access),
    /// The policies that a daemon works by have changed.
    Policy(Policy),
    /// A runbook's run was begun, taken up, stands still or is over.
    Runbook(RunbookRun),
    /// An incident was opened or closed.
    Incident(Incident),
}

/// What people and programs asked the daemon for, from one statement of this kind to the next. Looking is not among it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Access {
    /// Acts that were allowed, each with what became of it, in their order.
    pub acts: Vec<AccessAct>,
    /// Refusals, summed up: whoever tries thousands of times must not fill the ledger.
    pub refusals: Vec<AccessRefusal>,
    /// Refusals of more kinds than are listed ([`Access::LISTED`]).
    pub unlisted: u64,
}

impl Access {
    /// How many acts, and how many kinds of refusals, are listed in one statement.
    pub const LISTED: usize = 1000;
}

/// An act that was allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessAct {
    /// When.
    pub at: Timestamp,
    /// Who: the token's name, or the identity provider's.
    pub who: String,
    /// `start`, `cancel`, `sign-in`, …
    pub act: String,
    /// To what.
    pub target: Option<String>,
    /// What became of it.
    pub detail: Option<String>,
}

/// Refusals of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRefusal {
    /// Who; none: nobody who could be told from others.
    pub who: Option<String>,
    /// What was asked for.
    pub act: String,
    /// Why not.
    pub why: String,
    /// How often.
    pub count: u64,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
}

/// The policies that a daemon works by.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policy {
    /// All files that count from now on.
    pub files: Vec<PolicyFile>,
    /// Files that are not as they were in the statement before; none of them: the daemon was begun.
    pub changes: Vec<PolicyChange>,
}

/// A file of policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFile {
    /// Its path on the daemon's host.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: Sha256Digest,
}

/// A file of policies that has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// Its path on the daemon's host.
    pub name: String,
    /// SHA-256 of its bytes before; none: it is new.
    pub before: Option<Sha256Digest>,
    /// SHA-256 of its bytes now; none: it is gone.
    pub after: Option<Sha256Digest>,
}

/// What a person says of a run, having seen its statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignOff {
    /// The run.
    #[serde(rename = "of")]
    pub run: RunId,
    /// Where its statement is stored.
    pub statement: String,
    /// SHA-256 of the statement's envelope as stored: what was seen, byte for byte.
    pub statement_sha256: Sha256Digest,
    /// The user, as the operating system says.
    pub who: String,
    /// As what, in their own words: `owner`, `auditor`, `dr-coordinator`, `executive`.
    pub role: String,
    /// What they say.
    pub decision: Decision,
    /// Why, in their own words.
    pub comment: String,
    /// A deviation that they allow.
    #[serde(default)]
    pub exception: Option<String>,
    /// What will be done.
    #[serde(default)]
    pub corrective_action: Option<String>,
    /// By when.
    #[serde(default)]
    pub due: Option<Date>,
}

/// What a person says of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It is good enough.
    Accepted,
    /// It is not.
    Rejected,
    /// It was seen.
    Noted,
}

impl Decision {
    /// The word in the statement.
    pub fn word(self) -> &'static str {
        match self {
            Decision::Accepted => "accepted",
            Decision::Rejected => "rejected",
            Decision::Noted => "noted",
        }
    }

    /// The answer of its statement: what was rejected has not passed, and *noted* decides nothing.
    pub fn outcome(self) -> Outcome {
        match self {
            Decision::Accepted => Outcome::Passed,
            Decision::Rejected => Outcome::Failed,
            Decision::Noted => Outcome::Incomplete,
        }
    }
}

/// What a prune found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Prune {
    /// Objects and versions looked at.
    pub objects: u64,
    /// Removed.
    pub removed: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// Bytes that nothing needs and that are locked still.
    pub locked_bytes: u64,
    /// When the last of these locks ends.
    pub locked_until: Option<Timestamp>,
    /// Bytes that are needed.
    pub kept_bytes: u64,
    /// Objects that nothing needs and that wait for another reason, for example a running backup.
    pub waiting: u64,
    /// Points that policy keeps.
    pub points_kept: u64,
    /// Points that were removed: all, or at most [`Prune::LISTED`].
    pub points_removed: Vec<PointId>,
}

impl Prune {
    /// How many removed points are listed.
    pub const LISTED: usize = 1000;
}

/// A legal hold, put or taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The point.
    pub point: PointReference,
    /// Why, in the words of who did it.
    pub reason: String,
    /// Objects whose hold the store itself keeps; 0 in a store without locks, where this record alone keeps the point.
    pub objects: u64,
    /// Objects of the point that another held point needs as well, so that their hold stayed.
    #[serde(default)]
    pub shared: u64,
    /// Objects that refused, and why.
    pub refused: Vec<Refused>,
}

/// An object that refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its key.
    pub key: String,
    /// Why.
    pub why: String,
}

/// Locks that were extended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Retain {
    /// Points that policy keeps.
    pub points: u64,
    /// Objects that they need.
    pub objects: u64,
    /// Of them: extended.
    pub extended: u64,
    /// Of them: locked long enough before.
    pub enough: u64,
    /// Of them: refused.
    pub refused: Vec<Refused>,
}

/// What the endpoint truly does.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RepositoryCheck {
    /// The repository's name in the configuration.
    pub name: String,
    /// Each property that was tried.
    pub findings: Vec<Property>,
    /// The store's clock minus the host's, in seconds, where it was measured.
    pub skew_seconds: Option<f64>,
}

/// One property of the endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Property {
    /// Its id, for example `lock.delete-refused`.
    pub id: String,
    /// What had to happen.
    pub expected: String,
    /// What happened.
    pub observed: String,
    /// The answer.
    pub verdict: Verdict,
    /// How long it took.
    pub duration_ms: u64,
}

/// A named identity that opened, or did not open, the newest point. The identity itself is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRehearsal {
    /// The identity's name, as people call it.
    pub name: String,
    /// Its public half.
    pub recipient: Option<String>,
    /// The point; none when there was none to open.
    pub point: Option<PointReference>,
    /// What it opened, one thing each.
    pub opened: Vec<String>,
    /// Why it did not open the rest.
    pub failures: Vec<String>,
}

/// A signing key that is no longer believed for what the store received after a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRevocation {
    /// The key.
    pub key: PublicKey,
    /// From when on it is not believed, by the store's clock.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// Keys that were replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRotation {
    /// `recovery`, `host` or `signing`.
    pub role: String,
    /// Public halves before.
    pub before: Vec<String>,
    /// Public halves since.
    pub after: Vec<String>,
    /// Why, in the words of who did it.
    pub reason: Option<String>,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Copy {
    /// The name of the repository that was read.
    pub from: String,
    /// The name of the repository that was written.
    pub to: String,
    /// Where that is, as people call it.
    pub to_storage: String,
    /// Points that are there now.
    pub points: u64,
    /// Objects copied by this run.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were there before.
    pub present: u64,
    /// Whether they were sealed anew.
    pub reencrypted: bool,
    /// The newest point that is complete in the copy.
    pub newest: Option<PointReference>,
    /// What could not be copied.
    pub refused: Vec<Refused>,
}

/// What a scrub read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scrub {
    /// The share a day that was asked for, for example `1%/day`.
    pub share: String,
    /// Within so many days everything is read.
    pub days: u32,
    /// Objects that were due.
    pub due: u64,
    /// Objects read by this run.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Everything that was due was read.
    pub complete: bool,
    /// The last day (since 1970, UTC) that was finished; where the state of a host is lost, the next one goes on here.
    pub done: Option<i64>,
    /// Objects that are not as they were written.
    pub problems: Vec<Refused>,
}

/// What was read back of locks and versions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Proof {
    /// Locks, if they were looked at.
    pub locks: Option<LocksProof>,
    /// Signs of an attack, if they were looked for.
    pub signs: Option<SignsProof>,
}

/// Retention of every object that a kept point needs, as read back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LocksProof {
    /// Points that policy keeps.
    pub points: u64,
    /// Objects that they need.
    pub objects: u64,
    /// When the first of their locks ends.
    pub earliest: Option<Timestamp>,
    /// Objects that are not locked long enough: how many.
    pub short: u64,
    /// The first of them, at most [`LocksProof::LISTED`].
    pub problems: Vec<Refused>,
}

impl LocksProof {
    /// How many objects are listed.
    pub const LISTED: usize = 1000;
}

/// Signs of an attack or an accident.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SignsProof {
    /// Versions that were written over what was there.
    pub newer_versions: u64,
    /// Delete markers.
    pub delete_markers: u64,
    /// Objects whose key or content is not ours.
    pub foreign: u64,
    /// Points whose lock is shorter than their signed header says.
    #[serde(default)]
    pub shortened: u64,
    /// The first of them.
    pub samples: Vec<Sign>,
}

/// One sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sign {
    /// The key.
    pub key: String,
    /// The version.
    pub version: Option<String>,
    /// What it is.
    pub what: String,
    /// When the store received it.
    pub at: Timestamp,
}

impl Act {
    /// The word in the predicate's type, in the key and in `evidence list --kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Act::Prune(_) => "prune",
            Act::Hold(_) => "hold",
            Act::Release(_) => "release",
            Act::Retain(_) => "retain",
            Act::RepositoryCheck(_) => "check",
            Act::KeyRehearsal(_) => "rehearsal",
            Act::KeyRevocation(_) => "revocation",
            Act::KeyRotation(_) => "rotation",
            Act::Copy(_) => "copy",
            Act::Scrub(_) => "scrub",
            Act::Verify(_) => "verify",
            Act::SignOff(_) => "signoff",
            Act::Access(_) => "access",
            Act::Policy(_) => "policy",
            Act::Runbook(_) => "runbook",
            Act::Incident(_) => "incident",
        }
    }

    /// The point that it is about, if it is about one.
    pub fn point(&self) -> Option<&PointReference> {
        match self {
            Act::Hold(hold) | Act::Release(hold) => Some(&hold.point),
            Act::KeyRehearsal(rehearsal) => rehearsal.point.as_ref(),
            Act::Copy(copy) => copy.newest.as_ref(),
            _ => None,
        }
    }

    /// Why nothing of this kind may be said to have passed.
    fn troubles(&self) -> Vec<&'static str> {
        let told = |wrong: bool, what| if wrong { vec![what] } else { Vec::new() };
        match self {
            Act::Hold(hold) | Act::Release(hold) => told(!hold.refused.is_empty(), "objects refused"),
            Act::Retain(retain) => told(!retain.refused.is_empty(), "objects refused"),
            Act::Copy(copy) => told(!copy.refused.is_empty(), "objects were not copied"),
            Act::Scrub(scrub) => [
                told(!scrub.problems.is_empty(), "objects are not as they were written"),
                told(!scrub.complete, "not everything that was due was read"),
            ]
            .concat(),
            Act::RepositoryCheck(check) => {
                let failed = |property: &Property| matches!(property.verdict, Verdict::Failed(_));
                told(check.findings.iter().any(failed), "a property failed")
            }
            Act::KeyRehearsal(rehearsal) => [
                told(!rehearsal.failures.is_empty(), "something did not open"),
                told(rehearsal.opened.is_empty(), "nothing was opened"),
            ]
            .concat(),
            Act::Verify(Proof { locks, signs }) => [
                told(locks.as_ref().is_some_and(|locks| locks.short > 0), "objects are not locked long enough"),
                told(signs.as_ref().is_some_and(SignsProof::any), "there are signs of an attack"),
            ]
            .concat(),
            Act::SignOff(sign_off) => told(sign_off.decision != Decision::Accepted, "it accepts nothing"),
            Act::Runbook(run) => {
                let passed = run.stage == Stage::Over && run.ending.as_deref() == Some(PASSED);
                [told(!passed, "it has not ended so"), told(!run.failed.is_empty(), "steps failed")].concat()
            }
            Act::Incident(incident) => told(!incident.closed, "the incident is open"),
            // A refusal is the right answer, and no failure.
            Act::Prune(_) | Act::KeyRevocation(_) | Act::KeyRotation(_) | Act::Access(_) | Act::Policy(_) => Vec::new(),
        }
    }

    /// Numbers that cannot all be true.
    fn impossible(&self) -> Option<&'static str> {
        let wrong = match self {
            Act::Prune(prune) => prune.removed > prune.objects || prune.points_removed.len() as u64 > prune.removed,
            Act::Retain(retain) => retain.extended + retain.enough + retain.refused.len() as u64 > retain.objects,
            Act::Verify(Proof { locks: Some(locks), .. }) => locks.short > locks.objects,
            Act::Scrub(scrub) => scrub.objects > scrub.due,
            Act::Runbook(run) => run.lines == 0,
            Act::Incident(incident) => incident.lines == 0,
            Act::Access(access) => access.refusals.iter().any(|refusal| refusal.last < refusal.first),
            _ => false,
        };
        wrong.then_some("its numbers do not add up")
    }
}

impl SignsProof {
    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.newer_versions + self.delete_markers + self.foreign + self.shortened > 0
    }
}

impl ActPredicate {
    /// The type of the predicate.
    pub(crate) fn predicate_type(&self) -> String {
        predicate_type(self.act.kind())
    }

    pub(crate) fn contradictions(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.finished < self.started {
            found.push("it finished before it started".to_owned());
        }
        if self.outcome == Outcome::Passed {
            found.extend(self.act.troubles().into_iter().map(|trouble| format!("it says passed, but {trouble}")));
        }
        found.extend(self.act.impossible().map(str::to_owned));
        found
    }
}

fn predicate_type(kind: &str) -> String {
    format!("{TYPE_PREFIX}{kind}/v1")
}

/// Whether a type is one of these, of the version that is read here.
pub(crate) fn is_act(kind: &str) -> bool {
    const KINDS: [&str; 16] = [
        "prune",
        "hold",
        "release",
        "retain",
        "check",
        "rehearsal",
        "revocation",
        "rotation",
        "copy",
        "scrub",
        "verify",
        "signoff",
        "access",
        "policy",
        "runbook",
        "incident",
    ];
    KINDS.iter().any(|known| predicate_type(known) == kind)
}
