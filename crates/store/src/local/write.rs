//! Writing a file so that after a crash it is there whole, or not at all.
//!
//! The bytes go into a file without a name (`O_TMPFILE`), are flushed, and only then get their name by `linkat`,
//! which fails when the name is taken; last, the folder is flushed. A kill or power cut before the link frees the
//! space by itself, one after it leaves a complete object. File systems without nameless files or hard links
//! (NFS, exFAT) stage under `<name>#<random>` instead, which is no valid key and thus never listed, and rename.
//!
//! A file is only durable if every folder above it is: each folder is flushed into its parent once per process.

use std::{
    collections::HashSet,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags},
    io::Errno,
};

/// Folders remembered as durable; beyond this many the memory is emptied and they are flushed again.
const REMEMBERED_FOLDERS: usize = 65_536;

/// The writing half of a local store.
#[derive(Debug)]
pub(super) struct Writer {
    root: PathBuf,
    /// Device and inode of the root: an unmounted disk shows another folder under the same path, which must not fill.
    identity: (u64, u64),
    durable: Mutex<HashSet<PathBuf>>,
    nameless: AtomicBool,
}

/// Waits before each piece until it may be written; an error: nobody wants the file any more.
pub(super) struct Pace {
    pub(super) piece: usize,
    pub(super) wait: Box<dyn Fn(usize) -> io::Result<()> + Send>,
}

impl Pace {
    /// All at once.
    fn free() -> Pace {
        Pace { piece: usize::MAX, wait: Box::new(|_| Ok(())) }
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(self.piece) {
            (self.wait)(piece.len())?;
            file.write_all(piece)?;
        }
        Ok(())
    }
}

/// Makes the root (0700: it holds ciphertext, but names and sizes tell something too) and flushes it into its parent.
pub(super) fn create_root(root: &Path) -> io::Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    let missing: Vec<&Path> = root.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    for folder in missing {
        flush_folder(folder)?;
        flush_folder(parent_of(folder))?;
    }
    Ok(())
}

impl Writer {
    pub(super) fn new(root: PathBuf, metadata: &Metadata) -> Self {
        let identity = (metadata.dev(), metadata.ino());
        Self { root, identity, durable: Mutex::default(), nameless: AtomicBool::new(true) }
    }

    /// Writes as if the file system had no nameless files.
    #[cfg(test)]
    pub(super) fn stage_by_name(&self) {
        self.nameless.store(false, Ordering::Relaxed);
    }

    /// Writes a new file. `AlreadyExists` when the name is taken, with the file there untouched.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write_paced(name, bytes, &Pace::free())
    }

    /// The same, at this pace.
    pub(super) fn write_paced(&self, name: &str, bytes: &[u8], pace: &Pace) -> io::Result<()> {
        let path = self.root.join(name);
        match self.write_at(&path, bytes, pace) {
            // Somebody removed a folder that we remember as made: make it again, once.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.folders().clear();
                self.write_at(&path, bytes, pace)
            }
            done => done,
        }
    }

    fn write_at(&self, path: &Path, bytes: &[u8], pace: &Pace) -> io::Result<()> {
        let folder = parent_of(path);
        self.make_durable_folder(folder)?;
        if self.nameless.load(Ordering::Relaxed) {
            match write_nameless(path, bytes, pace) {
                Err(e) if is_unsupported(&e) => self.nameless.store(false, Ordering::Relaxed),
                done => return done.and_then(|()| flush_folder(folder)),
            }
        }
        write_staged(path, bytes, pace)?;
        flush_folder(folder)
    }

    fn folders(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make_durable_folder(&self, folder: &Path) -> io::Result<()> {
        if self.folders().contains(folder) {
            return Ok(());
        }
        let root = self.root.metadata()?;
        if (root.dev(), root.ino()) != self.identity {
            return Err(Errno::NOENT.into());
        }
        let below: Vec<&Path> = folder.ancestors().take_while(|p| *p != self.root).collect();
        for path in below.iter().rev() {
            match fs::DirBuilder::new().mode(0o700).create(path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                // Also when it was there: another process may have made it and not have flushed it yet.
                _ => flush_folder(parent_of(path))?,
            }
        }
        let mut durable = self.folders();
        if durable.len() >= REMEMBERED_FOLDERS {
            durable.clear();
        }
        durable.extend(below.into_iter().map(Path::to_owned));
        durable.insert(folder.to_owned());
        Ok(())
    }
}

fn write_nameless(path: &Path, bytes: &[u8], pace: &Pace) -> io::Result<()> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(parent_of(path), flags, Mode::from_raw_mode(0o600))?);
    pace.write(&mut file, bytes)?;
    file.sync_all()?;
    let open_file = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, open_file, CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(|errno| match errno {
        // The folder is there (the file was opened in it), so what is missing is /proc.
        Errno::NOENT if !Path::new("/proc/self/fd").exists() => Errno::NOTSUP.into(),
        Errno::PERM => Errno::NOTSUP.into(),
        other => other.into(),
    })
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL))
}

fn write_staged(path: &Path, bytes: &[u8], pace: &Pace) -> io::Result<()> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!("#{}", hex::encode(random)));
    let staged = PathBuf::from(staged);
    let written = write_and_name(&staged, path, bytes, pace);
    if written.is_err() {
        let _ = fs::remove_file(&staged); // the first error is the one to tell
    }
    written
}

fn write_and_name(staged: &Path, path: &Path, bytes: &[u8], pace: &Pace) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(staged)?;
    pace.write(&mut file, bytes)?;
    file.sync_all()?;
    drop(file);
    match rustix::fs::renameat_with(CWD, staged, CWD, path, RenameFlags::NOREPLACE) {
        // NFS: cannot rename without replacing, but has hard links.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::hard_link(staged, path)?;
            fs::remove_file(staged)
        }
        renamed => renamed.map_err(io::Error::from),
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn flush_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network and FUSE file systems have no flush for folders; their servers order names themselves.
        Err(e) if is_unsupported(&e) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(root: &Path, nameless: bool) -> Writer {
        let writer = Writer::new(root.to_owned(), &root.metadata().unwrap());
        if !nameless {
            writer.stage_by_name();
        }
        writer
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn both_ways_of_writing_create_and_never_replace() {
        for nameless in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let writer = writer(folder.path(), nameless);
            writer.write("packs/ab/one", b"first").unwrap();
            let again = writer.write("packs/ab/one", b"second").unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AlreadyExists, "nameless: {nameless}");
            assert_eq!(fs::read(folder.path().join("packs/ab/one")).unwrap(), b"first");
            assert_eq!(names(&folder.path().join("packs/ab")), ["one"], "a staging file stayed (nameless: {nameless})");
            assert_eq!(writer.nameless.load(Ordering::Relaxed), nameless);
        }
    }

    #[test]
    fn a_root_that_was_replaced_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("mount");
        fs::create_dir(&root).unwrap();
        let writer = writer(&root, true);
        writer.write("a/one", b"x").unwrap();
        fs::rename(&root, folder.path().join("gone")).unwrap();
        fs::create_dir(&root).unwrap();
        assert_eq!(writer.write("b/two", b"x").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(writer.write("a/two", b"x").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(names(&root).is_empty());
    }
}
