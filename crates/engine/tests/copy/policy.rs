use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use jiff::SignedDuration;
use lifeboat_engine::{
    context::{Context, Initiator},
    copy::{self, Copied, Wanted},
    lifetime::Lifetime,
    prune,
};
use lifeboat_evidence::{Act, Predicate, verify};
use lifeboat_model::{
    check::Outcome,
    config::{CopyConfig, CopyLock},
    id::PointId,
    retention::LockMode,
    signature::SigningKey,
};
use lifeboat_repo::{progress::Silent, repository::Repository, trust::Revocation};
use lifeboat_store::{Key, Store as _, vault::VaultStore};
use tokio_util::sync::CancellationToken;

use crate::world::*;

/// A primary in a bucket, and another bucket for the copy.
struct Pair {
    world: World,
    vault: VaultStore,
    to: Context,
}

impl Pair {
    async fn new(sections: &str, lock: Option<CopyLock>) -> Pair {
        let mut world = World::in_bucket(sections).await;
        let config = &mut world.context.config;
        config.copies.push(CopyConfig { name: "offsite".into(), repository: config.repository.clone(), lock });
        let vault = VaultStore::new(world.clock.ahead(SignedDuration::ZERO));
        let replica = Repository::init_replica(Arc::new(vault.clone()), &world.context.repository).await.unwrap();
        let (config, clock) = (world.context.config.at("offsite").unwrap(), world.context.clock.clone());
        let initiator = Initiator { who: "test@here".into(), command: "test".into() };
        let to = Context::new(config, "0".repeat(64), replica, clock, initiator);
        Pair { world, vault, to }
    }

    async fn copy(&self, wanted: Wanted) -> Copied {
        let cancel = CancellationToken::new();
        let copied = copy::run(&self.world.context, &self.to, "clinic", wanted, Arc::new(Silent), &cancel).await;
        let copied = copied.unwrap();
        assert_eq!(copied.remarks, [""; 0]);
        copied
    }

    /// One a day.
    async fn backups(&self, days: usize) {
        for _ in 0..days {
            self.world.backup().await;
            self.world.clock.advance(24);
        }
    }

    async fn there(&self) -> BTreeSet<PointId> {
        self.to.instance_repo(&self.world.name).list_points().await.unwrap().iter().map(|point| point.id).collect()
    }

    async fn prune_copy(&self) -> u64 {
        let request = prune::Request::default();
        let pruned = prune::run(&self.to, &self.world.name, request, &mut |_| {}, Arc::new(Silent)).await.unwrap();
        pruned.unwrap().report.removed
    }
}

#[tokio::test]
async fn what_was_pruned_from_a_copy_is_not_sent_again() {
    let pair = Pair::new(&format!("{LOCK}{KEEP}"), None).await;
    pair.backups(3).await;
    assert_eq!(pair.copy(Wanted::All).await.report.copied.len(), 3);
    pair.backups(12).await;
    let kept: BTreeSet<PointId> = pair.world.kept().await.iter().map(|(point, _)| point.header.point).collect();
    let all = pair.world.repo().list_points().await.unwrap().len();
    assert!(kept.len() < all, "{} of {all}", kept.len());
    let report = pair.copy(Wanted::All).await.report;
    assert_eq!(report.left as usize, all - kept.len());
    assert!(pair.prune_copy().await > 0);
    assert_eq!(pair.there().await, kept, "policy holds in the copy as at the primary");
    // The primary was not pruned: it still has what the copy has removed.
    let again = pair.copy(Wanted::All).await.report;
    assert_eq!((again.objects, again.copied.len()), (0, 0));
    assert_eq!(pair.there().await, kept);
}

#[tokio::test]
async fn every_object_is_locked_until_the_end_that_policy_gives() {
    let modes = [(None, LockMode::Compliance), (Some(CopyLock::Mode(LockMode::Governance)), LockMode::Governance)];
    for (lock, mode) in modes {
        let pair = Pair::new(&format!("{LOCK}{KEEP}"), lock).await;
        pair.backups(4).await;
        pair.copy(Wanted::All).await;
        pair.backups(3).await;
        let (decided, copied) = (pair.world.lifetime().await, pair.copy(Wanted::All).await);
        for point in &copied.report.copied {
            let end = decided.of(&point.id).unwrap().end;
            assert!(point.locked_until.is_some_and(|until| until >= end), "{point:?}, {end}: locked from the start");
        }
        assert_eq!(copied.report.copied.len(), 3);
        let lifetime = Lifetime::look(&pair.to, &pair.world.name).await.unwrap();
        assert_eq!(lifetime.points.len(), 7);
        let (repo, trusted) = (pair.to.instance_repo(&pair.world.name), &pair.to.config.keys.trusted_keys);
        for (reference, decision) in lifetime.points.iter().zip(&lifetime.decisions) {
            let point = repo.read_point(reference, trusted).await.unwrap();
            for key in point.header.objects.iter().map(|object| &object.key).chain([&reference.key]) {
                let retention = repo.store().lock_state(key, None).await.unwrap().retention.unwrap();
                assert_eq!(retention.mode, mode, "{key}");
                assert!(retention.until >= decision.demanded, "{key}: {} < {}", retention.until, decision.demanded);
            }
        }
    }
}

#[tokio::test]
async fn a_copy_can_be_without_locks() {
    let pair = Pair::new(LOCK, Some(CopyLock::None)).await;
    pair.backups(2).await;
    assert_eq!(pair.copy(Wanted::All).await.report.copied.len(), 2);
    assert_eq!(pair.vault.snapshot().locked, 0);
    assert!(pair.world.vault.as_ref().unwrap().snapshot().locked > 0);
}

#[tokio::test]
async fn evidence_goes_along_unless_nobody_believes_it() {
    let pair = Pair::new(&format!("{LOCK}{KEEP}"), None).await;
    let first = pair.world.backup().await;
    pair.world.keep(&pair.world.drill(&first, |_| {}), &own_key()).await;
    pair.world.clock.advance(1); // statements are named by the second
    let forged = pair.world.drill(&first, |_| {});
    pair.world.keep(&forged, &SigningKey::from_seed(&[6; 32])).await;
    let copied = pair.copy(Wanted::All).await;
    let refused: Vec<String> = copied.evidence.refused.iter().map(|(key, _)| key.to_string()).collect();
    assert_eq!((copied.evidence.copied, refused), (1, vec![forged.storage_key().unwrap().to_string()]));
    assert!(!copied.is_complete());
    let lifetime = Lifetime::look(&pair.to, &pair.world.name).await.unwrap();
    assert!(lifetime.facts[0].passed.is_some(), "the copy knows of the drill");

    // What was done is told in both, in the same words.
    let key = copied.statement.unwrap();
    let mut told: Vec<Bytes> = Vec::new();
    for context in [&pair.world.context, &pair.to] {
        let listed = context.repository.list_evidence(&context.config.tenant, "").await.unwrap();
        let found = listed.iter().find(|found| found.key == key).unwrap();
        told.push(context.repository.get_evidence(found).await.unwrap());
    }
    assert_eq!(told[0], told[1]);
    let verified = verify(&told[0], &pair.to.config.keys.trusted_keys).unwrap();
    assert_eq!(verified.contradictions, [""; 0]);
    let Predicate::Act(act) = verified.statement.predicate else { panic!("{told:?}") };
    let Act::Copy(done) = act.act else { panic!("{told:?}") };
    assert_eq!((done.from.as_str(), done.to.as_str(), done.points), ("main", "offsite", 1));
    assert_eq!(done.newest.unwrap().id, first.header.point);
    assert_eq!((act.outcome, done.refused.len()), (Outcome::Failed, 1));
    assert_eq!(pair.copy(Wanted::All).await.report.objects, 0);
}

#[tokio::test]
async fn the_lag_is_what_the_copy_lacks() {
    let pair = Pair::new("", None).await;
    let lag = async || copy::lag(&pair.world.context, &pair.to, &pair.world.name).await.unwrap();
    assert_eq!(lag().await, copy::Lag::default());
    pair.backups(2).await;
    let before = lag().await;
    assert_eq!((before.missing, before.copy, before.behind()), (2, None, None));
    let copied = pair.copy(Wanted::Latest).await;
    assert_eq!((copied.report.copied.len(), copied.report.left), (1, 1));
    assert_eq!(copied.lag.behind().map(|behind| behind.as_secs()), Some(0));
    let since = pair.world.clock.now();
    let newest = pair.world.backup().await;
    let behind = lag().await;
    assert_eq!((behind.missing, behind.primary.unwrap().id), (1, newest.header.point));
    assert_eq!(behind.behind().map(|behind| behind.as_secs()), Some(24 * 3600));
    let copied = pair.copy(Wanted::Since(since)).await;
    assert_eq!((copied.report.copied.len(), copied.lag.missing), (1, 0));
    assert_eq!(pair.copy(Wanted::All).await.report.copied.len(), 1, "the one that nobody wanted so far");
}

#[tokio::test]
async fn evidence_of_a_revoked_key_stays_behind_and_planted_evidence_is_named() {
    let mut pair = Pair::new(&format!("{LOCK}{KEEP}"), None).await;
    let thief = SigningKey::from_seed(&[6; 32]);
    let first = pair.world.backup().await;
    for context in [&mut pair.world.context, &mut pair.to] {
        context.config.keys.trusted_keys.push(thief.public());
    }
    let before = pair.world.drill(&first, |_| {});
    pair.world.keep(&before, &thief).await;
    let at = pair.world.clock.now();
    pair.world.context.revocations.push(Revocation { key: thief.public(), at });
    pair.world.clock.advance(1);
    let after = pair.world.drill(&first, |_| {});
    pair.world.keep(&after, &thief).await;
    pair.world.clock.advance(1);
    let displaced = pair.world.drill(&first, |_| {});
    pair.world.keep(&displaced, &own_key()).await;
    let key = Key::new(displaced.storage_key().unwrap().to_string()).unwrap();
    let len = pair.world.context.repository.store().head(&key, None).await.unwrap().len;
    pair.vault.put(&key, vec![b'x'; len as usize].into()).await.unwrap();
    for run in 0..2 {
        let copied = pair.copy(Wanted::All).await.evidence;
        let name = |statement: &lifeboat_evidence::Statement| statement.storage_key().unwrap().to_string();
        let why = |statement| {
            let found = copied.refused.iter().find(|(key, _)| key.as_str() == name(statement));
            found.map(|(_, why)| why.as_str()).unwrap_or_default()
        };
        assert!(why(&after).contains("revoked"), "run {run}: {:?}", copied.refused);
        assert!(why(&displaced).contains("another under this name"), "run {run}: {:?}", copied.refused);
        assert_eq!(copied.refused.len(), 2, "run {run}: what the key signed before it was revoked goes along");
    }
}
