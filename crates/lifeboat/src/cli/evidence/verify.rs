//! Are these statements to be believed? Files and directories from public keys alone, with no repository, no configuration, no
//! network; a repository with what its instances are today besides.

use std::path::{Path, PathBuf};

use clap::Args;
use lifeboat_evidence::{
    audit::{Audit, Auditor, Demand, Finding as AuditFinding, Trust, Weight, Word},
    verify::{Finding, SetEntry, SetSummary, is_grave},
};
use lifeboat_model::{check::Outcome, config::Config, signature::PublicKey};
use lifeboat_verify::timestamp::Authority;
use serde::Serialize;

use super::{audited, journals, read_envelope};
use crate::{
    cli::{Session, place::Place},
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    output::{Answer, Page, Tone, count, moment},
    wire,
};

/// Verify signatures, statements and the ledger
///
/// With files or an exported directory and --key it works offline, without configuration: all that an auditor needs is this
/// binary (or the smaller lifeboat-verify), the files and the public key. Without files it verifies everything in the
/// repository, and whether the newest drill that passed is still about what is there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat evidence verify                       everything in the repository
  lifeboat evidence verify --against checkpoint-of-march
  lifeboat evidence verify exported/ --key lifeboat-ed25519:…
  lifeboat evidence verify *.dsse.json --key lifeboat-ed25519:…   signatures alone")]
pub struct Verify {
    /// Files of evidence (.dsse.json), or one exported directory [default: all in the repository]
    #[arg(value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
    /// A public key to believe (repeatable) [default: keys.trusted_keys]
    #[arg(long, value_name = "PUBLIC-KEY")]
    key: Vec<PublicKey>,
    /// A checkpoint that was kept elsewhere, which the ledger must continue (repeatable)
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
    /// Certificates (PEM) of the authority that has stamped checkpoints [default: evidence.timestamps.ca_file]
    #[arg(long, value_name = "FILE")]
    tsa_ca: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Checked {
    believed: bool,
    statements: Vec<Row>,
    summary: SetSummary,
    audit: Audit,
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

impl Answer for Checked {
    const SCHEMA: &'static str = "lifeboat.evidence-verify/1";

    fn text(&self, page: &mut Page) {
        for row in &self.statements {
            row.text(page);
        }
        page.gap();
        let total = count(self.summary.files, "statement", "statements");
        page.line(format_args!("{total}: {} verified, {} refused", self.summary.verified, self.summary.refused));
        ledger(&self.audit, &self.statements, page);
        for left in &self.audit.not_executed {
            page.line(format_args!("not executed: {}: {}", left.what, left.why));
        }
    }
}

/// What the audit says of the ledger.
fn ledger(audit: &Audit, statements: &[Row], page: &mut Page) {
    if let (Some(origin), Some(root)) = (&audit.origin, &audit.root) {
        let (entries, checkpoints) = (count(audit.entries, "entry", "entries"), audit.checkpoints);
        page.line(format_args!(
            "ledger {origin}: {entries}, {checkpoints} checkpoints, {} of them stamped by an authority, {} statements proven",
            audit.time_stamps, audit.proven
        ));
        page.line(format_args!("newest checkpoint: size {}, root {root}", audit.size));
    }
    let told = |finding: &&AuditFinding| {
        let refused = |row: &Row| row.why_not.is_some() && row.name.ends_with(&finding.of);
        let of_signature = matches!(finding.word, Word::Unsigned | Word::Edited | Word::ReSigned);
        finding.word == Word::Contradiction || of_signature && statements.iter().any(refused)
    };
    for AuditFinding { word, weight, of, detail } in audit.findings.listed().iter().filter(|one| !told(one)) {
        let tone = match weight {
            Weight::Wrong => Tone::Bad,
            Weight::Doubt => Tone::Doubtful,
            Weight::Notice => Tone::Plain,
        };
        page.line(format_args!("{} {of}: {detail}", tone.paint(&format!("{}:", word.word()))));
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
        let (seen, audit) = match self.files.as_slice() {
            [] => self.repository(session).await?,
            [directory] if directory.is_dir() => self.directory(session, directory).await?,
            files => self.single(session, files)?,
        };
        let statements: Vec<Row> = seen.into_iter().map(Row::from).collect();
        if statements.is_empty() && audit.entries == 0 {
            return Err(Failure::new(Exit::NotFound, "there is no evidence to verify").next("lifeboat backup --help"));
        }
        let mut summary = SetSummary { files: statements.len() as u64, ..SetSummary::default() };
        for row in &statements {
            summary.verified += u64::from(row.verified);
            summary.refused += u64::from(!row.verified);
            summary.with_findings += u64::from(row.verified && !row.findings.is_empty());
        }
        summary.not_checked = audit.not_executed.iter().map(|left| format!("{}: {}", left.what, left.why)).collect();
        let exit = match (audit.believed(), audit.convincing()) {
            (false, _) => Exit::CheckFailed,
            (true, false) => Exit::Incomplete,
            (true, true) => Exit::Ok,
        };
        session.output.show(&Checked { believed: audit.believed(), statements, summary, audit })?;
        Ok(exit)
    }

    async fn repository(&self, session: &Session) -> Result<(Vec<SetEntry>, Audit)> {
        let mut loaded = self.place.load(session)?;
        if !self.key.is_empty() {
            loaded.config.keys.trusted_keys = self.key.clone();
        }
        let authority = self.authority(Some(&loaded.config));
        let (repository, _) = wire::open_for_reading(&loaded).await?;
        let context = wire::context(session, loaded, repository, "evidence verify");
        let others = journals::others(session, &context.config);
        audited::audit(&context, &others, &self.against, authority).await
    }

    async fn directory(&self, session: &Session, directory: &Path) -> Result<(Vec<SetEntry>, Audit)> {
        let (trust, config) = self.trust(session)?;
        let authority = self.authority(config.as_ref());
        let (directory, against) = (directory.to_owned(), self.against.clone());
        let audited = tokio::task::spawn_blocking(move || {
            let mut seen = Vec::new();
            let each = &mut |entry| seen.push(entry);
            let audited = lifeboat_verify::audit(&directory, trust, &against, authority.as_ref(), each);
            audited.map(|audit| (seen, audit))
        });
        let audited = audited.await.context("the verification ended by a defect of ours")?;
        let failed = |error: lifeboat_verify::Error| {
            Failure::from(error.source).context(format!("cannot read {}", error.path.display()))
        };
        audited.map_err(failed)
    }

    fn single(&self, session: &Session, files: &[PathBuf]) -> Result<(Vec<SetEntry>, Audit)> {
        let mut auditor = Auditor::new(self.trust(session)?.0, Demand::SignaturesOnly);
        let mut seen = Vec::new();
        for file in files {
            seen.push(auditor.statement(&file.display().to_string(), &read_envelope(file)?, None));
        }
        Ok((seen, auditor.finish()))
    }

    /// The keys that were given, else those of the configuration with what it revokes.
    fn trust(&self, session: &Session) -> Result<(Trust, Option<Config>)> {
        if !self.key.is_empty() {
            return Ok((Trust { keys: self.key.clone(), ..Trust::default() }, None));
        }
        let config =
            wire::load_config(session).hint("name the public key with --key, then no configuration is needed")?.config;
        let revoked = config.keys.revoked.iter().map(|one| (one.key, one.at)).collect();
        Ok((Trust { keys: config.keys.trusted_keys.clone(), revoked, origin: None }, Some(config)))
    }

    /// Who vouches for time stamps: the file that was given, else that of the configuration.
    fn authority(&self, config: Option<&Config>) -> Option<Authority> {
        let configured = || config?.evidence.timestamps.as_ref()?.ca_file.clone();
        self.tsa_ca.clone().or_else(configured).map(|ca_file| Authority { ca_file })
    }
}
