//! `tokens.toml`: who may come in by a token. Only the digest of a token is kept: a token is 256 random bits, so its digest
//! tells nobody anything. `lifeboat token` writes the file; the daemon reads it again when it changes.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use lifeboat_model::{id::Sha256Digest, id::Tenant, secret::Secret};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use crate::{
    Error, Result,
    settings::{Grant, Role, Tenants},
};

/// How a token begins, so that scanners for leaked secrets find it.
pub const PREFIX: &str = "lbt_";

/// The file is read whole; it is not for thousands of people.
const MAX_FILE: u64 = 1024 * 1024;

/// A token, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose: what the log of activity says.
    pub name: String,
    /// SHA-256 of the token.
    pub sha256: Sha256Digest,
    /// What they may do.
    pub roles: BTreeSet<Role>,
    /// Where.
    pub tenants: Tenants,
    /// When it was made.
    pub created: Timestamp,
    /// From then on it opens nothing.
    pub expires: Timestamp,
}

/// A token that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Whose.
    pub name: String,
    /// What they may do.
    pub roles: BTreeSet<Role>,
    /// Where.
    pub tenants: Tenants,
    /// From then on it opens nothing.
    pub expires: Timestamp,
}

impl Token {
    /// What it allows.
    pub fn grants(&self) -> Vec<Grant> {
        self.roles.iter().map(|role| Grant { role: *role, tenants: self.tenants.clone() }).collect()
    }
}

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    token: Vec<RawToken>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    name: String,
    sha256: String,
    roles: Vec<String>,
    tenants: RawTenants,
    created: Timestamp,
    expires: Timestamp,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawTenants {
    All(String),
    Some(Vec<String>),
}

/// The digest that is kept of a token.
pub fn digest(token: &str) -> Sha256Digest {
    Sha256Digest(Sha256::digest(token.as_bytes()).into())
}

/// 256 random bits, as text.
pub(super) fn random() -> Result<Secret> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::Io {
        what: "cannot draw random bytes for",
        path: "a token".into(),
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(Secret::new(BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}

/// The one whose digest this is. Every one is compared, in the same time whether it is the one or not.
pub(super) fn find<'a>(tokens: &'a [Token], digest: &Sha256Digest) -> Option<&'a Token> {
    let mut found = Choice::from(0);
    let mut place = 0_u64;
    for (number, token) in tokens.iter().enumerate() {
        let same = token.sha256.0.ct_eq(&digest.0);
        place.conditional_assign(&(number as u64), same);
        found |= same;
    }
    if bool::from(found) { tokens.get(place as usize) } else { None }
}

/// All tokens of a file; a file that is not there holds none.
pub fn list(file: &Path) -> Result<Vec<Token>> {
    read(file).map(|(tokens, _)| tokens)
}

/// Makes a token and keeps its digest. What is returned is to be seen once and never again.
pub fn create(file: &Path, new: &NewToken, now: Timestamp) -> Result<Secret> {
    let _lock = lock(file)?;
    let (tokens, text) = read(file)?;
    let mut problems = Vec::new();
    if !is_name(&new.name) {
        problems.push(format!("\"{}\": a token's name is 1 to 100 letters, digits and any of ' -_.@+'", new.name));
    }
    if tokens.iter().any(|token| token.name == new.name) {
        problems.push(format!("there is a token \"{}\" already: `lifeboat token revoke \"{0}\"` first", new.name));
    }
    if new.roles.is_empty() {
        problems.push("a token needs at least one role: viewer, operator, approver or auditor".to_owned());
    }
    if matches!(&new.tenants, Tenants::Some(tenants) if tenants.is_empty()) {
        problems.push("a token needs at least one tenant, or \"*\" for all".to_owned());
    }
    if new.expires <= now {
        problems.push(format!("the token would have expired at {}: choose a time to come", new.expires));
    }
    if !problems.is_empty() {
        return Err(Error::Unusable { file: file.to_owned(), problems });
    }
    let token = Secret::new(format!("{PREFIX}{}", random()?.expose()));
    let mut document = parse(file, &text)?;
    let entry = document.entry("token").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let Some(entries) = entry.as_array_of_tables_mut() else {
        return Err(unusable(file, "`token` is not written as [[token]] tables"));
    };
    entries.push(table(new, &digest(token.expose()), now));
    write(file, &document.to_string())?;
    Ok(token)
}

/// Takes a token out of the file. Whether it was there.
pub fn revoke(file: &Path, name: &str) -> Result<bool> {
    let _lock = lock(file)?;
    let (tokens, text) = read(file)?;
    if !tokens.iter().any(|token| token.name == name) {
        return Ok(false);
    }
    let mut document = parse(file, &text)?;
    if let Some(entries) = document.get_mut("token").and_then(Item::as_array_of_tables_mut) {
        entries.retain(|entry| entry.get("name").and_then(Item::as_str) != Some(name));
    }
    write(file, &document.to_string())?;
    Ok(true)
}

fn table(new: &NewToken, sha256: &Sha256Digest, now: Timestamp) -> Table {
    let mut table = Table::new();
    table["name"] = value(&new.name);
    table["sha256"] = value(sha256.to_string());
    table["roles"] = value(new.roles.iter().map(|role| role.word()).collect::<toml_edit::Array>());
    table["tenants"] = match &new.tenants {
        Tenants::All => value("*"),
        Tenants::Some(tenants) => value(tenants.iter().map(Tenant::as_str).collect::<toml_edit::Array>()),
    };
    table["created"] = value(format!("{now:.0}"));
    table["expires"] = value(format!("{:.0}", new.expires));
    table
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || " -_.@+".contains(c);
    (1..=100).contains(&name.chars().count()) && name.trim() == name && name.chars().all(allowed)
}

fn unusable(file: &Path, problem: impl Into<String>) -> Error {
    Error::Unusable { file: file.to_owned(), problems: vec![problem.into()] }
}

fn parse(file: &Path, text: &str) -> Result<DocumentMut> {
    text.parse::<DocumentMut>().map_err(|error| unusable(file, error.to_string()))
}

/// The tokens, and the text they were read from. Whoever may write this file is everybody: others must not.
fn read(file: &Path) -> Result<(Vec<Token>, String)> {
    let opened = match fs::File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), String::new())),
        Err(error) => return Err(Error::io("cannot read", file)(error)),
    };
    let metadata = opened.metadata().map_err(Error::io("cannot read", file))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = file.display();
        return Err(unusable(
            file,
            format!("its mode is {mode:04o}, and only its owner may have it: chmod 600 {path}"),
        ));
    }
    if metadata.len() > MAX_FILE {
        return Err(unusable(file, "it is larger than 1 MiB"));
    }
    let mut text = String::new();
    opened.take(MAX_FILE).read_to_string(&mut text).map_err(Error::io("cannot read", file))?;
    let raw: RawFile = toml::from_str(&text).map_err(|error| unusable(file, error.to_string()))?;
    let mut problems = Vec::new();
    let mut tokens: Vec<Token> = Vec::with_capacity(raw.token.len());
    for raw in raw.token {
        let name = raw.name.clone();
        match check(raw) {
            Ok(token) if tokens.iter().any(|other| other.name == token.name || other.sha256 == token.sha256) => {
                problems.push(format!("token \"{name}\" stands there twice"));
            }
            Ok(token) => tokens.push(token),
            Err(problem) => problems.push(format!("token \"{name}\": {problem}")),
        }
    }
    if problems.is_empty() { Ok((tokens, text)) } else { Err(Error::Unusable { file: file.to_owned(), problems }) }
}

fn check(raw: RawToken) -> Result<Token, String> {
    if !is_name(&raw.name) {
        return Err("its name is not 1 to 100 letters, digits and any of ' -_.@+'".to_owned());
    }
    let sha256 = raw.sha256.parse().map_err(|_| "sha256 is not 64 hexadecimal digits".to_owned())?;
    let role = |word: String| {
        let role = Role::ALL.into_iter().find(|role| role.word() == word);
        role.ok_or_else(|| format!("\"{word}\" is no role: use viewer, operator, approver or auditor"))
    };
    let roles = raw.roles.into_iter().map(role).collect::<Result<BTreeSet<_>, _>>()?;
    if roles.is_empty() {
        return Err("it has no role".to_owned());
    }
    let tenants = match raw.tenants {
        RawTenants::All(all) if all == "*" => Tenants::All,
        RawTenants::All(one) => return Err(format!("tenants is \"{one}\": write [\"{one}\"], or \"*\" for all")),
        RawTenants::Some(names) if names.is_empty() => return Err("it has no tenant".to_owned()),
        RawTenants::Some(names) => {
            let names: Result<BTreeSet<Tenant>, _> = names.into_iter().map(Tenant::try_from).collect();
            Tenants::Some(names.map_err(|error| error.to_string())?)
        }
    };
    Ok(Token { name: raw.name, sha256, roles, tenants, created: raw.created, expires: raw.expires })
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Two commands at the same time: the second waits for the first. The lock is the folder's, since the file is replaced.
fn lock(file: &Path) -> Result<fs::File> {
    let folder = folder(file);
    let lock = fs::File::open(folder).map_err(Error::io("cannot open", folder))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|error| Error::io("cannot lock", folder)(error.into()))?;
    Ok(lock)
}

/// Replaces the file: a reader sees the old one or the new one, and both after a loss of power.
fn write(file: &Path, text: &str) -> Result<()> {
    let folder = folder(file);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let draft = folder.join(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        opened.set_permissions(fs::Permissions::from_mode(0o600))?; // a draft left behind may have had another
        opened.write_all(text.as_bytes())?;
        opened.sync_all()?;
        fs::rename(&draft, file)?;
        fs::File::open(folder)?.sync_all()
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&draft); // the first error is the one to tell
        Error::io("cannot write", file)(error)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn new(name: &str) -> NewToken {
        NewToken {
            name: name.to_owned(),
            roles: BTreeSet::from([Role::Viewer, Role::Auditor]),
            tenants: Tenants::Some(BTreeSet::from(["north".parse().unwrap()])),
            expires: now() + Duration::from_secs(3600),
        }
    }

    #[test]
    fn a_token_is_made_once_listed_by_digest_and_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        assert_eq!(list(&file).unwrap(), []);
        let ann = create(&file, &new("ann"), now()).unwrap();
        let bob = create(&file, &NewToken { tenants: Tenants::All, ..new("bob") }, now()).unwrap();
        assert!(ann.expose().starts_with(PREFIX) && ann.expose().len() == PREFIX.len() + 43);
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains(ann.expose()) && !text.contains(&ann.expose()[4..]), "{text}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        let tokens = list(&file).unwrap();
        assert_eq!(find(&tokens, &digest(ann.expose())).unwrap().name, "ann");
        assert_eq!(find(&tokens, &digest(bob.expose())).unwrap().tenants, Tenants::All);
        assert_eq!(find(&tokens, &digest("lbt_")), None);
        assert_eq!(tokens[0].grants().len(), 2);

        assert!(matches!(create(&file, &new("ann"), now()), Err(Error::Unusable { .. })), "a second of that name");
        assert!(matches!(
            create(&file, &NewToken { expires: now(), ..new("late") }, now()),
            Err(Error::Unusable { .. })
        ));
        assert!(revoke(&file, "ann").unwrap());
        assert!(!revoke(&file, "ann").unwrap());
        let tokens = list(&file).unwrap();
        assert_eq!(find(&tokens, &digest(ann.expose())), None);
        assert_eq!(tokens.len(), 1);
    }

    #[test]
    fn comments_of_people_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        write(&file, "# ours, see the wiki\n").unwrap();
        create(&file, &new("ann"), now()).unwrap();
        create(&file, &new("bob"), now()).unwrap();
        revoke(&file, "bob").unwrap();
        assert!(fs::read_to_string(&file).unwrap().contains("# ours, see the wiki"));
        assert_eq!(list(&file).unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_others_may_touch_or_with_a_mistake_is_refused_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        create(&file, &new("ann"), now()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(list(&file), Err(Error::Unusable { problems, .. }) if problems[0].contains("chmod 600")));
        let good = {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            fs::read_to_string(&file).unwrap()
        };
        for (from, to) in [
            ("\"viewer\"", "\"root\""),
            ("[\"north\"]", "\"north\""),
            ("[\"north\"]", "[]"),
            ("[\"north\"]", "[\"North\"]"),
            ("sha256 = \"", "sha256 = \"00"),
            ("name =", "nome ="),
            ("2026-11-22T11:00:00Z", "tomorrow"),
        ] {
            write(&file, &good.replacen(from, to, 1)).unwrap();
            assert_ne!(good, good.replacen(from, to, 1), "{from}");
            assert!(matches!(list(&file), Err(Error::Unusable { .. })), "{to}");
        }
        write(&file, &format!("{good}\n{good}")).unwrap();
        assert!(list(&file).is_err(), "twice the same");
    }
}
