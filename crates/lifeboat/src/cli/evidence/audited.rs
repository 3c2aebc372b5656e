//! The audit of a repository: what the ledger holds, and what the newest drills are about today.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt as _;
use lifeboat_drill::sandbox::Docker;
use lifeboat_engine::{context::Context, ledger, policy, timestamp};
use lifeboat_evidence::{
    audit::{Audit, Auditor, Demand, Now, Rehearsal, Subjects, Trust, Word},
    key,
    verify::SetEntry,
};
use lifeboat_model::id::{Instance, Sha256Digest};
use lifeboat_repo::point::PointSelector;
use lifeboat_verify::timestamp::{Authority, Token};

use super::read_envelope;
use crate::{failure::Result, wire};

/// Somebody may be writing while this reads: what would be wrong is looked at once more after so long.
const ONCE_MORE: Duration = Duration::from_secs(2);

/// Audits a repository; the statements, and what is to be said of all together.
pub async fn audit(
    context: &Context,
    anchors: &[PathBuf],
    authority: Option<Authority>,
) -> Result<(Vec<SetEntry>, Audit)> {
    let (mut seen, mut audit) = look(context, anchors, authority.as_ref()).await?;
    let unfinished = [Word::Unsigned, Word::Missing, Word::NotInLedger, Word::Cut];
    if !audit.believed() && unfinished.into_iter().any(|word| audit.findings.has(word)) {
        tokio::time::sleep(ONCE_MORE).await;
        (seen, audit) = look(context, anchors, authority.as_ref()).await?;
    }
    for rehearsal in audit.rehearsals.clone() {
        let now = subjects(context, &rehearsal).await;
        audit.compare(&rehearsal, &now);
    }
    Ok((seen, audit))
}

async fn look(context: &Context, anchors: &[PathBuf], authority: Option<&Authority>) -> Result<(Vec<SetEntry>, Audit)> {
    let (repository, tenant) = (&context.repository, &context.config.tenant);
    let is_copy = repository.is_replica();
    let revoked = context.config.keys.revoked.iter().map(|one| (one.key, one.at)).collect();
    let origin = (!is_copy).then(|| lifeboat_evidence::ledger::origin(repository.id(), tenant));
    let trust = Trust { keys: context.config.keys.trusted_keys.clone(), revoked, origin };
    let mut auditor = Auditor::new(trust, if is_copy { Demand::LedgerOfPrimary } else { Demand::LedgerExpected });
    auditor.now(jiff::Timestamp::now());
    for anchor in anchors {
        auditor.anchor(&anchor.display().to_string(), &read_envelope(anchor)?);
    }
    let root = key::prefix(tenant);
    let mut seen = Vec::new();
    for evidence in repository.list_evidence(tenant, "").await? {
        let name = evidence.key.as_str().strip_prefix(&root).unwrap_or(evidence.key.as_str());
        let envelope = match repository.get_evidence(&evidence).await {
            Err(lifeboat_repo::Error::Damaged { .. }) => Bytes::new(), // longer than any statement of ours
            envelope => envelope?,
        };
        // In a copy the time of receipt is that of copying.
        let received = (!is_copy).then_some(evidence.modified);
        let entry = auditor.statement(name, &envelope, received);
        seen.push(SetEntry { name: evidence.key.to_string(), ..entry });
    }
    let mut notes: BTreeMap<u64, Vec<Bytes>> = BTreeMap::new();
    let mut found = ledger::checkpoints(repository, tenant);
    let stamped = timestamp::tokens(repository, tenant).await?;
    while let Some(checkpoint) = found.try_next().await? {
        auditor.checkpoint(checkpoint.size, &checkpoint.note);
        if stamped.contains_key(&checkpoint.size) {
            notes.entry(checkpoint.size).or_default().push(checkpoint.note);
        }
    }
    let mut tiles = ledger::tiles(repository, tenant);
    while let Some((place, bytes)) = tiles.try_next().await? {
        auditor.tile(place, &bytes);
    }
    let mut leaves = ledger::read(repository, tenant, 0);
    while let Some(leaf) = leaves.try_next().await? {
        auditor.entry(leaf.index, &leaf.bytes);
    }
    let mut tokens = Vec::new();
    for (size, reference) in &stamped {
        let token = timestamp::read(repository, tenant, reference).await?;
        tokens.push(Token { size: *size, token: token.to_vec(), notes: notes.remove(size).unwrap_or_default() });
    }
    // Another program works, and the tree is hashed: neither on a thread that others wait on.
    let authority = authority.cloned();
    let finishing = tokio::task::spawn_blocking(move || {
        lifeboat_verify::timestamp::audit(tokens, authority.as_ref(), &mut auditor)?;
        Ok::<_, std::io::Error>(auditor.finish())
    });
    Ok((seen, finishing.await??))
}

/// What a drill was about, as it is today.
async fn subjects(context: &Context, rehearsal: &Rehearsal) -> Subjects {
    let configured = context.config.instance(rehearsal.instance.as_str()).ok().map(|(_, instance)| instance);
    let policy = match configured {
        Some(instance) => policy::digest(&context.config, instance).map_or(Now::Gone, Now::Is),
        None => Now::Gone,
    };
    let mut images = Vec::new();
    for image in &rehearsal.images {
        let name = configured.and_then(|instance| match image.role.as_str() {
            "postgres" => Some(&instance.drill.postgres_image),
            "odoo" => Some(&instance.drill.odoo_image),
            _ => None,
        });
        images.push(match name {
            Some(name) => image_today(name).await,
            None => Now::Gone,
        });
    }
    Subjects { point: point_today(context, &rehearsal.instance, &rehearsal.point.to_string()).await, images, policy }
}

async fn point_today(context: &Context, instance: &Instance, id: &str) -> Now<Sha256Digest> {
    let repo = context.instance_repo(instance);
    match repo.find_point(&PointSelector::Id(id.to_owned()), &context.config.keys.trusted_keys).await {
        Ok(point) => Now::Is(point.sha256),
        Err(lifeboat_repo::Error::NoPoint { .. }) => Now::Gone,
        Err(error) => Now::Unknown(error.to_string()),
    }
}

/// What the name of an image means on this host. One that is not here is not pulled to answer a question.
async fn image_today(name: &str) -> Now<String> {
    let docker = match Docker::connect(wire::environment("DOCKER_HOST").as_deref()).await {
        Ok(docker) => docker,
        Err(error) => return Now::Unknown(error.to_string()),
    };
    match docker.image_id(name).await {
        Ok(Some(id)) => Now::Is(id),
        Ok(None) => Now::Unknown(format!("image {name} is not on this host")),
        Err(error) => Now::Unknown(error.to_string()),
    }
}
