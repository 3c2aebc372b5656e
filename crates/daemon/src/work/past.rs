//! What happened while nobody here was looking: found in evidence, because the state is only a cache.

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_engine::record;
use lifeboat_evidence::{Act, act::Policy};
use lifeboat_model::{
    check::Outcome,
    id::{Instance, Tenant},
};

use crate::{Daemon, Result, error::with_causes, job::Job, look, runner::Ended};

/// Asks what really happened.
#[async_trait]
pub trait Past: Send + Sync {
    /// Puts runs that evidence tells of, and the state does not know, into the state: after the state was wiped, or when
    /// another daemon was at work for the tenant before. Asked before anything is begun for the tenant.
    ///
    /// # Errors
    /// The repository cannot be read. It is asked again; until then nothing is begun for the tenant.
    async fn recall(&self, daemon: &Daemon, tenant: &Tenant) -> Result<()>;

    /// What became of a run whose end nobody saw; none: it did not come to an end.
    ///
    /// # Errors
    /// As for [`recall`](Self::recall).
    async fn happened(&self, daemon: &Daemon, job: &Job) -> Result<Option<Ended>>;

    /// Has the ledger tell of a run that came to an end, and whose command leaves no statement of its own.
    ///
    /// # Errors
    /// As for [`recall`](Self::recall).
    async fn keep_run(&self, daemon: &Daemon, job: &Job, outcome: Outcome, started: Timestamp) -> Result<()>;

    /// Has the ledger say which policies count for a tenant.
    ///
    /// # Errors
    /// As for [`recall`](Self::recall).
    async fn keep_policy(&self, daemon: &Daemon, tenant: &Tenant, policy: Policy) -> Result<()>;

    /// A run has changed how an instance is: its facts are looked up again.
    async fn changed(&self, daemon: &Daemon, tenant: &Tenant, instance: &Instance);
}

/// As it is: evidence in the repository, and the facts of an instance.
pub struct FromEvidence;

#[async_trait]
impl Past for FromEvidence {
    async fn recall(&self, daemon: &Daemon, tenant: &Tenant) -> Result<()> {
        look::recall(daemon, tenant).await
    }

    async fn happened(&self, daemon: &Daemon, job: &Job) -> Result<Option<Ended>> {
        look::happened(daemon, job).await
    }

    async fn keep_run(&self, daemon: &Daemon, job: &Job, outcome: Outcome, started: Timestamp) -> Result<()> {
        let context = daemon.context(&job.tenant).await?;
        let act = look::act_of(job, outcome, started);
        let (key, _) = record::keep_act(&context, job.instance.as_ref(), started, outcome, act).await?;
        daemon.state.set_evidence(job.run, key.as_str()).await
    }

    async fn keep_policy(&self, daemon: &Daemon, tenant: &Tenant, policy: Policy) -> Result<()> {
        let context = daemon.context(tenant).await?;
        record::keep_act(&context, None, daemon.now(), Outcome::Passed, Act::Policy(policy)).await?;
        Ok(())
    }

    async fn changed(&self, daemon: &Daemon, tenant: &Tenant, instance: &Instance) {
        if let Err(error) = look::once(daemon, tenant, instance).await {
            tracing::info!(%tenant, %instance, error = %with_causes(&error), "the facts of an instance cannot be looked up now");
        }
    }
}
