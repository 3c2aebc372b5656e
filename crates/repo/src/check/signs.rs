//! Signs of an attack: what only somebody else can have put into the repository.
//!
//! A release writes each key once. So a newer version, a delete marker, an object at a key that no release writes, a
//! point, index, WAL or document that is not signed, and a lock that is shorter than a signed header says, were somebody else's doing (or an
//! accident). None of it hurts: the first version counts, and headers tell. One listing of versions and the first bytes of what is signed find
//! them.

use std::sync::Arc;

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use lifeboat_model::signature::PublicKey;
use lifeboat_store::{Key, ObjectInfo, VersionId};

use crate::{
    error::{Error, Result},
    layout,
    point::PointRef,
    progress::{Counter, Progress},
    prune::{Found, PruneKind, Versions, kind_at},
    reach::{Standing, objection, standing},
    repository::InstanceRepo,
};

/// Signs told one by one.
const TOLD: usize = 1000;
/// Headers read at the same time.
const AT_ONCE: usize = 16;

/// What kind of sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SignKind {
    /// A version that was put over an object.
    NewerVersion,
    /// A delete marker.
    DeleteMarker,
    /// An object at a key that no release writes.
    StrangeKey,
    /// An object in the folder of points that no trusted key signed, or that was copied or renamed.
    StrangePoint,
    /// A point whose object is damaged or cannot be understood.
    DamagedPoint,
    /// An index object that no trusted key signed for this place, or a damaged one.
    StrangeIndex,
    /// The same of WAL of the archive.
    StrangeWal,
    /// The same of a document.
    StrangeDocument,
    /// A point whose lock is shorter than it says it was given.
    ShortenedLock,
}

impl SignKind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            SignKind::NewerVersion => "newer-version",
            SignKind::DeleteMarker => "delete-marker",
            SignKind::StrangeKey => "strange-key",
            SignKind::StrangePoint => "strange-point",
            SignKind::DamagedPoint => "damaged-point",
            SignKind::StrangeIndex => "strange-index",
            SignKind::StrangeWal => "strange-wal",
            SignKind::StrangeDocument => "strange-document",
            SignKind::ShortenedLock => "shortened-lock",
        }
    }
}

/// One sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sign {
    /// Where.
    pub key: Key,
    /// Which version, where the store has versions.
    pub version: Option<VersionId>,
    /// What it is.
    pub kind: SignKind,
    /// In words.
    pub what: String,
    /// When the store received it.
    pub at: Timestamp,
}

/// All signs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignsReport {
    /// Objects looked at.
    pub objects: u64,
    /// Versions that were put over objects.
    pub newer_versions: u64,
    /// Delete markers.
    pub delete_markers: u64,
    /// Objects at keys that no release writes.
    pub strange_keys: u64,
    /// Objects in the folder of points that count for nothing, or are damaged.
    pub strange_points: u64,
    /// Index objects, WAL and documents that no trusted key signed for their place, or damaged ones.
    pub forged: u64,
    /// Points whose lock is shorter than they say.
    pub shortened: u64,
    /// The signs themselves; the first thousand.
    pub samples: Vec<Sign>,
    /// How many are not among them.
    pub more: u64,
}

impl SignsReport {
    /// How many signs there are.
    pub fn count(&self) -> u64 {
        self.samples.len() as u64 + self.more
    }

    fn add(&mut self, sign: Sign) {
        let counter = match sign.kind {
            SignKind::NewerVersion => &mut self.newer_versions,
            SignKind::DeleteMarker => &mut self.delete_markers,
            SignKind::StrangeKey => &mut self.strange_keys,
            SignKind::StrangePoint | SignKind::DamagedPoint => &mut self.strange_points,
            SignKind::StrangeIndex | SignKind::StrangeWal | SignKind::StrangeDocument => &mut self.forged,
            SignKind::ShortenedLock => &mut self.shortened,
        };
        *counter += 1;
        match self.samples.len() < TOLD {
            true => self.samples.push(sign),
            false => self.more += 1,
        }
    }
}

/// Looks for signs of an attack in an instance's part of the repository, its tenant's evidence and journals, and the marker.
pub async fn signs(repo: &InstanceRepo, trusted: &[PublicKey], progress: Arc<dyn Progress>) -> Result<SignsReport> {
    let (report, heads) = (SignsReport::default(), FuturesUnordered::new());
    let mut look = Look { repo, trusted: trusted.into(), progress, report, heads };
    look.versions(&repo.layout().root(), |layout, key| kind_at(layout, key).is_some()).await?;
    look.versions(&format!("{}/evidence/", repo.tenant()), |layout, key| layout::is_evidence(layout.tenant(), key))
        .await?;
    let journals = layout::journals_root(repo.tenant());
    look.versions(&journals, |layout, key| layout::is_journal(layout.tenant(), key)).await?;
    while look.head().await? {}
    look.versions(layout::REPOSITORY, |_, key| key.as_str() == layout::REPOSITORY).await?;
    Ok(look.report)
}

struct Look<'a> {
    repo: &'a InstanceRepo,
    trusted: Arc<[PublicKey]>,
    progress: Arc<dyn Progress>,
    report: SignsReport,
    /// Signed headers that are being read.
    heads: FuturesUnordered<BoxFuture<'static, Answer>>,
}

/// What was looked at, and what speaks against it.
type Answer = Result<(ObjectInfo, SignKind, Option<String>)>;

impl Look<'_> {
    async fn versions(&mut self, prefix: &str, is_ours: impl Fn(&layout::Layout, &Key) -> bool) -> Result<()> {
        let leases = self.repo.layout().prefix("lease");
        let mut versions = Versions::new(&**self.repo.store(), prefix);
        while let Some(found) = versions.next().await? {
            self.progress.add(Counter::Objects, 1);
            match found {
                // Releases delete their leases, and did so without naming a version.
                Found::Foreign(version) if version.info.key.as_str().starts_with(&leases) => {}
                Found::Foreign(version) if version.delete_marker => {
                    self.sign(version.info, SignKind::DeleteMarker, "a delete marker was laid over it".into());
                }
                Found::Foreign(version) => {
                    self.sign(version.info, SignKind::NewerVersion, "a newer version was put over it".into());
                }
                Found::Object { info, .. } if !is_ours(self.repo.layout(), &info.key) => {
                    self.report.objects += 1;
                    self.sign(info, SignKind::StrangeKey, "no release writes such a key".into());
                }
                Found::Object { info, .. } => {
                    self.report.objects += 1;
                    match kind_at(self.repo.layout(), &info.key) {
                        Some(PruneKind::Point) => self.point(info).await?,
                        Some(PruneKind::Index) => self.signed(info, SignKind::StrangeIndex).await?,
                        Some(PruneKind::Segment | PruneKind::Slice) => {
                            self.signed(info, SignKind::StrangeWal).await?;
                        }
                        Some(PruneKind::Document) => self.signed(info, SignKind::StrangeDocument).await?,
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn sign(&mut self, info: ObjectInfo, kind: SignKind, what: String) {
        let ObjectInfo { key, version, modified: at, .. } = info;
        self.report.add(Sign { key, version, kind, what, at });
    }

    /// Begins to read an object's signed header.
    async fn signed(&mut self, info: ObjectInfo, kind: SignKind) -> Result<()> {
        while self.heads.len() >= AT_ONCE {
            self.head().await?;
        }
        let (repo, trusted) = (self.repo.clone(), self.trusted.clone());
        self.heads.push(Box::pin(async move {
            let why = objection(&repo, &info, &trusted).await?;
            Ok((info, kind, why))
        }));
        Ok(())
    }

    async fn head(&mut self) -> Result<bool> {
        let Some(answer) = self.heads.next().await else { return Ok(false) };
        if let (info, kind, Some(why)) = answer? {
            self.sign(info, kind, why);
        }
        Ok(true)
    }

    async fn point(&mut self, info: ObjectInfo) -> Result<()> {
        let Some((time, id)) = layout::point_parts(&info.key) else { return Ok(()) };
        let (key, version, modified) = (info.key.clone(), info.version.clone(), info.modified);
        let reference = PointRef { time, id, key, version, len: info.len, modified };
        match standing(self.repo, &reference, &self.trusted).await {
            Ok(Standing::Good(header)) => {
                // In a copy the locks are others than those that the headers tell of.
                if let Some(promised) = header.retain_until.filter(|_| !self.repo.is_replica()) {
                    self.lock(info, promised).await?;
                }
            }
            Ok(Standing::Gone) => {}
            Ok(Standing::Foreign { why, .. }) => self.sign(info, SignKind::StrangePoint, why),
            Err(Error::Unreliable { reason, .. }) => self.sign(info, SignKind::DamagedPoint, reason),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn lock(&mut self, info: ObjectInfo, promised: Timestamp) -> Result<()> {
        let state = match self.repo.store().lock_state(&info.key, info.version.as_ref()).await {
            Err(lifeboat_store::Error::NotFound { .. }) => return Ok(()),
            other => other?,
        };
        let found = state.retention.map(|retention| retention.until);
        if found.is_none_or(|found| found < promised) {
            let now = found.map_or_else(|| "is not locked".to_owned(), |found| format!("is until {found}"));
            self.sign(info, SignKind::ShortenedLock, format!("it was locked until {promised}, and {now}"));
        }
        Ok(())
    }
}
