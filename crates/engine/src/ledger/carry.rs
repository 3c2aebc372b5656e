//! A copy's ledger: the primary's objects byte for byte, from its beginning to one of its checkpoints.
//!
//! A copy keeps no log of its own: a second one under the same origin would be a fork, and one that ends earlier is just what
//! a prefix is. Entries go before the checkpoint that covers them, and only what leads to its root is put: a copy is never
//! made of damage.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lifeboat_evidence::ledger::{Tree, entry};
use lifeboat_repo::{
    ledger::{Claimed, LedgerStore},
    repository::EvidenceRef,
};
use lifeboat_store::Key;

use super::{AT_ONCE, Head, LONGEST, Log, tiles};
use crate::{
    context::Context,
    error::{Error, Result},
};

/// Checkpoints that are carried at a time.
const SOME: usize = 64;

/// What became of the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carried {
    /// Objects that were copied.
    pub copied: u64,
    /// How many entries the copy's newest checkpoint covers now.
    pub size: u64,
    /// What is not what it should be, and why: from there on nothing was copied.
    pub refused: Vec<(Key, String)>,
}

/// Carries the ledger of a tenant from a primary into its copy.
pub(crate) async fn carry(from: &Context, to: &Context) -> Result<Carried> {
    let (source, copy) = (Log::of_reader(from), Log::of(to).await?);
    let there = Head::find(&Log::of_reader(to), Head::empty()).await?.unwrap_or_else(Head::empty);
    let mut job = Carry { source, copy: copy.store.clone(), log: copy, done: Carried::default() };
    // What the copy has behind its newest checkpoint is put again, and compared.
    let mut tree = job.covered(&there).await?;
    while let Some(next) = job.next(&tree).await? {
        tree = next;
        job.done.size = tree.size();
    }
    if job.done.copied > 0 {
        tiles::complete(&job.log, 0, tree.size()).await?;
    }
    Ok(job.done)
}

struct Carry {
    source: Log,
    copy: LedgerStore,
    log: Log,
    done: Carried,
}

impl Carry {
    /// The tree of the copy's newest checkpoint.
    async fn covered(&mut self, there: &Head) -> Result<Tree> {
        let Some(previous) = &there.previous else { return Ok(Tree::new()) };
        for (size, found) in self.log.checkpoints_from(previous.size).await? {
            if size == previous.size
                && let Some(tree) = self.log.checkpoint(&found).await?.and_then(|signed| signed.tree)
            {
                self.done.size = size;
                return Ok(tree);
            }
        }
        Ok(Tree::new())
    }

    /// Carries some entries and the checkpoints over them; the tree up to the last. None: there are no more, or they are
    /// not what they should be.
    async fn next(&mut self, tree: &Tree) -> Result<Option<Tree>> {
        let listed = self.source.checkpoints_from(tree.size() + 1).await?;
        let mut genuine = Vec::new();
        for (size, found) in listed.into_iter().take(SOME) {
            // Whoever signed it: the primary's own readers decide by when the primary received it.
            if let Some(signed) = self.source.checkpoint(&found).await? {
                genuine.push((size, signed.checkpoint.root, found));
            }
        }
        let Some((last, root, newest)) = genuine.last().cloned() else { return Ok(None) };
        let run = self.source.span(tree.size(), last).await?;
        let mut grown = tree.clone();
        let mut leaves = Vec::new();
        for some in run.chunks(AT_ONCE) {
            for leaf in self.source.leaves(some).await? {
                grown.push(&leaf);
                leaves.push(leaf);
            }
        }
        if grown.size() != last || grown.root() != root {
            let why = format!("the ledger's entries from {} on do not lead to this checkpoint", tree.size());
            self.done.refused.push((newest.key, why));
            return Ok(None);
        }
        if !self.put_entries(&run, &leaves).await? {
            return Ok(None);
        }
        for (_, _, found) in &genuine {
            let note = self.source.store.get(found, LONGEST).await?;
            if !self.put(found, note).await? {
                return Ok(None);
            }
        }
        Ok(Some(grown))
    }

    async fn put_entries(&mut self, run: &[EvidenceRef], leaves: &[Bytes]) -> Result<bool> {
        let (copy, source) = (&self.copy, &self.source.store);
        let putting = run.iter().zip(leaves).map(|(found, leaf)| {
            let (copy, name, found) = (copy.clone(), source.name(found).to_owned(), found.clone());
            let void = found.len > entry::MAX_BYTES as u64;
            // Nothing reads it: anything as long as no entry is will do.
            let bytes = if void { Bytes::from(vec![0; entry::MAX_BYTES + 1]) } else { leaf.clone() };
            async move { Ok::<_, Error>((found, copy.claim(&name, bytes).await?, void)) }
        });
        let putting: Vec<_> = putting.collect();
        let put: Vec<_> = stream::iter(putting).buffered(AT_ONCE).try_collect().await?;
        for (found, claimed, void) in put {
            match claimed {
                Claimed::Ours(_) => self.done.copied += 1,
                Claimed::Taken(other) if void && other.len > entry::MAX_BYTES as u64 => {}
                Claimed::Taken(_) => {
                    self.done.refused.push((found.key.clone(), ANOTHER.to_owned()));
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    async fn put(&mut self, found: &EvidenceRef, bytes: Bytes) -> Result<bool> {
        match self.copy.claim(self.source.store.name(found), bytes).await? {
            Claimed::Ours(_) => self.done.copied += 1,
            // Junk in the copy's place of a checkpoint stops nothing: another of the same size says the same.
            Claimed::Taken(_) => self.done.refused.push((found.key.clone(), ANOTHER.to_owned())),
        }
        Ok(true)
    }
}

const ANOTHER: &str = "the copy has another under this name";

impl Log {
    /// The slots from `first` to `end`, as far as they are dense.
    async fn span(&self, first: u64, end: u64) -> Result<Vec<EvidenceRef>> {
        let mut slots: Vec<EvidenceRef> = Vec::new();
        loop {
            let at = first + slots.len() as u64;
            let run = self.run(at).await?;
            let wanted = (end - at) as usize;
            let got = run.len();
            slots.extend(run.into_iter().take(wanted));
            if got >= wanted || got == 0 {
                return Ok(slots);
            }
        }
    }
}
