//! A copy read by the first version of each key: recorded versions of another store, newer versions and delete markers.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use lifeboat_model::retention::LockMode;
use lifeboat_store::{
    Error, Key, Retention, Store as _, VersionId,
    fault::{FaultStore, Operation},
    first::FirstVersionStore,
    local::LocalStore,
    suite,
    vault::VaultStore,
};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn vault() -> VaultStore {
    VaultStore::new(Arc::new(Timestamp::now))
}

fn recorded() -> VersionId {
    VersionId("a version of the primary".into())
}

#[tokio::test]
async fn a_store_without_versions_is_passed_through() {
    let folder = tempfile::tempdir().unwrap();
    let local = Arc::new(LocalStore::open(folder.path(), true).unwrap());
    suite::run(&FirstVersionStore::new(local)).await;
}

#[tokio::test]
async fn what_was_there_first_stands_whatever_version_is_named() {
    let vault = vault();
    let (store, one) = (FirstVersionStore::new(Arc::new(vault.clone())), key("packs/one"));
    let version = store.put(&one, Bytes::from_static(b"copied")).await.unwrap().version.unwrap();
    store.put(&key("packs/one.more"), Bytes::from_static(b"a key that begins like the other")).await.unwrap();
    vault.thief().overwrite(&one, Bytes::from_static(b"forged!"));
    vault.thief().delete_marker(&one);
    for named in [None, Some(recorded()), Some(version.clone())] {
        assert_eq!(store.get(&one, named.as_ref(), None).await.unwrap(), "copied", "{named:?}");
        assert_eq!(store.get(&one, named.as_ref(), Some(1..3)).await.unwrap(), "op", "{named:?}");
        assert_eq!(store.head(&one, named.as_ref()).await.unwrap().version, Some(version.clone()), "{named:?}");
    }
    let listed: Vec<_> = store.list("packs/").map_ok(|info| info.version).try_collect().await.unwrap();
    assert_eq!((listed.len(), &listed[0]), (2, &Some(version)));
    let absent = store.get(&key("packs/on"), Some(&recorded()), None).await;
    assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");
}

#[tokio::test]
async fn locks_are_read_and_put_on_the_first_version() {
    let vault = vault();
    let (store, one) = (FirstVersionStore::new(Arc::new(vault.clone())), key("packs/one"));
    let version = store.put(&one, Bytes::from_static(b"copied")).await.unwrap().version.unwrap();
    let forged = vault.thief().overwrite(&one, Bytes::from_static(b"forged"));
    let until = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let retention = Retention { mode: LockMode::Compliance, until };
    store.extend_lock(&one, Some(&recorded()), retention).await.unwrap();
    store.set_legal_hold(&one, None, true).await.unwrap();
    let state = vault.lock_state(&one, Some(&version)).await.unwrap();
    assert_eq!((state.retention, state.legal_hold), (Some(retention), true));
    assert_eq!(store.lock_state(&one, Some(&recorded())).await.unwrap(), state);
    assert_eq!(vault.lock_state(&one, Some(&forged)).await.unwrap().retention, None);
}

#[tokio::test]
async fn a_delete_removes_the_first_version_or_exactly_the_one_named() {
    let vault = vault();
    let (store, one) = (FirstVersionStore::new(Arc::new(vault.clone())), key("packs/one"));
    let version = store.put(&one, Bytes::from_static(b"copied")).await.unwrap().version.unwrap();
    let forged = vault.thief().overwrite(&one, Bytes::from_static(b"forged"));
    store.delete(&one, Some(&forged)).await.unwrap();
    assert_eq!(vault.versions_of(&one).len(), 1, "the forged one alone");
    assert_eq!(vault.versions_of(&one)[0].info.version, Some(version));
    store.delete(&one, Some(&recorded())).await.unwrap();
    assert!(vault.versions_of(&one).is_empty(), "the primary's version means what is here");
    store.delete(&one, Some(&recorded())).await.unwrap();
    assert!(matches!(store.get(&one, None, None).await, Err(Error::NotFound { .. })), "not remembered any more");
}

#[tokio::test]
async fn a_listing_spares_the_look() {
    let faults = FaultStore::new(Arc::new(vault()));
    let store = FirstVersionStore::new(Arc::new(faults.clone()));
    for n in 0..20 {
        store.put(&key(&format!("packs/{n}")), Bytes::from_static(b"x")).await.unwrap();
    }
    let listed: Vec<_> = store.list("packs/").try_collect().await.unwrap();
    for info in &listed {
        store.get(&info.key, Some(&recorded()), None).await.unwrap();
    }
    assert_eq!((listed.len(), faults.count(Operation::List, "")), (20, 1));
}
