//! `--identity` and `--passphrase-file`: the recovery identities that a verb is given.

use std::path::PathBuf;

use clap::Args;

use crate::passphrase::Passphrases;

/// The identities.
#[derive(Debug, Clone, Default, Args)]
pub struct IdentityArgs {
    /// A recovery identity: of age, of a plugin, or an SSH private key (repeatable) [default: keys.recovery_identity_file]
    #[arg(long, value_name = "FILE")]
    pub identity: Vec<PathBuf>,
    /// The identity's passphrase is the first line of this file, or of /dev/fd/N [default: asked on the terminal]
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

impl IdentityArgs {
    /// Where passphrases come from.
    pub fn passphrases(&self) -> Passphrases {
        Passphrases::new(self.passphrase_file.clone())
    }
}
