//! A backup under locks that ends at any call to the store, before or after its effect.

use lifeboat_store::fault::{Fault, Rule};

use crate::world::*;

/// One backup lies there already, of which the next reuses a pack; its locks are ten days old.
async fn base() -> World {
    let world = World::new();
    world.backup(&files(3)).await.unwrap();
    world.clock.advance(10 * DAY);
    world
}

async fn assert_sound(world: &World, what: &str) {
    let repo = world.clean().await;
    for reference in repo.list_points().await.unwrap() {
        let point = repo.read_point(&reference, &[world.signing.public()]).await;
        let point = point.unwrap_or_else(|e| panic!("{what}: {e}"));
        world.assert_locked(&point).await;
        let count = world.restore(&point).await.len() as u64;
        assert!(count == 3 || count == 4, "{what}: {count} files");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_at_any_call_leaves_nothing_unlocked() {
    let probe = base().await;
    let before = probe.faults.calls().len() as u64;
    probe.backup(&files(4)).await.unwrap();
    let calls = probe.faults.calls().len() as u64 - before;
    assert!(calls > 20, "{calls}");
    for n in 1..=calls + 1 {
        for fault in [Fault::FailBefore, Fault::LoseReply] {
            let what = format!("call {n} of {calls}, {fault:?}");
            let world = base().await;
            let repo = world.repo().await;
            world.faults.add(Rule::on_any(fault).nth(n).and_ever_after());
            let _ = world.backup_into(repo, &files(4)).await;
            world.faults.heal();
            assert_sound(&world, &what).await;
            world.clock.advance(200); // its lease has outlived its time
            let point = world.backup(&files(4)).await.unwrap_or_else(|e| panic!("{what}: the next run: {e}"));
            assert_eq!(world.restore(&point).await, files(4), "{what}");
            assert_sound(&world, &what).await;
        }
    }
}
