//! `RESTORED.json`: what a restore has put into a folder, for whoever verifies it once it runs. It needs no repository and no key
//! then, and stands beside the data, mode 0600: it names tables, and holds no row of them.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use lifeboat_engine::{
    details::Witness,
    recovery::{self, Plan, Stop},
    restore::RestoreReport,
};
use lifeboat_model::{lsn::Lsn, signature::PublicKey};
use lifeboat_repo::{repository::InstanceRepo, seal::Identity};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result, with_causes},
    point::later,
    source::Fetched,
};

/// Its name.
pub const RESTORED: &str = "RESTORED.json";
const SCHEMA: &str = "lifeboat.restored/1";

/// Where recovery was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum StopAt {
    /// At the end of the log.
    End,
    /// Before the first commit with a later time.
    Time {
        /// The time.
        time: Timestamp,
    },
    /// Before the first record at or behind this position.
    Lsn {
        /// The position.
        lsn: Lsn,
    },
}

/// A volume that was made of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeOf {
    /// Its name.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    schema: String,
    /// The owner.
    pub tenant: String,
    /// The instance.
    pub instance: String,
    /// When the restore was done.
    pub restored: Timestamp,
    /// The recovery point that it began from.
    pub point: String,
    /// Where recovery ends, in words.
    pub target: String,
    /// The same for machines.
    pub stop: StopAt,
    /// Whether the cluster is among what was restored.
    pub database: bool,
    /// The source's cluster, as decimal text: what was restored has the same.
    pub system_id: String,
    /// The timeline of the base backup.
    pub timeline: u32,
    /// PostgreSQL's version, as a number.
    pub postgres_version: u32,
    /// The Odoo databases.
    pub databases: Vec<String>,
    /// When the base backup began: everything committed before is there.
    pub began: Option<Timestamp>,
    /// Where the base backup is consistent.
    pub consistent_at: Lsn,
    /// Where the log that was brought back ends.
    pub wal_end: Lsn,
    /// The newest commit that is known to be held, where recovery goes to the end of all that is.
    pub newest_held: Option<Timestamp>,
    /// The newest commit that was replayed, as the server told when it was asked for the first time.
    #[serde(default)]
    pub newest_replayed: Option<Timestamp>,
    /// Behind the commit that the backup marked at its end.
    pub mark: Option<Lsn>,
    /// Work after this is lost.
    pub lost_since: Timestamp,
    /// Names below the filestore that the backup recorded as not there when it read them.
    pub known_missing: Vec<String>,
    /// Whether the filestore was one database's own folder.
    #[serde(default)]
    pub single: bool,
    /// Volumes of Docker that were made of it.
    #[serde(default)]
    pub volumes: Vec<VolumeOf>,
    /// What the source's tables looked like.
    pub witness: Option<Witness>,
}

impl Record {
    /// Of a restore that is complete.
    pub async fn of(
        repo: &InstanceRepo,
        (trusted, identities): (&[PublicKey], &[Identity]),
        plan: &Plan,
        report: &RestoreReport,
        (database, now): (bool, Timestamp),
    ) -> Result<Record> {
        let newer = recovery::witness(repo, trusted, identities, plan).await;
        // Nothing that only serves a later look keeps a restore from being done.
        let newer = newer.unwrap_or_else(|error| {
            tracing::warn!(error = %with_causes(&error), "later witnesses cannot be read: verify knows the point's own");
            None
        });
        let header = &plan.base.header;
        let is_point_end = plan.target == recovery::Target::PointEnd;
        Ok(Record {
            schema: SCHEMA.to_owned(),
            tenant: header.tenant.to_string(),
            instance: header.instance.to_string(),
            restored: now,
            point: report.point.to_string(),
            target: plan.target.to_string(),
            stop: match plan.stop {
                Stop::End => StopAt::End,
                Stop::Time(time) => StopAt::Time { time },
                Stop::Lsn(lsn) => StopAt::Lsn { lsn },
            },
            database,
            system_id: report.postgres.system_id.clone(),
            timeline: report.postgres.timeline,
            postgres_version: report.postgres.version,
            databases: report.postgres.databases.clone(),
            began: Some(report.postgres.started),
            consistent_at: report.postgres.backup_end,
            wal_end: plan.end,
            newest_held: plan.newest_commit,
            newest_replayed: None,
            mark: report.postgres.mark.filter(|_| is_point_end),
            lost_since: lost_since(plan),
            known_missing: report.notes.vanished_files().collect(),
            single: false,
            volumes: Vec::new(),
            witness: later(plan, report.witness.clone(), newer),
        })
    }

    /// Writes it into the folder, whole or not at all.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let (path, new) = (folder.join(RESTORED), folder.join(".RESTORED.json.new"));
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::Task(error.to_string()))?;
        let mut options = fs::OpenOptions::new();
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
        let mut file = opened.map_err(Error::io("cannot create", &new))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(Error::io("cannot write", &new))?;
        fs::rename(&new, &path).map_err(Error::io("cannot rename to", &path))
    }

    /// Reads it.
    pub fn read(folder: &Path) -> Result<Record> {
        let path = folder.join(RESTORED);
        let text = fs::read(&path).map_err(|error| Error::NotRecovered {
            why: format!("{}: {error}: it is written by `lifeboat restore` when all is in place", path.display()),
        })?;
        let damaged = |why: String| Error::NotRecovered { why: format!("{}: {why}", path.display()) };
        let record: Record = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        match record.schema == SCHEMA {
            true => Ok(record),
            false => Err(damaged(format!("it is of {}, and this release reads {SCHEMA}", record.schema))),
        }
    }

    /// What rung 5 compares a replay with.
    pub(super) fn fetched(&self) -> Fetched {
        Fetched {
            began: self.began,
            consistent_at: Some(self.consistent_at),
            wal_end: Some(self.wal_end),
            stop: match self.stop {
                StopAt::End => Stop::End,
                StopAt::Time { time } => Stop::Time(time),
                StopAt::Lsn { lsn } => Stop::Lsn(lsn),
            },
            newest_held: self.newest_held,
            mark: self.mark,
            known_missing: self.known_missing.iter().cloned().collect(),
            ..Fetched::default()
        }
    }
}

/// Work after this moment is not in what was restored.
fn lost_since(plan: &Plan) -> Timestamp {
    let known = match plan.stop {
        Stop::Time(time) => Some(time),
        Stop::Lsn(_) => plan.moment,
        Stop::End => plan.newest_commit.or(plan.moment),
    };
    known.unwrap_or(plan.base.header.finished)
}
