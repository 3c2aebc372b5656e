//! Time zones by their IANA name, from the table that is compiled in: the same answer on every host.

use std::{fmt, str::FromStr};

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::config::nearest;

/// A time zone with a name.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// No such zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no time zone \"{name}\"")]
pub struct UnknownZone {
    /// What was asked for.
    pub name: String,
    /// The one that was probably meant.
    pub near: Option<String>,
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Zone = Zone(TimeZone::UTC);

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// Its rules.
    pub fn rules(&self) -> &TimeZone {
        &self.0
    }
}

impl FromStr for Zone {
    type Err = UnknownZone;
    fn from_str(name: &str) -> Result<Self, UnknownZone> {
        if name.eq_ignore_ascii_case("UTC") {
            return Ok(Zone::UTC);
        }
        let zones = TimeZoneDatabase::bundled();
        zones.get(name).map(Zone).map_err(|_| UnknownZone { name: name.to_owned(), near: near(&zones, name) })
    }
}

/// A city alone is the most likely slip, a letter the next.
fn near(zones: &TimeZoneDatabase, name: &str) -> Option<String> {
    let known: Vec<(String, String)> =
        zones.available().map(|zone| (zone.as_str().to_lowercase(), zone.as_str().to_owned())).collect();
    let wanted = name.to_lowercase().replace(' ', "_");
    let city = known.iter().find(|(lower, _)| lower.rsplit('/').next() == Some(wanted.as_str()));
    let slip = || {
        let near = nearest(&wanted, known.iter().map(|(lower, _)| lower.as_str()))?;
        known.iter().find(|(lower, _)| lower == near)
    };
    city.or_else(slip).map(|(_, written)| written.clone())
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name())
    }
}
