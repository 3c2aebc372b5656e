//! Production's credentials stay out of sight.
//!
//! Of the restored configuration containers see nothing but the addons folders, and of the restored cluster its data folder. In both
//! there may lie what opens doors elsewhere: a `.env`, keys, an `odoo.conf`, the address of a repository with a token in it, a
//! password for replication. The restored files are a copy of the drill's own, so these are emptied in it, before any program that
//! was restored can run: an empty file stands where they were. Then somebody looks from inside the containers, by other means.

use std::{
    fs,
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::OFlags;

use super::{Container, Ran, User};
use crate::{
    error::{Error, Result},
    ladder::Answer,
};

/// Files that hold credentials by what they are called, in lower case: `*` stands for anything at the end or the beginning.
const NAMES: &[&str] = &[
    ".env",
    ".env.*",
    "*.env",
    "odoo.conf",
    "odoo*.conf",
    "openerp*.conf",
    ".odoorc",
    ".openerp_serverrc",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    ".pgpass",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".htpasswd",
    ".my.cnf",
    "docker-compose*.yml",
    "docker-compose*.yaml",
    "compose*.yml",
    "compose*.yaml",
];

/// Folders that hold them: the whole folder is emptied. The remotes and the history of a repository are such a place.
const FOLDERS: &[&str] = &[".git", ".hg", ".svn", ".ssh", ".aws", ".azure", ".docker", ".gnupg", ".kube", ".config"];

/// Endings of files whose contents are looked at for a private key; code, pictures and translations are not read.
const READ: &[&str] =
    &["pem", "crt", "cer", "txt", "json", "yml", "yaml", "ini", "cfg", "conf", "toml", "properties", "sh"];

/// Of these also for a password in a line of its own.
const SETTINGS: &[&str] = &["ini", "cfg", "conf", "properties"];

/// Larger files are no credentials.
const LARGEST: u64 = 1 << 20;

/// Settings of a cluster that may hold credentials, and that the sandbox does not use.
const CLUSTER_SETTINGS: &[&str] = &[
    "primary_conninfo",
    "archive_command",
    "archive_cleanup_command",
    "recovery_end_command",
    "ssl_passphrase_command",
];

/// Files of every cluster that the sandbox's own take the place of: that they are emptied is nothing to tell anybody.
const CLUSTER_FILES: &[&str] = &["postgresql.conf", "pg_hba.conf", "pg_ident.conf"];

/// What was hidden: paths, for whoever ran the drill. Evidence gets their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub paths: Vec<PathBuf>,
    /// How many more were emptied that are in every cluster.
    pub usual: usize,
}

/// What somebody who looks from inside found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Credentials that are visible: container and path.
    pub visible: Vec<String>,
    /// Who could not look.
    pub unknown: Vec<String>,
    /// How many looked.
    pub looked: usize,
}

/// Empties what is a credential in the restored addons.
pub(crate) async fn hide_in_addons(folders: Vec<PathBuf>) -> Result<Hidden> {
    off_the_async_threads(move || {
        let mut hidden = Hidden::default();
        folders.iter().try_for_each(|folder| hide_below(folder, &mut hidden))?;
        Ok(hidden)
    })
    .await
}

/// Empties what is a credential in the restored cluster, after its files were verified and before its server starts.
pub(crate) async fn hide_in_cluster(pgdata: PathBuf, owner: User) -> Result<Hidden> {
    off_the_async_threads(move || {
        let mut hidden = Hidden::default();
        for entry in entries(&pgdata)? {
            let name = entry.file_name().to_string_lossy().to_lowercase();
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file() || kind.is_symlink());
            if is_file && CLUSTER_FILES.contains(&name.as_str()) {
                let mut usual = Hidden::default();
                empty(&entry.path(), Some(owner), &mut usual)?;
                hidden.usual += usual.paths.len();
            } else if is_file && (is_secret_name(&name) || has_private_key(&entry.path())) {
                empty(&entry.path(), Some(owner), &mut hidden)?;
            }
        }
        strip_settings(&pgdata.join("postgresql.auto.conf"), &mut hidden)?;
        Ok(hidden)
    })
    .await
}

async fn off_the_async_threads<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Task(error.to_string()))?
}

fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>> {
    let read = || fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>();
    read().map_err(Error::io("cannot read", folder))
}

/// A link in place of the folder leads to files that are not the drill's: refused.
fn hide_below(root: &Path, hidden: &mut Hidden) -> Result<()> {
    if root.is_symlink() {
        return Err(Error::io("will not empty", root)(io::Error::new(io::ErrorKind::PermissionDenied, "it is a link")));
    }
    let real = fs::canonicalize(root).map_err(Error::io("cannot read", root))?;
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in entries(&folder)? {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().to_lowercase());
            let kind = entry.file_type().map_err(Error::io("cannot read", &path))?;
            if kind.is_dir() && FOLDERS.contains(&name.as_str()) {
                fs::remove_dir_all(&path).map_err(Error::io("cannot empty", &path))?;
                fs::create_dir(&path).map_err(Error::io("cannot empty", &path))?;
                hidden.paths.push(path);
            } else if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() && is_secret_name(&name) {
                // What a link leads to may lie in here under a harmless name.
                if let Some(target) = fs::canonicalize(&path).ok().filter(|target| target.starts_with(&real)) {
                    empty(&target, None, hidden)?;
                }
                empty(&path, None, hidden)?;
            } else if kind.is_file() && (is_secret_name(&name) || has_credential(&path, &name)) {
                empty(&path, None, hidden)?;
            }
        }
    }
    Ok(())
}

/// An empty file takes its place: what is linked elsewhere under another name is not written to.
fn empty(path: &Path, owner: Option<User>, hidden: &mut Hidden) -> Result<()> {
    if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.len() > 0) {
        return Ok(());
    }
    fs::remove_file(path).map_err(Error::io("cannot empty", path))?;
    fs::write(path, "").map_err(Error::io("cannot empty", path))?;
    if let Some(owner) = owner {
        owner.own(path)?;
    }
    hidden.paths.push(path.to_owned());
    Ok(())
}

fn is_secret_name(name: &str) -> bool {
    NAMES.iter().any(|pattern| match pattern.split_once('*') {
        Some((begin, end)) => name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end),
        None => name == *pattern,
    })
}

fn has_credential(path: &Path, name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let is_settings = SETTINGS.contains(&ending);
    if !READ.contains(&ending) || !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.len() <= LARGEST) {
        return false;
    }
    // What cannot be read by us is not shown either.
    let Ok(bytes) = fs::read(path) else { return true };
    let text = String::from_utf8_lossy(&bytes);
    holds_private_key(&text) || (is_settings && text.lines().any(is_password_line))
}

fn has_private_key(path: &Path) -> bool {
    let small = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= LARGEST);
    small && fs::read(path).is_ok_and(|bytes| holds_private_key(&String::from_utf8_lossy(&bytes)))
}

fn holds_private_key(text: &str) -> bool {
    text.contains("PRIVATE KEY-----") || text.contains("AGE-SECRET-KEY-1")
}

/// `admin_passwd = …`, `smtp.password: …`: a value beside a name that says what it is.
fn is_password_line(line: &str) -> bool {
    let line = line.trim_start();
    let Some((name, value)) = line.split_once(['=', ':']) else { return false };
    let name = name.trim_end().to_lowercase();
    let words = ["passw", "secret", "token", "api_key", "apikey", "private_key"];
    let says_so = !name.contains(char::is_whitespace) && words.iter().any(|word| name.contains(word));
    says_so && !line.starts_with(['#', ';']) && !matches!(value.trim(), "" | "False" | "false" | "None")
}

/// Opens a file of the copy alone, to read and write: a link, or a file that has a second name, may be somebody else's.
fn open_own(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not a file of this copy alone"));
    }
    Ok(file)
}

/// Takes lines out of `postgresql.auto.conf`; those of the recovery stay.
fn strip_settings(path: &Path, hidden: &mut Hidden) -> Result<()> {
    let mut file = match open_own(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(Error::io("will not change", path))?,
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(Error::io("cannot read", path))?;
    // A server does not start with what is no text.
    let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
    let is_secret = |line: &&str| {
        let name = line.trim_start().split(|c: char| c == '=' || c.is_whitespace()).next().unwrap_or_default();
        CLUSTER_SETTINGS.contains(&name.to_lowercase().as_str())
    };
    if !text.lines().any(|line| is_secret(&line)) {
        return Ok(());
    }
    let kept: Vec<&str> = text.lines().filter(|line| !is_secret(line)).collect();
    // Written in place, so that its owner stays: nobody uses it yet.
    let mut write = || {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all((kept.join("\n") + "\n").as_bytes())
    };
    write().map_err(Error::io("cannot write", path))?;
    hidden.paths.push(path.to_owned());
    Ok(())
}

/// Looks for what is not empty, from inside, by name.
pub(crate) async fn look(containers: &[(Container, User)]) -> Seen {
    let mut seen = Seen::default();
    for looked in futures::future::join_all(containers.iter().map(|(container, user)| look_in(container, *user))).await
    {
        match looked {
            Ok(visible) => {
                seen.looked += 1;
                seen.visible.extend(visible);
            }
            Err(why) => seen.unknown.push(why),
        }
    }
    seen
}

async fn look_in(container: &Container, user: User) -> Result<Vec<String>, String> {
    // The ways in are folders of ours with a socket each, which the container's user cannot always enter: to `find` that is an error.
    let mut command = vec!["find", "/lifeboat", "(", "-path", "/lifeboat/gate", "-o", "-path", "/lifeboat/socket", ")"];
    command.extend(["-prune", "-o", "-not", "-path", "/lifeboat/odoo/odoo.conf"]);
    // The sandbox's own settings are no secret of production's, and the filestore's names are digests.
    command.extend(["-not", "-path", "/lifeboat/odoo-data/*", "-type", "f", "-size", "+0", "("]);
    for (index, pattern) in NAMES.iter().enumerate() {
        command.extend([if index == 0 { "-iname" } else { "-o" }, if index == 0 { pattern } else { "-iname" }]);
        if index > 0 {
            command.push(pattern);
        }
    }
    command.extend([")", "-print"]);
    let ran = container.run(&user.spec(), &command, Duration::from_secs(120)).await;
    match ran {
        // A server at work removes files while they are listed.
        Ok(ran) if ran.is_ok() || only_vanished(&ran) => {
            Ok(ran.stdout.lines().map(|path| format!("{}: {path}", container.role)).collect())
        }
        Ok(ran) => Err(format!("{}: {}", container.role, ran.tail())),
        Err(error) => Err(format!("{}: {error}", container.role)),
    }
}

/// Whether nothing went wrong but that files were gone when their turn came.
fn only_vanished(ran: &Ran) -> bool {
    let vanished = |line: &str| line.ends_with(": No such file or directory");
    ran.code == 1 && !ran.stderr.is_empty() && ran.stderr.lines().all(vanished)
}

/// What both mean together.
pub(crate) fn answer(hidden: &Hidden, seen: &Seen) -> Answer {
    let count = hidden.paths.len() + hidden.usual;
    if !seen.visible.is_empty() {
        return Answer::failed(format!("credentials are in sight: {}", seen.visible.join(", ")))
            .in_public(format!("{} files with credentials are in sight", seen.visible.len()));
    }
    if !seen.unknown.is_empty() || seen.looked == 0 {
        let nowhere = seen.unknown.is_empty();
        let why = if nowhere { "there was nowhere to look from".to_owned() } else { seen.unknown.join("; ") };
        return Answer::not_executed(format!("nobody could look from inside: {why}"))
            .in_public("nobody could look from inside");
    }
    Answer::passed(format!(
        "{count} files and folders with credentials were emptied in the copy; {} containers see none, and nothing else of the \
         restored configuration",
        seen.looked
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known() {
        for name in
            [".env", ".env.production", "prod.env", "odoo.conf", "odoo-17.conf", "server.key", "id_ed25519", ".pgpass"]
        {
            assert!(is_secret_name(name), "{name}");
        }
        for name in
            ["__manifest__.py", "keyboard.js", "environment.xml", "sale.conf", "id_card.py", "monkey", "compose.py"]
        {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn passwords_are_known_by_their_names() {
        for line in ["admin_passwd = x", "db_password=x", "smtp.password: x", " api_key = x", "token=x"] {
            assert!(is_password_line(line), "{line}");
        }
        for line in
            ["# db_password = x", "db_password = False", "db_password =", "workers = 4", "The password: see the manual"]
        {
            assert!(!is_password_line(line), "{line}");
        }
    }

    #[tokio::test]
    async fn credentials_are_emptied_and_code_is_not() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let key = "-----BEGIN PRIVATE KEY-----\nMII\n";
        put(".git/config", "[remote]\nurl = https://token@example.org/addons.git\n");
        put("sale_x/__manifest__.py", "{'name': 'x'}");
        put("sale_x/models/password.py", "password = 'not read'");
        put("sale_x/data/authority.pem", "-----BEGIN CERTIFICATE-----\n");
        put("sale_x/data/client.pem", key);
        put("sale_x/data/notes.txt", "nothing");
        put("deploy/settings.conf", "[x]\nsmtp_password = hunter2\n");
        put("deploy/.env", "PASSWORD=hunter2\n");
        put("deploy/harmless", "hunter2");
        std::os::unix::fs::symlink("harmless", root.path().join("deploy/prod.env")).unwrap();
        let hidden = hide_in_addons(vec![root.path().to_owned()]).await.unwrap();
        let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        for kept in [
            "sale_x/__manifest__.py",
            "sale_x/models/password.py",
            "sale_x/data/authority.pem",
            "sale_x/data/notes.txt",
        ] {
            assert!(!read(kept).is_empty(), "{kept}");
        }
        for gone in
            ["sale_x/data/client.pem", "deploy/settings.conf", "deploy/.env", "deploy/harmless", "deploy/prod.env"]
        {
            assert_eq!(read(gone), "", "{gone}");
        }
        assert_eq!(fs::read_dir(root.path().join(".git")).unwrap().count(), 0);
        assert_eq!(hidden.paths.len(), 6, "{hidden:?}");
        // A second look finds nothing.
        assert_eq!(
            hide_in_addons(vec![root.path().to_owned()]).await.unwrap().paths.len(),
            1,
            "the empty folder alone"
        );
    }

    #[tokio::test]
    async fn a_cluster_keeps_what_recovery_needs() {
        let pgdata = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(pgdata.path().join(name), text).unwrap();
        put("PG_VERSION", "17\n");
        put("server.key", "x");
        put("tls.pem", "-----BEGIN PRIVATE KEY-----\n");
        put("pg_hba.conf", "host all all 10.0.0.0/8 trust\n");
        put("postgresql.auto.conf", "primary_conninfo = 'password=hunter2'\nrestore_command = 'false'\n");
        let owner = User { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
        let hidden = hide_in_cluster(pgdata.path().to_owned(), owner).await.unwrap();
        let read = |name: &str| fs::read_to_string(pgdata.path().join(name)).unwrap();
        assert_eq!((read("server.key"), read("tls.pem"), read("pg_hba.conf")), Default::default());
        assert_eq!(read("postgresql.auto.conf"), "restore_command = 'false'\n");
        assert_eq!((read("PG_VERSION").as_str(), hidden.paths.len(), hidden.usual), ("17\n", 3, 1));
        assert!(hidden.paths.iter().all(|path| !path.ends_with("pg_hba.conf")), "{hidden:?}");
    }

    #[tokio::test]
    async fn settings_of_a_cluster_are_not_written_through_a_link_or_a_second_name() {
        let owner = User { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
        let text = "primary_conninfo = 'password=hunter2'\n";
        for make in [
            |from: &Path, to: &Path| std::os::unix::fs::symlink(from, to),
            |from: &Path, to: &Path| fs::hard_link(from, to),
        ] {
            let (outside, pgdata) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let live = outside.path().join("postgresql.auto.conf");
            fs::write(&live, text).unwrap();
            make(&live, &pgdata.path().join("postgresql.auto.conf")).unwrap();
            let hidden = hide_in_cluster(pgdata.path().to_owned(), owner).await;
            assert!(hidden.is_err(), "{hidden:?}");
            assert_eq!(fs::read_to_string(&live).unwrap(), text);
        }
    }

    #[test]
    fn what_nobody_looked_at_is_not_hidden() {
        use lifeboat_model::check::Verdict;
        let verdict = |seen: Seen| answer(&Hidden::default(), &seen).verdict;
        assert_eq!(verdict(Seen { looked: 2, ..Seen::default() }), Verdict::Passed);
        assert!(matches!(verdict(Seen::default()), Verdict::NotExecuted(_)));
        let visible = vec!["odoo: /lifeboat/addons/0/.env".to_owned()];
        assert!(matches!(verdict(Seen { looked: 2, visible, ..Seen::default() }), Verdict::Failed(_)));
    }
}
