//! How far a copy is behind its primary: after a copy, and in the status.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_engine::{
    context::Context,
    copy::{self, Lag},
};
use lifeboat_model::id::Instance;
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    cli::{Session, place},
    failure::Result,
    output::{bytes, count, seconds},
    wire::{self, Loaded},
};

/// How far a copy is behind.
#[derive(Debug, Clone, Serialize)]
pub struct Behind {
    /// The newest point of the copy.
    newest_point: Option<String>,
    newest_finished: Option<Timestamp>,
    /// How much older it is than the primary's newest; none where either has none.
    behind_seconds: Option<f64>,
    /// Newer points of the primary, valid or not.
    points_missing: u64,
    /// Streamed WAL that the copy lacks; none where it has none of the stream, or nothing is streamed.
    wal_missing_bytes: Option<u64>,
    /// WAL is streamed, and the copy has none of it.
    wal_missing: bool,
}

impl Behind {
    pub fn new(lag: &Lag) -> Self {
        Behind {
            newest_point: lag.copy.map(|point| point.id.to_string()),
            newest_finished: lag.copy.map(|point| point.finished),
            behind_seconds: lag.behind().map(|behind| behind.as_secs_f64()),
            points_missing: lag.missing,
            wal_missing_bytes: lag.wal.and_then(|wal| wal.bytes()),
            wal_missing: lag.wal.is_some_and(|wal| wal.copy.is_none()),
        }
    }

    /// In a few words.
    pub fn text(&self) -> String {
        let wal = match (self.wal_missing, self.wal_missing_bytes) {
            (true, _) => Some("no WAL".to_owned()),
            (_, Some(missing)) if missing > 0 => Some(format!("{} of WAL", bytes(missing))),
            _ => None,
        };
        let points = match (self.points_missing, self.behind_seconds) {
            (0, _) => None,
            (missing, Some(behind)) => Some(format!("{}, {}", count(missing, "point", "points"), seconds(behind))),
            (missing, None) => Some(count(missing, "point", "points")),
        };
        match (points, wal) {
            (None, None) => "nothing".to_owned(),
            (points, wal) => points.into_iter().chain(wal).collect::<Vec<_>>().join(", "),
        }
    }
}

/// A copy in the status of an instance.
#[derive(Serialize)]
pub struct CopyState {
    name: String,
    lag: Option<Behind>,
    /// Why the copy could not be asked.
    not_asked: Option<String>,
}

impl CopyState {
    /// One line for people.
    pub fn text(&self) -> String {
        match (&self.not_asked, &self.lag) {
            (Some(why), _) => format!("copy {}: how far it is behind is not known: {why}", self.name),
            (None, Some(lag)) => format!("copy {}: lacks {}", self.name, lag.text()),
            (None, None) => format!("copy {}: nothing was copied yet", self.name),
        }
    }
}

/// The copies of a configuration, opened for as long as somebody in a hurry waits.
pub struct Copies(Vec<(String, std::result::Result<Option<Context>, String>)>);

impl Copies {
    /// Opens all of them. One that does not answer says so in its place.
    pub async fn open(session: &Session, loaded: &Loaded, patience: Duration) -> Self {
        let mut opened = Vec::new();
        for copy in &loaded.config.copies {
            let context = match timeout(patience, open(session, loaded, &copy.name)).await {
                Ok(Ok(context)) => Ok(context),
                Ok(Err(failure)) => Err(failure.messages().join(": ")),
                Err(_) => Err(silent(patience)),
            };
            opened.push((copy.name.clone(), context));
        }
        Copies(opened)
    }

    /// How far each is behind with an instance.
    pub async fn states(&self, primary: &Context, instance: &Instance, patience: Duration) -> Vec<CopyState> {
        let mut states = Vec::new();
        for (name, context) in &self.0 {
            let state = |lag, not_asked| CopyState { name: name.clone(), lag, not_asked };
            states.push(match context {
                Err(why) => state(None, Some(why.clone())),
                Ok(None) => state(None, None),
                Ok(Some(context)) => match timeout(patience, copy::lag(primary, context, instance)).await {
                    Ok(Ok(lag)) => state(Some(Behind::new(&lag)), None),
                    Ok(Err(error)) => state(None, Some(error.to_string())),
                    Err(_) => state(None, Some(silent(patience))),
                },
            });
        }
        states
    }
}

fn silent(patience: Duration) -> String {
    format!("it did not answer within {}", seconds(patience.as_secs_f64()))
}

/// None: there is no repository yet.
async fn open(session: &Session, loaded: &Loaded, name: &str) -> Result<Option<Context>> {
    let there = place::at(loaded.clone(), name)?;
    if let lifeboat_model::config::RepositoryConfig::Local { path } = &there.config.repository
        && !path.is_dir()
    {
        return Ok(None);
    }
    let store = lifeboat_engine::context::open_store(&there.config.repository, &wire::environment, false).await?;
    let repository = match lifeboat_repo::repository::Repository::open(store).await {
        Err(lifeboat_repo::Error::NotARepository { .. }) => return Ok(None),
        opened => opened?,
    };
    let repository = wire::believing(repository, &there.config).await?;
    Ok(Some(wire::context(session, there, repository, "lifeboat status")))
}
