//! Identities: the host's own, and those that people bring.
//!
//! What a person brings may be an age identity, an SSH private key, a plugin's identity, or one of these behind a
//! passphrase. The host's own must open by itself, at any hour.

use std::{path::Path, sync::Arc};

use lifeboat_model::{config::KeysConfig, secret::Secret};
use lifeboat_repo::seal::{Ask, Identity, IdentityFile, Nobody, UnlockError};

use super::{KeyError, read_secret_bytes};

/// Who knows passphrases, and whom plugins may ask.
pub trait Unlock {
    /// The passphrase of an identity file.
    fn passphrase(&self, path: &Path) -> Result<Secret, KeyError>;
    /// Whom a plugin turns to for a PIN or a touch.
    fn ask(&self) -> Arc<dyn Ask>;
}

/// Nobody: a file behind a passphrase is refused.
#[derive(Debug, Clone, Copy)]
pub struct Unattended;

impl Unlock for Unattended {
    fn passphrase(&self, path: &Path) -> Result<Secret, KeyError> {
        Err(KeyError::Locked { path: path.to_owned(), reason: "this must open without anybody; use one without" })
    }

    fn ask(&self) -> Arc<dyn Ask> {
        Arc::new(Nobody)
    }
}

/// Reads an identity that opens by itself; exactly one.
pub fn read_identity(path: &Path) -> Result<Identity, KeyError> {
    let mut found = read_identities(path, &Unattended)?;
    match (found.pop(), found.is_empty()) {
        (Some(identity), true) => Ok(identity),
        _ => Err(KeyError::WrongContent { path: path.to_owned(), expected: "one identity alone" }),
    }
}

/// Reads all identities of a file, with its passphrase where it has one. Blocks: deriving a key from a passphrase takes
/// about a second, and a person may have to type it.
pub fn read_identities(path: &Path, unlock: &dyn Unlock) -> Result<Vec<Identity>, KeyError> {
    let bytes = read_secret_bytes(path)?;
    let no_identity = |source| KeyError::NoIdentity { path: path.to_owned(), source };
    match IdentityFile::parse(&bytes, unlock.ask()).map_err(no_identity)? {
        IdentityFile::Open(identities) => Ok(identities),
        IdentityFile::Locked(locked) => locked.unlock(&unlock.passphrase(path)?).map_err(|error| match error {
            UnlockError::Content(source) => no_identity(source),
            _ => KeyError::WrongPassphrase { path: path.to_owned() },
        }),
    }
}

/// The host's identity: new objects are sealed to it, and what was sealed to the former ones opens as well.
pub fn host_identity(config: &KeysConfig) -> Result<Identity, KeyError> {
    let former = config.former_host_identity_files.iter().map(|path| read_identity(path));
    Ok(read_identity(&config.host_identity_file)?.with_former(former.collect::<Result<_, _>>()?))
}
