//! What a local put leaves behind when its process is killed or its disk is full.

#![allow(clippy::unwrap_used)] // a test ends where something is not as it must be

use std::{
    env,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use futures::TryStreamExt as _;
use lifeboat_store::{Error, Key, ObjectInfo, Store as _, local::LocalStore, suite};
use lifeboat_testkit::{
    disk::SmallDisk,
    folder::{self, TempFolder},
    testbed,
};

const ROOT: &str = "LIFEBOAT_TEST_WRITER_ROOT";
const LEN: usize = 4 << 20;
const ROUNDS: u64 = 12;

async fn all(store: &LocalStore) -> Vec<ObjectInfo> {
    store.list("").try_collect().await.unwrap()
}

/// The process that is killed: writes objects, named by the seed of their bytes, until it is stopped.
#[tokio::test]
async fn writer_process() {
    let Ok(root) = env::var(ROOT) else { return };
    let store = LocalStore::open(root.as_ref(), false).unwrap();
    for seed in (0u64..).step_by(2) {
        let (one, other) = (name(seed), name(seed + 1));
        let (first, second) = futures::future::join(
            store.put(&one, suite::pattern(seed, LEN)),
            store.put(&other, suite::pattern(seed + 1, LEN)),
        )
        .await;
        first.unwrap();
        second.unwrap();
    }
}

fn name(seed: u64) -> Key {
    Key::new(format!("packs/{:02x}/{seed}", seed % 7)).unwrap()
}

fn start_writer(root: &TempFolder) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "writer_process"])
        .env(ROOT, root.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_killed_writer_leaves_whole_objects_or_nothing() {
    let mut seen = 0;
    for round in 0..ROUNDS {
        let folder = TempFolder::new();
        let store = LocalStore::open(folder.path(), true).unwrap();
        let mut writer = start_writer(&folder);
        let begun = Instant::now();
        while all(&store).await.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the writer wrote nothing");
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(3 * round));
        writer.kill().unwrap(); // SIGKILL
        writer.wait().unwrap();
        let found = all(&store).await;
        for info in &found {
            let seed = info.key.as_str().rsplit('/').next().unwrap().parse().unwrap();
            assert_eq!(info.len, LEN as u64, "{} is whole", info.key);
            assert!(store.get(&info.key, None, None).await.unwrap() == suite::pattern(seed, LEN), "{}", info.key);
        }
        assert_eq!(folder::files(folder.path()).len(), found.len(), "no staging files stay");
        seen += found.len();
    }
    assert!(seen >= ROUNDS as usize, "each round saw objects");
}

#[tokio::test]
async fn a_full_disk_is_told_leaves_nothing_and_heals() {
    if !testbed::enabled() {
        return;
    }
    let disk = SmallDisk::mount(8 << 20);
    let store = LocalStore::open(&disk.at("repository"), true).unwrap();
    let mut stored = 0;
    let error = loop {
        match store.put(&name(stored), suite::pattern(stored, 3 << 20)).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 10, "8 MiB never fill up");
    };
    assert!(matches!(&error, Error::Full { key, .. } if *key == name(stored).to_string()), "{error}");
    assert_eq!(stored, 2);
    let found = all(&store).await;
    assert_eq!(found.len(), 2);
    assert_eq!(folder::files(disk.path()).len(), 2, "nothing else lies there");
    for info in found {
        assert_eq!(info.len, 3 << 20, "{} is whole", info.key);
    }
    store.delete(&name(0), None).await.unwrap();
    store.put(&name(2), suite::pattern(2, 3 << 20)).await.unwrap();
    assert!(store.get(&name(2), None, None).await.unwrap() == suite::pattern(2, 3 << 20));
}

#[tokio::test]
async fn a_read_only_disk_can_be_read_and_says_why_not_written() {
    if !testbed::enabled() {
        return;
    }
    let disk = SmallDisk::mount(8 << 20);
    let store = LocalStore::open(disk.path(), true).unwrap();
    store.put(&name(1), suite::pattern(1, 1000)).await.unwrap();
    disk.make_read_only();
    let error = store.put(&name(2), suite::pattern(2, 1000)).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    let error = LocalStore::open(disk.path(), true).unwrap_err().to_string();
    assert!(error.contains("read-only"), "{error}");
    let store = LocalStore::open(disk.path(), false).unwrap();
    assert!(store.get(&name(1), None, None).await.unwrap() == suite::pattern(1, 1000));
}
