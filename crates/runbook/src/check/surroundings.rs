//! What a runbook names outside of itself: instances, repositories, dependencies, other runbooks.

use std::collections::BTreeSet;

use lifeboat_model::{
    config::{Config, DependencyKind, InstanceConfig},
    id::Instance,
};

use super::{Lookup, Surroundings};
use crate::{
    action::{Action, runbook::Runbook},
    document::Document,
    error::{At, Finding, Placed},
    head::{Head, Kind},
    values::suggest,
};

pub(super) fn check(document: &Document, around: &Surroundings<'_>) -> Vec<Finding> {
    let Some(head) = &document.head else { return Vec::new() };
    let mut findings = Vec::new();
    let needs: Vec<&Placed<String>> =
        head.needs.iter().chain(document.steps().flat_map(|(_, step)| &step.needs)).collect();
    findings.extend(kinds(&needs, around.config));
    if let Some(config) = around.config {
        findings.extend(instances(head, config));
        findings.extend(repositories(document, config));
        if let Some((name, instance)) = instance(head, config, around.instance)
            && document.steps().next().is_some()
        {
            findings.extend(dependencies(head, &needs, name, instance));
        }
    }
    if let Some(runbooks) = around.runbooks {
        for (_, step) in document.steps() {
            if let Action::Runbook(call) = &step.action {
                findings.extend(called(head, call, runbooks, step.at));
            }
        }
    }
    findings
}

/// The instance that a runbook is for: the one said, the one that it names, or the only one.
pub(super) fn instance<'c>(
    head: &Head,
    config: &'c Config,
    said: Option<&Instance>,
) -> Option<(&'c Instance, &'c InstanceConfig)> {
    let of_kind = head.parameters.iter().filter(|parameter| parameter.kind == Kind::Instance);
    let named = of_kind.filter_map(|parameter| parameter.default.as_ref()).map(|default| default.value.as_str()).next();
    match said.map(Instance::as_str).or(named) {
        Some(name) => config.instance(name).ok(),
        None => config.instances.iter().next().filter(|_| config.instances.len() == 1),
    }
}

fn instances(head: &Head, config: &Config) -> Vec<Finding> {
    let of_kind = head.parameters.iter().filter(|parameter| parameter.kind == Kind::Instance);
    let defaults = of_kind.filter_map(|parameter| parameter.default.as_ref());
    let unknown = |default: &Placed<String>| {
        let error = config.instance(&default.value).err()?;
        Some(default.at.error(error.to_string()))
    };
    defaults.filter_map(unknown).collect()
}

fn repositories(document: &Document, config: &Config) -> Vec<Finding> {
    let known: Vec<&str> = config.repository_names().collect();
    let mut findings = Vec::new();
    for (_, step) in document.steps() {
        if let Action::Restore(restore) = &step.action
            && let Some(name) = restore.from.as_ref().and_then(|from| from.as_literal())
            && !known.contains(&name.as_str())
        {
            findings.push(step.at.error(format!("from: no repository \"{name}\"; {}", suggest(&name, &known))));
        }
    }
    findings
}

/// What is needed is a kind of dependency, or the name of one that some instance has.
fn kinds(needs: &[&Placed<String>], config: Option<&Config>) -> Vec<Finding> {
    let kinds = DependencyKind::ALL.map(DependencyKind::word);
    // Without a map nobody can tell what is a name.
    let Some(config) = config else { return Vec::new() };
    let names = config.instances.values().flat_map(|instance| instance.dependencies.keys());
    let known: BTreeSet<&str> = kinds.into_iter().chain(names.map(|name| name.as_str())).collect();
    let list: Vec<&str> = known.iter().copied().collect();
    let unknown = needs.iter().filter(|need| !known.contains(need.value.as_str()));
    unknown
        .map(|need| need.at.error(format!("no dependency \"{}\"; {}", need.value, suggest(&need.value, &list))))
        .collect()
}

/// What the instance needs and the runbook forgets; and what it names that the instance does not have.
fn dependencies(head: &Head, needs: &[&Placed<String>], name: &Instance, instance: &InstanceConfig) -> Vec<Finding> {
    if instance.dependencies.is_empty() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (dependency, of) in &instance.dependencies {
        let is_named = |need: &&Placed<String>| need.value == dependency.as_str() || need.value == of.kind.word();
        if !needs.iter().any(is_named) {
            let (kind, address) = (of.kind.word(), &of.address);
            let what = format!("forgets \"{dependency}\" ({kind}, {address}), which {name} cannot work without");
            findings.push(head.at.warning(format!("{what}: add it to needs, and say what to do without it")));
        }
    }
    for need in needs {
        let has = |(dependency, of): (&lifeboat_model::id::DependencyName, &lifeboat_model::config::Dependency)| {
            need.value == dependency.as_str() || need.value == of.kind.word()
        };
        if !instance.dependencies.iter().any(has) {
            let message =
                format!("{name} has no dependency \"{}\": add it to its section of the configuration", need.value);
            findings.push(need.at.warning(message));
        }
    }
    findings
}

fn called(head: &Head, call: &Runbook, runbooks: &Lookup<'_>, at: At) -> Vec<Finding> {
    let id = &call.runbook;
    if id.value == head.id.value {
        return vec![id.at.error("it would run itself without end; name another runbook")];
    }
    let Some(other) = runbooks(&id.value) else {
        return vec![
            id.at.error(format!("no runbook \"{}\" in this folder; `lifeboat runbook list` tells their ids", id.value)),
        ];
    };
    let mut findings = Vec::new();
    if let Some(way) = way_back(&head.id.value, &id.value, runbooks) {
        findings
            .push(id.at.error(format!("goes round in a circle: {}; take one of the calls out", way.join(" runs "))));
    }
    let parameters = other.head.as_ref().map(|head| head.parameters.as_slice()).unwrap_or_default();
    let known: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    for (name, value) in &call.with {
        match parameters.iter().find(|parameter| parameter.name == *name) {
            None => {
                let message = format!("\"{}\" has no parameter \"{name}\"; {}", id.value, suggest(name, &known));
                findings.push(value.at.error(message));
            }
            Some(parameter) => {
                let wrong = value.value.as_literal().and_then(|text| parameter.kind.takes(&text).err());
                findings.extend(wrong.map(|wrong| value.at.error(format!("{name}: {wrong}"))));
            }
        }
    }
    let is_given = |name: &str| call.with.iter().any(|(given, _)| given == name);
    let missing = parameters.iter().filter(|parameter| parameter.required && !is_given(&parameter.name));
    findings.extend(missing.map(|parameter| {
        let name = &parameter.name;
        at.error(format!("\"{}\" needs the parameter \"{name}\": add with = {{ {name} = \"…\" }}", id.value))
    }));
    findings
}

/// The calls that lead from `next` back to `start`.
fn way_back(start: &str, next: &str, runbooks: &Lookup<'_>) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut open = vec![vec![start.to_owned(), next.to_owned()]];
    while let Some(way) = open.pop() {
        let last = way.last()?.clone();
        if last == start {
            return Some(way);
        }
        if !seen.insert(last.clone()) {
            continue;
        }
        for (_, step) in runbooks(&last).into_iter().flat_map(Document::steps) {
            if let Action::Runbook(call) = &step.action {
                open.push(way.iter().cloned().chain([call.runbook.value.clone()]).collect());
            }
        }
    }
    None
}
