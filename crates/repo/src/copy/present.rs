//! What the copy has, and what of it is known to be what it should be, in little memory.
//!
//! That an object is there with the right length says nothing: whoever may put into the copy can have been first. So what
//! this run did not send is read back once and compared. What held is remembered in a file, by the version that it has in
//! the copy, which nobody can choose; a lost or damaged file costs one run that reads the copy again, nothing else.

use std::{
    collections::HashMap,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::TryStreamExt as _;
use jiff::Timestamp;
use lifeboat_store::{Key, ObjectInfo, SharedStore, VersionId};

use crate::error::Result;

/// The first half of a hash: nobody can make two things with the same one.
type Short = [u8; 16];

/// The first bytes of the file.
const MAGIC: &[u8; 8] = b"LBSEEN1\n";

/// An object that the copy has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub len: u64,
    /// Until when this run has made sure that it is locked, in seconds since 1970.
    until: i64,
    /// Which version it is there.
    is: Short,
    /// What it was found to be.
    holds: Option<Short>,
}

impl Held {
    pub fn is_locked_until(&self, wanted: Timestamp) -> bool {
        self.until >= wanted.as_second()
    }
}

/// All objects of a folder of the copy.
#[derive(Debug, Default)]
pub(super) struct Present {
    objects: Mutex<HashMap<Short, Held>>,
    file: Option<PathBuf>,
}

fn short(parts: &[&[u8]]) -> Short {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
}

fn name(key: &Key) -> Short {
    short(&[key.as_str().as_bytes()])
}

/// A store without versions is known by length and time alone.
fn version(version: Option<&VersionId>, len: u64, modified: Option<Timestamp>) -> Short {
    match version {
        Some(version) => short(&[b"version", version.0.as_bytes()]),
        None => {
            let modified = modified.map_or(0, Timestamp::as_nanosecond);
            short(&[b"file", &len.to_le_bytes(), &modified.to_le_bytes()])
        }
    }
}

impl Present {
    /// What was seen by earlier runs is remembered in `file`.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { objects: Mutex::default(), file }
    }

    /// Learns what is there: first versions, by one listing.
    pub async fn list(&self, store: &SharedStore, prefix: &str) -> Result<()> {
        let seen = self.file.as_deref().and_then(load).unwrap_or_default();
        let mut listed = store.list(prefix);
        while let Some(info) = listed.try_next().await? {
            let ObjectInfo { key, len, .. } = &info;
            let is = version(info.version.as_ref(), *len, Some(info.modified));
            let holds = seen.get(&name(key)).filter(|(then, _)| *then == is).map(|(_, holds)| *holds);
            self.objects().insert(name(key), Held { len: *len, until: i64::MIN, is, holds });
        }
        Ok(())
    }

    pub fn get(&self, key: &Key) -> Option<Held> {
        self.objects().get(&name(key)).copied()
    }

    /// Whether it is there and was found to be what `identity` says.
    pub fn holds(&self, key: &Key, identity: &[u8]) -> bool {
        self.get(key).is_some_and(|held| held.holds == Some(short(&[identity])))
    }

    /// Was compared, or written.
    pub fn found(&self, key: &Key, identity: &[u8]) {
        if let Some(held) = self.objects().get_mut(&name(key)) {
            held.holds = Some(short(&[identity]));
        }
    }

    /// It is there now, in this version.
    pub fn insert(&self, key: &Key, len: u64, in_copy: Option<&VersionId>) {
        let is = version(in_copy, len, None);
        self.objects().insert(name(key), Held { len, until: i64::MIN, is, holds: None });
    }

    /// It is locked so long now.
    pub fn locked(&self, key: &Key, until: Timestamp) {
        if let Some(held) = self.objects().get_mut(&name(key)) {
            held.until = until.as_second();
        }
    }

    /// It is there no more.
    pub fn forget(&self, key: &Key) {
        self.objects().remove(&name(key));
    }

    /// For the next run; that it could not be written costs that one some reading.
    pub fn save(&self) {
        let Some(file) = &self.file else { return };
        let write = || -> io::Result<()> {
            let folder = file.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder)?;
            let mut bytes = MAGIC.to_vec();
            for (name, held) in self.objects().iter() {
                if let Some(holds) = held.holds {
                    bytes.extend_from_slice(&[*name, held.is, holds].concat());
                }
            }
            bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
            let mut new = tempfile::NamedTempFile::new_in(folder)?;
            new.write_all(&bytes)?;
            new.persist(file)?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::debug!(%error, file = %file.display(), "cannot remember what the copy was seen to hold");
        }
    }

    fn objects(&self) -> MutexGuard<'_, HashMap<Short, Held>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of each name, which version was seen, and what it held.
fn load(file: &Path) -> Option<HashMap<Short, (Short, Short)>> {
    let bytes = fs::read(file).ok()?;
    let (body, hash) = bytes.split_last_chunk::<32>()?;
    let entries = body.strip_prefix(MAGIC).filter(|_| blake3::hash(body) == *hash)?;
    let entry = |entry: &[u8]| {
        let part = |at: usize| entry.get(at..at + 16).and_then(|part| part.first_chunk().copied());
        Some((part(0)?, (part(16)?, part(32)?)))
    };
    entries.chunks(48).map(entry).collect()
}
