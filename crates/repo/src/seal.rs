//! Sealing to age recipients and opening with identities (<https://age-encryption.org/v1>, binary, X25519).
//!
//! Nothing here is home-made: [`Sealer`] only counts and hashes the ciphertext while it passes, so that no byte is
//! read again for its digest. age authenticates the content but not the sender; that is what the point's signature
//! is for.

use std::{
    fmt,
    io::{self, BufRead, Read, Write},
    str::FromStr,
};

use age::secrecy::ExposeSecret as _;
use lifeboat_model::{id::Sha256Digest, secret::Secret};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// Somebody who can open what is sealed to them: `age1…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(age::x25519::Recipient);

impl FromStr for Recipient {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.trim().parse::<age::x25519::Recipient>();
        let reason = |reason: &str| format!("{reason} (expected a public key that starts with age1)");
        parsed.map(Self).map_err(|e| Error::BadKey { what: "recipient", reason: reason(e) })
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

/// The private half. Never printed.
#[derive(Clone)]
pub struct Identity(age::x25519::Identity);

impl Identity {
    /// A new one, from the operating system's random numbers.
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// Reads an age identity file's text: comments and empty lines are skipped, exactly one key is expected.
    pub fn from_secret_text(text: &Secret) -> Result<Self> {
        let lines = text.expose().lines().map(str::trim);
        let keys: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        let bad = |reason: &str| Error::BadKey { what: "identity", reason: reason.to_owned() };
        match keys.as_slice() {
            [key] => key.parse().map(Self).map_err(bad),
            [] => Err(bad("no line with AGE-SECRET-KEY-1…")),
            _ => Err(bad("more than one key; keep one key a file")),
        }
    }

    /// The text form, `AGE-SECRET-KEY-1…`, for a key file with mode 0600.
    pub fn to_secret_text(&self) -> Secret {
        Secret::new(self.0.to_string().expose_secret())
    }

    /// The public half.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(public {})", self.recipient())
    }
}

/// Who an object is sealed to.
pub type Recipients = [Recipient];

/// Collects ciphertext and hashes it as it comes.
#[derive(Default)]
struct HashedBuffer {
    bytes: Vec<u8>,
    hash: Sha256,
}

impl Write for HashedBuffer {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.hash.update(part);
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A finished age file and what the point's header says of it.
#[derive(Debug)]
pub(crate) struct SealedBytes {
    pub bytes: Vec<u8>,
    pub sha256: Sha256Digest,
}

/// Writes one age file into memory.
pub(crate) struct Sealer {
    stream: age::stream::StreamWriter<HashedBuffer>,
    plain: u64,
}

impl Sealer {
    /// Starts a file sealed to all of `recipients`, in `buffer` (emptied, its capacity is used).
    pub fn new(recipients: &Recipients, mut buffer: Vec<u8>) -> Result<Self> {
        buffer.clear();
        let list = recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
        let sealing = |e: String| Error::Io { what: "sealing".into(), source: io::Error::other(e) };
        let encryptor = age::Encryptor::with_recipients(list).map_err(|e| sealing(e.to_string()))?;
        let out = HashedBuffer { bytes: buffer, hash: Sha256::new() };
        let stream = encryptor.wrap_output(out).map_err(|e| sealing(e.to_string()))?;
        Ok(Self { stream, plain: 0 })
    }

    /// Bytes of plaintext written so far.
    pub fn plain_len(&self) -> u64 {
        self.plain
    }

    /// Ends the file.
    pub fn finish(self) -> SealedBytes {
        let out = self.stream.finish().expect("a write into memory cannot fail");
        SealedBytes { bytes: out.bytes, sha256: Sha256Digest(out.hash.finalize().into()) }
    }
}

impl Write for Sealer {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let written = self.stream.write(part)?;
        self.plain += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The digest that headers give for ciphertext.
pub(crate) fn digest(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest(Sha256::digest(bytes).into())
}

/// Seals a short text in one go.
pub(crate) fn seal(recipients: &Recipients, plain: &[u8]) -> Result<SealedBytes> {
    let mut sealer = Sealer::new(recipients, Vec::with_capacity(plain.len() + 1024))?;
    sealer.write_all(plain).expect("a write into memory cannot fail");
    Ok(sealer.finish())
}

/// Why an age file did not open.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// It is sealed to others.
    WrongIdentity,
    /// It is no age file, was cut short or was changed.
    Damaged(String),
}

impl From<age::DecryptError> for OpenError {
    fn from(error: age::DecryptError) -> Self {
        match error {
            age::DecryptError::NoMatchingKeys => OpenError::WrongIdentity,
            other => OpenError::Damaged(other.to_string()),
        }
    }
}

impl OpenError {
    /// Names the object.
    pub fn of(self, object: impl ToString, needed: &str) -> Error {
        match self {
            OpenError::WrongIdentity => Error::WrongIdentity { object: object.to_string(), needed: needed.to_owned() },
            OpenError::Damaged(reason) => Error::damaged(object, reason),
        }
    }
}

/// Starts reading an age file; reading authenticates piece by piece.
pub(crate) fn open<R: BufRead>(
    identities: &[Identity],
    file: R,
) -> std::result::Result<age::stream::StreamReader<R>, OpenError> {
    let decryptor = age::Decryptor::new_buffered(file)?;
    Ok(decryptor.decrypt(identities.iter().map(|identity| &identity.0 as &dyn age::Identity))?)
}

/// Length of the header and nonce at the start of an age file; none if it does not end in these bytes.
pub(crate) fn header_len(start: &[u8]) -> Option<usize> {
    let mut rest = start;
    age::Decryptor::new_buffered(&mut rest).ok()?;
    Some(start.len() - rest.len())
}

/// Opens a whole age file of bounded size.
pub(crate) fn open_all(identities: &[Identity], file: &[u8]) -> std::result::Result<Vec<u8>, OpenError> {
    let mut plain = Vec::with_capacity(file.len());
    let mut reader = open(identities, file)?;
    reader.read_to_end(&mut plain).map_err(|e| OpenError::Damaged(e.to_string()))?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_for_each_recipient_and_nobody_else() {
        let (a, b, c) = (Identity::generate(), Identity::generate(), Identity::generate());
        let sealed = seal(&[a.recipient(), b.recipient()], b"patient").unwrap();
        assert_eq!(sealed.sha256.0, <[u8; 32]>::from(Sha256::digest(&sealed.bytes)));
        for identity in [&a, &b] {
            assert_eq!(open_all(std::slice::from_ref(identity), &sealed.bytes).unwrap(), b"patient");
        }
        assert!(matches!(open_all(&[c], &sealed.bytes), Err(OpenError::WrongIdentity)));
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let identity = Identity::generate();
        let sealed = seal(&[identity.recipient()], b"patient").unwrap().bytes;
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open_all(std::slice::from_ref(&identity), &changed).is_err(), "byte {at}");
            assert!(open_all(std::slice::from_ref(&identity), &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn texts() {
        let identity = Identity::generate();
        let text = Secret::new(format!("# created: today\n\n{}\n", identity.to_secret_text().expose()));
        assert_eq!(Identity::from_secret_text(&text).unwrap().recipient(), identity.recipient());
        assert_eq!(identity.recipient().to_string().parse::<Recipient>().unwrap(), identity.recipient());
        assert!(!format!("{identity:?}").contains("SECRET"));
        for bad in ["", "# only a comment", "AGE-SECRET-KEY-1XYZ"] {
            let error = Identity::from_secret_text(&Secret::new(bad)).unwrap_err().to_string();
            assert!(!error.contains("XYZ"), "{error}");
        }
    }
}
