//! Byte counts and rates, with units in the text.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A number of bytes. Text: a whole number and `B`, `KiB`, `MiB`, `GiB` or `TiB`; prints with one decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// The text is not a byte count with a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a size: write a whole number and a unit, for example \"64 MiB\"")]
pub struct SizeError(String);

const UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for ByteSize {
    type Err = SizeError;
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let error = || SizeError(text.to_owned());
        let (unit, factor) = UNITS.iter().find(|(unit, _)| text.trim().ends_with(unit)).ok_or_else(error)?;
        let number: u64 = text.trim()[..text.trim().len() - unit.len()].trim().parse().map_err(|_| error())?;
        number.checked_mul(*factor).map(ByteSize).ok_or_else(error)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, factor)| self.0 >= *factor && *factor > 1) {
            Some((unit, factor)) => write!(f, "{:.1} {unit}", self.0 as f64 / *factor as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// A number of bytes a second, at least one. Text: a whole number and `KiB/s`, `MiB/s` or `GiB/s`, or as lines are sold,
/// `kbit/s`, `Mbit/s` or `Gbit/s`; prints as a size does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteRate(u64);

/// The text is not a rate with a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a rate: write a whole number and a unit, for example \"50 MiB/s\" or \"400 Mbit/s\"")]
pub struct RateError(String);

/// What a number in a unit is multiplied with and divided by.
const RATE_UNITS: [(&str, u64, u64); 7] = [
    ("GiB/s", 1 << 30, 1),
    ("MiB/s", 1 << 20, 1),
    ("KiB/s", 1 << 10, 1),
    ("Gbit/s", 1_000_000_000, 8),
    ("Mbit/s", 1_000_000, 8),
    ("kbit/s", 1_000, 8),
    ("B/s", 1, 1),
];

impl ByteRate {
    /// Of so many bytes a second; none is one.
    pub fn of(bytes: u64) -> ByteRate {
        ByteRate(bytes.max(1))
    }

    /// Bytes a second.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteRate {
    type Err = RateError;
    fn from_str(text: &str) -> Result<Self, RateError> {
        let error = || RateError(text.to_owned());
        let of_unit = |(unit, factor, divisor): &(&str, u64, u64)| {
            let number: u64 = text.trim().strip_suffix(unit)?.trim().parse().ok()?;
            Some(number.checked_mul(*factor)? / divisor)
        };
        match RATE_UNITS.iter().find_map(of_unit) {
            Some(bytes @ 1..) => Ok(ByteRate(bytes)),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", ByteSize(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_people_and_of_lines() {
        for (text, bytes) in [
            ("50 MiB/s", 50 << 20),
            ("64KiB/s", 64 << 10),
            ("100 Mbit/s", 12_500_000),
            ("1 Gbit/s", 125_000_000),
            ("7 B/s", 7),
        ] {
            assert_eq!(text.parse(), Ok(ByteRate(bytes)), "{text}");
        }
        assert_eq!(ByteRate::of(3 << 19).to_string(), "1.5 MiB/s");
        for bad in ["", "5", "5 MiB", "MiB/s", "0 MiB/s", "1.5 MiB/s", "5 MB/s", "-1 B/s", "99999999999 GiB/s"] {
            let error = bad.parse::<ByteRate>().unwrap_err().to_string();
            assert!(error.contains("50 MiB/s"), "{error}");
        }
    }

    #[test]
    fn text_form() {
        assert_eq!("64 MiB".parse(), Ok(ByteSize(64 << 20)));
        assert_eq!("7B".parse(), Ok(ByteSize(7)));
        assert_eq!(ByteSize(1536).to_string(), "1.5 KiB");
        assert_eq!(ByteSize(12).to_string(), "12 B");
        for bad in ["", "12", "1.5 MiB", "-1 B", "MiB", "99999999999 TiB", "5 MB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad:?}");
        }
    }
}
