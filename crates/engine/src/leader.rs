//! One daemon at a time carries out a tenant's schedules, whatever hosts they run on: who holds the lease in the repository.
//!
//! The lease only spares work and noise. Should two daemons ever both believe to lead, the leases of the instances still keep
//! their backups apart.

use std::{sync::Arc, time::Duration};

use lifeboat_repo::{lease::Claim, progress::Progress};
use tokio_util::sync::CancellationToken;

use crate::{
    context::{Context, SOFTWARE},
    error::{Error, Result},
};

/// How often a held lead is looked at: well within the life of a lease.
const LOOK: Duration = Duration::from_secs(45);

/// The lead over a tenant, or who has it.
#[derive(Debug)]
pub enum Answer {
    /// It is ours.
    Leads(Lead),
    /// Somebody else has it: host, process and since when.
    Other(String),
}

/// The lead, held. Given back by [`release`](Lead::release); dropped, it is given back where a runtime is there to do so.
#[derive(Debug)]
pub struct Lead(Claim);

/// Takes the lead over the context's tenant if nobody has it.
///
/// # Errors
/// Those of the store. That somebody else leads is an answer.
pub async fn claim(context: &Context, progress: Arc<dyn Progress>) -> Result<Answer> {
    let (tenant, now) = (&context.config.tenant, (context.clock)());
    match context.repository.lead(tenant, SOFTWARE, now, progress).await {
        Ok(claim) => Ok(Answer::Leads(Lead(claim))),
        Err(lifeboat_repo::Error::Busy { holder, .. }) => Ok(Answer::Other(holder)),
        Err(error) => Err(error.into()),
    }
}

impl Lead {
    /// Comes back when the lead is lost, with the reason; when `cancel` says so, with none. A store that does not answer for a
    /// while is borne as long as the lease lives, and not a moment longer: then another daemon may take it.
    pub async fn lost(&self, cancel: &CancellationToken) -> Option<Error> {
        while cancel.run_until_cancelled(tokio::time::sleep(LOOK.min(self.0.left()))).await.is_some() {
            // A lease that has outlived its time is lost at once, without asking anybody.
            let looked = tokio::time::timeout(self.0.left(), self.0.recheck());
            match cancel.run_until_cancelled(looked).await? {
                Ok(Err(error @ lifeboat_repo::Error::LeaseLost { .. })) => return Some(error.into()),
                Ok(Err(error)) => tracing::debug!(%error, "the lead could not be looked at, trying again"),
                Ok(Ok(())) | Err(_) => {}
            }
        }
        None
    }

    /// Gives it back, so that another need not wait for its end.
    pub async fn release(self) -> Result<()> {
        Ok(self.0.release().await?)
    }
}
