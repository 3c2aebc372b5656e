//! Tables: calendars with their oddities, and each reason by itself.

use super::{period::Period, *};
use crate::id::PointId;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn span(text: &str) -> Span {
    text.parse().unwrap()
}

fn point(id: u8, time: &str) -> PointFacts {
    PointFacts { id: PointId([id; 8]), time: at(time), received: None, dump: false, passed: None, held: false }
}

fn none() -> RetentionPolicy {
    RetentionPolicy {
        time_zone: Zone::UTC,
        last: 0,
        hourly: 0,
        daily: 0,
        weekly: 0,
        monthly: 0,
        yearly: 0,
        pitr: None,
        drilled: 0,
    }
}

const LOCK: LockPolicy = LockPolicy { mode: LockMode::Compliance, minimum: Span(Duration::from_secs(14 * 86_400)) };

/// Each kept point as `<first digit of the id>:<reason>[=<until>],…`.
fn kept(policy: &RetentionPolicy, points: &[PointFacts], now: &str) -> Vec<String> {
    let reason = |(reason, until): &(Reason, Option<Timestamp>)| match until {
        Some(until) => format!("{reason}={until}"),
        None => reason.to_string(),
    };
    let decisions = decide(Some(policy), None, points, at(now));
    let kept = decisions.iter().filter(|decision| decision.keep);
    let line = |decision: &Decision| {
        format!("{}:{}", decision.id.0[0], decision.reasons.iter().map(reason).collect::<Vec<_>>().join(","))
    };
    kept.map(line).collect()
}

#[track_caller]
fn check_period(period: Period, zone: &str, time: &str, start: &str, after: u32, end: &str) {
    let zone: Zone = zone.parse().unwrap();
    let found = (period.start(at(time), zone.rules()), period.end(at(time), after, zone.rules()));
    assert_eq!(found, (at(start), at(end)), "{period:?} of {time} in {zone}, {after} later");
}

#[test]
fn periods_begin_and_end_by_the_calendar() {
    use Period::{Day, Hour, Month, Week, Year};
    let berlin = "Europe/Berlin";
    // A day of 23 hours (spring) and one of 25 (autumn); counted in dates, so ends stay at midnight.
    check_period(Day, berlin, "2026-03-29T10:00:00Z", "2026-03-28T23:00:00Z", 1, "2026-03-29T22:00:00Z");
    check_period(Day, berlin, "2026-10-25T10:00:00Z", "2026-10-24T22:00:00Z", 1, "2026-10-25T23:00:00Z");
    check_period(Day, berlin, "2026-03-27T23:30:00Z", "2026-03-27T23:00:00Z", 7, "2026-04-03T22:00:00Z");
    // The hour that comes twice is two hours; the one that is skipped is none.
    check_period(Hour, berlin, "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", 1, "2026-10-25T01:00:00Z");
    check_period(Hour, berlin, "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z", 24, "2026-10-26T01:00:00Z");
    check_period(Hour, berlin, "2026-03-29T01:59:59Z", "2026-03-29T01:00:00Z", 2, "2026-03-29T03:00:00Z");
    // Zones that are half an hour or a quarter off.
    check_period(Hour, "Asia/Kolkata", "2026-05-01T10:10:00Z", "2026-05-01T09:30:00Z", 1, "2026-05-01T10:30:00Z");
    check_period(Hour, "Asia/Kathmandu", "2026-05-01T10:10:00Z", "2026-05-01T09:15:00Z", 3, "2026-05-01T12:15:00Z");
    check_period(Day, "Asia/Kolkata", "2026-05-01T18:29:59Z", "2026-04-30T18:30:00Z", 1, "2026-05-01T18:30:00Z");
    // Clocks that move by half an hour.
    check_period(
        Hour,
        "Australia/Lord_Howe",
        "2026-04-04T15:10:00Z",
        "2026-04-04T14:30:00Z",
        1,
        "2026-04-04T15:30:00Z",
    );
    // A midnight that does not exist: the day begins at one.
    check_period(Day, "America/Santiago", "2026-09-06T12:00:00Z", "2026-09-06T04:00:00Z", 1, "2026-09-07T03:00:00Z");
    check_period(Day, "America/Santiago", "2026-09-05T12:00:00Z", "2026-09-05T04:00:00Z", 1, "2026-09-06T04:00:00Z");
    // A day that does not exist at all (Samoa left out 30 December 2011).
    check_period(Day, "Pacific/Apia", "2011-12-30T09:00:00Z", "2011-12-29T10:00:00Z", 1, "2011-12-30T10:00:00Z");
    // Weeks begin on Monday, also over the new year (ISO week 53).
    check_period(Week, "UTC", "2027-01-03T23:59:59Z", "2026-12-28T00:00:00Z", 1, "2027-01-04T00:00:00Z");
    check_period(Week, "UTC", "2027-01-04T00:00:00Z", "2027-01-04T00:00:00Z", 5, "2027-02-08T00:00:00Z");
    check_period(Week, berlin, "2026-03-29T22:30:00Z", "2026-03-29T22:00:00Z", 1, "2026-04-05T22:00:00Z");
    // Months of any length, leap days, and the date line.
    check_period(Month, "UTC", "2026-01-31T12:00:00Z", "2026-01-01T00:00:00Z", 1, "2026-02-01T00:00:00Z");
    check_period(Month, "UTC", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", 12, "2029-02-01T00:00:00Z");
    check_period(
        Month,
        "Pacific/Kiritimati",
        "2026-01-31T10:00:00Z",
        "2026-01-31T10:00:00Z",
        1,
        "2026-02-28T10:00:00Z",
    );
    check_period(Day, "UTC", "2028-02-28T12:00:00Z", "2028-02-28T00:00:00Z", 2, "2028-03-01T00:00:00Z");
    check_period(Year, "UTC", "2028-02-29T12:00:00Z", "2028-01-01T00:00:00Z", 7, "2035-01-01T00:00:00Z");
    check_period(Year, "America/New_York", "2027-01-01T04:59:59Z", "2026-01-01T05:00:00Z", 1, "2027-01-01T05:00:00Z");
    // Beyond the calendar: for ever, not a panic.
    assert_eq!(Period::Year.end(at("2026-01-01T00:00:00Z"), 100_000, Zone::UTC.rules()), Timestamp::MAX);
    assert_eq!(Period::Day.end(at("2026-01-01T00:00:00Z"), u32::MAX, Zone::UTC.rules()), Timestamp::MAX);
}

#[test]
fn zones_by_name() {
    for name in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Asia/Kolkata"] {
        assert_eq!(name.parse::<Zone>().unwrap().name(), name);
    }
    assert_eq!("europe/berlin".parse::<Zone>().unwrap().name(), "Europe/Berlin");
    let near = |name: &str| name.parse::<Zone>().unwrap_err().near;
    for (wrong, meant) in [
        ("Berlin", Some("Europe/Berlin")),
        ("Europe/Berln", Some("Europe/Berlin")),
        ("buenos aires", Some("America/Argentina/Buenos_Aires")),
        ("Nowhere/At_All", None),
    ] {
        assert_eq!(near(wrong).as_deref(), meant, "{wrong}");
    }
}

#[test]
fn the_first_of_each_period_stays_until_so_many_later() {
    let policy = RetentionPolicy { hourly: 2, daily: 2, ..none() };
    let points = [
        point(1, "2026-05-01T09:10:00Z"), // first of the day and of nine o'clock
        point(2, "2026-05-01T09:50:00Z"), // second in everything
        point(3, "2026-05-01T10:00:00Z"), // first of ten o'clock
        point(4, "2026-05-01T10:00:00.5Z"),
        point(5, "2026-05-01T11:30:00Z"), // the newest
    ];
    let told = |now| kept(&policy, &points, now);
    assert_eq!(
        told("2026-05-01T10:59:59Z"),
        [
            "1:hourly=2026-05-01T11:00:00Z,daily=2026-05-03T00:00:00Z",
            "3:hourly=2026-05-01T12:00:00Z",
            "5:newest,hourly=2026-05-01T13:00:00Z"
        ]
    );
    assert_eq!(
        told("2026-05-01T12:00:00Z"),
        ["1:daily=2026-05-03T00:00:00Z", "5:newest,hourly=2026-05-01T13:00:00Z"],
        "an end is the first moment at which it is not kept"
    );
    assert_eq!(told("2026-05-03T00:00:00Z"), ["5:newest"]);
}

#[test]
fn a_policy_that_grows_or_shrinks_counts_from_the_same_beginnings() {
    let points = [point(1, "2026-05-01T09:00:00Z"), point(2, "2026-05-02T09:00:00Z"), point(3, "2026-05-09T09:00:00Z")];
    let now = "2026-05-05T12:00:00Z";
    let with = |daily| kept(&RetentionPolicy { daily, ..none() }, &points, now);
    assert_eq!(with(3), ["3:newest,daily=2026-05-12T00:00:00Z"], "shrunk");
    assert_eq!(with(4), ["2:daily=2026-05-06T00:00:00Z", "3:newest,daily=2026-05-13T00:00:00Z"]);
    assert_eq!(
        with(5),
        ["1:daily=2026-05-06T00:00:00Z", "2:daily=2026-05-07T00:00:00Z", "3:newest,daily=2026-05-14T00:00:00Z"],
        "grown: what is still there counts"
    );
    assert_eq!(with(0), ["3:newest"]);
}

#[test]
fn the_time_zone_decides_which_is_the_first() {
    let points = [point(1, "2026-05-01T21:00:00Z"), point(2, "2026-05-01T22:30:00Z"), point(3, "2026-05-02T05:00:00Z")];
    let firsts = |zone: &str| {
        let policy = RetentionPolicy { time_zone: zone.parse().unwrap(), daily: 30, ..none() };
        kept(&policy, &points, "2026-05-02T06:00:00Z").iter().map(|line| line[..1].to_owned()).collect::<String>()
    };
    assert_eq!(firsts("UTC"), "13");
    assert_eq!(firsts("Europe/Berlin"), "123", "22:30 is half past midnight there; the third is the newest alone");
    let policy = RetentionPolicy { time_zone: "Europe/Berlin".parse().unwrap(), daily: 30, ..none() };
    assert_eq!(kept(&policy, &points, "2026-05-02T06:00:00Z")[2], "3:newest");
}

#[test]
fn the_window_keeps_all_within_and_one_before() {
    let policy = RetentionPolicy { pitr: Some(span("2d")), ..none() };
    let points: Vec<PointFacts> = (1..=5).map(|day| point(day, &format!("2026-05-0{day}T12:00:00Z"))).collect();
    assert_eq!(
        kept(&policy, &points, "2026-05-05T13:00:00Z"),
        ["3:pitr-base", "4:pitr=2026-05-06T12:00:00Z", "5:newest,pitr=2026-05-07T12:00:00Z",]
    );
    let base = |now: &str| pitr_base(&policy, &points, at(now)).map(|id| id.0[0]);
    assert_eq!(base("2026-05-05T13:00:00Z"), Some(3));
    assert_eq!(base("2026-05-05T11:59:59Z"), Some(2));
    assert_eq!(base("2026-05-05T12:00:00Z"), Some(3), "exactly as old as the window is before it");
    assert_eq!(base("2026-05-01T13:00:00Z"), Some(1), "none is before it: the oldest within");
    assert_eq!(base("2027-01-01T00:00:00Z"), Some(5));
    assert_eq!(pitr_base(&policy, &[], at("2026-05-05T13:00:00Z")), None);
    let without = pitr_base(&none(), &points, at("2026-05-05T13:00:00Z"));
    assert_eq!(without.map(|id| id.0[0]), Some(5), "no window: WAL goes on from the newest");
}

#[test]
fn drilled_held_last_and_newest() {
    let mut points: Vec<PointFacts> = (1..=6).map(|day| point(day, &format!("2026-05-0{day}T12:00:00Z"))).collect();
    let now = "2026-06-05T13:00:00Z";
    assert_eq!(kept(&none(), &points, now), ["6:newest"]);
    assert_eq!(kept(&RetentionPolicy { last: 2, ..none() }, &points, now), ["5:last", "6:newest,last"]);
    points[0].passed = Some(at("2026-05-20T00:00:00Z")); // an old point, drilled last
    points[2].passed = Some(at("2026-05-04T00:00:00Z"));
    points[3].passed = Some(at("2026-05-05T00:00:00Z"));
    points[1].held = true;
    assert_eq!(kept(&none(), &points, now), ["1:last-passed", "2:held", "6:newest"]);
    assert_eq!(
        kept(&RetentionPolicy { drilled: 2, ..none() }, &points, now),
        ["1:last-passed", "2:held", "3:drilled", "4:drilled", "6:newest"]
    );
}

#[test]
fn dumps_stand_apart() {
    let mut points: Vec<PointFacts> = (1..=6).map(|day| point(day, &format!("2026-05-0{day}T12:00:00Z"))).collect();
    for dump in [0, 4, 5] {
        points[dump].dump = true;
    }
    let policy = RetentionPolicy {
        last: 1,
        hourly: 9000,
        daily: 900,
        weekly: 90,
        monthly: 90,
        yearly: 9,
        pitr: Some(span("60d")),
        drilled: 5,
        ..none()
    };
    points[4].passed = Some(at("2026-05-20T00:00:00Z"));
    let told = kept(&policy, &points, "2026-05-06T13:00:00Z");
    let reasons = |id: &str| told.iter().find(|line| line.starts_with(id)).cloned().unwrap_or_default();
    assert_eq!(reasons("1"), "", "a dump is the first of nothing, and in no window");
    assert_eq!(reasons("5"), "", "and counts as drilled for nothing");
    assert_eq!(reasons("6"), "6:newest,last", "the newest dump");
    assert!(reasons("2").contains("monthly") && reasons("2").contains("yearly"), "{told:?}");
    assert!(reasons("4").starts_with("4:newest,last"), "the newest backup: {told:?}");
    assert_eq!(pitr_base(&policy, &points, at("2027-05-06T13:00:00Z")), Some(points[3].id));
    points[0].held = true;
    assert!(kept(&policy, &points, "2026-05-06T13:00:00Z").contains(&"1:held".to_owned()));
}

#[test]
fn without_a_policy_everything_stays() {
    let points = [point(1, "2020-01-01T00:00:00Z"), point(2, "2026-05-01T00:00:00Z")];
    let now = at("2026-06-01T00:00:00Z");
    let decisions = decide(None, Some(&LOCK), &points, now);
    assert!(decisions.iter().all(|decision| decision.keep && decision.end == LOCK.renewed(now)));
    assert_eq!(decisions[0].reasons, [(Reason::NoPolicy, None)]);
    assert_eq!(decisions[0].kept_until(), None);
    assert_eq!(end_of_new(None, Some(&LOCK), &points, now), Some(at("2026-06-15T00:00:00Z")));
    assert_eq!(end_of_new(None, None, &points, now), None);
}

#[test]
fn ends_of_open_and_closed_reasons() {
    let policy = RetentionPolicy { daily: 30, ..none() };
    let points = [point(1, "2026-05-01T12:00:00Z"), point(2, "2026-05-01T13:00:00Z"), point(3, "2026-05-02T12:00:00Z")];
    let now = at("2026-05-28T13:00:00Z");
    let decisions = decide(Some(&policy), Some(&LOCK), &points, now);
    let ends: Vec<(Timestamp, Timestamp)> =
        decisions.iter().map(|decision| (decision.end, decision.demanded)).collect();
    assert_eq!(ends[0], (at("2026-05-31T00:00:00Z"), at("2026-05-31T00:00:00Z")), "closed: as was promised");
    assert_eq!(ends[1], (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH), "not kept: the past");
    assert!(!decisions[1].keep);
    assert_eq!(ends[2].0, LOCK.renewed(now), "the newest, longer than its day");
    assert_eq!(ends[2].1, at("2026-06-01T01:00:00Z").max(LOCK.demanded(now)));
    assert_eq!(decisions[0].kept_until(), Some(at("2026-05-31T00:00:00Z")));
    assert_eq!(decisions[2].kept_until(), None);
}

#[test]
fn renewals_are_rare_and_in_time() {
    let begin = at("2026-05-01T00:00:00Z");
    let half = Duration::from_secs(7 * 86_400);
    let mut ends = std::collections::BTreeSet::new();
    for hour in 0..24 * 70 {
        let now = later(begin, Duration::from_secs(hour * 3600));
        let end = LOCK.renewed(now);
        assert!(end > later(now, half) && end <= later(now, 2 * half), "{now}: {end}");
        assert!(LOCK.demanded(now) < later(now, half), "an end that was right half a step ago is no alarm");
        ends.insert(end);
    }
    assert!(ends.len() <= 11, "70 days are 10 halves of 14 days: {}", ends.len());
    let tiny = LockPolicy { minimum: Span(Duration::from_secs(1)), ..LOCK };
    assert!(tiny.renewed(begin) > begin);
}

#[test]
fn the_end_of_a_new_point() {
    let policy = RetentionPolicy { hourly: 24, daily: 7, monthly: 12, pitr: Some(span("20d")), ..none() };
    let end = |earlier: &[PointFacts], time: &str| {
        end_of_new(Some(&policy), Some(&LOCK), earlier, at(time)).unwrap().to_string()
    };
    let first = point(1, "2026-05-01T12:00:00Z");
    assert_eq!(end(&[], "2026-05-01T12:00:00Z"), "2027-05-01T00:00:00Z", "the first of its month");
    assert_eq!(
        end(&[first], "2026-05-01T12:10:00Z"),
        "2026-05-28T12:10:00Z",
        "the window alone, and half of the minimum"
    );
    assert_eq!(end(&[first], "2026-06-01T00:00:00Z"), "2027-06-01T00:00:00Z");
    let on_the_stroke = point(1, "2026-06-01T00:00:00Z");
    assert_eq!(end(&[on_the_stroke], "2026-06-01T00:00:01Z"), "2026-06-28T00:00:01Z", "a first in the first second");
    let dump = PointFacts { dump: true, ..first };
    assert_eq!(end(&[dump], "2026-05-01T12:10:00Z"), "2027-05-01T00:00:00Z", "a dump is the first of nothing");
    let ahead = point(1, "2026-05-03T12:00:00Z");
    assert_eq!(end(&[ahead], "2026-05-01T12:10:00Z"), "2027-05-01T00:00:00Z", "a clock that was ahead");
    let short = RetentionPolicy { hourly: 1, ..none() };
    let least = end_of_new(Some(&short), Some(&LOCK), &[], at("2026-05-01T12:00:00Z"));
    assert_eq!(least, Some(at("2026-05-15T12:00:00Z")), "never less than the lock's minimum");
}
