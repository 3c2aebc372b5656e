//! Reading a ledger, and finding its end, holds neither its entries nor their names.
//!
//! Alone in its process, because it measures the process.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::{
    fs,
    ops::Range,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use lifeboat_engine::ledger;
use lifeboat_evidence::ledger::{Tree, checkpoint, entry, place};
use lifeboat_model::{
    id::{RepositoryId, Tenant},
    signature::SigningKey,
};
use lifeboat_repo::repository::Repository;
use lifeboat_store::{Error, Key, ObjectInfo, Result, Retention, Store, Stored, VersionId};

/// Each as long as an entry can be: 655 MB.
const ENTRIES: u64 = 10_000;
const LIMIT: u64 = 32 << 20;
const ROOT: &str = "hospital/evidence/";

/// Makes up entries as they are asked for, with a checkpoint over all.
#[derive(Debug, Default)]
struct EndlessStore {
    marker: Mutex<Option<Bytes>>,
    checkpoint: Mutex<Option<Bytes>>,
}

fn leaf(index: u64) -> Bytes {
    Bytes::from(index.to_be_bytes().repeat(entry::MAX_BYTES / 8))
}

fn info(name: &str, len: usize) -> Result<ObjectInfo> {
    let key = Key::new(format!("{ROOT}{name}"))?;
    Ok(ObjectInfo { key, len: len as u64, version: None, modified: Timestamp::UNIX_EPOCH })
}

impl EndlessStore {
    fn checkpoint(&self) -> Bytes {
        self.checkpoint.lock().unwrap().clone().unwrap()
    }

    fn look(&self, name: &str) -> Option<Bytes> {
        match place::parse(name)? {
            place::Place::Entry(index) => (index < ENTRIES).then(|| leaf(index)),
            place::Place::Checkpoint(ENTRIES) => Some(self.checkpoint()),
            _ => None,
        }
    }
}

#[async_trait]
impl Store for EndlessStore {
    fn describe(&self) -> String {
        "a ledger that is made up".into()
    }

    async fn put_locked(&self, _: &Key, bytes: Bytes, _: Option<Retention>) -> Result<Stored> {
        *self.marker.lock().unwrap() = Some(bytes);
        Ok(Stored { version: None })
    }

    async fn get(&self, key: &Key, _: Option<&VersionId>, _: Option<Range<u64>>) -> Result<Bytes> {
        let missing = || Error::NotFound { key: key.to_string() };
        match key.as_str().strip_prefix(ROOT) {
            Some(name) => self.look(name).ok_or_else(missing),
            None => self.marker.lock().unwrap().clone().ok_or_else(missing),
        }
    }

    async fn head(&self, key: &Key, _: Option<&VersionId>) -> Result<ObjectInfo> {
        let name = key.as_str().strip_prefix(ROOT).unwrap_or_default();
        let found = self.look(name).ok_or_else(|| Error::NotFound { key: key.to_string() })?;
        info(name, found.len())
    }

    fn list_from(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>> {
        let after = place::parse(after.strip_prefix(ROOT).unwrap_or_default());
        if prefix.ends_with("/entries/") {
            let first = if let Some(place::Place::Entry(index)) = after { index + 1 } else { 0 };
            let each = |index| info(&place::entry(index), leaf(index).len());
            return stream::iter((first..ENTRIES).map(each)).boxed();
        }
        let passed = matches!(after, Some(place::Place::Checkpoint(size)) if size >= ENTRIES);
        match prefix.ends_with("/checkpoints/") && !passed {
            true => stream::iter([info(&place::checkpoint(ENTRIES), self.checkpoint().len())]).boxed(),
            false => stream::empty().boxed(),
        }
    }

    async fn clock(&self) -> Result<Timestamp> {
        Ok(Timestamp::now())
    }

    async fn delete(&self, _: &Key, _: Option<&VersionId>) -> Result<()> {
        Ok(())
    }
}

fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Bytes by which the peak of `work` lies above what was in use before it.
async fn peak<T>(work: impl Future<Output = T>) -> (u64, T) {
    fs::write("/proc/self/clear_refs", "5").unwrap(); // resets VmHWM to VmRSS
    let before = status("VmRSS");
    let done = work.await;
    (status("VmHWM").saturating_sub(before), done)
}

#[tokio::test]
async fn ten_thousand_entries_are_read_in_little_memory() {
    let (id, tenant): (_, Tenant) = (RepositoryId([1; 16]), "hospital".parse().unwrap());
    let key = SigningKey::from_seed(&[1; 32]);
    let tree: Tree = (0..ENTRIES).map(leaf).collect();
    let note = checkpoint::sign_tree(&lifeboat_evidence::ledger::origin(id, &tenant), &tree, &key);
    let store = EndlessStore { checkpoint: Mutex::new(Some(note.into())), ..EndlessStore::default() };
    let repository = Repository::init(Arc::new(store), id, Timestamp::UNIX_EPOCH).await.unwrap();

    let reading = ledger::read(&repository, &tenant, 0).try_fold(Tree::new(), |mut tree, leaf| async move {
        assert_eq!(leaf.index, tree.size());
        tree.push(&leaf.bytes);
        Ok(tree)
    });
    let (extra, read) = peak(reading).await;
    assert_eq!(read.unwrap().root(), tree.root());
    assert!(extra < LIMIT, "reading took {} MiB", extra >> 20);

    let trusted = [key.public()];
    let (extra, latest) = peak(ledger::latest(&repository, &tenant, &trusted, |_, _| true)).await;
    assert_eq!(latest.unwrap().unwrap().checkpoint.unwrap().checkpoint.root, tree.root());
    assert!(extra < LIMIT, "finding the end took {} MiB", extra >> 20);

    let (extra, all) = peak(ledger::read(&repository, &tenant, 0).take(2000).try_collect::<Vec<_>>()).await;
    assert_eq!(all.unwrap().len(), 2000);
    assert!(extra > 2 * LIMIT, "the meter works: who holds entries is seen, {} MiB", extra >> 20);
}
