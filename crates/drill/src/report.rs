//! What a drill reports: everything that its evidence needs, and nothing that must not leave the host.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_evidence::drill::{
    self as evidence, Breakdown, Comparison, Fact, Phase, Prediction, SoftwareVersions, Targets,
};
use lifeboat_model::{
    check::{Check, Outcome},
    id::{Instance, RunId, Tenant},
    time::Span,
};

use crate::{
    sandbox::{Image, Isolation, teardown::Teardown},
    screenshot::Picture,
    source::Selected,
};

/// A drill, whether it passed or not.
#[derive(Debug, Clone)]
pub struct DrillReport {
    /// The run.
    pub run: RunId,
    /// The owner.
    pub tenant: Tenant,
    /// The instance.
    pub instance: Instance,
    /// When it began.
    pub started: Timestamp,
    /// When everything was torn down.
    pub finished: Timestamp,
    /// What was rehearsed; none when nothing could be selected.
    pub selected: Option<Selected>,
    /// Every check of the ladder, in order, for whoever ran the drill: answers name files, tables and log lines. The last one,
    /// `evidence.signed`, is the caller's to answer.
    pub checks: Vec<Check>,
    /// The same checks in the words of evidence, which is stored unencrypted: counts instead of names from inside the backup.
    pub evidence_checks: Vec<Check>,
    /// The sum.
    pub outcome: Outcome,
    /// Ids of the checks that had to run.
    pub required: Vec<String>,
    /// How the restored data was compared with the source.
    pub comparison: Comparison,
    /// Where the time went: parts add up to their phase, phases to the total.
    pub phases: Vec<Phase>,
    /// Whose work it was.
    pub breakdown: Breakdown,
    /// How long a restore of production would take; none if Odoo did not come so far that a login was served.
    pub prediction: Option<Prediction>,
    /// Age of the newest restored commit at the reference time (the end of the point's backup).
    pub rpo: Option<Duration>,
    /// From the first second to a served login.
    pub rto: Option<Duration>,
    /// What the logged-in user saw. It may show personal data.
    pub picture: Option<Picture>,
    /// The newest commit found in the restored data.
    pub newest_commit: Option<Timestamp>,
    /// What was asked for.
    pub targets: Targets,
    /// The images that ran.
    pub images: Vec<Image>,
    /// What ran in them.
    pub versions: SoftwareVersions,
    /// What kept the sandbox from touching the world.
    pub isolation: Option<Isolation>,
    /// What the teardown removed and found.
    pub teardown: Teardown,
    /// What was damaged on purpose: not a rehearsal but a negative control.
    pub sabotage: Option<String>,
    /// Kinds of attachments that database and filestore do not hold, with counts.
    pub not_covered: Vec<(String, u64)>,
    /// What the run noticed, one line each.
    pub notes: Vec<String>,
    /// Those of them that name nothing from inside the backup.
    pub public_notes: Vec<String>,
}

impl DrillReport {
    /// The isolation as facts for the evidence.
    pub fn isolation_facts(&self) -> Vec<Fact> {
        let Some(isolation) = &self.isolation else { return Vec::new() };
        let fact = |name: &str, observed: String| Fact { name: name.to_owned(), observed };
        let yes_no = |holds: bool| if holds { "yes" } else { "no" }.to_owned();
        let mut facts = vec![fact("no network but the sandbox's own loopback", yes_no(isolation.internal))];
        facts.extend(isolation.looked_at.iter().map(|seen| fact("looked at", seen.clone())));
        facts.extend(
            isolation.attempts.iter().map(|one| fact(&format!("{} tried {}", one.from, one.at), one.seen.clone())),
        );
        facts.extend(isolation.untried.iter().map(|why| fact("not tried", why.clone())));
        facts.extend(isolation.leaks.iter().map(|leak| fact("leak", leak.clone())));
        facts
    }

    /// The images as the evidence names them.
    pub fn evidence_images(&self) -> Vec<evidence::Image> {
        let image = |image: &Image| evidence::Image {
            role: image.role.clone(),
            name: image.reference.clone(),
            id: image.id.clone(),
            digest: image.digests.first().cloned(),
        };
        self.images.iter().map(image).collect()
    }

    /// The teardown as the evidence counts it.
    pub fn evidence_teardown(&self) -> evidence::Teardown {
        let left = &self.teardown.left;
        let [containers, networks, volumes, plaintext] = self.teardown.counts();
        evidence::Teardown { complete: left.is_empty(), containers, volumes, networks, plaintext, left: left.clone() }
    }
}

/// Targets against measures.
pub(crate) fn targets(rpo: Span, rto: Span, measured: (Option<Duration>, Option<Duration>)) -> Targets {
    let seconds = |one: Option<Duration>| one.map(|one| one.as_secs_f64());
    Targets::compare(rpo, rto, seconds(measured.0), seconds(measured.1))
}
