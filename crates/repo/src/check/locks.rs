//! The proof of locks: what every kept point needs is read back from the store, each object once.
//!
//! Nothing is believed that a header says of a lock. Points' headers are read twice, one at a time: once to know the
//! latest end of each object, once to ask for it by name and version. See [`crate::reach`] for what is held in memory.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use lifeboat_model::{id::PointId, retention::LockMode, signature::PublicKey};
use lifeboat_store::{Key, LockState, ObjectInfo, Retention, SharedStore, VersionId};

use super::{Problem, problem};
use crate::{
    document::DocumentKind,
    error::{Error, Result},
    point::{ObjectRef, PointRef},
    progress::{Counter, Progress},
    reach::{self, Needs, Reach, Standing, WalRule, digest, kept_points, objection, standing},
    repository::{InstanceRepo, marker_key},
    retain::{NeededWal, needs_document},
    wal::{WalObject, WalObjectKind},
};

/// Read back at the same time.
const AT_ONCE: usize = 16;
/// Problems told one by one.
const TOLD: usize = 1000;

/// What a proof of locks saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocksReport {
    /// Points that policy keeps and that verify.
    pub points: u64,
    /// Objects whose lock was read back.
    pub objects: u64,
    /// Of them: locked long enough and firmly enough.
    pub locked: u64,
    /// The earliest end of a lock among them.
    pub earliest: Option<Timestamp>,
    /// Objects under a legal hold.
    pub held: u64,
    /// Each object that is not locked as it must be, and the points that need it; the first thousand.
    pub problems: Vec<Problem>,
    /// How many problems are not among them.
    pub more_problems: u64,
}

/// Proves by reading back that every object that a kept point needs is locked at least until the point's end, and needed
/// WAL and documents until theirs. Where policy renews locks, `needs` must say what is demanded now, not what the next
/// renewal will give. What is not locked is reported, not an error.
pub async fn locks(
    repo: &InstanceRepo,
    needs: &Needs,
    mode: LockMode,
    trusted: &[PublicKey],
    progress: Arc<dyn Progress>,
) -> Result<LocksReport> {
    let mut check = Check {
        store: repo.store().clone(),
        first: repo.store_of(None),
        judge: (repo.clone(), trusted.to_vec()),
        mode,
        progress,
        report: LocksReport::default(),
        problems: BTreeMap::new(),
        going: FuturesUnordered::new(),
    };
    let (reach, points) = read_points(repo, needs, trusted, &mut check).await?;
    check.report.points = points.len() as u64;
    let rule = reach.wal_rule(&needs.wal)?;
    if let Some(end) = needs.points.values().max() {
        // Without it nothing can be opened.
        let marker = repo.first(&marker_key()).await?;
        check.want_of_none(marker.key, marker.version, *end).await?;
    }
    objects(repo, reach, points, needs, trusted, &mut check).await?;
    archive(repo, &rule, needs, trusted, &mut check).await?;
    Ok(check.finish())
}

/// The kept points that verify; one that does not is a problem, and the others are looked at. What was copied from a point
/// to another name is none, as long as the point itself is there: it needs nothing, and `verify --signs` tells of it.
async fn read_points(
    repo: &InstanceRepo,
    needs: &Needs,
    trusted: &[PublicKey],
    check: &mut Check,
) -> Result<(Reach, Vec<PointRef>)> {
    let (mut reach, mut good, mut foreign) = (Reach::default(), Vec::<PointRef>::new(), Vec::new());
    for reference in kept_points(repo, needs).await? {
        let what = match standing(repo, &reference, trusted).await {
            Ok(Standing::Good(header)) => {
                reach.add(&header, needs.points.get(&reference.id).copied().unwrap_or_default(), true);
                good.push(reference);
                continue;
            }
            Ok(Standing::Gone) => "it was listed and is gone".to_owned(),
            Ok(Standing::Foreign { why, .. }) => {
                foreign.push((reference, why));
                continue;
            }
            Err(Error::Unreliable { reason, .. }) => format!("what it needs cannot be read: {reason}"),
            Err(error) => return Err(error),
        };
        check.note(reference.key, what, &[reference.id]);
    }
    foreign.retain(|(reference, _)| good.iter().all(|point| point.id != reference.id));
    for (reference, why) in foreign {
        check.note(reference.key, format!("it is not to be trusted: {why}"), &[reference.id]);
    }
    Ok((reach, good))
}

async fn objects(
    repo: &InstanceRepo,
    mut reach: Reach,
    points: Vec<PointRef>,
    needs: &Needs,
    trusted: &[PublicKey],
    check: &mut Check,
) -> Result<()> {
    for reference in points {
        let Standing::Good(header) = standing(repo, &reference, trusted).await? else { continue };
        let end = needs.points.get(&reference.id).map_or(i64::MIN, |end| end.as_second());
        let promised = |time: Option<Timestamp>| match repo.is_replica() {
            true => i64::MIN,
            false => time.map_or(i64::MIN, Timestamp::as_second),
        };
        let own = Read {
            key: reference.key,
            version: reference.version,
            end,
            promised: promised(header.retain_until),
            named: None,
        };
        check.want(own, reference.id).await?;
        for object in header.objects {
            let ObjectRef { key, version, .. } = object;
            match reach.take(&digest(&key)) {
                Some(need) => {
                    let promised = if repo.is_replica() { i64::MIN } else { need.promised };
                    check.want(Read { key, version, end: need.end, promised, named: None }, reference.id).await?;
                }
                // It was read for an earlier point: what is wrong with it hits this one as well.
                None => check.also(&key, reference.id),
            }
        }
        // All are known before the next point is read, which may share them.
        while check.one().await? {}
    }
    Ok(())
}

/// Needed WAL of the archive, and documents: no single point names them.
async fn archive(
    repo: &InstanceRepo,
    rule: &WalRule,
    needs: &Needs,
    trusted: &[PublicKey],
    check: &mut Check,
) -> Result<()> {
    let mut needed = NeededWal::new(repo, trusted);
    while let Some(object) = needed.next(rule).await? {
        let until = match object.kind {
            WalObjectKind::Segment => needs.wal.until,
            WalObjectKind::Slice => needs.slice_until,
        };
        let WalObject { key, len, version, modified, .. } = object;
        check.want_named(ObjectInfo { key, len, version, modified }, until).await?;
    }
    let newest = reach::newest_system(repo).await?;
    for kind in DocumentKind::ALL {
        let mut listed = repo.store().list(&repo.layout().prefix(kind.folder()));
        while let Some(info) = listed.try_next().await? {
            if needs_document(repo, rule, newest, kind, &info) {
                check.want_named(info, needs.wal.until).await?;
            }
        }
    }
    while check.one().await? {}
    Ok(())
}

/// An object to be read back; times in seconds since 1970.
struct Read {
    key: Key,
    version: Option<VersionId>,
    end: i64,
    /// What the signed header says that it was locked until.
    promised: i64,
    /// It is known by its name alone: what no trusted key signed needs no lock.
    named: Option<ObjectInfo>,
}

type Answer = (Read, Option<PointId>, lifeboat_store::Result<LockState>);

struct Check {
    store: SharedStore,
    /// The same, for what is named without a version.
    first: SharedStore,
    /// What signatures are held against.
    judge: (InstanceRepo, Vec<PublicKey>),
    mode: LockMode,
    progress: Arc<dyn Progress>,
    report: LocksReport,
    problems: BTreeMap<Key, Problem>,
    going: FuturesUnordered<BoxFuture<'static, Answer>>,
}

impl Check {
    async fn want(&mut self, read: Read, point: PointId) -> Result<()> {
        self.start(read, Some(point)).await
    }

    async fn want_of_none(&mut self, key: Key, version: Option<VersionId>, until: Timestamp) -> Result<()> {
        self.start(Read { key, version, end: until.as_second(), promised: i64::MIN, named: None }, None).await
    }

    /// The same of what is known by its name alone.
    async fn want_named(&mut self, info: ObjectInfo, until: Timestamp) -> Result<()> {
        let (key, version) = (info.key.clone(), info.version.clone());
        let read = Read { key, version, end: until.as_second(), promised: i64::MIN, named: Some(info) };
        self.start(read, None).await
    }

    async fn start(&mut self, read: Read, point: Option<PointId>) -> Result<()> {
        while self.going.len() >= AT_ONCE {
            self.one().await?;
        }
        let store = if read.version.is_some() { &self.store } else { &self.first };
        let store = store.clone();
        self.going.push(Box::pin(async move {
            let state = store.lock_state(&read.key, read.version.as_ref()).await;
            (read, point, state)
        }));
        Ok(())
    }

    async fn one(&mut self) -> Result<bool> {
        let Some((read, point, state)) = self.going.next().await else { return Ok(false) };
        self.report.objects += 1;
        self.progress.add(Counter::Objects, 1);
        let what = match state {
            Ok(state) => self.judge(&read, state),
            Err(lifeboat_store::Error::NotFound { .. }) => Some("it is missing".to_owned()),
            Err(lifeboat_store::Error::Denied { reason, .. }) => Some(format!("its lock cannot be read: {reason}")),
            Err(error) => return Err(error.into()),
        };
        let (repo, trusted) = &self.judge;
        if let (Some(_), Some(info)) = (&what, &read.named)
            && objection(repo, info, trusted).await?.is_some()
        {
            return Ok(true);
        }
        match what {
            Some(what) => self.note(read.key, what, point.as_slice()),
            None => self.report.locked += 1,
        }
        Ok(true)
    }

    /// What is wrong with a lock.
    fn judge(&mut self, read: &Read, state: LockState) -> Option<String> {
        self.report.held += u64::from(state.legal_hold);
        let until = |seconds: i64| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        let Some(Retention { mode, until: found }) = state.retention else {
            return Some(format!("it is not locked; it must be until {}", until(read.end)));
        };
        self.report.earliest = Some(self.report.earliest.map_or(found, |earliest| earliest.min(found)));
        let seconds = found.as_second();
        if seconds < read.promised && read.promised > i64::MIN {
            let promised = until(read.promised);
            return Some(format!("its lock was shortened: it was locked until {promised}, and is until {found}"));
        }
        if seconds < read.end {
            return Some(format!("it is locked until {found} only; it must be until {}", until(read.end)));
        }
        match mode < self.mode {
            true => Some(format!("it is locked in {mode} mode; policy demands {}", self.mode)),
            false => None,
        }
    }

    fn note(&mut self, key: Key, what: String, points: &[PointId]) {
        if self.problems.len() >= TOLD {
            self.report.more_problems += 1;
            return;
        }
        let found = Problem { points: points.to_vec(), ..problem(&key, what) };
        self.problems.insert(key, found);
    }

    fn also(&mut self, key: &Key, point: PointId) {
        if let Some(problem) = self.problems.get_mut(key)
            && problem.points.last() != Some(&point)
        {
            problem.points.push(point);
        }
    }

    fn finish(self) -> LocksReport {
        LocksReport { problems: self.problems.into_values().collect(), ..self.report }
    }
}
