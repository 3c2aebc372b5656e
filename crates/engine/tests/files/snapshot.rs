//! Everything about a tree that a restore has to bring back, read with nothing but `lstat`, `read` and `getxattr`, and
//! compared as a whole. `rsync` is asked for a second opinion where it is installed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::Path,
    process::Command,
};

use sha2::{Digest as _, Sha256};

use crate::world::is_root;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File { size: u64, sha256: String },
    Symlink { target: Vec<u8> },
    Fifo,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    /// Owner and group; nobody but root can bring them back.
    pub owner: Option<(u32, u32)>,
    pub mtime: (i64, i64),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Every path below the root, with the root itself as the empty path.
pub type Snapshot = BTreeMap<Vec<u8>, Node>;

pub fn take(root: &Path) -> Snapshot {
    let mut found = Snapshot::new();
    visit(root, Vec::new(), &mut found);
    found
}

fn visit(path: &Path, name: Vec<u8>, found: &mut Snapshot) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let kind = metadata.file_type();
    let kind = if kind.is_dir() {
        Kind::Directory
    } else if kind.is_file() {
        let bytes = fs::read(path).unwrap();
        Kind::File { size: metadata.len(), sha256: hex::encode(Sha256::digest(bytes)) }
    } else if kind.is_symlink() {
        Kind::Symlink { target: fs::read_link(path).unwrap().into_os_string().into_vec() }
    } else if kind.is_fifo() {
        Kind::Fifo
    } else {
        Kind::Other
    };
    if kind == Kind::Directory {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let below = [name.as_slice(), entry.file_name().as_bytes()].join(&b'/');
            visit(&entry.path(), below.strip_prefix(b"/").unwrap_or(&below).to_vec(), found);
        }
    }
    let xattrs = xattr::list(path).unwrap().map(|key| {
        let value = xattr::get(path, &key).unwrap().unwrap();
        (key.into_vec(), value)
    });
    let node = Node {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: is_root().then(|| (metadata.uid(), metadata.gid())),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        xattrs: xattrs.collect(),
    };
    found.insert(name, node);
}

/// Fails with the differences only: whole trees are long.
pub fn assert_same(wanted: &Snapshot, got: &Snapshot) {
    let mut differences = Vec::new();
    for path in wanted.keys().chain(got.keys().filter(|path| !wanted.contains_key(*path))) {
        let (wanted, got) = (wanted.get(path), got.get(path));
        if wanted != got {
            let path = String::from_utf8_lossy(path);
            differences.push(format!("{path:?}\n  wanted {wanted:?}\n  got    {got:?}"));
        }
    }
    assert!(differences.is_empty(), "{} paths differ:\n{}", differences.len(), differences.join("\n"));
}

/// The two trees are the same in every respect.
pub fn assert_equal(wanted: &Path, got: &Path) {
    assert_same(&take(wanted), &take(got));
    let rsync = Command::new("rsync").args(["-aciXn", "--delete"]).arg(slash(wanted)).arg(slash(got)).output();
    let Ok(rsync) = rsync else { return };
    let out = String::from_utf8_lossy(&rsync.stdout).into_owned() + &String::from_utf8_lossy(&rsync.stderr);
    assert!(rsync.status.success() && out.is_empty(), "rsync still has to do:\n{out}");
}

fn slash(path: &Path) -> String {
    format!("{}/", path.display())
}
