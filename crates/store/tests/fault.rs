//! The store that fails on command: nothing wrong without rules, and each fault does what it says.

#![allow(clippy::unwrap_used)] // a test ends where something is not as it must be

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt as _;
use lifeboat_store::{
    Error, Key, Store as _,
    fault::{Fault, FaultStore, Operation, Rule},
    local::LocalStore,
    suite,
};
use lifeboat_testkit::folder::TempFolder;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn store(folder: &TempFolder) -> FaultStore {
    FaultStore::new(Arc::new(LocalStore::open(folder.path(), true).unwrap()))
}

const BODY: Bytes = Bytes::from_static(b"0123456789");

#[tokio::test]
async fn without_rules_it_passes_the_contract() {
    let folder = TempFolder::new();
    suite::run(&store(&folder)).await;
}

#[tokio::test]
async fn each_fault_of_a_put_has_its_effect_and_its_error() {
    type Expected = fn(&Error) -> bool;
    let cases: [(Fault, Option<&[u8]>, Expected); 6] = [
        (Fault::FailBefore, None, Error::is_transient),
        (Fault::LoseReply, Some(b"0123456789"), Error::is_transient),
        (Fault::Refuse, None, |e| matches!(e, Error::Denied { .. })),
        (Fault::Full, None, |e| matches!(e, Error::Full { .. })),
        (Fault::WriteOnly(4), Some(b"0123"), Error::is_transient),
        (Fault::WriteOnly(0), Some(b""), Error::is_transient),
    ];
    for (fault, left, expected) in cases {
        let folder = TempFolder::new();
        let store = store(&folder);
        store.add(Rule::on(Operation::Put, fault.clone()).key("packs/"));
        store.put(&key("points/one"), BODY).await.unwrap();
        let error = store.put(&key("packs/one"), BODY).await.unwrap_err();
        assert!(expected(&error), "{fault:?}: {error}");
        let found = store.get(&key("packs/one"), None, None).await.ok();
        assert_eq!(found.as_deref(), left, "what {fault:?} leaves");
        store.put(&key("packs/two"), BODY).await.unwrap();
        assert_eq!((store.struck(), store.count(Operation::Put, "packs/")), (1, 2));
    }
}

#[tokio::test]
async fn each_fault_of_a_get_changes_what_comes_back() {
    let folder = TempFolder::new();
    let store = store(&folder);
    store.put(&key("one"), BODY).await.unwrap();
    for (fault, seen) in
        [(Fault::Truncate(3), &b"012"[..]), (Fault::FlipByte(2), b"0133456789"), (Fault::FlipByte(99), &BODY)]
    {
        store.add(Rule::on(Operation::Get, fault.clone()));
        assert_eq!(store.get(&key("one"), None, None).await.unwrap(), seen, "{fault:?}");
    }
    store.add(Rule::on(Operation::Get, Fault::Missing));
    assert!(matches!(store.get(&key("one"), None, None).await, Err(Error::NotFound { .. })));
    assert_eq!(store.get(&key("one"), None, None).await.unwrap(), BODY);
}

#[tokio::test]
async fn rules_count_and_limits_fill_up() {
    let folder = TempFolder::new();
    let store = store(&folder);
    store.add(Rule::on_any(Fault::FailBefore).nth(3).times(2));
    let mut answers = Vec::new();
    for index in 0..6 {
        answers.push(store.put(&key(&format!("a/{index}")), BODY).await.is_ok());
    }
    assert_eq!(answers, [true, true, false, false, true, true]);
    store.limit_room(25);
    let mut answers = Vec::new();
    for index in 0..4 {
        answers.push(store.put(&key(&format!("b/{index}")), BODY).await);
    }
    assert!(answers[1].is_ok() && matches!(answers[2], Err(Error::Full { .. })) && answers[3].is_err(), "{answers:?}");
    store.add(Rule::on(Operation::List, Fault::FailBefore).and_ever_after());
    for _ in 0..3 {
        assert!(store.list("").try_collect::<Vec<_>>().await.is_err());
    }
    store.heal();
    assert_eq!(store.list("").try_collect::<Vec<_>>().await.unwrap().len(), 6);
    store.put(&key("c"), BODY).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn hanging_calls_end_when_they_are_dropped_and_slow_ones_by_themselves() {
    let folder = TempFolder::new();
    let store = store(&folder);
    store.add(Rule::on(Operation::Head, Fault::Hang));
    let answer = tokio::time::timeout(Duration::from_secs(3600), store.head(&key("one"), None)).await;
    assert!(answer.is_err(), "it hangs");
    store.add(Rule::on(Operation::Head, Fault::Delay(Duration::from_secs(60))));
    let begun = tokio::time::Instant::now();
    assert!(matches!(store.head(&key("one"), None).await, Err(Error::NotFound { .. })));
    assert!(begun.elapsed() >= Duration::from_secs(60));
}
