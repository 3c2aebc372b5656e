//! Statements of evidence, from the repository: the newest first, and never all of them at once.

use std::collections::VecDeque;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::record;
use lifeboat_evidence::{EvidenceKey, act::TENANT_WIDE};
use lifeboat_model::{
    id::{Instance, Tenant},
    time::compact,
};
use lifeboat_repo::repository::EvidenceRef;

use super::{EvidenceView, StatementView};
use crate::{
    Error, Result,
    daemon::{Daemon, Scope},
    look::Opened,
};

/// Statements read at the same time.
const READS: usize = 8;
/// The first stretch of time that is listed, going back; each is longer than the one before, unless there was much in it.
const FIRST: SignedDuration = SignedDuration::from_hours(24);
const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);
/// So many statements in a stretch are much.
const MUCH: usize = 1_000;
/// Ahead of the clock: a statement of another host's may be.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// Which statements are wanted. Nothing said: all that may be seen.
#[derive(Debug, Clone, Default)]
pub struct EvidenceFilter {
    /// Of this tenant.
    pub tenant: Option<Tenant>,
    /// Of this instance.
    pub instance: Option<Instance>,
    /// `backup`, `drill`, …
    pub kind: Option<String>,
    /// Made before: the time of the last one of a list, to go on.
    pub before: Option<Timestamp>,
}

/// Statements, newest first; of those of the last second all, so that a list that goes on behind it misses none. A tenant whose repository cannot be read is left out where others answer; if none does, that is
/// the error.
pub async fn evidence(
    daemon: &Daemon,
    scope: &Scope,
    filter: EvidenceFilter,
    limit: usize,
) -> Result<Vec<EvidenceView>> {
    let policies = daemon.policies();
    let wanted = |tenant: &&Tenant| scope.has(tenant) && filter.tenant.as_ref().is_none_or(|only| only == *tenant);
    let (mut found, mut failed) = (Vec::new(), None);
    for tenant in policies.sites.keys().filter(wanted) {
        match of_tenant(daemon, tenant, &filter, limit).await {
            Ok(views) => found.extend(views),
            Err(Error::NotOpen { absent: true, .. }) => {}
            Err(error) => failed = Some(error),
        }
    }
    if let (Some(error), true) = (failed, found.is_empty()) {
        return Err(error);
    }
    found.sort_by(|a, b| order(&b.key).cmp(&order(&a.key)));
    if let Some(last) = limit.checked_sub(1).and_then(|last| found.get(last)).map(|view| view.at) {
        let whole = found.iter().skip(limit).take_while(|view| view.at == last).count();
        found.truncate(limit + whole);
    }
    Ok(found)
}

/// One statement with its envelope; none where there is none that may be seen.
pub async fn statement(daemon: &Daemon, scope: &Scope, tenant: &Tenant, key: &str) -> Result<Option<StatementView>> {
    let Ok(parts) = key.parse::<EvidenceKey>() else { return Ok(None) };
    if !scope.has(tenant) || parts.tenant != *tenant || !daemon.policies().sites.contains_key(tenant) {
        return Ok(None);
    }
    let opened = match daemon.opened(tenant).await {
        Ok(opened) => opened,
        Err(Error::NotOpen { absent: true, .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let engine = lifeboat_engine::Error::from;
    let name = key.rsplit('/').next().unwrap_or(key);
    let listed = opened.context.repository.list_evidence(tenant, name).await.map_err(engine)?;
    let Some(reference) = listed.into_iter().find(|found| found.key.as_str() == key) else { return Ok(None) };
    let envelope = opened.context.repository.get_evidence(&reference).await.map_err(engine)?;
    let weighed = record::weigh(&opened.context, &reference, &envelope);
    let line = line(&parts, key, weighed.as_ref().err().cloned());
    let statement = weighed.ok().and_then(|verified| serde_json::from_slice(&verified.payload).ok());
    Ok(Some(StatementView { line, statement, envelope: String::from_utf8_lossy(&envelope).into_owned() }))
}

/// Lists are ordered by time over all tenants: by what follows the tenant in the key, then by tenant.
fn order(key: &str) -> (&str, &str) {
    let (tenant, name) = key.split_once("/evidence/").unwrap_or(("", key));
    (name, tenant)
}

async fn of_tenant(
    daemon: &Daemon,
    tenant: &Tenant,
    filter: &EvidenceFilter,
    limit: usize,
) -> Result<Vec<EvidenceView>> {
    let opened = daemon.opened(tenant).await?;
    let newest = newest(&opened, tenant, filter, daemon.now(), limit).await?;
    let opened = &opened;
    let reading = newest.into_iter().map(|(reference, parts)| async move { view(opened, reference, &parts).await });
    stream::iter(reading).buffered(READS).try_collect().await
}

/// The newest that fit, newest first. Keys are in the order of time and can be listed forwards only: so stretches of time
/// are listed, going back, and of each only as many are kept as are wanted.
async fn newest(
    opened: &Opened,
    tenant: &Tenant,
    filter: &EvidenceFilter,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<(EvidenceRef, EvidenceKey)>> {
    let context = &opened.context;
    let fits = |parts: &EvidenceKey| {
        filter.before.is_none_or(|before| parts.time < before)
            && filter.instance.as_ref().is_none_or(|instance| parts.instance == *instance)
            && filter.kind.as_ref().is_none_or(|kind| parts.kind == *kind)
    };
    // The next stretch ends where the one before began; keys have whole seconds.
    let end = filter.before.map_or(later(now, AHEAD), |before| later(before, SignedDuration::from_secs(1)));
    let mut end = end.min(later(now, AHEAD));
    let oldest = context.repository.created().saturating_sub(AHEAD).unwrap_or_default();
    let mut length = FIRST;
    let mut found: Vec<(EvidenceRef, EvidenceKey)> = Vec::new();
    while found.len() < limit && end > oldest {
        let begin = end.saturating_sub(length).unwrap_or(oldest).max(oldest);
        let room = limit - found.len();
        let mut kept: VecDeque<(EvidenceRef, EvidenceKey)> = VecDeque::new();
        let mut seen = 0;
        let root = format!("{tenant}/evidence/");
        let (after, until) = (format!("{root}{}", compact(begin)), format!("{root}{}", compact(end)));
        let mut listed = context.repository.store().list_from(&common(&after, &until, &root), &after);
        while let Some(info) = listed.try_next().await.map_err(lifeboat_engine::Error::from)? {
            if info.key.as_str() >= until.as_str() {
                break;
            }
            seen += 1;
            let Ok(parts) = info.key.as_str().parse::<EvidenceKey>() else { continue };
            if fits(&parts) {
                // Of the second that is the last one, all stay.
                while kept.len() >= room
                    && kept[0].1.time < kept.get(kept.len() - room + 1).map_or(parts.time, |(_, parts)| parts.time)
                {
                    kept.pop_front();
                }
                let reference =
                    EvidenceRef { key: info.key, version: info.version, len: info.len, modified: info.modified };
                kept.push_back((reference, parts));
            }
        }
        found.extend(kept.into_iter().rev());
        end = begin;
        length = if seen > MUCH { length } else { (length * 4).min(LONGEST) };
    }
    Ok(found)
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(time)
}

/// What both begin with, no shorter than `root`: what lies outside is not listed, the ledger above all.
fn common(a: &str, b: &str, root: &str) -> String {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    // Statements begin with the year.
    let least = root.len() + 1;
    a[..same.max(least).min(a.len())].to_owned()
}

async fn view(opened: &Opened, reference: EvidenceRef, parts: &EvidenceKey) -> Result<EvidenceView> {
    if let Some(known) = opened.evidence.get(&reference.key) {
        return Ok(known);
    }
    let context = &opened.context;
    let doubt = match context.repository.get_evidence(&reference).await {
        Ok(envelope) => record::weigh(context, &reference, &envelope).err(),
        Err(error @ lifeboat_repo::Error::Damaged { .. }) => Some(error.to_string()),
        Err(error) => return Err(lifeboat_engine::Error::from(error).into()),
    };
    let view = line(parts, reference.key.as_str(), doubt);
    opened.evidence.put(reference.key, view.clone());
    Ok(view)
}

fn line(parts: &EvidenceKey, key: &str, doubt: Option<String>) -> EvidenceView {
    EvidenceView {
        key: key.to_owned(),
        tenant: parts.tenant.to_string(),
        instance: Some(parts.instance.to_string()).filter(|instance| instance != TENANT_WIDE),
        kind: parts.kind.clone(),
        run: parts.run.to_string(),
        at: parts.time,
        doubt,
    }
}
