//! The lease, what it is for, and buckets that lock by default.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use lifeboat_model::retention::LockMode;
use lifeboat_repo::{Error, lease::Purpose, progress::Silent, repository::InstanceRepo};
use lifeboat_store::{
    Store as _,
    fault::{FaultStore, Operation},
    vault::VaultStore,
};

use crate::world::*;

async fn claim(repo: &InstanceRepo, purpose: Purpose) -> lifeboat_repo::Result<lifeboat_repo::lease::Claim> {
    repo.claim(purpose, "lifeboat test", Timestamp::UNIX_EPOCH, Arc::new(Silent)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_waits_for_the_turn_of_a_prune_and_says_so() {
    let world = Arc::new(World::new());
    let prune = claim(&world.repo().await, Purpose::Prune).await.unwrap();
    let waiting = world.clone();
    let backup = tokio::spawn(async move { waiting.backup(&files(2)).await });
    for _ in 0..400 {
        if world.tally.noted("a prune is at it") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(world.tally.noted("a prune is at it"), "{:?}", world.tally.notes());
    assert!(!backup.is_finished());
    prune.recheck().await.unwrap_or_else(|error| assert!(matches!(error, Error::LeaseLost { .. }), "{error}"));
    prune.release().await.unwrap();
    let point = backup.await.unwrap().unwrap();
    world.assert_locked(&point).await;
}

#[tokio::test(start_paused = true)]
async fn who_meets_whom() {
    let world = World::new();
    let repo = world.repo().await;
    let began = tokio::time::Instant::now();
    let prune = claim(&repo, Purpose::Prune).await.unwrap();
    let error = claim(&repo, Purpose::Prune).await.unwrap_err();
    assert!(error.to_string().contains("a prune of clinic is running"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "a prune waits for nobody");
    let error = claim(&repo, Purpose::Copy).await.unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    assert!(began.elapsed() >= Duration::from_secs(120), "a copy waits for the turn of a prune");
    prune.release().await.unwrap();

    let copy = claim(&repo, Purpose::Copy).await.unwrap();
    let error = claim(&repo, Purpose::Prune).await.unwrap_err();
    assert!(error.to_string().contains("a copy of clinic is running"), "{error}");
    let began = tokio::time::Instant::now();
    claim(&repo, Purpose::Backup).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(10));
    copy.release().await.unwrap();
    assert_eq!(world.stored(&format!("{ROOT}lease/")).await, []);
}

/// A vault that locks everything for a year unless told otherwise, and whose clock runs like the test's.
fn by_default() -> VaultStore {
    let began = tokio::time::Instant::now();
    let clock = move || Timestamp::from_second(1_795_000_000).unwrap() + began.elapsed();
    VaultStore::new(Arc::new(clock)).with_default_retention(LockMode::Compliance, Duration::from_secs(365 * 86_400))
}

#[tokio::test(start_paused = true)]
async fn a_default_retention_does_not_wedge_the_lease() {
    let vault = by_default();
    let world = World::on(vault.clone(), World::new().clock);
    let repo = world.repo().await;
    for _ in 0..3 {
        let began = tokio::time::Instant::now();
        let held = claim(&repo, Purpose::Backup).await.unwrap();
        for key in world.stored(&format!("{ROOT}lease/")).await {
            let (until, mode) = world.locked_until(&key, None).await.unwrap();
            let left = until.duration_since(vault.clock().await.unwrap());
            assert!(left.as_secs() <= 10 && mode == LockMode::Governance, "{key}: {left:?}, {mode}");
        }
        held.recheck().await.unwrap();
        held.release().await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(30));
        assert_eq!(world.stored(&format!("{ROOT}lease/")).await, [], "removed when its lock had passed");
    }
    // Renewals remove what they renew.
    let held = claim(&repo, Purpose::Backup).await.unwrap();
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(world.stored(&format!("{ROOT}lease/")).await.len(), 1);
    held.recheck().await.unwrap();
    held.release().await.unwrap();
    assert_eq!(world.stored(&format!("{ROOT}lease/")).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_removed_by_version_and_leave_no_markers() {
    let world = World::new();
    world.backup(&files(1)).await.unwrap();
    world.backup(&files(1)).await.unwrap();
    assert_eq!(world.stored(&format!("{ROOT}lease/")).await, []);
    assert_eq!(world.vault.snapshot().markers, 0, "a delete that names no version leaves one");
    // What somebody lays over a lease is not what is given back.
    let held = claim(&world.repo().await, Purpose::Backup).await.unwrap();
    let lease = world.stored(&format!("{ROOT}lease/")).await.remove(0);
    let ours = world.vault.versions_of(&lease).remove(0).info.version;
    world.vault.thief().overwrite(&lease, "{}".into());
    held.release().await.unwrap();
    assert!(world.vault.versions_of(&lease).iter().all(|version| version.info.version != ours));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_claims_to_live_for_ever_does_not() {
    let world = World::new();
    let held = claim(&world.repo().await, Purpose::Backup).await.unwrap();
    let lease = world.stored(&format!("{ROOT}lease/")).await.remove(0);
    let bytes = world.vault.get(&lease, None, None).await.unwrap();
    held.release().await.unwrap();
    let mut body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    body["session"] = "00".repeat(16).into();
    body["boot"] = "elsewhere".into();
    body["ttl_ms"] = u64::MAX.into();
    let forged = key(&format!("{ROOT}lease/0000000000000000-{}-00000000", "00".repeat(16)));
    world.vault.thief().overwrite(&forged, serde_json::to_vec(&body).unwrap().into());
    assert!(matches!(world.backup(&files(1)).await, Err(Error::Busy { .. })));
    world.clock.advance(700);
    world.backup(&files(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_locks_by_default_takes_one_backup_after_the_other() {
    let world = World::on(by_default(), World::new().clock);
    for round in 1..=2 {
        let point = world.backup(&files(round)).await.unwrap();
        world.assert_locked(&point).await;
        assert_eq!(world.restore(&point).await, files(round));
        assert_eq!(world.stored(&format!("{ROOT}lease/")).await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_dead_leases_cost_a_claim_little() {
    let world = World::new();
    world.backup(&files(1)).await.unwrap();
    let lock = |until| lifeboat_store::Retention { mode: LockMode::Governance, until };
    for n in 0..300_u64 {
        let dead = key(&format!("{ROOT}lease/{n:016x}-{}-00000000", "ab".repeat(16)));
        let until = world.clock.now() + Duration::from_secs(86_400);
        world.vault.put_locked(&dead, "{}".into(), Some(lock(until))).await.unwrap();
    }
    world.clock.advance(601);
    let faults = FaultStore::new(Arc::new(world.vault.clone()));
    let repo = world.repository(Arc::new(faults.clone())).await.instance(&tenant(), &"clinic".parse().unwrap());
    let held = claim(&repo, Purpose::Backup).await.unwrap();
    held.recheck().await.unwrap();
    held.release().await.unwrap();
    assert_eq!(faults.count(Operation::Get, "/lease/"), 0, "their age alone tells that they are dead");
    let deletes = faults.count(Operation::Delete, "/lease/");
    assert!(deletes <= 20, "{deletes}: the rest is left to prune");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_lapsed_once_stays_lost() {
    let world = World::new();
    let held = claim(&world.repo().await, Purpose::Backup).await.unwrap();
    held.recheck().await.unwrap();
    world.clock.advance(119);
    held.recheck().await.unwrap();
    // The machine slept: its own clock says nothing of it, and renewals succeed again.
    world.clock.advance(121);
    for _ in 0..3 {
        let error = held.recheck().await.unwrap_err();
        assert!(matches!(error, Error::LeaseLost { .. }), "{error}");
    }
    held.release().await.unwrap();
    claim(&world.repo().await, Purpose::Backup).await.unwrap().recheck().await.unwrap();
}
