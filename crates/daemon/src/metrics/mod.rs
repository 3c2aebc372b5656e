//! Prometheus metrics, made from the model at scrape time: nothing is counted twice, and what is not known is not there.
//!
//! Whoever asks sees the instances of their tenants, and what the daemon does for these; the daemon itself is shown to those who
//! may see everything. docs/monitoring/README.md lists all names.

mod instance;
mod process;
mod sheet;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap,
        header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use lifeboat_engine::status::judge;

use self::{
    instance::Instance,
    sheet::{Labels, Sheet},
};
use crate::{
    auth::{Caller, Need, Refused},
    daemon::{Daemon, Scope},
    error::Result,
    look::dependencies_of,
    state::DURATIONS,
    view,
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The route `/metrics`.
pub fn router(daemon: Arc<Daemon>) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(daemon)
}

async fn metrics(State(daemon): State<Arc<Daemon>>, caller: Caller, headers: HeaderMap) -> Result<Response, Refused> {
    let scope = caller.scope(Need::Look)?;
    let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let is_open = accepts.contains("application/openmetrics-text");
    let text = match gather(&daemon, &scope).await {
        // A thousand instances are a few megabytes: not on the threads that answer others.
        Ok(sheet) => {
            let write = move || if is_open { sheet.open_metrics() } else { sheet.plain() };
            tokio::task::spawn_blocking(write).await.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    match text {
        Ok(Ok(text)) => {
            let kind = if is_open { OPEN_METRICS } else { PLAIN };
            Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], text).into_response())
        }
        Ok(Err(error)) => Err(unavailable(&error.to_string())),
        Err(error) => Err(unavailable(&error)),
    }
}

fn unavailable(why: &str) -> Refused {
    tracing::warn!(why, "no metrics can be given");
    Refused::unavailable("metrics cannot be given at the moment")
}

/// Everything that may be seen.
async fn gather(daemon: &Daemon, scope: &Scope) -> Result<Sheet> {
    let mut sheet = Sheet::default();
    let help = "The daemon's release; always 1.";
    sheet.gauge("lifeboat_build_info", help, &vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0);
    instances(&mut sheet, daemon, scope);
    runs(&mut sheet, daemon, scope).await?;
    troubles(&mut sheet, daemon, scope);
    if *scope == Scope::all() {
        itself(&mut sheet, daemon).await?;
        process::gather(&mut sheet);
    }
    Ok(sheet)
}

fn instances(sheet: &mut Sheet, daemon: &Daemon, scope: &Scope) {
    let now = daemon.now();
    let policies = daemon.policies();
    for (tenant, site) in policies.sites.iter().filter(|(tenant, _)| scope.has(tenant)) {
        for (name, config) in &site.config.instances {
            let facts = view::facts_now(daemon, tenant, name, now);
            let next = view::next_run_of(daemon, (tenant, site), name, now);
            let instance = Instance {
                tenant: tenant.to_string(),
                name: name.to_string(),
                tier: config.tier.to_string(),
                owner: config.owner.clone().unwrap_or_default(),
                judgement: facts.as_ref().map(|facts| judge(facts, now)),
                facts,
                next_run: next.map(|due| (due.verb, due.at)),
            };
            instance::gather(sheet, &instance);
            for one in dependencies_of(daemon, tenant, name, &config.dependencies) {
                instance::dependency(sheet, &instance, one);
            }
        }
    }
}

async fn runs(sheet: &mut Sheet, daemon: &Daemon, scope: &Scope) -> Result<()> {
    let policies = daemon.policies();
    let mut open: BTreeMap<(String, &str), f64> = BTreeMap::new();
    for tenant in policies.sites.keys().filter(|tenant| scope.has(tenant)) {
        for phase in ["queued", "running"] {
            open.insert((tenant.to_string(), phase), 0.0);
        }
    }
    for row in daemon.state.open_runs().await? {
        let phase = if row.started.is_some() { "running" } else { "queued" };
        if let Some(count) = open.get_mut(&(row.job.tenant.to_string(), phase)) {
            *count += 1.0;
        }
    }
    for ((tenant, phase), count) in open {
        let labels = vec![("tenant", tenant), ("phase", phase.to_owned())];
        sheet.gauge("lifeboat_open_runs", "Runs that wait or go on.", &labels, count);
    }
    for total in daemon.state.run_totals().await? {
        // A tenant that is no longer served is shown to those who see everything.
        if !total.tenant.parse().is_ok_and(|tenant| scope.has(&tenant)) {
            continue;
        }
        let labels = vec![("tenant", total.tenant), ("verb", total.verb), ("outcome", total.outcome)];
        let begun: u64 = total.buckets.iter().sum();
        let help = "Runs that ended, by what they did and how they ended.";
        sheet.counter("lifeboat_runs", help, labels.clone(), (begun + total.not_begun) as f64);
        if begun > 0 {
            let ends = DURATIONS.into_iter().chain([f64::INFINITY]);
            let help = "How long runs took.";
            sheet.histogram(
                "lifeboat_run_duration_seconds",
                help,
                labels,
                total.seconds,
                ends.zip(total.buckets).collect(),
            );
        }
    }
    Ok(())
}

fn troubles(sheet: &mut Sheet, daemon: &Daemon, scope: &Scope) {
    let troubles = view::troubles(daemon, scope);
    let policies = daemon.policies();
    for tenant in policies.sites.keys().filter(|tenant| scope.has(tenant)) {
        let is_not_ours = troubles.iter().any(|trouble| {
            matches!(&*trouble.of, "leader" | "lead") && trouble.tenant.as_deref() == Some(tenant.as_str())
        });
        let help = "Whether this daemon works for the tenant: of several, one does.";
        let labels = vec![("tenant", tenant.to_string())];
        sheet.gauge("lifeboat_daemon_leader", help, &labels, f64::from(u8::from(!is_not_ours)));
    }
    for trouble in troubles.iter().filter(|trouble| trouble.of != "leader") {
        let mut labels: Labels = vec![("of", trouble.of.clone())];
        labels.extend(trouble.tenant.iter().map(|tenant| ("tenant", tenant.clone())));
        sheet.gauge("lifeboat_daemon_trouble", "Something that the daemon needs and has not; always 1.", &labels, 1.0);
    }
}

async fn itself(sheet: &mut Sheet, daemon: &Daemon) -> Result<()> {
    let none = Labels::new();
    let dispatched = daemon.dispatched.load(Ordering::Relaxed);
    let help = "When it was last seen what is due.";
    sheet.gauge(
        "lifeboat_daemon_dispatched_timestamp_seconds",
        help,
        &none,
        (dispatched > 0).then_some(dispatched as f64),
    );
    let policies = daemon.policies();
    let totals: BTreeMap<_, _> = daemon
        .state
        .notice_totals()
        .await?
        .into_iter()
        .map(|(channel, result, count)| ((channel, result), count))
        .collect();
    for channel in &policies.settings.notify.channels {
        for result in ["delivered", "failed", "given-up"] {
            let count = totals.get(&(channel.name.clone(), result.to_owned())).copied().unwrap_or_default();
            let labels = vec![("channel", channel.name.clone()), ("result", result.to_owned())];
            sheet.counter(
                "lifeboat_notifications",
                "Messages to people, each time they were tried.",
                labels,
                count as f64,
            );
        }
    }
    Ok(())
}
