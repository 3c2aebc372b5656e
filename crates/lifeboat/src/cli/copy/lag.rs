//! How far a copy is behind its primary, after a copy.

use jiff::Timestamp;
use lifeboat_engine::copy::Lag;
use serde::Serialize;

use crate::output::{bytes, count, seconds};

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
