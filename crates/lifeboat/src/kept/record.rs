//! Where a run stands, as a signed statement in the ledger: who began it, took it up and ended it, and what its journal held then.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use lifeboat_engine::{record, with_causes};
use lifeboat_evidence::{
    Act,
    act::{PASSED, RunbookRun, Stage, texts_sha256},
};
use lifeboat_model::{
    check::Outcome,
    id::{Instance, RunId, Sha256Digest},
};
use lifeboat_runbook::{
    event::{self, Ending, Event, Line},
    journal::FileJournal,
};

use sha2::{Digest as _, Sha256};

use super::Keeper;

/// How long it may take: a run that is urgent does not wait for its evidence.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps a statement of where a run stands, as the journal in this file tells it; `why` it stands still. What is over, is over, whatever
/// `stage` says. Gives where the statement is.
///
/// # Errors
/// Why it is not recorded: the run goes on all the same, and people are told.
pub async fn tell(
    keeper: Keeper,
    path: PathBuf,
    run: RunId,
    stage: Stage,
    why: Option<String>,
) -> Result<String, String> {
    let read = tokio::task::spawn_blocking(move || FileJournal::read(&path)).await;
    let read = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let told = statement(run, stage, why, &read.lines, &read.head)?;
    let keeping = async {
        let context = keeper.reach().await?;
        let known = |name: &Instance| context.config.instance(name.as_str()).is_ok();
        let instance = told.instance.and_then(|name| name.parse().ok()).filter(known);
        let kept =
            record::keep_act(&context, instance.as_ref(), told.run.begun, told.outcome, Act::Runbook(told.run)).await;
        kept.map(|(key, _)| key.to_string()).map_err(|error| with_causes(&error))
    };
    match tokio::time::timeout(PATIENCE, keeping).await {
        Ok(kept) => kept,
        Err(_) => Err(format!("the repository did not take it within {} s", PATIENCE.as_secs())),
    }
}

struct Told {
    run: RunbookRun,
    instance: Option<String>,
    outcome: Outcome,
}

fn statement(run: RunId, stage: Stage, why: Option<String>, lines: &[Line], head: &str) -> Result<Told, String> {
    let Some(Line {
        at: begun,
        event: Event::Begun { runbook, sha256, mode, parameters, texts, instance, incident, .. },
        ..
    }) = lines.first()
    else {
        return Err("its journal has no beginning".to_owned());
    };
    let ending = lines.iter().rev().find_map(|line| match &line.event {
        Event::Finished { ending, .. } => Some(*ending),
        _ => None,
    });
    let (stage, words) = match ending {
        Some(ending) => (Stage::Over, Some(word(ending).to_owned())),
        None => (stage, why),
    };
    // Of a step that was tried again, its last try.
    let mut last = BTreeMap::new();
    let mut not_practised = Vec::new();
    for line in lines {
        match &line.event {
            Event::Ended { step, outcome, .. } => drop(last.insert(step.as_str(), *outcome)),
            Event::NotPractised { step, .. } => not_practised.push(step.clone()),
            _ => {}
        }
    }
    // A step that runs a runbook does no more than its steps.
    let inner = lines.iter().filter_map(|line| line.event.step()?.rsplit_once('/'));
    let callers: BTreeSet<&str> = inner.map(|(caller, _)| caller).collect();
    let did = last.iter().filter(|(step, outcome)| **outcome == event::Outcome::Passed && !callers.contains(**step));
    let steps_passed = did.count() as u64;
    let failed: Vec<String> = last
        .into_iter()
        .filter(|(_, outcome)| *outcome == event::Outcome::Failed)
        .map(|(step, _)| step.to_owned())
        .collect();
    let outcome = match ending {
        Some(Ending::Passed) if failed.is_empty() => Outcome::Passed,
        Some(_) => Outcome::Failed,
        None => Outcome::Incomplete,
    };
    let no_digest = |_| "its journal names no digest of the runbook".to_owned();
    Ok(Told {
        run: RunbookRun {
            run,
            runbook: runbook.clone(),
            runbook_sha256: sha256.parse().map_err(no_digest)?,
            texts_sha256: Some(texts_sha256(&texts.iter().map(|(id, text)| (id.clone(), digest(text))).collect())),
            mode: mode.word().to_owned(),
            parameters: parameters.clone(),
            incident: incident.as_ref().and_then(|incident| incident.parse().ok()),
            begun: *begun,
            stage,
            ending: words,
            failed,
            not_practised,
            steps_passed: Some(steps_passed),
            lines: lines.len() as u64,
            head: head.parse::<Sha256Digest>().map_err(no_digest)?,
        },
        instance: instance.clone(),
        outcome,
    })
}

fn digest(text: &str) -> Sha256Digest {
    Sha256Digest(Sha256::digest(text.as_bytes()).into())
}

/// How a run ended, in a statement.
pub fn word(ending: Ending) -> &'static str {
    match ending {
        Ending::Passed => PASSED,
        Ending::Failed => "failed",
        Ending::Answered => "answered",
        Ending::RolledBack => "rolled-back",
        Ending::HalfRolledBack => "half-rolled-back",
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_runbook::plan::Mode;

    use super::*;

    fn lines(events: Vec<Event>) -> Vec<Line> {
        let line = |(number, event)| Line { number, at: jiff::Timestamp::UNIX_EPOCH, who: "ann@a".to_owned(), event };
        (1..).zip(events).map(line).collect()
    }

    fn begun() -> Event {
        Event::Begun {
            runbook: "total-loss".to_owned(),
            sha256: "ab".repeat(32),
            mode: Mode::Practice,
            parameters: BTreeMap::new(),
            texts: BTreeMap::new(),
            tenant: None,
            instance: Some("clinic".to_owned()),
            incident: Some("0808080808080808".to_owned()),
            reference: None,
        }
    }

    fn ended(step: &str, attempt: u32, outcome: event::Outcome) -> Event {
        Event::Ended { step: step.to_owned(), attempt, outcome, outputs: BTreeMap::new(), why: None }
    }

    #[test]
    fn a_statement_says_what_the_journal_says() {
        use event::Outcome::{Failed, Passed};
        let (run, head) = (RunId([7; 8]), "cd".repeat(32));
        let tell = |stage, events| statement(run, stage, Some("because".to_owned()), &lines(events), &head).unwrap();
        let over = |ending| Event::Finished { ending, outputs: BTreeMap::new(), why: None };
        let skipped = Event::NotPractised { step: "dns".to_owned(), why: "no".to_owned() };
        let good = vec![begun(), ended("one", 1, Failed), ended("one", 2, Passed), skipped, over(Ending::Passed)];
        let told = tell(Stage::StandsStill, good.clone());
        assert_eq!(
            (told.outcome, told.run.stage, told.run.ending.as_deref()),
            (Outcome::Passed, Stage::Over, Some(PASSED))
        );
        assert_eq!((told.run.failed, told.run.not_practised, told.run.lines), (vec![], vec!["dns".to_owned()], 5));
        assert_eq!(told.run.steps_passed, Some(1), "tried again, it is one");
        let inner = |step| ended(step, 1, Passed);
        let called =
            tell(Stage::Over, vec![begun(), inner("bring-back/one"), inner("bring-back"), over(Ending::Passed)]);
        assert_eq!(called.run.steps_passed, Some(1), "to call is no step of its own");
        assert_eq!((told.run.incident, told.run.mode.as_str()), (Some(RunId([8; 8])), "practice"));
        let told = tell(Stage::StandsStill, good[..2].to_vec());
        assert_eq!(
            (told.outcome, told.run.stage, told.run.ending.as_deref()),
            (Outcome::Incomplete, Stage::StandsStill, Some("because"))
        );
        assert_eq!(told.run.failed, ["one"]);
        let told = tell(Stage::Over, vec![begun(), ended("one", 1, Failed), over(Ending::Failed)]);
        assert_eq!(told.outcome, Outcome::Failed);
        assert!(statement(run, Stage::Begun, None, &[], &head).is_err());
    }
}
