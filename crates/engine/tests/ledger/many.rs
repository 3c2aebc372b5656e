//! A long log: its tiles, and finding its end without reading it.

use std::sync::Arc;

use lifeboat_evidence::ledger::{Hash, leaf_hash, place, tile};
use lifeboat_store::{
    Key, Store as _,
    fault::{Fault, FaultStore, Operation, Rule},
};

use crate::world::*;

const MANY: u64 = 1500;

#[tokio::test]
async fn its_end_is_found_in_few_requests_and_its_tiles_are_full() {
    let clock = TestClock::begin();
    let store = vault(&clock);
    let faults = FaultStore::new(Arc::new(store.clone()));
    let host = Host::over(Arc::new(faults.clone()), 1, &clock, LOCK).await;
    for run in 0..MANY {
        let statement = statement(&host.context, run);
        let name = statement.storage_key().unwrap().to_string();
        let sealed = lifeboat_evidence::seal(&statement, &key(1));
        host.context.repository.put_evidence(&tenant(), name.rsplit('/').next().unwrap(), sealed.into()).await.unwrap();
    }
    assert_eq!(host.kept(MANY).await.size, MANY + 1);
    clock.advance(300);

    // Somebody who remembers nothing: not a fortieth of the log is read.
    host.forget();
    let before = faults.calls().len();
    let latest = lifeboat_engine::ledger::latest(&host.context.repository, &tenant(), &trusted(), |_, _| true).await;
    assert_eq!(latest.unwrap().unwrap().entries, MANY + 1);
    let calls = faults.calls().len() - before;
    assert!(calls < 150, "{calls} calls");
    let reads = faults.calls().drain(before..).filter(|(operation, _)| *operation == Operation::Get).count();
    assert!(reads < 12, "{reads} reads");

    host.kept(MANY + 1).await;
    let log = host.log().await;
    assert_eq!(log.runs(), (0..=MANY + 1).collect::<Vec<_>>(), "nothing twice");
    let get = async |name: String| {
        let key = Key::new(format!("hospital/evidence/{name}")).unwrap();
        store.get(&key, None, None).await
    };
    for number in 0..log.leaves.len() / 256 {
        let leaves = &log.leaves[number * 256..][..256];
        let bundle = get(place::bundle(number as u64)).await.unwrap();
        assert_eq!(tile::unbundle(&bundle).unwrap(), leaves.iter().map(|leaf| &leaf.bytes[..]).collect::<Vec<_>>());
        let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(&leaf.bytes)).collect();
        assert_eq!(tile::decode(&get(place::tile(0, number as u64)).await.unwrap()).unwrap(), hashes);
    }
    assert!(get(place::bundle(log.leaves.len() as u64 / 256)).await.is_err(), "it is not full");
    assert!(get(place::tile(1, 0)).await.is_err());

    // A tile that a crash left out is put by the next append that looks.
    let lost = Key::new(format!("hospital/evidence/{}", place::tile(0, 4))).unwrap();
    assert!(store.snapshot().locked > 0);
    clock.advance(7 * 365 * 86_400);
    store.delete(&lost, None).await.unwrap();
    host.forget();
    host.kept(MANY + 2).await;
    assert!(store.head(&lost, None).await.is_ok());
}

/// Of what is adopted at once, a crash leaves no hole: where the newest tile is, all before it are.
#[tokio::test]
async fn tiles_are_put_oldest_first_and_a_crash_leaves_no_hole() {
    let clock = TestClock::begin();
    let store = vault(&clock);
    let faults = FaultStore::new(Arc::new(store.clone()));
    let host = Host::over(Arc::new(faults.clone()), 1, &clock, LOCK).await;
    for run in 0..600 {
        let statement = statement(&host.context, run);
        let name = statement.storage_key().unwrap().to_string();
        let sealed = lifeboat_evidence::seal(&statement, &key(1));
        host.context.repository.put_evidence(&tenant(), name.rsplit('/').next().unwrap(), sealed.into()).await.unwrap();
    }
    faults.add(Rule::on(Operation::Put, Fault::FailBefore).key("ledger/tile/0/000").and_ever_after());
    assert_eq!(host.kept(600).await.size, 601, "tiles are no reason to fail");
    assert!(faults.struck() > 0);
    let there = async |name: String| {
        let key = Key::new(format!("hospital/evidence/{name}")).unwrap();
        store.head(&key, None).await.is_ok()
    };
    assert!(!there(place::tile(0, 1)).await, "not before the one before it");
    faults.heal();
    clock.advance(300);
    host.forget();
    host.kept(601).await;
    for number in 0..2 {
        assert!(there(place::tile(0, number)).await && there(place::bundle(number)).await, "tile {number}");
    }
}
