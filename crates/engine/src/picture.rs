//! Pictures of drills, beside their statements: who may see them has a recovery identity.

use lifeboat_evidence::{Statement, drill::Screenshot};
use lifeboat_model::id::Sha256Digest;
use lifeboat_repo::seal::Identity;

use crate::{
    context::Context,
    error::{Error, Result},
    keys,
};

/// What the keys of statements end with.
const STATEMENT: &str = ".dsse.json";

/// Seals the picture that goes with a statement and keeps it; gives what the statement has to say of it.
pub async fn keep(context: &Context, statement: &Statement, png: &[u8], sha256: Sha256Digest) -> Result<Screenshot> {
    let place = statement.storage_key().ok_or_else(|| Error::Task("a statement without a place".to_owned()))?;
    let place = place.to_string();
    let name = stem(&place);
    let recipients = keys::recovery_recipients(&context.config.keys)?;
    let repository = context.evidence_repository().await?;
    let key = repository.put_picture(&context.config.tenant, name, png, &recipients).await?;
    Ok(Screenshot { sha256, bytes: png.len() as u64, key: Some(key.to_string()) })
}

/// Opens the picture that the statement under `key` tells of; none where none was kept. What comes is the PNG that the
/// statement has the digest of.
pub async fn open(
    context: &Context,
    key: &str,
    screenshot: &Screenshot,
    identities: &[Identity],
) -> Result<Option<Vec<u8>>> {
    if screenshot.key.is_none() {
        return Ok(None);
    }
    // Where it lies follows from where its statement does, whatever the statement says.
    let (tenant, name) = (&context.config.tenant, stem(key));
    let png = context.repository.get_picture(tenant, name, &screenshot.sha256, identities).await?;
    Ok(Some(png))
}

/// `<time>-<instance>-<kind>-<run>` of a statement's key.
fn stem(key: &str) -> &str {
    let name = key.rsplit('/').next().unwrap_or(key);
    name.strip_suffix(STATEMENT).unwrap_or(name)
}
