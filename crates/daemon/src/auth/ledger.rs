//! What was done and refused in a tenant goes into that tenant's ledger: acts within seconds, refusals summed up every hour,
//! because whoever tries thousands of times must not fill it. What belongs to no tenant is in the log of activity alone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::record;
use lifeboat_evidence::{
    Act,
    act::{Access, AccessAct, AccessRefusal},
};
use lifeboat_model::{check::Outcome, id::Tenant};

use super::Deed;
use crate::{daemon::Daemon, error::with_causes};

/// Refusals are summed up for so long.
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// So many acts of a tenant may wait for a repository that cannot be reached.
const WAITING: usize = 10 * Access::LISTED;

/// What is not in the ledgers yet. Part of [`Daemon`].
#[derive(Default)]
pub struct Book(Mutex<BTreeMap<Tenant, Page>>);

#[derive(Default)]
struct Page {
    acts: Vec<AccessAct>,
    refusals: HashMap<(String, String, String), AccessRefusal>,
    unlisted: u64,
    since: Option<Timestamp>,
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, BTreeMap<Tenant, Page>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what somebody did, or was refused.
    pub(super) fn note(&self, deed: &Deed, at: Timestamp) {
        let Some(tenant) = &deed.tenant else { return };
        let mut pages = self.pages();
        let page = pages.entry(tenant.clone()).or_default();
        if deed.allowed {
            if page.acts.len() >= WAITING {
                tracing::warn!(%tenant, "an act is in the log of activity and will not be in the ledger: too many wait for it");
                return;
            }
            page.acts.push(AccessAct {
                at,
                who: deed.who.clone(),
                act: deed.act.clone(),
                target: deed.target.clone(),
                detail: deed.detail.clone(),
            });
            return;
        }
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

    /// What is ripe for the ledger: acts at once, refusals after an hour; with `all`, everything.
    fn ripe(&self, now: Timestamp, all: bool) -> Vec<(Tenant, Access)> {
        let mut ripe = Vec::new();
        let mut pages = self.pages();
        for (tenant, page) in pages.iter_mut() {
            let over = all || page.since.is_some_and(|since| now.duration_since(since) >= HOUR);
            if page.acts.is_empty() && !(over && page.since.is_some()) {
                continue;
            }
            let listed = page.acts.len().min(Access::LISTED);
            let mut access = Access { acts: page.acts.drain(..listed).collect(), ..Access::default() };
            if over {
                access.refusals = std::mem::take(&mut page.refusals).into_values().collect();
                access.refusals.sort_by(|a, b| (a.first, &a.who, &a.act).cmp(&(b.first, &b.who, &b.act)));
                access.unlisted = std::mem::take(&mut page.unlisted);
                page.since = None;
            }
            ripe.push((tenant.clone(), access));
        }
        pages.retain(|_, page| !page.acts.is_empty() || page.since.is_some());
        ripe
    }

    /// It could not be kept: it waits again, in front.
    fn put_back(&self, tenant: Tenant, access: Access) {
        let mut pages = self.pages();
        let page = pages.entry(tenant).or_default();
        page.acts.splice(..0, access.acts);
        page.acts.truncate(WAITING);
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

    /// Enters what is ripe into the ledgers. A repository that cannot be reached is tried again the next time.
    pub(super) async fn enter(&self, daemon: &Daemon, all: bool) {
        for (tenant, access) in self.ripe(daemon.now(), all) {
            let kept = async {
                let context = daemon.context(&tenant).await?;
                let act = Act::Access(access.clone());
                record::keep_act(&context, None, daemon.now(), Outcome::Passed, act).await?;
                Ok::<_, crate::Error>(())
            };
            if let Err(error) = kept.await {
                tracing::warn!(%tenant, "what was done is not in the ledger yet: {}", with_causes(&error));
                self.put_back(tenant, access);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(number: usize, allowed: bool) -> Deed {
        Deed {
            tenant: Some("north".parse().unwrap()),
            who: "ann".to_owned(),
            act: format!("act {number}"),
            target: None,
            allowed,
            detail: None,
        }
    }

    #[test]
    fn acts_go_at_once_and_refusals_after_an_hour_as_one() {
        let book = Book::default();
        let start: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        for _ in 0..50 {
            book.note(&deed(1, false), start);
        }
        assert!(book.ripe(start, false).is_empty());
        book.note(&deed(2, true), start);
        let ripe = book.ripe(start, false);
        assert_eq!((ripe.len(), ripe[0].1.acts.len(), ripe[0].1.refusals.len()), (1, 1, 0));
        book.put_back(ripe[0].0.clone(), ripe[0].1.clone());
        let ripe = book.ripe(start + HOUR, false);
        assert_eq!((ripe[0].1.acts.len(), ripe[0].1.refusals[0].count), (1, 50));
        book.put_back(ripe[0].0.clone(), ripe[0].1.clone());
        book.note(&deed(1, false), start + HOUR);
        assert_eq!(book.ripe(start + HOUR, true)[0].1.refusals[0].count, 51);
        assert!(book.ripe(start + HOUR + HOUR, true).is_empty(), "everything once");
    }

    #[test]
    fn a_flood_stays_bounded_and_is_counted() {
        let book = Book::default();
        let start: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        for number in 0..3 * Access::LISTED {
            book.note(&deed(number, false), start);
        }
        for number in 0..2 * WAITING {
            book.note(&deed(number, true), start);
        }
        let first = book.ripe(start, true).remove(0).1;
        assert_eq!((first.acts.len(), first.refusals.len()), (Access::LISTED, Access::LISTED));
        assert_eq!(first.unlisted, 2 * Access::LISTED as u64);
        let rest =
            std::iter::from_fn(|| book.ripe(start, true).pop()).map(|(_, access)| access.acts.len()).sum::<usize>();
        assert_eq!(rest, WAITING - Access::LISTED);
    }
}
