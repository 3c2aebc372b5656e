//! Puts stored entries back into a directory tree: contents, modes, owners, times, links, holes, attributes.
//!
//! Files are created readable to us alone and get their mode, owner and times once all bytes are in place.
//! Directories get theirs in a second pass ([`Placer::finish_directory`]), because creating a file changes the
//! directory's time. `global/pg_control` is written under another name and renamed as the very last step
//! ([`Placer::reveal`]), so that a half-restored cluster cannot be started (pgBackRest does the same).

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use lifeboat_repo::{
    reader::{Sink, Wanted},
    tree::{Entry, EntryKind, FileTime},
};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid};

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
    open: Mutex<HashMap<Vec<u8>, Arc<File>>>,
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
            open: Mutex::default(),
        }
    }

    /// A PGDATA, with `pg_tblspc/<oid>` going to the given folders.
    pub fn cluster(root: PathBuf, delta: bool, tablespaces: HashMap<Vec<u8>, PathBuf>) -> Self {
        Self { hold_back_control: true, tablespaces, ..Self::new(root, delta) }
    }

    /// Gives a directory its final mode, owner and times.
    pub fn finish_directory(&self, entry: &Entry) -> io::Result<()> {
        self.dress(entry, &self.target(&entry.path)?)
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

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, Arc<File>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file being written; opened by its first write, closed by [`Sink::end`].
    fn file(&self, path: &[u8]) -> io::Result<Arc<File>> {
        if let Some(file) = self.lock().get(path) {
            return Ok(Arc::clone(file));
        }
        let target = self.target(path)?;
        let mut open = self.lock();
        if let Some(file) = open.get(path) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.create(&target)?);
        open.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn create(&self, target: &Path) -> io::Result<File> {
        let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let mut options = OpenOptions::new();
        options.write(true).read(true).mode(0o600).custom_flags(nofollow);
        if self.delta {
            options.create(true).truncate(false)
        } else {
            options.create_new(true)
        };
        options.open(target)
    }

    /// Clears the way where a delta restore finds something else under the name.
    fn make_room(&self, target: &Path, wanted: &EntryKind) -> io::Result<()> {
        let Ok(found) = fs::symlink_metadata(target) else { return Ok(()) };
        let same = match wanted {
            EntryKind::Directory => found.is_dir(),
            EntryKind::File { .. } => found.is_file(),
            _ => false,
        };
        match (same, found.is_dir()) {
            (true, _) => Ok(()),
            (false, true) => fs::remove_dir_all(target),
            (false, false) => fs::remove_file(target),
        }
    }

    fn dress(&self, entry: &Entry, target: &Path) -> io::Result<()> {
        let is_link = matches!(entry.kind, EntryKind::Symlink { .. });
        if self.owners {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(CWD, target, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        for (name, value) in &entry.xattrs {
            xattr::set(target, OsStr::from_bytes(name), value)?;
        }
        if !is_link {
            // After the owner: changing an owner clears set-user-id bits.
            fs::set_permissions(target, fs::Permissions::from_mode(entry.mode))?;
        }
        let time = timespec(entry.mtime);
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

fn timespec(time: FileTime) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() }
}

impl Sink for Placer {
    fn begin(&self, entry: &Entry) -> io::Result<Wanted> {
        let target = self.target(&entry.path)?;
        if self.delta {
            self.make_room(&target, &entry.kind)?;
        }
        match &entry.kind {
            EntryKind::Directory => match fs::DirBuilder::new().mode(0o700).create(&target) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && target.is_dir() => {}
                result => result?,
            },
            EntryKind::Symlink { target: points_to } => {
                let points_to = match tablespace_of(&entry.path).and_then(|oid| self.tablespaces.get(oid)) {
                    Some(folder) => folder.clone().into_os_string(),
                    None => OsString::from_vec(points_to.clone()),
                };
                std::os::unix::fs::symlink(points_to, &target)?;
                self.dress(entry, &target)?;
            }
            EntryKind::Fifo => {
                rustix::fs::mkfifoat(CWD, &target, Mode::from_raw_mode(0o600))?;
                self.dress(entry, &target)?;
            }
            EntryKind::HardLink { target: first } => fs::hard_link(self.target(first)?, &target)?,
            EntryKind::File { .. } if self.delta && target.exists() => return Ok(Wanted::Differences),
            EntryKind::File { .. } => {}
        }
        Ok(Wanted::All)
    }

    fn existing(&self, path: &[u8], offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        match self.file(path)?.read_exact_at(buffer, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write(&self, path: &[u8], offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(path)?.write_all_at(bytes, offset)
    }

    fn damaged(&self, entry: &Entry, _reason: &str) -> io::Result<()> {
        self.lock().remove(&entry.path);
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
        self.lock().remove(&entry.path);
        drop(file);
        self.dress(entry, &self.target(&entry.path)?)
    }
}

/// In a file that was there before, what the tree calls a hole may hold old bytes.
fn clear_holes(file: &File, size: u64, extents: &[lifeboat_repo::tree::Extent]) -> io::Result<()> {
    let mut position = 0;
    let ends = extents.iter().map(|extent| (extent.offset, extent.offset + u64::from(extent.len)));
    for (start, end) in ends.chain(std::iter::once((size, size))) {
        let mut at = position;
        let zeros = [0u8; 64 << 10];
        let reach = start.min(file.metadata()?.len());
        while at < reach {
            let len = zeros.len().min(usize::try_from(reach - at).unwrap_or(zeros.len()));
            file.write_all_at(&zeros[..len], at)?;
            at += len as u64;
        }
        position = end;
    }
    Ok(())
}

/// The oid of a `pg_tblspc/<oid>` link.
fn tablespace_of(path: &[u8]) -> Option<&[u8]> {
    path.strip_prefix(b"pg_tblspc/").filter(|rest| !rest.contains(&b'/'))
}
