//! What works and was probably not meant so.

use crate::{
    action::{Action, Again, Effect},
    document::Document,
    error::Finding,
    plan::{Mode, Plan, Request},
    step::Step,
    values::suggest,
};

pub(super) fn check(document: &Document) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (_, step) in document.steps() {
        findings.extend(role(document, step));
        findings.extend(retries(step));
        findings.extend(touches(step));
        findings.extend(expected(step));
    }
    findings.extend(rto(document));
    findings
}

fn role(document: &Document, step: &Step) -> Option<Finding> {
    let role = step.role.as_ref()?;
    let known: Vec<&str> = document.head.iter().flat_map(|head| head.roles.iter().map(String::as_str)).collect();
    if known.contains(&role.value.as_str()) {
        return None;
    }
    let hint = match known.is_empty() {
        true => format!("add roles = [\"{}\"] to the head", role.value),
        false => suggest(&role.value, &known),
    };
    Some(role.at.error(format!("no role \"{}\"; {hint}", role.value)))
}

fn retries(step: &Step) -> Option<Finding> {
    let may_double = step.retries.value > 0 && step.action.again() == Again::Ask;
    let message =
        "nobody can tell whether a try that failed had an effect: it may be done twice; add done_when or repeatable";
    may_double.then(|| step.retries.at.warning(message))
}

/// What cannot be told from here must be said, for whoever is asked whether it may run.
fn touches(step: &Step) -> Option<Finding> {
    let is_open = matches!(step.action, Action::Command(_) | Action::Webhook(_) | Action::Manual(_));
    let is_silent = is_open && step.action.effect() > Effect::Nothing && step.touches.is_none();
    is_silent.then(|| {
        let word = step.action.word();
        step.at
            .warning(format!("a {word} may change anything: say what with touches = [\"…\"], or effect = \"nothing\""))
    })
}

fn expected(step: &Step) -> Option<Finding> {
    let (expected, limit) = (step.expected.as_ref()?, step.limit()?);
    (expected.value > limit).then(|| {
        let message = format!("is expected to last {} and may last {limit}: set a longer timeout", expected.value);
        expected.at.warning(message)
    })
}

fn rto(document: &Document) -> Option<Finding> {
    let rto = document.head.as_ref()?.rto.as_ref()?;
    let request = Request { parameters: Default::default(), mode: Mode::Plan, past: &|_| None, runbooks: None };
    let known = Plan::of(document, &request).ok()?.lasts.known;
    (known > rto.value).then(|| {
        rto.at.warning(format!(
            "the steps are expected to last {known}, longer than the RTO: make them shorter, or the RTO honest"
        ))
    })
}
