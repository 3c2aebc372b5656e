//! Jitter, blackouts, and runs that were missed.

use jiff::{Timestamp, ToSpan as _, Unit};
use lifeboat_model::id::Instance;
use proptest::prelude::*;

use super::{super::*, cron, time, zone};

fn schedule(line: &str, time_zone: &str) -> Schedule {
    Schedule {
        tenant: Some("acme".parse().unwrap()),
        name: "nightly".to_owned(),
        description: None,
        file: "schedules/gold.toml".into(),
        of: Of::All,
        verb: Verb::Backup,
        when: When::Cron(cron(line)),
        time_zone: zone(time_zone),
        jitter: Span(std::time::Duration::ZERO),
        blackouts: Vec::new(),
        missed: Missed::Once("12h".parse().unwrap()),
        retries: 2,
        retry_after: "10m".parse().unwrap(),
    }
}

fn blackout(days: &[jiff::civil::Weekday], from: i8, to: i8) -> Blackout {
    let days =
        if days.is_empty() { jiff::civil::Weekday::Monday.cycle_forward().take(7).collect() } else { days.to_vec() };
    let at = |hour| jiff::civil::time(hour, 0, 0, 0);
    Blackout { days, from: at(from), to: at(to) }
}

fn clinic() -> Instance {
    "clinic".parse().unwrap()
}

/// `due -> at` as clocks show them.
fn told(schedule: &Schedule, after: &str, until: &str) -> Vec<String> {
    let shown = |time: Timestamp| time.to_zoned(schedule.time_zone.rules().clone()).strftime("%d %H:%M%:z").to_string();
    schedule
        .due(Some(&clinic()), time(after), time(until))
        .map(|found| match found.at == found.due {
            true => shown(found.due),
            false => format!("{} -> {}", shown(found.due), shown(found.at)),
        })
        .collect()
}

#[test]
fn the_end_is_within_and_the_beginning_is_not() {
    let schedule = schedule("0 * * * *", "UTC");
    let told = told(&schedule, "2026-11-22T10:00:00Z", "2026-11-22T12:00:00Z");
    assert_eq!(told, ["22 11:00+00:00", "22 12:00+00:00"]);
}

#[test]
fn jitter_is_the_same_each_time_and_another_for_each_instance_and_tenant() {
    let schedule = Schedule { jitter: "20m".parse().unwrap(), ..schedule("0 2 * * *", "Europe/Berlin") };
    let of = |schedule: &Schedule, name: &str| {
        let name: Instance = name.parse().unwrap();
        let (after, until) = (time("2026-11-01T00:00:00Z"), time("2026-11-20T00:00:00Z"));
        let late: Vec<i64> =
            schedule.due(Some(&name), after, until).map(|found| found.at.duration_since(found.due).as_secs()).collect();
        assert!(late.len() == 19 && late.iter().all(|seconds| *seconds == late[0]), "{late:?}");
        late[0]
    };
    let at = |name: &str| of(&schedule, name);
    let drawn: Vec<i64> = (0..200).map(|number| at(&format!("clinic-{number}"))).collect();
    assert!(drawn.iter().all(|seconds| (0..1200).contains(seconds)), "{drawn:?}");
    // Evenly spread: each quarter of the span has its share of 200, give or take.
    for quarter in 0..4 {
        let share = drawn.iter().filter(|seconds| **seconds / 300 == quarter).count();
        assert!((30..=70).contains(&share), "{share} of 200 in quarter {quarter}");
    }
    // Tenants call their instances alike, and must not all begin at one moment for that.
    let tenants: std::collections::BTreeSet<i64> = (0..50)
        .map(|number| Schedule { tenant: format!("tenant-{number}").parse().ok(), ..schedule.clone() })
        .map(|schedule| of(&schedule, "clinic"))
        .collect();
    assert!(tenants.len() > 40, "{tenants:?}");
    // Another release must not move it.
    assert_eq!(at("clinic"), 260);
}

#[test]
fn what_falls_into_a_blackout_is_done_once_at_its_end() {
    let working = jiff::civil::Weekday::Monday.cycle_forward().take(5).collect::<Vec<_>>();
    let schedule = Schedule { blackouts: vec![blackout(&working, 8, 18)], ..schedule("0 */3 * * *", "Europe/Berlin") };
    // 20 November 2026 is a Friday.
    assert_eq!(
        told(&schedule, "2026-11-20T03:00:00Z", "2026-11-20T23:30:00Z"),
        ["20 06:00+01:00", "20 18:00+01:00", "20 21:00+01:00", "21 00:00+01:00"],
        "09, 12 and 15 o'clock are one with 18 o'clock"
    );
    assert_eq!(told(&schedule, "2026-11-21T07:00:00Z", "2026-11-21T12:30:00Z"), ["21 09:00+01:00", "21 12:00+01:00"]);
    let odd = Schedule { when: When::Cron(cron("30 8,10,12 * * *")), ..schedule };
    assert_eq!(told(&odd, "2026-11-20T03:00:00Z", "2026-11-20T23:30:00Z"), ["20 12:30+01:00 -> 20 18:00+01:00"]);
}

#[test]
fn blackouts_go_over_midnight_and_one_into_another() {
    let friday = [jiff::civil::Weekday::Friday];
    let saturday = [jiff::civil::Weekday::Saturday];
    let blackouts = vec![blackout(&friday, 22, 6), blackout(&saturday, 6, 0)];
    let schedule = Schedule { blackouts, ..schedule("0 23,3 * * *", "Europe/Berlin") };
    assert_eq!(
        told(&schedule, "2026-11-19T12:00:00Z", "2026-11-22T12:00:00Z"),
        ["19 23:00+01:00", "20 03:00+01:00", "21 23:00+01:00 -> 22 00:00+01:00", "22 03:00+01:00"],
        "Friday's begins on Friday evening, Saturday's lasts until midnight"
    );
}

/// On the night on which an hour comes twice, both passes are dark.
#[test]
fn a_blackout_on_the_night_of_the_change() {
    let schedule = Schedule { blackouts: vec![blackout(&[], 1, 3)], ..schedule("15 * * * *", "Europe/Berlin") };
    assert_eq!(
        told(&schedule, "2026-10-24T22:00:00Z", "2026-10-25T03:00:00Z"),
        ["25 00:15+02:00", "25 02:15+01:00 -> 25 03:00+01:00", "25 03:15+01:00"]
    );
    let ends_in_it = Schedule { blackouts: vec![blackout(&[], 0, 2)], ..schedule };
    assert_eq!(
        told(&ends_in_it, "2027-03-27T23:00:00Z", "2027-03-28T02:00:00Z"),
        ["28 01:15+01:00 -> 28 03:00+02:00", "28 03:15+02:00"]
    );
}

#[test]
fn what_comes_after_another() {
    let when = When::After { schedule: "nightly".into(), delay: "10m".parse().unwrap() };
    let schedule = Schedule { when, blackouts: vec![blackout(&[], 8, 18)], ..schedule("@daily", "UTC") };
    let found = schedule.follows(None, time("2026-11-22T07:55:00Z")).unwrap();
    assert_eq!(found, Occurrence { due: time("2026-11-22T08:05:00Z"), at: time("2026-11-22T18:00:00Z") });
    assert_eq!(schedule.due(None, time("2026-11-22T00:00:00Z"), time("2026-12-22T00:00:00Z")).count(), 0);
    assert_eq!(schedule.words(), "10m 0s after nightly");
}

#[test]
fn what_was_missed_is_caught_up_once_or_reported() {
    let daily = schedule("0 2 * * *", "UTC");
    let dues = |schedule: &Schedule, after: &str, until: &str| -> Vec<Occurrence> {
        schedule.due(None, time(after), time(until)).collect()
    };
    let now = time("2026-11-22T09:00:00Z");
    let three = dues(&daily, "2026-11-19T12:00:00Z", "2026-11-22T09:00:00Z");
    let (run, missed) = daily.catch_up(&three, now);
    assert_eq!(run, Some(Occurrence { due: three[2].due, at: now }));
    assert_eq!(missed.iter().map(|(found, _)| *found).collect::<Vec<_>>(), three[..2]);
    assert!(missed[0].1.contains("stands for it"), "{missed:?}");
    // Too late.
    let (run, missed) = daily.catch_up(&three, time("2026-11-22T14:00:01Z"));
    assert_eq!((run, missed.len()), (None, 3));
    assert!(missed[2].1.contains("within 12h"), "{missed:?}");
    // To be skipped; but a minute is not late.
    let skip = Schedule { missed: Missed::Skip, ..daily.clone() };
    let (run, missed) = skip.catch_up(&three, now);
    assert_eq!((run, missed.len()), (None, 3));
    let (run, missed) = skip.catch_up(&three, time("2026-11-22T02:00:59Z"));
    assert_eq!((run, missed.len()), (Some(three[2]), 2));
    // Its time is yet to come.
    let jittered = Schedule { jitter: "20m".parse().unwrap(), missed: Missed::Skip, ..daily.clone() };
    let late = dues(&jittered, "2026-11-21T12:00:00Z", "2026-11-22T02:00:01Z");
    assert_eq!(jittered.catch_up(&late, time("2026-11-22T02:00:01Z")), (Some(late[0]), Vec::new()));
    // Caught up, but not in a blackout.
    let dark = Schedule { blackouts: vec![blackout(&[], 8, 18)], ..daily.clone() };
    let (run, _) = dark.catch_up(&three, now);
    assert_eq!(run.unwrap().at, time("2026-11-22T18:00:00Z"));
    assert_eq!(daily.catch_up(&[], now), (None, Vec::new()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// However a stretch is cut, the same is due; nothing begins in a blackout, before it is due, or together with another.
    #[test]
    fn parts_are_the_whole(
        line in prop_oneof![Just("*/10 * * * *"), Just("0 * * * *"), Just("20 1,2,3,9 * * *"), Just("0 */4 * * *")],
        from in 0_i8..24, to in 0_i8..24, more in 0_i8..24, until in 0_i8..24, jitter in 0_u64..5400,
        cut in 1_i64..4000, spring in any::<bool>(),
    ) {
        let blackouts = vec![blackout(&[], from, to), blackout(&[jiff::civil::Weekday::Sunday], more, until)];
        if from == to { return Ok(()); } // always dark: refused when it is read
        let jitter = Span(std::time::Duration::from_secs(jitter));
        let schedule = Schedule { jitter, blackouts, ..schedule(line, "Europe/Berlin") };
        let begin = if spring { time("2027-03-27T00:00:00Z") } else { time("2026-10-24T00:00:00Z") };
        let (middle, end) = (begin + cut.minutes(), begin + 72.hours());
        let whole: Vec<Occurrence> = schedule.due(None, begin, end).collect();
        let parts: Vec<Occurrence> =
            schedule.due(None, begin, middle.min(end)).chain(schedule.due(None, middle, end)).collect();
        prop_assert_eq!(&whole, &parts);
        for pair in whole.windows(2) {
            prop_assert!(pair[0].due < pair[1].due && pair[0].at < pair[1].at, "{:?}", pair);
        }
        for found in &whole {
            prop_assert!(found.at >= found.due + schedule.jitter_of_none());
            let civil = schedule.time_zone.rules().to_datetime(found.at);
            for blackout in &schedule.blackouts {
                let opened = |day: jiff::civil::Date| blackout.days.contains(&day.weekday());
                let dark = match blackout.to <= blackout.from {
                    false => opened(civil.date()) && civil.time() >= blackout.from && civil.time() < blackout.to,
                    true => (opened(civil.date()) && civil.time() >= blackout.from)
                        || (opened(civil.date().yesterday().unwrap()) && civil.time() < blackout.to),
                };
                prop_assert!(!dark, "{civil} is in {blackout:?}");
            }
        }
    }
}

impl Schedule {
    fn jitter_of_none(&self) -> jiff::SignedDuration {
        let probe = Schedule { blackouts: Vec::new(), when: When::Cron(cron("@daily")), ..self.clone() };
        let found = probe.due(None, time("2026-01-01T12:00:00Z"), time("2026-01-03T12:00:00Z")).next().unwrap();
        found.at.duration_since(found.due).round(Unit::Millisecond).unwrap()
    }
}
