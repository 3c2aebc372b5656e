//! One thing that was looked at, and what a person has to do about it.

use serde::Serialize;

use crate::{
    exit::Exit,
    output::{Page, Rows, Tone},
};

/// What was found, gravest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Works, and should not stay.
    Warning,
    /// Could not be looked at: not a pass.
    NotChecked,
    /// Does not work.
    Failed,
}

impl Grade {
    fn word(self) -> (Tone, &'static str) {
        match self {
            Grade::Ok => (Tone::Good, "ok"),
            Grade::Warning => (Tone::Doubtful, "warning"),
            Grade::NotChecked => (Tone::Doubtful, "not checked"),
            Grade::Failed => (Tone::Bad, "FAILED"),
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Stable id, `area.name`.
    pub check: String,
    /// The instance concerned, where it is about one.
    pub instance: Option<String>,
    /// What was found.
    pub grade: Grade,
    /// What was seen.
    pub observed: String,
    /// What to do, where something is to be done.
    pub mend: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: impl Into<String>, observed: impl Into<String>) -> Self {
        Finding { check: check.into(), instance: None, grade: Grade::Ok, observed: observed.into(), mend: None }
    }

    /// Not as it should be.
    pub fn wrong(grade: Grade, check: impl Into<String>, observed: impl Into<String>, mend: impl Into<String>) -> Self {
        Finding { grade, mend: Some(mend.into()).filter(|text| !text.is_empty()), ..Finding::ok(check, observed) }
    }

    /// Does not work.
    pub fn failed(check: impl Into<String>, observed: impl Into<String>, mend: impl Into<String>) -> Self {
        Finding::wrong(Grade::Failed, check, observed, mend)
    }

    /// About this instance.
    pub fn of(self, instance: &str) -> Self {
        Finding { instance: Some(instance.to_owned()), ..self }
    }
}

/// All that was looked at.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// The gravest grade.
    pub fn worst(&self) -> Grade {
        self.0.iter().map(|finding| finding.grade).max().unwrap_or(Grade::NotChecked)
    }

    /// Anything failed: [`Exit::CheckFailed`]; anything that could not be looked at: [`Exit::Incomplete`].
    pub fn exit(&self) -> Exit {
        match self.worst() {
            Grade::Ok | Grade::Warning => Exit::Ok,
            Grade::NotChecked => Exit::Incomplete,
            Grade::Failed => Exit::CheckFailed,
        }
    }

    /// A table, then what to do about each thing that is not as it should be.
    pub fn text(&self, page: &mut Page) {
        let of_instances = self.0.iter().any(|finding| finding.instance.is_some());
        let mut rows =
            Rows::new(if of_instances { &["", "instance", "check", "seen"] } else { &["", "check", "seen"] });
        for finding in &self.0 {
            let instance = finding.instance.as_deref().unwrap_or("–");
            let mut cells = vec![finding.grade.word(), (Tone::Plain, &finding.check), (Tone::Plain, &finding.observed)];
            if of_instances {
                cells.insert(1, (Tone::Plain, instance));
            }
            rows.row(cells);
        }
        page.table(rows);
        let mends: Vec<&Finding> = self.0.iter().filter(|finding| finding.mend.is_some()).collect();
        if !mends.is_empty() {
            page.heading("What to do");
        }
        for finding in mends {
            let instance = finding.instance.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
            page.line(format_args!("- {}{instance}: {}", finding.check, finding.mend.as_deref().unwrap_or_default()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_checked_is_no_pass() {
        let mut findings = Findings::default();
        assert_eq!(findings.exit(), Exit::Incomplete);
        findings.0.push(Finding::ok("a.b", "x"));
        findings.0.push(Finding::wrong(Grade::Warning, "a.w", "x", "y"));
        assert_eq!(findings.exit(), Exit::Ok);
        findings.0.push(Finding::wrong(Grade::NotChecked, "a.c", "x", "y"));
        assert_eq!(findings.exit(), Exit::Incomplete);
        findings.0.push(Finding::failed("a.d", "x", "y"));
        assert_eq!(findings.exit(), Exit::CheckFailed);
    }
}
