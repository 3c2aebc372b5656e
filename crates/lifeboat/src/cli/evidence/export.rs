//! Evidence as plain files, for who checks it without us.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lifeboat_engine::journal::{Journals, Kind};
use lifeboat_evidence::{
    key,
    ledger::{entry, place},
};
use lifeboat_model::config::Config;
use lifeboat_repo::repository::{EvidenceRef, Repository};
use serde::Serialize;

use crate::{
    cli::{Session, place::Place},
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    output::{Answer, Page, count},
    wire,
};

/// A second opinion, which needs nothing of ours.
const PROGRAM: &str = include_str!("../../../../../docs/verify.py");
const README: &str = include_str!("export-readme.txt");
/// The newest of each kind, more than anybody has.
const MOST_JOURNALS: usize = 10_000;
/// Objects read at the same time.
const AT_ONCE: usize = 16;

/// Write all evidence as plain files, with what an auditor needs to check it
///
/// The directory gets the statements, the ledger with its checkpoints and time stamps, the journals of runs and incidents,
/// the public keys, and a README that says how to check it with lifeboat-verify or with standard tools. Nothing in it is
/// secret.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat evidence export --to evidence-2026
  lifeboat-verify evidence-2026 --key lifeboat-ed25519:…   by the auditor, offline")]
pub struct Export {
    /// A directory that is empty or not there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Exported {
    directory: PathBuf,
    statements: u64,
    ledger_objects: u64,
    time_stamps: u64,
    /// Of runs and incidents.
    journals: u64,
    keys: Vec<String>,
    /// Too long to be evidence; left where it is.
    left_out: Vec<String>,
}

impl Answer for Exported {
    const SCHEMA: &'static str = "lifeboat.evidence-export/1";

    fn text(&self, page: &mut Page) {
        let (statements, objects) =
            (count(self.statements, "statement", "statements"), count(self.ledger_objects, "object", "objects"));
        page.line(format_args!("{statements} and {objects} of the ledger are in {}", self.directory.display()));
        for left in &self.left_out {
            page.line(format_args!("left out: {left}: it is longer than any evidence"));
        }
        page.line("give the public keys to whoever checks it by another way than the directory:");
        self.keys.iter().for_each(|key| page.line(format_args!("  {key}")));
    }
}

impl Export {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        empty(&self.to)?;
        let loaded = self.place.load(session)?;
        let (repository, config) = wire::open_for_reading(&loaded).await?;
        let mut exported = Exported {
            directory: self.to.clone(),
            statements: 0,
            ledger_objects: 0,
            time_stamps: 0,
            journals: 0,
            keys: config.keys.trusted_keys.iter().map(ToString::to_string).collect(),
            left_out: Vec::new(),
        };
        exported.ledger(&repository, config).await?;
        // After the ledger: what was put meanwhile is a statement too many, and the next line of the answer, not a gap.
        exported.statements(&repository, config).await?;
        // After the statements: what was written meanwhile is more than they say, and not less.
        let context = wire::context(session, loaded.clone(), repository.clone(), "evidence export");
        exported.journals(&Journals::of_reader(&context)).await?;
        put(&self.to, "README.txt", readme(config).as_bytes())?;
        put(&self.to, "verify.py", PROGRAM.as_bytes())?;
        put(&self.to, "keys.txt", keys(config).as_bytes())?;
        session.output.show(&exported)?;
        Ok(Exit::Ok)
    }
}

impl Exported {
    async fn statements(&mut self, repository: &Repository, config: &Config) -> Result<()> {
        let root = key::prefix(&config.tenant);
        let listed = repository.list_evidence(&config.tenant, "").await?;
        let is_statement = |found: &EvidenceRef| found.key.as_str().ends_with(".dsse.json");
        let reading = listed.into_iter().filter(is_statement).map(|found| async move {
            match repository.get_evidence(&found).await {
                Err(lifeboat_repo::Error::Damaged { .. }) => Ok((found, None)),
                read => Ok::<_, Failure>((found, Some(read?))),
            }
        });
        let mut reading = stream::iter(reading).buffered(AT_ONCE);
        while let Some((found, bytes)) = reading.try_next().await? {
            let name = found.key.as_str().strip_prefix(&root).unwrap_or_default();
            match bytes {
                Some(bytes) if !name.contains('/') => {
                    put(&self.directory, name, &bytes)?;
                    self.statements += 1;
                }
                _ => self.left_out.push(found.key.to_string()),
            }
        }
        Ok(())
    }

    async fn journals(&mut self, journals: &Journals) -> Result<()> {
        // That it is there says that journals were exported, also where there is none.
        let folder = self.directory.join(lifeboat_verify::journals::FOLDER);
        fs::create_dir_all(&folder).context(format!("cannot make {}", folder.display()))?;
        for kind in Kind::ALL {
            for listed in journals.list(kind, MOST_JOURNALS).await? {
                for (number, line) in (1..).zip(journals.read(listed.name, 1).await?) {
                    put(&folder, &format!("{}/{number:08}.json", listed.name), &line)?;
                }
                self.journals += 1;
            }
        }
        Ok(())
    }

    async fn ledger(&mut self, repository: &Repository, config: &Config) -> Result<()> {
        let ledger = repository.ledger(&config.tenant);
        let mut listed = ledger.list(place::FOLDER, "");
        let mut found = Vec::new();
        while let Some(reference) = listed.try_next().await? {
            let name = ledger.name(&reference).to_owned();
            match place::parse(&name) {
                Some(place) => found.push((name, Some(place), reference)),
                None if lifeboat_verify::timestamp::size_of(&name).is_some() => found.push((name, None, reference)),
                None => {}
            }
        }
        let reading = found.into_iter().map(|(name, place, reference)| {
            let ledger = ledger.clone();
            async move {
                let most = match place {
                    Some(place::Place::Tile(..) | place::Place::Bundle(_)) => {
                        lifeboat_evidence::ledger::tile::MAX_BUNDLE
                    }
                    _ => entry::MAX_BYTES as u64,
                };
                let bytes = match reference.len > most {
                    true => None,
                    false => Some(ledger.get(&reference, most).await?),
                };
                Ok::<_, Failure>((name, place, bytes))
            }
        });
        let mut reading = stream::iter(reading).buffered(AT_ONCE);
        while let Some((name, place, bytes)) = reading.try_next().await? {
            self.ledger_object(name, place, bytes)?;
        }
        Ok(())
    }

    fn ledger_object(&mut self, name: String, place: Option<place::Place>, bytes: Option<Bytes>) -> Result<()> {
        match (place, bytes) {
            (None, Some(bytes)) => {
                put(&self.directory, &name, &bytes)?;
                self.time_stamps += 1;
                return Ok(());
            }
            (Some(_), Some(bytes)) => put(&self.directory, &name, &bytes)?,
            // Its length alone makes the leaf: any content of more than an entry's length says the same.
            (Some(place::Place::Entry(_)), None) => put(&self.directory, &name, &vec![0; entry::MAX_BYTES + 1])?,
            (_, None) => {
                self.left_out.push(name);
                return Ok(());
            }
        }
        self.ledger_objects += 1;
        Ok(())
    }
}

/// A directory with other things in it would be neither an export nor what it was.
fn empty(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).context(format!("cannot make {}", directory.display()))?;
    let mut inside = fs::read_dir(directory).context(format!("cannot read {}", directory.display()))?;
    match inside.next() {
        None => Ok(()),
        Some(_) => Err(Failure::new(Exit::Usage, format!("{} is not empty", directory.display()))
            .safe("nothing was written")
            .hint("name a directory that is empty or not there")),
    }
}

fn put(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = directory.join(name);
    let folder = path.parent().unwrap_or(directory);
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, bytes));
    written.context(format!("cannot write {}", path.display()))
}

fn readme(config: &Config) -> String {
    let example = config.keys.trusted_keys.first().map(ToString::to_string).unwrap_or_default();
    README.replace("{tenant}", config.tenant.as_str()).replace("{key}", &example)
}

fn keys(config: &Config) -> String {
    let mut text = String::from(
        "# The public keys that the owner trusts, with their ids. Compare them with what you got from the owner.\n",
    );
    for key in &config.keys.trusted_keys {
        let revoked = config.keys.revoked.iter().find(|one| one.key == *key);
        let until = revoked.map(|one| format!("  revoked as of {}", one.at)).unwrap_or_default();
        text.push_str(&format!("{key}  {}{until}\n", key.id()));
    }
    text
}
