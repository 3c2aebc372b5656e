//! Log sequence numbers and WAL segment names, as PostgreSQL writes them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A byte position in the write-ahead log (PostgreSQL: `pg_lsn`), printed as `X/X`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(pub u64);

/// The text is not `X/X` with hexadecimal halves of at most 8 digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an LSN: expected the form 0/16B3748")]
pub struct LsnError(String);

impl Lsn {
    /// The segment number this position falls into.
    pub fn segment(self, segment_size: u64) -> u64 {
        self.0 / segment_size
    }

    /// The first position of the segment this position falls into.
    pub fn segment_start(self, segment_size: u64) -> Lsn {
        Lsn(self.0 - self.0 % segment_size)
    }
}

/// The 24-digit file name of a WAL segment (PostgreSQL: `XLogFileName`).
pub fn segment_file_name(timeline: u32, segment: u64, segment_size: u64) -> String {
    let per_id = 0x1_0000_0000 / segment_size;
    format!("{timeline:08X}{:08X}{:08X}", segment / per_id, segment % per_id)
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lsn({self})")
    }
}

impl FromStr for Lsn {
    type Err = LsnError;
    fn from_str(text: &str) -> Result<Self, LsnError> {
        let half =
            |part: &str| (!part.is_empty() && part.len() <= 8).then(|| u32::from_str_radix(part, 16).ok()).flatten();
        let (high, low) = text.split_once('/').ok_or_else(|| LsnError(text.to_owned()))?;
        match (half(high), half(low)) {
            (Some(high), Some(low)) => Ok(Lsn((u64::from(high) << 32) | u64::from(low))),
            _ => Err(LsnError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Lsn {
    type Error = LsnError;
    fn try_from(text: String) -> Result<Self, LsnError> {
        text.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> String {
        lsn.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        assert_eq!("16/B374D848".parse::<Lsn>().unwrap(), Lsn(0x16_B374_D848));
        assert_eq!(Lsn(0x1_0000_0028).to_string(), "1/28");
        for bad in ["", "1", "/1", "1/", "1/G", "123456789/0"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn segment_names() {
        let size = 16 << 20;
        assert_eq!(segment_file_name(1, Lsn(0x1_0200_0028).segment(size), size), "000000010000000100000002");
        assert_eq!(Lsn(0x1_0200_0028).segment_start(size), Lsn(0x1_0200_0000));
    }
}
