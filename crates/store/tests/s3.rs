//! The bucket as a store, on the testbed's real Ceph RGW, with and without faults of the network between.

#![allow(clippy::unwrap_used)] // a test ends where something is not as it must be

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt as _;
use lifeboat_model::secret::Secret;
use lifeboat_store::{
    Key, Store as _,
    retry::Policy,
    s3::{S3Options, S3Store},
    suite,
};
use lifeboat_testkit::{
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
