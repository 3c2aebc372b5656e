//! Extending locks to what policy promises: idempotent, and safe to end at any moment, since nothing but locks changes.
//!
//! Each object is asked for once, with the latest end of all that needs it. What a signed header says of a lock that was
//! put spares the request where it was as firm, for locks only grow; a copy has locks of its own, of which headers say nothing.

use std::sync::Arc;

use futures::{
    StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use jiff::Timestamp;
use lifeboat_model::{retention::LockMode, signature::PublicKey};
use lifeboat_store::{Key, ObjectInfo, Retention, SharedStore, VersionId};

use crate::{
    document::DocumentKind,
    error::{Error, Result},
    progress::{Counter, Progress},
    reach::{self, Cover, IndexUse, Needs, Proof, Reach, Standing, WalRule, index_use, objection, read_kept, standing},
    repository::{InstanceRepo, marker_key},
    wal::{WalObject, WalObjectKind},
};

/// Requests at the same time.
const AT_ONCE: usize = 16;
/// Refusals told one by one.
const TOLD: usize = 1000;

/// What an extension of locks did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetainReport {
    /// Points that policy keeps.
    pub points: u64,
    /// Objects that are needed.
    pub objects: u64,
    /// Of them: extended; of a dry run: to be extended.
    pub extended: u64,
    /// Of them: locked long enough before.
    pub enough: u64,
    /// Of them: left alone, since no trusted key signed what lies under the name of WAL or a document.
    pub foreign: u64,
    /// Of them: refused, and why; the first thousand.
    pub refused: Vec<(Key, String)>,
    /// How many refusals are not among them.
    pub more_refused: u64,
}

/// Extends the lock of everything that is needed and is locked for less than that. What the store refuses is reported,
/// not an error; an unreachable store is an error, and the run can be repeated.
pub async fn extend(
    repo: &InstanceRepo,
    needs: &Needs,
    mode: LockMode,
    trusted: &[PublicKey],
    now: Timestamp,
    dry_run: bool,
    progress: Arc<dyn Progress>,
) -> Result<RetainReport> {
    if !repo.store().capabilities().locks {
        let (key, store) = (repo.layout().root(), repo.store().describe());
        return Err(lifeboat_store::Error::NoLocks { key, store }.into());
    }
    let (reach, points) = read_kept(repo, needs, trusted, mode).await?;
    let rule = reach.wal_rule(&needs.wal)?;
    let report = RetainReport { points: points.len() as u64, ..RetainReport::default() };
    let (store, first) = (repo.store().clone(), repo.store_of(None));
    let judge = (repo.clone(), trusted.into());
    let mut work =
        Extender { store, first, judge, mode, now, dry_run, progress, report, going: FuturesUnordered::new() };
    if let Some(end) = needs.points.values().max() {
        let marker = repo.first(&marker_key()).await?;
        work.want(marker.key, marker.version, end.as_second(), i64::MIN).await?;
    }
    indexes(repo, &reach, trusted, &mut work).await?;
    objects(repo, reach, points, needs, trusted, &mut work).await?;
    wal(repo, &rule, needs, trusted, &mut work).await?;
    documents(repo, &rule, needs, &mut work).await?;
    work.finish().await
}

/// The points themselves, and what they name.
async fn objects(
    repo: &InstanceRepo,
    mut reach: Reach,
    points: Vec<crate::point::PointRef>,
    needs: &Needs,
    trusted: &[PublicKey],
    work: &mut Extender,
) -> Result<()> {
    // In a copy the locks are others than those that the headers tell of.
    let promised = |promise: i64| if repo.is_replica() { i64::MIN } else { promise };
    for reference in points {
        let Standing::Good(header) = standing(repo, &reference, trusted).await? else { continue };
        let end = needs.points.get(&reference.id).map_or(i64::MIN, |end| end.as_second());
        let known =
            promised(header.retain_until.filter(|_| reach.is_firm(&header)).map_or(i64::MIN, Timestamp::as_second));
        work.want(reference.key, reference.version, end, known).await?;
        for object in header.objects {
            if let Some(need) = reach.take(&reach::digest(&object.key)) {
                work.want(object.key, object.version, need.end, promised(need.promised)).await?;
            }
        }
    }
    Ok(())
}

/// Index objects, as long as the packs that they name.
async fn indexes(repo: &InstanceRepo, reach: &Reach, trusted: &[PublicKey], work: &mut Extender) -> Result<()> {
    let mut listed = repo.store().list(&repo.layout().prefix("index"));
    while let Some(info) = listed.try_next().await? {
        if let IndexUse::Until(end) = index_use(repo, &info, trusted, reach, None).await? {
            work.want(info.key, info.version, end, i64::MIN).await?;
        }
    }
    Ok(())
}

/// What the archive holds of needed WAL. Slices under a good segment are left to end.
async fn wal(
    repo: &InstanceRepo,
    rule: &WalRule,
    needs: &Needs,
    trusted: &[PublicKey],
    work: &mut Extender,
) -> Result<()> {
    let mut needed = NeededWal::new(repo, trusted);
    while let Some(object) = needed.next(rule).await? {
        let until = match object.kind {
            WalObjectKind::Segment => needs.wal.until,
            WalObjectKind::Slice => needs.slice_until,
        };
        let WalObject { key, len, version, modified, .. } = object;
        work.want_genuine(ObjectInfo { key, len, version, modified }, until).await?;
    }
    Ok(())
}

async fn documents(repo: &InstanceRepo, rule: &WalRule, needs: &Needs, work: &mut Extender) -> Result<()> {
    let newest = reach::newest_system(repo).await?;
    for kind in DocumentKind::ALL {
        let mut listed = repo.store().list(&repo.layout().prefix(kind.folder()));
        while let Some(info) = listed.try_next().await? {
            if needs_document(repo, rule, newest, kind, &info) {
                work.want_genuine(info, needs.wal.until).await?;
            }
        }
    }
    Ok(())
}

/// Whether a document is to be locked: at a position that is of use, or about a system that has kept points or streams.
pub(crate) fn needs_document(
    repo: &InstanceRepo,
    rule: &WalRule,
    newest: Option<u64>,
    kind: DocumentKind,
    info: &ObjectInfo,
) -> bool {
    let Some((position, _)) = repo.layout().document_parts(kind, &info.key) else { return false };
    let system = position.system_id;
    let of_system = kind == DocumentKind::Timeline && (rule.knows_system(system) || newest == Some(system));
    of_system || rule.needs_position(position, info.modified)
}

/// Needed objects of the archive, as a stream; slices that a good segment supersedes are left out.
pub(crate) struct NeededWal {
    repo: InstanceRepo,
    listed: BoxStream<'static, lifeboat_store::Result<ObjectInfo>>,
    cover: Cover,
}

impl NeededWal {
    pub fn new(repo: &InstanceRepo, trusted: &[PublicKey]) -> Self {
        let listed = repo.store().list(&repo.layout().prefix("wal"));
        Self { repo: repo.clone(), listed, cover: Cover::new(repo.wal_archive(), trusted) }
    }

    pub async fn next(&mut self, rule: &WalRule) -> Result<Option<WalObject>> {
        while let Some(info) = self.listed.try_next().await? {
            let Ok(object) = WalObject::listed(self.repo.layout(), info) else { continue };
            let needed = rule.needs_object(object.system_id, object.timeline, object.last, object.modified);
            let superseded = needed
                && object.kind == WalObjectKind::Slice
                && self.cover.supersedes(&object, rule, Proof::Head).await?;
            if needed && !superseded {
                return Ok(Some(object));
            }
        }
        Ok(None)
    }
}

/// What became of one object.
enum Lock {
    Enough,
    Extended,
    Foreign,
    Refused(String),
}

/// Extends locks, some at the same time.
struct Extender {
    store: SharedStore,
    /// The same, for what is named without a version.
    first: SharedStore,
    /// What signatures are held against.
    judge: (InstanceRepo, Arc<[PublicKey]>),
    mode: LockMode,
    now: Timestamp,
    dry_run: bool,
    progress: Arc<dyn Progress>,
    report: RetainReport,
    going: FuturesUnordered<BoxFuture<'static, Result<(Key, Lock)>>>,
}

impl Extender {
    /// Asks for a lock of what is known by its name alone: it is put only if a trusted key signed the object.
    async fn want_genuine(&mut self, info: ObjectInfo, until: Timestamp) -> Result<()> {
        let (key, version) = (info.key.clone(), info.version.clone());
        self.start(key, version, until.as_second(), i64::MIN, Some(info)).await
    }

    /// Asks for a lock; `known` is one that the object is known to have. Times in seconds since 1970.
    async fn want(&mut self, key: Key, version: Option<VersionId>, until: i64, known: i64) -> Result<()> {
        self.start(key, version, until, known, None).await
    }

    async fn start(
        &mut self,
        key: Key,
        version: Option<VersionId>,
        until: i64,
        known: i64,
        named: Option<ObjectInfo>,
    ) -> Result<()> {
        self.report.objects += 1;
        self.progress.add(Counter::Objects, 1);
        if until <= self.now.as_second() || known >= until {
            self.report.enough += 1;
            return Ok(());
        }
        while self.going.len() >= AT_ONCE {
            self.one().await?;
        }
        let until = Timestamp::from_second(until).unwrap_or(Timestamp::MAX);
        let store = if version.is_some() { &self.store } else { &self.first };
        let (store, dry_run) = (store.clone(), self.dry_run);
        let retention = Retention { mode: self.mode, until };
        let (repo, trusted) = self.judge.clone();
        self.going.push(Box::pin(async move {
            let lock = match look(&store, &key, version.as_ref(), retention).await? {
                Lock::Extended if forged(&repo, named, &trusted).await? => Lock::Foreign,
                Lock::Extended if !dry_run => put(&store, &key, version.as_ref(), retention).await?,
                done => done,
            };
            Ok((key, lock))
        }));
        Ok(())
    }

    async fn one(&mut self) -> Result<bool> {
        let Some(done) = self.going.next().await else { return Ok(false) };
        let (key, lock) = done?;
        match lock {
            Lock::Enough => self.report.enough += 1,
            Lock::Extended => self.report.extended += 1,
            Lock::Foreign => self.report.foreign += 1,
            Lock::Refused(why) if self.report.refused.len() < TOLD => self.report.refused.push((key, why)),
            Lock::Refused(_) => self.report.more_refused += 1,
        }
        Ok(true)
    }

    async fn finish(mut self) -> Result<RetainReport> {
        while self.one().await? {}
        Ok(self.report)
    }
}

/// Whether an object that is known by its name alone is not what the name says.
async fn forged(repo: &InstanceRepo, named: Option<ObjectInfo>, trusted: &[PublicKey]) -> Result<bool> {
    match named {
        Some(info) => Ok(objection(repo, &info, trusted).await?.is_some()),
        None => Ok(false),
    }
}

/// Reads the lock back; one that is too short or too weak is to be extended. Reading is cheaper than writing, and a lock
/// that is long enough is the rule.
async fn look(store: &SharedStore, key: &Key, version: Option<&VersionId>, wanted: Retention) -> Result<Lock> {
    let found = match store.lock_state(key, version).await {
        Ok(state) => state.retention,
        Err(error) => return refused(error),
    };
    match found.is_some_and(|found| found.covers(wanted)) {
        true => Ok(Lock::Enough),
        false => Ok(Lock::Extended),
    }
}

async fn put(store: &SharedStore, key: &Key, version: Option<&VersionId>, wanted: Retention) -> Result<Lock> {
    match store.extend_lock(key, version, wanted).await {
        Ok(()) => Ok(Lock::Extended),
        Err(error) => refused(error),
    }
}

fn refused(error: lifeboat_store::Error) -> Result<Lock> {
    match error.is_transient() {
        true => Err(Error::from(error)),
        false => Ok(Lock::Refused(error.to_string())),
    }
}
