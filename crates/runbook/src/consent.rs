//! What a plan destroys, and whether somebody is sure to have said yes before: an approval that stands before it counts if it is
//! asked whenever this is reached, and if a *no* is heard.
//!
//! It is asked whenever this is reached if it stands under no condition and in no branch that this does not stand under as well. What
//! is asked in a runbook that a step runs counts for that runbook only: it may end by an answer before, or fail and be passed over. A
//! *no* is heard if it ends the way: `on_failure` is `stop` or `rollback`.

use crate::{
    action::Effect,
    plan::{Item, Planned, Runs},
    step::OnFailure,
};

/// A step that takes away what does not come back by itself, or whose undo does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destroying {
    /// The step, with the runbooks that led to it: `call/step`.
    pub step: String,
    /// Whether it is what takes the step back that destroys.
    pub by_undo: bool,
    /// The instances that it is about; what is not known yet stands in `{{…}}`.
    pub instances: Vec<String>,
    /// Whether somebody says yes before.
    pub asked: Asked,
}

/// Whether somebody says yes before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Somebody is sure to have said yes.
    Yes,
    /// This step asks, and goes on after a *no*.
    Unheard(String),
    /// Nobody is sure to have been asked.
    No,
}

/// Which conditions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditions {
    /// Those of which the plan does not know yet whether they hold.
    Open,
    /// All: whatever a runbook is run with.
    All,
}

/// What these items destroy, in order.
pub fn destroying(items: &[Item], conditions: Conditions) -> Vec<Destroying> {
    let mut walk = Walk { conditions, found: Vec::new(), approvals: Vec::new() };
    items.iter().for_each(|item| walk.look(item, "", &[]));
    walk.found
}

/// What lets something be passed over.
#[derive(Debug, Clone)]
struct Guard {
    /// The step or group that may be, with the runbooks that led to it.
    id: String,
    /// Its condition and the runbook in which that is meant; none: an answer, or that a runbook is run at all.
    condition: Option<(String, String)>,
}

impl Guard {
    /// Whether both let their steps be passed over together.
    fn is_as(&self, other: &Guard) -> bool {
        self.id == other.id || self.condition.is_some() && self.condition == other.condition
    }
}

struct Approval {
    step: String,
    under: Vec<Guard>,
    is_heard: bool,
}

struct Walk {
    conditions: Conditions,
    found: Vec<Destroying>,
    approvals: Vec<Approval>,
}

impl Walk {
    /// In the order of the plan; `scope`: `call/` of the runbooks that led here; `above`: what this stands under.
    fn look(&mut self, item: &Item, scope: &str, above: &[Guard]) {
        let id = format!("{scope}{}", item.id);
        let when = |text: &String| Some(Guard { id: id.clone(), condition: Some((scope.to_owned(), text.clone())) });
        let chosen = Some(Guard { id: id.clone(), condition: None });
        let guard = match (&item.runs, self.conditions) {
            // It is looked at where the step stands that it takes back.
            (Runs::Undo(_), _) | (Runs::Never(_), Conditions::Open) => return,
            (Runs::Always, Conditions::Open) => None,
            (Runs::When(text), Conditions::Open) => when(text),
            (Runs::Chosen(_), Conditions::Open) => chosen,
            (_, Conditions::All) if item.is_branch => chosen,
            (_, Conditions::All) => item.only_when.as_ref().and_then(when),
        };
        let under: Vec<Guard> = above.iter().cloned().chain(guard).collect();
        if let Some(step) = &item.step {
            self.step(&id, step, item.called.is_empty(), &under);
        }
        if !item.called.is_empty() {
            let (scope, called) = (format!("{id}/"), Guard { id, condition: None });
            let under: Vec<Guard> = under.iter().cloned().chain([called]).collect();
            item.called.iter().for_each(|item| self.look(item, &scope, &under));
        }
        item.items.iter().for_each(|item| self.look(item, scope, &under));
    }

    fn step(&mut self, id: &str, step: &Planned, is_empty: bool, under: &[Guard]) {
        // A runbook whose steps are not known may do anything.
        let is_unknown = self.conditions == Conditions::Open && step.action == "runbook" && is_empty;
        if step.effect == Effect::Destroys || is_unknown {
            self.destroys(id, false, &step.instances, under);
        }
        if let Some((Effect::Destroys, instances)) = &step.back {
            self.destroys(id, true, instances, under);
        }
        if step.people > 0 {
            let is_heard = [OnFailure::Stop, OnFailure::Rollback].map(OnFailure::word).contains(&step.on_failure);
            self.approvals.push(Approval { step: id.to_owned(), under: under.to_vec(), is_heard });
        }
    }

    fn destroys(&mut self, id: &str, by_undo: bool, instances: &[String], under: &[Guard]) {
        let is_sure =
            |approval: &&Approval| approval.under.iter().all(|guard| under.iter().any(|other| guard.is_as(other)));
        let mut sure = self.approvals.iter().filter(is_sure).peekable();
        let asked = match (sure.peek().map(|approval| approval.step.clone()), sure.any(|approval| approval.is_heard)) {
            (_, true) => Asked::Yes,
            (Some(step), false) => Asked::Unheard(step),
            (None, false) => Asked::No,
        };
        self.found.push(Destroying { step: id.to_owned(), by_undo, instances: instances.to_vec(), asked });
    }
}
