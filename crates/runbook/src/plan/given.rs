//! What a run is given: the value of every parameter.

use std::collections::BTreeMap;

use super::Mode;
use crate::{
    error::{At, Finding},
    head::{Head, Kind},
    values::suggest,
};

/// The value of every parameter, or what is wrong with those that were given.
pub(super) fn values(
    head: Option<&Head>,
    given: &BTreeMap<String, String>,
    mode: Mode,
) -> Result<BTreeMap<String, Option<String>>, Vec<Finding>> {
    let parameters = head.map(|head| head.parameters.as_slice()).unwrap_or_default();
    let known: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    let mut findings = Vec::new();
    for name in given.keys().filter(|name| !known.contains(&name.as_str())) {
        let at = head.map_or(At::BEGIN, |head| head.at);
        findings.push(at.error(format!("no parameter \"{name}\"; {}", suggest(name, &known))));
    }
    let mut values = BTreeMap::new();
    for parameter in parameters {
        let name = &parameter.name;
        let value =
            given.get(name).cloned().or_else(|| parameter.default.as_ref().map(|default| default.value.clone()));
        match &value {
            Some(value) => {
                let wrong = parameter.kind.takes(value).err();
                findings.extend(wrong.map(|wrong| parameter.at.error(format!("{name}: {wrong}"))));
            }
            // A plan shows what would be asked for.
            None if parameter.required && mode != Mode::Plan => {
                let what = match (&parameter.description, &parameter.kind) {
                    (Some(description), _) => description.clone(),
                    (None, Kind::Choice(choices)) => choices.join(", "),
                    (None, kind) => kind.word().to_owned(),
                };
                findings.push(parameter.at.error(format!("{name} must be given: {what}; add --set {name}=…")));
            }
            None => {}
        }
        values.insert(name.clone(), value);
    }
    if findings.is_empty() { Ok(values) } else { Err(findings) }
}
