//! Removing what no policy keeps: planned from public signed headers, without any decryption key.
//!
//! The order is what makes it safe to be killed at any moment: points first, then what only they named. A point that is
//! still there has all that it needs, always. What a killed run leaves are objects that no point names; the next run
//! finds them like those of backups that were killed.
//!
//! Nothing is removed that might be needed. An object goes only if no point that is there names it (see [`crate::reach`]),
//! its lock, read back right before, has ended, and the store agrees; where nothing locks, it must also be an hour old by
//! the store's clock. What a writer could use again (packs, the chunk key, index objects) or may just have put (trees, a
//! point's own WAL) goes only while this run holds the instance's lease, in turns of a few seconds, and each turn begins
//! with another look at the list of points.
//!
//! Memory: one point's header, [`reach::Reach`](crate::reach), a page of a listing, and a batch of candidates.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::PathBuf,
    sync::Arc,
};

use jiff::Timestamp;
use lifeboat_model::{id::PointId, signature::PublicKey};
use lifeboat_store::{Key, VersionId};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Result},
    progress::Progress,
    reach::{Digest, Needs, Reach, Streams, WalRule},
    repository::InstanceRepo,
};

mod folders;
mod points;
mod removal;
mod turn;
mod versions;
mod wal;

pub(crate) use folders::kind_at;
pub(crate) use versions::{Found, Versions};

/// What lies at a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PruneKind {
    /// A recovery point.
    Point,
    /// A part of a tree.
    Tree,
    /// Data.
    Pack,
    /// The key of chunk ids.
    Key,
    /// Where chunks lie.
    Index,
    /// WAL of a recovery point.
    PointWal,
    /// A segment of the archive.
    Segment,
    /// A slice of the archive.
    Slice,
    /// A timeline's beginning, a named restore point or a witness.
    Document,
    /// A lease, or what is left of one.
    Lease,
    /// What a trial of the endpoint left.
    Probe,
    /// Nothing that a release writes: a newer version, a delete marker, or an object at a key that is none of ours.
    Foreign,
}

impl PruneKind {
    /// The word for it, in the singular.
    pub fn word(self) -> &'static str {
        match self {
            PruneKind::Point => "point",
            PruneKind::Tree => "tree",
            PruneKind::Pack => "pack",
            PruneKind::Key => "chunk key",
            PruneKind::Index => "index",
            PruneKind::PointWal => "WAL of a point",
            PruneKind::Segment => "WAL segment",
            PruneKind::Slice => "WAL slice",
            PruneKind::Document => "document",
            PruneKind::Lease => "lease",
            PruneKind::Probe => "probe",
            PruneKind::Foreign => "foreign",
        }
    }
}

/// What becomes of an object that nothing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It was removed.
    Removed,
    /// It would be: this is a dry run.
    WouldRemove,
    /// The store keeps it until then.
    LockedUntil(Timestamp),
    /// Somebody put a legal hold on it.
    Held,
    /// It stays for now; why.
    Waits(String),
    /// Not ours: counted and named, and left alone unless that was asked for.
    Foreign,
}

/// An object that nothing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneItem {
    /// Its key.
    pub key: Key,
    /// The version, where the store has versions.
    pub version: Option<VersionId>,
    /// Its length.
    pub bytes: u64,
    /// What it is.
    pub kind: PruneKind,
    /// Why nothing needs it.
    pub why: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// How to prune.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// Remove; false: only say what would be removed.
    pub remove: bool,
    /// Also remove newer versions, delete markers and objects that no release writes.
    pub foreign: bool,
    /// Keys in the folder of points under which no recovery point of ours lies, in the word of a person: what they name
    /// is not kept for them, and they are removed like a point that is not kept.
    pub disregard: BTreeSet<Key>,
    /// Name and version, for the lease.
    pub software: String,
    /// A folder for what does not fit into memory. Nothing is put there now.
    pub scratch: PathBuf,
    /// The time, by the store's clock.
    pub now: Timestamp,
    /// Ends the run early; what was removed until then stays removed.
    pub cancel: CancellationToken,
}

/// Objects and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// How many.
    pub objects: u64,
    /// The sum of their lengths.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What a prune saw and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Versions and markers looked at.
    pub objects: u64,
    /// Removed; of a dry run: to be removed.
    pub removed: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// What nothing needs and is locked.
    pub locked: Amount,
    /// Its bytes.
    pub locked_bytes: u64,
    /// When the last of these locks ends.
    pub locked_until: Option<Timestamp>,
    /// What nothing needs and is under a legal hold.
    pub held: Amount,
    /// What nothing needs and waits for something else.
    pub waiting: Amount,
    /// Newer versions, delete markers, and objects that no release writes.
    pub foreign: Amount,
    /// What stays because it is needed, by kind.
    pub kept: BTreeMap<PruneKind, Amount>,
    /// Its bytes.
    pub kept_bytes: u64,
    /// Points that stay because policy keeps them, or because they came after it had decided.
    pub points_kept: u64,
    /// Points that were removed; of a dry run: that would be.
    pub points_removed: Vec<PointId>,
    /// Objects in the folder of points that count for nothing, and why: signed by nobody trusted, copied or renamed. What
    /// they name is left alone until they are disregarded.
    pub strange_points: Vec<(Key, String)>,
    /// Who held the lease, where that kept this run from removing what a writer could use.
    pub busy: Option<String>,
    /// It was ended before it had looked at everything.
    pub cancelled: bool,
}

/// Plans, and removes what nothing needs. `each` is told of every object that nothing needs, in the order in which they
/// are decided on.
pub async fn run(
    repo: &InstanceRepo,
    needs: &Needs,
    options: PruneOptions,
    trusted: &[PublicKey],
    each: &mut (dyn FnMut(&PruneItem) + Send),
    progress: Arc<dyn Progress>,
) -> Result<PruneReport> {
    if needs.points.is_empty() && !needs.dropped.is_empty() {
        return Err(Error::usage("policy keeps not a single point: prune never removes the newest"));
    }
    let mut run = Run {
        repo: repo.clone(),
        needs,
        trusted,
        each,
        progress: progress.clone(),
        report: PruneReport::default(),
        reach: Reach::default(),
        released: HashSet::new(),
        seen: HashSet::new(),
        streams: Streams::default(),
        systems: BTreeSet::new(),
        oldest_pack: None,
        batch: Vec::new(),
        turn: turn::Turn::new(repo.clone(), &options, progress),
        began: std::time::Instant::now(),
        options,
    };
    let done = run.all().await;
    let ended = run.turn.end().await;
    done?;
    ended?;
    Ok(run.report)
}

/// A prune that is going on.
struct Run<'a> {
    repo: InstanceRepo,
    needs: &'a Needs,
    options: PruneOptions,
    trusted: &'a [PublicKey],
    each: &'a mut (dyn FnMut(&PruneItem) + Send),
    progress: Arc<dyn Progress>,
    report: PruneReport,
    /// What the points need that are there.
    reach: Reach,
    /// Trees and WAL of points that this run removed: no writer can need them.
    released: HashSet<Digest>,
    /// Keys of points that were looked at.
    seen: HashSet<Digest>,
    /// Streams, and whether somebody trusted began them.
    streams: Streams,
    /// Systems of which WAL stays.
    systems: BTreeSet<u64>,
    /// When the store received the oldest pack that stays because it is needed.
    oldest_pack: Option<Timestamp>,
    batch: Vec<removal::Candidate>,
    turn: turn::Turn,
    began: std::time::Instant,
}

impl Run<'_> {
    async fn all(&mut self) -> Result<()> {
        self.points().await?;
        for (folder, kind) in [("trees", PruneKind::Tree), ("packs", PruneKind::Pack), ("keys", PruneKind::Key)] {
            self.folder(folder, kind).await?;
        }
        self.indexes().await?;
        let rule = self.wal_rule()?;
        self.wal(&rule).await?;
        self.documents(&rule).await?;
        self.leases().await?;
        self.others().await?;
        self.report.cancelled = self.options.cancel.is_cancelled();
        Ok(())
    }

    fn wal_rule(&self) -> Result<WalRule> {
        self.reach.wal_rule(&self.needs.wal)
    }

    /// The time, by the store's clock.
    fn now(&self) -> Timestamp {
        crate::locks::later(self.options.now, self.began.elapsed())
    }

    fn prefix(&self, folder: &str) -> String {
        self.repo.layout().prefix(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Callers run it in tasks.
    #[allow(dead_code, reason = "it is enough that it compiles")]
    fn a_run_can_move_between_threads<'a>(
        repo: &'a InstanceRepo,
        needs: &'a Needs,
        options: PruneOptions,
        each: &'a mut (dyn FnMut(&PruneItem) + Send),
        progress: Arc<dyn Progress>,
    ) -> impl Future<Output = Result<PruneReport>> + Send {
        run(repo, needs, options, &[], each, progress)
    }
}
