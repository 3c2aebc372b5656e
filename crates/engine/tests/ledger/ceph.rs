//! Two hosts on a real bucket with versions and object lock, which ignores `If-None-Match`. Needs the testbed.

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use lifeboat_engine::ledger;
use lifeboat_repo::repository::Repository;
use lifeboat_store::SharedStore;
use lifeboat_testkit::{bucket, testbed};

use crate::world::*;

const SHORT: &str = "[tiers.gold.lock]\nmode = \"governance\"\nminimum = \"1m\"\n";
const EACH: u64 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_hosts_never_fork_the_log() {
    if !testbed::enabled() {
        return;
    }
    let store: SharedStore = Arc::new(bucket::store("ledger").await);
    assert!(store.capabilities().versions && store.capabilities().locks);
    let repository = Repository::init(store.clone(), ID, Timestamp::now()).await.unwrap();
    let hosts: Vec<Host> = (0..4)
        .map(|number| {
            let mut host = Host::of(repository.clone(), 1 + number % 3, Arc::new(Timestamp::now), SHORT);
            host.context.config.evidence.retain = "1m".parse().unwrap();
            host
        })
        .collect();
    let work = hosts.into_iter().zip(0_u64..).map(|(host, number)| {
        tokio::spawn(async move {
            for run in 0..EACH {
                host.kept(number * 100 + run).await;
            }
            host
        })
    });
    let hosts: Vec<Host> = join_all(work).await.into_iter().map(Result::unwrap).collect();
    let log = audit(&repository).await;
    let wanted: Vec<u64> = (0..4).flat_map(|host| (0..EACH).map(move |run| host * 100 + run)).collect();
    assert_eq!(log.set(), wanted);
    assert!(log.entries.iter().all(Option::is_some));
    let latest = ledger::latest(&repository, &tenant(), &trusted(), |_, _| true).await.unwrap().unwrap();
    assert_eq!(latest.entries as usize, log.leaves.len());
    hosts[0].forget();
    assert_eq!(hosts[0].kept(5000).await.size as usize, log.leaves.len() + 1);
    let lock = store.lock_state(&slot(0), log_version(&store).await.as_ref()).await.unwrap();
    assert!(lock.retention.is_some(), "{lock:?}");
}

async fn log_version(store: &SharedStore) -> Option<lifeboat_store::VersionId> {
    use futures::TryStreamExt as _;
    store.list(slot(0).as_str()).try_next().await.unwrap().unwrap().version
}
