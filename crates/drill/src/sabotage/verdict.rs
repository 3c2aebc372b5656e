//! What a control's drill means: passed only if exactly the right checks failed.

use lifeboat_evidence::drill::Control as Statement;
use lifeboat_model::check::{Check, Outcome, Verdict};

use super::{Control, Kind, State};
use crate::{ladder::SIGNED, report::DrillReport};

impl Control {
    /// The control's own answer, in words that may stand in evidence. It is asked when the drill is over.
    pub fn judge(&self, report: &DrillReport) -> Statement {
        let checks = &report.evidence_checks;
        let is_failed = |check: &&Check| check.id != SIGNED.id && matches!(check.verdict, Verdict::Failed(_));
        let failed: Vec<String> = checks.iter().filter(is_failed).map(|check| check.id.clone()).collect();
        let expected = self.kind().expected();
        let (outcome, why) = match answer(&self.state(), &expected, &failed, checks) {
            (Outcome::Passed, why) => by_cause(self.kind(), &report.checks, why),
            other => other,
        };
        Statement { kind: self.kind().word().to_owned(), expected, failed, outcome, why }
    }
}

fn answer(state: &State, expected: &[String], failed: &[String], checks: &[Check]) -> (Outcome, String) {
    let beside: Vec<&str> = failed.iter().filter(|id| !expected.contains(id)).map(String::as_str).collect();
    if let [_, ..] = beside.as_slice() {
        let reasons: Vec<String> =
            checks.iter().filter(|check| beside.contains(&check.id.as_str())).map(reason).collect();
        let what = match state {
            State::Damaged(_) => "failed besides what was damaged",
            _ => "failed before anything was damaged",
        };
        return (Outcome::Failed, format!("{what}: {}", reasons.join("; ")));
    }
    match state {
        State::NotApplied(why) => return (Outcome::Incomplete, why.clone()),
        State::Waiting => {
            // What stopped the drill stands in every check that it did not reach.
            let not_reached = checks.iter().find(|check| expected.contains(&check.id));
            let why = not_reached.map_or_else(|| "the drill ended before".to_owned(), reason);
            return (Outcome::Incomplete, format!("nothing was damaged: {why}"));
        }
        State::Damaged(_) => {}
    }
    let blind = |wanted: fn(&Verdict) -> bool| -> Vec<&Check> {
        let is_meant = |check: &&Check| expected.contains(&check.id) && wanted(&check.verdict);
        checks.iter().filter(is_meant).collect()
    };
    let passed = blind(|verdict| verdict.is_passed());
    if !passed.is_empty() {
        let ids: Vec<&str> = passed.iter().map(|check| check.id.as_str()).collect();
        return (Outcome::Failed, format!("the damage was not seen by {}", ids.join(", ")));
    }
    let unasked = blind(|verdict| matches!(verdict, Verdict::NotExecuted(_)));
    if let Some(first) = unasked.first() {
        return (Outcome::Incomplete, reason(first));
    }
    match failed.len() == expected.len() {
        true => (Outcome::Passed, format!("exactly {} failed", expected.join(", "))),
        false => (Outcome::Failed, "a check that must see the damage is not on the ladder".to_owned()),
    }
}

/// Checks that fail for other reasons too must have failed for this one: their full words name the cause. A store that lost an
/// object, or a server that was not ready in time, does not show that this damage is seen.
fn by_cause(kind: Kind, checks: &[Check], why: String) -> (Outcome, String) {
    let causes = causes(kind);
    let is_named = |check: &Check| match &check.verdict {
        // What the log says last, where nothing was fatal, it says at the end of every log.
        Verdict::Failed(why) if why.contains("did not become ready") && !why.contains("FATAL") => false,
        Verdict::Failed(why) => causes.iter().any(|words| why.contains(words)),
        _ => false,
    };
    let expected = kind.expected();
    match causes.is_empty() || checks.iter().filter(|check| expected.contains(&check.id)).all(is_named) {
        true => (Outcome::Passed, why),
        false => (Outcome::Incomplete, format!("{} failed, but not by what was damaged", expected.join(", "))),
    }
}

/// Words of which one must stand in the failure; none where the check fails by nothing else.
fn causes(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::WrongKey => &["none of the given identities opens"],
        // Ours, then PostgreSQL's.
        Kind::MissingWal | Kind::FlippedWal => &[
            "last commit lies before",
            "is held and was not replayed",
            "the write-ahead log reaches",
            "is consistent only at",
            "does not say that it stopped",
            "it stopped before",
            "recovery ended before configured recovery target",
            "WAL ends before",
            "could not locate",
            "checksum in record",
            "invalid record",
            "invalid magic number",
            "invalid resource manager",
            "record with",
            "requested WAL segment",
            "unexpected pageaddr",
        ],
        _ => &[],
    }
}

fn reason(check: &Check) -> String {
    match &check.verdict {
        Verdict::Passed => check.id.clone(),
        Verdict::Failed(why) => format!("{} failed: {why}", check.id),
        Verdict::NotExecuted(why) => format!("{} did not run: {why}", check.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ladder::{self, Spec};

    const DAMAGED: fn() -> State = || State::Damaged("row 7".to_owned());

    /// The ladder with these answers; everything else passed.
    fn judged(state: &State, answers: &[(Spec, Verdict)]) -> (Outcome, String) {
        let checks: Vec<Check> = ladder::LADDER
            .iter()
            .map(|spec| {
                let answer = answers.iter().find(|(known, _)| known.id == spec.id);
                let verdict = answer.map_or(Verdict::Passed, |(_, verdict)| verdict.clone());
                let passed = spec.answered(ladder::Answer::passed(""), std::time::Duration::ZERO).check;
                Check { verdict, ..passed }
            })
            .collect();
        let failed: Vec<String> = checks
            .iter()
            .filter(|check| matches!(check.verdict, Verdict::Failed(_)))
            .map(|check| check.id.clone())
            .collect();
        answer(state, &[ladder::DIGESTS.id.to_owned()], &failed, &checks)
    }

    fn failed(why: &str) -> Verdict {
        Verdict::Failed(why.to_owned())
    }

    #[test]
    fn exactly_the_right_check_must_fail() {
        let (outcome, why) = judged(&DAMAGED(), &[(ladder::DIGESTS, failed("1 of 589 tables"))]);
        assert_eq!((outcome, why.as_str()), (Outcome::Passed, "exactly data.digests failed"));
    }

    #[test]
    fn a_check_that_is_blind_fails_the_control() {
        let (outcome, why) = judged(&DAMAGED(), &[]);
        assert_eq!(outcome, Outcome::Failed);
        assert!(why.contains("not seen by data.digests"), "{why}");
    }

    #[test]
    fn a_wrong_check_fails_the_control_also_beside_the_right_one() {
        for right in [true, false] {
            let mut answers = vec![(ladder::AMCHECK, failed("corruption"))];
            answers.extend(right.then(|| (ladder::DIGESTS, failed("1 table"))));
            let (outcome, why) = judged(&DAMAGED(), &answers);
            assert_eq!(outcome, Outcome::Failed);
            assert!(why.contains("structure.amcheck failed: corruption"), "{why}");
        }
        let (outcome, why) = judged(&DAMAGED(), &[(ladder::DIGESTS, failed("x")), (ladder::TEARDOWN, failed("left"))]);
        assert!(outcome == Outcome::Failed && why.contains("teardown.proof"), "{why}");
    }

    #[test]
    fn what_was_not_asked_is_not_executed() {
        let unasked = Verdict::NotExecuted("the point holds no digests".to_owned());
        let (outcome, why) = judged(&DAMAGED(), &[(ladder::DIGESTS, unasked)]);
        assert!(outcome == Outcome::Incomplete && why.contains("the point holds no digests"), "{why}");
    }

    #[test]
    fn damage_that_could_not_be_done_is_not_executed() {
        let state = State::NotApplied("no filestore was restored".to_owned());
        let (outcome, why) = judged(&state, &[]);
        assert!(outcome == Outcome::Incomplete && why.contains("no filestore was restored"), "{why}");
        assert_eq!(judged(&State::Waiting, &[]).0, Outcome::Incomplete);
        // Even the right check proves nothing where nothing was damaged.
        let (outcome, _) = judged(&State::Waiting, &[(ladder::DIGESTS, failed("1 table"))]);
        assert_eq!(outcome, Outcome::Incomplete);
        assert_eq!(judged(&state, &[(ladder::FETCH, failed("pack gone"))]).0, Outcome::Failed);
    }

    #[test]
    fn a_failure_of_another_cause_shows_nothing() {
        let judged = |kind, spec: Spec, words: &str| {
            let answered = spec.answered(ladder::Answer::failed(words), std::time::Duration::ZERO);
            by_cause(kind, &[answered.check], "seen".to_owned()).0
        };
        let refused = "cannot restore: none of the given identities opens a/points/7; it needs age1";
        assert_eq!(judged(Kind::WrongKey, ladder::FETCH, refused), Outcome::Passed);
        assert_eq!(judged(Kind::WrongKey, ladder::FETCH, "a/packs/00 is missing"), Outcome::Incomplete);
        let short = "replayed to 0/3000000; the point's last commit lies before 0/4000000";
        let slow = "PostgreSQL did not become ready: LOG:  restored log file \"000000010000000000000003\"";
        for kind in [Kind::MissingWal, Kind::FlippedWal] {
            assert_eq!(judged(kind, ladder::REPLAY, short), Outcome::Passed);
            assert_eq!(judged(kind, ladder::REPLAY, slow), Outcome::Incomplete);
        }
        assert_eq!(judged(Kind::DeletedRow, ladder::DIGESTS, "1 of 589 tables"), Outcome::Passed);
    }
}
