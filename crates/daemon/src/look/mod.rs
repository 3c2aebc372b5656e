//! Looks up the facts of each instance again, after each run and from time to time; notices what cannot be reached; and
//! finds in evidence what happened while nobody was looking.
//!
//! Read on: [`opened`] (a tenant's repository, opened once) → [`facts`] (one look) → [`turn`] (whose turn it is) → [`probe`]
//! (what does not answer), [`dependency`] (the same of what an instance cannot work without) → [`past`] (evidence as runs).

mod dependencies;
pub mod dependency;
mod facts;
mod opened;
mod past;
mod probe;
mod turn;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::context::Context;
use lifeboat_model::{
    config::{Config, RepositoryConfig},
    id::{Instance, Tenant},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(crate) use self::{dependencies::of_instance as dependencies_of, past::act_of, probe::needs_docker};
pub use self::{
    facts::once,
    opened::Opened,
    past::{happened, recall},
};
use crate::{Daemon, Result, policies::Site, view::Due};

/// What looking remembers. Part of [`Daemon`].
#[derive(Default)]
pub struct Looking {
    opened: opened::All,
    wanted: Mutex<Wanted>,
    woken: Notify,
    next: Mutex<BTreeMap<Tenant, NextRuns>>,
    dependencies: dependencies::Map,
}

/// Whose facts are to be looked up at once.
#[derive(Default)]
struct Wanted(BTreeSet<(Tenant, Instance)>);

/// The next run of each instance of a site, as it was last computed.
struct NextRuns {
    site: Arc<Site>,
    computed: BTreeMap<Instance, (Timestamp, Option<Due>)>,
}

/// How long "nothing is due" is believed.
const NOTHING_DUE: SignedDuration = SignedDuration::from_hours(1);

/// Looks until it is cancelled: at instances, and at what they need.
pub async fn run(daemon: Arc<Daemon>, cancel: CancellationToken) {
    tokio::join!(turn::run(&daemon, &cancel), probe::run(&daemon, &cancel), dependencies::run(&daemon, &cancel));
}

/// The facts of an instance have changed: they are looked up at once.
pub fn nudge(daemon: &Daemon, tenant: &Tenant, instance: &Instance) {
    let wanted = &mut daemon.looking.wanted.lock().unwrap_or_else(PoisonError::into_inner).0;
    wanted.insert((tenant.clone(), instance.clone()));
    daemon.looking.woken.notify_one();
}

impl Daemon {
    /// A tenant's repository, opened for reading, and all that the engine's verbs need. Opened anew when its policy changed.
    ///
    /// # Errors
    /// It cannot be opened. That is not tried again at once: whoever asks soon after gets the same answer.
    pub async fn context(&self, tenant: &Tenant) -> Result<Arc<Context>> {
        Ok(Arc::clone(&self.opened(tenant).await?.context))
    }

    /// Something about it is another than before: whoever asks next opens it anew.
    pub(crate) async fn reopen(&self, tenant: &Tenant) {
        self.looking.opened.forget(tenant).await;
    }

    /// The same, with what was read of it before.
    pub async fn opened(&self, tenant: &Tenant) -> Result<Arc<Opened>> {
        self.looking.opened.get(self, tenant).await
    }
}

impl Looking {
    /// An instance's next run: computed again when it has come, or the policies are others.
    pub(crate) fn next_run(
        &self,
        tenant: &Tenant,
        site: &Arc<Site>,
        instance: &Instance,
        now: Timestamp,
        compute: impl FnOnce() -> Option<Due>,
    ) -> Option<Due> {
        let mut all = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(tenant).is_none_or(|known| !Arc::ptr_eq(&known.site, site)) {
            all.insert(tenant.clone(), NextRuns { site: Arc::clone(site), computed: BTreeMap::new() });
        }
        let known = all.get_mut(tenant)?;
        if let Some((at, due)) = known.computed.get(instance) {
            // A clock that was set back knows nothing of what lies between.
            let still = due.as_ref().map_or(now.duration_since(*at) < NOTHING_DUE, |due| due.at > now);
            if *at <= now && still {
                return due.clone();
            }
        }
        let due = compute();
        known.computed.insert(instance.clone(), (now, due.clone()));
        due
    }

    /// Where a tenant's repository is, as people call it.
    pub(crate) fn place(&self, tenant: &Tenant, config: &Config) -> String {
        self.opened.place(tenant).unwrap_or_else(|| match &config.repository {
            RepositoryConfig::Local { path } => format!("directory {}", path.display()),
            RepositoryConfig::S3(s3) => format!("s3://{}/{}", s3.bucket, s3.prefix),
            RepositoryConfig::Gcs(gcs) => format!("gs://{}/{}", gcs.bucket, gcs.prefix),
            RepositoryConfig::Azure(azure) => format!("azure://{}/{}", azure.container, azure.prefix),
        })
    }
}
