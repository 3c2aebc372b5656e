//! How often somebody may ask. Keys are 256 random bits, so nobody guesses one: these bounds keep noise and work small.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};

use super::Refused;

/// So many keys are remembered before those with a full allowance are forgotten.
const KEYS: usize = 10_000;

/// How much is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowances {
    /// Requests a second of one caller.
    pub caller: NonZeroU32,
    /// Requests a second of an address that nobody is known behind: for the page to sign in at and its looks.
    pub stranger: NonZeroU32,
    /// Sign-ins a minute from one address that may fail.
    pub failures: NonZeroU32,
    /// Runs that one caller follows at the same time.
    pub followed: usize,
}

impl Default for Allowances {
    fn default() -> Allowances {
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Allowances { caller: number(50), stranger: number(20), failures: number(10), followed: 32 }
    }
}

type Limiter = DefaultKeyedRateLimiter<String>;

/// Counts requests.
pub(super) struct Limits {
    callers: Limiter,
    strangers: Limiter,
    failures: Limiter,
    followed: usize,
    followers: Tally,
}

/// Somebody follows a run as long as this lives.
#[derive(Debug)]
pub struct Following {
    _one: Tallied,
}

/// How many of something everybody has at the same time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<HashMap<String, usize>>>);

/// One of them, as long as this lives.
#[derive(Debug)]
pub(crate) struct Tallied {
    who: String,
    tally: Tally,
}

impl Tally {
    /// One more; none where somebody has as many as they may.
    pub(crate) fn one_more(&self, who: String, most: usize) -> Option<Tallied> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(who.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Tallied { who, tally: self.clone() })
    }
}

impl Limits {
    pub(super) fn new(allowances: Allowances) -> Limits {
        let second = |rate: NonZeroU32| {
            RateLimiter::keyed(
                Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::MIN.saturating_add(3))),
            )
        };
        Limits {
            callers: second(allowances.caller),
            strangers: second(allowances.stranger),
            failures: RateLimiter::keyed(Quota::per_minute(allowances.failures)),
            followed: allowances.followed,
            followers: Tally::default(),
        }
    }

    /// A known caller asks.
    pub(super) fn caller(&self, who: &str) -> Result<(), Refused> {
        take(&self.callers, who.to_owned())
    }

    /// Somebody unknown asks.
    pub(super) fn stranger(&self, address: IpAddr) -> Result<(), Refused> {
        take(&self.strangers, place(address))
    }

    /// Somebody sent a key that opens nothing.
    pub(super) fn failure(&self, address: IpAddr) -> Result<(), Refused> {
        take(&self.failures, place(address))
    }

    /// Somebody begins to follow a run.
    pub(super) fn follow(&self, who: &str) -> Result<Following, Refused> {
        let one = self.followers.one_more(who.to_owned(), self.followed);
        one.map(|one| Following { _one: one }).ok_or_else(|| Refused::too_many(Duration::from_secs(10)))
    }

    /// Forgets whoever has not asked for a while.
    pub(super) fn forget(&self) {
        for limiter in [&self.callers, &self.strangers, &self.failures] {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

impl Drop for Tallied {
    fn drop(&mut self) {
        let mut all = self.tally.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.who);
            }
        }
    }
}

fn take(limiter: &Limiter, key: String) -> Result<(), Refused> {
    if limiter.len() > KEYS {
        limiter.retain_recent();
    }
    limiter.check_key(&key).map_err(|until| Refused::too_many(until.wait_time_from(DefaultClock::default().now())))
}

/// Whoever has an IPv6 address has 2⁶⁴ of them.
pub(crate) fn place(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{}/64", Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_allowance() {
        let limits =
            Limits::new(Allowances { failures: NonZeroU32::new(3).unwrap(), followed: 2, ..Allowances::default() });
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let same: IpAddr = "2001:db8::2".parse().unwrap();
        let other: IpAddr = "192.0.2.1".parse().unwrap();
        for address in [one, same, one] {
            assert_eq!(limits.failure(address), Ok(()));
        }
        let refused = limits.failure(same).unwrap_err();
        assert_eq!(refused.status, axum::http::StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.retry_after.unwrap() >= Duration::from_secs(1));
        assert_eq!(limits.failure(other), Ok(()));

        let first = limits.follow("ann").unwrap();
        let _second = limits.follow("ann").unwrap();
        assert!(limits.follow("ann").is_err());
        assert!(limits.follow("bob").is_ok());
        drop(first);
        assert!(limits.follow("ann").is_ok());
    }
}
