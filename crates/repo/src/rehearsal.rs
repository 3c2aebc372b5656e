//! Whether an identity opens a recovery point: tried on a part of each kind of object, without restoring anything.
//!
//! Of every tree the first and the last object are decoded, of the packs a few that lie spread over the point are read
//! whole and each chunk is compared with its id; WAL and documents by the newest. Each is held against the digest in a
//! signed header first, so that "opened" means the object that the point names, not another one sealed to the same key.
//!
//! Memory: one pack, sealed and open (16 MiB each as a rule, 72 MiB at most).

use bytes::Bytes;
use lifeboat_model::{lsn::Lsn, signature::PublicKey};
use lifeboat_store::Key;
use zeroize::Zeroizing;

use crate::{
    blocking::blocking,
    chunk::ChunkKey,
    document::DocumentKind,
    error::{Error, Result},
    frame::Decompressor,
    layout, pack,
    point::{ObjectKind, ObjectRef, Point},
    repository::InstanceRepo,
    seal::{self, Identity},
    tree::{Decoder, TreeKind, cursor},
    wal::content::{self, Range},
};

/// Packs read of a point.
const PACKS: usize = 4;

/// One object that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// What it is, in words.
    pub what: String,
    /// Its key.
    pub object: Key,
    /// Why it did not open; none if it did, and its content is what it should be.
    pub failure: Option<String>,
}

/// Tries all parts with these identities and no others. An unreachable store is an error; all else is told part by part.
pub async fn rehearse(
    repo: &InstanceRepo,
    point: &Point,
    trusted: &[PublicKey],
    identities: &[Identity],
) -> Result<Vec<Tried>> {
    let mut trial = Trial { repo, point, identities, tried: Vec::new() };
    let details = point.open_details(identities).map(drop);
    trial.note("details of the point".to_owned(), &point.key, details)?;
    let chunk_key = trial.chunk_key().await?;
    for kind in TreeKind::ALL {
        trial.tree(kind).await?;
    }
    trial.packs(chunk_key.as_ref()).await?;
    trial.own_wal().await?;
    trial.archive(trusted).await?;
    trial.documents(trusted).await?;
    Ok(trial.tried)
}

struct Trial<'a> {
    repo: &'a InstanceRepo,
    point: &'a Point,
    identities: &'a [Identity],
    tried: Vec<Tried>,
}

impl Trial<'_> {
    /// Notes what became of one object. What may be otherwise a minute later says nothing of the identity.
    fn note<T>(&mut self, what: String, object: &Key, result: Result<T>) -> Result<Option<T>> {
        let (failure, value) = match result {
            Ok(value) => (None, Some(value)),
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => (Some(error.to_string()), None),
        };
        self.tried.push(Tried { what, object: object.clone(), failure });
        Ok(value)
    }

    fn needed(&self) -> String {
        format!("a recovery identity of {}", self.point.header.recipients.join(" or "))
    }

    async fn fetch(&self, object: &ObjectRef) -> Result<Bytes> {
        let file = self.repo.store().get(&object.key, object.version.as_ref(), None).await?;
        let object = object.clone();
        blocking("comparing a digest", move || object.check(&file).map(|()| file)).await
    }

    /// Opens a whole object off the async threads and hands its plaintext to `look`.
    async fn open<T: Send + 'static>(
        &self,
        object: &ObjectRef,
        look: impl FnOnce(&[u8]) -> std::result::Result<T, String> + Send + 'static,
    ) -> Result<T> {
        let file = self.fetch(object).await?;
        let (key, needed, identities) = (object.key.clone(), self.needed(), self.identities.to_vec());
        blocking("opening an object", move || {
            let plain = Zeroizing::new(seal::open_all(&identities, &file).map_err(|error| error.of(&key, &needed))?);
            look(&plain).map_err(|reason| Error::damaged(&key, reason))
        })
        .await
    }

    async fn chunk_key(&mut self) -> Result<Option<ChunkKey>> {
        let key = self.repo.layout().chunk_key(self.point.header.chunk_key);
        let opened = match self.point.object(&key) {
            Ok(object) => self.open(object, |plain| ChunkKey::from_json(plain).map_err(str::to_owned)).await,
            Err(error) => Err(error),
        };
        self.note("chunk key".to_owned(), &key, opened)
    }

    async fn tree(&mut self, kind: TreeKind) -> Result<()> {
        let Some(tree) = self.point.header.tree(kind) else { return Ok(()) };
        let count = tree.objects.len();
        for index in spread(count, 2) {
            let key = &tree.objects[index];
            let opened = match self.point.object(key) {
                Ok(object) => self.open_tree(object).await,
                Err(error) => Err(error),
            };
            self.note(format!("tree {kind}, object {} of {count}", index + 1), key, opened)?;
        }
        Ok(())
    }

    async fn open_tree(&self, object: &ObjectRef) -> Result<()> {
        let file = self.fetch(object).await?;
        let (key, needed, identities) = (object.key.clone(), self.needed(), self.identities.to_vec());
        blocking("opening a tree", move || {
            let records = cursor::open(&file, &identities).map_err(|error| error.of(&key, &needed))?;
            let mut decoder = Decoder::new(records);
            while decoder.next().map_err(|reason| Error::damaged(&key, reason))?.is_some() {}
            Ok(())
        })
        .await
    }

    async fn packs(&mut self, chunk_key: Option<&ChunkKey>) -> Result<()> {
        let point = self.point;
        let packs: Vec<&ObjectRef> = point.header.objects.iter().filter(|o| o.kind == ObjectKind::Pack).collect();
        for index in spread(packs.len(), PACKS) {
            let (object, chunk_key) = (packs[index], chunk_key.cloned());
            let key = object.key.clone();
            let opened = self.open(object, move |plain| look_into_pack(&key, plain, chunk_key.as_ref())).await;
            self.note(format!("pack {} of {}, every chunk", index + 1, packs.len()), &object.key, opened)?;
        }
        Ok(())
    }

    async fn own_wal(&mut self) -> Result<()> {
        let Some(wal) = &self.point.header.wal else { return Ok(()) };
        let (system_id, timeline, count) = (wal.system_id, wal.timeline, wal.objects.len());
        for index in spread(count, 2) {
            let key = &wal.objects[index];
            let opened = match (self.point.object(key), layout::wal_parts(key)) {
                (Ok(object), Some((first, last))) => {
                    let range = Range { system_id, timeline, first, last };
                    self.open_wal(object, range).await
                }
                (Err(error), _) => Err(error),
                (Ok(_), None) => Err(Error::damaged(key, "its key names no range of WAL")),
            };
            self.note(format!("WAL of the point, slice {} of {count}", index + 1), key, opened)?;
        }
        Ok(())
    }

    async fn open_wal(&self, object: &ObjectRef, range: Range) -> Result<()> {
        let file = self.fetch(object).await?;
        let (key, needed, identities) = (object.key.clone(), self.needed(), self.identities.to_vec());
        blocking("opening WAL", move || content::open(&key, range, &file, &identities, &needed).map(drop)).await
    }

    /// The newest object of the newest timeline.
    async fn archive(&mut self, trusted: &[PublicKey]) -> Result<()> {
        let archive = self.repo.wal_archive();
        let Some((system_id, timeline)) = archive.streams().await?.pop() else { return Ok(()) };
        let own = self.point.header.wal.as_ref().filter(|wal| (wal.system_id, wal.timeline) == (system_id, timeline));
        let from = own.map_or(Lsn(0), |wal| wal.end);
        let listing = archive.list(system_id, timeline, from).await?;
        let Some(newest) = listing.objects().last() else { return Ok(()) };
        let opened = archive.reader(trusted.to_vec(), self.identities.to_vec()).read(newest).await;
        let what = format!("newest WAL of the archive, {} to {}", newest.first, newest.last);
        self.note(what, &newest.key, opened).map(drop)
    }

    async fn documents(&mut self, trusted: &[PublicKey]) -> Result<()> {
        for kind in DocumentKind::ALL {
            let listed = self.repo.list_documents(kind).await?;
            let Some(newest) = listed.iter().max_by_key(|found| (found.modified, &found.key)) else { continue };
            let opened = self.repo.read_document::<serde_json::Value>(newest, trusted, self.identities).await;
            self.note(format!("newest document in {}", kind.folder()), &newest.key, opened)?;
        }
        Ok(())
    }
}

/// Compares every chunk with its id; without a chunk key, only that every frame opens.
fn look_into_pack(key: &Key, plain: &[u8], chunk_key: Option<&ChunkKey>) -> std::result::Result<(), String> {
    let (made_with, table) = pack::read_table(plain)?;
    let chunk_key = chunk_key.filter(|chunk_key| chunk_key.id == made_with);
    let id = layout::last_id(key).ok_or("its key ends in no id")?;
    let mut decompressor = Decompressor::new().map_err(|error| error.to_string())?;
    let (mut raw, mut frame) = (Vec::new(), None);
    for ((chunk, place), len) in table.locations(id).zip(table.lengths()) {
        if frame.replace(place.frame_offset) != Some(place.frame_offset) {
            let (start, len) = (place.frame_offset as usize, place.frame_len as usize);
            raw.clear();
            raw.extend_from_slice(decompressor.open(&plain[start..start + len])?);
        }
        let bytes = raw.get(place.offset_in_frame as usize..).and_then(|rest| rest.get(..len as usize));
        let bytes = bytes.ok_or("a chunk lies behind the end of its frame")?;
        if chunk_key.is_some_and(|chunk_key| chunk_key.chunk_id(bytes) != chunk) {
            return Err(format!("chunk {chunk} is not the one that was stored"));
        }
    }
    Ok(())
}

/// Up to `wanted` of `count` places, evenly, the first and the last among them.
fn spread(count: usize, wanted: usize) -> Vec<usize> {
    let mut places: Vec<usize> = match count {
        0 => Vec::new(),
        _ => (0..wanted).map(|n| n * (count - 1) / (wanted - 1)).collect(),
    };
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spread() {
        assert_eq!(spread(0, 4), Vec::<usize>::new());
        assert_eq!(spread(1, 4), [0]);
        assert_eq!(spread(3, 4), [0, 1, 2]);
        assert_eq!(spread(100, 4), [0, 33, 66, 99]);
        assert_eq!(spread(100, 2), [0, 99]);
    }
}
