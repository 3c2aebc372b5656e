//! Whom policy believes: drills and holds by trusted keys that were not revoked, in their own places.

use lifeboat_model::{check::Outcome, signature::SigningKey};
use lifeboat_repo::trust::Revocation;

use crate::world::{World, own_key};

/// Nothing but the newest, and what passed a drill.
const DRILLED: &str = "[tiers.gold.retention]\ndrilled = 1\n";

/// Which of these points are kept because of drills, by position.
async fn drilled(world: &World) -> Vec<usize> {
    let lifetime = world.lifetime().await;
    let passed = lifetime.facts.iter().enumerate().filter(|(_, fact)| fact.passed.is_some());
    passed.map(|(index, _)| index).collect()
}

#[tokio::test]
async fn a_drill_that_passed_keeps_its_point_and_no_other_statement_does() {
    let world = World::in_bucket(DRILLED).await;
    let mut points = Vec::new();
    for _ in 0..8 {
        points.push(world.backup().await);
        world.clock.advance(24);
    }
    let mut index = 0;
    let mut next = || {
        index += 1;
        &points[index - 1]
    };
    world.keep(&world.drill(next(), |_| {}), &own_key()).await;
    world.keep(&world.drill(next(), |drill| drill.outcome = Outcome::Failed), &own_key()).await;
    world.keep(&world.drill(next(), |drill| drill.sabotage = Some("a byte".into())), &own_key()).await;
    world.keep(&world.drill(next(), |drill| drill.teardown.complete = false), &own_key()).await;
    world.keep(&world.drill(next(), |_| {}), &SigningKey::from_seed(&[66; 32])).await;
    world.keep(&world.drill(next(), |drill| drill.instance = "other".parse().unwrap()), &own_key()).await;
    // A passed statement under the name of another run.
    let moved = world.drill(next(), |_| {});
    let place = world.drill(&points[0], |_| {}).storage_key().unwrap().to_string();
    let sealed = lifeboat_evidence::seal(&moved, &own_key()).into();
    let name = place.rsplit('/').next().unwrap();
    world.context.repository.put_evidence(&world.context.config.tenant, name, sealed).await.unwrap();
    for _ in 0..2 {
        assert_eq!(drilled(&world).await, [0], "also when it is remembered");
    }
    let kept: Vec<String> = world.kept().await.into_iter().map(|(_, why)| why).collect();
    assert_eq!(kept, ["drilled last-passed", "newest"]);
}

#[tokio::test]
async fn what_a_revoked_key_signed_later_counts_for_nothing() {
    let mut world = World::in_bucket(DRILLED).await;
    let first = world.backup().await;
    world.keep(&world.drill(&first, |_| {}), &own_key()).await;
    let stolen = world.clock.now();
    world.clock.advance(24);
    let second = world.backup().await;
    world.keep(&world.drill(&second, |_| {}), &own_key()).await;
    assert_eq!(drilled(&world).await, [0, 1]);
    world.context.revocations = vec![Revocation { key: own_key().public(), at: stolen }];
    let lifetime = world.lifetime().await;
    assert_eq!(lifetime.points.len(), 1, "the later point counts for nothing, although it was believed and remembered");
    assert_eq!(lifetime.strange.len(), 1);
    assert_eq!(drilled(&world).await, [0]);
    assert!(lifetime.needs().dropped.is_empty(), "what counts for nothing is not removed by policy");
}

/// Whoever may write can put anything beside evidence: it must neither be believed nor be in the way.
#[tokio::test]
async fn planted_evidence_is_not_in_the_way() {
    let world = World::in_bucket(DRILLED).await;
    let point = world.backup().await;
    world.keep(&world.drill(&point, |_| {}), &own_key()).await;
    let tenant = &world.context.config.tenant;
    for (size, content) in [(0, 0u8), (100, b'{'), (17 << 20, b' '), (257 << 20, 0)] {
        let place = world.drill(&point, |_| {}).storage_key().unwrap().to_string();
        let name = place.rsplit('/').next().unwrap();
        let planted = vec![content; size].into();
        world.context.repository.put_evidence(tenant, name, planted).await.unwrap();
    }
    assert_eq!(drilled(&world).await, [0]);
}

#[tokio::test]
async fn what_was_remembered_is_what_is_read() {
    let world = World::in_bucket(DRILLED).await;
    for _ in 0..3 {
        let point = world.backup().await;
        world.keep(&world.drill(&point, |_| {}), &own_key()).await;
        world.clock.advance(24);
    }
    let read = world.lifetime().await;
    let remembered = world.lifetime().await;
    assert_eq!(
        (&read.facts, &read.promised, &read.decisions),
        (&remembered.facts, &remembered.promised, &remembered.decisions)
    );
    // The memory is asked: it alone can tell of a drill whose statement cannot be read any more.
    let file = std::fs::read_dir(world.state().join("lifetime")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("Passed"), "{text}");
    std::fs::write(&file, text.replace("\"dump\":false", "\"dump\":true")).unwrap();
    assert!(world.lifetime().await.facts.iter().all(|fact| fact.dump), "believed without reading");
    std::fs::write(&file, "{").unwrap();
    assert_eq!(world.lifetime().await.facts, read.facts, "damaged: read anew");
    world.forget();
    assert_eq!(world.lifetime().await.facts, read.facts, "lost: read anew");
}
