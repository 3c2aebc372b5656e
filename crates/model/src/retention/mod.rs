//! How long things stay, how firmly, and why: words shared by policy, repository and store.
//!
//! [`decide()`] is the whole policy: a pure function of the points, what is known of them, and the time. Two kinds of
//! reasons keep a point. **Closed** ones have an end that is known when the point is made: the first point of an hour,
//! day, week, month or year is kept until the start of that period plus so many periods by the policy's calendar, and
//! every point for the length of the PITR window. Their locks are put once. **Open** ones (the newest, the last so many,
//! the base of the PITR window, drilled, held) end when something else happens, so their locks are renewed: see
//! [`LockPolicy::renewed`].

mod decide;
mod period;
mod zone;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{id::PointId, time::Span};

pub use decide::{decide, end_of_new, pitr_base};
pub use zone::{UnknownZone, Zone};

/// How a store refuses to delete an object before its time (S3 Object Lock).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockMode {
    /// Who holds a special right can still delete; for trying out, and for tiers that must be able to.
    Governance,
    /// Nobody can, the account's owner included.
    Compliance,
}

impl LockMode {
    /// The word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            LockMode::Governance => "governance",
            LockMode::Compliance => "compliance",
        }
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How firmly and how long at the least a tier's objects are locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockPolicy {
    /// How firmly.
    pub mode: LockMode,
    /// Whatever policy says, an object that is needed stays locked for about so long from now.
    pub minimum: Span,
}

impl LockPolicy {
    /// Until when an object that is needed for an open reason is to be locked: at least half of `minimum` from now, at
    /// most all of it. The answer stays the same for half of `minimum`, so that repeated runs ask for nothing new.
    pub fn renewed(&self, now: Timestamp) -> Timestamp {
        renewed(self.minimum.0, now)
    }

    /// What a proof demands of such an object: less than [`LockPolicy::renewed`], so that a renewal that is due with the
    /// next backup is no alarm.
    pub fn demanded(&self, now: Timestamp) -> Timestamp {
        later(now, self.minimum.0 / 4)
    }
}

/// See [`LockPolicy::renewed`], for another length.
pub fn renewed(minimum: Duration, now: Timestamp) -> Timestamp {
    let step = i64::try_from(minimum.as_secs() / 2).unwrap_or(i64::MAX).max(1);
    let steps = now.as_second().div_euclid(step).saturating_add(2);
    Timestamp::from_second(steps.saturating_mul(step)).unwrap_or(Timestamp::MAX)
}

/// `time` and so much more; the end of time if that is beyond it.
pub fn later(time: Timestamp, span: Duration) -> Timestamp {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    time.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// `time` and so much less; the beginning of time if that is before it.
pub fn earlier(time: Timestamp, span: Duration) -> Timestamp {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    time.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// What a tier keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Whose hours, days, weeks, months and years count.
    pub time_zone: Zone,
    /// The newest so many, backups and dumps each.
    pub last: u32,
    /// The first of an hour, for so many hours.
    pub hourly: u32,
    /// The first of a day, for so many days.
    pub daily: u32,
    /// The first of a week (Monday), for so many weeks.
    pub weekly: u32,
    /// The first of a month, for so many months.
    pub monthly: u32,
    /// The first of a year, for so many years.
    pub yearly: u32,
    /// Every moment of so long can be restored.
    pub pitr: Option<Span>,
    /// At least the newest so many that passed a drill.
    pub drilled: u32,
}

/// What policy needs to know of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PointFacts {
    /// Its id.
    pub id: PointId,
    /// When it was finished.
    pub time: Timestamp,
    /// When the store received it; none where that says nothing of its making, as in a copy.
    pub received: Option<Timestamp>,
    /// A point of logical dumps: it begins no restore with WAL.
    pub dump: bool,
    /// When the last drill that it passed had ended.
    pub passed: Option<Timestamp>,
    /// Under legal hold.
    pub held: bool,
}

/// How long after its end the store receives a point at the latest.
const MARGIN: Duration = Duration::from_secs(86_400);

impl PointFacts {
    /// The store received it so long after the time that it tells that it can be a forgery with a stolen key, dated back to
    /// take the place of another. Such points are decided about among themselves: none takes a place of any other.
    pub fn is_late(&self) -> bool {
        self.received.is_some_and(|received| received > later(self.time, MARGIN))
    }
}

/// Why a point is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The newest backup, or the newest dump.
    Newest,
    /// One of the newest so many.
    Last,
    /// The first of its hour.
    Hourly,
    /// The first of its day.
    Daily,
    /// The first of its week.
    Weekly,
    /// The first of its month.
    Monthly,
    /// The first of its year.
    Yearly,
    /// Within the PITR window.
    Pitr,
    /// Where restores to the beginning of the PITR window start.
    PitrBase,
    /// One of the newest so many that passed a drill.
    Drilled,
    /// The one whose drill passed last.
    LastPassed,
    /// Under legal hold.
    Held,
    /// The tier has no retention: nothing is ever removed.
    NoPolicy,
}

impl Reason {
    /// The word for people and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Newest => "newest",
            Reason::Last => "last",
            Reason::Hourly => "hourly",
            Reason::Daily => "daily",
            Reason::Weekly => "weekly",
            Reason::Monthly => "monthly",
            Reason::Yearly => "yearly",
            Reason::Pitr => "pitr",
            Reason::PitrBase => "pitr-base",
            Reason::Drilled => "drilled",
            Reason::LastPassed => "last-passed",
            Reason::Held => "held",
            Reason::NoPolicy => "no-policy",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What becomes of a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The point.
    pub id: PointId,
    /// Whether it stays.
    pub keep: bool,
    /// Why, and until when; none: until something else happens.
    pub reasons: Vec<(Reason, Option<Timestamp>)>,
    /// Until when its objects are to be locked; of one that is not kept, the past.
    pub end: Timestamp,
    /// What a proof demands: `end`, less the renewal of open reasons that is due with the next backup.
    pub demanded: Timestamp,
}

impl Decision {
    /// Until when it is kept for certain; none: for as long as an open reason holds.
    pub fn kept_until(&self) -> Option<Timestamp> {
        match self.reasons.iter().any(|(_, until)| until.is_none()) {
            true => None,
            false => self.reasons.iter().filter_map(|(_, until)| *until).max(),
        }
    }
}
