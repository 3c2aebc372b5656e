//! Loads secrets from files, and refuses files that others could read.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use lifeboat_model::{
    config::{KeysConfig, SecretSource},
    secret::Secret,
    signature::{SignatureError, SigningKey},
};
use lifeboat_repo::{
    document::DocumentKeys,
    seal::{Identity, Recipient},
    writer::WriterKeys,
};

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
    /// A recipient in the configuration is not one.
    #[error("keys.recovery_recipients: \"{0}\" is not an age recipient (age1…)")]
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

/// Reads a file that only its owner may read.
pub fn read_secret_file(path: &Path) -> Result<Secret, KeyError> {
    let unreadable = |source| KeyError::Unreadable { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::TooOpen { path: path.to_owned(), mode });
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    Ok(Secret::new(text.trim_end_matches(['\n', '\r'])))
}

/// Reads a secret from where the configuration says it is.
pub fn read_secret(source: &SecretSource, environment: Environment<'_>) -> Result<Secret, KeyError> {
    match source {
        SecretSource::File(path) => read_secret_file(path),
        SecretSource::Env(name) => environment(name).map(Secret::new).ok_or_else(|| KeyError::NotSet(name.clone())),
    }
}

/// Reads an age identity (recovery or host).
pub fn read_identity(path: &Path) -> Result<Identity, KeyError> {
    let expected = "an age identity (AGE-SECRET-KEY-1…)";
    Identity::from_secret_text(&read_secret_file(path)?)
        .map_err(|_| KeyError::WrongContent { path: path.to_owned(), expected })
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
    let recipient = |text: &String| text.parse::<Recipient>().map_err(|_| KeyError::Recipient(text.clone()));
    Ok(WriterKeys {
        recipients: config.recovery_recipients.iter().map(recipient).collect::<Result<_, _>>()?,
        host: read_identity(&config.host_identity_file)?,
        signing,
        trusted: config.trusted_keys.clone(),
    })
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
