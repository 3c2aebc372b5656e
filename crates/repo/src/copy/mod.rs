//! Copying one instance into another store, without any decryption key, bytes as they are.
//!
//! What is copied is what signed headers vouch for: objects of points by the SHA-256 in the point's header, WAL, documents
//! and indexes by their own signature and digest. Every byte is compared while it passes, so damage and forgery at the
//! primary stop there: the object is named, and the points that need it are not copied. A point is written last, when
//! every object that it names is durable in the copy, and locked there for as long as the point is to stay.
//!
//! What is there is not sent again, so a run that was stopped is simply run again. But that it is there says nothing of
//! what it is: what this run did not send is read back once and compared, and remembered ([`CopyOptions::seen`]). Of each
//! key the first version counts, at the primary as in the copy: who adds newer ones changes nothing.
//!
//! # Memory
//! Objects in flight take [`CopyOptions::memory`] bytes at most, or what the largest one takes; what the copy has takes
//! about 128 bytes an object; one point's header is held at a time.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use lifeboat_model::{
    id::{PointId, Sha256Digest},
    lsn::Lsn,
    signature::PublicKey,
};
use lifeboat_store::Key;

use crate::{
    error::Result,
    lease::{Claim, Purpose},
    point::PointRef,
    progress::Progress,
    repository::InstanceRepo,
};

mod archive;
mod content;
mod evidence;
mod points;
mod present;
pub mod reencrypt;
mod transfer;

pub use evidence::{EvidenceCopied, Judge, copy_evidence};

use present::Present;
use transfer::Budget;

/// Whether a point is to be copied.
pub type Pick = Arc<dyn Fn(&PointRef) -> bool + Send + Sync>;

/// How much of the archive of WAL is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WalFrom {
    /// All of it.
    #[default]
    Beginning,
    /// What is needed from this point's start on; of other clusters than the point's, all.
    Point(PointId),
    /// None of it, and no documents.
    Nothing,
}

/// What is copied, and how.
#[derive(Clone)]
pub struct CopyOptions {
    /// Name and version of what copies, for the lease.
    pub software: String,
    /// The time, for the lease.
    pub now: Timestamp,
    /// Which points.
    pub points: Pick,
    /// How much WAL.
    pub wal: WalFrom,
    /// Most bytes in flight.
    pub memory: u64,
    /// Objects in flight.
    pub at_once: usize,
    /// Where it is remembered what the copy was seen to hold; none: all that is wanted is read back each time.
    pub seen: Option<PathBuf>,
}

impl CopyOptions {
    /// Everything, with 96 MiB in flight, 8 objects at a time.
    pub fn everything(software: &str, now: Timestamp) -> Self {
        let points: Pick = Arc::new(|_| true);
        Self {
            software: software.to_owned(),
            now,
            points,
            wal: WalFrom::Beginning,
            memory: 96 << 20,
            at_once: 8,
            seen: None,
        }
    }
}

impl fmt::Debug for CopyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyOptions").field("wal", &self.wal).field("memory", &self.memory).finish_non_exhaustive()
    }
}

/// Where something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// At the primary, or whatever is copied from.
    Source,
    /// In the copy.
    Copy,
}

impl Side {
    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Copy => "copy",
        }
    }
}

/// An object that was not copied, and what is not complete without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyProblem {
    /// Where.
    pub side: Side,
    /// The object.
    pub key: Key,
    /// What is wrong with it.
    pub what: String,
    /// Points that were not copied for it; the object itself may be one.
    pub points: Vec<PointId>,
}

/// A point that is complete in the copy now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedPoint {
    /// Its id.
    pub id: PointId,
    /// When it was finished.
    pub finished: Timestamp,
    /// Its key, the same on both sides.
    pub key: Key,
    /// SHA-256 of the whole object.
    pub sha256: Sha256Digest,
    /// Until when it is locked in the copy; none where nothing is.
    pub locked_until: Option<Timestamp>,
    /// When the primary's store received it.
    pub received: Timestamp,
}

/// How far a stream of WAL reaches on either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalReached {
    /// PostgreSQL's system identifier.
    pub system_id: u64,
    /// The timeline.
    pub timeline: u32,
    /// The end of what the source holds.
    pub source: Lsn,
    /// The end of what the copy holds, as far as it was copied without an error.
    pub copy: Lsn,
}

/// What a copy did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Points that were copied, newest first.
    pub copied: Vec<CopiedPoint>,
    /// Points that were complete in the copy already.
    pub there: u64,
    /// Points that were not wanted.
    pub left: u64,
    /// Objects sent, those of points, WAL, documents and indexes.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of the objects, segments and slices of the archive.
    pub wal_objects: u64,
    /// Of the objects, documents.
    pub documents: u64,
    /// Objects that were there, and whose lock was made longer.
    pub extended: u64,
    /// Indexes that nobody signed, and that are of use to nobody but the primary.
    pub unsigned_indexes: u64,
    /// Every stream, where the archive was copied.
    pub wal: Vec<WalReached>,
    /// What was not copied, and why.
    pub problems: Vec<CopyProblem>,
}

/// Copies an instance from `from` to `to`, an instance of a replica ([`Repository::init_replica`]). Locks are put as
/// `to` says ([`InstanceRepo::with_locks`]). Damage at the source is reported, not an error; an unreachable store is
/// one, and the run can be repeated. Dropped midway, it leaves whole objects and no point that is not complete.
///
/// [`Repository::init_replica`]: crate::repository::Repository::init_replica
pub async fn run(
    from: &InstanceRepo,
    to: &InstanceRepo,
    options: &CopyOptions,
    trusted: &[PublicKey],
    progress: Arc<dyn Progress>,
) -> Result<CopyReport> {
    let claim = to.claim(Purpose::Copy, &options.software, options.now, progress.clone()).await?;
    let copied = Copying::new(from, to, options, trusted, &progress).run(&claim).await;
    if let Err(error) = claim.release().await {
        progress.note(&format!("the lease on the copy could not be given back, it ends by itself: {error}"));
    }
    copied
}

/// A copy that is going on.
struct Copying<'a> {
    from: &'a InstanceRepo,
    to: &'a InstanceRepo,
    options: &'a CopyOptions,
    trusted: &'a [PublicKey],
    progress: &'a Arc<dyn Progress>,
    present: Present,
    budget: Budget,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    report: CopyReport,
    problems: BTreeMap<(Side, Key), CopyProblem>,
    /// Until when this run has made sure that the copy's marker is locked.
    marker_until: Option<Timestamp>,
}

impl<'a> Copying<'a> {
    fn new(
        from: &'a InstanceRepo,
        to: &'a InstanceRepo,
        options: &'a CopyOptions,
        trusted: &'a [PublicKey],
        progress: &'a Arc<dyn Progress>,
    ) -> Self {
        let (present, budget, state) =
            (Present::new(options.seen.clone()), Budget::new(options.memory), Mutex::default());
        Self { from, to, options, trusted, progress, present, budget, state }
    }

    async fn run(self, claim: &Claim) -> Result<CopyReport> {
        self.present.list(self.to.store(), &self.to.layout().root()).await?;
        let copied = self.everything(claim).await;
        self.present.save(); // what was seen was seen, whatever ended the run
        copied?;
        let State { mut report, problems, .. } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.problems = problems.into_values().collect();
        Ok(report)
    }

    async fn everything(&self, claim: &Claim) -> Result<()> {
        // First what extends the points that are there already, and costs little. Again at the end, because copying
        // points may take hours, and the stream goes on meanwhile.
        self.archive().await?;
        self.points(claim).await?;
        if !self.state().report.copied.is_empty() {
            self.archive().await?;
        }
        self.indexes().await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is wrong with an object; the first thing is kept.
    fn problem(&self, side: Side, key: &Key, what: &str, point: Option<PointId>) {
        let mut state = self.state();
        let new = || CopyProblem { side, key: key.clone(), what: what.to_owned(), points: Vec::new() };
        let problem = state.problems.entry((side, key.clone())).or_insert_with(new);
        if let Some(point) = point
            && !problem.points.contains(&point)
        {
            problem.points.push(point);
        }
    }

    /// Whether what the copy has under this key was seen to be something else.
    fn bad_in_copy(&self, key: &Key) -> bool {
        self.state().problems.contains_key(&(Side::Copy, key.clone()))
    }

    /// What is known to be wrong with an object.
    fn known_problem(&self, key: &Key) -> Option<(Side, String)> {
        let state = self.state();
        let found = [Side::Source, Side::Copy].into_iter().find_map(|side| state.problems.get(&(side, key.clone())));
        found.map(|problem| (problem.side, problem.what.clone()))
    }
}
