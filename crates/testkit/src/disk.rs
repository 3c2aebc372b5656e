//! A small disk that really fills up. Needs root, so only for tests behind [`crate::testbed::enabled`].

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::folder::TempFolder;

/// A mounted tmpfs of a fixed size, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempFolder,
}

impl SmallDisk {
    /// Mounts a disk of so many bytes.
    pub fn mount(bytes: u64) -> Self {
        let folder = TempFolder::new();
        let size = format!("size={bytes},mode=0700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "lifeboat-test"]).arg(folder.path()).output();
        let mounted = mounted.unwrap_or_else(|e| panic!("mount: {e}"));
        assert!(mounted.status.success(), "mount: {}", String::from_utf8_lossy(&mounted.stderr));
        Self { folder }
    }

    /// From now on, writing fails.
    pub fn make_read_only(&self) {
        let done = Command::new("mount").args(["-o", "remount,ro"]).arg(self.folder.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "mount -o remount,ro {}", self.path().display());
    }

    /// Its mount point.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path on it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.at(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}
