//! Where a run stands that nobody here executes, by its journal: whoever looks is told what it needs to go on.

use std::{collections::BTreeMap, fs::File, path::Path};

use lifeboat_runbook::{
    action::{Action, runbook::Runbook},
    course::{Course, Next},
    document::{Document, Section},
    event::Line,
    execute::Stand,
};

/// Calls inside of calls; more are none that anybody wrote.
const DEEPEST: usize = 8;

/// Whether a process of this host has the journal: it executes the run, or looks after it.
pub(super) fn is_executed(journal: &Path) -> bool {
    File::open(journal).is_ok_and(|file| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Where it stands: at a question, at a step that failed, over; else it was cut off.
pub(super) fn of<'d>(mut course: Course<'d>, documents: &'d BTreeMap<String, Document>, lines: &[Line]) -> Stand {
    match course.replay(lines) {
        Ok(()) => inside(&course, "", documents, lines),
        Err(_) => Stand::Interrupted,
    }
}

fn inside<'d>(course: &Course<'d>, prefix: &str, documents: &'d BTreeMap<String, Document>, lines: &[Line]) -> Stand {
    let named = |section: &Section| format!("{prefix}{}", section.id);
    match course.next() {
        Next::Over(ending) => Stand::Over(ending),
        Next::Stopped { section, why } => Stand::Stopped { step: named(section), why },
        Next::Ask { section, .. } => Stand::Waits { step: named(section) },
        Next::Doubt { section, step, .. } => match &step.action {
            Action::Runbook(call) if prefix.matches('/').count() < DEEPEST => {
                called(course, call, &named(section), documents, lines).unwrap_or(Stand::Interrupted)
            }
            _ => Stand::Interrupted,
        },
        Next::Do { .. } | Next::Skip { .. } | Next::Undo { .. } | Next::Finish(_) => Stand::Interrupted,
    }
}

/// The same of a runbook that a step runs; what is over there is not over here.
fn called<'d>(
    course: &Course<'d>,
    call: &Runbook,
    path: &str,
    documents: &'d BTreeMap<String, Document>,
    lines: &[Line],
) -> Option<Stand> {
    let inner = course.called(call, documents.get(&call.runbook.value)?, path, lines).ok()?;
    Some(inside(&inner, &format!("{path}/"), documents, lines)).filter(|stand| !matches!(stand, Stand::Over(_)))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use lifeboat_runbook::{
        event::{Ending, Event, Outcome},
        plan::Mode,
    };

    use super::*;

    const BOOK: &str = "# Book\n\n```toml\n[runbook]\nid = \"book\"\nsummary = \"x\"\nroles = [\"operator\"]\n```\n\n## Go\n\n\
        ```toml\naction = \"command\"\nrun = [\"true\"]\neffect = \"nothing\"\n```\n\n## Look\n\n```toml\naction = \"manual\"\nrole = \"operator\"\n\
        look_for = \"light\"\ntouches = []\n```\n";

    fn stand(events: Vec<Event>) -> Stand {
        let document = Document::parse(BOOK).unwrap();
        let course = Course::new(&document, Mode::Real, BTreeMap::new(), "0707070707070707", "now");
        let line = |(number, event)| Line { number, at: Timestamp::UNIX_EPOCH, who: "ann@a".to_owned(), event };
        let lines: Vec<Line> = (1..).zip(events).map(line).collect();
        of(course, &BTreeMap::new(), &lines)
    }

    #[test]
    fn it_is_told_what_a_run_waits_for() {
        let begun = || Event::Begun {
            runbook: "book".to_owned(),
            sha256: "0".repeat(64),
            mode: Mode::Real,
            parameters: BTreeMap::new(),
            texts: BTreeMap::new(),
            tenant: None,
            instance: None,
            incident: None,
            reference: None,
        };
        let started = |step: &str| Event::Started { step: step.into(), attempt: 1 };
        let ended = |outcome, why: Option<&str>| Event::Ended {
            step: "go".into(),
            attempt: 1,
            outcome,
            outputs: BTreeMap::new(),
            why: why.map(str::to_owned),
        };
        assert_eq!(stand(vec![begun(), started("go")]), Stand::Interrupted);
        let stopped = stand(vec![begun(), started("go"), ended(Outcome::Failed, Some("no"))]);
        assert!(matches!(&stopped, Stand::Stopped { step, why } if step == "go" && why.contains("no")), "{stopped:?}");
        let waits = stand(vec![begun(), started("go"), ended(Outcome::Passed, None), started("look")]);
        assert_eq!(waits, Stand::Waits { step: "look".into() });
        let over = Event::Finished { ending: Ending::Failed, outputs: BTreeMap::new(), why: None };
        assert_eq!(stand(vec![begun(), over]), Stand::Over(Ending::Failed));
    }
}
