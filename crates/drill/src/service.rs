//! Containers that are not a drill's: a runbook starts and stops them by name, as a person would.
//!
//! Nothing is made and nothing removed here.

use std::time::Duration;

use bollard::{
    Docker as Engine,
    models::{ContainerState, HealthStatusEnum},
    query_parameters::{LogsOptionsBuilder, StopContainerOptionsBuilder},
};
use futures::StreamExt as _;

use crate::{
    error::{Error, Result},
    sandbox::Docker,
};

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It runs, and is healthy where it can say so.
    Up,
    /// It runs, and is not healthy yet.
    ComingUp,
    /// It does not run.
    Down,
}

/// The containers of an engine.
pub struct Containers {
    engine: Engine,
}

impl Containers {
    /// Connects; none: the usual socket.
    pub async fn connect(address: Option<&str>) -> Result<Containers> {
        Ok(Containers { engine: Docker::connect(address).await?.into_engine() })
    }

    /// What it does now; one that does not exist is an error.
    pub async fn look(&self, name: &str) -> Result<Condition> {
        let found = self.engine.inspect_container(name, None).await;
        let found = found.map_err(Error::docker(format!("look at container {name}")))?;
        Ok(found.state.as_ref().map_or(Condition::Down, condition))
    }

    /// Starts it, unless it runs.
    pub async fn start(&self, name: &str) -> Result<()> {
        self.engine.start_container(name, None).await.map_err(Error::docker(format!("start container {name}")))
    }

    /// Stops it, unless it is stopped; what does not end within the grace is killed.
    pub async fn stop(&self, name: &str, grace: Duration) -> Result<()> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        // The engine answers when it has stopped: later than a connection waits by itself.
        let patient = self.engine.clone().with_timeout(grace.saturating_add(Duration::from_secs(60)));
        patient.stop_container(name, Some(options)).await.map_err(Error::docker(format!("stop container {name}")))
    }

    /// The end of its log.
    pub async fn last_words(&self, name: &str) -> Result<String> {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail("5").build();
        let mut lines = self.engine.logs(name, Some(options)).take(20);
        let mut words = Vec::new();
        while let Some(line) = lines.next().await {
            words.push(line.map_err(Error::docker(format!("read the log of {name}")))?.to_string().trim().to_owned());
        }
        Ok(words.join(" | "))
    }
}

fn condition(state: &ContainerState) -> Condition {
    if state.running != Some(true) {
        return Condition::Down;
    }
    match state.health.as_ref().and_then(|health| health.status) {
        None | Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE | HealthStatusEnum::HEALTHY) => Condition::Up,
        Some(HealthStatusEnum::STARTING | HealthStatusEnum::UNHEALTHY) => Condition::ComingUp,
    }
}
