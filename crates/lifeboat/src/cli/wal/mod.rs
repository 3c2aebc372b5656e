//! `lifeboat wal`: the write-ahead log between base backups. Streamed, looked after, checked.

use clap::{Args, Subcommand};
use lifeboat_engine::{context::Context, context::connect_options};
use lifeboat_model::{config::WalConfig, id::Instance};
use lifeboat_postgres::ConnectOptions;

use super::Session;
use crate::{exit::Exit, failure::Result, wire};

mod check;
mod drop_slot;
mod status;
mod stream;

/// Hold the last commit in the repository within seconds
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct WalCommand {
    #[command(subcommand)]
    verb: WalVerb,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat wal stream clinic             until it is stopped: run it as a service
  lifeboat wal status                    what would be lost now, and what the slots hold back
  lifeboat wal check                     is the log held without a gap";

#[derive(Debug, Subcommand)]
enum WalVerb {
    Stream(stream::Stream),
    Status(status::Status),
    Check(check::Check),
    DropSlot(drop_slot::DropSlot),
}

impl WalCommand {
    /// Whether it streams.
    pub fn is_stream(&self) -> bool {
        matches!(self.verb, WalVerb::Stream(_))
    }

    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        match self.verb {
            WalVerb::Stream(verb) => verb.run(session).await,
            WalVerb::Status(verb) => verb.run(session).await,
            WalVerb::Check(verb) => verb.run(session).await,
            WalVerb::DropSlot(verb) => verb.run(session).await,
        }
    }
}

/// How to reach an instance's server, and what is configured for its log.
fn server<'a>(context: &'a Context, instance: &Instance) -> Result<(ConnectOptions, &'a WalConfig)> {
    let (_, config) = context.instance(instance.as_str())?;
    Ok((connect_options(&config.postgres, &wire::environment)?, &config.postgres.wal))
}
