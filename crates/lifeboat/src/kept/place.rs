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

/// A repository that answered.
pub struct Reached {
    /// The configuration as seen from it.
    pub context: Context,
    /// Those that were asked before it, and why they were passed over.
    pub passed_over: Vec<String>,
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

    /// The first repository that answers, the primary before its copies; why none does.
    pub async fn reach(&self) -> Result<Reached, String> {
        let config = &self.loaded.config;
        let names = std::iter::once(&config.repository_name).chain(config.copies.iter().map(|copy| &copy.name));
        let mut passed_over = Vec::new();
        for name in names {
            match tokio::time::timeout(PATIENCE, self.open(name)).await {
                Ok(Ok(context)) => return Ok(Reached { context, passed_over }),
                Ok(Err(why)) => passed_over.push(format!("\"{name}\": {why}")),
                Err(_) => passed_over.push(format!("\"{name}\" did not answer within {} s", PATIENCE.as_secs())),
            }
        }
        Err(passed_over.join("; "))
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

/// Gives journals to write to, and what people should know of where they are.
pub type Opener = Arc<dyn Fn() -> BoxFuture<'static, Result<(Journals, Option<String>), String>> + Send + Sync>;

impl Keeper {
    /// For a background task.
    pub fn opener(&self) -> Opener {
        let keeper = self.clone();
        Arc::new(move || {
            let keeper = keeper.clone();
            Box::pin(async move {
                let Reached { context, passed_over } = keeper.reach().await?;
                let journals = Journals::of(&context).await.map_err(|error| with_causes(&error))?;
                let remark = (!passed_over.is_empty())
                    .then(|| format!("{}; the journal is kept in {}", passed_over.join("; "), journals.place()));
                Ok((journals, remark))
            })
        })
    }
}
