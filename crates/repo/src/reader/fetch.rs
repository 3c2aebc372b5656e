//! Ranged reads from packs. age cuts its payload into pieces of 64 KiB with a tag of 16 bytes each, so a part of a pack
//! can be opened without the rest, once its header has been read.

use std::{
    collections::HashMap,
    io::{Read as _, Seek as _, SeekFrom},
    ops::Range,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use lifeboat_model::id::ObjectId;
use lifeboat_store::SharedStore;

use super::sparse::SparseFile;
use crate::{
    error::{Error, Result},
    layout,
    point::{ObjectKind, ObjectRef, Point},
    repository::InstanceRepo,
    seal::{self, Identity, OpenError},
};

/// Plaintext and ciphertext of one piece of age's payload (age v1 specification, "Payload").
const PIECE: u64 = 64 << 10;
const SEALED_PIECE: u64 = PIECE + 16;
/// Enough for the header of a file with dozens of recipients.
const HEAD: u64 = 8 << 10;
/// Enough for the largest one that is written: plugins may make long stanzas.
const LONG_HEAD: u64 = seal::MAX_HEADER as u64;
/// Headers kept; a restore goes through packs one after the other.
const HEADS: usize = 64;

/// The packs that a point names.
pub(super) struct Packs {
    store: SharedStore,
    identities: Vec<Identity>,
    needed: String,
    objects: HashMap<ObjectId, ObjectRef>,
    heads: Mutex<Vec<(ObjectId, Head)>>,
}

/// The first bytes of a pack, and where its payload begins.
#[derive(Clone)]
struct Head {
    bytes: Bytes,
    payload: u64,
}

/// A part of a pack, fetched and still sealed.
pub(super) struct SealedRange {
    head: Head,
    body: Bytes,
    body_start: u64,
}

impl Packs {
    pub fn new(repo: &InstanceRepo, point: &Point, identities: &[Identity], needed: &str) -> Self {
        let packs = point.header.objects.iter().filter(|object| object.kind == ObjectKind::Pack);
        let objects = packs.filter_map(|object| Some((layout::last_id(&object.key)?, object.clone()))).collect();
        Self {
            store: repo.store().clone(),
            identities: identities.to_vec(),
            needed: needed.to_owned(),
            objects,
            heads: Mutex::default(),
        }
    }

    /// The pack as the point's header names it.
    pub fn object(&self, pack: ObjectId) -> Option<&ObjectRef> {
        self.objects.get(&pack)
    }

    /// Whether the identities open packs. A pack that is missing or damaged says nothing; the next one is asked.
    pub async fn check_identity(&self) -> Result<()> {
        for (id, object) in self.objects.iter().take(3) {
            match self.head(*id, object).await {
                Err(Error::Store(error)) if error.is_transient() => return Err(error.into()),
                Err(error @ Error::WrongIdentity { .. }) => return Err(error),
                Err(_) => {}
                Ok(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Fetches what is needed to open the plaintext `range` of a pack.
    pub async fn fetch(&self, pack: ObjectId, object: &ObjectRef, range: Range<u64>) -> Result<SealedRange> {
        let head = self.head(pack, object).await?;
        let body_start = head.payload + range.start / PIECE * SEALED_PIECE;
        let body_end = (head.payload + range.end.div_ceil(PIECE) * SEALED_PIECE).min(object.len);
        if body_start >= body_end {
            return Err(Error::damaged(&object.key, "a tree names a place behind its end"));
        }
        let body = self.store.get(&object.key, object.version.as_ref(), Some(body_start..body_end)).await?;
        Ok(SealedRange { head, body, body_start })
    }

    /// Opens a fetched range. A CPU-bound step: for worker threads.
    pub fn open(&self, sealed: SealedRange) -> OpenRange<'_> {
        OpenRange { packs: self, sealed, reader: None }
    }

    async fn head(&self, pack: ObjectId, object: &ObjectRef) -> Result<Head> {
        if let Some((_, head)) = self.lock().iter().find(|(id, _)| *id == pack) {
            return Ok(head.clone());
        }
        let start = |len: u64| self.store.get(&object.key, object.version.as_ref(), Some(0..len.min(object.len)));
        let mut bytes = start(HEAD).await?;
        if seal::header_len(&bytes).is_none() && object.len > HEAD {
            bytes = start(LONG_HEAD).await?;
        }
        let payload = self.payload(&bytes).map_err(|e| e.of(&object.key, &self.needed))?;
        let head = Head { bytes: bytes.slice(..payload.min(bytes.len())), payload: payload as u64 };
        let mut heads = self.lock();
        if heads.len() >= HEADS {
            heads.remove(0);
        }
        heads.push((pack, head.clone()));
        Ok(head)
    }

    /// Where the payload begins: behind the header and the nonce. The header must open for one of the identities.
    fn payload(&self, bytes: &Bytes) -> std::result::Result<usize, OpenError> {
        let payload = seal::header_len(bytes).ok_or_else(|| OpenError::Damaged("it is no age file".into()))?;
        seal::open(&self.identities, &bytes[..])?;
        Ok(payload)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(ObjectId, Head)>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a pack that gives plaintext.
pub(super) struct OpenRange<'a> {
    packs: &'a Packs,
    sealed: SealedRange,
    reader: Option<age::stream::StreamReader<SparseFile>>,
}

impl OpenRange<'_> {
    /// The bytes of one frame, in `buffer`. A frame that does not open says nothing of the next one.
    pub fn frame(&mut self, offset: u32, len: u32, buffer: &mut Vec<u8>) -> std::result::Result<(), OpenError> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => {
                let sealed = &self.sealed;
                let file = SparseFile::new(sealed.head.bytes.clone(), sealed.body.clone(), sealed.body_start);
                seal::open(&self.packs.identities, file)?
            }
        };
        let damaged = |e: std::io::Error| OpenError::Damaged(e.to_string());
        seek(&mut reader, offset.into()).map_err(damaged)?;
        buffer.resize(len as usize, 0);
        reader.read_exact(buffer).map_err(damaged)?;
        // Kept only after success: a reader that failed still holds the piece that did not open.
        self.reader = Some(reader);
        Ok(())
    }
}

/// Goes to a position of the plaintext. Where that is the first byte of a piece, age's own `seek` reads the file's last
/// piece, which is not at hand; a step to the byte after it, and one back inside the piece, does without.
fn seek(reader: &mut age::stream::StreamReader<SparseFile>, position: u64) -> std::io::Result<()> {
    if position > 0 && position.is_multiple_of(PIECE) {
        reader.seek(SeekFrom::Start(position + 1))?;
    }
    reader.seek(SeekFrom::Start(position)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_opens_from_its_range_alone() {
        let identity = Identity::generate();
        let plain: Vec<u8> = (0..300_000u32).map(|n| (n / 7) as u8).collect();
        let file: Bytes = seal::seal(&[identity.recipient()], &plain).unwrap().bytes.into();
        let payload = seal::header_len(&file).unwrap() as u64;
        let edges = [0, 1, 65_535, 65_536, 65_537, 131_071, 131_072, 200_000, 299_999, 300_000];
        for (start, end) in edges.iter().flat_map(|start| edges.map(|end| (*start, end))).filter(|(a, b)| a < b) {
            let body_start = payload + start / PIECE * SEALED_PIECE;
            let body_end = (payload + end.div_ceil(PIECE) * SEALED_PIECE).min(file.len() as u64);
            let body = file.slice(body_start as usize..body_end as usize);
            let sparse = SparseFile::new(file.slice(..payload as usize), body, body_start);
            let mut reader = seal::open(std::slice::from_ref(&identity), sparse).unwrap();
            seek(&mut reader, start).unwrap();
            let mut out = vec![0; (end - start) as usize];
            reader.read_exact(&mut out).unwrap_or_else(|e| panic!("{start}..{end}: {e}"));
            assert!(out == plain[start as usize..end as usize], "{start}..{end}");
        }
    }
}
