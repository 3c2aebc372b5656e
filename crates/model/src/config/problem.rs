//! What is wrong, where, and what to do.

use std::{fmt, path::PathBuf};

/// Something that makes the configuration unusable. Prints as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file.
    pub file: PathBuf,
    /// Line in it, from 1, where one can be named.
    pub line: Option<usize>,
    /// Character in that line, from 1, where one can be named. Not printed: for files whose readers want to go there.
    pub column: Option<usize>,
    /// The dotted key, for example `instances.clinic.postgres.port`; empty for the file as a whole.
    pub key: String,
    /// What is wrong. Never holds a value that may be secret.
    pub message: String,
    /// What to do; empty when the message says it.
    pub hint: String,
}

/// Something that works and should not stay. The same form as a [`Problem`].
pub type Warning = Problem;

impl std::error::Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}
