//! Installed modules: what the database says, what an image's addons folders hold, and how the two differ.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use crate::{
    error::{Error, Result},
    versions::{Major, series},
};

/// An installed module, as `ir_module_module` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Technical name.
    pub name: String,
    /// The version that was installed or last updated, with the series in front (`19.0.1.3`).
    pub version: Option<String>,
    /// `installed`, `to upgrade` or `to remove`.
    pub state: String,
}

/// The installed modules of a database.
pub async fn installed(client: &Client) -> Result<Vec<Module>> {
    let query = "SELECT name, latest_version, state FROM ir_module_module \
                 WHERE state IN ('installed', 'to upgrade', 'to remove') ORDER BY name";
    let failed = || Error::sql("list installed modules");
    let rows = client.query(query, &[]).await.map_err(failed())?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Module {
            name: row.try_get(0).map_err(failed())?,
            version: row.try_get(1).map_err(failed())?,
            state: row.try_get(2).map_err(failed())?,
        })
    };
    rows.iter().map(read).collect()
}

/// The Odoo major that a database belongs to, from its `base` module.
pub fn major(modules: &[Module]) -> Result<Major> {
    Major::parse(&base_version(modules)?)
}

/// The series that a database belongs to (`19.0`).
pub fn database_series(modules: &[Module]) -> Result<String> {
    let version = base_version(modules)?;
    series(&version).ok_or(Error::Version(version))
}

fn base_version(modules: &[Module]) -> Result<String> {
    let base = modules.iter().find(|module| module.name == "base").and_then(|module| module.version.clone());
    base.ok_or_else(|| Error::unexpected("the version of module base", "it is not installed"))
}

/// A Python program that prints Odoo's release, the folders that hold modules (its arguments, then those of the Odoo package),
/// and the version of every module's manifest. It imports nothing of Odoo but its place, so it works the same in 14 to 19; the
/// first folder that has a module wins, as it does for Odoo with the folders in this order.
pub const MANIFESTS_PROGRAM: &str = r#"
import ast, json, os, sys
import odoo
wanted = list(sys.argv[1:])
for root in odoo.__path__:
    wanted += [os.path.join(root, 'addons'), os.path.join(os.path.dirname(root), 'addons')]
folders, modules = [], {}
for folder in wanted:
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        path = os.path.join(folder, name, '__manifest__.py')
        if not os.path.isfile(path):
            continue
        if folder not in folders:
            folders.append(folder)
        if name in modules:
            continue
        try:
            with open(path, encoding='utf-8') as file:
                manifest = ast.literal_eval(file.read())
            modules[name] = str(manifest.get('version', '1.0')) if manifest.get('installable', True) else None
        except Exception:
            modules[name] = None
with open(os.path.join(list(odoo.__path__)[0], 'release.py'), encoding='utf-8') as file:
    scope = {}
    exec(file.read(), scope)
json.dump({'release': scope['version'], 'folders': folders, 'modules': modules}, sys.stdout)
"#;

/// What [`MANIFESTS_PROGRAM`] found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Available {
    /// The Odoo release, for example `19.0`.
    pub release: String,
    /// Folders that hold modules, in the order in which Odoo must search them.
    pub folders: Vec<String>,
    modules: BTreeMap<String, Option<String>>,
}

impl Available {
    /// Reads what the program printed.
    pub fn parse(output: &str) -> Result<Available> {
        serde_json::from_str(output.trim())
            .map_err(|error| Error::unexpected("the list of manifests", error.to_string()))
    }

    /// How many modules the folders hold.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Whether the folders hold no module.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// The version with the series in front, as Odoo's `adapt_version` writes it into the database.
    fn version(&self, name: &str) -> Option<String> {
        let version = self.modules.get(name)?.as_deref()?;
        let series = series(&self.release)?;
        let adapted = version == series || version.starts_with(&format!("{series}."));
        Some(if adapted { version.to_owned() } else { format!("{series}.{version}") })
    }
}

/// How the installed modules differ from the available ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Installed modules that no addons folder has, or that are not installable there.
    pub missing: Vec<String>,
    /// Installed modules of another version: name, version in the database, version in the image.
    pub other_version: Vec<(String, String, String)>,
}

impl Difference {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.other_version.is_empty()
    }
}

/// Compares database and image.
pub fn compare(installed: &[Module], available: &Available) -> Difference {
    let mut difference = Difference::default();
    for module in installed {
        match (available.version(&module.name), &module.version) {
            (None, _) => difference.missing.push(module.name.clone()),
            (Some(image), Some(database)) if image != *database => {
                difference.other_version.push((module.name.clone(), database.clone(), image));
            }
            _ => {}
        }
    }
    difference
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, version: &str) -> Module {
        Module { name: name.into(), version: Some(version.into()), state: "installed".into() }
    }

    #[test]
    fn missing_and_other_versions_are_named() {
        let printed = r#"{"release": "19.0-20251121", "folders": ["/a"], "modules": {"base": "1.3", "sale": "19.0.1.2", "broken": null}}"#;
        let available = Available::parse(printed).unwrap();
        let installed = [
            module("base", "19.0.1.3"),
            module("sale", "19.0.1.1"),
            module("extra", "19.0.1.0"),
            module("broken", "1"),
        ];
        let difference = compare(&installed, &available);
        assert_eq!(difference.missing, ["extra", "broken"]);
        assert_eq!(difference.other_version, [("sale".into(), "19.0.1.1".into(), "19.0.1.2".into())]);
        assert!(compare(&installed[..1], &available).is_empty());
    }

    #[test]
    fn the_series_comes_from_base() {
        assert_eq!(database_series(&[module("base", "18.0.1.3")]).unwrap(), "18.0");
        assert!(major(&[module("sale", "18.0.1.3")]).is_err());
    }

    #[test]
    fn output_of_something_else_is_refused() {
        assert!(Available::parse("Traceback").is_err());
        assert!(Available::parse(r#"{"base": "1.3"}"#).is_err());
    }
}
