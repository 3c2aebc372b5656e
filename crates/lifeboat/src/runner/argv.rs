//! The command of a run, as a person would type it, and what the daemon says besides.

use std::{ffi::OsString, path::PathBuf};

use jiff::{
    ToSpan as _,
    civil::{Date, Weekday},
    tz::TimeZone,
};
use lifeboat_daemon::{
    job::{Because, Job, Verb},
    runner::How,
};

/// All arguments.
pub fn arguments(job: &Job, how: &How) -> Vec<OsString> {
    let mut line = Line(Vec::new());
    line.option("--config", &how.config_file).option("--log-format", "json").flag("--until-stdin-closes");
    line.option("--started-by", job.because.to_string()).option("--nice", how.nice.to_string());
    line.option("--alive-file", &how.alive_file);
    for (name, rate) in [("--upload-limit", how.limits.upload), ("--download-limit", how.limits.download)] {
        if let Some(rate) = rate {
            line.option(name, format!("{} B/s", rate.bytes())); // to the byte
        }
    }
    if !matches!(job.verb, Verb::Report { .. }) {
        line.flag("--json"); // of a report that would be the report
    }
    verb(&mut line, job);
    line.0
}

struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, word: impl Into<OsString>) -> &mut Line {
        self.0.push(word.into());
        self
    }

    /// In one word, so that a value that begins with a hyphen is still a value.
    fn option(&mut self, name: &str, value: impl Into<OsString>) -> &mut Line {
        let mut word = OsString::from(name);
        word.push("=");
        word.push(value.into());
        self.flag(word)
    }
}

fn verb(line: &mut Line, job: &Job) {
    let words: &[&str] = match &job.verb {
        Verb::Backup => &["backup"],
        Verb::Drill { .. } | Verb::Control { .. } => &["drill"],
        Verb::Dump => &["dump"],
        Verb::Scrub { .. } | Verb::Locks | Verb::Signs => &["verify"],
        Verb::Prune => &["prune"],
        Verb::Copy { .. } => &["copy"],
        Verb::Audit => &["evidence", "verify"],
        Verb::Report { .. } => &["evidence", "report"],
        Verb::Stream => &["wal", "stream"],
    };
    for word in words {
        line.flag(word);
    }
    match &job.verb {
        Verb::Drill { random: true } => line.flag("--random"),
        Verb::Control { kind } => line.option("--sabotage", kind),
        Verb::Scrub { sample } => line.option("--sample", sample),
        Verb::Locks => line.flag("--locks"),
        Verb::Signs => line.flag("--signs"),
        Verb::Copy { to: Some(name) } => line.option("--to", name),
        Verb::Report { period, folder } => {
            let (from, to) = last_whole(period, super::moment(&job.because).to_zoned(TimeZone::UTC).date());
            line.option("--format", "html").option("--from", from.to_string()).option("--to", to.to_string());
            line.option("--output", folder.join(file_name(job, period, from)))
        }
        _ => line,
    };
    if let Some(instance) = &job.instance {
        match job.verb {
            Verb::Report { .. } => line.option("--instance", instance.as_str()),
            _ => line.flag(instance.as_str()),
        };
    }
}

/// First and last day of the last whole period before this day. A word that nobody knows is the last month: policies let only
/// known ones through.
fn last_whole(period: &str, today: Date) -> (Date, Date) {
    let first_of = |date: Date| date.first_of_month();
    let begin = match period {
        "week" => today.tomorrow().and_then(|day| day.nth_weekday(-1, Weekday::Monday)).unwrap_or(today),
        "quarter" => {
            let into = (today.month() - 1) % 3;
            first_of(today).checked_sub(i32::from(into).months()).unwrap_or(today)
        }
        "year" => today.first_of_year(),
        _ => first_of(today),
    };
    let span = match period {
        "week" => 1.week(),
        "quarter" => 3.months(),
        "year" => 1.year(),
        _ => 1.month(),
    };
    (begin.checked_sub(span).unwrap_or(begin), begin.yesterday().unwrap_or(begin))
}

/// `clinic-2026-10.html`; what a person asked for has the run in its name, since it may be asked for again.
fn file_name(job: &Job, period: &str, from: Date) -> PathBuf {
    let whose = job.instance.as_ref().map_or(job.tenant.as_str(), |instance| instance.as_str());
    let when = match period {
        "week" => {
            let week = from.iso_week_date();
            format!("{}-W{:02}", week.year(), week.week())
        }
        "quarter" => format!("{}-Q{}", from.year(), (from.month() + 2) / 3),
        "year" => from.year().to_string(),
        _ => from.strftime("%Y-%m").to_string(),
    };
    PathBuf::from(match &job.because {
        Because::Schedule { .. } => format!("{whose}-{when}.html"),
        Because::Asked { .. } => format!("{whose}-{when}-{}.html", job.run),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_the_last_whole_ones() {
        let day = |text: &str| text.parse::<Date>().unwrap();
        for (period, today, from, to) in [
            ("week", "2026-11-22", "2026-11-09", "2026-11-15"), // a Sunday
            ("week", "2026-11-23", "2026-11-16", "2026-11-22"), // a Monday
            ("month", "2026-03-31", "2026-02-01", "2026-02-28"),
            ("month", "2026-01-01", "2025-12-01", "2025-12-31"),
            ("quarter", "2026-11-22", "2026-07-01", "2026-09-30"),
            ("quarter", "2026-01-15", "2025-10-01", "2025-12-31"),
            ("year", "2026-01-01", "2025-01-01", "2025-12-31"),
        ] {
            assert_eq!(last_whole(period, day(today)), (day(from), day(to)), "{period} before {today}");
        }
    }
}
