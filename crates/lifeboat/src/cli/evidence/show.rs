//! One statement, from a file or from the repository.

use std::path::Path;

use clap::Args;
use jiff::Timestamp;
use lifeboat_engine::sign_off;
use lifeboat_evidence::{EvidenceKey, Verified, act::SignOff, render::render, verify};
use lifeboat_model::signature::PublicKey;
use serde::Serialize;

use super::{read_envelope, trusted};
use crate::{
    cli::{Session, place::Place},
    exit::Exit,
    failure::{Failure, Result},
    output::{Answer, Page, moment, write_stdout},
    wire,
};

/// Show a statement after verifying it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat evidence show 06060606
  lifeboat evidence show ./20261121T210000Z-clinic-drill-0606060606060606.dsse.json --key lifeboat-ed25519:…
  lifeboat evidence show 06060606 --envelope > for-the-auditor.dsse.json")]
pub struct Show {
    /// A file, or the first digits of a run's id in the repository
    #[arg(value_name = "FILE|RUN")]
    what: String,
    /// A public key to believe (repeatable) [default: keys.trusted_keys]
    #[arg(long, value_name = "PUBLIC-KEY")]
    key: Vec<PublicKey>,
    /// Print the signed envelope as it is stored, for others to verify
    #[arg(long, conflicts_with = "json")]
    envelope: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    signed_by: String,
    payload_sha256: String,
    contradictions: Vec<String>,
    statement: serde_json::Value,
    /// What people have said of it, oldest first; of a file nobody knows.
    sign_offs: Vec<Said>,
    #[serde(skip)]
    text: String,
}

#[derive(Serialize)]
struct Said {
    time: Timestamp,
    who: String,
    role: String,
    decision: &'static str,
    comment: String,
    exception: Option<String>,
    corrective_action: Option<String>,
    due: Option<String>,
}

impl Said {
    fn new((time, said): (Timestamp, SignOff)) -> Self {
        Said {
            time,
            who: said.who,
            role: said.role,
            decision: said.decision.word(),
            comment: said.comment,
            exception: said.exception,
            corrective_action: said.corrective_action,
            due: said.due.map(|due| due.to_string()),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{} by {} as {}: {}", self.decision, self.who, self.role, self.comment);
        if let Some(exception) = &self.exception {
            text += &format!("; exception: {exception}");
        }
        if let Some(action) = &self.corrective_action {
            text += &format!("; will be done: {action}");
            text += &self.due.as_ref().map(|due| format!(" until {due}")).unwrap_or_default();
        }
        // Signed by others, and no part of what steers a terminal.
        text.replace(|c: char| c.is_control(), " ")
    }
}

impl Answer for Shown {
    const SCHEMA: &'static str = "lifeboat.evidence-show/1";

    fn text(&self, page: &mut Page) {
        page.line(self.text.trim_end());
        for said in &self.sign_offs {
            page.line(format_args!("{:<17}{}, {}", "sign-off", moment(said.time), said.text()));
        }
    }
}

impl Show {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let (name, envelope, sign_offs) = match Path::new(&self.what) {
            path if path.is_file() => (self.what.clone(), read_envelope(path)?, Vec::new()),
            _ => self.stored(session).await?,
        };
        let verified = verify(&envelope, &trusted(session, &self.key)?).map_err(|refused| {
            Failure::new(Exit::CheckFailed, format!("{name} is not to be believed: {refused}"))
                .hint("get it again from where it is kept, and make sure that you trust the right public key")
        })?;
        if self.envelope {
            write_stdout(&String::from_utf8_lossy(&envelope))?; // verified, so it is JSON and thus UTF-8
            return Ok(Exit::Ok);
        }
        let sound = verified.contradictions.is_empty();
        session.output.show(&Shown::new(name, &verified, sign_offs)?)?;
        Ok(if sound { Exit::Ok } else { Exit::CheckFailed })
    }

    async fn stored(&self, session: &Session) -> Result<(String, Vec<u8>, Vec<Said>)> {
        let loaded = self.place.load(session)?;
        let (repository, config) = wire::open_for_reading(&loaded).await?;
        let mut stored = repository.list_evidence(&config.tenant, "").await?;
        let run = |key: &str| key.parse::<EvidenceKey>().map(|parts| parts.run.to_string()).unwrap_or_default();
        let is_meant = |name: &str| name.ends_with(&self.what) || run(name).starts_with(&self.what);
        stored.retain(|evidence| is_meant(evidence.key.as_str()));
        match stored.as_slice() {
            [found] => {
                let (name, envelope) = (found.key.to_string(), repository.get_evidence(found).await?.to_vec());
                let run = name.parse::<EvidenceKey>().map(|parts| parts.run).ok();
                let context = wire::context(session, loaded.clone(), repository, "lifeboat evidence show");
                let said = match run {
                    Some(run) => sign_off::of(&context, run).await?,
                    None => Vec::new(),
                };
                Ok((name, envelope, said.into_iter().map(Said::new).collect()))
            }
            [] => Err(Failure::new(Exit::NotFound, format!("no file and no run \"{}\"", self.what))
                .next("lifeboat evidence list")),
            many => Err(Failure::new(Exit::Usage, format!("\"{}\" fits {} statements", self.what, many.len()))
                .hint("give more digits of the run's id")
                .next("lifeboat evidence list")),
        }
    }
}

impl Shown {
    fn new(name: String, verified: &Verified, sign_offs: Vec<Said>) -> Result<Self> {
        Ok(Shown {
            name,
            signed_by: verified.key.to_string(),
            payload_sha256: verified.payload_sha256.to_string(),
            contradictions: verified.contradictions.clone(),
            statement: serde_json::from_slice(&verified.payload)?,
            sign_offs,
            text: render(verified),
        })
    }
}
