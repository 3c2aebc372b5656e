//! The dependency map of an instance, held against what a runbook says that it relies on.

use lifeboat_model::{
    config::{Config, Dependency},
    id::{DependencyName, Instance},
};

use super::surroundings::instance;
use crate::{document::Document, error::Placed};

/// A dependency of the instance, and who in the runbook thinks of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reliance<'c> {
    /// Its name.
    pub name: &'c DependencyName,
    /// What it is.
    pub dependency: &'c Dependency,
    /// Whether the head names it, or its kind.
    pub whole: bool,
    /// Steps that do.
    pub steps: Vec<String>,
}

impl Reliance<'_> {
    /// Nobody thinks of it.
    pub fn is_forgotten(&self) -> bool {
        !self.whole && self.steps.is_empty()
    }
}

/// All dependencies of the instance that a runbook is for: the one said, the one that it names, or the only one. None where
/// that cannot be told.
pub fn reliances<'c>(
    document: &Document,
    config: &'c Config,
    said: Option<&Instance>,
) -> Option<(&'c Instance, Vec<Reliance<'c>>)> {
    let head = document.head.as_ref()?;
    let (name, config) = instance(head, config, said)?;
    let of = |(name, dependency): (&'c DependencyName, &'c Dependency)| {
        let is_meant = |need: &Placed<String>| need.value == name.as_str() || need.value == dependency.kind.word();
        let steps = document.steps().filter(|(_, step)| step.needs.iter().any(is_meant));
        Reliance {
            name,
            dependency,
            whole: head.needs.iter().any(is_meant),
            steps: steps.map(|(section, _)| section.id.clone()).collect(),
        }
    };
    Some((name, config.dependencies.iter().map(of).collect()))
}
