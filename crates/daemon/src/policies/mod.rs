//! What was asked for: settings, one configuration a tenant, schedules. Read whole, checked whole, replaced whole: a bad file
//! changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use lifeboat_model::{
    config::{Config, Problem, Warning},
    id::Tenant,
};

use crate::{Error, Result, daemon::Sources, schedule::Schedule, settings::Settings};

mod read;

pub(crate) use read::real;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
mod tests;

/// All policies at a moment.
#[derive(Debug, Clone)]
pub struct Policies {
    /// The daemon's own settings.
    pub settings: Settings,
    /// Tenants by name.
    pub sites: BTreeMap<Tenant, Arc<Site>>,
    /// Every file that these were read from, with its digest.
    pub files: Vec<PolicyFile>,
    /// The folders of schedules: a file that comes into one is a change as well.
    pub folders: Vec<PathBuf>,
}

/// One tenant: a `lifeboat.toml`, and the schedules of its instances.
#[derive(Debug, Clone)]
pub struct Site {
    /// Where its configuration is.
    pub config_file: PathBuf,
    /// The checked configuration.
    pub config: Config,
    /// SHA-256 of the configuration file's text, in hexadecimal.
    pub config_digest: String,
    /// What works and should not stay.
    pub warnings: Vec<String>,
    /// When what is done to its instances.
    pub schedules: Vec<Schedule>,
}

/// A file that policies were read from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyFile {
    /// Where.
    pub path: PathBuf,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// Reads all policies, whole or not at all: the error has all that is wrong in any of the files.
pub fn read(sources: &Sources) -> Result<Policies> {
    let read = read::read(sources);
    read.policies.ok_or_else(|| unusable(sources, &read.problems))
}

fn unusable(sources: &Sources, problems: &[Problem]) -> Error {
    Error::Unusable {
        file: sources.settings.clone().or_else(|| sources.config.clone()).unwrap_or_default(),
        problems: problems.iter().map(ToString::to_string).collect(),
    }
}

/// The settings alone, for what needs no tenant. Their `state_dir` is empty where only a configuration tells it.
pub fn settings(sources: &Sources) -> Result<Settings> {
    read::settings(sources).map_err(|problems| unusable(sources, &problems))
}

/// All that is wrong, and all that works and should not stay, for whoever asks before the daemon does. Warnings of the
/// configurations themselves are the business of `lifeboat config check`.
pub fn check(sources: &Sources) -> Checked {
    let read = read::read(sources);
    Checked { policies: read.policies, problems: read.problems, warnings: read.warnings }
}

/// What a look at all policies finds.
#[derive(Debug)]
pub struct Checked {
    /// None where there is a problem.
    pub policies: Option<Policies>,
    /// Why they cannot be used.
    pub problems: Vec<Problem>,
    /// What works and should not stay.
    pub warnings: Vec<Warning>,
}

/// What became of a file that policies are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: PathBuf,
    /// Its digest before; none: it was not there.
    pub before: Option<String>,
    /// Its digest now; none: it is not there any more.
    pub after: Option<String>,
}

/// Which files are others now, by path.
pub fn changed(old: &Policies, new: &Policies) -> Vec<Change> {
    let digests = |policies: &Policies| -> BTreeMap<PathBuf, String> {
        policies.files.iter().map(|file| (file.path.clone(), file.sha256.clone())).collect()
    };
    let (old, new) = (digests(old), digests(new));
    let paths: BTreeSet<&PathBuf> = old.keys().chain(new.keys()).collect();
    paths
        .into_iter()
        .map(|path| Change { path: path.clone(), before: old.get(path).cloned(), after: new.get(path).cloned() })
        .filter(|change| change.before != change.after)
        .collect()
}
