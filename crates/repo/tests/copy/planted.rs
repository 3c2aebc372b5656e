//! Who can put into the copy is there before us: what has the right name and length is not believed for it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use lifeboat_repo::{
    copy::{self, CopyOptions, CopyReport, Side},
    progress::{Counter, Progress, Silent},
    repository::Repository,
};
use lifeboat_store::{
    Key, Store as _,
    fault::{Fault, Operation, Rule},
    vault::VaultStore,
};

use crate::world::*;

/// Makes the copy, and puts garbage of the right length under each key of the primary that `which` names.
async fn plant(world: &World, which: &str) -> Vec<Key> {
    let primary = Repository::open(Arc::new(world.primary.clone())).await.unwrap();
    Repository::init_replica(Arc::new(world.offsite.clone()), &primary).await.unwrap();
    let mut planted = Vec::new();
    for name in versions(&world.primary).keys().filter(|name| name.contains(which)) {
        let key = Key::new(name.as_str()).unwrap();
        let len = world.primary.head(&key, None).await.unwrap().len as usize;
        world.offsite.put(&key, vec![7; len].into()).await.unwrap();
        planted.push(key);
    }
    assert!(!planted.is_empty(), "{which}");
    planted
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_of_the_right_length_is_named_each_time() {
    for which in ["/packs/", "/points/", "/segment/", "/timelines/", "/index/"] {
        let world = World::new();
        world.fill().await;
        let planted = plant(&world, which).await;
        for run in 0..2 {
            let report = world.copy().await.unwrap();
            let mut named: Vec<Key> = report.problems.iter().map(|problem| problem.key.clone()).collect();
            assert!(report.problems.iter().all(|problem| problem.side == Side::Copy), "{which}: {:?}", report.problems);
            named.retain(|key| planted.contains(key));
            let all = planted.iter().filter(|key| named.contains(key)).count();
            assert!(all > 0 && (which == "/packs/" || all == planted.len()), "{which}, run {run}: {named:?}");
            let points = world.replica().await.list_points().await.unwrap().len();
            let copied = report.copied.len() + report.there as usize;
            match which {
                "/packs/" => assert_eq!((copied, points), (0, 0)),
                "/points/" => assert_eq!((copied, points), (0, 2)),
                _ => assert_eq!((copied, points), (2, 2)),
            }
        }
    }
}

async fn copy_remembering(world: &World, seen: &Path) -> CopyReport {
    copying(world, Some(seen.to_owned()), Arc::new(Silent)).await
}

async fn copying(world: &World, seen: Option<PathBuf>, progress: Arc<dyn Progress>) -> CopyReport {
    let primary = Repository::open(Arc::new(world.from.clone())).await.unwrap();
    let replica = Repository::init_replica(Arc::new(world.to.clone()), &primary).await.unwrap();
    let (from, to) = (primary.instance(&tenant(), &instance()), replica.instance(&tenant(), &instance()));
    let mut options = CopyOptions::everything("lifeboat test", world.now());
    options.seen = seen;
    copy::run(&from, &to, &options, &[world.signing.public()], progress).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_is_not_read_again_and_what_came_since_is() {
    let world = World::new();
    world.fill().await;
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("copies").join("seen");
    assert_eq!(copy_remembering(&world, &seen).await.copied.len(), 2);
    // Whoever reads an object of the copy now finds an error. Its marker and its lease are no objects of a point.
    world.to.add(Rule::on(Operation::Get, Fault::Refuse).key("/packs/").and_ever_after());
    world.to.add(Rule::on(Operation::Get, Fault::Refuse).key("/points/").and_ever_after());
    world.to.add(Rule::on(Operation::Get, Fault::Refuse).key("/wal/").and_ever_after());
    let again = copy_remembering(&world, &seen).await;
    assert_eq!((again.there, again.objects, again.problems.len()), (2, 0, 0), "{:?}", again.problems);
    world.to.heal();
    // Somebody removes an object that is not locked and puts garbage in its place: another version.
    let point = &world.replica().await.list_points().await.unwrap()[1];
    let first = world.offsite.versions_of(&point.key).pop().unwrap().info.version.unwrap();
    world.offsite.delete(&point.key, Some(&first)).await.unwrap();
    world.offsite.put(&point.key, Bytes::from(vec![7; point.len as usize])).await.unwrap();
    let report = copy_remembering(&world, &seen).await;
    assert_eq!((report.there, report.problems.len()), (1, 1), "{:?}", report.problems);
    assert_eq!((&report.problems[0].key, report.problems[0].side), (&point.key, Side::Copy));
    // A damaged memory is none.
    std::fs::write(&seen, b"LBSEEN1\nrubbish").unwrap();
    assert_eq!(copy_remembering(&world, &seen).await.problems.len(), 1);
}

/// Removes objects of the copy once the copy has looked at it, as a prune does that held the lease just before.
#[derive(Debug)]
struct Prune {
    vault: VaultStore,
    keys: Mutex<Vec<Key>>,
}

impl Progress for Prune {
    fn add(&self, counter: Counter, _: u64) {
        if counter != Counter::FetchedBytes {
            return;
        }
        for key in self.keys.lock().unwrap().drain(..) {
            let first = self.vault.versions_of(&key).pop().unwrap().info.version.unwrap();
            futures::executor::block_on(self.vault.delete(&key, Some(&first))).unwrap();
        }
    }

    fn note(&self, _: &str) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_prune_removes_meanwhile_is_sent_again() {
    for remember in [true, false] {
        let world = World::new();
        let older = world.backup(&first()).await;
        let folder = tempfile::tempdir().unwrap();
        let seen = remember.then(|| folder.path().join("seen"));
        copying(&world, seen.clone(), Arc::new(Silent)).await;
        let newer = world.backup(&second()).await;
        let named = |key: &Key| newer.header.objects.iter().any(|object| object.key == *key);
        let shared: Vec<Key> =
            older.header.objects.iter().map(|object| object.key.clone()).filter(|key| named(key)).collect();
        assert!(!shared.is_empty());
        let prune = Arc::new(Prune { vault: world.offsite.clone(), keys: Mutex::new(shared) });
        let report = copying(&world, seen, prune.clone()).await;
        assert_eq!(*prune.keys.lock().unwrap(), [], "nothing was removed");
        assert_eq!((report.copied.len(), report.problems.len()), (1, 0), "{:?}", report.problems);
        let replica = world.replica().await;
        world.assert_restores_point(&replica, &newer, &second()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_would_fill_the_memory_is_not_read() {
    let world = World::new();
    let repository = world.repository(Arc::new(world.primary.clone())).await;
    let put = async |name: &str, len: usize| {
        repository.put_evidence(&tenant(), name, vec![b'x'; len].into()).await.unwrap();
        let listed = repository.list_evidence(&tenant(), name).await.unwrap();
        repository.get_evidence(&listed[0]).await
    };
    assert_eq!(put("longest", 16 << 20).await.unwrap().len(), 16 << 20);
    let refused = put("longer", (16 << 20) + 1).await.unwrap_err();
    assert!(refused.to_string().contains("no statement has so many"), "{refused}");
}
