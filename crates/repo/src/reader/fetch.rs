//! Ranged reads from packs. age cuts its payload into pieces of 64 KiB with a tag of 16 bytes each, so a part of a pack
//! can be opened without the rest, once its header has been read.

use std::{
    collections::HashMap,
    io::{Cursor, Read as _, Seek as _, SeekFrom},
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
    pub fn open(&self, sealed: SealedRange) -> std::result::Result<OpenRange, OpenError> {
        let file = SparseFile::new(sealed.head.bytes, sealed.body, sealed.body_start);
        Ok(OpenRange(seal::open(&self.identities, file)?))
    }

    async fn head(&self, pack: ObjectId, object: &ObjectRef) -> Result<Head> {
        if let Some((_, head)) = self.lock().iter().find(|(id, _)| *id == pack) {
            return Ok(head.clone());
        }
        let bytes = self.store.get(&object.key, object.version.as_ref(), Some(0..HEAD.min(object.len))).await?;
        let payload = self.payload(&bytes).map_err(|e| e.of(&object.key, &self.needed))?;
        let head = Head { bytes: bytes.slice(..payload.min(bytes.len())), payload: payload as u64 };
        let mut heads = self.lock();
        if heads.len() >= HEADS {
            heads.remove(0);
        }
        heads.push((pack, head.clone()));
        Ok(head)
    }

    /// Where the payload begins: behind the header and the nonce.
    fn payload(&self, bytes: &Bytes) -> std::result::Result<usize, OpenError> {
        let mut cursor = Cursor::new(&bytes[..]);
        drop(seal::open(&self.identities, &mut cursor)?);
        Ok(cursor.position() as usize)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(ObjectId, Head)>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a pack that gives plaintext.
pub(super) struct OpenRange(age::stream::StreamReader<SparseFile>);

impl OpenRange {
    /// The bytes of one frame, in `buffer`.
    pub fn frame(&mut self, offset: u32, len: u32, buffer: &mut Vec<u8>) -> std::io::Result<()> {
        self.0.seek(SeekFrom::Start(offset.into()))?;
        buffer.resize(len as usize, 0);
        self.0.read_exact(buffer)
    }
}
