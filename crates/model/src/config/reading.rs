//! How files that people write are read, key by key and with all problems at once: for `lifeboat.toml` here, and for what
//! else is written in the same manner.

use std::path::Path;

use toml::de::DeTable;

use super::{
    files::FileCheck,
    problem::{Problem, Warning},
};
pub use super::{
    nearest::nearest,
    source::{Place, Reported, Result, Source, Spot, Table, Value},
    value::{is_loopback, is_private_key, is_url_with_login},
};

/// A value, and what else was found in its file.
#[derive(Debug)]
pub struct Found<T> {
    /// What `read` made of the file.
    pub value: T,
    /// What works and should not stay, in the order of the file.
    pub warnings: Vec<Warning>,
    /// Paths to look at.
    pub files: Vec<FileCheck>,
}

/// Reads a TOML text: what `read` makes of its top table, or all that is wrong, in the order of the file. While the text is
/// not TOML, only that is reported.
pub fn document<T>(
    text: &str,
    file: &Path,
    read: impl FnOnce(&Table<'_>) -> Result<T>,
) -> std::result::Result<Found<T>, Vec<Problem>> {
    part(text, file, 1, read)
}

/// Like [`document`], of a text that begins in this line of its file.
pub fn part<T>(
    text: &str,
    file: &Path,
    first_line: usize,
    read: impl FnOnce(&Table<'_>) -> Result<T>,
) -> std::result::Result<Found<T>, Vec<Problem>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let source = Source::new(text, file, first_line);
    let whole = Place::whole(&source);
    // The first one only: what follows it is mostly its echo.
    for error in errors.iter().take(1) {
        // The error's own rendering would quote the line, which may hold a secret; its message is fixed text.
        let place = error.span().map_or_else(|| whole.clone(), |span| whole.at_byte(span.start));
        place.problem(format!("not valid TOML: {}", error.message()), "correct this line");
    }
    if source.has_problems() {
        return Err(source.into_findings().0);
    }
    let read = read(&Table::new(whole, document.get_ref()));
    let (problems, warnings, files) = source.into_findings();
    match read {
        Ok(value) if problems.is_empty() => Ok(Found { value, warnings, files }),
        // `Reported` cannot exist without a problem in the list.
        _ => Err(problems),
    }
}
