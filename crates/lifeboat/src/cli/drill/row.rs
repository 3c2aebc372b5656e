//! One check, as a line of an answer.

use lifeboat_model::check::{Check, Verdict};
use serde::Serialize;

use crate::output::Tone;

/// A check of any ladder, for scripts; [`CheckRow::seen`] and [`verdict`] are what people read of it.
#[derive(Serialize)]
pub struct CheckRow {
    pub id: String,
    pub rung: u8,
    pub purpose: String,
    /// `outcome`: `passed`, `failed` or `not-executed`; with `why` unless it passed.
    pub verdict: Verdict,
    pub expected: String,
    pub observed: String,
    pub duration_ms: u64,
}

impl From<Check> for CheckRow {
    fn from(check: Check) -> CheckRow {
        let Check { id, rung, purpose, expected, observed, verdict, duration_ms } = check;
        CheckRow { id, rung, purpose, verdict, expected, observed, duration_ms }
    }
}

impl CheckRow {
    /// What was seen, or why that is not enough.
    pub fn seen(&self) -> &str {
        match &self.verdict {
            Verdict::Passed => &self.observed,
            Verdict::Failed(why) | Verdict::NotExecuted(why) => why,
        }
    }
}

/// A verdict as people read it.
pub fn verdict(verdict: &Verdict) -> (Tone, &'static str) {
    match verdict {
        Verdict::Passed => (Tone::Good, "passed"),
        Verdict::Failed(_) => (Tone::Bad, "FAILED"),
        Verdict::NotExecuted(_) => (Tone::Doubtful, "not executed"),
    }
}
