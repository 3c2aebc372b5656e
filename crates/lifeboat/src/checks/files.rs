//! What the configuration names on disk: there, of the right kind, readable, and with modes that keep secrets.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use lifeboat_model::config::{Config, FileCheck, FileKind, Problem, Warning};
use lifeboat_repo::seal::{Identity, IdentityFile, Nobody};
use rustix::fs::{Access, access};
use zeroize::Zeroizing;

/// A key file is never longer; longer files are not looked into.
const KEY_FILE_LIMIT: u64 = 16 << 10;

const NAMED_IDENTITY: &str = "keys.recovery_identity_file";

/// What is wrong, and what should not stay.
#[derive(Debug, Default)]
pub struct OnDisk {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Warning>,
}

/// Looks at every path that the configuration names.
pub fn look(config: &Config, file: &Path) -> OnDisk {
    let mut seen = OnDisk::default();
    for check in config.files() {
        if let Err((message, hint)) = look_at(check) {
            seen.problems.push(check.problem(message, hint));
        }
    }
    for path in recovery_identities(config, file) {
        seen.warnings.push(identity_warning(config, file, &path));
    }
    seen
}

/// Adds what the disk shows. Of a recovery identity that the text names, the disk's word is the more exact one.
pub fn merge(warnings: &mut Vec<Warning>, on_disk: Vec<Warning>) {
    warnings.retain(|warning| warning.key != NAMED_IDENTITY || !on_disk.iter().any(|seen| seen.key == NAMED_IDENTITY));
    warnings.extend(on_disk);
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
                NAMED_IDENTITY => "bring the recovery identity, or remove this line".to_owned(),
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

/// Files lying beside the configuration, the key files or in the repository that open what this host backs up.
fn recovery_identities(config: &Config, file: &Path) -> BTreeSet<PathBuf> {
    let keys = &config.keys;
    let mut folders = BTreeSet::new();
    let places = [Some(file), Some(keys.host_identity_file.as_path()), Some(keys.signing_key_file.as_path())];
    let named = keys.recovery_identity_file.as_deref();
    for place in places.into_iter().chain([named]).flatten() {
        folders.insert(place.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(".")).to_owned());
    }
    if let lifeboat_model::config::RepositoryConfig::Local { path } = &config.repository {
        folders.insert(path.clone());
    }
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| is_recovery_identity(config, path)).collect()
}

fn is_recovery_identity(config: &Config, path: &Path) -> bool {
    let small = fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= KEY_FILE_LIMIT);
    let identities = |bytes: Vec<u8>| match IdentityFile::parse(&Zeroizing::new(bytes), Arc::new(Nobody)) {
        Ok(IdentityFile::Open(identities)) => identities,
        // Behind a passphrase it does not open backups by itself, nor tells whose it is.
        _ => Vec::new(),
    };
    let opens = |identity: &Identity| config.keys.recovery_recipients.contains(&identity.recipient().to_string());
    small && fs::read(path).is_ok_and(|bytes| identities(bytes).iter().any(opens))
}

fn identity_warning(config: &Config, file: &Path, path: &Path) -> Warning {
    let named = config.keys.recovery_identity_file.as_deref() == Some(path);
    let key = if named { NAMED_IDENTITY } else { "keys" };
    let path = path.display();
    Problem {
        file: file.to_owned(),
        line: config.files().iter().find(|check| check.key == key).and_then(|check| check.line),
        key: key.to_owned(),
        message: format!("{path} opens every backup and lies on this host: whoever takes the host can read them all"),
        hint: format!(
            "copy it to two safe places off this machine, test a copy with `lifeboat key show`, then: shred -u {path}"
        ),
    }
}
