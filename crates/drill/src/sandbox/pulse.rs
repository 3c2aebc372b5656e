//! Whether the engine, and what it keeps running for this drill, is still there.
//!
//! An engine that is stopped or restarted takes every container with it, and from the outside that looks like a PostgreSQL that
//! crashed on bad data. So the engine is asked beside the climb, once a second. When it is lost, what failed since it was last seen
//! says nothing of the backup: it was not executed.

use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use lifeboat_model::id::RunId;
use tokio::time::timeout;

use super::{Docker, LABEL};

/// How often it is asked.
const BEAT: Duration = Duration::from_secs(1);

/// How long one answer may take on a host that has much to do.
const ANSWER: Duration = Duration::from_secs(20);

/// So many times without an answer, and it is lost.
const MISSED: usize = 3;

/// How long a drill that lost its engine waits for its return, to clean up by itself.
const RETURN: Duration = Duration::from_secs(120);

/// What happened, for the report.
pub(crate) const LOST: &str = "the Docker engine went away, was restarted, or ended a container of the sandbox while the drill ran: \
                               it says nothing of the backup; run the drill again";

/// The engine of one drill.
#[derive(Default)]
pub(crate) struct Pulse {
    docker: OnceLock<Docker>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// When everything was last there.
    at: Option<Instant>,
    /// How many containers there were at most.
    containers: usize,
}

impl Pulse {
    /// From now on there is an engine to ask.
    pub fn watch(&self, docker: &Docker) {
        let _ = self.docker.set(docker.clone());
        self.seen().at = Some(Instant::now());
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When everything was last there.
    pub fn last(&self) -> Option<Instant> {
        self.seen().at
    }

    /// Comes back when the engine or a container of the drill is lost.
    pub async fn lost(&self, run: RunId) {
        let mut missed = 0;
        while missed < MISSED {
            tokio::time::sleep(BEAT).await;
            missed = match self.ask(run).await {
                Some(true) | None => 0,
                Some(false) => missed + 1,
            };
        }
    }

    /// Whether everything is there now, asked again before it is denied.
    pub async fn is_lost(&self, run: RunId) -> bool {
        for _ in 0..MISSED {
            if self.ask(run).await != Some(false) {
                return false;
            }
            tokio::time::sleep(BEAT / 4).await;
        }
        true
    }

    /// None as long as there is no engine to ask.
    async fn ask(&self, run: RunId) -> Option<bool> {
        let docker = self.docker.get()?;
        let asked = Instant::now();
        let states = timeout(ANSWER, docker.states(&format!("{LABEL}={run}"))).await;
        let Ok(Ok(states)) = states else { return Some(false) };
        let mut seen = self.seen();
        let living = states.iter().filter(|state| !matches!(state.as_str(), "exited" | "dead" | "removing")).count();
        let is_whole = living == states.len() && living >= seen.containers;
        if is_whole {
            *seen = Seen { at: Some(asked), containers: living };
        }
        Some(is_whole)
    }

    /// Waits until the engine answers again, but not for ever.
    pub async fn back(&self, run: RunId) {
        let Some(docker) = self.docker.get() else { return };
        let answers = async {
            while !matches!(timeout(ANSWER, docker.states(&format!("{LABEL}={run}"))).await, Ok(Ok(_))) {
                tokio::time::sleep(BEAT).await;
            }
        };
        if timeout(RETURN, answers).await.is_err() {
            tracing::warn!("the Docker engine did not come back: the next drill removes what is left");
        }
    }
}
