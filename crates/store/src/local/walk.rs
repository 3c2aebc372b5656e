//! Listing a directory in key order, with one folder per level in memory.
//!
//! Keys sort as whole texts, so a folder `b` (whose keys start with `b/`) comes after a file `b-x` and before `b0`:
//! each folder's names are sorted with the `/` of folders included.

use std::{fs, io, path::PathBuf};

use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::{Error, Key, ObjectInfo, Result};

/// Found objects waiting for the reader of the stream.
const AHEAD: usize = 256;

/// Everything under `root` whose key starts with `prefix` and comes after `after`.
pub(super) fn list(root: PathBuf, prefix: String, after: String) -> BoxStream<'static, Result<ObjectInfo>> {
    let start = async move {
        let (sender, receiver) = mpsc::channel(AHEAD);
        // Ends by itself when the stream is dropped: the next send fails.
        tokio::task::spawn_blocking(move || {
            let walk = Walk { root, prefix, after, found: sender };
            if let Err(Stop::Failed(error)) = walk.folder(String::new(), true) {
                let _ = walk.found.blocking_send(Err(error));
            }
        });
        stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|found| (found, receiver)))
    };
    stream::once(start).flatten().boxed()
}

struct Walk {
    root: PathBuf,
    prefix: String,
    after: String,
    found: mpsc::Sender<Result<ObjectInfo>>,
}

enum Stop {
    NobodyListens,
    Failed(Error),
}

impl Walk {
    /// `folder` is empty for the root, else ends with `/`.
    fn folder(&self, folder: String, is_root: bool) -> std::result::Result<(), Stop> {
        let names = match self.sorted_names(&folder) {
            Ok(names) => names,
            // Removed while we walked. The root itself must be there.
            Err(e) if e.kind() == io::ErrorKind::NotFound && !is_root => return Ok(()),
            Err(e) => return Err(self.failed(&folder, &e)),
        };
        for name in names {
            let path = format!("{folder}{name}");
            if path.ends_with('/') { self.folder(path, false)? } else { self.file(path)? }
        }
        Ok(())
    }

    /// Names that can lead to a key with the prefix; those of folders end with `/`.
    fn sorted_names(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(folder))? {
            let entry = entry?;
            // Not ours: staging files (`#`), `lost+found`, names that are no text.
            let Some(mut name) = entry.file_name().into_string().ok().filter(|name| Key::new(name.as_str()).is_ok())
            else {
                continue;
            };
            let kind = entry.file_type()?;
            let linked_folder = || kind.is_symlink() && entry.path().is_dir();
            if kind.is_dir() || linked_folder() {
                name.push('/');
            }
            if self.may_match(&format!("{folder}{name}")) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn may_match(&self, path: &str) -> bool {
        let is_folder = path.ends_with('/');
        let fits = path.starts_with(&self.prefix) || (is_folder && self.prefix.starts_with(path));
        fits && (path > self.after.as_str() || (is_folder && self.after.starts_with(path)))
    }

    fn file(&self, path: String) -> std::result::Result<(), Stop> {
        let metadata = match fs::metadata(self.root.join(&path)) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(self.failed(&path, &e)),
        };
        let modified = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
        let modified = modified.unwrap_or(Timestamp::UNIX_EPOCH);
        let key = Key::new(path).map_err(Stop::Failed)?;
        let info = ObjectInfo { key, len: metadata.len(), version: None, modified };
        self.found.blocking_send(Ok(info)).map_err(|_| Stop::NobodyListens)
    }

    fn failed(&self, path: &str, error: &io::Error) -> Stop {
        match (path, error.kind()) {
            ("", io::ErrorKind::NotFound) => Stop::Failed(super::gone(&self.root)),
            ("", _) => Stop::Failed(super::from_io("list", &super::describe(&self.root), error)),
            _ => Stop::Failed(super::from_io("list", path, error)),
        }
    }
}
