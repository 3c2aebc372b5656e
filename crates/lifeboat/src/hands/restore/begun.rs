//! Which folders this run restores into: only of those an unfinished restore may be mended, which removes what does not belong.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::of_slot;

/// The end of a note's name, in the folder of the run.
const NOTE: &str = "begun";

/// Notes that a restore into the folder begins. Gives whether an earlier one of this run is mended there.
pub(super) fn begin(folder: &Path, slot: &Path, notes: &Path, may_replace: bool) -> Result<bool, String> {
    if !is_filled(folder)? {
        write(&of_slot(slot, NOTE), folder.as_os_str().as_encoded_bytes())?;
        return Ok(false);
    }
    match is_noted(folder, notes)? || may_replace {
        true => Ok(true),
        false => Err(format!(
            "{0} is not empty, and this run did not begin it: it may be what somebody works with, so nothing in it was touched. Move it \
             away (mv {0} {0}.old) and resume the run, or begin a new run with another folder",
            folder.display()
        )),
    }
}

/// What was not begun after all is nobody's: somebody else may restore into it before this is tried again.
pub(super) fn forget_empty(folder: &Path, slot: &Path) {
    if is_filled(folder) == Ok(false) {
        let _ = fs::remove_file(of_slot(slot, NOTE)); // only a look that finds it empty again is spared
    }
}

fn is_filled(folder: &Path) -> Result<bool, String> {
    match fs::read_dir(folder) {
        Ok(mut content) => Ok(content.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("cannot read {}: {error}", folder.display())),
    }
}

/// By any step of the run: one may bring the files, and another the database.
fn is_noted(folder: &Path, notes: &Path) -> Result<bool, String> {
    let failed = |error: io::Error| format!("cannot read {}: {error}", notes.display());
    for entry in fs::read_dir(notes).map_err(failed)? {
        let path: PathBuf = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|end| end == NOTE)
            && fs::read(&path).map_err(failed)? == folder.as_os_str().as_encoded_bytes()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whole or not at all, and durable.
pub(in crate::hands) fn write(path: &Path, content: &[u8]) -> Result<(), String> {
    let new = of_slot(path, "new");
    let written = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    written().map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_that_this_run_began_is_mended() {
        let all = tempfile::tempdir().unwrap();
        let (notes, target) = (all.path().join("run"), all.path().join("restored"));
        fs::create_dir(&notes).unwrap();
        let slot = notes.join("call.restore");
        let begin = |slot: &Path, target: &Path| begin(target, slot, &notes, false);
        assert_eq!(begin(&slot, &target), Ok(false), "a new one");
        // Killed between the note and the restore, or in the middle of it.
        assert_eq!(begin(&slot, &target), Ok(false));
        fs::create_dir(&target).unwrap();
        fs::write(target.join("x"), "").unwrap();
        assert_eq!(begin(&slot, &target), Ok(true));
        assert_eq!(begin(&notes.join("files"), &target), Ok(true), "another step of the run");

        let other = all.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("x"), "living").unwrap();
        assert!(begin(&slot, &other).unwrap_err().contains("did not begin it"));
        assert_eq!(super::begin(&other, &slot, &notes, true), Ok(true), "agreed to by people");
        let elsewhere = all.path().join("another-run");
        fs::create_dir(&elsewhere).unwrap();
        assert!(super::begin(&target, &elsewhere.join("call.restore"), &elsewhere, false).is_err(), "another run");
    }

    #[test]
    fn what_was_not_begun_after_all_is_nobodys() {
        let all = tempfile::tempdir().unwrap();
        let (slot, target) = (all.path().join("restore"), all.path().join("restored"));
        assert_eq!(begin(&target, &slot, all.path(), false), Ok(false));
        forget_empty(&target, &slot);
        fs::create_dir(&target).unwrap();
        fs::write(target.join("x"), "somebody else's").unwrap();
        assert!(begin(&target, &slot, all.path(), false).is_err());
    }
}
