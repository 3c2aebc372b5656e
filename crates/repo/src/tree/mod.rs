//! Trees: what a recovery point holds, entry by entry, with the place of every byte.
//!
//! A tree is stored as a row of objects of bounded size, written and read as a stream. Each extent carries its chunk
//! id *and* its place in a pack, so that a restore needs the point, its trees and the packs, and never the index.

use std::fmt;

use lifeboat_model::id::{ChunkId, ObjectId};
use serde::{Deserialize, Serialize};

mod builder;
mod codec;
pub(crate) mod cursor;

pub(crate) use builder::{FinishedTreeObject, TreeBuilder};
pub(crate) use codec::Decoder;
pub use cursor::TreeCursor;

/// The trees a point can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TreeKind {
    /// The files of a base backup.
    Database,
    /// Odoo's attachments.
    Filestore,
    /// Configuration paths and kept command output.
    Config,
    /// Logical dumps of single databases. A point has this tree alone, or the others.
    Dump,
}

impl TreeKind {
    /// All kinds, in the order they are stored.
    pub const ALL: [TreeKind; 4] = [TreeKind::Database, TreeKind::Filestore, TreeKind::Config, TreeKind::Dump];

    /// Those of a point that holds an instance.
    pub const INSTANCE: [TreeKind; 3] = [TreeKind::Database, TreeKind::Filestore, TreeKind::Config];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            TreeKind::Database => "database",
            TreeKind::Filestore => "filestore",
            TreeKind::Config => "config",
            TreeKind::Dump => "dump",
        }
    }
}

impl fmt::Display for TreeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A file time: seconds since 1970 (negative before) and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileTime {
    /// Whole seconds.
    pub seconds: i64,
    /// 0..1_000_000_000.
    pub nanos: u32,
}

/// Tells an unchanged file from a changed one without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ChangeMark {
    /// The inode's change time.
    pub ctime: FileTime,
    /// The inode's number.
    pub inode: u64,
}

/// A file, directory or link of a tree. Paths are bytes, relative, with `/` between parts, without `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// The path inside the tree. Empty for the tree's root directory.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, `0o7777`.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time.
    pub mtime: FileTime,
    /// Extended attributes, name and value, in the order of the names.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// For the next backup; not restored.
    pub change: Option<ChangeMark>,
    /// What happened while it was read, for people.
    pub note: Option<String>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EntryKind {
    /// A directory.
    #[default]
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, as stored in the link.
        target: Vec<u8>,
    },
    /// A regular file.
    File {
        /// Its length, holes included.
        size: u64,
        /// Its bytes, in order, without overlap. What no extent covers is zeros.
        extents: Vec<Extent>,
    },
    /// A named pipe.
    Fifo,
    /// Another name of a file that came earlier in the same tree.
    HardLink {
        /// That file's path inside the tree.
        target: Vec<u8>,
    },
}

/// A run of a file's bytes, and where it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it lies in the file.
    pub offset: u64,
    /// How many bytes.
    pub len: u32,
    /// The chunk that is exactly these bytes.
    pub chunk: ChunkId,
    /// The pack that holds the chunk.
    pub pack: ObjectId,
    /// Where the chunk's frame starts in the pack's plaintext.
    pub frame_offset: u32,
    /// The frame's stored length, codec byte included.
    pub frame_len: u32,
    /// Where the chunk starts in the frame once decompressed.
    pub offset_in_frame: u32,
}

impl Entry {
    /// The path for people; bytes that are not UTF-8 show as `\xNN`.
    pub fn display_path(&self) -> String {
        display_path(&self.path)
    }

    /// The size of a regular file, zero for anything else.
    pub fn size(&self) -> u64 {
        match &self.kind {
            EntryKind::File { size, .. } => *size,
            _ => 0,
        }
    }

    /// The extents of a regular file, none for anything else.
    pub fn extents(&self) -> &[Extent] {
        match &self.kind {
            EntryKind::File { extents, .. } => extents,
            _ => &[],
        }
    }
}

/// Whether a path stays inside its tree: relative, no empty part, none that is `.` or `..`, no NUL byte.
pub(crate) fn is_inside(path: &[u8]) -> bool {
    let part_ok = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && !part.contains(&0);
    path.is_empty() || path.split(|byte| *byte == b'/').all(part_ok)
}

/// A path for people; bytes that are not UTF-8 show as `\xNN`.
pub fn display_path(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for part in path.utf8_chunks() {
        text.push_str(part.valid());
        for byte in part.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert!([&b""[..], b"a", b"a/b", b"..a/b.", b"\xff/ \n"].into_iter().all(is_inside));
        assert!(![&b"/"[..], b"/a", b"a/", b"a//b", b"..", b"a/../b", b"./a", b"a\0b"].into_iter().any(is_inside));
        assert_eq!(display_path(b"a\xffb"), "a\\xffb");
    }
}
