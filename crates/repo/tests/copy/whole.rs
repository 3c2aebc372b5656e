//! All of an instance goes into the copy, comes back from it alone, and is not sent twice.

use std::{collections::BTreeSet, sync::Arc};

use lifeboat_repo::{
    copy::{self, CopyOptions, WalFrom, WalReached},
    document::DocumentKind,
    progress::Silent,
    repository::Repository,
};
use lifeboat_store::local::LocalStore;

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_with_the_primary_gone() {
    let world = World::new();
    let (older, newer) = world.fill().await;
    let report = world.copy().await.unwrap();
    assert_eq!(report.problems, []);
    let copied: Vec<_> = report.copied.iter().map(|point| (point.id, point.sha256)).collect();
    assert_eq!(copied, [(newer.header.point, newer.sha256), (older.header.point, older.sha256)], "newest first");
    let end = lifeboat_model::lsn::Lsn(SEGMENT + 700);
    assert_eq!(report.wal, [WalReached { system_id: SYSTEM, timeline: 1, source: end, copy: end }]);
    assert_eq!((report.wal_objects, report.documents), (2, 2), "a segment and the slice that it does not cover");

    // Nothing of the primary is asked from here on: the copy has a store of its own.
    let replica = world.replica().await;
    assert_eq!(world.assert_restores(&replica).await, 2);
    assert!(world.stream(&replica).await == wal(0, SEGMENT + 700));
    for (kind, text) in
        [(DocumentKind::Timeline, "a stream begins"), (DocumentKind::RestorePoint, "before the upgrade")]
    {
        let found = replica.list_documents(kind).await.unwrap();
        let read = replica
            .read_document::<String>(&found[0], &[world.signing.public()], std::slice::from_ref(&world.host))
            .await;
        assert_eq!((found.len(), read.unwrap().details.as_str()), (1, text));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_sent_again() {
    let world = World::new();
    world.fill().await;
    world.copy().await.unwrap();
    let before = (versions(&world.offsite), world.from.count(lifeboat_store::fault::Operation::Get, "packs/"));
    let again = world.copy().await.unwrap();
    assert_eq!((again.objects, again.there, again.copied.len()), (0, 2, 0));
    assert_eq!((versions(&world.offsite), world.from.count(lifeboat_store::fault::Operation::Get, "packs/")), before);
    // A new point sends what is new in it.
    world.backup(&[first(), vec![("d", noise(9, 10_000))]].concat()).await;
    let more = world.copy().await.unwrap();
    assert_eq!((more.copied.len(), more.there), (1, 2));
    assert!(more.bytes < 1 << 20, "{} bytes for 10 kB", more.bytes);
    assert!(versions(&world.offsite).values().all(|versions| *versions == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_points_and_the_wal_that_are_wanted() {
    let world = World::new();
    let (older, newer) = world.fill().await;
    let from = world.source().await;
    let primary = Repository::open(Arc::new(world.primary.clone())).await.unwrap();
    let replica = Repository::init_replica(Arc::new(world.offsite.clone()), &primary).await.unwrap();
    let to = replica.instance(&tenant(), &instance());
    let wanted = newer.header.point;
    let mut options = CopyOptions::everything("lifeboat test", world.now());
    options.points = Arc::new(move |point| point.id == wanted);
    options.wal = WalFrom::Nothing;
    let trusted = [world.signing.public()];
    let report = copy::run(&from, &to, &options, &trusted, Arc::new(Silent)).await.unwrap();
    assert_eq!((report.copied.len(), report.left, report.wal_objects), (1, 1, 0));
    let keys = versions(&world.offsite);
    let named: BTreeSet<String> = newer.header.objects.iter().map(|object| object.key.to_string()).collect();
    assert!(named.iter().all(|key| keys.contains_key(key)));
    assert!(!keys.contains_key(older.key.as_str()));
    options.wal = WalFrom::Point(wanted);
    let report = copy::run(&from, &to, &options, &trusted, Arc::new(Silent)).await.unwrap();
    assert_eq!((report.there, report.wal_objects), (1, 2));
    assert_eq!(world.assert_restores(&world.replica().await).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_folder_to_folder_and_the_first_one_is_removed() {
    let world = World::new();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = |folder: &tempfile::TempDir| Arc::new(LocalStore::open(folder.path(), true).unwrap());
    let primary = world.repository(store(&one)).await;
    let from = primary.instance(&tenant(), &instance());
    world.backup_to(from.clone(), &first()).await;
    world.backup_to(from.clone(), &second()).await;
    let replica = Repository::init_replica(store(&two), &primary).await.unwrap();
    let to = replica.instance(&tenant(), &instance());
    let mut options = CopyOptions::everything("lifeboat test", jiff::Timestamp::now());
    options.memory = 1 << 20; // less than a pack: each goes alone
    let report = copy::run(&from, &to, &options, &[world.signing.public()], Arc::new(Silent)).await.unwrap();
    assert_eq!((report.copied.len(), report.problems.len()), (2, 0));
    drop(one);
    let replica = Repository::open(store(&two)).await.unwrap();
    assert_eq!(world.assert_restores(&replica.instance(&tenant(), &instance())).await, 2);
}
