//! Evidence: what was done and measured must survive the primary too.

use std::collections::HashSet;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lifeboat_model::id::Tenant;
use lifeboat_store::Key;

use crate::{
    error::{Error, Result},
    repository::{EvidenceRef, Repository},
};

/// Statements on their way at the same time.
const AT_ONCE: usize = 8;
/// No statement is longer.
const LONGEST: u64 = 64 << 20;

/// What became of the evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EvidenceCopied {
    /// Statements that were copied.
    pub copied: u64,
    /// Statements that were there.
    pub there: u64,
    /// Those that are not what they should be, and why; they were not copied.
    pub refused: Vec<(Key, String)>,
}

/// Copies a tenant's statements that the copy lacks. `check` verifies one: what it refuses is not copied, and reported.
pub async fn copy_evidence(
    from: &Repository,
    to: &Repository,
    tenant: &Tenant,
    check: &(dyn Fn(&Key, &Bytes) -> std::result::Result<(), String> + Send + Sync),
) -> Result<EvidenceCopied> {
    let there: HashSet<Key> = to.list_evidence(tenant, "").await?.into_iter().map(|found| found.key).collect();
    let listed = from.list_evidence(tenant, "").await?;
    let mut done = EvidenceCopied { there: there.len() as u64, ..EvidenceCopied::default() };
    let missing = listed.into_iter().filter(|found| !there.contains(&found.key));
    let sending = missing.map(|found| async move { send(from, to, tenant, check, found).await });
    let mut sending = futures::stream::iter(sending).buffer_unordered(AT_ONCE);
    while let Some(refused) = sending.try_next().await? {
        match refused {
            None => done.copied += 1,
            Some(refused) => done.refused.push(refused),
        }
    }
    done.refused.sort();
    Ok(done)
}

async fn send(
    from: &Repository,
    to: &Repository,
    tenant: &Tenant,
    check: &(dyn Fn(&Key, &Bytes) -> std::result::Result<(), String> + Send + Sync),
    found: EvidenceRef,
) -> Result<Option<(Key, String)>> {
    let key = found.key.clone();
    if found.len > LONGEST {
        return Ok(Some((key, format!("it has {} bytes; no statement has so many", found.len))));
    }
    let bytes = match from.get_evidence(&found).await {
        Err(Error::Store(lifeboat_store::Error::NotFound { .. })) => {
            return Ok(Some((key, "it is missing".to_owned())));
        }
        read => read?,
    };
    if let Err(why) = check(&key, &bytes) {
        return Ok(Some((key, why)));
    }
    let name = key.as_str().rsplit('/').next().unwrap_or_default();
    match to.put_evidence(tenant, name, bytes).await {
        Ok(_) | Err(Error::Store(lifeboat_store::Error::AlreadyExists { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}
