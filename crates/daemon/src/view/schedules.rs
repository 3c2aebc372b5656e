//! What is due, and what became of it.

use jiff::{SignedDuration, Timestamp};
use lifeboat_model::id::{Instance, Tenant};

use super::{Due, RunLine, ScheduleView};
use crate::{
    Result,
    daemon::{Daemon, Scope},
    policies::Site,
    schedule::Schedule,
    settings::Tenants,
    state::RunFilter,
};

/// Runs that are shown of a schedule, to come and past.
const SHOWN: usize = 100;
/// How far ahead is looked for what is due.
const AHEAD: SignedDuration = SignedDuration::from_hours(400 * 24);

/// All schedules that may be seen, by tenant and name.
pub async fn schedules(daemon: &Daemon, scope: &Scope) -> Result<Vec<ScheduleView>> {
    let (policies, now) = (daemon.policies(), daemon.now());
    let mut views = Vec::new();
    for (tenant, site) in policies.sites.iter().filter(|(tenant, _)| scope.has(tenant)) {
        let mut schedules: Vec<&Schedule> = site.schedules.iter().collect();
        schedules.sort_by(|a, b| a.name.cmp(&b.name));
        for schedule in schedules {
            let filter = RunFilter {
                tenants: Some(Tenants::Some([tenant.clone()].into())),
                schedule: Some(schedule.name.clone()),
                ..RunFilter::default()
            };
            let past = daemon.state.runs(filter, SHOWN).await?;
            let past = past.iter().filter(|row| row.started.is_some() || row.ended.is_some());
            views.push(view(tenant, site, schedule, past.map(RunLine::from).collect(), now));
        }
    }
    Ok(views)
}

fn view(tenant: &Tenant, site: &Site, schedule: &Schedule, past: Vec<RunLine>, now: Timestamp) -> ScheduleView {
    let instances = schedule.instances(&site.config);
    // Each instance has its own jitter: the soonest hundred of all are among the soonest of each.
    let each = (SHOWN * 2).div_ceil(instances.len().max(1)).max(3);
    let mut next: Vec<Due> =
        instances.iter().flat_map(|instance| due(tenant, schedule, instance.as_ref(), now).take(each)).collect();
    next.sort_by_key(|due| (due.at, due.instance.clone()));
    next.truncate(SHOWN);
    ScheduleView {
        tenant: tenant.to_string(),
        schedule: schedule.name.clone(),
        description: schedule.description.clone(),
        file: schedule.file.display().to_string(),
        verb: schedule.verb.word().to_owned(),
        when: schedule.words(),
        instances: instances.iter().flatten().map(Instance::to_string).collect(),
        next,
        past,
    }
}

/// What a schedule will begin for an instance, soonest first: also what is due already and waits for its moment.
pub(super) fn due<'a>(
    tenant: &'a Tenant,
    schedule: &'a Schedule,
    instance: Option<&'a Instance>,
    now: Timestamp,
) -> impl Iterator<Item = Due> + use<'a> {
    let jitter = SignedDuration::try_from(schedule.jitter.0).unwrap_or_default();
    let after = now.saturating_sub(jitter).unwrap_or(now);
    let until = now.saturating_add(AHEAD).unwrap_or(now);
    let occurrences = schedule.due(instance, after, until).filter(move |occurrence| occurrence.at > now);
    occurrences.map(move |occurrence| Due {
        tenant: tenant.to_string(),
        instance: instance.map(Instance::to_string),
        schedule: schedule.name.clone(),
        verb: schedule.verb.word().to_owned(),
        due: occurrence.due,
        at: occurrence.at,
    })
}

/// What all schedules will begin for an instance, soonest first.
pub(super) fn dues(tenant: &Tenant, site: &Site, instance: &Instance, now: Timestamp, limit: usize) -> Vec<Due> {
    let mut found: Vec<Due> = site
        .schedules
        .iter()
        .filter(|schedule| schedule.has(&site.config, Some(instance)))
        .flat_map(|schedule| due(tenant, schedule, Some(instance), now).take(limit))
        .collect();
    found.sort_by(|a, b| (a.at, &a.schedule).cmp(&(b.at, &b.schedule)));
    found.truncate(limit);
    found
}
