//! WAL slices: sealed and stored as they come, from any task; checked for gaps before a point names them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lifeboat_model::{id::ObjectId, lsn::Lsn};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{Shared, WalSpan, uploads};
use crate::{
    blocking::blocking,
    error::{Error, Result},
    point::{ObjectKind, ObjectRef},
    progress::Counter,
    wal::content::{self, Range},
};

/// Slices that are compressed or on their way at the same time.
const IN_FLIGHT: usize = 2;

/// A slice that is durable.
#[derive(Debug, Clone)]
pub(super) struct StoredSlice {
    pub system_id: u64,
    pub timeline: u32,
    pub first: Lsn,
    pub last: Lsn,
    pub object: ObjectRef,
}

/// Takes WAL slices, from any task.
#[derive(Clone)]
pub struct WalSink {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    tasks: TaskTracker,
    stored: Mutex<Vec<StoredSlice>>,
}

impl WalSink {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let room = Arc::new(Semaphore::new(IN_FLIGHT));
        Self { inner: Arc::new(Inner { shared, room, tasks: TaskTracker::new(), stored: Mutex::default() }) }
    }

    /// Hands in the bytes that start at `first`. Returns once they are accepted; they are durable after
    /// [`Writer::commit`](super::Writer::commit) has succeeded.
    pub async fn put(&self, system_id: u64, timeline: u32, first: Lsn, bytes: Bytes) -> Result<()> {
        let shared = &self.inner.shared;
        let range = Range::new(system_id, timeline, first, bytes.len())?;
        let permit = shared.failure.or(self.inner.room.clone().acquire_owned()).await?;
        shared.progress.add(Counter::WalBytes, bytes.len() as u64);
        let inner = self.inner.clone();
        self.inner.tasks.spawn(async move {
            let stored = inner.store(range, bytes).await;
            inner.shared.failure.note(stored);
            drop(permit);
        });
        Ok(())
    }

    /// Waits until all slices handed in are durable.
    pub(super) async fn finish(&self) -> Vec<StoredSlice> {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        std::mem::take(&mut *self.inner.stored.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    async fn store(&self, range: Range, bytes: Bytes) -> Result<()> {
        let shared = &self.shared;
        let (recipients, level) = (shared.recipients.clone(), shared.level);
        let sealed = blocking("sealing WAL", move || content::seal(&recipients, level, range, &bytes)).await?;
        let Range { system_id, timeline, first, last } = range;
        let key = shared.repo.layout().wal(system_id, timeline, first, last, ObjectId(crate::random::bytes()?));
        let put = uploads::put(shared, key, ObjectKind::Wal, sealed.bytes.into(), sealed.sha256).await;
        let (object, _) = put?;
        let slice = StoredSlice { system_id, timeline, first, last, object };
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).push(slice);
        Ok(())
    }
}

/// The slices that cover all of the span, in order; or the first position that is missing.
pub(super) fn covering(mut slices: Vec<StoredSlice>, span: &WalSpan) -> Result<Vec<StoredSlice>> {
    slices.retain(|slice| (slice.system_id, slice.timeline) == (span.system_id, span.timeline));
    slices.sort_by_key(|slice| (slice.first, slice.last));
    let mut reached = span.start;
    let mut chosen = Vec::new();
    for slice in slices {
        if slice.last <= reached || reached >= span.end {
            continue;
        }
        if slice.first > reached {
            return Err(Error::WalGap { expected: reached, found: slice.first });
        }
        reached = slice.last;
        chosen.push(slice);
    }
    if reached < span.end { Err(Error::WalGap { expected: reached, found: span.end }) } else { Ok(chosen) }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::id::Sha256Digest;
    use lifeboat_store::Key;

    use super::*;

    fn slice(first: u64, last: u64, timeline: u32) -> StoredSlice {
        let (key, sha256) = (Key::new("wal").unwrap(), Sha256Digest([0; 32]));
        let object = ObjectRef { key, kind: ObjectKind::Wal, len: 1, sha256, version: None, retain_until: None };
        StoredSlice { system_id: 1, timeline, first: Lsn(first), last: Lsn(last), object }
    }

    #[test]
    fn gaps_are_found() {
        let span = WalSpan { system_id: 1, timeline: 1, start: Lsn(15), end: Lsn(40) };
        let check = |slices: Vec<StoredSlice>| match covering(slices, &span) {
            Ok(chosen) => Ok(chosen.iter().map(|slice| slice.first.0).collect::<Vec<_>>()),
            Err(Error::WalGap { expected, .. }) => Err(expected.0),
            Err(other) => panic!("{other}"),
        };
        let row = || vec![slice(30, 45, 1), slice(10, 20, 1), slice(20, 30, 1)];
        assert_eq!(check(row()), Ok(vec![10, 20, 30]));
        assert_eq!(check([row(), vec![slice(45, 60, 1), slice(0, 10, 1)]].concat()), Ok(vec![10, 20, 30]));
        assert_eq!(check([row(), vec![slice(10, 15, 1), slice(12, 28, 1)]].concat()), Ok(vec![10, 12, 20, 30]));
        assert_eq!(check(vec![slice(16, 50, 1)]), Err(15));
        assert_eq!(check(vec![slice(10, 20, 1), slice(21, 50, 1)]), Err(20));
        assert_eq!(check(vec![slice(10, 39, 1)]), Err(39));
        assert_eq!(check(vec![slice(10, 50, 2)]), Err(15), "another timeline");
        assert_eq!(check(vec![]), Err(15));
    }
}
