//! The decision about every point, and the end of one that is being made.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use super::{Decision, LockPolicy, PointFacts, Reason, RetentionPolicy, earlier, later, period::Period};
use crate::id::PointId;

/// Reasons of one point.
type Reasons = Vec<(Reason, Option<Timestamp>)>;

/// Decides about every point, in the order of `points`. Points that nobody trusted has signed are not among them.
pub fn decide(
    policy: Option<&RetentionPolicy>,
    lock: Option<&LockPolicy>,
    points: &[PointFacts],
    now: Timestamp,
) -> Vec<Decision> {
    let mut reasons: BTreeMap<PointId, Reasons> = points.iter().map(|point| (point.id, Vec::new())).collect();
    for late in [false, true] {
        let mut sorted = by_time(points);
        sorted.retain(|point| point.is_late() == late);
        newest(&sorted, &mut reasons);
        match policy {
            Some(policy) => by_policy(policy, &sorted, now, &mut reasons),
            None => add(&mut reasons, Reason::NoPolicy, sorted.iter().copied()),
        }
        add(&mut reasons, Reason::Held, sorted.iter().copied().filter(|point| point.held));
    }
    points.iter().map(|point| decision(point.id, &reasons[&point.id], lock, now)).collect()
}

/// The end that a point finished at `time` will have; none without a lock policy. `earlier` are the points before it.
pub fn end_of_new(
    policy: Option<&RetentionPolicy>,
    lock: Option<&LockPolicy>,
    earlier: &[PointFacts],
    time: Timestamp,
) -> Option<Timestamp> {
    let lock = lock?;
    let least = later(time, lock.minimum.0).max(lock.renewed(time));
    let Some(policy) = policy else { return Some(least) };
    let backups: Vec<&PointFacts> = earlier.iter().filter(|point| !point.dump && !point.is_late()).collect();
    let first_of = |period: Period| {
        let start = period.start(time, policy.time_zone.rules());
        // What is said to be later makes this the first of its period all the same: the order is that of `decide`.
        !backups.iter().any(|point| point.time < time && point.time >= start)
    };
    let classes = Period::ALL.into_iter().filter(|period| policy.count(*period) > 0 && first_of(*period));
    let ends = classes.map(|period| period.end(time, policy.count(period), policy.time_zone.rules()));
    let window = policy.pitr.map(|pitr| beyond_window(later(time, pitr.0), lock));
    Some(ends.chain(window).fold(least, Timestamp::max))
}

/// The point that restores to the beginning of the PITR window start from: the newest backup before it, else the oldest
/// within. Without a window, the newest backup. WAL before it is needed by no moment that policy promises. Of points that
/// came late and of all others there is one each: the older, as genuine points may have been written anew.
pub fn pitr_base(policy: &RetentionPolicy, points: &[PointFacts], now: Timestamp) -> Option<PointId> {
    let bases = [false, true].into_iter().filter_map(|late| {
        let mut backups = by_time(points);
        backups.retain(|point| !point.dump && point.is_late() == late);
        let Some(pitr) = policy.pitr else { return backups.last().copied() };
        let begin = earlier(now, pitr.0);
        let before = backups.iter().rev().find(|point| point.time <= begin);
        before.or(backups.first()).copied()
    });
    bases.min_by_key(|point| (point.time, point.id)).map(|point| point.id)
}

fn by_time(points: &[PointFacts]) -> Vec<&PointFacts> {
    let mut sorted: Vec<&PointFacts> = points.iter().collect();
    sorted.sort_by_key(|point| (point.time, point.id));
    sorted
}

fn add<'p>(all: &mut BTreeMap<PointId, Reasons>, reason: Reason, points: impl Iterator<Item = &'p PointFacts>) {
    for point in points {
        all.entry(point.id).or_default().push((reason, None));
    }
}

/// Of each kind one: neither a backup nor a dump can stand for the other.
fn newest(sorted: &[&PointFacts], all: &mut BTreeMap<PointId, Reasons>) {
    for dump in [false, true] {
        add(all, Reason::Newest, sorted.iter().copied().rev().find(|point| point.dump == dump).into_iter());
    }
}

fn by_policy(policy: &RetentionPolicy, sorted: &[&PointFacts], now: Timestamp, all: &mut BTreeMap<PointId, Reasons>) {
    for dump in [false, true] {
        let last = sorted.iter().copied().rev().filter(|point| point.dump == dump).take(policy.last as usize);
        add(all, Reason::Last, last);
    }
    let backups: Vec<&PointFacts> = sorted.iter().copied().filter(|point| !point.dump).collect();
    for period in Period::ALL {
        firsts(policy, period, &backups, now, all);
    }
    window(policy, &backups, now, all);
    let drilled = backups.iter().copied().filter(|point| point.passed.is_some());
    add(all, Reason::Drilled, drilled.clone().rev().take(policy.drilled as usize));
    add(all, Reason::LastPassed, drilled.max_by_key(|point| (point.passed, point.time, point.id)).into_iter());
}

/// The first point of each period, until the period is so many periods ago.
fn firsts(
    policy: &RetentionPolicy,
    period: Period,
    backups: &[&PointFacts],
    now: Timestamp,
    all: &mut BTreeMap<PointId, Reasons>,
) {
    let (count, zone) = (policy.count(period), policy.time_zone.rules());
    if count == 0 {
        return;
    }
    let mut seen = HashSet::new();
    // What the store received first was there first, whatever time a later one tells.
    let mut backups = backups.to_vec();
    backups.sort_by_key(|point| (point.received.unwrap_or(point.time), point.time, point.id));
    for point in backups {
        let end = period.end(point.time, count, zone);
        if seen.insert(period.start(point.time, zone)) && end > now {
            all.entry(point.id).or_default().push((period.reason(), Some(end)));
        }
    }
}

fn window(policy: &RetentionPolicy, backups: &[&PointFacts], now: Timestamp, all: &mut BTreeMap<PointId, Reasons>) {
    let Some(pitr) = policy.pitr else { return };
    let begin = earlier(now, pitr.0);
    for point in backups.iter().filter(|point| point.time > begin) {
        all.entry(point.id).or_default().push((Reason::Pitr, Some(later(point.time, pitr.0))));
    }
    add(all, Reason::PitrBase, backups.iter().copied().rev().find(|point| point.time <= begin).into_iter());
}

/// A point that leaves the PITR window becomes the base of it, an open reason, at that very moment. Its lock must last
/// until the next renewal.
fn beyond_window(end: Timestamp, lock: &LockPolicy) -> Timestamp {
    later(end, lock.minimum.0 / 2)
}

fn decision(id: PointId, reasons: &Reasons, lock: Option<&LockPolicy>, now: Timestamp) -> Decision {
    let open = reasons.iter().any(|(_, until)| until.is_none());
    let locked = |(reason, until): &(Reason, Option<Timestamp>)| match (reason, lock) {
        (Reason::Pitr, Some(lock)) => until.map(|until| beyond_window(until, lock)),
        _ => *until,
    };
    let closed = reasons.iter().filter_map(locked).max();
    let past = Timestamp::UNIX_EPOCH;
    let with = |renewal: Option<Timestamp>| match (open, closed) {
        (true, closed) => closed.into_iter().chain(renewal).fold(now, Timestamp::max),
        (false, closed) => closed.unwrap_or(past),
    };
    let end = with(lock.map(|lock| lock.renewed(now)));
    let demanded = with(lock.map(|lock| lock.demanded(now)));
    Decision { id, keep: !reasons.is_empty(), reasons: reasons.clone(), end, demanded }
}

impl RetentionPolicy {
    fn count(&self, period: Period) -> u32 {
        match period {
            Period::Hour => self.hourly,
            Period::Day => self.daily,
            Period::Week => self.weekly,
            Period::Month => self.monthly,
            Period::Year => self.yearly,
        }
    }
}
