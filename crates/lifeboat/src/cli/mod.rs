//! The command line: a file a verb. A verb parses its arguments, calls one function of the engine or the drill, and shows
//! the answer; what the answer looks like stands beside it.

use std::{path::PathBuf, sync::Arc};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use lifeboat_engine::context::{Clock, Initiator};
use tokio_util::sync::CancellationToken;

use crate::{exit::Exit, failure::Result, log::Voice, output::Output};

mod backup;
mod config;
mod copy;
mod doctor;
mod drill;
mod dump;
mod evidence;
mod export;
mod extract;
pub mod identity;
mod import;
mod init;
mod key;
mod moment;
mod place;
mod points;
mod prune;
mod repo;
mod restore;
mod status;
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
    Evidence(evidence::EvidenceCommand),
}

impl Verb {
    /// Does it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        match self {
            Verb::Init(verb) => verb.run(session),
            Verb::Config(verb) => verb.run(session),
            Verb::Key(verb) => verb.run(session).await,
            Verb::Doctor(verb) => verb.run(session).await,
            Verb::Backup(verb) => verb.run(session).await,
            Verb::Points(verb) => verb.run(session).await,
            Verb::Restore(verb) => verb.run(session).await,
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
            Verb::Evidence(verb) => verb.run(session).await,
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
}

impl Session {
    /// From the global options.
    pub fn new(global: &Global, voice: Voice, cancel: CancellationToken) -> Self {
        let output = Output::new(global.json);
        Session { config_file: global.config.clone(), output, voice, cancel, clock: Arc::new(Timestamp::now) }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Who runs this, for evidence; `command` names the verb and the instance, never a secret.
    pub fn initiator(&self, command: &str) -> Initiator {
        let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| {
            format!("uid {}", rustix::process::getuid().as_raw()) // services often have no USER
        });
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Initiator { who: format!("{user}@{host}"), command: command.to_owned() }
    }
}
