//! The bytes of a point's files, one after the other, as a writer takes them.
//!
//! A restore reads in the order of places, which is fast and in no order of files. Here files come in theirs; packs are
//! fetched whole, opened, and some are kept, since a file's chunks mostly lie side by side. Each pack is held against the
//! digest in the signed header and each chunk against its id.

use std::{collections::HashMap, collections::VecDeque, sync::Arc};

use lifeboat_model::id::ObjectId;

use crate::{
    blocking::blocking,
    chunk::ChunkKey,
    error::{Error, Result},
    frame::Decompressor,
    layout,
    point::{ObjectKind, ObjectRef, Point},
    repository::InstanceRepo,
    seal::{self, Identity},
    tree::Extent,
};

/// Opened packs that are kept: 16 MiB each as a rule.
const OPEN: usize = 6;

/// Reads chunks of one point.
pub(super) struct Content {
    repo: InstanceRepo,
    identities: Vec<Identity>,
    needed: String,
    chunk_key: ChunkKey,
    packs: HashMap<ObjectId, ObjectRef>,
    /// The one used last stands last.
    open: VecDeque<(ObjectId, Arc<Vec<u8>>)>,
    frame: Option<Frame>,
}

/// The frame read last, decompressed.
struct Frame {
    pack: ObjectId,
    offset: u32,
    raw: Arc<Vec<u8>>,
}

impl Content {
    pub fn new(repo: &InstanceRepo, point: &Point, chunk_key: &ChunkKey, identities: &[Identity]) -> Self {
        let packs = point.header.objects.iter().filter(|object| object.kind == ObjectKind::Pack);
        Self {
            repo: repo.clone(),
            identities: identities.to_vec(),
            needed: format!("a recovery identity of {}", point.header.recipients.join(" or ")),
            chunk_key: chunk_key.clone(),
            packs: packs.filter_map(|object| Some((layout::last_id(&object.key)?, object.clone()))).collect(),
            open: VecDeque::new(),
            frame: None,
        }
    }

    /// The bytes of an extent.
    pub async fn chunk(&mut self, extent: &Extent) -> Result<Vec<u8>> {
        let raw = self.frame(extent).await?;
        let start = extent.offset_in_frame as usize;
        let bytes = start.checked_add(extent.len as usize).and_then(|end| raw.get(start..end));
        match bytes.filter(|bytes| self.chunk_key.chunk_id(bytes) == extent.chunk) {
            Some(bytes) => Ok(bytes.to_vec()),
            None => {
                Err(Error::damaged(self.object(extent.pack)?.key.clone(), "a chunk is not the one that was stored"))
            }
        }
    }

    async fn frame(&mut self, extent: &Extent) -> Result<Arc<Vec<u8>>> {
        if let Some(frame) = &self.frame
            && (frame.pack, frame.offset) == (extent.pack, extent.frame_offset)
        {
            return Ok(frame.raw.clone());
        }
        let (plain, key) = (self.pack(extent.pack).await?, self.object(extent.pack)?.key.clone());
        let (start, len) = (extent.frame_offset as usize, extent.frame_len as usize);
        let raw = blocking("opening a frame", move || {
            let frame = start.checked_add(len).and_then(|end| plain.get(start..end));
            let frame = frame.ok_or_else(|| Error::damaged(&key, "a tree names a place behind its end"))?;
            let starting = |source| Error::Io { what: "starting zstd".into(), source };
            let mut decompressor = Decompressor::new().map_err(starting)?;
            decompressor.open(frame).map(<[u8]>::to_vec).map_err(|reason| Error::damaged(&key, reason))
        });
        let raw = Arc::new(raw.await?);
        self.frame = Some(Frame { pack: extent.pack, offset: extent.frame_offset, raw: raw.clone() });
        Ok(raw)
    }

    async fn pack(&mut self, id: ObjectId) -> Result<Arc<Vec<u8>>> {
        if let Some(at) = self.open.iter().position(|(open, _)| *open == id)
            && let Some(used) = self.open.remove(at)
        {
            let plain = used.1.clone();
            self.open.push_back(used);
            return Ok(plain);
        }
        while self.open.len() >= OPEN {
            self.open.pop_front();
        }
        let object = self.object(id)?.clone();
        let file = self.repo.store_of(object.version.as_ref()).get(&object.key, object.version.as_ref(), None).await?;
        let (identities, needed) = (self.identities.clone(), self.needed.clone());
        let opening = move || {
            object.check(&file)?;
            seal::open_all(&identities, &file).map_err(|error| error.of(&object.key, &needed))
        };
        let plain = Arc::new(blocking("opening a pack", opening).await?);
        self.open.push_back((id, plain.clone()));
        Ok(plain)
    }

    fn object(&self, pack: ObjectId) -> Result<&ObjectRef> {
        let unnamed = || Error::damaged(self.repo.layout().pack(pack), "the point does not name this pack");
        self.packs.get(&pack).ok_or_else(unnamed)
    }
}
