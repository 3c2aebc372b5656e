//! Copies an instance to another repository of the configuration, and tells how far a copy is behind.
//!
//! Two contexts take part: the primary's, and the copy's, which is the same configuration seen from the other repository
//! ([`Config::at`](lifeboat_model::config::Config::at)). What policy keeps is decided from the primary's facts, and only
//! that is copied: what a prune has removed from the copy is not sent again. Points go first and statements after
//! them, so that a revocation among these never casts doubt on a point that came with it.

pub mod reencrypt;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use lifeboat_evidence::{
    Act,
    act::{self, Refused},
    backup::PointReference,
};
use lifeboat_model::{
    check::Outcome,
    id::{Instance, PointId},
    lsn::Lsn,
    signature::PublicKey,
};
use lifeboat_repo::{
    copy::{self as repo_copy, CopyOptions, CopyReport, EvidenceCopied, WalFrom},
    locks::Locks,
    point::{Point, PointSelector},
    progress::Progress,
    repository::{EvidenceRef, InstanceRepo},
    retain::RetainReport,
};
use lifeboat_store::Key;
use tokio_util::sync::CancellationToken;

use crate::{
    context::{Context, SOFTWARE},
    error::{Error, Result},
    journal, ledger,
    lifetime::Lifetime,
    record, retain,
};

/// Which points are copied, of those that policy keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// All.
    #[default]
    All,
    /// The newest backup.
    Latest,
    /// Those that were finished at this time or later.
    Since(Timestamp),
}

/// What a copy did.
#[derive(Debug)]
pub struct Copied {
    /// Points, WAL and documents.
    pub report: CopyReport,
    /// Statements.
    pub evidence: EvidenceCopied,
    /// Locks of the copy that had to follow policy.
    pub renewed: Option<RetainReport>,
    /// How far the copy is behind now.
    pub lag: Lag,
    /// Where the statement about this run is kept, in both; none where nothing was copied.
    pub statement: Option<Key>,
    /// What people should know.
    pub remarks: Vec<String>,
    /// When it began.
    pub started: Timestamp,
    /// When it was done.
    pub finished: Timestamp,
}

impl Copied {
    /// Whether all that was wanted is in the copy.
    pub fn is_complete(&self) -> bool {
        self.report.problems.is_empty() && self.evidence.refused.is_empty()
    }
}

/// Copies an instance from one repository of the configuration to another.
pub async fn run(
    from: &Context,
    to: &Context,
    instance: &str,
    wanted: Wanted,
    progress: Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<Copied> {
    let (name, _) = from.instance(instance)?;
    let job = Job { from, to, name, wanted, progress, started: (from.clock)() };
    tokio::select! {
        copied = job.run() => copied,
        () = cancel.cancelled() => Err(Error::Cancelled),
    }
}

struct Job<'a> {
    from: &'a Context,
    to: &'a Context,
    name: &'a Instance,
    wanted: Wanted,
    progress: Arc<dyn Progress>,
    started: Timestamp,
}

impl Job<'_> {
    async fn run(&self) -> Result<Copied> {
        let lifetime = Lifetime::look(self.from, self.name).await?;
        let report = self.objects(&lifetime).await?;
        let evidence = self.evidence().await?;
        let mut remarks = Vec::new();
        // What was copied stands, whatever becomes of the locks of what was there before.
        let renewed = self.renew(&report).await.unwrap_or_else(|error| {
            remarks.push(format!("the locks of the copy could not follow policy: {error}"));
            None
        });
        let lag = lag(self.from, self.to, self.name).await?;
        let mut evidence = evidence;
        let mut statement = None;
        if report.objects > 0 || !report.problems.is_empty() || !evidence.refused.is_empty() {
            match self.keep(&report, &evidence).await {
                Ok(key) => statement = Some(key),
                Err(error) => remarks.push(format!("the evidence could not be kept: {error}")),
            }
        }
        // Last, so that the copy has what was just entered.
        match ledger::carry(self.from, self.to).await {
            Ok(carried) => evidence.refused.extend(carried.refused),
            Err(error) => remarks.push(format!("the ledger could not be copied: {error}")),
        }
        match journal::carry(self.from, self.to).await {
            Ok(carried) => evidence.refused.extend(carried.refused),
            Err(error) => remarks.push(format!("the journals of runs could not be copied: {error}")),
        }
        let finished = (self.from.clock)();
        Ok(Copied { report, evidence, renewed, lag, statement, remarks, started: self.started, finished })
    }

    async fn objects(&self, lifetime: &Lifetime) -> Result<CopyReport> {
        let wanted = wanted(lifetime, self.wanted);
        let wal = wal_from(lifetime, self.wanted, &wanted);
        let to = self.locked(lifetime).await?;
        let mut options = CopyOptions::everything(SOFTWARE, (self.to.clock)());
        options.points = Arc::new(move |point| wanted.contains(&point.id));
        options.wal = wal;
        options.seen = Some(seen(self.to, &format!("instance-{}", self.name)));
        let (from, trusted) = (self.from.instance_repo(self.name), &self.from.config.keys.trusted_keys);
        let mut report = repo_copy::run(&from, &to, &options, trusted, self.progress.clone()).await?;
        // A point that counts for nothing is none that policy left out.
        for (reference, why) in &lifetime.strange {
            report.problems.push(repo_copy::CopyProblem {
                side: repo_copy::Side::Source,
                key: reference.key.clone(),
                what: why.clone(),
                points: vec![reference.id],
            });
        }
        Ok(report)
    }

    /// The copy, locking what is put there until the end that policy gives to each point.
    async fn locked(&self, lifetime: &Lifetime) -> Result<InstanceRepo> {
        let repo = self.to.writing_repo(self.name).await?;
        let Some(locks) = repo.locks().cloned() else { return Ok(repo) };
        let ends = lifetime.facts.iter().zip(&lifetime.decisions).map(|(facts, decision)| (facts.time, decision.end));
        let ends: HashMap<Timestamp, Timestamp> = ends.collect();
        let otherwise = locks.point_end.clone();
        let point_end = Arc::new(move |time| ends.get(&time).copied().unwrap_or_else(|| otherwise(time)));
        Ok(repo.with_locks(Some(Locks { point_end, ..locks })))
    }

    /// Open reasons keep what the copy has, as at the primary; what was just locked long enough is not asked for again.
    async fn renew(&self, report: &CopyReport) -> Result<Option<RetainReport>> {
        if self.to.lock_policy(self.name)?.is_none() {
            return Ok(None);
        }
        let mut there = Lifetime::look(self.to, self.name).await?;
        there.promised.extend(report.copied.iter().filter_map(|point| Some((point.id, point.locked_until?))));
        retain::extend(self.to, &there, self.progress.clone()).await
    }

    async fn evidence(&self) -> Result<EvidenceCopied> {
        let (from, to) = (&self.from.repository, self.to.evidence_repository().await?);
        let judge = |found: &EvidenceRef, envelope: &Bytes| record::weigh(self.from, found, envelope).map(drop);
        let seen = Some(seen(self.to, "evidence"));
        Ok(repo_copy::copy_evidence(from, &to, &self.from.config.tenant, &judge, seen).await?)
    }

    /// The same statement in both: at the primary, who asks what became of its points finds it; in the copy, who has
    /// nothing else.
    async fn keep(&self, report: &CopyReport, evidence: &EvidenceCopied) -> Result<Key> {
        let problems = report.problems.iter().map(|problem| (&problem.key, &problem.what));
        let refused = problems.chain(evidence.refused.iter().map(|(key, why)| (key, why)));
        let act = act::Copy {
            from: self.from.config.repository_name.clone(),
            to: self.to.config.repository_name.clone(),
            to_storage: record::storage_of(self.to, self.name)?,
            points: report.copied.len() as u64 + report.there,
            objects: report.objects,
            bytes: report.bytes,
            present: report.there,
            reencrypted: false,
            newest: report.copied.first().map(|point| PointReference {
                id: point.id,
                key: point.key.to_string(),
                sha256: point.sha256,
                version: None,
            }),
            refused: refused.map(|(key, why)| Refused { key: key.to_string(), why: why.clone() }).collect(),
        };
        let outcome = if act.refused.is_empty() { Outcome::Passed } else { Outcome::Failed };
        keep_in_both(self.from, self.to, self.name, self.started, outcome, Act::Copy(act)).await
    }
}

/// Where it is remembered what a copy was seen to hold.
fn seen(to: &Context, what: &str) -> PathBuf {
    let file = format!("{}-{}.{what}", to.repository.id(), to.config.repository_name);
    to.config.engine.state_dir.join("copies").join(file)
}

/// Keeps a statement at the primary and puts the same into the copy. A host that may only read the primary keeps it in the
/// copy alone.
async fn keep_in_both(
    from: &Context,
    to: &Context,
    name: &Instance,
    started: Timestamp,
    outcome: Outcome,
    act: Act,
) -> Result<Key> {
    let kept = record::keep_act(from, Some(name), started, outcome, act.clone()).await;
    let Ok((key, bytes)) = kept else {
        tracing::debug!(error = ?kept.err(), "the statement cannot be kept at the primary");
        return Ok(record::keep_act(to, Some(name), started, outcome, act).await?.0);
    };
    let file = key.as_str().rsplit('/').next().unwrap_or_default();
    to.evidence_repository().await?.put_evidence(&to.config.tenant, file, bytes).await?;
    Ok(key)
}

/// The points that are to be copied.
fn wanted(lifetime: &Lifetime, wanted: Wanted) -> Vec<PointId> {
    let mut kept = lifetime.facts.iter().zip(&lifetime.decisions).filter(|(_, decision)| decision.keep);
    let mut ids: Vec<PointId> = match wanted {
        Wanted::All => kept.map(|(facts, _)| facts.id).collect(),
        Wanted::Latest => kept.rfind(|(facts, _)| !facts.dump).map(|(facts, _)| facts.id).into_iter().collect(),
        Wanted::Since(time) => kept.filter(|(facts, _)| facts.time >= time).map(|(facts, _)| facts.id).collect(),
    };
    ids.sort();
    ids
}

/// How much WAL: from the PITR base on, or from the oldest wanted point; all of it where nothing is ever pruned.
fn wal_from(lifetime: &Lifetime, wanted: Wanted, points: &[PointId]) -> WalFrom {
    let oldest = || {
        let mut backups = lifetime.facts.iter().filter(|facts| !facts.dump && points.contains(&facts.id));
        backups.next().map_or(WalFrom::Beginning, |facts| WalFrom::Point(facts.id))
    };
    match (wanted, &lifetime.policy) {
        (Wanted::All, None) => WalFrom::Beginning,
        (Wanted::All, Some(_)) => lifetime.needs().wal.base.map_or_else(oldest, WalFrom::Point),
        _ => oldest(),
    }
}

/// A point as a listing names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// Its id.
    pub id: PointId,
    /// When its backup began: what came after is not in it.
    pub started: Timestamp,
    /// When it was finished.
    pub finished: Timestamp,
}

/// How far a copy is behind its primary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lag {
    /// The newest backup of the primary that verifies.
    pub primary: Option<Newest>,
    /// The newest of the copy.
    pub copy: Option<Newest>,
    /// Points of the primary that are newer than the newest of the copy.
    pub missing: u64,
    /// The streamed WAL of the newest stream: its end at the primary, and in the copy.
    pub wal: Option<WalLag>,
}

/// How far the WAL of a copy is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalLag {
    /// Cluster identity.
    pub system_id: u64,
    /// The timeline.
    pub timeline: u32,
    /// The end of what the primary holds.
    pub primary: Lsn,
    /// The end of what the copy holds; none: it holds nothing of this stream.
    pub copy: Option<Lsn>,
}

impl WalLag {
    /// Bytes of WAL that the copy lacks; none where it has nothing of the stream.
    pub fn bytes(&self) -> Option<u64> {
        self.copy.map(|copy| self.primary.0.saturating_sub(copy.0))
    }
}

impl Lag {
    /// How much older the newest point of the copy is; none where either has none.
    pub fn behind(&self) -> Option<Duration> {
        let (primary, copy) = (self.primary?, self.copy?);
        Some(Duration::try_from(primary.finished.duration_since(copy.finished)).unwrap_or_default())
    }
}

/// Compares a copy with its primary: two headers, a listing of points, and the end of the newest stream.
pub async fn lag(from: &Context, to: &Context, name: &Instance) -> Result<Lag> {
    let (primary, copy) = (from.instance_repo(name), to.instance_repo(name));
    let trusted = &from.config.keys.trusted_keys;
    let (newest, there) = (newest(&primary, trusted).await?, newest(&copy, trusted).await?);
    let reached = there.as_ref().map(|point| point.key.clone());
    let points = primary.list_points().await?;
    let missing =
        points.iter().filter(|point| reached.as_ref().is_none_or(|reached| point.key > *reached)).count() as u64;
    let wal = match newest.as_ref().and_then(|point| point.header.wal.as_ref()) {
        Some(wal) => wal_lag(&primary, &copy, wal.system_id, wal.start).await?,
        None => None,
    };
    let short = |point: Point| Newest {
        id: point.header.point,
        started: point.header.started,
        finished: point.header.finished,
    };
    Ok(Lag { primary: newest.map(short), copy: there.map(short), missing, wal })
}

async fn newest(repo: &InstanceRepo, trusted: &[PublicKey]) -> Result<Option<Point>> {
    match repo.find_point(&PointSelector::Latest, trusted).await {
        Ok(point) => Ok(Some(point)),
        Err(lifeboat_repo::Error::NoPoint { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn wal_lag(primary: &InstanceRepo, copy: &InstanceRepo, system: u64, from: Lsn) -> Result<Option<WalLag>> {
    let streams = primary.wal_archive().streams().await?;
    let Some(timeline) = streams.into_iter().filter(|(id, _)| *id == system).map(|(_, line)| line).max() else {
        return Ok(None);
    };
    let end = async |repo: &InstanceRepo| {
        let listing = repo.wal_archive().list(system, timeline, from).await?;
        Ok::<_, Error>(listing.objects().iter().map(|object| object.last).max())
    };
    let Some(reached) = end(primary).await? else { return Ok(None) };
    Ok(Some(WalLag { system_id: system, timeline, primary: reached, copy: end(copy).await? }))
}
