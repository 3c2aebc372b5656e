//! `lifeboat key`: make key files, show public parts, check, rehearse, rotate and revoke.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Session;
use crate::{
    checks::{self, Findings},
    exit::Exit,
    failure::Result,
    output::{Answer, Page},
    wire,
};

mod edit;
mod generate;
mod rehearse;
mod revoke;
mod rotate;
mod show;
mod status;

/// Make keys, check them, rehearse, rotate and revoke them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct KeyCommand {
    #[command(subcommand)]
    verb: KeyVerb,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat key generate recovery --passphrase --out /media/key/recovery.identity
  lifeboat key show /media/key/recovery.identity   its public part, for keys.recovery_recipients
  lifeboat key check                               the keys that the configuration names
  lifeboat key rehearse --name \"safe at the bank\" --identity /media/key/recovery.identity
  lifeboat key status                              who can open what, and when that was last tried

The key ceremony, step by step: docs/keys.md";

#[derive(Debug, Subcommand)]
enum KeyVerb {
    Generate(generate::Generate),
    Show(show::Show),
    /// Check the keys that the configuration names
    Check,
    Rehearse(rehearse::Rehearse),
    Status(status::Status),
    Rotate(rotate::Rotate),
    Revoke(revoke::Revoke),
}

#[derive(Serialize)]
struct Checked {
    config: std::path::PathBuf,
    findings: Findings,
}

impl Answer for Checked {
    const SCHEMA: &'static str = "lifeboat.key-check/1";

    fn text(&self, page: &mut Page) {
        self.findings.text(page);
    }
}

impl KeyCommand {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        match self.verb {
            KeyVerb::Generate(verb) => verb.run(session),
            KeyVerb::Show(verb) => verb.run(session),
            KeyVerb::Check => check(session),
            KeyVerb::Rehearse(verb) => verb.run(session).await,
            KeyVerb::Status(verb) => verb.run(session).await,
            KeyVerb::Rotate(verb) => verb.run(session).await,
            KeyVerb::Revoke(verb) => verb.run(session).await,
        }
    }
}

fn check(session: &Session) -> Result<Exit> {
    let loaded = wire::load_config(session)?;
    let findings = checks::keys::look(&loaded.config.keys);
    let exit = if findings.exit() == Exit::Ok { Exit::Ok } else { Exit::Key };
    session.output.show(&Checked { config: loaded.file, findings })?;
    Ok(exit)
}
