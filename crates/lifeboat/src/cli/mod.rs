//! The command line: a file a verb. A verb parses its arguments, calls one function of the engine or the drill, and shows
//! the answer; what the answer looks like stands beside it.

use std::{path::PathBuf, sync::Arc};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use lifeboat_engine::context::{Clock, Initiator};
use lifeboat_model::{config::LimitsConfig, size::ByteRate};
use tokio_util::sync::CancellationToken;

use crate::{exit::Exit, failure::Result, log::Voice, output::Output};

mod backup;
mod config;
mod copy;
mod daemon;
mod doctor;
pub mod drill;
mod dump;
mod evidence;
mod export;
mod extract;
mod find;
mod folder;
pub mod identity;
mod import;
mod incident;
mod init;
mod key;
mod kit;
mod moment;
mod notify;
pub mod place;
mod points;
mod prune;
mod remote;
mod repo;
mod restore;
mod runbook;
mod schedule;
mod settings;
mod status;
mod token;
mod verify;
mod wal;
mod witness;

/// Backs up live Odoo systems and proves that they come back.
///
/// A recovery point holds database, filestore and configuration of one instance, encrypted and signed. A drill restores
/// it into a sandbox, checks it rung by rung and leaves signed evidence with measured RPO and RTO.
#[derive(Debug, Parser)]
#[command(name = "lifeboat", bin_name = "lifeboat", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat init                          write lifeboat.toml and make keys
  lifeboat doctor                        check every precondition
  lifeboat backup clinic                 make a recovery point
  lifeboat wal stream clinic             hold every commit within seconds
  lifeboat drill clinic                  prove that it comes back
  lifeboat restore clinic --point latest --to /srv/restore
  lifeboat status                        protected, at risk or unprotected
  lifeboat daemon                        all of this by schedules, with pages, API and alerts

Exit codes (docs/exit-codes.md):
  0 ok, 1 failed, 2 usage, 3 config, 4 check failed, 5 incomplete, 6 not found, 7 busy, 8 key,
  10 unavailable (try again), 11 full, 130 interrupted";

/// Options that every command has.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Configuration file [default: ./lifeboat.toml, then /etc/lifeboat/lifeboat.toml]
    #[arg(long, value_name = "FILE", env = "LIFEBOAT_CONFIG", hide_env_values = true, global = true)]
    #[arg(help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Print one JSON document on standard output instead of text
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Errors only: no progress, no warnings
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub quiet: bool,
    /// Say more on standard error; repeat for more
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
    /// Form of what is said on standard error
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", global = true, help_heading = "Global options")]
    pub log_format: LogFormat,
    #[command(flatten)]
    pub remote: remote::DaemonArgs,
    #[command(flatten)]
    pub child: Child,
}

/// What the daemon says to the runs that it starts.
#[derive(Debug, Clone, Default, Args)]
pub struct Child {
    /// Why this was started, for evidence; what is printed is for people who may not see what is inside a backup
    #[arg(long, value_name = "TEXT", global = true, hide = true, value_parser = started_by)]
    pub started_by: Option<String>,
    /// Stop and tear down when standard input ends: whoever started this is gone
    #[arg(long, global = true, hide = true)]
    pub until_stdin_closes: bool,
    /// Hold a lock on this file for as long as the process lives
    #[arg(long, value_name = "FILE", global = true, hide = true)]
    pub alive_file: Option<PathBuf>,
    /// Leave the processor to others so much
    #[arg(long, value_name = "N", global = true, hide = true, value_parser = clap::value_parser!(u8).range(0..=19))]
    pub nice: Option<u8>,
    /// Send no more than this to repositories
    #[arg(long, value_name = "RATE", global = true, hide = true)]
    pub upload_limit: Option<ByteRate>,
    /// Fetch no more than this from repositories
    #[arg(long, value_name = "RATE", global = true, hide = true)]
    pub download_limit: Option<ByteRate>,
}

/// It is kept in evidence for ever, and shown to people.
fn started_by(text: &str) -> std::result::Result<String, String> {
    if text.is_empty() || text.chars().count() > 300 {
        return Err("between 1 and 300 characters".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("no control characters, and no line breaks".to_owned());
    }
    Ok(text.to_owned())
}

/// Form of the talk on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Lines and progress bars for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Init(init::Init),
    Config(config::ConfigCommand),
    Key(key::KeyCommand),
    Doctor(doctor::Doctor),
    Backup(backup::Backup),
    Points(points::PointsCommand),
    Restore(restore::Restore),
    #[command(name = "find-corruption")]
    FindCorruption(find::FindCorruption),
    Drill(drill::Drill),
    Dump(dump::Dump),
    Export(export::Export),
    Import(import::Import),
    Verify(verify::Verify),
    Copy(copy::Copy),
    Prune(prune::Prune),
    Repo(repo::RepoCommand),
    Wal(wal::WalCommand),
    Witness(witness::WitnessCommand),
    Status(status::Status),
    Schedule(schedule::ScheduleCommand),
    Runbook(runbook::RunbookCommand),
    Incident(incident::IncidentCommand),
    Daemon(daemon::DaemonCommand),
    Runs(remote::RunsCommand),
    Token(token::TokenCommand),
    Notify(notify::NotifyCommand),
    Evidence(evidence::EvidenceCommand),
    Kit(kit::KitCommand),
}

impl Verb {
    /// Whether it may start containers, which read what this program writes by other users than this one.
    pub fn may_start_containers(&self) -> bool {
        matches!(self, Verb::Drill(_) | Verb::Restore(_) | Verb::FindCorruption(_) | Verb::Export(_) | Verb::Import(_))
    }

    /// Whether all of the line is its: what a stream has not stored would be lost, and people wait for a restore.
    pub fn is_urgent(&self) -> bool {
        match self {
            Verb::Restore(_) | Verb::Runbook(_) => true,
            Verb::Wal(verb) => verb.is_stream(),
            _ => false,
        }
    }

    /// Does it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        if session.remote.daemon.is_some() {
            return remote::run(self, &session.remote, session).await;
        }
        match self {
            Verb::Init(verb) => verb.run(session),
            Verb::Config(verb) => verb.run(session),
            Verb::Key(verb) => verb.run(session).await,
            Verb::Doctor(verb) => verb.run(session).await,
            Verb::Backup(verb) => verb.run(session).await,
            Verb::Points(verb) => verb.run(session).await,
            Verb::Restore(verb) => verb.run(session).await,
            Verb::FindCorruption(verb) => verb.run(session).await,
            Verb::Drill(verb) => verb.run(session).await,
            Verb::Dump(verb) => verb.run(session).await,
            Verb::Export(verb) => verb.run(session).await,
            Verb::Import(verb) => verb.run(session).await,
            Verb::Verify(verb) => verb.run(session).await,
            Verb::Copy(verb) => verb.run(session).await,
            Verb::Prune(verb) => verb.run(session).await,
            Verb::Repo(verb) => verb.run(session).await,
            Verb::Wal(verb) => verb.run(session).await,
            Verb::Witness(verb) => verb.run(session).await,
            Verb::Status(verb) => verb.run(session).await,
            Verb::Schedule(verb) => verb.run(session),
            Verb::Runbook(verb) => verb.run(session).await,
            Verb::Incident(verb) => verb.run(session).await,
            Verb::Daemon(verb) => verb.run(session).await,
            Verb::Runs(_) => Err(remote::RunsCommand::without_daemon()),
            Verb::Token(verb) => verb.run(session).await,
            Verb::Notify(verb) => verb.run(session).await,
            Verb::Evidence(verb) => verb.run(session).await,
            Verb::Kit(verb) => verb.run(session).await,
        }
    }
}

/// What a verb needs besides its arguments.
pub struct Session {
    /// `--config`, as given.
    pub config_file: Option<PathBuf>,
    /// Standard output.
    pub output: Output,
    /// Standard error.
    pub voice: Voice,
    /// Cancelled when the run is to stop.
    pub cancel: CancellationToken,
    /// The time. The only clock of the program.
    pub clock: Clock,
    /// The daemon that is asked; none: it is done here.
    pub remote: remote::DaemonArgs,
    /// Whether the end of standard input stops it.
    pub until_stdin_closes: bool,
    /// Why the daemon started this; none: a person did.
    started_by: Option<String>,
    /// The part of the line that the daemon gave it; none: it is not held back at all.
    limits: Option<LimitsConfig>,
}

impl Session {
    /// From the global options; what is urgent has all of the line.
    pub fn new(global: &Global, voice: Voice, cancel: CancellationToken, is_urgent: bool) -> Self {
        let output = Output::new(global.json);
        let (config_file, started_by) = (global.config.clone(), global.child.started_by.clone());
        let (clock, remote): (Clock, _) = (Arc::new(Timestamp::now), global.remote.clone());
        let Child { upload_limit: upload, download_limit: download, .. } = global.child;
        let limits = (!is_urgent).then_some(LimitsConfig { upload, download });
        let until_stdin_closes = global.child.until_stdin_closes;
        Session { config_file, output, voice, cancel, clock, remote, until_stdin_closes, started_by, limits }
    }

    /// Keeps this process to the configured limits and to those that the daemon gave it, from the next store on.
    pub fn keep_to(&self, configured: LimitsConfig) {
        if let Some(given) = self.limits {
            let LimitsConfig { upload, download } = given.and(configured);
            lifeboat_store::throttle::limit_process(upload, download);
        }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Whether the answer goes to the daemon, which shows it to people who may not see what is inside a backup: it is given in
    /// the words of evidence.
    pub fn is_for_others(&self) -> bool {
        self.started_by.is_some()
    }

    /// Who runs this, for evidence; `command` names the verb and the instance, never a secret.
    pub fn initiator(&self, command: &str) -> Initiator {
        let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| {
            format!("uid {}", rustix::process::getuid().as_raw()) // services often have no USER
        });
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let command = match &self.started_by {
            None => command.to_owned(),
            Some(why) => format!("{command} ({why})"),
        };
        Initiator { who: format!("{user}@{host}"), command }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_run_was_started_is_one_short_line() {
        assert_eq!(
            started_by("schedule gold, due 2026-11-22T01:00:00Z").unwrap(),
            "schedule gold, due 2026-11-22T01:00:00Z"
        );
        assert!(started_by(&"é".repeat(300)).is_ok());
        for refused in ["", "a\nb", "\u{1b}[2J", &"x".repeat(301)] {
            assert!(started_by(refused).is_err(), "{refused:?}");
        }
    }
}
