//! Where journals are kept besides this host: the primary repository; where that does not answer, a copy of the configuration.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use lifeboat_engine::{
    context::{self, Clock, Context, Initiator},
    journal::Journals,
    with_causes,
};
use lifeboat_repo::repository::Repository;

use crate::{
    cli::{Session, place},
    wire::{self, Loaded},
};

/// How long one repository may take to be opened.
const PATIENCE: Duration = Duration::from_secs(15);

/// Opens repositories as long as none answers. Cheap to clone; it outlives the session that made it.
#[derive(Clone)]
pub struct Keeper {
    loaded: Arc<Loaded>,
    clock: Clock,
    initiator: Initiator,
}

impl Keeper {
    /// Of a configuration; `command` is for evidence.
    pub fn new(session: &Session, loaded: &Loaded, command: &str) -> Keeper {
        let (loaded, clock) = (Arc::new(loaded.clone()), session.clock.clone());
        Keeper { loaded, clock, initiator: session.initiator(command) }
    }

    /// User and host.
    pub fn who(&self) -> &str {
        &self.initiator.who
    }

    /// The first repository that answers, the primary before its copies: the configuration as seen from it; why none does.
    pub async fn reach(&self) -> Result<Context, String> {
        let mut passed_over = Vec::new();
        for name in self.names() {
            match tokio::time::timeout(PATIENCE, self.open(name)).await {
                Ok(Ok(context)) => return Ok(context),
                Ok(Err(why)) => passed_over.push(format!("\"{name}\": {why}")),
                Err(_) => passed_over.push(format!("\"{name}\" did not answer within {} s", PATIENCE.as_secs())),
            }
        }
        Err(passed_over.join("; "))
    }

    /// Of the repositories, the primary first.
    fn names(&self) -> impl Iterator<Item = &str> {
        let config = &self.loaded.config;
        std::iter::once(config.repository_name.as_str()).chain(config.copies.iter().map(|copy| copy.name.as_str()))
    }

    async fn open(&self, name: &str) -> Result<Context, String> {
        let words = |error: &dyn std::error::Error| with_causes(error);
        let there = place::at((*self.loaded).clone(), name).map_err(|failure| failure.messages().join(": "))?;
        let store = context::open_store(&there.config.repository, &wire::environment, false).await;
        let opened = Repository::open(store.map_err(|error| words(&error))?).await.map_err(|error| words(&error))?;
        let repository = context::believing(opened, &there.config).await.map_err(|error| words(&error))?;
        let Loaded { config, digest, .. } = there;
        Ok(Context::new(config, digest, repository, self.clock.clone(), self.initiator.clone()))
    }
}

/// Opens the journals of one repository, to be read and written.
pub type Opener = Arc<dyn Fn() -> BoxFuture<'static, Result<Journals, String>> + Send + Sync>;

/// A repository in which journals are kept.
#[derive(Clone)]
pub struct Place {
    /// Its name in the configuration.
    pub name: String,
    /// Opens it; it takes no longer than it may.
    pub open: Opener,
}

impl Keeper {
    /// All that are configured, the primary first, for background tasks.
    pub fn places(&self) -> Vec<Place> {
        self.names().map(|name| self.place(name, true)).collect()
    }

    /// The same, to be read alone.
    pub fn readers(&self) -> Vec<Place> {
        self.names().map(|name| self.place(name, false)).collect()
    }

    fn place(&self, name: &str, is_writer: bool) -> Place {
        let (keeper, of) = (self.clone(), name.to_owned());
        let open: Opener = Arc::new(move || {
            let (keeper, name) = (keeper.clone(), of.clone());
            Box::pin(async move {
                let opening = async {
                    let context = keeper.open(&name).await?;
                    match is_writer {
                        true => Journals::of(&context).await.map_err(|error| with_causes(&error)),
                        false => Ok(Journals::of_reader(&context)),
                    }
                };
                match tokio::time::timeout(PATIENCE, opening).await {
                    Ok(opened) => opened,
                    Err(_) => Err(format!("it did not answer within {} s", PATIENCE.as_secs())),
                }
            })
        });
        Place { name: name.to_owned(), open }
    }
}
