//! Names can be forged: whoever may write into the bucket may put anything under the name of WAL, an index or a document.
//! What is signed says so in its first bytes, which cost one short read.

use std::collections::HashMap;

use futures::TryStreamExt as _;
use lifeboat_model::signature::PublicKey;
use lifeboat_store::ObjectInfo;

use super::WalRule;
use crate::{
    document::DocumentKind,
    error::{Error, Result},
    prune::{PruneKind, kind_at},
    repository::InstanceRepo,
    wal::WalObject,
};

/// Documents looked at for one that begins a stream.
const ASKED: usize = 64;

/// Why an object of the archive, an index or a document is none of ours: its signed header does not verify for its place.
/// None where it does, where a newer release signed it, and of other objects.
pub(crate) async fn objection(repo: &InstanceRepo, info: &ObjectInfo, trusted: &[PublicKey]) -> Result<Option<String>> {
    let looked = match kind_at(repo.layout(), &info.key) {
        Some(PruneKind::Segment | PruneKind::Slice | PruneKind::Index | PruneKind::Document) if info.len == 0 => {
            return Ok(Some("it is empty".to_owned()));
        }
        Some(PruneKind::Segment | PruneKind::Slice) => match WalObject::listed(repo.layout(), info.clone()) {
            Ok(object) => repo.wal_archive().head(&object, trusted).await.map(drop),
            Err(_) => return Ok(None),
        },
        Some(PruneKind::Index) => repo.index_header(info, trusted).await.map(drop),
        Some(PruneKind::Document) => repo.document_head(info, trusted).await,
        _ => return Ok(None),
    };
    match looked {
        Ok(()) | Err(Error::Unknown { .. } | Error::Store(lifeboat_store::Error::NotFound { .. })) => Ok(None),
        Err(Error::Damaged { reason, .. } | Error::Untrusted { reason, .. }) => Ok(Some(reason)),
        Err(Error::Store(lifeboat_store::Error::Damaged { reason, .. })) => Ok(Some(reason)),
        Err(error) => Err(error),
    }
}

/// Streams that somebody trusted has begun: kept points have WAL of them, or a document says so.
#[derive(Debug, Default)]
pub(crate) struct Streams(HashMap<(u64, u32), bool>);

impl Streams {
    pub async fn is_vouched(
        &mut self,
        repo: &InstanceRepo,
        rule: &WalRule,
        trusted: &[PublicKey],
        stream: (u64, u32),
    ) -> Result<bool> {
        if rule.knows_stream(stream) {
            return Ok(true);
        }
        if let Some(vouched) = self.0.get(&stream) {
            return Ok(*vouched);
        }
        let vouched = has_document(repo, trusted, stream).await?;
        self.0.insert(stream, vouched);
        Ok(vouched)
    }
}

/// A timeline document is durable before the first WAL of its stream.
async fn has_document(repo: &InstanceRepo, trusted: &[PublicKey], (system_id, timeline): (u64, u32)) -> Result<bool> {
    let folder = repo.layout().prefix(DocumentKind::Timeline.folder());
    let mut listed = repo.store().list(&format!("{folder}{system_id}-{timeline:08x}-"));
    for _ in 0..ASKED {
        let Some(info) = listed.try_next().await? else { return Ok(false) };
        let named = repo.layout().document_parts(DocumentKind::Timeline, &info.key).is_some();
        if named && objection(repo, &info, trusted).await?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}
