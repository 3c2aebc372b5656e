//! The daemon under test, without API and pages: a process that can be killed.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_daemon::{
    Daemon, Error, Result, Sources, Surroundings,
    job::{Because, Job, RunOutcome},
    policies,
    runner::Ended,
    state::State,
    work::{self, Alone, Claim, Held, Lead, Past},
};
use lifeboat_evidence::act::Policy;
use lifeboat_model::{
    check::Outcome,
    id::{Instance, Tenant},
};
use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{
    clock::Clock,
    effects,
    worker::Workers,
    world::{self, LOG},
};

/// `name` tells daemons of one folder apart: each has its settings `<name>.toml`.
pub fn main(folder: &Path, name: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(daemon(folder, name));
}

async fn daemon(folder: &Path, name: &str) {
    let clock = Clock::read(folder);
    let (cancel, rest) = (CancellationToken::new(), CancellationToken::new());
    let (mut stop, asked) = (signal(SignalKind::terminate()).unwrap(), cancel.clone());
    tokio::spawn(async move {
        stop.recv().await;
        asked.cancel();
    });
    if name == "whole" {
        return super::idle::whole(folder, clock, cancel).await;
    }
    let sources = Sources { settings: Some(folder.join(format!("{name}.toml"))), config: None };
    let policies = policies::read(&sources).unwrap();
    let state_dir = policies.settings.state_dir.clone();
    let mut tries = 0;
    let state = loop {
        match State::open(&state_dir) {
            // As the daemon itself does it: a killed one's lock lives on for a moment in a run that it was about to begin.
            Err(Error::Busy { .. }) if tries < 20 => tries += 1,
            Err(Error::Busy { .. }) => return println!("busy"),
            state => break state.unwrap(),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    std::fs::create_dir_all(state_dir.join("runs")).unwrap();
    let surroundings = surroundings(folder, name, clock);
    let daemon = Arc::new(Daemon::new(sources, policies, state, surroundings));
    let told = tokio::spawn(tell(Arc::clone(&daemon), world::troubles(folder, name)));
    let follows = tokio::spawn(work::follow_policies(Arc::clone(&daemon), rest.clone()));
    work::run(daemon, cancel).await;
    rest.cancel();
    follows.await.unwrap();
    told.abort();
}

/// Troubles, where the test can read them.
async fn tell(daemon: Arc<Daemon>, file: std::path::PathBuf) {
    loop {
        let all = daemon.troubles.all();
        let lines: Vec<String> = all.iter().map(|trouble| format!("{}: {}\n", trouble.of, trouble.text)).collect();
        std::fs::write(&file, lines.concat()).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

pub fn surroundings(folder: &Path, name: &str, clock: Clock) -> Surroundings {
    let log = folder.join(LOG);
    let lead: Arc<dyn Lead> = if folder.join("lead").exists() {
        Arc::new(Flag { file: folder.join("lead"), who: name.to_owned() })
    } else {
        Arc::new(Alone)
    };
    Surroundings {
        time: Arc::new(clock),
        runner: Arc::new(Workers { log: log.clone(), clock }),
        lead,
        past: Arc::new(Log { log, clock }),
        environment: Arc::new(|_| None),
        who: "test@day".to_owned(),
        listen: None,
        ready: Arc::new(|_| {}),
        reload: Arc::default(),
        alive: Arc::new(|| {}),
    }
}

/// Evidence: what the processes wrote down.
struct Log {
    log: std::path::PathBuf,
    clock: Clock,
}

fn passed() -> Ended {
    Ended { outcome: RunOutcome::Passed, exit: Some(0), answer: None, reason: None, is_transient: false }
}

#[async_trait]
impl Past for Log {
    async fn recall(&self, daemon: &Daemon, tenant: &Tenant) -> Result<()> {
        for effect in effects::read(&self.log).into_values() {
            let (Some((ended, how)), Ok(due)) = (&effect.ended, effect.key.due.parse::<Timestamp>()) else { continue };
            if how != "end" {
                continue;
            }
            let policies = daemon.policies();
            let schedules = &policies.sites[tenant].schedules;
            let Some(schedule) = schedules.iter().find(|schedule| schedule.name == effect.key.schedule) else {
                continue;
            };
            let job = Job {
                run: effect.run.parse().unwrap(),
                tenant: tenant.clone(),
                instance: effect.key.instance.parse().ok(),
                verb: schedule.verb.clone(),
                because: Because::Schedule { schedule: effect.key.schedule, due },
            };
            let (began, ended) = (self.clock.of(effect.began), self.clock.of(*ended));
            daemon.state.heard_of(&job, 1, &passed(), began, ended, None).await?;
        }
        Ok(())
    }

    async fn happened(&self, _: &Daemon, job: &Job) -> Result<Option<Ended>> {
        let all = effects::read(&self.log);
        let ended = all.get(&job.run.to_string()).and_then(|effect| effect.ended.clone());
        Ok(ended.filter(|(_, how)| how == "end").map(|_| passed()))
    }

    async fn keep_run(&self, _: &Daemon, _: &Job, _: Outcome, _: Timestamp) -> Result<()> {
        Ok(())
    }

    async fn keep_policy(&self, _: &Daemon, _: &Tenant, _: Policy) -> Result<()> {
        Ok(())
    }

    async fn changed(&self, _: &Daemon, _: &Tenant, _: &Instance) {}
}

/// A lead that a lock on a file stands for.
struct Flag {
    file: std::path::PathBuf,
    who: String,
}

struct Hand(#[allow(dead_code, reason = "held")] std::fs::File);

#[async_trait]
impl Lead for Flag {
    async fn claim(&self, _: &Daemon, _: &Tenant, _: &CancellationToken) -> Result<Claim> {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&self.file).unwrap();
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(Claim::Theirs { who: std::fs::read_to_string(&self.file).unwrap() });
        }
        std::fs::write(&self.file, &self.who).unwrap();
        Ok(Claim::Ours(Box::new(Hand(file))))
    }
}

#[async_trait]
impl Held for Hand {
    async fn lost(&self) -> String {
        std::future::pending().await
    }

    async fn give_back(self: Box<Self>) {}
}
