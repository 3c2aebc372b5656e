//! Identity files, also those that a passphrase protects: age's own (`age -p`, binary or armored) and SSH keys.
//!
//! A passphrase never seals backups: age forbids it beside other recipients, for good reason. It protects the file that
//! holds a recovery identity, in a safe or on a stick.

use std::{
    io::{self, Read as _, Write as _},
    sync::Arc,
};

use age::{
    DecryptError,
    armor::{ArmoredReader, ArmoredWriter, Format},
    secrecy::SecretString,
};
use lifeboat_model::secret::Secret;
use zeroize::Zeroizing;

use super::{
    Ask, Identity,
    identity::{self, Asking, bad},
    recipient::sealing,
};
use crate::error::Result;

/// The largest identity file that is read.
pub const MAX_FILE: u64 = 1 << 20;
/// 2^22 rounds of scrypt take 4 GiB of memory; age itself accepts no more.
const MAX_WORK: u8 = 22;
/// As `age -p`: 256 MiB of memory and about a second.
const WORK: u8 = 18;

const BINARY: &[u8] = b"age-encryption.org/v1\n";
const ARMOR: &str = "-----BEGIN AGE ENCRYPTED FILE-----";

/// The content of an identity file.
pub enum IdentityFile {
    /// Its identities.
    Open(Vec<Identity>),
    /// It needs a passphrase first.
    Locked(LockedIdentity),
}

/// An identity file that a passphrase protects.
pub struct LockedIdentity {
    kind: Locked,
    asking: Asking,
}

enum Locked {
    Age(Zeroizing<Vec<u8>>),
    Ssh(Box<age::ssh::EncryptedKey>),
}

/// Why a passphrase did not give identities. Holds neither.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnlockError {
    /// Another passphrase protects it.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The passphrase is right (or not asked), and the content is not an identity.
    #[error(transparent)]
    Content(#[from] crate::Error),
}

pub(super) fn is_ssh(text: &str) -> bool {
    ["-----BEGIN OPENSSH PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----"]
        .iter()
        .any(|start| text.trim_start().starts_with(start))
}

impl IdentityFile {
    /// Reads the bytes of a file. `ask` is who plugins turn to when the identity is used.
    pub fn parse(bytes: &[u8], ask: Arc<dyn Ask>) -> Result<IdentityFile> {
        let asking = Asking(ask);
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        if bytes.starts_with(BINARY) || text.trim_start().starts_with(ARMOR) {
            let kind = Locked::Age(Zeroizing::new(bytes.to_vec()));
            return Ok(IdentityFile::Locked(LockedIdentity { kind, asking }));
        }
        if is_ssh(text) {
            let parsed = identity::parse_ssh(&with_newline(text))?;
            if let age::ssh::Identity::Encrypted(key) = parsed {
                let kind = Locked::Ssh(Box::new(key));
                return Ok(IdentityFile::Locked(LockedIdentity { kind, asking }));
            }
            return Ok(IdentityFile::Open(vec![identity::ssh(parsed)?]));
        }
        identity::read(text, &asking).map(IdentityFile::Open)
    }
}

/// The parser of SSH keys wants the end of the last line.
pub(super) fn with_newline(text: &str) -> Zeroizing<String> {
    Zeroizing::new(format!("{}\n", text.trim()))
}

impl LockedIdentity {
    /// Opens it. Takes about a second of computing: for blocking threads.
    pub fn unlock(&self, passphrase: &Secret) -> std::result::Result<Vec<Identity>, UnlockError> {
        let secret = SecretString::from(passphrase.expose().to_owned());
        match &self.kind {
            Locked::Age(file) => {
                let plain = unlock_age(file, secret)?;
                let text = std::str::from_utf8(&plain).map_err(|_| bad("there is no text behind the passphrase"))?;
                Ok(identity::read(text, &self.asking)?)
            }
            Locked::Ssh(key) => {
                let key = key.decrypt(secret).map_err(|_| UnlockError::WrongPassphrase)?;
                Ok(vec![identity::ssh(age::ssh::Identity::from(key))?])
            }
        }
    }
}

fn unlock_age(file: &[u8], passphrase: SecretString) -> std::result::Result<Zeroizing<Vec<u8>>, UnlockError> {
    let damaged = |_| bad("a damaged file of age");
    let decryptor = age::Decryptor::new_buffered(ArmoredReader::new(file)).map_err(damaged)?;
    if !decryptor.is_scrypt() {
        return Err(bad("a file of age that is sealed to recipients instead of a passphrase").into());
    }
    let mut identity = age::scrypt::Identity::new(passphrase);
    identity.set_max_work_factor(MAX_WORK);
    let opened = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity));
    let opened = opened.map_err(|error| match error {
        DecryptError::NoMatchingKeys | DecryptError::DecryptionFailed => UnlockError::WrongPassphrase,
        DecryptError::ExcessiveWork { .. } => bad("a passphrase with more work than 2^22 rounds of scrypt").into(),
        _ => bad("a damaged file of age").into(),
    })?;
    let mut plain = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize));
    opened.take(MAX_FILE).read_to_end(&mut plain).map_err(|_| bad("a damaged file of age"))?;
    Ok(plain)
}

/// Protects the text of an identity file with a passphrase, armored, as `age -p -a` does.
pub fn lock_identity(text: &Secret, passphrase: &Secret) -> Result<Secret> {
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.expose().to_owned()));
    recipient.set_work_factor(WORK);
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient));
    let encryptor = encryptor.map_err(sealing)?;
    let sealed = || -> io::Result<Vec<u8>> {
        let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
        let mut stream = encryptor.wrap_output(armor)?;
        stream.write_all(text.expose().as_bytes())?;
        stream.finish()?.finish()
    };
    let sealed = sealed().map_err(sealing)?;
    Ok(Secret::new(String::from_utf8(sealed).map_err(sealing)?))
}
