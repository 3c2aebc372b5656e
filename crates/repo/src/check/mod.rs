//! Checks that what points name is there and unharmed: each object once, in bounded memory.
//!
//! Without keys, by length and version, or by the SHA-256 of the ciphertext. With a recovery identity, every pack is
//! also opened and each of its chunks compared with its id; the places of the good ones go into sorted files on disk,
//! and every extent of every tree is then looked up there. So no data is read twice, and a damaged object is named
//! together with the files that it hits.
//!
//! The archive of WAL, which no point names, has a check of its own: [`wal()`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use lifeboat_model::id::{PointId, Sha256Digest};
use lifeboat_store::Key;
use sha2::{Digest as _, Sha256};

use crate::{
    blocking::blocking,
    error::{Error, Result},
    point::{ObjectRef, Point},
    progress::{Counter, Progress},
    reader::restore::damage_of,
    repository::InstanceRepo,
    seal::Identity,
};

mod data;
mod locks;
mod scrub;
mod signs;
mod wal;

pub use locks::{LocksReport, locks};
pub use scrub::{ScrubCursor, ScrubOptions, ScrubReport, days_of_share, scrub};
pub use signs::{Sign, SignKind, SignsReport, signs};
pub use wal::{StreamReport, WalCheckMode, WalCheckReport, wal};

/// Objects looked at the same time without reading them.
const HEADS: usize = 16;
/// Objects read at the same time, and the part of each that is in memory.
const READS: usize = 3;
const PART: u64 = 8 << 20;
/// Files named for each object.
const NAMED: usize = 20;

/// How closely to look.
#[derive(Debug, Clone)]
pub enum VerifyMode {
    /// Every object is there, with its length and version. Reads nothing.
    Heads,
    /// The SHA-256 of every object's ciphertext fits. Needs no decryption key.
    ReadCiphertext,
    /// Also opens every object and checks every chunk that the points use.
    ReadData(Vec<Identity>),
}

/// Something wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The object.
    pub key: Key,
    /// What is wrong.
    pub what: String,
    /// The points that name it.
    pub points: Vec<PointId>,
    /// The first files that it hits, where trees could be read.
    pub files: Vec<String>,
    /// How many files it hits.
    pub file_count: u64,
}

/// What a verification saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Points looked at.
    pub points: u64,
    /// Objects looked at.
    pub objects: u64,
    /// Bytes read (`Heads`: bytes that should be there).
    pub bytes: u64,
    /// Chunks opened and compared with their ids.
    pub chunks: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Verifies what `points` name, each object once. Damage is reported, not an error; an unreachable store and a wrong
/// identity are errors.
pub async fn verify(
    repo: &InstanceRepo,
    points: &[Point],
    mode: VerifyMode,
    progress: Arc<dyn Progress>,
) -> Result<VerifyReport> {
    let repo = repo.as_named_by(points);
    let check = Check::new(&repo, points, progress);
    let report = VerifyReport { points: points.len() as u64, ..VerifyReport::default() };
    let report = Mutex::new(report);
    match mode {
        VerifyMode::Heads => check.each(HEADS, &report, |object| check.head(object)).await?,
        VerifyMode::ReadCiphertext => check.each(READS, &report, |object| check.ciphertext(object)).await?,
        VerifyMode::ReadData(identities) => data::verify(&check, points, &identities, &report).await?,
    }
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    let problems = std::mem::take(&mut *check.problems());
    report.problems = problems.into_values().collect();
    Ok(report)
}

/// An object and the points that name it.
struct Named {
    object: ObjectRef,
    points: Vec<PointId>,
}

/// A verification that is going on.
struct Check<'a> {
    repo: &'a InstanceRepo,
    objects: BTreeMap<Key, Named>,
    problems: Mutex<BTreeMap<Key, Problem>>,
    progress: Arc<dyn Progress>,
}

impl<'a> Check<'a> {
    fn new(repo: &'a InstanceRepo, points: &[Point], progress: Arc<dyn Progress>) -> Self {
        let mut check = Self { repo, objects: BTreeMap::new(), problems: Mutex::default(), progress };
        for point in points {
            for object in &point.header.objects {
                let new = || Named { object: object.clone(), points: Vec::new() };
                let named = check.objects.entry(object.key.clone()).or_insert_with(new);
                named.points.push(point.header.point);
                if (named.object.len, named.object.sha256) != (object.len, object.sha256) {
                    let text = "points disagree about it: what one of them names was overwritten";
                    let points = named.points.clone();
                    let problem = Problem { points, ..problem(&object.key, text.into()) };
                    check.problems().insert(object.key.clone(), problem);
                }
            }
        }
        check
    }

    fn problems(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Problem>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is wrong with an object; the first thing is kept. `file` is one that it hits.
    fn note(&self, key: &Key, what: &str, file: Option<&str>) {
        let mut problems = self.problems();
        let points = || self.objects.get(key).map(|named| named.points.clone()).unwrap_or_default();
        let new = || Problem { points: points(), ..problem(key, what.to_owned()) };
        let problem = problems.entry(key.clone()).or_insert_with(new);
        if let Some(file) = file {
            problem.file_count += 1;
            if problem.files.len() < NAMED {
                problem.files.push(file.to_owned());
            }
        }
    }

    /// Sorts an error into damage of its object, and what must end the verification.
    fn sort<T>(&self, key: &Key, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => match damage_of(&error) {
                Some((_, what)) => {
                    self.note(key, &what, None);
                    Ok(None)
                }
                None => Err(error),
            },
        }
    }

    /// Looks at every object, some at the same time; `look` gives the bytes it saw.
    async fn each<F: Future<Output = Result<u64>> + Send + 'a>(
        &'a self,
        at_once: usize,
        report: &Mutex<VerifyReport>,
        look: impl Fn(&'a ObjectRef) -> F,
    ) -> Result<()> {
        let mut rest = self.objects.values();
        // A loop instead of stream adapters: their closures over references keep the future from being `Send`.
        let mut looks: FuturesUnordered<BoxFuture<'a, (&'a Key, Result<u64>)>> = FuturesUnordered::new();
        loop {
            while looks.len() < at_once
                && let Some(Named { object, .. }) = rest.next()
            {
                let looking = look(object);
                looks.push(Box::pin(async move { (&object.key, looking.await) }));
            }
            let Some((key, result)) = looks.next().await else { return Ok(()) };
            let bytes = self.sort(key, result)?.unwrap_or(0);
            self.progress.add(Counter::Objects, 1);
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.objects += 1;
            report.bytes += bytes;
        }
    }

    async fn head(&self, object: &ObjectRef) -> Result<u64> {
        let info = self.repo.store().head(&object.key, object.version.as_ref()).await?;
        if info.len != object.len {
            let what = format!("it has {} bytes, {} were written", info.len, object.len);
            return Err(Error::damaged(&object.key, what));
        }
        Ok(info.len)
    }

    async fn ciphertext(&self, object: &ObjectRef) -> Result<u64> {
        self.head(object).await?;
        let mut hash = Sha256::new();
        let mut start = 0;
        while start < object.len {
            let end = object.len.min(start + PART);
            let part = self.repo.store().get(&object.key, object.version.as_ref(), Some(start..end)).await?;
            self.progress.add(Counter::FetchedBytes, part.len() as u64);
            let hashing = move || Ok(hash.chain_update(&part));
            hash = blocking("verifying", hashing).await?;
            start = end;
        }
        compare(object, Sha256Digest(hash.finalize().into()))?;
        Ok(object.len)
    }
}

fn problem(key: &Key, what: String) -> Problem {
    Problem { key: key.clone(), what, points: Vec::new(), files: Vec::new(), file_count: 0 }
}

fn compare(object: &ObjectRef, seen: Sha256Digest) -> Result<()> {
    if seen == object.sha256 {
        return Ok(());
    }
    Err(Error::damaged(&object.key, "its SHA-256 is not the one that the point names: its bytes were changed"))
}
