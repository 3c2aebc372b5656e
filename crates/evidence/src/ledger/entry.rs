//! Entries: which statement was put, and when. A signed note whose text is one line of JSON.
//!
//! An entry names its own log and its own index, so that one that was copied to another place is seen to be foreign; and
//! the newest checkpoint that its writer knew, so that a log that was cut and grown again contradicts its entries.

use jiff::Timestamp;
use lifeboat_model::{
    id::Sha256Digest,
    signature::{PublicKey, SigningKey},
};
use serde::{Deserialize, Serialize};

use super::{Hash, note, note::NoteError};

/// The longest leaf: what a bundle can hold.
pub const MAX_BYTES: usize = note::MAX_BYTES;
const VERSION: u32 = 1;

/// What a leaf says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// 1.
    pub v: u32,
    /// The log's origin.
    pub log: String,
    /// Its place in the log.
    pub index: u64,
    /// The statement's name below `<tenant>/evidence/`.
    pub statement: String,
    /// Of the envelope's bytes as they are stored.
    pub sha256: Sha256Digest,
    /// When it was entered: the host's time, corrected by the store's clock, to the millisecond.
    pub entered: Timestamp,
    /// The newest checkpoint that the writer knew; none if there was none.
    pub previous: Option<Previous>,
}

/// A checkpoint that an entry refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// How many entries it has.
    pub size: u64,
    /// Its root.
    pub root: Hash,
}

/// An entry that a trusted key has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEntry {
    /// What was signed.
    pub entry: Entry,
    /// The key that has signed it.
    pub key: PublicKey,
}

impl Entry {
    /// An entry of this version. The time is cut to the millisecond.
    pub fn new(
        log: &str,
        index: u64,
        statement: &str,
        sha256: Sha256Digest,
        entered: Timestamp,
        previous: Option<Previous>,
    ) -> Self {
        let entered = Timestamp::from_millisecond(entered.as_millisecond()).unwrap_or(entered);
        let (log, statement) = (log.to_owned(), statement.to_owned());
        Self { v: VERSION, log, index, statement, sha256, entered, previous }
    }

    /// Signs it in the name of its log: the bytes of the leaf.
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let json = serde_json::to_string(self).expect("texts and numbers always serialize");
        note::sign(&format!("{json}\n"), &self.log, key).into_bytes()
    }

    /// What a leaf says, whoever said it; for showing and for telling foreign leaves apart.
    pub fn parse(leaf: &[u8]) -> Result<Self, NoteError> {
        Self::of_text(note::text_of(leaf)?)
    }

    /// The entry, if a trusted key has signed it.
    pub fn open(leaf: &[u8], trusted: &[PublicKey]) -> Result<SignedEntry, NoteError> {
        let opened = note::open(leaf, trusted)?;
        Ok(SignedEntry { entry: Self::of_text(&opened.text)?, key: opened.key })
    }

    /// [`open`](Self::open), and it must have been made for this place.
    pub fn open_at(leaf: &[u8], trusted: &[PublicKey], log: &str, index: u64) -> Result<SignedEntry, NoteError> {
        let signed = Self::open(leaf, trusted)?;
        if signed.entry.log != log {
            return Err(NoteError::Origin { found: signed.entry.log, expected: log.to_owned() });
        }
        if signed.entry.index != index {
            return Err(NoteError::Content("for this place: it is a copy of another entry"));
        }
        Ok(signed)
    }

    fn of_text(text: &str) -> Result<Self, NoteError> {
        let bad = NoteError::Content("an entry");
        let entry: Self = serde_json::from_str(text).map_err(|_| bad.clone())?;
        if entry.v == VERSION { Ok(entry) } else { Err(NoteError::Content("an entry that this version can read")) }
    }
}

/// The leaf of a slot in which something stands that is longer than [`MAX_BYTES`] and so no entry: nobody reads it, be it
/// terabytes, and a copy need not have the same.
pub fn void() -> Vec<u8> {
    b"void\n".to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        let key = SigningKey::from_seed(&[7; 32]);
        let previous = Some(Previous { size: 4, root: Hash([9; 32]) });
        let time = "2026-11-21T20:07:32.1234567Z".parse().unwrap();
        let entry = Entry::new("lifeboat.dev/ledger/x/acme", 4, "a.dsse.json", Sha256Digest([1; 32]), time, previous);
        let leaf = entry.sign(&key);
        let text = String::from_utf8(leaf.clone()).unwrap();
        let start = "{\"v\":1,\"log\":\"lifeboat.dev/ledger/x/acme\",\"index\":4,\"statement\":\"a.dsse.json\",\"sha256\":\"0101";
        assert!(text.starts_with(start), "{text}");
        assert!(
            text.contains("\"entered\":\"2026-11-21T20:07:32.123Z\",\"previous\":{\"size\":4,\"root\":\"0909"),
            "{text}"
        );
        let trusted = [key.public()];
        assert_eq!(
            Entry::open_at(&leaf, &trusted, &entry.log, 4).unwrap(),
            SignedEntry { entry: entry.clone(), key: key.public() }
        );
        assert_eq!(Entry::parse(&leaf).unwrap(), entry);
        assert!(matches!(Entry::open_at(&leaf, &trusted, &entry.log, 5), Err(NoteError::Content(_))));
        assert!(matches!(Entry::open_at(&leaf, &trusted, "other", 4), Err(NoteError::Origin { .. })));
        assert_eq!(Entry::open(&leaf, &[]), Err(NoteError::NoTrustedSignature));
        let later = Entry { v: 2, ..entry };
        assert!(Entry::open(&later.sign(&key), &trusted).is_err());
        assert_eq!(Entry::parse(&void()), Err(NoteError::NotANote("it has no empty line")));
    }
}
