//! The audit of a repository: what the ledger holds, and what the newest drills are about today.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lifeboat_drill::sandbox::Docker;
use lifeboat_engine::{context::Context, ledger, policy, timestamp};
use lifeboat_evidence::{
    audit::{Audit, Auditor, Demand, Now, Rehearsal, Subjects, Trust},
    key,
    verify::SetEntry,
};
use lifeboat_model::id::{Instance, Sha256Digest};
use lifeboat_repo::{point::PointSelector, repository::EvidenceRef};
use lifeboat_verify::timestamp::{Authority, Token};

use super::{journals, read_envelope};
use crate::{
    failure::{Failure, Result},
    kept::Place,
    wire,
};

/// Statements read at the same time.
const AT_ONCE: usize = 16;
/// How long somebody who is writing may take from a statement to its entry, and from an entry to its checkpoint.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is looked meanwhile.
const AGAIN: Duration = Duration::from_millis(300);

/// Audits a repository (`others` are those that may have journals which it lacks); the statements, and what is to be said of all together.
///
/// Somebody may be writing meanwhile: a statement, then its entry, then the checkpoint that covers it. So the statements are
/// listed first, the ledger is read up to a signed checkpoint that covers them, and statements that it names besides are
/// looked up then. What is begun later is left for the next audit; what lies there unfinished for longer is a finding.
pub async fn audit(
    context: &Context,
    others: &[Place],
    anchors: &[PathBuf],
    authority: Option<Authority>,
) -> Result<(Vec<SetEntry>, Audit)> {
    let mut looking = Looking::new(context, anchors)?;
    looking.statements().await?;
    looking.ledger().await?;
    looking.named().await?;
    let (seen, mut audit) = looking.finish(authority).await?;
    for rehearsal in audit.rehearsals.clone() {
        let now = subjects(context, &rehearsal).await;
        audit.compare(&rehearsal, &now);
    }
    journals::compare(context, others, &seen, &mut audit).await?;
    Ok((seen, audit))
}

/// An audit that is under way.
struct Looking<'c> {
    context: &'c Context,
    auditor: Auditor,
    seen: Vec<SetEntry>,
    /// The next entry to be read.
    next: u64,
    /// Checkpoints that an authority has stamped, to be shown to it again.
    stamped: BTreeMap<u64, EvidenceRef>,
    notes: BTreeMap<u64, Vec<Bytes>>,
}

impl<'c> Looking<'c> {
    fn new(context: &'c Context, anchors: &[PathBuf]) -> Result<Self> {
        let (repository, tenant) = (&context.repository, &context.config.tenant);
        let is_copy = repository.is_replica();
        let revoked = context.config.keys.revoked.iter().map(|one| (one.key, one.at)).collect();
        let origin = (!is_copy).then(|| lifeboat_evidence::ledger::origin(repository.id(), tenant));
        let trust = Trust { keys: context.config.keys.trusted_keys.clone(), revoked, origin };
        let mut auditor = Auditor::new(trust, if is_copy { Demand::LedgerOfPrimary } else { Demand::LedgerExpected });
        auditor.now((context.clock)());
        for anchor in anchors {
            auditor.anchor(&anchor.display().to_string(), &read_envelope(anchor)?);
        }
        // Before anything is read: what is remembered was there then. A copy may be behind.
        if !is_copy {
            for (label, head) in ledger::remembered(context) {
                auditor.remembered(&label, head);
            }
        }
        let (stamped, notes) = (BTreeMap::new(), BTreeMap::new());
        Ok(Looking { context, auditor, seen: Vec::new(), next: 0, stamped, notes })
    }

    /// All that lie there now.
    async fn statements(&mut self) -> Result<()> {
        let listed = self.context.repository.list_evidence(&self.context.config.tenant, "").await?;
        self.read(listed).await
    }

    async fn read(&mut self, listed: Vec<EvidenceRef>) -> Result<()> {
        let repository = &self.context.repository;
        let root = key::prefix(&self.context.config.tenant);
        let reading = listed.into_iter().map(|evidence| async move {
            let envelope = match repository.get_evidence(&evidence).await {
                Err(lifeboat_repo::Error::Damaged { .. }) => Bytes::new(), // longer than any statement of ours
                envelope => envelope?,
            };
            Ok::<_, Failure>((evidence, envelope))
        });
        let mut reading = stream::iter(reading).buffered(AT_ONCE);
        while let Some((evidence, envelope)) = reading.try_next().await? {
            let name = evidence.key.as_str().strip_prefix(&root).unwrap_or(evidence.key.as_str());
            // In a copy the time of receipt is that of copying.
            let received = (!repository.is_replica()).then_some(evidence.modified);
            let entry = self.auditor.statement(name, &envelope, received);
            self.seen.push(SetEntry { name: evidence.key.to_string(), ..entry });
        }
        Ok(())
    }

    /// Up to a checkpoint that covers every statement, and to the end where none comes.
    async fn ledger(&mut self) -> Result<()> {
        let (repository, tenant) = (&self.context.repository, &self.context.config.tenant);
        self.stamped = timestamp::tokens(repository, tenant).await?;
        self.checkpoints().await?;
        let mut tiles = ledger::tiles(repository, tenant);
        while let Some((place, bytes)) = tiles.try_next().await? {
            self.auditor.tile(place, &bytes);
        }
        let began = Instant::now();
        loop {
            self.entries(self.auditor.signed_size()).await?;
            let in_work = self.auditor.lacks_entries() || self.is_uncovered().await?;
            if !in_work || self.context.repository.is_replica() {
                break;
            }
            if began.elapsed() >= PATIENCE {
                // Nobody is at work: what lies there is looked at as it is.
                self.entries(u64::MAX).await?;
                break;
            }
            tokio::time::sleep(AGAIN).await;
            let before = self.auditor.signed_size();
            self.checkpoints().await?;
            // Under somebody who never pauses there is always one in work; a checkpoint that came later covers what was.
            if !self.auditor.lacks_entries() && self.auditor.signed_size() > before {
                self.entries(self.auditor.signed_size()).await?;
                break;
            }
        }
        Ok(())
    }

    /// Those of more entries than are known of.
    async fn checkpoints(&mut self) -> Result<()> {
        let (repository, tenant) = (&self.context.repository, &self.context.config.tenant);
        let mut found = ledger::checkpoints(repository, tenant, self.auditor.signed_size());
        while let Some(checkpoint) = found.try_next().await? {
            self.auditor.checkpoint(checkpoint.size, &checkpoint.note);
            if self.stamped.contains_key(&checkpoint.size) {
                self.notes.entry(checkpoint.size).or_default().push(checkpoint.note);
            }
        }
        Ok(())
    }

    /// Entries below this place, as far as they are not read yet.
    async fn entries(&mut self, below: u64) -> Result<()> {
        if self.next >= below {
            return Ok(());
        }
        let mut leaves = ledger::read(&self.context.repository, &self.context.config.tenant, self.next);
        while let Some(leaf) = leaves.try_next().await? {
            if leaf.index >= below {
                break;
            }
            self.auditor.entry(leaf.index, &leaf.bytes);
            self.next = leaf.index + 1;
        }
        Ok(())
    }

    /// Whether an entry lies behind the newest checkpoint.
    async fn is_uncovered(&self) -> Result<bool> {
        let mut leaves = ledger::read(&self.context.repository, &self.context.config.tenant, self.next);
        Ok(leaves.try_next().await?.is_some())
    }

    /// What entries name and was not there when statements were listed.
    async fn named(&mut self) -> Result<()> {
        let (repository, tenant) = (&self.context.repository, &self.context.config.tenant);
        let mut found = Vec::new();
        for name in self.auditor.awaited() {
            let listed = repository.list_evidence(tenant, &name).await?;
            let is_it = |evidence: &EvidenceRef| evidence.key.as_str().strip_suffix(&name).is_some();
            found.extend(listed.into_iter().find(is_it));
        }
        self.read(found).await
    }

    async fn finish(mut self, authority: Option<Authority>) -> Result<(Vec<SetEntry>, Audit)> {
        let (repository, tenant) = (&self.context.repository, &self.context.config.tenant);
        let mut tokens = Vec::new();
        for (size, reference) in &self.stamped {
            let token = timestamp::read(repository, tenant, reference).await?;
            tokens.push(Token {
                size: *size,
                token: token.to_vec(),
                notes: self.notes.remove(size).unwrap_or_default(),
            });
        }
        // Another program works, and the tree is hashed: neither on a thread that others wait on.
        let mut auditor = self.auditor;
        let finishing = tokio::task::spawn_blocking(move || {
            lifeboat_verify::timestamp::audit(tokens, authority.as_ref(), &mut auditor)?;
            Ok::<_, std::io::Error>(auditor.finish())
        });
        Ok((self.seen, finishing.await??))
    }
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
