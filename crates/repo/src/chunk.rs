//! Chunk ids: keyed BLAKE3, so that an id tells nothing about the bytes to anybody without the key.

use std::fmt;

use jiff::Timestamp;
use lifeboat_model::id::{ChunkId, ObjectId};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{error::Result, seal::Recipient};

/// The longest chunk.
pub(crate) const MAX_CHUNK: u32 = 4 << 20;

const TYPE: &str = "lifeboat-chunk-key";

/// The secret under which chunks are named, and who can read it.
#[derive(Clone)]
pub(crate) struct ChunkKey {
    pub id: ObjectId,
    pub recipients: Vec<String>,
    pub created: Timestamp,
    secret: Zeroizing<[u8; 32]>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    r#type: String,
    format: u32,
    id: ObjectId,
    chunk_key: String,
    recipients: Vec<String>,
    created: Timestamp,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.chunk_key.zeroize();
    }
}

impl ChunkKey {
    /// A new random key.
    pub fn generate(recipients: &[Recipient], created: Timestamp) -> Result<Self> {
        let recipients = recipients.iter().map(ToString::to_string).collect();
        let mut secret = Zeroizing::new([0; 32]);
        crate::random::fill(&mut *secret)?;
        Ok(Self { id: ObjectId(crate::random::bytes()?), recipients, created, secret })
    }

    /// The id of a chunk.
    pub fn chunk_id(&self, bytes: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.secret, bytes).as_bytes())
    }

    /// Whether everybody in `recipients` can read this key.
    pub fn serves(&self, recipients: &[Recipient]) -> bool {
        recipients.iter().all(|recipient| self.recipients.contains(&recipient.to_string()))
    }

    /// The plaintext of the key's object.
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let stored = Stored {
            r#type: TYPE.to_owned(),
            format: crate::point::FORMAT,
            id: self.id,
            chunk_key: hex::encode(*self.secret),
            recipients: self.recipients.clone(),
            created: self.created,
        };
        Zeroizing::new(serde_json::to_vec(&stored).expect("a key has only text keys"))
    }

    /// Reads it back; the error never repeats the content.
    pub fn from_json(json: &[u8]) -> std::result::Result<Self, &'static str> {
        let stored: Stored = serde_json::from_slice(json).map_err(|_| "it does not hold a chunk key")?;
        let mut secret = Zeroizing::new([0; 32]);
        hex::decode_to_slice(stored.chunk_key.as_bytes(), &mut *secret).map_err(|_| "it does not hold a chunk key")?;
        if stored.r#type != TYPE || stored.format != crate::point::FORMAT {
            return Err("it does not hold a chunk key of version 1");
        }
        Ok(Self { id: stored.id, recipients: stored.recipients.clone(), created: stored.created, secret })
    }
}

impl fmt::Debug for ChunkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkKey({})", self.id)
    }
}

/// Whether all bytes are zero; stops at the first that is not.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<64>();
    let zero = |block: &[u8; 64]| block.iter().fold(0, |all, byte| all | byte) == 0;
    words.iter().all(zero) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Identity;

    #[test]
    fn keys_round_trip_and_ids_depend_on_them() {
        let recipient = Identity::generate().recipient();
        let key = ChunkKey::generate(std::slice::from_ref(&recipient), Timestamp::UNIX_EPOCH).unwrap();
        let again = ChunkKey::from_json(&key.to_json()).unwrap();
        assert_eq!(again.chunk_id(b"x"), key.chunk_id(b"x"));
        assert!(again.serves(&[recipient]) && !again.serves(&[Identity::generate().recipient()]));
        let other = ChunkKey::generate(&[], Timestamp::UNIX_EPOCH).unwrap();
        assert_ne!(other.chunk_id(b"x"), key.chunk_id(b"x"));
        assert!(ChunkKey::from_json(b"{}").is_err());
    }

    #[test]
    fn zeros() {
        for len in [0, 1, 63, 64, 65, 8192] {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes));
            for at in [0, len / 2, len.saturating_sub(1)] {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = 1;
                    assert!(!is_zero(&bytes), "{at} of {len}");
                    bytes[at] = 0;
                }
            }
        }
    }
}
