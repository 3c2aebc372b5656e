use std::{sync::Arc, time::Duration};

use lifeboat_engine::{ledger, record};
use lifeboat_evidence::{Act, Predicate, act, ledger::checkpoint};
use lifeboat_model::id::RepositoryId;
use lifeboat_store::{
    Store as _,
    fault::{Fault, FaultStore, Operation, Rule},
    local::LocalStore,
};

use crate::world::*;

#[tokio::test]
async fn every_statement_stands_in_the_log_under_lock() {
    let clock = TestClock::begin();
    let store = vault(&clock);
    let host = Host::over(Arc::new(store.clone()), 1, &clock, LOCK).await;
    assert_eq!(ledger::latest(&host.context.repository, &tenant(), &trusted(), |_, _| true).await.unwrap(), None);
    for run in 0..40 {
        let place = host.kept(run).await;
        assert_eq!((place.index, place.size), (run, run + 1));
        clock.advance(1);
        if run % 7 == 0 {
            host.forget();
        }
    }
    let log = host.log().await;
    assert_eq!(log.runs(), (0..40).collect::<Vec<_>>());
    assert_eq!(log.checkpoints, (1..=40).collect::<Vec<_>>());
    assert_eq!(log.entries[0].as_ref().unwrap().previous, None);
    assert_eq!(log.entries[39].as_ref().unwrap().previous.as_ref().unwrap().size, 39);
    let snapshot = store.snapshot();
    assert_eq!(snapshot.locked + 1, snapshot.versions, "all but the marker");
    let lock = store.lock_state(&slot(7), None).await.unwrap().retention.unwrap();
    assert!(lock.until > "2032-05-30T00:00:00Z".parse().unwrap(), "{lock:?}");
    let latest = ledger::latest(&host.context.repository, &tenant(), &trusted(), |_, _| true).await.unwrap().unwrap();
    assert_eq!((latest.entries, latest.checkpoint.unwrap().checkpoint.root), (40, log.roots[40]));
    assert!(checkpoint::open_of(&latest.note.unwrap(), &trusted(), &origin()).is_ok());
    let nobody = ledger::latest(&host.context.repository, &tenant(), &trusted(), |_, _| false).await.unwrap().unwrap();
    assert_eq!((nobody.entries, nobody.checkpoint), (40, None));
}

#[tokio::test]
async fn a_directory_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalStore::open(&folder.path().join("repository"), true).unwrap());
    let repository = lifeboat_repo::repository::Repository::init(store, ID, jiff::Timestamp::now()).await.unwrap();
    let host = Host::of(repository, 1, Arc::new(jiff::Timestamp::now), "");
    for run in 0..5 {
        assert_eq!(host.kept(run).await.index, run);
    }
    assert_eq!(host.log().await.runs(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn what_lay_there_before_the_ledger_is_adopted_at_its_beginning() {
    let clock = TestClock::begin();
    let host = Host::over(Arc::new(vault(&clock)), 1, &clock, LOCK).await;
    for run in 0..70 {
        let statement = statement(&host.context, run);
        let name = statement.storage_key().unwrap().to_string();
        let sealed = lifeboat_evidence::seal(&statement, &key(if run == 9 { 66 } else { 1 }));
        let name = name.rsplit('/').next().unwrap();
        host.context.repository.put_evidence(&tenant(), name, sealed.into()).await.unwrap();
        clock.advance(3600);
    }
    let place = host.kept(70).await;
    assert_eq!((place.index, place.size), (69, 70), "the one that nobody signed is left out");
    let log = host.log().await;
    assert_eq!(log.runs(), (0..=70).filter(|run| *run != 9).collect::<Vec<_>>());
    assert_eq!(log.checkpoints, [70]);
    assert!(log.entries.iter().flatten().all(|entry| entry.previous.is_none()), "adopted");
    clock.advance(3600);
    host.forget();
    assert_eq!(host.kept(71).await.size, 71, "and not once more");
}

/// The key that signs for two repositories, and a statement that whoever may put carries from one into the other.
#[tokio::test]
async fn what_is_of_another_repository_is_neither_believed_nor_entered() {
    let clock = TestClock::begin();
    let host = Host::over(Arc::new(vault(&clock)), 1, &clock, LOCK).await;
    let carried = |run: u64, act: Option<act::Copy>| {
        let mut statement = statement(&host.context, run);
        let Predicate::Act(predicate) = &mut statement.predicate else { panic!("an act") };
        predicate.repository = RepositoryId([9; 16]);
        if let Some(act) = act {
            predicate.act = Act::Copy(act);
        }
        statement
    };
    let copy = act::Copy::default();
    for statement in [carried(0, None), carried(1, Some(copy)), statement(&host.context, 2)] {
        let name = statement.storage_key().unwrap().to_string();
        let sealed = lifeboat_evidence::seal(&statement, &key(1));
        let name = name.rsplit('/').next().unwrap();
        host.context.repository.put_evidence(&tenant(), name, sealed.into()).await.unwrap();
    }
    let mut believed = Vec::new();
    for found in host.context.repository.list_evidence(&tenant(), "").await.unwrap() {
        believed.push(record::believed(&host.context, &found).await.unwrap().is_some());
    }
    believed.sort_unstable();
    assert_eq!(believed, [false, true, true]);
    clock.advance(3600);
    host.kept(3).await;
    assert_eq!(host.log().await.runs(), [1, 2, 3]);
}

/// One request after the other, as somebody waits for them. What is asked at the same time counts as one.
#[tokio::test]
async fn an_append_takes_few_round_trips() {
    let clock = TestClock::begin();
    let faults = FaultStore::new(Arc::new(vault(&clock)));
    let host = Host::over(Arc::new(faults.clone()), 1, &clock, LOCK).await;
    for run in 0..3 {
        host.kept(run).await;
        clock.advance(1);
    }
    let before = faults.calls().len();
    host.kept(3).await;
    let calls: Vec<_> = faults.calls().drain(..).skip(before).collect();
    let ledger: Vec<_> = calls.iter().map(|(operation, key)| (*operation, key.as_str())).collect();
    let puts = ledger.iter().filter(|(operation, _)| *operation == Operation::Put).count();
    assert_eq!(puts, 3, "{ledger:?}");
    // The statement's put runs beside the listings of entries, checkpoints and statements (two requests, as the ledger is
    // passed over); then an entry and a checkpoint, each a put and a look at whose is first: six in a row.
    assert!(ledger.len() <= 9, "{ledger:?}");
}

/// What a bucket far away costs.
#[tokio::test(start_paused = true)]
async fn an_append_waits_for_at_most_six_answers_in_a_row() {
    let clock = TestClock::begin();
    let faults = FaultStore::new(Arc::new(vault(&clock)));
    let hosts = [
        Host::over(Arc::new(faults.clone()), 1, &clock, LOCK).await,
        Host::over(Arc::new(faults.clone()), 2, &clock, LOCK).await,
    ];
    for run in 0..20 {
        hosts[run as usize % 2].kept(run).await;
        clock.advance(60);
    }
    let latency = Duration::from_millis(40);
    faults.add(Rule::on_any(Fault::Delay(latency)).and_ever_after());
    let took = async |host: &Host, run| {
        let begun = tokio::time::Instant::now();
        host.kept(run).await;
        clock.advance(60);
        begun.elapsed()
    };
    let alone = [took(&hosts[1], 20).await, took(&hosts[1], 21).await];
    assert!(alone[1] <= 6 * latency, "{alone:?}");
    let after_another = took(&hosts[0], 22).await;
    assert!(after_another <= 7 * latency, "{after_another:?}");
    hosts[1].forget();
    let forgetful = took(&hosts[1], 23).await;
    assert!(forgetful <= 10 * latency, "{forgetful:?}");
}
