//! One object on its way: read by its version, verified, put with its lock.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use lifeboat_model::id::Sha256Digest;
use lifeboat_store::{Key, Retention, VersionId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Copying, Side};
use crate::{
    blocking::blocking,
    error::{Error, Result},
    progress::Counter,
};

/// How many bytes may be in flight, in KiB: a semaphore's permits can express any sensible amount of memory so.
pub(super) struct Budget {
    room: Arc<Semaphore>,
    most: u32,
}

impl Budget {
    pub fn new(bytes: u64) -> Self {
        let most = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).clamp(1, 1 << 22);
        Self { room: Arc::new(Semaphore::new(most as usize)), most }
    }

    /// Waits for room. What is larger than all of it waits until it is alone.
    async fn take(&self, bytes: u64) -> Result<OwnedSemaphorePermit> {
        let permits = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX).clamp(1, self.most);
        let taken = Arc::clone(&self.room).acquire_many_owned(permits).await;
        taken.map_err(|_| Error::usage("the copy was closed"))
    }
}

/// An object to copy.
pub(super) struct Item {
    pub key: Key,
    /// The version to read.
    pub version: Option<VersionId>,
    pub len: u64,
    /// Its lock in the copy.
    pub retention: Option<Retention>,
    /// What tells it from all others.
    pub identity: Identity,
}

/// How one object is told from all others.
#[derive(Debug, Clone, Copy)]
pub(super) enum Identity {
    /// A signed header names this digest, and the check compares it.
    Digest(Sha256Digest),
    /// By what the source holds under the key: a signature alone does not say which of two objects is meant.
    Source(Timestamp),
}

/// How an object is verified, on a blocking thread.
pub(super) type Check = Arc<dyn Fn(&Bytes) -> Result<()> + Send + Sync>;

/// What became of an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is durable in the copy, and was not before.
    New,
    /// It was there.
    There,
    /// It is not, for the problem that has been noted.
    Bad,
}

impl Copying<'_> {
    /// Makes sure that an object is in the copy, verified while it passes, and locked long enough.
    pub(super) async fn send(&self, item: Item, check: Check) -> Result<Sent> {
        if let Some(held) = self.present.get(&item.key) {
            if held.len != item.len {
                self.problem(Side::Copy, &item.key, &other_length(held.len, item.len), None);
                return Ok(Sent::Bad);
            }
            if self.present.holds(&item.key, &item.identity()) || self.read_back(&item, check.clone()).await? {
                return self.extend(&item, held.is_locked_until(item.until())).await;
            }
            if self.present.get(&item.key).is_some() {
                return Ok(Sent::Bad);
            }
        }
        if self.known_problem(&item.key).is_some() {
            return Ok(Sent::Bad);
        }
        let _room = self.budget.take(item.len).await?;
        match self.sound(&item, check).await? {
            Some(bytes) => self.put(&item, bytes).await,
            None => Ok(Sent::Bad),
        }
    }

    /// The bytes at the source; none where they are not what they should be, which is noted.
    async fn sound(&self, item: &Item, check: Check) -> Result<Option<Bytes>> {
        match self.fetch(item, check).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => {
                let Some(what) = blame(&error) else { return Err(error) };
                self.problem(Side::Source, &item.key, &what, None);
                Ok(None)
            }
        }
    }

    /// Whether what lies in the copy, which this run did not send, is what it should be: somebody else may have put it
    /// there first. Remembered where it is;
    /// forgotten where nothing is there any more.
    async fn read_back(&self, item: &Item, check: Check) -> Result<bool> {
        if self.bad_in_copy(&item.key) {
            return Ok(false);
        }
        let _room = self.budget.take(2 * item.len).await?;
        let read = self.to.store().get(&item.key, None, None).await.map_err(Error::from);
        let found = match read {
            Ok(bytes) => {
                let check = check.clone();
                blocking("verifying", move || check(&bytes).map(|()| bytes)).await
            }
            Err(error) => Err(error),
        };
        let found = match found {
            Ok(found) => found,
            // A prune was there after the listing: it is sent again.
            Err(Error::Store(lifeboat_store::Error::NotFound { .. })) => {
                self.present.forget(&item.key);
                return Ok(false);
            }
            Err(error) => {
                let Some(what) = blame(&error) else { return Err(error) };
                self.problem(Side::Copy, &item.key, &what, None);
                return Ok(false);
            }
        };
        if let Identity::Source(_) = item.identity {
            // A copy that verifies by itself is good enough where the source is damaged.
            let Some(source) = self.sound(item, check).await? else { return Ok(true) };
            if source != found {
                self.problem(Side::Copy, &item.key, "it is another object than the source has under this key", None);
                return Ok(false);
            }
        }
        self.present.found(&item.key, &item.identity());
        Ok(true)
    }

    async fn fetch(&self, item: &Item, check: Check) -> Result<Bytes> {
        // Longer than a header or a listing says, it would not fit the memory that was set aside for it.
        let store = self.from.store_of(item.version.as_ref());
        let info = store.head(&item.key, item.version.as_ref()).await?;
        if info.len != item.len {
            return Err(Error::damaged(&item.key, other_length(info.len, item.len)));
        }
        let file = store.get(&item.key, item.version.as_ref(), None).await?;
        self.progress.add(Counter::FetchedBytes, file.len() as u64);
        blocking("verifying", move || check(&file).map(|()| file)).await
    }

    async fn put(&self, item: &Item, bytes: Bytes) -> Result<Sent> {
        let len = bytes.len() as u64;
        let version = match self.to.store().put_locked(&item.key, bytes.clone(), item.retention).await {
            Ok(stored) => stored.version,
            Err(error) => {
                let taken = matches!(error, lifeboat_store::Error::AlreadyExists { .. });
                if !taken && !error.is_transient() {
                    return Err(error.into());
                }
                // Where the reply was lost, it lies there whole, or the put did not succeed.
                let info = match self.to.store().head(&item.key, None).await {
                    Ok(info) if info.len == len => info,
                    Ok(info) if taken => {
                        self.problem(Side::Copy, &item.key, &other_length(info.len, len), None);
                        return Ok(Sent::Bad);
                    }
                    _ => return Err(error.into()),
                };
                if self.to.store().get(&item.key, None, None).await? != bytes {
                    self.problem(Side::Copy, &item.key, "somebody else was first to write it", None);
                    return Ok(Sent::Bad);
                }
                if taken {
                    self.extend(item, false).await?;
                }
                info.version
            }
        };
        self.present.insert(&item.key, len, version.as_ref());
        self.present.found(&item.key, &item.identity());
        self.present.locked(&item.key, item.until());
        self.progress.add(Counter::StoredBytes, len);
        self.progress.add(Counter::Objects, 1);
        let mut state = self.state();
        state.report.objects += 1;
        state.report.bytes += len;
        Ok(Sent::New)
    }

    /// Makes the lock of an object that is there long enough.
    async fn extend(&self, item: &Item, is_locked: bool) -> Result<Sent> {
        if let (Some(retention), false) = (item.retention, is_locked) {
            self.to.store().extend_lock(&item.key, None, retention).await?;
            self.present.locked(&item.key, retention.until);
            self.state().report.extended += 1;
        }
        Ok(Sent::There)
    }

    /// Does the work of every item, some at the same time; stops at the first error, or when `go_on` says so.
    pub(super) async fn each<'s>(
        &'s self,
        jobs: impl Iterator<Item = BoxFuture<'s, Result<Sent>>>,
        mut each: impl FnMut(&Sent) -> bool,
    ) -> Result<()> {
        let (mut jobs, mut go_on) = (jobs.fuse(), true);
        let mut running: FuturesUnordered<BoxFuture<'s, Result<Sent>>> = FuturesUnordered::new();
        loop {
            while go_on
                && running.len() < self.options.at_once.max(1)
                && let Some(job) = jobs.next()
            {
                running.push(job);
            }
            match running.next().await {
                Some(done) => go_on &= each(&done?),
                None => return Ok(()),
            }
        }
    }
}

impl Item {
    /// As it is remembered.
    pub fn identity(&self) -> Vec<u8> {
        match self.identity {
            Identity::Digest(digest) => digest.0.to_vec(),
            Identity::Source(modified) => place(self.version.as_ref(), self.len, modified),
        }
    }

    fn until(&self) -> Timestamp {
        self.retention.map_or(Timestamp::MIN, |retention| retention.until)
    }
}

/// Which of all objects that ever had its key one is: a version, or without versions length and time.
pub(super) fn place(version: Option<&VersionId>, len: u64, modified: Timestamp) -> Vec<u8> {
    match version {
        Some(version) => format!("version {}", version.0).into_bytes(),
        None => format!("{len} bytes of {modified}").into_bytes(),
    }
}

pub(super) fn other_length(is: u64, wanted: u64) -> String {
    format!("it has {is} bytes, {wanted} were written")
}

/// What is wrong with an object, where an error says that it is missing, damaged or not to be trusted. Anything else
/// says nothing of the object, and ends the run.
pub(super) fn blame(error: &Error) -> Option<String> {
    use lifeboat_store::Error as Store;
    match error {
        Error::Damaged { reason, .. } => Some(reason.clone()),
        Error::Untrusted { reason, .. } => Some(format!("it is not to be trusted: {reason}")),
        Error::Unknown { .. } => Some(error.to_string()),
        Error::Store(Store::NotFound { .. }) => Some("it is missing".to_owned()),
        Error::Store(Store::Damaged { reason, .. }) => Some(reason.clone()),
        _ => None,
    }
}
