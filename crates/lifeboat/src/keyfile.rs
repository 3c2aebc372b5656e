//! Makes key files. A key is made once and never replaced: whatever was sealed or signed with the old one would be lost.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use jiff::Timestamp;
use lifeboat_engine::keys::{KeyError, identity::Unlock, read_identities, read_secret_file};
use lifeboat_model::{secret::Secret, signature::SigningKey};
use lifeboat_repo::seal::{self, Identity};

use crate::{
    exit::Exit,
    failure::{Failure, Result},
    output::moment,
};

/// The shortest passphrase for a new identity.
const SHORTEST: usize = 12;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// Opens every backup; belongs off the machine
    Recovery,
    /// Lets this host read indexes and listings, never data
    Host,
    /// Signs recovery points and evidence
    Signing,
}

impl KeyKind {
    /// The word on the command line and in evidence.
    pub fn word(self) -> &'static str {
        match self {
            KeyKind::Recovery => "recovery",
            KeyKind::Host => "host",
            KeyKind::Signing => "signing",
        }
    }
}

/// A key in memory: its file text and its public part.
pub struct NewKey {
    text: Secret,
    is_locked: bool,
    /// `age1…` or `lifeboat-ed25519:…`
    pub public: String,
}

impl NewKey {
    /// From the operating system's random numbers.
    pub fn generate(kind: KeyKind, now: Timestamp) -> Result<NewKey> {
        if kind == KeyKind::Signing {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| {
                Failure::new(Exit::Failed, format!("no random numbers from the operating system: {error}"))
            })?;
            let key = SigningKey::from_seed(&seed);
            return Ok(NewKey { public: key.public().to_string(), text: key.to_secret_text(), is_locked: false });
        }
        let identity = Identity::generate();
        let public = identity.recipient().to_string();
        let purpose = match kind {
            KeyKind::Recovery => {
                "Lifeboat recovery identity: opens every backup sealed to it. Keep it off the backup host."
            }
            _ => "Lifeboat host identity: reads indexes and listings of this host's backups, never data.",
        };
        let text = format!(
            "# {purpose}\n# made: {}\n# public key: {public}\n{}",
            moment(now),
            identity.to_secret_text().expose()
        );
        Ok(NewKey { text: Secret::new(text), is_locked: false, public })
    }

    /// The same behind a passphrase, as `age -p -a` would put it.
    pub fn locked(self, passphrase: &Secret) -> Result<NewKey> {
        if passphrase.expose().chars().count() < SHORTEST {
            return Err(Failure::new(
                Exit::Usage,
                format!("a passphrase of less than {SHORTEST} characters is too short"),
            )
            .safe("nothing was written")
            .hint("take several words; whoever holds the file can try passphrases for years"));
        }
        let text = Secret::new(format!("{}\n", self.text.expose()));
        Ok(NewKey { text: seal::lock_identity(&text, passphrase)?, is_locked: true, ..self })
    }

    /// Whether a passphrase protects it.
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Writes the file, mode 0600, durably; never over an existing one.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_new(path, 0o600, &format!("{}\n", self.text.expose().trim_end()))
    }
}

/// Makes a folder for keys, mode 0700, unless it is there.
pub fn make_folder(path: &Path) -> Result<()> {
    let above = path.parent().filter(|above| *above != Path::new(""));
    let made = above.map_or(Ok(()), fs::create_dir_all).and_then(|()| DirBuilder::new().mode(0o700).create(path));
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => private(path),
        Err(error) => Err(Failure::from(error).context(format!("cannot make the folder {}", path.display()))),
        Ok(()) => Ok(()),
    }
}

fn private(folder: &Path) -> Result<()> {
    let mode = fs::metadata(folder)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        format!("the folder {} has mode {mode:04o}: others can look into it", folder.display()),
    )
    .safe("nothing was written")
    .next(format!("chmod 0700 {}", folder.display())))
}

/// Writes a new file durably: content, then the folder that names it.
pub fn write_new(path: &Path, mode: u32, text: &str) -> Result<()> {
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => Failure::from(error).context(format!("cannot write {}", path.display())),
    })
}

/// The refusal to write over a file.
pub fn exists(path: &Path) -> Failure {
    Failure::new(Exit::Failed, format!("{} exists, and is never written over", path.display()))
        .hint("choose another name; a key that was in use is still needed for what it sealed or signed")
}

/// What a key file holds.
pub enum KeyInFile {
    /// age identities, SSH keys or a plugin's; at least one.
    Identities(Vec<Identity>),
    /// A signing key.
    Signing(SigningKey),
}

/// Reads a key file of either kind.
pub fn read(path: &Path, unlock: &dyn Unlock) -> Result<KeyInFile> {
    match read_secret_file(path) {
        Ok(text) => {
            if let Ok(key) = SigningKey::from_secret_text(&text) {
                return Ok(KeyInFile::Signing(key));
            }
        }
        Err(KeyError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::InvalidData => {} // binary: of age
        Err(error) => return Err(error.into()),
    }
    read_identities(path, unlock).map(KeyInFile::Identities).map_err(|error| match error {
        KeyError::NoIdentity { source, .. } => {
            Failure::new(Exit::Key, format!("{} holds no key that Lifeboat can use: {source}", path.display()))
                .hint("expected a line AGE-SECRET-KEY-1… or LIFEBOAT-ED25519-SECRET:…, or an SSH private key")
        }
        other => other.into(),
    })
}

/// Whether a file can be made there.
pub fn is_taken(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for (kind, prefix) in
            [(KeyKind::Recovery, "age1"), (KeyKind::Host, "age1"), (KeyKind::Signing, "lifeboat-ed25519:")]
        {
            let path = folder.path().join(format!("{kind:?}"));
            let key = NewKey::generate(kind, Timestamp::UNIX_EPOCH).unwrap();
            key.write(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let public = match read(&path, &lifeboat_engine::keys::identity::Unattended).unwrap() {
                KeyInFile::Identities(found) => found[0].recipient().to_string(),
                KeyInFile::Signing(key) => key.public().to_string(),
            };
            assert_eq!(public, key.public);
            assert!(public.starts_with(prefix));
            let before = fs::read(&path).unwrap();
            let refused = NewKey::generate(kind, Timestamp::UNIX_EPOCH).unwrap().write(&path).unwrap_err();
            assert_eq!(refused.exit, Exit::Failed);
            assert_eq!(fs::read(&path).unwrap(), before);
        }
    }
}
