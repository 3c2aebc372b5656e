//! The only way to a file that is to be damaged: from the folder of the drill's own copy downwards, through no link.
//!
//! What was restored is data of others. A link in it may lead anywhere, and a second name (a hard link) may be somebody
//! else's file: both are refused. Each step is taken from the open folder before it, so nothing can be exchanged in between.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};

use crate::error::{Error, Result};

/// A folder of the copy.
pub(super) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Folder {
    /// The copy itself.
    pub fn open(path: &Path) -> Result<Folder> {
        let fd = rustix::fs::open(path, OFlags::RDONLY | FOLDER, Mode::empty());
        let fd = fd.map_err(|error| Error::io("cannot open", path)(error.into()))?;
        Ok(Folder { fd, path: path.to_owned() })
    }

    fn failed(&self, relative: &Path) -> impl Fn(rustix::io::Errno) -> Error {
        let path = self.path.join(relative);
        move |error| Error::io("cannot damage", path.clone())(error.into())
    }

    /// The folder that a name lies in, and the name there.
    fn parent(&self, relative: &Path) -> Result<(OwnedFd, OsString)> {
        let failed = self.failed(relative);
        let names: Option<Vec<&OsStr>> = relative
            .components()
            .map(|component| match component {
                Component::Normal(name) => Some(name),
                _ => None,
            })
            .collect();
        let Some((last, above)) = names.as_deref().and_then(<[&OsStr]>::split_last) else {
            return Err(failed(rustix::io::Errno::INVAL));
        };
        let mut folder = rustix::io::fcntl_dupfd_cloexec(&self.fd, 0).map_err(&failed)?;
        for name in above {
            folder = rustix::fs::openat(&folder, *name, OFlags::RDONLY | FOLDER, Mode::empty()).map_err(&failed)?;
        }
        Ok((folder, (*last).to_owned()))
    }

    /// A file, to read and write. One with a second name is refused.
    pub fn file(&self, relative: &Path) -> Result<File> {
        let (folder, name) = self.parent(relative)?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&folder, &name, flags, Mode::empty()).map_err(self.failed(relative))?;
        let stat = rustix::fs::fstat(&file).map_err(self.failed(relative))?;
        let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
        if !is_file || stat.st_nlink != 1 {
            let refused = io::Error::new(io::ErrorKind::PermissionDenied, "it is not a file of this copy alone");
            return Err(Error::io("will not damage", self.path.join(relative))(refused));
        }
        Ok(File::from(file))
    }

    /// Whether there is such a file that may be damaged.
    pub fn has(&self, relative: &Path) -> bool {
        self.file(relative).is_ok()
    }

    /// Takes a file's name away.
    pub fn remove(&self, relative: &Path) -> Result<()> {
        self.file(relative)?;
        let (folder, name) = self.parent(relative)?;
        rustix::fs::unlinkat(&folder, &name, AtFlags::empty()).map_err(self.failed(relative))
    }

    /// Gives each of two files the other's name.
    pub fn swap(&self, one: &Path, other: &Path) -> Result<()> {
        drop((self.file(one)?, self.file(other)?));
        let failed = self.failed(other);
        let ((of_one, one), (of_other, other)) = (self.parent(one)?, self.parent(other)?);
        rustix::fs::renameat_with(&of_one, &one, &of_other, &other, RenameFlags::EXCHANGE).map_err(failed)
    }

    /// Moves a folder out of its place, to a name at the top of the copy that nobody looks at.
    pub fn set_aside(&self, relative: &Path) -> Result<()> {
        let (folder, name) = self.parent(relative)?;
        let failed = self.failed(relative);
        // A link to a folder is no folder of the copy.
        rustix::fs::openat(&folder, &name, OFlags::RDONLY | FOLDER, Mode::empty()).map_err(&failed)?;
        let aside = ".lifeboat-set-aside";
        rustix::fs::renameat_with(&folder, &name, &self.fd, aside, RenameFlags::NOREPLACE).map_err(failed)
    }

    /// Names of the folders in a folder, in order. Links are none.
    pub fn folders(&self, relative: &Path) -> Result<Vec<OsString>> {
        let (above, name) = self.parent(relative)?;
        let failed = self.failed(relative);
        let folder = rustix::fs::openat(&above, &name, OFlags::RDONLY | FOLDER, Mode::empty()).map_err(&failed)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&folder).map_err(&failed)? {
            let entry = entry.map_err(&failed)?;
            use std::os::unix::ffi::OsStrExt as _;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." && rustix::fs::openat(&folder, name, FOLDER, Mode::empty()).is_ok() {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn site() -> (tempfile::TempDir, Folder, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (copy, outside) = (folder.path().join("copy"), folder.path().join("outside"));
        std::fs::create_dir_all(copy.join("a/b")).unwrap();
        std::fs::create_dir_all(outside.join("module")).unwrap();
        std::fs::write(outside.join("precious"), "precious").unwrap();
        std::fs::write(copy.join("a/b/file"), "one").unwrap();
        std::fs::write(copy.join("a/other"), "two").unwrap();
        symlink(&outside, copy.join("a/link")).unwrap();
        symlink(outside.join("precious"), copy.join("a/name")).unwrap();
        std::fs::hard_link(outside.join("precious"), copy.join("a/second")).unwrap();
        let opened = Folder::open(&copy).unwrap();
        (folder, opened, outside)
    }

    #[test]
    fn no_way_leads_out() {
        let (_kept, folder, outside) = site();
        for way in [
            "a/link/precious",
            "a/name",
            "a/second",
            "../outside/precious",
            "a/../../outside/precious",
            "/etc/passwd",
            "",
        ] {
            let way = Path::new(way);
            assert!(folder.file(way).is_err() && folder.remove(way).is_err() && !folder.has(way), "{}", way.display());
        }
        assert!(folder.set_aside(Path::new("a/link")).is_err());
        assert!(folder.set_aside(Path::new("a/link/module")).is_err());
        assert!(folder.swap(Path::new("a/b/file"), Path::new("a/link/precious")).is_err());
        assert!(folder.folders(Path::new("a/link")).is_err());
        assert_eq!(std::fs::read_to_string(outside.join("precious")).unwrap(), "precious");
        assert!(outside.join("module").is_dir());
        assert!(Folder::open(&folder.path.join("a/link")).is_err());
    }

    #[test]
    fn files_of_the_copy_are_damaged() {
        let (_kept, folder, _) = site();
        let read = |path: &str| std::fs::read_to_string(folder.path.join(path)).unwrap();
        folder.swap(Path::new("a/b/file"), Path::new("a/other")).unwrap();
        assert_eq!((read("a/b/file").as_str(), read("a/other").as_str()), ("two", "one"));
        folder.remove(Path::new("a/other")).unwrap();
        assert!(!folder.has(Path::new("a/other")) && folder.has(Path::new("a/b/file")));
        assert_eq!(folder.folders(Path::new("a")).unwrap(), ["b"]);
        folder.set_aside(Path::new("a/b")).unwrap();
        assert!(!folder.path.join("a/b").exists());
    }
}
