//! Negative controls: a drill on a copy that was damaged on purpose. It passes only if exactly the right checks fail.
//!
//! Most kinds stand for a source that was damaged *before* it was backed up: the backup is a faithful copy of broken data,
//! so nothing that compares the restore with the backup may notice, and the manifest is made to agree with the damage. The
//! check that has to notice is the one that knows what the data should be: a page's own checksum, an index, the witness, the
//! name of an attachment. `docs/controls.md` says for each kind why that check is the right one.
//!
//! The victim is drawn among what every Odoo database has, by a seed that is printed, and never such that its loss could not
//! be seen by nature: a page without rows, a file that no row names, the padding between two records.
//!
//! **Never** is anything touched but the drill's own copy: files through [`folder::Folder`], which follows no link and reads
//! no path that leads out; rows through sessions with the sandbox's own server; points in a store that shows what is
//! not there and refuses to write. Damage that could not be done is *not executed*: no control passes by it.

mod addons;
mod catalog;
mod chance;
mod cluster;
mod filestore;
mod folder;
mod kind;
mod log;
mod overlay;
mod rows;
mod verdict;

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_engine::recovery::{Target, Wish};
use lifeboat_model::{
    id::PointId,
    signature::{PublicKey, SigningKey},
};
use lifeboat_repo::{point::PointSelector, repository::InstanceRepo, seal::Identity};
use tokio_postgres::Client;

pub use chance::Seed;
pub use kind::Kind;

use crate::{
    error::{Error, Result},
    source::{OwnCopy, Sabotage},
};

/// One control: what is damaged, by which seed, and what came of it.
pub struct Control {
    kind: Kind,
    seed: Seed,
    state: Mutex<State>,
    /// Where files of the cluster were damaged, to look again after replay.
    victim: Mutex<Option<cluster::Victim>>,
}

/// How far the damage is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Not done yet.
    Waiting,
    /// Done: what was damaged, in words for whoever runs the drill.
    Damaged(String),
    /// It could not be done, in words that may stand in evidence.
    NotApplied(String),
}

/// What a drill of a control is made of.
pub struct Staged {
    /// The repository as the drill sees it.
    pub repo: InstanceRepo,
    /// What it rehearses.
    pub wish: Wish,
    /// What it fetches with, where that is not what it selects with.
    pub fetch_with: Option<Vec<Identity>>,
}

impl Control {
    /// A control that has done nothing yet. The seed is the same for all kinds of a set: each draws its own victims from it.
    pub fn new(kind: Kind, seed: Seed) -> Control {
        Control { kind, seed, state: Mutex::new(State::Waiting), victim: Mutex::default() }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What was damaged, for whoever runs the drill: it names tables and files.
    pub fn damage(&self) -> Option<String> {
        match self.state() {
            State::Damaged(what) => Some(what),
            _ => None,
        }
    }

    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Notes what was damaged, or why nothing could be.
    fn note(&self, done: Result<String>) -> Result<()> {
        match done {
            Ok(what) => self.set(State::Damaged(what)),
            Err(error) => {
                self.set(State::NotApplied(error.public()));
                return Err(error);
            }
        }
        Ok(())
    }

    fn chance(&self) -> chance::Chance {
        self.seed.of(self.kind.word())
    }

    /// What is damaged before the drill begins: the point that it is shown, or the key that it has.
    pub async fn stage(&self, repo: InstanceRepo, wish: Wish, trusted: &[PublicKey], now: Timestamp) -> Result<Staged> {
        match self.kind {
            Kind::ForgedPoint => {
                let forged = self.forge(&repo, trusted, now).await;
                let (repo, what) = match forged {
                    Ok((repo, what)) => (repo, Ok(what)),
                    Err(error) => (repo, Err(error)),
                };
                let newest = Wish { point: Some(PointSelector::Latest), target: Target::PointEnd, timeline: None };
                // The drill itself has to say that there is no point.
                let _ = self.note(what);
                Ok(Staged { repo, wish: newest, fetch_with: None })
            }
            Kind::WrongKey => {
                self.set(State::Damaged("the recovery identity: another one, made for this run".to_owned()));
                Ok(Staged { repo, wish, fetch_with: Some(vec![Identity::generate()]) })
            }
            _ => Ok(Staged { repo, wish, fetch_with: None }),
        }
    }

    /// A newer point, signed by a key of a thief, in a store that shows it and does not hold it.
    async fn forge(
        &self,
        repo: &InstanceRepo,
        trusted: &[PublicKey],
        now: Timestamp,
    ) -> Result<(InstanceRepo, String)> {
        let failed = |error| Error::source("cannot read a point to forge")(Box::new(error));
        let newest = repo.find_point(&PointSelector::Latest, trusted).await.map_err(failed)?;
        let (mut id, mut key) = ([0; 8], [0; 32]);
        let mut chance = self.chance();
        chance.fill(&mut id);
        // Whose key it is does not matter, and so it may come from the seed: nobody trusts it.
        chance.fill(&mut key);
        let second = std::time::Duration::from_secs(1);
        let finished = now.max(newest.header.finished + second);
        let forged = repo.forgery(&newest, finished, PointId(id), &SigningKey::from_seed(&key)).map_err(failed)?;
        let what = format!("a point newer than all, {}, signed by a key that nobody trusts", forged.0);
        let store = overlay::Overlay::new(repo.store().clone(), forged.0, forged.1, finished);
        Ok((repo.clone().seen_through(std::sync::Arc::new(store)), what))
    }
}

#[async_trait]
impl Sabotage for Control {
    fn describe(&self) -> String {
        format!("{} (seed {})", self.kind.word(), self.seed)
    }

    fn damage(&self) -> Option<String> {
        Control::damage(self)
    }

    fn writes(&self) -> bool {
        matches!(self.kind, Kind::DeletedRow | Kind::ChangedValue | Kind::DroppedIndexEntry)
    }

    fn damages_log(&self) -> bool {
        matches!(self.kind, Kind::MissingWal | Kind::FlippedWal)
    }

    fn damages_addons(&self) -> bool {
        matches!(self.kind, Kind::MissingAddon | Kind::OlderModule)
    }

    fn needs_odoo(&self) -> bool {
        self.kind.needs_odoo()
    }

    async fn placed(&self, copy: &OwnCopy<'_>) -> Result<()> {
        let harm = match self.kind {
            Kind::FlippedPage => cluster::Harm::Flip,
            Kind::ZeroedPage => cluster::Harm::Zero,
            Kind::TruncatedRelation => cluster::Harm::Truncate,
            _ => return Ok(()),
        };
        let victim = cluster::damage(copy, self.chance(), harm).await;
        if let Ok(victim) = &victim {
            *self.victim.lock().unwrap_or_else(PoisonError::into_inner) = Some(victim.clone());
        }
        self.note(victim.map(|victim| victim.to_string()))
    }

    async fn logged(&self, copy: &OwnCopy<'_>) -> Result<()> {
        let done = match self.kind {
            Kind::MissingWal => log::lose(copy, self.chance()).await,
            Kind::FlippedWal => log::flip(copy, self.chance()).await,
            _ => return Ok(()),
        };
        self.note(done)
    }

    async fn replayed(&self, copy: &OwnCopy<'_>, clients: &[(String, Client)]) -> Result<()> {
        let mut chance = self.chance();
        let done = match self.kind {
            Kind::DeletedRow => rows::delete(copy, clients, chance).await,
            Kind::ChangedValue => rows::change(copy, clients, chance).await,
            Kind::DroppedIndexEntry => rows::drop_index_entry(clients, chance).await,
            Kind::DeletedAttachment => filestore::delete(copy, clients, &mut chance).await,
            Kind::SwappedAttachments => filestore::swap(copy, clients, &mut chance).await,
            Kind::StaleFilestore => filestore::age(copy, clients, &mut chance).await,
            // Replay may have put whole pages in the place of damaged ones.
            Kind::ZeroedPage | Kind::TruncatedRelation => {
                let victim = self.victim.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let Some(victim) = victim else { return Ok(()) };
                cluster::look_again(copy, clients, &victim).await.map(|()| victim.to_string())
            }
            _ => return Ok(()),
        };
        self.note(done)
    }

    async fn booting(&self, copy: &OwnCopy<'_>, clients: &[(String, Client)]) -> Result<()> {
        let done = match self.kind {
            Kind::MissingAddon => addons::remove(copy, clients, self.chance()).await,
            Kind::OlderModule => addons::age(copy, clients, self.chance()).await,
            _ => return Ok(()),
        };
        self.note(done)
    }
}

/// There is nothing in this copy that could be damaged in this way. The words may stand in evidence.
fn nothing<T>(why: &str) -> Result<T> {
    Err(Error::NotApplied { why: why.to_owned() })
}
