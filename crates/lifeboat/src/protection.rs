//! Protected, at risk or unprotected: the rule, apart from where the facts come from.
//!
//! It never flatters. What is not proven by a passed drill is at risk at best; a drill that failed says that the instance
//! does not come back, whatever points there are.

use lifeboat_model::check::Outcome;
use serde::Serialize;

use crate::{
    exit::Exit,
    output::{Tone, count, seconds},
};

/// The answer, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Proven to come back, within the targets.
    Protected,
    /// Something is old, unproven or beyond a target.
    AtRisk,
    /// Nothing to come back from, or proven not to come back.
    Unprotected,
}

impl Word {
    /// As people read it.
    pub fn text(self) -> &'static str {
        match self {
            Word::Protected => "protected",
            Word::AtRisk => "AT RISK",
            Word::Unprotected => "UNPROTECTED",
        }
    }

    /// Its colour.
    pub fn tone(self) -> Tone {
        match self {
            Word::Protected => Tone::Good,
            Word::AtRisk => Tone::Doubtful,
            Word::Unprotected => Tone::Bad,
        }
    }

    /// What scripts see.
    pub fn exit(self) -> Exit {
        match self {
            Word::Protected => Exit::Ok,
            Word::AtRisk => Exit::Incomplete,
            Word::Unprotected => Exit::CheckFailed,
        }
    }
}

/// All that the answer rests on. Times in seconds.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    pub instance: &'a str,
    pub rpo_target: f64,
    pub rto_target: f64,
    /// Points in the repository, valid or not.
    pub stored_points: u64,
    /// The newest valid point.
    pub point: Option<PointFacts>,
    /// The newest drill with a valid signature.
    pub drill: Option<DrillFacts>,
    /// Newer drill statements that do not verify, lie in the wrong place or contradict themselves.
    pub drills_passed_over: u64,
}

/// A drill older than this proves nothing any more, in seconds: 35 days. Auditors ask for monthly drills, and a month has up to
/// 31 days; four more let a drill that failed to start be repeated before the alarm. Versions, images, data and people change
/// meanwhile, and what came back then need not come back now.
const DRILL_AGE_LIMIT: f64 = 35.0 * 86_400.0;

/// The newest valid point.
#[derive(Debug, Clone)]
pub struct PointFacts {
    /// Since its backup began.
    pub age: f64,
    /// Newer ones that do not verify.
    pub passed_over: u64,
}

/// The newest drill.
#[derive(Debug, Clone)]
pub struct DrillFacts {
    /// Since it began.
    pub age: f64,
    pub outcome: Outcome,
    pub rpo: Option<f64>,
    pub rto: Option<f64>,
    /// Images it ran on that are not the configured ones.
    pub other_images: Vec<String>,
    /// The first check that failed.
    pub first_bad: Option<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    pub word: Word,
    pub reasons: Vec<String>,
    pub next: Option<String>,
}

/// Draws the conclusion.
pub fn judge(facts: &Facts<'_>) -> Judgement {
    let mut found = Found { word: Word::Protected, reasons: Vec::new(), next: None };
    found.points(facts);
    found.drill(facts);
    Judgement { word: found.word, reasons: found.reasons, next: found.next }
}

struct Found {
    word: Word,
    reasons: Vec<String>,
    next: Option<String>,
}

impl Found {
    /// The gravest word counts, and the first command.
    fn add(&mut self, word: Word, reason: String, next: String) {
        self.word = self.word.max(word);
        self.reasons.push(reason);
        self.next.get_or_insert(next);
    }

    fn points(&mut self, facts: &Facts<'_>) {
        let backup = format!("lifeboat backup {}", facts.instance);
        let list = format!("lifeboat points list {}", facts.instance);
        match &facts.point {
            None if facts.stored_points == 0 => {
                self.add(Word::Unprotected, "there is no recovery point".into(), backup);
            }
            None => {
                let points = count(facts.stored_points, "recovery point", "recovery points");
                self.add(Word::Unprotected, format!("none of {points} verifies"), list);
            }
            Some(point) => {
                if point.passed_over > 0 {
                    let newer = count(point.passed_over, "newer recovery point does", "newer recovery points do");
                    self.add(Word::AtRisk, format!("{newer} not verify"), list);
                }
                if point.age > facts.rpo_target {
                    let (age, target) = (seconds(point.age), seconds(facts.rpo_target));
                    let reason =
                        format!("the newest recovery point holds what was there {age} ago; the RPO target is {target}");
                    self.add(Word::AtRisk, reason, backup);
                }
            }
        }
    }

    fn drill(&mut self, facts: &Facts<'_>) {
        let next = format!("lifeboat drill {}", facts.instance);
        if facts.drills_passed_over > 0 {
            let over = count(
                facts.drills_passed_over,
                "newer drill statement does not verify or contradicts itself",
                "newer drill statements do not verify or contradict themselves",
            );
            self.add(Word::AtRisk, over, "lifeboat evidence verify".into());
        }
        let Some(drill) = &facts.drill else {
            return self.add(Word::AtRisk, "no drill has proven that it comes back".into(), next);
        };
        match drill.outcome {
            Outcome::Failed => {
                let rung = drill.first_bad.as_ref().map(|id| format!(" at {id}")).unwrap_or_default();
                let show = format!("lifeboat evidence list {} --kind drill", facts.instance);
                self.add(Word::Unprotected, format!("the last drill failed{rung}: it does not come back"), show);
            }
            Outcome::Incomplete => {
                self.add(Word::AtRisk, "the last drill left out a required check".into(), next.clone());
            }
            Outcome::Passed => {}
        }
        if drill.age > DRILL_AGE_LIMIT {
            let (age, limit) = (seconds(drill.age), seconds(DRILL_AGE_LIMIT));
            let reason = format!("the last drill was {age} ago; a proof older than {limit} no longer counts");
            self.add(Word::AtRisk, reason, next.clone());
        }
        let measures = [("RPO", drill.rpo, facts.rpo_target), ("RTO", drill.rto, facts.rto_target)];
        for (name, measured, target) in measures {
            let target_text = seconds(target);
            match measured {
                None if drill.outcome == Outcome::Passed => {
                    self.add(Word::AtRisk, format!("the last drill did not measure its {name}"), next.clone());
                }
                Some(measured) if measured > target => {
                    let reason =
                        format!("the last drill's {name} was {}; the target is {target_text}", seconds(measured));
                    self.add(Word::AtRisk, reason, next.clone());
                }
                _ => {}
            }
        }
        if !drill.other_images.is_empty() {
            let images = drill.other_images.join(", ");
            self.add(Word::AtRisk, format!("the last drill ran on {images}, not on the images configured now"), next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Facts<'static> {
        Facts {
            instance: "clinic",
            rpo_target: 3600.0,
            rto_target: 600.0,
            stored_points: 2,
            point: Some(PointFacts { age: 60.0, passed_over: 0 }),
            drill: Some(drill(Outcome::Passed)),
            drills_passed_over: 0,
        }
    }

    fn drill(outcome: Outcome) -> DrillFacts {
        DrillFacts { age: 86_400.0, outcome, rpo: Some(10.0), rto: Some(50.0), other_images: vec![], first_bad: None }
    }

    fn check(change: impl FnOnce(&mut Facts<'static>), word: Word, reason: &str, next: &str) {
        let mut facts = sound();
        change(&mut facts);
        let judgement = judge(&facts);
        assert_eq!(judgement.word, word, "{judgement:?}");
        assert!(judgement.reasons.iter().any(|text| text.contains(reason)), "{judgement:?}");
        assert_eq!(judgement.next.as_deref(), Some(next), "{judgement:?}");
    }

    #[test]
    fn protected_needs_everything() {
        assert_eq!(judge(&sound()), Judgement { word: Word::Protected, reasons: vec![], next: None });
    }

    #[test]
    fn each_lack_shows() {
        use Word::{AtRisk, Unprotected};
        let (backup, drill_again) = ("lifeboat backup clinic", "lifeboat drill clinic");
        check(|f| (f.point, f.stored_points) = (None, 0), Unprotected, "no recovery point", backup);
        check(|f| f.point = None, Unprotected, "none of 2", "lifeboat points list clinic");
        check(|f| f.point = Some(PointFacts { age: 3601.0, passed_over: 0 }), AtRisk, "RPO target", backup);
        check(
            |f| f.point = Some(PointFacts { age: 1.0, passed_over: 1 }),
            AtRisk,
            "1 newer recovery point does not verify",
            "lifeboat points list clinic",
        );
        check(|f| f.drill = None, AtRisk, "no drill", drill_again);
        check(|f| f.drill = Some(drill(Outcome::Incomplete)), AtRisk, "left out", drill_again);
        let failed = DrillFacts { first_bad: Some("boot.log".into()), ..drill(Outcome::Failed) };
        check(|f| f.drill = Some(failed), Unprotected, "boot.log", "lifeboat evidence list clinic --kind drill");
        let slow = DrillFacts { rto: Some(601.0), ..drill(Outcome::Passed) };
        check(|f| f.drill = Some(slow), AtRisk, "RTO was 10m 1s", drill_again);
        let unmeasured = DrillFacts { rpo: None, ..drill(Outcome::Passed) };
        check(|f| f.drill = Some(unmeasured), AtRisk, "did not measure its RPO", drill_again);
        let elsewhere = DrillFacts { other_images: vec!["odoo:18".into()], ..drill(Outcome::Passed) };
        check(|f| f.drill = Some(elsewhere), AtRisk, "odoo:18", drill_again);
    }

    #[test]
    fn an_old_or_doubtful_proof_does_not_protect() {
        let aged = |age| DrillFacts { age, ..drill(Outcome::Passed) };
        check(|f| f.drill = Some(aged(36.0 * 86_400.0)), Word::AtRisk, "no longer counts", "lifeboat drill clinic");
        check(|f| f.drills_passed_over = 1, Word::AtRisk, "1 newer drill statement", "lifeboat evidence verify");
        let young = Facts { drill: Some(aged(34.0 * 86_400.0)), ..sound() };
        assert_eq!(judge(&young).word, Word::Protected);
    }

    #[test]
    fn the_gravest_counts() {
        let mut facts = sound();
        facts.point = Some(PointFacts { age: 9000.0, passed_over: 0 });
        facts.drill = Some(drill(Outcome::Failed));
        assert_eq!(judge(&facts).word, Word::Unprotected);
        assert_eq!(judge(&facts).word.exit(), Exit::CheckFailed);
    }
}
