//! What a check answers. A check that did not run is never a pass.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The three answers a check can give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "why")]
pub enum Verdict {
    /// It ran, and observed equals expected.
    Passed,
    /// It ran, and found what must not be. The text says what.
    Failed(String),
    /// It did not run, timed out or could not run. The text says why.
    NotExecuted(String),
}

impl Verdict {
    /// Whether this is a pass.
    pub fn is_passed(&self) -> bool {
        matches!(self, Verdict::Passed)
    }

    /// `passed`, `failed` or `not executed`, as people read it.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed(_) => "failed",
            Verdict::NotExecuted(_) => "not executed",
        }
    }
}

/// One check of a drill: what was asked, expected and seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Stable id, `rung.name`, for example `boot.log`.
    pub id: String,
    /// The rung of the ladder, 1–15.
    pub rung: u8,
    /// What the check is for, one line.
    pub purpose: String,
    /// What had to be seen.
    pub expected: String,
    /// What was seen.
    pub observed: String,
    /// The answer.
    pub verdict: Verdict,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// The answer of a whole run: the worst of its checks, or *incomplete* where a required one did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every required check ran and passed.
    Passed,
    /// At least one check failed.
    Failed,
    /// None failed, but a required check was not executed.
    Incomplete,
}

impl Outcome {
    /// Sums up checks; `required` tells by id whether a check must have run.
    pub fn of(checks: &[Check], required: impl Fn(&str) -> bool) -> Outcome {
        if checks.is_empty() {
            return Outcome::Incomplete;
        }
        if checks.iter().any(|check| matches!(check.verdict, Verdict::Failed(_))) {
            return Outcome::Failed;
        }
        let missing = |check: &Check| matches!(check.verdict, Verdict::NotExecuted(_)) && required(&check.id);
        if checks.iter().any(missing) { Outcome::Incomplete } else { Outcome::Passed }
    }

    /// Like [`Outcome::of`], with the required checks by id: one that is not even in the list was not executed either.
    pub fn with_required<S: AsRef<str>>(checks: &[Check], required: &[S]) -> Outcome {
        let absent = |id: &&S| !checks.iter().any(|check| check.id == id.as_ref());
        let outcome = Outcome::of(checks, |id| required.iter().any(|required| required.as_ref() == id));
        match outcome {
            Outcome::Passed if required.iter().any(|id| absent(&id)) => Outcome::Incomplete,
            outcome => outcome,
        }
    }

    /// `passed`, `failed` or `incomplete`.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Incomplete => "incomplete",
        }
    }
}

/// Milliseconds, for [`Check::duration_ms`]; saturates.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &str, verdict: Verdict) -> Check {
        let text = String::new;
        Check { id: id.into(), rung: 1, purpose: text(), expected: text(), observed: text(), verdict, duration_ms: 0 }
    }

    #[test]
    fn not_executed_is_never_a_pass() {
        let passed = check("a", Verdict::Passed);
        let skipped = check("b", Verdict::NotExecuted("no image".into()));
        let failed = check("c", Verdict::Failed("x".into()));
        let all = |_: &str| true;
        assert_eq!(Outcome::of(&[], all), Outcome::Incomplete);
        assert_eq!(Outcome::of(std::slice::from_ref(&passed), all), Outcome::Passed);
        assert_eq!(Outcome::of(&[passed.clone(), skipped.clone()], all), Outcome::Incomplete);
        assert_eq!(Outcome::of(&[passed.clone(), skipped.clone()], |id| id != "b"), Outcome::Passed);
        assert_eq!(Outcome::of(&[passed.clone(), skipped, failed], |_| false), Outcome::Failed);
        let passed = [passed];
        assert_eq!(Outcome::with_required(&passed, &["a"]), Outcome::Passed);
        assert_eq!(Outcome::with_required(&passed, &["a", "absent"]), Outcome::Incomplete);
        assert_eq!(Outcome::with_required::<&str>(&passed, &[]), Outcome::Passed);
    }
}
