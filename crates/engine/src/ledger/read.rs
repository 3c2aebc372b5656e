//! Reading a ledger: everything that stands in it, in order and in bounded memory, believed or not.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use lifeboat_evidence::ledger::{
    checkpoint, entry,
    place::{self, Place},
    tile,
};
use lifeboat_model::{id::Tenant, signature::PublicKey};
use lifeboat_repo::repository::Repository;

use super::{AT_ONCE, Head, LONGEST, Log};
use crate::error::{Error, Result};

/// Tiles that are read at the same time.
const TILES_AT_ONCE: usize = 4;

/// A leaf of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its place.
    pub index: u64,
    /// Its bytes: an entry, or whatever somebody put there.
    pub bytes: Bytes,
    /// When the store received it.
    pub received: Timestamp,
}

/// A checkpoint's object, believed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name below `<tenant>/evidence/`.
    pub name: String,
    /// The size that its name says.
    pub size: u64,
    /// Its content; empty where it is longer than a checkpoint can be.
    pub note: Bytes,
    /// When the store received it.
    pub received: Timestamp,
}

/// What a ledger is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// Entries, those included that no checkpoint covers yet.
    pub entries: u64,
    /// The newest checkpoint; none where there is none that is to be believed.
    pub checkpoint: Option<checkpoint::Signed>,
    /// Its text.
    pub note: Option<Bytes>,
    /// When the store received it.
    pub received: Option<Timestamp>,
}

/// The leaves from `first` on, read from their slots. A gap is left out: the index tells.
pub fn read(repository: &Repository, tenant: &Tenant, first: u64) -> BoxStream<'static, Result<Leaf>> {
    let store = repository.ledger(tenant);
    let before = first.checked_sub(1).map(place::entry).unwrap_or_default();
    let listed = store.list("ledger/entries/", &before).map_err(Error::from);
    let reading = listed.map_ok(move |found| {
        let store = store.clone();
        async move {
            let Some(Place::Entry(index)) = place::parse(store.name(&found)) else { return Ok(None) };
            let bytes = match found.len > entry::MAX_BYTES as u64 {
                true => entry::void().into(),
                false => store.get(&found, entry::MAX_BYTES as u64).await?,
            };
            Ok(Some(Leaf { index, bytes, received: found.modified }))
        }
    });
    reading.try_buffered(AT_ONCE).try_filter_map(async |leaf| Ok(leaf)).boxed()
}

/// All objects that stand in a checkpoint's place, by size; those of more than `above` entries.
pub fn checkpoints(repository: &Repository, tenant: &Tenant, above: u64) -> BoxStream<'static, Result<Found>> {
    let store = repository.ledger(tenant);
    let after = if above == 0 { String::new() } else { place::checkpoint(above) };
    let listed = store.list("ledger/checkpoints/", &after).map_err(Error::from);
    let reading = listed.map_ok(move |found| {
        let store = store.clone();
        async move {
            let name = store.name(&found).to_owned();
            let Some(Place::Checkpoint(size)) = place::parse(&name) else { return Ok(None) };
            if above > 0 && size <= above {
                return Ok(None); // another checkpoint of that size
            }
            let note = if found.len > LONGEST { Bytes::new() } else { store.get(&found, LONGEST).await? };
            Ok(Some(Found { name, size, note, received: found.modified }))
        }
    });
    reading.try_buffered(AT_ONCE).try_filter_map(async |found| Ok(found)).boxed()
}

/// All full tiles and bundles: empty what is longer than such can be.
pub fn tiles(repository: &Repository, tenant: &Tenant) -> BoxStream<'static, Result<(Place, Bytes)>> {
    let store = repository.ledger(tenant);
    let listed = store.list("ledger/tile/", "").map_err(Error::from);
    let reading = listed.map_ok(move |found| {
        let store = store.clone();
        async move {
            let Some(place) = place::parse(store.name(&found)) else { return Ok(None) };
            let longest = tile::MAX_BUNDLE;
            let bytes = if found.len > longest { Bytes::new() } else { store.get(&found, longest).await? };
            Ok(Some((place, bytes)))
        }
    });
    // A bundle can be long: few at a time.
    reading.try_buffered(TILES_AT_ONCE).try_filter_map(async |found| Ok(found)).boxed()
}

/// Where a ledger stands, by the newest checkpoint that a trusted key signed and `believes` accepts, given when the store
/// received it. None: there is no ledger. Nothing is written.
pub async fn latest(
    repository: &Repository,
    tenant: &Tenant,
    trusted: &[PublicKey],
    believes: impl Fn(&PublicKey, Timestamp) -> bool + Send + Sync + 'static,
) -> Result<Option<Latest>> {
    let reading = repository.clone().with_evidence_lock(None);
    let log = Log::new(&reading, tenant, trusted, Arc::new(believes));
    let Some(head) = Head::find(&log, Head::empty()).await? else { return Ok(None) };
    if head.tree.size() == 0 {
        return Ok(None);
    }
    let mut latest = Latest { entries: head.tree.size(), checkpoint: None, note: None, received: None };
    let Some(previous) = head.previous else { return Ok(Some(latest)) };
    for (size, found) in log.checkpoints_from(previous.size).await? {
        if size == previous.size && latest.checkpoint.is_none() && found.len <= LONGEST {
            let note = log.store.get(&found, LONGEST).await?;
            if let Some(signed) = log.weigh(&found, &note) {
                (latest.checkpoint, latest.note, latest.received) = (Some(signed), Some(note), Some(found.modified));
            }
        }
    }
    Ok(Some(latest))
}
