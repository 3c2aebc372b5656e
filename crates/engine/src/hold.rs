//! Legal holds: a person says that a point stays, whatever policy says, until a person says otherwise.
//!
//! Where the store has locks it keeps the hold itself, on every object of the point; anywhere else the signed statement
//! alone keeps prune away. The order is such that a run that is killed keeps too much, never too little: a hold is put and
//! then recorded, a release is recorded only when every hold is gone, and until then policy keeps the point.

use std::{collections::HashSet, sync::Arc};

use futures::{StreamExt as _, stream};
use lifeboat_evidence::{
    Act,
    act::{Hold, Refused},
};
use lifeboat_model::{
    check::Outcome,
    id::{Instance, PointId},
};
use lifeboat_repo::{
    point::{Point, PointSelector},
    progress::{Counter, Progress},
};
use lifeboat_store::{Key, VersionId};

use crate::{
    context::Context,
    error::{Error, Result},
    lifetime::Lifetime,
    record,
};

/// Requests at the same time.
const AT_ONCE: usize = 16;
/// Refusals told one by one.
const TOLD: usize = 100;

/// What a hold or a release did.
#[derive(Debug)]
pub struct Held {
    /// What was said in evidence.
    pub hold: Hold,
    /// The instance.
    pub instance: Instance,
    /// Whether the store itself keeps holds.
    pub in_store: bool,
    /// Where the signed statement is kept.
    pub evidence: Key,
}

/// Puts a point under legal hold, or takes it away: of the instance that is named, else of any that is configured.
///
/// # Errors
/// [`Error::NotHeld`] for a release of what is not held. That objects refused is no error: it is in the answer.
pub async fn run(
    context: &Context,
    within: Option<&Instance>,
    selector: &PointSelector,
    held: bool,
    reason: &str,
    progress: Arc<dyn Progress>,
) -> Result<Held> {
    let started = (context.clock)();
    let (name, point) = find(context, within, selector).await?;
    let lifetime = Lifetime::look(context, &name).await?;
    let is_held = |fact: &&lifeboat_model::retention::PointFacts| fact.id == point.header.point && fact.held;
    if !held && !lifetime.facts.iter().any(|fact| is_held(&fact)) && !held_by_store(context, &point).await? {
        return Err(Error::NotHeld { point: point.header.point });
    }
    let shared = if held { HashSet::new() } else { shared(context, &lifetime, point.header.point).await? };
    let mut hold = Hold {
        point: record::point_reference(&point),
        reason: reason.to_owned(),
        objects: 0,
        shared: 0,
        refused: Vec::new(),
    };
    let in_store = context.repository.store().capabilities().locks;
    if in_store {
        set(context, &point, held, &shared, &mut hold, progress).await?;
    }
    let outcome = if hold.refused.is_empty() { Outcome::Passed } else { Outcome::Failed };
    let act = if held { Act::Hold(hold.clone()) } else { Act::Release(hold.clone()) };
    let (evidence, _) = record::keep_act(context, Some(&name), started, outcome, act).await?;
    Ok(Held { hold, instance: name, in_store, evidence })
}

/// A hold that was killed before it was recorded can be taken away as well.
async fn held_by_store(context: &Context, point: &Point) -> Result<bool> {
    Ok(context.repository.store().lock_state(&point.key, point.version.as_ref()).await?.legal_hold)
}

/// Ids are random, so no two instances share one; a prefix may fit several.
async fn find(context: &Context, within: Option<&Instance>, selector: &PointSelector) -> Result<(Instance, Point)> {
    if let Some(name) = within {
        context.instance(name.as_str())?;
    }
    let mut found: Option<(Instance, Point)> = None;
    for name in context.config.instances.keys().filter(|name| within.is_none_or(|within| within == *name)) {
        let trusted = &context.config.keys.trusted_keys;
        match context.instance_repo(name).find_point(selector, trusted).await {
            Ok(_) if found.is_some() => {
                return Err(Error::AmbiguousPoint { wanted: told(selector) });
            }
            Ok(point) => found = Some((name.clone(), point)),
            Err(lifeboat_repo::Error::NoPoint { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.ok_or_else(|| Error::NoSuchPoint { wanted: told(selector) })
}

fn told(selector: &PointSelector) -> String {
    match selector {
        PointSelector::Latest => "latest".to_owned(),
        PointSelector::Id(id) => id.clone(),
    }
}

/// Objects that other held points need: a release leaves them held.
async fn shared(context: &Context, lifetime: &Lifetime, released: PointId) -> Result<HashSet<Key>> {
    let repo = context.instance_repo(&lifetime.instance);
    let mut shared = HashSet::new();
    for (reference, fact) in lifetime.points.iter().zip(&lifetime.facts) {
        if fact.held && fact.id != released {
            let point = repo.read_point(reference, &context.config.keys.trusted_keys).await?;
            shared.extend(point.header.objects.into_iter().map(|object| object.key));
        }
    }
    Ok(shared)
}

async fn set(
    context: &Context,
    point: &Point,
    held: bool,
    shared: &HashSet<Key>,
    hold: &mut Hold,
    progress: Arc<dyn Progress>,
) -> Result<()> {
    let objects = point.header.objects.iter().map(|object| (&object.key, &object.version));
    let all: Vec<(Key, Option<VersionId>)> = objects
        .chain([(&point.key, &point.version)])
        .filter(|(key, _)| !shared.contains(*key))
        .map(|(key, version)| (key.clone(), version.clone()))
        .collect();
    hold.shared = (point.header.objects.len() as u64 + 1).saturating_sub(all.len() as u64);
    let repo = context.instance_repo(&point.header.instance);
    let (named, first) = (repo.store_of(point.version.as_ref()), repo.store_of(None));
    let (named, first) = (&named, &first);
    let mut answers = stream::iter(all)
        .map(|(key, version)| async move {
            let store = if version.is_some() { named } else { first };
            let answer = store.set_legal_hold(&key, version.as_ref(), held).await;
            (key, answer)
        })
        .buffer_unordered(AT_ONCE);
    while let Some((key, answer)) = answers.next().await {
        progress.add(Counter::Objects, 1);
        match answer {
            Ok(()) => hold.objects += 1,
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error) if hold.refused.len() < TOLD => {
                hold.refused.push(Refused { key: key.to_string(), why: error.to_string() });
            }
            Err(_) => {}
        }
    }
    Ok(())
}
