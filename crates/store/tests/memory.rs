//! A put of 64 MiB takes no second 64 MiB of memory, in one request or in parts; a get takes only its answer.
//!
//! Alone in its process, because it measures the process.

#![allow(clippy::unwrap_used)] // a test ends where something is not as it must be

use std::fs;

use bytes::Bytes;
use lifeboat_store::{Key, Store as _, s3::S3Options, suite};
use lifeboat_testkit::{bucket, testbed};

const LEN: usize = 64 << 20;
/// For parts under way, connections and buffers of the system's libraries.
const EXTRA: u64 = 24 << 20;

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

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_not_copied() {
    if !testbed::enabled() {
        return;
    }
    let bytes: Bytes = suite::pattern(1, LEN);
    for (what, multipart_threshold) in [("in parts", S3Options::MULTIPART_THRESHOLD), ("in one request", u64::MAX)] {
        let options = bucket::options(&bucket::random_prefix("memory"));
        let store = bucket::connect(S3Options { multipart_threshold, ..options }).await;
        let key = Key::new("packs/one").unwrap();
        let (extra, stored) = peak(store.put(&key, bytes.clone())).await;
        let version = stored.unwrap().version;
        assert!(extra < EXTRA, "a put {what} took {} MiB more", extra >> 20);
        let (extra, got) = peak(store.get(&key, version.as_ref(), None)).await;
        assert!(got.unwrap() == bytes, "{what}");
        assert!(extra > LEN as u64 / 2, "the meter works: a get holds its answer, {} MiB", extra >> 20);
        assert!(extra < LEN as u64 + EXTRA, "a get took {} MiB", extra >> 20);
        store.delete(&key, version.as_ref()).await.unwrap();
    }
}
