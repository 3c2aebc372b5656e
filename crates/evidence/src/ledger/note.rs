//! Signed notes (C2SP `signed-note`): a text, an empty line, and lines of signatures.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lifeboat_model::signature::{PublicKey, SigningKey};
use sha2::{Digest as _, Sha256};

/// The longest note that is read: a leaf of the log is no longer.
pub const MAX_BYTES: usize = u16::MAX as usize;
/// Each is tried with each trusted key.
const MAX_SIGNATURES: usize = 16;
/// Ed25519, in the computation of key ids.
const ED25519: u8 = 1;

/// Why a note is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Not a text with signatures below.
    #[error("not a signed note ({0})")]
    NotANote(&'static str),
    /// Signed by others, or by nobody.
    #[error("no signature by a trusted key")]
    NoTrustedSignature,
    /// Signed with a trusted key's id, and the signature does not fit.
    #[error("the signature by key {0} does not fit: the note was changed after it was signed")]
    SignatureMismatch(String),
    /// Signed, but not what belongs here.
    #[error("signed, but not {0}")]
    Content(&'static str),
    /// Of another log.
    #[error("it belongs to the log {found}, not to {expected}")]
    Origin {
        /// The log that it names.
        found: String,
        /// The one that is read.
        expected: String,
    },
}

/// A note that a trusted key has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The text, with the newline at its end.
    pub text: String,
    /// The key that has signed it.
    pub key: PublicKey,
}

/// The id of a key under a name, as signature lines hold it.
pub fn key_id(name: &str, key: &PublicKey) -> [u8; 4] {
    let digest =
        Sha256::new().chain_update(name).chain_update([b'\n', ED25519]).chain_update(key.as_bytes()).finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// A public key as other implementations want it: `<name>+<key id>+<base64 of type and key>`.
pub fn verifier_key(name: &str, key: &PublicKey) -> String {
    let id = u32::from_be_bytes(key_id(name, key));
    format!("{name}+{id:08x}+{}", STANDARD.encode([&[ED25519], key.as_bytes().as_slice()].concat()))
}

/// Signs a text, which must end with a newline, in a key's name.
pub(super) fn sign(text: &str, name: &str, key: &SigningKey) -> String {
    let signature = [key_id(name, &key.public()).as_slice(), &key.sign(text.as_bytes())].concat();
    format!("{text}\n\u{2014} {name} {}\n", STANDARD.encode(signature))
}

/// The text of a note, believed or not.
pub(super) fn text_of(bytes: &[u8]) -> Result<&str, NoteError> {
    Ok(divide(bytes)?.0)
}

/// The text, if a trusted key has signed it. Signatures by other keys are passed over.
pub fn open(bytes: &[u8], trusted: &[PublicKey]) -> Result<Opened, NoteError> {
    let (text, lines) = divide(bytes)?;
    let mut mismatch = None;
    for (count, line) in lines.lines().enumerate() {
        if count >= MAX_SIGNATURES {
            return Err(NoteError::NotANote("it has more than 16 signatures"));
        }
        let (name, signature) = signature_of(line)?;
        let (id, signature) = signature.split_at(4);
        for key in trusted.iter().filter(|key| key_id(name, key) == id) {
            if key.verify(text.as_bytes(), signature).is_ok() {
                return Ok(Opened { text: text.to_owned(), key: *key });
            }
            mismatch = Some(key.id());
        }
    }
    Err(mismatch.map_or(NoteError::NoTrustedSignature, NoteError::SignatureMismatch))
}

/// The text with its newline, and the lines of signatures.
fn divide(bytes: &[u8]) -> Result<(&str, &str), NoteError> {
    let bad = |why| Err(NoteError::NotANote(why));
    if bytes.len() > MAX_BYTES {
        return bad("it is too long");
    }
    let Ok(note) = std::str::from_utf8(bytes) else { return bad("it is not UTF-8") };
    if note.chars().any(|c| c < ' ' && c != '\n') {
        return bad("it holds control characters");
    }
    let Some(end) = note.rfind("\n\n") else { return bad("it has no empty line") };
    let (text, lines) = (&note[..=end], &note[end + 2..]);
    if lines.is_empty() || !lines.ends_with('\n') {
        return bad("it has no signatures");
    }
    Ok((text, lines))
}

fn signature_of(line: &str) -> Result<(&str, Vec<u8>), NoteError> {
    let bad = NoteError::NotANote("a line of signatures is none");
    let (name, encoded) = line.strip_prefix("\u{2014} ").and_then(|line| line.split_once(' ')).ok_or(bad.clone())?;
    let signature = STANDARD.decode(encoded).map_err(|_| bad.clone())?;
    let named = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+');
    if named && signature.len() > 4 { Ok((name, signature)) } else { Err(bad) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification of checkpoints, with the public key of Go's `note` package's own example.
    #[test]
    fn the_example_of_gos_package_verifies() {
        let note = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
            \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let encoded = "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let public: PublicKey =
            format!("lifeboat-ed25519:{}", STANDARD.encode(&STANDARD.decode(encoded).unwrap()[1..])).parse().unwrap();
        assert_eq!(verifier_key("PeterNeumann", &public), format!("PeterNeumann+c74f20a3+{encoded}"));
        let opened = open(note.as_bytes(), &[public]).unwrap();
        assert_eq!(opened.key, public);
        assert!(opened.text.ends_with("problem is.\n"));
        assert_eq!(open(note.as_bytes(), &[]), Err(NoteError::NoTrustedSignature));
        let changed = note.replace("answer", "answeR");
        assert_eq!(open(changed.as_bytes(), &[public]), Err(NoteError::SignatureMismatch(public.id())));
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let key = SigningKey::from_seed(&[7; 32]);
        let note = sign("a\nb\n", "example.com/log", &key);
        let trusted = [key.public()];
        assert_eq!(open(note.as_bytes(), &trusted).unwrap().text, "a\nb\n");
        for at in 0..note.len() {
            for bit in 0..8 {
                let mut bad = note.clone().into_bytes();
                bad[at] ^= 1 << bit;
                assert!(open(&bad, &trusted).is_err(), "byte {at} bit {bit}");
            }
            assert!(open(&note.as_bytes()[..at], &trusted).is_err(), "cut at {at}");
        }
        let more = format!("{note}\u{2014} example.com/witness AAAAAAAA\n");
        assert!(open(more.as_bytes(), &trusted).is_ok(), "signatures by others are passed over");
        let many = format!("{note}{}", "\u{2014} x AAAAAAAA\n".repeat(16));
        assert!(open(many.as_bytes(), &trusted).is_ok(), "ours came first");
        let late = note.replacen("\n\n", &format!("\n\n{}", "\u{2014} x AAAAAAAA\n".repeat(16)), 1);
        assert!(open(late.as_bytes(), &trusted).is_err());
    }
}
