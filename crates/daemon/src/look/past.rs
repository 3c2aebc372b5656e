//! What evidence tells of runs: after the state was wiped, after somebody else was at work for the tenant, and of a run
//! whose end nobody saw.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::{context::Context, record};
use lifeboat_evidence::{
    Act, EvidenceKey, Predicate,
    act::{Access, AccessAct},
    backup::StartedBy,
};
use lifeboat_model::{
    check::Outcome,
    id::{Instance, RunId, Tenant},
    time::compact,
};
use lifeboat_repo::repository::EvidenceRef;
use lifeboat_store::Key;

use crate::{
    Daemon, Error, Result,
    job::{Because, Job, RunOutcome, Verb},
    policies::Site,
    runner::Ended,
    state::RunRow,
};

/// How far back runs are recalled.
const BACK: SignedDuration = SignedDuration::from_hours(40 * 24);
/// Not more statements than this are read, the newest.
const MOST: usize = 20_000;
/// A statement is named by the beginning of its run, and put at its end: this much later at most.
const LONGEST_RUN: SignedDuration = SignedDuration::from_hours(3 * 24);
/// Statements read at the same time.
const READS: usize = 16;
/// Runs that are put into the state at once.
const AT_ONCE: usize = 500;
/// A run's process tells the time by itself, moments after or before the daemon.
const LEEWAY: SignedDuration = SignedDuration::from_secs(2);
/// Tries of what was due at one time that are looked for.
const MOST_TRIES: u32 = 20;

/// A run, as its statement tells it.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    run: RunId,
    tenant: Tenant,
    instance: Option<Instance>,
    verb: Verb,
    because: Because,
    started: Timestamp,
    finished: Timestamp,
    outcome: RunOutcome,
    key: Key,
}

/// Puts runs that evidence tells of, and the state does not know, into the state. What was read once is not read again.
///
/// # Errors
/// The repository, or the state, cannot be used. One that is not there yet has nothing to tell.
pub async fn recall(daemon: &Daemon, tenant: &Tenant) -> Result<()> {
    let opened = match daemon.opened(tenant).await {
        Ok(opened) => opened,
        Err(Error::NotOpen { absent: true, .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let now = daemon.now();
    let oldest = now.saturating_sub(BACK).unwrap_or_default();
    let last = daemon.state.recalled(tenant).await?;
    let since = last.and_then(|last| last.saturating_sub(LONGEST_RUN).ok()).map_or(oldest, |last| last.max(oldest));
    let mut found = list(&opened.context, since).await?;
    let known = daemon.state.statements_since(tenant, since.saturating_sub(LONGEST_RUN).unwrap_or(since)).await?;
    found.retain(|(reference, parts)| {
        is_of_a_run(&parts.kind) && !known.contains(reference.key.as_str()) && !known.contains(&parts.run.to_string())
    });
    let beyond = found.len().saturating_sub(MOST);
    if beyond > 0 {
        tracing::warn!(%tenant, "{beyond} statements are too many to recall their runs: the oldest stay unread");
    }
    let found: Vec<_> = found.split_off(beyond);
    let mut count = 0;
    for some in found.chunks(AT_ONCE) {
        let told = read(&opened.context, &opened.site, some).await?;
        count += told.len();
        for told in told {
            keep(daemon, told).await?;
        }
    }
    daemon.state.set_recalled(tenant, now).await?;
    if count > 0 {
        tracing::info!(%tenant, "{count} statements told of runs that the state had no statement of");
    }
    Ok(())
}

/// What became of a run whose end nobody saw; none: nothing tells that it came to an end.
///
/// # Errors
/// The repository cannot be read.
pub async fn happened(daemon: &Daemon, job: &Job) -> Result<Option<Ended>> {
    let opened = match daemon.opened(&job.tenant).await {
        Ok(opened) => opened,
        Err(Error::NotOpen { absent: true, .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let began = daemon.state.run(job.run).await?.and_then(|row| row.started);
    let from = began.unwrap_or(match &job.because {
        Because::Schedule { due, .. } => *due,
        Because::Asked { at, .. } => *at,
    });
    let from = from.saturating_sub(LEEWAY).unwrap_or(from);
    let mut found = list(&opened.context, from).await?;
    found.retain(|(_, parts)| {
        let of = job.instance.as_ref().is_none_or(|instance| parts.instance == *instance);
        of && kind(&job.verb).is_some_and(|kind| kind == parts.kind)
    });
    let told = read(&opened.context, &opened.site, &found).await?;
    let ours: Vec<Told> = told
        .into_iter()
        .filter(|told| {
            (told.run == job.run || told.because == job.because)
                && told.verb.word() == job.verb.word()
                && told.instance == job.instance
                && told.started >= from
        })
        .collect();
    if ours.len() < statements_of(job, &opened.site).max(1) {
        return Ok(None); // some of what it was to do is not told of: it did not come to its end
    }
    let Some(worst) = ours.iter().max_by_key(|told| badness(told.outcome)) else { return Ok(None) };
    daemon.state.set_evidence(job.run, worst.key.as_str()).await?;
    Ok(Some(Ended {
        outcome: worst.outcome,
        exit: None,
        answer: None,
        reason: (worst.outcome != RunOutcome::Passed).then(|| format!("as {} tells", worst.key)),
        is_transient: false,
    }))
}

/// How many statements a whole run leaves.
fn statements_of(job: &Job, site: &Site) -> usize {
    match &job.verb {
        Verb::Copy { to: None } => site.config.copies.len(),
        Verb::Control { kind } if kind == "all" => lifeboat_drill::sabotage::Kind::ALL.len(),
        _ => 1,
    }
}

/// The word in keys of evidence; none for what leaves none.
fn kind(verb: &Verb) -> Option<&'static str> {
    match verb {
        Verb::Backup => Some("backup"),
        Verb::Drill { .. } | Verb::Control { .. } => Some("drill"),
        Verb::Dump => Some("dump"),
        Verb::Scrub { .. } => Some("scrub"),
        Verb::Locks | Verb::Signs => Some("verify"),
        Verb::Prune => Some("prune"),
        Verb::Copy { .. } => Some("copy"),
        Verb::Audit | Verb::Report { .. } => Some("access"),
        Verb::Stream => None,
    }
}

fn is_of_a_run(kind: &str) -> bool {
    matches!(kind, "backup" | "drill" | "dump" | "scrub" | "verify" | "prune" | "copy" | "access")
}

/// What the ledger is told of a run whose command leaves no statement: the schedule, or whoever asked, did this.
/// `of_access` understands it again.
pub(crate) fn act_of(job: &Job, outcome: Outcome, started: Timestamp) -> Act {
    let target = match &job.verb {
        Verb::Report { period, .. } => Some(period.clone()),
        _ => None,
    };
    let (who, act) = (job.because.to_string(), job.verb.word().to_owned());
    let act = AccessAct { at: started, who, act, target, detail: Some(outcome.word().to_owned()) };
    Act::Access(Access { acts: vec![act], ..Access::default() })
}

/// The run that a statement of what was asked for tells of. Others of its kind tell what people did.
fn of_access(access: &Access) -> Option<(Verb, Because)> {
    let [act] = access.acts.as_slice() else { return None };
    let verb = match act.act.as_str() {
        "audit" => Verb::Audit,
        "report" => Verb::Report { period: act.target.clone()?, folder: Default::default() },
        _ => return None,
    };
    Some((verb, Because::read(&act.who)?))
}

/// A tenant's statements whose runs began then or later, oldest first.
async fn list(context: &Context, since: Timestamp) -> Result<Vec<(EvidenceRef, EvidenceKey)>> {
    let after = compact(since.saturating_sub(SignedDuration::from_secs(1)).unwrap_or(since));
    // Statements begin with a digit and the ledger does not: it is not even listed.
    let mut found = Vec::new();
    for century in ["2", "3"] {
        let listed = context.repository.list_evidence_from(&context.config.tenant, century, &after).await;
        for reference in listed.map_err(lifeboat_engine::Error::from)? {
            if let Ok(parts) = reference.key.as_str().parse() {
                found.push((reference, parts));
            }
        }
    }
    Ok(found)
}

/// What these statements tell, in their order; those that are not to be believed tell nothing.
async fn read(context: &Context, site: &Site, found: &[(EvidenceRef, EvidenceKey)]) -> Result<Vec<Told>> {
    let references: Vec<EvidenceRef> = found.iter().map(|(reference, _)| reference.clone()).collect();
    let reading = references.into_iter().map(|reference| async move {
        let verified = record::believed(context, &reference).await?;
        Ok::<_, Error>(verified.and_then(|verified| told(site, reference.key, verified.statement.predicate)))
    });
    stream::iter(reading).buffered(READS).try_filter_map(async |told| Ok(told)).try_collect().await
}

fn told(site: &Site, key: Key, predicate: Predicate) -> Option<Told> {
    let of = |outcome| match outcome {
        Outcome::Passed => RunOutcome::Passed,
        Outcome::Failed => RunOutcome::Failed,
        Outcome::Incomplete => RunOutcome::Incomplete,
    };
    let (run, tenant, instance, started, finished, started_by, verb, outcome) = match predicate {
        Predicate::Backup(told) => {
            let outcome = RunOutcome::Passed;
            let (run, started_by) = (told.run, told.started_by);
            (run, told.tenant, Some(told.instance), told.started, told.finished, started_by, Verb::Backup, outcome)
        }
        Predicate::Dump(told) => {
            let outcome = RunOutcome::Passed;
            let (run, started_by) = (told.run, told.started_by);
            (run, told.tenant, Some(told.instance), told.started, told.finished, started_by, Verb::Dump, outcome)
        }
        Predicate::Drill(told) => {
            // A control is good when the drill of the damaged copy found the damage: that is said apart.
            let (verb, outcome) = match (told.control, told.sabotage) {
                (Some(control), _) => (Verb::Control { kind: control.kind }, of(control.outcome)),
                (None, Some(kind)) => (Verb::Control { kind }, RunOutcome::Incomplete),
                (None, None) => (Verb::Drill { random: false }, of(told.outcome)),
            };
            let (run, started_by) = (told.run, told.started_by);
            (run, told.tenant, Some(told.instance), told.started, told.finished, started_by, verb, outcome)
        }
        Predicate::Act(told) => {
            let mut asked = None;
            let verb = match &told.act {
                Act::Prune(_) => Verb::Prune,
                Act::Copy(copy) => Verb::Copy { to: Some(copy.to.clone()) },
                Act::Scrub(scrub) => Verb::Scrub { sample: scrub.share.clone() },
                Act::Verify(proof) if proof.locks.is_some() => Verb::Locks,
                Act::Verify(_) => Verb::Signs,
                Act::Access(access) => {
                    let (verb, because) = of_access(access)?;
                    asked = Some(because);
                    verb
                }
                _ => return None,
            };
            let (run, mut started_by, outcome) = (told.run, told.started_by, of(told.outcome));
            if let Some(because) = asked {
                started_by.command = format!("{} ({because})", started_by.command); // as the others have it
            }
            (run, told.tenant, told.instance, told.started, told.finished, started_by, verb, outcome)
        }
        Predicate::Opaque { .. } => return None,
    };
    let because = because(&started_by, started);
    // What the statement does not tell of what was asked for, the schedule does.
    let verb = match &because {
        Because::Schedule { schedule, .. } => {
            let same = |asked: &&Verb| asked.word() == verb.word();
            let asked = site.schedules.iter().find(|known| known.name == *schedule).map(|known| &known.verb);
            asked.filter(same).cloned().unwrap_or(verb)
        }
        Because::Asked { .. } => verb,
    };
    Some(Told { run, tenant, instance, verb, because, started, finished, outcome, key })
}

/// From `lifeboat backup clinic (schedule …, due …)`; without that, somebody typed it.
fn because(started_by: &StartedBy, started: Timestamp) -> Because {
    let inner = started_by.command.split_once(" (").and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.and_then(Because::read).unwrap_or_else(|| {
        let who = match started_by.host.as_str() {
            "" => started_by.user.clone(),
            host => format!("{}@{host}", started_by.user),
        };
        Because::Asked { who, at: started }
    })
}

fn badness(outcome: RunOutcome) -> u8 {
    match outcome {
        RunOutcome::Passed => 0,
        RunOutcome::Incomplete => 1,
        _ => 2,
    }
}

/// Keeps what a statement tells, as one more try of what was due; unless it is a run that the state knows.
async fn keep(daemon: &Daemon, told: Told) -> Result<()> {
    let mut attempt = 1;
    if let Because::Schedule { schedule, due } = &told.because {
        let tries = daemon.state.attempts(&told.tenant, schedule, told.instance.as_ref(), *due).await?;
        if let Some(same) = tries.iter().find(|row| is_same(row, &told)) {
            // Of a run that tells of itself in several statements, the first is linked.
            if same.evidence.is_none() {
                daemon.state.set_evidence(same.job.run, told.key.as_str()).await?;
            }
            return Ok(());
        }
        attempt = tries.last().map_or(1, |row| row.attempt + 1).min(MOST_TRIES);
    }
    let job =
        Job { run: told.run, tenant: told.tenant, instance: told.instance, verb: told.verb, because: told.because };
    let ended = Ended { outcome: told.outcome, exit: None, answer: None, reason: None, is_transient: false };
    let state = &daemon.state;
    state.heard_of(&job, attempt, &ended, told.started, told.finished, Some(told.key.as_str())).await.map(drop)
}

/// Whether a known try is the run that a statement tells of: its process has an id of its own, so it is known by its time.
fn is_same(row: &RunRow, told: &Told) -> bool {
    let Some(started) = row.started else { return false };
    let early = started.saturating_sub(LEEWAY).unwrap_or(started);
    let late = row.ended.map_or(Timestamp::MAX, |ended| ended.saturating_add(LEEWAY).unwrap_or(ended));
    row.job.run == told.run || (early <= told.started && told.finished <= late)
}
