//! Room on the disk: enough before anything is fetched, and nobody eats up the host's afterwards.
//!
//! What containers may write lies in folders of the drill, and a bind has no limit. So the disk is watched: only when more of it is
//! gone than the drill was given, the folder is measured, and a drill that has grown beyond its budget is stopped.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use lifeboat_model::size::ByteSize;
use rustix::fs::statvfs;

use crate::error::{Error, Result};

/// What a server needs beside the data: its log while it replays, temporary files, Odoo's sessions.
const MARGIN: u64 = 1 << 30;

/// What a drill may write beside as much again as it restored: indexes of a loaded dump, assets, sorted rows.
const GROWTH: u64 = 4 << 30;

/// How often the disk is looked at: one call of the system.
const LOOK: Duration = Duration::from_secs(2);

/// The disk below a drill's folder, and what the drill was given of it.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    /// Free at the beginning.
    free: u64,
    /// What the folder may hold.
    budget: AtomicU64,
}

impl Disk {
    /// Looks at the disk of a drill's folder.
    pub fn look(folder: &Path) -> Result<Disk> {
        let free = free(folder)?;
        Ok(Disk { folder: folder.to_owned(), free, budget: AtomicU64::new(u64::MAX) })
    }

    /// Refuses what does not fit, where it is known how much is to be restored; and remembers how much the drill may hold.
    pub fn reserve(&self, restored: Option<u64>) -> Result<()> {
        let needed = needed(restored);
        if self.free < needed {
            return Err(Error::NoRoom {
                folder: self.folder.clone(),
                free: ByteSize(self.free),
                needed: ByteSize(needed),
            });
        }
        self.budget.store(budget(restored.unwrap_or(0)), Ordering::Relaxed);
        Ok(())
    }

    /// The folder holds what was fetched: that counts from now on.
    pub fn restored(&self, bytes: u64) {
        self.budget.store(budget(bytes), Ordering::Relaxed);
    }

    /// Comes back when the drill has written more than it may.
    pub async fn overrun(&self) -> String {
        loop {
            tokio::time::sleep(LOOK).await;
            let budget = self.budget.load(Ordering::Relaxed);
            let gone = free(&self.folder).map_or(0, |free| self.free.saturating_sub(free));
            if gone <= budget {
                continue;
            }
            let folder = self.folder.clone();
            let held = tokio::task::spawn_blocking(move || size(&folder)).await.unwrap_or(0);
            if held > budget {
                return format!(
                    "the sandbox has filled the disk: its folder holds {}, and {} were expected at most",
                    ByteSize(held),
                    ByteSize(budget)
                );
            }
        }
    }
}

fn needed(restored: Option<u64>) -> u64 {
    let restored = restored.unwrap_or(0);
    restored.saturating_add(restored / 4).saturating_add(MARGIN)
}

fn budget(restored: u64) -> u64 {
    restored.saturating_mul(2).saturating_add(GROWTH)
}

fn free(folder: &Path) -> Result<u64> {
    let stat = statvfs(folder).map_err(|error| Error::io("cannot ask for room at", folder)(error.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What a folder's files take of the disk. What cannot be read, or goes away meanwhile, counts as nothing.
fn size(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let (mut bytes, mut folders) = (0_u64, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512));
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk { free: 3 << 30, ..Disk::look(folder.path()).unwrap() };
        disk.reserve(Some(1 << 30)).unwrap();
        let refused = disk.reserve(Some(2 << 30)).unwrap_err().to_string();
        assert!(refused.contains("3.0 GiB are free") && refused.contains("3.5 GiB"), "{refused}");
        assert!(Disk { free: MARGIN - 1, ..Disk::look(folder.path()).unwrap() }.reserve(None).is_err());
    }

    #[tokio::test]
    async fn a_folder_that_grows_beyond_its_budget_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk { free: u64::MAX, ..Disk::look(folder.path()).unwrap() };
        disk.budget.store(1 << 20, Ordering::Relaxed);
        std::fs::create_dir(folder.path().join("base")).unwrap();
        std::fs::write(folder.path().join("base/1"), vec![1; 2 << 20]).unwrap();
        let words = tokio::time::timeout(Duration::from_secs(60), disk.overrun()).await.unwrap();
        assert!(words.contains("filled the disk"), "{words}");
    }
}
