//! One tree on its way into a sink.

use std::{
    collections::HashMap,
    io, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use lifeboat_model::id::ObjectId;
use lifeboat_store::Key;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{Damage, Filter, Reader, ReaderOptions, RestoreReport, Sink, Wanted, fetch::Packs};
use crate::{
    blocking::blocking,
    chunk::ChunkKey,
    error::{Error, Result},
    frame::Decompressor,
    progress::{Counter, Progress},
    seal::OpenError,
    tree::{Entry, EntryKind, Extent, TreeCursor, display_path},
};

/// A window ends with the entry that reaches one of these.
const WINDOW_BYTES: u64 = 64 << 20;
const WINDOW_ENTRIES: usize = 4096;
/// One ranged read is at most this long, unless a single frame is longer. Longer ones hardly go faster, and their
/// buffers, allocated in one thread and freed in another, make the allocator keep more.
const MOST_RANGE: u32 = 4 << 20;
/// Bytes between two wanted frames that are cheaper to fetch than to ask again for.
const GAP: u32 = 128 << 10;
/// Files that one damaged object names.
const NAMED: usize = 20;

/// A file on its way.
struct Pending {
    entry: Entry,
    /// Extents that are not in place yet, and one for the window that adds them.
    missing: AtomicU64,
    damaged: AtomicBool,
    /// The packs that it has been counted as hit by.
    damaged_by: Mutex<Vec<ObjectId>>,
}

/// An extent and its file.
struct Piece {
    file: Arc<Pending>,
    extent: Extent,
}

/// Frames of one pack that are fetched together, sorted by offset.
struct Batch {
    pack: ObjectId,
    start: u32,
    end: u32,
    pieces: Vec<Piece>,
}

/// What all workers share.
struct Shared {
    sink: Arc<dyn Sink>,
    packs: Arc<Packs>,
    chunk_key: ChunkKey,
    progress: Arc<dyn Progress>,
    report: Mutex<(RestoreReport, HashMap<Key, Damage>)>,
    /// Buffers of workers that are at rest; made anew for each range, they would fragment memory.
    spare: Mutex<Vec<Opener>>,
}

/// What a worker needs to open frames.
struct Opener {
    decompressor: Decompressor,
    sealed_frame: Vec<u8>,
}

pub(super) struct Restore {
    shared: Arc<Shared>,
    filter: Option<Filter>,
    limits: Limits,
    jobs: JoinSet<Result<()>>,
}

/// What all trees that a reader restores at the same time share.
#[derive(Clone)]
pub(super) struct Limits {
    memory: Arc<Semaphore>,
    most_memory: u32,
    fetches: Arc<Semaphore>,
    workers: Arc<Semaphore>,
}

impl Limits {
    pub fn new(options: &ReaderOptions) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let workers = if options.workers == 0 { cores } else { options.workers };
        // Counted in KiB, which a semaphore's permits can express for any sensible amount of memory.
        let most_memory = u32::try_from(options.memory >> 10).unwrap_or(u32::MAX).clamp(1, 1 << 22);
        Self {
            memory: Arc::new(Semaphore::new(most_memory as usize)),
            most_memory,
            fetches: Arc::new(Semaphore::new(options.fetches.max(1))),
            workers: Arc::new(Semaphore::new(workers)),
        }
    }
}

impl Restore {
    pub fn new(reader: &Reader, sink: Arc<dyn Sink>, filter: Option<Filter>) -> Self {
        let shared = Shared {
            sink,
            packs: Arc::clone(&reader.packs),
            chunk_key: reader.chunk_key.clone(),
            progress: Arc::clone(&reader.progress),
            report: Mutex::default(),
            spare: Mutex::default(),
        };
        Self { shared: Arc::new(shared), filter, limits: reader.limits.clone(), jobs: JoinSet::new() }
    }

    pub async fn run(mut self, mut cursor: TreeCursor) -> Result<RestoreReport> {
        let mut window = Vec::new();
        let mut bytes = 0;
        loop {
            let entry = match cursor.next().await {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error) => {
                    self.shared.lost_tree_object(error)?;
                    continue;
                }
            };
            if self.filter.as_ref().is_some_and(|filter| !filter(&entry)) {
                continue;
            }
            if matches!(entry.kind, EntryKind::HardLink { .. }) {
                // Its file must be complete first.
                self.window(mem::take(&mut window)).await?;
                self.drain().await?;
            }
            bytes += entry.extents().iter().map(|extent| u64::from(extent.len)).sum::<u64>();
            window.push(entry);
            if bytes >= WINDOW_BYTES || window.len() >= WINDOW_ENTRIES {
                self.window(mem::take(&mut window)).await?;
                bytes = 0;
            }
        }
        self.window(window).await?;
        self.drain().await?;
        let (mut report, damage) = mem::take(&mut *self.shared.report());
        report.damage = damage.into_values().collect();
        report.damage.sort_by(|a, b| a.object.cmp(&b.object));
        Ok(report)
    }

    async fn window(&mut self, entries: Vec<Entry>) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let batches = blocking("restoring", move || shared.begin(entries)).await?;
        for batch in batches {
            while let Some(done) = self.jobs.try_join_next() {
                joined(done)?;
            }
            self.start(batch).await?;
        }
        Ok(())
    }

    /// Waits for memory, then fetches and hands over in the background.
    async fn start(&mut self, batch: Batch) -> Result<()> {
        let length = batch.end - batch.start;
        let permits = (length >> 10).clamp(1, self.limits.most_memory);
        let closed = |_| Error::usage("the restore was closed");
        let memory = Arc::clone(&self.limits.memory).acquire_many_owned(permits).await.map_err(closed)?;
        let (shared, fetches, workers) =
            (Arc::clone(&self.shared), Arc::clone(&self.limits.fetches), Arc::clone(&self.limits.workers));
        self.jobs.spawn(async move {
            let _memory = memory;
            let Some(object) = shared.packs.object(batch.pack).cloned() else {
                let key = Key::new(format!("packs/{}", batch.pack)).map_err(Error::Store)?;
                return shared.damaged(&key, "the point does not name this pack", &batch.pieces);
            };
            let fetched = {
                let _turn = fetches.acquire().await.map_err(closed)?;
                shared.packs.fetch(batch.pack, &object, batch.start.into()..batch.end.into()).await
            };
            let sealed = match fetched {
                Ok(sealed) => sealed,
                Err(error) => match damage_of(&error) {
                    Some((_, reason)) => return shared.damaged(&object.key, &reason, &batch.pieces),
                    None => return Err(error),
                },
            };
            shared.progress.add(Counter::FetchedBytes, length.into());
            shared.report().0.fetched += u64::from(length);
            let _turn = workers.acquire().await.map_err(closed)?;
            blocking("restoring", move || shared.hand_over(&object.key, sealed, batch.pieces)).await
        });
        Ok(())
    }

    async fn drain(&mut self) -> Result<()> {
        while let Some(done) = self.jobs.join_next().await {
            joined(done)?;
        }
        Ok(())
    }
}

impl Shared {
    fn report(&self) -> MutexGuard<'_, (RestoreReport, HashMap<Key, Damage>)> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the window's entries in order; gives what must be fetched.
    fn begin(&self, entries: Vec<Entry>) -> Result<Vec<Batch>> {
        let mut pieces = Vec::new();
        for entry in entries {
            let failed = |source| Error::Sink { path: display_path(&entry.path), source };
            let wanted = self.sink.begin(&entry).map_err(failed)?;
            self.report().0.entries += 1;
            let EntryKind::File { extents, .. } = &entry.kind else {
                self.sink.end(&entry).map_err(failed)?;
                continue;
            };
            let wanted: Vec<Extent> = match wanted {
                Wanted::All => extents.clone(),
                Wanted::Nothing => {
                    self.report().0.matching += 1;
                    continue;
                }
                Wanted::Differences => self.differences(&entry).map_err(failed)?,
            };
            if wanted.is_empty() && !extents.is_empty() {
                self.report().0.matching += 1;
            }
            let missing = AtomicU64::new(wanted.len() as u64 + 1);
            let file =
                Arc::new(Pending { entry, missing, damaged: AtomicBool::new(false), damaged_by: Mutex::default() });
            pieces.extend(wanted.into_iter().map(|extent| Piece { file: Arc::clone(&file), extent }));
            self.placed(&file)?;
        }
        Ok(batches(pieces))
    }

    /// The extents whose bytes are not there yet.
    fn differences(&self, entry: &Entry) -> io::Result<Vec<Extent>> {
        let mut buffer = Vec::new();
        let mut wanted = Vec::new();
        for extent in entry.extents() {
            buffer.resize(extent.len as usize, 0);
            let there = self.sink.existing(&entry.path, extent.offset, &mut buffer)?;
            if !there || self.chunk_key.chunk_id(&buffer) != extent.chunk {
                wanted.push(*extent);
            }
        }
        Ok(wanted)
    }

    /// Opens a range and hands its pieces to the sink. A frame that does not open hits only its own pieces.
    fn hand_over(&self, key: &Key, sealed: super::fetch::SealedRange, pieces: Vec<Piece>) -> Result<()> {
        let mut range = self.packs.open(sealed);
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let new = || Ok(Opener { decompressor: Decompressor::new()?, sealed_frame: Vec::new() });
        let starting = |source| Error::Io { what: "starting zstd".into(), source };
        let mut opener = spare.map_or_else(new, Ok).map_err(starting)?;
        let Opener { decompressor, sealed_frame } = &mut opener;
        for pieces in pieces.chunk_by(|a, b| a.extent.frame_offset == b.extent.frame_offset) {
            let place = pieces[0].extent;
            let framed = match range.frame(place.frame_offset, place.frame_len, sealed_frame) {
                // A card that was not touched in time says nothing of what is stored.
                Err(OpenError::Plugin(reason)) => return Err(Error::Plugin { object: key.to_string(), reason }),
                Err(OpenError::WrongIdentity) => Err("it is sealed to none of the given identities".to_owned()),
                Err(OpenError::Damaged(reason)) => Err(reason),
                Ok(()) => Ok(()),
            };
            let opened = framed.and_then(|()| decompressor.open(sealed_frame));
            match opened {
                Ok(raw) => self.place(key, raw, pieces)?,
                Err(reason) => self.damaged(key, &reason, pieces)?,
            }
        }
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(opener);
        Ok(())
    }

    fn place(&self, key: &Key, raw: &[u8], pieces: &[Piece]) -> Result<()> {
        // The same chunk often serves several files; neighbours in the order of a batch share its check.
        let mut checked = None;
        for piece in pieces {
            let extent = piece.extent;
            let start = extent.offset_in_frame as usize;
            let bytes = start.checked_add(extent.len as usize).and_then(|end| raw.get(start..end));
            let same = checked == Some((extent.offset_in_frame, extent.len, extent.chunk));
            let Some(bytes) = bytes.filter(|bytes| same || self.chunk_key.chunk_id(bytes) == extent.chunk) else {
                self.damaged(key, "a chunk is not the one that was stored", std::slice::from_ref(piece))?;
                continue;
            };
            checked = Some((extent.offset_in_frame, extent.len, extent.chunk));
            let failed = |source| Error::Sink { path: piece.file.entry.display_path(), source };
            self.sink.write(&piece.file.entry.path, extent.offset, bytes).map_err(failed)?;
            self.progress.add(Counter::RestoredBytes, bytes.len() as u64);
            self.report().0.bytes += bytes.len() as u64;
            self.placed(&piece.file)?;
        }
        Ok(())
    }

    /// One part of the file is done; ends the file with the last one.
    fn placed(&self, file: &Pending) -> Result<()> {
        if file.missing.fetch_sub(1, Ordering::AcqRel) > 1 || file.damaged.load(Ordering::Acquire) {
            return Ok(());
        }
        self.sink.end(&file.entry).map_err(|source| Error::Sink { path: file.entry.display_path(), source })?;
        self.progress.add(Counter::Files, 1);
        self.report().0.files += 1;
        Ok(())
    }

    /// Notes an object of the tree that cannot be read; the cursor goes on with the next one.
    fn lost_tree_object(&self, error: Error) -> Result<()> {
        let Some((object, reason)) = damage_of(&error) else { return Err(error) };
        let (object, reason) = (Key::new(object)?, format!("{reason}; the entries that it lists are lost"));
        let damage = Damage { object: object.clone(), reason, files: Vec::new(), file_count: 0 };
        self.report().1.insert(object, damage);
        Ok(())
    }

    /// Notes damage, each file once an object, and tells the sink once for each file.
    fn damaged(&self, key: &Key, reason: &str, pieces: &[Piece]) -> Result<()> {
        for piece in pieces {
            let path = piece.file.entry.display_path();
            let first_of_file = !piece.file.damaged.swap(true, Ordering::AcqRel);
            let mut objects = piece.file.damaged_by.lock().unwrap_or_else(PoisonError::into_inner);
            if !objects.contains(&piece.extent.pack) {
                objects.push(piece.extent.pack);
                self.note(key, reason, &path);
            }
            drop(objects);
            if first_of_file {
                let told = self.sink.damaged(&piece.file.entry, reason);
                told.map_err(|source| Error::Sink { path, source })?;
            }
        }
        Ok(())
    }

    fn note(&self, key: &Key, reason: &str, path: &str) {
        let new = || Damage { object: key.clone(), reason: reason.to_owned(), files: Vec::new(), file_count: 0 };
        let mut report = self.report();
        let damage = report.1.entry(key.clone()).or_insert_with(new);
        damage.file_count += 1;
        if damage.files.len() < NAMED {
            damage.files.push(path.to_owned());
        }
    }
}

/// The object and the reason, where an error says that an object is missing or not what was stored. Anything else (an
/// unreachable store, a refusal) says nothing of the object, and ends the restore.
pub(crate) fn damage_of(error: &Error) -> Option<(&str, String)> {
    match error {
        Error::Damaged { object, reason } => Some((object, reason.clone())),
        Error::WrongIdentity { object, .. } => Some((object, "it is sealed to none of the given identities".into())),
        Error::Store(lifeboat_store::Error::NotFound { key }) => Some((key, "it is missing".into())),
        Error::Store(lifeboat_store::Error::Damaged { key, reason }) => Some((key, reason.clone())),
        _ => None,
    }
}

/// Sorts pieces by place and joins frames that lie near each other.
fn batches(mut pieces: Vec<Piece>) -> Vec<Batch> {
    pieces.sort_by_key(|piece| (piece.extent.pack, piece.extent.frame_offset, piece.extent.offset_in_frame));
    let mut batches: Vec<Batch> = Vec::new();
    for piece in pieces {
        let (start, end) =
            (piece.extent.frame_offset, piece.extent.frame_offset.saturating_add(piece.extent.frame_len));
        match batches.last_mut() {
            Some(batch)
                if batch.pack == piece.extent.pack
                    && start <= batch.end.saturating_add(GAP)
                    && (end <= batch.end || end - batch.start <= MOST_RANGE) =>
            {
                batch.end = batch.end.max(end);
                batch.pieces.push(piece);
            }
            _ => batches.push(Batch { pack: piece.extent.pack, start, end, pieces: vec![piece] }),
        }
    }
    batches
}

fn joined<T>(done: std::result::Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    done.map_err(|e| Error::Io { what: "restoring".into(), source: io::Error::other(e) })?
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_model::id::ChunkId;

    fn piece(pack: u8, frame_offset: u32, frame_len: u32) -> Piece {
        let extent = Extent {
            offset: 0,
            len: 1,
            chunk: ChunkId([0; 32]),
            pack: ObjectId([pack; 16]),
            frame_offset,
            frame_len,
            offset_in_frame: 0,
        };
        let file = Pending {
            entry: Entry::default(),
            missing: AtomicU64::new(1),
            damaged: AtomicBool::new(false),
            damaged_by: Mutex::default(),
        };
        Piece { file: Arc::new(file), extent }
    }

    #[test]
    fn near_frames_are_fetched_together() {
        let spans = |pieces| -> Vec<_> {
            batches(pieces).iter().map(|b| (b.pack.0[0], b.start, b.end, b.pieces.len())).collect()
        };
        assert_eq!(spans(vec![piece(1, 10, 5), piece(1, 0, 10), piece(1, 10, 5)]), [(1, 0, 15, 3)]);
        assert_eq!(spans(vec![piece(1, 0, 10), piece(2, 10, 10)]), [(1, 0, 10, 1), (2, 10, 20, 1)]);
        let far = 10 + GAP + 1;
        assert_eq!(spans(vec![piece(1, 0, 10), piece(1, far, 10)]), [(1, 0, 10, 1), (1, far, far + 10, 1)]);
        let long = vec![piece(1, 0, MOST_RANGE), piece(1, MOST_RANGE, 10)];
        assert_eq!(spans(long), [(1, 0, MOST_RANGE, 1), (1, MOST_RANGE, MOST_RANGE + 10, 1)]);
    }
}
