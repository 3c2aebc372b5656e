//! Folders of documents and policies that people keep beside `lifeboat.toml`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::failure::{Advise as _, Result};

/// The files of a folder whose names end so, by name. A folder that nobody named need not be there.
pub fn files(folder: &Path, extension: &str, is_named: bool) -> Result<Vec<PathBuf>> {
    let cannot_read = || format!("cannot read {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => return Ok(Vec::new()),
        entries => entries.context(cannot_read())?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.context(cannot_read())?.path();
        if path.extension().is_some_and(|is| is == extension) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
