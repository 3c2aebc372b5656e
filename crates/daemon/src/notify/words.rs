//! Spans of time as people say them.

use jiff::Timestamp;

/// `50 s`, `6 min`, `2 h 10 min`, `3 days`.
pub(super) fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    let minutes = (seconds + 30) / 60;
    let hours = (seconds + 1800) / 3600;
    match seconds {
        0..90 => format!("{seconds} s"),
        90..7_200 if minutes < 60 => format!("{minutes} min"),
        90..36_000 if !minutes.is_multiple_of(60) => format!("{} h {} min", minutes / 60, minutes % 60),
        90..172_800 => format!("{hours} h"),
        _ => format!("{} days", (seconds + 43_200) / 86_400),
    }
}

/// Seconds from one time to another; negative when it has passed.
pub(super) fn between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// `in 6 min`, or `since 6 min` when it has passed.
pub(super) fn until(now: Timestamp, then: Timestamp) -> String {
    let seconds = between(now, then);
    if seconds >= 0.0 { format!("in {}", span(seconds)) } else { format!("since {}", span(-seconds)) }
}

/// The first line, cut to so many characters.
pub(super) fn short(text: &str, most: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_as_people_say_them() {
        for (seconds, words) in [
            (0.0, "0 s"),
            (89.4, "89 s"),
            (90.0, "2 min"),
            (360.0, "6 min"),
            (3600.0, "1 h"),
            (5400.0, "1 h 30 min"),
            (7800.0, "2 h 10 min"),
            (86_400.0, "24 h"),
            (260_000.0, "3 days"),
        ] {
            assert_eq!(span(seconds), words);
        }
        assert_eq!(until(Timestamp::UNIX_EPOCH, Timestamp::constant(360, 0)), "in 6 min");
        assert_eq!(until(Timestamp::constant(360, 0), Timestamp::UNIX_EPOCH), "since 6 min");
        assert_eq!(short("äöü\nnext", 2), "äö…");
    }
}
