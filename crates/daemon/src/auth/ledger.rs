//! What was done and refused in a tenant goes into that tenant's ledger: acts within seconds, refusals summed up every hour,
//! because whoever tries thousands of times must not fill it. What belongs to no tenant is in the log of activity alone.
//!
//! Acts are owed by the state, which knows them also after a stop or a `kill -9`: one that was just being entered may be entered
//! twice then, and none is left out. Refusals are in memory until they are entered.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::record;
use lifeboat_evidence::{
    Act,
    act::{Access, AccessAct, AccessRefusal},
};
use lifeboat_model::{check::Outcome, id::Tenant};
use tokio::time::timeout;

use super::Deed;
use crate::{Result, daemon::Daemon, error::with_causes, view::ActivityView};

/// Refusals are summed up for so long.
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// The longest that a tenant's repository may take. The statement lies there before its entry does: whoever is cut off between
/// them signs the same acts again the next time. So it is longer than any entry takes that goes on.
const PATIENCE: Duration = Duration::from_secs(300);
/// So many repositories are written to at the same time.
const AT_ONCE: usize = 16;
/// So many acts may wait for a state that cannot be written.
const WAITING: usize = 1000;

/// What is not in the ledgers yet. Part of [`Daemon`].
#[derive(Default)]
pub struct Book {
    pages: Mutex<BTreeMap<Tenant, Page>>,
    /// Acts that the state could not keep.
    unkept: Mutex<VecDeque<ActivityView>>,
}

/// Refusals in a tenant.
#[derive(Default)]
struct Page {
    refusals: HashMap<(String, String, String), AccessRefusal>,
    unlisted: u64,
    since: Option<Timestamp>,
}

/// What is about to be entered. It goes back into the book unless it was [`kept`](Taken::kept), also when whoever has it is
/// dropped.
struct Taken<'a> {
    book: &'a Book,
    tenant: &'a Tenant,
    refused: Access,
}

impl Taken<'_> {
    fn kept(mut self) {
        self.refused = Access::default();
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.refused.refusals.is_empty() {
            self.book.put_back(self.tenant, std::mem::take(&mut self.refused));
        }
    }
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, BTreeMap<Tenant, Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unkept(&self) -> MutexGuard<'_, VecDeque<ActivityView>> {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state is asked again to keep this act.
    pub(super) fn keep_later(&self, act: ActivityView) {
        let mut unkept = self.unkept();
        if act.allowed && unkept.len() < WAITING {
            unkept.push_back(act);
        }
    }

    /// Notes what somebody was refused.
    pub(super) fn note(&self, deed: &Deed, at: Timestamp) {
        let Some(tenant) = &deed.tenant else { return };
        let mut pages = self.pages();
        let page = pages.entry(tenant.clone()).or_default();
        page.since.get_or_insert(at);
        let why = deed.detail.clone().unwrap_or_default();
        let key = (deed.who.clone(), deed.act.clone(), why.clone());
        if let Some(known) = page.refusals.get_mut(&key) {
            known.count += 1;
            known.last = at;
        } else if page.refusals.len() >= Access::LISTED {
            page.unlisted += 1;
        } else {
            let (who, act) = (Some(deed.who.clone()), deed.act.clone());
            page.refusals.insert(key, AccessRefusal { who, act, why, count: 1, first: at, last: at });
        }
    }

    /// The refusals that are ripe for the ledger, if any: after an hour; with `all`, at once.
    fn take<'a>(&'a self, tenant: &'a Tenant, now: Timestamp, all: bool) -> Taken<'a> {
        let mut pages = self.pages();
        let is_ripe = |since| all || now.duration_since(since) >= HOUR;
        let mut refused = Access::default();
        if pages.get(tenant).is_some_and(|page| page.since.is_some_and(is_ripe))
            && let Some(page) = pages.remove(tenant)
        {
            refused.refusals = page.refusals.into_values().collect();
            refused.refusals.sort_by(|a, b| (a.first, &a.who, &a.act).cmp(&(b.first, &b.who, &b.act)));
            refused.unlisted = page.unlisted;
        }
        Taken { book: self, tenant, refused }
    }

    /// They could not be kept: they wait again.
    fn put_back(&self, tenant: &Tenant, access: Access) {
        let mut pages = self.pages();
        let page = pages.entry(tenant.clone()).or_default();
        page.unlisted += access.unlisted;
        for refusal in access.refusals {
            let full = page.refusals.len() >= Access::LISTED;
            page.since = Some(page.since.map_or(refusal.first, |since| since.min(refusal.first)));
            let key = (refusal.who.clone().unwrap_or_default(), refusal.act.clone(), refusal.why.clone());
            match page.refusals.get_mut(&key) {
                Some(newer) => {
                    newer.count += refusal.count;
                    newer.first = refusal.first;
                }
                None if full => page.unlisted += refusal.count,
                None => drop(page.refusals.insert(key, refusal)),
            }
        }
    }

    /// Enters what is ripe into the ledgers. A repository that cannot be reached is tried again the next time, and keeps no
    /// other waiting.
    pub(super) async fn enter(&self, daemon: &Daemon, all: bool) {
        self.keep_again(daemon).await;
        let policies = daemon.policies();
        let enter = |tenant| async move {
            let why = match timeout(PATIENCE, self.enter_of(daemon, tenant, all)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => with_causes(&error),
                Err(_) => format!("its repository did not take it within {} s", PATIENCE.as_secs()),
            };
            tracing::warn!(%tenant, "what was done is not in the ledger yet: {why}");
        };
        stream::iter(policies.sites.keys()).for_each_concurrent(AT_ONCE, enter).await;
    }

    async fn enter_of(&self, daemon: &Daemon, tenant: &Tenant, all: bool) -> Result<()> {
        let owed = daemon.state.owed(tenant, Access::LISTED).await?;
        let taken = self.take(tenant, daemon.now(), all);
        let last = owed.last().map(|(number, _)| *number);
        if last.is_none() && taken.refused.refusals.is_empty() {
            return Ok(());
        }
        let acts = owed.into_iter().map(|(_, done)| {
            let ActivityView { at, who, act, target, detail, .. } = done;
            AccessAct { at, who, act, target, detail }
        });
        let access = Access { acts: acts.collect(), ..taken.refused.clone() };
        let context = daemon.context(tenant).await?;
        record::keep_act(&context, None, daemon.now(), Outcome::Passed, Act::Access(access)).await?;
        taken.kept();
        match last {
            Some(last) => daemon.state.entered(tenant, last).await,
            None => Ok(()),
        }
    }

    async fn keep_again(&self, daemon: &Daemon) {
        loop {
            let Some(act) = self.unkept().front().cloned() else { return };
            if daemon.state.activity(&act).await.is_err() {
                return;
            }
            self.unkept().pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> Tenant {
        "north".parse().unwrap()
    }

    fn refusal(number: usize) -> Deed {
        let act = format!("act {number}");
        Deed { tenant: Some(tenant()), who: "ann".to_owned(), act, target: None, allowed: false, detail: None }
    }

    #[test]
    fn refusals_go_after_an_hour_as_one() {
        let (book, north) = (Book::default(), tenant());
        let start: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        for _ in 0..50 {
            book.note(&refusal(1), start);
        }
        let count = |at, all| book.take(&north, at, all).refused.refusals.first().map(|refusal| refusal.count);
        assert_eq!(count(start, false), None);
        assert_eq!(count(start + HOUR, false), Some(50));
        book.note(&refusal(1), start + HOUR);
        assert_eq!(count(start + HOUR, false), Some(51), "what was taken and not kept goes back");
        book.take(&north, start + HOUR, true).kept();
        assert_eq!(count(start + HOUR + HOUR, true), None, "everything once");
    }

    #[test]
    fn a_flood_stays_bounded_and_is_counted() {
        let (book, north) = (Book::default(), tenant());
        let start: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        for number in 0..3 * Access::LISTED {
            book.note(&refusal(number), start);
        }
        drop(book.take(&north, start, true));
        let taken = book.take(&north, start, true);
        assert_eq!(taken.refused.refusals.len(), Access::LISTED);
        assert_eq!(taken.refused.unlisted, 2 * Access::LISTED as u64);
    }
}
