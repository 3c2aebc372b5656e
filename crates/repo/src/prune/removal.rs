//! Removing candidates, some at the same time: each is looked at once more right before.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use lifeboat_store::{LockState, ObjectInfo, SharedStore};

use super::{Fate, PruneItem, PruneKind, Run, turn::May};
use crate::{
    error::{Error, Result},
    locks::later,
    progress::Counter,
    reach,
};

/// Candidates that are decided on together.
const BATCH: usize = 64;
/// Requests at the same time.
const AT_ONCE: usize = 16;
/// Where nothing locks, what is younger than this by the store's clock stays: it may be part of what is being written.
pub(super) const YOUNG: Duration = Duration::from_secs(3600);

/// An object that nothing needs, as far as is known.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub info: ObjectInfo,
    pub kind: PruneKind,
    pub why: String,
    /// A writer could use it, or may just have put it.
    pub leased: bool,
    /// WAL of this system.
    pub system: Option<u64>,
    /// A delete marker: it has no lock to read.
    pub marker: bool,
}

impl Candidate {
    pub fn new(info: ObjectInfo, kind: PruneKind, why: impl Into<String>) -> Self {
        Self { info, kind, why: why.into(), leased: false, system: None, marker: false }
    }
}

/// What came of trying.
#[derive(Debug)]
enum Outcome {
    Fate(Fate),
    /// Somebody else removed it.
    Gone,
    /// The turn was over before its delete began.
    Late,
}

impl Run<'_> {
    pub(super) async fn candidate(&mut self, candidate: Candidate) -> Result<()> {
        self.batch.push(candidate);
        if self.batch.len() >= BATCH { self.flush().await } else { Ok(()) }
    }

    /// Decides on all candidates that are gathered.
    pub(super) async fn flush(&mut self) -> Result<()> {
        while !self.batch.is_empty() && !self.options.cancel.is_cancelled() {
            let batch = std::mem::take(&mut self.batch);
            let (leased, free): (Vec<_>, Vec<_>) = batch.into_iter().partition(|candidate| candidate.leased);
            self.remove(free, None).await?;
            if leased.is_empty() {
                continue;
            }
            match self.may_remove_leased().await? {
                May::Wait(busy) => self.wait(leased, &busy),
                May::Until { latest, .. } => self.remove(leased, Some(latest)).await?,
            }
        }
        self.batch.clear();
        Ok(())
    }

    /// Takes the lease where that is needed; a turn begins with another look at the list of points.
    async fn may_remove_leased(&mut self) -> Result<May> {
        if !self.options.remove {
            let latest = Instant::now() + YOUNG;
            return Ok(May::Until { latest, fresh: false });
        }
        let may = self.turn.begin().await?;
        if matches!(may, May::Until { fresh: true, .. }) {
            self.newer_points().await?;
        }
        Ok(may)
    }

    fn wait(&mut self, candidates: Vec<Candidate>, busy: &str) {
        self.report.busy = Some(busy.to_owned());
        for candidate in candidates {
            if !self.is_needed_now(&candidate) {
                self.tell(candidate, Fate::Waits(busy.to_owned()));
            }
        }
    }

    /// A point that came meanwhile may name it.
    fn is_needed_now(&mut self, candidate: &Candidate) -> bool {
        let needed = candidate.kind != PruneKind::Foreign && self.reach.contains(&candidate.info.key);
        if needed {
            self.keep(&candidate.info, candidate.kind);
        }
        needed
    }

    pub(super) async fn remove(&mut self, candidates: Vec<Candidate>, latest: Option<Instant>) -> Result<()> {
        let candidates: Vec<_> = candidates.into_iter().filter(|found| !self.is_needed_now(found)).collect();
        let (remove, now) = (self.options.remove, self.now());
        let shared = self.repo.store().clone();
        let trials = candidates.into_iter().map(move |candidate| {
            let store = shared.clone();
            async move {
                let outcome = try_remove(&store, &candidate, remove, now, latest).await?;
                Ok::<_, Error>((candidate, outcome))
            }
        });
        let mut done = futures::stream::iter(trials).buffered(AT_ONCE).boxed();
        let mut late = Vec::new();
        while let Some((candidate, outcome)) = done.try_next().await? {
            match outcome {
                Outcome::Fate(fate) => self.tell(candidate, fate),
                Outcome::Gone => {}
                Outcome::Late => late.push(candidate),
            }
        }
        self.batch.extend(late);
        Ok(())
    }

    /// Counts an object that is needed.
    pub(super) fn keep(&mut self, info: &ObjectInfo, kind: PruneKind) {
        self.report.kept.entry(kind).or_default().add(info.len);
        self.report.kept_bytes += info.len;
        if kind == PruneKind::Pack {
            self.oldest_pack = Some(self.oldest_pack.map_or(info.modified, |oldest| oldest.min(info.modified)));
        }
    }

    /// Counts what became of an object that nothing needs, and tells of it.
    pub(super) fn tell(&mut self, candidate: Candidate, fate: Fate) {
        let Candidate { info, kind, why, system, .. } = candidate;
        let report = &mut self.report;
        match &fate {
            Fate::Removed | Fate::WouldRemove => {
                report.removed += 1;
                report.freed_bytes += info.len;
            }
            Fate::LockedUntil(until) => {
                report.locked.add(info.len);
                report.locked_bytes += info.len;
                report.locked_until = report.locked_until.max(Some(*until));
            }
            Fate::Held => report.held.add(info.len),
            Fate::Waits(_) => report.waiting.add(info.len),
            Fate::Foreign => report.foreign.add(info.len),
        }
        if !matches!(fate, Fate::Removed | Fate::WouldRemove) {
            self.systems.extend(system);
        }
        self.progress.add(Counter::Objects, 1);
        (self.each)(&PruneItem { key: info.key, version: info.version, bytes: info.len, kind, why, fate });
    }

    /// Whether this run removed the point that the object was written for, so that no writer can need it. A copy that is
    /// at work can: it may have seen the object before the point went, and publish that point once more.
    pub(super) fn is_released(&self, info: &ObjectInfo) -> bool {
        !self.repo.is_replica() && self.released.contains(&reach::digest(&info.key))
    }
}

/// Reads the lock back, and deletes this very version if nothing speaks against it.
async fn try_remove(
    store: &SharedStore,
    candidate: &Candidate,
    remove: bool,
    now: Timestamp,
    latest: Option<Instant>,
) -> Result<Outcome> {
    let Candidate { info, .. } = candidate;
    let state = match candidate.marker {
        true => LockState::default(),
        false => match store.lock_state(&info.key, info.version.as_ref()).await {
            Err(lifeboat_store::Error::NotFound { .. }) => return Ok(Outcome::Gone),
            other => other?,
        },
    };
    let young = later(info.modified, YOUNG) > now;
    match state.retention {
        _ if state.legal_hold => return Ok(Outcome::Fate(Fate::Held)),
        Some(retention) if retention.until > now => return Ok(Outcome::Fate(Fate::LockedUntil(retention.until))),
        None if young => {
            let why = "nothing locks it, and it is not an hour old".to_owned();
            return Ok(Outcome::Fate(Fate::Waits(why)));
        }
        _ if !remove => return Ok(Outcome::Fate(Fate::WouldRemove)),
        _ if latest.is_some_and(|latest| Instant::now() >= latest) => return Ok(Outcome::Late),
        _ => {}
    }
    match store.delete(&info.key, info.version.as_ref()).await {
        Ok(()) => Ok(Outcome::Fate(Fate::Removed)),
        Err(lifeboat_store::Error::Locked { until: Some(until), .. }) => Ok(Outcome::Fate(Fate::LockedUntil(until))),
        Err(lifeboat_store::Error::Locked { until: None, .. }) => Ok(Outcome::Fate(Fate::Held)),
        Err(error) => Err(error.into()),
    }
}
