//! A repository in a directory: the embedded default.
//!
//! Reading, looking and deleting are `object_store`'s. Writing and listing are ours, because its staging files stay
//! behind after a crash and its listing has no order: see `write.rs` for what a crash leaves (nothing) and `walk.rs`
//! for the order.
//!
//! A directory has no versions: a version asked for (recorded when the same repository lay in a bucket) is ignored.
//! Nor is it immutable: whoever can write the folder can delete from it.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{TryStreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use object_store::{GetResult, ObjectStoreExt as _, local::LocalFileSystem, path::Path as ObjectPath};
use rustix::{fs::Access, io::Errno};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Capabilities, Error, Key, ObjectInfo, Result, Retention, Store, Stored, VersionId,
    throttle::{Bucket, Throttle},
};

mod walk;
mod write;

use write::Writer;

/// A directory as a [`Store`].
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: PathBuf,
    files: Arc<LocalFileSystem>,
    writer: Arc<Writer>,
    throttle: Throttle,
}

impl LocalStore {
    /// Opens the directory; with `create`, makes it (durably, mode 0700) if it is missing and demands that it can be
    /// written. Without, a folder that can only be read will do: a restore may come from a read-only mount.
    pub fn open(path: &Path, create: bool) -> Result<Self> {
        let unusable = |reason: String| Error::Unusable { store: describe(path), reason };
        if create {
            write::create_root(path).map_err(|e| unusable(format!("cannot create it: {e}")))?;
        }
        let root = path.canonicalize().map_err(|e| unusable(why_missing(&e)))?;
        let metadata = root.metadata().map_err(|e| unusable(e.to_string()))?;
        if !metadata.is_dir() {
            return Err(unusable("it is not a directory".into()));
        }
        let wanted = if create {
            Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK
        } else {
            Access::READ_OK | Access::EXEC_OK
        };
        rustix::fs::access(&root, wanted).map_err(|e| unusable(why_no_access(e, create)))?;
        let files = LocalFileSystem::new_with_prefix(&root).map_err(|e| unusable(e.to_string()))?;
        let writer = Arc::new(Writer::new(root.clone(), &metadata));
        Ok(Self { writer, root, files: Arc::new(files), throttle: Throttle::of_process() })
    }

    /// What is written and read keeps to this: the folder may be another host's.
    pub fn with_throttle(self, throttle: Throttle) -> Self {
        Self { throttle, ..self }
    }

    fn read_error(&self, operation: &'static str, key: &Key, error: object_store::Error) -> Error {
        match error {
            object_store::Error::NotFound { .. } if !self.root.is_dir() => gone(&self.root),
            object_store::Error::NotFound { .. } => Error::NotFound { key: key.to_string() },
            other => from_io(operation, key.as_str(), &find_io(other)),
        }
    }
}

fn gone(root: &Path) -> Error {
    Error::Unusable {
        store: describe(root),
        reason: "the directory has disappeared; is the disk still mounted?".into(),
    }
}

fn describe(path: &Path) -> String {
    format!("directory {}", path.display())
}

fn why_missing(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist; mount the disk, or run `lifeboat init` to create it".into(),
        _ => error.to_string(),
    }
}

fn why_no_access(errno: Errno, write: bool) -> String {
    let right = if write { "read and write" } else { "read" };
    match errno {
        Errno::ROFS => "it is mounted read-only; remount it writable".into(),
        Errno::ACCESS => {
            format!("this user may not {right} it; give the user that runs lifeboat {right} and search rights")
        }
        other => other.to_string(),
    }
}

/// The operating system's own error inside an `object_store` error, which says more than its wrapper.
fn find_io(error: object_store::Error) -> io::Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if let Some(code) = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(code);
        }
        source = cause.source();
    }
    io::Error::other(error)
}

/// Sorts the operating system's answers by what a caller can do about them.
fn from_io(operation: &'static str, key: &str, error: &io::Error) -> Error {
    let (key, reason) = (key.to_owned(), error.to_string());
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => Error::NotFound { key },
        Some(Errno::NOSPC | Errno::DQUOT) => {
            Error::Full { key, reason: format!("{reason}; free space on the disk, then run again") }
        }
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Error::Denied { operation, key, reason },
        Some(Errno::STALE | Errno::TIMEDOUT | Errno::NOTCONN | Errno::HOSTDOWN | Errno::AGAIN) => {
            Error::Unavailable { operation, key, reason }
        }
        Some(Errno::NOTDIR | Errno::ISDIR) => Error::Other {
            operation,
            key,
            reason: format!("{reason}; a file stands where a folder belongs, or the reverse"),
        },
        _ => Error::Other { operation, key, reason },
    }
}

fn object_path(key: &Key) -> ObjectPath {
    ObjectPath::from(key.as_str())
}

#[async_trait]
impl Store for LocalStore {
    fn describe(&self) -> String {
        describe(&self.root)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { refuses_overwrite: true, ..Capabilities::default() }
    }

    async fn put_locked(&self, key: &Key, bytes: Bytes, retention: Option<Retention>) -> Result<Stored> {
        if retention.is_some() {
            return Err(Error::NoLocks { key: key.to_string(), store: self.describe() });
        }
        let (writer, name) = (Arc::clone(&self.writer), key.clone());
        let written = match self.throttle.up() {
            None => blocking(move || writer.write(name.as_str(), &bytes)).await,
            Some(bucket) => {
                let (pace, _stops) = pace(bucket);
                blocking(move || writer.write_paced(name.as_str(), &bytes, &pace)).await
            }
        };
        written.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Error::AlreadyExists { key: key.to_string() },
            io::ErrorKind::NotFound => gone(&self.root),
            _ => from_io("put", key.as_str(), &e),
        })?;
        Ok(Stored { version: None })
    }

    async fn get(&self, key: &Key, _version: Option<&VersionId>, range: Option<Range<u64>>) -> Result<Bytes> {
        let mut opened = self.files.get(&object_path(key)).await.map_err(|e| self.read_error("get", key, e))?;
        if let Some(range) = range {
            crate::check_range(key, &range, opened.meta.size)?;
            opened.range = range;
        }
        let wanted = opened.range.end - opened.range.start;
        let bytes = match self.throttle.down() {
            None => opened.bytes().await,
            Some(bucket) => paced(opened, &bucket).await,
        };
        let bytes = bytes.map_err(|e| self.read_error("get", key, e))?;
        crate::check_length(key, wanted, bytes.len() as u64)?;
        Ok(bytes)
    }

    async fn head(&self, key: &Key, _version: Option<&VersionId>) -> Result<ObjectInfo> {
        let meta = self.files.head(&object_path(key)).await.map_err(|e| self.read_error("head", key, e))?;
        let (seconds, nanos) = (meta.last_modified.timestamp(), meta.last_modified.timestamp_subsec_nanos());
        let modified = Timestamp::new(seconds, nanos.min(999_999_999) as i32).unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(ObjectInfo { key: key.clone(), len: meta.size, version: None, modified })
    }

    fn list_from(&self, prefix: &str, after: &str) -> BoxStream<'static, Result<ObjectInfo>> {
        walk::list(self.root.clone(), prefix.to_owned(), after.to_owned())
    }

    /// The host's: files are stamped by it too.
    async fn clock(&self) -> Result<Timestamp> {
        Ok(Timestamp::now())
    }

    async fn delete(&self, key: &Key, _version: Option<&VersionId>) -> Result<()> {
        match self.files.delete(&object_path(key)).await {
            Ok(()) => Ok(()),
            Err(e) => match self.read_error("delete", key, e) {
                Error::NotFound { .. } => Ok(()),
                other => Err(other),
            },
        }
    }
}

/// A file's bytes, each piece when its turn has come.
async fn paced(opened: GetResult, bucket: &Bucket) -> object_store::Result<Bytes> {
    let mut pieces = opened.into_stream();
    let mut whole = BytesMut::new();
    while let Some(piece) = pieces.try_next().await? {
        bucket.take(piece.len()).await;
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Lets a thread write so many bytes when their turn has come, until the answer's second half is dropped: then nobody waits
/// for the file any more.
fn pace(bucket: Arc<Bucket>) -> (write::Pace, DropGuard) {
    let (runtime, stopped) = (tokio::runtime::Handle::current(), CancellationToken::new());
    let (guard, piece) = (stopped.clone().drop_guard(), bucket.piece());
    let wait = move |bytes: usize| {
        let turn = runtime.block_on(stopped.run_until_cancelled(bucket.take(bytes)));
        turn.ok_or_else(|| io::Error::from(io::ErrorKind::Interrupted))
    };
    (write::Pace { piece, wait: Box::new(wait) }, guard)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn a_file_system_without_nameless_files_passes_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let store = super::LocalStore::open(folder.path(), true).unwrap();
        store.writer.stage_by_name();
        crate::suite::run(&store).await;
    }
}
