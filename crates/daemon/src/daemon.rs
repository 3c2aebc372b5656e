//! What all parts of the daemon share.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicI64},
};

use jiff::Timestamp;
use lifeboat_model::id::Tenant;
use tokio::sync::{Notify, broadcast, watch};

use crate::{
    auth::Book,
    look::Looking,
    policies::Policies,
    runbooks::kept::Kept,
    runner::Runner,
    settings::Tenants,
    state::State,
    time::Time,
    view::{EventView, Trouble},
    work::{Desk, Lead, Past},
};

/// What a follower may lag behind before it loses the oldest.
const TOLD: usize = 1024;

/// Where the policies are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// `daemon.toml`; none: one tenant and defaults.
    pub settings: Option<PathBuf>,
    /// `lifeboat.toml`, where no settings name the tenants' files.
    pub config: Option<PathBuf>,
}

/// Looks up an environment variable, for secrets that policies take from there.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What the binary, or a test, brings.
#[derive(Clone)]
pub struct Surroundings {
    /// The time.
    pub time: Arc<dyn Time>,
    /// Carries out runs.
    pub runner: Arc<dyn Runner>,
    /// Becomes the only daemon that works for a tenant.
    pub lead: Arc<dyn Lead>,
    /// Finds what happened while nobody was looking.
    pub past: Arc<dyn Past>,
    /// For secrets.
    pub environment: Environment,
    /// `user@host`, for evidence.
    pub who: String,
    /// Where to listen instead of where the settings say.
    pub listen: Option<SocketAddr>,
    /// Called once, with the address, when everything is there and the daemon is at work.
    pub ready: Arc<dyn Fn(SocketAddr) + Send + Sync>,
    /// Notified by the binary on SIGHUP: policies are read again at once.
    pub reload: Arc<Notify>,
    /// Called every few seconds for as long as the dispatcher turns: a watchdog of the system hears it.
    pub alive: Arc<dyn Fn() + Send + Sync>,
}

/// The daemon: shared by all its tasks.
pub struct Daemon {
    /// What the binary brought.
    pub surroundings: Surroundings,
    /// The policies that count now.
    pub policies: watch::Sender<Arc<Policies>>,
    /// The cache.
    pub state: State,
    /// Where they are read again.
    pub sources: Sources,
    /// What happens, as it happens. A follower that is too slow loses the oldest and reads them from the state.
    pub told: broadcast::Sender<Told>,
    /// What looking at instances remembers.
    pub looking: Looking,
    /// What the repositories have of runs of runbooks.
    pub(crate) kept: Kept,
    /// Where runs are asked for and called off.
    pub desk: Desk,
    /// What people were refused that is not in the ledgers yet.
    pub book: Book,
    /// When the dispatcher last looked at what is due, in seconds since 1970; 0 before its first turn.
    pub dispatched: AtomicI64,
    /// What does not work now.
    pub troubles: Troubles,
}

/// Something that has just happened.
#[derive(Debug, Clone)]
pub enum Told {
    /// A run told something.
    Event {
        /// Whose.
        tenant: Tenant,
        /// What.
        event: Arc<EventView>,
    },
    /// A run was queued, begun or ended, or facts were looked up: whoever shows lists reads them again.
    Changed {
        /// Whose.
        tenant: Tenant,
    },
}

impl Daemon {
    /// With policies that were read from these sources; nothing goes on yet.
    pub fn new(sources: Sources, policies: Policies, state: State, surroundings: Surroundings) -> Daemon {
        Daemon {
            surroundings,
            policies: watch::Sender::new(Arc::new(policies)),
            state,
            sources,
            told: broadcast::Sender::new(TOLD),
            looking: Looking::default(),
            kept: Kept::default(),
            desk: Desk::default(),
            book: Book::default(),
            dispatched: AtomicI64::new(0),
            troubles: Troubles::default(),
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.surroundings.time.now()
    }

    /// The policies that count now.
    pub fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.policies.borrow())
    }

    /// Tells whoever follows; nobody need be there.
    pub fn tell(&self, told: Told) {
        let _ = self.told.send(told); // an error only says that nobody follows
    }
}

/// What does not work now, by what it is of.
#[derive(Debug, Default)]
pub struct Troubles(Mutex<BTreeMap<(Option<String>, String), Trouble>>);

impl Troubles {
    /// Something does not work. Its beginning stays that of the first time it was said.
    pub fn begin(&self, trouble: Trouble) {
        self.put(trouble);
    }

    /// Something outside does not answer: told in the log as well, once.
    pub fn begin_aloud(&self, trouble: Trouble) {
        let Trouble { tenant, of, text, next, .. } = trouble.clone();
        if self.put(trouble) {
            tracing::warn!(tenant, next, "{of}: {text}");
        }
    }

    /// Whether it is news.
    fn put(&self, trouble: Trouble) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (trouble.tenant.clone(), trouble.of.clone());
        let since = all.get(&key).map_or(trouble.since, |known| known.since);
        all.insert(key, Trouble { since, ..trouble }).is_none()
    }

    /// It works again, or always did.
    pub fn end(&self, tenant: Option<&str>, of: &str) {
        self.take(tenant, of, |_| true);
    }

    /// It answers again, as far as `is` says that this is what was wrong: told in the log as well.
    pub fn end_aloud(&self, tenant: Option<&str>, of: &str, is: impl FnOnce(&Trouble) -> bool) {
        if let Some(trouble) = self.take(tenant, of, is) {
            tracing::info!(tenant, since = %trouble.since, "{of}: it answers again");
        }
    }

    fn take(&self, tenant: Option<&str>, of: &str, is: impl FnOnce(&Trouble) -> bool) -> Option<Trouble> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.map(str::to_owned), of.to_owned());
        if all.get(&key).is_some_and(is) { all.remove(&key) } else { None }
    }

    /// All, the daemon's own in front.
    pub fn all(&self) -> Vec<Trouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Whose things somebody may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(pub Tenants);

impl Scope {
    /// Everything.
    pub fn all() -> Scope {
        Scope(Tenants::All)
    }

    /// Whether a tenant is in it.
    pub fn has(&self, tenant: &Tenant) -> bool {
        match &self.0 {
            Tenants::All => true,
            Tenants::Some(tenants) => tenants.contains(tenant),
        }
    }
}
