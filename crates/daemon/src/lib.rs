//! The daemon: everything of Lifeboat on its own, every day, and for people to look at.
//!
//! **In:** checked settings, policies and schedules, a [`runner::Runner`] that carries out a run, a [`time::Time`].
//! **Out:** runs at their time, one model of how things are, shown as API, pages, metrics and alerts. **Never here:**
//! arguments, a terminal, reading the environment, doing a backup or a drill itself: a run is a process of its own
//! (decision 0016), the very command that a person would type.
//!
//! Read on: [`policies`] (what was asked for) → [`schedule`] (when that is) → [`work`] (one run at a time where it must be)
//! → [`runner`] → [`state`] (what became of it; a cache) → [`look`] (how each instance is) → [`view`] (one model) →
//! [`api`], [`pages`], [`metrics`], [`notify`].

#![recursion_limit = "256"] // routes of futures within futures are deep types

pub mod daemon;
mod error;
pub mod job;
pub mod policies;
mod runbooks;
pub mod runner;
pub mod time;
mod tls;
pub mod view;

pub mod api;
pub mod auth;
pub mod look;
pub mod metrics;
pub mod notify;
pub mod pages;
pub mod schedule;
pub mod settings;
pub mod state;
mod supervise;
#[cfg(test)]
mod testing;
pub mod work;

use std::{
    fs::DirBuilder,
    net::{SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt as _,
    sync::Arc,
    time::Duration,
};

pub use daemon::{Daemon, Scope, Sources, Surroundings};
pub use error::{Error, Result};
use settings::Settings;
use state::State;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the parts that serve people may take to end, when the work has ended.
const ENDS: Duration = Duration::from_secs(15);
/// How often a state folder that somebody is at work with is tried again, and after how long.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// The daemon, until `cancel` says that it is to end. Then nothing new is begun, short runs may finish, the rest is called off
/// and waited for, and everything is recorded. [`Surroundings::ready`] is called when it is at work.
///
/// # Errors
/// Policies that cannot be used, a state folder that another daemon is at work with, an address that cannot be listened on.
/// Whatever fails later is told, and begun again.
pub async fn run(sources: Sources, surroundings: Surroundings, cancel: CancellationToken) -> Result<()> {
    let prepared = tokio::task::spawn_blocking(move || prepare(sources, surroundings)).await;
    let (daemon, listener, address) = prepared.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    let rest = CancellationToken::new();
    let mut parts = JoinSet::new();
    let keep = |part, begin: fn(Arc<Daemon>, CancellationToken) -> Part| {
        supervise::keep(Arc::clone(&daemon), part, rest.clone(), begin)
    };
    parts.spawn(keep("reading of policies", |daemon, cancel| Box::pin(work::follow_policies(daemon, cancel))));
    parts.spawn(keep("look-out", |daemon, cancel| Box::pin(look::run(daemon, cancel))));
    parts.spawn(keep("notifier", |daemon, cancel| Box::pin(notify::run(daemon, cancel))));
    parts.spawn(supervise::keep(Arc::clone(&daemon), "server", rest.clone(), move |daemon, cancel| {
        serve(daemon, listener.try_clone(), cancel)
    }));
    tracing::info!(%address, tenants = daemon.policies().sites.len(), "at work");
    (daemon.surroundings.ready)(address);
    supervise::keep(Arc::clone(&daemon), "dispatcher", cancel, work::run).await;
    rest.cancel();
    let ended = async { while parts.join_next().await.is_some() {} };
    if tokio::time::timeout(ENDS, ended).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
    Ok(())
}

type Part = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn prepare(sources: Sources, surroundings: Surroundings) -> Result<(Arc<Daemon>, TcpListener, SocketAddr)> {
    let policies = policies::read(&sources)?;
    let Settings { listen, tls, state_dir, .. } = &policies.settings;
    let wanted = surroundings.listen.unwrap_or(*listen);
    if tls.is_none() && !wanted.ip().is_loopback() {
        return Err(Error::Unusable {
            file: sources.settings.unwrap_or_default(),
            problems: vec![format!(
                "{wanted} is not loopback: anybody could read along; add [tls], or listen on 127.0.0.1"
            )],
        });
    }
    let failed = |source| Error::Listen { address: wanted.to_string(), source };
    let state = open(state_dir)?;
    let runs = state_dir.join("runs");
    DirBuilder::new().recursive(true).mode(0o700).create(&runs).map_err(Error::io("cannot make", &runs))?;
    let listener = TcpListener::bind(wanted).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((Arc::new(Daemon::new(sources, policies, state, surroundings)), listener, address))
}

/// A daemon that was killed while it began a run leaves its lock to the run for a moment, until that has become its own program.
fn open(state_dir: &std::path::Path) -> Result<State> {
    for _ in 0..BUSY_TRIES {
        match State::open(state_dir) {
            Err(Error::Busy { .. }) => std::thread::sleep(BUSY_PAUSE),
            opened => return opened,
        }
    }
    State::open(state_dir)
}

async fn serve(daemon: Arc<Daemon>, listener: std::io::Result<TcpListener>, cancel: CancellationToken) {
    let tls = daemon.policies().settings.tls.clone();
    let served = match listener {
        Ok(listener) => api::serve(Arc::clone(&daemon), listener, tls, cancel).await,
        Err(source) => Err(Error::Listen { address: daemon.policies().settings.listen.to_string(), source }),
    };
    if let Err(error) = served {
        tracing::error!("API and pages are not served: {}", error::with_causes(&error));
    }
}
