//! Finding the end of a log, and the tree up to there.
//!
//! Entries are dense: the log ends at the first slot that is free. From a tree that is known (remembered by this host, told
//! by a checkpoint, or the empty one) all entries behind it are read, so nothing that is planted elsewhere can mislead.
//! Where many have come since, a later checkpoint is looked for, which has the tree in itself.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use lifeboat_evidence::ledger::{Previous, Tree, place};
use lifeboat_repo::repository::EvidenceRef;
use lifeboat_store::VersionId;

use super::{Log, previous};
use crate::error::{Error, Result};

/// Slots that are listed at a time.
const RUN: usize = 512;
/// Checkpoints that are tried at one place of the log, and how far before it.
const TRIED: usize = 64;
const BEFORE: u64 = 8;
/// Checkpoints that are read at the same time.
const READ: usize = 8;
/// About 80 bytes each.
const NAMES: usize = 1 << 16;

/// The end of a log.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// The tree over all entries up to there.
    pub tree: Tree,
    /// The newest checkpoint.
    pub previous: Option<Previous>,
    /// The version of its object, where the store has versions.
    pub checkpoint: Option<VersionId>,
    /// Names of statements whose entries were read on the way; at most [`NAMES`], those with the latest times.
    pub entered: BTreeSet<String>,
    /// Whether entries were passed over, whose statements are therefore not among them.
    pub skipped: bool,
}

impl Head {
    pub fn empty() -> Self {
        Self { tree: Tree::new(), previous: None, checkpoint: None, entered: BTreeSet::new(), skipped: false }
    }

    /// Goes on from a head that was known to the end. None: the log contradicts it.
    pub async fn find(log: &Log, known: Head) -> Result<Option<Head>> {
        let mut head = known;
        loop {
            let size = head.tree.size();
            let near = size.saturating_sub(BEFORE);
            let (run, checkpoints) = tokio::try_join!(log.run(size), log.checkpoints_from(near))?;
            if head.is_contradicted(log, &checkpoints).await? {
                return Ok(None);
            }
            let (end, full) = (size + run.len() as u64, run.len() == RUN);
            if run.len() <= super::AT_ONCE
                && let Some(read) = head.read_all(log, &run, &checkpoints).await?
            {
                return Ok(Some(read));
            }
            let mut jumped = false;
            if run.len() > super::AT_ONCE {
                let end = if full { log.probe(end).await? } else { end };
                jumped = head.jump(log, &log.checkpoints_from(end.saturating_sub(BEFORE)).await?).await?;
            }
            jumped = jumped || head.jump(log, &checkpoints).await?;
            // Past what was listed: far ahead, or in a log without locks from which entries were taken away. Nothing is put
            // in their place.
            if head.tree.size() > end || (full && jumped) {
                continue;
            }
            head.read(log, &run[(head.tree.size() - size) as usize..]).await?;
            if !full {
                return Ok(Some(head));
            }
        }
    }

    /// Whether another checkpoint of the size of the remembered one has another root.
    async fn is_contradicted(&self, log: &Log, listed: &[(u64, EvidenceRef)]) -> Result<bool> {
        let Some(previous) = &self.previous else { return Ok(false) };
        let same = listed.iter().filter(|(size, _)| *size == previous.size);
        for (_, found) in same {
            let is_known = found.version.is_some() && found.version == self.checkpoint;
            if !is_known && log.checkpoint(found).await?.is_some_and(|signed| signed.checkpoint.root != previous.root) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads few slots to the end, and the newest checkpoint meanwhile. None: they do not lead to it.
    async fn read_all(&self, log: &Log, run: &[EvidenceRef], listed: &[(u64, EvidenceRef)]) -> Result<Option<Head>> {
        let (leaves, newest) = tokio::try_join!(log.leaves(run), self.newest(log, listed))?;
        let mut head = self.clone();
        let mut fits = newest.is_none();
        for at in 0..=run.len() {
            if let Some((tree, version)) = newest.as_ref().filter(|(tree, _)| *tree == head.tree) {
                fits = true;
                (head.previous, head.checkpoint) = (Some(previous(tree)), version.clone());
            }
            if at < run.len() {
                head.push(log, &run[at], &leaves[at]).await?;
            }
        }
        Ok(fits.then_some(head))
    }

    /// Takes the tree of the latest of these checkpoints that is to be believed and is later than what is known.
    async fn jump(&mut self, log: &Log, listed: &[(u64, EvidenceRef)]) -> Result<bool> {
        let Some((tree, version)) = self.newest(log, listed).await? else { return Ok(false) };
        (self.previous, self.checkpoint) = (Some(previous(&tree)), version);
        (self.tree, self.skipped) = (tree, true);
        Ok(true)
    }

    /// The latest of these checkpoints that is to be believed and is later than what is known.
    async fn newest(&self, log: &Log, listed: &[(u64, EvidenceRef)]) -> Result<Option<(Tree, Option<VersionId>)>> {
        let known = self.tree.size();
        let knows_it = self.previous.as_ref().is_some_and(|previous| previous.size == known);
        let later = |size: u64| size > known || (size == known && !knows_it);
        let candidates = listed.iter().rev().filter(|(size, _)| later(*size));
        let reading: Vec<_> = candidates
            .map(|(_, found)| {
                let (log, found) = (log.clone(), found.clone());
                async move {
                    let signed = log.checkpoint(&found).await?;
                    Ok::<_, Error>(signed.and_then(|signed| Some((signed.tree?, found.version))))
                }
            })
            .collect();
        let mut reading = stream::iter(reading).buffered(READ);
        while let Some(read) = reading.try_next().await? {
            if read.is_some() {
                return Ok(read);
            }
        }
        Ok(None)
    }

    /// Appends the leaves of slots that follow.
    pub async fn read(&mut self, log: &Log, run: &[EvidenceRef]) -> Result<()> {
        for some in run.chunks(super::AT_ONCE) {
            let leaves = log.leaves(some).await?;
            for (found, leaf) in some.iter().zip(leaves) {
                self.push(log, found, &leaf).await?;
            }
        }
        Ok(())
    }

    /// Takes note of a statement that was entered.
    pub fn knows(&mut self, statement: String) {
        self.entered.insert(statement);
        if self.entered.len() > NAMES {
            self.entered.pop_first();
        }
    }

    /// Appends a leaf that was found. What no host of ours has put must not go away any more.
    pub async fn push(&mut self, log: &Log, found: &EvidenceRef, leaf: &[u8]) -> Result<()> {
        match log.entry(leaf, self.tree.size()) {
            Some(entry) => self.knows(entry.statement),
            None => log.store.keep(found).await?,
        }
        self.tree.push(leaf);
        Ok(())
    }
}

impl Log {
    /// Slots that are taken from `first` on without a gap; at most [`RUN`].
    pub(super) async fn run(&self, first: u64) -> Result<Vec<EvidenceRef>> {
        let before = first.checked_sub(1).map(place::entry).unwrap_or_default();
        let mut listed = self.store.list("ledger/entries/", &before);
        let mut run = Vec::new();
        while run.len() < RUN
            && let Some(found) = listed.try_next().await?
        {
            match place::parse(self.store.name(&found)) {
                Some(place::Place::Entry(index)) if index == first + run.len() as u64 => run.push(found),
                Some(_) => break,
                None => {} // no slot: somebody else's
            }
        }
        Ok(run)
    }

    /// Checkpoints of at least so many entries, with their sizes; at most [`TRIED`].
    pub(super) async fn checkpoints_from(&self, size: u64) -> Result<Vec<(u64, EvidenceRef)>> {
        // What comes after the place before: its own other places are listed too, and passed over.
        let before = size.checked_sub(1).map(place::checkpoint).unwrap_or_default();
        let mut listed = self.store.list("ledger/checkpoints/", &before);
        let mut checkpoints = Vec::new();
        while checkpoints.len() < TRIED
            && let Some(found) = listed.try_next().await?
        {
            if let Some(place::Place::Checkpoint(of)) = place::parse(self.store.name(&found))
                && of >= size
            {
                checkpoints.push((of, found));
            }
        }
        Ok(checkpoints)
    }

    /// About where the log ends, if it does behind `from`, in few round trips. Whoever may write can mislead it: nothing
    /// rests on the answer but how much is read.
    async fn probe(&self, from: u64) -> Result<u64> {
        let (mut low, mut high) = (from, None);
        loop {
            let probes: Vec<u64> = match high {
                None => (0..28).map(|bit| low + (1 << bit)).collect(),
                Some(high) if high - low <= BEFORE => return Ok(low),
                Some(high) => (1..17).map(|part| low + (high - low) * part / 17).filter(|at| *at > low).collect(),
            };
            let asking: Vec<_> = probes
                .iter()
                .map(|at| {
                    let (store, name) = (self.store.clone(), place::entry(*at));
                    async move { Ok::<_, Error>(store.seems_taken(&name).await?) }
                })
                .collect();
            let taken: Vec<bool> = stream::iter(asking).buffered(super::AT_ONCE).try_collect().await?;
            let free = taken.iter().position(|taken| !taken);
            if let Some(last) = free.unwrap_or(taken.len()).checked_sub(1) {
                low = probes[last];
            }
            high = free.map(|free| probes[free]).or(high);
            if high.is_none() && low > from + (1 << 40) {
                return Ok(low);
            }
        }
    }
}
