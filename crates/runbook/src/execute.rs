//! A run: what is next is begun, done and ended, each durable in the journal before the next.
//!
//! What touches the world is brought by the caller: [`Hands`] do, [`People`] are asked, the [`Journal`] keeps. The way is
//! [`Course`]'s alone, so a run that was killed at any moment goes on by reading its journal. A step in the middle of which it was
//! killed is not simply done again: what its action says of that ([`Again`]) decides.

mod asking;
mod back;

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use async_trait::async_trait;
use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use lifeboat_model::time::Span;
use tokio_util::sync::CancellationToken;

use crate::{
    action::{Action, Again, Practice, runbook::Runbook},
    course::{Course, Given, Misfit, Next, calls::of_call},
    document::{Document, Section},
    event::{Asked, Ending, Event, Line, Outcome},
    plan::Mode,
    step::Step,
};

pub(crate) use asking::people_decide;

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
    /// Why the last of them failed; none: it was the first, or was cut off.
    pub failed: Option<String>,
    /// Whether the step is taken back by this.
    pub undoing: bool,
    /// How often the step was taken back before, and is done anew.
    pub round: u32,
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
    /// Whether it was done, by an executor that was killed or by a try that failed; or why that cannot be told.
    async fn was_done(&self, acting: &Acting<'_>) -> Result<Option<Outputs>, String>;
    /// What was dropped in the middle is over when this comes back: nothing is begun beside it, and it is not said to have ended before.
    async fn settle(&self, _acting: &Acting<'_>) {}
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
                let why = match ending {
                    Ending::RolledBack | Ending::HalfRolledBack => self.left(&scope)?.or(why),
                    _ => why,
                };
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
            Some(call) => of_call(call, &line),
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
        let failed = scope.course.failure(&section.id).map(str::to_owned);
        self.write(scope, None, Event::Started { step: id, attempt }).await?;
        // What a try did before it failed may be all that there is to do. The sandbox of a practice is not looked at.
        if attempt > 1 && scope.course.mode() == Mode::Real && scope.course.missing(&section.id, step).is_empty() {
            let looked = self.look(scope, section, step, attempt, Before::Failed(failed)).await?;
            if let ControlFlow::Break(stand) = looked {
                return Ok(stand);
            }
        }
        self.act(scope, section, step, attempt).await
    }

    async fn act(
        &mut self,
        scope: &mut Scope<'e>,
        section: &'e Section,
        step: &'e Step,
        attempt: u32,
    ) -> Done<Option<Stand>> {
        let missing = scope.course.missing(&section.id, step);
        if !missing.is_empty() {
            return self.end(scope, section, attempt, Err(no_value(&missing)), None).await.map(|()| None);
        }
        if people_decide(&step.action) {
            return Ok(None);
        }
        if let Action::Runbook(call) = &step.action {
            return self.call(scope, section, call, attempt, false).await;
        }
        let acting = acting(scope, section, step, attempt, None);
        let done = limited(self.hands.act(&acting), step.limit().map(|span| span.0), &self.cancel).await;
        self.hands.settle(&acting).await;
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
        if !scope.course.missing(&section.id, step).is_empty() {
            // It was not begun with a hole in its text, and is not now.
            return self.act(scope, section, step, attempt).await;
        }
        if step.action.again() == Again::Ask {
            return self.ask(scope, section, step, Asked::Doubt, None, Vec::new()).await;
        }
        if let ControlFlow::Break(stand) = self.look(scope, section, step, attempt, Before::CutOff).await? {
            return Ok(stand);
        }
        self.write(scope, None, Event::Started { step: scope.id(section), attempt: attempt + 1 }).await?;
        self.act(scope, section, step, attempt + 1).await
    }

    /// Where it can be seen whether an earlier try has done it, that is looked at, and if so, or if it cannot be told now, this try
    /// ends with that.
    async fn look(
        &mut self,
        scope: &mut Scope<'e>,
        section: &'e Section,
        step: &'e Step,
        attempt: u32,
        before: Before,
    ) -> Done<ControlFlow<Option<Stand>>> {
        let can_be_seen = matches!(step.action.again(), Again::Look(_) | Again::Probe);
        if !can_be_seen || people_decide(&step.action) || matches!(step.action, Action::Runbook(_)) {
            return Ok(ControlFlow::Continue(()));
        }
        let (found, unknown, failed) = match before {
            Before::CutOff => ("found done after a break", "cut off, and whether it was done cannot be told", None),
            Before::Failed(failed) => {
                ("found done before it was tried again", "whether it was done already cannot be told", failed)
            }
        };
        let acting = acting(scope, section, step, attempt, failed);
        let looked = limited(self.hands.was_done(&acting), step.limit().map(|span| span.0), &self.cancel).await;
        match looked {
            None => return Ok(ControlFlow::Break(Some(Stand::Interrupted))),
            Some(Ok(None)) => return Ok(ControlFlow::Continue(())),
            Some(Ok(Some(outputs))) => self.end(scope, section, attempt, Ok(outputs), Some(found)).await?,
            Some(Err(why)) => self.end(scope, section, attempt, Err(format!("{unknown}: {why}")), None).await?,
        }
        Ok(ControlFlow::Break(None))
    }

    /// A runbook that a step runs, as far as the lines tell.
    fn inner(&self, scope: &Scope<'e>, section: &'e Section, call: &Runbook) -> Done<Scope<'e>> {
        let name = &call.runbook.value;
        let document = (self.runbooks)(name).ok_or_else(|| Broken::NoRunbook(name.clone()))?;
        let path = scope.id(section);
        let course = scope.course.called(call, document, &path, &self.lines).map_err(Broken::Misfit)?;
        Ok(Scope { course, prefix: format!("{path}/") })
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
        let mut inner = self.inner(scope, section, call)?;
        if back {
            inner.course.go_back();
        }
        let ending = match self.drive(&mut inner).await? {
            Stand::Over(ending) => ending,
            stand => return Ok(Some(stand)),
        };
        let left = self.left(&inner)?.map(|left| format!("; {left}")).unwrap_or_default();
        let failed = match (back, ending) {
            (true, Ending::RolledBack) | (false, Ending::Passed | Ending::Answered) => None,
            (true, Ending::HalfRolledBack) => Some(format!("not all that {name} did could be taken back")),
            (false, Ending::HalfRolledBack) => Some(format!("not all that {name} did could be taken back{left}")),
            (false, Ending::RolledBack) => Some(format!("{name} took back what it did{left}")),
            (_, _) => Some(format!("steps of {name} failed")),
        };
        match back {
            true => {
                let outcome = if failed.is_none() { Outcome::Passed } else { Outcome::Failed };
                let step = scope.id(section);
                self.write(scope, None, Event::UndoEnded { step, outcome, why: failed }).await?;
            }
            false => self.end(scope, section, attempt, failed.map_or(Ok(Outputs::new()), Err), None).await?,
        }
        Ok(None)
    }
}

/// What is known of the tries before this one.
enum Before {
    /// Nobody saw how the last one ended.
    CutOff,
    /// It failed, so, as far as that is known.
    Failed(Option<String>),
}

/// A step that is done, or of which it is asked whether it was.
fn acting<'a>(
    scope: &'a Scope<'_>,
    section: &Section,
    step: &'a Step,
    attempt: u32,
    failed: Option<String>,
) -> Acting<'a> {
    let (id, course) = (scope.id(section), &scope.course);
    let (since, round) = (course.since(&section.id), course.undone(&section.id));
    Acting { id, action: &step.action, attempt, since, failed, undoing: false, round, course }
}

/// Done with a hole in its text, it would do something else.
fn no_value(missing: &[String]) -> String {
    format!("{} has no value: what gives it did not run, or was cut off", missing.join(", "))
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
    hands.not_practised(&acting(scope, section, step, 1, None)).await
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
