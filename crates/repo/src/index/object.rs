//! The bytes of an index object (FORMAT.md, "Indexes").

use std::io::{Read as _, Write as _};

use lifeboat_model::id::{ObjectId, Sha256Digest};
use lifeboat_store::VersionId;

use super::PackMeta;
use crate::{
    pack::PackTable,
    seal::{self, Identity, OpenError},
    wire::{Bad, Input, Output},
};

const MAGIC: &[u8; 8] = b"LBINDX01";
/// An index of this writer has a few MiB.
const MAX_PLAIN: u64 = 256 << 20;

/// A durable pack and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexedPack {
    pub id: ObjectId,
    pub meta: PackMeta,
    pub table: PackTable,
}

/// The content of an index object.
#[derive(Debug)]
pub(crate) struct IndexContent {
    pub chunk_key: ObjectId,
    pub recipients: Vec<String>,
    /// Whether its word on packs counts; else only packs that a signed point names may be used.
    pub vouched: bool,
    pub packs: Vec<IndexedPack>,
}

/// The plaintext of an index object.
pub(super) fn encode(chunk_key: ObjectId, recipients: &[String], packs: &[IndexedPack]) -> std::io::Result<Vec<u8>> {
    let mut out = Output::default();
    out.bytes(&chunk_key.0);
    out.number(recipients.len() as u64);
    recipients.iter().for_each(|recipient| out.text(recipient.as_bytes()));
    out.number(packs.len() as u64);
    for pack in packs {
        out.bytes(&pack.id.0);
        out.number(pack.meta.len);
        out.bytes(&pack.meta.sha256.0);
        out.text(pack.meta.version.as_ref().map_or(&[], |version| version.0.as_bytes()));
        pack.table.encode(&mut out);
    }
    let mut plain = MAGIC.to_vec();
    let mut zstd = zstd::Encoder::new(&mut plain, 1)?; // nearly all of it is chunk ids, which do not compress
    zstd.write_all(out.as_bytes())?;
    zstd.finish()?;
    Ok(plain)
}

/// Opens and reads an index object.
pub(super) fn decode(identities: &[Identity], file: &[u8]) -> Result<IndexContent, OpenError> {
    let bad = |reason: String| OpenError::Damaged(reason);
    let plain = seal::open_all(identities, file)?;
    let compressed = plain.strip_prefix(MAGIC).ok_or_else(|| bad("it is no index of version 1".into()))?;
    let mut content = Vec::new();
    let zstd = zstd::Decoder::new(compressed).map_err(|e| bad(e.to_string()))?;
    zstd.take(MAX_PLAIN).read_to_end(&mut content).map_err(|e| bad(e.to_string()))?;
    read(&content).map_err(|reason| bad(reason.to_owned()))
}

fn read(content: &[u8]) -> Result<IndexContent, Bad> {
    let mut input = Input::new(content);
    let chunk_key = ObjectId(input.array()?);
    let mut recipients = Vec::new();
    for _ in 0..input.count(1)? {
        recipients.push(text(&mut input)?);
    }
    let mut packs = Vec::new();
    for _ in 0..input.count(51)? {
        let id = ObjectId(input.array()?);
        let len = input.number()?;
        let sha256 = Sha256Digest(input.array()?);
        let version = Some(text(&mut input)?).filter(|text| !text.is_empty()).map(VersionId);
        let table = PackTable::decode(&mut input)?;
        packs.push(IndexedPack { id, meta: PackMeta { len, sha256, version, retain_until: None }, table });
    }
    input.end()?;
    Ok(IndexContent { chunk_key, recipients, vouched: true, packs })
}

fn text(input: &mut Input<'_>) -> Result<String, Bad> {
    String::from_utf8(input.text()?.to_vec()).map_err(|_| "a name is not text")
}

#[cfg(test)]
mod tests {
    use lifeboat_model::id::ChunkId;

    use super::*;
    use crate::pack::FrameTable;

    #[test]
    fn round_trip() {
        let identity = Identity::generate();
        let frame = FrameTable { len: 10, raw_len: 5, chunks: vec![(ChunkId([1; 32]), 2), (ChunkId([2; 32]), 3)] };
        let meta = |version| PackMeta { len: 99, sha256: Sha256Digest([4; 32]), version, retain_until: None };
        let pack = |id, version| IndexedPack {
            id: ObjectId([id; 16]),
            meta: meta(version),
            table: PackTable { frames: vec![frame.clone()] },
        };
        let packs = vec![pack(1, None), pack(2, Some(VersionId("v2".into())))];
        let plain = encode(ObjectId([9; 16]), &["age1x".into()], &packs).unwrap();
        let file = seal::seal(&[identity.recipient()], &plain).unwrap().bytes;
        let content = decode(&[identity], &file).unwrap();
        assert_eq!((content.chunk_key, content.packs), (ObjectId([9; 16]), packs));
        assert_eq!(content.recipients, ["age1x"]);
        assert!(matches!(decode(&[Identity::generate()], &file), Err(OpenError::WrongIdentity)));
    }
}
