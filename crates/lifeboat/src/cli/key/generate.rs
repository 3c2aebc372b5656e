//! `lifeboat key generate`: a new key file.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::{
    cli::Session,
    exit::Exit,
    failure::{Failure, Result},
    keyfile::{KeyKind, NewKey},
    output::{Answer, Page},
    passphrase::Passphrases,
};

/// Make a key file (mode 0600); never writes over one
#[derive(Debug, Args)]
#[command(
    visible_alias = "new",
    after_help = "\
Examples:
  lifeboat key generate recovery --out recovery-2.identity   a second recovery identity, for another safe place
  lifeboat key generate recovery --passphrase --out recovery-3.identity   one that a thief of the file cannot use
  lifeboat key generate host --out /etc/lifeboat/keys/host.identity
  lifeboat key generate signing --out /etc/lifeboat/keys/signing.key"
)]
pub struct Generate {
    /// What the key is for
    kind: KeyKind,
    /// The new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    protection: Protection,
}

/// How a new recovery identity is protected.
#[derive(Debug, Args)]
pub struct Protection {
    /// Protect a recovery identity with a passphrase, asked on the terminal; age opens it as well
    #[arg(long)]
    passphrase: bool,
    /// The same, with the first line of this file, or of /dev/fd/N
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Protection {
    /// A new key, protected as was asked for.
    pub fn generate(self, kind: KeyKind, session: &Session) -> Result<NewKey> {
        let key = NewKey::generate(kind, session.now())?;
        if !self.passphrase && self.passphrase_file.is_none() {
            return Ok(key);
        }
        if kind != KeyKind::Recovery {
            return Err(Failure::new(Exit::Usage, "only a recovery identity can have a passphrase")
                .hint("the host's own keys must open at any hour, without anybody"));
        }
        let passphrase = Passphrases::new(self.passphrase_file).new_one("the recovery identity")?;
        key.locked(&passphrase)
    }
}

#[derive(Serialize)]
struct Generated {
    kind: KeyKind,
    file: PathBuf,
    public: String,
    passphrase: bool,
    next: &'static str,
}

impl Answer for Generated {
    const SCHEMA: &'static str = "lifeboat.key-generate/1";

    fn text(&self, page: &mut Page) {
        page.field("file", self.file.display());
        page.field("public part", &self.public);
        if self.passphrase {
            page.field("passphrase", "needed whenever it is used; without it nobody opens the file");
        }
        page.gap();
        page.line(self.next);
    }
}

impl Generate {
    /// Runs it.
    pub fn run(self, session: &Session) -> Result<Exit> {
        let key = self.protection.generate(self.kind, session)?;
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
        let passphrase = key.is_locked();
        session.output.show(&Generated { kind: self.kind, file: self.out, public: key.public, passphrase, next })?;
        Ok(Exit::Ok)
    }
}
