//! What a drill was about, and whether it is still so. A drill of something that is no longer there proves nothing of today.

use jiff::Timestamp;
use lifeboat_model::id::{Instance, PointId, RunId, Sha256Digest};
use serde::Serialize;

use super::{Audit, NotExecuted, Weight, Word};
use crate::drill::{DrillPredicate, Image};

/// A passed drill and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rehearsal {
    /// The instance.
    pub instance: Instance,
    /// The statement's name.
    pub name: String,
    /// The run.
    pub run: RunId,
    /// When it had finished.
    pub finished: Timestamp,
    /// The recovery point's id.
    pub point: PointId,
    /// Its object key.
    pub point_key: String,
    /// SHA-256 of its object.
    pub point_sha256: Sha256Digest,
    /// The images that ran.
    pub images: Vec<Image>,
    /// Digest of the policy; none from releases that kept none.
    pub policy_sha256: Option<Sha256Digest>,
}

impl Rehearsal {
    /// Of a drill that had a point.
    pub(super) fn of(name: &str, drill: &DrillPredicate) -> Option<Rehearsal> {
        let point = drill.point.as_ref()?;
        Some(Rehearsal {
            instance: drill.instance.clone(),
            name: name.to_owned(),
            run: drill.run,
            finished: drill.finished,
            point: point.id,
            point_key: point.key.clone(),
            point_sha256: point.sha256,
            images: drill.images.clone(),
            policy_sha256: drill.policy_sha256,
        })
    }
}

/// What something is today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Now<T> {
    /// This.
    Is(T),
    /// It is not there any more.
    Gone,
    /// It could not be looked up, for this reason.
    Unknown(String),
}

/// What the subjects of a drill are today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    /// SHA-256 of the point's object.
    pub point: Now<Sha256Digest>,
    /// For each of the drill's images, in its order: the id that the configured name means today.
    pub images: Vec<Now<String>>,
    /// Digest of the policy.
    pub policy: Now<Sha256Digest>,
}

/// What was found of the journal that a statement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalFound {
    /// The lines that were signed for.
    Same,
    /// Only so many lines.
    Short(u64),
    /// Other lines.
    Other,
}

impl Audit {
    /// Holds a statement of a run or an incident against its journal, as far as that was written then.
    pub fn journal(&mut self, of: &str, journal: &str, lines: u64, found: JournalFound) {
        match found {
            JournalFound::Same => {}
            JournalFound::Short(there) => {
                let detail = format!("the journal {journal} had {lines} lines then, and {there} are there");
                self.findings.add(Word::Missing, Weight::Doubt, of, detail);
            }
            JournalFound::Other => {
                let detail =
                    format!("the first {lines} lines of the journal {journal} are not those that were signed for");
                self.findings.add(Word::Edited, Weight::Wrong, of, detail);
            }
        }
    }

    /// Holds a drill against what its subjects are today.
    pub fn compare(&mut self, rehearsal: &Rehearsal, now: &Subjects) {
        let Rehearsal { instance, point, .. } = rehearsal;
        match &now.point {
            Now::Is(sha256) if *sha256 == rehearsal.point_sha256 => {}
            Now::Is(_) => self.stale(rehearsal, format!("recovery point {point} has another digest now")),
            Now::Gone => self.stale(rehearsal, format!("recovery point {point} is not there any more")),
            Now::Unknown(why) => self.unknown(instance, &format!("recovery point {point}"), why),
        }
        for (image, now) in rehearsal.images.iter().zip(&now.images) {
            let Image { role, name, id, .. } = image;
            match now {
                Now::Is(today) if today == id => {}
                Now::Is(today) => {
                    self.stale(rehearsal, format!("{role} ran from image {name} ({id}), which is {today} now"));
                }
                Now::Gone => {
                    self.stale(rehearsal, format!("{role} ran from image {name}, which is not configured any more"))
                }
                Now::Unknown(why) => self.unknown(instance, &format!("image {name}"), why),
            }
        }
        match (&now.policy, rehearsal.policy_sha256) {
            (_, None) => self.unknown(instance, "policy", "the drill is of a release that did not record it"),
            (Now::Is(today), Some(then)) if *today == then => {}
            (Now::Is(_), Some(_)) => {
                self.stale(rehearsal, "the settings of the instance or its tier have changed since".to_owned())
            }
            (Now::Gone, _) => self.stale(rehearsal, format!("instance {instance} is not configured any more")),
            (Now::Unknown(why), _) => self.unknown(instance, "policy", why),
        }
    }

    /// Says that nobody has held statements of runs and incidents against their journals.
    pub fn journals_not_executed(&mut self, why: &str) {
        let what = "whether the journals of runs and incidents are those that were signed for".to_owned();
        self.not_executed.push(NotExecuted { what, why: why.to_owned() });
    }

    /// Says that nobody has looked whether drills are still about what is there.
    pub fn subjects_not_executed(&mut self, why: &str) {
        let what = "whether points, images and policy are still those that were drilled".to_owned();
        self.not_executed.push(NotExecuted { what, why: why.to_owned() });
    }

    fn stale(&mut self, rehearsal: &Rehearsal, why: String) {
        let why = format!("{} has no newer drill that passed, and {why}", rehearsal.instance);
        self.findings.add(Word::Stale, Weight::Doubt, &rehearsal.name, why);
    }

    fn unknown(&mut self, instance: &Instance, what: &str, why: &str) {
        let what = format!("whether the {what} of {instance}'s newest drill is still the same");
        self.not_executed.push(NotExecuted { what, why: why.to_owned() });
    }
}
