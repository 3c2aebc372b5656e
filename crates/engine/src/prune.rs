//! Removing what no policy keeps, and what the storage will cost next month.
//!
//! Needs no decryption key: points' signed headers, the listing and the locks tell everything.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use lifeboat_evidence::{Act, act};
use lifeboat_model::{check::Outcome, id::Instance};
use lifeboat_repo::{
    progress::Progress,
    prune::{self, PruneItem, PruneOptions, PruneReport},
};
use lifeboat_store::Key;
use tokio_util::sync::CancellationToken;

use crate::{
    context::{Context, SOFTWARE},
    error::Result,
    lifetime::Lifetime,
    record,
};

/// How to prune.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Also remove newer versions, delete markers and objects that are not ours.
    pub foreign: bool,
    /// Keys in the folder of points under which no recovery point of ours lies, in the word of a person.
    pub disregard: BTreeSet<Key>,
    /// Ends the run early.
    pub cancel: CancellationToken,
}

/// What a prune saw and did.
#[derive(Debug)]
pub struct Pruned {
    /// What policy made of each point.
    pub lifetime: Lifetime,
    /// What became of the objects.
    pub report: PruneReport,
    /// What the storage comes to.
    pub projection: Projection,
    /// Where the signed statement is kept; none of a dry run, or where it could not be.
    pub evidence: Option<Key>,
    /// Why the statement could not be kept.
    pub no_evidence: Option<String>,
}

/// Prunes an instance; none where its tier has no retention: then nothing is ever removed.
pub async fn run(
    context: &Context,
    name: &Instance,
    request: Request,
    each: &mut (dyn FnMut(&PruneItem) + Send),
    progress: Arc<dyn Progress>,
) -> Result<Option<Pruned>> {
    let started = (context.clock)();
    context.skew().await?.check(&context.repository.store().describe())?;
    let lifetime = Lifetime::look(context, name).await?;
    if lifetime.policy.is_none() {
        return Ok(None);
    }
    let repo = context.instance_repo(name);
    let options = PruneOptions {
        remove: !request.dry_run,
        foreign: request.foreign,
        disregard: request.disregard,
        software: SOFTWARE.to_owned(),
        scratch: context.config.engine.state_dir.join("prune"),
        now: lifetime.now,
        cancel: request.cancel,
    };
    let trusted = &context.config.keys.trusted_keys;
    let needs = lifetime.needs();
    let mut added = Added::new(&lifetime);
    added.look(context, &lifetime).await?; // before points are removed that tell of it
    let report = prune::run(&repo, &needs, options, trusted, each, progress).await?;
    let projection = added.project(report.kept_bytes);
    let (mut evidence, mut no_evidence) = (None, None);
    if !request.dry_run {
        match keep(context, name, started, &report).await {
            Ok(key) => evidence = Some(key),
            Err(error) => no_evidence = Some(error.to_string()),
        }
    }
    Ok(Some(Pruned { lifetime, report, projection, evidence, no_evidence }))
}

async fn keep(context: &Context, name: &Instance, started: Timestamp, report: &PruneReport) -> Result<Key> {
    let act = act::Prune {
        objects: report.objects,
        removed: report.removed,
        freed_bytes: report.freed_bytes,
        locked_bytes: report.locked_bytes,
        locked_until: report.locked_until,
        kept_bytes: report.kept_bytes,
        waiting: report.waiting.objects,
        points_kept: report.points_kept,
        points_removed: report.points_removed.iter().copied().take(act::Prune::LISTED).collect(),
    };
    let outcome = if report.cancelled || report.busy.is_some() { Outcome::Incomplete } else { Outcome::Passed };
    Ok(record::keep_act(context, Some(name), started, outcome, Act::Prune(act)).await?.0)
}

/// What the storage comes to in a month, if it goes on as in the last 30 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Projection {
    /// Needed now.
    pub kept_bytes: u64,
    /// New bytes of the points of the last 30 days (or since the first), for a month.
    pub monthly_bytes: u64,
    /// Days that this was seen over.
    pub seen_days: u64,
    /// Points that this was seen from.
    pub seen_points: u64,
}

/// How far back growth is looked at.
const SEEN_DAYS: i64 = 30;

/// New bytes of the points of the last 30 days: what each names and the one before it does not.
struct Added {
    since: Timestamp,
    now: Timestamp,
    bytes: u64,
    points: u64,
    first: Option<Timestamp>,
}

impl Added {
    fn new(lifetime: &Lifetime) -> Added {
        let now = lifetime.now;
        let since = now.checked_sub(SignedDuration::from_hours(SEEN_DAYS * 24)).unwrap_or(Timestamp::MIN);
        Added { since, now, bytes: 0, points: 0, first: None }
    }

    /// Two headers at a time, and 16 bytes for each object of the earlier.
    async fn look(&mut self, context: &Context, lifetime: &Lifetime) -> Result<()> {
        let repo = context.instance_repo(&lifetime.instance);
        let trusted = &context.config.keys.trusted_keys;
        let recent = lifetime.points.iter().position(|point| point.time >= self.since);
        let Some(recent) = recent else { return Ok(()) };
        let mut before: std::collections::HashSet<Key> = Default::default();
        for (index, reference) in lifetime.points.iter().enumerate().skip(recent.saturating_sub(1)) {
            // Another run may have removed it.
            let point = match repo.read_point(reference, trusted).await {
                Ok(point) => point,
                Err(lifeboat_repo::Error::Store(lifeboat_store::Error::NotFound { .. })) => continue,
                Err(error) => return Err(error.into()),
            };
            if index >= recent {
                let new = point.header.objects.iter().filter(|object| !before.contains(&object.key));
                self.bytes += new.map(|object| object.len).sum::<u64>();
                self.points += 1;
                self.first.get_or_insert(reference.time);
            }
            before = point.header.objects.into_iter().map(|object| object.key).collect();
        }
        Ok(())
    }

    fn project(&self, kept_bytes: u64) -> Projection {
        let seen = self.first.map_or(0, |first| self.now.duration_since(first).as_hours() / 24);
        let days = u64::try_from(seen).unwrap_or(0).clamp(1, SEEN_DAYS as u64);
        let monthly_bytes = self.bytes.saturating_mul(SEEN_DAYS as u64) / days;
        Projection { kept_bytes, monthly_bytes, seen_days: days, seen_points: self.points }
    }
}
