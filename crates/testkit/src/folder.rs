//! Temporary folders, filled and looked at in a line.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A folder that is removed when dropped.
#[derive(Debug)]
pub struct TempFolder(tempfile::TempDir);

impl Default for TempFolder {
    fn default() -> Self {
        Self::new()
    }
}

impl TempFolder {
    /// A new empty folder.
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("lifeboat-").tempdir().expect("the temporary folder can be written"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path in it.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file in it, with its folders.
    pub fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(name);
        let parent = path.parent().expect("a path in the folder has a parent");
        fs::create_dir_all(parent).unwrap_or_else(|e| panic!("{}: {e}", parent.display()));
        fs::write(&path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// Reads a file in it.
    pub fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        let path = self.at(name);
        fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

/// Every file under a folder, with paths relative to it, in order.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display())) {
            let entry = entry.unwrap_or_else(|e| panic!("{}: {e}", at.display()));
            match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => folders.push(entry.path()),
                false => found.push(entry.path().strip_prefix(folder).expect("it lies inside").to_owned()),
            }
        }
    }
    found.sort();
    found
}

/// Writes a program. A process of its own does it: what anybody has open for writing cannot be run (`ETXTBSY`), and whatever another
/// thread of a test just starts has, for a moment, open what this process has.
pub fn put_program(path: &Path, text: impl AsRef<[u8]>) {
    let mut writer = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut input = writer.stdin.take().expect("it is piped");
    input.write_all(text.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    drop(input);
    assert!(writer.wait().is_ok_and(|status| status.success()), "{} was not written", path.display());
}
