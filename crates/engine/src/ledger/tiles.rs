//! Full tiles: the hashes and entries of 256 slots in one object each, as tools for transparency logs read them.
//!
//! They say nothing that the slots do not say, and nothing here reads them to append: who plants something in the place of
//! one stops nothing. Readers hold them against a checkpoint.

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use lifeboat_evidence::ledger::{Hash, leaf_hash, place, tile};

use super::{AT_ONCE, Log};
use crate::error::{Error, Result};

/// Puts the tiles that are full and not there yet, oldest first: where the newest is, all before it are, whatever crash there
/// was. `known` bundles need not be looked for; gives how many there are.
pub(super) async fn complete(log: &Log, known: u64, size: u64) -> Result<u64> {
    let full = size / tile::WIDTH;
    let mut first = full;
    for number in (known..full).rev() {
        let (bundle, hashes) = (place::bundle(number), place::tile(0, number));
        let there = tokio::try_join!(log.store.find(&bundle), log.store.find(&hashes))?;
        if let (Some(_), Some(_)) = there {
            break;
        }
        first = number;
    }
    for number in first..full {
        put(log, number).await?;
    }
    Ok(full)
}

async fn put(log: &Log, number: u64) -> Result<()> {
    let leaves = log.bundle(number).await?;
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    if let Some(bundle) = tile::bundle(&leaves) {
        log.store.claim(&place::bundle(number), bundle.into()).await?;
    }
    log.store.claim(&place::tile(0, number), tile::encode(&hashes).into()).await?;
    let (mut level, mut number) = (0, number);
    while (number + 1) % tile::WIDTH == 0 {
        (level, number) = (level + 1, number / tile::WIDTH);
        let first = number * tile::WIDTH;
        let roots: Vec<_> = (first..first + tile::WIDTH).map(|below| root(log, level - 1, below).boxed()).collect();
        let roots: Vec<Hash> = stream::iter(roots).buffered(AT_ONCE).try_collect().await?;
        log.store.claim(&place::tile(level, number), tile::encode(&roots).into()).await?;
    }
    Ok(())
}

/// The root over a full tile; one of leaves that is not there is made from the slots.
async fn root(log: &Log, level: u32, number: u64) -> Result<Hash> {
    if let Some(found) = log.store.find(&place::tile(level, number)).await?
        && found.len == 32 * tile::WIDTH
        && let Some(hashes) = tile::decode(&log.store.get(&found, found.len).await?)
        && let Some(root) = tile::root(&hashes)
    {
        return Ok(root);
    }
    let hashes: Vec<Hash> = match level {
        0 => log.bundle(number).await?.iter().map(|leaf| leaf_hash(leaf)).collect(),
        _ => return Err(Error::Damaged(format!("the ledger has no tile {level}/{number}"))),
    };
    tile::root(&hashes).ok_or_else(|| Error::Damaged(format!("the ledger has no tile {level}/{number}")))
}

impl Log {
    /// The leaves of a full bundle, from their slots.
    async fn bundle(&self, number: u64) -> Result<Vec<Bytes>> {
        let run = self.run(number * tile::WIDTH).await?;
        let Some(slots) = run.get(..tile::WIDTH as usize) else {
            return Err(Error::Damaged(format!("the ledger lacks entries of bundle {number}")));
        };
        self.leaves(slots).await
    }
}
