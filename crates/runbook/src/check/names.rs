//! Everything that `{{…}}` and `only_when` name is there, and known by then.

use crate::{
    action::Action,
    condition::{Comparison, Condition, Operand},
    document::{Document, Section},
    error::{At, Finding},
    flow::Flow,
    head::{Kind, Parameter},
    step::{OUTCOME, OUTCOMES, Step},
    template::{Name, OF_RUN, RUN},
    values::suggest,
};

/// The modes that a run can be in: a plan runs nothing.
const MODES: [&str; 2] = ["practice", "real"];

pub(super) fn check(document: &Document, flow: &Flow<'_>) -> Vec<Finding> {
    let parameters = document.head.as_ref().map(|head| head.parameters.as_slice()).unwrap_or_default();
    let names = Names { document, flow, parameters };
    let mut findings = Vec::new();
    for (section, step) in document.steps() {
        for (name, at) in &step.asks {
            names.is_known(name, section, step, *at, &mut findings);
        }
        if let Some(condition) = &step.only_when {
            names.condition(&condition.value, section, step, condition.at, &mut findings);
        }
    }
    findings.extend(names.unused());
    findings
}

struct Names<'d> {
    document: &'d Document,
    flow: &'d Flow<'d>,
    parameters: &'d [Parameter],
}

impl Names<'_> {
    fn is_known(&self, name: &Name, section: &Section, step: &Step, at: At, findings: &mut Vec<Finding>) {
        match name {
            Name::Parameter(name) => {
                if !self.parameters.iter().any(|parameter| parameter.name == *name) {
                    let known: Vec<&str> = self.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
                    let hint = match known.is_empty() {
                        true => format!("add [parameters.{name}] to the head"),
                        false => suggest(name, &known),
                    };
                    findings.push(at.error(format!("no parameter \"{name}\"; {hint}")));
                }
            }
            Name::Output { step: run, name } if run == RUN => {
                if !OF_RUN.contains(&name.as_str()) {
                    findings.push(at.error(format!("a run has no \"{name}\"; {}", suggest(name, &OF_RUN))));
                }
            }
            Name::Output { step: id, name } => {
                findings.extend(self.output(id, name, section, step, at));
            }
        }
    }

    fn output(&self, id: &str, name: &str, section: &Section, step: &Step, at: At) -> Option<Finding> {
        let Some((giver, given)) = self.document.steps().find(|(section, _)| section.id == id) else {
            let known: Vec<&str> = self.document.steps().map(|(section, _)| section.id.as_str()).collect();
            return Some(at.error(format!("no step \"{id}\"; {}", suggest(id, &known))));
        };
        let outputs = given.outputs();
        if !outputs.contains(&name) {
            let word = given.action.word();
            return Some(at.error(format!("\"{id}\" ({word}) gives no \"{name}\"; {}", suggest(name, &outputs))));
        }
        // An undo runs after everything, so what it names is known by then.
        let is_undo = self.flow.around(&section.id).iter().any(|section| self.flow.undoes(&section.id).is_some());
        if !is_undo && self.flow.place(id) >= self.flow.place(&section.id) {
            return Some(at.error(format!("\"{id}\" runs later than this; name an earlier step")));
        }
        let may_lack = name != OUTCOME && !is_undo && step.only_when.is_none();
        if may_lack && self.flow.may_be_left_out(&giver.id, &section.id) {
            let message = format!(
                "\"{id}\" may not have run, and then gives no \"{name}\"; add only_when, or put this beside it"
            );
            return Some(at.warning(message));
        }
        None
    }

    fn condition(&self, condition: &Condition, section: &Section, step: &Step, at: At, findings: &mut Vec<Finding>) {
        for Comparison { left, right } in condition.comparisons() {
            for side in [Some(&left), right.as_ref()].into_iter().flatten() {
                if let Operand::Name(name) = side {
                    self.is_known(name, section, step, at, findings);
                }
            }
            let sides = match (&left, &right) {
                (Operand::Text(text), Some(other)) | (other, Some(Operand::Text(text))) => Some((other, text)),
                _ => None,
            };
            if let Some((side, text)) = sides
                && let Some(possible) = self.possible(side)
                && !possible.contains(&text.as_str())
            {
                findings.push(at.error(format!("it is never \"{text}\"; {}", suggest(text, &possible))));
            }
        }
    }

    /// What a side of a comparison can be, where that is a list.
    fn possible(&self, operand: &Operand) -> Option<Vec<&str>> {
        match operand {
            Operand::Mode => Some(MODES.to_vec()),
            Operand::Text(_) => None,
            Operand::Name(Name::Parameter(name)) => {
                let parameter = self.parameters.iter().find(|parameter| parameter.name == *name)?;
                match &parameter.kind {
                    Kind::Choice(choices) => Some(choices.iter().map(String::as_str).collect()),
                    _ => None,
                }
            }
            Operand::Name(Name::Output { step, name }) => {
                let (_, step) = self.document.steps().find(|(section, _)| section.id == *step)?;
                match (name.as_str(), &step.action) {
                    (OUTCOME, _) => Some(OUTCOMES.to_vec()),
                    ("answer", Action::Decide(decide)) => {
                        Some(decide.answers.iter().map(|(answer, _)| answer.as_str()).collect())
                    }
                    _ => None,
                }
            }
        }
    }

    fn unused(&self) -> Vec<Finding> {
        let is_named = |parameter: &&Parameter| {
            let name = Name::Parameter(parameter.name.clone());
            self.document.steps().any(|(_, step)| {
                let in_condition = step.only_when.as_ref().is_some_and(|condition| {
                    let sides = condition.value.comparisons().into_iter();
                    let mut sides = sides.flat_map(|Comparison { left, right }| [Some(left), right]).flatten();
                    sides.any(|side| side == Operand::Name(name.clone()))
                });
                in_condition || step.asks.iter().any(|(asked, _)| *asked == name)
            })
        };
        let has_steps = self.document.steps().next().is_some();
        let unused = self.parameters.iter().filter(|parameter| has_steps && !is_named(parameter));
        let tell = |name: &str| format!("no step uses the parameter \"{name}\"; remove it");
        unused.map(|parameter| parameter.at.warning(tell(&parameter.name))).collect()
    }
}
