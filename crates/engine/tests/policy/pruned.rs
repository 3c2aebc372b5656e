//! Prune by policy, and the scrub that remembers how far it came.

use std::sync::Arc;

use lifeboat_engine::{prune, scrub};
use lifeboat_evidence::{Act, Predicate, verify};
use lifeboat_repo::progress::Silent;
use tokio_util::sync::CancellationToken;

use crate::world::{KEEP, LOCK, World};

#[tokio::test]
async fn points_go_when_nothing_keeps_and_nothing_locks_them() {
    let world = World::in_bucket(&format!("{LOCK}{KEEP}")).await;
    let vault = world.vault.clone().unwrap();
    for _ in 0..6 {
        world.backup().await;
        world.clock.advance(6);
    }
    // Half of the points are the first of no day; their locks end four days after they were made.
    let before = vault.snapshot();
    let planned = world.prune(true).await;
    assert_eq!(vault.snapshot(), before, "a dry run changes nothing");
    assert!(planned.evidence.is_none() && planned.report.removed == 0);
    world.clock.advance(24 * 5);
    let planned = world.prune(true).await;
    assert!(planned.report.removed > 0 && planned.report.freed_bytes > 0, "{:?}", planned.report);
    let done = world.prune(false).await;
    assert_eq!((done.report.removed, done.report.freed_bytes), (planned.report.removed, planned.report.freed_bytes));
    assert_eq!(done.report.points_removed.len(), 3, "{:?}", done.report.points_removed);
    let envelope = world.context.repository.store().get(&done.evidence.unwrap(), None, None).await.unwrap();
    let said = verify(&envelope, &world.context.config.keys.trusted_keys).unwrap();
    let Predicate::Act(act) = said.statement.predicate else { panic!("not an act") };
    let Act::Prune(said) = act.act else { panic!("not a prune") };
    assert_eq!((said.removed, said.freed_bytes), (done.report.removed, done.report.freed_bytes));
    let again = world.prune(false).await;
    assert_eq!(again.report.removed, 0, "twice changes nothing");
    // What is left restores: all that it names is there.
    for (point, why) in world.kept().await {
        for object in &point.header.objects {
            assert!(!vault.versions_of(&object.key).is_empty(), "{} of {why}", object.key);
        }
    }
}

#[tokio::test]
async fn without_retention_nothing_is_ever_removed() {
    let world = World::in_bucket(LOCK).await;
    world.backup().await;
    world.clock.advance(24 * 1000);
    world.backup().await;
    let before = world.vault.as_ref().unwrap().snapshot();
    let request = prune::Request::default();
    let pruned = prune::run(&world.context, &world.name, request, &mut |_| {}, Arc::new(Silent)).await.unwrap();
    assert!(pruned.is_none());
    assert_eq!(world.vault.as_ref().unwrap().snapshot().keys, before.keys);
}

#[tokio::test]
async fn the_projection_counts_what_is_new() {
    let world = World::in_bucket(&format!("{LOCK}{KEEP}")).await;
    for _ in 0..10 {
        world.backup().await;
        world.clock.advance(24);
    }
    let projection = world.prune(true).await.projection;
    assert_eq!((projection.seen_days, projection.seen_points), (10, 10));
    let (mut new, mut before) = (0, std::collections::HashSet::new());
    for (point, _) in world.kept().await {
        let objects = point.header.objects.iter();
        new += objects.filter(|object| before.insert(object.key.clone())).map(|object| object.len).sum::<u64>();
    }
    // Some points are not kept any more, and had bytes of their own.
    assert!(projection.monthly_bytes >= new * 3 && projection.monthly_bytes < new * 6, "{new}: {projection:?}");
    assert!(projection.kept_bytes > 0);
}

#[tokio::test]
async fn a_scrub_goes_on_where_it_was_even_on_a_new_host() {
    let world = World::in_bucket(LOCK).await;
    world.backup().await;
    let share = "10%/day".parse().unwrap();
    let run = || scrub::run(&world.context, &world.name, &share, Arc::new(Silent), CancellationToken::new());
    let mut read = 0;
    for _ in 0..10 {
        read += run().await.unwrap().report.objects;
        assert_eq!(run().await.unwrap().report.due, 0, "not twice on one day");
        world.clock.advance(24);
    }
    let point = world.lifetime().await.points.len() as u64;
    assert!(read > point + 3, "within ten days everything was read: {read}");
    let with_memory = run().await.unwrap().report;
    world.clock.advance(24);
    world.forget();
    let without = run().await.unwrap().report;
    assert!(without.due < read, "one day's part, not everything again: {without:?}, {with_memory:?}");
}
