//! Cron lines: what they mean, and what is refused.

use super::{super::cron::Cron, cron, cron_on, fires, zone};

/// The days of January 2027 (the 1st is a Friday) on which a line at midnight fires.
fn days(line: &str) -> Vec<u8> {
    let fired = fires(&cron(line), &zone("UTC"), "2026-12-31T23:59:59Z", "2027-01-31T23:59:59Z");
    fired.iter().map(|text| text[4..6].parse().unwrap()).collect()
}

#[test]
fn days_of_the_week_are_numbered_as_crontab_does() {
    assert_eq!(days("0 0 * * 0"), [3, 10, 17, 24, 31], "0 is Sunday");
    assert_eq!(days("0 0 * * 7"), days("0 0 * * 0"), "and so is 7");
    assert_eq!(days("0 0 * * sun"), days("0 0 * * 0"));
    assert_eq!(days("0 0 * * 1"), [4, 11, 18, 25], "1 is Monday");
    assert_eq!(days("0 0 * * 6"), [2, 9, 16, 23, 30], "6 is Saturday");
    assert_eq!(days("0 0 * * 5-7"), [1, 2, 3, 8, 9, 10, 15, 16, 17, 22, 23, 24, 29, 30, 31]);
    assert_eq!(days("0 0 * * fri-sun"), days("0 0 * * 5-7"));
    assert_eq!(days("0 0 * * */2"), days("0 0 * * 0,2,4,6"));
    assert_eq!(days("0 0 0 * * 1"), days("0 0 * * 1"), "with seconds as well");
    assert_eq!(days("@weekly"), days("0 0 * * 0"));
}

#[test]
fn a_day_of_the_month_or_of_the_week() {
    assert_eq!(days("0 0 1,15 * *"), [1, 15]);
    assert_eq!(days("0 0 1,15 * mon"), [1, 4, 11, 15, 18, 25], "either");
    assert_eq!(days("0 0 */10 * mon"), [11], "both, where one begins with *");
    assert_eq!(days("0 0 1-10 * */3"), [2, 3, 6, 9, 10], "both: Sunday, Wednesday, Saturday");
    assert_eq!(days("0 0 10,11 * mon"), [4, 10, 11, 18, 25], "a day that is in both is one run");
}

#[test]
fn the_nth_day_of_a_month() {
    let fired = |days: &[&str]| {
        let cron = cron_on("30 3 * * *", days);
        fires(&cron, &zone("Europe/Berlin"), "2026-10-01T00:00:00Z", "2026-12-31T00:00:00Z")
    };
    assert_eq!(fired(&["first sunday"]), ["Sun 04 03:30:00+02:00", "Sun 01 03:30:00+01:00", "Sun 06 03:30:00+01:00"]);
    assert_eq!(fired(&["last Friday"]), ["Fri 30 03:30:00+01:00", "Fri 27 03:30:00+01:00", "Fri 25 03:30:00+01:00"]);
    let both = fired(&["first sun", "last fri"]);
    assert_eq!(both.len(), 6, "{both:?}");
    let cron = cron_on("*/20 22-23 * 2 *", &["second tuesday"]);
    let fired = fires(&cron, &zone("UTC"), "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
    assert_eq!(fired.len(), 6, "{fired:?}");
    assert!(fired.iter().all(|text| text.starts_with("Tue 10")), "{fired:?}");
}

#[test]
fn short_forms_seconds_and_steps() {
    let fired = |line: &str| fires(&cron(line), &zone("UTC"), "2026-12-31T22:00:00Z", "2027-01-01T01:00:00Z");
    assert_eq!(fired("@hourly"), ["Thu 31 23:00:00+00:00", "Fri 01 00:00:00+00:00", "Fri 01 01:00:00+00:00"]);
    for line in ["@daily", "@midnight", "@monthly", "@yearly", "@annually", "0 0 1 JAN *", "0,0 0 1 1 *"] {
        assert_eq!(fired(line), ["Fri 01 00:00:00+00:00"], "{line}");
    }
    assert_eq!(fired("*/20 15 23 * * *"), ["Thu 31 23:15:00+00:00", "Thu 31 23:15:20+00:00", "Thu 31 23:15:40+00:00"]);
    assert_eq!(fired("10-40/15 23 * * *"), ["Thu 31 23:10:00+00:00", "Thu 31 23:25:00+00:00", "Thu 31 23:40:00+00:00"]);
}

/// Leap days, and the end of each month.
#[test]
fn months_have_the_days_that_they_have() {
    let fired = |line: &str| fires(&cron(line), &zone("UTC"), "2026-01-01T00:00:00Z", "2029-01-01T00:00:00Z");
    assert_eq!(fired("0 12 29 2 *"), ["Tue 29 12:00:00+00:00"]);
    assert_eq!(fired("0 12 31 * *").len(), 3 * 7);
}

#[test]
fn what_is_wrong_is_said() {
    let said = |line: &str| {
        let wrong = Cron::read(line, Vec::new()).unwrap_err();
        format!("{line}: {}; {}", wrong.message, wrong.hint)
    };
    let lines = [
        "",
        "* * * *",
        "1 2 3 4 5 6 7",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "* * * * mo",
        "5/15 * * * *",
        "*/0 * * * *",
        "*/x * * * *",
        "20-10 * * * *",
        "* * ? * *",
        "* * L * *",
        "* * * * fri#2",
        "* * 1-/2 * *",
        ",1 * * * *",
        "+5 * * * *",
        "@reboot",
        "@every 5m",
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "0 22-6 * * *",
        "0 0 * * sat-mon",
    ];
    insta::assert_snapshot!(lines.map(said).join("\n"));
    let days = vec![super::DayOfMonth::read("first monday").unwrap()];
    assert!(Cron::read("0 0 1 * *", days).unwrap_err().message.contains("so does `on`"));
    for bad in ["monday", "fifth monday", "first", "first week", "first sunday of may"] {
        assert!(super::DayOfMonth::read(bad).is_err(), "{bad}");
    }
}
