//! Believing evidence: from bytes and public keys alone.

use std::collections::HashMap;

use lifeboat_model::{
    check::Outcome,
    id::{Instance, RunId, Sha256Digest, Tenant},
    signature::PublicKey,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    envelope,
    error::Error,
    key::EvidenceKey,
    statement::{Predicate, Statement},
};

/// A statement that a trusted key has signed.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// What was said.
    pub statement: Statement,
    /// The key that signed it.
    pub key: PublicKey,
    /// The signed JSON text, byte for byte.
    pub payload: Vec<u8>,
    /// SHA-256 of the signed text.
    pub payload_sha256: Sha256Digest,
    /// What the statement says against itself; empty for a sound one.
    pub contradictions: Vec<String>,
}

/// Checks an envelope's signature and reads its statement.
pub fn verify(envelope: &[u8], trusted: &[PublicKey]) -> Result<Verified, Error> {
    let envelope::Opened { payload, key } = envelope::open(envelope, trusted)?;
    let statement = Statement::from_json(&payload)?;
    let payload_sha256 = Sha256Digest(Sha256::digest(&payload).into());
    let contradictions = statement.contradictions();
    Ok(Verified { statement, key, payload, payload_sha256, contradictions })
}

/// Checks many files, one after the other, and what they say together. Keeps some 100 bytes for each.
#[derive(Debug)]
pub struct SetVerifier {
    trusted: Vec<PublicKey>,
    payloads: HashMap<Sha256Digest, String>,
    runs: HashMap<(Tenant, RunId), Sha256Digest>,
    summary: SetSummary,
}

/// What one file of a set is.
#[derive(Debug, Clone, PartialEq)]
pub struct SetEntry {
    /// The file's name, as the caller has it.
    pub name: String,
    /// What it says, or why it is not believed.
    pub result: Result<Summary, Error>,
    /// What is odd about it beside the others; empty for a sound one.
    pub findings: Vec<Finding>,
}

/// What a verified file says, in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// `backup`, `drill`, `dump`, an act's word, or the type of a predicate not known here.
    pub kind: String,
    /// The run, if the predicate is known.
    pub run: Option<RunId>,
    /// The instance, if the predicate is known and about one.
    pub instance: Option<Instance>,
    /// When the run began, if the predicate is known.
    pub started: Option<jiff::Timestamp>,
    /// The answer of a drill or an act.
    pub outcome: Option<Outcome>,
    /// Id of the key that signed it.
    pub key_id: String,
    /// SHA-256 of the signed text.
    pub payload_sha256: Sha256Digest,
}

/// What is odd about a file whose signature is right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "finding", content = "detail")]
#[non_exhaustive]
pub enum Finding {
    /// The same statement as in another file.
    #[error("the same statement as {0}")]
    Duplicate(String),
    /// Another statement about a run that one has been seen about.
    #[error("another statement about run {0} was seen: one run, two stories")]
    Conflict(RunId),
    /// The file name tells of another run than the statement.
    #[error("its name does not fit its statement, which belongs at {0}")]
    Misnamed(String),
    /// The statement contradicts itself.
    #[error("it contradicts itself: {0}")]
    Contradiction(String),
    /// A predicate of another kind or a later version.
    #[error("its signature is right, its kind {0} is not known to this version")]
    UnknownKind(String),
}

/// The sums of a set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SetSummary {
    /// Files looked at.
    pub files: u64,
    /// Signed by a trusted key and readable.
    pub verified: u64,
    /// Not believed.
    pub refused: u64,
    /// Of the verified: those with findings.
    pub with_findings: u64,
    /// What this verification cannot tell.
    pub not_checked: Vec<String>,
}

/// Said with every set: files alone do not tell. Who has the ledger asks [`crate::audit`].
pub const LEDGER_NOT_CHECKED: &str =
    "gaps and order: these are single files, so a statement that was removed cannot be noticed";

/// Whether a finding speaks against the statement. A copy does not, nor does a kind that a later version writes.
pub fn is_grave(finding: &Finding) -> bool {
    !matches!(finding, Finding::Duplicate(_) | Finding::UnknownKind(_))
}

impl SetVerifier {
    /// Begins a set.
    pub fn new(trusted: &[PublicKey]) -> Self {
        let summary = SetSummary { not_checked: vec![LEDGER_NOT_CHECKED.to_owned()], ..SetSummary::default() };
        Self { trusted: trusted.to_owned(), payloads: HashMap::new(), runs: HashMap::new(), summary }
    }

    /// Checks the next file. `name` may be a storage key or a path that ends in one.
    pub fn add(&mut self, name: &str, envelope: &[u8]) -> SetEntry {
        self.look(name, envelope).0
    }

    /// [`SetVerifier::add`], with what was read.
    pub(crate) fn look(&mut self, name: &str, envelope: &[u8]) -> (SetEntry, Option<Verified>) {
        self.summary.files += 1;
        match verify(envelope, &self.trusted) {
            Ok(verified) => {
                let findings = self.findings(name, &verified);
                self.summary.verified += 1;
                self.summary.with_findings += u64::from(!findings.is_empty());
                let entry = SetEntry { name: name.to_owned(), result: Ok(summary(&verified)), findings };
                (entry, Some(verified))
            }
            Err(refused) => {
                self.summary.refused += 1;
                (SetEntry { name: name.to_owned(), result: Err(refused), findings: Vec::new() }, None)
            }
        }
    }

    /// The sums, and what was not checked.
    pub fn finish(self) -> SetSummary {
        self.summary
    }

    fn findings(&mut self, name: &str, verified: &Verified) -> Vec<Finding> {
        let mut findings: Vec<Finding> = verified.contradictions.iter().cloned().map(Finding::Contradiction).collect();
        if let Predicate::Opaque { predicate_type, .. } = &verified.statement.predicate {
            findings.push(Finding::UnknownKind(predicate_type.clone()));
        }
        let digest = verified.payload_sha256;
        if let Some(first) = self.payloads.get(&digest) {
            findings.push(Finding::Duplicate(first.clone()));
        } else {
            self.payloads.insert(digest, name.to_owned());
            if let Some((run, tenant, _)) = verified.statement.run()
                && self.runs.insert((tenant.clone(), run), digest).is_some()
            {
                findings.push(Finding::Conflict(run));
            }
        }
        findings.extend(verified.statement.storage_key().and_then(|key| misnamed(name, &key)));
        findings
    }
}

/// Only names that look like ours can be wrong: a person may call a copy what they like.
fn misnamed(name: &str, key: &EvidenceKey) -> Option<Finding> {
    let expected = key.to_string();
    let file = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let named: EvidenceKey = format!("{}{}", crate::key::prefix(&key.tenant), file(name)).parse().ok()?;
    (named.to_string() != expected).then_some(Finding::Misnamed(expected))
}

fn summary(verified: &Verified) -> Summary {
    let statement = &verified.statement;
    let outcome = match &statement.predicate {
        Predicate::Drill(drill) => Some(drill.outcome),
        Predicate::Act(act) => Some(act.outcome),
        Predicate::Backup(_) | Predicate::Dump(_) | Predicate::Opaque { .. } => None,
    };
    Summary {
        kind: statement.kind().to_owned(),
        run: statement.run().map(|(run, _, _)| run),
        instance: statement.run().and_then(|(_, _, instance)| instance.cloned()),
        started: statement.storage_key().map(|key| key.time),
        outcome,
        key_id: verified.key.id(),
        payload_sha256: verified.payload_sha256,
    }
}
