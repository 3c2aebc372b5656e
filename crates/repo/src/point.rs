//! The recovery point: one signed object that names everything a restore needs, written last.
//!
//! The header is public, so that integrity, retention and prune need no decryption key; it holds names of objects,
//! sizes and digests of ciphertext, and neither paths nor contents. The details are sealed. FORMAT.md ("Points") has
//! the bytes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lifeboat_model::{
    id::{Instance, ObjectId, PointId, RepositoryId, Sha256Digest, Tenant},
    lsn::Lsn,
    retention::LockMode,
    signature::{PublicKey, SigningKey},
};
use lifeboat_store::{Key, ObjectInfo, VersionId};
use serde::{Deserialize, Serialize};

pub use crate::envelope::{FORMAT, SealedPart};
use crate::{
    envelope::{self, Envelope, Header, Opened, decimal_text},
    error::{Error, Result},
    seal::{self, Identity},
    tree::TreeKind,
    trust::Trust,
};

/// The longest point: the longest header, and details of a very large system.
pub(crate) const LONGEST: u64 = 768 << 20;

/// In the features of a point that holds logical dumps and no instance: a reader that does not know of dumps would take
/// it for a backup.
pub const DUMP: &str = "dump";

/// What kind of object a point names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// Holds the key of the chunk ids.
    Key,
    /// Holds data.
    Pack,
    /// Holds entries.
    Tree,
    /// Holds WAL bytes.
    Wal,
}

/// An object that the point needs, as it was when it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Where it lies.
    pub key: Key,
    /// What it is.
    pub kind: ObjectKind,
    /// Length of the ciphertext.
    pub len: u64,
    /// SHA-256 of the ciphertext.
    pub sha256: Sha256Digest,
    /// The version that was written, where the store has versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionId>,
    /// Until when the store refuses to delete it, as it was put or extended before the point was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_until: Option<Timestamp>,
}

/// A tree of the point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeRef {
    /// Which.
    pub kind: TreeKind,
    /// Its objects, in order.
    pub objects: Vec<Key>,
    /// How many entries it has.
    pub entries: u64,
    /// The sum of its files' sizes.
    pub bytes: u64,
}

/// The WAL of the point: what must be replayed for it to be consistent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalRange {
    /// PostgreSQL's system identifier; text in JSON, since it does not fit a double.
    #[serde(with = "decimal_text")]
    pub system_id: u64,
    /// The timeline of all slices.
    pub timeline: u32,
    /// First position needed.
    pub start: Lsn,
    /// Position after the last one needed.
    pub end: Lsn,
    /// The slices that cover it, in order.
    pub objects: Vec<Key>,
}

/// What everybody may read of a point. Fields that a reader does not know are passed over; what it must know to read
/// the point rightly is announced in `features`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointHeader {
    /// Format version, 1.
    pub format: u32,
    /// What a reader must know beyond the format version; [`DUMP`] is all there is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// The point's id.
    pub point: PointId,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// The owner.
    pub tenant: Tenant,
    /// The instance.
    pub instance: Instance,
    /// When the backup began.
    pub started: Timestamp,
    /// When everything it names was durable.
    pub finished: Timestamp,
    /// What wrote it.
    pub software: String,
    /// The object with the key of its chunk ids.
    pub chunk_key: ObjectId,
    /// The recovery recipients everything is sealed to.
    pub recipients: Vec<String>,
    /// Its trees.
    pub trees: Vec<TreeRef>,
    /// Its WAL, where there is a database.
    pub wal: Option<WalRange>,
    /// Sizes and counts, by name, for people and reports.
    pub sizes: BTreeMap<String, u64>,
    /// Until when all that it names, and itself, was locked when it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_until: Option<Timestamp>,
    /// How firmly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_mode: Option<LockMode>,
    /// The sealed details.
    pub sealed: SealedPart,
    /// Every object it needs.
    pub objects: Vec<ObjectRef>,
}

impl Header for PointHeader {
    // A header of this size names about a million objects.
    const ENVELOPE: Envelope =
        Envelope { magic: b"LBPOINT1", domain: b"lifeboat recovery point v1\n", longest: 512 << 20 };
    const FEATURES: &'static [&'static str] = &[DUMP];

    fn sealed(&self) -> &SealedPart {
        &self.sealed
    }
}

impl PointHeader {
    /// The tree of this kind, where the point has one.
    pub fn tree(&self, kind: TreeKind) -> Option<&TreeRef> {
        self.trees.iter().find(|tree| tree.kind == kind)
    }

    /// Whether it holds logical dumps of single databases, and not an instance.
    pub fn is_dump(&self) -> bool {
        self.features.iter().any(|feature| feature == DUMP)
    }
}

/// What only holders of a recovery identity, and the host that wrote it, may read. The layers above give it meaning.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PointDetails {
    /// Facts about the server.
    #[serde(default)]
    pub postgres: serde_json::Value,
    /// What the source looked like.
    #[serde(default)]
    pub witness: serde_json::Value,
    /// Facts about Odoo: versions, modules, attachments.
    #[serde(default)]
    pub odoo: serde_json::Value,
    /// Anything else, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, serde_json::Value>,
    /// What people should know: files that changed while they were read, and the like.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A point's place, as a listing tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointRef {
    /// When it was finished, to the second.
    pub time: Timestamp,
    /// Its id.
    pub id: PointId,
    /// Its key.
    pub key: Key,
    /// The first version of the key, where the store has versions: no other counts.
    pub version: Option<VersionId>,
    /// Length of the object.
    pub len: u64,
    /// When the store received it, by its own clock.
    pub modified: Timestamp,
}

/// Which point is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PointSelector {
    /// The newest that verifies and holds the instance; points with logical dumps are found by their id alone.
    Latest,
    /// The one whose id starts with these digits.
    Id(String),
}

impl std::str::FromStr for PointSelector {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        match text {
            "latest" => Ok(PointSelector::Latest),
            id if (4..=16).contains(&id.len()) && id.bytes().all(hex) => Ok(PointSelector::Id(id.to_owned())),
            _ => Err(Error::usage(format!("\"{text}\" is not a point: write \"latest\" or 4 to 16 digits of its id"))),
        }
    }
}

/// A point whose digest and signature have been verified.
#[derive(Debug, Clone)]
pub struct Point {
    /// What it names.
    pub header: PointHeader,
    /// Where it lies.
    pub key: Key,
    /// The version that was read or written, where the store has versions.
    pub version: Option<VersionId>,
    /// When the store received it, by its own clock; of one just written, by the writer's.
    pub modified: Timestamp,
    /// Length of the whole object.
    pub len: u64,
    /// SHA-256 of the whole object: what evidence refers to.
    pub sha256: Sha256Digest,
    /// The key that signed it.
    pub signer: PublicKey,
    /// Newer points that were passed over by [`PointSelector::Latest`], and why.
    pub skipped: Vec<String>,
    pub(crate) sealed: bytes::Bytes,
}

impl ObjectRef {
    /// Whether these are the bytes that the signed header names. Sealing alone does not tell: whoever knows the public
    /// recipients can seal another object to them.
    pub(crate) fn check(&self, file: &[u8]) -> Result<()> {
        if file.len() as u64 != self.len {
            return Err(Error::damaged(&self.key, format!("it has {} bytes, {} were written", file.len(), self.len)));
        }
        match seal::digest(file) == self.sha256 {
            true => Ok(()),
            false => Err(Error::damaged(&self.key, "its SHA-256 is not the one that the recovery point names")),
        }
    }
}

impl Point {
    /// Opens the sealed part with a recovery identity or the identity of the host that wrote it.
    pub fn open_details(&self, identities: &[Identity]) -> Result<PointDetails> {
        let needed = format!("a recovery identity of {}", self.header.recipients.join(" or "));
        let plain = seal::open_all(identities, &self.sealed).map_err(|e| e.of(&self.key, &needed))?;
        serde_json::from_slice(&plain).map_err(|e| Error::damaged(&self.key, format!("its details: {e}")))
    }

    /// Where it lies.
    pub fn reference(&self) -> PointRef {
        let (time, id, key) = (self.header.finished, self.header.point, self.key.clone());
        PointRef { time, id, key, version: self.version.clone(), len: self.len, modified: self.modified }
    }

    pub(crate) fn object(&self, key: &Key) -> Result<&ObjectRef> {
        let found = self.header.objects.iter().find(|object| object.key == *key);
        found.ok_or_else(|| Error::damaged(&self.key, format!("it uses {key} but does not name it")))
    }
}

/// The whole object: header, signature, sealed details, digest.
pub(crate) fn encode(header: &PointHeader, sealed: &[u8], signing: &SigningKey) -> Result<Vec<u8>> {
    let too_long = || Error::usage("the point names more objects than a header can hold; use larger packs");
    envelope::encode(header, sealed, signing).ok_or_else(too_long)
}

/// Reads an object and verifies digest and signature.
pub(crate) fn decode(info: &ObjectInfo, bytes: &bytes::Bytes, trust: &Trust<'_>) -> Result<Point> {
    let Opened { header, signer, sha256, sealed } = envelope::decode(&info.key, bytes, trust)?;
    let (key, version, modified, len) = (info.key.clone(), info.version.clone(), info.modified, bytes.len() as u64);
    Ok(Point { header, key, version, modified, len, sha256, signer, skipped: Vec::new(), sealed })
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn key() -> Key {
        Key::new("t/i/points/20261121T200732Z-0101010101010101").unwrap()
    }

    fn info() -> ObjectInfo {
        ObjectInfo { key: key(), len: 0, version: None, modified: Timestamp::UNIX_EPOCH }
    }

    fn sample(signing: &SigningKey) -> (Vec<u8>, Identity) {
        let identity = Identity::generate();
        let details = PointDetails { notes: vec!["odd".into()], ..PointDetails::default() };
        let sealed = seal::seal(&[identity.recipient()], &serde_json::to_vec(&details).unwrap()).unwrap();
        let time: Timestamp = "2026-11-21T20:07:32Z".parse().unwrap();
        let header = PointHeader {
            format: FORMAT,
            features: vec![],
            point: PointId([1; 8]),
            repository: RepositoryId([2; 16]),
            tenant: "t".parse().unwrap(),
            instance: "i".parse().unwrap(),
            started: time,
            finished: time,
            software: "lifeboat test".into(),
            chunk_key: ObjectId([3; 16]),
            recipients: vec![identity.recipient().to_string()],
            trees: vec![],
            wal: Some(WalRange { system_id: u64::MAX, timeline: 1, start: Lsn(1), end: Lsn(2), objects: vec![] }),
            sizes: BTreeMap::new(),
            retain_until: None,
            lock_mode: None,
            sealed: SealedPart { len: sealed.bytes.len() as u64, sha256: sealed.sha256 },
            objects: vec![],
        };
        (encode(&header, &sealed.bytes, signing).unwrap(), identity)
    }

    #[test]
    fn bytes_that_the_header_does_not_name_are_damage() {
        let file = vec![7; 1000];
        let sha256 = seal::digest(&file);
        let object =
            ObjectRef { key: key(), kind: ObjectKind::Tree, len: 1000, sha256, version: None, retain_until: None };
        object.check(&file).unwrap();
        let mut other = file.clone();
        other[999] ^= 1;
        for wrong in [&other[..], &file[..999], &[]] {
            let error = object.check(wrong).unwrap_err();
            assert!(error.to_string().starts_with(&format!("{} is damaged", key())), "{error}");
        }
    }

    #[test]
    fn round_trip() {
        let signing = SigningKey::from_seed(&[7; 32]);
        let (bytes, identity) = sample(&signing);
        let point = decode(&info(), &bytes.into(), &Trust::own(&[signing.public()])).unwrap();
        assert_eq!(point.header.wal.as_ref().unwrap().system_id, u64::MAX);
        assert_eq!(point.open_details(&[identity]).unwrap().notes, ["odd"]);
        let wrong = point.open_details(&[Identity::generate()]).unwrap_err();
        assert!(matches!(wrong, Error::WrongIdentity { .. }), "{wrong}");
    }

    #[test]
    fn every_change_is_refused() {
        let signing = SigningKey::from_seed(&[7; 32]);
        let (bytes, _) = sample(&signing);
        let refused = |bytes: Vec<u8>| decode(&info(), &bytes.into(), &Trust::own(&[signing.public()])).is_err();
        for at in 0..bytes.len() {
            assert!(refused(bytes[..at].to_vec()), "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            assert!(refused(changed.clone()), "byte {at}");
            // A forger mends the digest as well: then the signature, or the header's digest of the details, must tell.
            let len = changed.len();
            if at < len - 32 {
                let digest = Sha256::digest(&changed[..len - 32]);
                changed[len - 32..].copy_from_slice(&digest);
                assert!(refused(changed), "byte {at} with a fitting digest");
            }
        }
    }

    #[test]
    fn other_signers_and_newer_formats_are_told_apart() {
        let signing = SigningKey::from_seed(&[7; 32]);
        let (bytes, _) = sample(&signing);
        let other = SigningKey::from_seed(&[8; 32]).public();
        let error = decode(&info(), &bytes.clone().into(), &Trust::own(&[other])).unwrap_err();
        assert!(matches!(error, Error::Untrusted { .. }), "{error}");

        let point = decode(&info(), &bytes.into(), &Trust::own(&[signing.public()])).unwrap();
        assert!(!point.header.is_dump());
        let dump = PointHeader { features: vec![DUMP.into()], ..point.header.clone() };
        let bytes = encode(&dump, &point.sealed, &signing).unwrap();
        assert!(decode(&info(), &bytes.into(), &Trust::own(&[signing.public()])).unwrap().header.is_dump());
        let newer = PointHeader { format: 2, ..point.header.clone() };
        let richer = PointHeader { features: vec![DUMP.into(), "sparse".into()], ..point.header.clone() };
        for header in [newer, richer] {
            let bytes = encode(&header, &point.sealed, &signing).unwrap();
            let error = decode(&info(), &bytes.into(), &Trust::own(&[signing.public()])).unwrap_err();
            assert!(matches!(error, Error::Unknown { .. }), "{error}");
        }
    }

    #[test]
    fn selectors() {
        assert_eq!("latest".parse::<PointSelector>().unwrap(), PointSelector::Latest);
        assert_eq!("0a1b".parse::<PointSelector>().unwrap(), PointSelector::Id("0a1b".into()));
        for bad in ["", "abc", "last", "0A1B", "00112233445566778"] {
            assert!(bad.parse::<PointSelector>().is_err(), "{bad:?}");
        }
    }
}
