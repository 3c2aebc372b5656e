//! Hours, days, weeks, months and years of a time zone: when the one that a moment lies in began, and when so many later
//! begin.
//!
//! A calendar knows days of 23 and 25 hours, zones that are half an hour off, midnights that do not exist and hours that
//! come twice. Days and longer are counted in dates, hours in hours.

use jiff::{
    SignedDuration, Timestamp, ToSpan as _, Unit,
    civil::{Date, DateTime},
    tz::{Offset, TimeZone},
};

use super::Reason;

/// A class of points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Period {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Period {
    pub(super) const ALL: [Period; 5] = [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year];

    pub(super) fn reason(self) -> Reason {
        match self {
            Period::Hour => Reason::Hourly,
            Period::Day => Reason::Daily,
            Period::Week => Reason::Weekly,
            Period::Month => Reason::Monthly,
            Period::Year => Reason::Yearly,
        }
    }

    /// The first moment of the period that `time` lies in: also what tells one period from another.
    pub(super) fn start(self, time: Timestamp, zone: &TimeZone) -> Timestamp {
        match self {
            Period::Hour => start_of_hour(time, zone),
            _ => first_moment(self.first_day(zone.to_datetime(time).date()), zone).unwrap_or(Timestamp::MIN),
        }
    }

    /// When the `count`-th period after the one of `time` begins; the end of time if the calendar ends before.
    pub(super) fn end(self, time: Timestamp, count: u32, zone: &TimeZone) -> Timestamp {
        let count = i64::from(count);
        if self == Period::Hour {
            let hours = SignedDuration::from_hours(count);
            return start_of_hour(time, zone).checked_add(hours).unwrap_or(Timestamp::MAX);
        }
        let first = self.first_day(zone.to_datetime(time).date());
        let span = match self {
            Period::Hour | Period::Day => 0.days().try_days(count),
            Period::Week => 0.weeks().try_weeks(count),
            Period::Month => 0.months().try_months(count),
            Period::Year => 0.years().try_years(count),
        };
        let day = span.ok().and_then(|span| first.checked_add(span).ok());
        day.and_then(|day| first_moment(day, zone)).unwrap_or(Timestamp::MAX)
    }

    fn first_day(self, date: Date) -> Date {
        match self {
            Period::Hour | Period::Day => date,
            Period::Week => {
                let back = i64::from(date.weekday().to_monday_zero_offset());
                date.checked_sub(back.days()).unwrap_or(Date::MIN)
            }
            Period::Month => date.first_of_month(),
            Period::Year => date.first_of_year(),
        }
    }
}

/// In the offset of that moment: where an hour comes twice, these are two hours.
fn start_of_hour(time: Timestamp, zone: &TimeZone) -> Timestamp {
    let offset = zone.to_offset(time);
    let local = offset.to_datetime(time);
    let hour = local.round(jiff::civil::DateTimeRound::new().smallest(Unit::Hour).mode(jiff::RoundMode::Trunc));
    hour.ok().and_then(|hour| at(hour, offset)).unwrap_or(time)
}

fn at(local: DateTime, offset: Offset) -> Option<Timestamp> {
    offset.to_timestamp(local).ok()
}

/// Midnight, or what comes after it where the clocks skip it.
fn first_moment(day: Date, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_zoned(day.at(0, 0, 0, 0)).ok()?.start_of_day().ok().map(|zoned| zoned.timestamp())
}
