//! Are these statements to be believed? From files and public keys alone; no repository, no configuration, no network.

use std::path::PathBuf;

use clap::Args;
use lifeboat_evidence::{
    SetVerifier,
    verify::{Finding, SetEntry, SetSummary},
};
use lifeboat_model::{check::Outcome, signature::PublicKey};
use serde::Serialize;

use super::{read_envelope, trusted};
use crate::{
    cli::{Session, place::Place},
    exit::Exit,
    failure::{Failure, Result},
    output::{Answer, Page, Tone, count, moment},
    wire,
};

/// Verify signatures and contradictions of statements
///
/// With files and --key it works offline, without configuration: all that an auditor needs is this binary, the files and
/// the public key. Without files it verifies everything in the repository.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat evidence verify *.dsse.json --key lifeboat-ed25519:…
  lifeboat evidence verify                       everything in the repository")]
pub struct Verify {
    /// Files of evidence (.dsse.json) [default: all in the repository]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A public key to believe (repeatable) [default: keys.trusted_keys]
    #[arg(long, value_name = "PUBLIC-KEY")]
    key: Vec<PublicKey>,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Checked {
    believed: bool,
    statements: Vec<Row>,
    summary: SetSummary,
}

#[derive(Serialize)]
struct Row {
    name: String,
    verified: bool,
    why_not: Option<String>,
    kind: Option<String>,
    instance: Option<String>,
    run: Option<String>,
    outcome: Option<Outcome>,
    started: Option<jiff::Timestamp>,
    key_id: Option<String>,
    payload_sha256: Option<String>,
    findings: Vec<Finding>,
}

impl From<SetEntry> for Row {
    fn from(entry: SetEntry) -> Self {
        let (summary, why_not) = match entry.result {
            Ok(summary) => (Some(summary), None),
            Err(refused) => (None, Some(refused.to_string())),
        };
        Row {
            name: entry.name,
            verified: summary.is_some(),
            why_not,
            kind: summary.as_ref().map(|summary| summary.kind.clone()),
            instance: summary.as_ref().and_then(|summary| summary.instance.as_ref().map(ToString::to_string)),
            run: summary.as_ref().and_then(|summary| summary.run.as_ref().map(ToString::to_string)),
            outcome: summary.as_ref().and_then(|summary| summary.outcome),
            started: summary.as_ref().and_then(|summary| summary.started),
            key_id: summary.as_ref().map(|summary| summary.key_id.clone()),
            payload_sha256: summary.as_ref().map(|summary| summary.payload_sha256.to_string()),
            findings: entry.findings,
        }
    }
}

/// Whether a finding speaks against the statement. A copy does not, nor does a kind that a later version writes.
fn is_grave(finding: &Finding) -> bool {
    !matches!(finding, Finding::Duplicate(_) | Finding::UnknownKind(_))
}

impl Answer for Checked {
    const SCHEMA: &'static str = "lifeboat.evidence-verify/1";

    fn text(&self, page: &mut Page) {
        for row in &self.statements {
            row.text(page);
        }
        page.gap();
        let total = count(self.summary.files, "statement", "statements");
        page.line(format_args!("{total}: {} verified, {} refused", self.summary.verified, self.summary.refused));
        for gap in &self.summary.not_checked {
            page.line(format_args!("not checked: {gap}"));
        }
    }
}

impl Row {
    fn text(&self, page: &mut Page) {
        if let Some(why) = &self.why_not {
            return page.line(format_args!("{} {}: {why}", Tone::Bad.paint("REFUSED "), self.name));
        }
        let kind = self.kind.as_deref().unwrap_or("statement");
        let of = self.instance.as_ref().map(|instance| format!(" of {instance}")).unwrap_or_default();
        let at = self.started.map(|time| format!(", {}", moment(time))).unwrap_or_default();
        let outcome = self.outcome.map(|outcome| format!(", says: {}", outcome.word())).unwrap_or_default();
        let key = self.key_id.as_deref().unwrap_or_default();
        page.line(format_args!(
            "{} {}: {kind}{of}{at}{outcome}, signed by key {key}",
            Tone::Good.paint("verified"),
            self.name
        ));
        for finding in &self.findings {
            let tone = if is_grave(finding) { Tone::Bad } else { Tone::Doubtful };
            page.line(format_args!("         {} {finding}", tone.paint("but:")));
        }
    }
}

impl Verify {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let mut verifier = SetVerifier::new(&trusted(session, &self.key)?);
        let statements: Vec<Row> = match self.files.as_slice() {
            [] => stored(session, &self.place, &mut verifier).await?,
            files => {
                let entry =
                    |file: &PathBuf| Ok(verifier.add(&file.display().to_string(), &read_envelope(file)?).into());
                files.iter().map(entry).collect::<Result<_>>()?
            }
        };
        if statements.is_empty() {
            return Err(Failure::new(Exit::NotFound, "there is no evidence to verify").next("lifeboat backup --help"));
        }
        let believed = statements.iter().all(|row| row.verified && !row.findings.iter().any(is_grave));
        session.output.show(&Checked { believed, statements, summary: verifier.finish() })?;
        Ok(if believed { Exit::Ok } else { Exit::CheckFailed })
    }
}

async fn stored(session: &Session, place: &Place, verifier: &mut SetVerifier) -> Result<Vec<Row>> {
    let loaded = place.load(session)?;
    let (repository, config) = wire::open_for_reading(&loaded).await?;
    let mut rows = Vec::new();
    for evidence in repository.list_evidence(&config.tenant, "").await? {
        let envelope = repository.get_evidence(&evidence).await?;
        rows.push(verifier.add(evidence.key.as_str(), &envelope).into());
    }
    Ok(rows)
}
