//! `lifeboat key`: make key files, show public parts, check what the configuration names.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Session;
use crate::{
    checks::{self, Findings},
    exit::Exit,
    failure::Result,
    keyfile::{self, KeyInFile, KeyKind, NewKey},
    output::{Answer, Page},
    wire,
};

/// Make keys, show their public parts, check them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct KeyCommand {
    #[command(subcommand)]
    verb: KeyVerb,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat key generate recovery --out /media/key/recovery.identity
  lifeboat key show /media/key/recovery.identity   its public part, for keys.recovery_recipients
  lifeboat key check                               the keys that the configuration names";

#[derive(Debug, Subcommand)]
enum KeyVerb {
    Generate(Generate),
    Show(Show),
    /// Check the keys that the configuration names
    Check,
}

/// Make a key file (mode 0600); never writes over one
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat key generate recovery --out recovery-2.identity   a second recovery identity, for another safe place
  lifeboat key generate host --out /etc/lifeboat/keys/host.identity
  lifeboat key generate signing --out /etc/lifeboat/keys/signing.key")]
struct Generate {
    /// What the key is for
    kind: KeyKind,
    /// The new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Show what kind of key a file holds, and its public part
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lifeboat key show /etc/lifeboat/keys/signing.key")]
struct Show {
    /// A key file
    file: PathBuf,
}

#[derive(Serialize)]
struct Generated {
    kind: KeyKind,
    file: PathBuf,
    public: String,
    next: &'static str,
}

impl Answer for Generated {
    const SCHEMA: &'static str = "lifeboat.key-generate/1";

    fn text(&self, page: &mut Page) {
        page.field("file", self.file.display());
        page.field("public part", &self.public);
        page.gap();
        page.line(self.next);
    }
}

#[derive(Serialize)]
struct Shown {
    /// `age-identity` or `signing-key`.
    kind: &'static str,
    file: PathBuf,
    public: String,
}

impl Answer for Shown {
    const SCHEMA: &'static str = "lifeboat.key-show/1";

    fn text(&self, page: &mut Page) {
        page.line(&self.public);
    }
}

#[derive(Serialize)]
struct Checked {
    config: PathBuf,
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
    pub fn run(self, session: &Session) -> Result<Exit> {
        match self.verb {
            KeyVerb::Generate(verb) => verb.run(session),
            KeyVerb::Show(verb) => verb.run(session),
            KeyVerb::Check => check(session),
        }
    }
}

impl Generate {
    fn run(self, session: &Session) -> Result<Exit> {
        let key = NewKey::generate(self.kind, session.now())?;
        key.write(&self.out)?;
        let next = match self.kind {
            KeyKind::Recovery => {
                "Next: add the public part to keys.recovery_recipients (new backups are sealed to it as well), put copies of\n\
                 the file in safe places off this machine, and remove it here."
            }
            KeyKind::Host => "Next: name the file in keys.host_identity_file.",
            KeyKind::Signing => {
                "Next: name the file in keys.signing_key_file and add the public part to keys.trusted_keys here and wherever\n\
                 evidence is verified. Keep the old public parts there: they vouch for what was signed before."
            }
        };
        session.output.show(&Generated { kind: self.kind, file: self.out, public: key.public, next })?;
        Ok(Exit::Ok)
    }
}

impl Show {
    fn run(self, session: &Session) -> Result<Exit> {
        let (kind, public) = match keyfile::read(&self.file)? {
            KeyInFile::Identity(identity) => ("age-identity", identity.recipient().to_string()),
            KeyInFile::Signing(key) => ("signing-key", key.public().to_string()),
        };
        session.output.show(&Shown { kind, file: self.file, public })?;
        Ok(Exit::Ok)
    }
}

fn check(session: &Session) -> Result<Exit> {
    let loaded = wire::load_config(session)?;
    let findings = checks::keys::look(&loaded.config.keys);
    let exit = if findings.exit() == Exit::Ok { Exit::Ok } else { Exit::Key };
    session.output.show(&Checked { config: loaded.file, findings })?;
    Ok(exit)
}
