//! Who holds credentials of either store can add versions and markers, and changes nothing by it.

use bytes::Bytes;
use lifeboat_repo::{point::PointSelector, repository::Repository, trust::Revocation};
use lifeboat_store::{Key, vault::VaultStore};

use crate::world::*;

fn attack(vault: &VaultStore) {
    let thief = vault.thief();
    for name in versions(vault).keys().map(String::as_str).chain(["lifeboat.json"]) {
        let key = Key::new(name).unwrap();
        thief.overwrite(&key, Bytes::from_static(b"ransom"));
        thief.delete_marker(&key);
        for version in vault.versions_of(&key) {
            let _ = thief.delete_version(&key, &version.info.version.unwrap());
            thief.overwrite(&key, Bytes::from_static(b"ransom"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_versions_in_the_copy_do_no_harm() {
    let world = World::new();
    world.fill().await;
    let locked = world.copy_locked(Some(world.locks(3))).await.unwrap();
    assert_eq!(locked.copied.len(), 2);
    attack_locked(&world.offsite);
    let replica = world.replica().await;
    assert_eq!(world.assert_restores(&replica).await, 2);
    assert!(world.stream(&replica).await == wal(0, SEGMENT + 700));
    let again = world.copy().await.unwrap();
    assert_eq!((again.objects, again.there, again.problems.len()), (0, 2, 0));
}

/// The marker is not locked here; all else is.
fn attack_locked(vault: &VaultStore) {
    let marker = Key::new("lifeboat.json").unwrap();
    vault.thief().overwrite(&marker, Bytes::from_static(b"{}"));
    vault.thief().delete_marker(&marker);
    let thief = vault.thief();
    for name in versions(vault).keys() {
        let key = Key::new(name.as_str()).unwrap();
        let first = vault.versions_of(&key).pop().unwrap().info.version.unwrap();
        thief.overwrite(&key, Bytes::from_static(b"ransom"));
        thief.delete_marker(&key);
        assert!(thief.delete_version(&key, &first).is_err(), "{key} is not locked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_versions_at_the_primary_are_not_what_is_copied() {
    let world = World::new();
    world.fill().await;
    attack_locked(&world.primary);
    let report = world.copy().await.unwrap();
    assert_eq!((report.copied.len(), report.problems.len()), (2, 0));
    assert_eq!(world.assert_restores(&world.replica().await).await, 2);
    assert!(versions(&world.offsite).values().all(|versions| *versions == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_without_locks_still_falls_to_deletes() {
    // What the words "not locked" mean: without locks a thief removes the first version, and no digest brings it back.
    let world = World::new();
    world.fill().await;
    world.copy().await.unwrap();
    attack(&world.offsite);
    let opened = lifeboat_repo::repository::Repository::open(std::sync::Arc::new(world.offsite.clone())).await;
    assert!(opened.is_err(), "the marker itself is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn points_of_a_revoked_key_are_nobodys_newest_in_a_copy() {
    let world = World::new();
    let safe = world.backup(&first()).await;
    world.copy().await.unwrap();
    world.pass(1);
    let theft = world.now();
    world.pass(1);
    // Between theft and discovery: the thief's, and copied with all others.
    let forged = world.backup(&second()).await;
    world.copy().await.unwrap();
    let trusted = [world.signing.public()];
    let revoked = vec![Revocation { key: world.signing.public(), at: theft }];
    let opened = Repository::open(std::sync::Arc::new(world.offsite.clone())).await.unwrap();
    for repository in [opened.clone().with_doubts(revoked.clone()), opened.with_revocations(revoked)] {
        let replica = repository.instance(&tenant(), &instance());
        let latest = replica.find_point(&PointSelector::Latest, &trusted).await.unwrap();
        assert_eq!(latest.header.point, safe.header.point);
        assert!(latest.skipped[0].contains("only by its id"), "{:?}", latest.skipped);
        world.assert_restores_point(&replica, &latest, &first()).await;
        let by_id = PointSelector::Id(forged.header.point.to_string());
        assert_eq!(replica.find_point(&by_id, &trusted).await.unwrap().header.point, forged.header.point);
    }
}
