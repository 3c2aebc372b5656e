//! Verification with keys: opens every object, compares every chunk with its id, and looks up every extent.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use lifeboat_model::id::{ChunkId, ObjectId};
use lifeboat_store::Key;

use super::{Check, VerifyReport, compare};
use crate::{
    blocking::blocking,
    chunk::ChunkKey,
    error::{Error, Result},
    frame::Decompressor,
    index::PlaceSet,
    layout,
    pack::{self, Location},
    point::{ObjectKind, ObjectRef, Point},
    progress::{Counter, Silent},
    reader::{Reader, ReaderOptions},
    seal::{self, Identity},
    tree::{Entry, TreeKind},
};

/// Packs opened at the same time: each is in memory, sealed and open.
const PACKS: usize = 2;

pub(super) async fn verify(
    check: &Check<'_>,
    points: &[Point],
    identities: &[Identity],
    report: &Mutex<VerifyReport>,
) -> Result<()> {
    let mut readers = Vec::new();
    for point in points {
        readers.push(open(check, point, identities).await?);
    }
    let directory = tempfile::tempdir();
    let directory = directory.map_err(|source| Error::Io { what: "making a temporary folder".into(), source })?;
    let shared = Arc::new(Shared {
        keys: readers.iter().flatten().map(|reader| (reader.chunk_key().id, reader.chunk_key().clone())).collect(),
        identities: identities.to_vec(),
        places: Mutex::new(PlaceSet::new(directory.path())),
    });
    check.each(PACKS, report, |object| look(check, &shared, object)).await?;
    lock(&shared.places).sort()?;
    for (point, reader) in points.iter().zip(&readers) {
        let Some(reader) = reader else { continue };
        wal(check, reader).await?;
        for kind in TreeKind::ALL {
            let chunks = tree(check, &shared, point, reader, kind).await?;
            report.lock().unwrap_or_else(PoisonError::into_inner).chunks += chunks;
        }
    }
    Ok(())
}

struct Shared {
    keys: HashMap<ObjectId, ChunkKey>,
    identities: Vec<Identity>,
    places: Mutex<PlaceSet>,
}

fn lock(places: &Mutex<PlaceSet>) -> std::sync::MutexGuard<'_, PlaceSet> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A reader of the point; none where its chunk key is damaged, which is then noted.
async fn open(check: &Check<'_>, point: &Point, identities: &[Identity]) -> Result<Option<Reader>> {
    let key = check.repo.layout().chunk_key(point.header.chunk_key);
    let options = ReaderOptions::default();
    match Reader::open(check.repo.clone(), point, identities, options, Arc::new(Silent)).await {
        Err(error @ Error::WrongIdentity { .. }) => Err(error),
        result => check.sort(&key, result),
    }
}

/// Reads an object whole; of a pack, all chunks that are what their ids say become known places.
async fn look(check: &Check<'_>, shared: &Arc<Shared>, object: &ObjectRef) -> Result<u64> {
    if object.kind != ObjectKind::Pack {
        return check.ciphertext(object).await;
    }
    check.head(object).await?;
    let file = check.repo.store().get(&object.key, object.version.as_ref(), None).await?;
    check.progress.add(Counter::FetchedBytes, file.len() as u64);
    let (shared, object) = (shared.clone(), object.clone());
    blocking("verifying", move || {
        // Parts of a damaged pack may still be good, and what is good is worth knowing.
        let opened = open_pack(&shared, &object.key, &file);
        compare(&object, seal::digest(&file))?;
        opened.map(|()| object.len)
    })
    .await
}

fn open_pack(shared: &Shared, key: &Key, file: &Bytes) -> Result<()> {
    let plain = seal::open_all(&shared.identities, file).map_err(|e| e.of(key, "a recovery identity"))?;
    let (chunk_key, table) = pack::read_table(&plain).map_err(|reason| Error::damaged(key, reason))?;
    let id = layout::last_id(key).ok_or_else(|| Error::damaged(key, "its key ends in no id"))?;
    let chunk_key = shared.keys.get(&chunk_key);
    let chunk_key = chunk_key.ok_or_else(|| Error::damaged(key, "it was written with another chunk key"))?;
    let starting = |source| Error::Io { what: "starting zstd".into(), source };
    let mut decompressor = Decompressor::new().map_err(starting)?;
    let mut raw = Vec::new();
    let mut frame = None;
    for ((chunk, place), len) in table.locations(id).zip(table.lengths()) {
        if frame.replace(place.frame_offset) != Some(place.frame_offset) {
            let (start, len) = (place.frame_offset as usize, place.frame_len as usize);
            let opened = decompressor.open(&plain[start..start + len]).map_err(|reason| Error::damaged(key, reason))?;
            raw.clear();
            raw.extend_from_slice(opened);
        }
        let bytes = raw.get(place.offset_in_frame as usize..).and_then(|rest| rest.get(..len as usize));
        if bytes.is_none_or(|bytes| chunk_key.chunk_id(bytes) != chunk) {
            return Err(Error::damaged(key, format!("chunk {chunk} is not the one that was stored")));
        }
        lock(&shared.places).insert(&chunk, &place, len)?;
    }
    Ok(())
}

async fn wal(check: &Check<'_>, reader: &Reader) -> Result<()> {
    for slice in reader.wal_slices() {
        let read = reader.read_wal(&slice).await.map(drop);
        check.sort(&slice.key, read)?;
    }
    Ok(())
}

/// Looks up every extent of a tree; gives how many there were.
async fn tree(check: &Check<'_>, shared: &Shared, point: &Point, reader: &Reader, kind: TreeKind) -> Result<u64> {
    let Some(mut cursor) = reader.entries(kind)? else { return Ok(0) };
    let (mut chunks, mut entries, mut broken) = (0, 0, false);
    loop {
        match cursor.next().await {
            Ok(Some(entry)) => {
                entries += 1;
                chunks += entry.extents().len() as u64;
                extents(check, shared, &entry)?;
            }
            Ok(None) => break,
            Err(error) => {
                let object = crate::reader::restore::damage_of(&error).map(|(object, _)| object.to_owned());
                let Some(object) = object else { return Err(error) };
                check.sort::<()>(&Key::new(object)?, Err(error))?;
                broken = true;
            }
        }
    }
    let named = point.header.tree(kind).map_or(0, |tree| tree.entries);
    if entries != named && !broken {
        check.note(&point.key, &format!("its {kind} tree has {entries} entries instead of {named}"), None);
    }
    Ok(chunks)
}

fn extents(check: &Check<'_>, shared: &Shared, entry: &Entry) -> Result<()> {
    let mut hit: Vec<ObjectId> = Vec::new();
    for extent in entry.extents() {
        let place = Location {
            pack: extent.pack,
            frame_offset: extent.frame_offset,
            frame_len: extent.frame_len,
            offset_in_frame: extent.offset_in_frame,
        };
        if !hit.contains(&extent.pack) && !lock(&shared.places).contains(&extent.chunk, &place, extent.len) {
            hit.push(extent.pack);
            let key = check.repo.layout().pack(extent.pack);
            check.note(&key, &unread(&extent.chunk), Some(&entry.display_path()));
        }
    }
    Ok(())
}

fn unread(chunk: &ChunkId) -> String {
    format!("chunk {chunk} is not where the tree says")
}
