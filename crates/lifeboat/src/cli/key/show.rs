//! `lifeboat key show`: what a key file holds.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::{
    cli::Session,
    exit::Exit,
    failure::Result,
    keyfile::{self, KeyInFile},
    output::{Answer, Page},
    passphrase::Passphrases,
};

/// Show what kind of key a file holds, and its public part
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lifeboat key show /etc/lifeboat/keys/signing.key")]
pub struct Show {
    /// A key file: of lifeboat, of age, or an SSH private key
    file: PathBuf,
    /// The file's passphrase is the first line of this one, or of /dev/fd/N [default: asked on the terminal]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Shown {
    /// `age-identity` or `signing-key`.
    kind: &'static str,
    file: PathBuf,
    /// The first of `all`.
    public: String,
    /// Of each key in the file.
    all: Vec<String>,
}

impl Answer for Shown {
    const SCHEMA: &'static str = "lifeboat.key-show/1";

    fn text(&self, page: &mut Page) {
        self.all.iter().for_each(|public| page.line(public));
    }
}

impl Show {
    /// Runs it.
    pub fn run(self, session: &Session) -> Result<Exit> {
        let (kind, all) = match keyfile::read(&self.file, &Passphrases::new(self.passphrase_file))? {
            KeyInFile::Identities(found) => {
                ("age-identity", found.iter().map(|identity| identity.recipient().to_string()).collect())
            }
            KeyInFile::Signing(key) => ("signing-key", vec![key.public().to_string()]),
        };
        let public = all.first().cloned().unwrap_or_default();
        session.output.show(&Shown { kind, file: self.file, public, all })?;
        Ok(Exit::Ok)
    }
}
