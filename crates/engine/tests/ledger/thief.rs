//! Somebody with the writer's credential, and without a signing key.

use std::sync::Arc;

use bytes::Bytes;
use lifeboat_evidence::ledger::{Entry, Previous, Tree, checkpoint, place};
use lifeboat_model::id::Sha256Digest;
use lifeboat_store::{Key, Store as _, vault::VaultStore};

use crate::world::*;

async fn begun(runs: u64) -> (TestClock, VaultStore, Host) {
    let clock = TestClock::begin();
    let store = vault(&clock);
    let host = Host::over(Arc::new(store.clone()), 1, &clock, LOCK).await;
    for run in 0..runs {
        host.kept(run).await;
        clock.advance(1);
    }
    (clock, store, host)
}

fn named(name: &str) -> Key {
    Key::new(format!("hospital/evidence/{name}")).unwrap()
}

#[tokio::test]
async fn junk_in_slots_costs_its_place_and_nothing_else() {
    for forgetful in [false, true] {
        let (clock, store, host) = begun(3).await;
        let thief = store.thief();
        let planted = [
            Bytes::from_static(b"junk"),
            Bytes::new(),
            Bytes::from(vec![b'x'; 200_000]),
            // An entry of his own, one that was signed for another place, and one of another log.
            Entry::new(&origin(), 6, "a.dsse.json", Sha256Digest([1; 32]), clock.now(), None).sign(&key(66)).into(),
            store.get(&slot(1), None, None).await.unwrap(),
            Entry::new("other", 8, "a.dsse.json", Sha256Digest([1; 32]), clock.now(), None).sign(&key(1)).into(),
        ];
        for (index, junk) in (3..).zip(&planted) {
            thief.overwrite(&slot(index), junk.clone());
        }
        // Far ahead, where a search would look; and beside the slots.
        for far in [20, 35, 67, 131, 515, 1027, 999_999_999_999] {
            thief.overwrite(&slot(far), Bytes::from_static(b"far"));
        }
        thief.overwrite(&named("ledger/entries/junk"), Bytes::new());
        thief.overwrite(&named("ledger/entries/0000000000010"), Bytes::new());
        if forgetful {
            host.forget();
        }
        let place = host.kept(3).await;
        assert_eq!((place.index, place.size), (9, 10));
        clock.advance(1);
        assert_eq!(host.kept(4).await.index, 10);
        // What counts now does not go away any more.
        for index in 3..9 {
            let version = store.versions_of(&slot(index)).pop().unwrap().info.version.unwrap();
            assert!(thief.delete_version(&slot(index), &version).is_err(), "{index}");
        }
        for far in [20, 35, 67, 131, 515, 1027, 999_999_999_999] {
            let version = store.versions_of(&slot(far)).pop().unwrap().info.version.unwrap();
            thief.delete_version(&slot(far), &version).unwrap();
        }
        let beside = store.versions_of(&named("ledger/entries/junk")).pop().unwrap().info.version.unwrap();
        thief.delete_version(&named("ledger/entries/junk"), &beside).unwrap();
        let log = host.log().await;
        assert_eq!(log.runs(), [0, 1, 2, 3, 4]);
        let foreign: Vec<usize> = (0..11).filter(|index| log.entries[*index].is_none()).collect();
        assert_eq!(foreign, [3, 4, 5, 6, 7, 8]);
        assert_eq!(&log.leaves[5].bytes[..], b"void\n");
    }
}

#[tokio::test]
async fn versions_and_markers_that_come_later_change_nothing() {
    for forgetful in [false, true] {
        let (clock, store, host) = begun(5).await;
        let thief = store.thief();
        for index in 0..5 {
            thief.overwrite(&slot(index), Bytes::from_static(b"another"));
            thief.delete_marker(&slot(index));
            thief.delete_marker(&named(&place::checkpoint(index + 1)));
        }
        if forgetful {
            host.forget();
        }
        assert_eq!(host.kept(5).await.index, 5);
        clock.advance(1);
        assert_eq!(host.log().await.runs(), [0, 1, 2, 3, 4, 5]);
    }
}

#[tokio::test]
async fn a_checkpoint_goes_elsewhere_where_its_place_is_taken() {
    for forgetful in [false, true] {
        let (clock, store, host) = begun(2).await;
        let thief = store.thief();
        let forked: Tree = [b"one", b"two", b"thr"].iter().collect();
        let planted = [
            Bytes::from_static(b"junk"),
            checkpoint::sign_tree(&origin(), &forked, &key(66)).into(),
            store.get(&named(&place::checkpoint(1)), None, None).await.unwrap(),
            checkpoint::sign_tree("other", &forked, &key(1)).into(),
            Bytes::from(vec![b'x'; 100_000]),
        ];
        for (size, junk) in (3..).zip(&planted) {
            thief.overwrite(&named(&place::checkpoint(size)), junk.clone());
        }
        for far in 100..200 {
            thief.overwrite(&named(&place::checkpoint(far)), planted[1].clone());
        }
        for run in 2..9 {
            if forgetful {
                host.forget();
            }
            let place = host.kept(run).await;
            assert_eq!((place.index, place.size), (run, run + 1));
            clock.advance(1);
        }
        let log = host.log().await;
        assert_eq!(log.runs(), (0..9).collect::<Vec<_>>());
        assert_eq!(log.checkpoints, (1..=9).collect::<Vec<_>>());
        assert_eq!(log.junk, 105);
        let last = log.entries[8].as_ref().unwrap().previous.clone();
        assert_eq!(last, Some(Previous { size: 8, root: log.roots[8] }));
    }
}

#[tokio::test]
async fn junk_that_is_taken_away_in_the_middle_does_not_fork_the_log() {
    let (clock, store, host) = begun(2).await;
    let thief = store.thief();
    let junk = thief.overwrite(&slot(2), Bytes::from_static(b"junk"));
    assert_eq!(host.kept(2).await.index, 3);
    assert!(thief.delete_version(&slot(2), &junk).is_err(), "who counted it has locked it");
    clock.advance(1);
    host.forget();
    assert_eq!(host.kept(3).await.index, 4);
    assert_eq!(host.log().await.leaves.len(), 5);
}

#[tokio::test]
async fn tiles_that_were_planted_stop_nothing() {
    let (clock, store, host) = begun(1).await;
    store.thief().overwrite(&named(&place::bundle(0)), Bytes::from_static(b"junk"));
    store.thief().overwrite(&named(&place::tile(0, 0)), Bytes::from(vec![7; 8192]));
    for run in 1..260 {
        host.kept(run).await;
        clock.advance(1);
    }
    let log = host.log().await;
    assert_eq!((log.leaves.len(), log.checkpoints.len()), (260, 260));
}

/// Not a thief with a credential, but who can write into a directory: nothing is put where something was taken away.
#[tokio::test]
async fn what_was_cut_off_is_not_written_over() {
    let clock = TestClock::begin();
    let store = vault(&clock);
    let host = Host::over(Arc::new(store.clone()), 1, &clock, "").await;
    for run in 0..9 {
        host.kept(run).await;
        clock.advance(1);
    }
    for index in 5..9 {
        let version = store.versions_of(&slot(index)).pop().unwrap().info.version.unwrap();
        store.delete(&slot(index), Some(&version)).await.unwrap();
    }
    host.forget();
    let place = host.kept(9).await;
    assert_eq!((place.index, place.size), (9, 10), "the gap stays to be seen");
    assert!(store.versions_of(&slot(5)).is_empty());
}
