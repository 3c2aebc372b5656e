use std::sync::Arc;

use lifeboat_store::fault::FaultStore;

use crate::world::*;

/// Whatever call is the last that a host makes, the next append leaves every statement that was put in the log.
#[tokio::test]
async fn a_crash_at_any_call_is_made_good_by_the_next_append() {
    for before in [0, 2] {
        for effect in [false, true] {
            for forgetful in [false, true] {
                let mut at = 1;
                while crash(at, before, effect, forgetful).await {
                    at += 1;
                }
                assert!(at > 7, "{at} calls");
            }
        }
    }
}

/// Whether the host was struck.
async fn crash(at: u64, before: u64, effect: bool, forgetful: bool) -> bool {
    let clock = TestClock::begin();
    let store = vault(&clock);
    let faults = FaultStore::new(Arc::new(store.clone()));
    let host = Host::over(Arc::new(faults.clone()), 1, &clock, LOCK).await;
    for run in 0..before {
        host.kept(run).await;
        clock.advance(1);
    }
    faults.crash_at(at, effect);
    let struck = faults.struck();
    let _ = host.keep(before).await;
    let was_struck = faults.struck() > struck;
    faults.heal();
    let put = host.context.repository.list_evidence(&tenant(), "").await.unwrap().len() as u64;
    clock.advance(300);
    if forgetful {
        host.forget();
    }
    let next = before + 1;
    host.kept(next).await;
    let log = host.log().await;
    let what = format!("call {at}, {before} before, effect {effect}, forgetful {forgetful}: {:?}", log.runs());
    let wanted: Vec<u64> = (0..=next).filter(|run| *run != before || put > before).collect();
    assert_eq!(log.set(), wanted, "{what}");
    assert_eq!(log.runs().len(), wanted.len(), "nothing twice: {what}");
    assert_eq!(log.checkpoints.last(), Some(&(log.leaves.len() as u64)), "{what}");
    was_struck
}
