//! The kit's `lifeboat.toml`: the host's own, with the paths of what the kit brings, and of what must be brought to it.
//!
//! Only the strings that are such paths are replaced, where they stand: comments, order and all the rest stay as people
//! wrote them. No secret is read; the file of each gets a place in `secrets/`, which the kit leaves empty.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use lifeboat_model::config::{FileCheck, FileKind};
use serde::{Deserialize, Serialize};
use toml_edit::{Document, Item, Value};

/// The folder for what only people bring.
pub const SECRETS: &str = "secrets";
/// The folder for certificates.
pub const FILES: &str = "files";
/// The folder for what Lifeboat remembers.
const STATE: &str = "state";

/// What a secret is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Without it nothing can be read from the repository.
    Recovery,
    /// Without it no drill can be run: its evidence must be signed. A new key does.
    Evidence,
    /// Without it a recovered database cannot be asked whether it is well. A new password does.
    Verification,
    /// A recovery does without it.
    Nothing,
}

/// A place for a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// The file in the kit.
    pub file: String,
    /// The key of the configuration that names it.
    pub key: String,
    /// Where it lies on the host that the kit is for.
    pub was: PathBuf,
    /// What it is needed for.
    pub needed_for: Need,
}

/// The configuration as it goes into the kit.
#[derive(Debug, Default)]
pub struct Portable {
    /// Its text.
    pub text: String,
    /// Secrets in files.
    pub slots: Vec<Slot>,
    /// Secrets in environment variables: key and name.
    pub variables: Vec<(String, String)>,
    /// Certificates to bring along: from where, and to which file of the kit.
    pub copies: Vec<(PathBuf, String)>,
    /// Folders of repositories on this host: a kit cannot bring them.
    pub folders: Vec<PathBuf>,
}

/// A string of the text: its key, where it stands with its quotes, and what it says.
struct Text {
    key: String,
    span: Range<usize>,
    value: String,
}

/// Makes the text portable; `checks` are the paths that reading it has found.
pub fn portable(text: &str, file: &Path, checks: &[FileCheck]) -> Result<Portable, toml_edit::TomlError> {
    let document = Document::parse(text)?;
    let mut strings = Vec::new();
    for (key, item) in document.as_table() {
        walk(key, item, &mut strings);
    }
    let mut made = Portable::default();
    let mut taken: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut changes: Vec<(Range<usize>, String)> = Vec::new();
    for string in strings {
        if string.key.ends_with("_env") {
            made.variables.push((string.key, string.value));
            continue;
        }
        let line = 1 + text.get(..string.span.start).map_or(0, |before| before.matches('\n').count());
        let path = file.parent().unwrap_or(Path::new("")).join(&string.value);
        let Some(check) = checks.iter().find(|check| check.line == Some(line) && check.path == path) else { continue };
        if let Some(new) = made.place(check, &mut taken) {
            changes.push((string.span, Value::from(new).to_string()));
        }
    }
    made.text = text.to_owned();
    changes.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    for (span, new) in changes {
        made.text.replace_range(span, &new);
    }
    Ok(made)
}

impl Portable {
    /// The path in the kit's configuration; none: it stays as it is.
    fn place(&mut self, check: &FileCheck, taken: &mut BTreeMap<String, PathBuf>) -> Option<String> {
        match check.kind {
            FileKind::Secret => {
                let file = free(SECRETS, &check.path, taken);
                let (key, was) = (check.key.clone(), check.path.clone());
                self.slots.push(Slot { file: file.clone(), needed_for: needed_for(&key), key, was });
                Some(file)
            }
            FileKind::Readable if is_certificates(&check.key) => {
                let file = free(FILES, &check.path, taken);
                self.copies.push((check.path.clone(), file.clone()));
                Some(file)
            }
            FileKind::Created if check.key == "engine.state_dir" => Some(STATE.to_owned()),
            FileKind::Created => {
                self.folders.push(check.path.clone());
                let whole = std::path::absolute(&check.path).unwrap_or_else(|_| check.path.clone());
                Some(whole.to_string_lossy().into_owned())
            }
            FileKind::Readable | FileKind::Directory | FileKind::Any => None,
        }
    }
}

fn is_certificates(key: &str) -> bool {
    key.ends_with("ca_file") || key.ends_with("cert_file")
}

fn needed_for(key: &str) -> Need {
    match key {
        "keys.signing_key_file" => Need::Evidence,
        _ if key.starts_with("repository") => Need::Recovery,
        _ if key.ends_with("postgres.password_file") => Need::Verification,
        _ => Need::Nothing,
    }
}

/// A name that no other file has: two instances may both call theirs `password`.
fn free(folder: &str, path: &Path, taken: &mut BTreeMap<String, PathBuf>) -> String {
    let name = path.file_name().map_or_else(|| "file".to_owned(), |name| name.to_string_lossy().into_owned());
    let names = std::iter::once(name.clone()).chain((2..).map(|number| format!("{number}-{name}")));
    for file in names.map(|name| format!("{folder}/{name}")) {
        let owner = taken.entry(file.clone()).or_insert_with(|| path.to_owned());
        if owner == path {
            return file;
        }
    }
    unreachable!("there is a next number")
}

fn walk(key: &str, item: &Item, found: &mut Vec<Text>) {
    match item {
        Item::Table(table) => table.iter().for_each(|(name, item)| walk(&format!("{key}.{name}"), item, found)),
        Item::ArrayOfTables(tables) => {
            let entries = tables.iter().flat_map(|table| table.iter());
            entries.for_each(|(name, item)| walk(&format!("{key}.{name}"), item, found));
        }
        Item::Value(value) => strings(key, value, found),
        Item::None => {}
    }
}

fn strings(key: &str, value: &Value, found: &mut Vec<Text>) {
    match value {
        Value::String(text) => {
            if let Some(span) = value.span() {
                found.push(Text { key: key.to_owned(), span, value: text.value().clone() });
            }
        }
        Value::Array(list) => list.iter().for_each(|item| strings(key, item, found)),
        Value::InlineTable(table) => {
            table.iter().for_each(|(name, item)| strings(&format!("{key}.{name}"), item, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::{config::parse, signature::SigningKey};

    use super::*;

    fn text() -> String {
        let public = SigningKey::from_seed(&[1; 32]).public();
        format!(
            r#"# the hospital's
tenant = "hospital"
[[repository]]
name = "main"
role = "primary"
[repository.s3]
bucket = "near"
region = "here"
access_key_env = "ACCESS"
secret_key_file = "/etc/lifeboat/s3"   # the reader's
ca_file = "tls/ca.crt"
[[repository]]
name = "offsite"
role = "copy"
[repository.s3]
bucket = "far"
region = "there"
access_key_file = "/etc/offsite/s3"
secret_key_file = "/etc/offsite/s3.secret"
[keys]
recovery_recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]
host_identity_file = "keys/host"
signing_key_file = "keys/signing"
trusted_keys = ["{public}"]
[tiers.gold]
rpo = "15m"
rto = "1h"
[instances.clinic]
tier = "gold"
[instances.clinic.postgres]
host = "db"
user = "lifeboat"
password_file = "/etc/lifeboat/password"
databases = ["clinic"]
[instances.clinic.config]
paths = ["/etc/odoo"]
[instances.clinic.drill]
postgres_image = "postgres:17"
odoo_image = "odoo:19"
"#
        )
    }

    #[test]
    fn paths_of_the_host_become_paths_of_the_kit_and_nothing_else_moves() {
        let text = text();
        let file = Path::new("/etc/lifeboat/lifeboat.toml");
        let (config, _) = parse(&text, file).unwrap();
        let made = portable(&text, file, config.files()).unwrap();
        let moved = [
            ("\"/etc/lifeboat/s3\"", "\"secrets/s3\""),
            ("\"/etc/offsite/s3\"", "\"secrets/2-s3\""),
            ("\"/etc/offsite/s3.secret\"", "\"secrets/s3.secret\""),
            ("\"tls/ca.crt\"", "\"files/ca.crt\""),
            ("\"keys/host\"", "\"secrets/host\""),
            ("\"keys/signing\"", "\"secrets/signing\""),
            ("\"/etc/lifeboat/password\"", "\"secrets/password\""),
        ];
        let expected = moved.iter().fold(text.clone(), |text, (from, to)| text.replacen(from, to, 1));
        assert_eq!(made.text, expected);
        parse(&made.text, Path::new("/kit/lifeboat.toml")).unwrap();
        let need = |file: &str| made.slots.iter().find(|slot| slot.file == file).unwrap().needed_for;
        assert_eq!(need("secrets/s3"), Need::Recovery);
        assert_eq!(need("secrets/2-s3"), Need::Recovery);
        assert_eq!(need("secrets/signing"), Need::Evidence);
        assert_eq!(need("secrets/password"), Need::Verification);
        assert_eq!(need("secrets/host"), Need::Nothing);
        assert_eq!(made.variables, [("repository.s3.access_key_env".to_owned(), "ACCESS".to_owned())]);
        assert_eq!(made.copies, [(PathBuf::from("/etc/lifeboat/tls/ca.crt"), "files/ca.crt".to_owned())]);
    }

    #[test]
    fn a_folder_keeps_its_place_and_is_told() {
        let text = text();
        let (head, rest) = text.split_once("[[repository]]").unwrap();
        let (_, rest) = rest.split_once("[keys]").unwrap();
        let text = format!("{head}[repository]\npath = \"backups\"\n[keys]{rest}[engine]\nstate_dir = \"/var/x\"\n");
        let (config, _) = parse(&text, Path::new("/etc/lifeboat.toml")).unwrap();
        let made = portable(&text, Path::new("/etc/lifeboat.toml"), config.files()).unwrap();
        assert!(made.text.contains("path = \"/etc/backups\"") && made.text.contains("state_dir = \"state\""));
        assert_eq!(made.folders, [PathBuf::from("/etc/backups")]);
    }
}
