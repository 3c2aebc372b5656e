//! What a step says and no run would keep.

use crate::{
    action::Action,
    document::{Document, Section},
    error::Finding,
    execute::people_decide,
    flow::Flow,
    step::Step,
};

pub(super) fn check(document: &Document, flow: &Flow<'_>) -> Vec<Finding> {
    let both = |(section, step)| [timeout(step), undo(section, step, flow)];
    document.steps().flat_map(both).flatten().collect()
}

fn timeout(step: &Step) -> Option<Finding> {
    let timeout = step.timeout.as_ref()?;
    let why = match &step.action {
        action if people_decide(action) => "people are waited for without end",
        Action::Runbook(_) => "the steps of the other runbook have limits of their own",
        _ => return None,
    };
    Some(timeout.at.error(format!("{why}: remove it; expected says how long it should take")))
}

fn undo(section: &Section, step: &Step, flow: &Flow<'_>) -> Option<Finding> {
    let undone = flow.undoes(&section.id).filter(|_| matches!(step.action, Action::Runbook(_)))?;
    let message = format!("a runbook cannot take back \"{undone}\": name a step that does something itself");
    Some(step.at.error(message))
}
