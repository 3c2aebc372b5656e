//! One look at one instance.

use std::time::Duration;

use lifeboat_engine::status::{Asking, Facts, Statements, look};
use lifeboat_model::id::{Instance, Tenant};
use lifeboat_repo::repository::Repository;
use tokio::time::{Instant, timeout};

use super::opened::Opened;
use crate::{Daemon, Error, Result, daemon::Told, error::with_causes, view::Trouble};

/// A look takes no longer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Each server is waited for no longer.
const SERVERS: Duration = Duration::from_secs(5);
/// What changes slowly (windows, sizes, certificates) is looked up again after this time, by the daemon's clock.
const SLOWLY: Duration = Duration::from_secs(24 * 3600 - 600);
/// A tenant's statements are listed again, for a look that nothing gave reason for, after this time.
const LISTED: Duration = Duration::from_secs(300);

/// Looks up an instance's facts and keeps them. What cannot be reached becomes a trouble; older facts stay then.
pub async fn once(daemon: &Daemon, tenant: &Tenant, instance: &Instance) -> Result<()> {
    after_run(daemon, tenant, instance).await.map(drop)
}

/// The same; tells whether everything answered. What a run has just put is seen: statements are listed from now on.
pub(super) async fn after_run(daemon: &Daemon, tenant: &Tenant, instance: &Instance) -> Result<bool> {
    take(daemon, tenant, instance, Instant::now()).await
}

/// A look that nothing gave reason for but the time.
pub(super) async fn again(daemon: &Daemon, tenant: &Tenant, instance: &Instance) -> Result<bool> {
    let now = Instant::now();
    take(daemon, tenant, instance, now.checked_sub(LISTED).unwrap_or(now)).await
}

/// `listed`: the tenant's statements must have been listed then or later.
async fn take(daemon: &Daemon, tenant: &Tenant, instance: &Instance, listed: Instant) -> Result<bool> {
    let repository = || trouble_of_repository(daemon, tenant);
    let opened = match daemon.opened(tenant).await {
        Ok(opened) => opened,
        Err(error) => {
            begin_repository(daemon, tenant, &error);
            return Err(error);
        }
    };
    if !opened.site.config.instances.contains_key(instance) {
        return Ok(true); // the policies changed meanwhile
    }
    let found = timeout(PATIENCE, Box::pin(found(daemon, &opened, tenant, instance, listed))).await;
    let facts = match found {
        Ok(Ok(facts)) => facts,
        Ok(Err(error)) => {
            begin_repository(daemon, tenant, &error);
            daemon.looking.opened.close(tenant).await;
            return Err(error);
        }
        Err(_) => {
            let why = format!("a look at {instance} took longer than {} s", PATIENCE.as_secs());
            let error = Error::NotOpen { tenant: tenant.clone(), why, absent: false };
            begin_repository(daemon, tenant, &error);
            daemon.looking.opened.close(tenant).await;
            return Err(error);
        }
    };
    daemon.troubles.end_aloud(Some(tenant.as_str()), &repository(), |_| true);
    let answered = servers(daemon, tenant, &facts);
    daemon.state.put_facts(tenant, &facts).await?;
    daemon.tell(Told::Changed { tenant: tenant.clone() });
    Ok(answered)
}

async fn found(
    daemon: &Daemon,
    opened: &Opened,
    tenant: &Tenant,
    instance: &Instance,
    listed: Instant,
) -> Result<Facts> {
    let context = &opened.context;
    // A disk that is not mounted looks like a folder with nothing in it: facts of that would be wrong.
    let marker = Repository::open(context.repository.store().clone()).await;
    marker.map_err(lifeboat_engine::Error::from)?;
    list(opened, listed).await?;
    let statements = opened.statements.read().await;
    let before = daemon.state.facts(tenant, instance);
    let environment = &*daemon.surroundings.environment;
    let asking = Asking {
        patience: SERVERS,
        copies: &opened.copies,
        statements: statements.as_ref().map(|(statements, _)| statements),
        before: before.as_deref(),
        slowly: SLOWLY,
        ..Asking::new(environment)
    };
    Ok(look(context, instance, &asking).await?)
}

/// Lists the tenant's statements, unless that was begun at `listed` or later: of many who wait here, one does.
async fn list(opened: &Opened, listed: Instant) -> Result<()> {
    let is_young = |known: &Option<(Statements, Instant)>| known.as_ref().is_some_and(|(_, at)| *at >= listed);
    if is_young(&*opened.statements.read().await) {
        return Ok(());
    }
    let mut known = opened.statements.write().await;
    if is_young(&known) {
        return Ok(());
    }
    let begun = Instant::now();
    match known.as_mut() {
        Some((statements, at)) => {
            statements.refresh(&opened.context).await?;
            *at = begun;
        }
        None => *known = Some((Statements::list(&opened.context).await?, begun)),
    }
    Ok(())
}

/// What a tenant's repository is called among the troubles.
pub(super) fn trouble_of_repository(daemon: &Daemon, tenant: &Tenant) -> String {
    let policies = daemon.policies();
    let name = policies.sites.get(tenant).map_or("primary", |site| site.config.repository_name.as_str());
    format!("repository {name}")
}

/// The repository does not do what it should.
pub(super) fn begin_repository(daemon: &Daemon, tenant: &Tenant, error: &Error) {
    let text = match error {
        Error::NotOpen { why, .. } => why.clone(),
        error => with_causes(error),
    };
    let next = match error {
        Error::NotOpen { absent: true, .. } => "lifeboat backup",
        _ => "lifeboat doctor",
    };
    let trouble = Trouble {
        tenant: Some(tenant.to_string()),
        of: trouble_of_repository(daemon, tenant),
        since: daemon.now(),
        text,
        next: Some(next.to_owned()),
    };
    match error {
        // Whoever leads makes it at once.
        Error::NotOpen { absent: true, .. } => daemon.troubles.begin(trouble),
        _ => daemon.troubles.begin_aloud(trouble),
    }
}

/// What the look saw of the instance's PostgreSQL: whether it answered.
fn servers(daemon: &Daemon, tenant: &Tenant, facts: &Facts) -> bool {
    // That it shows no standbys to our role is known of a server that has answered.
    let standbys = facts.standbys.not_asked.as_ref().filter(|_| facts.standbys.hidden == 0);
    let not_asked = facts.wal.as_ref().and_then(|wal| wal.not_asked.as_ref()).or(standbys);
    let of = format!("postgres {}", facts.instance);
    match not_asked {
        None => daemon.troubles.end_aloud(Some(tenant.as_str()), &of, |_| true),
        Some(why) => daemon.troubles.begin_aloud(Trouble {
            tenant: Some(tenant.to_string()),
            of,
            since: daemon.now(),
            text: why.clone(),
            next: Some("lifeboat doctor".to_owned()),
        }),
    }
    not_asked.is_none()
}
