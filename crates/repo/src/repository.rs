//! The repository as a whole, and one instance's part of it.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use futures::TryStreamExt as _;
use jiff::Timestamp;
use lifeboat_model::{
    id::{Instance, PointId, RepositoryId, Tenant},
    retention::LockMode,
    signature::{PublicKey, SigningKey},
};
use lifeboat_store::{Key, ObjectInfo, Retention, SharedStore, Store as _, VersionId, first::FirstVersionStore};
use serde::{Deserialize, Serialize};

use crate::{
    envelope::{self, Version},
    error::{Error, Result},
    layout::{self, Layout},
    locks::{self, Locks},
    picture::PICTURE,
    point::{self, FORMAT, Point, PointHeader, PointRef, PointSelector},
    trust::{Revocation, Trust},
    writer::Clock,
};

/// The content of `lifeboat.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    format: u32,
    /// [`REPLICA`] in a copy: a release that does not know of copies would write into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    features: Vec<String>,
    repository: RepositoryId,
    created: Timestamp,
    /// It is a copy of the repository with this id: VersionIds in headers are those of the primary.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    replica: bool,
}

/// In the features of a marker whose repository is a copy.
const REPLICA: &str = "replica";
/// The folder of the ledger below a tenant's evidence.
const LEDGER: &str = "ledger/";

/// A store that holds a repository.
#[derive(Debug, Clone)]
pub struct Repository {
    store: SharedStore,
    id: RepositoryId,
    created: Timestamp,
    replica: bool,
    evidence_lock: Option<EvidenceLock>,
    revocations: Arc<[Revocation]>,
    doubts: Arc<[Revocation]>,
}

/// How far ahead of the store's clock a point's time may be: no writer works with a larger difference. Until the store's
/// time has come so far, no backup can follow on such a point.
const MOST_AHEAD: Duration = Duration::from_secs(15 * 60);
/// The longest evidence: what somebody else put there must not fill the memory.
const LONGEST_EVIDENCE: u64 = 16 << 20;
/// A point that is longer is not read whole before its first bytes have been seen to be a point's.
const LONG: u64 = 1 << 20;

/// How long evidence is locked.
#[derive(Clone)]
pub(crate) struct EvidenceLock {
    mode: LockMode,
    length: Duration,
    clock: Clock,
}

impl EvidenceLock {
    /// The lock of what is put now.
    pub(crate) fn retention(&self) -> Retention {
        let until = locks::round_up(locks::later((self.clock)(), self.length));
        Retention { mode: self.mode, until }
    }
}

impl fmt::Debug for EvidenceLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?}", self.mode, self.length)
    }
}

/// An evidence object's place, as a listing tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceRef {
    /// Its key.
    pub key: Key,
    /// The first version of the key, where the store has versions: no other counts.
    pub version: Option<VersionId>,
    /// Length in bytes.
    pub len: u64,
    /// When the store received it, by its own clock.
    pub modified: Timestamp,
}

impl Repository {
    /// Makes the store a repository. Where it is one already, that one is opened and `id` is not used.
    pub async fn init(store: SharedStore, id: RepositoryId, now: Timestamp) -> Result<Self> {
        match Self::open(store.clone()).await {
            Err(Error::NotARepository { .. }) => {}
            other => return other,
        }
        let marker = Marker { format: FORMAT, features: Vec::new(), repository: id, created: now, replica: false };
        Self::mark(store, &marker).await
    }

    /// Makes the store a copy of `primary`: the same id, and nothing is written into it but copies. Where it is that
    /// already, it is opened; a repository of its own, or a copy of another one, is refused.
    pub async fn init_replica(store: SharedStore, primary: &Repository) -> Result<Self> {
        let opened = match Self::open(store.clone()).await {
            Err(Error::NotARepository { .. }) => {
                let (repository, created) = (primary.id, primary.created);
                let features = vec![REPLICA.to_owned()];
                let marker = Marker { format: FORMAT, features, repository, created, replica: true };
                Self::mark(store, &marker).await?
            }
            opened => opened?,
        };
        if opened.replica && opened.id == primary.id {
            return Ok(opened);
        }
        let is = if opened.replica { "a copy of repository" } else { "a repository of its own, with id" };
        Err(Error::NotACopy { store: opened.store.describe(), is: format!("{is} {}", opened.id), of: primary.id })
    }

    async fn mark(store: SharedStore, marker: &Marker) -> Result<Self> {
        let json = serde_json::to_vec_pretty(marker).expect("a marker has only text keys");
        match store.put(&marker_key(), json.into()).await {
            Ok(_) | Err(lifeboat_store::Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // Read back: of two that run at once, both then use what the store kept.
        Self::open(store).await
    }

    /// Opens an existing repository.
    pub async fn open(store: SharedStore) -> Result<Self> {
        let key = marker_key();
        // The first version of the marker counts, as of every object: read by key alone, it would be whoever wrote last.
        let first = FirstVersionStore::new(store.clone());
        let bytes = match first.get(&key, None, None).await {
            Err(lifeboat_store::Error::NotFound { .. }) => {
                return Err(Error::NotARepository { store: store.describe() });
            }
            other => other?,
        };
        let bad = |e: serde_json::Error| Error::damaged(&key, e);
        serde_json::from_slice::<Version>(&bytes).map_err(bad)?.check_for(&key, &[REPLICA])?;
        let Marker { repository: id, created, replica, .. } = serde_json::from_slice(&bytes).map_err(bad)?;
        let store = if replica { Arc::new(first) } else { store };
        Ok(Self {
            store,
            id,
            created,
            replica,
            evidence_lock: None,
            revocations: Arc::default(),
            doubts: Arc::default(),
        })
    }

    /// From now on, evidence is locked so firmly and for so long from its writing on, by the store's time.
    pub fn with_evidence_lock(self, lock: Option<(LockMode, Duration, Clock)>) -> Self {
        let evidence_lock = lock.map(|(mode, length, clock)| EvidenceLock { mode, length, clock });
        Self { evidence_lock, ..self }
    }

    /// From now on, what these keys signed and the store received later does not count, in all instances.
    pub fn with_revocations(self, revocations: Vec<Revocation>) -> Self {
        Self { revocations: revocations.into(), ..self }
    }

    /// From now on, a point of a copy that one of these keys signed is nobody's newest where the copy received it later: see
    /// [`InstanceRepo::doubt`].
    pub fn with_doubts(self, doubts: Vec<Revocation>) -> Self {
        Self { doubts: doubts.into(), ..self }
    }

    pub(crate) fn evidence_lock(&self) -> Option<&EvidenceLock> {
        self.evidence_lock.as_ref()
    }

    /// The keys that are revoked.
    pub fn revocations(&self) -> &[Revocation] {
        &self.revocations
    }

    /// Whether it is a copy: then only copies are written into it.
    pub fn is_replica(&self) -> bool {
        self.replica
    }

    /// Its id.
    pub fn id(&self) -> RepositoryId {
        self.id
    }

    /// When it was created.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// Where it lies.
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    /// One instance's part; nothing is read yet.
    pub fn instance(&self, tenant: &Tenant, instance: &Instance) -> InstanceRepo {
        let layout = Layout::new(tenant.clone(), instance.clone());
        let (store, repository, replica) = (self.store.clone(), self.id, self.replica);
        let (revocations, doubts) = (self.revocations.clone(), self.doubts.clone());
        InstanceRepo { store, repository, replica, layout, locks: None, revocations, doubts }
    }

    /// The instances of a tenant that have recovery points, in the order of their names. Asks for two names of each,
    /// however much is stored.
    pub async fn instances(&self, tenant: &Tenant) -> Result<Vec<Instance>> {
        let prefix = format!("{tenant}/");
        let (mut found, mut after) = (Vec::new(), String::new());
        while let Some(object) = self.store.list_from(&prefix, &after).try_next().await? {
            let name = object.key.as_str()[prefix.len()..].split('/').next().unwrap_or_default();
            if let Ok(instance) = name.parse::<Instance>() {
                let points = self.instance(tenant, &instance).layout.prefix("points");
                if self.store.list(&points).try_next().await?.is_some() {
                    found.push(instance);
                }
            }
            after = format!("{prefix}{name}/~"); // sorts after every key of the folder
        }
        found.sort(); // keys sort otherwise: `a-b/` comes before `a/`
        Ok(found)
    }

    /// Writes an evidence object `<tenant>/evidence/<name>`, once.
    pub async fn put_evidence(&self, tenant: &Tenant, name: &str, bytes: bytes::Bytes) -> Result<Key> {
        let key = Layout::evidence(tenant, name)?;
        let retention = self.evidence_lock.as_ref().map(EvidenceLock::retention);
        self.store.put_locked(&key, bytes, retention).await?;
        Ok(key)
    }

    /// A tenant's evidence whose name starts with `prefix`, in the order of the names, without pictures. What belongs to the
    /// ledger is left out, and not even listed: it has more objects than there are statements.
    pub async fn list_evidence(&self, tenant: &Tenant, prefix: &str) -> Result<Vec<EvidenceRef>> {
        self.list_evidence_from(tenant, prefix, "").await
    }

    /// Those whose name comes after `after`.
    pub async fn list_evidence_from(&self, tenant: &Tenant, prefix: &str, after: &str) -> Result<Vec<EvidenceRef>> {
        let root = format!("{tenant}/evidence/");
        let (prefix, ledger) = (format!("{root}{prefix}"), format!("{root}{LEDGER}"));
        let mut after = if after.is_empty() { String::new() } else { format!("{root}{after}") };
        let mut found = Vec::new();
        loop {
            let mut listed = self.store.list_from(&prefix, &after);
            let mut skipped = false;
            while let Some(info) = listed.try_next().await? {
                if info.key.as_str().starts_with(&ledger) {
                    skipped = true;
                    break;
                }
                if !info.key.as_str().ends_with(PICTURE) {
                    found.push(EvidenceRef::from(info));
                }
            }
            if !skipped {
                return Ok(found);
            }
            after = format!("{ledger}~"); // sorts after every key of the folder
        }
    }

    /// Reads an evidence object.
    pub async fn get_evidence(&self, evidence: &EvidenceRef) -> Result<bytes::Bytes> {
        let EvidenceRef { key, version, len, .. } = evidence;
        if *len > LONGEST_EVIDENCE {
            return Err(Error::damaged(key, format!("it has {len} bytes; no statement has so many")));
        }
        Ok(self.store.get(key, version.as_ref(), None).await?)
    }
}

pub(crate) fn marker_key() -> Key {
    Key::new(layout::REPOSITORY).expect("a fixed valid key")
}

/// One instance's part of a repository. Cheap to clone.
#[derive(Debug, Clone)]
pub struct InstanceRepo {
    store: SharedStore,
    repository: RepositoryId,
    replica: bool,
    layout: Layout,
    locks: Option<Locks>,
    revocations: Arc<[Revocation]>,
    doubts: Arc<[Revocation]>,
}

impl InstanceRepo {
    /// Where it lies.
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    /// The repository's id.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// The owner.
    pub fn tenant(&self) -> &Tenant {
        self.layout.tenant()
    }

    /// The instance.
    pub fn instance(&self) -> &Instance {
        self.layout.instance()
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether it lies in a copy.
    pub fn is_replica(&self) -> bool {
        self.replica
    }

    /// Refuses a copy: what is written into one and not into its primary would belong to neither.
    pub(crate) fn check_not_replica(&self) -> Result<()> {
        match self.replica {
            true => Err(Error::Replica { store: self.store.describe() }),
            false => Ok(()),
        }
    }

    /// The repository as a reader of these points must see it. Where one names an object without a version, since the
    /// bucket had none when it was written, and the store has versions now, the first version of each key is read.
    pub(crate) fn as_named_by<'a>(&self, points: impl IntoIterator<Item = &'a Point>) -> Self {
        let mut objects = points.into_iter().flat_map(|point| &point.header.objects);
        if !self.store.capabilities().versions || objects.all(|object| object.version.is_some()) {
            return self.clone();
        }
        Self { store: Arc::new(FirstVersionStore::new(self.store.clone())), ..self.clone() }
    }

    /// The store as an object must be asked for that a signed header names with this version: with none, since the bucket
    /// had none when it was written, the first version of its key is meant, never the newest.
    pub fn store_of(&self, version: Option<&VersionId>) -> SharedStore {
        match version {
            None if self.store.capabilities().versions => Arc::new(FirstVersionStore::new(self.store.clone())),
            _ => self.store.clone(),
        }
    }

    /// The same part as another store shows it: for negative controls, which show a drill what they may not write.
    pub fn seen_through(self, store: SharedStore) -> Self {
        Self { store, ..self }
    }

    /// What a thief could make of a point: the same content as another, newer point, signed by a key of his own. It is given,
    /// not written; for negative controls.
    pub fn forgery(
        &self,
        of: &Point,
        finished: Timestamp,
        id: PointId,
        signing: &SigningKey,
    ) -> Result<(Key, bytes::Bytes)> {
        let header = PointHeader { point: id, finished, ..of.header.clone() };
        Ok((self.layout.point(finished, id), point::encode(&header, &of.sealed, signing)?.into()))
    }

    /// From now on, everything that is written is locked like this; with none, nothing is.
    pub fn with_locks(self, locks: Option<Locks>) -> Self {
        Self { locks, ..self }
    }

    /// How what is written is locked.
    pub fn locks(&self) -> Option<&Locks> {
        self.locks.as_ref()
    }

    /// What these keys signed does not count where the store received it after the key was revoked.
    pub fn with_revocations(self, revocations: Vec<Revocation>) -> Self {
        Self { revocations: revocations.into(), ..self }
    }

    /// What an object's signatures are held against that the store received at this time.
    pub(crate) fn trust<'a>(&'a self, trusted: &'a [PublicKey], received: Timestamp) -> Trust<'a> {
        Trust { trusted, revoked: &self.revocations, received: Some(received) }
    }

    /// Why a point of a copy is nobody's newest. Its key is revoked, and the copy's own time of receipt, which is that of
    /// copying, does not say whether the primary had it before: it may be genuine and it may be forged. It can be had by
    /// its id, and a drill tells which it is.
    pub fn doubt(&self, signer: &PublicKey, received: Timestamp) -> Option<String> {
        let mut revoked = self.doubts.iter().chain(self.revocations.iter());
        let revoked = revoked.find(|one| self.replica && one.key == *signer && received > one.at)?;
        Some(format!(
            "the key that signed it was revoked as of {:.0}, and it was copied later, at {received:.0}: whether it is older \
             than the theft cannot be seen here, so it is taken only by its id, after a drill",
            revoked.at
        ))
    }

    /// Of points: in a copy, a revoked key makes them doubtful, not void ([`InstanceRepo::doubt`]).
    fn trust_of_point<'a>(&'a self, trusted: &'a [PublicKey], received: Timestamp) -> Trust<'a> {
        match self.replica {
            true => Trust { revoked: &[], ..self.trust(trusted, received) },
            false => self.trust(trusted, received),
        }
    }

    /// The keys that are revoked.
    pub fn revocations(&self) -> &[Revocation] {
        &self.revocations
    }

    /// Refuses to sign with a key that nobody would believe.
    pub(crate) fn check_signer(&self, key: &PublicKey) -> Result<()> {
        match self.revocations.iter().find(|revocation| revocation.key == *key) {
            Some(Revocation { at, .. }) => Err(Error::RevokedSigner { at: *at }),
            None => Ok(()),
        }
    }

    /// The first version of a key: the object. What was put over it later does not count.
    pub(crate) async fn first(&self, key: &Key) -> Result<ObjectInfo> {
        // Of all keys that start with it, the key itself sorts first.
        match self.store.list(key.as_str()).try_next().await? {
            Some(info) if info.key == *key => Ok(info),
            _ => Err(lifeboat_store::Error::NotFound { key: key.to_string() }.into()),
        }
    }

    /// All recovery points by their keys, oldest first. Nothing is opened, so nothing is said of their validity.
    pub async fn list_points(&self) -> Result<Vec<PointRef>> {
        let mut objects = self.store.list(&self.layout.prefix("points"));
        let mut points = Vec::new();
        while let Some(object) = objects.try_next().await? {
            if let Some((time, id)) = layout::point_parts(&object.key) {
                let ObjectInfo { key, version, len, modified } = object;
                points.push(PointRef { time, id, key, version, len, modified });
            }
        }
        points.sort_by_key(|point| (point.time, point.id));
        Ok(points)
    }

    /// Reads a point and verifies digest, signature and that it belongs where it lies.
    pub async fn read_point(&self, reference: &PointRef, trusted: &[PublicKey]) -> Result<Point> {
        let PointRef { key, version, len, modified, .. } = reference.clone();
        if len > point::LONGEST {
            return Err(Error::damaged(&key, format!("it has {len} bytes; no recovery point has so many")));
        }
        if len > LONG {
            let start = self.store.get(&key, version.as_ref(), Some(0..envelope::START)).await?;
            envelope::check_start::<PointHeader>(&key, &start, len)?;
        }
        let bytes = self.store.get(&key, version.as_ref(), None).await?;
        let info = ObjectInfo { key, len, version, modified };
        let read = point::decode(&info, &bytes, &self.trust_of_point(trusted, modified));
        read.and_then(|point| self.in_its_place(point)).map_err(|error| first_version(&info, error))
    }

    fn in_its_place(&self, point: Point) -> Result<Point> {
        let PointHeader { repository, tenant, instance, finished, point: id, .. } = &point.header;
        let here = *repository == self.repository && (tenant, instance) == (self.tenant(), self.instance());
        // The whole name, time included: an old point under a newer name would pass for the newest.
        if here && point.key == self.layout.point(*finished, *id) {
            return self.not_of_the_future(point);
        }
        let of = format!("{id} of {tenant}/{instance}, finished {finished:.0}, in repository {repository}");
        Err(Error::Untrusted { object: point.key.to_string(), reason: format!("it is a copy of point {of}") })
    }

    /// Refuses a point that says that it was finished long after the store received it: with a stolen key somebody could
    /// else make a newest point for ever, and no later backup would find a time to be finished at. Only where the store
    /// keeps versions: the times of files can be anything once a folder was copied.
    fn not_of_the_future(&self, point: Point) -> Result<Point> {
        let finished = point.header.finished;
        if !self.store.capabilities().versions || finished <= locks::later(point.modified, MOST_AHEAD) {
            return Ok(point);
        }
        let received = point.modified;
        let reason =
            format!("it says that it was finished at {finished:.0}, and the store received it at {received:.0}");
        Err(Error::Untrusted { object: point.key.to_string(), reason })
    }

    /// Finds and verifies a point. `Latest` passes over newer ones that do not verify and says so in the result.
    pub async fn find_point(&self, selector: &PointSelector, trusted: &[PublicKey]) -> Result<Point> {
        let points = self.list_points().await?;
        match selector {
            PointSelector::Latest => self.latest_valid(&points, trusted).await,
            PointSelector::Id(prefix) => {
                let fitting: Vec<_> = points.iter().filter(|p| p.id.to_string().starts_with(prefix.as_str())).collect();
                let ids: BTreeSet<_> = fitting.iter().map(|point| point.id).collect();
                let (instance, count) = (self.instance().clone(), ids.len());
                match count {
                    0 => Err(Error::NoPoint { instance, wanted: format!("whose id starts with {prefix}") }),
                    1 => {
                        let point = self.one_of(&fitting, trusted).await?;
                        if let Some(why) = self.doubt(&point.signer, point.modified) {
                            tracing::warn!(point = %point.header.point, "{why}");
                        }
                        Ok(point)
                    }
                    _ => Err(Error::Ambiguous { instance, prefix: prefix.clone(), count }),
                }
            }
        }
    }

    /// Of keys with the same id, the one that is a point: others are copies of it under other names.
    async fn one_of(&self, references: &[&PointRef], trusted: &[PublicKey]) -> Result<Point> {
        let mut first = None;
        for reference in references {
            match self.read_point(reference, trusted).await {
                Ok(point) => return Ok(point),
                Err(error) => first = first.or(Some(error)),
            }
        }
        let (instance, wanted) = (self.instance().clone(), "of this id".to_owned());
        Err(first.unwrap_or(Error::NoPoint { instance, wanted }))
    }

    async fn latest_valid(&self, points: &[PointRef], trusted: &[PublicKey]) -> Result<Point> {
        let (mut skipped, mut dumps) = (Vec::new(), 0);
        for reference in points.iter().rev() {
            match self.read_point(reference, trusted).await {
                // A dump is no newer backup: it is not even worth a word.
                Ok(point) if point.header.is_dump() => dumps += 1,
                Ok(point) if self.doubt(&point.signer, point.modified).is_some() => {
                    let why = self.doubt(&point.signer, point.modified).unwrap_or_default();
                    skipped.push(format!("{}: {why}", point.key));
                }
                Ok(mut point) => {
                    point.skipped = skipped;
                    return Ok(point);
                }
                // An unreachable store says nothing of the point.
                Err(Error::Store(error)) if !matches!(error, lifeboat_store::Error::NotFound { .. }) => {
                    return Err(error.into());
                }
                Err(error) => skipped.push(error.to_string()),
            }
        }
        let wanted = match skipped.as_slice() {
            [] if dumps > 0 => "that holds all of it, only logical dumps: name one by its id".to_owned(),
            [] => "yet".to_owned(),
            [newest, ..] => format!("that verifies; {} do not, the newest: {newest}", skipped.len()),
        };
        Err(Error::NoPoint { instance: self.instance().clone(), wanted })
    }
}

/// Says that it is the first version that does not verify, and that no later one is looked at.
fn first_version(info: &ObjectInfo, error: Error) -> Error {
    let told = |reason: String| match info.version {
        Some(_) => format!("{reason} (this is the first version of its key; later ones never count)"),
        None => reason,
    };
    match error {
        Error::Untrusted { object, reason } => Error::Untrusted { object, reason: told(reason) },
        Error::Damaged { object, reason } => Error::Damaged { object, reason: told(reason) },
        other => other,
    }
}
