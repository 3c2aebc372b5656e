//! A container of Azure Blob Storage as a store, on Azurite, with and without faults of the network between.

use std::time::Duration;

use bytes::Bytes;
use futures::{TryStreamExt as _, future};
use lifeboat_model::secret::Secret;
use lifeboat_store::{
    Error, Key, Store as _,
    cloud::{AzureCredential, CloudOptions, CloudStore, Service},
    retry::Policy,
    suite,
};
use lifeboat_testkit::{
    proxy::{Fault, Proxy},
    testbed,
};

use crate::azurite::Azurite;

const MIB: usize = 1 << 20;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// A store by way of a proxy that can be told to fail, and one that goes straight to the same prefix.
async fn with_proxy(azurite: &Azurite) -> (CloudStore, Proxy, CloudStore) {
    let mut options = azurite.options();
    options.limits.part = 5 * MIB as u64;
    options.multipart_threshold = 6 * MIB as u64;
    options.limits.attempt = Duration::from_secs(3);
    options.limits.stall = Duration::from_secs(2);
    options.limits.slowest_rate = 10 * MIB as u64;
    options.limits.retry = Policy { first_wait: Duration::from_millis(20), ..Policy::default() };
    let proxy = Proxy::start(azurite.address()).await;
    let straight = CloudStore::connect(options.clone()).await.unwrap();
    options.endpoint.as_mut().unwrap().set_port(Some(proxy.address().port())).unwrap();
    (CloudStore::connect(options).await.unwrap(), proxy, straight)
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_contract() {
    if testbed::enabled() {
        let azurite = Azurite::start().await;
        suite::run(&azurite.store().await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_contract_in_small_parts() {
    if testbed::enabled() {
        let azurite = Azurite::start().await;
        let mut options = azurite.options();
        options.multipart_threshold = 0;
        options.limits.part = 5 * MIB as u64;
        suite::run(&CloudStore::connect(options).await.unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_key_is_refused_and_one_of_many_writers_wins() {
    if !testbed::enabled() {
        return;
    }
    let azurite = Azurite::start().await;
    let store = azurite.store().await;
    let one = key("race/one");
    let answers = future::join_all((0..8).map(|index| store.put(&one, suite::pattern(index, 100_000)))).await;
    let winners: Vec<u64> = (0..8).filter(|index| answers[*index as usize].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| matches!(answer, Ok(_) | Err(Error::AlreadyExists { .. }))), "{answers:?}");
    let won = suite::pattern(winners[0], 100_000);
    assert!(store.get(&one, None, None).await.unwrap() == won);

    // In parts, for which the service takes no condition: the key is looked at first.
    let parts = CloudStore::connect(CloudOptions { multipart_threshold: 0, ..azurite.options() }).await.unwrap();
    parts.put(&one, won.clone()).await.unwrap();
    let answer = parts.put(&one, suite::pattern(9, 100_000)).await;
    assert!(matches!(answer, Err(Error::AlreadyExists { .. })), "{answer:?}");
    assert!(parts.get(&one, None, None).await.unwrap() == won);
}

/// Each fault strikes a request of the put; the put succeeds all the same, and what it left is what was put.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_through_a_faulty_line_succeeds() {
    if !testbed::enabled() {
        return;
    }
    let azurite = Azurite::start().await;
    let (through, proxy, straight) = with_proxy(&azurite).await;
    let (small, large) = (suite::pattern(1, 300_000), suite::pattern(2, 17 * MIB));
    let cases = [
        ("PUT ", Fault::CutReply(0), &small),
        ("PUT ", Fault::CutReply(10), &small),
        ("PUT ", Fault::CutRequest(100_000), &small),
        ("PUT ", Fault::SwallowReply, &small),
        ("PUT ", Fault::SwallowRequest, &small),
        ("comp=block&", Fault::CutReply(0), &large),
        ("comp=block&", Fault::CutRequest(1_000_000), &large),
        ("comp=blocklist", Fault::CutReply(0), &large),
        ("comp=blocklist", Fault::SwallowReply, &large),
    ];
    for (index, (request, fault, bytes)) in cases.into_iter().enumerate() {
        let key = key(&format!("put/{index}"));
        proxy.arm(request, fault);
        through.put(&key, bytes.clone()).await.unwrap_or_else(|e| panic!("{request} {fault:?}: {e}"));
        assert_eq!(proxy.struck(), index as u64 + 1, "{request} {fault:?} struck");
        assert!(straight.get(&key, None, None).await.unwrap() == *bytes, "bytes after {request} {fault:?}");
    }
    let listed: Vec<_> = straight.list("").try_collect().await.unwrap();
    assert_eq!(listed.len(), 9);
}

/// The reply that says so is lost: the key is looked at, and what is there is not ours, though it has the same length.
#[tokio::test(flavor = "multi_thread")]
async fn another_ones_object_is_never_taken_for_ours() {
    if !testbed::enabled() {
        return;
    }
    let azurite = Azurite::start().await;
    let (through, proxy, straight) = with_proxy(&azurite).await;
    let (one, theirs) = (key("theirs/one"), suite::pattern(6, 300_000));
    straight.put(&one, theirs.clone()).await.unwrap();
    for (index, fault) in [Fault::CutReply(0), Fault::SwallowReply, Fault::CutRequest(1000)].into_iter().enumerate() {
        proxy.arm("PUT ", fault);
        let answer = through.put(&one, suite::pattern(7, 300_000)).await;
        assert!(matches!(answer, Err(Error::AlreadyExists { .. })), "{fault:?}: {answer:?}");
        assert_eq!(proxy.struck(), index as u64 + 1);
    }
    assert!(straight.get(&one, None, None).await.unwrap() == theirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_read_on_from_there() {
    if !testbed::enabled() {
        return;
    }
    let azurite = Azurite::start().await;
    let (through, proxy, straight) = with_proxy(&azurite).await;
    let (key, bytes) = (key("get/one"), suite::pattern(4, 4 * MIB));
    straight.put(&key, bytes.clone()).await.unwrap();
    let faults = [Fault::CutReply(0), Fault::CutReply(100), Fault::CutReply(3_000_000), Fault::SwallowReply];
    for fault in faults {
        for range in [None, Some(5..3_900_000)] {
            proxy.arm("GET ", fault);
            let got = through.get(&key, None, range.clone()).await;
            let got = got.unwrap_or_else(|e| panic!("{fault:?} {range:?}: {e}"));
            let expected = range.map_or(bytes.clone(), |range| bytes.slice(range.start as usize..range.end as usize));
            assert!(got == expected, "{fault:?}");
        }
    }
    assert_eq!(proxy.struck(), 8);
    // Three cuts, each further on than the last attempt could get from the beginning.
    for _ in 0..3 {
        proxy.arm("GET ", Fault::CutReply(1_500_000));
    }
    assert!(through.get(&key, None, None).await.unwrap() == bytes);
    assert!(proxy.struck() >= 10, "at most two cuts of 1.5 MB fit into 4 MiB");
    for request in ["GET ", "HEAD ", "POST "] {
        proxy.arm(request, Fault::CutReply(0));
    }
    assert_eq!(through.list("").try_collect::<Vec<_>>().await.unwrap().len(), 1);
    through.head(&key, None).await.unwrap();
    through.delete(&key, None).await.unwrap();
    assert!(straight.list("").try_collect::<Vec<_>>().await.unwrap().is_empty());
}

/// Azurite gives pages of 5000.
#[tokio::test(flavor = "multi_thread")]
async fn listings_go_on_over_pages() {
    if !testbed::enabled() {
        return;
    }
    let azurite = Azurite::start().await;
    let store = azurite.store().await;
    let keys: Vec<Key> = (0..5100).map(|index| key(&format!("pages/{index:04}"))).collect();
    for some in keys.chunks(50) {
        let puts = future::join_all(some.iter().map(|key| store.put(key, Bytes::from_static(b"x")))).await;
        puts.into_iter().for_each(|put| assert!(put.is_ok(), "{put:?}"));
    }
    let found: Vec<Key> = store.list("pages/").map_ok(|info| info.key).try_collect().await.unwrap();
    assert_eq!(found, keys);
    let from = store.list_from("pages/", keys[5049].as_str()).map_ok(|info| info.key);
    assert_eq!(from.try_collect::<Vec<_>>().await.unwrap(), keys[5050..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_at_once() {
    if !testbed::enabled() {
        return;
    }
    let azurite = Azurite::start().await;
    let good = azurite.options();
    let with = |container: &str, credential: Option<AzureCredential>| {
        let Service::Azure { account, credential: right, .. } = good.service.clone() else { unreachable!() };
        let credential = credential.unwrap_or(right);
        CloudOptions { service: Service::Azure { account, container: container.into(), credential }, ..good.clone() }
    };
    let cases = [
        (with("no-such-container", None), "does not exist"),
        (with("backup", Some(AzureCredential::AccessKey(Secret::new("aHVudGVyMg==")))), "check access_key"),
        (with("backup", Some(AzureCredential::AccessKey(Secret::new("hunter2 is no base64")))), "cannot use azure://"),
        (with("backup", Some(AzureCredential::Sas(Secret::new("sv=2023-11-03&sig=hunter2")))), "check"),
        (with("backup", Some(AzureCredential::Sas(Secret::new("hunter2")))), "cannot use azure://"),
    ];
    for (options, says) in cases {
        let error = CloudStore::connect(options).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(says), "{says}: {text}");
        assert!(!error.is_transient() && !text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
    }
}
