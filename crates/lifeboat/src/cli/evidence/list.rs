//! The newest statements of the repository, each read and verified; the newest last.

use clap::Args;
use jiff::Timestamp;
use lifeboat_evidence::{Act, EvidenceKey, Predicate, verify};
use lifeboat_model::{check::Outcome, id::Instance, signature::PublicKey};
use serde::Serialize;

use crate::{
    cli::{Session, place::Place},
    exit::Exit,
    failure::Result,
    output::{Answer, Page, Rows, Tone, ago, count, moment, seconds},
    wire,
};

/// List the newest statements (newest last), each read and its signature verified
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat evidence list
  lifeboat evidence list clinic --kind drill --limit 5")]
pub struct List {
    /// Only this instance; `repository`: what is about no instance
    instance: Option<Instance>,
    /// Only this kind: backup, dump, drill, prune, hold, release, retain, check, rehearsal, revocation, rotation, copy,
    /// scrub, verify, signoff, access, policy, runbook or incident
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// How many; 0: all
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Listed {
    repository: String,
    statements: Vec<Row>,
    more: u64,
    #[serde(skip)]
    now: Timestamp,
}

#[derive(Serialize)]
struct Row {
    key: String,
    time: Timestamp,
    instance: String,
    kind: String,
    run: String,
    verified: bool,
    why_not: Option<String>,
    outcome: Option<Outcome>,
    /// What was damaged on purpose: a negative control, which is right when it fails.
    sabotage: Option<String>,
    /// The negative control's own answer: passed where exactly the right checks failed.
    control: Option<Outcome>,
    /// Of a sign-off: the run that it is about, what was decided, by whom and as what.
    sign_off: Option<SignedOff>,
    rpo_seconds: Option<f64>,
    rto_seconds: Option<f64>,
}

#[derive(Serialize)]
struct SignedOff {
    of: String,
    decision: &'static str,
    who: String,
    role: String,
}

impl SignedOff {
    fn text(&self) -> (Tone, String) {
        let tone = if self.decision == "rejected" { Tone::Bad } else { Tone::Good };
        (tone, format!("{} run {} by {} as {}", self.decision, self.of, self.who, self.role))
    }
}

impl Row {
    fn text(&self) -> (Tone, String) {
        if let Some(why) = &self.why_not {
            return (Tone::Bad, format!("NOT VERIFIED: {why}"));
        }
        let measured = |name: &str, value: Option<f64>| value.map(|value| format!(", {name} {}", seconds(value)));
        let measures = measured("RPO", self.rpo_seconds).unwrap_or_default()
            + &measured("RTO", self.rto_seconds).unwrap_or_default();
        if let Some(outcome) = self.outcome.filter(|_| self.sabotage.is_some()) {
            // A statement of before there were controls by name has the drill's own answer alone.
            let (tone, word) = match self.control {
                Some(Outcome::Passed) => (Tone::Good, "passed"),
                Some(Outcome::Failed) => (Tone::Bad, "FAILED"),
                Some(Outcome::Incomplete) => (Tone::Doubtful, "not executed"),
                None if outcome == Outcome::Failed => (Tone::Good, "the drill failed"),
                None => (Tone::Bad, "the drill did not fail"),
            };
            let of = self.sabotage.as_deref().unwrap_or_default();
            return (tone, format!("negative control {of}: {word}"));
        }
        if let Some(signed) = &self.sign_off {
            return signed.text();
        }
        match self.outcome {
            Some(Outcome::Passed) => (Tone::Good, format!("passed{measures}")),
            Some(Outcome::Failed) => (Tone::Bad, format!("FAILED{measures}")),
            Some(Outcome::Incomplete) => (Tone::Doubtful, format!("incomplete{measures}")),
            None => (Tone::Plain, "verified".to_owned()),
        }
    }
}

impl Answer for Listed {
    const SCHEMA: &'static str = "lifeboat.evidence-list/1";

    fn text(&self, page: &mut Page) {
        if self.statements.is_empty() {
            return page.line(format_args!("No evidence in {}.", self.repository));
        }
        let mut rows = Rows::new(&["time", "age", "instance", "kind", "run", "says"]);
        for row in &self.statements {
            let (time, age) = (moment(row.time), ago(self.now, row.time));
            let (tone, says) = row.text();
            let plain = [&time, &age, &row.instance, &row.kind, &row.run];
            rows.row(plain.into_iter().map(|text| (Tone::Plain, text.as_str())).chain([(tone, says.as_str())]));
        }
        page.table(rows);
        if self.more > 0 {
            page.line(format_args!("{} not shown; --limit 0 shows all", count(self.more, "older one", "older ones")));
        }
    }
}

impl List {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = self.place.load(session)?;
        let (repository, config) = wire::open_for_reading(&loaded).await?;
        let stored = repository.list_evidence(&config.tenant, "").await?;
        let wanted: Vec<_> = stored
            .into_iter()
            .filter_map(|evidence| evidence.key.as_str().parse::<EvidenceKey>().ok().map(|parts| (evidence, parts)))
            .filter(|(_, parts)| self.instance.as_ref().is_none_or(|instance| *instance == parts.instance))
            .filter(|(_, parts)| self.kind.as_ref().is_none_or(|kind| *kind == parts.kind))
            .collect();
        let skip = if self.limit == 0 { 0 } else { wanted.len().saturating_sub(self.limit) };
        let mut statements = Vec::new();
        for (evidence, parts) in &wanted[skip..] {
            let envelope = repository.get_evidence(evidence).await?;
            statements.push(row(evidence.key.to_string(), parts, &envelope, &config.keys.trusted_keys));
        }
        let exit = if statements.iter().all(|row| row.verified) { Exit::Ok } else { Exit::CheckFailed };
        let repository = repository.store().describe();
        session.output.show(&Listed { repository, statements, more: skip as u64, now: session.now() })?;
        Ok(exit)
    }
}

fn row(key: String, parts: &EvidenceKey, envelope: &[u8], trusted: &[PublicKey]) -> Row {
    let mut row = Row {
        time: parts.time,
        instance: parts.instance.to_string(),
        kind: parts.kind.clone(),
        run: parts.run.to_string(),
        verified: false,
        why_not: None,
        outcome: None,
        sabotage: None,
        control: None,
        sign_off: None,
        rpo_seconds: None,
        rto_seconds: None,
        key,
    };
    match verify(envelope, trusted) {
        Ok(verified) if verified.statement.storage_key().is_some_and(|own| own != *parts) => {
            row.why_not = Some("it is the statement of another run".to_owned());
        }
        Ok(verified) => {
            row.verified = true;
            match verified.statement.predicate {
                Predicate::Drill(drill) => {
                    row.outcome = Some(drill.outcome);
                    (row.rpo_seconds, row.rto_seconds) = (drill.rpo_seconds, drill.rto_seconds);
                    row.sabotage = drill.sabotage;
                    row.control = drill.control.map(|control| control.outcome);
                }
                Predicate::Act(act) => {
                    row.outcome = Some(act.outcome);
                    if let Act::SignOff(signed) = act.act {
                        let decision = signed.decision.word();
                        let of = signed.run.to_string();
                        row.sign_off = Some(SignedOff { of, decision, who: signed.who, role: signed.role });
                    }
                }
                Predicate::Backup(_) | Predicate::Dump(_) | Predicate::Opaque { .. } => {}
            }
        }
        Err(refused) => row.why_not = Some(refused.to_string()),
    }
    row
}
