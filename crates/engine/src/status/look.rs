//! Gathers the facts. All questions are asked at the same time, each for as long as whoever looks has patience.

use std::time::Duration;

use lifeboat_model::{check::Outcome, id::Instance};
use lifeboat_repo::{
    point::{Point, PointRef, PointSelector},
    repository::InstanceRepo,
};
use tokio::time::timeout;

use super::{
    Asking, Drill, Facts, Locks, NewestPoint, Points, RecoveryKey, Statements, Targets, certificates, copies, server,
    slow, statements::Drills,
};
use crate::{
    context::Context,
    error::{Error, Result},
    rehearsal,
};

/// Where none of so many newest points verifies, the rest is not looked at.
const MOST_POINTS: usize = 64;

/// Looks an instance up.
///
/// # Errors
/// Where the configuration has no such instance, or the repository does not tell its points or its evidence. Whatever else does
/// not answer stands in the facts as unknown.
pub async fn look(context: &Context, instance: &Instance, asking: &Asking<'_>) -> Result<Facts> {
    let looked = (context.clock)();
    let (name, config) = context.instance(instance.as_str())?;
    let tier = context.tier(config)?;
    let own;
    let statements = match asking.statements {
        Some(shared) => shared,
        None => {
            own = Statements::list(context).await?;
            &own
        }
    };
    let repo = context.instance_repo(name);
    let references = repo.list_points().await?;
    let (points, newest) = points(context, &repo, &references).await?;
    let images = [&config.drill.postgres_image, &config.drill.odoo_image];
    let drills = statements.drills(context, name, &images).await?;
    let mut unknown = Vec::new();
    let (server, locks, keys, copies, certificates, slow) = tokio::join!(
        server::look(context, (name, config), newest.as_ref(), asking),
        locks(context, &repo, newest.as_ref(), statements),
        keys(context, &repo, (&references, newest.as_ref()), statements, drills.last.as_ref()),
        copies::look(context, name, asking),
        certificates::look(context, (name, config), asking),
        slow::look(context, &repo, newest.as_ref().map(|point| point.header.point), asking),
    );
    let Drills { last: drill, passed_over: drills_passed_over, trend: rto_trend, control } = drills;
    let server::Found { wal, standbys, leads_on } = server;
    let wal = wal.map(|wal| wal.seen_at(looked));
    if let Some(why) = wal.as_ref().and_then(|wal| wal.not_asked.as_ref()).or(standbys.not_asked.as_ref()) {
        // Standbys that a role may not see are no promise; a server that does not answer is no source.
        if wal.as_ref().is_some_and(|wal| wal.not_asked.is_some()) || standbys.hidden == 0 {
            unknown.push(format!("PostgreSQL of {name}: {why}"));
        }
    }
    let is_silent = !unknown.is_empty();
    unknown.extend(leads_on.map(|why| format!("whether the log leads on from the newest point: {why}")));
    for certificate in &certificates {
        if let Some(why) = certificate.not_asked.as_ref().filter(|_| !(is_silent && certificate.is_of_source())) {
            unknown.push(format!("the certificate of {} ({}): {why}", certificate.of, certificate.endpoint));
        }
    }
    let locks = locks.unwrap_or_else(|error| {
        unknown.push(format!("what is locked: {}", crate::with_causes(&error)));
        super::Locks { mode: None, newest_until: None, not_locked: None, proof: None }
    });
    let keys = keys.unwrap_or_else(|error| {
        unknown.push(format!("the rehearsals of keys: {}", crate::with_causes(&error)));
        Vec::new()
    });
    unknown.extend(slow.unknown.iter().cloned());
    Ok(Facts {
        instance: name.to_string(),
        tier: config.tier.to_string(),
        owner: config.owner.clone(),
        looked,
        looked_slowly: slow.looked,
        targets: Targets {
            rpo_seconds: tier.rpo.0.as_secs_f64(),
            rto_seconds: tier.rto.0.as_secs_f64(),
            drill_every_seconds: tier.drill.every.map(|every| every.0.as_secs_f64()),
        },
        points,
        windows: slow.windows(wal.as_ref()),
        wal,
        drill,
        drills_passed_over,
        rto_trend,
        control,
        locks,
        copies,
        standbys,
        certificates,
        keys,
        storage: slow.storage,
        unknown,
    })
}

async fn points(context: &Context, repo: &InstanceRepo, references: &[PointRef]) -> Result<(Points, Option<Point>)> {
    let trusted = &context.config.keys.trusted_keys;
    let mut points = Points { stored: references.len() as u64, newest: None, passed_over: 0 };
    match repo.find_point(&PointSelector::Latest, trusted).await {
        Ok(point) => {
            points.passed_over = point.skipped.len() as u64;
            points.newest = Some(NewestPoint {
                id: point.header.point.to_string(),
                started: point.header.started,
                finished: point.header.finished,
            });
            Ok((points, Some(point)))
        }
        Err(lifeboat_repo::Error::NoPoint { .. }) => {
            // A logical dump protects one database, not the instance.
            for reference in references.iter().rev().take(MOST_POINTS) {
                let point = repo.read_point(reference, trusted).await;
                points.stored -= u64::from(point.is_ok_and(|point| point.header.is_dump()));
            }
            Ok((points, None))
        }
        Err(error) => Err(error.into()),
    }
}

/// What the tier demands, one read-back, and the newest proof.
async fn locks(
    context: &Context,
    repo: &InstanceRepo,
    newest: Option<&Point>,
    statements: &Statements,
) -> Result<Locks> {
    let mut locks = Locks { mode: None, newest_until: None, not_locked: None, proof: None };
    let store = context.repository.store();
    let Some(lock) = context.lock_policy(repo.instance())? else {
        locks.not_locked = Some("its tier has no lock".to_owned());
        return Ok(locks);
    };
    locks.mode = Some(lock.mode.word().to_owned());
    if !store.capabilities().locks {
        locks.not_locked = Some("the store has no object lock".to_owned());
        return Ok(locks);
    }
    locks.proof = statements.proof(context, repo.instance()).await?;
    if let Some(point) = newest {
        let state = store.lock_state(&point.key, point.version.as_ref()).await.map_err(Error::from)?;
        match state.retention {
            Some(retention) => locks.newest_until = Some(retention.until),
            None => locks.not_locked = Some(format!("the newest point {} has no retention", point.header.point)),
        }
    }
    Ok(locks)
}

/// Recovery identities. A drill that passed has opened its point: where that one is sealed to a single recipient, it was a
/// rehearsal of that recipient's identity.
async fn keys(
    context: &Context,
    repo: &InstanceRepo,
    (references, newest): (&[PointRef], Option<&Point>),
    statements: &Statements,
    drill: Option<&Drill>,
) -> Result<Vec<RecoveryKey>> {
    let (repository, keys) = (&context.repository, &context.config.keys);
    let now = (context.clock)();
    let listed = statements.rehearsals(repo.instance());
    let status = rehearsal::status_of(repository, keys, repo.instance(), newest, listed).await?;
    let drilled = match drill.filter(|drill| drill.outcome == Outcome::Passed) {
        Some(drill) => {
            let reference = references.iter().find(|point| Some(point.id.to_string()) == drill.point);
            match reference {
                Some(reference) => repo.read_point(reference, &keys.trusted_keys).await.ok(),
                None => None,
            }
        }
        None => None,
    };
    let opened = drilled.as_ref().and_then(|point| match point.header.recipients.as_slice() {
        [only] => Some(only),
        _ => None,
    });
    let unreadable = status.unreadable.into_iter().map(|(name, at, why)| RecoveryKey {
        recipient: String::new(),
        name: Some(name),
        last_rehearsed: None,
        worries: vec![format!("its rehearsal at {at:.0} failed: {why}")],
    });
    let known = status.recipients.into_iter().map(|mut one| {
        if opened == Some(&one.recipient) {
            one.last_passed = one.last_passed.max(drill.map(|drill| drill.started));
        }
        // Ages are judged when the facts are read.
        let worries = one.worries(one.last_passed.unwrap_or(now));
        RecoveryKey { recipient: one.recipient, name: one.name, last_rehearsed: one.last_passed, worries }
    });
    Ok(known.chain(unreadable).collect())
}

/// The answer, or why there is none, for people.
pub(super) async fn within<T, E: std::error::Error>(
    patience: Duration,
    asked: impl Future<Output = std::result::Result<T, E>>,
) -> std::result::Result<T, String> {
    match timeout(patience, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(crate::with_causes(&error)),
        Err(_) => Err(format!("no answer within {}", super::judge::words(patience.as_secs_f64()))),
    }
}

/// The daemon looks in tasks of its own.
#[cfg(test)]
fn _is_send(context: &Context, instance: &Instance, asking: &Asking<'_>) -> impl Send {
    look(context, instance, asking)
}
