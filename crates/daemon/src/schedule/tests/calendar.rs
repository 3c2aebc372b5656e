//! Daylight saving: by hand for days that are known, and against a scan of every minute for any line.

use std::collections::BTreeSet;

use jiff::{Timestamp, ToSpan as _, civil::DateTime};
use lifeboat_model::retention::Zone;
use proptest::prelude::*;

use super::{super::cron::Cron, cron, fires, time, zone};

#[test]
fn berlin_falls_back() {
    let fired = |line: &str| fires(&cron(line), &zone("Europe/Berlin"), "2026-10-24T22:30:00Z", "2026-10-25T03:00:00Z");
    assert_eq!(fired("30 2 * * *"), ["Sun 25 02:30:00+02:00"], "a fixed time once, in the first pass");
    assert_eq!(fired("0 2,3 * * *"), ["Sun 25 02:00:00+02:00", "Sun 25 03:00:00+01:00"]);
    let hourly = [
        "Sun 25 01:00:00+02:00",
        "Sun 25 02:00:00+02:00",
        "Sun 25 02:00:00+01:00",
        "Sun 25 03:00:00+01:00",
        "Sun 25 04:00:00+01:00",
    ];
    assert_eq!(fired("0 * * * *"), hourly, "by the hour: in both passes");
    assert_eq!(fired("@hourly"), hourly);
    assert_eq!(fired("0 */2 * * *"), ["Sun 25 02:00:00+02:00", "Sun 25 02:00:00+01:00", "Sun 25 04:00:00+01:00"]);
    assert_eq!(fired("*/30 2 * * *"), ["Sun 25 02:00:00+02:00", "Sun 25 02:30:00+02:00"], "the hour is fixed");
}

#[test]
fn berlin_springs_forward() {
    let fired = |line: &str| fires(&cron(line), &zone("Europe/Berlin"), "2027-03-27T23:30:00Z", "2027-03-28T02:30:00Z");
    assert_eq!(fired("30 2 * * *"), ["Sun 28 03:00:00+02:00"], "a fixed time at the first moment after the gap");
    assert_eq!(fired("0 2 * * *"), ["Sun 28 03:00:00+02:00"]);
    assert_eq!(fired("*/15 2 * * *"), ["Sun 28 03:00:00+02:00"], "once, whatever falls into the gap");
    assert_eq!(fired("0 2,3 * * *"), ["Sun 28 03:00:00+02:00"], "and what is due then is the same run");
    assert_eq!(fired("30 2,3 * * *"), ["Sun 28 03:00:00+02:00", "Sun 28 03:30:00+02:00"]);
    let hourly = ["Sun 28 01:00:00+01:00", "Sun 28 03:00:00+02:00", "Sun 28 04:00:00+02:00"];
    assert_eq!(fired("0 * * * *"), hourly, "by the hour: never in the gap");
    assert_eq!(fired("30 */2 * * *"), ["Sun 28 04:30:00+02:00"], "02:30 does not exist");
}

#[test]
fn new_york() {
    let zone = zone("America/New_York");
    let fired = |line: &str, after, until| fires(&cron(line), &zone, after, until);
    let (after, until) = ("2026-11-01T04:00:00Z", "2026-11-01T08:00:00Z");
    assert_eq!(fired("15 1 * * *", after, until), ["Sun 01 01:15:00-04:00"]);
    assert_eq!(
        fired("15 * * * *", after, until),
        ["Sun 01 00:15:00-04:00", "Sun 01 01:15:00-04:00", "Sun 01 01:15:00-05:00", "Sun 01 02:15:00-05:00"]
    );
    let (after, until) = ("2027-03-14T05:00:00Z", "2027-03-14T08:00:00Z");
    assert_eq!(fired("15 2 * * *", after, until), ["Sun 14 03:00:00-04:00"]);
    assert_eq!(
        fired("15 * * * *", after, until),
        ["Sun 14 00:15:00-05:00", "Sun 14 01:15:00-05:00", "Sun 14 03:15:00-04:00"]
    );
}

/// Clocks there change by half an hour.
#[test]
fn lord_howe() {
    let zone = zone("Australia/Lord_Howe");
    let fired = |line: &str, after, until| fires(&cron(line), &zone, after, until);
    // 02:00+11:00 becomes 01:30+10:30 on Sunday, 4 April 2027.
    let (after, until) = ("2027-04-03T14:00:00Z", "2027-04-03T16:30:00Z");
    assert_eq!(fired("45 1 * * *", after, until), ["Sun 04 01:45:00+11:00"]);
    assert_eq!(
        fired("15,45 * * * *", after, until),
        [
            "Sun 04 01:15:00+11:00",
            "Sun 04 01:45:00+11:00",
            "Sun 04 01:45:00+10:30",
            "Sun 04 02:15:00+10:30",
            "Sun 04 02:45:00+10:30"
        ]
    );
    // 02:00+10:30 becomes 02:30+11:00 on Sunday, 4 October 2026.
    let (after, until) = ("2026-10-03T14:30:00Z", "2026-10-03T16:30:00Z");
    assert_eq!(fired("15 2 * * *", after, until), ["Sun 04 02:30:00+11:00"]);
    assert_eq!(fired("0,15,30,45 2 * * *", after, until), ["Sun 04 02:30:00+11:00", "Sun 04 02:45:00+11:00"]);
    assert_eq!(
        fired("15,45 * * * *", after, until),
        ["Sun 04 01:15:00+10:30", "Sun 04 01:45:00+10:30", "Sun 04 02:45:00+11:00", "Sun 04 03:15:00+11:00"]
    );
}

/// A whole day was left out when Samoa moved to the other side of the date line.
#[test]
fn a_day_that_never_was() {
    let zone = zone("Pacific/Apia");
    let fired = |line: &str| fires(&cron(line), &zone, "2011-12-29T12:00:00Z", "2011-12-31T12:00:00Z");
    assert_eq!(fired("0 8 * * *"), ["Thu 29 08:00:00-10:00", "Sat 31 00:00:00+14:00", "Sat 31 08:00:00+14:00"]);
    assert_eq!(
        fired("0 */12 * * *"),
        ["Thu 29 12:00:00-10:00", "Sat 31 00:00:00+14:00", "Sat 31 12:00:00+14:00", "Sun 01 00:00:00+14:00"]
    );
}

/// Where midnight itself is left out, a daily run must not be.
#[test]
fn a_midnight_that_is_left_out() {
    let fired = |line: &str| fires(&cron(line), &zone("Asia/Beirut"), "2027-03-26T12:00:00Z", "2027-03-29T12:00:00Z");
    let nights = ["Sat 27 00:00:00+02:00", "Sun 28 01:00:00+03:00", "Mon 29 00:00:00+03:00"];
    assert_eq!(fired("@daily"), nights);
    assert_eq!(fired("0 */24 * * *"), nights, "once a day is not by the hour");
}

/// What the rules say, found in another way: by looking at every minute.
fn scanned(line: &Line, zone: &Zone, after: Timestamp, until: Timestamp) -> BTreeSet<Timestamp> {
    let rules = zone.rules();
    let mut found = BTreeSet::new();
    let mut seen: BTreeSet<DateTime> = BTreeSet::new();
    // Clocks showed these before `after`: a pass that began earlier is the first one all the same.
    let mut at = after - 26.hours();
    let mut before = rules.to_datetime(at - 1.minute());
    while at <= until {
        let civil = rules.to_datetime(at);
        let is_first = seen.insert(civil);
        let mut skipped = before + 1.minute();
        let mut fell_in = false;
        while skipped < civil {
            fell_in |= line.matches(skipped);
            skipped += 1.minute();
        }
        let fires = match line.by_the_hour() {
            true => line.matches(civil),
            false => fell_in || (is_first && line.matches(civil)),
        };
        if fires && at > after {
            found.insert(at);
        }
        before = civil;
        at += 1.minute();
    }
    found
}

/// A line by its parts, for the scan.
#[derive(Debug, Clone)]
struct Line {
    minutes: BTreeSet<i8>,
    hours: Hours,
    days: Option<BTreeSet<i8>>,
    weekdays: Option<BTreeSet<i8>>,
}

#[derive(Debug, Clone)]
enum Hours {
    All,
    Every(i8),
    These(BTreeSet<i8>),
}

impl Line {
    fn by_the_hour(&self) -> bool {
        !matches!(self.hours, Hours::These(_))
    }

    fn matches(&self, at: DateTime) -> bool {
        let hour = match &self.hours {
            Hours::All => true,
            Hours::Every(step) => at.hour() % step == 0,
            Hours::These(hours) => hours.contains(&at.hour()),
        };
        let day = self.days.as_ref().map(|days| days.contains(&at.day()));
        let weekday = self.weekdays.as_ref().map(|days| days.contains(&at.weekday().to_sunday_zero_offset()));
        let is_day = match (day, weekday) {
            (Some(day), Some(weekday)) => day || weekday,
            (day, weekday) => day.unwrap_or(true) && weekday.unwrap_or(true),
        };
        self.minutes.contains(&at.minute()) && hour && is_day
    }

    fn text(&self) -> String {
        let list = |numbers: &BTreeSet<i8>| numbers.iter().map(i8::to_string).collect::<Vec<_>>().join(",");
        let hours = match &self.hours {
            Hours::All => "*".to_owned(),
            Hours::Every(step) => format!("*/{step}"),
            Hours::These(hours) => list(hours),
        };
        let [days, weekdays] = [&self.days, &self.weekdays].map(|days| days.as_ref().map_or("*".to_owned(), list));
        format!("{} {hours} {days} * {weekdays}", list(&self.minutes))
    }
}

fn lines() -> impl Strategy<Value = Line> {
    let numbers = |least: i8, most: i8, count: usize| proptest::collection::btree_set(least..=most, 1..=count);
    let hours = prop_oneof![
        Just(Hours::All),
        (2_i8..=11).prop_map(Hours::Every),
        numbers(0, 23, 6).prop_map(Hours::These),
        // Around the changes.
        numbers(0, 3, 3).prop_map(Hours::These),
    ];
    let days = proptest::option::weighted(0.2, numbers(1, 31, 12));
    let weekdays = proptest::option::weighted(0.2, numbers(0, 6, 3));
    (numbers(0, 59, 4), hours, days, weekdays).prop_map(|(minutes, hours, days, weekdays)| Line {
        minutes,
        hours,
        days,
        weekdays,
    })
}

/// Days around changes of the clocks, and one without; the last two zones change at midnight.
const CHANGES: [(&str, &str); 11] = [
    ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ("Europe/Berlin", "2027-03-28T01:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("America/New_York", "2027-03-14T07:00:00Z"),
    ("Australia/Lord_Howe", "2027-04-03T15:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Asia/Kathmandu", "2026-06-01T00:00:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("America/St_Johns", "2010-11-07T02:31:00Z"),
    ("Asia/Beirut", "2027-03-27T22:00:00Z"),
    ("America/Havana", "2027-03-14T05:00:00Z"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_doubled(line in lines(), change in 0..CHANGES.len(), before in 0_i64..2000, length in 60_i64..3000) {
        let (name, change) = CHANGES[change];
        let (zone, after) = (zone(name), time(change) - before.minutes());
        let until = after + length.minutes();
        let Ok(cron) = Cron::read(&line.text(), Vec::new()) else { return Ok(()) }; // as on 30 February
        let mut fired = BTreeSet::new();
        let mut at = after;
        while let Some(next) = cron.next(&zone, at).filter(|next| *next <= until) {
            prop_assert!(next > at, "{} goes on: {next} after {at}", line.text());
            fired.insert(next);
            at = next;
        }
        prop_assert_eq!(fired, scanned(&line, &zone, after, until), "{} in {}", line.text(), name);
    }
}
