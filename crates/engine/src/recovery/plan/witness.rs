//! Which witness a recovery can be compared with on its way.

use lifeboat_model::signature::PublicKey;
use lifeboat_repo::{document::DocumentKind, repository::InstanceRepo, seal::Identity};

use super::Plan;
use crate::{details::Witness, error::Result, restore::is_damage};

/// The newest witness by itself that the recovery of a plan passes, and that can be compared: with it, more of what was
/// committed is proven than with the base's own.
pub async fn witness(
    repo: &InstanceRepo,
    trusted: &[PublicKey],
    identities: &[Identity],
    plan: &Plan,
) -> Result<Option<Witness>> {
    let system_id = plan.base.header.wal.as_ref().map(|wal| wal.system_id);
    let mut found = repo.list_documents(DocumentKind::Witness).await?;
    found.retain(|found| {
        Some(found.position.system_id) == system_id && plan.passes(found.position.timeline, found.position.lsn)
    });
    found.sort_by_key(|found| found.position.lsn);
    for reference in found.iter().rev() {
        match repo.read_document::<Witness>(reference, trusted, identities).await {
            Ok(document) if document.details.comparison.is_exact() => return Ok(Some(document.details)),
            Ok(_) => {}
            // One that does not verify is no witness.
            Err(error) if is_damage(&error) || matches!(error, lifeboat_repo::Error::Untrusted { .. }) => {
                tracing::warn!(%error, "a witness was passed over");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}
