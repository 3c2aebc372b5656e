//! `lifeboat evidence`: what was done and measured, signed. Verification works offline from files and public keys alone.

use std::{fs::File, io::Read as _, path::Path};

use clap::{Args, Subcommand};
use lifeboat_evidence::envelope::MAX_BYTES;
use lifeboat_model::signature::PublicKey;

use super::Session;
use crate::{
    exit::Exit,
    failure::{Advise as _, Result},
    wire,
};

mod audited;
mod export;
mod journals;
mod ledger;
mod list;
mod report;
mod show;
mod sign_off;
mod verify;

/// List, show and verify signed statements of backups and drills
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct EvidenceCommand {
    #[command(subcommand)]
    verb: EvidenceVerb,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat evidence list clinic
  lifeboat evidence show 06060606                the statement of a run
  lifeboat evidence sign-off 06060606 --role owner --comment \"seen\"
  lifeboat evidence report --from 2026-07-01 --to 2026-09-30 --output q3.html
  lifeboat evidence verify                       everything in the repository, and its ledger
  lifeboat evidence export --to evidence-2026    for an auditor, who checks it offline
  lifeboat evidence verify *.dsse.json --key lifeboat-ed25519:…   offline, without configuration";

#[derive(Debug, Subcommand)]
enum EvidenceVerb {
    List(list::List),
    Show(show::Show),
    SignOff(sign_off::SignOff),
    Report(report::ReportCommand),
    Verify(verify::Verify),
    Export(export::Export),
    Ledger(ledger::Ledger),
}

impl EvidenceCommand {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        match self.verb {
            EvidenceVerb::List(verb) => verb.run(session).await,
            EvidenceVerb::Show(verb) => verb.run(session).await,
            EvidenceVerb::SignOff(verb) => verb.run(session).await,
            EvidenceVerb::Report(verb) => verb.run(session).await,
            EvidenceVerb::Verify(verb) => verb.run(session).await,
            EvidenceVerb::Export(verb) => verb.run(session).await,
            EvidenceVerb::Ledger(verb) => verb.run(session).await,
        }
    }
}

/// The keys to believe: those given, else those of the configuration.
fn trusted(session: &Session, given: &[PublicKey]) -> Result<Vec<PublicKey>> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let loaded = wire::load_config(session).hint("name the public key with --key, then no configuration is needed")?;
    Ok(loaded.config.keys.trusted_keys)
}

/// Reads a file of evidence; a longer one than evidence can be is cut, and then refused by the verifier.
fn read_envelope(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
    read.context(format!("cannot read {}", path.display()))?;
    Ok(bytes)
}
