//! Writing under a tier's lock, and the renewal of locks.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::{Error, retain};
use lifeboat_evidence::{
    Act,
    act::{Property, RepositoryCheck, Retain},
};
use lifeboat_model::{
    check::{Outcome, Verdict},
    retention::LockMode,
};
use lifeboat_repo::{check, progress::Silent};

use crate::world::{KEEP, LOCK, World};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn renew(world: &World) -> Option<u64> {
    let report = retain::renew(&world.context, &world.name, Arc::new(Silent)).await.unwrap();
    report.map(|report| report.extended)
}

async fn proven(world: &World) -> u64 {
    let needs = world.lifetime().await.demands();
    let trusted = &world.context.config.keys.trusted_keys;
    let report = check::locks(&world.repo(), &needs, LockMode::Compliance, trusted, Arc::new(Silent)).await.unwrap();
    assert_eq!(report.problems, vec![]);
    report.objects
}

#[tokio::test]
async fn everything_of_a_point_is_locked_until_its_end() {
    let world = World::in_bucket(&format!("{LOCK}{KEEP}")).await;
    world.clock.advance(12);
    let point = world.backup().await;
    // The first of its month: until the month after the next begins.
    assert_eq!(point.header.retain_until, Some(at("2026-08-01T00:00:00Z")));
    let store = world.context.repository.store();
    for object in &point.header.objects {
        let lock = store.lock_state(&object.key, object.version.as_ref()).await.unwrap().retention.unwrap();
        assert_eq!((lock.mode, lock.until), (LockMode::Compliance, at("2026-08-01T00:00:00Z")), "{}", object.key);
    }
    // The next one of the day is the first of nothing: the lock's minimum of four days is what it gets.
    world.clock.advance(1);
    let second = world.backup().await;
    assert_eq!(second.header.retain_until, Some(at("2026-06-05T13:00:00Z")));
    assert!(proven(&world).await > 5);
    let evidence = world.context.repository.list_evidence(&world.context.config.tenant, "").await.unwrap();
    assert_eq!(evidence.len(), 0, "this world keeps none of backups");
}

#[tokio::test]
async fn evidence_is_locked_for_years_where_a_tier_has_a_lock() {
    for (sections, expected) in [(LOCK, Some(at("2032-06-01T00:00:00Z"))), (KEEP, None)] {
        let world = World::in_bucket(sections).await;
        let act = Act::Retain(Retain::default());
        let outcome = Outcome::Passed;
        let now = world.clock.now();
        let kept = lifeboat_engine::record::keep_act(&world.context, Some(&world.name), now, outcome, act).await;
        let lock = world.context.repository.store().lock_state(&kept.unwrap().0, None).await.unwrap();
        assert_eq!(lock.retention.map(|retention| retention.until), expected, "2192 days");
    }
}

#[tokio::test]
async fn a_store_without_locks_is_refused_before_anything_is_written() {
    let world = World::in_directory(LOCK).await;
    let refused = world.writer().await.err().unwrap();
    assert!(
        matches!(&refused, Error::NotLockable { .. }) && refused.to_string().contains("tiers.gold.lock"),
        "{refused}"
    );
    let root = world.folder.path().join("repository");
    let left: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lifeboat.json"]);
    World::in_directory("").await.backup().await;
}

/// Of a check of the endpoint, in which one property came out like this.
fn checked(id: &str, verdict: Verdict) -> Act {
    let (expected, observed) = (String::new(), String::new());
    let property = Property { id: id.into(), expected, observed, verdict, duration_ms: 1 };
    Act::RepositoryCheck(RepositoryCheck { name: "main".into(), findings: vec![property], skew_seconds: None })
}

#[tokio::test]
async fn an_endpoint_that_failed_its_check_is_not_written_to() {
    let failed = || Verdict::Failed("it deleted".into());
    let cases = [
        ("lock.delete", failed(), true),
        ("clock.skew", failed(), true),
        ("put.conditional", failed(), false),
        ("lock.delete", Verdict::Passed, false),
    ];
    let world = World::in_bucket(LOCK).await;
    let unlocked = World::in_bucket(KEEP).await;
    for (id, verdict, refused) in cases {
        let outcome = if verdict == Verdict::Passed { Outcome::Passed } else { Outcome::Failed };
        for world in [&world, &unlocked] {
            let now = world.clock.now();
            let act = checked(id, verdict.clone());
            lifeboat_engine::record::keep_act(&world.context, None, now, outcome, act).await.unwrap();
            world.clock.advance(1);
        }
        let answer = world.context.writing_repo(&world.name).await;
        assert_eq!(matches!(answer, Err(Error::EndpointFailed { .. })), refused, "{id}: the newest check counts");
        unlocked.context.writing_repo(&unlocked.name).await.expect("nothing is locked, so nothing is promised");
    }
}

#[tokio::test]
async fn locks_follow_the_stores_clock() {
    let ahead = SignedDuration::from_mins(10);
    let world = World::with_skew(LOCK, ahead).await;
    let point = world.backup().await;
    // Ten past midnight there, four days on, the whole hour: the host's own clock would have said eleven in the evening.
    let store = world.context.repository.store();
    let lock = store.lock_state(&point.key, point.version.as_ref()).await.unwrap().retention.unwrap();
    assert!(lock.until >= world.clock.now() + SignedDuration::from_hours(96), "{}", lock.until);
    for wrong in [SignedDuration::from_mins(16), SignedDuration::from_mins(-16)] {
        let world = World::with_skew(LOCK, wrong).await;
        let refused = world.writer().await.err().unwrap();
        assert!(matches!(refused, Error::ClockSkew { .. }), "{refused}");
        assert_eq!(world.vault.as_ref().unwrap().snapshot().keys, 1, "the marker alone");
    }
}

#[tokio::test]
async fn open_ends_are_renewed_when_they_are_due_and_not_before() {
    let mut world = World::in_bucket(&format!("{LOCK}{KEEP}")).await;
    world.backup().await;
    assert_eq!(renew(&world).await, Some(0), "the first time nothing is known: asked, and nothing is due");
    assert_eq!(renew(&world).await, None, "known now");
    world.clock.advance(12);
    world.backup().await; // its own commit promised enough
    assert_eq!(renew(&world).await, None);
    // The newest is kept by nothing that ends: as its lock runs down, it is renewed, once for each half of the minimum.
    let mut extended = 0;
    for _ in 0..24 * 30 {
        world.clock.advance(1);
        world.restart();
        extended += u64::from(renew(&world).await.is_some_and(|objects| objects > 0));
        assert!(proven(&world).await > 0);
    }
    assert!((9..=16).contains(&extended), "30 days have 15 halves of four days: {extended}");
    world.forget();
    assert_eq!(renew(&world).await, Some(0), "what was forgotten is asked for again, and nothing changes");
}

#[tokio::test]
async fn a_refused_renewal_is_told_and_tried_again() {
    let world = World::in_bucket(&format!("{LOCK}{KEEP}")).await;
    let point = world.backup().await;
    renew(&world).await;
    world.clock.advance(24 * 90);
    // All locks have ended, and somebody deletes a pack: it cannot be locked any more.
    let vault = world.vault.as_ref().unwrap();
    let gone = point.header.objects.iter().find(|object| object.key.as_str().contains("/packs/")).unwrap();
    vault.thief().delete_version(&gone.key, gone.version.as_ref().unwrap()).unwrap();
    for _ in 0..2 {
        let refused = retain::renew(&world.context, &world.name, Arc::new(Silent)).await.unwrap_err();
        assert!(refused.to_string().contains(gone.key.as_str()), "{refused}");
    }
}
