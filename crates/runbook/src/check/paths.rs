//! Where answers, undos and promises between steps lead; and that every step can be reached.

use crate::{
    action::{Action, decide::Target},
    document::{Document, Section},
    error::{Finding, Placed},
    flow::Flow,
    step::{OnFailure, Step, Undo},
    values::suggest,
};

pub(super) fn check(document: &Document, flow: &Flow<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (section, step) in document.steps() {
        match &step.action {
            Action::Decide(decide) => {
                let targets = decide.answers.iter().map(|(_, target)| target);
                findings.extend(targets.filter_map(|target| branch(target, section, flow)));
            }
            Action::Promote(promote) => {
                findings.extend(earlier(&promote.fenced_by, section, document, flow, |fence| {
                    let fences = matches!(
                        fence.action,
                        Action::Stop(_)
                            | Action::Command(_)
                            | Action::Kubernetes(_)
                            | Action::Webhook(_)
                            | Action::Manual(_)
                    );
                    let stops = fence.on_failure.value != OnFailure::Continue && fence.only_when.is_none();
                    match (fences, stops) {
                        (false, _) => Some("cannot fence anything: name one that stops the old primary or cuts it off"),
                        (true, false) => Some("may be passed over or fail without an end: two primaries would write"),
                        (true, true) => None,
                    }
                }))
            }
            Action::Verify(verify) => findings.extend(earlier(&verify.restored_by, section, document, flow, |step| {
                let restores = matches!(step.action, Action::Restore(_) | Action::Runbook(_) | Action::Promote(_));
                (!restores)
                    .then_some("restores nothing: name a step with action = \"restore\", \"promote\" or \"runbook\"")
            })),
            _ => {}
        }
        findings.extend(undo(section, step, document, flow));
        findings.extend(rollback(section, step, document, flow));
    }
    // Behind an answer that leads nowhere, much cannot be reached: that is its echo.
    if findings.iter().any(Finding::is_error) {
        return findings;
    }
    findings.extend(flow.unreachable().into_iter().map(|(section, why)| {
        section.at.warning(format!("\"{}\" can never be reached: {why}; remove it, or change the answers", section.id))
    }));
    findings
}

fn unknown(id: &Placed<String>, known: &[&str]) -> Finding {
    id.at.error(format!("no step or group \"{}\"; {}", id.value, suggest(&id.value, known)))
}

fn branch(target: &Placed<Target>, section: &Section, flow: &Flow<'_>) -> Option<Finding> {
    let Target::Branch(id) = &target.value else { return None };
    let Some(place) = flow.place(id) else {
        let known: Vec<&str> = flow.ids().into_iter().chain([crate::step::CONTINUE, crate::step::END]).collect();
        return Some(unknown(&Placed { value: id.clone(), at: target.at }, &known));
    };
    if flow.place(&section.id).is_some_and(|own| place <= own) {
        let message = format!("\"{id}\" stands before this: a run never goes back; name a later step or group");
        return Some(target.at.error(message));
    }
    if let Some(undone) = flow.undoes(id) {
        let message = format!("\"{id}\" takes back \"{undone}\" and runs for no other reason; name another step");
        return Some(target.at.error(message));
    }
    let own = flow.around(&section.id);
    let is_own = |holder: &&Section| own.iter().any(|section| section.id == holder.id);
    let mut holders = flow.around(id).into_iter().skip(1).filter(|holder| !is_own(holder));
    let foreign = holders.find(|holder| !flow.choices(&holder.id).is_empty())?;
    let message =
        format!("\"{id}\" lies in \"{}\", which must be chosen first; name that, or move the step", foreign.id);
    Some(target.at.error(message))
}

/// A step that must have passed before this one.
fn earlier(
    id: &Placed<String>,
    section: &Section,
    document: &Document,
    flow: &Flow<'_>,
    unfit: impl Fn(&Step) -> Option<&'static str>,
) -> Option<Finding> {
    let Some((_, step)) = document.steps().find(|(other, _)| other.id == id.value) else {
        let known: Vec<&str> = document.steps().map(|(section, _)| section.id.as_str()).collect();
        return Some(unknown(id, &known));
    };
    if flow.place(&id.value) >= flow.place(&section.id) {
        return Some(id.at.error(format!("\"{}\" is not before this; name an earlier step", id.value)));
    }
    unfit(step).map(|why| id.at.error(format!("\"{}\" {why}", id.value)))
}

fn undo(section: &Section, step: &Step, document: &Document, flow: &Flow<'_>) -> Option<Finding> {
    let undo = step.undo.as_ref()?;
    let Undo::Step(id) = &undo.value else { return None };
    let undoing = document.steps().find(|(other, _)| other.id == *id);
    let placed = Placed { value: id.clone(), at: undo.at };
    match undoing {
        None => {
            let known: Vec<&str> = document.steps().map(|(section, _)| section.id.as_str()).collect();
            Some(unknown(&placed, &known))
        }
        Some((other, _)) if other.id == section.id => {
            Some(undo.at.error("a step cannot take itself back; name another"))
        }
        Some((_, other)) if matches!(other.action, Action::Decide(_) | Action::Approve(_)) => {
            Some(undo.at.error(format!("\"{id}\" asks and takes nothing back; name a step that does")))
        }
        // Two steps with one undo: taken back together, it would run once, and leave out one of them.
        Some(_) if flow.undoes(id).is_some_and(|undone| undone != section.id) => {
            Some(undo.at.error(format!("\"{id}\" takes back another step already; write one undo for each")))
        }
        Some(_) => None,
    }
}

fn rollback(section: &Section, step: &Step, document: &Document, flow: &Flow<'_>) -> Option<Finding> {
    if step.on_failure.value != OnFailure::Rollback {
        return None;
    }
    let own = flow.place(&section.id);
    let before: Vec<(&Section, &Step)> = document
        .steps()
        .filter(|(other, _)| flow.undoes(&other.id).is_none() && flow.place(&other.id) <= own)
        .collect();
    if before.iter().all(|(_, step)| step.undo.is_none()) {
        return Some(
            step.on_failure.at.error("no step up to here has an undo: there is nothing to roll back; add one, or stop"),
        );
    }
    let lost: Vec<&str> = before
        .iter()
        .filter(|(_, step)| step.undo.is_none() && step.action.effect() > crate::action::Effect::Nothing)
        .map(|(section, _)| section.id.as_str())
        .collect();
    match lost.is_empty() {
        true => None,
        false => {
            let message = format!("a rollback leaves what these did: {}; give each an undo", lost.join(", "));
            Some(step.on_failure.at.warning(message))
        }
    }
}
