//! What the configuration names on disk.

use std::path::{Path, PathBuf};

use super::problem::Problem;

/// What must be true of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file that only its owner may read (mode 0600 or less).
    Secret,
    /// A regular file that can be read.
    Readable,
    /// A folder that can be read.
    Directory,
    /// A file or a folder that can be read.
    Any,
    /// A folder that is made when it is missing (the repository, the state folder).
    Created,
}

/// One path to look at, and where the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCheck {
    /// The configuration file.
    pub file: PathBuf,
    /// Line in it, from 1.
    pub line: Option<usize>,
    /// The dotted key, for example `keys.signing_key_file`.
    pub key: String,
    /// The path, resolved against the configuration's folder.
    pub path: PathBuf,
    /// What must be true of it.
    pub kind: FileKind,
}

impl FileCheck {
    /// A problem or warning about this path, at its line.
    pub fn problem(&self, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem {
            file: self.file.clone(),
            line: self.line,
            column: None,
            key: self.key.clone(),
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// Whether this path lies in `folder` or is it. Compares names only; resolve links first.
    pub fn is_within(&self, folder: &Path) -> bool {
        self.path.starts_with(folder)
    }
}
