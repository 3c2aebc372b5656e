//! Where the ledger stands, and a checkpoint to keep elsewhere.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;
use jiff::Timestamp;
use lifeboat_engine::ledger::{self, Latest};
use lifeboat_evidence::ledger::note;
use serde::Serialize;

use crate::{
    cli::{Session, place::Place},
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    output::{Answer, Page, Tone, ago, count, moment},
    wire,
};

/// Show where the ledger of all statements stands, and save a checkpoint to keep elsewhere
///
/// Whoever keeps a checkpoint in another place can show later that nothing before it was changed, removed or slipped in.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat evidence ledger
  lifeboat evidence ledger --checkpoint /media/safe/2026-11.checkpoint
  lifeboat evidence verify --against /media/safe/2026-11.checkpoint     later")]
pub struct Ledger {
    /// Save the newest checkpoint in a new file
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Shown {
    repository: String,
    /// Entries that are there; 0: there is no ledger.
    entries: u64,
    /// None: there is none that is to be believed.
    checkpoint: Option<Newest>,
    saved: Option<PathBuf>,
    #[serde(skip)]
    now: Timestamp,
}

#[derive(Serialize)]
struct Newest {
    origin: String,
    size: u64,
    root: String,
    signed_by: String,
    /// The signer's key as other tools for signed notes take it.
    verifier_key: String,
    received: Timestamp,
    note: String,
}

impl Answer for Shown {
    const SCHEMA: &'static str = "lifeboat.evidence-ledger/1";

    fn text(&self, page: &mut Page) {
        page.field("repository", &self.repository);
        if self.entries == 0 {
            return page.line("There is no ledger yet: the next statement begins it, and enters all that are there.");
        }
        page.field("entries", self.entries);
        let Some(newest) = &self.checkpoint else {
            return page.line(Tone::Bad.paint("NO CHECKPOINT that is to be believed: a trusted key signed none"));
        };
        let when = format!("{} ({})", moment(newest.received), ago(self.now, newest.received));
        page.field("checkpoint", format_args!("of {}, {when}", count(newest.size, "entry", "entries")));
        page.field("root", &newest.root);
        page.field("signed by", &newest.signed_by);
        if newest.size < self.entries {
            let uncovered = count(self.entries - newest.size, "entry", "entries");
            let text = format!("{uncovered} without a checkpoint: the next statement covers them");
            page.line(Tone::Doubtful.paint(&text));
        }
        match &self.saved {
            Some(file) => {
                page.line(format_args!("saved in {}: keep it where nobody who can write here can", file.display()))
            }
            None => {
                page.gap();
                page.line(newest.note.trim_end());
            }
        }
    }
}

impl Ledger {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = self.place.load(session)?;
        let (repository, config) = wire::open_for_reading(&loaded).await?;
        let trusted = config.keys.trusted_keys.clone();
        let revocations = repository.revocations().to_vec();
        let believes = {
            let trusted = trusted.clone();
            move |key: &_, received| {
                let revoked = revocations.iter().any(|revoked| revoked.key == *key && received > revoked.at);
                trusted.contains(key) && !revoked
            }
        };
        let latest = ledger::latest(&repository, &config.tenant, &trusted, believes).await?;
        let (repository, now) = (repository.store().describe(), session.now());
        let mut shown = Shown { repository, entries: 0, checkpoint: None, saved: None, now };
        if let Some(latest) = latest {
            shown.entries = latest.entries;
            shown.checkpoint = newest(latest);
        }
        if let Some(file) = &self.checkpoint {
            let Some(newest) = &shown.checkpoint else {
                return Err(Failure::new(Exit::NotFound, "the ledger has no checkpoint that could be saved")
                    .next("lifeboat evidence verify"));
            };
            save(file, &newest.note)?;
            shown.saved = Some(file.clone());
        }
        let sound = shown.entries == 0 || shown.checkpoint.is_some();
        session.output.show(&shown)?;
        Ok(if sound { Exit::Ok } else { Exit::CheckFailed })
    }
}

fn newest(latest: Latest) -> Option<Newest> {
    let (signed, note, received) = (latest.checkpoint?, latest.note?, latest.received?);
    Some(Newest {
        size: signed.checkpoint.size,
        root: signed.checkpoint.root.to_string(),
        signed_by: signed.key.to_string(),
        verifier_key: note::verifier_key(&signed.checkpoint.origin, &signed.key),
        origin: signed.checkpoint.origin,
        received,
        note: String::from_utf8_lossy(&note).into_owned(), // a note that was believed is UTF-8
    })
}

/// An older checkpoint is worth more than a newer one: nothing is written over.
fn save(file: &Path, note: &str) -> Result<()> {
    let written = OpenOptions::new().write(true).create_new(true).open(file).and_then(|mut file| {
        file.write_all(note.as_bytes())?;
        file.sync_all()
    });
    match written {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(Failure::new(Exit::Usage, format!("{} is there already", file.display()))
                .hint("keep the older checkpoint, and save this one under another name"))
        }
        written => Ok(written.context(format!("cannot write {}", file.display()))?),
    }
}
