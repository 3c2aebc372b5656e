//! From times on a calendar to moments: daylight saving.
//!
//! Twice a year, wall clocks do not go on evenly. Two kinds of lines want two things of that day:
//!
//! - **A fixed time** (`30 2 * * *`: the hour field is a number, a list or a range) is wanted once a day. In the gap it is done
//!   at the first moment after the gap, and once only if several fall into it. In the hour that comes twice it is done in the
//!   first pass.
//! - **By the hour** (`*` or `*/n` in the hour field, more than once a day) is wanted evenly. It goes by real time: in both
//!   passes of the hour that comes twice, and not at all in the hour that is left out.
//!
//! This is what crontab(5) promises, too.

use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};
use lifeboat_model::retention::Zone;

use super::cron::Cron;

impl Cron {
    /// The first moment after another at which it fires. Each answer is later than what was asked with, and asking with each
    /// answer again leaves none out.
    pub fn next(&self, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
        let rules = zone.rules();
        if self.by_real_time { self.next_real(rules, after) } else { self.next_fixed(rules, after) }
    }

    fn next_fixed(&self, rules: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let mut civil = rules.to_datetime(after);
        loop {
            civil = self.next_civil(civil)?;
            // Earlier or the same: the second pass of a fold, or what fell into the gap that has just ended.
            match earliest(rules, civil)? {
                moment if moment > after => return Some(moment),
                _ => {}
            }
        }
    }

    /// Between two changes of the clocks, calendar and moments go on alike.
    fn next_real(&self, rules: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let mut offset = rules.to_offset(after);
        let mut civil = offset.to_datetime(after);
        let mut changes = rules.following(after);
        loop {
            let moment = offset.to_timestamp(self.next_civil(civil)?).ok()?;
            match changes.next() {
                Some(change) if change.timestamp() <= moment => {
                    offset = change.offset();
                    // The moment of the change itself is to be found.
                    civil = offset.to_datetime(change.timestamp()).saturating_sub(jiff::Span::new().seconds(1));
                }
                _ => return Some(moment),
            }
        }
    }
}

/// The first moment at which clocks show a time; in a gap, the moment at which it ends.
pub(super) fn earliest(rules: &TimeZone, civil: DateTime) -> Option<Timestamp> {
    match rules.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil).ok(),
        AmbiguousOffset::Gap { after, .. } => after_gap(rules, after.to_timestamp(civil).ok()?),
    }
}

/// The last moment at which clocks show a time; in a gap, the moment at which it ends.
pub(super) fn latest(rules: &TimeZone, civil: DateTime) -> Option<Timestamp> {
    match rules.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok(),
        AmbiguousOffset::Fold { after, .. } => after.to_timestamp(civil).ok(),
        AmbiguousOffset::Gap { after, .. } => after_gap(rules, after.to_timestamp(civil).ok()?),
    }
}

/// A time in a gap, read with the offset that follows, is before the gap.
fn after_gap(rules: &TimeZone, before: Timestamp) -> Option<Timestamp> {
    rules.following(before).next().map(|change| change.timestamp())
}
