//! Where evidence is stored: `<tenant>/evidence/<time>-<instance>-<kind>-<run id>.dsse.json`.

use std::{fmt, str::FromStr};

use jiff::{Timestamp, civil, tz::TimeZone};
use lifeboat_model::{
    id::{Instance, RunId, Tenant},
    time::compact,
};

const SUFFIX: &str = ".dsse.json";

/// The parts of a key. It is for finding: what counts stands in the signed statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceKey {
    /// Whose evidence it is.
    pub tenant: Tenant,
    /// When the run started, to the second.
    pub time: Timestamp,
    /// The instance it is about; of an act upon the whole repository the word [`TENANT_WIDE`](crate::act::TENANT_WIDE).
    pub instance: Instance,
    /// `backup`, `drill`, `dump` or an act's word; later versions have more.
    pub kind: String,
    /// The run it tells of.
    pub run: RunId,
}

/// The text is not a key of evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a key of evidence: expected <tenant>/evidence/<time>-<instance>-<kind>-<run id>{SUFFIX}")]
pub struct EvidenceKeyError(String);

/// What all keys of a tenant's evidence begin with.
pub fn prefix(tenant: &Tenant) -> String {
    format!("{tenant}/evidence/")
}

impl fmt::Display for EvidenceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenant, time, instance, kind, run } = self;
        write!(f, "{}{}-{instance}-{kind}-{run}{SUFFIX}", prefix(tenant), compact(*time))
    }
}

impl FromStr for EvidenceKey {
    type Err = EvidenceKeyError;
    fn from_str(text: &str) -> Result<Self, EvidenceKeyError> {
        parse(text).ok_or_else(|| EvidenceKeyError(text.to_owned()))
    }
}

/// From both ends, as an instance's name may hold `-`.
fn parse(text: &str) -> Option<EvidenceKey> {
    let (tenant, name) = text.split_once("/evidence/")?;
    let (time, rest) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let (rest, run) = rest.rsplit_once('-')?;
    let (instance, kind) = rest.rsplit_once('-')?;
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let key = EvidenceKey {
        tenant: tenant.parse().ok()?,
        time: civil::DateTime::strptime("%Y%m%dT%H%M%SZ", time).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp(),
        instance: instance.parse().ok()?,
        kind: Some(kind).filter(|kind| !kind.is_empty() && kind.chars().all(known))?.to_owned(),
        run: run.parse().ok()?,
    };
    // One key, one text: no capitals in the run id, no other way to write the time.
    (key.to_string() == text).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let text = "acme/evidence/20261121T200732Z-clinic-2-backup-00000000000000ab.dsse.json";
        let key: EvidenceKey = text.parse().unwrap();
        assert_eq!((key.instance.as_str(), key.kind.as_str()), ("clinic-2", "backup"));
        assert_eq!(key.time.to_string(), "2026-11-21T20:07:32Z");
        assert_eq!(key.to_string(), text);
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "",
            "acme/evidence/",
            "acme/evidence/20261121T200732Z-clinic-backup-00000000000000ab.json",
            "acme/evidence/20261121T200732Z-clinic-00000000000000ab.dsse.json",
            "acme/evidence/20261121T200732Z-clinic-backup-00000000000000AB.dsse.json",
            "acme/evidence/20261321T200732Z-clinic-backup-00000000000000ab.dsse.json",
            "acme/points/20261121T200732Z-clinic-backup-00000000000000ab.dsse.json",
            "/evidence/20261121T200732Z-clinic-backup-00000000000000ab.dsse.json",
            "a/b/evidence/20261121T200732Z-clinic-backup-00000000000000ab.dsse.json",
        ] {
            assert!(bad.parse::<EvidenceKey>().is_err(), "{bad}");
        }
    }
}
