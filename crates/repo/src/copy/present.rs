//! What the copy has, in little memory.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::TryStreamExt as _;
use jiff::Timestamp;
use lifeboat_store::{Key, ObjectInfo};

use crate::{error::Result, repository::InstanceRepo};

/// Keys by the first half of their hash: nobody can make two keys with the same one.
type Name = [u8; 16];

/// An object that the copy has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub len: u64,
    /// Until when this run has made sure that it is locked, in seconds since 1970.
    until: i64,
}

impl Held {
    pub fn is_locked_until(&self, wanted: Timestamp) -> bool {
        self.until >= wanted.as_second()
    }
}

/// All objects of the copy's instance.
#[derive(Debug, Default)]
pub(super) struct Present {
    objects: Mutex<HashMap<Name, Held>>,
}

fn name(key: &Key) -> Name {
    let hash = blake3::hash(key.as_str().as_bytes());
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

impl Present {
    /// Learns what is there: first versions, by one listing.
    pub async fn list(&self, repo: &InstanceRepo) -> Result<()> {
        let mut listed = repo.store().list(&repo.layout().root());
        while let Some(ObjectInfo { key, len, .. }) = listed.try_next().await? {
            self.objects().insert(name(&key), Held { len, until: i64::MIN });
        }
        Ok(())
    }

    pub fn get(&self, key: &Key) -> Option<Held> {
        self.objects().get(&name(key)).copied()
    }

    /// It is there now, and locked so long.
    pub fn insert(&self, key: &Key, len: u64, until: Option<Timestamp>) {
        let until = until.map_or(i64::MIN, Timestamp::as_second);
        self.objects().insert(name(key), Held { len, until });
    }

    fn objects(&self) -> MutexGuard<'_, HashMap<Name, Held>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
