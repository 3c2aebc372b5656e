//! Looking at a kit: whole, still true, and what has to be brought to it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    config::{Need, SECRETS},
    contents::PROGRAM,
    manifest::{self, Folder, Manifest},
    write::{SUMS, listed, sha256_of},
};
use crate::{
    cli::folder::files as files_of,
    exit::Exit,
    failure::{Advise as _, Failure, Result},
};

/// What was seen.
#[derive(Debug, Serialize)]
pub struct Seen {
    /// The kit.
    pub kit: PathBuf,
    /// When.
    pub looked: Timestamp,
    /// What it was made from.
    pub manifest: Manifest,
    /// Every file is there and has its sum.
    pub whole: bool,
    /// Files that are missing or changed, and files that do not belong.
    pub damage: Vec<String>,
    /// What it was made from has changed since.
    pub stale: Vec<String>,
    /// Secrets that are not there yet and that a recovery needs.
    pub missing: Vec<String>,
}

/// Looks.
pub fn look(kit: &Path, looked: Timestamp) -> Result<Seen> {
    let none = || {
        Failure::new(Exit::NotFound, format!("{} is no kit", kit.display()))
            .hint("a kit has kit.json and SHA256SUMS; one that was not written to its end has no sums")
            .next("lifeboat kit write DIR")
    };
    let sums = fs::read_to_string(kit.join(SUMS)).map_err(|_| none())?;
    let manifest = fs::read(kit.join(manifest::FILE)).map_err(|_| none())?;
    let manifest: Manifest = serde_json::from_slice(&manifest)
        .context(format!("{} is not as a kit has it", kit.join(manifest::FILE).display()))?;
    if manifest.schema != manifest::SCHEMA {
        let other = format!("{} is of another version ({})", kit.display(), manifest.schema);
        return Err(Failure::new(Exit::Failed, other).hint("use the program that lies in the kit"));
    }
    let damage = damage(kit, &sums)?;
    let missing = manifest
        .secrets
        .iter()
        .filter(|slot| slot.needed_for == Need::Recovery && !kit.join(&slot.file).is_file())
        .map(|slot| slot.file.clone())
        .collect();
    let (whole, stale) = (damage.is_empty(), stale(kit, &manifest));
    Ok(Seen { kit: kit.to_owned(), looked, whole, damage, stale, missing, manifest })
}

fn damage(kit: &Path, sums: &str) -> Result<Vec<String>> {
    let (mut found, mut known) = (Vec::new(), BTreeSet::from([PathBuf::from(SUMS)]));
    for (sum, name) in listed(sums) {
        known.insert(PathBuf::from(name));
        match sha256_of(&kit.join(name)) {
            Ok(is) if is == sum => {}
            Ok(_) => found.push(format!("{name} has changed")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => found.push(format!("{name} is missing")),
            Err(error) => found.push(format!("{name} cannot be read: {error}")),
        }
    }
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(kit.join(&folder)).context(format!("cannot list {}", kit.join(&folder).display()))?;
        for entry in entries {
            let entry = entry.context(format!("cannot list {}", kit.join(&folder).display()))?;
            let name = folder.join(entry.file_name());
            // What people bring and what the program remembers is not the kit's.
            let is_theirs = ["state", SECRETS, "lost+found"].iter().any(|theirs| name == Path::new(theirs));
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.extend((!is_theirs).then_some(name));
            } else if !known.contains(&name) {
                found.push(format!("{} does not belong to the kit", name.display()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// On another machine than the one that it was made on, what it was made from is not there, and nothing can be said.
fn stale(kit: &Path, manifest: &Manifest) -> Vec<String> {
    let mut found = Vec::new();
    for taken in &manifest.sources {
        let is_in = |folder: &Folder| folder.path.exists() && taken.from.parent() == Some(folder.path.as_path());
        match sha256_of(&taken.from) {
            Ok(is) if is != taken.sha256 => found.push(format!("{} has changed since", taken.from.display())),
            Err(_) if manifest.source_folders.iter().any(is_in) => {
                found.push(format!("{} is gone since", taken.from.display()));
            }
            _ => {}
        }
    }
    for folder in &manifest.source_folders {
        for path in files_of(&folder.path, &folder.extension, false).unwrap_or_default() {
            if !manifest.sources.iter().any(|taken| taken.from == path) {
                found.push(format!("{} is new since", path.display()));
            }
        }
    }
    let program = concat!("lifeboat ", env!("CARGO_PKG_VERSION"));
    let itself = std::env::current_exe().ok().and_then(|itself| sha256_of(&itself).ok());
    if manifest.software != program {
        found.push(format!("it holds {}, and this is {program}", manifest.software));
    } else if itself.is_some() && itself != sha256_of(&kit.join(PROGRAM)).ok() {
        found.push(format!("it holds another build of {program} than this"));
    }
    found
}
