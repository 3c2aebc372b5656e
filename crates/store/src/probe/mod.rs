//! What an endpoint truly does, tried out: many servers speak S3, and not all keep what Object Lock promises.
//!
//! [`probe`] works on small objects of its own under `<prefix>probes/`, with a retention of about a minute. It tries
//! what a thief would try and reads back what came of it. Each [`Finding`] says what had to happen and what did; what
//! could not be tried is *not executed*, never passed. A refusal proves a lock only where the same credential is allowed
//! to do the same to what is not locked, so that is tried first.
//!
//! What stays locked is removed by the next probe, as far as its credential may delete. Read on: `trials.rs` for the
//! trials, `policy.rs` for what each role's credential must be allowed.

use std::time::Instant;

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use lifeboat_model::retention::LockMode;

use crate::{Key, Result, SharedStore, Store, suite};

mod policy;
mod trials;

pub use policy::{Role, policy};
use trials::Trials;

/// How firm the locks of a probe are, and how far it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeOptions {
    /// The mode that is tried. The tier's own, so that what is proven is what is relied on.
    pub mode: LockMode,
    /// Also try what would do harm if it were let through: switching the bucket's versioning off (and on again).
    pub intrusive: bool,
}

/// The answer of one trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// What was expected happened.
    Passed,
    /// Something else happened.
    Failed,
    /// It could not be tried, and why.
    NotExecuted(String),
}

/// A trial and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// For example `lock.delete-refused`.
    pub id: &'static str,
    /// Whether nothing there is immutable without it.
    pub required: bool,
    /// What has to happen.
    pub expected: &'static str,
    /// What happened.
    pub observed: String,
    /// The answer.
    pub verdict: Verdict,
    /// How long it took.
    pub milliseconds: u64,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// In the order tried.
    pub findings: Vec<Finding>,
    /// The store's clock minus the host's, where it could be read.
    pub skew: Option<SignedDuration>,
    /// Objects of this and earlier probes that are still there, because they are locked or may not be deleted.
    pub left: usize,
}

impl ProbeReport {
    /// Required properties that the endpoint does not have.
    pub fn failed(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.required && finding.verdict == Verdict::Failed)
    }

    /// Required properties that were not tried.
    pub fn unproven(&self) -> impl Iterator<Item = &Finding> {
        let untried = |finding: &&Finding| matches!(finding.verdict, Verdict::NotExecuted(_));
        self.findings.iter().filter(|finding| finding.required).filter(untried)
    }

    /// Whether every property that immutability rests on was tried and found.
    pub fn is_immutable(&self) -> bool {
        self.failed().next().is_none() && self.unproven().next().is_none()
    }
}

/// When a property is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needed {
    Always,
    /// There is nothing weaker than governance.
    InCompliance,
    /// Only where it was asked for.
    WhenIntrusive,
    /// Good to know.
    Never,
}

/// A property, and what is expected of it.
struct Property {
    id: &'static str,
    needed: Needed,
    expected: &'static str,
}

const fn property(id: &'static str, needed: Needed, expected: &'static str) -> Property {
    Property { id, needed, expected }
}

const OVERWRITE: Property =
    property("versions.overwrite", Needed::Always, "a put on a taken key leaves the first version as it was");
const CONDITIONAL: Property = property(
    "put.conditional",
    Needed::Never,
    "If-None-Match is honoured (known), or ignored (known): no matter which",
);
const LISTING: Property =
    property("versions.listed", Needed::Always, "all versions are listed, the newest first; the first one stands");
const MARKER: Property =
    property("versions.marker", Needed::Always, "a delete marker hides nothing from who lists versions");
const CHECKSUM: Property = property("put.checksum", Needed::Always, "bytes that do not fit their checksum are refused");
const LOCKED: Property = property("lock.put", Needed::Always, "a lock put with an object is read back as it was put");
const PARTS: Property = property("lock.parts", Needed::Always, "an upload in parts is locked once it is done");
const DELETE: Property = property("lock.delete", Needed::Always, "a locked version cannot be deleted");
const EXTEND: Property = property("lock.extend", Needed::Always, "a later end is accepted and read back");
const SHORTEN: Property = property("lock.shorten", Needed::Always, "an earlier end is refused");
const WEAKEN: Property = property("lock.weaken", Needed::InCompliance, "compliance is not turned into governance");
/// In compliance mode it is the endpoint that has to refuse; in governance mode it is a matter of this credential's rights.
const BYPASS: Property = property("lock.bypass", Needed::Always, "nobody can pass over the lock");
const BYPASS_RIGHT: Property =
    property("credential.bypass", Needed::Always, "this credential cannot pass over the lock");
const HOLD: Property = property("hold.delete", Needed::Never, "a version under legal hold cannot be deleted");
const RELEASE: Property = property("hold.release", Needed::Never, "a hold that is released holds no longer");
const DEFAULT: Property =
    property("bucket.default-retention", Needed::Never, "none, or one that yields to a lock put with the object");
const SUSPEND: Property = property("bucket.versioning", Needed::WhenIntrusive, "versioning cannot be switched off");
const CLOCK: Property = property("clock.skew", Needed::Always, "the store's clock is within 15 min of this host's");

/// What came of a trial.
enum Outcome {
    Passed(String),
    Failed(String),
    NotExecuted(String),
}

impl Outcome {
    fn of(passed: bool, observed: impl Into<String>) -> Self {
        if passed { Outcome::Passed(observed.into()) } else { Outcome::Failed(observed.into()) }
    }
}

/// Finds out what the endpoint behind `store` does, under `prefix` (empty, or ending with `/`).
pub async fn probe(store: &SharedStore, prefix: &str, options: ProbeOptions) -> ProbeReport {
    let folder = format!("{prefix}probes/");
    let mut trials = Trials::new(store, format!("{folder}{}", suite::random_name()), options);
    let mut findings = vec![trial(options, &CLOCK, trials.skew()).await];
    let skew = trials.measured_skew();
    // What is left of earlier probes goes first: it would be found by nobody else.
    sweep(store.as_ref(), &folder, SETTLED).await;
    findings.push(trial(options, &OVERWRITE, trials.overwrite()).await);
    findings.push(trial(options, &CONDITIONAL, trials.conditional()).await);
    findings.push(trial(options, &LISTING, trials.listing()).await);
    findings.push(trial(options, &MARKER, trials.marker()).await);
    findings.push(trial(options, &CHECKSUM, trials.checksum()).await);
    findings.push(trial(options, &LOCKED, trials.put_under_lock()).await);
    findings.push(trial(options, &PARTS, trials.parts_under_lock()).await);
    findings.push(trial(options, &DELETE, trials.delete_locked()).await);
    findings.push(trial(options, &EXTEND, trials.extend()).await);
    findings.push(trial(options, &SHORTEN, trials.shorten()).await);
    findings.push(trial(options, &WEAKEN, trials.weaken()).await);
    findings.push(trial(options, &HOLD, trials.hold()).await);
    findings.push(trial(options, &RELEASE, trials.release()).await);
    findings.push(trial(options, &DEFAULT, trials.default_retention()).await);
    findings.push(trial(options, &SUSPEND, trials.suspend()).await);
    // Last: where it is let through, the locked object is gone.
    let bypass = if options.mode == LockMode::Compliance { &BYPASS } else { &BYPASS_RIGHT };
    findings.push(trial(options, bypass, trials.bypass()).await);
    sweep(store.as_ref(), trials.folder(), SignedDuration::ZERO).await;
    ProbeReport { findings, skew, left: left(store.as_ref(), &folder).await }
}

async fn trial(options: ProbeOptions, property: &Property, work: impl Future<Output = Result<Outcome>>) -> Finding {
    let begun = Instant::now();
    let outcome = match work.await {
        Ok(outcome) => outcome,
        Err(crate::Error::Denied { operation, reason, .. }) => {
            Outcome::NotExecuted(format!("this credential may not: {operation} was refused ({reason})"))
        }
        Err(crate::Error::NoLocks { .. }) => Outcome::NotExecuted("it has no object lock".into()),
        Err(error) => Outcome::NotExecuted(error.to_string()),
    };
    let (observed, verdict) = match outcome {
        Outcome::Passed(observed) => (observed, Verdict::Passed),
        Outcome::Failed(observed) => (observed, Verdict::Failed),
        Outcome::NotExecuted(why) => (String::new(), Verdict::NotExecuted(why)),
    };
    let required = match property.needed {
        Needed::Always => true,
        Needed::InCompliance => options.mode == LockMode::Compliance,
        Needed::WhenIntrusive => options.intrusive,
        Needed::Never => false,
    };
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Finding { id: property.id, required, expected: property.expected, observed, verdict, milliseconds }
}

/// Leaves another probe that runs at the same time alone.
const SETTLED: SignedDuration = SignedDuration::from_mins(10);
/// Entries of a listing that a sweep takes; what is beyond goes the next time.
const MOST_SWEPT: usize = 10_000;

/// Removes what is older than `age` and not locked, in a folder of probes. What cannot be removed stays.
async fn sweep(store: &dyn Store, folder: &str, age: SignedDuration) {
    let Ok(now) = store.clock().await else { return };
    let old = |modified: Timestamp| now.duration_since(modified) >= age;
    let found = store.list_versions(folder, "").take(MOST_SWEPT);
    let found = found.try_filter(|found| std::future::ready(age.is_zero() || old(found.info.modified)));
    let Ok(found) = found.try_collect::<Vec<_>>().await else { return };
    for found in found {
        if let Err(error) = store.delete(&found.info.key, found.info.version.as_ref()).await {
            tracing::debug!(key = %found.info.key, %error, "an object of a probe stays");
        }
    }
}

async fn left(store: &dyn Store, folder: &str) -> usize {
    store.list_versions(folder, "").take(MOST_SWEPT).filter(|found| std::future::ready(found.is_ok())).count().await
}

fn key(folder: &str, name: &str) -> Key {
    Key::new(format!("{folder}/{name}")).expect("a random name in a folder whose name is a key")
}
