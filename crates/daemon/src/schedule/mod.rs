//! Schedules: what is due when. Pure but for reading the folder: given a schedule and a time, the answer is always the same.
//! docs/schedules.md describes the files.
//!
//! Read on: `read` (a file) → `check` (all files together) → [`cron`] (a line, on a calendar) → `calendar` (moments, daylight
//! saving) → `due` (jitter, blackouts, what was missed).

mod calendar;
mod check;
pub mod cron;
mod due;
mod fields;
mod read;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
mod tests;

pub use check::{Found, problems, read};
pub use due::Occurrence;
pub use read::CONTROLS;

use lifeboat_model::{
    id::{Instance, Tenant, TierName},
    retention::Zone,
    time::Span,
};

use crate::job::Verb;

/// One checked entry of `schedules/*.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Whose it is; none while its file is read without the configuration.
    pub tenant: Option<Tenant>,
    /// Its name, unique within the tenant.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// The file that it stands in.
    pub file: std::path::PathBuf,
    /// Whose.
    pub of: Of,
    /// What is done.
    pub verb: Verb,
    /// When.
    pub when: When,
    /// In which zone the cron line and the blackouts are read.
    pub time_zone: Zone,
    /// Spread over this span after it is due, the same for an instance each time: drawn from the names.
    pub jitter: Span,
    /// Never begun within these.
    pub blackouts: Vec<Blackout>,
    /// What happens to runs that were due while nobody was there.
    pub missed: Missed,
    /// How often a run that failed for a passing reason is tried again.
    pub retries: u32,
    /// Not before this has passed since the last try.
    pub retry_after: Span,
}

/// Whose schedule it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// Every instance of these tiers.
    Tiers(Vec<TierName>),
    /// These.
    Instances(Vec<Instance>),
    /// Every instance.
    All,
    /// The tenant as a whole.
    Tenant,
}

/// When a run is due.
#[derive(Debug, Clone, PartialEq)]
pub enum When {
    /// By a cron line, on days that the calendar allows.
    Cron(cron::Cron),
    /// When a run of this schedule passed for the same instance.
    After {
        /// Its name.
        schedule: String,
        /// So long after its end.
        delay: Span,
    },
    /// Always: a stream, begun again when it ends.
    Always,
}

/// A time of the day in which nothing is begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blackout {
    /// On these days of the week, by their start; all seven unless said.
    pub days: Vec<jiff::civil::Weekday>,
    /// From.
    pub from: jiff::civil::Time,
    /// To; not after `from`, it is on the next day.
    pub to: jiff::civil::Time,
}

/// What happens to runs that were due while nobody was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// The newest of them is done now, if it was due within this span; older ones are reported as missed.
    Once(Span),
    /// They are reported as missed.
    Skip,
}
