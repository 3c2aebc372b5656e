//! Where runs lie on this host: a journal each, and beside it a folder for locks and for requests to its executor.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use lifeboat_model::id::RunId;
use lifeboat_runbook::{
    event::{Event, Line},
    journal::{FileJournal, Unusable},
};
use serde::{Deserialize, Serialize};

use super::Around;
use crate::{
    exit::Exit,
    failure::{Advise as _, Failure, Result},
};

/// Below the state folder of `lifeboat.toml`.
const FOLDER: &str = "runs";
/// Where there is no usable `lifeboat.toml`: below the folder in which the command was started.
const FALLBACK: &str = "lifeboat-runs";
const JOURNAL: &str = "jsonl";
const WORK: &str = "d";

/// The runs of this host.
pub(super) struct Store {
    folder: PathBuf,
}

/// What a person at another terminal asks of whoever executes a run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AbortRequest {
    pub who: String,
    pub why: String,
}

/// A run and where it lies.
pub(super) struct Kept {
    pub id: String,
    pub lines: Vec<Line>,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

impl Store {
    /// Of this configuration.
    pub fn of(around: &Around) -> Store {
        let state = around.config.as_ref().map(|config| config.engine.state_dir.join(FOLDER));
        Store { folder: state.unwrap_or_else(|| FALLBACK.into()) }
    }

    /// The journal of a run.
    pub fn journal(&self, run: &str) -> PathBuf {
        self.folder.join(format!("{run}.{JOURNAL}"))
    }

    /// The folder beside it, made if it is not there.
    pub fn work(&self, run: &str) -> Result<PathBuf> {
        let folder = self.folder.join(format!("{run}.{WORK}"));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.context(format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// What another terminal has asked for.
    pub fn request(&self, run: &str) -> PathBuf {
        self.folder.join(format!("{run}.{WORK}")).join("abort.json")
    }

    /// All runs, the newest first.
    pub fn all(&self) -> Result<Vec<Kept>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::from(error).context(format!("cannot read {}", self.folder.display()))),
        };
        let mut runs = Vec::new();
        for entry in entries {
            let path = entry.context(format!("cannot read {}", self.folder.display()))?.path();
            let (Some(id), true) = (path.file_stem(), path.extension().is_some_and(|end| end == JOURNAL)) else {
                continue;
            };
            let id = id.to_string_lossy().into_owned();
            runs.push(match FileJournal::look(&path) {
                Ok(lines) => Kept { id, lines, problem: None },
                Err(error) => Kept { id, lines: Vec::new(), problem: Some(error.to_string()) },
            });
        }
        runs.sort_by_key(|run| std::cmp::Reverse(run.lines.first().map_or(Timestamp::MIN, |line| line.at)));
        Ok(runs)
    }

    /// The run that is meant by the beginning of its id; `latest` is the newest.
    pub fn find(&self, wanted: &str) -> Result<String> {
        let all = self.all()?;
        let mut found = all.iter().filter(|run| run.id.starts_with(wanted) || wanted == "latest");
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one.id.clone()),
            (Some(one), Some(_)) if wanted == "latest" => Ok(one.id.clone()),
            (Some(_), Some(_)) => {
                let ids = all.iter().filter(|run| run.id.starts_with(wanted)).map(|run| run.id.as_str());
                let ids: Vec<&str> = ids.collect();
                Err(Failure::new(Exit::Usage, format!("\"{wanted}\" is the beginning of {}", ids.join(", "))))
            }
            (None, _) => Err(Failure::new(Exit::NotFound, format!("no run \"{wanted}\" in {}", self.folder.display()))
                .next("lifeboat runbook runs")),
        }
    }
}

/// A new run's id.
pub(super) fn new_id() -> Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| Failure::new(Exit::Failed, format!("no random bytes: {error}")))?;
    Ok(RunId(bytes).to_string())
}

/// A journal that cannot be used.
pub(super) fn unusable(error: Unusable) -> Failure {
    let exit = match &error {
        Unusable::Busy(_) => Exit::Busy,
        Unusable::Io(..) => Exit::Failed,
        Unusable::Damaged { .. } => Exit::CheckFailed,
    };
    Failure::new(exit, error.to_string())
}

/// What a run was begun with.
pub(super) fn begun(lines: &[Line]) -> Result<&Event> {
    lines.first().map(|line| &line.event).filter(|event| matches!(event, Event::Begun { .. })).ok_or_else(|| {
        Failure::new(Exit::NotFound, "the run has not begun: its journal is empty").next("lifeboat runbook runs")
    })
}

/// Who asks to call it off, if somebody does.
pub(super) fn read_request(path: &Path) -> Option<AbortRequest> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
