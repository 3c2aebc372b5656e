//! `lifeboat key revoke`: a signing key is not believed any more.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use lifeboat_engine::{
    keys::{read_signing_key, writer_keys},
    record,
};
use lifeboat_evidence::{Act, act::KeyRevocation};
use lifeboat_model::{check::Outcome, signature::PublicKey};
use serde::Serialize;

use super::edit::{Change, Edited};
use crate::{
    cli::Session,
    exit::Exit,
    failure::{Failure, Result},
    output::{Answer, Page, moment},
    wire,
};

/// Stop believing a signing key: what the store receives from now on with its signature does not count
///
/// Writes a signed statement into the repository, for all who read it. A statement counts from its receipt on, never
/// earlier, for a thief could write one too. What is to be disbelieved from an earlier moment on is told to the
/// configuration: --since TIME with --write, on every host that reads.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat key revoke --key lifeboat-ed25519:… --reason \"host was broken into\"
  lifeboat key revoke --key lifeboat-ed25519:… --reason \"host was broken into\" --since 2026-11-20T22:00:00Z --write
  lifeboat key revoke --key lifeboat-ed25519:… --reason lost --signing-key /media/key/officer.key")]
pub struct Revoke {
    /// The public key
    #[arg(long, value_name = "PUBLIC")]
    key: PublicKey,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// From when on it is not believed [default: now]
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Sign the statement with this trusted key [default: keys.signing_key_file]
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
    /// Write it into lifeboat.toml as well (its comments stay)
    #[arg(long)]
    write: bool,
}

#[derive(Serialize)]
struct Revoked {
    key: String,
    since: Timestamp,
    reason: String,
    signed_by: String,
    evidence: String,
    config: PathBuf,
    changes: Vec<Change>,
    /// Whether the configuration was changed.
    written: bool,
    /// Whether this host signs with the revoked key.
    own: bool,
}

impl Answer for Revoked {
    const SCHEMA: &'static str = "lifeboat.key-revocation/1";

    fn text(&self, page: &mut Page) {
        page.field("revoked", &self.key);
        page.field("since", moment(self.since));
        page.field("signed by", &self.signed_by);
        page.field("evidence", &self.evidence);
        page.gap();
        let done = if self.written {
            "Written"
        } else {
            "The statement counts from now on. To count it from that moment on, add"
        };
        if self.written || !self.changes.is_empty() {
            page.line(format_args!("{done} to {}:", self.config.display()));
            self.changes.iter().for_each(|change| page.line(format_args!("  {}", change.words())));
        }
        page.line("What the store received before stays valid: keep the key in keys.trusted_keys.");
        if self.own {
            page.line("This host signs with it: no backup counts until it has a new one: lifeboat key rotate signing");
        }
    }
}

impl Revoke {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let mut loaded = wire::load_config(session)?;
        if !loaded.config.keys.trusted_keys.contains(&self.key) {
            return Err(Failure::new(
                Exit::Usage,
                format!("{} is not in keys.trusted_keys: nobody believes it", self.key),
            )
            .safe("nothing was written")
            .next("lifeboat key check"));
        }
        if self.reason.trim().is_empty() {
            return Err(Failure::new(Exit::Usage, "a reason is needed: the statement is kept for years"));
        }
        let now = session.now();
        let since = self.since.unwrap_or(now);
        if since > now {
            return Err(Failure::new(Exit::Usage, format!("{} is yet to come", moment(since))));
        }
        let (repository, _) = wire::open_for_reading(&loaded).await?;
        let own = read_signing_key(&loaded.config.keys.signing_key_file).is_ok_and(|key| key.public() == self.key);
        if let Some(file) = self.signing_key {
            loaded.config.keys.signing_key_file = file;
        }
        let signer = writer_keys(&loaded.config.keys)?.signing.public();
        if let Some(before) = repository.revocations().iter().find(|one| one.key == signer) {
            return Err(Failure::new(Exit::Key, format!("{signer} was itself revoked as of {}", moment(before.at)))
                .hint("sign with another trusted key: --signing-key FILE"));
        }
        let changes = match (self.since, self.write) {
            (None, false) => Vec::new(),
            _ => vec![Change::Revoke { key: self.key.to_string(), at: since }],
        };
        let edited = Edited::new(&loaded.file, &changes)?;
        let config = loaded.file.clone();
        let context = wire::context(session, loaded, repository, "key revoke");
        let act = Act::KeyRevocation(KeyRevocation { key: self.key, at: since, reason: self.reason.clone() });
        let (evidence, _) = record::keep_act(&context, None, now, Outcome::Passed, act).await?;
        if self.write {
            edited.write()?;
        }
        session.output.show(&Revoked {
            key: self.key.to_string(),
            since,
            reason: self.reason,
            signed_by: signer.to_string(),
            evidence: evidence.to_string(),
            config,
            changes,
            written: self.write,
            own,
        })?;
        Ok(Exit::Ok)
    }
}
