//! A stream of WAL with known bytes, its keys, and stores to put it in.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use lifeboat_model::{
    id::{Instance, RepositoryId, Tenant},
    lsn::Lsn,
    signature::SigningKey,
};
use lifeboat_repo::{
    Result,
    document::DocumentKeys,
    repository::{InstanceRepo, Repository},
    seal::Identity,
    wal::{Commits, WalListing, WalObject, WalObjectKind, WalReader, WalRun, WalWriter},
};
use lifeboat_store::{SharedStore, fault::FaultStore};

use crate::memory::MemoryStore;

pub const SYSTEM: u64 = 7_000_000_000_000_000_001;
pub const TIMELINE: u32 = 3;
/// The smallest segments that PostgreSQL has.
pub const SEGMENT: u64 = 1 << 20;
pub const ROOT: &str = "hospital/clinic/";

pub struct World {
    pub memory: MemoryStore,
    pub faults: FaultStore,
    pub store: SharedStore,
    pub recovery: Identity,
    pub host: Identity,
    pub signing: SigningKey,
    pub instance: Instance,
    pub repository: RepositoryId,
}

impl World {
    /// In memory, with faults on command.
    pub fn new() -> Self {
        let memory = MemoryStore::default();
        let faults = FaultStore::new(Arc::new(memory.clone()));
        World { store: Arc::new(faults.clone()), faults, ..Self::on(Arc::new(memory.clone()), memory) }
    }

    /// On a store of the caller's.
    pub fn over(store: SharedStore) -> Self {
        Self::on(store, MemoryStore::default())
    }

    fn on(store: SharedStore, memory: MemoryStore) -> Self {
        World {
            faults: FaultStore::new(store.clone()),
            memory,
            store,
            recovery: Identity::generate(),
            host: Identity::generate(),
            signing: SigningKey::from_seed(&[5; 32]),
            instance: "clinic".parse().unwrap(),
            repository: RepositoryId([1; 16]),
        }
    }

    pub async fn repo(&self) -> InstanceRepo {
        let repository = Repository::init(self.store.clone(), self.repository, now()).await.unwrap();
        let tenant: Tenant = "hospital".parse().unwrap();
        repository.instance(&tenant, &self.instance)
    }

    pub async fn writer(&self) -> WalWriter {
        WalWriter::new(self.repo().await, vec![self.recovery.recipient()], self.signing.clone(), 3)
    }

    pub fn document_keys(&self) -> DocumentKeys {
        let recipients = vec![self.recovery.recipient(), self.host.recipient()];
        DocumentKeys { recipients, signing: self.signing.clone() }
    }

    pub async fn reader(&self) -> WalReader {
        self.repo().await.wal_archive().reader(vec![self.signing.public()], vec![self.recovery.clone()])
    }

    pub async fn put(&self, kind: WalObjectKind, first: u64, last: u64) -> Result<WalObject> {
        let bytes = wal(first, last);
        self.writer().await.put(kind, SYSTEM, TIMELINE, SEGMENT, Lsn(first), bytes, Some(commits())).await
    }

    pub async fn slice(&self, first: u64, last: u64) -> WalObject {
        self.put(WalObjectKind::Slice, first, last).await.unwrap()
    }

    pub async fn segment(&self, number: u64) -> WalObject {
        self.put(WalObjectKind::Segment, number * SEGMENT, (number + 1) * SEGMENT).await.unwrap()
    }

    pub async fn list(&self, from: u64) -> WalListing {
        self.repo().await.wal_archive().list(SYSTEM, TIMELINE, Lsn(from)).await.unwrap()
    }

    /// Reads a run whole and compares every byte.
    pub async fn assert_reads(&self, run: &WalRun) {
        let reader = self.reader().await;
        let mut reached = run.first;
        for object in &run.objects {
            assert!(object.first <= reached && object.last > reached, "{object:?} goes on at {reached}");
            let bytes = reader.read(object).await.unwrap();
            assert!(bytes == wal(object.first.0, object.last.0), "{} differs", object.key);
            reached = object.last;
        }
        assert_eq!(reached, run.last);
    }
}

/// Bytes that tell their own position.
pub fn wal(first: u64, last: u64) -> Bytes {
    (first..last).map(|at| (at / 8).to_le_bytes()[(at % 8) as usize] ^ (at >> 13) as u8).collect()
}

pub fn commits() -> Commits {
    Commits { first: now(), last: "2026-11-21T20:00:01.5Z".parse().unwrap() }
}

pub fn now() -> Timestamp {
    "2026-11-21T20:00:00Z".parse().unwrap()
}

pub fn spans(runs: &[WalRun]) -> Vec<(u64, u64)> {
    runs.iter().map(|run| (run.first.0, run.last.0)).collect()
}

pub fn pieces(run: &WalRun) -> Vec<(u64, u64)> {
    run.objects.iter().map(|object| (object.first.0, object.last.0)).collect()
}
