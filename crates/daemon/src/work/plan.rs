//! What is due: a pure function of policies, of what is recorded already, and of the time.
//!
//! Each schedule with a cron line has one line here for each of its instances. A line knows up to where all that was due is
//! recorded, and when it is due next, so that a thousand idle instances cost nothing between two dues.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use lifeboat_model::id::{Instance, Tenant};

use crate::{
    policies::Site,
    schedule::{Missed, Occurrence, Schedule, When},
};

/// A run that is later than this, although the daemon was at work, counts as one that nobody was there for: the machine slept.
pub(super) const LATE: SignedDuration = SignedDuration::from_mins(15);
/// So many missed runs of one line are recorded one by one; older ones are summed up in the oldest of them.
const ONE_BY_ONE: usize = 500;
/// How far ahead the next run is looked for.
const AHEAD: SignedDuration = SignedDuration::from_hours(24 * 366 * 5);
/// How far a blackout can hold a run back, as far as a restart looks for it.
const HELD_BACK: SignedDuration = SignedDuration::from_hours(24 * 8);

/// Whose runs may be due once a time: a schedule for one instance, or for the tenant as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub tenant: Tenant,
    pub schedule: String,
    pub instance: Option<Instance>,
}

/// What is recorded already.
pub(super) struct Recorded<'a> {
    /// Everything that was to be begun up to then is.
    pub until: Option<Timestamp>,
    /// The newest due of a key that became something.
    pub newest: &'a BTreeMap<Key, Timestamp>,
}

/// A schedule for one instance.
#[derive(Debug)]
struct Line {
    schedule: Arc<Schedule>,
    /// What was due up to then is recorded,
    cursor: Timestamp,
    /// and so is what was to be begun up to then.
    floor: Timestamp,
    next: Option<Timestamp>,
}

/// All that is due by cron lines.
#[derive(Debug, Default)]
pub(super) struct Plan {
    lines: BTreeMap<Key, Line>,
    wakes: BTreeSet<(Timestamp, Key)>,
}

/// What is due of one line, oldest first.
#[derive(Clone)]
pub(super) struct Dues {
    pub schedule: Arc<Schedule>,
    pub occurrences: Vec<Occurrence>,
    /// Older ones that are too many to be told one by one.
    pub untold: usize,
}

impl Plan {
    /// Brings the lines of a tenant in accord with its policies. Lines that stay as they are go on where they are, new ones
    /// and changed ones count from what is recorded: with nothing recorded, from now. Answers what was due of changed ones
    /// and is not settled: it was held back.
    pub fn renew(&mut self, tenant: &Tenant, site: &Site, recorded: &Recorded<'_>, now: Timestamp) -> Vec<(Key, Dues)> {
        let mut held = Vec::new();
        let mut wanted = BTreeSet::new();
        for schedule in site.schedules.iter().filter(|schedule| matches!(schedule.when, When::Cron(_))) {
            let mut shared = None;
            for instance in schedule.instances(&site.config) {
                let key = Key { tenant: tenant.clone(), schedule: schedule.name.clone(), instance };
                let shared = Arc::clone(shared.get_or_insert_with(|| Arc::new(schedule.clone())));
                match self.lines.get_mut(&key) {
                    Some(line) if is_due_alike(&line.schedule, schedule) => line.schedule = shared,
                    old => {
                        if let Some(line) = old {
                            let occurrences = line.held(&key, &shared, now);
                            held.push((key.clone(), Dues { schedule: Arc::clone(&shared), occurrences, untold: 0 }));
                        }
                        self.set(&key, Line::new(shared, &key, recorded, now));
                    }
                }
                wanted.insert(key);
            }
        }
        let gone: Vec<Key> = self.of(tenant).filter(|key| !wanted.contains(key)).cloned().collect();
        gone.iter().for_each(|key| self.remove(key));
        held
    }

    /// The clock ran ahead until now: nothing that is yet to come is settled.
    pub fn set_back(&mut self, now: Timestamp) {
        let all: Vec<Key> = self.lines.keys().cloned().collect();
        for key in all {
            let Some(Line { schedule, cursor, floor, .. }) = self.lines.get(&key) else { continue };
            let (schedule, cursor, floor) = (Arc::clone(schedule), now.min(*cursor), now.min(*floor));
            let next = first(&schedule, &key, cursor, floor, now);
            self.set(&key, Line { schedule, cursor, floor, next });
        }
    }

    /// Nothing of this tenant is due here any more.
    pub fn forget(&mut self, tenant: &Tenant) {
        let gone: Vec<Key> = self.of(tenant).cloned().collect();
        gone.iter().for_each(|key| self.remove(key));
    }

    /// The keys that something is due of.
    pub fn due(&self, now: Timestamp) -> Vec<Key> {
        self.wakes.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| key.clone()).collect()
    }

    /// Something of a tenant that is due, and not settled.
    pub fn due_of(&self, tenant: &Tenant, now: Timestamp) -> Option<&Key> {
        self.wakes.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| key).find(|key| key.tenant == *tenant)
    }

    /// What is due of a key. Asked again before [`settle`](Self::settle), the answer holds the same and what came since.
    pub fn dues(&self, key: &Key, now: Timestamp) -> Option<Dues> {
        let line = self.lines.get(key)?;
        let mut untold = 0;
        let mut occurrences = std::collections::VecDeque::new();
        let due = line.schedule.due(key.instance.as_ref(), line.cursor, now);
        for occurrence in due.take_while(|occurrence| occurrence.at <= now).filter(|found| found.at > line.floor) {
            if occurrences.len() > ONE_BY_ONE {
                occurrences.pop_front();
                untold += 1;
            }
            occurrences.push_back(occurrence);
        }
        Some(Dues { schedule: Arc::clone(&line.schedule), occurrences: occurrences.into(), untold })
    }

    /// All that was due of a key, up to and with this, is recorded.
    pub fn settle(&mut self, key: &Key, dues: &Dues, now: Timestamp) {
        let Some(line) = self.lines.remove(key) else { return };
        if let Some(next) = line.next {
            self.wakes.remove(&(next, key.clone()));
        }
        let cursor = dues.occurrences.last().map_or(line.cursor, |last| last.due.max(line.cursor));
        let next = first(&line.schedule, key, cursor, line.floor, now);
        self.set(key, Line { cursor, next, ..line });
    }

    /// When something is due next.
    pub fn next(&self, but: &BTreeSet<Key>) -> Option<Timestamp> {
        self.wakes.iter().find(|(_, key)| !but.contains(key)).map(|(at, _)| *at)
    }

    fn of(&self, tenant: &Tenant) -> impl Iterator<Item = &Key> {
        let first = Key { tenant: tenant.clone(), schedule: String::new(), instance: None };
        self.lines.range(first..).map(|(key, _)| key).take_while(move |key| key.tenant == *tenant)
    }

    fn set(&mut self, key: &Key, line: Line) {
        self.remove(key);
        if let Some(next) = line.next {
            self.wakes.insert((next, key.clone()));
        }
        self.lines.insert(key.clone(), line);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(next) = self.lines.remove(key).and_then(|line| line.next) {
            self.wakes.remove(&(next, key.clone()));
        }
    }
}

impl Line {
    fn new(schedule: Arc<Schedule>, key: &Key, recorded: &Recorded<'_>, now: Timestamp) -> Line {
        let newest = recorded.newest.get(key).copied();
        let (cursor, floor) = match (recorded.until, newest) {
            (None, None) => (now, Timestamp::MIN),
            (None, Some(newest)) => (newest, Timestamp::MIN),
            (Some(until), newest) => {
                let held = if schedule.blackouts.is_empty() { SignedDuration::ZERO } else { HELD_BACK };
                let jitter = SignedDuration::try_from(schedule.jitter.0).unwrap_or(SignedDuration::ZERO);
                let from = until.saturating_sub(held).and_then(|from| from.saturating_sub(jitter)).unwrap_or(until);
                (newest.map_or(from, |newest| newest.max(from)), until)
            }
        };
        let next = first(&schedule, key, cursor, floor, now);
        Line { schedule, cursor, floor, next }
    }

    /// What was due and is not settled. It is begun at its place in the jitter, outside of the blackouts that there are now.
    fn held(&self, key: &Key, changed: &Schedule, now: Timestamp) -> Vec<Occurrence> {
        let bare = Schedule { blackouts: Vec::new(), ..Schedule::clone(&self.schedule) };
        let due = bare.due(key.instance.as_ref(), self.cursor, now);
        let held = due.filter(|it| self.schedule.begin(it.at) > self.floor);
        held.map(|it| Occurrence { at: changed.begin(it.at.max(now)), ..it }).collect()
    }
}

/// Whether both are due at the same times. What else they say may differ.
fn is_due_alike(one: &Schedule, other: &Schedule) -> bool {
    let times = |it: &Schedule| (it.when.clone(), it.time_zone.clone(), it.jitter, it.blackouts.clone());
    times(one) == times(other)
}

/// When the first run behind cursor and floor is to be begun.
fn first(schedule: &Schedule, key: &Key, cursor: Timestamp, floor: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let until = now.saturating_add(AHEAD).unwrap_or(Timestamp::MAX);
    schedule.due(key.instance.as_ref(), cursor, until).map(|next| next.at).find(|at| *at > floor)
}

/// What becomes of a run that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is begun, not before its `at`.
    Queue,
    /// It is not, for this reason.
    Miss(String),
}

/// The run of the same key that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// It goes on.
    Runs,
    /// It waits in the queue.
    Waits,
}

/// What becomes of each run that is due, oldest first. `since`: since when the daemon has been at work for the tenant.
///
/// A key has at most one run that is not over: while it goes on or waits, the next one that is due is not queued behind it but
/// reported as missed. A queue that grows while something takes too long would only hide it.
pub(super) fn decide(
    dues: &Dues,
    since: Timestamp,
    now: Timestamp,
    before: Option<Before>,
) -> Vec<(Occurrence, Verdict)> {
    let Some((newest, older)) = dues.occurrences.split_last() else { return Vec::new() };
    let miss = |all: &[Occurrence], why: &str| -> Vec<(Occurrence, Verdict)> {
        all.iter().map(|occurrence| (*occurrence, Verdict::Miss(why.to_owned()))).collect()
    };
    let mut decided = match before {
        Some(Before::Runs) => miss(&dues.occurrences, "the run before it is still going on"),
        Some(Before::Waits) => miss(&dues.occurrences, "the run before it still waits to be begun"),
        None if newest.at >= since && now.duration_since(newest.at) <= LATE => {
            let mut decided = miss(older, &format!("the run due {} stands for it", newest.due));
            decided.push((*newest, Verdict::Queue));
            decided
        }
        None => {
            let (done, missed) = dues.schedule.catch_up(&dues.occurrences, now);
            let mut decided: Vec<_> = missed.into_iter().map(|(due, why)| (due, Verdict::Miss(why))).collect();
            decided.extend(done.map(|occurrence| (occurrence, Verdict::Queue)));
            decided
        }
    };
    if let (true, Some((_, Verdict::Miss(why)))) = (dues.untold > 0, decided.first_mut()) {
        why.push_str(&format!("; so were {} before it", dues.untold));
    }
    decided
}

/// Whether a run that was due, and was queued or begun, is still to be done after the daemon was away.
///
/// # Errors
/// Why it is not.
pub(super) fn still_wanted(
    schedule: &Schedule,
    due: Timestamp,
    there_until: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), String> {
    let away = there_until.map_or(SignedDuration::ZERO, |until| now.duration_since(until));
    if away <= LATE {
        return Ok(()); // a restart, not a failure of the machine
    }
    match schedule.missed {
        Missed::Once(within) => {
            let late = now.duration_since(due).unsigned_abs();
            if late <= within.0 {
                Ok(())
            } else {
                Err(format!("nobody was at work, and it is caught up within {within} only"))
            }
        }
        Missed::Skip => Err("nobody was at work, and the schedule says to skip it then".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policies, testing::CONFIG};

    fn site(schedules: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let config_file = folder.path().join("lifeboat.toml");
        std::fs::write(&config_file, CONFIG).unwrap();
        std::fs::create_dir(folder.path().join("schedules")).unwrap();
        std::fs::write(folder.path().join("schedules/gold.toml"), schedules).unwrap();
        let read = policies::read(&crate::Sources { settings: None, config: Some(config_file) }).unwrap();
        Site::clone(read.sites.values().next().unwrap())
    }

    fn hourly(more: &str) -> Site {
        site(&format!(
            "[schedule.hourly]\ndo = \"backup\"\ntiers = [\"gold\"]\ncron = \"0 * * * *\"\ntime_zone = \"UTC\"\n{more}"
        ))
    }

    fn at(text: &str) -> Timestamp {
        format!("2026-05-04T{text}:00Z").parse().unwrap()
    }

    fn tenant() -> Tenant {
        "acme".parse().unwrap()
    }

    fn key() -> Key {
        Key { tenant: tenant(), schedule: "hourly".to_owned(), instance: Some("clinic".parse().unwrap()) }
    }

    /// What becomes of everything that is due, in short.
    fn decided(plan: &Plan, since: &str, now: &str, before: Option<Before>) -> Vec<String> {
        let dues = plan.dues(&key(), at(now)).unwrap();
        let all = decide(&dues, at(since), at(now), before).into_iter();
        let short = all.map(|(Occurrence { due, .. }, verdict)| match verdict {
            Verdict::Queue => format!("{} begin", due.strftime("%H:%M")),
            Verdict::Miss(why) => format!("{} {why}", due.strftime("%H:%M")),
        });
        short.collect()
    }

    fn plan(site: &Site, until: Option<&str>, newest: Option<&str>, now: &str) -> Plan {
        let mut plan = Plan::default();
        let newest = newest.map(|newest| (key(), at(newest))).into_iter().collect();
        plan.renew(&tenant(), site, &Recorded { until: until.map(at), newest: &newest }, at(now));
        plan
    }

    #[test]
    fn what_is_new_counts_from_now() {
        let plan = plan(&hourly(""), None, None, "08:30");
        assert_eq!(plan.next(&BTreeSet::new()), Some(at("09:00")));
        assert!(plan.due(at("08:59")).is_empty());
        assert_eq!(plan.due(at("09:00")), [key()]);
        assert_eq!(decided(&plan, "08:30", "09:00", None), ["09:00 begin"]);
    }

    #[test]
    fn nothing_is_settled_before_it_is_said_to_be() {
        let mut plan = plan(&hourly(""), None, None, "08:30");
        for _ in 0..2 {
            assert_eq!(decided(&plan, "08:30", "09:01", None), ["09:00 begin"]);
        }
        let dues = plan.dues(&key(), at("09:01")).unwrap();
        plan.settle(&key(), &dues, at("09:01"));
        assert!(plan.due(at("09:59")).is_empty());
        assert_eq!(plan.next(&BTreeSet::new()), Some(at("10:00")));
        assert_eq!(plan.next(&[key()].into()), None);
    }

    #[test]
    fn after_downtime_the_newest_is_caught_up_and_the_others_are_told() {
        let site = hourly("missed = { once_within = \"3h\" }\n");
        let plan = plan(&site, Some("08:30"), Some("08:00"), "11:40");
        let found = decided(&plan, "11:40", "11:40", None);
        assert_eq!(found.len(), 3);
        assert!(found.iter().any(|line| line == "11:00 begin"), "{found:?}");
        assert!(found.iter().any(|line| line.starts_with("09:00 nobody was at work")), "{found:?}");
        let skip = self::plan(&hourly("missed = \"skip\"\n"), Some("08:30"), Some("08:00"), "11:40");
        assert!(decided(&skip, "11:40", "11:40", None).iter().all(|line| !line.ends_with("begin")));
    }

    #[test]
    fn what_is_recorded_is_not_due_again() {
        // Up to 10:30 all is recorded, although nothing became of 09:00 and 10:00: their schedule was not there then.
        let plan = plan(&hourly(""), Some("10:30"), None, "10:45");
        assert_eq!(plan.next(&BTreeSet::new()), Some(at("11:00")));
        // A wiped state knows from evidence what was done last.
        let plan = self::plan(&hourly(""), None, Some("09:00"), "10:45");
        assert_eq!(plan.due(at("10:45")), [key()]);
        assert_eq!(decided(&plan, "10:45", "10:45", None).len(), 1);
    }

    #[test]
    fn runs_of_a_key_never_queue_up() {
        let plan = plan(&hourly(""), None, None, "08:30");
        let going = decided(&plan, "08:30", "09:00", Some(Before::Runs));
        assert_eq!(going, ["09:00 the run before it is still going on"]);
        let waiting = decided(&plan, "08:30", "10:00", Some(Before::Waits));
        assert_eq!(waiting.len(), 2);
        assert_eq!(waiting[1], "10:00 the run before it still waits to be begun");
    }

    #[test]
    fn a_late_turn_begins_the_newest() {
        let plan = plan(&hourly(""), None, None, "08:30");
        assert_eq!(
            decided(&plan, "08:30", "10:05", None),
            ["09:00 the run due 2026-05-04T10:00:00Z stands for it", "10:00 begin"]
        );
    }

    #[test]
    fn many_missed_runs_are_summed_up() {
        let site =
            site("[schedule.hourly]\ndo = \"locks\"\ntiers = [\"gold\"]\ncron = \"* * * * *\"\nmissed = \"skip\"\n");
        let plan = plan(&site, Some("01:00"), Some("01:00"), "23:00");
        let found = decided(&plan, "23:00", "23:00", None);
        assert!(found.len() <= ONE_BY_ONE + 1, "{}", found.len());
        assert!(found[0].ends_with("before it"), "{}", found[0]);
        let told: usize = found[0].rsplit(' ').nth(2).unwrap().parse().unwrap();
        assert_eq!(told + found.len(), 22 * 60, "each is counted");
    }

    #[test]
    fn lines_follow_the_policies() {
        let mut plan = plan(&hourly(""), None, None, "08:30");
        let empty = BTreeMap::new();
        let from_now = Recorded { until: None, newest: &empty };
        // Not changed: it stays where it is, and 09:00 is still due.
        plan.renew(&tenant(), &hourly(""), &from_now, at("09:10"));
        assert_eq!(plan.due(at("09:10")), [key()]);
        // Nor are its times: what is due is done by the new words.
        plan.renew(&tenant(), &hourly("missed = \"skip\"\n"), &from_now, at("09:10"));
        assert_eq!(plan.due(at("09:10")), [key()]);
        assert_eq!(plan.dues(&key(), at("09:10")).unwrap().schedule.missed, Missed::Skip);
        // Its times are others: they count from now, and what is not settled is answered.
        let begins = |held: Vec<(Key, Dues)>| -> Vec<Occurrence> {
            held.into_iter().flat_map(|(_, dues)| dues.occurrences).collect()
        };
        let held =
            plan.renew(&tenant(), &hourly("blackout = [{ from = \"08:00\", to = \"12:00\" }]"), &from_now, at("09:10"));
        assert_eq!(begins(held), [Occurrence { due: at("09:00"), at: at("12:00") }]);
        assert_eq!(plan.next(&BTreeSet::new()), Some(at("12:00")));
        // So is what a later run would have stood for.
        let held = plan.renew(&tenant(), &hourly(""), &from_now, at("10:10"));
        assert_eq!(begins(held), [Occurrence { due: at("10:00"), at: at("10:10") }]);
        assert_eq!(plan.next(&BTreeSet::new()), Some(at("11:00")));
        let held = plan.renew(&tenant(), &hourly("jitter = \"1s\"\n"), &from_now, at("10:20"));
        assert_eq!(begins(held), []);
        assert!(plan.next(&BTreeSet::new()).is_some_and(|next| next >= at("11:00")));
        plan.renew(&tenant(), &site(""), &from_now, at("09:10"));
        assert_eq!(plan.next(&BTreeSet::new()), None);
    }

    #[test]
    fn a_short_absence_interrupts_nothing_for_good() {
        let schedule = |more: &str| hourly(more).schedules.remove(0);
        let (skip, once) = (schedule("missed = \"skip\"\n"), schedule("missed = { once_within = \"2h\" }\n"));
        for schedule in [&skip, &once] {
            assert_eq!(still_wanted(schedule, at("09:00"), Some(at("09:30")), at("09:40")), Ok(()));
        }
        assert!(still_wanted(&skip, at("09:00"), Some(at("09:30")), at("10:00")).is_err());
        assert_eq!(still_wanted(&once, at("09:00"), Some(at("09:30")), at("10:00")), Ok(()));
        assert!(still_wanted(&once, at("09:00"), Some(at("09:30")), at("11:30")).is_err());
    }
}
