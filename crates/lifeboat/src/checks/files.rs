//! What the configuration names on disk: there, of the right kind, readable, and with modes that keep secrets.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use lifeboat_engine::named;
use lifeboat_model::config::{Config, Problem, Warning};
use lifeboat_repo::seal::{Identity, IdentityFile, Nobody};
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
        seen.problems.extend(named::problem(check));
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
        column: None,
        key: key.to_owned(),
        message: format!("{path} opens every backup and lies on this host: whoever takes the host can read them all"),
        hint: format!(
            "copy it to two safe places off this machine, test a copy with `lifeboat key show`, then: shred -u {path}"
        ),
    }
}
