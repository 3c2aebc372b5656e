//! Durations in text, and the time form used in object names.

use std::{fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

/// A span with its unit in the text: `500ms`, `90s`, `15m`, `4h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct Span(pub Duration);

/// The text is not a span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a time span: write a whole number and ms, s, m, h or d, for example \"15m\"")]
pub struct SpanError(String);

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for Span {
    type Err = SpanError;
    fn from_str(text: &str) -> Result<Self, SpanError> {
        let error = || SpanError(text.to_owned());
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
        let number: u64 = text[..digits].parse().map_err(|_| error())?;
        let unit = text[digits..].trim();
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        number.checked_mul(*millis).map(|ms| Span(Duration::from_millis(ms))).ok_or_else(error)
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

/// The two largest units that are not zero: `1h 5m`, `12.3s`, `250ms`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0 => write!(f, "{}ms", self.0.as_millis()),
            1..60 => write!(f, "{:.1}s", self.0.as_secs_f64()),
            60..3600 => write!(f, "{}m {}s", seconds / 60, seconds % 60),
            3600..86_400 => write!(f, "{}h {}m", seconds / 3600, seconds % 3600 / 60),
            _ => write!(f, "{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
        }
    }
}

/// `YYYYMMDDTHHMMSSZ` in UTC: sorts by time and is safe in object names.
pub fn compact(time: Timestamp) -> String {
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        assert_eq!("15m".parse(), Ok(Span(Duration::from_secs(900))));
        assert_eq!(Span(Duration::from_secs(3900)).to_string(), "1h 5m");
        assert_eq!(Span(Duration::from_millis(250)).to_string(), "250ms");
        for bad in ["", "15", "m", "1.5h", "-1s", "5 weeks", "99999999999999999d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn compact_times_sort() {
        let time: Timestamp = "2026-11-21T20:07:32.5Z".parse().unwrap();
        assert_eq!(compact(time), "20261121T200732Z");
    }
}
