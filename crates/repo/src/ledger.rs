//! Storage of a tenant's ledger, below `<tenant>/evidence/ledger/`, and of its journals, below `<tenant>/_journals/`: slots that
//! the first who puts owns.
//!
//! Every object is put once, under the lock of evidence. Two hosts that put into the same slot are told apart by what
//! stands there first: the store refuses the second, or the first version counts (decision 0010). What the objects mean is
//! not known here.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use lifeboat_model::id::Tenant;
use lifeboat_store::{Key, ObjectInfo, Retention, SharedStore, VersionId, first::FirstVersionStore};

use crate::{
    error::{Error, Result},
    layout,
    repository::{EvidenceLock, EvidenceRef, Repository},
};

/// Where a tenant's ledger, or its journals, lie.
#[derive(Debug, Clone)]
pub struct LedgerStore {
    store: SharedStore,
    /// What all names stand behind; ends with `/`.
    root: String,
    lock: Option<EvidenceLock>,
}

/// Whose a slot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// What was put stands there first.
    Ours(Option<VersionId>),
    /// Something else does.
    Taken(EvidenceRef),
}

impl Repository {
    /// A tenant's ledger. What is put there is locked as evidence is.
    pub fn ledger(&self, tenant: &Tenant) -> LedgerStore {
        self.slots(layout::evidence_root(tenant))
    }

    /// A tenant's journals: what happened in runs and incidents, line by line. Locked as evidence is.
    pub fn journals(&self, tenant: &Tenant) -> LedgerStore {
        self.slots(layout::journals_root(tenant))
    }

    fn slots(&self, root: String) -> LedgerStore {
        LedgerStore { store: self.store().clone(), root, lock: self.evidence_lock().cloned() }
    }
}

impl LedgerStore {
    /// The key of a name below the root.
    pub fn key(&self, name: &str) -> Result<Key> {
        Ok(Key::new(format!("{}{name}", self.root))?)
    }

    /// Where it lies, as people call it.
    pub fn describe(&self) -> String {
        self.store.describe()
    }

    /// Objects whose name begins with `prefix` and comes after the name `after`, the first version of each.
    pub fn list(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<EvidenceRef>> {
        let root = &self.root;
        let after = if after.is_empty() { String::new() } else { format!("{root}{after}") };
        let listed = self.store.list_from(&format!("{root}{prefix}"), &after);
        listed.map_ok(EvidenceRef::from).map_err(Error::from).boxed()
    }

    /// The name of an object below the root.
    pub fn name<'a>(&self, found: &'a EvidenceRef) -> &'a str {
        found.key.as_str().get(self.root.len()..).unwrap_or_default()
    }

    /// What stands at a name: its first version.
    pub async fn find(&self, name: &str) -> Result<Option<EvidenceRef>> {
        let key = self.key(name)?;
        if !self.store.capabilities().versions {
            return match self.store.head(&key, None).await {
                Ok(info) => Ok(Some(info.into())),
                Err(lifeboat_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
        // A key sorts before all that it is a prefix of.
        let found = self.store.list(key.as_str()).try_next().await?;
        Ok(found.filter(|info| info.key == key).map(EvidenceRef::from))
    }

    /// Whether something seems to stand at a name: one cheap request, which whoever may write can mislead.
    pub async fn seems_taken(&self, name: &str) -> Result<bool> {
        match self.store.head(&self.key(name)?, None).await {
            Ok(_) => Ok(true),
            Err(lifeboat_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads an object that is not longer than `most`.
    pub async fn get(&self, found: &EvidenceRef, most: u64) -> Result<Bytes> {
        let EvidenceRef { key, version, len, .. } = found;
        if *len > most {
            return Err(Error::damaged(key, format!("it has {len} bytes, where at most {most} belong")));
        }
        Ok(self.store.get(key, version.as_ref(), None).await?)
    }

    /// Puts an object at a name that may be taken, and tells whose it is. Can be repeated with the same bytes.
    pub async fn claim(&self, name: &str, bytes: Bytes) -> Result<Claimed> {
        let key = self.key(name)?;
        let capabilities = self.store.capabilities();
        let put = self.store.put_locked(&key, bytes.clone(), self.retention()).await;
        let (version, error) = match put {
            Ok(stored) if capabilities.refuses_overwrite => return Ok(Claimed::Ours(stored.version)),
            Ok(stored) => (stored.version, None),
            Err(error @ lifeboat_store::Error::AlreadyExists { .. }) => (None, Some(error)),
            // The reply may be what was lost.
            Err(error) if error.is_transient() => (None, Some(error)),
            Err(error) => return Err(error.into()),
        };
        let Some(found) = self.find(name).await? else {
            let gone = || Error::Store(lifeboat_store::Error::NotFound { key: key.to_string() });
            return Err(error.map_or_else(gone, Error::Store));
        };
        let same_version = capabilities.versions && version.is_some() && found.version == version;
        if same_version || (found.len == bytes.len() as u64 && self.get(&found, found.len).await? == bytes) {
            return Ok(Claimed::Ours(found.version));
        }
        Ok(Claimed::Taken(found))
    }

    /// Makes sure that what somebody else put stays: it is counted upon from now on.
    pub async fn keep(&self, found: &EvidenceRef) -> Result<()> {
        let Some(retention) = self.retention() else { return Ok(()) };
        // Where the version is not named, the first is meant.
        let store: SharedStore = match found.version {
            Some(_) => self.store.clone(),
            None => Arc::new(FirstVersionStore::new(self.store.clone())),
        };
        Ok(store.extend_lock(&found.key, found.version.as_ref(), retention).await?)
    }

    fn retention(&self) -> Option<Retention> {
        self.lock.as_ref().map(EvidenceLock::retention)
    }
}

impl From<ObjectInfo> for EvidenceRef {
    fn from(info: ObjectInfo) -> Self {
        let ObjectInfo { key, len, version, modified } = info;
        Self { key, version, len, modified }
    }
}
