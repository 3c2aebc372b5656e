//! The lead over a tenant: taken by somebody else, slept through, not to be renewed; and taken again when it is free.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt as _;
use lifeboat_engine::leader::{self, Answer, Lead};
use lifeboat_repo::progress::Silent;
use lifeboat_store::{
    Key,
    fault::{Fault, Rule},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::world::{LOCK, World};

const LEASES: &str = "hospital/_daemon/lease/";
/// The life of a lease, and how often it is looked at.
const LIFE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_secs(46);

async fn claim(world: &World) -> Answer {
    leader::claim(&world.context, Arc::new(Silent)).await.unwrap()
}

async fn lead(world: &World) -> Lead {
    match claim(world).await {
        Answer::Leads(lead) => lead,
        Answer::Other(who) => panic!("{who} leads"),
    }
}

/// Why it was lost, within so long; none: it was not.
async fn lost(lead: &Lead, within: Duration) -> Option<String> {
    let lost = timeout(within, lead.lost(&CancellationToken::new())).await;
    lost.ok().map(|why| why.expect("nobody cancelled it").to_string())
}

async fn leases(world: &World) -> Vec<Key> {
    let listed: Vec<_> = world.context.repository.store().list(LEASES).try_collect().await.unwrap();
    listed.into_iter().map(|object| object.key).collect()
}

/// Another host's lease, which is older than ours.
async fn taken(world: &World) -> Key {
    let store = world.context.repository.store();
    let bytes = store.get(&leases(world).await[0], None, None).await.unwrap();
    let mut body: Value = serde_json::from_slice(&bytes).unwrap();
    let session = "11".repeat(16);
    for (name, value) in [("session", session.as_str()), ("host", "backup-2"), ("boot", "elsewhere")] {
        body[name] = json!(value);
    }
    let key = Key::new(format!("{LEASES}0000000000000001-{session}-00000000")).unwrap();
    store.put(&key, serde_json::to_vec(&body).unwrap().into()).await.unwrap();
    key
}

#[tokio::test(start_paused = true)]
async fn a_lead_is_kept_while_all_is_well_and_given_back() {
    let world = World::in_bucket(LOCK).await;
    let held = lead(&world).await;
    assert_eq!(lost(&held, 100 * LOOK).await, None);
    assert!(matches!(claim(&world).await, Answer::Other(who) if who.contains("on host")));
    let cancel = CancellationToken::new();
    cancel.cancel();
    assert!(held.lost(&cancel).await.is_none(), "whoever gives it back has not lost it");
    held.release().await.unwrap();
    lead(&world).await.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_another_host_took_is_lost_and_taken_again_when_it_is_free() {
    let world = World::in_bucket(LOCK).await;
    let held = lead(&world).await;
    let theirs = taken(&world).await;
    let why = lost(&held, LOOK).await.expect("it is lost with the next look");
    assert!(why.contains("taken by") && why.contains("backup-2"), "{why}");
    held.release().await.unwrap();
    assert!(matches!(claim(&world).await, Answer::Other(who) if who.contains("backup-2")));
    world.context.repository.store().delete(&theirs, None).await.unwrap();
    lead(&world).await.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_was_slept_through_is_lost_though_nobody_took_it() {
    let world = World::in_bucket(LOCK).await;
    let held = lead(&world).await;
    world.clock.advance(1); // the store's clock; this machine's stood still
    let why = lost(&held, LOOK).await.expect("it is lost with the next look");
    assert!(why.contains("not renewed"), "{why}");
    held.release().await.unwrap();
    lead(&world).await.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_cannot_be_renewed_is_lost_when_another_may_take_it_and_not_before() {
    for fault in [Fault::FailBefore, Fault::Hang] {
        let (world, faults) = World::in_faulty_bucket().await;
        let held = lead(&world).await;
        let begun = Instant::now();
        faults.add(Rule::on_any(fault.clone()).and_ever_after());
        let why = lost(&held, 2 * LIFE).await.unwrap_or_else(|| panic!("{fault:?} is borne for ever"));
        let took = begun.elapsed();
        assert!(why.contains("it was not renewed for 120 s"), "{why}");
        assert!(LIFE <= took && took < LIFE + Duration::from_secs(1), "{fault:?}: {took:?}");
        faults.heal();
        drop(held);
        // What lies there is of this process, which knows that it holds nothing any more.
        lead(&world).await.release().await.unwrap();
    }
    // A minute of it is borne.
    let (world, faults) = World::in_faulty_bucket().await;
    let held = lead(&world).await;
    faults.add(Rule::on_any(Fault::FailBefore).and_ever_after());
    assert_eq!(lost(&held, LIFE / 2).await, None);
    faults.heal();
    assert_eq!(lost(&held, 10 * LIFE).await, None);
    held.release().await.unwrap();
}
