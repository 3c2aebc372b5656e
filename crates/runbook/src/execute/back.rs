//! What was done is taken back, and what stays as it was made is named.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use super::{
    Acting, Broken, Done, Executor, Hands, Question, Scope, Stand,
    asking::{Answer, people_decide, yes_or_no},
    limited, no_value,
};
use crate::{
    action::{Action, Again, Practice},
    course::{Given, Left, YES},
    document::Section,
    event::{Asked, Event, Outcome},
    plan::Mode,
    step::{Step, Undo},
};

/// What takes a step back.
struct Way<'d> {
    /// The step that is taken back, with the runbooks that led to it.
    id: String,
    /// What people read.
    section: &'d Section,
    role: Option<&'d str>,
    action: &'d Action,
    limit: Option<Duration>,
    /// How often it was taken back before.
    round: u32,
}

/// It is taken back, and how that is known where nobody saw it; or why it is not.
type Taken = Result<Option<String>, String>;

impl Way<'_> {
    fn acting<'a>(&'a self, scope: &'a Scope<'_>) -> Acting<'a> {
        let (id, action, round, course) = (self.id.clone(), self.action, self.round, &scope.course);
        Acting { id, action, attempt: 1, since: None, failed: None, undoing: true, round, course }
    }
}

impl<'e> Executor<'e> {
    /// Takes back what a step did. `doubt`: an executor that is no more has begun with that.
    pub(super) async fn undo(
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
        let (read, by, action, limit) = match step.undo.as_ref().map(|undo| &undo.value) {
            Some(Undo::Action(action)) => (section, step, &**action, action.limit()),
            Some(Undo::Step(by)) => match scope.course.step_of(by) {
                Some((section, by)) => (section, by, &by.action, by.limit()),
                None => return Err(Broken::NoRunbook(by.clone())),
            },
            None => match &step.action {
                Action::Runbook(call) => return self.call(scope, section, call, 1, true).await,
                _ => return Ok(None),
            },
        };
        let role = by.role.as_ref().map(|role| role.value.as_str());
        let (limit, round) = (limit.map(|span| span.0), scope.course.undone(&section.id));
        let way = Way { id: id.clone(), section: read, role, action, limit, round };
        let missing = scope.course.missing_to_undo(step);
        let taken = match not_practised(self.hands, scope, &way).await {
            // It is passed over, as the step would be: the way back goes on.
            Some(why) => Ok(Some(format!("not practised: {why}"))),
            None if !missing.is_empty() => Err(no_value(&missing)),
            None => match self.take_back(scope, &way, doubt).await? {
                ControlFlow::Continue(taken) => taken,
                ControlFlow::Break(stand) => return Ok(stand),
            },
        };
        let (outcome, why) = match taken {
            Ok(known) => (Outcome::Passed, known),
            Err(why) => (Outcome::Failed, Some(why)),
        };
        self.write(scope, None, Event::UndoEnded { step: id, outcome, why }).await?;
        Ok(None)
    }

    async fn take_back(
        &mut self,
        scope: &mut Scope<'e>,
        way: &Way<'e>,
        doubt: bool,
    ) -> Done<ControlFlow<Option<Stand>, Taken>> {
        if people_decide(way.action) {
            let words = way.action.words(&|template| scope.course.fill(template));
            let text = format!("To take back what was done: {words}. Is it done?");
            return Ok(match self.done_back(scope, way, text).await? {
                ControlFlow::Continue(Given { who, answer, .. }) if answer == YES => {
                    ControlFlow::Continue(Ok(Some(format!("done, says {who}"))))
                }
                ControlFlow::Continue(Given { who, answer, .. }) => {
                    ControlFlow::Continue(Err(format!("{who} says {answer}")))
                }
                ControlFlow::Break(stand) => ControlFlow::Break(stand),
            });
        }
        let looked = match way.action.again() {
            Again::Look(_) | Again::Probe if doubt => {
                limited(self.hands.was_done(&way.acting(scope)), way.limit, &self.cancel).await
            }
            Again::Ask if doubt => Some(Err(String::new())),
            _ => Some(Ok(None)),
        };
        match looked {
            None => return Ok(ControlFlow::Break(Some(Stand::Interrupted))),
            Some(Ok(None)) => {}
            Some(Ok(Some(_))) => return Ok(ControlFlow::Continue(Ok(Some("found done after a break".to_owned())))),
            Some(Err(why)) => {
                let why = if why.is_empty() { why } else { format!(" ({why})") };
                let text = format!("The run was cut off while this was being taken back. Was it taken back?{why}");
                match self.done_back(scope, way, text).await? {
                    ControlFlow::Continue(Given { who, answer, .. }) if answer == YES => {
                        return Ok(ControlFlow::Continue(Ok(Some(format!("done, says {who}")))));
                    }
                    ControlFlow::Continue(_) => {}
                    ControlFlow::Break(stand) => return Ok(ControlFlow::Break(stand)),
                }
            }
        }
        let acting = way.acting(scope);
        let done = limited(self.hands.act(&acting), way.limit, &self.cancel).await;
        self.hands.settle(&acting).await;
        Ok(match done {
            None => ControlFlow::Break(Some(Stand::Interrupted)),
            Some(done) => ControlFlow::Continue(done.map(|_| None)),
        })
    }

    /// Asks whether it is taken back. It is no question that can be answered beforehand.
    async fn done_back(
        &mut self,
        scope: &mut Scope<'e>,
        way: &Way<'e>,
        text: String,
    ) -> Done<ControlFlow<Option<Stand>, Given>> {
        let question = Question {
            id: way.id.clone(),
            section: way.section,
            asked: Asked::Doubt,
            text,
            answers: yes_or_no(),
            role: way.role,
            comment: false,
            already: Vec::new(),
        };
        Ok(match self.answer(scope, &question).await? {
            Answer::Given(given) => ControlFlow::Continue(given),
            Answer::Unfit => ControlFlow::Break(None),
            Answer::Stands(stand) => ControlFlow::Break(Some(stand)),
        })
    }

    /// What a rollback has left as it was made, in words; none: nothing. A sandbox goes as a whole.
    pub(super) fn left(&self, scope: &Scope<'e>) -> Done<Option<String>> {
        if scope.course.mode() != Mode::Real {
            return Ok(None);
        }
        let mut left = BTreeMap::new();
        self.gather_left(scope, &mut left)?;
        let words =
            left.iter().map(|(left, steps): (&Left, &Vec<String>)| format!("{}: {}", left.words(), steps.join(", ")));
        Ok(Some(words.collect::<Vec<_>>().join("; ")).filter(|words| !words.is_empty()))
    }

    fn gather_left(&self, scope: &Scope<'e>, gathered: &mut BTreeMap<Left, Vec<String>>) -> Done<()> {
        for (section, left) in scope.course.left() {
            gathered.entry(left).or_default().push(scope.id(section));
        }
        for (section, step) in scope.course.calls() {
            if let Action::Runbook(call) = &step.action {
                self.gather_left(&self.inner(scope, section, call)?, gathered)?;
            }
        }
        Ok(())
    }
}

/// Why practice does not take it back; none: it does, or this is real.
async fn not_practised(hands: &dyn Hands, scope: &Scope<'_>, way: &Way<'_>) -> Option<String> {
    if scope.course.mode() != Mode::Practice {
        return None;
    }
    match way.action.practice() {
        Practice::Not(why) => Some(why.to_owned()),
        _ => hands.not_practised(&way.acting(scope)).await,
    }
}
