//! Damage in the restored addons: an installed module that is gone, or older than the database.
//!
//! Odoo starts all the same: it says that some modules are not loaded, and ends with code 0 where it was to stop; an older
//! module says nothing at all. So the modules of the database are held against those in reach, name by name and version by
//! version (rung 10). Only modules that are installed and that no other folder has are victims: nobody would miss another.

use std::{
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use lifeboat_odoo::modules::{self, Module};
use tokio_postgres::Client;

use super::{chance::Chance, folder::Folder, nothing};
use crate::{
    error::{Error, Result},
    odoo::Layout,
    source::OwnCopy,
};

const MANIFEST: &str = "__manifest__.py";
/// No manifest is so long.
const LONGEST: u64 = 1 << 20;
const NO_MODULE: &str = "no installed module lies in an addons folder that was restored";

/// Installed modules in restored addons folders.
struct Found {
    folder: Folder,
    modules: Vec<(Module, PathBuf)>,
    series: String,
}

async fn find(copy: &OwnCopy<'_>, clients: &[(String, Client)]) -> Result<Found> {
    let folder = Folder::open(copy.restored)?;
    let layout = Layout::find(copy.restored, copy.databases, copy.addons);
    let (mut found, mut series) = (Vec::<(Module, PathBuf)>::new(), String::new());
    for (_, client) in clients {
        let installed = modules::installed(client).await?;
        series = modules::database_series(&installed)?;
        for addons in &layout.addons {
            let Ok(addons) = addons.strip_prefix(copy.restored) else { continue };
            for name in folder.folders(addons)? {
                let path = addons.join(&name);
                let module = installed.iter().find(|module| *module.name == *name);
                let Some(module) = module.filter(|_| folder.has(&path.join(MANIFEST))) else { continue };
                found.push((module.clone(), path));
            }
        }
    }
    // A module that two folders have is not missed when one of them loses it.
    let names: Vec<String> = found.iter().map(|(module, _)| module.name.clone()).collect();
    found.retain(|(module, _)| names.iter().filter(|name| **name == module.name).count() == 1 || clients.len() > 1);
    Ok(Found { folder, modules: found, series })
}

/// Takes a module's folder away.
pub(super) async fn remove(copy: &OwnCopy<'_>, clients: &[(String, Client)], mut chance: Chance) -> Result<String> {
    let found = find(copy, clients).await?;
    let Some((module, path)) = chance.one(&found.modules) else { return nothing(NO_MODULE) };
    found.folder.set_aside(path)?;
    Ok(format!("module {} ({}), gone", module.name, path.display()))
}

/// Makes a module's manifest that of an older release.
pub(super) async fn age(copy: &OwnCopy<'_>, clients: &[(String, Client)], mut chance: Chance) -> Result<String> {
    let Found { folder, modules, series } = find(copy, clients).await?;
    let older = format!("{series}.0.0.1");
    for (module, path) in chance.shuffled(modules) {
        if module.version.as_deref() == Some(older.as_str()) {
            continue;
        }
        let manifest = path.join(MANIFEST);
        let failed = || Error::io("cannot damage", copy.restored.join(&manifest));
        let mut file = folder.file(&manifest)?;
        let mut text = String::new();
        (&mut file).take(LONGEST).read_to_string(&mut text).map_err(failed())?;
        let Some(text) = with_version(&text, &older) else { continue };
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes())).map_err(failed())?;
        let had = module.version.unwrap_or_default();
        return Ok(format!("module {} ({}), now {older}, installed {had}", module.name, Path::new(&path).display()));
    }
    nothing(NO_MODULE)
}

/// A manifest with another version; none where it names none.
fn with_version(manifest: &str, version: &str) -> Option<String> {
    let key = ["'version'", "\"version\""].into_iter().find_map(|key| Some(manifest.find(key)? + key.len()))?;
    let colon = key + manifest[key..].find(':')? + 1;
    let rest = &manifest[colon..];
    let start = colon + rest.find(|c: char| !c.is_whitespace())?;
    let quote = manifest[start..].chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let end = start + 1 + manifest[start + 1..].find(quote)?;
    Some(format!("{}{version}{}", &manifest[..start + 1], &manifest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_version_of_a_manifest_changes() {
        let manifest = "{\n    'name': \"version\",\n    \"version\" : '19.0.1.0.0',\n    'depends': ['base'],\n}\n";
        let older = with_version(manifest, "19.0.0.0.1").unwrap();
        assert_eq!(older, manifest.replace("19.0.1.0.0", "19.0.0.0.1"));
        assert_eq!(with_version("{'name': 'x'}", "1"), None);
        assert_eq!(with_version("{'version': VERSION}", "1"), None);
    }
}
