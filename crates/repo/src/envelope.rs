//! Signed objects: a public header that everybody can verify, and a sealed part that few can open.
//!
//! Recovery points, WAL objects and documents have the same form, and differ in what they start with and in what
//! precedes the signed header, so that none can pass for another. FORMAT.md ("Signed objects") has the bytes.

use bytes::Bytes;
use lifeboat_model::{
    id::Sha256Digest,
    signature::{PublicKey, SigningKey},
};
use lifeboat_store::Key;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::{
    error::{Error, Result},
    trust::Trust,
};

/// The version of the stored format that this release writes.
pub const FORMAT: u32 = 1;

const SIGNATURE_LEN: usize = 32 + 64;
const DIGEST_LEN: usize = 32;

/// What tells one kind of signed object from another.
pub(crate) struct Envelope {
    /// What the object starts with.
    pub magic: &'static [u8; 8],
    /// What precedes the header in the signed message: a signature over anything else can never pass for one.
    pub domain: &'static [u8],
    /// The longest header, in bytes.
    pub longest: u32,
}

/// The header of one kind of signed object.
pub(crate) trait Header: Serialize + DeserializeOwned {
    /// How objects of this kind are told.
    const ENVELOPE: Envelope;
    /// The names in `features` that this release understands.
    const FEATURES: &'static [&'static str] = &[];
    /// What it says of the sealed part.
    fn sealed(&self) -> &SealedPart;
}

/// The sealed part, as the header vouches for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedPart {
    /// Length of the ciphertext.
    pub len: u64,
    /// SHA-256 of the ciphertext.
    pub sha256: Sha256Digest,
}

/// An object whose digest and signature have been verified.
pub(crate) struct Opened<H> {
    pub header: H,
    /// The key that signed it.
    pub signer: PublicKey,
    /// SHA-256 of the whole object.
    pub sha256: Sha256Digest,
    pub sealed: Bytes,
}

fn message<H: Header>(header: &[u8]) -> Vec<u8> {
    [H::ENVELOPE.domain, header].concat()
}

/// The whole object: header, signature, sealed part, digest. Nothing where the header is too long.
pub(crate) fn encode<H: Header>(header: &H, sealed: &[u8], signing: &SigningKey) -> Option<Vec<u8>> {
    let json = serde_json::to_vec(header).expect("a header has only text keys");
    let len = u32::try_from(json.len()).ok().filter(|len| *len <= H::ENVELOPE.longest)?;
    let mut out = Vec::with_capacity(json.len() + sealed.len() + 256);
    out.extend_from_slice(H::ENVELOPE.magic);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&json);
    out.extend_from_slice(&1u16.to_le_bytes());
    out.extend_from_slice(signing.public().as_bytes());
    out.extend_from_slice(&signing.sign(&message::<H>(&json)));
    out.extend_from_slice(&(sealed.len() as u64).to_le_bytes());
    out.extend_from_slice(sealed);
    let digest = Sha256::digest(&out);
    out.extend_from_slice(&digest);
    Some(out)
}

/// What comes before the sealed part; every part is bounded by what is really there.
struct Front<'a> {
    header: &'a [u8],
    signatures: Vec<&'a [u8; SIGNATURE_LEN]>,
    sealed_len: u64,
}

/// Why the front could not be read.
enum Cut {
    /// More bytes are needed, so many at least.
    Short(u64),
    Bad(String),
}

/// Cuts off the front; gives the rest too.
fn front<H: Header>(bytes: &[u8]) -> std::result::Result<(Front<'_>, &[u8]), Cut> {
    let len = bytes.len() as u64;
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(Cut::Short(8))?;
    if magic != H::ENVELOPE.magic {
        return Err(Cut::Bad(format!("it does not start with {}", H::ENVELOPE.magic.escape_ascii())));
    }
    let (header_len, rest) = rest.split_first_chunk::<4>().ok_or(Cut::Short(12))?;
    let header_len = u32::from_le_bytes(*header_len);
    if header_len > H::ENVELOPE.longest {
        return Err(Cut::Bad("its header is too long".into()));
    }
    let missing = |rest: &[u8], wanted: usize| Cut::Short(len + (wanted - rest.len()) as u64);
    let wanted = header_len as usize;
    let (header, rest) = rest.split_at_checked(wanted).ok_or_else(|| missing(rest, wanted + 2))?;
    let (count, mut rest) = rest.split_first_chunk::<2>().ok_or_else(|| missing(rest, 2))?;
    let mut signatures = Vec::new();
    let count = u16::from_le_bytes(*count);
    for index in 0..count {
        let left = usize::from(count - index) * SIGNATURE_LEN + 8;
        let (signature, after) = rest.split_first_chunk::<SIGNATURE_LEN>().ok_or_else(|| missing(rest, left))?;
        signatures.push(signature);
        rest = after;
    }
    let (sealed_len, rest) = rest.split_first_chunk::<8>().ok_or_else(|| missing(rest, 8))?;
    Ok((Front { header, signatures, sealed_len: u64::from_le_bytes(*sealed_len) }, rest))
}

impl Front<'_> {
    /// Verifies the signature and reads the header.
    fn verified<H: Header>(&self, key: &Key, trust: &Trust<'_>) -> Result<(H, PublicKey)> {
        let untrusted = |reason| Error::Untrusted { object: key.to_string(), reason };
        let signer = self.signer::<H>(trust).map_err(untrusted)?;
        let bad = |e: serde_json::Error| Error::damaged(key, format!("its header: {e}"));
        // A newer format is told from damage before the strict reading.
        serde_json::from_slice::<Version>(self.header).map_err(bad)?.check_for(key, H::FEATURES)?;
        let header: H = serde_json::from_slice(self.header).map_err(bad)?;
        if header.sealed().len != self.sealed_len {
            return Err(Error::damaged(key, "the sealed part is not the one that was signed"));
        }
        Ok((header, signer))
    }

    fn signer<H: Header>(&self, trust: &Trust<'_>) -> std::result::Result<PublicKey, String> {
        let message = message::<H>(self.header);
        let mut why = "it is signed by no key in keys.trusted_keys".to_owned();
        for signature in &self.signatures {
            for key in trust.trusted.iter().filter(|key| key.as_bytes()[..] == signature[..32]) {
                match (key.verify(&message, &signature[32..]).is_ok(), trust.revoked(key)) {
                    (true, None) => return Ok(*key),
                    (true, Some(revoked)) => why = revoked,
                    (false, _) => why = "its signature does not verify: the header was changed after signing".into(),
                }
            }
        }
        Err(why)
    }
}

/// Reads a whole object and verifies digest and signature.
pub(crate) fn decode<H: Header>(key: &Key, bytes: &Bytes, trust: &Trust<'_>) -> Result<Opened<H>> {
    let damaged = |reason: &str| Error::damaged(key, reason);
    let (body, digest) = bytes.split_last_chunk::<DIGEST_LEN>().ok_or_else(|| damaged("it is too short"))?;
    let mut hash = Sha256::new_with_prefix(body);
    if hash.clone().finalize()[..] != digest[..] {
        return Err(damaged("its digest does not fit: it was cut short or changed"));
    }
    let (front, sealed) = front::<H>(body).map_err(|cut| match cut {
        Cut::Short(_) => damaged("a part is cut short"),
        Cut::Bad(reason) => damaged(&reason),
    })?;
    if front.sealed_len != sealed.len() as u64 {
        return Err(damaged("the sealed part's length does not fit"));
    }
    let (header, signer) = front.verified::<H>(key, trust)?;
    if header.sealed().sha256.0 != <[u8; 32]>::from(Sha256::digest(sealed)) {
        return Err(damaged("the sealed part is not the one that was signed"));
    }
    hash.update(digest);
    let sha256 = Sha256Digest(hash.finalize().into());
    Ok(Opened { header, signer, sha256, sealed: bytes.slice_ref(sealed) })
}

/// The header of a whole object whose own digest fits, whoever signed it: what it says is just what somebody wrote.
pub(crate) fn unverified<H: Header>(key: &Key, bytes: &Bytes) -> Result<H> {
    let damaged = |reason: &str| Error::damaged(key, reason);
    let (body, digest) = bytes.split_last_chunk::<DIGEST_LEN>().ok_or_else(|| damaged("it is too short"))?;
    if Sha256::digest(body)[..] != digest[..] {
        return Err(damaged("its digest does not fit: it was cut short or changed"));
    }
    let (front, _) = front::<H>(body).map_err(|_| damaged("a part is cut short, or it is none"))?;
    let bad = |e: serde_json::Error| Error::damaged(key, format!("its header: {e}"));
    serde_json::from_slice::<Version>(front.header).map_err(bad)?.check_for(key, H::FEATURES)?;
    serde_json::from_slice(front.header).map_err(bad)
}

/// Bytes that tell what an object is, and how long its header.
pub(crate) const START: u64 = 12;

/// Sees by the first [`START`] bytes of an object of `len` bytes whether it can be one of this kind at all.
pub(crate) fn check_start<H: Header>(key: &Key, start: &[u8], len: u64) -> Result<()> {
    match front::<H>(start) {
        Err(Cut::Bad(reason)) => Err(Error::damaged(key, reason)),
        Err(Cut::Short(needed)) if needed > len => Err(Error::damaged(key, "a part is cut short")),
        _ => Ok(()),
    }
}

/// What a first part of an object is enough for.
pub(crate) enum Head<H> {
    Header(H),
    /// Read so many bytes.
    Needs(u64),
}

/// Reads the header from the first bytes of an object of `len` bytes, and verifies its signature. What follows is
/// taken on trust, but for its length.
pub(crate) fn decode_head<H: Header>(key: &Key, start: &[u8], len: u64, trust: &Trust<'_>) -> Result<Head<H>> {
    let (front, rest) = match front::<H>(start) {
        Ok(parts) => parts,
        Err(Cut::Short(needed)) if needed <= len => return Ok(Head::Needs(needed)),
        Err(Cut::Short(_)) => return Err(Error::damaged(key, "a part is cut short")),
        Err(Cut::Bad(reason)) => return Err(Error::damaged(key, reason)),
    };
    let (header, _) = front.verified::<H>(key, trust)?;
    let before = (start.len() - rest.len()) as u64;
    let whole = before.checked_add(front.sealed_len).and_then(|end| end.checked_add(DIGEST_LEN as u64));
    match whole == Some(len) {
        true => Ok(Head::Header(header)),
        false => Err(Error::damaged(key, format!("it has {len} bytes, its header speaks of others"))),
    }
}

/// The fields of every public JSON object that decide whether the rest can be understood.
#[derive(Deserialize)]
pub(crate) struct Version {
    format: u32,
    #[serde(default)]
    features: Vec<String>,
}

impl Version {
    /// Refuses what a newer release wrote; some features are known.
    pub fn check_for(&self, object: impl ToString, known: &[&str]) -> Result<()> {
        let unknown = |what: String| Err(Error::Unknown { object: object.to_string(), what });
        match self.features.iter().find(|feature| !known.contains(&feature.as_str())) {
            _ if self.format != FORMAT => unknown(format!("format {}", self.format)),
            Some(feature) => unknown(format!("the feature \"{feature}\"")),
            None => Ok(()),
        }
    }
}

/// Numbers that do not fit a double, as text in JSON.
pub(crate) mod decimal_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(value: &u64, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
        String::deserialize(input)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Note {
        format: u32,
        text: String,
        sealed: SealedPart,
    }

    impl Header for Note {
        const ENVELOPE: Envelope = Envelope { magic: b"LBNOTE01", domain: b"a note\n", longest: 1000 };
        fn sealed(&self) -> &SealedPart {
            &self.sealed
        }
    }

    /// The same bytes in another role.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(transparent)]
    struct Bill(Note);

    impl Header for Bill {
        const ENVELOPE: Envelope = Envelope { magic: b"LBNOTE01", domain: b"a bill\n", longest: 1000 };
        fn sealed(&self) -> &SealedPart {
            &self.0.sealed
        }
    }

    fn signing() -> SigningKey {
        SigningKey::from_seed(&[7; 32])
    }

    fn key() -> Key {
        Key::new("a/note").unwrap()
    }

    fn note(text: &str) -> (Note, Vec<u8>) {
        let sealed = vec![9; 5000];
        let part = SealedPart { len: 5000, sha256: crate::seal::digest(&sealed) };
        (Note { format: FORMAT, text: text.into(), sealed: part }, sealed)
    }

    fn sample() -> (Note, Vec<u8>) {
        let (header, sealed) = note("hello");
        let bytes = encode(&header, &sealed, &signing()).unwrap();
        (header, bytes)
    }

    #[test]
    fn a_signature_counts_in_its_own_role_alone() {
        let (header, bytes) = sample();
        let trusted = [signing().public()];
        let opened: Opened<Note> = decode(&key(), &bytes.clone().into(), &Trust::own(&trusted)).unwrap();
        assert_eq!((opened.header, opened.sealed.len()), (header, 5000));
        let error = decode::<Bill>(&key(), &bytes.into(), &Trust::own(&trusted)).err().unwrap();
        assert!(matches!(error, Error::Untrusted { .. }), "{error}");
    }

    #[test]
    fn a_head_asks_for_as_much_as_it_needs_and_no_more() {
        let (header, bytes) = sample();
        let len = bytes.len() as u64;
        let front = len as usize - 5000 - DIGEST_LEN;
        let mut given = 0;
        loop {
            match decode_head::<Note>(&key(), &bytes[..given], len, &Trust::own(&[signing().public()])).unwrap() {
                Head::Needs(more) if given < front => {
                    assert!(more as usize > given && more as usize <= front, "{given} then {more} of {front}");
                    given += 1; // every length short of the front's is answered like this
                }
                Head::Needs(more) => panic!("{more} needed, the front has {front}"),
                Head::Header(found) => break assert_eq!((found, given), (header, front)),
            }
        }
    }

    #[test]
    fn a_head_of_a_wrong_length_or_with_any_change_is_refused() {
        let (_, bytes) = sample();
        let (len, trusted) = (bytes.len() as u64, [signing().public()]);
        let front = bytes.len() - 5000 - DIGEST_LEN;
        let refused = |start: &[u8], len: u64| match decode_head::<Note>(&key(), start, len, &Trust::own(&trusted)) {
            Ok(Head::Header(_)) => false,
            Ok(Head::Needs(more)) => more > start.len() as u64 && more <= len, // the caller reads on, and is told then
            Err(_) => true,
        };
        assert!(!refused(&bytes[..front], len));
        for wrong in [len - 1, len + 1, front as u64, 20] {
            assert!(refused(&bytes[..front], wrong), "{wrong} bytes");
        }
        for at in 0..front {
            let mut changed = bytes[..front].to_vec();
            changed[at] ^= 0x10;
            assert!(refused(&changed, len), "byte {at}");
        }
    }

    #[test]
    fn long_headers_are_neither_written_nor_read() {
        let (header, sealed) = note(&"x".repeat(2000));
        assert!(encode(&header, &sealed, &signing()).is_none());
        let (_, mut bytes) = sample();
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        let error =
            decode_head::<Note>(&key(), &bytes, bytes.len() as u64, &Trust::own(&[signing().public()])).err().unwrap();
        assert!(error.to_string().contains("too long"), "{error}");
    }
}
