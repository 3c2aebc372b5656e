//! Putting entries and checkpoints.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use lifeboat_evidence::ledger::{Entry, checkpoint, place};
use lifeboat_model::id::Sha256Digest;
use lifeboat_repo::ledger::Claimed;

use super::{AT_ONCE, Head, Writer, previous};
use crate::error::{Error, Result};

/// Slots that may be lost to others before an append gives up.
const PATIENCE: u32 = 1000;
/// Entries that may be without a checkpoint: from there on a crash costs no more reading.
const UNCOVERED: u64 = 2048;

impl Writer {
    /// Enters statements in this order; gives the index of the last. They are put some at a time: slots stay dense, as each
    /// that is not ours is somebody else's.
    pub(super) async fn enter(&mut self, head: &mut Head, statements: Vec<(String, Sha256Digest)>) -> Result<u64> {
        let own = statements.last().map(|(name, _)| name.clone());
        let mut waiting = VecDeque::from(statements);
        let (mut lost, mut last) = (0, 0);
        while !waiting.is_empty() {
            if lost > PATIENCE {
                return Err(Error::LedgerBusy { slots: lost });
            }
            if head.tree.size() - head.previous.as_ref().map_or(head.tree.size(), |known| known.size) >= UNCOVERED {
                self.put_checkpoint(head).await?;
            }
            let first = head.tree.size();
            let batch: Vec<(String, Sha256Digest)> = waiting.drain(..waiting.len().min(AT_ONCE)).collect();
            let leaves: Vec<Bytes> = (first..).zip(&batch).map(|(index, one)| self.leaf(head, index, one)).collect();
            let log = &self.log;
            let putting = (first..)
                .zip(&leaves)
                .map(|(index, leaf)| {
                    let (store, leaf) = (log.store.clone(), leaf.clone());
                    async move { store.claim(&place::entry(index), leaf).await }
                })
                .collect::<Vec<_>>();
            let put: Vec<_> = stream::iter(putting).buffered(AT_ONCE).collect().await;
            let mut again = VecDeque::new();
            for ((statement, leaf), claimed) in batch.into_iter().zip(leaves).zip(put) {
                match claimed? {
                    Claimed::Ours(_) => {
                        if own.as_ref() == Some(&statement.0) {
                            last = head.tree.size();
                        }
                        head.tree.push(&leaf);
                        head.knows(statement.0);
                    }
                    Claimed::Taken(found) => {
                        lost += 1;
                        let leaf = log.leaf(&found).await?;
                        head.push(log, &found, &leaf).await?;
                        again.push_back(statement);
                    }
                }
            }
            // Somebody else may just have entered the same; the last is ours to enter in any case.
            let entered = again.into_iter().filter(|(name, _)| waiting.is_empty() || !head.entered.contains(name));
            let again: Vec<_> = entered.collect();
            again.into_iter().rev().for_each(|statement| waiting.push_front(statement));
            if lost > 0 && !waiting.is_empty() {
                // Others are at work, or it was planted: look where the log ends now.
                let known = head.clone();
                *head = Head::find(log, known).await?.ok_or(Error::LedgerForked { size: head.tree.size() })?;
            }
        }
        Ok(last)
    }

    fn leaf(&self, head: &Head, index: u64, (name, sha256): &(String, Sha256Digest)) -> Bytes {
        let entered = (self.clock)();
        let entry = Entry::new(&self.log.origin, index, name, *sha256, entered, head.previous.clone());
        entry.sign(&self.signing).into()
    }

    /// Puts the checkpoint over the log as it is known. Where its place is taken by something that is none, it goes
    /// elsewhere; where another host has put the same, that will do.
    pub(super) async fn put_checkpoint(&mut self, head: &mut Head) -> Result<()> {
        let size = head.tree.size();
        let note = checkpoint::sign_tree(&self.log.origin, &head.tree, &self.signing);
        for name in [place::checkpoint(size), place::other_checkpoint(size, &note)] {
            let claimed = self.log.store.claim(&name, note.clone().into()).await?;
            let there = match claimed {
                Claimed::Ours(version) => Some(version),
                Claimed::Taken(found) => match self.log.checkpoint(&found).await? {
                    Some(signed) if signed.checkpoint.root == head.tree.root() => Some(found.version),
                    Some(_) => return Err(Error::LedgerForked { size }),
                    None => None,
                },
            };
            if let Some(version) = there {
                (head.previous, head.checkpoint) = (Some(previous(&head.tree)), version);
                return Ok(());
            }
        }
        Err(Error::LedgerBusy { slots: 2 })
    }
}
