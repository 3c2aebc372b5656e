//! What a WAL object holds, sealed: the slices of recovery points and those of the archive are the same inside.

use std::io::Write as _;

use bytes::Bytes;
use lifeboat_model::lsn::Lsn;
use lifeboat_store::Key;

use super::MAX_OBJECT;
use crate::{
    error::{Error, Result},
    seal::{self, Identity, Recipient, SealedBytes, Sealer},
};

const MAGIC: &[u8; 8] = b"LBWAL001";

/// Where bytes of WAL belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub system_id: u64,
    pub timeline: u32,
    pub first: Lsn,
    pub last: Lsn,
}

impl Range {
    /// The range of `len` bytes; refused where no object may have so many.
    pub fn new(system_id: u64, timeline: u32, first: Lsn, len: usize) -> Result<Self> {
        let last = first.0.checked_add(len as u64).filter(|_| len > 0 && len as u64 <= MAX_OBJECT);
        let refuse = || format!("WAL at {first} has {len} bytes; 1 to {MAX_OBJECT} are possible in one object");
        let last = Lsn(last.ok_or_else(|| Error::usage(refuse()))?);
        Ok(Self { system_id, timeline, first, last })
    }

    fn head(&self) -> Vec<u8> {
        let head = [
            &MAGIC[..],
            &self.system_id.to_le_bytes(),
            &self.timeline.to_le_bytes(),
            &self.first.0.to_le_bytes(),
            &self.last.0.to_le_bytes(),
        ];
        head.concat()
    }
}

/// Compresses and seals.
pub(crate) fn seal(recipients: &[Recipient], level: i32, range: Range, bytes: &[u8]) -> Result<SealedBytes> {
    let zstd_error = |source| Error::Io { what: "compressing WAL".into(), source };
    let mut sealer = Sealer::new(recipients, Vec::with_capacity(bytes.len() / 2))?;
    sealer.write_all(&range.head()).expect("a write into memory cannot fail");
    // In one go: an encoder that is fed piece by piece copies each, and searches its split window by a slower way.
    let packed = zstd::bulk::compress(bytes, level).map_err(zstd_error)?;
    sealer.write_all(&packed).expect("a write into memory cannot fail");
    Ok(sealer.finish())
}

/// Opens; exactly the bytes of the range, or an error that names the object.
pub(crate) fn open(key: &Key, range: Range, file: &[u8], identities: &[Identity], needed: &str) -> Result<Bytes> {
    let plain = seal::open_all(identities, file).map_err(|e| e.of(key, needed))?;
    let packed = plain.strip_prefix(range.head().as_slice());
    let packed = packed.ok_or_else(|| Error::damaged(key, "it is not the slice that its name says"))?;
    let length = range.last.0.checked_sub(range.first.0).and_then(|length| usize::try_from(length).ok());
    let length = length.ok_or_else(|| Error::damaged(key, "it ends before it starts"))?;
    let bytes = zstd::bulk::decompress(packed, length).map_err(|e| Error::damaged(key, e))?;
    if bytes.len() != length {
        return Err(Error::damaged(key, format!("it holds {} bytes, not {length}", bytes.len())));
    }
    Ok(bytes.into())
}
