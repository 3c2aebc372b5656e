//! A copy carries its primary's ledger, and has none of its own.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use lifeboat_engine::{
    Error,
    context::{Context, Initiator},
    copy::{self, Copied, Wanted},
    record,
};
use lifeboat_evidence::ledger::place;
use lifeboat_model::config::CopyConfig;
use lifeboat_repo::{progress::Silent, repository::Repository};
use lifeboat_store::{Key, Store as _, vault::VaultStore};
use tokio_util::sync::CancellationToken;

use crate::world::*;

struct Pair {
    clock: TestClock,
    primary: VaultStore,
    host: Host,
    vault: VaultStore,
    to: Context,
}

async fn pair() -> Pair {
    let clock = TestClock::begin();
    let primary = vault(&clock);
    let mut host = Host::over(Arc::new(primary.clone()), 1, &clock, LOCK).await;
    let config = &mut host.context.config;
    config.copies.push(CopyConfig { name: "offsite".into(), repository: config.repository.clone(), lock: None });
    let vault = vault(&clock);
    let replica = Repository::init_replica(Arc::new(vault.clone()), &host.context.repository).await.unwrap();
    let initiator = Initiator { who: "test@here".into(), command: "test".into() };
    let to =
        Context::new(host.context.config.at("offsite").unwrap(), "0".repeat(64), replica, clock.shown(), initiator);
    Pair { clock, primary, host, vault, to }
}

impl Pair {
    async fn copy(&self) -> Copied {
        let cancel = CancellationToken::new();
        copy::run(&self.host.context, &self.to, "clinic", Wanted::All, Arc::new(Silent), &cancel).await.unwrap()
    }

    /// What lies below the ledger's folder, and its bytes.
    async fn ledger(store: &VaultStore) -> Vec<(Key, Bytes)> {
        let listed: Vec<_> = store.list("hospital/evidence/ledger/").try_collect().await.unwrap();
        let mut found = Vec::new();
        for info in listed {
            let bytes = store.get(&info.key, info.version.as_ref(), None).await.unwrap();
            found.push((info.key, bytes));
        }
        found
    }
}

#[tokio::test]
async fn it_is_the_same_byte_for_byte_and_locked() {
    let pair = pair().await;
    for run in 0..300 {
        pair.host.kept(run).await;
        pair.clock.advance(1);
        if run == 120 {
            pair.primary.thief().overwrite(&slot(121), Bytes::from(vec![b'x'; 65_535]));
            let copied = pair.copy().await;
            assert_eq!((copied.remarks, copied.evidence.refused), (vec![], vec![]));
        }
    }
    pair.copy().await;
    let (there, here) = (Pair::ledger(&pair.primary).await, Pair::ledger(&pair.vault).await);
    assert_eq!(there.len(), here.len());
    assert!(there == here, "the same");
    let (log, copy) = (pair.host.log().await, audit(&pair.to.repository).await);
    assert_eq!((copy.runs(), &copy.checkpoints), (log.runs(), &log.checkpoints));
    let lock = pair.vault.lock_state(&slot(0), None).await.unwrap().retention.unwrap();
    assert!(lock.until > "2032-05-30T00:00:00Z".parse().unwrap());
    assert_eq!(pair.copy().await.evidence.refused, vec![]);
    assert_eq!(Pair::ledger(&pair.vault).await.len(), here.len(), "nothing new");
}

#[tokio::test]
async fn nothing_is_entered_into_a_copy() {
    let pair = pair().await;
    pair.host.kept(0).await;
    pair.clock.advance(1);
    pair.copy().await;
    let before = Pair::ledger(&pair.vault).await.len();
    let kept = record::keep_and_enter(&pair.to, &statement(&pair.to, 1)).await.unwrap();
    assert!(matches!(kept.entered, Err(Error::LedgerOfCopy { .. })), "{:?}", kept.entered);
    assert!(record::keep(&pair.to, &statement(&pair.to, 2)).await.is_ok());
    assert_eq!(Pair::ledger(&pair.vault).await.len(), before);
}

#[tokio::test]
async fn overlong_junk_takes_its_place_in_a_copy_too() {
    let pair = pair().await;
    pair.host.kept(0).await;
    pair.primary.thief().overwrite(&slot(1), Bytes::from(vec![b'x'; 3 << 20]));
    pair.clock.advance(1);
    pair.host.kept(1).await;
    let copied = pair.copy().await;
    assert_eq!((copied.remarks, copied.evidence.refused), (vec![], vec![]));
    let (log, copy) = (pair.host.log().await, audit(&pair.to.repository).await);
    assert_eq!(copy.roots, log.roots);
    assert!(pair.vault.head(&slot(1), None).await.unwrap().len < 100_000, "and no more room than it must");
}

#[tokio::test]
async fn a_damaged_ledger_is_not_copied() {
    let mut pair = pair().await;
    pair.host = Host::over(Arc::new(pair.primary.clone()), 1, &pair.clock, "").await;
    for run in 0..4 {
        pair.host.kept(run).await;
        pair.clock.advance(1);
    }
    // A bucket without locks, whose entry somebody exchanged.
    let version = pair.primary.versions_of(&slot(2)).pop().unwrap().info.version.unwrap();
    pair.primary.delete(&slot(2), Some(&version)).await.unwrap();
    pair.primary.put(&slot(2), Bytes::from_static(b"another")).await.unwrap();
    let copied = pair.copy().await;
    let refused: Vec<_> = copied.evidence.refused.iter().map(|(key, _)| key.as_str().to_owned()).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].contains("/ledger/checkpoints/"), "{refused:?}");
    assert!(!copied.is_complete());
    assert!(Pair::ledger(&pair.vault).await.is_empty());
}

#[tokio::test]
async fn junk_in_the_copys_slots_is_told_and_nothing_is_put_after_it() {
    let pair = pair().await;
    for run in 0..3 {
        pair.host.kept(run).await;
        pair.clock.advance(1);
    }
    pair.vault.thief().overwrite(&slot(1), Bytes::from_static(b"junk"));
    let copied = pair.copy().await;
    assert!(copied.evidence.refused.iter().any(|(key, _)| *key == slot(1)), "{:?}", copied.evidence.refused);
    let named = Key::new(format!("hospital/evidence/{}", place::checkpoint(3))).unwrap();
    assert!(pair.vault.versions_of(&named).is_empty());
}
