//! The bucket as a store, on the testbed's real Ceph RGW, with and without faults of the network between.

#![allow(clippy::unwrap_used)] // a test ends where something is not as it must be

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use lifeboat_model::{retention::LockMode, secret::Secret};
use lifeboat_store::{
    Error, Key, LockState, Retention, Store as _,
    retry::Policy,
    s3::{S3Options, S3Store},
    suite,
};
use lifeboat_testkit::{
    account::{Account, Who},
    bucket,
    proxy::{Fault, Proxy},
    testbed,
};

const MIB: usize = 1 << 20;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn server(options: &S3Options) -> SocketAddr {
    let endpoint = options.endpoint.as_ref().unwrap();
    endpoint.socket_addrs(|| None).unwrap()[0]
}

/// A store by way of a proxy that can be told to fail, and one that goes straight to the same prefix.
async fn with_proxy(test: &str) -> (S3Store, Proxy, S3Store) {
    let mut options = bucket::options(&bucket::random_prefix(test));
    options.limits.part = 5 * MIB as u64;
    options.multipart_threshold = 6 * MIB as u64;
    options.limits.attempt = Duration::from_secs(3);
    options.limits.stall = Duration::from_secs(2);
    options.limits.slowest_rate = 10 * MIB as u64;
    options.limits.retry = Policy { first_wait: Duration::from_millis(20), ..Policy::default() };
    let proxy = Proxy::start(server(&options)).await;
    let straight = bucket::connect(options.clone()).await;
    let through = bucket::connect(bucket::through(options, proxy.address())).await;
    (through, proxy, straight)
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_contract() {
    if testbed::enabled() {
        suite::run(&bucket::store("contract").await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_contract_in_small_parts() {
    if testbed::enabled() {
        let mut options = bucket::options(&bucket::random_prefix("parts"));
        options.multipart_threshold = 0;
        options.limits.part = 5 * MIB as u64;
        suite::run(&bucket::connect(options).await).await;
    }
}

/// Each fault strikes a request of the put; the put succeeds all the same and leaves one version.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_through_a_faulty_line_leaves_exactly_one_version() {
    if !testbed::enabled() {
        return;
    }
    let (through, proxy, straight) = with_proxy("lost").await;
    let (small, large) = (suite::pattern(1, 300_000), suite::pattern(2, 17 * MIB));
    let cases = [
        ("PUT ", Fault::CutReply(0), &small),
        ("PUT ", Fault::CutReply(10), &small),
        ("PUT ", Fault::CutRequest(100_000), &small),
        ("PUT ", Fault::SwallowReply, &small),
        ("PUT ", Fault::SwallowRequest, &small),
        ("partNumber=2", Fault::CutReply(0), &large),
        ("partNumber=3", Fault::CutRequest(1_000_000), &large),
        ("?uploads", Fault::CutReply(0), &large),
        ("<CompleteMultipartUpload", Fault::CutReply(0), &large),
        ("<CompleteMultipartUpload", Fault::SwallowReply, &large),
    ];
    for (index, (request, fault, bytes)) in cases.into_iter().enumerate() {
        let key = key(&format!("put/{index}"));
        proxy.arm(request, fault);
        let stored = through.put(&key, bytes.clone()).await.unwrap_or_else(|e| panic!("{request} {fault:?}: {e}"));
        assert_eq!(proxy.struck(), index as u64 + 1, "{request} {fault:?} struck");
        let back = straight.get(&key, stored.version.as_ref(), None).await.unwrap();
        assert!(back == *bytes, "bytes after {request} {fault:?}");
        let versions = remove_all_versions(&straight, &key).await;
        assert_eq!(versions, [stored.version.unwrap().0], "versions after {request} {fault:?}");
    }
}

/// The versions that a key had: the newest is removed until none is left.
async fn remove_all_versions(store: &S3Store, key: &Key) -> Vec<String> {
    let mut found = Vec::new();
    while let Ok(info) = store.head(key, None).await {
        let version = info.version.expect("the testbed's bucket has versions");
        found.push(version.0.clone());
        assert!(found.len() < 10, "{key} has too many versions: {found:?}");
        store.delete(key, Some(&version)).await.unwrap();
    }
    found
}

/// The server checks the hash that the request was signed with: changed bytes are refused, and sent again.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_changed_on_the_way_are_never_stored() {
    if !testbed::enabled() {
        return;
    }
    let (through, proxy, straight) = with_proxy("flip").await;
    for (index, (request, len)) in [("PUT ", 300_000), ("partNumber=2", 12 * MIB)].into_iter().enumerate() {
        let (key, bytes) = (key(&format!("flip/{index}")), suite::pattern(3, len));
        proxy.arm(request, Fault::FlipRequest(200_000));
        let stored = through.put(&key, bytes.clone()).await.unwrap();
        assert_eq!(proxy.struck(), index as u64 + 1);
        assert!(straight.get(&key, stored.version.as_ref(), None).await.unwrap() == bytes, "{request}");
        assert_eq!(remove_all_versions(&straight, &key).await.len(), 1, "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_read_on_from_there() {
    if !testbed::enabled() {
        return;
    }
    let (through, proxy, straight) = with_proxy("get").await;
    let (key, bytes) = (key("get/one"), suite::pattern(4, 4 * MIB));
    let version = straight.put(&key, bytes.clone()).await.unwrap().version;
    let faults = [
        Fault::CutReply(0),
        Fault::CutReply(100),
        Fault::CutReply(3_000_000),
        Fault::SwallowReply,
        Fault::DelayReply(Duration::from_millis(50)),
    ];
    for fault in faults {
        for range in [None, Some(5..3_900_000)] {
            proxy.arm("GET ", fault);
            let got = through.get(&key, version.as_ref(), range.clone()).await;
            let got = got.unwrap_or_else(|e| panic!("{fault:?} {range:?}: {e}"));
            let expected = range.map_or(bytes.clone(), |range| bytes.slice(range.start as usize..range.end as usize));
            assert!(got == expected, "{fault:?}");
        }
    }
    assert_eq!(proxy.struck(), 10);
    // Three cuts, each further on than the last attempt could get from the beginning.
    for _ in 0..3 {
        proxy.arm("GET ", Fault::CutReply(1_500_000));
    }
    assert!(through.get(&key, None, None).await.unwrap() == bytes);
    assert!(proxy.struck() >= 12, "at most two cuts of 1.5 MB fit into 4 MiB");
    for request in ["GET ", "HEAD ", "DELETE "] {
        proxy.arm(request, Fault::CutReply(0));
    }
    let found: Vec<_> = through.list("").try_collect().await.unwrap();
    assert_eq!(found.len(), 1);
    through.head(&key, None).await.unwrap();
    through.delete(&key, None).await.unwrap();
    assert!(straight.list("").try_collect::<Vec<_>>().await.unwrap().is_empty());
}

/// A put that is dropped half-way stores nothing and leaves no parts behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_put_leaves_nothing() {
    if !testbed::enabled() {
        return;
    }
    let (through, proxy, straight) = with_proxy("cancel").await;
    proxy.arm("partNumber=3", Fault::SwallowRequest);
    let key = key("cancel/one");
    let put = through.put(&key, suite::pattern(5, 20 * MIB));
    assert!(tokio::time::timeout(Duration::from_secs(2), put).await.is_err(), "the third part hangs");
    assert_eq!(proxy.struck(), 1);
    assert!(straight.list("").try_collect::<Vec<_>>().await.unwrap().is_empty());
    for _ in 0..100 {
        if straight.unfinished_uploads("cancel/").await.unwrap() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the multipart upload was not aborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_go_on_over_pages() {
    if !testbed::enabled() {
        return;
    }
    let store = bucket::store("pages").await;
    let keys: Vec<Key> = (0..1100).map(|index| key(&format!("pages/{index:04}"))).collect();
    for some in keys.chunks(50) {
        futures::future::join_all(some.iter().map(|key| store.put(key, Bytes::from_static(b"x")))).await;
    }
    let found: Vec<Key> = store.list("pages/").map_ok(|info| info.key).try_collect().await.unwrap();
    assert_eq!(found, keys);
    for skipped in [50, 1001] {
        let from = store.list_from("pages/", keys[skipped - 1].as_str()).map_ok(|info| info.key);
        assert_eq!(from.try_collect::<Vec<_>>().await.unwrap(), keys[skipped..], "after {skipped}");
    }
    for some in keys.chunks(50) {
        futures::future::join_all(some.iter().map(|key| store.delete(key, None))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_bucket_is_told_at_once() {
    if !testbed::enabled() {
        return;
    }
    let good = bucket::options("tests");
    let cases = [
        (S3Options { bucket: "no-such-bucket".into(), ..good.clone() }, "the bucket does not exist"),
        (S3Options { access_key: Secret::new("NOBODY"), ..good.clone() }, "InvalidAccessKeyId"),
        (S3Options { secret_key: Secret::new("hunter2"), ..good.clone() }, "SignatureDoesNotMatch"),
    ];
    for (options, says) in cases {
        let error = S3Store::connect(options).await.unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains("hunter2"), "{error}");
    }
}

fn governance(seconds: i64) -> Retention {
    let until = Timestamp::from_second(Timestamp::now().as_second()).unwrap() + SignedDuration::from_secs(seconds);
    Retention { mode: LockMode::Governance, until }
}

/// The same faults as without a lock: one version, under the lock that was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_put_through_a_faulty_line_leaves_one_locked_version() {
    if !testbed::enabled() {
        return;
    }
    let (through, proxy, straight) = with_proxy("lost-lock").await;
    let (small, large) = (suite::pattern(1, 300_000), suite::pattern(2, 11 * MIB));
    let cases = [
        ("PUT ", Fault::CutReply(0), &small),
        ("PUT ", Fault::CutRequest(100_000), &small),
        ("PUT ", Fault::SwallowReply, &small),
        ("?uploads", Fault::CutReply(0), &large),
        ("<CompleteMultipartUpload", Fault::CutReply(0), &large),
        ("<CompleteMultipartUpload", Fault::SwallowReply, &large),
        ("?retention", Fault::CutReply(0), &large),
        ("?retention", Fault::SwallowRequest, &large),
    ];
    for (index, (request, fault, bytes)) in cases.into_iter().enumerate() {
        let (key, lock) = (key(&format!("put/{index}")), governance(20));
        proxy.arm(request, fault);
        let stored = through.put_locked(&key, bytes.clone(), Some(lock)).await;
        let version = stored.unwrap_or_else(|e| panic!("{request} {fault:?}: {e}")).version;
        assert_eq!(proxy.struck(), index as u64 + 1, "{request} {fault:?} struck");
        let expected = LockState { retention: Some(lock), legal_hold: false };
        assert_eq!(straight.lock_state(&key, version.as_ref()).await.unwrap(), expected, "{request} {fault:?}");
        let found: Vec<_> = straight.list_versions(key.as_str(), "").try_collect().await.unwrap();
        let versions: Vec<_> = found.iter().map(|found| found.info.version.clone()).collect();
        assert_eq!(versions, [version], "versions after {request} {fault:?}");
    }
}

/// The reply of a put is lost, and before it can be looked for, somebody lays a newer version and a marker over it.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_finds_itself_below_what_a_thief_laid_over_it() {
    if !testbed::enabled() {
        return;
    }
    let prefix = bucket::random_prefix("below");
    let mut options = bucket::options(&prefix);
    options.limits.retry = Policy { first_wait: Duration::from_secs(4), ..Policy::default() };
    let proxy = Proxy::start(server(&options)).await;
    let thief = Account::new(Who::Owner, &options.bucket);
    let straight = bucket::connect(options.clone()).await;
    let through = bucket::connect(bucket::through(options, proxy.address())).await;
    let (key, bytes) = (key("packs/one"), suite::pattern(7, 5000));
    proxy.arm("PUT ", Fault::CutReply(0));
    let attack = async {
        while straight.list_versions("", "").try_collect::<Vec<_>>().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let path = format!("{prefix}/{key}");
        thief.put(&path, suite::pattern(8, 5000).to_vec()).await.unwrap();
        thief.hide(&path).await.unwrap();
    };
    let (stored, ()) = tokio::join!(through.put(&key, bytes.clone()), attack);
    let version = stored.unwrap().version;
    assert_eq!(proxy.struck(), 1);
    assert!(straight.get(&key, version.as_ref(), None).await.unwrap() == bytes);
    let found: Vec<_> = straight.list_versions(key.as_str(), "").try_collect().await.unwrap();
    let shape: Vec<_> = found.iter().map(|found| (found.latest, found.delete_marker)).collect();
    assert_eq!(shape, [(true, true), (false, false), (false, false)], "ours was not sent a second time");
    assert_eq!(found[2].info.version, version);
    for found in found {
        straight.delete(&found.info.key, found.info.version.as_ref()).await.unwrap();
    }
}

/// More versions and markers of a key than a page holds: its first version is the one that is listed.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_version_is_listed_wherever_pages_end() {
    if !testbed::enabled() {
        return;
    }
    let prefix = bucket::random_prefix("first");
    let options = bucket::options(&prefix);
    let thief = Account::new(Who::Owner, &options.bucket);
    let store = bucket::connect(options).await;
    let mut firsts = Vec::new();
    for index in 0..4 {
        let key = key(&format!("points/{index}"));
        let version = store.put(&key, suite::pattern(index, 10)).await.unwrap().version;
        firsts.push((key, version));
    }
    // The second key alone fills more than a page, the third ends with markers.
    for (index, versions) in [(1, 1200), (2, 300)] {
        let path = &format!("{prefix}/points/{index}");
        for some in (0..versions).collect::<Vec<_>>().chunks(50) {
            let thief = &thief;
            let attack = some.iter().map(|number| async move {
                let theirs = b"theirs".to_vec();
                let done = if number % 7 == 0 { thief.hide(path).await } else { thief.put(path, theirs).await };
                done.unwrap();
            });
            futures::future::join_all(attack).await;
        }
        thief.hide(path).await.unwrap();
    }
    let listed: Vec<_> = store.list("points/").try_collect().await.unwrap();
    let listed: Vec<_> = listed.into_iter().map(|info| (info.key, info.version)).collect();
    assert_eq!(listed, firsts);
    let after: Vec<_> = store.list_from("points/", "points/1").try_collect().await.unwrap();
    assert_eq!(after.iter().map(|info| &info.version).collect::<Vec<_>>(), [&firsts[2].1, &firsts[3].1]);
    let all: Vec<_> = store.list_versions("points/", "").try_collect().await.unwrap();
    // Ceph lays fewer markers than asked for when many come at once: it knows best what there is.
    let mut raw: Vec<_> = thief.versions(&format!("{prefix}/points/")).await;
    raw.sort_by_key(|found| found.version.clone());
    let mut seen: Vec<_> =
        all.iter().map(|found| (found.info.version.clone().unwrap().0, found.delete_marker)).collect();
    seen.sort();
    let markers = seen.iter().filter(|(_, marker)| *marker).count();
    // All puts are there: 1028 of the second key, 257 of the third, and the first of each.
    assert!(seen.len() - markers == 1028 + 257 + 4 && markers > 20, "{} versions, {markers} markers", seen.len());
    assert_eq!(seen, raw.into_iter().map(|found| (found.version, found.marker)).collect::<Vec<_>>());
    assert_eq!(all.iter().filter(|found| found.latest).count(), 4, "of each key one is the newest");
    assert!(all.is_sorted_by_key(|found| found.info.key.clone()), "in key order");
    for some in all.chunks(50) {
        let removed = some.iter().map(|found| store.delete(&found.info.key, found.info.version.as_ref()));
        assert!(futures::future::join_all(removed).await.iter().all(Result::is_ok));
    }
}

/// A lock that is longer or firmer already is enough; one that the server does not make firmer is an error, unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn locks_are_extended_to_the_longer_and_firmer() {
    if !testbed::enabled() {
        return;
    }
    let store = bucket::store("extend").await;
    let at = |mode, seconds| Retention { mode, ..governance(seconds) };
    let (compliance, governance) = (LockMode::Compliance, LockMode::Governance);
    let (short, long) = (at(compliance, 8), at(governance, 12));
    let key = key("packs/one");
    let version = store.put_locked(&key, Bytes::from_static(b"x"), Some(short)).await.unwrap().version;
    store.extend_lock(&key, version.as_ref(), at(governance, 4)).await.unwrap();
    assert_eq!(store.lock_state(&key, version.as_ref()).await.unwrap().retention, Some(short), "enough as it is");
    store.extend_lock(&key, version.as_ref(), long).await.unwrap();
    let joined = Retention { mode: compliance, ..long };
    assert_eq!(store.lock_state(&key, version.as_ref()).await.unwrap().retention, Some(joined), "longer, as firm");
    let version = store.put_locked(&key, Bytes::from_static(b"y"), Some(at(governance, 5))).await.unwrap().version;
    let before = store.lock_state(&key, version.as_ref()).await.unwrap();
    let refused = store.extend_lock(&key, version.as_ref(), at(compliance, 60)).await;
    assert!(matches!(refused, Err(Error::Denied { .. })), "Ceph does not make governance compliance: {refused:?}");
    assert_eq!(store.lock_state(&key, version.as_ref()).await.unwrap(), before);
    let gone = store.extend_lock(&Key::new("packs/none").unwrap(), version.as_ref(), long).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
}
