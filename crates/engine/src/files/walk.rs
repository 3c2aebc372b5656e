//! Reads a directory tree into stored entries, in [`tree_order`].
//!
//! A file whose size, times and inode are those of the previous point is taken over without being opened. The walk
//! runs on a blocking thread and hands over [`Captured`] items through a bounded channel, so a slow repository slows
//! the walk and memory stays bounded.
//!
//! Files may change or vanish under our hands: a file that vanished is left out and reported; a file that changed
//! while it was read is kept as read and carries a note, and is read again next time.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata},
    io,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::{Bytes, BytesMut};
use lifeboat_repo::tree::{ChangeMark, Entry, EntryKind, FileTime};
use rustix::{
    fs::{Dir, Mode, OFlags, SeekFrom},
    io::Errno,
};
use tokio::sync::mpsc;

use super::{no_follow, tree_order};

/// One read from a file. Big enough that system calls do not matter, small enough that a few in flight do not either.
const READ_SIZE: usize = 256 << 10;

const VANISHED: &str = crate::details::SourceNotes::VANISHED;
const REPLACED: &str = "was replaced by something else before it was read";

/// A file touched less than this before it was read may change again within the file system's time resolution
/// unseen, so it gets no change mark and is read again next time.
const RACY_SECONDS: i64 = 2;

/// What the walk hands over, in order.
#[derive(Debug)]
pub enum Captured {
    /// A directory, link or pipe; or a file whose extents are known from the previous point.
    Entry(Entry),
    /// A file whose bytes follow.
    Begin(Entry),
    /// The next bytes of the file.
    Data(Bytes),
    /// The next bytes of the file are a hole of this length.
    Hole(u64),
    /// The file is complete; the note says if it changed while it was read.
    End(Option<String>),
    /// Something that is not in the tree, and why. For the report.
    Skipped {
        /// Its path in the tree.
        path: Vec<u8>,
        /// Why it is missing.
        why: String,
    },
}

/// The walk cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A folder or file could not be read for another reason than having vanished.
    #[error("cannot read {path}")]
    Unreadable {
        /// The path on this host.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The other side stopped listening; its own error says why.
    #[error("the walk was stopped")]
    Stopped,
}

/// Entries of the previous point's tree, in order, in batches: for the merge with what is found now.
pub struct Previous {
    batches: Option<mpsc::Receiver<Vec<Entry>>>,
    current: std::vec::IntoIter<Entry>,
    peeked: Option<Entry>,
}

impl Previous {
    /// No previous point: everything is read.
    pub fn none() -> Self {
        Self { batches: None, current: Vec::new().into_iter(), peeked: None }
    }

    /// Receives batches from the task that reads the stored tree.
    pub fn from_channel(batches: mpsc::Receiver<Vec<Entry>>) -> Self {
        Self { batches: Some(batches), ..Self::none() }
    }

    fn next(&mut self) -> Option<Entry> {
        loop {
            if let Some(entry) = self.peeked.take().or_else(|| self.current.next()) {
                return Some(entry);
            }
            self.current = self.batches.as_mut()?.blocking_recv()?.into_iter();
        }
    }

    /// The previous entry at this path. Both sides move forward only.
    fn at(&mut self, path: &[u8]) -> Option<Entry> {
        loop {
            let entry = self.next()?;
            match tree_order(&entry.path, path) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Some(entry),
                std::cmp::Ordering::Greater => {
                    self.peeked = Some(entry);
                    return None;
                }
            }
        }
    }
}

/// Walks one tree into a channel.
pub struct Walk {
    /// What the previous point held.
    pub previous: Previous,
    /// Where captured items go.
    pub out: mpsc::Sender<Captured>,
}

impl Walk {
    /// Captures `root`, as the entry with the empty path, and everything below it, with paths relative to it.
    pub fn tree(&mut self, root: &Path) -> Result<(), WalkError> {
        self.directory(root, b"")?;
        self.children(root, b"")
    }

    /// Captures `path` and everything below it at `stored` in the tree.
    pub fn subtree(&mut self, path: &Path, stored: &[u8]) -> Result<(), WalkError> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => self.entry(path, stored, &metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.skip(stored, VANISHED),
            Err(source) => Err(WalkError::Unreadable { path: path.to_owned(), source }),
        }
    }

    /// Captures a directory's own metadata at `stored`, without its content.
    pub fn directory(&mut self, path: &Path, stored: &[u8]) -> Result<(), WalkError> {
        let metadata = fs::metadata(path).map_err(|source| WalkError::Unreadable { path: path.to_owned(), source })?;
        let entry = self.describe(path, stored, &metadata, EntryKind::Directory)?;
        self.send(Captured::Entry(entry))
    }

    fn children(&mut self, directory: &Path, stored: &[u8]) -> Result<(), WalkError> {
        let mut names = match list(directory, stored.is_empty()) {
            Ok(names) => names,
            // The directory itself is in the tree already; that its content went is the same as an empty one. A link
            // that took its place is not followed: it may lead to what whoever writes here may not read.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !stored.is_empty() => return Ok(()),
            Err(error) => return Err(WalkError::Unreadable { path: directory.to_owned(), source: error.into() }),
        };
        names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            self.subtree(&directory.join(&name), &join(stored, &name))?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, stored: &[u8], metadata: &Metadata) -> Result<(), WalkError> {
        let kind = metadata.file_type();
        if kind.is_file() {
            return self.file(path, stored, metadata);
        }
        let kind = if kind.is_dir() {
            EntryKind::Directory
        } else if kind.is_symlink() {
            match fs::read_link(path) {
                Ok(target) => EntryKind::Symlink { target: target.into_os_string().into_encoded_bytes() },
                Err(error) if error.kind() == io::ErrorKind::NotFound => return self.skip(stored, VANISHED),
                // No link any more.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return self.skip(stored, REPLACED),
                Err(source) => return Err(WalkError::Unreadable { path: path.to_owned(), source }),
            }
        } else if kind.is_fifo() {
            EntryKind::Fifo
        } else {
            return self.skip(stored, "a socket or device, which is not backed up");
        };
        let is_directory = matches!(kind, EntryKind::Directory);
        let entry = self.describe(path, stored, metadata, kind)?;
        self.send(Captured::Entry(entry))?;
        if is_directory { self.children(path, stored) } else { Ok(()) }
    }

    fn file(&mut self, path: &Path, stored: &[u8], metadata: &Metadata) -> Result<(), WalkError> {
        if let Some(known) = self.previous.at(stored)
            && is_unchanged(&known, metadata)
        {
            return self.send(Captured::Entry(known));
        }
        let unreadable = |source| WalkError::Unreadable { path: path.to_owned(), source };
        let file = match fs::OpenOptions::new().read(true).custom_flags(no_follow()).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.skip(stored, VANISHED),
            // A link or a socket by now.
            Err(error)
                if [Errno::LOOP, Errno::NXIO].map(Errno::raw_os_error).map(Some).contains(&error.raw_os_error()) =>
            {
                return self.skip(stored, REPLACED);
            }
            Err(source) => return Err(unreadable(source)),
        };
        let before = file.metadata().map_err(unreadable)?;
        if !before.is_file() {
            return self.skip(stored, REPLACED);
        }
        self.content(&file, &before, path, stored).map_err(|error| match error {
            ContentError::Io(source) => unreadable(source),
            ContentError::Walk(error) => error,
        })
    }

    fn content(&mut self, file: &File, before: &Metadata, path: &Path, stored: &[u8]) -> Result<(), ContentError> {
        let entry = self.describe(path, stored, before, EntryKind::File { size: before.len(), extents: Vec::new() })?;
        self.send(Captured::Begin(entry))?;
        let read = if before.blocks() * 512 < before.len() {
            self.sparse(file, before.len())?
        } else {
            self.dense(file, 0, before.len())?
        };
        let after = file.metadata()?;
        let note = if read < before.len() {
            Some(format!("shrank from {} to {read} bytes while it was read", before.len()))
        } else if after.len() != before.len() || change_time(&after) != change_time(before) {
            Some("changed while it was read".to_owned())
        } else {
            None
        };
        Ok(self.send(Captured::End(note))?)
    }

    /// Sends the bytes of `[from, to)`; returns where the file ended if that was earlier, else `to`.
    fn dense(&mut self, file: &File, from: u64, to: u64) -> Result<u64, ContentError> {
        let mut position = from;
        while position < to {
            let want = READ_SIZE.min(usize::try_from(to - position).unwrap_or(READ_SIZE));
            let mut buffer = BytesMut::zeroed(want);
            let got = read_full(file, &mut buffer, position)?;
            buffer.truncate(got);
            position += got as u64;
            if got > 0 {
                self.send(Captured::Data(buffer.freeze()))?;
            }
            if got < want {
                return Ok(position);
            }
        }
        Ok(to)
    }

    fn sparse(&mut self, file: &File, size: u64) -> Result<u64, ContentError> {
        let mut position = 0;
        while position < size {
            let data = match rustix::fs::seek(file, SeekFrom::Data(position)) {
                Ok(data) => data.min(size),
                Err(Errno::NXIO) => size,
                // The file system cannot tell holes: read it all.
                Err(Errno::INVAL) => return self.dense(file, position, size),
                Err(error) => return Err(io::Error::from(error).into()),
            };
            if data > position {
                self.send(Captured::Hole(data - position))?;
            }
            if data == size {
                return Ok(size);
            }
            let hole = match rustix::fs::seek(file, SeekFrom::Hole(data)) {
                Ok(hole) => hole.min(size),
                // It was cut off meanwhile.
                Err(Errno::NXIO) => return Ok(data),
                Err(error) => return Err(io::Error::from(error).into()),
            };
            position = self.dense(file, data, hole)?;
            if position < hole {
                return Ok(position);
            }
        }
        Ok(size)
    }

    fn describe(&self, path: &Path, stored: &[u8], metadata: &Metadata, kind: EntryKind) -> Result<Entry, WalkError> {
        Ok(Entry {
            path: stored.to_owned(),
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: file_time(metadata.mtime(), metadata.mtime_nsec()),
            xattrs: read_xattrs(path).map_err(|source| WalkError::Unreadable { path: path.to_owned(), source })?,
            change: matches!(kind, EntryKind::File { .. }).then(|| change_mark(metadata)).flatten(),
            kind,
            note: None,
        })
    }

    fn skip(&self, path: &[u8], why: &str) -> Result<(), WalkError> {
        self.send(Captured::Skipped { path: path.to_owned(), why: why.to_owned() })
    }

    fn send(&self, item: Captured) -> Result<(), WalkError> {
        self.out.blocking_send(item).map_err(|_| WalkError::Stopped)
    }
}

enum ContentError {
    Io(io::Error),
    Walk(WalkError),
}

impl From<io::Error> for ContentError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<WalkError> for ContentError {
    fn from(error: WalkError) -> Self {
        Self::Walk(error)
    }
}

fn join(parent: &[u8], name: &OsStr) -> Vec<u8> {
    let mut path = parent.to_owned();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.as_bytes());
    path
}

/// The names in a directory. Only where the walk begins may it be behind a link.
fn list(directory: &Path, follow: bool) -> Result<Vec<OsString>, Errno> {
    let no_follow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | no_follow;
    let opened = rustix::fs::open(directory, flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(opened)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(OsString::from_vec(name.to_owned()));
        }
    }
    Ok(names)
}

fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn read_xattrs(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let names = match xattr::list(path) {
        Ok(names) => names,
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::NotFound) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for name in names {
        if let Some(value) = xattr::get(path, &name)? {
            found.push((name.into_encoded_bytes(), value));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn file_time(seconds: i64, nanos: i64) -> FileTime {
    FileTime { seconds, nanos: u32::try_from(nanos).unwrap_or_default() }
}

fn change_time(metadata: &Metadata) -> FileTime {
    file_time(metadata.ctime(), metadata.ctime_nsec())
}

fn change_mark(metadata: &Metadata) -> Option<ChangeMark> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let ctime = change_time(metadata);
    let settled = i64::try_from(now.as_secs()).ok()? - ctime.seconds > RACY_SECONDS;
    settled.then_some(ChangeMark { ctime, inode: metadata.ino() })
}

/// Any change to content, mode, owner or attributes sets the change time, which no program can set back.
fn is_unchanged(known: &Entry, metadata: &Metadata) -> bool {
    let EntryKind::File { size, .. } = known.kind else { return false };
    let mark = known.change.as_ref();
    known.note.is_none()
        && size == metadata.len()
        && mark.is_some_and(|mark| mark.ctime == change_time(metadata) && mark.inode == metadata.ino())
}
