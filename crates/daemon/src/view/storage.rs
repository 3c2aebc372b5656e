//! What is stored, and what becomes of it.

use jiff::{Timestamp, ToSpan as _, civil, tz::TimeZone};
use lifeboat_model::price::Price;

use super::{CostView, LockEnd, Size, StorageLine, StorageView};
use crate::{
    Result,
    daemon::{Daemon, Scope},
};

/// Sizes that are shown, one a day.
const SIZES: u32 = 400;

/// What is stored for each tenant that may be seen. From facts: nothing is asked.
pub async fn storage(daemon: &Daemon, scope: &Scope) -> Result<Vec<StorageView>> {
    let policies = daemon.policies();
    let now = daemon.now();
    let mut views = Vec::new();
    for (tenant, site) in policies.sites.iter().filter(|(tenant, _)| scope.has(tenant)) {
        let facts = daemon.state.all_facts(tenant);
        let configured = |name: &str| name.parse().is_ok_and(|name| site.config.instances.contains_key(&name));
        let growth = daemon.state.growth(tenant, SIZES).await?;
        let growth: Vec<Size> = growth.into_iter().map(|(at, bytes)| Size { at, bytes }).collect();
        let price = site.config.price.as_ref();
        let mut locks_ending: Vec<LockEnd> = facts
            .iter()
            .filter_map(|facts| {
                let until = facts.locks.newest_until?;
                let cost = price.map(|price| price.amount * gib(facts.storage.bytes) * months(now, until));
                Some(LockEnd { instance: facts.instance.clone(), until, cost })
            })
            .collect();
        locks_ending.sort_by(|a, b| (a.until, &a.instance).cmp(&(b.until, &b.instance)));
        views.push(StorageView {
            tenant: tenant.to_string(),
            place: daemon.looking.place(tenant, &site.config),
            instances: facts
                .iter()
                .filter(|facts| configured(&facts.instance))
                .map(|facts| StorageLine {
                    instance: facts.instance.clone(),
                    objects: facts.storage.objects,
                    bytes: facts.storage.bytes,
                    wal_bytes: facts.storage.wal_bytes,
                })
                .collect(),
            cost: price.map(|price| cost(price, &growth, &locks_ending, now)),
            growth,
            locks_ending,
        });
    }
    Ok(views)
}

/// Of an average month.
const SECONDS: f64 = 365.25 / 12.0 * 86_400.0;

fn gib(bytes: u64) -> f64 {
    bytes as f64 / 1_073_741_824.0
}

/// None for what has passed.
fn months(from: Timestamp, until: Timestamp) -> f64 {
    (until.duration_since(from).as_secs_f64() / SECONDS).max(0.0)
}

fn cost(price: &Price, growth: &[Size], locks: &[LockEnd], now: Timestamp) -> CostView {
    CostView {
        price: price.amount,
        currency: price.currency.clone(),
        this_month: this_month(growth, now).map(|gib_months| price.amount * gib_months),
        committed: locks.iter().filter_map(|lock| lock.cost).sum(),
    }
}

/// GiB that are kept over the calendar month of `now`: each size until the next is known, the first for what was before, the
/// last until the end.
fn this_month(growth: &[Size], now: Timestamp) -> Option<f64> {
    let first: civil::Date = now.to_zoned(TimeZone::UTC).date().first_of_month();
    let begin = |date: civil::Date| Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp());
    let (start, end) = (begin(first)?, begin(first.checked_add(1.month()).ok()?)?);
    let known = growth.partition_point(|size| size.at <= start).saturating_sub(1);
    let sizes = &growth[known..];
    let mut kept = 0.0;
    for (place, size) in sizes.iter().enumerate() {
        let from = if place == 0 { start } else { size.at.clamp(start, end) };
        let until = sizes.get(place + 1).map_or(end, |next| next.at.clamp(start, end));
        kept += gib(size.bytes) * until.duration_since(from).as_secs_f64();
    }
    (!sizes.is_empty()).then(|| kept / end.duration_since(start).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(at: &str, gib: u64) -> Size {
        Size { at: format!("{at}T00:00:00Z").parse().unwrap(), bytes: gib << 30 }
    }

    #[test]
    fn a_month_costs_what_is_kept_in_it() {
        let now: Timestamp = "2026-04-21T00:00:00Z".parse().unwrap();
        let of = |sizes: &[Size]| this_month(sizes, now).map(|gib| (gib * 100.0).round() / 100.0);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[size("2026-04-16", 10)]), Some(10.0), "the first stands for what was before");
        assert_eq!(
            of(&[size("2025-01-01", 700), size("2026-03-25", 10)]),
            Some(10.0),
            "what was before does not count"
        );
        // Half of the month 10, then 30 until its end.
        assert_eq!(of(&[size("2026-03-31", 10), size("2026-04-16", 30)]), Some(20.0));
        // A third each.
        assert_eq!(of(&[size("2026-04-01", 0), size("2026-04-11", 30), size("2026-04-21", 60)]), Some(30.0));
    }

    #[test]
    fn locks_commit_to_what_is_locked() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let price: Price = "0.5 EUR".parse().unwrap();
        let until: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
        let lock = |instance: &str, gib: f64, until| {
            let cost = Some(price.amount * gib * months(now, until));
            LockEnd { instance: instance.into(), until, cost }
        };
        let past: Timestamp = "2025-12-31T00:00:00Z".parse().unwrap();
        let found = cost(&price, &[size("2025-12-31", 8)], &[lock("clinic", 8.0, until), lock("old", 9.0, past)], now);
        assert_eq!(found.this_month, Some(4.0));
        assert!((found.committed - 48.0).abs() < 0.1, "eight for a year, what has ended for none: {}", found.committed);
    }
}
