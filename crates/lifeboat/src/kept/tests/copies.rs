//! A primary and a copy, each of which can be away for one host and not for another.

use lifeboat_store::fault::Operation;

use super::*;

/// A primary and a copy.
struct Two {
    main: Shared,
    copy: Shared,
}

impl Two {
    async fn new() -> Two {
        Two { main: Shared::new().await, copy: Shared::new().await }
    }

    fn keeping(&self, host: &Host) -> Keeping {
        host.keeping_in(vec![self.main.place("main"), self.copy.place("copy")])
    }

    async fn begun(&self, host: &Host) -> KeptJournal {
        let mut journal = KeptJournal::create(&host.runs(), RUN, self.keeping(host)).unwrap();
        journal.append(None, begun()).await.unwrap();
        journal.append(None, started("one")).await.unwrap();
        journal
    }

    /// The primary goes away, and the copy is used.
    async fn moved(&self, journal: &mut KeptJournal) {
        self.main.goes_away();
        journal.append(None, ended("one")).await.unwrap();
        until("the copy has it", async || journal.state().unwrap().kept == 3).await;
        journal.append(None, started("two")).await.unwrap();
        until("the copy has it", async || self.copy.lines().await == 4).await;
    }

    async fn open(&self, host: &Host, take_over: bool) -> Result<Opened, crate::failure::Failure> {
        open(&host.runs(), RUN, take_over, self.keeping(host)).await
    }

    async fn lines(&self) -> (usize, usize) {
        (self.main.lines().await, self.copy.lines().await)
    }
}

fn words(refused: &crate::failure::Failure) -> String {
    refused.messages().join(": ")
}

#[tokio::test]
async fn what_a_primary_lacks_is_made_good_when_it_answers() {
    let (two, ann, ben) = (Two::new().await, Host::new("ann@a"), Host::new("ben@b"));
    let mut journal = two.begun(&ann).await;
    assert_eq!(two.lines().await, (2, 0), "a copy is not used without need");
    two.moved(&mut journal).await;
    assert!(ann.told().iter().any(|told| told.contains("the journal is kept in")), "{:?}", ann.told());
    two.main.faults.heal();
    until("both have it", async || two.lines().await == (4, 4)).await;
    journal.append(None, ended("two")).await.unwrap();
    until("both have it", async || two.lines().await == (5, 5)).await;
    assert!(!ann.cancel.is_cancelled(), "its own lines are nobody else's");
    // Whoever takes over is found wherever it is looked.
    let mut opened = two.open(&ben, true).await.unwrap();
    opened.journal.append(None, Event::Resumed).await.unwrap();
    assert!(ann.cancel.is_cancelled() && two.lines().await == (6, 6));
}

/// Whoever was at it is gone, and the primary answers again, with less than the copy has.
#[tokio::test]
async fn the_longest_journal_counts() {
    let (two, ann, ben) = (Two::new().await, Host::new("ann@a"), Host::new("ben@b"));
    let mut journal = two.begun(&ann).await;
    two.moved(&mut journal).await;
    journal.close().await;
    two.main.faults.heal();
    assert_eq!(two.lines().await, (2, 4));
    let refused = two.open(&ben, false).await.err().unwrap();
    assert!(words(&refused).contains("ann@a wrote line 4"), "{}", words(&refused));
    let mut opened = two.open(&ben, true).await.unwrap();
    assert_eq!((opened.lines.len(), opened.remarks.len()), (4, 0));
    opened.journal.append(None, Event::Resumed).await.unwrap();
    opened.journal.close().await;
    assert_eq!(two.lines().await, (5, 5));
}

/// It lives, and reaches the copy alone: it is found there.
#[tokio::test]
async fn who_is_at_it_in_the_copy_is_told_there() {
    let (two, ann, ben) = (Two::new().await, Host::new("ann@a"), Host::new("ben@b"));
    let mut journal = two.begun(&ann).await;
    two.moved(&mut journal).await;
    let mut opened = two.open(&ben, true).await.unwrap();
    assert_eq!(opened.lines.len(), 4);
    assert!(opened.remarks[0].contains("\"main\" cannot be read"), "{:?}", opened.remarks);
    opened.journal.append(None, Event::Resumed).await.unwrap();
    assert!(ann.cancel.is_cancelled());
    two.main.faults.heal();
    until("the primary has all", async || two.lines().await == (5, 5)).await;
}

#[tokio::test]
async fn a_run_that_went_on_twice_is_refused() {
    let (two, ann, ben) = (Two::new().await, Host::new("ann@a"), Host::new("ben@b"));
    two.begun(&ann).await.close().await;
    let alone = |host: &Host, shared: &Shared| host.keeping_in(vec![shared.place("main")]);
    let mut there = open(&ben.runs(), RUN, true, alone(&ben, &two.main)).await.unwrap().journal;
    there.append(None, Event::Resumed).await.unwrap();
    there.close().await;
    let mut here = open(&ann.runs(), RUN, true, alone(&ann, &two.copy)).await.unwrap().journal;
    here.append(None, ended("one")).await.unwrap();
    here.close().await;
    for take_over in [false, true] {
        let refused = two.open(&Host::new("eve@c"), take_over).await.err().unwrap();
        assert_eq!(refused.exit, Exit::CheckFailed);
        let words = words(&refused);
        assert!(words.contains("went on twice") && words.contains("ben@b") && words.contains("ann@a"), "{words}");
    }
}

/// Who cannot be told may be at it: nothing is begun, and the next try is no other.
#[tokio::test]
async fn nobody_takes_over_who_cannot_tell() {
    let (shared, ann, ben) = (Shared::new().await, Host::new("ann@a"), Host::new("ben@b"));
    let mut journal = ann.create(&shared);
    journal.append(None, begun()).await.unwrap();
    journal.append(None, started("one")).await.unwrap();
    journal.close().await;
    let mut opened = ben.open(&shared, true).await.unwrap();
    shared.faults.add(Rule::on(Operation::Put, Fault::FailBefore).and_ever_after());
    let refused = opened.journal.append(None, Event::Resumed).await.unwrap_err();
    assert!(refused.contains("nothing was begun") && refused.contains("line 3"), "{refused}");
    drop(opened);
    let again = ben.open(&shared, false).await.err().unwrap();
    assert_eq!(again.exit, Exit::Busy);
    assert!(words(&again).contains("ann@a wrote line 2"), "{}", words(&again));
    shared.goes_away();
    assert_eq!(ben.open(&shared, false).await.err().unwrap().exit, Exit::Busy);
    shared.faults.heal();
    let mut opened = ben.open(&shared, true).await.unwrap();
    opened.journal.append(None, Event::Resumed).await.unwrap();
    opened.journal.close().await;
    assert_eq!(ben.open(&shared, false).await.unwrap().lines.len(), 4, "it is ours now");
}
