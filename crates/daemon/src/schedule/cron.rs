//! Cron lines: five fields (`minute hour day-of-month month day-of-week`), or six with the seconds in front, or `@daily` and
//! its like. Every field is checked here, in the words and with the numbers of crontab(5); the `cron` crate then counts on a
//! plain calendar without zones, and [`super::calendar`] makes moments of it.
//!
//! Two things are not as the crate has them. Days of the week are numbered from Sunday = 0 (or 7), not 1. And a line that
//! limits the day of the month *and* the day of the week fires on days that are in either, as crontab(5) has it; where one
//! of the two begins with `*`, both must hold.

use std::{collections::BTreeSet, fmt};

use chrono::{Datelike as _, TimeZone as _, Timelike as _, Utc};
use jiff::civil::{self, Weekday};

use super::fields::{self, Wrong};

/// A checked cron line, and the days on which it counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Cron {
    /// As written.
    pub text: String,
    /// The days of the month on which alone it counts; none: all.
    pub days: Vec<DayOfMonth>,
    /// One for the crate, or two where either the day of the month or that of the week suffices.
    lines: Vec<::cron::Schedule>,
    /// Whether it goes by real time, as a line with `*` for the hour does: see [`super::calendar`].
    pub(super) by_real_time: bool,
}

/// As `first sunday`: the nth, or the last, such day of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayOfMonth {
    /// 1 to 4, or -1 for the last.
    pub nth: i8,
    /// Which day.
    pub weekday: Weekday,
}

/// Within so many years from a fixed day a line must fire at least once: no leap year is left out.
const FIRST: civil::DateTime = civil::date(2025, 1, 1).at(0, 0, 0, 0);
const YEARS: i16 = 5;

impl Cron {
    /// Reads a line.
    pub(super) fn read(text: &str, days: Vec<DayOfMonth>) -> Result<Cron, Wrong> {
        let long = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            short if short.starts_with('@') => {
                let hint = "use @hourly, @daily, @weekly, @monthly or @yearly, or five fields";
                return Err(Wrong::new(format!("\"{short}\" is not known"), hint));
            }
            long => long,
        };
        let words: Vec<&str> = long.split_whitespace().collect();
        let [second, minute, hour, day, month, weekday] = match *words.as_slice() {
            [minute, hour, day, month, weekday] => ["0", minute, hour, day, month, weekday],
            [second, minute, hour, day, month, weekday] => [second, minute, hour, day, month, weekday],
            _ => {
                let message = format!("expected five or six fields, found {}", words.len());
                let hint =
                    "write minute, hour, day of the month, month, day of the week; for seconds, one more in front";
                return Err(Wrong::new(message, hint));
            }
        };
        let time = [fields::SECOND.read(second)?, fields::MINUTE.read(minute)?, fields::HOUR.read(hour)?];
        let [day_numbers, month_numbers] = [fields::DAY.read(day)?, fields::MONTH.read(month)?];
        // From Sunday = 0 or 7 to the crate's Sunday = 1.
        let weekdays: BTreeSet<u8> = fields::WEEKDAY.read(weekday)?.into_iter().map(|number| number % 7 + 1).collect();
        let is_open = |field: &str| field.starts_with('*');
        if !(days.is_empty() || day == "*" && weekday == "*") {
            let hint = "write * for the day of the month and of the week, or leave out `on`";
            return Err(Wrong::new("says on which days, and so does `on`", hint));
        }
        let limits = match (is_open(day), is_open(weekday)) {
            (false, false) => vec![(Some(&day_numbers), None), (None, Some(&weekdays))],
            _ => vec![(Some(&day_numbers), Some(&weekdays))],
        };
        let lines = limits.into_iter().map(|(days, weekdays)| {
            let [second, minute, hour] = [0, 1, 2].map(|index: usize| listed(time.get(index)));
            let line = format!(
                "{second} {minute} {hour} {} {} {}",
                listed(days),
                listed(Some(&month_numbers)),
                listed(weekdays)
            );
            line.parse::<::cron::Schedule>().map_err(|error| Wrong::new(error.to_string(), ""))
        });
        let by_real_time = hour.starts_with('*') && time.get(2).is_some_and(|hours| hours.len() > 1);
        let cron = Cron { text: text.trim().to_owned(), days, lines: lines.collect::<Result<_, _>>()?, by_real_time };
        match cron.next_civil(FIRST) {
            Some(first) if first.year() < FIRST.year() + YEARS => Ok(cron),
            _ => Err(Wrong::new(format!("is on no day within {YEARS} years"), "choose a day that the month has")),
        }
    }

    /// The next time on the calendar, without a zone, that comes after another.
    pub(super) fn next_civil(&self, after: civil::DateTime) -> Option<civil::DateTime> {
        let mut after = after;
        loop {
            let from = to_chrono(after)?;
            let next = self.lines.iter().filter_map(|line| line.after(&from).next()).min()?;
            let next = from_chrono(next)?;
            if self.counts_on(next.date()) {
                return Some(next);
            }
            after = next.date().at(23, 59, 59, 0);
        }
    }

    fn counts_on(&self, date: civil::Date) -> bool {
        let is = |day: &DayOfMonth| date.nth_weekday_of_month(day.nth, day.weekday).is_ok_and(|found| found == date);
        self.days.is_empty() || self.days.iter().any(is)
    }
}

/// For the crate: the numbers of a field, `*` for one that is not limited.
fn listed(numbers: Option<&BTreeSet<u8>>) -> String {
    numbers.map_or("*".to_owned(), |numbers| numbers.iter().map(u8::to_string).collect::<Vec<_>>().join(","))
}

fn to_chrono(time: civil::DateTime) -> Option<chrono::DateTime<Utc>> {
    let [month, day, hour, minute, second] =
        [time.month(), time.day(), time.hour(), time.minute(), time.second()].map(|number| u32::try_from(number).ok());
    Utc.with_ymd_and_hms(time.year().into(), month?, day?, hour?, minute?, second?).single()
}

fn from_chrono(time: chrono::DateTime<Utc>) -> Option<civil::DateTime> {
    let [month, day, hour, minute, second] =
        [time.month(), time.day(), time.hour(), time.minute(), time.second()].map(|number| i8::try_from(number).ok());
    civil::DateTime::new(i16::try_from(time.year()).ok()?, month?, day?, hour?, minute?, second?, 0).ok()
}

impl DayOfMonth {
    const PLACES: [(&str, i8); 5] = [("first", 1), ("second", 2), ("third", 3), ("fourth", 4), ("last", -1)];

    /// As `first sunday`.
    pub(super) fn read(text: &str) -> Result<DayOfMonth, Wrong> {
        let text = text.to_ascii_lowercase();
        let words: Vec<&str> = text.split_whitespace().collect();
        let read = |place: &str, day: &str| {
            let (_, nth) = Self::PLACES.iter().find(|(word, _)| *word == place)?;
            Some(DayOfMonth { nth: *nth, weekday: weekday(day)? })
        };
        match *words.as_slice() {
            [place, day] => read(place, day),
            _ => None,
        }
        .ok_or_else(|| {
            let hint = "write first, second, third, fourth or last, and a day of the week: \"first sunday\"";
            Wrong::new("is not such a day", hint)
        })
    }
}

impl fmt::Display for DayOfMonth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = Self::PLACES.iter().find(|(_, nth)| *nth == self.nth).map_or("", |(word, _)| word);
        write!(f, "{place} {}", weekday_word(self.weekday))
    }
}

const WEEKDAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

/// A day of the week by its name or the first three letters of it.
pub(super) fn weekday(text: &str) -> Option<Weekday> {
    let text = text.to_ascii_lowercase();
    WEEKDAYS.iter().find(|(name, _)| *name == text || name.get(..3) == Some(text.as_str())).map(|(_, day)| *day)
}

/// Its name.
pub(super) fn weekday_word(day: Weekday) -> &'static str {
    WEEKDAYS.iter().find(|(_, known)| *known == day).map_or("", |(name, _)| name)
}
