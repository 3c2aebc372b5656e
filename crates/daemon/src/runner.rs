//! Who carries out a run: the binary starts itself as a process of its own; tests have a stand-in.

use std::path::PathBuf;

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_model::{check::Verdict, config::LimitsConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::job::{Job, RunOutcome};

/// What a run tells while it goes on. One JSON object a line on the standard error of `lifeboat --log-format json`; docs/json.md
/// describes each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RunEvent {
    /// A part of it was begun.
    Phase {
        /// Its name.
        name: String,
    },
    /// A check has answered.
    Check {
        /// As in docs/drill.md.
        id: String,
        /// The answer.
        verdict: Verdict,
        /// What was seen; counts instead of names from inside the backup.
        observed: String,
        /// How long it took.
        seconds: f64,
    },
    /// Bytes, files and objects so far.
    Progress {
        /// Bytes read at the source.
        read: u64,
        /// Bytes fetched from the repository.
        fetched: u64,
        /// Bytes put where they belong.
        restored: u64,
        /// Bytes stored in the repository.
        stored: u64,
        /// Files.
        files: u64,
        /// Objects.
        objects: u64,
    },
    /// How far a WAL stream is.
    Wal {
        /// The phase, as `streaming`.
        phase: String,
        /// The commit time of the newest commit that is durable.
        newest_commit: Option<Timestamp>,
        /// Bytes that the server has and the repository has not.
        waiting_bytes: Option<u64>,
        /// Since when something has waited; none: nothing does.
        waiting_since: Option<Timestamp>,
    },
    /// A line for people.
    Note {
        /// `INFO`, `WARN` or `ERROR`.
        level: String,
        /// The line.
        message: String,
    },
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// How.
    pub outcome: RunOutcome,
    /// The exit code; none when a signal ended the process or it could not be started.
    pub exit: Option<u8>,
    /// What it printed with `--json`, when that is whole and at most 1 MiB.
    pub answer: Option<serde_json::Value>,
    /// Why it did not pass: message, causes, hint and next command, as the command said them.
    pub reason: Option<String>,
    /// Worth trying again soon: something was not reachable, or somebody else was at work.
    pub is_transient: bool,
}

/// What the policies say of how a run is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct How {
    /// The tenant's configuration.
    pub config_file: PathBuf,
    /// How much of the processor it leaves to others: 0–19.
    pub nice: u8,
    /// Its part of the line to the repositories, beside what its own configuration allows.
    pub limits: LimitsConfig,
    /// The process holds a lock on it for as long as it lives. Its folder is there.
    pub alive_file: PathBuf,
}

/// Carries out runs.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Carries out one run to its end. Cancelled, it tells the process to stop and tear down, and waits for it.
    /// If the daemon dies, the process notices and stops by itself.
    async fn run(&self, job: &Job, how: &How, events: mpsc::Sender<RunEvent>, cancel: CancellationToken) -> Ended;

    /// Whether the process of a run that an earlier daemon began is still there: it has noticed and winds up. Nothing is
    /// begun in its place before it has gone.
    async fn is_alive(&self, job: &Job, how: &How) -> bool;
}
