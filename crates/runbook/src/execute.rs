//! A run: what is next is begun, done and ended, each durable in the journal before the next.
//!
//! What touches the world is brought by the caller: [`Hands`] do, [`People`] are asked, the [`Journal`] keeps. The way is
//! [`Course`]'s alone, so a run that was killed at any moment goes on by reading its journal. A step in the middle of which it was
//! killed is not simply done again: what its action says of that ([`Again`]) decides.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use lifeboat_model::time::Span;
use tokio_util::sync::CancellationToken;

use crate::{
    action::{
        Action, Again, Practice,
        approve::Approve,
        decide::{By, Decide},
        runbook::Runbook,
    },
    course::{Course, Given, Misfit, NO, Next, YES},
    document::{Document, Section},
    event::{AfterFailure, Asked, Ending, Event, Line, Outcome},
    plan::Mode,
    step::{Step, Undo},
};

/// Keeps lines. A line that was given back is durable.
#[async_trait]
pub trait Journal: Send {
    /// Writes a line; `who` is whoever answered, none for the executor itself.
    async fn append(&mut self, who: Option<&str>, event: Event) -> Result<Line, String>;
}

/// A step that is done, whose texts its course fills in ([`Course::fill`]).
pub struct Acting<'a> {
    /// The step, with the runbooks that led to it: `call/step`.
    pub id: String,
    /// What is done: the step's action, or what takes it back.
    pub action: &'a Action,
    /// The how-manieth try.
    pub attempt: u32,
    /// When the first of them began.
    pub since: Option<Timestamp>,
    /// Where values come from.
    pub course: &'a Course<'a>,
}

/// What a step gave.
pub type Outputs = BTreeMap<String, String>;

/// Does things to the world.
#[async_trait]
pub trait Hands: Sync {
    /// Does it; or why it failed. Dropped in the middle when it takes too long or the run is stopped.
    async fn act(&self, acting: &Acting<'_>) -> Result<Outputs, String>;
    /// Whether it was done by an executor that was killed; or why that cannot be told.
    async fn was_done(&self, acting: &Acting<'_>) -> Result<Option<Outputs>, String>;
    /// Why it cannot be practised, where its action alone does not tell. Asked in practice only, before it is begun.
    async fn not_practised(&self, _acting: &Acting<'_>) -> Option<String> {
        None
    }
    /// The run is over, or stands still: lets go of what was kept for it. Dropped in the middle when the run is stopped, and asked
    /// again as for one that stands still.
    async fn finish(&self, _is_over: bool) -> Finish {
        Finish::default()
    }
}

/// What the run as a whole gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finish {
    /// What proves it.
    pub outputs: Outputs,
    /// Why it did not go well, whatever its steps say.
    pub why: Option<String>,
}

/// What a person is asked.
#[derive(Debug, Clone)]
pub struct Question<'q> {
    /// The step, with the runbooks that led to it.
    pub id: String,
    /// Its section: people read its text.
    pub section: &'q Section,
    /// What is asked.
    pub asked: Asked,
    /// In words.
    pub text: String,
    /// What can be answered.
    pub answers: Vec<String>,
    /// Who may answer.
    pub role: Option<&'q str>,
    /// Whether they must say why.
    pub comment: bool,
    /// Who has said yes already.
    pub already: Vec<String>,
}

/// Asks people and shows them how it goes.
#[async_trait]
pub trait People: Sync {
    /// Asks. None: nobody is there; the run stands still until it is taken up.
    async fn ask(&self, question: &Question<'_>) -> Option<Given>;
    /// A line was written.
    fn told(&self, line: &Line);
}

/// How executing ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    /// The run is over.
    Over(Ending),
    /// A step failed; the run can be taken up.
    Stopped {
        /// The step.
        step: String,
        /// Why.
        why: String,
    },
    /// Somebody has to answer.
    Waits {
        /// The step.
        step: String,
    },
    /// The executor was told to stop; the run can be taken up.
    Interrupted,
}

/// Why nothing can go on.
#[derive(Debug)]
pub enum Broken {
    /// The journal could not be written: what is not durable is not done.
    Journal(String),
    /// The journal is not this document's.
    Misfit(Misfit),
    /// A runbook that is to be run is not there.
    NoRunbook(String),
}

/// Everything that a run goes by.
pub struct Executor<'e> {
    /// The world.
    pub hands: &'e dyn Hands,
    /// People.
    pub people: &'e dyn People,
    /// Where lines go.
    pub journal: &'e mut dyn Journal,
    /// Other runbooks.
    pub runbooks: &'e (dyn Fn(&str) -> Option<&'e Document> + Sync),
    /// Every line so far.
    pub lines: Vec<Line>,
    /// Stops it.
    pub cancel: CancellationToken,
}

/// A runbook in a run: the whole, or one that a step runs.
struct Scope<'d> {
    course: Course<'d>,
    /// `call/` of the steps that led here; empty for the whole.
    prefix: String,
}

impl Scope<'_> {
    fn id(&self, section: &Section) -> String {
        format!("{}{}", self.prefix, section.id)
    }
}

type Done<T> = Result<T, Broken>;

impl<'e> Executor<'e> {
    /// Goes on where the lines end, until the run is over or stands still.
    pub async fn run(&mut self, course: Course<'e>) -> Done<Stand> {
        let mut scope = Scope { course, prefix: String::new() };
        scope.course.replay(&self.lines).map_err(Broken::Misfit)?;
        let stand = self.drive(&mut scope).await;
        let is_over = matches!(stand, Ok(Stand::Over(_)));
        let finished = tokio::select! {
            finished = self.hands.finish(is_over) => Some(finished),
            () = self.cancel.cancelled(), if is_over => None,
        };
        let Finish { outputs, why } = match finished {
            Some(finished) => finished,
            None => self.hands.finish(false).await,
        };
        match stand? {
            Stand::Over(ending) if scope.course.next() != Next::Over(ending) => {
                let ending = if why.is_some() && ending == Ending::Passed { Ending::Failed } else { ending };
                self.write(&mut scope, None, Event::Finished { ending, outputs, why }).await?;
                Ok(Stand::Over(ending))
            }
            stand => Ok(stand),
        }
    }

    fn drive<'s>(&'s mut self, scope: &'s mut Scope<'e>) -> BoxFuture<'s, Done<Stand>> {
        async move {
            loop {
                if self.cancel.is_cancelled() {
                    return Ok(Stand::Interrupted);
                }
                let stand = match scope.course.next() {
                    Next::Over(ending) | Next::Finish(ending) => Some(Stand::Over(ending)),
                    Next::Stopped { section, why } => Some(Stand::Stopped { step: scope.id(section), why }),
                    Next::Skip { section, why } => {
                        let step = scope.id(section);
                        self.write(scope, None, Event::Skipped { step, why }).await?;
                        None
                    }
                    Next::Do { section, step, attempt, after } => {
                        self.begin(scope, section, step, attempt, after).await?
                    }
                    Next::Doubt { section, step, attempt } => self.doubt(scope, section, step, attempt).await?,
                    Next::Ask { section, step, asked, why, already, given } => match given {
                        Some(given) if asked == Asked::Question => {
                            self.settle(scope, section, step, given, &already).await?
                        }
                        _ => self.ask(scope, section, step, asked, why, already).await?,
                    },
                    Next::Undo { section, step, doubt } => self.undo(scope, section, step, doubt).await?,
                };
                if let Some(stand) = stand {
                    return Ok(stand);
                }
            }
        }
        .boxed()
    }

    /// Makes a line durable, and takes it into account.
    async fn write(&mut self, scope: &mut Scope<'e>, who: Option<&str>, event: Event) -> Done<()> {
        let line = self.journal.append(who, event).await.map_err(Broken::Journal)?;
        self.people.told(&line);
        let own = match scope.prefix.strip_suffix('/') {
            None => Some(line.clone()),
            Some(call) => Course::of_call(call, &line),
        };
        self.lines.push(line);
        own.map_or(Ok(()), |line| scope.course.take(&line)).map_err(Broken::Misfit)
    }

    async fn begin(
        &mut self,
        scope: &mut Scope<'e>,
        section: &'e Section,
        step: &'e Step,
        attempt: u32,
        after: Option<Span>,
    ) -> Done<Option<Stand>> {
        let id = scope.id(section);
        if let Some(why) = not_practised(self.hands, scope, section, step).await {
            self.write(scope, None, Event::NotPractised { step: id, why }).await?;
            return Ok(None);
        }
        if let Some(after) = after {
            tokio::select! {
                () = tokio::time::sleep(after.0) => {}
                () = self.cancel.cancelled() => return Ok(Some(Stand::Interrupted)),
            }
        }
        self.write(scope, None, Event::Started { step: id, attempt }).await?;
        let missing = scope.course.missing(&section.id, step);
        if !missing.is_empty() {
            // Done with a hole in its text, it would do something else.
            let why = format!("{} has no value: what gives it did not run, or was cut off", missing.join(", "));
            return self.end(scope, section, attempt, Err(why), None).await.map(|()| None);
        }
        match people_decide(&step.action) {
            true => Ok(None),
            false => self.act(scope, section, step, attempt).await,
        }
    }

    async fn act(
        &mut self,
        scope: &mut Scope<'e>,
        section: &'e Section,
        step: &'e Step,
        attempt: u32,
    ) -> Done<Option<Stand>> {
        if let Action::Runbook(call) = &step.action {
            return self.call(scope, section, call, attempt, false).await;
        }
        let acting = Acting {
            id: scope.id(section),
            action: &step.action,
            attempt,
            since: scope.course.since(&section.id),
            course: &scope.course,
        };
        let done = limited(self.hands.act(&acting), step.limit().map(|span| span.0), &self.cancel).await;
        match done {
            None => Ok(Some(Stand::Interrupted)),
            Some(done) => self.end(scope, section, attempt, done, None).await.map(|()| None),
        }
    }

    async fn end(
        &mut self,
        scope: &mut Scope<'e>,
        section: &Section,
        attempt: u32,
        done: Result<Outputs, String>,
        known: Option<&str>,
    ) -> Done<()> {
        let (outcome, outputs, why) = match done {
            Ok(outputs) => (Outcome::Passed, outputs, known.map(str::to_owned)),
            Err(why) => (Outcome::Failed, Outputs::new(), Some(why)),
        };
        self.write(scope, None, Event::Ended { step: scope.id(section), attempt, outcome, outputs, why }).await
    }

    /// A step was begun by an executor that is no more.
    async fn doubt(
        &mut self,
        scope: &mut Scope<'e>,
        section: &'e Section,
        step: &'e Step,
        attempt: u32,
    ) -> Done<Option<Stand>> {
        if let Action::Runbook(call) = &step.action {
            return self.call(scope, section, call, attempt, false).await;
        }
        let id = scope.id(section);
        match step.action.again() {
            Again::Harmless => {}
            Again::Look(_) | Again::Probe => {
                let since = scope.course.since(&section.id);
                let acting = Acting { id: id.clone(), action: &step.action, attempt, since, course: &scope.course };
                let looked = limited(self.hands.was_done(&acting), step.limit().map(|span| span.0), &self.cancel).await;
                match looked {
                    None => return Ok(Some(Stand::Interrupted)),
                    Some(Ok(None)) => {}
                    Some(Ok(Some(outputs))) => {
                        self.end(scope, section, attempt, Ok(outputs), Some("found done after a break")).await?;
                        return Ok(None);
                    }
                    Some(Err(why)) => {
                        let why = format!("cut off, and whether it was done cannot be told: {why}");
                        self.end(scope, section, attempt, Err(why), None).await?;
                        return Ok(None);
                    }
                }
            }
            Again::Ask => return self.ask(scope, section, step, Asked::Doubt, None, Vec::new()).await,
        }
        self.write(scope, None, Event::Started { step: id, attempt: attempt + 1 }).await?;
        self.act(scope, section, step, attempt + 1).await
    }

    async fn ask(
        &mut self,
        scope: &mut Scope<'e>,
        section: &'e Section,
        step: &'e Step,
        asked: Asked,
        why: Option<String>,
        already: Vec<String>,
    ) -> Done<Option<Stand>> {
        let id = scope.id(section);
        let question = question(&scope.course, &id, section, step, asked, why, already.clone());
        let answered = tokio::select! {
            answered = self.people.ask(&question) => answered,
            () = self.cancel.cancelled() => return Ok(Some(Stand::Interrupted)),
        };
        let Some(given) = answered else { return Ok(Some(Stand::Waits { step: id })) };
        if !question.answers.contains(&given.answer) || (asked == Asked::Question && already.contains(&given.who)) {
            return Ok(None); // asked again
        }
        let Given { who, answer, comment } = given.clone();
        let event = Event::Answered { step: id.clone(), asked, answer, comment };
        self.write(scope, Some(&who), event).await?;
        let Next::Doubt { attempt, .. } = scope.course.next() else { return Ok(None) };
        match given.answer.as_str() {
            YES => {
                let known = format!("done, says {who}");
                self.end(scope, section, attempt, Ok(Outputs::new()), Some(&known)).await?;
                Ok(None)
            }
            _ => {
                self.write(scope, None, Event::Started { step: id, attempt: attempt + 1 }).await?;
                match people_decide(&step.action) {
                    true => Ok(None),
                    false => self.act(scope, section, step, attempt + 1).await,
                }
            }
        }
    }

    /// A step that people decide ends with what they said.
    async fn settle(
        &mut self,
        scope: &mut Scope<'e>,
        section: &'e Section,
        step: &'e Step,
        given: Given,
        consent: &[String],
    ) -> Done<Option<Stand>> {
        let attempt = scope.course.attempts(&section.id);
        let Given { who, answer, comment } = given;
        let words = comment.clone().unwrap_or_default();
        let done = match &step.action {
            Action::Decide(_) => Ok(Outputs::from([("answer".to_owned(), answer)])),
            _ if answer != YES => {
                Err(format!("{who} says {answer}{}", comment.map_or(String::new(), |why| format!(": {why}"))))
            }
            Action::Approve(Approve { people, .. }) if (consent.len() as u64) < u64::from(*people) => {
                return self.ask(scope, section, step, Asked::Question, None, consent.to_vec()).await;
            }
            Action::Approve(_) => {
                Ok(Outputs::from([("who".to_owned(), consent.join(", ")), ("comment".to_owned(), words)]))
            }
            _ => Ok(Outputs::from([("who".to_owned(), who), ("note".to_owned(), words)])),
        };
        self.end(scope, section, attempt, done, None).await.map(|()| None)
    }

    /// Another runbook, inside of this run.
    async fn call(
        &mut self,
        scope: &mut Scope<'e>,
        section: &'e Section,
        call: &'e Runbook,
        attempt: u32,
        back: bool,
    ) -> Done<Option<Stand>> {
        let name = &call.runbook.value;
        let document = (self.runbooks)(name).ok_or_else(|| Broken::NoRunbook(name.clone()))?;
        let mut values = BTreeMap::new();
        for parameter in document.head.iter().flat_map(|head| &head.parameters) {
            let with = call.with.iter().find(|(name, _)| *name == parameter.name);
            let with = with.map(|(_, template)| scope.course.fill(&template.value));
            let default = || parameter.default.as_ref().map(|default| default.value.clone());
            values.extend(with.or_else(default).map(|value| (parameter.name.clone(), value)));
        }
        let path = scope.id(section);
        let mut inner = Scope { course: scope.course.inner(document, values), prefix: format!("{path}/") };
        let lines: Vec<Line> = self.lines.iter().filter_map(|line| Course::of_call(&path, line)).collect();
        inner.course.replay(&lines).map_err(Broken::Misfit)?;
        if back {
            inner.course.go_back();
        }
        let ending = match self.drive(&mut inner).await? {
            Stand::Over(ending) => ending,
            stand => return Ok(Some(stand)),
        };
        let failed = match (back, ending) {
            (true, Ending::RolledBack) | (false, Ending::Passed | Ending::Answered) => None,
            (_, Ending::HalfRolledBack) => Some(format!("not all that {name} did could be taken back")),
            (_, Ending::RolledBack) => Some(format!("{name} took back what it did")),
            (_, _) => Some(format!("steps of {name} failed")),
        };
        match back {
            true => {
                let outcome = if failed.is_none() { Outcome::Passed } else { Outcome::Failed };
                self.write(scope, None, Event::UndoEnded { step: path, outcome, why: failed }).await?;
            }
            false => self.end(scope, section, attempt, failed.map_or(Ok(Outputs::new()), Err), None).await?,
        }
        Ok(None)
    }

    async fn undo(
        &mut self,
        scope: &mut Scope<'e>,
        section: &'e Section,
        step: &'e Step,
        doubt: bool,
    ) -> Done<Option<Stand>> {
        let id = scope.id(section);
        if !doubt {
            self.write(scope, None, Event::UndoStarted { step: id.clone() }).await?;
        }
        let undoing = match step.undo.as_ref().map(|undo| &undo.value) {
            Some(Undo::Action(action)) => &**action,
            Some(Undo::Step(by)) => match scope.course.step_of(by) {
                Some(by) => &by.action,
                None => return Err(Broken::NoRunbook(by.clone())),
            },
            None => match &step.action {
                Action::Runbook(call) => return self.call(scope, section, call, 1, true).await,
                _ => return Ok(None),
            },
        };
        // Undoing is written so that twice is as once, or it is asked whether it was done.
        let acting = Acting { id: id.clone(), action: undoing, attempt: 1, since: None, course: &scope.course };
        let limit = undoing.limit().map(|span| span.0);
        let unpractised = match scope.course.mode() {
            Mode::Practice => match undoing.practice() {
                Practice::Not(why) => Some(why.to_owned()),
                _ => self.hands.not_practised(&acting).await,
            },
            _ => None,
        };
        if let Some(why) = unpractised {
            // It is passed over, as the step would be: the way back goes on.
            let why = Some(format!("not practised: {why}"));
            self.write(scope, None, Event::UndoEnded { step: id, outcome: Outcome::Passed, why }).await?;
            return Ok(None);
        }
        let done = match doubt && !matches!(undoing.again(), Again::Harmless) {
            true => limited(self.hands.was_done(&acting), limit, &self.cancel).await,
            false => Some(Ok(None)),
        };
        let done = match done {
            Some(Ok(None)) => limited(self.hands.act(&acting), limit, &self.cancel).await,
            done => done.map(|done| done.map(|_| Outputs::new())),
        };
        let (outcome, why) = match done {
            None => return Ok(Some(Stand::Interrupted)),
            Some(Ok(_)) => (Outcome::Passed, None),
            Some(Err(why)) => (Outcome::Failed, Some(why)),
        };
        self.write(scope, None, Event::UndoEnded { step: id, outcome, why }).await?;
        Ok(None)
    }
}

/// Why a step is passed over in practice; none: it is practised, or this is real.
async fn not_practised(hands: &dyn Hands, scope: &Scope<'_>, section: &Section, step: &Step) -> Option<String> {
    if scope.course.mode() != Mode::Practice {
        return None;
    }
    if let Practice::Not(why) = step.action.practice() {
        return Some(why.to_owned());
    }
    let lacks = scope.course.lacks_unpractised(&section.id, step);
    if !lacks.is_empty() {
        return Some(format!("it needs {}, which a step gives that was not practised", lacks.join(", ")));
    }
    let id = scope.id(section);
    let acting = Acting { id, action: &step.action, attempt: 1, since: None, course: &scope.course };
    hands.not_practised(&acting).await
}

/// What people decide, and nobody does.
pub(crate) fn people_decide(action: &Action) -> bool {
    match action {
        Action::Approve(_) | Action::Manual(_) => true,
        Action::Decide(decide) => matches!(decide.by, By::Question(_)),
        _ => false,
    }
}

fn question<'q>(
    course: &Course<'_>,
    id: &str,
    section: &'q Section,
    step: &'q Step,
    asked: Asked,
    why: Option<String>,
    already: Vec<String>,
) -> Question<'q> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let (text, answers, role, comment) = match (asked, &step.action) {
        (Asked::Failure, _) => {
            let text = format!("It failed: {}. What now?", why.unwrap_or_default());
            (text, AfterFailure::WORDS.iter().map(|(word, _)| (*word).to_owned()).collect(), None, false)
        }
        (Asked::Doubt, _) => {
            ("The run was cut off in the middle of this step. Was it done?".to_owned(), words(&[YES, NO]), None, false)
        }
        (Asked::Question, Action::Approve(Approve { question, role, comment, .. })) => {
            (course.fill(question), words(&[YES, NO]), Some(role.value.as_str()), *comment)
        }
        (Asked::Question, Action::Decide(Decide { by: By::Question(question), answers })) => {
            (course.fill(question), answers.iter().map(|(answer, _)| answer.clone()).collect(), None, false)
        }
        (Asked::Question, action) => (action.words(&|template| course.fill(template)), words(&[YES, NO]), None, false),
    };
    let role = role.or(step.role.as_ref().map(|role| role.value.as_str()));
    Question { id: id.to_owned(), section, asked, text, answers, role, comment, already }
}

/// Waits for it, but not longer than its limit. None: the run was stopped.
async fn limited<T>(
    work: impl Future<Output = Result<T, String>>,
    limit: Option<Duration>,
    cancel: &CancellationToken,
) -> Option<Result<T, String>> {
    let timed = async {
        match limit {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work)
                .await
                .unwrap_or_else(|_| Err(format!("took longer than {}", Span(limit)))),
        }
    };
    tokio::select! {
        done = timed => Some(done),
        () = cancel.cancelled() => None,
    }
}
