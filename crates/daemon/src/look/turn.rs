//! Whose turn it is to be looked at: who was nudged, then whoever has waited longest. Spread evenly, so that a thousand
//! idle instances are one look a second and not a thousand at once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use lifeboat_model::id::{Instance, Tenant};
use sha2::{Digest as _, Sha256};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::facts;
use crate::{Daemon, policies::Policies, time::LONGEST};

/// Looks at the same time.
const AT_ONCE: usize = 4;
/// After a look that failed, or to which a server gave no answer, the next one comes so soon; later each time, until it is as rare as any.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// Runs and what people did are kept so long.
const KEPT: SignedDuration = SignedDuration::from_hours(400 * 24);
/// How often old things are forgotten.
const FORGET_EVERY: SignedDuration = SignedDuration::from_hours(6);

type One = (Tenant, Instance);

/// When who is next. What is done at each turn does not grow with the number of instances.
#[derive(Default)]
struct Plan {
    policies: Option<Arc<Policies>>,
    next: BTreeMap<One, Timestamp>,
    /// The same, soonest first, without those that are being looked at.
    order: BTreeSet<(Timestamp, One)>,
    failures: BTreeMap<One, u32>,
    at_it: BTreeSet<One>,
    forgot: Option<Timestamp>,
}

/// Looks until it is cancelled.
pub(super) async fn run(daemon: &Arc<Daemon>, cancel: &CancellationToken) {
    let mut plan = Plan::default();
    let mut looks: JoinSet<bool> = JoinSet::new();
    // Whose each look is: one that ends in the middle does not say so itself.
    let mut whose: HashMap<Id, One> = HashMap::new();
    loop {
        let now = daemon.now();
        plan.follow(daemon, now);
        for (one, nudged) in plan.take(daemon, now, AT_ONCE.saturating_sub(looks.len())) {
            let (daemon, looked_at) = (Arc::clone(daemon), one.clone());
            let look = looks.spawn(async move {
                let (tenant, instance) = &looked_at;
                let looked = match nudged {
                    true => facts::after_run(&daemon, tenant, instance).await,
                    false => facts::again(&daemon, tenant, instance).await,
                };
                if let Err(error) = &looked {
                    // Told as a trouble already, once and not at every look.
                    tracing::debug!(%tenant, %instance, error = crate::error::with_causes(error), "cannot look");
                }
                looked.unwrap_or(false)
            });
            whose.insert(look.id(), one);
        }
        if plan.is_time_to_forget(now) {
            forget(daemon, now).await;
        }
        tokio::select! {
            () = cancel.cancelled() => break,
            Some(done) = looks.join_next_with_id(), if !looks.is_empty() => {
                let (look, well) = done.unwrap_or_else(|error| {
                    tracing::error!(%error, "a look ended in the middle");
                    (error.id(), false)
                });
                if let Some(one) = whose.remove(&look) {
                    plan.looked(one, well, daemon.now(), every(daemon));
                }
            }
            () = daemon.looking.woken.notified(), if looks.len() < AT_ONCE => {}
            () = daemon.surroundings.time.sleep_until(plan.soonest(now)), if looks.len() < AT_ONCE => {}
        }
    }
    looks.shutdown().await;
}

fn every(daemon: &Daemon) -> SignedDuration {
    SignedDuration::try_from(daemon.policies().settings.look_every).unwrap_or(SignedDuration::from_mins(15))
}

async fn forget(daemon: &Daemon, now: Timestamp) {
    let oldest = now.saturating_sub(KEPT).unwrap_or_default();
    if let Err(error) = daemon.state.forget_before(oldest, now).await {
        tracing::warn!(%error, "what is old could not be forgotten");
    }
}

impl Plan {
    /// Takes in new instances, and drops those that are gone.
    fn follow(&mut self, daemon: &Daemon, now: Timestamp) {
        let policies = daemon.policies();
        if self.policies.as_ref().is_some_and(|known| Arc::ptr_eq(known, &policies)) {
            return;
        }
        let every = every(daemon);
        let mut next = BTreeMap::new();
        for (tenant, site) in &policies.sites {
            for instance in site.config.instances.keys() {
                let one = (tenant.clone(), instance.clone());
                let first = || match daemon.state.facts(tenant, instance) {
                    Some(facts) => later(facts.looked, every).max(later(now, share(tenant, instance, every / 4))),
                    None => now,
                };
                let at = self.next.get(&one).copied().unwrap_or_else(first);
                next.insert(one, at.min(later(now, every)));
            }
        }
        self.next = next;
        let waiting = self.next.iter().filter(|(one, _)| !self.at_it.contains(*one));
        self.order = waiting.map(|(one, at)| (*at, one.clone())).collect();
        self.failures.retain(|one, _| self.next.contains_key(one));
        self.policies = Some(policies);
    }

    /// Whose turn it is now; nobody twice at the same time.
    fn take(&mut self, daemon: &Daemon, now: Timestamp, room: usize) -> Vec<(One, bool)> {
        let mut taken = Vec::new();
        let wanted = &mut daemon.looking.wanted.lock().unwrap_or_else(PoisonError::into_inner).0;
        wanted.retain(|one| self.next.contains_key(one));
        while taken.len() < room {
            let Some(one) = wanted.iter().find(|one| !self.at_it.contains(*one)).cloned() else { break };
            wanted.remove(&one);
            if let Some(at) = self.next.get(&one) {
                self.order.remove(&(*at, one.clone()));
            }
            self.at_it.insert(one.clone());
            taken.push((one, true));
        }
        // A look that is later than any was planned by a clock that ran ahead.
        let latest = later(now, every(daemon));
        while self.order.last().is_some_and(|(at, _)| *at > latest) {
            let Some((_, one)) = self.order.pop_last() else { break };
            self.next.insert(one.clone(), latest);
            self.order.insert((latest, one));
        }
        while taken.len() < room && self.order.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, one)) = self.order.pop_first() else { break };
            self.at_it.insert(one.clone());
            taken.push((one, false));
        }
        taken
    }

    fn looked(&mut self, one: One, well: bool, now: Timestamp, every: SignedDuration) {
        self.at_it.remove(&one);
        let pause = if well {
            self.failures.remove(&one);
            every
        } else {
            let failures = self.failures.entry(one.clone()).or_default();
            *failures += 1;
            (FIRST_PAUSE * (1 << (*failures - 1).min(6))).min(every)
        };
        if let Some(next) = self.next.get_mut(&one) {
            *next = later(now, pause);
            self.order.insert((*next, one));
        }
    }

    /// When somebody is next.
    fn soonest(&self, now: Timestamp) -> Timestamp {
        let longest = later(now, SignedDuration::try_from(LONGEST).unwrap_or_default());
        self.order.first().map_or(longest, |(at, _)| (*at).clamp(later(now, LEAST), longest.max(later(now, LEAST))))
    }

    fn is_time_to_forget(&mut self, now: Timestamp) -> bool {
        let is_time = self.forgot.is_none_or(|then| then > now || now.duration_since(then) >= FORGET_EVERY);
        if is_time {
            self.forgot = Some(now);
        }
        is_time
    }
}

/// No shorter wait: a clock that stands still must not make this spin.
const LEAST: SignedDuration = SignedDuration::from_millis(100);

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(time)
}

/// A part of a span, the same for an instance each time.
fn share(tenant: &Tenant, instance: &Instance, span: SignedDuration) -> SignedDuration {
    let digest = Sha256::digest(format!("{tenant}/{instance}"));
    let drawn = u16::from_be_bytes([digest[0], digest[1]]);
    let span = Duration::try_from(span).unwrap_or_default();
    SignedDuration::try_from(span.mul_f64(f64::from(drawn) / 65_536.0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn a_clock_that_ran_ahead_and_was_put_right_delays_no_look() {
        let folder = tempfile::tempdir().unwrap();
        let daemon = testing::daemon(folder.path(), Arc::new(|| {}));
        let (now, every) = (daemon.now(), every(&daemon));
        let far = later(now, SignedDuration::from_hours(10 * 24));
        let mut plan = Plan::default();
        plan.follow(&daemon, far);
        let (one, _) = plan.take(&daemon, far, 1).remove(0);
        plan.looked(one, true, far, every);
        assert!(plan.is_time_to_forget(far));
        assert!(plan.take(&daemon, now, 1).is_empty(), "it was looked at");
        assert_eq!(plan.take(&daemon, later(now, every), 1).len(), 1);
        assert!(plan.is_time_to_forget(now) && !plan.is_time_to_forget(now));
    }
}
