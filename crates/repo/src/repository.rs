//! The repository as a whole, and one instance's part of it.

use futures::TryStreamExt as _;
use jiff::Timestamp;
use lifeboat_model::{
    id::{Instance, RepositoryId, Tenant},
    signature::PublicKey,
};
use lifeboat_store::{Key, SharedStore, Stored, VersionId};
use serde::{Deserialize, Serialize};

use crate::{
    envelope::Version,
    error::{Error, Result},
    layout::{self, Layout},
    point::{self, FORMAT, Point, PointRef, PointSelector},
};

/// The content of `lifeboat.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    format: u32,
    repository: RepositoryId,
    created: Timestamp,
}

/// A store that holds a repository.
#[derive(Debug, Clone)]
pub struct Repository {
    store: SharedStore,
    id: RepositoryId,
    created: Timestamp,
}

impl Repository {
    /// Makes the store a repository. Where it is one already, that one is opened and `id` is not used.
    pub async fn init(store: SharedStore, id: RepositoryId, now: Timestamp) -> Result<Self> {
        match Self::open(store.clone()).await {
            Err(Error::NotARepository { .. }) => {}
            other => return other,
        }
        let marker = Marker { format: FORMAT, repository: id, created: now };
        let json = serde_json::to_vec_pretty(&marker).expect("a marker has only text keys");
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
        let bytes = match store.get(&key, None, None).await {
            Err(lifeboat_store::Error::NotFound { .. }) => {
                return Err(Error::NotARepository { store: store.describe() });
            }
            other => other?,
        };
        let bad = |e: serde_json::Error| Error::damaged(&key, e);
        serde_json::from_slice::<Version>(&bytes).map_err(bad)?.check(&key)?;
        let marker: Marker = serde_json::from_slice(&bytes).map_err(bad)?;
        Ok(Self { store, id: marker.repository, created: marker.created })
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
        InstanceRepo { store: self.store.clone(), repository: self.id, layout }
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
        self.store.put(&key, bytes).await?;
        Ok(key)
    }

    /// The keys of a tenant's evidence whose name starts with `prefix`, in the order of the names.
    pub async fn list_evidence(&self, tenant: &Tenant, prefix: &str) -> Result<Vec<Key>> {
        let objects = self.store.list(&format!("{tenant}/evidence/{prefix}"));
        Ok(objects.map_ok(|object| object.key).try_collect().await?)
    }

    /// Reads an evidence object.
    pub async fn get_evidence(&self, key: &Key) -> Result<bytes::Bytes> {
        Ok(self.store.get(key, None, None).await?)
    }
}

fn marker_key() -> Key {
    Key::new(layout::REPOSITORY).expect("a fixed valid key")
}

/// One instance's part of a repository. Cheap to clone.
#[derive(Debug, Clone)]
pub struct InstanceRepo {
    store: SharedStore,
    repository: RepositoryId,
    layout: Layout,
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

    /// Puts an object whose key is new and random. Where the reply was lost, the object is looked for: it lies there
    /// whole, or the put did not succeed.
    pub(crate) async fn put_once(&self, key: &Key, bytes: bytes::Bytes) -> Result<Stored> {
        let len = bytes.len() as u64;
        let error = match self.store.put(key, bytes).await {
            Ok(stored) => return Ok(stored),
            Err(error) if error.is_transient() => error,
            Err(error) => return Err(error.into()),
        };
        match self.store.head(key, None).await {
            Ok(info) if info.len == len => Ok(Stored { version: info.version }),
            _ => Err(error.into()),
        }
    }

    /// All recovery points by their keys, oldest first. Nothing is opened, so nothing is said of their validity.
    pub async fn list_points(&self) -> Result<Vec<PointRef>> {
        let mut objects = self.store.list(&self.layout.prefix("points"));
        let mut points = Vec::new();
        while let Some(object) = objects.try_next().await? {
            if let Some((time, id)) = layout::point_parts(&object.key) {
                points.push(PointRef { time, id, key: object.key });
            }
        }
        points.sort();
        Ok(points)
    }

    /// Reads a point and verifies digest, signature and that it belongs here.
    pub async fn read_point(&self, reference: &PointRef, trusted: &[PublicKey]) -> Result<Point> {
        self.read_point_version(&reference.key, None, trusted).await
    }

    /// [`read_point`](Self::read_point) for a recorded version.
    pub async fn read_point_version(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        trusted: &[PublicKey],
    ) -> Result<Point> {
        // The version is asked for first, so that the bytes read are those of the version named.
        let info = self.store.head(key, version).await?;
        let bytes = self.store.get(key, info.version.as_ref(), None).await?;
        let point = point::decode(key, info.version, &bytes, trusted)?;
        let header = &point.header;
        let here = header.repository == self.repository
            && (&header.tenant, &header.instance) == (self.tenant(), self.instance())
            && layout::point_parts(key).is_some_and(|(_, id)| id == header.point);
        if here {
            return Ok(point);
        }
        let of =
            format!("{} of {}/{} in repository {}", header.point, header.tenant, header.instance, header.repository);
        Err(Error::Untrusted { object: key.to_string(), reason: format!("it is a copy of point {of}") })
    }

    /// Finds and verifies a point. `Latest` passes over newer ones that do not verify and says so in the result.
    pub async fn find_point(&self, selector: &PointSelector, trusted: &[PublicKey]) -> Result<Point> {
        let points = self.list_points().await?;
        match selector {
            PointSelector::Latest => self.latest_valid(&points, trusted).await,
            PointSelector::Id(prefix) => {
                let fitting: Vec<_> = points.iter().filter(|p| p.id.to_string().starts_with(prefix.as_str())).collect();
                let instance = self.instance().clone();
                match fitting.as_slice() {
                    [point] => self.read_point(point, trusted).await,
                    [] => Err(Error::NoPoint { instance, wanted: format!("whose id starts with {prefix}") }),
                    many => Err(Error::Ambiguous { instance, prefix: prefix.clone(), count: many.len() }),
                }
            }
        }
    }

    async fn latest_valid(&self, points: &[PointRef], trusted: &[PublicKey]) -> Result<Point> {
        let (mut skipped, mut dumps) = (Vec::new(), 0);
        for reference in points.iter().rev() {
            match self.read_point(reference, trusted).await {
                // A dump is no newer backup: it is not even worth a word.
                Ok(point) if point.header.is_dump() => dumps += 1,
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
