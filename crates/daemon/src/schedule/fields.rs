//! The fields of a cron line, as crontab(5) has them: numbers, names, ranges, lists and steps.

use std::collections::BTreeSet;

/// What is wrong with a text, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) hint: String,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Wrong {
        Wrong { message: message.into(), hint: hint.into() }
    }
}

/// What may stand in a field.
pub(super) struct Field {
    what: &'static str,
    least: u8,
    most: u8,
    /// Names, and the number of the first of them.
    names: (&'static [&'static str], u8),
}

const fn plain(what: &'static str, least: u8, most: u8) -> Field {
    Field { what, least, most, names: (&[], 0) }
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

pub(super) const SECOND: Field = plain("second", 0, 59);
pub(super) const MINUTE: Field = plain("minute", 0, 59);
pub(super) const HOUR: Field = plain("hour", 0, 23);
pub(super) const DAY: Field = plain("day of the month", 1, 31);
pub(super) const MONTH: Field = Field { what: "month", least: 1, most: 12, names: (&MONTHS, 1) };
/// Sunday is 0 and 7.
pub(super) const WEEKDAY: Field = Field { what: "day of the week", least: 0, most: 7, names: (&WEEKDAYS, 0) };

impl Field {
    /// All numbers that a field names.
    pub(super) fn read(&self, text: &str) -> Result<BTreeSet<u8>, Wrong> {
        let mut numbers = BTreeSet::new();
        for item in text.split(',') {
            let (range, step) = match item.split_once('/') {
                Some((range, step)) => (range, Some(step)),
                None => (item, None),
            };
            let (from, to) = self.range(range, step.is_some())?;
            let step = step.map_or(Ok(1), |step| self.step(step))?;
            numbers.extend((from..=to).step_by(step.into()));
        }
        Ok(numbers)
    }

    fn range(&self, text: &str, has_step: bool) -> Result<(u8, u8), Wrong> {
        if text == "*" {
            // Sunday is not counted twice.
            return Ok((self.least, if self.most == 7 { 6 } else { self.most }));
        }
        let Some((from, to)) = text.split_once('-') else {
            let number = self.number(text)?;
            return match has_step {
                true => {
                    let hint = format!("write {text}-{}/…, or */…", self.most);
                    Err(Wrong::new(format!("{}: a step needs a range", self.what), hint))
                }
                false => Ok((number, number)),
            };
        };
        let (from, mut to) = (self.number(from)?, self.number(to)?);
        // As in fri-sun: the week may end with Sunday.
        if self.most == 7 && to == 0 && from > 0 {
            to = 7;
        }
        match from <= to {
            true => Ok((from, to)),
            false => {
                let hint = format!("write two ranges: {text} as {from}-{},{}-{to}", self.most, self.least);
                Err(Wrong::new(format!("{}: the range {text} ends before it begins", self.what), hint))
            }
        }
    }

    fn step(&self, text: &str) -> Result<u8, Wrong> {
        // Of all of them, as */24 for the hour, leaves the first.
        let most = self.most + 1;
        let step = text.parse::<u8>().ok().filter(|step| (1..=most).contains(step));
        step.ok_or_else(|| {
            let hint = format!("use a whole number from 1 to {most}");
            Wrong::new(format!("{}: \"{text}\" is not a step", self.what), hint)
        })
    }

    fn number(&self, text: &str) -> Result<u8, Wrong> {
        let (names, first) = self.names;
        let lower = text.to_ascii_lowercase();
        if let Some(place) = names.iter().position(|name| *name == lower) {
            return u8::try_from(place).map(|place| first + place).map_err(|_| self.unknown(text));
        }
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u8>().ok().filter(|number| is_number && (self.least..=self.most).contains(number));
        number.ok_or_else(|| self.unknown(text))
    }

    fn unknown(&self, text: &str) -> Wrong {
        let hint = match text {
            "?" => "write * for every one".to_owned(),
            _ if text.contains(['L', 'W', '#']) => "for days as the last friday of a month, use `on`".to_owned(),
            _ if self.names.0.is_empty() => format!("use {} to {}", self.least, self.most),
            _ => format!("use {} to {}, or {}", self.least, self.most, self.names.0.join(", ")),
        };
        Wrong::new(format!("{}: \"{text}\" is not one", self.what), hint)
    }
}
