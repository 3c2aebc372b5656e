//! The way back: what was begun is taken back, the last first; and what nothing takes back is told.

use super::{Course, Next, State, Undoing};
use crate::{
    action::{Action, Effect},
    document::Section,
    event::{Ending, Outcome},
    step::Step,
};

/// What a rollback leaves of a step that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    /// It was done, and nothing takes it back.
    Done,
    /// It failed or was cut off, and nothing takes back what it did until then.
    Tried,
    /// What takes it back has failed.
    Refused,
}

impl Left {
    /// In words, before the steps.
    pub fn words(self) -> &'static str {
        match self {
            Left::Done => "done and not taken back",
            Left::Tried => "tried and not taken back",
            Left::Refused => "could not be taken back",
        }
    }
}

impl<'d> Course<'d> {
    /// From now on what was begun is taken back.
    pub fn go_back(&mut self) {
        self.goes_back = true;
    }

    /// What was begun, the last first.
    pub(super) fn back(&self) -> Next<'d> {
        let mut failed = false;
        for id in self.begun.iter().rev() {
            let Some((section, step)) = self.step_of(id).filter(|(_, step)| can_go_back(step)) else { continue };
            match self.steps.get(id).map(|standing| standing.undo).unwrap_or_default() {
                Undoing::Not => return Next::Undo { section, step, doubt: false },
                Undoing::Begun => return Next::Undo { section, step, doubt: true },
                Undoing::Done(outcome) => failed |= outcome == Outcome::Failed,
            }
        }
        Next::Finish(if failed { Ending::HalfRolledBack } else { Ending::RolledBack })
    }

    /// Steps that changed something and that a rollback has left so, in the order of the document; what a runbook that is run has left,
    /// its own course tells.
    pub fn left(&self) -> Vec<(&'d Section, Left)> {
        let left = |section: &'d Section| Some((section, self.left_of(&section.id)?));
        self.document.steps().filter_map(|(section, _)| left(section)).collect()
    }

    /// Steps of this run that run runbooks, and go back by these.
    pub fn calls(&self) -> Vec<(&'d Section, &'d Step)> {
        let begun = self.begun.iter().filter_map(|id| self.step_of(id));
        begun.filter(|(_, step)| step.undo.is_none() && matches!(step.action, Action::Runbook(_))).collect()
    }

    pub(super) fn left_of(&self, id: &str) -> Option<Left> {
        let (_, step) = self.step_of(id)?;
        let standing = self.steps.get(id)?;
        let changes = step.action.effect() > Effect::Nothing || step.undo.is_some();
        let now = match (standing.undo, &standing.state) {
            (Undoing::Done(Outcome::Passed), _) => return None,
            (Undoing::Done(Outcome::Failed), _) => Some(Left::Refused),
            (_, State::Passed) => Some(Left::Done),
            (_, State::Failed(_) | State::Begun) => Some(Left::Tried),
            (_, State::Untouched | State::Skipped | State::NotPractised) => None,
        };
        now.filter(|_| changes).or(standing.left)
    }
}

/// A runbook that is run goes back by its own steps.
fn can_go_back(step: &Step) -> bool {
    step.undo.is_some() || matches!(step.action, Action::Runbook(_))
}
