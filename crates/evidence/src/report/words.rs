//! Numbers and times as people read them, the same in every form of a report.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_model::time::Span;

/// `12.3s`, `4m 5s`, `2h`
pub(super) fn span(seconds: f64) -> String {
    let text = Span(Duration::try_from_secs_f64(seconds).unwrap_or_default()).to_string();
    match text.rsplit_once(' ') {
        Some((whole, "0s" | "0m" | "0h")) => whole.to_owned(),
        _ => text,
    }
}

/// `1 day`, `12 days`; below two days as [`span`] writes it.
pub(super) fn days(seconds: u64) -> String {
    match seconds / 86_400 {
        1 if seconds.is_multiple_of(86_400) => "1 day".to_owned(),
        0 | 1 => span(seconds as f64),
        days => format!("{days} days"),
    }
}

/// `2026-11-21`
pub(super) fn date(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

/// `21 Nov 2026`
pub(super) fn day(time: Timestamp) -> String {
    time.strftime("%-d %b %Y").to_string()
}

/// `2026-11-21 20:07 UTC`
pub(super) fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// `2026-11-21 20:07:32 UTC`
pub(super) fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `1,234,567`
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 drill`, `2 drills`
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!((days(86_400).as_str(), days(90_000).as_str()), ("1 day", "1d 1h"));
        assert_eq!((days(7 * 86_400).as_str(), days(3600).as_str()), ("7 days", "1h"));
        assert_eq!(count(1, "drill", "drills"), "1 drill");
        assert_eq!(count(1_234_567, "drill", "drills"), "1,234,567 drills");
        assert_eq!(day("2026-03-04T10:00:00Z".parse().unwrap()), "4 Mar 2026");
    }
}
