//! What a journal says of each step. Pure: the same lines and the same document give the same answer.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lifeboat_runbook::{
    action::{Action, runbook::Runbook},
    course::{Course, Next},
    document::{Document, Section},
    event::{Asked, Ending, Event, Line, Outcome},
    flow::Flow,
    plan::Mode,
    printed::{self, Printed},
};

use crate::view::{AnswerView, StepView};

/// Runbooks by id.
pub(crate) type Documents = BTreeMap<String, Document>;

/// The first line of a run.
#[derive(Debug, Clone)]
pub(crate) struct Beginning {
    pub at: Timestamp,
    pub who: String,
    pub runbook: String,
    pub sha256: String,
    pub mode: Mode,
    pub parameters: BTreeMap<String, String>,
    /// The runbook as it is executed, and those that it runs, by id, where the journal has them.
    pub documents: Documents,
    pub tenant: Option<String>,
    pub instance: Option<String>,
    pub incident: Option<String>,
}

impl Beginning {
    pub fn of(lines: &[Line]) -> Option<Beginning> {
        let first = lines.first()?;
        let Event::Begun { runbook, sha256, mode, parameters, texts, tenant, instance, incident, .. } = &first.event
        else {
            return None;
        };
        let parsed = texts.iter().filter_map(|(id, text)| Some((id.clone(), Document::parse(text).ok()?)));
        let mut documents: Documents = parsed.collect();
        // The digest says what is executed.
        if documents.get(runbook).is_some_and(|document| document.digest != *sha256) {
            documents.clear();
        }
        Some(Beginning {
            at: first.at,
            who: first.who.clone(),
            runbook: runbook.clone(),
            sha256: sha256.clone(),
            mode: *mode,
            parameters: parameters.clone(),
            documents,
            tenant: tenant.clone(),
            instance: instance.clone(),
            incident: incident.clone(),
        })
    }
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Standing {
    /// `going-on`, `asks`, `doubt` (a step was begun, and nobody knows whether it was done), `stopped` or `over`.
    pub phase: &'static str,
    /// How it ended.
    pub ending: Option<&'static str>,
    /// The step that it is at, by id.
    pub at: Option<String>,
    /// Why it asks or stands still.
    pub why: Option<String>,
}

/// The word of an ending.
pub(crate) fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Passed => "passed",
        Ending::Failed => "failed",
        Ending::Answered => "answered",
        Ending::RolledBack => "rolled-back",
        Ending::HalfRolledBack => "half-rolled-back",
    }
}

/// Where it stands: by the course where the document is the one that runs, else by the last line alone.
pub(crate) fn standing(document: Option<&Document>, run: &str, beginning: &Beginning, lines: &[Line]) -> Standing {
    let by_lines = || {
        let last = lines.last().map(|line| &line.event);
        match last {
            Some(Event::Finished { ending: how, .. }) => over(*how, lines),
            Some(event) => going_on(event.step().map(str::to_owned)),
            None => going_on(None),
        }
    };
    let Some(document) = document else { return by_lines() };
    let mut course =
        Course::new(document, beginning.mode, beginning.parameters.clone(), run, &beginning.at.to_string());
    if course.replay(lines).is_err() {
        return by_lines();
    }
    of_course(&course, "", &beginning.documents, lines).unwrap_or_else(by_lines)
}

/// Calls inside of calls; more are none that anybody wrote.
const DEEPEST: usize = 8;

/// The same of a course, whose steps have this before their ids in the journal; none where the lines do not fit.
fn of_course<'d>(course: &Course<'d>, prefix: &str, documents: &'d Documents, lines: &[Line]) -> Option<Standing> {
    let named = |section: &Section| Some(format!("{prefix}{}", section.id));
    let standing = |phase, section: &Section, why| Standing { phase, ending: None, at: named(section), why };
    Some(match course.next() {
        Next::Over(how) => over(how, lines),
        Next::Finish(_) => going_on(None),
        Next::Ask { section, why, .. } => standing("asks", section, why),
        Next::Stopped { section, why } => standing("stopped", section, Some(why)),
        Next::Doubt { section, step, .. } => {
            let path = format!("{prefix}{}", section.id);
            match (&step.action, prefix.matches('/').count()) {
                (Action::Runbook(call), depth) if depth < DEEPEST => {
                    match called(course, call, &path, documents, lines) {
                        Some(inner) if inner.at.is_some() => inner,
                        _ => going_on(Some(path)),
                    }
                }
                // It is being done, or it was cut off: the journal cannot tell which.
                _ => going_on(Some(path)),
            }
        }
        Next::Do { section, .. } | Next::Skip { section, .. } | Next::Undo { section, .. } => going_on(named(section)),
    })
}

/// Where a runbook stands that a step runs.
fn called<'d>(
    course: &Course<'d>,
    call: &Runbook,
    path: &str,
    documents: &'d Documents,
    lines: &[Line],
) -> Option<Standing> {
    let document = documents.get(&call.runbook.value)?;
    let inner = course.called(call, document, path, lines).ok()?;
    of_course(&inner, &format!("{path}/"), documents, lines)
}

fn over(how: Ending, lines: &[Line]) -> Standing {
    let why = lines.iter().rev().find_map(|line| match &line.event {
        Event::Finished { why, .. } => why.clone(),
        _ => None,
    });
    Standing { phase: "over", ending: Some(ending(how)), at: None, why }
}

fn going_on(at: Option<String>) -> Standing {
    Standing { phase: "going-on", ending: None, at, why: None }
}

/// All steps in the order of the document; of a document that is not known, those that the journal names, in its order. Steps of
/// a runbook that a step runs stand below it.
pub(crate) fn steps(document: Option<&Document>, documents: &Documents, lines: &[Line]) -> Vec<StepView> {
    let mut told = Told::default();
    lines.iter().for_each(|line| told.take(line));
    let mut steps = Vec::new();
    if let Some(document) = document {
        told.of_document(document, "", 0, documents, &mut steps);
    }
    steps.extend(told.order.iter().filter_map(|name| told.steps.remove(name)));
    steps
}

fn untouched(id: &str) -> StepView {
    StepView {
        id: id.to_owned(),
        title: id.to_owned(),
        depth: 0,
        is_group: false,
        action: None,
        role: None,
        undoes: None,
        state: "untouched".to_owned(),
        attempt: 0,
        started: None,
        ended: None,
        expected_seconds: None,
        why: None,
        answers: Vec::new(),
        printed: Vec::new(),
        printed_before: 0,
    }
}

#[derive(Default)]
struct Told {
    steps: BTreeMap<String, StepView>,
    order: Vec<String>,
}

impl Told {
    fn of_document(
        &mut self,
        document: &Document,
        prefix: &str,
        depth: u64,
        documents: &Documents,
        steps: &mut Vec<StepView>,
    ) {
        let flow = Flow::of(document);
        // What stands below a step that was passed over is passed over as well.
        let mut passed_over: Option<u8> = None;
        for section in document.all().into_iter().filter(|section| section.holds_steps()) {
            let id = format!("{prefix}{}", section.id);
            let mut view = self.steps.remove(&id).unwrap_or_else(|| untouched(&id));
            view.title.clone_from(&section.title);
            view.depth = depth + u64::from(section.level.saturating_sub(2));
            view.is_group = section.step.is_none();
            view.undoes = flow.undoes(&section.id).map(str::to_owned);
            if passed_over.is_some_and(|level| section.level <= level) {
                passed_over = None;
            }
            if passed_over.is_some() && view.state == "untouched" {
                view.state = "skipped".to_owned();
            }
            if view.state == "skipped" && passed_over.is_none() {
                passed_over = Some(section.level);
            }
            let mut inner = None;
            if let Some(step) = &section.step {
                view.action = Some(step.action.word().to_owned());
                view.expected_seconds = step.expected.as_ref().map(|expected| expected.value.0.as_secs_f64());
                view.role = step.role.as_ref().map(|role| role.value.clone());
                if let Action::Runbook(call) = &step.action
                    && !matches!(view.state.as_str(), "skipped" | "not-practised")
                    && prefix.matches('/').count() < DEEPEST
                {
                    inner = documents.get(&call.runbook.value);
                }
            }
            let below = view.depth + 1;
            steps.push(view);
            if let Some(inner) = inner {
                self.of_document(inner, &format!("{id}/"), below, documents, steps);
            }
        }
    }

    fn take(&mut self, line: &Line) {
        let Some(id) = line.event.step() else { return };
        if !self.steps.contains_key(id) {
            self.order.push(id.to_owned());
        }
        let view = self.steps.entry(id.to_owned()).or_insert_with(|| untouched(id));
        let mut state = |word: &str| view.state = word.to_owned();
        match &line.event {
            Event::Started { attempt, .. } => {
                state("running");
                view.attempt = u64::from(*attempt);
                view.started = view.started.or(Some(line.at));
                (view.ended, view.why) = (None, None);
                (view.printed, view.printed_before) = (Vec::new(), 0);
            }
            Event::Ended { outcome, why, outputs, .. } => {
                state(if *outcome == Outcome::Passed { "passed" } else { "failed" });
                (view.ended, view.why) = (Some(line.at), why.clone());
                if let Some(Printed { lines, before }) = printed::of(outputs) {
                    (view.printed, view.printed_before) = (lines, before as u64);
                }
            }
            Event::Skipped { why, .. } => {
                state("skipped");
                view.why = Some(why.clone());
            }
            Event::NotPractised { why, .. } => {
                state("not-practised");
                view.why = Some(why.clone());
            }
            Event::UndoStarted { .. } => state("taking-back"),
            Event::UndoEnded { outcome, why, .. } => {
                state(if *outcome == Outcome::Passed { "taken-back" } else { "not-taken-back" });
                view.why.clone_from(why);
            }
            Event::Answered { asked, answer, comment, .. } => view.answers.push(AnswerView {
                at: line.at,
                who: line.who.clone(),
                asked: match asked {
                    Asked::Question => "question",
                    Asked::Failure => "failure",
                    Asked::Doubt => "doubt",
                }
                .to_owned(),
                answer: answer.clone(),
                comment: comment.clone(),
            }),
            Event::Begun { .. } | Event::Resumed | Event::Aborted { .. } | Event::Finished { .. } => {}
        }
    }
}

/// A line in words.
pub(crate) fn words(event: &Event) -> String {
    let with = |text: String, why: &Option<String>| match why {
        Some(why) => format!("{text}: {why}"),
        None => text,
    };
    match event {
        Event::Begun { runbook, mode, .. } => format!("{runbook} begins ({})", mode.word()),
        Event::Resumed => "taken up again".to_owned(),
        Event::Started { step, attempt: 1 } => format!("{step} begins"),
        Event::Started { step, attempt } => format!("{step} begins, try {attempt}"),
        Event::Ended { step, outcome: Outcome::Passed, why, .. } => with(format!("{step} is done"), why),
        Event::Ended { step, outcome: Outcome::Failed, why, .. } => with(format!("{step} failed"), why),
        Event::Skipped { step, why } => format!("{step} is passed over: {why}"),
        Event::NotPractised { step, why } => format!("{step} is not practised: {why}"),
        Event::Answered { step, answer, comment, .. } => with(format!("{step}: answered \"{answer}\""), comment),
        Event::UndoStarted { step } => format!("{step} is being taken back"),
        Event::UndoEnded { step, outcome: Outcome::Passed, why } => with(format!("{step} was taken back"), why),
        Event::UndoEnded { step, outcome: Outcome::Failed, why } => {
            with(format!("{step} could not be taken back"), why)
        }
        Event::Aborted { why } => format!("called off: {why}"),
        Event::Finished { ending: how, why, .. } => with(format!("over: {}", ending(*how)), why),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
mod tests {
    use super::*;

    const INNER: &str = "# Inner\n\n```toml\n[runbook]\nid = \"inner\"\nsummary = \"s\"\nroles = [\"lead\"]\n```\n\n## Ask\n\n```toml\naction = \"approve\"\nrole = \"lead\"\nquestion = \"Go?\"\n```\n\n## Wait\n\n```toml\naction = \"wait\"\nfor = \"1s\"\n```\n";
    const OUTER: &str = "# Outer\n\n```toml\n[runbook]\nid = \"outer\"\nsummary = \"s\"\n```\n\n## Never\n\n```toml\naction = \"wait\"\nfor = \"1s\"\nonly_when = \"mode == 'practice'\"\n```\n\n### Below\n\n```toml\naction = \"wait\"\nfor = \"1s\"\n```\n\n## Call\n\n```toml\naction = \"runbook\"\nrunbook = \"inner\"\n```\n\n## Last\n\n```toml\naction = \"wait\"\nfor = \"1s\"\n```\n";

    fn told(events: Vec<Event>) -> (Standing, Vec<(String, String)>) {
        let outer = Document::parse(OUTER).unwrap();
        let begun = Event::Begun {
            runbook: "outer".to_owned(),
            sha256: outer.digest.clone(),
            mode: Mode::Real,
            parameters: BTreeMap::new(),
            texts: [("outer".to_owned(), OUTER.to_owned()), ("inner".to_owned(), INNER.to_owned())].into(),
            tenant: None,
            instance: None,
            incident: None,
            reference: None,
        };
        let line = |(number, event)| Line { number, at: Timestamp::UNIX_EPOCH, who: "ann@a".to_owned(), event };
        let lines: Vec<Line> = (1..).zip([begun].into_iter().chain(events)).map(line).collect();
        let beginning = Beginning::of(&lines).unwrap();
        let document = beginning.documents.get("outer");
        let steps = steps(document, &beginning.documents, &lines);
        let steps = steps.into_iter().map(|step| (step.id, step.state)).collect();
        (standing(document, "r", &beginning, &lines), steps)
    }

    fn started(step: &str) -> Event {
        Event::Started { step: step.to_owned(), attempt: 1 }
    }

    #[test]
    fn a_question_of_a_runbook_that_is_called_is_one_of_the_run() {
        let skipped = Event::Skipped { step: "never".to_owned(), why: "no".to_owned() };
        let (standing, steps) = told(vec![skipped.clone(), started("call"), started("call/ask")]);
        assert_eq!((standing.phase, standing.at.as_deref()), ("asks", Some("call/ask")));
        let expected = [
            ("never", "skipped"),
            ("below", "skipped"),
            ("call", "running"),
            ("call/ask", "running"),
            ("call/wait", "untouched"),
            ("last", "untouched"),
        ];
        assert_eq!(steps, expected.map(|(id, state)| (id.to_owned(), state.to_owned())));
        let failed = Event::Ended {
            step: "last".to_owned(),
            attempt: 1,
            outcome: Outcome::Failed,
            outputs: BTreeMap::new(),
            why: Some("no time".to_owned()),
        };
        let done = |step: &str| Event::Ended {
            step: step.to_owned(),
            attempt: 1,
            outcome: Outcome::Passed,
            outputs: BTreeMap::new(),
            why: None,
        };
        let (standing, _) = told(vec![skipped, started("call"), done("call"), started("last"), failed]);
        assert_eq!((standing.phase, standing.why.as_deref()), ("stopped", Some("no time")));
    }

    #[test]
    fn what_the_last_try_of_a_step_printed_is_shown() {
        let ended = |attempt, output: &str| Event::Ended {
            step: "last".to_owned(),
            attempt,
            outcome: Outcome::Passed,
            outputs: [("output".to_owned(), output.to_owned())].into(),
            why: None,
        };
        let again = Event::Started { step: "last".to_owned(), attempt: 2 };
        let line = |event| Line { number: 1, at: Timestamp::UNIX_EPOCH, who: "ann@a".to_owned(), event };
        let shown = |events: Vec<Event>| {
            let lines: Vec<Line> = events.into_iter().map(line).collect();
            super::steps(None, &Documents::new(), &lines).remove(0).printed
        };
        assert_eq!(shown(vec![started("last"), ended(1, "one\ntwo\n")]), ["one", "two"]);
        assert_eq!(shown(vec![started("last"), ended(1, "one"), again]), [""; 0]);
    }

    #[test]
    fn what_does_not_fit_is_told_by_its_last_line() {
        let (standing, steps) = told(vec![started("nowhere")]);
        assert_eq!((standing.phase, standing.at.as_deref()), ("going-on", Some("nowhere")));
        assert_eq!(steps.last().map(|(id, _)| id.as_str()), Some("nowhere"), "nothing that was written is left out");
        let over =
            Event::Finished { ending: Ending::Failed, outputs: BTreeMap::new(), why: Some("the drill".to_owned()) };
        let (standing, _) = told(vec![started("nowhere"), over]);
        assert_eq!((standing.ending, standing.why.as_deref()), (Some("failed"), Some("the drill")));
    }
}
