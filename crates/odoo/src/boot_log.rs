//! Reading a boot log. Odoo exits with 0 and serves pages although modules are missing and files are gone, so the log is
//! the only witness: this module picks out the lines that must not be there.
//!
//! Memory is bounded: a [`Scanner`] takes one line at a time and keeps at most [`KEPT`] findings, counting the rest.

use serde::{Deserialize, Serialize};

use crate::{error::shorten, versions::Major};

/// How many findings are kept with their text.
pub const KEPT: usize = 50;

/// What a line admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// `Some modules are not loaded, some dependencies or manifest may be missing`.
    ModulesNotLoaded,
    /// `Some modules have inconsistent states`.
    InconsistentStates,
    /// A module is installed in the database and skipped for another reason (not installable, invalid name).
    ModuleSkipped,
    /// `Database … not initialized`.
    NotInitialised,
    /// The server could not reach PostgreSQL.
    NoDatabase,
    /// `_read_file reading …`: a row points to a filestore file that is not there. Odoo only logs it as INFO.
    FileMissing,
    /// A Python traceback.
    Traceback,
    /// A line of level CRITICAL.
    Critical,
    /// A line of level ERROR.
    Error,
}

impl Kind {
    /// The words for a report.
    pub fn describe(self) -> &'static str {
        match self {
            Kind::ModulesNotLoaded => "modules are not loaded",
            Kind::InconsistentStates => "modules have inconsistent states",
            Kind::ModuleSkipped => "a module was skipped",
            Kind::NotInitialised => "database is not initialised",
            Kind::NoDatabase => "database cannot be reached",
            Kind::FileMissing => "a filestore file is missing",
            Kind::Traceback => "a traceback",
            Kind::Critical => "a CRITICAL line",
            Kind::Error => "an ERROR line",
        }
    }
}

/// One line that must not be in a healthy boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The line's number, from 1.
    pub line: u64,
    /// What it admits.
    pub kind: Kind,
    /// The line, shortened.
    pub text: String,
}

/// What a log told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Lines read.
    pub lines: u64,
    /// How many findings there were.
    pub found: u64,
    /// The first [`KEPT`] of them.
    pub findings: Vec<Finding>,
    /// Databases whose registry was loaded, with the seconds that Odoo gave.
    pub registries: Vec<(String, f64)>,
    /// The HTTP service said that it runs.
    pub serving: bool,
}

impl Report {
    /// Whether the registry of `database` was loaded.
    pub fn loaded(&self, database: &str) -> bool {
        self.registries.iter().any(|(name, _)| name == database)
    }
}

/// Level words as Odoo prints them after timestamp and pid.
const LEVELS: [&str; 5] = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

/// Texts that mean something whatever the level is. The first that fits wins.
const TEXTS: [(&str, Kind); 9] = [
    ("Some modules are not loaded", Kind::ModulesNotLoaded),
    ("inconsistent states", Kind::InconsistentStates),
    ("not installable, skipped", Kind::ModuleSkipped),
    ("some depends are not loaded, skipped", Kind::ModuleSkipped),
    ("invalid module names, ignored", Kind::ModuleSkipped),
    ("not initialized, you can force it with", Kind::NotInitialised),
    ("Connection to the database failed", Kind::NoDatabase),
    ("_read_file reading", Kind::FileMissing),
    ("Traceback (most recent call last)", Kind::Traceback),
];

/// Takes a log line by line.
#[derive(Debug, Default)]
pub struct Scanner {
    report: Report,
    /// This Odoo has no line of its own for a registry that is loaded ([`Facts::registry_line`](crate::versions::Facts)).
    no_registry_line: bool,
    /// The seconds of the last `57 modules loaded in 0.45s`.
    seconds: f64,
}

impl Scanner {
    /// Takes the next line; control sequences of a coloured log are ignored.
    pub fn push(&mut self, line: &str) {
        self.report.lines += 1;
        let plain = without_colours(line);
        let (level, database) = head(&plain);
        if let Some(database) = database {
            self.note_registry(&plain, database);
        }
        if let Some((_, version)) = plain.split_once(" odoo: Odoo version ") {
            self.no_registry_line = Major::parse(version).is_ok_and(|major| !major.facts().registry_line);
        }
        self.report.serving |= plain.contains("HTTP service (werkzeug) running") || plain.contains("Evented Service");
        if let Some(kind) = classify(&plain, level) {
            self.report.found += 1;
            if self.report.findings.len() < KEPT {
                let text = shorten(&plain, 300);
                self.report.findings.push(Finding { line: self.report.lines, kind, text });
            }
        }
    }

    /// What was read until now.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Ends the reading.
    pub fn finish(self) -> Report {
        self.report
    }

    fn note_registry(&mut self, line: &str, database: &str) {
        let number =
            |rest: &str| rest.split(['s', ',']).next().and_then(|text| text.trim().parse().ok()).unwrap_or(0.0);
        if let Some((_, rest)) = line.split_once("Registry loaded in ") {
            self.report.registries.push((database.to_owned(), number(rest)));
        } else if let Some((_, rest)) = line.split_once(" modules loaded in ") {
            self.seconds = number(rest);
        } else if self.no_registry_line && line.trim_end().ends_with("Modules loaded.") {
            self.report.registries.push((database.to_owned(), self.seconds));
        }
    }
}

/// Scans a whole log.
pub fn scan<'a>(lines: impl IntoIterator<Item = &'a str>) -> Report {
    let mut scanner = Scanner::default();
    lines.into_iter().for_each(|line| scanner.push(line));
    scanner.finish()
}

fn classify(line: &str, level: Option<&str>) -> Option<Kind> {
    let by_text = TEXTS.iter().find(|(text, _)| line.contains(text)).map(|(_, kind)| *kind);
    let by_level = match level {
        Some("CRITICAL") => Some(Kind::Critical),
        Some("ERROR") => Some(Kind::Error),
        _ => None,
    };
    by_text.or(by_level)
}

/// Level and database of `2026-11-21 20:07:32,123 1 INFO demo odoo.modules.loading: …`.
fn head(line: &str) -> (Option<&str>, Option<&str>) {
    let mut words = line.split_ascii_whitespace();
    let (Some(date), Some(_time), Some(_pid), Some(level)) = (words.next(), words.next(), words.next(), words.next())
    else {
        return (None, None);
    };
    let dated = date.len() == 10 && date.starts_with(|c: char| c.is_ascii_digit());
    if dated && LEVELS.contains(&level) { (Some(level), words.next()) } else { (None, None) }
}

fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            characters.by_ref().find(char::is_ascii_alphabetic);
        } else if character != '\r' {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: &str = "\
2026-11-21 20:07:31,001 1 INFO ? odoo: Odoo version 19.0
2026-11-21 20:07:31,500 1 INFO ? odoo.service.server: HTTP service (werkzeug) running on 5f:8069
2026-11-21 20:07:31,600 1 INFO demo odoo.modules.loading: loading 61 modules...
2026-11-21 20:07:32,700 1 INFO demo odoo.modules.loading: Modules loaded.
2026-11-21 20:07:32,712 1 INFO demo odoo.registry: Registry loaded in 1.191s
2026-11-21 20:07:32,800 1 WARNING demo odoo.addons.base: no wkhtmltopdf, the word ERROR here is harmless";

    fn kinds(log: &str) -> Vec<(u64, Kind)> {
        scan(log.lines()).findings.iter().map(|finding| (finding.line, finding.kind)).collect()
    }

    #[test]
    fn a_healthy_log_has_no_findings() {
        let report = scan(HEALTHY.lines());
        assert_eq!(report.findings, []);
        assert!(report.serving && report.loaded("demo") && !report.loaded("other"));
        assert_eq!(report.registries, [("demo".to_owned(), 1.191)]);
    }

    #[test]
    fn odoo_14_tells_of_its_registry_in_other_words() {
        let log = "\
2026-11-22 07:13:40,334 1 INFO ? odoo: Odoo version 14.0
2026-11-22 07:13:40,602 1 INFO ? odoo.service.server: HTTP service (werkzeug) running on 4723:8069
2026-11-22 07:13:40,646 1 INFO demo14 odoo.modules.loading: 1 modules loaded in 0.01s, 0 queries (+0 extra)
2026-11-22 07:13:41,113 1 INFO demo14 odoo.modules.loading: 57 modules loaded in 0.45s, 0 queries (+1 extra)
2026-11-22 07:13:41,345 1 INFO demo14 odoo.modules.loading: Modules loaded. ";
        let report = scan(log.lines());
        assert_eq!(report.registries, [("demo14".to_owned(), 0.45)]);
        assert!(report.serving && report.findings.is_empty());
    }

    #[test]
    fn what_odoo_plays_down_is_found() {
        let log = "\
2026-11-21 20:07:32,700 1 ERROR demo odoo.modules.loading: Some modules are not loaded, some dependencies or manifest may be missing: ['x']
2026-11-21 20:07:32,700 1 ERROR demo odoo.modules.loading: Some modules have inconsistent states, some dependencies may be missing: ['x']
2026-11-21 20:07:33,000 1 INFO demo odoo.addons.base.models.ir_attachment: _read_file reading /var/lib/odoo/filestore/demo/ab/abc
Traceback (most recent call last):
2026-11-21 20:07:34,000 1 CRITICAL demo odoo.service: gone
2026-11-21 20:07:35,000 1 ERROR ? odoo.http: broken
2026-11-21 20:07:35,000 1 WARNING ? odoo.modules.module_graph: module y: not installable, skipped";
        let expected = [
            (1, Kind::ModulesNotLoaded),
            (2, Kind::InconsistentStates),
            (3, Kind::FileMissing),
            (4, Kind::Traceback),
            (5, Kind::Critical),
            (6, Kind::Error),
            (7, Kind::ModuleSkipped),
        ];
        assert_eq!(kinds(log), expected);
    }

    #[test]
    fn colours_do_not_hide_a_level() {
        let line = "2026-11-21 20:07:35,000 1 \u{1b}[1;31m\u{1b}[1;49mERROR\u{1b}[0m demo odoo.http: broken";
        assert_eq!(kinds(line), [(1, Kind::Error)]);
    }

    #[test]
    fn findings_are_bounded_and_counted() {
        let line = "2026-11-21 20:07:35,000 1 ERROR demo odoo.http: broken";
        let report = scan(std::iter::repeat_n(line, KEPT + 7));
        assert_eq!((report.found, report.findings.len()), (KEPT as u64 + 7, KEPT));
    }
}
