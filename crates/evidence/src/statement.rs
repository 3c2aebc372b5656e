//! in-toto Statement v1 (<https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>): what is said, of what.

use jiff::Timestamp;
use lifeboat_model::id::{Instance, RunId, Sha256Digest, Tenant};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    act::{self, ActPredicate},
    backup::BackupPredicate,
    drill::DrillPredicate,
    dump::DumpPredicate,
    error::Error,
    key::EvidenceKey,
};

/// The type of a statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The predicate of a finished backup.
pub const BACKUP_TYPE: &str = "https://lifeboat.dev/evidence/backup/v1";
/// The predicate of a drill, passed or not.
pub const DRILL_TYPE: &str = "https://lifeboat.dev/evidence/drill/v1";

/// The predicate of finished logical dumps.
pub const DUMP_TYPE: &str = "https://lifeboat.dev/evidence/dump/v1";

/// What a statement is about: public bytes by name and digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// For people; the digest decides.
    pub name: String,
    /// Digests by algorithm.
    pub digest: Digests,
}

/// SHA-256, and whatever else a later writer adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// SHA-256 in hexadecimal digits.
    pub sha256: Sha256Digest,
}

/// A statement: subjects and one predicate about them.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// What it is about; at least one.
    pub subject: Vec<Subject>,
    /// What is said.
    pub predicate: Predicate,
}

/// What is said about the subjects.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    /// A finished backup.
    Backup(Box<BackupPredicate>),
    /// A drill.
    Drill(Box<DrillPredicate>),
    /// Finished logical dumps.
    Dump(Box<DumpPredicate>),
    /// An act upon the repository or its keys.
    Act(Box<ActPredicate>),
    /// Something of another kind or a later version: its signature counts, its meaning is not known here.
    Opaque {
        /// Its type.
        predicate_type: String,
        /// Its content.
        predicate: Value,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outgoing<'s, P> {
    #[serde(rename = "_type")]
    statement_type: &'s str,
    subject: &'s [Subject],
    predicate_type: &'s str,
    predicate: &'s P,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Incoming {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Vec<Subject>,
    predicate_type: String,
    #[serde(default)]
    predicate: Value,
}

impl Statement {
    /// About a backup: the subject is its recovery point.
    pub fn backup(predicate: BackupPredicate) -> Statement {
        let subject = vec![subject(&predicate.point.key, predicate.point.sha256)];
        Statement { subject, predicate: Predicate::Backup(Box::new(predicate)) }
    }

    /// About a drill: the subject is the recovery point; where none was found, the configuration it ran with.
    pub fn drill(predicate: DrillPredicate) -> Statement {
        let subject = match &predicate.point {
            Some(point) => subject(&point.key, point.sha256),
            None => subject("lifeboat.toml", predicate.config_sha256),
        };
        Statement { subject: vec![subject], predicate: Predicate::Drill(Box::new(predicate)) }
    }

    /// About logical dumps: the subject is their recovery point.
    pub fn dump(predicate: DumpPredicate) -> Statement {
        let subject = vec![subject(&predicate.point.key, predicate.point.sha256)];
        Statement { subject, predicate: Predicate::Dump(Box::new(predicate)) }
    }

    /// About an act: the subject is the point that it is about, of a sign-off the statement, of a run the runbook; without one, the configuration
    /// it ran with.
    pub fn act(predicate: ActPredicate) -> Statement {
        let subject = match (&predicate.act, predicate.act.point()) {
            (act::Act::SignOff(sign_off), _) => subject(&sign_off.statement, sign_off.statement_sha256),
            (act::Act::Runbook(run), _) => subject(&run.runbook, run.runbook_sha256),
            (_, Some(point)) => subject(&point.key, point.sha256),
            (_, None) => subject("lifeboat.toml", predicate.config_sha256),
        };
        Statement { subject: vec![subject], predicate: Predicate::Act(Box::new(predicate)) }
    }

    /// `backup`, `drill`, `dump`, the word of an act ([`act::Act::kind`]), or the whole type of a predicate that is not known here.
    pub fn kind(&self) -> &str {
        match &self.predicate {
            Predicate::Backup(_) => "backup",
            Predicate::Drill(_) => "drill",
            Predicate::Dump(_) => "dump",
            Predicate::Act(act) => act.act.kind(),
            Predicate::Opaque { predicate_type, .. } => predicate_type,
        }
    }

    /// The run that is told of, if the predicate is known. An act upon the whole repository is of no instance.
    pub fn run(&self) -> Option<(RunId, &Tenant, Option<&Instance>)> {
        match &self.predicate {
            Predicate::Backup(backup) => Some((backup.run, &backup.tenant, Some(&backup.instance))),
            Predicate::Drill(drill) => Some((drill.run, &drill.tenant, Some(&drill.instance))),
            Predicate::Dump(dump) => Some((dump.run, &dump.tenant, Some(&dump.instance))),
            Predicate::Act(act) => Some((act.run, &act.tenant, act.instance.as_ref())),
            Predicate::Opaque { .. } => None,
        }
    }

    /// The key to store it under, if the predicate is known.
    pub fn storage_key(&self) -> Option<EvidenceKey> {
        let (run, tenant, instance) = self.run()?;
        let time = match &self.predicate {
            Predicate::Backup(backup) => backup.started,
            Predicate::Drill(drill) => drill.started,
            Predicate::Dump(dump) => dump.started,
            Predicate::Act(act) => act.started,
            Predicate::Opaque { .. } => return None,
        };
        Some(EvidenceKey {
            tenant: tenant.clone(),
            // A key has whole seconds; the key of a statement and the one read back from its name are equal.
            time: Timestamp::from_second(time.as_second()).unwrap_or(time),
            instance: instance.cloned().unwrap_or_else(tenant_wide),
            kind: self.kind().to_owned(),
            run,
        })
    }

    /// What a statement says against itself; empty for a sound one. A signature proves who said it, not that it is so.
    pub fn contradictions(&self) -> Vec<String> {
        match &self.predicate {
            Predicate::Backup(backup) => backup.contradictions(),
            Predicate::Drill(drill) => drill.contradictions(),
            Predicate::Dump(dump) => dump.contradictions(),
            Predicate::Act(act) => act.contradictions(),
            Predicate::Opaque { .. } => Vec::new(),
        }
    }

    /// The JSON text that is signed, fields in the order of `FORMAT.md`.
    pub fn to_json(&self) -> Vec<u8> {
        match &self.predicate {
            Predicate::Backup(predicate) => self.json(BACKUP_TYPE, predicate),
            Predicate::Drill(predicate) => self.json(DRILL_TYPE, predicate),
            Predicate::Dump(predicate) => self.json(DUMP_TYPE, predicate),
            Predicate::Act(predicate) => self.json(&predicate.predicate_type(), predicate),
            Predicate::Opaque { predicate_type, predicate } => self.json(predicate_type, predicate),
        }
    }

    fn json<P: Serialize>(&self, predicate_type: &str, predicate: &P) -> Vec<u8> {
        let statement = Outgoing { statement_type: STATEMENT_TYPE, subject: &self.subject, predicate_type, predicate };
        serde_json::to_vec(&statement).expect("structs with named fields always serialize")
    }

    /// Reads what [`Statement::to_json`] or a later version wrote.
    pub(crate) fn from_json(payload: &[u8]) -> Result<Statement, Error> {
        let malformed = |error: serde_json::Error| Error::Statement(error.to_string());
        let Incoming { statement_type, subject, predicate_type, predicate } =
            serde_json::from_slice(payload).map_err(malformed)?;
        if statement_type != STATEMENT_TYPE {
            return Err(Error::Statement(format!("its type is not {STATEMENT_TYPE}")));
        }
        if subject.is_empty() {
            return Err(Error::Statement("it has no subject".to_owned()));
        }
        let predicate = match predicate_type.as_str() {
            BACKUP_TYPE => Predicate::Backup(serde_json::from_value(predicate).map_err(malformed)?),
            DRILL_TYPE => Predicate::Drill(serde_json::from_value(predicate).map_err(malformed)?),
            DUMP_TYPE => Predicate::Dump(serde_json::from_value(predicate).map_err(malformed)?),
            kind if act::is_act(kind) => Predicate::Act(read_act(kind, predicate)?),
            _ => Predicate::Opaque { predicate_type, predicate },
        };
        Ok(Statement { subject, predicate })
    }
}

/// The type and the act within must tell of the same thing, or a reader of types would believe another one.
fn read_act(predicate_type: &str, predicate: Value) -> Result<Box<ActPredicate>, Error> {
    let act: Box<ActPredicate> =
        serde_json::from_value(predicate).map_err(|error| Error::Statement(error.to_string()))?;
    if act.predicate_type() == predicate_type {
        return Ok(act);
    }
    Err(Error::Statement(format!("its type is {predicate_type}, its act is {}", act.act.kind())))
}

fn tenant_wide() -> Instance {
    act::TENANT_WIDE.parse().expect("the word has the form of a name")
}

fn subject(name: &str, sha256: Sha256Digest) -> Subject {
    Subject { name: name.to_owned(), digest: Digests { sha256 } }
}
