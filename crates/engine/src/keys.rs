//! Loads secrets from files, and refuses files that others could read.
//!
//! Identities are in [`identity`], with passphrases and plugins; which signing keys are not believed any more is found by
//! [`revocation`].

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use lifeboat_model::{
    config::{KeysConfig, SecretSource},
    secret::Secret,
    signature::{SignatureError, SigningKey},
};
use lifeboat_repo::{document::DocumentKeys, seal::Recipient, writer::WriterKeys};
use zeroize::Zeroizing;

pub mod identity;
pub mod revocation;

pub use identity::{host_identity, read_identities, read_identity};

/// Looks up an environment variable; the binary passes the real one.
pub type Environment<'a> = &'a (dyn Fn(&str) -> Option<String> + Send + Sync);

/// Why a secret could not be loaded. Never holds the secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read key file {path}: run `lifeboat init` to make keys, or correct the path in the configuration")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// Others may read the file.
    #[error("{path} has mode {mode:04o}, so others can read it: run `chmod 0600 {path}`")]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The environment variable is not set.
    #[error("environment variable {0} is not set: set it for the process that runs lifeboat")]
    NotSet(String),
    /// The file does not hold what it should.
    #[error("{path} does not hold {expected}")]
    WrongContent {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The file holds no identity, for this reason.
    #[error("{path} does not hold an identity: {source}")]
    NoIdentity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never repeats it.
        source: lifeboat_repo::Error,
    },
    /// Nobody was there to ask for the passphrase, or it may not have one.
    #[error("{path} is protected by a passphrase: {reason}")]
    Locked {
        /// The file.
        path: PathBuf,
        /// Why it was not asked for, and what to do.
        reason: &'static str,
    },
    /// The passphrase does not open it.
    #[error("the passphrase given for {path} is wrong; nothing was opened")]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// A recipient in the configuration is not one.
    #[error("keys.recovery_recipients: \"{0}\" is not a recipient (age1…, ssh-ed25519 … or ssh-rsa …)")]
    Recipient(String),
    /// The host's signing key is not among those it trusts itself.
    #[error(
        "the signing key {path} has public key {public}, which is not in keys.trusted_keys: add it, or nobody will believe the points it signs"
    )]
    NotTrusted {
        /// The signing key's file.
        path: PathBuf,
        /// Its public half, as text.
        public: String,
    },
}

/// No key, identity or passphrase is longer.
const MAX_SECRET: u64 = lifeboat_repo::seal::MAX_FILE;

/// Reads a file that only its owner may read.
pub fn read_secret_file(path: &Path) -> Result<Secret, KeyError> {
    let bytes = read_secret_bytes(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| KeyError::Unreadable {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, "it holds no text"),
    })?;
    Ok(Secret::new(text.trim_end_matches(['\n', '\r'])))
}

/// The same as bytes. What is no file, as a pipe under `/dev/fd`, has no mode to look at.
fn read_secret_bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let unreadable = |source| KeyError::Unreadable { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(KeyError::TooOpen { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len().min(MAX_SECRET) as usize + 1));
    file.take(MAX_SECRET + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_SECRET {
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, "it is too long to hold a secret")));
    }
    Ok(bytes)
}

/// Reads a secret from where the configuration says it is.
pub fn read_secret(source: &SecretSource, environment: Environment<'_>) -> Result<Secret, KeyError> {
    match source {
        SecretSource::File(path) => read_secret_file(path),
        SecretSource::Env(name) => environment(name).map(Secret::new).ok_or_else(|| KeyError::NotSet(name.clone())),
    }
}

/// Reads a signing key.
pub fn read_signing_key(path: &Path) -> Result<SigningKey, KeyError> {
    let wrong =
        |_: SignatureError| KeyError::WrongContent { path: path.to_owned(), expected: "a Lifeboat signing key" };
    SigningKey::from_secret_text(&read_secret_file(path)?).map_err(wrong)
}

/// All that a backup needs: recipients, the host's identity, and the key that signs.
pub fn writer_keys(config: &KeysConfig) -> Result<WriterKeys, KeyError> {
    let signing = read_signing_key(&config.signing_key_file)?;
    if !config.trusted_keys.contains(&signing.public()) {
        return Err(KeyError::NotTrusted {
            path: config.signing_key_file.clone(),
            public: signing.public().to_string(),
        });
    }
    Ok(WriterKeys {
        recipients: recovery_recipients(config)?,
        host: host_identity(config)?,
        signing,
        trusted: config.trusted_keys.clone(),
    })
}

/// Who can open what is sealed.
pub fn recovery_recipients(config: &KeysConfig) -> Result<Vec<Recipient>, KeyError> {
    let recipient = |text: &String| text.parse::<Recipient>().map_err(|_| KeyError::Recipient(text.clone()));
    config.recovery_recipients.iter().map(recipient).collect()
}

/// What documents are written with: sealed to who can restore, and to the host itself.
pub fn document_keys(keys: &WriterKeys) -> DocumentKeys {
    let recipients = keys.recipients.iter().cloned().chain([keys.host.recipient()]).collect();
    DocumentKeys { recipients, signing: keys.signing.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_key_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "secret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = read_secret_file(&path).unwrap_err();
        assert!(refused.to_string().contains("chmod 0600"), "{refused}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_secret_file(&path).unwrap().expose(), "secret");
    }
}
