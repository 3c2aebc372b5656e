//! `lifeboat repo`: what the place of the backups keeps, and what each credential must be allowed there.

use clap::{Args, Subcommand};

use super::Session;
use crate::{exit::Exit, failure::Result};

mod check;
mod policy;

/// Try out what the storage keeps, or print the rights that each role needs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RepoCommand {
    #[command(subcommand)]
    verb: RepoVerb,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat repo check                            does Object Lock hold here, truly
  lifeboat repo check --repository offsite
  lifeboat repo policy --role writer             for the credential of this host";

#[derive(Debug, Subcommand)]
enum RepoVerb {
    Check(check::Check),
    Policy(policy::Policy),
}

impl RepoCommand {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        match self.verb {
            RepoVerb::Check(verb) => verb.run(session).await,
            RepoVerb::Policy(verb) => verb.run(session),
        }
    }
}
