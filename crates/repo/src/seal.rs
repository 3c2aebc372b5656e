//! Sealing to age recipients and opening with identities (<https://age-encryption.org/v1>, binary).
//!
//! Nothing here is home-made: [`Sealer`] only counts and hashes the ciphertext while it passes, so that no byte is
//! read again for its digest. age authenticates the content but not the sender; that is what the point's signature
//! is for.

use std::io::{self, BufRead, Read, Write};

use age::plugin::ResolveError;
use lifeboat_model::id::Sha256Digest;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

mod file;
mod identity;
mod recipient;

pub use file::{IdentityFile, LockedIdentity, MAX_FILE, UnlockError, lock_identity};
pub use identity::{Ask, Identity, Nobody};
pub use recipient::Recipient;

/// Who an object is sealed to.
pub type Recipients = [Recipient];

/// The longest header of an age file that is written: readers of a pack need all of it first.
pub(crate) const MAX_HEADER: usize = 256 << 10;

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
        let encryptor = recipient::encryptor(recipients)?;
        let out = HashedBuffer { bytes: buffer, hash: Sha256::new() };
        let stream = encryptor.wrap_output(out).map_err(recipient::sealing)?;
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
    let sealed = sealer.finish();
    // A run seals its chunk key like this before its first pack.
    match header_len(&sealed.bytes) {
        Some(header) if header <= MAX_HEADER => Ok(sealed),
        _ => Err(recipient::sealing("the recipients make a header of more than 256 KiB: there are too many")),
    }
}

/// Seals nothing to all of them: whether they go together, and whether the plugins that they need are there.
pub fn try_recipients(recipients: &Recipients) -> Result<()> {
    seal(recipients, b"").map(drop)
}

/// Why an age file did not open.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// It is sealed to others.
    WrongIdentity,
    /// It is no age file, was cut short or was changed.
    Damaged(String),
    /// A plugin, or a card behind it, did not do its part: nothing is said of the file.
    Plugin(String),
}

impl From<age::DecryptError> for OpenError {
    fn from(error: age::DecryptError) -> Self {
        match error {
            age::DecryptError::NoMatchingKeys => OpenError::WrongIdentity,
            age::DecryptError::Plugin(errors) => OpenError::Plugin(plugin_words(&errors)),
            age::DecryptError::PluginResolve(error) => OpenError::Plugin(missing_plugin(&error)),
            other => OpenError::Damaged(other.to_string()),
        }
    }
}

impl From<ResolveError> for OpenError {
    fn from(error: ResolveError) -> Self {
        OpenError::Plugin(missing_plugin(&error))
    }
}

impl OpenError {
    /// Names the object.
    pub fn of(self, object: impl ToString, needed: &str) -> Error {
        match self {
            OpenError::WrongIdentity => Error::WrongIdentity { object: object.to_string(), needed: needed.to_owned() },
            OpenError::Damaged(reason) => Error::damaged(object, reason),
            OpenError::Plugin(reason) => Error::Plugin { object: object.to_string(), reason },
        }
    }
}

/// Starts reading an age file; reading authenticates piece by piece.
pub(crate) fn open<R: BufRead>(
    identities: &[Identity],
    file: R,
) -> std::result::Result<age::stream::StreamReader<R>, OpenError> {
    let decryptor = age::Decryptor::new_buffered(file)?;
    let keys = identities.iter().flat_map(Identity::keys);
    let openers: Vec<_> = keys.map(identity::Key::opener).collect::<std::result::Result<_, _>>()?;
    Ok(decryptor.decrypt(openers.iter().map(identity::Opener::as_age))?)
}

/// What a plugin said went wrong, in one line.
fn plugin_words(errors: &[impl std::fmt::Display]) -> String {
    let words: Vec<String> = errors.iter().map(ToString::to_string).collect();
    format!("an age plugin says: {}", words.join("; ").split_whitespace().collect::<Vec<_>>().join(" "))
}

fn missing_plugin(error: &ResolveError) -> String {
    match error {
        ResolveError::MissingPlugin { binary_name } => format!("{binary_name} is not on PATH; install it"),
        other => other.to_string(),
    }
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
mod tests;
