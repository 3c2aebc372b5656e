//! What is known of an instance's points, and what policy makes of it.
//!
//! Facts come from signed things alone: points and the statements of drills, holds and releases, each read from the first
//! version of its key and believed only if a trusted key signed it and nobody had revoked that key before the store
//! received it. What was believed once is remembered in the state folder ([`memory`]), so that a backup does not read years
//! of statements again; a lost memory is read anew.

mod memory;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use lifeboat_evidence::{Act, EvidenceKey, Predicate};
use lifeboat_model::{
    check::Outcome,
    config::Tier,
    id::{Instance, PointId},
    retention::{self, Decision, LockPolicy, PointFacts, RetentionPolicy, decide, end_of_new, pitr_base},
    signature::PublicKey,
    time::Span,
};
use lifeboat_repo::{
    locks::Locks,
    point::PointRef,
    reach::{Needs, WalNeeds},
    repository::{EvidenceRef, InstanceRepo},
};

use crate::{
    context::{Clock, Context},
    error::Result,
    record,
};
use memory::{Heard, Memory, Read};

/// Slices of the archive are superseded by segments within hours; a week covers a long weekend without a stream.
const LONGEST_SLICE: Duration = Duration::from_secs(7 * 86_400);
/// Without a PITR window, WAL that came within the last hour may belong to what is just being made.
const JUST_CAME: Duration = Duration::from_secs(3600);

/// An instance's points, and what becomes of each.
#[derive(Debug, Clone)]
pub struct Lifetime {
    /// The instance.
    pub instance: Instance,
    /// Points that count, oldest first.
    pub points: Vec<PointRef>,
    /// What is known of each of them, in the same order.
    pub facts: Vec<PointFacts>,
    /// What becomes of each of them, in the same order.
    pub decisions: Vec<Decision>,
    /// Until when each point's objects were locked at its writing, as its signed header says.
    pub promised: BTreeMap<PointId, Timestamp>,
    /// Objects in the folder of points that count for nothing, and why.
    pub strange: Vec<(PointRef, String)>,
    /// What the tier keeps; none: everything.
    pub policy: Option<RetentionPolicy>,
    /// How the tier locks; none: not at all.
    pub lock: Option<LockPolicy>,
    /// The time of the decision, by the store's clock.
    pub now: Timestamp,
}

impl Lifetime {
    /// Looks at everything that a decision rests on.
    pub async fn look(context: &Context, name: &Instance) -> Result<Lifetime> {
        let (_, config) = context.instance(name.as_str())?;
        let tier = context.tier(config)?;
        let (policy, lock) = (tier.retention.clone(), tier.lock);
        let now = (context.store_clock().await?)();
        let repo = context.instance_repo(name);
        let mut memory = Memory::load(&context.config.engine.state_dir, context.repository.id(), name);
        let Points { points, mut facts, promised, strange } =
            points(context, &repo, lock.as_ref(), &mut memory).await?;
        let told = statements(context, name, &mut memory).await?;
        memory.save();
        for fact in &mut facts {
            (fact.passed, fact.held) = (told.passed.get(&fact.id).copied(), told.is_held(&fact.id));
        }
        let decisions = decide(policy.as_ref(), lock.as_ref(), &facts, now);
        Ok(Lifetime { instance: name.clone(), points, facts, decisions, promised, strange, policy, lock, now })
    }

    /// What retention and prune go by.
    pub fn needs(&self) -> Needs {
        let until = |lock: &LockPolicy| lock.renewed(self.now);
        self.needs_until(|decision| decision.end, until)
    }

    /// What a proof demands: less by the renewals that are due with the next backup.
    pub fn demands(&self) -> Needs {
        let until = |lock: &LockPolicy| lock.demanded(self.now);
        self.needs_until(|decision| decision.demanded, until)
    }

    fn needs_until(&self, end: impl Fn(&Decision) -> Timestamp, open: impl Fn(&LockPolicy) -> Timestamp) -> Needs {
        let kept = self.decisions.iter().filter(|decision| decision.keep);
        let dropped = self.decisions.iter().filter(|decision| !decision.keep);
        let slices = self.lock.map(|lock| LockPolicy { minimum: Span(lock.minimum.0.min(LONGEST_SLICE)), ..lock });
        Needs {
            points: kept.map(|decision| (decision.id, end(decision))).collect(),
            dropped: dropped.map(|decision| decision.id).collect(),
            wal: self.wal(self.lock.as_ref().map_or(self.now, &open)),
            slice_until: slices.as_ref().map_or(self.now, &open),
        }
    }

    /// Without a policy, all of it is kept: from the oldest point on, and whatever came.
    fn wal(&self, until: Timestamp) -> WalNeeds {
        let Some(policy) = &self.policy else { return WalNeeds { base: None, since: Timestamp::MIN, until } };
        let window = policy.pitr.map_or(JUST_CAME, |pitr| pitr.0);
        let base = pitr_base(policy, &self.facts, self.now);
        WalNeeds { base, since: retention::earlier(self.now, window), until }
    }

    /// The decision about a point.
    pub fn of(&self, point: &PointId) -> Option<&Decision> {
        self.decisions.iter().find(|decision| decision.id == *point)
    }
}

/// How a tier's objects are locked when they are written.
pub fn locks(tier: &Tier, lock: LockPolicy, evidence: Span, newest: Option<PointFacts>, clock: Clock) -> Locks {
    let minimum = lock.minimum.0;
    let policy = tier.retention.clone();
    let pitr = policy.as_ref().and_then(|policy| policy.pitr).map_or(Duration::ZERO, |pitr| pitr.0);
    let earlier: Vec<PointFacts> = newest.into_iter().collect();
    Locks {
        mode: lock.mode,
        clock,
        minimum,
        segment: pitr.saturating_add(minimum),
        slice: minimum.min(LONGEST_SLICE),
        evidence: evidence.0,
        point_end: Arc::new(move |time| {
            end_of_new(policy.as_ref(), Some(&lock), &earlier, time).unwrap_or_else(|| retention::later(time, minimum))
        }),
    }
}

/// The newest backup before a moment. It alone decides which periods have a first point already: every other one in the
/// same hour, day, week, month or year is older than it.
pub async fn newest_backup(
    repo: &InstanceRepo,
    trusted: &[PublicKey],
    before: Timestamp,
) -> Result<Option<PointFacts>> {
    let listed = repo.list_points().await?;
    for reference in listed.iter().rev().filter(|reference| reference.time < before) {
        match repo.read_point(reference, trusted).await {
            Ok(point) if point.header.is_dump() => {}
            Ok(point) => {
                let facts = unknown(repo, reference, point.header.finished, false);
                if !facts.is_late() {
                    return Ok(Some(facts));
                }
            }
            Err(error) => drop(counts_for_nothing(error)?),
        }
    }
    Ok(None)
}

/// Before statements were looked at.
fn unknown(repo: &InstanceRepo, reference: &PointRef, time: Timestamp, dump: bool) -> PointFacts {
    // A copy receives points when it is made, and the times of files can be anything once a folder was copied.
    let tells = !repo.is_replica() && repo.store().capabilities().versions;
    let received = tells.then_some(reference.modified);
    let facts = PointFacts { id: reference.id, time, received, dump, passed: None, held: false };
    if facts.is_late() {
        let (key, received) = (&reference.key, reference.modified);
        tracing::warn!(%key, "the store received it at {received:.0}, long after it says that it was finished: it takes no place of others");
    }
    facts
}

/// Why an object counts for nothing; an error where the store did not answer, which says nothing of the object.
fn counts_for_nothing(error: lifeboat_repo::Error) -> Result<String> {
    match error {
        lifeboat_repo::Error::Store(error) if !matches!(error, lifeboat_store::Error::NotFound { .. }) => {
            Err(error.into())
        }
        error => Ok(error.to_string()),
    }
}

#[derive(Default)]
struct Points {
    points: Vec<PointRef>,
    facts: Vec<PointFacts>,
    promised: BTreeMap<PointId, Timestamp>,
    strange: Vec<(PointRef, String)>,
}

async fn points(
    context: &Context,
    repo: &InstanceRepo,
    lock: Option<&LockPolicy>,
    memory: &mut Memory,
) -> Result<Points> {
    let trusted = &context.config.keys.trusted_keys;
    let mut found = Points::default();
    for reference in repo.list_points().await? {
        let place = memory::place(&reference.key, reference.version.as_ref(), reference.modified);
        let known = memory.point(&place).filter(|read| context.believes(&read.signer, reference.modified));
        let read = match known {
            Some(read) => Ok(read.clone()),
            None => repo.read_point(&reference, trusted).await.map(|point| Read {
                finished: point.header.finished,
                dump: point.header.is_dump(),
                retain_until: point.header.retain_until,
                lock_mode: point.header.lock_mode,
                signer: point.signer,
            }),
        };
        match read {
            Ok(read) => {
                found.facts.push(unknown(repo, &reference, read.finished, read.dump));
                // A copy's headers are the primary's, and so are the promises in them. What was promised less firmly than
                // it is wanted now is no promise.
                let firm = read.lock_mode >= lock.map(|lock| lock.mode) && !repo.is_replica();
                let promised = read.retain_until.filter(|_| firm);
                found.promised.extend(promised.map(|until| (reference.id, until)));
                memory.remember_point(place, read);
                found.points.push(reference);
            }
            Err(error) => found.strange.push((reference, counts_for_nothing(error)?)),
        }
    }
    Ok(found)
}

/// What statements tell of points.
#[derive(Default)]
struct Told {
    passed: BTreeMap<PointId, Timestamp>,
    /// The newest hold or release of each point.
    held: BTreeMap<PointId, (Timestamp, bool)>,
}

impl Told {
    fn is_held(&self, point: &PointId) -> bool {
        self.held.get(point).is_some_and(|(_, held)| *held)
    }

    /// Of two at the same moment the hold counts: to keep is the mistake that can be mended. No statement speaks of a time
    /// after its receipt: with a stolen key somebody could else have the last word for ever.
    fn add(&mut self, heard: &Heard, received: Timestamp) {
        match *heard {
            Heard::Passed { point, at } => {
                let at = at.min(received);
                let newest = self.passed.entry(point).or_insert(at);
                *newest = at.max(*newest);
            }
            Heard::Held { point, at, held } => {
                let at = at.min(received);
                let newest = self.held.entry(point).or_insert((at, held));
                *newest = (at, held).max(*newest);
            }
            Heard::Nothing => {}
        }
    }
}

async fn statements(context: &Context, name: &Instance, memory: &mut Memory) -> Result<Told> {
    let mut told = Told::default();
    for reference in context.repository.list_evidence(&context.config.tenant, "").await? {
        let Ok(parts) = reference.key.as_str().parse::<EvidenceKey>() else { continue };
        if parts.instance != *name || !matches!(parts.kind.as_str(), "drill" | "hold" | "release") {
            continue;
        }
        let place = memory::place(&reference.key, reference.version.as_ref(), reference.modified);
        let (signer, heard) = match memory.statement(&place) {
            Some(known) => known.clone(),
            None => match hear(context, &reference).await? {
                Some(heard) => heard,
                None => continue,
            },
        };
        if context.believes(&signer, reference.modified) {
            told.add(&heard, reference.modified);
        }
        memory.remember_statement(place, (signer, heard));
    }
    Ok(told)
}

/// A statement that is not to be believed tells nothing.
async fn hear(context: &Context, reference: &EvidenceRef) -> Result<Option<(PublicKey, Heard)>> {
    let Some(verified) = record::believed(context, reference).await? else { return Ok(None) };
    let heard = match verified.statement.predicate {
        Predicate::Drill(drill) if drill.outcome == Outcome::Passed && drill.sabotage.is_none() => {
            drill.point.map_or(Heard::Nothing, |point| Heard::Passed { point: point.id, at: drill.finished })
        }
        Predicate::Act(act) => match act.act {
            // A hold that was refused in part is meant all the same; a release counts only when it is whole.
            Act::Hold(hold) => Heard::Held { point: hold.point.id, at: act.finished, held: true },
            Act::Release(release) if act.outcome == Outcome::Passed => {
                Heard::Held { point: release.point.id, at: act.finished, held: false }
            }
            _ => Heard::Nothing,
        },
        _ => Heard::Nothing,
    };
    Ok(Some((verified.key, heard)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_the_last_word_for_ever() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (point, theft) = (PointId([1; 8]), at("2026-11-22T03:00:00Z"));
        let mut told = Told::default();
        let release = Heard::Held { point, at: at("2099-01-01T00:00:00Z"), held: false };
        told.add(&release, theft);
        told.add(&Heard::Passed { point, at: at("2099-01-01T00:00:00Z") }, theft);
        assert_eq!(told.passed[&point], theft, "a drill of a time to come");
        let hold = at("2026-11-22T04:00:00Z");
        told.add(&Heard::Held { point, at: hold, held: true }, hold);
        assert!(told.is_held(&point), "what its owner said later counts");
    }
}
