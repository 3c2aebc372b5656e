//! A drill of a recovery point, or of any moment that is held: planned and checked in the repository, brought back by the
//! same plan and the same restore that an emergency uses.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_engine::{
    details::{Comparison, Witness},
    recovery::{
        self, Plan, Target, Wish,
        staging::{Staged, WalStaging},
    },
    restore::{self, Parts, RestoreReport, RestoreRequest},
};
use lifeboat_evidence::drill::{DrilledPoint, ObjectVersion, VersionsReadBack};
use lifeboat_model::signature::PublicKey;
use lifeboat_repo::{
    check::{Problem, SignsReport, VerifyMode, VerifyReport, signs, verify},
    point::{ObjectRef, Point, PointSelector},
    progress::Progress,
    reader::Damage,
    repository::InstanceRepo,
    seal::Identity,
};
use lifeboat_store::ObjectInfo;
use tokio::{sync::OnceCell, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Result},
    ladder::{Answer, Answered, LOCKS, OBJECTS, SIGNATURE, SIGNS, VERSIONS},
    locks,
    source::{Fetched, Selected, Source},
};

/// VersionIds looked up at the same time.
const HEADS: usize = 16;

/// A moment of a repository.
pub struct RepositoryPoint {
    repo: InstanceRepo,
    wish: Wish,
    trusted: Vec<PublicKey>,
    identities: Vec<Identity>,
    /// What it fetches with, where that is not what it selects with: a negative control.
    fetch_with: Option<Vec<Identity>>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    progress: Arc<dyn Progress>,
    cancel: CancellationToken,
    parts: Parts,
    plan: OnceCell<Plan>,
    staging: Mutex<Option<WalStaging>>,
}

impl RepositoryPoint {
    /// What `wish` names when the drill begins, opened with `identities`.
    pub fn new(
        repo: InstanceRepo,
        wish: Wish,
        keys: (Vec<PublicKey>, Vec<Identity>),
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Self {
        let (trusted, identities) = keys;
        let (plan, staging) = (OnceCell::new(), Mutex::default());
        let (fetch_with, parts) = (None, Parts::ALL);
        Self { repo, wish, trusted, identities, fetch_with, clock, progress, cancel, parts, plan, staging }
    }

    /// By a plan that was made for the same wish.
    pub fn planned(mut self, plan: Plan) -> Self {
        self.plan = OnceCell::new_with(Some(plan));
        self
    }

    /// Only these parts, where nobody looks at the others: no drill is one.
    pub fn only(mut self, parts: Parts) -> Self {
        self.parts = parts;
        self
    }

    /// With other identities from the moment on when it fetches: for a negative control, whose keys are the wrong ones.
    pub fn fetching_with(mut self, identities: Option<Vec<Identity>>) -> Self {
        self.fetch_with = identities;
        self
    }

    async fn plan(&self) -> Result<&Plan> {
        let plan = || async {
            let planned = recovery::plan(&self.repo, &self.trusted, &self.identities, &self.wish).await;
            planned.map_err(|error| Error::source("cannot select what to rehearse")(Box::new(error)))
        };
        self.plan.get_or_try_init(plan).await
    }

    /// Rung 2: what can be checked without a key and without reading.
    async fn check(&self, point: &Point) -> Result<(Vec<Answered>, VersionsReadBack)> {
        let begun = Instant::now();
        let heads =
            verify(&self.repo, std::slice::from_ref(point), VerifyMode::Heads, Arc::clone(&self.progress)).await;
        let report = heads.map_err(|error| Error::source("cannot look at the point's objects")(Box::new(error)))?;
        let (mut versions, unread) = self.versions(point).await?;
        let signer = format!("signed by key {} ({})", point.signer.id(), point.signer);
        let signature = match point.skipped.as_slice() {
            [] => Answer::passed(signer),
            skipped => Answer::failed(format!("newer points do not verify: {}", skipped.join("; "))),
        };
        let locks = locks::read_back(&self.repo, point).await?;
        let took = begun.elapsed();
        let checks = vec![
            SIGNATURE.answered(signature, took),
            OBJECTS.answered(objects(&report), took),
            VERSIONS.answered(versions_answer(&versions, &unread), took),
            LOCKS.answered(locks::answer(locks.as_ref(), (self.clock)()), took),
        ];
        versions.locks = locks.map(|locks| locks.read_back);
        Ok((checks, versions))
    }

    /// Signs of an attack. They hurt nothing, since a restore reads what was written first: a drill that passes in spite of
    /// them proves it, and says that they are there.
    async fn signs(&self) -> Answered {
        let begun = Instant::now();
        let found = signs(&self.repo, &self.trusted, Arc::clone(&self.progress)).await;
        let answer = match found {
            Ok(report) => signs_answer(&report),
            Err(error) => Answer::not_executed(format!("the repository could not be listed: {error}"))
                .in_public("the repository could not be listed"),
        };
        SIGNS.answered(answer, begun.elapsed())
    }

    /// Asks the store for every recorded version, some at the same time. Also gives what could not be asked, and why.
    async fn versions(&self, point: &Point) -> Result<(VersionsReadBack, Vec<String>)> {
        let (mut versions, mut unread) = (VersionsReadBack::default(), Vec::new());
        let mut asked = JoinSet::new();
        let mut rest = point.header.objects.iter();
        loop {
            while asked.len() < HEADS
                && let Some(object) = rest.next()
            {
                let (store, object) = (self.repo.store().clone(), object.clone());
                asked.spawn(async move {
                    let info = store.head(&object.key, object.version.as_ref()).await;
                    (object, info)
                });
            }
            let Some(answer) = asked.join_next().await else { return Ok((versions, unread)) };
            let (object, info) = answer.map_err(|error| Error::Task(error.to_string()))?;
            match info {
                Ok(info) => count(&mut versions, object, Some(info)),
                Err(lifeboat_store::Error::NotFound { .. }) => count(&mut versions, object, None),
                Err(error) => unread.push(error.to_string()),
            }
        }
    }
}

fn count(versions: &mut VersionsReadBack, object: ObjectRef, info: Option<ObjectInfo>) {
    versions.objects += 1;
    let read_back = info.as_ref().and_then(|info| info.version.clone());
    match (&object.version, &info) {
        (_, None) => versions.missing += 1,
        (None, Some(_)) => versions.without_version += 1,
        (recorded, Some(_)) if *recorded == read_back => versions.equal += 1,
        _ => versions.different += 1,
    }
    if versions.listed.len() < VersionsReadBack::LISTED {
        versions.listed.push(ObjectVersion {
            key: object.key.to_string(),
            recorded: object.version.map(|version| version.0),
            read_back: read_back.map(|version| version.0),
        });
    }
}

fn objects(report: &VerifyReport) -> Answer {
    let line = |problem: &Problem| format!("{}: {}", problem.key, problem.what);
    match report.problems.as_slice() {
        [] => Answer::passed(format!("{} objects, {} bytes", report.objects, report.bytes)),
        problems => Answer::failed(problems.iter().map(line).collect::<Vec<_>>().join("; ")),
    }
}

fn signs_answer(report: &SignsReport) -> Answer {
    let counts = [
        (report.newer_versions, "newer versions of objects"),
        (report.delete_markers, "delete markers"),
        (report.strange_points, "points that nobody trusted has signed, or damaged ones"),
        (report.strange_keys, "objects at keys that Lifeboat does not write"),
        (report.forged, "indexes, WAL objects or documents that nobody trusted has signed, or damaged ones"),
        (report.shortened, "shortened locks"),
    ];
    let found: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    match found.as_slice() {
        [] => Answer::passed(format!("no sign of an attack on {} objects", report.objects)),
        found => Answer::passed(format!("SIGNS OF AN ATTACK, none of it read: {}", found.join(", "))),
    }
}

fn versions_answer(versions: &VersionsReadBack, unread: &[String]) -> Answer {
    if versions.different + versions.missing > 0 {
        let text = format!("{} other versions, {} missing", versions.different, versions.missing);
        return Answer::failed(text);
    }
    if let Some(first) = unread.first() {
        return Answer::not_executed(format!("{} objects could not be asked for: {first}", unread.len()));
    }
    if versions.equal == 0 {
        return Answer::not_executed("this storage has no object versions");
    }
    Answer::passed(format!("{} of {} objects read back by VersionId", versions.equal, versions.objects))
}

#[async_trait]
impl Source for RepositoryPoint {
    async fn size(&self) -> Result<Option<u64>> {
        let plan = self.plan().await?;
        let header = &plan.base.header;
        let files: u64 = header.trees.iter().map(|tree| tree.bytes).sum();
        let log = header.wal.as_ref().map_or(0, |wal| plan.end.max(wal.end).0.saturating_sub(wal.start.0));
        Ok(Some(files.saturating_add(log)))
    }

    async fn select(&self) -> Result<Selected> {
        let now = (self.clock)();
        let plan = self.plan().await?;
        let (point, header) = (&plan.base, &plan.base.header);
        let (checks, versions) = self.check(point).await?;
        let age_seconds = u64::try_from(now.duration_since(header.finished).as_secs()).unwrap_or_default();
        let name = match plan.target {
            Target::PointEnd => format!("recovery point {}", header.point),
            _ => format!("recovery point {}, to {} on timeline {}", header.point, plan.target, plan.timeline),
        };
        Ok(Selected {
            name,
            finished: header.finished,
            reference: reference(plan, now),
            age_seconds,
            point: Some(DrilledPoint {
                id: header.point,
                key: point.key.to_string(),
                sha256: point.sha256,
                version: point.version.as_ref().map(|version| version.0.clone()),
                finished: header.finished,
                age_seconds,
                selected_by: selected_by(&self.wish),
            }),
            repository: Some(header.repository),
            versions,
            checks,
        })
    }

    async fn fetch(&self, _selected: &Selected, to: &Path) -> Result<Fetched> {
        let plan = self.plan().await?;
        let request = RestoreRequest {
            repo: &self.repo,
            plan,
            trusted: &self.trusted,
            identities: self.fetch_with.as_ref().unwrap_or(&self.identities),
            to: to.to_owned(),
            delta: false,
            parts: self.parts,
        };
        let restored = restore::run(request, Arc::clone(&self.progress), &self.cancel).await;
        let mut restored =
            restored.map_err(|error| Error::source("cannot restore what is to be rehearsed")(Box::new(error)))?;
        *self.staging.lock().unwrap_or_else(PoisonError::into_inner) = restored.staging.take();
        let newer = recovery::witness(&self.repo, &self.trusted, &self.identities, plan).await;
        let newer = newer.map_err(|error| Error::source("cannot read the witnesses")(Box::new(error)))?;
        restored.witness = later(plan, restored.witness.take(), newer);
        Ok(fetched(plan, restored))
    }

    async fn staged(&self) -> Result<Staged> {
        let staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(staging) = staging else { return Ok(Staged::default()) };
        let staged = staging.finished(&self.cancel).await;
        staged.map_err(|error| Error::source("cannot bring the write-ahead log")(Box::new(error)))
    }

    async fn look_around(&self) -> Vec<Answered> {
        vec![self.signs().await]
    }

    fn stop(&self) {
        drop(self.staging.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// What the RPO is measured from. A point is rehearsed as if the source had died when its backup was done; a moment, as if it
/// had died then; the latest moment, as if it died now.
fn reference(plan: &Plan, now: Timestamp) -> Option<Timestamp> {
    match plan.target {
        Target::PointEnd => Some(plan.base.header.finished),
        Target::Latest => Some(now),
        Target::Time(_) | Target::Lsn(_) | Target::RestorePoint(_) => plan.moment,
    }
}

fn selected_by(wish: &Wish) -> String {
    let point = wish.point.as_ref().map(|selector| match selector {
        PointSelector::Latest => "latest".to_owned(),
        PointSelector::Id(prefix) => format!("id {prefix}"),
    });
    let timeline = wish.timeline.map(|timeline| format!("timeline {timeline}"));
    let target = match &wish.target {
        Target::PointEnd => None,
        target => Some(format!("target: {target}")),
    };
    let parts: Vec<String> = [point, target, timeline].into_iter().flatten().collect();
    if parts.is_empty() { "latest".to_owned() } else { parts.join(", ") }
}

fn fetched(plan: &Plan, report: RestoreReport) -> Fetched {
    let is_point_end = plan.target == Target::PointEnd;
    Fetched {
        files: report.parts.iter().map(|part| part.files).sum(),
        bytes: report.parts.iter().map(|part| part.bytes).sum(),
        parts: report.parts.iter().map(|part| (part.name.to_owned(), part.seconds)).collect(),
        damage: report.damage.iter().map(describe).collect(),
        began: Some(report.postgres.started),
        wal_begin: Some(report.postgres.start),
        consistent_at: Some(report.postgres.backup_end),
        wal_end: Some(plan.end),
        stop: plan.stop,
        newest_held: plan.newest_commit,
        mark: report.postgres.mark.filter(|_| is_point_end),
        witness: report.witness,
        known_missing: report.notes.vanished_files().collect(),
        notes: [report.remarks, report.notes.remarks].concat(),
    }
}

/// One line of damage.
pub(crate) fn describe(damage: &Damage) -> String {
    let files = damage.files.join(", ");
    format!("{}: {}; hits {} files: {files}", damage.object, damage.reason, damage.file_count)
}

/// The witness that proves most: the one at the later position. The base's own counts only where recovery passes it.
pub(crate) fn later(plan: &Plan, own: Option<Witness>, newer: Option<Witness>) -> Option<Witness> {
    let position = |witness: &Witness| match witness.comparison {
        Comparison::Exact { lsn, .. } => Some(lsn),
        _ => None,
    };
    let own = own.filter(|own| match &own.comparison {
        Comparison::Exact { lsn, timeline, .. } => plan.passes(*timeline, *lsn),
        Comparison::QuietSource { .. } => plan.target == Target::PointEnd,
        _ => true,
    });
    match (own, newer) {
        (Some(own), Some(newer)) if position(&own) >= position(&newer) => Some(own),
        (own, newer) => newer.or(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_model::check::Verdict;

    #[test]
    fn a_version_that_could_not_be_asked_for_is_neither_there_nor_missing() {
        let equal = VersionsReadBack { objects: 2, equal: 2, ..VersionsReadBack::default() };
        assert_eq!(versions_answer(&equal, &[]).verdict, Verdict::Passed);
        let unread = ["head of k was refused: 403".to_owned()];
        assert!(matches!(versions_answer(&equal, &unread).verdict, Verdict::NotExecuted(why) if why.contains("403")));
        let missing = VersionsReadBack { missing: 1, ..equal };
        assert!(matches!(versions_answer(&missing, &unread).verdict, Verdict::Failed(_)));
    }
}
