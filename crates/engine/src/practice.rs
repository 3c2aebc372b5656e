//! What the evidence says of runs of runbooks: whether the very text of one was practised, and passed.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use lifeboat_evidence::{
    Act, EvidenceKey, Predicate,
    act::{PASSED, Stage},
};
use lifeboat_model::id::{Instance, RunId, Sha256Digest};

use crate::{context::Context, error::Result, record};

/// Statements that are read at most, the newest.
const MOST: usize = 500;
/// Statements read at the same time.
const AT_ONCE: usize = 16;
/// What a run is called in its statement that is no real one.
const PRACTICE: &str = "practice";

/// A run that is over, as its statement tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastRun {
    /// The run.
    pub run: RunId,
    /// The runbook's id.
    pub runbook: String,
    /// SHA-256 of its text.
    pub sha256: Sha256Digest,
    /// Whether it was practice, or real.
    pub practice: bool,
    /// The instance; none: it is about none, or more than one.
    pub instance: Option<Instance>,
    /// When it was begun.
    pub begun: Timestamp,
    /// When it was over.
    pub over: Timestamp,
    /// Who ended it.
    pub by: String,
    /// Whether all of it passed.
    pub passed: bool,
    /// Steps that practice could not do.
    pub not_practised: Vec<String>,
}

/// Whether a runbook was rehearsed as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rehearsal {
    /// This text was, and passed.
    Rehearsed {
        /// When it was over.
        when: Timestamp,
        /// The run.
        run: RunId,
        /// Who did it.
        by: String,
    },
    /// This text was, and the last time it did not pass.
    Failed {
        /// When it was over.
        when: Timestamp,
        /// The run.
        run: RunId,
    },
    /// Another text of it was: it was edited since.
    Changed {
        /// When that was over.
        when: Timestamp,
    },
    /// It never was.
    Never,
}

/// The runs that are over, the newest first; none of which nobody is to be believed.
pub async fn runs(context: &Context) -> Result<Vec<PastRun>> {
    let mut listed = context.repository.list_evidence(&context.config.tenant, "").await?;
    listed.retain(|found| found.key.as_str().parse::<EvidenceKey>().is_ok_and(|key| key.kind == "runbook"));
    // Names begin with the time.
    listed.sort_by(|a, b| b.key.cmp(&a.key));
    listed.truncate(MOST);
    let reading = listed.into_iter().map(|found| async move { record::believed(context, &found).await });
    let mut reading = stream::iter(reading).buffered(AT_ONCE);
    let mut runs: Vec<PastRun> = Vec::new();
    while let Some(verified) = reading.try_next().await? {
        let Some(Predicate::Act(act)) = verified.map(|verified| verified.statement.predicate) else { continue };
        let Act::Runbook(run) = act.act else { continue };
        // Of a run that was ended twice, as by a host that did not know, the later word.
        if run.stage != Stage::Over || runs.iter().any(|known| known.run == run.run) {
            continue;
        }
        let by = match act.started_by.host.as_str() {
            "" => act.started_by.user,
            host => format!("{}@{host}", act.started_by.user),
        };
        runs.push(PastRun {
            run: run.run,
            practice: run.mode == PRACTICE,
            passed: run.ending.as_deref() == Some(PASSED) && run.failed.is_empty(),
            runbook: run.runbook,
            sha256: run.runbook_sha256,
            instance: act.instance,
            begun: run.begun,
            over: act.finished,
            by,
            not_practised: run.not_practised,
        });
    }
    Ok(runs)
}

/// Whether the text of a runbook was rehearsed: for an instance, or for any.
pub fn rehearsal(runs: &[PastRun], runbook: &str, sha256: &str, instance: Option<&Instance>) -> Rehearsal {
    let mut practised = runs.iter().filter(|run| {
        run.practice && run.runbook == runbook && instance.is_none_or(|wanted| run.instance.as_ref() == Some(wanted))
    });
    let this = practised.clone().find(|run| run.sha256.to_string() == sha256);
    match this {
        Some(run) if run.passed => Rehearsal::Rehearsed { when: run.over, run: run.run, by: run.by.clone() },
        Some(run) => Rehearsal::Failed { when: run.over, run: run.run },
        None => match practised.next() {
            Some(run) => Rehearsal::Changed { when: run.over },
            None => Rehearsal::Never,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: u8, text: u8, practice: bool, passed: bool) -> PastRun {
        let at = Timestamp::from_second(i64::from(number)).unwrap();
        PastRun {
            run: RunId([number; 8]),
            runbook: "total-loss".into(),
            sha256: Sha256Digest([text; 32]),
            practice,
            instance: Some("clinic".parse().unwrap()),
            begun: at,
            over: at,
            by: "ann@a".into(),
            passed,
            not_practised: Vec::new(),
        }
    }

    #[test]
    fn only_the_same_text_counts_and_its_last_word() {
        let (old, new) = (Sha256Digest([1; 32]).to_string(), Sha256Digest([2; 32]).to_string());
        let at = |second| Timestamp::from_second(second).unwrap();
        let tell = |runs: &[PastRun], sha256: &str, instance: Option<&str>| {
            let instance = instance.map(|name| name.parse().unwrap());
            rehearsal(runs, "total-loss", sha256, instance.as_ref())
        };
        let runs = [run(3, 1, true, true), run(2, 1, true, false)];
        let by = "ann@a".to_owned();
        assert_eq!(tell(&runs, &old, None), Rehearsal::Rehearsed { when: at(3), run: RunId([3; 8]), by });
        assert_eq!(tell(&runs, &new, None), Rehearsal::Changed { when: at(3) });
        assert_eq!(tell(&runs, &old, Some("other")), Rehearsal::Never);
        assert_eq!(rehearsal(&runs, "other", &old, None), Rehearsal::Never);
        let failed = [run(4, 1, true, false), run(3, 1, true, true)];
        assert_eq!(tell(&failed, &old, Some("clinic")), Rehearsal::Failed { when: at(4), run: RunId([4; 8]) });
        assert_eq!(tell(&[run(5, 1, false, true)], &old, None), Rehearsal::Never, "real is no practice");
    }
}
