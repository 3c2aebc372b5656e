//! `https://lifeboat.dev/evidence/dump/v1`: logical dumps that ended with a recovery point.
//!
//! Field by field in `FORMAT.md`. Later writers may add fields; readers of this version pass over them.

use jiff::Timestamp;
use lifeboat_model::id::{Instance, RepositoryId, RunId, Sha256Digest, Tenant, TierName};
use serde::{Deserialize, Serialize};

use crate::backup::{NotCovered, PointReference, Sizes, StartedBy};

/// Dumps that ended with a recovery point. A run that did not has nothing to be a statement about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DumpPredicate {
    /// The run.
    pub run: RunId,
    /// Who and what started it.
    pub started_by: StartedBy,
    /// Name and version of the software.
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
    /// PostgreSQL's system identifier in decimal digits, where the role could ask for it.
    pub system_id: Option<String>,
    /// The server's version.
    pub postgres_version: String,
    /// The program that made the dumps, in its own words.
    pub program: String,
    /// What was dumped.
    pub databases: Vec<DumpedDatabase>,
    /// What was read and stored.
    pub sizes: Sizes,
    /// What the run noticed, one line each.
    pub notes: Vec<String>,
    /// What belongs to the instance and is not in the point.
    pub not_covered: Vec<NotCovered>,
}

/// One dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpedDatabase {
    /// The database.
    pub name: String,
    /// The dump's length.
    pub bytes: u64,
}

impl DumpPredicate {
    pub(crate) fn contradictions(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.finished < self.started {
            found.push("it finished before it started".to_owned());
        }
        if self.databases.is_empty() {
            found.push("it dumped no database".to_owned());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::id::PointId;

    use super::*;
    use crate::{Predicate, Statement};

    fn predicate() -> DumpPredicate {
        let time: Timestamp = "2026-11-21T20:07:32Z".parse().unwrap();
        DumpPredicate {
            run: RunId([1; 8]),
            started_by: StartedBy {
                user: "root".into(),
                host: "backup".into(),
                command: "lifeboat dump clinic".into(),
            },
            software: "lifeboat test".into(),
            config_sha256: Sha256Digest([2; 32]),
            tenant: "hospital".parse().unwrap(),
            instance: "clinic".parse().unwrap(),
            tier: "gold".parse().unwrap(),
            repository: RepositoryId([3; 16]),
            storage: "directory /srv (not immutable)".into(),
            started: time,
            finished: time,
            point: PointReference {
                id: PointId([4; 8]),
                key: "hospital/clinic/points/x".into(),
                sha256: Sha256Digest([5; 32]),
                version: None,
            },
            system_id: None,
            postgres_version: "17.6".into(),
            program: "pg_dump (PostgreSQL) 17.6".into(),
            databases: vec![DumpedDatabase { name: "north".into(), bytes: 7 }],
            sizes: Sizes::default(),
            notes: Vec::new(),
            not_covered: Vec::new(),
        }
    }

    #[test]
    fn a_statement_survives_its_json_and_knows_its_place() {
        let statement = Statement::dump(predicate());
        let read = Statement::from_json(&statement.to_json()).unwrap();
        assert_eq!(read, statement);
        assert_eq!((read.kind(), read.subject[0].digest.sha256), ("dump", Sha256Digest([5; 32])));
        let key = read.storage_key().unwrap().to_string();
        assert_eq!(key, "hospital/evidence/20261121T200732Z-clinic-dump-0101010101010101.dsse.json");
        assert_eq!(key.parse(), Ok(read.storage_key().unwrap()));
        assert!(matches!(read.predicate, Predicate::Dump(_)) && read.contradictions().is_empty());
    }

    #[test]
    fn a_statement_about_nothing_contradicts_itself() {
        let nothing = DumpPredicate { databases: Vec::new(), ..predicate() };
        assert_eq!(nothing.contradictions(), ["it dumped no database"]);
    }
}
