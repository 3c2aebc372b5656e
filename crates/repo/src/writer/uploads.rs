//! Puts finished objects into the store, a few at a time, and writes the index of packs that have become durable.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use bytes::Bytes;
use lifeboat_model::id::{ObjectId, Sha256Digest};
use lifeboat_store::Key;
use tokio::{sync::mpsc, task::JoinSet};

use super::Shared;
use crate::{
    blocking::blocking,
    error::{Error, Result},
    index::{self, IndexKeys, IndexedPack, PackMeta},
    locks::Keep,
    pack::PackTable,
    point::{ObjectKind, ObjectRef},
    progress::Counter,
    seal,
};

/// An index object is written after this many packs at first, later after a quarter of all written so far: a killed
/// run loses little, and a long one does not write thousands.
const FIRST_INDEX: usize = 8;
const LARGEST_INDEX: usize = 256;
/// … or after this many chunks, which bounds memory: about 5 MiB.
const INDEX_CHUNKS: usize = 128 << 10;

/// An object to be stored.
pub(super) struct Upload {
    pub key: Key,
    pub kind: ObjectKind,
    pub bytes: Bytes,
    pub sha256: Sha256Digest,
    pub pack: Option<(ObjectId, PackTable)>,
}

/// What has become durable.
#[derive(Default)]
pub(super) struct Durable {
    /// Trees.
    pub objects: Vec<ObjectRef>,
    pub packs: HashMap<ObjectId, PackMeta>,
}

/// What a finished task has done.
enum Done {
    Object(ObjectRef, Option<(ObjectId, PackTable)>),
    Index,
}

/// Uploads until the packer is done, and ends with a last index object. After a failure the queue is still emptied,
/// so that nobody waits for it in vain, and what was stored before is still indexed for the next run.
pub(super) async fn run(shared: Arc<Shared>, mut queue: mpsc::Receiver<Upload>) -> Durable {
    let mut state =
        Uploads { shared, tasks: JoinSet::new(), durable: Durable::default(), pending: Vec::new(), chunks: 0 };
    let mut open = true;
    while open || !state.tasks.is_empty() {
        let room = state.tasks.len() < state.shared.uploads;
        tokio::select! {
            upload = queue.recv(), if open && room => match upload {
                Some(upload) if !state.shared.failure.is_set() => state.start(upload),
                Some(_) => {}
                None => open = false,
            },
            Some(done) = state.tasks.join_next() => state.finished(done),
        }
    }
    state.start_index();
    while let Some(done) = state.tasks.join_next().await {
        state.finished(done);
    }
    state.durable
}

struct Uploads {
    shared: Arc<Shared>,
    tasks: JoinSet<Result<Done>>,
    durable: Durable,
    pending: Vec<IndexedPack>,
    chunks: usize,
}

impl Uploads {
    fn start(&mut self, upload: Upload) {
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            let (object, bytes) = put(&shared, upload.key, upload.kind, upload.bytes, upload.sha256).await?;
            if upload.kind == ObjectKind::Pack && bytes.is_unique() {
                shared.pack_buffers.give_back(bytes.into());
            }
            Ok(Done::Object(object, upload.pack))
        });
    }

    fn finished(&mut self, done: std::result::Result<Result<Done>, tokio::task::JoinError>) {
        let done =
            done.unwrap_or_else(|e| Err(Error::Io { what: "uploading".into(), source: std::io::Error::other(e) }));
        match self.shared.failure.note(done) {
            Some(Done::Object(object, Some((id, table)))) => {
                let ObjectRef { len, sha256, version, retain_until, .. } = object;
                let meta = PackMeta { len, sha256, version, retain_until };
                self.shared.progress.add(Counter::Packs, 1);
                self.durable.packs.insert(id, meta.clone());
                self.chunks += table.chunks();
                self.pending.push(IndexedPack { id, meta, table });
                let due = (self.durable.packs.len() / 4).clamp(FIRST_INDEX, LARGEST_INDEX);
                if self.pending.len() >= due || self.chunks >= INDEX_CHUNKS {
                    self.start_index();
                }
            }
            Some(Done::Object(object, None)) => self.durable.objects.push(object),
            Some(Done::Index) | None => {}
        }
    }

    /// Writes an index of the packs that are durable and in no index yet.
    fn start_index(&mut self) {
        self.chunks = 0;
        let packs = std::mem::take(&mut self.pending);
        if packs.is_empty() {
            return;
        }
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            let (sealing, id) = (shared.clone(), ObjectId(crate::random::bytes()?));
            let bytes = blocking("sealing an index", move || {
                let Shared { recipients, metadata_recipients: sealed_to, signing, .. } = &*sealing;
                let keys = IndexKeys { recipients, sealed_to, signing };
                index::seal(&sealing.repo, id, &sealing.chunk_key, &packs, &keys)
            });
            let (bytes, key) = (bytes.await?, shared.repo.layout().index(id));
            let sha256 = seal::digest(&bytes);
            put(&shared, key, ObjectKind::Key, bytes, sha256).await?;
            Ok(Done::Index)
        });
    }
}

/// Stores one object; gives its bytes back, so that their buffer can be used again.
pub(super) async fn put(
    shared: &Shared,
    key: Key,
    kind: ObjectKind,
    bytes: Bytes,
    sha256: Sha256Digest,
) -> Result<(ObjectRef, Bytes)> {
    let (stored, retain_until) = shared.repo.put_kept(&key, bytes.clone(), Keep::Point).await?;
    let len = bytes.len() as u64;
    shared.progress.add(Counter::StoredBytes, len);
    *shared.stored_bytes.lock().unwrap_or_else(PoisonError::into_inner) += len;
    Ok((ObjectRef { key, kind, len, sha256, version: stored.version, retain_until }, bytes))
}
