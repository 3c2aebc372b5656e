//! Where a run stands, and what is next: from its document and the lines of its journal, and from nothing else.
//!
//! It does nothing and asks nobody. Whoever executes asks [`Course::next`], makes durable that it begins, does it, makes
//! durable how it ended, and asks again. Cut off anywhere, the same lines give the same place: a step that was begun and has no end
//! is [`Next::Doubt`], and only there may something have been done that no line tells of.

mod back;
pub(crate) mod calls;

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use lifeboat_model::time::Span;

use crate::{
    action::{
        Action,
        decide::{Decide, Target},
    },
    condition::{Known, Operand},
    document::{Document, Section},
    event::{AfterFailure, Asked, Ending, Event, Line, Outcome},
    execute::people_decide,
    flow::Flow,
    plan::Mode,
    step::{OUTCOME, OnFailure, Step, Undo},
    template::{Name, Template},
};

pub use back::Left;

/// Consent, and *it was done*.
pub const YES: &str = "yes";
/// Refusal.
pub const NO: &str = "no";

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next<'d> {
    /// A step is tried, not before so long after the last try.
    Do {
        /// Its section.
        section: &'d Section,
        /// The step.
        step: &'d Step,
        /// The how-manieth try.
        attempt: u32,
        /// To wait first.
        after: Option<Span>,
    },
    /// A step was begun, and nobody knows whether it was done.
    Doubt {
        /// Its section.
        section: &'d Section,
        /// The step.
        step: &'d Step,
        /// The try.
        attempt: u32,
    },
    /// A person is asked.
    Ask {
        /// The section.
        section: &'d Section,
        /// The step.
        step: &'d Step,
        /// What.
        asked: Asked,
        /// Why: the failure.
        why: Option<String>,
        /// Who has said yes already: nobody counts twice.
        already: Vec<String>,
        /// What was answered, where the run was cut off behind it.
        given: Option<Given>,
    },
    /// A step is passed over.
    Skip {
        /// The section.
        section: &'d Section,
        /// Why.
        why: String,
    },
    /// What a step did is taken back. `doubt`: that was begun before.
    Undo {
        /// The section.
        section: &'d Section,
        /// The step.
        step: &'d Step,
        /// Whether it was begun before.
        doubt: bool,
    },
    /// It stands still until somebody takes it up again.
    Stopped {
        /// The step that failed.
        section: &'d Section,
        /// Why.
        why: String,
    },
    /// The last line is written.
    Finish(Ending),
    /// It is over.
    Over(Ending),
}

/// What a person answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Who.
    pub who: String,
    /// The answer.
    pub answer: String,
    /// In their own words.
    pub comment: Option<String>,
}

/// A journal that does not fit its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The line.
    pub number: u64,
    /// Why not.
    pub why: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the journal: {}", self.number, self.why)
    }
}

impl std::error::Error for Misfit {}

/// Where a run stands.
#[derive(Debug)]
pub struct Course<'d> {
    document: &'d Document,
    flow: Flow<'d>,
    mode: Mode,
    /// The run's own names, and its parameters.
    values: BTreeMap<String, String>,
    run: BTreeMap<&'static str, String>,
    steps: BTreeMap<&'d str, Standing>,
    /// Steps that were begun, in that order.
    begun: Vec<&'d str>,
    /// Somebody called it off, or a failure asks for it.
    goes_back: bool,
    over: Option<Ending>,
}

/// Where a step stands.
#[derive(Debug, Default)]
struct Standing {
    /// Tries in all.
    attempts: u32,
    /// When the first of them began.
    since: Option<Timestamp>,
    /// Tries that failed since people or a resumption last gave it new ones.
    failures: u32,
    state: State,
    outputs: BTreeMap<String, String>,
    /// Who said yes since it was begun.
    approvals: Vec<String>,
    /// The last answer since it was begun.
    given: Option<Given>,
    /// What a person chose after it failed.
    chosen: Option<AfterFailure>,
    undo: Undoing,
    /// How often it was taken back.
    undone: u32,
    /// What it did before the runbook was begun anew, and nothing took back.
    left: Option<Left>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum State {
    #[default]
    Untouched,
    Begun,
    Passed,
    Failed(String),
    Skipped,
    /// As skipped, but what stands below it runs.
    NotPractised,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Undoing {
    #[default]
    Not,
    Begun,
    Done(Outcome),
}

/// What a walk through the document comes to.
enum Way<'d> {
    /// Go on.
    On,
    /// This is next.
    Here(Box<Next<'d>>),
    /// The run ends here.
    End,
}

impl<'d> Course<'d> {
    /// A run of this document at its very beginning.
    pub fn new(document: &'d Document, mode: Mode, values: BTreeMap<String, String>, run: &str, started: &str) -> Self {
        let run =
            BTreeMap::from([("id", run.to_owned()), ("mode", mode.word().to_owned()), ("started", started.to_owned())]);
        Course {
            document,
            flow: Flow::of(document),
            mode,
            values,
            run,
            steps: BTreeMap::new(),
            begun: Vec::new(),
            goes_back: false,
            over: None,
        }
    }

    /// Takes the lines of a journal whose first one began this run. Lines of steps that this document does not know are a misfit.
    pub fn replay<'l>(&mut self, lines: impl IntoIterator<Item = &'l Line>) -> Result<(), Misfit> {
        lines.into_iter().try_for_each(|line| self.take(line))
    }

    /// One line more.
    pub fn take(&mut self, line: &Line) -> Result<(), Misfit> {
        let misfit = |why: String| Misfit { number: line.number, why };
        if line.event.step().is_some_and(|step| step.contains('/')) {
            return Ok(());
        }
        match &line.event {
            Event::Begun { .. } => {}
            Event::Resumed => {
                // Who takes up a run wants what stopped it to be tried again.
                if let Next::Stopped { section, .. } = self.next() {
                    self.steps.entry(section.id.as_str()).or_default().choose(Some(AfterFailure::Retry));
                }
            }
            Event::Aborted { .. } => self.goes_back = true,
            Event::Finished { ending, .. } => self.over = Some(*ending),
            Event::Started { step, attempt } => {
                let id = self.id(step).map_err(misfit)?;
                let standing = self.steps.entry(id).or_default();
                (standing.attempts, standing.state) = (*attempt, State::Begun);
                standing.since = standing.since.or(Some(line.at));
                (standing.approvals, standing.given) = (Vec::new(), None);
                if !self.begun.contains(&id) {
                    self.begun.push(id);
                }
            }
            Event::Ended { step, outcome, outputs, why, .. } => {
                let id = self.id(step).map_err(misfit)?;
                let standing = self.steps.entry(id).or_default();
                match outcome {
                    Outcome::Passed => {
                        standing.state = State::Passed;
                        standing.outputs.clone_from(outputs);
                    }
                    Outcome::Failed => {
                        standing.failures += 1;
                        standing.chosen = None;
                        standing.state = State::Failed(why.clone().unwrap_or_default());
                        standing.outputs.clone_from(outputs);
                    }
                }
            }
            Event::Skipped { step, .. } => {
                let id = self.id(step).map_err(misfit)?;
                self.steps.entry(id).or_default().state = State::Skipped;
            }
            Event::NotPractised { step, .. } => {
                let id = self.id(step).map_err(misfit)?;
                self.steps.entry(id).or_default().state = State::NotPractised;
            }
            Event::Answered { step, asked, answer, comment } => {
                let id = self.id(step).map_err(misfit)?;
                let standing = self.steps.entry(id).or_default();
                match asked {
                    Asked::Question => {
                        standing.given =
                            Some(Given { who: line.who.clone(), answer: answer.clone(), comment: comment.clone() });
                        if answer == YES && !standing.approvals.contains(&line.who) {
                            standing.approvals.push(line.who.clone());
                        }
                    }
                    Asked::Failure => standing.choose(AfterFailure::of(answer)),
                    // What is known then is told by the end that follows, or by a new beginning.
                    Asked::Doubt => {}
                }
            }
            Event::UndoStarted { step } => {
                let id = self.id(step).map_err(misfit)?;
                self.steps.entry(id).or_default().undo = Undoing::Begun;
            }
            Event::UndoEnded { step, outcome, .. } => {
                let id = self.id(step).map_err(misfit)?;
                let standing = self.steps.entry(id).or_default();
                standing.undo = Undoing::Done(*outcome);
                standing.undone += u32::from(*outcome == Outcome::Passed);
            }
        }
        Ok(())
    }

    fn id(&self, step: &str) -> Result<&'d str, String> {
        let known = self.document.find(step).filter(|section| section.step.is_some());
        known.map(|section| section.id.as_str()).ok_or_else(|| format!("the runbook has no step \"{step}\""))
    }

    /// What the run is for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How often a step was tried.
    pub fn attempts(&self, id: &str) -> u32 {
        self.steps.get(id).map_or(0, |standing| standing.attempts)
    }

    /// How often a step was taken back.
    pub fn undone(&self, id: &str) -> u32 {
        self.steps.get(id).map_or(0, |standing| standing.undone)
    }

    /// Why a step failed, where its last try has ended so.
    pub fn failure(&self, id: &str) -> Option<&str> {
        match self.state(id) {
            State::Failed(why) => Some(why),
            _ => None,
        }
    }

    /// When a step was first begun.
    pub fn since(&self, id: &str) -> Option<Timestamp> {
        self.steps.get(id)?.since
    }

    /// A step by its id, with its section.
    pub fn step_of(&self, id: &str) -> Option<(&'d Section, &'d Step)> {
        let section = self.document.find(id)?;
        Some((section, section.step.as_ref()?))
    }

    /// What is next.
    pub fn next(&self) -> Next<'d> {
        if let Some(ending) = self.over {
            return Next::Over(ending);
        }
        if !self.goes_back {
            for section in &self.document.sections {
                match self.walk(section) {
                    Way::On => {}
                    Way::Here(next) => return *next,
                    Way::End => return Next::Finish(Ending::Answered),
                }
            }
        }
        if self.goes_back {
            return self.back();
        }
        let failed = self.steps.values().any(|standing| matches!(standing.state, State::Failed(_)));
        Next::Finish(if failed { Ending::Failed } else { Ending::Passed })
    }

    /// The value of a name, as far as it is known.
    pub fn value(&self, name: &Name) -> Option<String> {
        match name {
            Name::Parameter(name) => self.values.get(name).cloned(),
            Name::Output { step, name } if step == crate::template::RUN => self.run.get(name.as_str()).cloned(),
            Name::Output { step, name } => {
                let standing = self.steps.get(step.as_str())?;
                match name.as_str() {
                    OUTCOME => standing.state.outcome().map(str::to_owned),
                    _ => standing.outputs.get(name).cloned(),
                }
            }
        }
    }

    /// What a step asks for and nobody gave: the step before it was passed over, or a person had to say that it was done.
    pub fn missing(&self, id: &str, step: &Step) -> Vec<String> {
        // What takes a step back may ask for what the step itself gave.
        let is_own = |name: &Name| matches!(name, Name::Output { step, .. } if step == id);
        self.without_value(step.asks.iter().map(|(name, _)| name).filter(|name| !is_own(name)))
    }

    /// The same of what takes a step back.
    pub fn missing_to_undo(&self, step: &Step) -> Vec<String> {
        match step.undo.as_ref().map(|undo| &undo.value) {
            Some(Undo::Step(by)) => self.step_of(by).map(|(_, step)| self.missing(by, step)).unwrap_or_default(),
            _ => self.without_value(&step.undo_asks),
        }
    }

    fn without_value<'n>(&self, names: impl IntoIterator<Item = &'n Name>) -> Vec<String> {
        names.into_iter().filter(|name| self.value(name).is_none()).map(|name| format!("{{{{{name}}}}}")).collect()
    }

    /// What a step asks for and a step would have given that practice has passed over.
    pub fn lacks_unpractised(&self, id: &str, step: &Step) -> Vec<String> {
        let is_unpractised = |name: &Name| match name {
            Name::Output { step, name } => step != id && name != OUTCOME && self.state(step) == &State::NotPractised,
            Name::Parameter(_) => false,
        };
        let names = step.asks.iter().map(|(name, _)| name).filter(|name| is_unpractised(name));
        names.map(|name| format!("{{{{{name}}}}}")).collect()
    }

    /// A text with what is known filled in.
    pub fn fill(&self, template: &Template) -> String {
        template.fill(|name| self.value(name))
    }

    fn known(&self, operand: &Operand) -> Known {
        match operand {
            Operand::Text(text) => Known::Value(text.clone()),
            Operand::Mode => Known::Value(self.mode.word().to_owned()),
            Operand::Name(name) => self.value(name).map_or(Known::Nothing, Known::Value),
        }
    }

    /// Whether an answer that was given leads to this branch.
    fn is_chosen(&self, id: &str) -> bool {
        let given = |decide: &str| self.steps.get(decide).and_then(|standing| standing.answer());
        let choices = self.flow.choices(id);
        choices.is_empty() || choices.iter().any(|choice| given(choice.decide) == Some(choice.answer))
    }

    fn walk(&self, section: &'d Section) -> Way<'d> {
        let id = section.id.as_str();
        if !section.holds_steps() || self.flow.undoes(id).is_some() || !self.is_chosen(id) {
            return Way::On;
        }
        if let Some(step) = &section.step {
            match self.step(section, step) {
                Way::On if self.state(id) == &State::Skipped => return Way::On,
                Way::On => {}
                way => return way,
            }
        }
        for section in &section.sections {
            match self.walk(section) {
                Way::On => {}
                way => return way,
            }
        }
        Way::On
    }

    fn state(&self, id: &str) -> &State {
        self.steps.get(id).map_or(&State::Untouched, |standing| &standing.state)
    }

    fn step(&self, section: &'d Section, step: &'d Step) -> Way<'d> {
        let here = |next| Way::Here(Box::new(next));
        let none = Standing::default();
        let standing = self.steps.get(section.id.as_str()).unwrap_or(&none);
        let attempt = standing.attempts + 1;
        match &standing.state {
            State::Skipped | State::NotPractised => Way::On,
            State::Passed => match ends(&step.action, standing.answer()) {
                true => Way::End,
                false => Way::On,
            },
            State::Untouched => {
                let condition = step.only_when.as_ref().map(|condition| &condition.value);
                match condition.filter(|condition| condition.holds(&|operand| self.known(operand)) != Some(true)) {
                    Some(condition) => here(Next::Skip { section, why: format!("it is not so that {condition}") }),
                    None => here(Next::Do { section, step, attempt, after: None }),
                }
            }
            State::Begun if people_decide(&step.action) => here(Next::Ask {
                section,
                step,
                asked: Asked::Question,
                why: None,
                already: standing.approvals.clone(),
                given: standing.given.clone(),
            }),
            State::Begun => here(Next::Doubt { section, step, attempt: standing.attempts }),
            State::Failed(why) => {
                let again = |after| here(Next::Do { section, step, attempt, after });
                if standing.failures == 0 {
                    return again(None);
                }
                if standing.failures <= step.retries.value {
                    return again(Some(step.retry_after));
                }
                match (standing.chosen, step.on_failure.value) {
                    (Some(AfterFailure::Continue), _) | (None, OnFailure::Continue) => Way::On,
                    (Some(AfterFailure::Rollback), _) | (None, OnFailure::Rollback) => here(self.back()),
                    (Some(AfterFailure::Stop), _) | (None, OnFailure::Stop) => {
                        here(Next::Stopped { section, why: why.clone() })
                    }
                    (Some(AfterFailure::Retry), _) => again(None),
                    (None, OnFailure::Ask) => here(Next::Ask {
                        section,
                        step,
                        asked: Asked::Failure,
                        why: Some(why.clone()),
                        already: Vec::new(),
                        given: None,
                    }),
                }
            }
        }
    }
}

impl State {
    fn outcome(&self) -> Option<&'static str> {
        match self {
            State::Passed => Some("passed"),
            State::Failed(_) => Some("failed"),
            State::Skipped | State::NotPractised => Some("skipped"),
            State::Untouched | State::Begun => None,
        }
    }
}

impl Standing {
    fn choose(&mut self, choice: Option<AfterFailure>) {
        self.chosen = choice;
        if choice == Some(AfterFailure::Retry) {
            (self.failures, self.chosen) = (0, None);
        }
    }

    fn answer(&self) -> Option<&str> {
        let is_known = matches!(self.state, State::Passed | State::Failed(_));
        self.outputs.get("answer").filter(|_| is_known).map(String::as_str)
    }
}

fn ends(action: &Action, answer: Option<&str>) -> bool {
    let Action::Decide(Decide { answers, .. }) = action else { return false };
    answers.iter().any(|(known, target)| Some(known.as_str()) == answer && target.value == Target::End)
}
