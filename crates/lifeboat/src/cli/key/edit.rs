//! Changes to the `[keys]` section of `lifeboat.toml`: told in words, or made with every comment kept.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use lifeboat_model::config::parse;
use serde::Serialize;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value, value};

use crate::{
    exit::Exit,
    failure::{Failure, Result},
};

/// One change of `[keys]`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// A value more in a list.
    Add {
        /// The list.
        list: &'static str,
        /// The value.
        value: String,
    },
    /// A value less.
    Remove {
        /// The list.
        list: &'static str,
        /// The value.
        value: String,
    },
    /// Another value.
    Set {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// A section `[[keys.revoked]]`.
    Revoke {
        /// The public key.
        key: String,
        /// From when on.
        at: Timestamp,
    },
}

impl Change {
    /// In words.
    pub fn words(&self) -> String {
        match self {
            Change::Add { list, value } => format!("{list}: add \"{value}\""),
            Change::Remove { list, value } => format!("{list}: remove \"{value}\""),
            Change::Set { key, value } => format!("{key} = \"{value}\""),
            Change::Revoke { key, at } => format!("[[keys.revoked]] with key = \"{key}\" and at = \"{at}\""),
        }
    }
}

/// A configuration file with changes that were not written yet.
pub struct Edited {
    file: PathBuf,
    before: String,
    after: String,
}

impl Edited {
    /// Makes the changes in memory; what comes out is a usable configuration, or nothing is done.
    pub fn new(file: &Path, changes: &[Change]) -> Result<Edited> {
        let unreadable = |error: std::io::Error| {
            Failure::from(error).context(format!("cannot read the configuration {}", file.display()))
        };
        let before = fs::read_to_string(file).map_err(unreadable)?;
        let after = apply(&before, changes).ok_or_else(|| refused(file, "its [keys] section has another form"))?;
        match parse(&after, file) {
            Ok(_) => Ok(Edited { file: file.to_owned(), before, after }),
            Err(problems) => {
                Err(refused(file, &problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
            }
        }
    }

    /// Writes it whole or not at all; a change that somebody made meanwhile is not lost.
    pub fn write(&self) -> Result<()> {
        let failing = |error: std::io::Error| {
            Failure::from(error).context(format!("cannot write the configuration {}", self.file.display()))
        };
        // Where the name is a link, what it names is what is replaced.
        let file = fs::canonicalize(&self.file).map_err(failing)?;
        if fs::read_to_string(&file).map_err(failing)? != self.before {
            return Err(refused(&self.file, "somebody changed it meanwhile"));
        }
        let mode = fs::metadata(&file).map_err(failing)?.permissions().mode() & 0o7777;
        let folder = file.parent().unwrap_or(Path::new("/"));
        let temporary = folder.join(format!(".lifeboat.toml.{}.new", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut new = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
            new.set_permissions(fs::Permissions::from_mode(mode))?;
            new.write_all(self.after.as_bytes())?;
            new.sync_all()?;
            fs::rename(&temporary, &file)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&temporary); // gone already where the rename succeeded
            failing(error)
        })
    }
}

fn refused(file: &Path, why: &str) -> Failure {
    Failure::new(Exit::Config, format!("{} cannot be changed: {why}", file.display()))
        .safe("the configuration is as it was")
        .hint("make the change by hand; without --write the command tells which")
}

/// A key file as the configuration names it: relative to the configuration's folder where it lies below that.
pub fn path_in(config: &Path, key_file: &Path) -> Result<String> {
    let key_file = std::path::absolute(key_file)?;
    let config = std::path::absolute(config)?;
    let folder = config.parent().unwrap_or(Path::new("/"));
    let path = key_file.strip_prefix(folder).unwrap_or(&key_file);
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("{} is not UTF-8: it cannot stand in a configuration", path.display()))
    })
}

fn apply(text: &str, changes: &[Change]) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    let keys = document.get_mut("keys")?.as_table_mut()?;
    for change in changes {
        match change {
            Change::Add { list, value } => add(keys, list, value)?,
            Change::Remove { list, value } => {
                let array = keys.get_mut(list)?.as_array_mut()?;
                // An SSH key may stand there with its comment.
                array.retain(|found| !found.as_str().is_some_and(|found| is_same(found, value)));
            }
            Change::Set { key, value: new } => set(keys, key, new),
            Change::Revoke { key, at } => revoke(keys, key, *at)?,
        }
    }
    Some(document.to_string())
}

fn is_same(found: &str, value: &str) -> bool {
    let found: Vec<&str> = found.split_ascii_whitespace().collect();
    let value: Vec<&str> = value.split_ascii_whitespace().collect();
    found.starts_with(&value)
}

fn add(keys: &mut Table, list: &str, text: &str) -> Option<()> {
    let array = keys.entry(list).or_insert_with(|| value(Array::new())).as_array_mut()?;
    if array.iter().any(|found| found.as_str() == Some(text)) {
        return Some(());
    }
    let mut new = Value::from(text);
    // A list with a line for each stays one.
    if let Some(last) = array.iter().last() {
        let prefix = last.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
        let prefix = prefix.rfind('\n').map_or(" ", |line| &prefix[line..]).to_owned();
        *new.decor_mut() = toml_edit::Decor::new(prefix, "");
    }
    array.push_formatted(new);
    Some(())
}

/// Sets a text; a comment behind the old one stays.
fn set(keys: &mut Table, key: &str, text: &str) {
    let mut new = Value::from(text);
    if let Some(old) = keys.get(key).and_then(Item::as_value) {
        *new.decor_mut() = old.decor().clone();
    }
    match keys.get_mut(key) {
        Some(item) => *item = Item::Value(new),
        None => drop(keys.insert(key, Item::Value(new))),
    }
}

fn revoke(keys: &mut Table, key: &str, at: Timestamp) -> Option<()> {
    let at = at.to_string();
    if let Some(array) = keys.get_mut("revoked").and_then(Item::as_array_mut) {
        let entry: InlineTable = [("key", key), ("at", at.as_str())].into_iter().collect();
        array.push(entry);
        return Some(());
    }
    let tables = keys.entry("revoked").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let mut entry = Table::new();
    entry.insert("key", value(key));
    entry.insert("at", value(at));
    tables.as_array_of_tables_mut()?.push(entry);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# our clinic
tenant = "hospital"

[keys] # see docs/keys.md
# two of them
recovery_recipients = [
    "age1a", # bank
    "ssh-ed25519 AAAA alice@safe",
]
host_identity_file = "keys/host" # ours
trusted_keys = ["k1"]

[repository]
path = "backups"
"#;

    fn lines(text: &str) -> Vec<&str> {
        text.lines().collect()
    }

    fn changed(change: Change) -> String {
        apply(TEXT, &[change]).unwrap()
    }

    #[test]
    fn comments_and_all_else_stay() {
        let text = changed(Change::Add { list: "recovery_recipients", value: "age1b".into() });
        assert!(text.contains("    \"age1b\",\n]") || text.contains("    \"age1b\"\n]"), "{text}");
        assert!(
            text.contains("\"age1a\", # bank") && text.contains("# two of them") && text.starts_with("# our clinic")
        );
        assert_eq!(lines(&text).len(), lines(TEXT).len() + 1, "{text}");
        let text = changed(Change::Set { key: "host_identity_file", value: "keys/host-2".into() });
        assert_eq!(text, TEXT.replace("keys/host\"", "keys/host-2\""));
        let text = changed(Change::Remove { list: "recovery_recipients", value: "ssh-ed25519 AAAA".into() });
        assert!(!text.contains("alice") && text.contains("age1a"), "{text}");
        let text = changed(Change::Add { list: "former_host_identity_files", value: "keys/host".into() });
        assert!(text.contains("former_host_identity_files = [\"keys/host\"]"), "{text}");
        let text = changed(Change::Add { list: "trusted_keys", value: "k2".into() });
        assert!(text.contains("trusted_keys = [\"k1\", \"k2\"]"), "{text}");
        assert_eq!(changed(Change::Add { list: "trusted_keys", value: "k1".into() }), TEXT);
    }

    #[test]
    fn a_revocation_is_a_section_of_its_own() {
        let text = changed(Change::Revoke { key: "k1".into(), at: Timestamp::UNIX_EPOCH });
        let read: toml_edit::DocumentMut = text.parse().unwrap();
        let revoked = read["keys"]["revoked"].as_array_of_tables().unwrap();
        assert_eq!(revoked.get(0).unwrap()["key"].as_str(), Some("k1"));
        assert_eq!(read["repository"]["path"].as_str(), Some("backups"));
        let twice = apply(&text, &[Change::Revoke { key: "k2".into(), at: Timestamp::UNIX_EPOCH }]).unwrap();
        let read: toml_edit::DocumentMut = twice.parse().unwrap();
        assert_eq!(read["keys"]["revoked"].as_array_of_tables().unwrap().len(), 2);
    }
}
