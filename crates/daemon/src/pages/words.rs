//! Times, spans, sizes and counts as people read them. Times are in UTC and say so.

use jiff::{Timestamp, tz::TimeZone};
use maud::{Markup, html};

/// `40 s`, `12 min`, `3 h 20 min`, `2 d 4 h`: two units are enough.
pub(super) fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".to_owned();
    }
    if seconds < 10.0 && seconds.fract() > 0.049 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let two = |high: u64, high_name: &str, low: u64, low_name: &str| match low {
        0 => format!("{high} {high_name}"),
        low => format!("{high} {high_name} {low} {low_name}"),
    };
    match whole {
        0..=99 => format!("{whole} s"),
        3_600 => "1 h".to_owned(),
        86_400 => "1 d".to_owned(),
        100..=5_999 => match whole % 60 {
            rest if whole < 600 => two(whole / 60, "min", rest, "s"),
            rest => format!("{} min", whole / 60 + u64::from(rest >= 30)),
        },
        6_000..=172_799 => two(whole / 3_600, "h", whole % 3_600 / 60, "min"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3_600, "h"),
    }
}

/// Like [`span`], in one unit: for what must be short.
pub(super) fn short(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".to_owned();
    }
    match seconds.round() as u64 {
        whole @ 0..=99 => format!("{whole} s"),
        3_600 => "1 h".to_owned(),
        whole @ 100..=5_399 => format!("{} min", (whole + 30) / 60),
        whole @ 5_400..=172_799 => format!("{} h", (whole + 1_800) / 3_600),
        whole => format!("{} d", (whole + 43_200) / 86_400),
    }
}

/// Seconds from one moment to another; never negative.
pub(super) fn between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// `3 min ago`, `in 2 h`, in a `time` that the script keeps true.
pub(super) fn ago(now: Timestamp, at: Timestamp) -> Markup {
    let text = if at > now {
        format!("in {}", short(between(now, at)))
    } else {
        match between(at, now) {
            seconds if seconds < 1.0 => "now".to_owned(),
            seconds => format!("{} ago", short(seconds)),
        }
    };
    html! { time datetime=(at) data-ago title=(exact(at)) { (text) } }
}

/// `22 Nov 2026 14:05:09 UTC`.
pub(super) fn exact(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%-d %b %Y %H:%M:%S UTC").to_string()
}

/// `22 Nov 14:05`: the year is clear from what stands around.
pub(super) fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%-d %b %H:%M").to_string()
}

/// `22 Nov 2026`.
pub(super) fn day(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%-d %b %Y").to_string()
}

/// [`moment`] as a `time`, with the exact one for machines and for who points at it.
pub(super) fn time(at: Timestamp) -> Markup {
    html! { time datetime=(at) title=(exact(at)) { (moment(at)) } }
}

/// `22 Nov 14:05, 3 min ago`.
pub(super) fn time_and_ago(now: Timestamp, at: Timestamp) -> Markup {
    html! { (time(at)) " " span.soft { "(" (ago(now, at)) ")" } }
}

/// `1.4 GiB`.
pub(super) fn bytes(bytes: u64) -> String {
    let names = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut at = 0;
    while value >= 1023.5 && at + 1 < names.len() {
        value /= 1024.0;
        at += 1;
    }
    if at == 0 || value >= 99.95 { format!("{value:.0} {}", names[at]) } else { format!("{value:.1} {}", names[at]) }
}

/// `1,024`.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 backup`, `3 backups`.
pub(super) fn count(many: u64, one: &str, more: &str) -> String {
    format!("{} {}", number(many), if many == 1 { one } else { more })
}

/// The first letter made large.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        for (seconds, long, brief) in [
            (0.0, "0 s", "0 s"),
            (0.42, "0.4 s", "0 s"),
            (42.0, "42 s", "42 s"),
            (119.6, "2 min", "2 min"),
            (754.0, "13 min", "13 min"),
            (12_000.0, "3 h 20 min", "3 h"),
            (187_200.0, "2 d 4 h", "2 d"),
            (f64::NAN, "unknown", "unknown"),
            (-1.0, "unknown", "unknown"),
        ] {
            assert_eq!((span(seconds).as_str(), short(seconds).as_str()), (long, brief), "{seconds}");
        }
    }

    #[test]
    fn times_tell_which_way_they_are() {
        let now: Timestamp = "2026-11-22T14:05:09Z".parse().unwrap();
        let at = |seconds: i64| ago(now, now + jiff::SignedDuration::from_secs(seconds)).into_string();
        assert!(at(-180).contains(">3 min ago<"), "{}", at(-180));
        assert!(at(7200).contains(">in 2 h<"));
        assert!(at(0).contains(">now<"));
        assert!(at(0).contains("22 Nov 2026 14:05:09 UTC"));
    }

    #[test]
    fn sizes_and_numbers() {
        assert_eq!([bytes(0), bytes(1023), bytes(1024), bytes(u64::MAX)], ["0 B", "1023 B", "1.0 KiB", "16.0 EiB"]);
        assert_eq!([number(0), number(999), number(1000), number(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(count(1, "backup", "backups") + &count(2, "backup", "backups"), "1 backup2 backups");
        assert_eq!(capital("at risk") + &capital(""), "At risk");
    }
}
