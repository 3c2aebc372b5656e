//! How long what is written stays locked, and how a lock is put, extended and skipped.
//!
//! Every object is put with its lock in one call, so that nothing is ever unlocked for a moment. What belongs to a point
//! is first locked as if the point were finished now; the commit then extends all of it to the point's real end *before*
//! the point is written. A crash in between leaves locks that are longer than needed, never a point whose objects are
//! not locked. Times are the store's, and locks end at whole hours, so that runs close to each other ask for the same.

use std::{fmt, sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use lifeboat_model::retention::LockMode;
use lifeboat_store::{Key, Retention, Stored, VersionId};

use crate::{
    error::{Error, Result},
    repository::InstanceRepo,
    writer::Clock,
};

/// Locks that are extended at the same time.
const AT_ONCE: usize = 16;
const HOUR: i64 = 3600;
/// Locks that are shorter than an hour, for trying out, end at whole minutes.
const MINUTE: i64 = 60;

/// What an object is, as far as its lock goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// An object of a point, before the point's end is known: as of a point that is finished now.
    Point,
    /// Until a time that is known.
    Until(Timestamp),
    /// A segment of the archive of WAL.
    Segment,
    /// A slice of it, which a segment will supersede.
    Slice,
    /// A document.
    Document,
    /// Evidence.
    Evidence,
}

/// How long to lock what is written.
#[derive(Clone)]
pub struct Locks {
    /// How firmly.
    pub mode: LockMode,
    /// The store's time: the host's, corrected by what they differ.
    pub clock: Clock,
    /// The least that a point's objects are locked.
    pub minimum: Duration,
    /// How long segments and documents are locked from their writing on.
    pub segment: Duration,
    /// How long slices are.
    pub slice: Duration,
    /// How long evidence is.
    pub evidence: Duration,
    /// Until when policy promises to keep a point that was finished at this time.
    pub point_end: Arc<dyn Fn(Timestamp) -> Timestamp + Send + Sync>,
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks").field("mode", &self.mode).field("minimum", &self.minimum).finish_non_exhaustive()
    }
}

impl Locks {
    /// The lock of an object that is written now.
    pub fn until(&self, keep: Keep) -> Retention {
        let now = (self.clock)();
        let after = |length: Duration| later(now, length);
        let until = match keep {
            Keep::Point => return self.of_point(now),
            Keep::Until(until) => until,
            Keep::Segment | Keep::Document => after(self.segment),
            Keep::Slice => after(self.slice),
            Keep::Evidence => after(self.evidence),
        };
        self.rounded(until)
    }

    /// The lock of all objects of a point that was finished at this time.
    pub(crate) fn of_point(&self, finished: Timestamp) -> Retention {
        let least = later((self.clock)(), self.minimum);
        self.rounded((self.point_end)(finished).max(least))
    }

    fn rounded(&self, until: Timestamp) -> Retention {
        let step = if self.minimum < Duration::from_secs(HOUR as u64) { MINUTE } else { HOUR };
        Retention { mode: self.mode, until: round_to(until, step) }
    }
}

/// A time so much later; at most the last one that there is.
pub(crate) fn later(time: Timestamp, length: Duration) -> Timestamp {
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    time.saturating_add(length).unwrap_or(Timestamp::MAX)
}

/// The end of the hour, so that repeated runs ask for the same.
pub fn round_up(time: Timestamp) -> Timestamp {
    round_to(time, HOUR)
}

fn round_to(time: Timestamp, step: i64) -> Timestamp {
    let seconds = time.as_second() + i64::from(time.subsec_nanosecond() > 0);
    let steps = seconds.div_euclid(step) + i64::from(seconds.rem_euclid(step) > 0);
    Timestamp::from_second(steps * step).unwrap_or(time)
}

/// An object whose lock must reach so far.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub key: Key,
    pub version: Option<VersionId>,
}

impl InstanceRepo {
    /// Puts a new object with the lock of its kind; gives until when it is locked.
    pub(crate) async fn put_kept(
        &self,
        key: &Key,
        bytes: bytes::Bytes,
        keep: Keep,
    ) -> Result<(Stored, Option<Timestamp>)> {
        let retention = self.locks().map(|locks| locks.until(keep));
        let stored = self.store().put_locked(key, bytes, retention).await?;
        Ok((stored, retention.map(|retention| retention.until)))
    }

    /// [`put_kept`](Self::put_kept) of an object whose key is new and random. Where the reply was lost, the object is
    /// looked for: it lies there whole, or the put did not succeed.
    pub(crate) async fn put_once(&self, key: &Key, bytes: bytes::Bytes, keep: Keep) -> Result<Stored> {
        let len = bytes.len() as u64;
        let error = match self.put_kept(key, bytes, keep).await {
            Ok((stored, _)) => return Ok(stored),
            Err(Error::Store(error)) if error.is_transient() => error,
            Err(error) => return Err(error),
        };
        match self.first(key).await {
            Ok(info) if info.len == len => Ok(Stored { version: info.version }),
            _ => Err(error.into()),
        }
    }

    /// Extends locks, some at the same time. Can be repeated; of failures the first is reported.
    pub(crate) async fn extend(&self, objects: Vec<Wanted>, retention: Retention) -> Result<()> {
        let first = self.store_of(None);
        let extending = objects.into_iter().map(|object| {
            let store = if object.version.is_some() { self.store() } else { &first }.clone();
            async move {
                let extended = store.extend_lock(&object.key, object.version.as_ref(), retention).await;
                extended.map_err(|source| unextendable(&object.key, retention, source))
            }
        });
        futures::stream::iter(extending).buffer_unordered(AT_ONCE).try_collect().await
    }
}

fn unextendable(key: &Key, retention: Retention, source: lifeboat_store::Error) -> Error {
    let todo = match &source {
        lifeboat_store::Error::NotFound { .. } => "it is gone: start the backup again, it is then stored anew",
        lifeboat_store::Error::Denied { .. } => {
            "give the writer's credential the right to put retentions: `lifeboat repo policy` prints what it needs"
        }
        error if error.is_transient() => "start the backup again",
        _ => "see what the endpoint can do with `lifeboat repo check`",
    };
    Error::Unextendable { object: key.to_string(), until: retention.until, source: Box::new(source), todo }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn locks_end_at_whole_hours_and_never_earlier() {
        assert_eq!(round_up(at("2026-11-21T20:00:00Z")), at("2026-11-21T20:00:00Z"));
        assert_eq!(round_up(at("2026-11-21T20:00:00.000000001Z")), at("2026-11-21T21:00:00Z"));
        assert_eq!(round_up(at("2026-11-21T20:59:59.5Z")), at("2026-11-21T21:00:00Z"));
        assert_eq!(round_up(at("1969-12-31T23:00:01Z")), at("1970-01-01T00:00:00Z"));
        assert_eq!(later(Timestamp::MAX, Duration::MAX), Timestamp::MAX);
    }

    #[test]
    fn each_kind_has_its_length() {
        let day = Duration::from_secs(86_400);
        let end = at("2027-01-01T00:00:00Z");
        let locks = Locks {
            mode: LockMode::Compliance,
            clock: Arc::new(|| at("2026-11-21T20:30:00Z")),
            minimum: 14 * day,
            segment: 21 * day,
            slice: 7 * day,
            evidence: 2192 * day,
            point_end: Arc::new(move |_| end),
        };
        let until = |keep| locks.until(keep).until.to_string();
        assert_eq!(until(Keep::Point), "2027-01-01T00:00:00Z", "the point's end is later than the least");
        assert_eq!(until(Keep::Segment), "2026-12-12T21:00:00Z");
        assert_eq!(until(Keep::Document), "2026-12-12T21:00:00Z");
        assert_eq!(until(Keep::Slice), "2026-11-28T21:00:00Z");
        assert_eq!(until(Keep::Evidence), "2032-11-21T21:00:00Z");
        assert_eq!(until(Keep::Until(at("2026-12-01T00:00:01Z"))), "2026-12-01T01:00:00Z");
        let soon = Locks { point_end: Arc::new(|finished| finished), ..locks };
        assert_eq!(soon.until(Keep::Point).until.to_string(), "2026-12-05T21:00:00Z", "the least");
        let short = Locks { minimum: Duration::from_secs(90), ..soon };
        assert_eq!(short.until(Keep::Point).until.to_string(), "2026-11-21T20:32:00Z", "a trial does not last an hour");
    }
}
