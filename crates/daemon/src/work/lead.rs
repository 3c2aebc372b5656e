//! One daemon a tenant's repository. Two may be started on two hosts; one of them works, the other says so and takes over
//! when the first is gone.

use std::sync::Arc;

use async_trait::async_trait;
use lifeboat_engine::{
    context::{Clock, open_for_writing},
    leader,
};
use lifeboat_model::id::Tenant;
use lifeboat_repo::progress::Silent;
use tokio_util::sync::CancellationToken;

use crate::{Daemon, Error, Result, error::with_causes};

/// How the daemon becomes the only one that works for a tenant.
#[async_trait]
pub trait Lead: Send + Sync {
    /// Tries once, and comes back soon. Cancelled, it answers in any way.
    ///
    /// # Errors
    /// The repository cannot be reached, so nobody can tell. It is tried again.
    async fn claim(&self, daemon: &Daemon, tenant: &Tenant, cancel: &CancellationToken) -> Result<Claim>;
}

/// Who works for a tenant.
pub enum Claim {
    /// This daemon, until it gives it back or loses it.
    Ours(Box<dyn Held>),
    /// Another.
    Theirs {
        /// Who, as `lifeboat@backup-2`.
        who: String,
    },
}

/// Being the one that works for a tenant.
#[async_trait]
pub trait Held: Send + Sync {
    /// Comes back when it is lost: no run may go on. The text says how that came.
    async fn lost(&self) -> String;

    /// Gives it back, so that another need not wait for its end.
    async fn give_back(self: Box<Self>);
}

/// Whoever is started leads: for a repository that only one daemon can know of, and for tests.
pub struct Alone;

#[async_trait]
impl Lead for Alone {
    async fn claim(&self, _daemon: &Daemon, _tenant: &Tenant, _cancel: &CancellationToken) -> Result<Claim> {
        Ok(Claim::Ours(Box::new(Alone)))
    }
}

#[async_trait]
impl Held for Alone {
    async fn lost(&self) -> String {
        std::future::pending().await
    }

    async fn give_back(self: Box<Self>) {}
}

/// By a lease in the tenant's repository: one daemon, on whatever host.
pub struct Leased;

#[async_trait]
impl Lead for Leased {
    async fn claim(&self, daemon: &Daemon, tenant: &Tenant, cancel: &CancellationToken) -> Result<Claim> {
        let context = match daemon.context(tenant).await {
            // Who leads makes it: a first backup would wait for the lead, and the lead for it.
            Err(Error::NotOpen { absent: true, .. }) => {
                make(daemon, tenant).await?;
                daemon.context(tenant).await?
            }
            context => context?,
        };
        let claimed = cancel.run_until_cancelled(leader::claim(&context, Arc::new(Silent))).await;
        match claimed {
            None => Ok(Claim::Theirs { who: "nobody: this daemon is about to end".to_owned() }),
            Some(Ok(leader::Answer::Leads(lead))) => Ok(Claim::Ours(Box::new(lead))),
            Some(Ok(leader::Answer::Other(who))) => Ok(Claim::Theirs { who }),
            Some(Err(error)) => Err(error.into()),
        }
    }
}

/// Makes a tenant's repository, and lets the daemon look at it anew.
async fn make(daemon: &Daemon, tenant: &Tenant) -> Result<()> {
    let policies = daemon.policies();
    let Some(site) = policies.sites.get(tenant) else { return Ok(()) };
    let time = Arc::clone(&daemon.surroundings.time);
    let clock: Clock = Arc::new(move || time.now());
    let remark = |words: &str| tracing::warn!(%tenant, "{words}");
    open_for_writing(&site.config, &*daemon.surroundings.environment, &clock, remark).await?;
    tracing::info!(%tenant, "made the repository");
    daemon.reopen(tenant).await;
    Ok(())
}

#[async_trait]
impl Held for leader::Lead {
    async fn lost(&self) -> String {
        match leader::Lead::lost(self, &CancellationToken::new()).await {
            Some(error) => with_causes(&error),
            None => std::future::pending().await,
        }
    }

    async fn give_back(self: Box<Self>) {
        if let Err(error) = self.release().await {
            tracing::info!(error = %with_causes(&error), "the lead could not be given back; it runs out by itself");
        }
    }
}
