//! `https://lifeboat.dev/evidence/backup/v1`: a backup that ended with a recovery point.
//!
//! Field by field in `FORMAT.md`. Later writers may add fields; readers of this version pass over them.

use jiff::Timestamp;
use lifeboat_model::{
    id::{Instance, PointId, RepositoryId, RunId, Sha256Digest, Tenant, TierName},
    lsn::Lsn,
};
use serde::{Deserialize, Serialize};

/// A backup that ended with a recovery point. One that did not has nothing to be a statement about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupPredicate {
    /// The run.
    pub run: RunId,
    /// Who and what started it.
    pub started_by: StartedBy,
    /// Name and version of the software, for example `lifeboat 0.1.0`.
    pub software: String,
    /// SHA-256 of the configuration file's text.
    pub config_sha256: Sha256Digest,
    /// The owner.
    pub tenant: Tenant,
    /// The instance.
    pub instance: Instance,
    /// Its recovery class.
    pub tier: TierName,
    /// The repository.
    pub repository: RepositoryId,
    /// Where the repository is, as people call it: never a credential.
    pub storage: String,
    /// When the run began.
    pub started: Timestamp,
    /// When the point was durable.
    pub finished: Timestamp,
    /// The recovery point.
    pub point: PointReference,
    /// The PostgreSQL cluster it was taken from.
    pub source: Source,
    /// What was read and stored.
    pub sizes: Sizes,
    /// The trees in the point.
    pub trees: Vec<TreeSummary>,
    /// What the run noticed, one line each.
    pub notes: Vec<String>,
    /// What belongs to the instance and is not in the point.
    pub not_covered: Vec<NotCovered>,
}

/// Who started a run, as the operating system says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedBy {
    /// The user.
    pub user: String,
    /// The host.
    pub host: String,
    /// The command, for example `lifeboat backup clinic`. Never with a secret.
    pub command: String,
}

/// A recovery point, by its public bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointReference {
    /// Its id.
    pub id: PointId,
    /// Its object key.
    pub key: String,
    /// SHA-256 of the object.
    pub sha256: Sha256Digest,
    /// The VersionId that the store gave it, where it has versions.
    pub version: Option<String>,
}

/// The cluster, and the stretch of WAL that makes the point consistent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// PostgreSQL's system identifier, in decimal digits (JSON numbers are too short for it).
    pub system_id: String,
    /// The server's version as it says it.
    pub postgres_version: String,
    /// The timeline.
    pub timeline: u32,
    /// Where the base backup starts.
    pub start_lsn: Lsn,
    /// Up to where WAL is needed.
    pub end_lsn: Lsn,
    /// Whether the cluster has page checksums.
    pub data_checksums: DataChecksums,
    /// The Odoo databases in it.
    pub databases: Vec<String>,
}

/// Whether a cluster has page checksums, and whether they were right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataChecksums {
    /// On, and the server verified them while it sent the pages.
    Verified,
    /// On, and not verified.
    NotVerified,
    /// Off: a page that was damaged before the backup is not noticed.
    Off,
    /// Not known.
    Unknown,
}

/// Bytes and files of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sizes {
    /// Read from the sources.
    pub read_bytes: u64,
    /// Not known before, before compression.
    pub new_bytes: u64,
    /// Written to the repository.
    pub stored_bytes: u64,
    /// Known before and not stored again.
    pub reused_bytes: u64,
    /// Files in the point.
    pub files: u64,
}

/// One tree of a point. File names stay in the sealed part of the point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeSummary {
    /// `database`, `filestore` or `config`.
    pub kind: String,
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Files that changed while they were read.
    pub changed: u64,
    /// Files that went away before they were read.
    pub vanished: u64,
}

/// Something that belongs to the instance and is not in the point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCovered {
    /// What, for example `attachments with the prefix s3://`.
    pub what: String,
    /// How many, where that is known.
    pub count: Option<u64>,
    /// Why.
    pub why: String,
}

impl BackupPredicate {
    pub(crate) fn contradictions(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.finished < self.started {
            found.push("it finished before it started".to_owned());
        }
        if self.source.end_lsn < self.source.start_lsn {
            found.push("its WAL ends before it starts".to_owned());
        }
        found
    }
}
