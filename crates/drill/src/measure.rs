//! Rung 13: what was lost, and how long it took.
//!
//! **RPO.** The reference time minus the newest commit in the restored data. A planned drill rehearses one recovery point, so
//! its reference is the end of that point's backup: what would have been lost had the source died at that moment. (After a
//! real disaster the reference is the disaster.) The newest commit is what PostgreSQL itself says at the end of replay; where
//! it replayed none, the beginning of the base backup stands for it: everything committed before is in the copy, so the true
//! loss is not more.
//!
//! **RTO.** From the drill's first second to a served login, everything between included, checks as well.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_model::time::Span;

use crate::ladder::Answer;

/// Reference time minus newest commit. A commit after the reference (clocks differ, or commits ran on while the backup ended)
/// loses nothing.
pub(crate) fn rpo(reference: Timestamp, newest_commit: Option<Timestamp>) -> Option<Duration> {
    let age = reference.duration_since(newest_commit?);
    Some(Duration::try_from(age).unwrap_or(Duration::ZERO))
}

/// Measured against its target.
pub(crate) fn judge(what: &str, measured: Option<Duration>, target: Span) -> Answer {
    match measured {
        Some(measured) if measured <= target.0 => Answer::passed(format!("{} (target {target})", Span(measured))),
        Some(measured) => Answer::failed(format!("{} is more than the target of {target}", Span(measured))),
        None => Answer::not_executed(format!("no {what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_model::check::Verdict;

    #[test]
    fn rpo_is_the_age_of_the_newest_commit_at_the_reference() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let reference = at("2026-11-21T20:00:00Z");
        assert_eq!(rpo(reference, Some(at("2026-11-21T19:59:30Z"))), Some(Duration::from_secs(30)));
        assert_eq!(rpo(reference, Some(at("2026-11-21T20:00:01Z"))), Some(Duration::ZERO));
        assert_eq!(rpo(reference, None), None);
    }

    #[test]
    fn beyond_the_target_is_a_failure_and_unmeasured_is_no_pass() {
        let target = Span(Duration::from_secs(60));
        assert_eq!(judge("commit", Some(Duration::from_secs(60)), target).verdict, Verdict::Passed);
        assert!(matches!(judge("commit", Some(Duration::from_secs(61)), target).verdict, Verdict::Failed(_)));
        assert!(matches!(judge("commit", None, target).verdict, Verdict::NotExecuted(_)));
    }
}
