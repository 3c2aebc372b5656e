//! The one thread that puts batches back in order, appends their frames to packs and writes the trees.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, mpsc::Receiver},
};

use bytes::Bytes;
use lifeboat_model::id::{ChunkId, ObjectId};
use tokio::sync::mpsc;

use super::{
    Shared,
    batch::{EndFile, Frame, Op, Outcome, Packed, Piece},
    uploads::Upload,
};
use crate::{
    error::{Error, Result},
    frame::Codec,
    pack::{Location, PackBuilder},
    point::{ObjectKind, TreeRef},
    progress::Counter,
    tree::{Entry, EntryKind, Extent, FinishedTreeObject, TreeBuilder},
};

/// What the trees of a run hold.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub trees: Vec<TreeRef>,
    pub packs: HashSet<ObjectId>,
}

/// Takes batches until there are no more, in the order of their numbers. Of a failed run, they are dropped.
pub(super) fn run(shared: &Arc<Shared>, packed: &Receiver<Packed>, uploads: mpsc::Sender<Upload>) {
    let mut packer = Packer::new(shared.clone(), uploads);
    let mut early = BTreeMap::new();
    let mut next = 0;
    while let Ok(batch) = packed.recv() {
        if shared.failure.is_set() {
            early.clear();
            continue;
        }
        early.insert(batch.batch.number, batch);
        while let Some(batch) = early.remove(&next) {
            next += 1;
            if shared.failure.note(packer.take(batch)).is_none() {
                break;
            }
        }
    }
}

struct Packer {
    shared: Arc<Shared>,
    uploads: mpsc::Sender<Upload>,
    pack: Option<PackBuilder>,
    tree: Option<TreeBuilder>,
    tree_objects: Vec<lifeboat_store::Key>,
    file: Option<(Box<Entry>, Vec<Extent>)>,
    summary: Summary,
}

impl Packer {
    fn new(shared: Arc<Shared>, uploads: mpsc::Sender<Upload>) -> Self {
        let summary = Summary::default();
        Self { shared, uploads, pack: None, tree: None, tree_objects: Vec::new(), file: None, summary }
    }

    fn take(&mut self, packed: Packed) -> Result<()> {
        let Packed { batch, outcomes, frames } = packed;
        let mut places = [Vec::new(), Vec::new()];
        for (frame, places) in frames.into_iter().zip(&mut places) {
            if let Some(frame) = frame {
                *places = self.store(&batch.data, frame)?;
            }
        }
        self.shared.data_buffers.give_back(batch.data);
        let mut outcomes = outcomes.into_iter();
        for op in batch.ops {
            match op {
                Op::Chunk(piece) => {
                    let outcome = outcomes.next().ok_or_else(|| Error::usage("a chunk has no outcome"))?;
                    self.chunk(&piece, outcome, &places)?;
                }
                other => self.step(other)?,
            }
        }
        Ok(())
    }

    /// Appends a frame to the current pack; gives the places of its chunks.
    fn store(&mut self, data: &[u8], frame: Frame) -> Result<Vec<Location>> {
        let len = match frame.codec {
            Codec::Zstd => frame.payload.len(),
            Codec::Raw => frame.raw.iter().map(|range| range.len()).sum(),
        };
        if self.pack.as_ref().is_some_and(|pack| pack.size() + len as u64 > self.shared.pack_size) {
            self.end_pack()?;
        }
        let pack = self.pack()?;
        let lens: Vec<(ChunkId, u32)> = frame.chunks.clone();
        let (frame_offset, frame_len) = match frame.codec {
            Codec::Zstd => pack.push(Codec::Zstd, &[&frame.payload], frame.chunks),
            Codec::Raw => {
                let parts: Vec<&[u8]> = frame.raw.iter().map(|range| &data[range.clone()]).collect();
                pack.push(Codec::Raw, &parts, frame.chunks)
            }
        };
        let (pack, mut offset_in_frame) = (pack.id, 0);
        let mut places = Vec::with_capacity(lens.len());
        for (_, len) in &lens {
            places.push(Location { pack, frame_offset, frame_len, offset_in_frame });
            offset_in_frame += len;
        }
        self.shared.progress.add(Counter::NewBytes, u64::from(offset_in_frame));
        self.shared.index.insert(lens.iter().map(|(chunk, _)| *chunk).zip(places.iter().copied()))?;
        Ok(places)
    }

    fn pack(&mut self) -> Result<&mut PackBuilder> {
        if self.pack.is_none() {
            let buffer = self.shared.pack_buffers.get(self.shared.pack_size as usize);
            let id = ObjectId(crate::random::bytes()?);
            let key = self.shared.chunk_key.id;
            self.pack = Some(PackBuilder::new(id, key, &self.shared.recipients, buffer)?);
        }
        Ok(self.pack.as_mut().expect("just opened"))
    }

    fn end_pack(&mut self) -> Result<()> {
        let Some(pack) = self.pack.take() else { return Ok(()) };
        let pack = pack.finish();
        let key = self.shared.repo.layout().pack(pack.id);
        let bytes = Bytes::from(pack.sealed.bytes);
        let sha256 = pack.sealed.sha256;
        self.upload(Upload { key, kind: ObjectKind::Pack, bytes, sha256, pack: Some((pack.id, pack.table)) })
    }

    /// Waits while as many objects as may be are in flight: this is what slows the whole run to the store's pace.
    fn upload(&self, upload: Upload) -> Result<()> {
        let gone = |_| Error::Ended(self.shared.point);
        self.uploads.blocking_send(upload).map_err(gone)
    }

    fn chunk(&mut self, piece: &Piece, outcome: Outcome, places: &[Vec<Location>; 2]) -> Result<()> {
        let len = piece.data.len() as u32;
        let outcome = match outcome {
            Outcome::Earlier(chunk) => Outcome::Known(chunk, self.earlier(&chunk)?),
            other => other,
        };
        let (chunk, place) = match outcome {
            Outcome::Hole | Outcome::Earlier(_) => return Ok(()),
            Outcome::New(chunk, class, n) => {
                self.count(|stats| &mut stats.new_bytes, u64::from(len));
                (chunk, places[class as usize][n])
            }
            Outcome::Known(chunk, place) => {
                self.count(|stats| &mut stats.reused_bytes, u64::from(len));
                self.shared.progress.add(Counter::ReusedBytes, u64::from(len));
                (chunk, place)
            }
        };
        self.summary.packs.insert(place.pack);
        let Location { pack, frame_offset, frame_len, offset_in_frame } = place;
        let extent = Extent { offset: piece.offset, len, chunk, pack, frame_offset, frame_len, offset_in_frame };
        if let Some((_, extents)) = &mut self.file {
            extents.push(extent);
        }
        Ok(())
    }

    /// The place of a chunk that an earlier batch brought: it has one by now.
    fn earlier(&self, chunk: &ChunkId) -> Result<Location> {
        let missing = || std::io::Error::other("a chunk of this run cannot be found again");
        let place = self.shared.index.get(chunk);
        place.ok_or_else(|| Error::Io { what: "reading the index cache".into(), source: missing() })
    }

    fn count(&mut self, which: impl Fn(&mut super::TreeStats) -> &mut u64, n: u64) {
        if let Some(tree) = &mut self.tree {
            *which(&mut tree.stats) += n;
        }
    }

    fn step(&mut self, op: Op) -> Result<()> {
        match op {
            Op::Chunk(_) => Ok(()), // handled by the caller, with its outcome
            Op::BeginTree(kind) => {
                self.tree = Some(TreeBuilder::new(kind, &self.shared.metadata_recipients));
                Ok(())
            }
            Op::Entry(entry) => {
                let extents = entry.extents();
                let bytes = extents.iter().map(|extent| u64::from(extent.len)).sum();
                self.summary.packs.extend(extents.iter().map(|extent| extent.pack));
                self.count(|stats| &mut stats.reused_bytes, bytes);
                self.shared.progress.add(Counter::ReusedBytes, bytes);
                self.entry(&entry)
            }
            Op::BeginFile(entry) => {
                self.file = Some((entry, Vec::new()));
                Ok(())
            }
            Op::EndFile(end) => self.end_file(*end),
            Op::EndTree(reply) => self.end_tree().map(|stats| {
                let _ = reply.send(stats);
            }),
            Op::Finish(reply) => {
                self.end_pack()?;
                let _ = reply.send(std::mem::take(&mut self.summary));
                Ok(())
            }
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.shared.progress.add(Counter::Entries, 1);
        if matches!(entry.kind, EntryKind::File { .. }) {
            self.shared.progress.add(Counter::Files, 1);
        }
        let tree = self.tree.as_mut().ok_or_else(|| Error::usage("an entry came outside a tree"))?;
        let object = tree.push(entry)?;
        object.map_or(Ok(()), |object| self.tree_object(object))
    }

    fn end_file(&mut self, end: EndFile) -> Result<()> {
        let (mut entry, extents) = self.file.take().ok_or_else(|| Error::usage("a file ended that never began"))?;
        entry.kind = EntryKind::File { size: end.size, extents };
        entry.mtime = end.finish.mtime.unwrap_or(entry.mtime);
        entry.change = end.finish.change.or(entry.change).filter(|_| !end.finish.changed);
        entry.note = end.finish.note.or(entry.note);
        self.entry(&entry)
    }

    fn tree_object(&mut self, object: FinishedTreeObject) -> Result<()> {
        let key = self.shared.repo.layout().tree(object.id);
        self.tree_objects.push(key.clone());
        let bytes = Bytes::from(object.sealed.bytes);
        self.upload(Upload { key, kind: ObjectKind::Tree, bytes, sha256: object.sealed.sha256, pack: None })
    }

    fn end_tree(&mut self) -> Result<super::TreeStats> {
        let mut tree = self.tree.take().ok_or_else(|| Error::usage("a tree ended that never began"))?;
        if let Some(object) = tree.finish()? {
            self.tree_object(object)?;
        }
        let objects = std::mem::take(&mut self.tree_objects);
        let (kind, stats) = (tree.kind, tree.stats);
        self.summary.trees.push(TreeRef { kind, objects, entries: stats.entries, bytes: stats.bytes });
        Ok(stats)
    }
}
