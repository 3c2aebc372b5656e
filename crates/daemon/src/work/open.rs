//! The runs that are not over, as the dispatcher knows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use lifeboat_model::id::{RunId, Tenant};
use tokio_util::sync::CancellationToken;

use super::plan::{Before, Key};
use crate::job::{Because, Job};

/// A run that is not over.
pub(super) struct Open {
    pub job: Arc<Job>,
    pub attempt: u32,
    /// Not begun before.
    pub at: Timestamp,
    pub phase: Phase,
    /// Why it waits, as it is recorded.
    pub reason: Option<String>,
}

/// How far a run is.
pub(super) enum Phase {
    /// An earlier daemon had it, and what became of it is being found out.
    Unclear { begun: bool },
    /// In the queue.
    Waits,
    /// It goes on.
    Runs {
        /// Calls it off.
        cancel: CancellationToken,
        /// Who or what called it off.
        off: Option<Off>,
    },
}

/// Why a run was called off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Off {
    /// Somebody said so: it is not tried again.
    Person(String),
    /// The daemon had to: it is tried again, if it is still wanted.
    Ours(String),
}

/// All runs that are not over.
#[derive(Default)]
pub(super) struct Opens {
    all: BTreeMap<RunId, Open>,
    keys: BTreeMap<Key, BTreeSet<RunId>>,
}

/// Whose due run a job is; none: somebody asked for it.
pub(super) fn key_of(job: &Job) -> Option<Key> {
    let Because::Schedule { schedule, .. } = &job.because else { return None };
    Some(Key { tenant: job.tenant.clone(), schedule: schedule.clone(), instance: job.instance.clone() })
}

impl Opens {
    pub fn get(&self, run: RunId) -> Option<&Open> {
        self.all.get(&run)
    }

    pub fn get_mut(&mut self, run: RunId) -> Option<&mut Open> {
        self.all.get_mut(&run)
    }

    pub fn iter(&self) -> impl Iterator<Item = (RunId, &Open)> {
        self.all.iter().map(|(run, open)| (*run, open))
    }

    pub fn of<'a>(&'a self, tenant: &'a Tenant) -> impl Iterator<Item = (RunId, &'a Open)> {
        self.iter().filter(move |(_, open)| open.job.tenant == *tenant)
    }

    pub fn insert(&mut self, open: Open) {
        let run = open.job.run;
        if let Some(key) = key_of(&open.job) {
            self.keys.entry(key).or_default().insert(run);
        }
        self.all.insert(run, open);
    }

    pub fn remove(&mut self, run: RunId) -> Option<Open> {
        let open = self.all.remove(&run)?;
        if let Some(key) = key_of(&open.job)
            && let Some(runs) = self.keys.get_mut(&key)
        {
            runs.remove(&run);
            if runs.is_empty() {
                self.keys.remove(&key);
            }
        }
        Some(open)
    }

    /// The run of a key that is not over.
    pub fn before(&self, key: &Key) -> Option<Before> {
        let runs = self.keys.get(key)?.iter().filter_map(|run| self.all.get(run));
        let all = runs.map(|open| match open.phase {
            Phase::Waits | Phase::Unclear { begun: false } => Before::Waits,
            Phase::Runs { .. } | Phase::Unclear { begun: true } => Before::Runs,
        });
        all.min_by_key(|before| *before == Before::Waits)
    }

    /// Whether it is being found out what became of a run of a key.
    pub fn is_unclear(&self, key: &Key) -> bool {
        let unclear = |run: &RunId| self.all.get(run).is_some_and(|open| matches!(open.phase, Phase::Unclear { .. }));
        self.keys.get(key).is_some_and(|runs| runs.iter().any(unclear))
    }

    /// Calls runs off that go on, and have not been called off.
    pub fn call_off(&mut self, which: impl Fn(&Open) -> bool, off: &Off) {
        for open in self.all.values_mut() {
            if !which(open) {
                continue;
            }
            if let Phase::Runs { cancel, off: called, .. } = &mut open.phase
                && called.is_none()
            {
                *called = Some(off.clone());
                cancel.cancel();
            }
        }
    }
}
