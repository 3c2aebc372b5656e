//! What the evidence says of runs of runbooks: whether the very texts of one and of all that it runs were practised, and passed.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use lifeboat_evidence::{
    Act, EvidenceKey, Predicate,
    act::{PASSED, Stage, texts_sha256},
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
    /// SHA-256 over its text and those of all that it runs; none: its release did not tell.
    pub texts: Option<Sha256Digest>,
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
    /// Whether any step was done; of an older release it is taken so.
    pub did_something: bool,
}

/// A runbook as it stands today, with all that it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    id: String,
    own: Option<Sha256Digest>,
    /// None: one that it runs is not there.
    all: Option<Sha256Digest>,
    /// Whether it runs others.
    calls: bool,
}

impl Texts {
    /// Gathers them: `look` gives the SHA-256 of a runbook's text, and the ids of those that it runs.
    pub fn gather(id: &str, mut look: impl FnMut(&str) -> Option<(String, Vec<String>)>) -> Texts {
        let (mut known, mut open, mut whole) = (BTreeMap::new(), vec![id.to_owned()], true);
        while let Some(next) = open.pop() {
            if known.contains_key(&next) {
                continue;
            }
            match look(&next).and_then(|(sha256, calls)| Some((sha256.parse::<Sha256Digest>().ok()?, calls))) {
                Some((sha256, calls)) => {
                    known.insert(next, sha256);
                    open.extend(calls);
                }
                None => whole = false,
            }
        }
        let own = known.get(id).copied();
        Texts { id: id.to_owned(), own, calls: known.len() > 1 || !whole, all: whole.then(|| texts_sha256(&known)) }
    }

    /// Whether a run was of these very texts.
    fn are_of(&self, run: &PastRun) -> bool {
        match run.texts {
            Some(texts) => self.all == Some(texts),
            // It told of the outer one alone: nobody knows what else was practised.
            None => !self.calls && self.own == Some(run.sha256),
        }
    }
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
        /// How many steps practice could not do.
        not_practised: usize,
    },
    /// This text was, and none of its steps was done.
    Nothing {
        /// When it was over.
        when: Timestamp,
        /// The run.
        run: RunId,
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
            texts: run.texts_sha256,
            did_something: run.steps_passed != Some(0),
            instance: act.instance,
            begun: run.begun,
            over: act.finished,
            by,
            not_practised: run.not_practised,
        });
    }
    Ok(runs)
}

/// Whether a runbook and all that it runs were rehearsed as they stand: for an instance, or for any. What was practised for none in
/// particular counts for each.
pub fn rehearsal(runs: &[PastRun], texts: &Texts, instance: Option<&Instance>) -> Rehearsal {
    let is_for = |run: &PastRun| match (instance, &run.instance) {
        (Some(wanted), Some(of)) => wanted == of,
        _ => true,
    };
    let mut practised = runs.iter().filter(|run| run.practice && run.runbook == texts.id && is_for(run));
    match practised.clone().find(|run| texts.are_of(run)) {
        Some(run) if run.passed && run.did_something => Rehearsal::Rehearsed {
            when: run.over,
            run: run.run,
            by: run.by.clone(),
            not_practised: run.not_practised.len(),
        },
        Some(run) if run.passed => Rehearsal::Nothing { when: run.over, run: run.run },
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
            texts: None,
            practice,
            instance: Some("clinic".parse().unwrap()),
            begun: at,
            over: at,
            by: "ann@a".into(),
            passed,
            not_practised: Vec::new(),
            did_something: true,
        }
    }

    /// As today's shelf has it: with digests of these bytes.
    fn shelf(id: &str, books: &[(&str, u8, &[&str])]) -> Texts {
        Texts::gather(id, |wanted| {
            let (_, text, calls) = books.iter().find(|(id, ..)| *id == wanted)?;
            Some((Sha256Digest([*text; 32]).to_string(), calls.iter().map(ToString::to_string).collect()))
        })
    }

    #[test]
    fn only_the_same_text_counts_and_its_last_word() {
        let (old, new) =
            (shelf("total-loss", &[("total-loss", 1, &[])]), shelf("total-loss", &[("total-loss", 2, &[])]));
        let at = |second| Timestamp::from_second(second).unwrap();
        let tell = |runs: &[PastRun], texts: &Texts, instance: Option<&str>| {
            let instance = instance.map(|name| name.parse().unwrap());
            rehearsal(runs, texts, instance.as_ref())
        };
        let runs = [run(3, 1, true, true), run(2, 1, true, false)];
        let rehearsed =
            Rehearsal::Rehearsed { when: at(3), run: RunId([3; 8]), by: "ann@a".to_owned(), not_practised: 0 };
        assert_eq!(tell(&runs, &old, None), rehearsed);
        assert_eq!(tell(&runs, &new, None), Rehearsal::Changed { when: at(3) });
        assert_eq!(tell(&runs, &old, Some("other")), Rehearsal::Never);
        let of_none = [PastRun { instance: None, ..run(3, 1, true, true) }];
        assert_eq!(tell(&of_none, &old, Some("clinic")), rehearsed, "it has no instance: it is for each");
        assert_eq!(rehearsal(&runs, &shelf("other", &[("other", 1, &[])]), None), Rehearsal::Never);
        let failed = [run(4, 1, true, false), run(3, 1, true, true)];
        assert_eq!(tell(&failed, &old, Some("clinic")), Rehearsal::Failed { when: at(4), run: RunId([4; 8]) });
        assert_eq!(tell(&[run(5, 1, false, true)], &old, None), Rehearsal::Never, "real is no practice");
    }

    #[test]
    fn what_it_runs_counts_as_well() {
        let at = Timestamp::from_second(3).unwrap();
        let books = |inner| shelf("total-loss", &[("total-loss", 1, &["inner"]), ("inner", inner, &["total-loss"])]);
        let then = [("total-loss", 1), ("inner", 5)].map(|(id, text)| (id.to_owned(), Sha256Digest([text; 32])));
        let told = PastRun { texts: Some(texts_sha256(&then.into())), ..run(3, 1, true, true) };
        let tell = |run: &PastRun, texts: &Texts| rehearsal(std::slice::from_ref(run), texts, None);
        assert!(matches!(tell(&told, &books(5)), Rehearsal::Rehearsed { .. }));
        assert_eq!(tell(&told, &books(6)), Rehearsal::Changed { when: at }, "the inner one was edited");
        let alone = shelf("total-loss", &[("total-loss", 1, &["inner"])]);
        assert_eq!(tell(&told, &alone), Rehearsal::Changed { when: at }, "the inner one is gone");
        let untold = PastRun { texts: None, ..told.clone() };
        assert_eq!(tell(&untold, &books(5)), Rehearsal::Changed { when: at }, "nobody knows which inner one it was");
        let nothing = PastRun { did_something: false, ..told };
        assert_eq!(tell(&nothing, &books(5)), Rehearsal::Nothing { when: at, run: RunId([3; 8]) });
    }
}
