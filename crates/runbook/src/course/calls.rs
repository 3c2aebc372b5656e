//! Runbooks that a step runs: a course of their own, out of the same lines.

use std::collections::{BTreeMap, BTreeSet};

use super::{Course, Left, Misfit, Next, Standing, State};
use crate::{
    action::{Action, Again, runbook::Runbook},
    document::Document,
    event::{AfterFailure, Ending, Event, Line},
};

impl<'d> Course<'d> {
    /// A runbook that a step of this run runs, as far as the lines of the whole run tell. `path` names the step, with the runbooks
    /// that led to it.
    pub fn called(&self, call: &Runbook, document: &'d Document, path: &str, lines: &[Line]) -> Result<Self, Misfit> {
        let mut values = BTreeMap::new();
        for parameter in document.head.iter().flat_map(|head| &head.parameters) {
            let with = call.with.iter().find(|(name, _)| *name == parameter.name);
            let with = with.map(|(_, template)| self.fill(&template.value));
            let default = || parameter.default.as_ref().map(|default| default.value.clone());
            values.extend(with.or_else(default).map(|value| (parameter.name.clone(), value)));
        }
        let mut inner = Course { run: self.run.clone(), ..Course::new(document, self.mode, values, "", "") };
        for line in lines {
            match &line.event {
                Event::Started { step, .. } if step == path => inner.again(),
                // Its caller goes back, and so has this.
                Event::UndoStarted { step } if step == path => inner.go_back(),
                _ => of_call(path, line).map_or(Ok(()), |line| inner.take(&line))?,
            }
        }
        Ok(inner)
    }

    /// The step that runs it is tried once more: so is what failed in it; and what has taken itself back begins from nothing.
    fn again(&mut self) {
        if !self.goes_back && !matches!(self.next(), Next::Finish(Ending::RolledBack | Ending::HalfRolledBack)) {
            let failed = self.steps.values_mut().filter(|standing| matches!(standing.state, State::Failed(_)));
            return failed.for_each(|standing| standing.choose(Some(AfterFailure::Retry)));
        }
        let left: BTreeMap<_, _> = self.steps.keys().map(|id| (*id, self.left_of(id))).collect();
        let asked: BTreeSet<_> =
            left.iter().filter(|(id, left)| self.is_asked_again(id, **left)).map(|(id, _)| *id).collect();
        for (id, standing) in &mut self.steps {
            // A further try, not the first: where it can be seen, it is looked at what is still there from before.
            let Standing { attempts, undone, .. } = *standing;
            let left = left.get(id).copied().flatten();
            let state = if asked.contains(id) { State::Begun } else { State::Untouched };
            *standing = Standing { attempts, undone, left, state, ..Standing::default() };
        }
        self.begun.retain(|id| asked.contains(id));
        self.goes_back = false;
    }

    /// It was done, nothing took it back, and nothing can see it: in its turn a person is asked, as after a break.
    fn is_asked_again(&self, id: &str, left: Option<Left>) -> bool {
        let step = self.step_of(id).map(|(_, step)| step);
        left == Some(Left::Done)
            && step.is_some_and(|step| step.action.again() == Again::Ask && !matches!(step.action, Action::Manual(_)))
    }
}

/// A line of a runbook that a step runs, as if it ran by itself.
pub(crate) fn of_call(call: &str, line: &Line) -> Option<Line> {
    let mut line = line.clone();
    let Some(step) = line.event.step_mut() else {
        return matches!(line.event, Event::Resumed).then_some(line);
    };
    *step = step.strip_prefix(call)?.strip_prefix('/')?.to_owned();
    Some(line)
}
