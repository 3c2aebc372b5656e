//! Cuts what the caller hands in into chunks and batches.

use std::sync::{Arc, mpsc::SyncSender};

use tokio::sync::{Semaphore, oneshot};

use super::{
    Chunking, Finish, Shared, TreeStats,
    batch::{Batch, EndFile, Op, Piece},
    packer::Summary,
};
use crate::{
    chunk::MAX_CHUNK,
    error::{Error, Result},
    progress::Counter,
    tree::{self, Entry, EntryKind, TreeKind},
};

/// Permits stand for this many bytes each.
const PERMIT: usize = 64 << 10;
/// What a batch without bytes counts as.
const LEAST_PERMITS: usize = 4;
/// No more batches than this are ever in flight; channels of this size never block their senders.
pub(super) const MAX_BATCHES: usize = super::BATCH_BYTES / PERMIT / LEAST_PERMITS;
const MIN_CUT: u32 = 4 << 10;

/// Collects steps and bytes, on the caller's task.
pub(super) struct Collector {
    shared: Arc<Shared>,
    batch: Batch,
    work: SyncSender<Batch>,
    room: Arc<Semaphore>,
    kinds: Vec<TreeKind>,
    in_tree: bool,
    file: Option<OpenFile>,
}

/// The file whose bytes are coming.
struct OpenFile {
    path: Vec<u8>,
    cut: u64,
    position: u64,
    /// Where the current chunk starts in the batch.
    chunk_start: usize,
}

impl Collector {
    pub fn new(shared: Arc<Shared>, work: SyncSender<Batch>) -> Self {
        let batch = Batch::new(0, &shared.data_buffers);
        let room = Arc::new(Semaphore::new(super::BATCH_BYTES / PERMIT));
        Self { shared, batch, work, room, kinds: Vec::new(), in_tree: false, file: None }
    }

    pub async fn begin_tree(&mut self, kind: TreeKind) -> Result<()> {
        if self.in_tree || self.kinds.contains(&kind) {
            return Err(Error::usage(format!("the {kind} tree cannot begin here: it is there, or another is open")));
        }
        self.in_tree = true;
        self.kinds.push(kind);
        self.step(Op::BeginTree(kind)).await
    }

    pub async fn entry(&mut self, entry: Entry) -> Result<()> {
        self.check_place(&entry)?;
        if !is_in_order(&entry) || !self.shared.is_stored(&entry) {
            let path = entry.display_path();
            return Err(Error::usage(format!("the extents of {path} are not (all) stored any more; read the file")));
        }
        self.step(Op::Entry(Box::new(entry))).await
    }

    fn check_place(&self, entry: &Entry) -> Result<()> {
        if !self.in_tree || self.file.is_some() {
            return Err(Error::usage(format!("{} comes outside a tree or inside a file", entry.display_path())));
        }
        let target_ok = match &entry.kind {
            EntryKind::HardLink { target } => tree::is_inside(target),
            _ => true,
        };
        if tree::is_inside(&entry.path) && target_ok {
            return Ok(());
        }
        Err(Error::usage(format!("\"{}\" is not a path inside a tree", entry.display_path())))
    }

    pub fn begin_file(&mut self, entry: Entry, chunking: Chunking) -> Result<()> {
        self.check_place(&entry)?;
        let (Chunking::Pages { chunk: cut } | Chunking::Whole { max: cut }) = chunking;
        if !(MIN_CUT..=MAX_CHUNK).contains(&cut) {
            return Err(Error::usage(format!("chunks of {cut} bytes: {MIN_CUT} to {MAX_CHUNK} are possible")));
        }
        let (path, chunk_start) = (entry.path.clone(), self.batch.data.len());
        self.file = Some(OpenFile { path, cut: u64::from(cut), position: 0, chunk_start });
        self.batch.ops.push(Op::BeginFile(Box::new(entry)));
        Ok(())
    }

    pub async fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.shared.progress.add(Counter::ReadBytes, bytes.len() as u64);
        while !bytes.is_empty() {
            let file = self.file.as_mut().ok_or_else(|| Error::usage("bytes came outside a file"))?;
            let to_cut = file.cut - file.position % file.cut;
            let (part, rest) = bytes.split_at(bytes.len().min(usize::try_from(to_cut).unwrap_or(usize::MAX)));
            self.batch.data.extend_from_slice(part);
            file.position += part.len() as u64;
            if part.len() as u64 == to_cut {
                self.end_chunk();
                self.send_if_full().await?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Ends the current chunk where it is.
    fn end_chunk(&mut self) {
        let Some(file) = &mut self.file else { return };
        let data = file.chunk_start..self.batch.data.len();
        file.chunk_start = data.end;
        if !data.is_empty() {
            let offset = file.position - data.len() as u64;
            self.batch.ops.push(Op::Chunk(Piece { offset, data }));
        }
    }

    pub fn hole(&mut self, len: u64) -> Result<()> {
        self.end_chunk();
        let file = self.file.as_mut().ok_or_else(|| Error::usage("a hole came outside a file"))?;
        let end = file.position.checked_add(len).ok_or_else(|| Error::usage("a hole reaches too far"))?;
        file.position = end;
        Ok(())
    }

    pub async fn end_file(&mut self, finish: Finish) -> Result<()> {
        self.end_chunk();
        let file = self.file.take().ok_or_else(|| Error::usage("a file ended that never began"))?;
        let size = finish.size.unwrap_or(file.position);
        if size < file.position {
            let (path, given) = (tree::display_path(&file.path), file.position);
            return Err(Error::usage(format!("{path} cannot have {size} bytes: {given} were given")));
        }
        self.step(Op::EndFile(Box::new(EndFile { size, finish }))).await
    }

    pub async fn end_tree(&mut self) -> Result<TreeStats> {
        if !self.in_tree || self.file.is_some() {
            return Err(Error::usage("a tree cannot end here: none is open, or a file of it is"));
        }
        self.in_tree = false;
        let (reply, stats) = oneshot::channel();
        self.batch.ops.push(Op::EndTree(reply));
        self.send().await?;
        self.answer(stats).await
    }

    /// Ends the last pack, complete or not.
    pub async fn finish(mut self) -> Result<Summary> {
        self.end_chunk();
        let (reply, summary) = oneshot::channel();
        self.batch.ops.push(Op::Finish(reply));
        self.send().await?;
        self.answer(summary).await
    }

    /// Whether nothing is half done.
    pub fn is_at_rest(&self) -> bool {
        !self.in_tree && self.file.is_none()
    }

    async fn answer<T>(&self, reply: oneshot::Receiver<T>) -> Result<T> {
        self.shared.failure.or(reply).await?.map_err(|_| self.shared.failure.ended())
    }

    async fn step(&mut self, op: Op) -> Result<()> {
        self.batch.ops.push(op);
        self.send_if_full().await
    }

    async fn send_if_full(&mut self) -> Result<()> {
        if self.batch.is_full() { self.send().await } else { self.shared.failure.check() }
    }

    /// Hands the batch to the workers once there is room for it. Batches end between chunks.
    ///
    /// A caller may drop this while it waits: the batch is taken only afterwards, so that no number is ever left out,
    /// which the packer would wait for.
    async fn send(&mut self) -> Result<()> {
        // A batch grows with every wait that was dropped, and must still fit.
        let permits = self.batch.data.len().div_ceil(PERMIT).clamp(LEAST_PERMITS, super::BATCH_BYTES / PERMIT);
        let permit = self.shared.failure.or(self.room.clone().acquire_many_owned(permits as u32)).await?;
        let next = Batch::new(self.batch.number + 1, &self.shared.data_buffers);
        let mut batch = std::mem::replace(&mut self.batch, next);
        if let Some(file) = &mut self.file {
            file.chunk_start = 0;
        }
        batch.permit = permit.ok();
        self.work.send(batch).map_err(|_| self.shared.failure.ended())
    }
}

/// Whether extents follow each other inside their file.
fn is_in_order(entry: &Entry) -> bool {
    let mut end = 0;
    let ordered = entry.extents().iter().all(|extent| {
        let follows = extent.offset >= end && extent.len > 0;
        end = extent.offset.saturating_add(u64::from(extent.len));
        follows
    });
    ordered && end <= entry.size()
}
