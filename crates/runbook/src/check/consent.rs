//! Whether somebody is sure to have said yes before something is destroyed, whatever the runbook is run with.

use super::Lookup;
use crate::{
    consent::{self, Asked, Conditions, Destroying},
    document::Document,
    error::{At, Finding},
    plan::{Mode, Plan, Request},
};

pub(super) fn check<'a>(document: &Document, runbooks: Option<&'a Lookup<'a>>) -> Vec<Finding> {
    let request = Request { parameters: Default::default(), mode: Mode::Plan, past: &|_| None, runbooks };
    let Ok(plan) = Plan::of(document, &request) else { return Vec::new() };
    let found = consent::destroying(&plan.items, Conditions::All);
    let mut told = Vec::new();
    found.iter().filter_map(|destroying| finding(document, destroying, &mut told)).collect()
}

/// Of an approval that is not heard, once: at what lets the run go on. Of what nobody is asked about, at the step.
fn finding(document: &Document, destroying: &Destroying, told: &mut Vec<String>) -> Option<Finding> {
    let Destroying { step, by_undo, asked, .. } = destroying;
    let what = if *by_undo { format!("taking \"{step}\" back") } else { format!("\"{step}\"") };
    if let Asked::Unheard(approval) = asked
        && let Some(own) = document.find(approval).and_then(|section| section.step.as_ref())
    {
        if told.contains(approval) {
            return None;
        }
        told.push(approval.clone());
        return Some(own.on_failure.at.error(format!(
            "whoever says no is not heard: {what} destroys, and the run may go on; write \"stop\" or \"rollback\""
        )));
    }
    let message = format!(
        "{what} destroys, and no step before it is sure to ask for approval: add one with action = \"approve\""
    );
    (*asked != Asked::Yes).then(|| place(document, step, *by_undo).warning(message))
}

/// Where it stands in this document; of a runbook that a step runs, that step.
fn place(document: &Document, step: &str, by_undo: bool) -> At {
    let own = step.split('/').next().unwrap_or(step);
    let Some(found) = document.find(own).and_then(|section| section.step.as_ref()) else { return At::BEGIN };
    match &found.undo {
        Some(undo) if by_undo && own == step => undo.at,
        _ => found.at,
    }
}
