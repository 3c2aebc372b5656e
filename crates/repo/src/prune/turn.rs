//! Turns with the instance's lease: short, so that a backup which meets a prune waits for seconds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    lease::{Claim, Purpose},
    progress::Progress,
    repository::InstanceRepo,
};

/// How long a turn lasts; the batch that is under way when it ends is finished.
const TURN: Duration = Duration::from_secs(15);
/// Between two turns: longer than a writer that waits sleeps between two tries.
const PAUSE: Duration = Duration::from_secs(3);
/// No delete begins later than this after the lease was taken. It lives twice as long without renewal, so that a process
/// which was stopped meanwhile does not go on where another has the lease.
const LATEST: Duration = Duration::from_secs(60);

/// Whether this run may remove what a writer could use.
#[derive(Debug, Clone)]
pub(super) enum May {
    /// Up to this moment. `fresh`: a turn has just begun, so that points may have come since.
    Until { latest: Instant, fresh: bool },
    /// Not in this run: somebody has the lease.
    Wait(String),
}

pub(super) struct Turn {
    repo: InstanceRepo,
    software: String,
    now: jiff::Timestamp,
    progress: Arc<dyn Progress>,
    held: Option<(Claim, Instant)>,
    turns: u64,
    busy: Option<String>,
}

impl Turn {
    pub fn new(repo: InstanceRepo, options: &super::PruneOptions, progress: Arc<dyn Progress>) -> Self {
        let (software, now) = (options.software.clone(), options.now);
        Self { repo, software, now, progress, held: None, turns: 0, busy: None }
    }

    /// Goes on with the turn, or takes the lease for the next one.
    pub async fn begin(&mut self) -> Result<May> {
        if let Some(busy) = &self.busy {
            return Ok(May::Wait(busy.clone()));
        }
        if let Some((_, began)) = &self.held {
            if began.elapsed() < TURN {
                return Ok(May::Until { latest: *began + LATEST, fresh: false });
            }
            self.end().await?;
        }
        if self.turns > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        self.turns += 1;
        let began = Instant::now();
        match self.repo.claim(Purpose::Prune, &self.software, self.now, self.progress.clone()).await {
            Ok(claim) => {
                self.held = Some((claim, began));
                Ok(May::Until { latest: began + LATEST, fresh: true })
            }
            Err(Error::Busy { what, holder, .. }) => {
                let why = format!("{what} is running: {holder}");
                self.busy = Some(why.clone());
                Ok(May::Wait(why))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives the lease back.
    pub async fn end(&mut self) -> Result<()> {
        match self.held.take() {
            Some((claim, _)) => claim.release().await,
            None => Ok(()),
        }
    }
}
