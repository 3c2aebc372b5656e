//! What a worker does to a batch: find holes, name chunks, look them up, compress what is new.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender},
    },
};

use lifeboat_model::id::ChunkId;

use super::{
    Shared,
    batch::{Batch, Class, Frame, Op, Outcome, Packed, Piece},
};
use crate::{
    chunk,
    error::{Error, Result},
    frame::{self, Codec, Compressor},
    index::Found,
};

/// Takes batches until there are no more. Batches of a failed run are dropped unread.
pub(super) fn run(shared: &Shared, batches: &Mutex<Receiver<Batch>>, done: &SyncSender<Packed>) {
    let mut worker = match Worker::new(shared) {
        Ok(worker) => worker,
        Err(error) => return shared.failure.set(error),
    };
    loop {
        let next = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = next else { return };
        if shared.failure.is_set() {
            continue;
        }
        let packed = shared.failure.note(worker.process(batch));
        if let Some(packed) = packed
            && done.send(packed).is_err()
        {
            return;
        }
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    compressor: Compressor,
    gathered: Vec<u8>,
}

/// The new chunks of one class.
#[derive(Default)]
struct New {
    ranges: Vec<Range<usize>>,
    chunks: Vec<(ChunkId, u32)>,
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared) -> Result<Self> {
        let compressor = Compressor::new(shared.level);
        let compressor = compressor.map_err(|source| Error::Io { what: "starting zstd".into(), source })?;
        Ok(Self { shared, compressor, gathered: Vec::new() })
    }

    fn process(&mut self, batch: Batch) -> Result<Packed> {
        let mut new = [New::default(), New::default()];
        let mut seen = HashMap::new();
        let mut outcomes = Vec::new();
        for op in &batch.ops {
            if let Op::Chunk(piece) = op {
                outcomes.push(self.chunk(&batch, piece, &mut new, &mut seen));
            }
        }
        let [compressible, incompressible] = new;
        let frames = [self.compress(&batch.data, compressible)?, raw_frame(incompressible)];
        Ok(Packed { batch, outcomes, frames })
    }

    fn chunk(
        &self,
        batch: &Batch,
        piece: &Piece,
        new: &mut [New; 2],
        seen: &mut HashMap<ChunkId, (Class, usize)>,
    ) -> Outcome {
        let bytes = &batch.data[piece.data.clone()];
        if chunk::is_zero(bytes) {
            return Outcome::Hole;
        }
        let id = self.shared.chunk_key.chunk_id(bytes);
        if let Some((class, n)) = seen.get(&id) {
            return Outcome::New(id, *class, *n);
        }
        match self.shared.index.find(&id, batch.number) {
            Found::Stored(place) => return Outcome::Known(id, place),
            Found::Earlier => return Outcome::Earlier(id),
            Found::New => {}
        }
        let class = match frame::looks_incompressible(bytes) {
            true => Class::Incompressible,
            false => Class::Compressible,
        };
        let list = &mut new[class as usize];
        let n = list.chunks.len();
        list.ranges.push(piece.data.clone());
        list.chunks.push((id, bytes.len() as u32));
        seen.insert(id, (class, n));
        Outcome::New(id, class, n)
    }

    fn compress(&mut self, data: &[u8], new: New) -> Result<Option<Frame>> {
        let (Some(first), Some(last)) = (new.ranges.first(), new.ranges.last()) else { return Ok(None) };
        let adjacent = new.ranges.windows(2).all(|pair| pair[0].end == pair[1].start);
        // On a first backup nearly all chunks of a batch are new: then they need not be copied together.
        let raw = if adjacent {
            &data[first.start..last.end]
        } else {
            self.gathered.clear();
            new.ranges.iter().for_each(|range| self.gathered.extend_from_slice(&data[range.clone()]));
            &self.gathered[..]
        };
        let compressed = self.compressor.compress(raw);
        match compressed.map_err(|source| Error::Io { what: "compressing".into(), source })? {
            Some(payload) => {
                let payload = payload.to_vec();
                Ok(Some(Frame { codec: Codec::Zstd, payload, raw: Vec::new(), chunks: new.chunks }))
            }
            None => Ok(raw_frame(new)),
        }
    }
}

fn raw_frame(new: New) -> Option<Frame> {
    let frame = Frame { codec: Codec::Raw, payload: Vec::new(), raw: new.ranges, chunks: new.chunks };
    (!frame.chunks.is_empty()).then_some(frame)
}

/// Starts `count` workers.
pub(super) fn start(
    count: usize,
    shared: &Arc<Shared>,
    batches: Receiver<Batch>,
    done: &SyncSender<Packed>,
) -> Result<()> {
    let batches = Arc::new(Mutex::new(batches));
    for n in 0..count {
        let (shared, batches, done) = (shared.clone(), batches.clone(), done.clone());
        super::thread(&format!("chunks-{n}"), move || run(&shared, &batches, &done))?;
    }
    Ok(())
}
