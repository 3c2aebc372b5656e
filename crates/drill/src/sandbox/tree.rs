//! Folders of restored data, reached through no link.
//!
//! What was restored is data of others: a link in it may lead to the live host, whose files the drill must neither change nor show.
//! So a place below the drill's folder counts only where every step to it is a real folder, and work on a whole tree goes from the
//! open folder downwards, where nothing can be exchanged in between.

use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path},
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid},
    io::Errno,
};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether the place below `root` is a folder, and so is everything on the way, without any link.
pub(crate) fn is_real_folder(root: &Path, below: &Path) -> bool {
    open_below(root, below).is_ok()
}

fn open_below(root: &Path, below: &Path) -> Result<OwnedFd, Errno> {
    let mut folder = rustix::fs::open(root, FOLDER, Mode::empty())?;
    for component in below.components() {
        let Component::Normal(name) = component else { return Err(Errno::INVAL) };
        folder = rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?;
    }
    Ok(folder)
}

/// Gives a file, or a folder with all that is in it, to a user. A link in it is given itself; one in its place is refused.
pub(crate) fn give(path: &Path, uid: u32, gid: u32) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&root)?.st_mode);
    if kind.is_symlink() {
        return Err(Errno::LOOP);
    }
    let to = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(&root, "", to.0, to.1, AtFlags::EMPTY_PATH)?;
    if kind.is_dir() {
        give_below(&rustix::fs::openat(&root, ".", FOLDER, Mode::empty())?, to)?;
    }
    Ok(())
}

fn give_below(folder: &OwnedFd, to: (Option<Uid>, Option<Gid>)) -> Result<(), Errno> {
    for entry in rustix::fs::Dir::read_from(folder.as_fd())? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        rustix::fs::chownat(folder, name, to.0, to.1, AtFlags::SYMLINK_NOFOLLOW)?;
        match rustix::fs::openat(folder, name, FOLDER | OFlags::NONBLOCK, Mode::empty()) {
            Ok(below) => give_below(&below, to)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_on_a_way_without_links_count() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::create_dir_all(outside.path().join("b")).unwrap();
        std::fs::write(root.path().join("a/file"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        std::os::unix::fs::symlink("a", root.path().join("inner")).unwrap();
        for (below, expected) in
            [("a", true), ("a/b", true), ("a/file", false), ("link", false), ("link/b", false), ("inner/b", false)]
        {
            assert_eq!(is_real_folder(root.path(), Path::new(below)), expected, "{below}");
        }
        assert!(!is_real_folder(root.path(), Path::new("a/../a")) && !is_real_folder(root.path(), Path::new("/etc")));
        assert!(!is_real_folder(&root.path().join("link"), Path::new("b")));
    }

    #[test]
    fn a_link_among_the_files_is_given_and_what_it_leads_to_is_not() {
        use std::os::unix::fs::MetadataExt as _;
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::write(root.path().join("a/b/file"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("a/link")).unwrap();
        give(root.path(), 65534, 65534).unwrap();
        let owner = |path: &Path| std::fs::symlink_metadata(path).unwrap().uid();
        for given in ["", "a/b", "a/b/file", "a/link"] {
            assert_eq!(owner(&root.path().join(given)), 65534, "{given}");
        }
        assert_eq!(owner(outside.path()), 0);
        assert_eq!(give(&root.path().join("a/link"), 65534, 65534), Err(Errno::LOOP));
        assert_eq!(owner(outside.path()), 0);
    }
}
