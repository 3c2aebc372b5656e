//! What kept points need: every object that one of them names, with the latest end of those that name it.
//!
//! Points' headers are read one at a time. What is remembered is 16 bytes of each key's digest and two times, about 50
//! bytes an object, so that a hundred thousand objects cost some MiB and names are never held. Two keys would have to be
//! made that agree in those 16 bytes for one to pass for the other, which nobody can.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::TryStreamExt as _;
use jiff::Timestamp;
use lifeboat_model::{id::PointId, retention::LockMode, signature::PublicKey};
use lifeboat_store::Key;

use crate::{
    error::{Error, Result},
    point::{PointHeader, PointRef},
    repository::InstanceRepo,
};

mod genuine;
mod index;
mod standing;
mod wal;

pub(crate) use genuine::{Streams, objection};
pub(crate) use index::{IndexUse, index_use};
pub(crate) use standing::{NO_PROMISE, Standing, standing};
pub(crate) use wal::{Cover, Proof, WalRule};

/// What policy keeps, and until when: all that retention, prune and the proof of locks go by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// The points that are kept, each with its end: until when its objects must be locked at least.
    pub points: BTreeMap<PointId, Timestamp>,
    /// The points that policy has decided on and does not keep. Only these are ever removed: one that is in neither set
    /// came later, and stays with all that it names.
    pub dropped: BTreeSet<PointId>,
    /// The WAL that is kept.
    pub wal: WalNeeds,
    /// Until when needed slices of the archive must be locked at least.
    pub slice_until: Timestamp,
}

/// Which WAL of the archive, and which documents, are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalNeeds {
    /// WAL is needed from this point's start on. None: from the start of the oldest kept point that has WAL.
    pub base: Option<PointId>,
    /// What the store received since then stays in any case.
    pub since: Timestamp,
    /// Until when needed segments and documents must be locked at least.
    pub until: Timestamp,
}

/// What stands for a key in memory.
pub(crate) type Digest = [u8; 16];

pub(crate) fn digest(key: &Key) -> Digest {
    let hash = blake3::hash(key.as_str().as_bytes());
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// What is known of one object that is needed; times in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    /// The latest end of the points that name it.
    pub end: i64,
    /// The latest lock that a signed header says it was given.
    pub promised: i64,
}

/// The objects that points need.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    objects: HashMap<Digest, Need>,
    spans: Vec<wal::Span>,
    /// When each point that was added was finished.
    finished: HashMap<PointId, Timestamp>,
    /// What was locked less firmly than this counts as not locked.
    least: Option<LockMode>,
}

impl Reach {
    /// Whether what a header promises is as firm as it must be.
    pub fn is_firm(&self, header: &PointHeader) -> bool {
        self.least.is_none() || header.lock_mode >= self.least
    }

    /// Adds what a point names. `rooted`: policy keeps it, so that WAL may be replayed from it on.
    pub fn add(&mut self, header: &PointHeader, end: Timestamp, rooted: bool) {
        let (end, firm) = (end.as_second(), self.is_firm(header));
        for object in &header.objects {
            let promised = object.retain_until.filter(|_| firm).map_or(i64::MIN, Timestamp::as_second);
            let need = self.objects.entry(digest(&object.key)).or_insert(Need { end, promised });
            need.end = need.end.max(end);
            need.promised = need.promised.max(promised);
        }
        if rooted {
            self.finished.insert(header.point, header.finished);
            self.spans.extend(wal::Span::of(header));
        }
    }

    pub fn get(&self, digest: &Digest) -> Option<Need> {
        self.objects.get(digest).copied()
    }

    /// Takes an object out: whoever looks at objects through several points' headers meets each once.
    pub fn take(&mut self, digest: &Digest) -> Option<Need> {
        self.objects.remove(digest)
    }

    pub fn contains(&self, key: &Key) -> bool {
        self.objects.contains_key(&digest(key))
    }

    /// The rule that tells which WAL the points that were added need.
    pub fn wal_rule(&self, needs: &WalNeeds) -> Result<WalRule> {
        let base = match &needs.base {
            Some(id) => Some(*self.finished.get(id).ok_or_else(|| {
                Error::usage(format!(
                    "WAL is to be kept from point {id} on, which is not among the points that are kept"
                ))
            })?),
            None => None,
        };
        Ok(WalRule::new(&self.spans, base, needs.since))
    }
}

/// The points that policy keeps, as the store lists them; an error where one of them is not there: a listing that lacks
/// points is nothing to go by.
pub(crate) async fn kept_points(repo: &InstanceRepo, needs: &Needs) -> Result<Vec<PointRef>> {
    let mut listed = repo.list_points().await?;
    listed.retain(|point| needs.points.contains_key(&point.id));
    let found: BTreeSet<PointId> = listed.iter().map(|point| point.id).collect();
    match needs.points.keys().find(|id| !found.contains(id)) {
        Some(missing) => Err(not_listed(repo, missing)),
        None => Ok(listed),
    }
}

pub(crate) fn not_listed(repo: &InstanceRepo, point: &PointId) -> Error {
    let object = format!("point {point} of {}/{}", repo.tenant(), repo.instance());
    let reason = "policy keeps it, and the store does not list it or has another object in its place".to_owned();
    Error::Unreliable { object, reason }
}

/// Reads the kept points one after the other, and adds what they need; what they say of locks counts where these are at
/// least so firm. Keys under which other objects lie are passed over.
pub(crate) async fn read_kept(
    repo: &InstanceRepo,
    needs: &Needs,
    trusted: &[PublicKey],
    mode: LockMode,
) -> Result<(Reach, Vec<PointRef>)> {
    let (mut reach, mut good) = (Reach { least: Some(mode), ..Reach::default() }, Vec::new());
    for reference in kept_points(repo, needs).await? {
        let Standing::Good(header) = standing(repo, &reference, trusted).await? else { continue };
        let end = needs.points.get(&reference.id).copied().unwrap_or_default();
        reach.add(&header, end, true);
        good.push(reference);
    }
    let found: BTreeSet<PointId> = good.iter().map(|point| point.id).collect();
    match needs.points.keys().find(|id| !found.contains(id)) {
        Some(missing) => Err(not_listed(repo, missing)),
        None => Ok((reach, good)),
    }
}

/// The system that streams now: that of the timeline document which the store received last.
pub(crate) async fn newest_system(repo: &InstanceRepo) -> Result<Option<u64>> {
    use crate::document::DocumentKind::Timeline;
    let mut listed = repo.store().list(&repo.layout().prefix(Timeline.folder()));
    let mut newest = None;
    while let Some(info) = listed.try_next().await? {
        if let Some((position, _)) = repo.layout().document_parts(Timeline, &info.key) {
            newest = newest.max(Some((info.modified, position.system_id)));
        }
    }
    Ok(newest.map(|(_, system)| system))
}
