//! One writer per instance, and one daemon per tenant, by lease objects, safe where conditional puts are honoured and where they are ignored.
//!
//! Whoever wants the lease puts an object of its own and then lists: of two that do so at once, at least the later
//! lister sees both, and whoever sees another live lease takes its own back. Ages are differences of the *store's*
//! times, so hosts' clocks do not matter. A writer that was killed leaves its lease behind: the next one on the same
//! host sees that the process is gone, any other waits until it has outlived its time. So does a writer that could not
//! give its lease back: this process knows which of its own leases are still held.
//!
//! Backups, prunes and copies share the lease, each says what it is for. A prune takes it for short turns, so that whoever
//! meets a prune waits for its turn instead of failing.
//!
//! Leases are deleted, so they are never locked for long: where the bucket locks by default, a lease is put with a lock of
//! a few seconds of its own, and giving it back waits until that has passed.

use std::{
    collections::HashSet,
    fmt,
    path::Path,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::TryStreamExt as _;
use jiff::Timestamp;
use lifeboat_model::{
    id::{ObjectId, Tenant},
    retention::LockMode,
};
use lifeboat_store::{Key, ObjectInfo, Retention, SharedStore, VersionId};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Result},
    layout, locks,
    progress::Progress,
    repository::{InstanceRepo, Repository},
};

/// How long a lease lives without renewal.
const TTL: Duration = Duration::from_secs(120);
const RENEWAL: Duration = Duration::from_secs(30);
/// No lease is believed to live longer than this without renewal, whatever it says of itself.
const LONGEST_TTL: Duration = Duration::from_secs(600);
/// The longest lease object: what somebody else put there must not fill the memory.
const LONGEST: u64 = 64 << 10;
/// Leases of the dead that a claim removes; more than a few nobody leaves but on purpose, and prune removes them all.
const BURIED: u32 = 16;
/// How often the older of two that met tries again.
const TRIES: u32 = 6;
/// How long to wait for the turn of a prune.
const PATIENCE: Duration = Duration::from_secs(120);
/// The lock of a lease where the bucket would give it a longer one, and how long to wait for its end.
const LOCK: Duration = Duration::from_secs(3);
const UNLOCK: Duration = Duration::from_secs(10);

/// What a lease is held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A recovery point is being written. What a lease is for that does not say.
    #[default]
    Backup,
    /// Objects are being removed.
    Prune,
    /// Objects are being copied from elsewhere.
    Copy,
    /// A daemon carries out the schedules of the tenant.
    Lead,
}

impl Purpose {
    fn words(self) -> &'static str {
        match self {
            Purpose::Backup => "another backup",
            Purpose::Prune => "a prune",
            Purpose::Copy => "a copy",
            Purpose::Lead => "another daemon",
        }
    }
}

/// The sessions of this process whose leases are held.
static LIVE: LazyLock<Mutex<HashSet<ObjectId>>> = LazyLock::new(Mutex::default);

fn live() -> std::sync::MutexGuard<'static, HashSet<ObjectId>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The content of a lease object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    session: ObjectId,
    #[serde(default, skip_serializing_if = "is_backup")]
    purpose: Purpose,
    software: String,
    host: String,
    boot: String,
    pid_namespace: String,
    pid: u32,
    pid_start: u64,
    ttl_ms: u64,
    acquired: Timestamp,
}

fn is_backup(purpose: &Purpose) -> bool {
    *purpose == Purpose::Backup
}

impl Body {
    fn own(session: ObjectId, purpose: Purpose, software: &str, now: Timestamp) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let pid = std::process::id();
        Body {
            session,
            purpose,
            software: software.to_owned(),
            host: read("/proc/sys/kernel/hostname"),
            boot: read("/proc/sys/kernel/random/boot_id"),
            pid_namespace: namespace.to_string_lossy().into_owned(),
            pid,
            pid_start: process_start(pid).unwrap_or_default(),
            ttl_ms: TTL.as_millis() as u64,
            acquired: now,
        }
    }

    /// Whether the holder ran where we run and its process is gone. If in doubt, no.
    fn is_gone(&self, here: &Body) -> bool {
        let same_place = !self.boot.is_empty()
            && !self.pid_namespace.is_empty()
            && (&self.boot, &self.pid_namespace) == (&here.boot, &here.pid_namespace);
        let ours = (self.pid, self.pid_start) == (here.pid, here.pid_start);
        let ended = if ours {
            !live().contains(&self.session)
        } else {
            has_ended(Path::new("/proc"), self.pid, self.pid_start)
        };
        same_place && ended
    }

    fn describe(&self) -> String {
        format!("{} on host {}, process {}, since {:.0}", self.software, self.host, self.pid, self.acquired)
    }
}

/// Whether a process has ended for certain. One that cannot be seen may only be hidden (`hidepid`), or `/proc` is none.
fn has_ended(proc: &Path, pid: u32, start: u64) -> bool {
    let stat = |pid: u32| std::fs::read_to_string(proc.join(pid.to_string()).join("stat"));
    match stat(pid) {
        Ok(text) => start_time(&text).is_some_and(|started| started != start && start != 0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => stat(1).is_ok(),
        Err(_) => false,
    }
}

/// When the process started (clock ticks since boot); none if it cannot be seen.
fn process_start(pid: u32) -> Option<u64> {
    start_time(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn start_time(stat: &str) -> Option<u64> {
    // The command name, in parentheses, may hold anything; the start time is the 20th field after it.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Ticket and session of a lease object's key: the same for all renewals of one lease.
fn ticket(key: &Key) -> Option<(u64, ObjectId)> {
    let mut parts = key.as_str().rsplit('/').next()?.split('-');
    Some((u64::from_str_radix(parts.next()?, 16).ok()?, parts.next()?.parse().ok()?))
}

/// Where the leases of one thing lie: of an instance, or of the lead over a tenant.
#[derive(Clone)]
struct Place {
    store: SharedStore,
    prefix: String,
    /// Whose, for people.
    of: String,
}

impl Place {
    fn key(&self, ticket_ms: u64, session: ObjectId, renewal: u32) -> Key {
        layout::lease(&self.prefix, ticket_ms, session, renewal)
    }

    fn busy(&self, holder: &Body) -> Error {
        let retry = format!("its lease ends by itself, {} s after its last sign of life", TTL.as_secs());
        Error::Busy { what: holder.purpose.words(), of: self.of.clone(), holder: holder.describe(), retry }
    }
}

/// What is shared with the task that renews.
struct Held {
    place: Place,
    body: Body,
    ticket_ms: u64,
    current: Mutex<Current>,
    /// Renewals do not overlap.
    turn: tokio::sync::Mutex<()>,
    /// It was not renewed for longer than it lives. What is renewed later is another lease: this stays.
    lost: AtomicBool,
    /// Leases of the dead that were met.
    buried: AtomicU32,
}

struct Current {
    renewal: u32,
    key: Key,
    version: Option<VersionId>,
    put_began: Instant,
    /// When the store received it, once that is known.
    received: Option<Timestamp>,
}

/// Why a lease counts as lost that lies there renewed.
const LAPSED: &str = "for longer than a lease lives it was not renewed, so that somebody else may have had it";

/// The lease of an instance, held. Given back by [`release`](Claim::release); dropped, it is given back if a runtime is
/// there to do so.
pub struct Claim {
    held: Arc<Held>,
    /// Ends the renewals; one that is under way is finished first.
    stop: CancellationToken,
    released: bool,
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("held", &self.held.body).finish_non_exhaustive()
    }
}

impl Held {
    fn current(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self) -> String {
        self.place.of.clone()
    }

    async fn put(&self, key: &Key) -> Result<Option<VersionId>> {
        let json = serde_json::to_vec(&self.body).expect("a lease has only text keys");
        let store = &self.place.store;
        let retention = match store.capabilities().default_retention {
            true => {
                let until = locks::later(store.clock().await?, LOCK);
                Some(Retention { mode: LockMode::Governance, until })
            }
            false => None,
        };
        Ok(store.put_locked(key, json.into(), retention).await?.version)
    }

    /// Puts the next renewal, then removes the one before.
    async fn renew(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        let (renewal, old, version, silent) = {
            let current = self.current();
            (current.renewal + 1, current.key.clone(), current.version.clone(), current.put_began.elapsed())
        };
        if silent >= TTL {
            self.lost.store(true, Ordering::SeqCst);
        }
        let put_began = Instant::now();
        let key = self.place.key(self.ticket_ms, self.body.session, renewal);
        let put = self.put(&key).await?;
        let received = self.current().received;
        *self.current() = Current { renewal, key: key.clone(), version: put.clone(), put_began, received };
        self.seen(self.place.store.head(&key, put.as_ref()).await?.modified);
        match self.delete(&old, version.as_ref()).await {
            // Right after a renewal it is still locked; giving the lease back removes it.
            Err(Error::Store(lifeboat_store::Error::Locked { .. })) => Ok(()),
            other => other,
        }
    }

    /// Removes a lease object: its first version, for a delete that names none only hides. A writer may lack the right to
    /// delete, or the store may keep everything for a time: that does no harm, as age decides.
    async fn delete(&self, key: &Key, version: Option<&VersionId>) -> Result<()> {
        match self.place.store.delete(key, version).await {
            Err(lifeboat_store::Error::Denied { reason, .. }) => {
                tracing::debug!(%key, reason, "a lease object stays until it is removed from outside");
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// The same of one that may be locked still: waits until that has passed.
    async fn delete_unlocked(&self, key: &Key, version: Option<&VersionId>) -> Result<()> {
        let began = Instant::now();
        loop {
            match self.delete(key, version).await {
                Err(Error::Store(lifeboat_store::Error::Locked { until, .. })) if began.elapsed() >= UNLOCK => {
                    tracing::debug!(%key, ?until, "a lease object stays until its lock has ended");
                    return Ok(());
                }
                Err(Error::Store(lifeboat_store::Error::Locked { .. })) => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                other => return other,
            }
        }
    }

    /// The first lease that is not ours and may be live; some of others' dead ones are removed. What is older than any
    /// lease lives is not even read.
    async fn other(&self) -> Result<Option<(ObjectInfo, Body)>> {
        let store = &self.place.store;
        let mut listed: Vec<ObjectInfo> = store.list(&self.place.prefix).try_collect().await?;
        let mine = |object: &ObjectInfo| ticket(&object.key).is_some_and(|(_, session)| session == self.body.session);
        let Some(now) = listed.iter().filter(|object| mine(object)).map(|object| object.modified).max() else {
            let reason = "its object is not in the repository".to_owned();
            return Err(Error::LeaseLost { of: self.of(), reason });
        };
        self.seen(now);
        listed.retain(|object| !mine(object));
        listed.sort_by_key(|object| ticket(&object.key));
        for object in listed {
            let age = now.duration_since(object.modified);
            if age.as_secs_f64() > LONGEST_TTL.as_secs_f64() {
                self.bury(&object).await?;
                continue;
            }
            let start = Some(0..object.len.min(LONGEST));
            let body = match store.get(&object.key, object.version.as_ref(), start).await {
                Ok(bytes) => serde_json::from_slice::<Body>(&bytes).ok(),
                Err(lifeboat_store::Error::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let ttl = body.as_ref().map_or(TTL, |body| Duration::from_millis(body.ttl_ms).min(LONGEST_TTL));
            let gone = body.as_ref().is_some_and(|body| body.is_gone(&self.body));
            match body {
                Some(body) if !gone && age.as_secs_f64() <= ttl.as_secs_f64() => return Ok(Some((object, body))),
                None if age.as_secs_f64() <= ttl.as_secs_f64() => {
                    let unknown = Body { session: ObjectId([0; 16]), host: "(unreadable)".into(), ..self.body.clone() };
                    return Ok(Some((object, Body { purpose: Purpose::Backup, ..unknown })));
                }
                _ => self.bury(&object).await?,
            }
        }
        Ok(None)
    }

    /// Removes the lease of somebody who is dead; not many, for whoever wants to can leave thousands.
    async fn bury(&self, object: &ObjectInfo) -> Result<()> {
        if self.buried.fetch_add(1, Ordering::Relaxed) >= BURIED {
            return Ok(());
        }
        match self.delete(&object.key, object.version.as_ref()).await {
            Err(Error::Store(lifeboat_store::Error::Locked { .. })) => Ok(()),
            other => other,
        }
    }

    /// Takes note of when the store received a renewal. Where two were further apart than a lease lives, others may have
    /// had theirs in between, whatever this process' own clock says: it stands still while a machine sleeps.
    fn seen(&self, received: Timestamp) {
        let before = self.current().received.replace(received);
        let silent = before.map(|before| received.duration_since(before).as_secs_f64());
        if silent.is_some_and(|silent| silent > TTL.as_secs_f64()) {
            self.lost.store(true, Ordering::SeqCst);
        }
    }

    /// Removes every object of this lease, also one whose put seemed to fail. Should that fail, this process still
    /// knows that the lease is not held any more.
    async fn remove(&self) -> Result<()> {
        live().remove(&self.body.session);
        let _turn = self.turn.lock().await;
        let mut listed = self.place.store.list(&self.place.prefix);
        while let Some(object) = listed.try_next().await? {
            if ticket(&object.key).is_some_and(|(_, session)| session == self.body.session) {
                self.delete_unlocked(&object.key, object.version.as_ref()).await?;
            }
        }
        Ok(())
    }
}

/// Who stood in the way of one try.
enum Rival {
    /// Both take their leases back; the older may try again.
    Younger(Body),
    Older(Body),
}

impl InstanceRepo {
    /// Takes the instance's lease, or says who has it. Whoever meets a prune waits for its turn, up to two minutes; of
    /// others, the one who came first may go on.
    pub async fn claim(
        &self,
        purpose: Purpose,
        software: &str,
        now: Timestamp,
        progress: Arc<dyn Progress>,
    ) -> Result<Claim> {
        let place = Place {
            store: self.store().clone(),
            prefix: self.layout().prefix("lease"),
            of: self.instance().to_string(),
        };
        let (began, mut tries, mut told) = (Instant::now(), 0, false);
        loop {
            let (older, body) = match Claim::attempt(&place, purpose, software, now, &progress).await? {
                Ok(claim) => return Ok(claim),
                Err(Rival::Older(body)) => (true, body),
                Err(Rival::Younger(body)) => (false, body),
            };
            let wait = u64::from(u16::from_le_bytes(crate::random::bytes()?));
            let wait = if body.purpose == Purpose::Prune && purpose != Purpose::Prune {
                if began.elapsed() >= PATIENCE {
                    return Err(place.busy(&body));
                }
                if !told {
                    let (holder, most) = (body.describe(), PATIENCE.as_secs());
                    progress
                        .note(&format!("a prune is at it ({holder}): waiting for its turn to end, at most {most} s"));
                    told = true;
                }
                500 + wait % 1500
            } else {
                tries += 1;
                if older || tries >= TRIES {
                    return Err(place.busy(&body));
                }
                50 + wait % 250
            };
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }
}

impl Repository {
    /// Takes the lead over a tenant's schedules, or says who has it: at once, for whoever wants it tries again and again.
    pub async fn lead(
        &self,
        tenant: &Tenant,
        software: &str,
        now: Timestamp,
        progress: Arc<dyn Progress>,
    ) -> Result<Claim> {
        let (store, prefix) = (self.store().clone(), layout::lead(tenant));
        let place = Place { store, prefix, of: tenant.to_string() };
        match Claim::attempt(&place, Purpose::Lead, software, now, &progress).await? {
            Ok(claim) => Ok(claim),
            Err(Rival::Older(body) | Rival::Younger(body)) => Err(place.busy(&body)),
        }
    }
}

impl Claim {
    /// Puts a lease and looks whether it is the only one.
    async fn attempt(
        place: &Place,
        purpose: Purpose,
        software: &str,
        now: Timestamp,
        progress: &Arc<dyn Progress>,
    ) -> Result<std::result::Result<Claim, Rival>> {
        let session = ObjectId(crate::random::bytes()?);
        let body = Body::own(session, purpose, software, now);
        let ticket_ms = now.as_millisecond().unsigned_abs();
        let key = place.key(ticket_ms, session, 0);
        let put_began = Instant::now();
        let current = Mutex::new(Current { renewal: 0, key: key.clone(), version: None, put_began, received: None });
        let turn = tokio::sync::Mutex::default();
        live().insert(session);
        let held = Arc::new(Held {
            place: place.clone(),
            body,
            ticket_ms,
            current,
            turn,
            lost: AtomicBool::new(false),
            buried: AtomicU32::new(0),
        });
        // The put may have an effect and yet report an error: then the object must go as well.
        let other = match held.put(&key).await {
            Ok(version) => {
                held.current().version = version;
                held.other().await
            }
            Err(error) => Err(error),
        };
        let other = match other {
            Ok(other) => other,
            Err(error) => {
                let _ = held.remove().await;
                return Err(error);
            }
        };
        let Some((object, body)) = other else { return Ok(Ok(Self::start(held, progress.clone()))) };
        held.remove().await?;
        let older = ticket(&object.key) < Some((ticket_ms, session));
        Ok(Err(if older { Rival::Older(body) } else { Rival::Younger(body) }))
    }

    fn start(held: Arc<Held>, progress: Arc<dyn Progress>) -> Claim {
        let (shared, stop) = (held.clone(), CancellationToken::new());
        let stopped = stop.clone();
        tokio::spawn(async move {
            while stopped.run_until_cancelled(tokio::time::sleep(RENEWAL)).await.is_some() {
                if let Err(error) = shared.renew().await {
                    progress.note(&format!("the writer's lease could not be renewed, trying again: {error}"));
                }
            }
        });
        Claim { held, stop, released: false }
    }

    /// For how long it lives still, should it not be renewed.
    pub fn left(&self) -> Duration {
        TTL.saturating_sub(self.held.current().put_began.elapsed())
    }

    /// Makes sure that nobody else can have taken the lease; to be called right before what must not be done twice.
    pub async fn recheck(&self) -> Result<()> {
        let held = &self.held;
        let lost = |reason: String| Error::LeaseLost { of: held.of(), reason };
        let silent = held.current().put_began.elapsed();
        if held.lost.load(Ordering::SeqCst) {
            return Err(lost(LAPSED.to_owned()));
        }
        if silent >= TTL {
            return Err(lost(format!("it was not renewed for {} s", silent.as_secs())));
        }
        held.renew().await?;
        let other = held.other().await?;
        if held.lost.load(Ordering::SeqCst) {
            return Err(lost(LAPSED.to_owned()));
        }
        match other {
            Some((_, body)) => Err(lost(format!("it was taken by {}", body.describe()))),
            None => Ok(()),
        }
    }

    /// Gives the lease back.
    pub async fn release(mut self) -> Result<()> {
        self.released = true;
        self.stop.cancel();
        self.held.remove().await
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.stop.cancel();
        live().remove(&self.held.body.session);
        if let (false, Ok(runtime)) = (self.released, tokio::runtime::Handle::try_current()) {
            let held = self.held.clone();
            runtime.spawn(async move { held.remove().await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_cannot_be_seen_has_not_ended() {
        let proc = tempfile::tempdir().unwrap();
        let put = |pid: u32, start: u64| {
            let dir = proc.path().join(pid.to_string());
            std::fs::create_dir_all(&dir).unwrap();
            let fields = format!("{pid} (a) b) S {}{start} 0\n", "0 ".repeat(18));
            std::fs::write(dir.join("stat"), fields).unwrap();
        };
        assert!(!has_ended(proc.path(), 40, 7), "there is no /proc to ask");
        put(40, 7);
        assert!(!has_ended(proc.path(), 40, 7), "it lives");
        assert!(has_ended(proc.path(), 40, 6), "another with its number");
        assert!(!has_ended(proc.path(), 40, 0), "its start was never known");
        assert!(!has_ended(proc.path(), 41, 7), "others' processes are hidden");
        put(1, 1);
        assert!(has_ended(proc.path(), 41, 7), "init is seen, and it is not");
        std::fs::create_dir_all(proc.path().join("42")).unwrap();
        std::fs::create_dir(proc.path().join("42/stat")).unwrap();
        assert!(!has_ended(proc.path(), 42, 7), "there, but not to be read");
        assert!(!has_ended(Path::new("/proc"), std::process::id(), process_start(std::process::id()).unwrap()));
    }
}
