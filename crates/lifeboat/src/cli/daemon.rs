//! `lifeboat daemon`: everything on its own, until it is stopped.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use clap::Args;
use jiff::Timestamp;
use lifeboat_daemon::{
    Surroundings,
    time::{LONGEST, Time},
};
use rustix::{
    fs::Mode,
    process::{Resource, Rlimit, getrlimit, setrlimit, umask},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

use super::{Session, settings::SettingsArgs};
use crate::{
    exit::Exit,
    failure::{self, Result},
    runner::ProcessRunner,
    supervisor::Supervisor,
    wire,
};

/// Run schedules, streams, API and pages until stopped
///
/// Runs what schedules say, each as a process of its own, streams write-ahead logs, watches every instance, and serves pages,
/// API and metrics. SIGHUP reads the policies again (a change is also seen by itself), SIGTERM stops in order: what runs is
/// torn down. Killed at any moment, it goes on where it was.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DaemonCommand {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Serve here [default: as the settings say, else 127.0.0.1:7420]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat daemon                                       ./lifeboat.toml and schedules/ beside it
  lifeboat daemon --settings /etc/lifeboat/daemon.toml  as schedules/lifeboat-daemon.service does
  lifeboat token create ann --role operator --all-tenants  somebody who may come in

Exit codes: 0 stopped as asked, 3 settings or a policy cannot be used, 7 another daemon has this state folder.";

/// The clock of this host.
struct HostTime;

#[async_trait]
impl Time for HostTime {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep_until(&self, time: Timestamp) {
        let left = Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default();
        tokio::time::sleep(left.min(LONGEST)).await;
    }
}

impl DaemonCommand {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        confine();
        let sources = self.settings.sources(session)?;
        let supervisor = Arc::new(Supervisor::of_environment()?);
        let reload = Arc::new(Notify::new());
        let (ready, alive) = (Arc::clone(&supervisor), Arc::clone(&supervisor));
        let voice = session.voice.clone();
        let surroundings = Surroundings {
            time: Arc::new(HostTime),
            runner: Arc::new(ProcessRunner::new()?),
            lead: Arc::new(lifeboat_daemon::work::Leased),
            past: Arc::new(lifeboat_daemon::work::FromEvidence),
            environment: Arc::new(|name: &str| wire::environment(name)),
            who: session.initiator("lifeboat daemon").who,
            reload: Arc::clone(&reload),
            alive: Arc::new(move || alive.turns()),
            listen: self.listen,
            ready: Arc::new(move |address| {
                ready.ready(&format!("serving on {address}"));
                voice.say(&format!(
                    "serving on {address}; who may come in: lifeboat token create NAME --role operator --all-tenants"
                ));
            }),
        };
        let mut hangup = signal(SignalKind::hangup())?;
        let running = lifeboat_daemon::run(sources, surroundings, session.cancel.clone());
        tokio::pin!(running);
        let mut stops = false;
        let ended = loop {
            tokio::select! {
                ended = &mut running => break ended,
                _ = hangup.recv() => {
                    supervisor.reloads();
                    reload.notify_one();
                }
                () = session.cancel.cancelled(), if !stops => {
                    supervisor.stops();
                    stops = true;
                }
            }
        };
        ended.map_err(failure::of_daemon)?;
        Ok(Exit::Ok)
    }
}

/// What it and its runs write is nobody else's to read; no secret lands in a core file; many connections need many files.
fn confine() {
    umask(Mode::from_raw_mode(0o077));
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "core files cannot be forbidden");
    }
    let files = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}
