//! The day itself. What is due is worked out here once more, minute by minute, from what the schedules say in words.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use lifeboat_daemon::time::Time as _;

use super::{
    clock::Clock,
    effects::{self, Effect, Key},
    world::{self, LOG, Row, Running, until},
};

/// An hour in two seconds.
const FACTOR: u32 = 1800;
type Tiers = [(&'static str, usize); 3];
const BUDGET: &str = "runs = 8\ndrills = 2\nbackups = 4\npriority = [\"gold\", \"silver\"]";
const RUNS: usize = 8;
const DRILLS: usize = 2;
const BACKUPS: usize = 4;
const SCHEDULES: &str = r#"
time_zone = "Europe/Berlin"
[schedule.stream]
do = "stream"
tiers = ["gold"]
[schedule.gold-backup]
do = "backup"
tiers = ["gold"]
cron = "5 * * * *"
missed = { once_within = "3h" }
retries = 3
retry_after = "1m"
[schedule.gold-drill]
do = "drill"
tiers = ["gold"]
cron = "15 3 * * *"
jitter = "30m"
missed = { once_within = "12h" }
retries = 3
retry_after = "1m"
[schedule.gold-locks]
do = "locks"
tiers = ["gold"]
cron = "30 2 * * *"
missed = { once_within = "12h" }
retries = 3
retry_after = "1m"
[schedule.gold-prune]
do = "prune"
tiers = ["gold"]
cron = "0 5 * * *"
blackout = [{ from = "04:30", to = "06:00" }]
missed = { once_within = "12h" }
retries = 3
retry_after = "1m"
[schedule.silver-backup]
do = "backup"
tiers = ["silver"]
cron = "0 10 */4 * * *"
jitter = "20m"
missed = { once_within = "3h" }
retries = 3
retry_after = "1m"
[schedule.silver-locks]
do = "locks"
tiers = ["silver"]
after = "silver-backup"
delay = "2m"
missed = { once_within = "12h" }
retries = 3
retry_after = "1m"
[schedule.silver-control]
do = "control"
instances = ["silver-0", "silver-1", "silver-2", "silver-3"]
cron = "0 4 * * *"
missed = { once_within = "12h" }
retries = 3
retry_after = "1m"
[schedule.bronze-backup]
do = "backup"
tiers = ["bronze"]
cron = "30 1 * * *"
missed = { once_within = "12h" }
retries = 3
retry_after = "1m"
[schedule.bronze-scrub]
do = "scrub"
sample = "1%/day"
tiers = ["bronze"]
cron = "30 2 * * *"
missed = "skip"
retries = 3
retry_after = "1m"
[schedule.audit]
do = "audit"
cron = "0 6 * * *"
missed = { once_within = "12h" }
retries = 3
retry_after = "1m"
"#;

/// Seeded: the same moments each time.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// The daemon ends, and is begun again.
struct Break {
    /// After midnight.
    minute: i64,
    /// So many minutes without one.
    away: i64,
    /// As by `kill -9`; else it is asked to stop.
    is_kill: bool,
    /// Not before a run that was due then has begun.
    amid: Option<Timestamp>,
}

/// One day, from midnight to midnight in Berlin.
pub fn one(date: &str) {
    let mut random = Random(20_261_025);
    let breaks = (0..13_u64).map(|event| Break {
        minute: i64::try_from(20 + event * 112 + random.below(80)).unwrap(),
        away: if event == 7 { 150 } else { i64::try_from(random.below(12)).unwrap() },
        is_kill: event % 4 != 2, // three of them are asked to stop, ten are killed
        amid: None,
    });
    let (rows, effects) = live_through(date, "24:00", [("gold", 10), ("silver", 15), ("bronze", 25)], breaks.collect());
    let tried_again = rows.iter().filter(|row| row.attempt > 1 && row.verb != "stream").count();
    assert!(tried_again > 20, "kills and passing failures were in it: {tried_again}");
    let followed = effects.values().filter(|effect| effect.key.schedule == "silver-locks" && is_done(effect)).count();
    assert!(followed > 25, "{followed}");
}

/// The night in which the hour from two to three is left out, with few instances: what is due within that hour is begun at its
/// end, killed then, and done once. At other breaks the daemon is away while hourly runs are due.
pub fn without_an_hour() {
    let gap: Timestamp = "2026-03-29T01:00:00Z".parse().unwrap(); // 02:00 and 03:00 at once, 120 minutes after midnight
    let breaks = [(62, 8, true), (119, 4, true), (183, 4, true), (200, 0, true), (212, 2, false)];
    let breaks = breaks.map(|(minute, away, is_kill)| Break {
        minute,
        away,
        is_kill,
        amid: (minute == 119).then_some(gap), // whenever the machine gets to it
    });
    let (rows, effects) =
        live_through("2026-03-29", "04:50", [("gold", 3), ("silver", 4), ("bronze", 5)], breaks.into());
    for (schedule, many) in [("gold-locks", 3), ("bronze-scrub", 5)] {
        let of: Vec<_> = rows.iter().filter(|row| row.schedule == schedule).collect();
        assert!(of.iter().all(|row| row.due == gap.to_string()), "{of:?}");
        let done = effects.values().filter(|effect| effect.key.schedule == schedule && is_done(effect)).count();
        assert_eq!(done, many, "{schedule} once for each: {of:?}");
    }
    let is_cut_off = |effect: &Effect| effect.key.due == gap.to_string() && !is_done(effect);
    assert!(effects.values().any(is_cut_off), "none of them was under way when the daemon was killed");
}

/// Lives through the beginning of a day in Berlin, until this hour, and looks whether everything in it was as it must be.
fn live_through(date: &str, until: &str, tiers: Tiers, breaks: Vec<Break>) -> (Vec<Row>, BTreeMap<String, Effect>) {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let date: jiff::civil::Date = date.parse().unwrap();
    let moment = |time: DateTime| zone.to_timestamp(time).unwrap();
    let start = moment(date.at(0, 0, 0, 0));
    let end = match until {
        "24:00" => moment(date.tomorrow().unwrap().at(0, 0, 0, 0)),
        until => moment(date.to_datetime(until.parse().unwrap())),
    };

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("lifeboat.toml"), world::config(&tiers)).unwrap();
    world::settings(path, "a", BUDGET);
    world::schedules(path, SCHEDULES);
    let clock = Clock::begin(path, start - SignedDuration::from_mins(20), FACTOR);
    let memory = live(path, &clock, start, end, &breaks);

    let rows = world::rows(path, "a");
    let effects = effects::read(&path.join(LOG));
    everything_due_is_accounted_for(&expected(&zone, start, end, tiers), &rows, &effects);
    followers_follow_once(&rows, end);
    nothing_runs_beside_what_it_must_not(&effects);
    let (first, last) = (memory[..memory.len() / 4].iter().max(), memory[memory.len() / 4 * 3..].iter().max());
    let (first, last) = (*first.unwrap(), *last.unwrap());
    println!("  memory: {} MiB in the first quarter, {} MiB in the last", first / 1024, last / 1024);
    assert!(last < first + first / 4 + 16 * 1024, "memory grows: {first} KiB, then {last} KiB");
    (rows, effects)
}

/// Begins, kills, stops and begins the daemon again, until the day is over and all that was due in it is settled. Answers its
/// memory, in KiB, all day long.
fn live(path: &Path, clock: &Clock, start: Timestamp, end: Timestamp, breaks: &[Break]) -> Vec<u64> {
    let mut memory = Vec::new();
    for Break { minute, away, is_kill, amid } in breaks {
        let daemon = Running::begin(path, "a");
        let moment = start + SignedDuration::from_mins(*minute);
        while clock.now() < moment {
            memory.extend(daemon.memory());
            std::thread::sleep(Duration::from_millis(50));
        }
        if let Some(due) = amid.map(|due| due.to_string()) {
            until("what was due to be begun", || {
                effects::read(&path.join(LOG)).values().any(|effect| effect.key.due == due).then_some(())
            });
        }
        if *is_kill {
            daemon.kill()
        } else {
            daemon.stop()
        }
        clock.wait_for(moment + SignedDuration::from_mins(*away));
    }
    let daemon = Running::begin(path, "a");
    clock.wait_for(end);
    until("everything that was due to be over", || {
        memory.extend(daemon.memory());
        let is_open =
            |row: &Row| row.ended.is_none() && row.verb != "stream" && row.due.parse::<Timestamp>().unwrap() < end;
        (!world::rows(path, "a").iter().any(is_open)).then_some(())
    });
    daemon.stop();
    memory
}

/// Whose a schedule is, and when it is due: what the lines above say, in other words.
fn expected(zone: &TimeZone, start: Timestamp, end: Timestamp, tiers: Tiers) -> BTreeSet<Key> {
    let of = |(tier, count)| (0..count).map(|number| format!("{tier}-{number}")).collect::<Vec<_>>();
    let [gold, silver, bronze] = tiers.map(of);
    let hourly = |hit: fn(DateTime) -> bool| {
        minutes(zone, start, end).filter(|(_, local)| hit(*local)).map(|(at, _)| at).collect()
    };
    // Once a day; where clocks leave it out, as soon as they go on; where they show it twice, the first time.
    let daily = |hour: i8, minute: i8| -> Vec<Timestamp> {
        let wanted = |local: DateTime| (local.hour(), local.minute()) >= (hour, minute);
        minutes(zone, start, end).find(|(_, local)| wanted(*local)).map(|(at, _)| at).into_iter().collect()
    };
    let all: [(&str, &[String], Vec<Timestamp>); 9] = [
        ("gold-backup", &gold, hourly(|local| local.minute() == 5)),
        ("gold-drill", &gold, daily(3, 15)),
        ("gold-locks", &gold, daily(2, 30)),
        ("gold-prune", &gold, daily(5, 0)),
        ("silver-backup", &silver, hourly(|local| local.minute() == 10 && local.hour() % 4 == 0)),
        ("silver-control", &silver[..4], daily(4, 0)),
        ("bronze-backup", &bronze, daily(1, 30)),
        ("bronze-scrub", &bronze, daily(2, 30)),
        ("audit", &["-".to_owned()], daily(6, 0)),
    ];
    let keys = all.iter().flat_map(|(schedule, instances, dues)| {
        instances.iter().flat_map(move |instance| {
            let key = |due: &Timestamp| Key {
                schedule: schedule.to_string(),
                instance: instance.clone(),
                due: due.to_string(),
            };
            dues.iter().map(key).collect::<Vec<_>>()
        })
    });
    keys.collect()
}

fn minutes(zone: &TimeZone, start: Timestamp, end: Timestamp) -> impl Iterator<Item = (Timestamp, DateTime)> + use<> {
    let zone = zone.clone();
    let count = end.duration_since(start).as_mins();
    (0..count).map(move |minute| {
        let at = start + SignedDuration::from_mins(minute);
        (at, zone.to_datetime(at))
    })
}

fn is_done(effect: &Effect) -> bool {
    effect.ended.as_ref().is_some_and(|(_, how)| how == "end")
}

/// Everything that was due was done to its end once, or the state says why not.
fn everything_due_is_accounted_for(expected: &BTreeSet<Key>, rows: &[Row], effects: &BTreeMap<String, Effect>) {
    assert!(effects.values().all(|effect| effect.ended.is_some()), "a run goes on although nobody wants it");
    let mut done: BTreeMap<&Key, usize> = BTreeMap::new();
    for effect in effects.values().filter(|effect| is_done(effect) && effect.verb != "stream") {
        *done.entry(&effect.key).or_default() += 1;
    }
    let doubled: Vec<_> = done.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "done twice: {doubled:?}");

    let mut last: BTreeMap<Key, &Row> = BTreeMap::new();
    for row in rows {
        let key = Key { schedule: row.schedule.clone(), instance: row.instance.clone(), due: row.due.clone() };
        let newest = last.entry(key).or_insert(row);
        if row.attempt > newest.attempt {
            *newest = row;
        }
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let (mut lost, mut wrong) = (Vec::new(), Vec::new());
    for key in expected {
        let outcome = last.get(key).and_then(|row| row.outcome.as_deref());
        let reason = last.get(key).and_then(|row| row.reason.clone()).unwrap_or_default();
        match (done.contains_key(key), outcome) {
            (true, Some("passed")) => {}
            (false, Some("missed" | "interrupted")) if !reason.is_empty() => {
                // Without the moments in it.
                let words = reason.split(' ').filter(|word| !word.contains('Z')).collect::<Vec<_>>().join(" ");
                *reasons.entry(words).or_default() += 1;
            }
            (false, None) => lost.push(key),
            (is_done, outcome) => wrong.push((key, is_done, outcome, reason)),
        }
    }
    let missed: usize = reasons.values().sum();
    println!("  {} were due, {} done, {missed} reported: {reasons:#?}", expected.len(), expected.len() - missed);
    assert!(lost.is_empty(), "neither done nor reported: {lost:#?}");
    assert!(wrong.is_empty(), "the state says something else than what happened: {wrong:#?}");
    assert!(missed * 4 < expected.len(), "most of it is to be done, not reported");

    let (first, until) = (&expected.first().unwrap().due, expected.iter().map(|key| &key.due).max().unwrap());
    let first = expected.iter().map(|key| &key.due).min().unwrap_or(first);
    let is_cron = |key: &Key| expected.iter().any(|known| known.schedule == key.schedule);
    let unasked: Vec<_> = done
        .keys()
        .filter(|key| is_cron(key) && key.due >= *first && key.due <= *until && !expected.contains(**key))
        .collect();
    assert!(unasked.is_empty(), "done although it was not due: {unasked:?}");
}

/// After each run that passed, once, what follows it.
fn followers_follow_once(rows: &[Row], end: Timestamp) {
    let delay = SignedDuration::from_mins(2);
    let of = |schedule: &'static str| rows.iter().filter(move |row| row.schedule == schedule);
    let mut wanted: BTreeSet<(String, String)> = BTreeSet::new();
    for row in of("silver-backup").filter(|row| row.outcome.as_deref() == Some("passed")) {
        if let Some(ended) = row.ended.filter(|ended| *ended < end) {
            wanted.insert((row.instance.clone(), (ended + delay).to_string()));
        }
    }
    assert!(wanted.len() > 5, "{}", wanted.len());
    let queued: BTreeSet<(String, String)> = of("silver-locks")
        .filter(|row| row.due.parse::<Timestamp>().unwrap() < end + delay)
        .map(|row| (row.instance.clone(), row.due.clone()))
        .collect();
    let (without, unasked): (Vec<_>, Vec<_>) =
        (wanted.difference(&queued).collect(), queued.difference(&wanted).collect());
    assert!(without.is_empty() && unasked.is_empty(), "nothing followed {without:?}; followed nothing: {unasked:?}");
}

/// By the processes' own account: who was there at the same time.
fn nothing_runs_beside_what_it_must_not(effects: &BTreeMap<String, Effect>) {
    let class = |verb: &str| match verb {
        "backup" | "dump" | "prune" | "copy" => "writes",
        "drill" | "control" => "rehearses",
        "scrub" => "scrub",
        "locks" => "locks",
        "stream" => "stream",
        "audit" => "audit",
        other => panic!("{other}"),
    };
    let mut moments: Vec<(Duration, bool, &Effect)> = Vec::new();
    for effect in effects.values() {
        moments.push((effect.began, true, effect));
        moments.push((effect.ended.as_ref().unwrap().0, false, effect));
    }
    moments.sort_by_key(|(at, begins, _)| (*at, *begins));
    let mut there: BTreeMap<&str, &Effect> = BTreeMap::new();
    let mut most = (0, 0, 0);
    for (_, begins, effect) in moments {
        if !begins {
            there.remove(effect.run.as_str());
            continue;
        }
        let other = there
            .values()
            .find(|other| other.key.instance == effect.key.instance && class(&other.verb) == class(&effect.verb));
        assert!(other.is_none(), "{effect:?} was begun beside {other:?}");
        there.insert(&effect.run, effect);
        let count = |is: fn(&str) -> bool| there.values().filter(|effect| is(&effect.verb)).count();
        let now = (
            count(|verb| verb != "stream"),
            count(|verb| matches!(verb, "drill" | "control")),
            count(|verb| verb == "backup"),
        );
        assert!(now.0 <= RUNS && now.1 <= DRILLS && now.2 <= BACKUPS, "over budget: {now:?}");
        most = (most.0.max(now.0), most.1.max(now.1), most.2.max(now.2));
    }
    println!("  at most {} runs at a time, {} drills and controls, {} backups", most.0, most.1, most.2);
    assert!(most.1 == DRILLS && most.2 == BACKUPS, "the budget was never used up: {most:?}");
}
