//! A check over years of WAL holds none of its names.
//!
//! Alone in its process, because it measures the process.

#![allow(missing_docs, clippy::unwrap_used)] // a test ends where something is not as it must be

use std::{
    fs,
    ops::Range,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use lifeboat_model::{id::RepositoryId, lsn::Lsn};
use lifeboat_repo::{
    check::{self, WalCheckMode},
    progress::Silent,
    repository::Repository,
};
use lifeboat_store::{Error, Key, ObjectInfo, Result, Retention, Store, Stored, VersionId};

const SEGMENT: u64 = 16 << 20;
/// More than two years of a server that fills one every two minutes.
const SEGMENTS: u64 = 600_000;
const LIMIT: u64 = 32 << 20;
const WAL: &str = "hospital/clinic/wal/";
const FOLDER: &str = "hospital/clinic/wal/7/00000001/segment/";
const BEGUN: &str = "hospital/clinic/timelines/7-00000001-0000000000000000-00000000000000000000000000000000";

/// Makes up names as they are asked for.
#[derive(Debug, Default)]
struct EndlessStore {
    marker: Mutex<Option<Bytes>>,
}

fn info(key: String) -> Result<ObjectInfo> {
    Ok(ObjectInfo { key: Key::new(key)?, len: 1000, version: None, modified: Timestamp::UNIX_EPOCH })
}

fn segment(n: u64) -> Result<ObjectInfo> {
    info(format!("{FOLDER}{:016x}-{:016x}-{n:032x}", n * SEGMENT, (n + 1) * SEGMENT))
}

#[async_trait]
impl Store for EndlessStore {
    fn describe(&self) -> String {
        "names that are made up".into()
    }

    async fn put_locked(&self, _: &Key, bytes: Bytes, _: Option<Retention>) -> Result<Stored> {
        *self.marker.lock().unwrap() = Some(bytes);
        Ok(Stored { version: None })
    }

    async fn get(&self, key: &Key, _: Option<&VersionId>, _: Option<Range<u64>>) -> Result<Bytes> {
        self.marker.lock().unwrap().clone().ok_or_else(|| Error::NotFound { key: key.to_string() })
    }

    async fn head(&self, key: &Key, _: Option<&VersionId>) -> Result<ObjectInfo> {
        info(key.to_string())
    }

    fn list_from(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>> {
        let position = after.strip_prefix(FOLDER).and_then(|rest| u64::from_str_radix(rest, 16).ok());
        match (prefix, position) {
            (FOLDER, Some(position)) => stream::iter((position / SEGMENT..SEGMENTS).map(segment)).boxed(),
            (WAL, _) if after.is_empty() => stream::iter([segment(0)]).boxed(),
            _ if BEGUN.starts_with(prefix) => stream::iter([info(BEGUN.into())]).boxed(),
            _ => stream::empty().boxed(),
        }
    }

    async fn clock(&self) -> Result<jiff::Timestamp> {
        Ok(jiff::Timestamp::now())
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
async fn years_of_wal_are_checked_in_little_memory() {
    let store = Arc::new(EndlessStore::default());
    let repository = Repository::init(store, RepositoryId([1; 16]), Timestamp::UNIX_EPOCH).await.unwrap();
    let repo = repository.instance(&"hospital".parse().unwrap(), &"clinic".parse().unwrap());
    let (extra, report) = peak(check::wal(&repo, &[], WalCheckMode::Names, Arc::new(Silent))).await;
    let report = report.unwrap();
    let stream = &report.streams[0];
    assert_eq!((stream.segments, stream.slices, report.problems.len()), (SEGMENTS, 0, 0));
    assert_eq!(stream.runs, [(Lsn(0), Lsn(SEGMENTS * SEGMENT))]);
    assert!(extra < LIMIT, "{SEGMENTS} names took {} MiB", extra >> 20);
    let (extra, listing) = peak(repo.wal_archive().list(7, 1, Lsn(0))).await;
    assert_eq!(listing.unwrap().objects().len() as u64, SEGMENTS);
    assert!(extra > 2 * LIMIT, "the meter works: a listing holds its names, {} MiB", extra >> 20);
}
