//! Journals of runs and incidents, held against what was signed of them. Each line names the SHA-256 of the line before it, so the
//! digest of the last stands for all.

use std::{io, path::Path};

use lifeboat_evidence::{
    Act, Predicate,
    audit::{Audit, JournalFound},
    verify,
};
use lifeboat_model::{id::Sha256Digest, signature::PublicKey};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::directory::{Error, read};

/// Where an export has them: `journals/runs/<id>/<number>.json`.
pub const FOLDER: &str = "journals";
/// Longer than any line of ours.
const LONGEST: u64 = 4 << 20;

/// What a statement says of a journal.
pub(crate) struct Said {
    /// The statement.
    of: String,
    /// `runs/<id>` or `incidents/<id>`.
    journal: String,
    lines: u64,
    head: Sha256Digest,
}

/// Of a statement that is to be believed; none: it is about no journal.
pub(crate) fn said(name: &str, envelope: &[u8], trusted: &[PublicKey]) -> Option<Said> {
    let Predicate::Act(act) = verify::verify(envelope, trusted).ok()?.statement.predicate else { return None };
    let (journal, lines, head) = match act.act {
        Act::Runbook(run) => (format!("runs/{}", run.run), run.lines, run.head),
        Act::Incident(incident) => (format!("incidents/{}", incident.incident), incident.lines, incident.head),
        _ => return None,
    };
    Some(Said { of: name.to_owned(), journal, lines, head })
}

/// Holds statements against the lines in a directory.
pub(crate) fn compare(directory: &Path, said: &[Said], audit: &mut Audit) -> Result<(), Error> {
    let folder = directory.join(FOLDER);
    if !said.is_empty() && !folder.is_dir() {
        audit.journals_not_executed("there is no folder \"journals\": export again with a newer release");
        return Ok(());
    }
    for Said { of, journal, lines, head } in said {
        let found = found(&folder.join(journal), *lines, head)?;
        audit.journal(of, journal, *lines, found);
    }
    Ok(())
}

fn found(folder: &Path, lines: u64, head: &Sha256Digest) -> Result<JournalFound, Error> {
    let mut before = String::new();
    for number in 1..=lines {
        let text = match read(&folder.join(format!("{number:08}.json")), LONGEST) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                return Ok(JournalFound::Short(number - 1));
            }
            text => text?,
        };
        let line: Value = serde_json::from_slice(&text).unwrap_or_default();
        if line["before"] != *before || line["number"] != number {
            return Ok(JournalFound::Other);
        }
        before = Sha256Digest(Sha256::digest(&text).into()).to_string();
    }
    Ok(if before == head.to_string() { JournalFound::Same } else { JournalFound::Other })
}
