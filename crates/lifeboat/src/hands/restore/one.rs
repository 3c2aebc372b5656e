//! One database as a file: made under a name of the run, and given its own when the answer is kept.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::Value;

use super::{begun, of_slot};

/// The end of the name under which the answer is kept.
const ANSWER: &str = "answer";

/// What is there of this step.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// The file, with what the restore said of it.
    Done(Value),
    /// Nothing that could be kept: it is made under this name.
    Make(PathBuf),
}

/// Looks how far this run has come; what is unfinished is removed. No process of this step runs.
pub(super) fn look(file: &Path, slot: &Path, run: &str) -> Result<Found, String> {
    let part = of_run(file, slot, run);
    let kept = fs::read(of_slot(slot, ANSWER)).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    if let Some(answer) = kept {
        if is_there(&part) {
            name(&part, file)?;
        }
        // Gone, or another one: then it is made anew, unless something is in its place.
        if fs::metadata(file).is_ok_and(|metadata| Some(metadata.len()) == answer["bytes"].as_u64()) {
            return Ok(Found::Done(answer));
        }
    }
    if is_there(file) {
        return Err(format!(
            "{0} is there already, and this run did not make it: it stays as it is. Move it away (mv {0} {0}.old) and resume the run",
            file.display()
        ));
    }
    sweep(&part)?;
    Ok(Found::Make(part))
}

/// Keeps the answer, and gives the file its name.
pub(super) fn publish(part: &Path, file: &Path, slot: &Path, answer: &Value) -> Result<(), String> {
    begun::write(&of_slot(slot, ANSWER), answer.to_string().as_bytes())?;
    name(part, file)
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Beside the file, as it is renamed in the end.
fn of_run(file: &Path, slot: &Path, run: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(slot.file_name().unwrap_or(OsStr::new("restore")));
    name.push(format!("-{run}"));
    file.with_file_name(name)
}

/// Overwrites nothing.
fn name(part: &Path, file: &Path) -> Result<(), String> {
    let renamed = renameat_with(CWD, part, CWD, file, RenameFlags::NOREPLACE).map_err(io::Error::from);
    let folder = file.parent().unwrap_or(Path::new("/"));
    let synced = renamed.and_then(|()| fs::File::open(folder)?.sync_all());
    synced.map_err(|error| format!("cannot give {} its name: {error}; it lies in {}", file.display(), part.display()))
}

/// What a restore that was killed has left: the file, and what it was written into.
fn sweep(part: &Path) -> Result<(), String> {
    let (Some(folder), Some(own)) = (part.parent(), part.file_name()) else { return Ok(()) };
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) }; // the restore says so better
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let rest = name.as_bytes().strip_prefix(own.as_bytes());
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b".partial-")) {
            let path = entry.path();
            fs::remove_file(&path).map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Place {
        folder: tempfile::TempDir,
        file: PathBuf,
        slot: PathBuf,
    }

    impl Place {
        fn new() -> Place {
            let folder = tempfile::tempdir().unwrap();
            let (file, slot) = (folder.path().join("north.dump"), folder.path().join("fetch"));
            Place { folder, file, slot }
        }

        fn look(&self) -> Result<Found, String> {
            look(&self.file, &self.slot, "r1")
        }

        fn part(&self) -> PathBuf {
            match self.look() {
                Ok(Found::Make(part)) => part,
                found => panic!("{found:?}"),
            }
        }
    }

    #[test]
    fn killed_anywhere_the_file_is_made_once_and_its_answer_is_known() {
        let answer = json!({ "file": "x", "bytes": 4, "point": "p" });
        // In the middle of the dump, or behind it.
        let place = Place::new();
        let part = place.part();
        fs::write(&part, "half").unwrap();
        fs::write(format!("{}.partial-7", part.display()), "less").unwrap();
        assert_eq!(place.part(), part);
        assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 0, "what is unfinished is replaced");
        // Behind the answer.
        fs::write(&part, "dump").unwrap();
        begun::write(&of_slot(&place.slot, ANSWER), answer.to_string().as_bytes()).unwrap();
        assert_eq!(place.look(), Ok(Found::Done(answer.clone())));
        assert_eq!(fs::read_to_string(&place.file).unwrap(), "dump");
        // Behind everything, before the journal has it.
        assert_eq!(place.look(), Ok(Found::Done(answer)));
        fs::remove_file(&place.file).unwrap();
        assert_eq!(place.part(), part, "somebody took it away");
    }

    #[test]
    fn a_file_that_the_run_did_not_make_stays() {
        let place = Place::new();
        fs::write(&place.file, "of an earlier incident").unwrap();
        assert!(place.look().unwrap_err().contains("did not make it"));
        fs::remove_file(&place.file).unwrap();
        let part = place.part();
        fs::write(&part, "dump").unwrap();
        fs::write(&place.file, "somebody else's").unwrap();
        assert!(publish(&part, &place.file, &place.slot, &json!({ "file": "x", "bytes": 4 })).is_err());
        assert!(place.look().is_err());
        assert_eq!(fs::read_to_string(&place.file).unwrap(), "somebody else's");
        assert_eq!(fs::read_to_string(&part).unwrap(), "dump", "and what was made is kept");
    }
}
