//! Asks whether a chunk is stored, and where.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use jiff::Timestamp;
use lifeboat_model::id::{ChunkId, ObjectId, Sha256Digest};
use lifeboat_store::VersionId;

use super::run::Run;
use crate::{
    error::{Error, Result},
    pack::Location,
};

/// Entries held in memory before they are spilled: about 12 MiB.
const MAX_NEW: usize = 128 << 10;

/// What is known of a pack that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackMeta {
    pub len: u64,
    pub sha256: Sha256Digest,
    pub version: Option<VersionId>,
    /// Until when it is locked, where this is known: of packs of this run.
    pub retain_until: Option<Timestamp>,
}

/// Whether a chunk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is.
    Stored(Location),
    /// It will be: a batch before the one that asks has it.
    Earlier,
    /// It is not; the batch that asked has it now.
    New,
}

/// What is known of a chunk of this run.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// The batch with this number stores it.
    Claimed(u64),
    Placed(Location),
}

/// Chunks of former runs and of this one. Shared by the worker threads.
#[derive(Debug)]
pub(crate) struct Index {
    /// Packs whose chunks may be used: they are in the repository, whole.
    stored: HashMap<ObjectId, PackMeta>,
    runs: RwLock<Vec<Arc<Run>>>,
    new: Mutex<HashMap<ChunkId, Known>>,
    /// Where spilled runs go; removed with the index.
    spill: PathBuf,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Index {
    pub(super) fn new(stored: HashMap<ObjectId, PackMeta>, runs: Vec<Arc<Run>>, spill: PathBuf) -> Self {
        Self { stored, runs: RwLock::new(runs), new: Mutex::default(), spill }
    }

    /// What is known of a pack that was stored before this run and is there.
    pub fn stored_pack(&self, pack: ObjectId) -> Option<&PackMeta> {
        self.stored.get(&pack)
    }

    /// The place of a chunk that may be used.
    pub fn get(&self, chunk: &ChunkId) -> Option<Location> {
        match lock(&self.new).get(chunk) {
            Some(Known::Placed(place)) => return Some(*place),
            Some(Known::Claimed(_)) => return None,
            None => {}
        }
        let runs = self.runs.read().unwrap_or_else(PoisonError::into_inner);
        // Spilled runs hold packs of this run, which are not in `stored`: they come first, up to `spilled`.
        runs.iter().find_map(|run| run.get(chunk).filter(|place| self.usable(run, place)))
    }

    /// Looks for a chunk of a batch, and claims it for the batch where nobody has it. Batches are packed in the order of
    /// their numbers, so that a claim of an earlier one can be relied upon, and that of a later one cannot.
    pub fn find(&self, chunk: &ChunkId, batch: u64) -> Found {
        if let Some(place) = self.get(chunk) {
            return Found::Stored(place);
        }
        match lock(&self.new).entry(*chunk).or_insert(Known::Claimed(batch)) {
            Known::Placed(place) => Found::Stored(*place),
            Known::Claimed(other) if *other < batch => Found::Earlier,
            claim => {
                *claim = Known::Claimed(batch);
                Found::New
            }
        }
    }

    fn usable(&self, run: &Run, place: &Location) -> bool {
        self.stored.contains_key(&place.pack) || run.path().starts_with(&self.spill)
    }

    /// Adds chunks that this run has put into a pack.
    pub fn insert(&self, places: impl Iterator<Item = (ChunkId, Location)>) -> Result<()> {
        let full = {
            let mut new = lock(&self.new);
            new.extend(places.map(|(chunk, place)| (chunk, Known::Placed(place))));
            (new.len() >= MAX_NEW).then(|| take_placed(&mut new))
        };
        full.map_or(Ok(()), |records| self.spill(records))
    }

    fn spill(&self, mut records: Vec<(ChunkId, Location)>) -> Result<()> {
        records.sort_unstable_by_key(|record| record.0);
        let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
        let path = self.spill.join(format!("spill-{}", runs.len()));
        let cache = |source| Error::Cache { path: path.clone(), source };
        std::fs::create_dir_all(&self.spill).map_err(cache)?;
        runs.push(Arc::new(Run::write(&path, records.into_iter().map(Ok)).map_err(cache)?));
        Ok(())
    }
}

/// Takes out what has a place; claims stay.
fn take_placed(new: &mut HashMap<ChunkId, Known>) -> Vec<(ChunkId, Location)> {
    let mut records = Vec::with_capacity(new.len());
    new.retain(|chunk, known| match known {
        Known::Placed(place) => {
            records.push((*chunk, *place));
            false
        }
        Known::Claimed(_) => true,
    });
    records
}

impl Drop for Index {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.spill);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_earlier_batches_count_and_of_later_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::new(HashMap::new(), Vec::new(), dir.path().join("spill"));
        let (chunk, place) =
            (ChunkId([1; 32]), Location { pack: ObjectId([1; 16]), frame_offset: 8, frame_len: 1, offset_in_frame: 0 });
        assert_eq!(index.find(&chunk, 5), Found::New);
        assert_eq!(index.find(&chunk, 6), Found::Earlier);
        assert_eq!(index.find(&chunk, 4), Found::New, "it is packed before batch 5");
        assert_eq!(index.find(&chunk, 5), Found::Earlier);
        index.insert(std::iter::once((chunk, place))).unwrap();
        assert_eq!(index.find(&chunk, 9), Found::Stored(place));
    }

    #[test]
    fn spilled_chunks_are_still_found_and_the_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::new(HashMap::new(), Vec::new(), dir.path().join("spill"));
        let place = |n: u32| Location { pack: ObjectId([1; 16]), frame_offset: n, frame_len: 1, offset_in_frame: 0 };
        let chunk = |n: u32| ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes());
        for n in 0..MAX_NEW as u32 + 10 {
            index.insert(std::iter::once((chunk(n), place(n)))).unwrap();
        }
        assert!(dir.path().join("spill").exists());
        for n in [0, 1, 77_777, MAX_NEW as u32 + 9] {
            assert_eq!(index.get(&chunk(n)), Some(place(n)));
        }
        assert_eq!(index.get(&chunk(MAX_NEW as u32 + 10)), None);
        drop(index);
        assert!(!dir.path().join("spill").exists());
    }
}
