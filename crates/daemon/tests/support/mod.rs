//! What several of the daemon's test binaries need.

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_daemon::{Daemon, Result, job::Job, runner::Ended, work::Past};
use lifeboat_evidence::act::Policy;
use lifeboat_model::{
    check::Outcome,
    id::{Instance, Tenant},
};

/// Nothing ever happened, and nothing is kept.
pub struct NoPast;

#[async_trait]
impl Past for NoPast {
    async fn recall(&self, _: &Daemon, _: &Tenant) -> Result<()> {
        Ok(())
    }

    async fn happened(&self, _: &Daemon, _: &Job) -> Result<Option<Ended>> {
        Ok(None)
    }

    async fn keep_run(&self, _: &Daemon, _: &Job, _: Outcome, _: Timestamp) -> Result<()> {
        Ok(())
    }

    async fn keep_policy(&self, _: &Daemon, _: &Tenant, _: Policy) -> Result<()> {
        Ok(())
    }

    async fn changed(&self, _: &Daemon, _: &Tenant, _: &Instance) {}
}
