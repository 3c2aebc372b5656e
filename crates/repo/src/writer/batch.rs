//! Batches: about 1 MiB of chunks of any number of files, with what is to be written into the tree around them.

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

use lifeboat_model::id::ChunkId;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Finish, TreeStats, packer::Summary};
use crate::{
    frame::{self, Codec},
    pack::Location,
    tree::{Entry, TreeKind},
};

/// A step of the tree, in order.
pub(super) enum Op {
    BeginTree(TreeKind),
    /// An entry that is complete.
    Entry(Box<Entry>),
    BeginFile(Box<Entry>),
    Chunk(Piece),
    EndFile(Box<EndFile>),
    EndTree(oneshot::Sender<TreeStats>),
    /// Ends the last pack: nothing follows.
    Finish(oneshot::Sender<Summary>),
}

/// A chunk's bytes in the batch, and its place in the file.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub offset: u64,
    pub data: Range<usize>,
}

/// The end of a file whose chunks came before.
pub(super) struct EndFile {
    pub size: u64,
    pub finish: Finish,
}

/// Work for a worker.
pub(super) struct Batch {
    pub number: u64,
    pub data: Vec<u8>,
    pub ops: Vec<Op>,
    /// Bounds the bytes in flight; given back when the packer has dropped the batch.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    /// All zeros.
    Hole,
    /// Stored already.
    Known(ChunkId, Location),
    /// In an earlier batch, so that it has a place when this one is packed.
    Earlier(ChunkId),
    /// The `n`th chunk of one of the batch's frames.
    New(ChunkId, Class, usize),
}

/// New chunks go into one of two frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Compressible = 0,
    Incompressible = 1,
}

/// A frame that is ready to be sealed.
pub(super) struct Frame {
    pub codec: Codec,
    /// The payload; where it is raw, ranges of the batch's data stand for it.
    pub payload: Vec<u8>,
    pub raw: Vec<Range<usize>>,
    pub chunks: Vec<(ChunkId, u32)>,
}

/// A batch after its worker; chunk steps and outcomes correspond in order.
pub(super) struct Packed {
    pub batch: Batch,
    pub outcomes: Vec<Outcome>,
    pub frames: [Option<Frame>; 2],
}

/// Buffers that are used again, so that memory does not grow by fragments.
pub(super) struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
    most: usize,
}

impl Buffers {
    pub fn new(most: usize) -> Self {
        Self { free: Mutex::default(), most }
    }

    /// An empty buffer with at least this capacity.
    pub fn get(&self, capacity: usize) -> Vec<u8> {
        let mut buffer = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        buffer.clear();
        buffer.reserve(capacity);
        buffer
    }

    pub fn give_back(&self, buffer: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.most {
            free.push(buffer);
        }
    }
}

/// Steps of a batch without bytes: entries of an unchanged tree.
pub(super) const MAX_OPS: usize = 2048;

impl Batch {
    pub fn new(number: u64, buffers: &Buffers) -> Self {
        let data = buffers.get(frame::TARGET + frame::TARGET / 8);
        Self { number, data, ops: Vec::new(), permit: None }
    }

    pub fn is_full(&self) -> bool {
        self.data.len() >= frame::TARGET || self.ops.len() >= MAX_OPS
    }
}
