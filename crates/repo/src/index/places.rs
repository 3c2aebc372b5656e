//! A set of places of chunks, on disk, for looking up every extent of a tree in bounded memory.

use std::{path::PathBuf, sync::Arc};

use lifeboat_model::id::ChunkId;

use super::run::{self, Record, Run};
use crate::{
    error::{Error, Result},
    pack::Location,
};

/// Records gathered before they are written out: about 16 MiB.
const GATHER: usize = 256 << 10;

/// Built by [`insert`](Self::insert), then [sorted](Self::sort), then asked.
pub(crate) struct PlaceSet {
    directory: PathBuf,
    gathered: Vec<Record>,
    runs: Vec<Arc<Run>>,
    made: usize,
}

/// One name for chunk, place and length together: the same chunk may lie in several places.
fn name(chunk: &ChunkId, place: &Location, len: u32) -> ChunkId {
    let mut hash = blake3::Hasher::new();
    hash.update(&chunk.0).update(&place.pack.0);
    for number in [place.frame_offset, place.frame_len, place.offset_in_frame, len] {
        hash.update(&number.to_le_bytes());
    }
    ChunkId(*hash.finalize().as_bytes())
}

impl PlaceSet {
    pub fn new(directory: &std::path::Path) -> Self {
        Self { directory: directory.to_owned(), gathered: Vec::new(), runs: Vec::new(), made: 0 }
    }

    pub fn insert(&mut self, chunk: &ChunkId, place: &Location, len: u32) -> Result<()> {
        self.gathered.push((name(chunk, place, len), *place));
        if self.gathered.len() >= GATHER { self.write() } else { Ok(()) }
    }

    fn next_path(&mut self) -> PathBuf {
        self.made += 1;
        self.directory.join(format!("places-{}", self.made))
    }

    fn write(&mut self) -> Result<()> {
        let path = self.next_path();
        let mut records = std::mem::take(&mut self.gathered);
        records.sort_unstable_by_key(|record| record.0);
        let run = Run::write(&path, records.into_iter().map(Ok));
        self.runs.push(Arc::new(run.map_err(|source| Error::Cache { path, source })?));
        Ok(())
    }

    /// Brings everything into one sorted file.
    pub fn sort(&mut self) -> Result<()> {
        self.write()?;
        if self.runs.len() > 1 {
            let path = self.next_path();
            let merged = run::merge(&self.runs, &path).map_err(|source| Error::Cache { path, source })?;
            self.runs = vec![Arc::new(merged)];
        }
        Ok(())
    }

    pub fn contains(&self, chunk: &ChunkId, place: &Location, len: u32) -> bool {
        let name = name(chunk, place, len);
        self.runs.iter().any(|run| run.get(&name).is_some())
    }
}
