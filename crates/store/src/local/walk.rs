//! Listing a directory in key order, with so many names of one folder per level in memory.
//!
//! A folder that has more is read again for the next ones: years of WAL can lie in one folder.
//!
//! Keys sort as whole texts, so a folder `b` (whose keys start with `b/`) comes after a file `b-x` and before `b0`:
//! each folder's names are sorted with the `/` of folders included.

use std::{collections::BinaryHeap, fs, io, path::PathBuf};

use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::{Error, Key, ObjectInfo, Result};

/// Found objects waiting for the reader of the stream.
const AHEAD: usize = 256;
/// Names of one folder that are in memory: about 30 MiB where they are long.
const NAMES: usize = 256 << 10;

/// Everything under `root` whose key starts with `prefix` and comes after `after`.
pub(super) fn list(root: PathBuf, prefix: String, after: String) -> BoxStream<'static, Result<ObjectInfo>> {
    let start = async move {
        let (sender, receiver) = mpsc::channel(AHEAD);
        // Ends by itself when the stream is dropped: the next send fails.
        tokio::task::spawn_blocking(move || {
            let walk = Walk { root, prefix, after, most: NAMES, found: sender };
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
    most: usize,
    found: mpsc::Sender<Result<ObjectInfo>>,
}

enum Stop {
    NobodyListens,
    Failed(Error),
}

impl Walk {
    /// `folder` is empty for the root, else ends with `/`.
    fn folder(&self, folder: String, is_root: bool) -> std::result::Result<(), Stop> {
        let mut last = String::new();
        loop {
            let names = match self.first_names(&folder, &last) {
                Ok(names) => names,
                // Removed while we walked. The root itself must be there.
                Err(e) if e.kind() == io::ErrorKind::NotFound && !is_root => return Ok(()),
                Err(e) => return Err(self.failed(&folder, &e)),
            };
            let rest = (names.len() >= self.most).then(|| names.last().cloned()).flatten();
            for name in names {
                let path = format!("{folder}{name}");
                if path.ends_with('/') { self.folder(path, false)? } else { self.file(path)? }
            }
            match rest {
                Some(name) => last = name,
                None => return Ok(()),
            }
        }
    }

    /// The first names after `last` that can lead to a key that is wanted, sorted; those of folders end with `/`.
    fn first_names(&self, folder: &str, last: &str) -> io::Result<Vec<String>> {
        let mut names = BinaryHeap::new();
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
            if name.as_str() > last && self.may_match(&format!("{folder}{name}")) {
                names.push(name);
                if names.len() > self.most {
                    names.pop(); // the last of them
                }
            }
        }
        Ok(names.into_sorted_vec())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a walk finds that keeps `most` names of a folder.
    async fn walked(root: &std::path::Path, after: &str, most: usize) -> Vec<String> {
        let (found, mut receiver) = mpsc::channel(AHEAD);
        let walk = Walk { root: root.to_owned(), prefix: String::new(), after: after.to_owned(), most, found };
        let walking = tokio::task::spawn_blocking(move || assert!(walk.folder(String::new(), true).is_ok()));
        let mut keys = Vec::new();
        while let Some(info) = receiver.recv().await {
            keys.push(info.unwrap().key.to_string());
        }
        walking.await.unwrap();
        keys
    }

    #[tokio::test]
    async fn a_folder_with_more_names_than_memory_is_listed_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let mut keys: Vec<String> = (0..50u32).map(|n| format!("many/{:08x}", n.wrapping_mul(2_654_435_761))).collect();
        keys.extend(["a", "many-1", "many.x/1", "many.x/2", "many.x/3/4", "many0", "z/1"].map(str::to_owned));
        for key in &keys {
            fs::create_dir_all(root.path().join(key).parent().unwrap()).unwrap();
            fs::write(root.path().join(key), "x").unwrap();
        }
        keys.sort_unstable();
        for most in [1, 2, 3, 7, 49, 50, 51, NAMES] {
            assert_eq!(walked(root.path(), "", most).await, keys, "{most} names");
            for after in [&keys[10], &keys[30], "many", "many/", "many~"] {
                let rest: Vec<&String> = keys.iter().filter(|key| key.as_str() > after).collect();
                assert_eq!(walked(root.path(), after, most).await.iter().collect::<Vec<_>>(), rest, "{most}, {after}");
            }
        }
    }
}
