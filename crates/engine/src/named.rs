//! What a configuration names on disk: there, of the right kind, readable, and with modes that keep secrets.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use lifeboat_model::config::{FileCheck, FileKind, Problem};
use rustix::fs::{Access, access};

/// What is wrong with a path that a configuration names, at the line where it does.
pub fn problem(check: &FileCheck) -> Option<Problem> {
    look_at(check).err().map(|(message, hint)| check.problem(message, hint))
}

type Wrong = (String, String);

fn look_at(check: &FileCheck) -> Result<(), Wrong> {
    let path = check.path.display();
    let metadata = match fs::metadata(&check.path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound && check.kind == FileKind::Created => {
            return can_be_created(&check.path);
        }
        Err(error) => return Err(unreadable(check, &error)),
    };
    let wanted_folder = matches!(check.kind, FileKind::Directory | FileKind::Created);
    let wanted_file = matches!(check.kind, FileKind::Secret | FileKind::Readable);
    if wanted_folder && !metadata.is_dir() {
        return Err((format!("{path} is not a folder"), "name a folder".into()));
    }
    if wanted_file && !metadata.is_file() {
        return Err((format!("{path} is not a regular file"), "name a file".into()));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if check.kind == FileKind::Secret && mode & 0o077 != 0 {
        return Err((format!("{path} has mode {mode:04o}: others can read it"), format!("run: chmod 0600 {path}")));
    }
    let rights = match check.kind {
        FileKind::Created => Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK,
        _ if metadata.is_dir() => Access::READ_OK | Access::EXEC_OK,
        _ => Access::READ_OK,
    };
    access(&check.path, rights).map_err(|error| unreadable(check, &error.into()))
}

fn unreadable(check: &FileCheck, error: &io::Error) -> Wrong {
    let path = check.path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            let hint = match check.key.as_str() {
                "keys.host_identity_file" => format!("make it: lifeboat key generate host --out {path}"),
                "keys.signing_key_file" => format!("make it: lifeboat key generate signing --out {path}"),
                "keys.recovery_identity_file" => "bring the recovery identity, or remove this line".to_owned(),
                _ => "correct the path, or make the file".to_owned(),
            };
            (format!("{path} does not exist"), hint)
        }
        io::ErrorKind::PermissionDenied => {
            let user = rustix::process::geteuid().as_raw();
            (format!("{path} may not be used by this user (uid {user})"), "change its owner or run as its owner".into())
        }
        _ => (format!("{path}: {error}"), String::new()),
    }
}

/// A folder that does not exist yet is fine where the nearest folder above it can be written.
fn can_be_created(path: &Path) -> Result<(), Wrong> {
    let above = path.ancestors().skip(1).map(|above| if above == Path::new("") { Path::new(".") } else { above });
    let Some(existing) = above.into_iter().find(|above| above.exists()) else {
        return Err((format!("{} cannot be made", path.display()), "name a folder below one that exists".into()));
    };
    access(existing, Access::WRITE_OK | Access::EXEC_OK).map_err(|_| {
        let user = rustix::process::geteuid().as_raw();
        let message = format!("{} does not exist, and uid {user} may not make it", path.display());
        (message, format!("run: install -d -m 0700 -o {user} {}", path.display()))
    })
}
