//! All of one instance.

use std::sync::Arc;

use lifeboat_engine::status::Facts;
use lifeboat_model::id::{Instance, Tenant};

use super::{
    InstanceView, ReasonView, RunLine,
    overview::{line, word},
    schedules,
};
use crate::{
    Result,
    daemon::{Daemon, Scope},
    look::dependencies_of,
    settings::Tenants,
    state::{RunFilter, board::MOST_MARKS},
};

/// Runs that are shown.
const RUNS: usize = 50;
/// Runs to come that are shown.
const DUE: usize = 20;

/// One instance; none where there is none that may be seen.
pub async fn instance(
    daemon: &Daemon,
    scope: &Scope,
    tenant: &Tenant,
    instance: &Instance,
) -> Result<Option<InstanceView>> {
    let (policies, now) = (daemon.policies(), daemon.now());
    let Some(site) = policies.sites.get(tenant).filter(|_| scope.has(tenant)) else { return Ok(None) };
    let Some((name, config)) = site.config.instances.get_key_value(instance) else { return Ok(None) };
    let filter = RunFilter {
        tenants: Some(Tenants::Some([tenant.clone()].into())),
        instance: Some(instance.clone()),
        ..RunFilter::default()
    };
    let runs = daemon.state.runs(filter, RUNS).await?;
    let open = daemon.state.open_runs().await?;
    let ours = open.iter().filter(|row| row.job.tenant == *tenant && row.job.instance.as_ref() == Some(instance));
    let running = ours.filter(|row| row.started.is_some()).map(RunLine::from).collect();
    let (judged, line) = line(daemon, (tenant, site), (name, config), running, MOST_MARKS, now);
    let reasons = judged.judgement.map(|judgement| judgement.reasons).unwrap_or_default();
    Ok(Some(InstanceView {
        line,
        reasons: reasons
            .into_iter()
            .map(|reason| ReasonView {
                kind: reason.kind,
                state: word(reason.state).to_owned(),
                text: reason.text,
                next: reason.next,
            })
            .collect(),
        facts: judged.facts.map(Arc::<Facts>::unwrap_or_clone),
        runs: runs.iter().map(RunLine::from).collect(),
        due: schedules::dues(tenant, site, name, now, DUE),
        dependencies: dependencies_of(daemon, tenant, name, &config.dependencies),
    }))
}
