//! A witness outside a backup: worth keeping once the log past it is durable.

use std::time::Duration;

use lifeboat_model::{id::Instance, lsn::Lsn};
use lifeboat_repo::document::{DocumentKind, DocumentRef, Position};
use tokio::time::{Instant, sleep};

use crate::{
    context::Context,
    error::{Error, Result},
    keys::{document_keys, writer_keys},
    witness::Alone,
};

/// Between two looks at the repository.
const POLL: Duration = Duration::from_millis(500);

/// Stores a witness when the stream has brought the log past it into the repository.
///
/// # Errors
/// [`Error::WitnessNotHeld`] when that takes longer than `patience`: then nothing is stored.
pub async fn keep_witness(
    context: &Context,
    name: &Instance,
    alone: &Alone,
    patience: Duration,
) -> Result<DocumentRef> {
    let deadline = Instant::now() + patience;
    while !is_held(context, name, alone).await? {
        if Instant::now() >= deadline {
            return Err(Error::WitnessNotHeld { position: alone.durable_before });
        }
        sleep(POLL).await;
    }
    let keys = document_keys(&writer_keys(&context.config.keys)?);
    let position = Position { system_id: alone.system_id, timeline: alone.timeline, lsn: alone.lsn };
    let repo = context.writing_repo(name).await?;
    Ok(repo.put_document(DocumentKind::Witness, position, &alone.witness, &keys, (context.clock)()).await?)
}

async fn is_held(context: &Context, name: &Instance, alone: &Alone) -> Result<bool> {
    let archive = context.instance_repo(name).wal_archive();
    let listing = archive.list(alone.system_id, alone.timeline, alone.lsn).await?;
    let before = Lsn(alone.durable_before.0.saturating_sub(1));
    Ok(listing.from(alone.lsn).is_some_and(|run| run.last > before))
}
