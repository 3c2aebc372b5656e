//! Which index objects are needed: those that name a needed pack.

use jiff::Timestamp;
use lifeboat_model::signature::PublicKey;
use lifeboat_store::ObjectInfo;

use super::{Reach, digest};
use crate::{
    error::{Error, Result},
    repository::InstanceRepo,
};

/// What an index object is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexUse {
    /// It names a pack that is needed until then (seconds since 1970).
    Until(i64),
    /// It may name one, and does not tell: an unsigned one of an earlier release, or one that is damaged.
    Untold,
    /// It names none.
    Nothing,
}

/// Reads what an index object names. `oldest`: when the store received the oldest pack that is needed; an index object
/// names only packs that are older than it is.
pub(crate) async fn index_use(
    repo: &InstanceRepo,
    info: &ObjectInfo,
    trusted: &[PublicKey],
    reach: &Reach,
    oldest: Option<Timestamp>,
) -> Result<IndexUse> {
    match repo.index_header(info, trusted).await {
        Ok(Some(header)) => {
            let ends = header.packs.iter().filter_map(|pack| reach.get(&digest(&repo.layout().pack(*pack))));
            Ok(ends.map(|need| need.end).max().map_or(IndexUse::Nothing, IndexUse::Until))
        }
        Ok(None) | Err(Error::Damaged { .. } | Error::Unknown { .. }) => Ok(untold(info, oldest)),
        // No backup ever uses it.
        Err(Error::Untrusted { .. }) => Ok(IndexUse::Nothing),
        Err(Error::Store(lifeboat_store::Error::NotFound { .. })) => Ok(IndexUse::Nothing),
        Err(error) => Err(error),
    }
}

fn untold(info: &ObjectInfo, oldest: Option<Timestamp>) -> IndexUse {
    match oldest {
        Some(oldest) if oldest <= info.modified => IndexUse::Untold,
        _ => IndexUse::Nothing,
    }
}
