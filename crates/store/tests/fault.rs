//! The store that fails on command: nothing wrong without rules, and each fault does what it says.

#![allow(clippy::unwrap_used)] // a test ends where something is not as it must be

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use lifeboat_model::retention::LockMode;
use lifeboat_store::{
    Error, Key, LockState, Retention, Store as _,
    fault::{Fault, FaultStore, Operation, Rule},
    local::LocalStore,
    suite,
    vault::VaultStore,
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

fn vault() -> FaultStore {
    FaultStore::new(Arc::new(VaultStore::new(Arc::new(Timestamp::now))))
}

/// Whether a call got through with its effect, and whether its caller heard so.
#[tokio::test]
async fn faults_strike_locks_holds_versions_and_the_clock() {
    let retention = |hours: i64| Retention {
        mode: LockMode::Compliance,
        until: Timestamp::from_second(4_000_000_000 + hours * 3600).unwrap(),
    };
    for (fault, effect) in [(Fault::FailBefore, false), (Fault::LoseReply, true), (Fault::Refuse, false)] {
        let (store, key) = (vault(), key("packs/one"));
        store.put_locked(&key, BODY, Some(retention(1))).await.unwrap();
        let first = store.made();
        store.add(Rule::on(Operation::ExtendLock, fault.clone()));
        store.add(Rule::on(Operation::LegalHold, fault.clone()));
        store.add(Rule::on(Operation::LockState, fault.clone()));
        store.add(Rule::on(Operation::Clock, fault.clone()));
        store.add(Rule::on(Operation::ListVersions, fault.clone()));
        assert!(store.extend_lock(&key, None, retention(2)).await.is_err());
        assert!(store.set_legal_hold(&key, None, true).await.is_err());
        assert!(store.lock_state(&key, None).await.is_err());
        assert!(store.clock().await.is_err());
        assert!(store.list_versions("", "").try_collect::<Vec<_>>().await.is_err());
        assert_eq!((store.struck(), store.made() - first), (5, 5), "{fault:?}");
        let state = store.lock_state(&key, None).await.unwrap();
        let expected = LockState { retention: Some(retention(if effect { 2 } else { 1 })), legal_hold: effect };
        assert_eq!(state, expected, "{fault:?}");
        store.clock().await.unwrap();
        assert_eq!(store.list_versions("", "").try_collect::<Vec<_>>().await.unwrap().len(), 1);
    }
}

/// A piece of work of four calls crashes at each of them, before and after its effect; nothing gets through behind it.
#[tokio::test]
async fn a_crash_lets_through_what_came_before_it() {
    for n in 1..=4 {
        for effect in [false, true] {
            let store = vault();
            store.crash_at(n, effect);
            let work = async {
                store.put(&key("a"), BODY).await?;
                store.clock().await?;
                store.set_legal_hold(&key("a"), None, true).await?;
                store.put(&key("b"), BODY).await
            };
            assert!(work.await.is_err(), "call {n}");
            assert!(store.put(&key("later"), BODY).await.is_err(), "call {n}");
            store.heal();
            let done = |call: u64| call < n || (call == n && effect);
            let held = store.lock_state(&key("a"), None).await.is_ok_and(|state| state.legal_hold);
            let kept = async |name: &str| store.head(&key(name), None).await.is_ok();
            let seen = (kept("a").await, held, kept("b").await, kept("later").await);
            assert_eq!(seen, (done(1), done(3), done(4), false), "call {n}, effect {effect}");
        }
    }
}
