//! Puts stored entries back into a directory tree: contents, modes, owners, times, links, holes, attributes.
//!
//! Files are created readable to us alone and get their mode, owner and times once all bytes are in place.
//! Directories get theirs in a second pass ([`Placer::finish_directory`]), because creating a file changes the
//! directory's time. Nothing is created below anything but real folders: a link in a tree, forged or not, leads nowhere.
//! `global/pg_control` is written under another name and renamed as the very last step
//! ([`Placer::reveal`]), so that a half-restored cluster cannot be started (pgBackRest does the same).

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata, OpenOptions},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lifeboat_repo::{
    reader::{Sink, Wanted},
    tree::{Entry, EntryKind, FileTime},
};
use rustix::{
    fs::{AtFlags, CWD, FallocateFlags, Gid, Mode, Timespec, Timestamps, Uid},
    io::Errno,
};

use super::{is_real_folder, no_follow};

/// The last file of a cluster to get its name.
const PG_CONTROL: &[u8] = b"global/pg_control";
const PG_CONTROL_PENDING: &str = "global/pg_control.lifeboat-pending";

/// Writes one tree below a root.
pub struct Placer {
    root: PathBuf,
    owners: bool,
    delta: bool,
    hold_back_control: bool,
    /// Where `pg_tblspc/<oid>` lies, for a cluster with tablespaces.
    tablespaces: HashMap<Vec<u8>, PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Files that are being written.
    open: HashMap<Vec<u8>, Arc<File>>,
    /// Hashes of the paths of files that stay incomplete. Others of their bytes may still come.
    damaged: HashSet<u64>,
    /// The folder that was last seen to be one, from the root down.
    folder: Option<Vec<u8>>,
}

impl Placer {
    /// A tree of plain files. Owners are set when we are root, as the system allows it to nobody else.
    pub fn new(root: PathBuf, delta: bool) -> Self {
        Self {
            root,
            owners: rustix::process::geteuid().is_root(),
            delta,
            hold_back_control: false,
            tablespaces: HashMap::new(),
            state: Mutex::default(),
        }
    }

    /// A PGDATA, with `pg_tblspc/<oid>` going to the given folders.
    pub fn cluster(root: PathBuf, delta: bool, tablespaces: HashMap<Vec<u8>, PathBuf>) -> Self {
        Self { hold_back_control: true, tablespaces, ..Self::new(root, delta) }
    }

    /// Gives a directory its final mode, owner and times.
    pub fn finish_directory(&self, entry: &Entry) -> io::Result<()> {
        let target = self.target(&entry.path)?;
        if !entry.path.is_empty() {
            self.check_folders(&entry.path)?;
            if !is_real_folder(&target) {
                return Err(not_a_folder(&entry.path));
            }
        }
        self.dress(entry, &target)
    }

    /// Oids of tablespaces, and where they go.
    pub fn tablespaces(&self) -> impl Iterator<Item = (&[u8], &Path)> {
        self.tablespaces.iter().map(|(oid, folder)| (oid.as_slice(), folder.as_path()))
    }

    /// Whether this file is one that waits for its name.
    pub fn is_held_back(&self, path: &Path) -> bool {
        self.hold_back_control && path == self.root.join(PG_CONTROL_PENDING)
    }

    /// Gives held-back files their name: from here on the cluster can be started.
    pub fn reveal(&self) -> io::Result<()> {
        let pending = self.root.join(PG_CONTROL_PENDING);
        if self.hold_back_control && pending.exists() {
            fs::rename(&pending, self.root.join(OsStr::from_bytes(PG_CONTROL)))?;
            File::open(self.root.join("global"))?.sync_all()?;
        }
        Ok(())
    }

    /// Takes back the name of held-back files: a delta restore makes the cluster unstartable first.
    pub fn conceal(&self) -> io::Result<()> {
        let control = self.root.join(OsStr::from_bytes(PG_CONTROL));
        if self.hold_back_control && control.exists() {
            fs::rename(control, self.root.join(PG_CONTROL_PENDING))?;
        }
        Ok(())
    }

    /// Where an entry goes. Paths come from a signed point, and are still not trusted to stay below the root.
    fn target(&self, path: &[u8]) -> io::Result<PathBuf> {
        if path.is_empty() {
            return Ok(self.root.clone());
        }
        let safe =
            !path.contains(&0) && path.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."));
        if !safe {
            let shown = String::from_utf8_lossy(path).into_owned();
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("unsafe path {shown:?} in the tree")));
        }
        if self.hold_back_control && path == PG_CONTROL {
            return Ok(self.root.join(PG_CONTROL_PENDING));
        }
        if let Some(rest) = path.strip_prefix(b"pg_tblspc/") {
            let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            if let (Some(folder), true) = (self.tablespaces.get(&rest[..end]), end < rest.len()) {
                return Ok(folder.join(OsStr::from_bytes(&rest[end + 1..])));
            }
        }
        Ok(self.root.join(OsStr::from_bytes(path)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a path below anything but real folders. Those whose own entries were lost to damage are made.
    fn check_folders(&self, path: &[u8]) -> io::Result<()> {
        let Some(end) = path.iter().rposition(|byte| *byte == b'/') else { return Ok(()) };
        if self.state().folder.as_deref() == Some(&path[..end]) {
            return Ok(());
        }
        self.look_at_folders(path)?;
        self.state().folder = Some(path[..end].to_owned());
        Ok(())
    }

    fn look_at_folders(&self, path: &[u8]) -> io::Result<()> {
        for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let folder = &path[..end];
            // The link of a tablespace was made by us, and what is below it goes to a folder of ours.
            if tablespace_of(folder).is_some_and(|oid| self.tablespaces.contains_key(oid)) {
                continue;
            }
            let target = self.target(folder)?;
            match fs::symlink_metadata(&target) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(not_a_folder(folder)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::DirBuilder::new().mode(0o700).create(&target)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The file being written; opened by its first write, closed by [`Sink::end`].
    fn file(&self, path: &[u8]) -> io::Result<Arc<File>> {
        if let Some(file) = self.state().open.get(path) {
            return Ok(Arc::clone(file));
        }
        let target = self.target(path)?;
        if self.delta {
            // A forged tree may have replaced a folder since the file was begun.
            self.look_at_folders(path)?;
        }
        let mut state = self.state();
        if let Some(file) = state.open.get(path) {
            return Ok(Arc::clone(file));
        }
        let damaged = state.damaged.contains(&path_hash(path));
        let file = Arc::new(open_for_writing(&target, self.delta || damaged)?);
        if !damaged {
            // Nobody ends a damaged file, so it is opened for each write.
            state.open.insert(path.to_owned(), Arc::clone(&file));
        }
        Ok(file)
    }

    /// Clears the way where a delta restore finds something else under the name; gives what may stay.
    fn make_room(&self, target: &Path, wanted: &EntryKind) -> io::Result<Option<Metadata>> {
        let Ok(found) = fs::symlink_metadata(target) else { return Ok(None) };
        let same = match wanted {
            EntryKind::Directory => found.is_dir(),
            // Another name of the same file may lie anywhere, and must not be written to.
            EntryKind::File { .. } => found.is_file() && found.nlink() == 1,
            _ => false,
        };
        if same {
            self.make_writable(target, &found)?;
            return Ok(Some(found));
        }
        self.state().folder = None;
        if found.is_dir() {
            fs::remove_dir_all(target)?
        } else {
            fs::remove_file(target)?
        }
        Ok(None)
    }

    /// Root may write whatever the mode; others get the mode out of the way until it is set in the end.
    fn make_writable(&self, target: &Path, found: &Metadata) -> io::Result<()> {
        let (mode, needed) = (found.mode() & 0o7777, if found.is_dir() { 0o700 } else { 0o600 });
        if self.owners || mode & needed == needed {
            return Ok(());
        }
        fs::set_permissions(target, fs::Permissions::from_mode(mode | needed))
    }

    fn begin_folder(&self, target: &Path) -> io::Result<()> {
        match fs::DirBuilder::new().mode(0o700).create(target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_real_folder(target) => Ok(()),
            result => result,
        }
    }

    fn begin_link(&self, entry: &Entry, points_to: &[u8], target: &Path) -> io::Result<()> {
        let points_to = match tablespace_of(&entry.path).and_then(|oid| self.tablespaces.get(oid)) {
            Some(folder) => folder.clone().into_os_string(),
            None => OsString::from_vec(points_to.to_owned()),
        };
        std::os::unix::fs::symlink(points_to, target)?;
        self.dress(entry, target)
    }

    fn begin_hard_link(&self, first: &[u8], target: &Path) -> io::Result<()> {
        let path = self.target(first)?;
        self.check_folders(first)?;
        if !fs::symlink_metadata(&path)?.is_file() {
            let shown = String::from_utf8_lossy(first);
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{shown:?} of the tree is not a file")));
        }
        fs::hard_link(path, target)
    }

    fn dress(&self, entry: &Entry, target: &Path) -> io::Result<()> {
        let is_link = matches!(entry.kind, EntryKind::Symlink { .. });
        if self.owners {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(CWD, target, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        self.set_attributes(entry, target)?;
        if !is_link {
            // After the owner: changing an owner clears set-user-id bits.
            fs::set_permissions(target, fs::Permissions::from_mode(entry.mode))?;
        }
        let time = timespec(entry.mtime);
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn set_attributes(&self, entry: &Entry, target: &Path) -> io::Result<()> {
        if self.delta {
            remove_strange_attributes(entry, target)?;
        }
        for (name, value) in &entry.xattrs {
            match xattr::set(target, OsStr::from_bytes(name), value) {
                // As with owners: what the system allows to root alone.
                Err(error)
                    if error.kind() == io::ErrorKind::PermissionDenied
                        && !self.owners
                        && !name.starts_with(b"user.") => {}
                result => result?,
            }
        }
        Ok(())
    }
}

fn timespec(time: FileTime) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() }
}

impl Sink for Placer {
    fn begin(&self, entry: &Entry) -> io::Result<Wanted> {
        if entry.path.is_empty() {
            // The folder that was asked for, which may well be behind a link.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
            return Ok(Wanted::All);
        }
        let target = self.target(&entry.path)?;
        self.check_folders(&entry.path)?;
        let found = if self.delta { self.make_room(&target, &entry.kind)? } else { None };
        match &entry.kind {
            EntryKind::Directory => self.begin_folder(&target)?,
            EntryKind::Symlink { target: points_to } => self.begin_link(entry, points_to, &target)?,
            EntryKind::Fifo => {
                rustix::fs::mkfifoat(CWD, &target, Mode::from_raw_mode(0o600))?;
                self.dress(entry, &target)?;
            }
            EntryKind::HardLink { target: first } => self.begin_hard_link(first, &target)?,
            EntryKind::File { .. } if found.is_some() => return Ok(Wanted::Differences),
            EntryKind::File { .. } => {}
        }
        Ok(Wanted::All)
    }

    fn existing(&self, path: &[u8], offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        // Not kept open: as many files as a window has may wait for their bytes.
        let file = OpenOptions::new().read(true).custom_flags(no_follow()).open(self.target(path)?)?;
        match file.read_exact_at(buffer, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write(&self, path: &[u8], offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(path)?.write_all_at(bytes, offset)
    }

    fn damaged(&self, entry: &Entry, _reason: &str) -> io::Result<()> {
        let mut state = self.state();
        state.open.remove(&entry.path);
        state.damaged.insert(path_hash(&entry.path));
        Ok(())
    }

    fn end(&self, entry: &Entry) -> io::Result<()> {
        let EntryKind::File { size, extents } = &entry.kind else { return Ok(()) };
        let file = self.file(&entry.path)?;
        if self.delta {
            clear_holes(&file, *size, extents)?;
        }
        if file.metadata()?.len() != *size {
            file.set_len(*size)?;
        }
        self.state().open.remove(&entry.path);
        drop(file);
        self.dress(entry, &self.target(&entry.path)?)
    }
}

fn open_for_writing(target: &Path, may_exist: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).read(true).mode(0o600).custom_flags(no_follow());
    if may_exist {
        options.create(true).truncate(false)
    } else {
        options.create_new(true)
    };
    options.open(target)
}

/// In a file that was there before, what the tree calls a hole may hold old bytes.
fn clear_holes(file: &File, size: u64, extents: &[lifeboat_repo::tree::Extent]) -> io::Result<()> {
    let len = file.metadata()?.len();
    let mut position = 0;
    let ends = extents.iter().map(|extent| (extent.offset, extent.offset + u64::from(extent.len)));
    for (start, end) in ends.chain(std::iter::once((size, size))) {
        let start = start.min(len);
        if position < start {
            clear(file, position, start)?;
        }
        position = end;
    }
    Ok(())
}

/// Makes `[from, to)` a hole, or writes zeros where the file system has none.
fn clear(file: &File, from: u64, to: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    match rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, from, to - from) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        result => return Ok(result?),
    }
    let mut at = from;
    while at < to {
        let len = ZEROS.len().min(usize::try_from(to - at).unwrap_or(ZEROS.len()));
        file.write_all_at(&ZEROS[..len], at)?;
        at += len as u64;
    }
    Ok(())
}

/// Attributes that are there and do not belong. Labels of the system's own (`security.*`) are its business.
fn remove_strange_attributes(entry: &Entry, target: &Path) -> io::Result<()> {
    let names = match xattr::list(target) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(()),
        names => names?,
    };
    for name in names {
        let bytes = name.as_bytes();
        let wanted = entry.xattrs.iter().any(|(known, _)| known == bytes);
        if !wanted && (!bytes.starts_with(b"security.") || bytes == b"security.capability") {
            xattr::remove(target, &name)?;
        }
    }
    Ok(())
}

fn not_a_folder(path: &[u8]) -> io::Error {
    let shown = String::from_utf8_lossy(path);
    io::Error::new(
        io::ErrorKind::NotADirectory,
        format!("{shown:?} of the tree is not a folder: nothing goes below it"),
    )
}

fn path_hash(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// The oid of a `pg_tblspc/<oid>` link.
fn tablespace_of(path: &[u8]) -> Option<&[u8]> {
    path.strip_prefix(b"pg_tblspc/").filter(|rest| !rest.contains(&b'/'))
}
