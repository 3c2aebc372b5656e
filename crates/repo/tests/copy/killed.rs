//! A copy that ends at any call to either store, before or after its effect: never a visible point that does not restore,
//! always a next run that completes it, and nothing is sent twice.

use std::sync::Arc;

use lifeboat_repo::repository::Repository;
use lifeboat_store::fault::{Fault, Operation, Rule};

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_at_any_call() {
    let mut world = World::new();
    world.fill().await;
    world.copy().await.unwrap();
    let calls = [world.from.calls().len() as u64, world.to.calls().len() as u64];
    assert!(calls.iter().all(|calls| *calls > 15), "{calls:?}");
    let complete = versions(&world.offsite);
    for (side, calls) in calls.into_iter().enumerate() {
        for n in 1..=calls + 1 {
            for fault in [Fault::FailBefore, Fault::LoseReply] {
                let what = format!("side {side}, call {n} of {calls}, {fault:?}");
                world = world.elsewhere();
                let store = [&world.from, &world.to][side].clone();
                store.add(Rule::on_any(fault).nth(n).and_ever_after());
                let killed = world.copy().await;
                store.heal();
                if Repository::open(Arc::new(world.offsite.clone())).await.is_ok() {
                    let points = world.assert_restores(&world.replica().await).await;
                    assert!(killed.is_err() || points == 2, "{what}");
                }
                let report = world.copy().await.unwrap_or_else(|error| panic!("{what}: the next run: {error}"));
                assert_eq!(report.problems, [], "{what}");
                assert_eq!(versions(&world.offsite), complete, "{what}: the same keys, each once");
            }
        }
    }
    assert_eq!(world.assert_restores(&world.replica().await).await, 2);
    assert!(world.stream(&world.replica().await).await == wal(0, SEGMENT + 700));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_is_no_reason_to_stop() {
    let world = World::new();
    world.fill().await;
    for folder in ["/packs/", "/trees/", "/points/", "/segment/", "/index/"] {
        world.to.add(Rule::on(Operation::Put, Fault::LoseReply).key(folder));
    }
    let report = world.copy().await.unwrap();
    assert_eq!((world.to.struck(), report.copied.len(), report.problems.len()), (5, 2, 0));
    assert!(versions(&world.offsite).values().all(|versions| *versions == 1));
    assert_eq!(world.assert_restores(&world.replica().await).await, 2);
}
