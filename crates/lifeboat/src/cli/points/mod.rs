//! `lifeboat points`: which recovery points there are, what they hold, and the names of their files. Needs no recovery
//! identity: headers are public and signed, listings open with the host's own identity.

use clap::{Args, Subcommand};

use super::Session;
use crate::{exit::Exit, failure::Result};

mod files;
mod hold;
mod list;
mod locks;
mod show;
mod windows;

pub use files::Part;

/// List recovery points, show one, list its files; show which moments can be reached; hold and release
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PointsCommand {
    #[command(subcommand)]
    verb: PointsVerb,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat points list
  lifeboat points show clinic latest
  lifeboat points files clinic latest --part filestore --under odoo/ab
  lifeboat points windows clinic
  lifeboat points hold 3fa9 --reason \"case 12/2026\"";

#[derive(Debug, Subcommand)]
enum PointsVerb {
    List(list::List),
    Show(show::Show),
    Files(files::Files),
    Windows(windows::Windows),
    Hold(hold::Hold),
    Release(hold::Release),
}

impl PointsCommand {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        match self.verb {
            PointsVerb::List(verb) => verb.run(session).await,
            PointsVerb::Show(verb) => verb.run(session).await,
            PointsVerb::Files(verb) => verb.run(session).await,
            PointsVerb::Windows(verb) => verb.run(session).await,
            PointsVerb::Hold(verb) => verb.run(session).await,
            PointsVerb::Release(verb) => verb.run(session).await,
        }
    }
}
