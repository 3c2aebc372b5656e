//! A file that gets its name only when it is whole.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use rustix::fs::{CWD, RenameFlags};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::error::{Error, Result};

/// Pieces that wait for the disk; they are 64 KiB at most as Docker gives them.
const QUEUE: usize = 32;

/// A file under a name of its own beside its place, readable to nobody else. Dropped before [`publish`](NewFile::publish), it is
/// removed.
#[derive(Debug)]
pub struct NewFile {
    file: Option<File>,
    partial: PathBuf,
    path: PathBuf,
}

impl NewFile {
    /// Refuses a place that is taken.
    pub fn create(path: &Path) -> Result<NewFile> {
        let taken = || std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        if path.symlink_metadata().is_ok() {
            return Err(Error::io("will not overwrite", path)(taken()));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let partial = path.with_file_name(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&partial);
        let file = file.map_err(Error::io("cannot create", &partial))?;
        Ok(NewFile { file: Some(file), partial, path: path.to_owned() })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, to write into.
    pub fn file(&self) -> Result<File> {
        let file = self.file.as_ref().map(File::try_clone).unwrap_or_else(|| Err(std::io::ErrorKind::NotFound.into()));
        file.map_err(Error::io("cannot write", &self.partial))
    }

    /// A channel into the file, and the task that writes. The file comes back when all senders are gone.
    pub(super) fn write(self) -> (mpsc::Sender<Bytes>, JoinHandle<Result<NewFile>>) {
        let (sender, mut pieces) = mpsc::channel::<Bytes>(QUEUE);
        let writing = tokio::task::spawn_blocking(move || {
            let mut file = self.file()?;
            while let Some(piece) = pieces.blocking_recv() {
                file.write_all(&piece).map_err(Error::io("cannot write", &self.partial))?;
            }
            Ok(self)
        });
        (sender, writing)
    }

    /// Makes it durable and gives it its name, which nobody has taken meanwhile.
    pub fn publish(mut self) -> Result<()> {
        if let Some(file) = self.file.take() {
            file.sync_all().map_err(Error::io("cannot make durable", &self.partial))?;
        }
        rustix::fs::renameat_with(CWD, &self.partial, CWD, &self.path, RenameFlags::NOREPLACE)
            .map_err(|error| Error::io("cannot give its name to", &self.path)(error.into()))?;
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(Error::io("cannot make durable", folder))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After `publish` there is no such name any more.
        let _ = std::fs::remove_file(&self.partial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.dump");
        drop(NewFile::create(&path).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "dropped");

        let (pieces, writing) = NewFile::create(&path).unwrap().write();
        pieces.send(Bytes::from_static(b"ab")).await.unwrap();
        pieces.send(Bytes::from_static(b"cd")).await.unwrap();
        drop(pieces);
        let file = writing.await.unwrap().unwrap();
        assert!(!path.exists(), "not yet");
        file.publish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"abcd");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(NewFile::create(&path).is_err(), "taken");
    }

    #[test]
    fn a_name_taken_meanwhile_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.dump");
        let file = NewFile::create(&path).unwrap();
        std::fs::write(&path, "theirs").unwrap();
        assert!(file.publish().is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
