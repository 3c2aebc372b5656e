//! A daemon for tests of its parts: one tenant, nothing that is begun, nothing that ever happened.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_evidence::act::Policy;
use lifeboat_model::{
    check::Outcome,
    id::{Instance, Tenant},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Daemon, Result, Sources, Surroundings,
    job::{Job, RunOutcome},
    policies,
    runner::{Ended, How, RunEvent, Runner},
    state::State,
    time::{LONGEST, Time},
    work::{Alone, Past},
};

/// One tenant with one instance, in a tier.
pub(crate) const CONFIG: &str = r#"tenant = "acme"
[repository]
path = "backups"
[keys]
recovery_recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]
host_identity_file = "host.age"
signing_key_file = "signing"
trusted_keys = ["lifeboat-ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw="]
[tiers.gold]
rpo = "15m"
rto = "4h"
[instances.clinic]
tier = "gold"
postgres = { host = "db", user = "lifeboat", databases = ["clinic"], tls = "disable" }
drill = { postgres_image = "postgres:17", odoo_image = "odoo:19" }
[engine]
state_dir = "engine"
"#;

/// In a folder; `alive` is called with each turn of the dispatcher.
pub(crate) fn daemon(folder: &Path, alive: Arc<dyn Fn() + Send + Sync>) -> Arc<Daemon> {
    let config = folder.join("lifeboat.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let sources = Sources { settings: None, config: Some(config) };
    let policies = policies::read(&sources).unwrap();
    let state = State::open(&folder.join("state")).unwrap();
    let surroundings = Surroundings {
        time: Arc::new(Real),
        runner: Arc::new(Nothing),
        lead: Arc::new(Alone),
        past: Arc::new(Nothing),
        environment: Arc::new(|_| None),
        who: "test@parts".to_owned(),
        listen: None,
        ready: Arc::new(|_| {}),
        reload: Arc::default(),
        alive,
    };
    Arc::new(Daemon::new(sources, policies, state, surroundings))
}

struct Real;

#[async_trait]
impl Time for Real {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep_until(&self, time: Timestamp) {
        let left = time.duration_since(self.now()).max(jiff::SignedDuration::ZERO).unsigned_abs();
        tokio::time::sleep(left.min(LONGEST)).await;
    }
}

struct Nothing;

#[async_trait]
impl Runner for Nothing {
    async fn run(&self, _: &Job, _: &How, _: mpsc::Sender<RunEvent>, _: CancellationToken) -> Ended {
        Ended { outcome: RunOutcome::Passed, exit: Some(0), answer: None, reason: None, is_transient: false }
    }

    async fn is_alive(&self, _: &Job, _: &How) -> bool {
        false
    }
}

#[async_trait]
impl Past for Nothing {
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
