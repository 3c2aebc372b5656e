//! How far the store's clock is from this host's. Locks end by the store's, points are named by the host's.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use lifeboat_model::time::Span;
use lifeboat_store::SharedStore;

use crate::{
    context::Clock,
    error::{Error, Result},
};

/// The store's clock minus the host's, to about a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skew(pub SignedDuration);

impl Skew {
    /// More than this, and nothing is written.
    pub const LIMIT: Duration = Duration::from_secs(15 * 60);
    /// More than this is worth a word.
    pub const REMARKABLE: Duration = Duration::from_secs(5);

    /// Asks the store, and takes the middle of the time that this took.
    pub async fn measure(store: &SharedStore, clock: &Clock) -> Result<Skew> {
        let before = clock();
        let told = store.clock().await?;
        let took = clock().duration_since(before);
        let middle = before.checked_add(took / 2).unwrap_or(before);
        Ok(Skew(told.duration_since(middle)))
    }

    /// The store's time when it is `time` here.
    pub fn correct(self, time: Timestamp) -> Timestamp {
        time.checked_add(self.0).unwrap_or(time)
    }

    /// Refuses a store with which nobody could say when a lock ends.
    pub fn check(self, place: &str) -> Result<()> {
        if self.0.unsigned_abs() <= Self::LIMIT {
            return Ok(());
        }
        let direction = if self.0.is_negative() { "behind" } else { "ahead of" };
        Err(Error::ClockSkew { place: place.to_owned(), ahead: Span(self.0.unsigned_abs()), direction })
    }

    /// What to tell people of it, if anything.
    pub fn remark(self, place: &str) -> Option<String> {
        if self.0.unsigned_abs() <= Self::REMARKABLE {
            return None;
        }
        let direction = if self.0.is_negative() { "behind" } else { "ahead of" };
        Some(format!(
            "the clock of {place} is {} {direction} this host's; this is allowed for, correct the one that is wrong",
            Span(self.0.unsigned_abs())
        ))
    }
}

impl Skew {
    /// What to tell people who were told of `before`, while something runs that must not stop: nothing where the two are
    /// about the same.
    pub fn news(self, before: Skew, place: &str) -> Option<String> {
        let change = self.0.checked_sub(before.0).unwrap_or(SignedDuration::MAX);
        if change.unsigned_abs() <= Self::REMARKABLE {
            return None;
        }
        let is_large = self.0.unsigned_abs() > Self::LIMIT;
        let more = if is_large { ". Until then nothing else is written, and no stream begins" } else { "" };
        let remark = self.remark(place).map(|remark| format!("{remark}{more}"));
        Some(remark.unwrap_or_else(|| format!("the clock of {place} and this host's agree again")))
    }
}

/// The difference as it was last measured, for all clocks that are corrected by it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured(Arc<Mutex<Option<Skew>>>);

impl Measured {
    pub(crate) fn last(&self) -> Option<Skew> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, skew: Skew) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(skew);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_differences_are_allowed_for_and_large_ones_refused() {
        let seconds = |seconds| Skew(SignedDuration::from_secs(seconds));
        let cases = [
            (0, false, None),
            (5, false, None),
            (-6, false, Some("the clock of here is 6.0s behind this host's")),
            (900, false, Some("the clock of here is 15m 0s ahead of this host's")),
            (-901, true, Some("the clock of here is 15m 1s behind this host's")),
            (86_400, true, Some("the clock of here is 1d 0h ahead of this host's")),
        ];
        for (skew, refused, words) in cases {
            let skew = seconds(skew);
            assert_eq!(skew.check("here").is_err(), refused, "{skew:?}");
            let remark = skew.remark("here");
            assert_eq!(remark.is_some(), words.is_some(), "{skew:?}");
            assert!(remark.unwrap_or_default().starts_with(words.unwrap_or_default()), "{skew:?}");
        }
        let news = [
            (3600, 3597, None),
            (3600, 0, Some("the clock of here is 1h 0m ahead of this host's; this is allowed for, correct")),
            (-60, 3600, Some("the clock of here is 1m 0s behind this host's")),
            (2, -60, Some("the clock of here and this host's agree again")),
        ];
        for (now, before, words) in news {
            let told = seconds(now).news(seconds(before), "here");
            assert_eq!(told.is_some(), words.is_some(), "{now} {before}");
            let told = told.unwrap_or_default();
            assert!(told.starts_with(words.unwrap_or_default()), "{told}");
            assert_eq!(told.contains("nothing else is written"), now == 3600 && before == 0, "{told}");
        }
        let time: Timestamp = "2026-11-21T20:00:00Z".parse().unwrap();
        assert_eq!(seconds(-60).correct(time).to_string(), "2026-11-21T19:59:00Z");
        assert!(seconds(1000).check("here").unwrap_err().to_string().contains("correct the clock"));
    }
}
