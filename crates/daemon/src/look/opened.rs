//! A tenant's repository, opened when it is first needed and kept: connections, believed keys, what was read.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lifeboat_engine::{
    context::{self, Context, Initiator},
    record,
    status::{OpenedCopy, Statements, open_copies},
};
use lifeboat_model::{id::Tenant, retention::LockPolicy};
use lifeboat_store::Key;
use tokio::{
    sync::{Mutex as Turn, RwLock},
    time::{Instant, timeout},
};

use crate::{
    Daemon, Error, Result,
    error::with_causes,
    policies::Site,
    view::{EvidenceView, PointView},
};

/// Longer than this nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// What copies may take to open.
const COPIES: Duration = Duration::from_secs(10);
/// After a failure nothing is tried for so long, and longer each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Opened repositories are opened anew after this time: secrets and revocations may be others.
const KEPT: Duration = Duration::from_secs(3600);
/// And after this time where a copy did not answer.
const KEPT_WITHOUT_COPY: Duration = Duration::from_secs(300);
/// Views of statements and points that are remembered.
const REMEMBERED: usize = 4096;

/// All tenants'.
#[derive(Default)]
pub(super) struct All(Mutex<BTreeMap<Tenant, Arc<Turn<Slot>>>>, Mutex<BTreeMap<Tenant, String>>);

#[derive(Default)]
struct Slot {
    opened: Option<(Arc<Opened>, Instant)>,
    failed: Option<Failed>,
}

struct Failed {
    site: Arc<Site>,
    why: String,
    absent: bool,
    until: Instant,
    pause: Duration,
}

/// An opened repository, and what was read of it.
pub struct Opened {
    /// The policy that it was opened by.
    pub site: Arc<Site>,
    /// What the engine's verbs need.
    pub context: Arc<Context>,
    /// Its copies.
    pub copies: Vec<OpenedCopy>,
    /// The tenant's statements, and when they were listed; none: not yet.
    pub(super) statements: RwLock<Option<(Statements, Instant)>>,
    /// Statements and points do not change; these are their views by key.
    pub(crate) evidence: Memory<EvidenceView>,
    /// The same of points.
    pub(crate) points: Memory<PointView>,
}

/// Remembers a bounded number of things that never change.
pub(crate) struct Memory<T>(Mutex<HashMap<Key, T>>);

impl<T: Clone> Memory<T> {
    /// What is remembered.
    pub fn get(&self, key: &Key) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Remembers it. When there is no room, all is forgotten: it costs one reading more.
    pub fn put(&self, key: Key, value: T) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            all.clear();
        }
        all.insert(key, value);
    }
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Memory(Mutex::default())
    }
}

impl Opened {
    fn kept(&self) -> Duration {
        if self.copies.iter().any(|copy| copy.opened.is_err()) { KEPT_WITHOUT_COPY } else { KEPT }
    }
}

impl All {
    /// Where the repository is, if it was ever opened.
    pub fn place(&self, tenant: &Tenant) -> Option<String> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    /// The opened repository, opened now if it must be: by one of those who ask, while the others wait.
    pub async fn get(&self, daemon: &Daemon, tenant: &Tenant) -> Result<Arc<Opened>> {
        let policies = daemon.policies();
        let not_open = |why: String, absent| Error::NotOpen { tenant: tenant.clone(), why, absent };
        let Some(site) = policies.sites.get(tenant) else {
            return Err(not_open("no policy names it".to_owned(), false));
        };
        let slot = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(tenant.clone()).or_default())
        };
        let mut slot = slot.lock().await;
        if let Some((opened, at)) = &slot.opened
            && Arc::ptr_eq(&opened.site, site)
            && at.elapsed() < opened.kept()
        {
            return Ok(Arc::clone(opened));
        }
        let pause = match &slot.failed {
            Some(failed) if Arc::ptr_eq(&failed.site, site) => {
                if Instant::now() < failed.until {
                    return Err(not_open(failed.why.clone(), failed.absent));
                }
                (failed.pause * 2).min(LONGEST_PAUSE)
            }
            _ => FIRST_PAUSE,
        };
        slot.opened = None;
        let opened = timeout(PATIENCE, Box::pin(open(daemon, site))).await;
        let why = match opened {
            Ok(Ok(opened)) => {
                let opened = Arc::new(opened);
                (slot.opened, slot.failed) = (Some((Arc::clone(&opened), Instant::now())), None);
                let place = place(&opened);
                self.1.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), place);
                return Ok(opened);
            }
            Ok(Err(error)) => (with_causes(&error), is_absent(&error)),
            Err(_) => (format!("it did not answer within {} s", PATIENCE.as_secs()), false),
        };
        let until = Instant::now() + pause;
        slot.failed = Some(Failed { site: Arc::clone(site), why: why.0.clone(), absent: why.1, until, pause });
        Err(not_open(why.0, why.1))
    }

    /// Whatever was found before: whoever asks next opens it anew, at once.
    pub async fn forget(&self, tenant: &Tenant) {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned();
        if let Some(slot) = slot {
            *slot.lock().await = Slot::default();
        }
    }

    /// It did not do what it should: whoever asks next opens it anew.
    pub async fn close(&self, tenant: &Tenant) {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned();
        if let Some(slot) = slot {
            slot.lock().await.opened = None;
        }
    }
}

async fn open(daemon: &Daemon, site: &Arc<Site>) -> lifeboat_engine::Result<Opened> {
    let surroundings = &daemon.surroundings;
    let environment = &*surroundings.environment;
    let time = Arc::clone(&surroundings.time);
    let repository = context::open_for_reading(&site.config, environment).await?;
    let initiator = Initiator { who: surroundings.who.clone(), command: "lifeboat daemon".to_owned() };
    let clock: context::Clock = Arc::new(move || time.now());
    let context = Context::new(site.config.clone(), site.config_digest.clone(), repository, clock, initiator);
    let copies = open_copies(&context, environment, COPIES).await;
    Ok(Opened {
        site: Arc::clone(site),
        context: Arc::new(context),
        copies,
        statements: RwLock::default(),
        evidence: Memory::default(),
        points: Memory::default(),
    })
}

/// Where it is, and whether what is put there is immutable: as evidence tells it.
fn place(opened: &Opened) -> String {
    let config = &opened.context.config;
    let lock: Option<LockPolicy> = config.instances.values().find_map(|instance| config.tier_of(instance)?.lock);
    record::storage(opened.context.repository.store(), lock)
}

/// Whether there is no repository yet. One that was there before is gone: that is another error.
fn is_absent(error: &lifeboat_engine::Error) -> bool {
    matches!(error, lifeboat_engine::Error::Repo(lifeboat_repo::Error::NotARepository { .. }))
}
