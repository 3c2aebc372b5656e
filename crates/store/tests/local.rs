//! A directory as a store: the contract, what a crash leaves, and the words for what can be wrong with a folder.

#![allow(clippy::unwrap_used)] // a test ends where something is not as it must be

use std::fs;

use bytes::Bytes;
use futures::TryStreamExt as _;
use lifeboat_store::{Error, Key, Store as _, local::LocalStore, suite};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

#[tokio::test]
async fn passes_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    suite::run(&LocalStore::open(folder.path(), true).unwrap()).await;
}

#[tokio::test]
async fn what_is_not_an_object_is_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path(), true).unwrap();
    store.put(&key("points/one"), Bytes::from_static(b"x")).await.unwrap();
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    fs::write(folder.path().join("lost+found/x"), "x").unwrap();
    fs::write(folder.path().join("points/two#1"), "half").unwrap();
    fs::write(folder.path().join("points/two#0123456789abcdef"), "half").unwrap();
    std::os::unix::fs::symlink("/nowhere", folder.path().join("points/broken")).unwrap();
    let found: Vec<_> = store.list("").try_collect().await.unwrap();
    assert_eq!(found.iter().map(|info| info.key.as_str()).collect::<Vec<_>>(), ["points/one"]);
}

#[test]
fn a_missing_folder_is_said_plainly() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("not/there");
    let error = LocalStore::open(&missing, false).unwrap_err().to_string();
    assert!(error.contains("not/there") && error.contains("does not exist"), "{error}");
    LocalStore::open(&missing, true).unwrap();
    LocalStore::open(&missing, false).unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = LocalStore::open(&file, false).unwrap_err().to_string();
    assert!(error.contains("not a directory"), "{error}");
}

#[tokio::test]
async fn a_folder_that_disappears_is_said_plainly() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("mount");
    let store = LocalStore::open(&root, true).unwrap();
    store.put(&key("a/one"), Bytes::from_static(b"x")).await.unwrap();
    fs::rename(&root, folder.path().join("gone")).unwrap();
    let answers = [
        store.put(&key("a/two"), Bytes::from_static(b"x")).await.unwrap_err(),
        store.get(&key("a/one"), None, None).await.unwrap_err(),
        store.list("").try_collect::<Vec<_>>().await.unwrap_err(),
    ];
    for error in answers {
        assert!(matches!(&error, Error::Unusable { reason, .. } if reason.contains("mounted")), "{error}");
    }
}
