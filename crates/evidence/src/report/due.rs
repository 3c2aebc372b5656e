//! When the next rehearsal is due: so long after the last one as the tier says.

use jiff::{SignedDuration, Timestamp};

use super::period::{Due, Gap};

/// A rehearsal is late when it comes more than a tenth of the rhythm after it was due: schedules run at an hour of the day,
/// and months are of different lengths.
pub const GRACE: u64 = 10;

/// What was due from `since` to `end`, where the last rehearsal before that was at `before`. `done` is in the order of time.
pub(super) fn due(
    every_seconds: u64,
    (since, end): (Timestamp, Timestamp),
    before: Option<Timestamp>,
    done: &[Timestamp],
) -> Due {
    let every = every_seconds.max(1);
    let mut last = before.unwrap_or(since);
    let mut gaps = Vec::new();
    for next in done.iter().copied().map(Some).chain([None]) {
        gaps.extend(gap(every, since, last, next, end));
        last = next.unwrap_or(last);
    }
    let missed = gaps.iter().map(|gap| gap.missed).sum();
    let due = (seconds(since, end) / every).max(missed);
    Due { every_seconds, since, due, missed, gaps }
}

/// Deadlines between a rehearsal and the next one, or the end. The first of them that was missed names the gap. What was
/// missed before the period is not missed again in it.
fn gap(every: u64, since: Timestamp, last: Timestamp, next: Option<Timestamp>, end: Timestamp) -> Option<Gap> {
    let until = next.unwrap_or(end);
    let deadline = later(last, every);
    let late_seconds = seconds(deadline, until);
    if late_seconds <= every / GRACE {
        return None;
    }
    // Further deadlines follow the first by the rhythm; each is missed when its grace is over. The one that was open when the
    // period began is missed in it.
    let passed = |until| match seconds(deadline, until).checked_sub(every / GRACE + 1) {
        Some(beyond) => beyond / every + 1,
        None => 0,
    };
    let earlier = if deadline < since { passed(since).saturating_sub(1) } else { 0 };
    let missed = passed(until).saturating_sub(earlier);
    Some(Gap { due: deadline, done: next, late_seconds, missed })
}

fn later(time: Timestamp, seconds: u64) -> Timestamp {
    let distance = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    time.checked_add(distance).unwrap_or(Timestamp::MAX)
}

/// 0 where the second is not after the first.
pub(super) fn seconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: u64 = 7 * 86_400;

    fn day(day: f64) -> Timestamp {
        Timestamp::from_second((day * 86_400.0) as i64).unwrap()
    }

    /// (due, missed, gaps) of weekly rehearsals in 28 days.
    fn of(before: Option<f64>, done: &[f64]) -> (u64, u64, usize) {
        let done: Vec<Timestamp> = done.iter().copied().map(day).collect();
        let due = due(WEEK, (day(0.0), day(28.0)), before.map(day), &done);
        (due.due, due.missed, due.gaps.len())
    }

    #[test]
    fn what_is_done_in_time_is_never_missed() {
        assert_eq!(of(None, &[6.9, 13.9, 20.9, 27.9]), (4, 0, 0));
        assert_eq!(of(Some(-3.0), &[4.0, 11.0, 18.0, 25.0]), (4, 0, 0));
        assert_eq!(of(None, &[7.5, 15.0, 22.5]), (4, 0, 0), "half a day late each time is within the grace");
        let daily: Vec<f64> = (0..28).map(f64::from).collect();
        assert_eq!(of(None, &daily), (4, 0, 0), "more than asked for");
    }

    #[test]
    fn gaps_are_named_once_each() {
        assert_eq!(of(None, &[]), (4, 3, 1), "never: the fourth is due today, and not late yet");
        assert_eq!(of(None, &[1.0, 8.0]), (4, 2, 1), "due on days 15 and 22, and not before day 29 again");
        assert_eq!(of(None, &[6.0, 17.0, 24.0]), (4, 1, 1), "four days late");
        assert_eq!(of(None, &[6.0, 27.0]), (4, 2, 1), "two left out, and the next one in time");
        assert_eq!(of(Some(-30.0), &[1.0, 8.0, 15.0, 22.0]), (4, 1, 1), "of an old gap only what lies in the period");
        let due = due(WEEK, (day(0.0), day(28.0)), None, &[day(6.0), day(17.0), day(24.0)]);
        let [gap] = due.gaps.as_slice() else { panic!("{due:?}") };
        assert_eq!((gap.due, gap.done, gap.late_seconds), (day(13.0), Some(day(17.0)), 4 * 86_400));
    }

    #[test]
    fn what_is_overdue_still_has_no_end() {
        let due = due(WEEK, (day(0.0), day(28.0)), None, &[day(6.0)]);
        let [gap] = due.gaps.as_slice() else { panic!("{due:?}") };
        assert_eq!((gap.due, gap.done, gap.missed), (day(13.0), None, 3));
    }
}
