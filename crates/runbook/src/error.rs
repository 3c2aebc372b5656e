//! What is wrong with a runbook, where, and what to do.

use std::fmt;

use lifeboat_model::config::{Problem, reading::Place};

/// A position in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The line, from 1.
    pub line: usize,
    /// The character in it, from 1.
    pub column: usize,
}

impl At {
    /// Where a file begins.
    pub const BEGIN: At = At { line: 1, column: 1 };

    /// An error here.
    pub fn error(self, message: impl Into<String>) -> Finding {
        Finding { at: self, severity: Severity::Error, message: message.into() }
    }

    /// A warning here.
    pub fn warning(self, message: impl Into<String>) -> Finding {
        Finding { at: self, severity: Severity::Warning, message: message.into() }
    }
}

impl From<&Place<'_>> for At {
    fn from(place: &Place<'_>) -> At {
        At { line: place.line.unwrap_or(1), column: place.column.unwrap_or(1) }
    }
}

/// Something that stands somewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed<T> {
    /// What it is.
    pub value: T,
    /// Where it stands.
    pub at: At,
}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The runbook must not be executed.
    Error,
    /// It can be, and should not stay so.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One thing that is wrong: the message says what to do. Prints as `12:3: error: …`, for a file's name to stand before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub at: At,
    /// How much it weighs.
    pub severity: Severity,
    /// What is wrong and what to do. Never holds a value that may be secret.
    pub message: String,
}

impl Finding {
    /// Whether the runbook must not be executed.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// What a reader of TOML has found; `whole` is where its text stands, for what has no line.
    pub(crate) fn of(problem: Problem, severity: Severity, whole: At) -> Finding {
        let at = problem.line.map_or(whole, |line| At { line, column: problem.column.unwrap_or(1) });
        let key = if problem.key.is_empty() { String::new() } else { format!("{}: ", problem.key) };
        let hint = if problem.hint.is_empty() { String::new() } else { format!("; {}", problem.hint) };
        Finding { at, severity, message: format!("{key}{}{hint}", problem.message) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.at.line, self.at.column, self.severity.word(), self.message)
    }
}

/// In the order of the file; what is said twice is said once.
pub(crate) fn in_order(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|one, two| (one.at, one.severity, &one.message).cmp(&(two.at, two.severity, &two.message)));
    findings.dedup();
    findings
}
