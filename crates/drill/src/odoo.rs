//! The restored Odoo in its container: our configuration file, the restored addons read-only, the filestore as its own.
//!
//! The restored `odoo.conf` is not used: it names servers and passwords of production. What Odoo must know is the sandbox's
//! database, the folders and that nothing runs by itself; it gets that in a file, so that no password is an argument.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt as _;
use lifeboat_evidence::drill::Worker;
use lifeboat_model::secret::Secret;
use lifeboat_odoo::{
    boot_log::{self, Scanner},
    modules::{Available, MANIFESTS_PROGRAM},
    rpc::Session,
    versions,
};
use tokio::{sync::watch, time::timeout};
use url::Url;

use crate::{
    error::{Error, Result},
    postgres::Lines,
    sandbox::{Bind, Container, Gate, Image, User, tree::is_real_folder},
    timing::Timing,
};

const SETTINGS: &str = "/lifeboat/odoo";
const DATA: &str = "/lifeboat/odoo-data";
const ADDONS: &str = "/lifeboat/addons";
const PORT: u16 = 8069;

/// The restored files that Odoo uses, as they lie on the host.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The folder that has one folder per database.
    pub filestore: Option<PathBuf>,
    /// The only database's own folder, where the configured filestore path was that one.
    pub single: Option<(String, PathBuf)>,
    /// Restored addons folders.
    pub addons: Vec<PathBuf>,
    /// Configured addons folders that were not restored, or of which only a link was.
    pub missing_addons: Vec<PathBuf>,
}

impl Layout {
    /// Finds the filestore's level: the configured path may be `…/filestore`, the data folder above it, or one database's folder.
    /// Where a link stands in place of a folder nothing was restored: it would lead to the live files.
    pub fn find(restored: &Path, databases: &[String], addons: &[PathBuf]) -> Layout {
        let root = restored.join("filestore");
        let is_real = |place: &Path| place.strip_prefix(restored).is_ok_and(|below| is_real_folder(restored, below));
        let holds = |folder: &Path| databases.iter().any(|database| is_real(&folder.join(database)));
        let filestore = [root.clone(), root.join("filestore")].into_iter().find(|folder| holds(folder));
        let single = match (&filestore, databases) {
            (None, [database]) if is_real(&root) && is_database_folder(&root) => Some((database.clone(), root)),
            _ => None,
        };
        let place = |path: &PathBuf| {
            let relative = path.strip_prefix("/").unwrap_or(path);
            restored.join("config/paths").join(relative)
        };
        let (addons, missing): (Vec<_>, Vec<_>) =
            addons.iter().map(|path| (path, place(path))).partition(|(_, place)| is_real(place));
        Layout {
            filestore,
            single,
            addons: addons.into_iter().map(|(_, place)| place).collect(),
            missing_addons: missing.into_iter().map(|(path, _)| path.clone()).collect(),
        }
    }

    /// The folder of one database's attachments.
    pub fn of_database(&self, database: &str) -> Option<PathBuf> {
        match (&self.filestore, &self.single) {
            (Some(folder), _) => Some(folder.join(database)).filter(|place| !place.is_symlink()),
            (None, Some((name, folder))) if name == database => Some(folder.clone()),
            _ => None,
        }
    }

    /// A file as the rows of a database name it, relative to the database's folder, if it is one of that database. The point names
    /// files relative to what was configured as the filestore: one of the three levels of [`Layout::find`].
    pub fn below_database<'n>(&self, name: &'n str, database: &str) -> Option<&'n str> {
        if self.single.is_some() {
            return Some(name);
        }
        let below = |name: &'n str| name.strip_prefix(database)?.strip_prefix('/');
        below(name).or_else(|| below(name.strip_prefix("filestore/")?))
    }

    /// The mounts of the Odoo container. `work` gets the data folder and our settings.
    pub fn binds(&self, work: &Path) -> Vec<Bind> {
        let bind = |source: &Path, target: String, writable| Bind { source: source.to_owned(), target, writable };
        let mut binds = vec![
            bind(&work.join("odoo"), SETTINGS.to_owned(), false),
            bind(&work.join("odoo-data"), DATA.to_owned(), true),
        ];
        if let Some(folder) = &self.filestore {
            binds.push(bind(folder, format!("{DATA}/filestore"), true));
        }
        if let Some((database, folder)) = &self.single {
            binds.push(bind(folder, format!("{DATA}/filestore/{database}"), true));
        }
        for (index, folder) in self.addons.iter().enumerate() {
            binds.push(bind(folder, format!("{ADDONS}/{index}"), false));
        }
        binds
    }

    /// Makes the folders that the binds need.
    pub fn prepare(&self, work: &Path) -> Result<()> {
        let mut folders = vec![work.join("odoo"), work.join("odoo-data/filestore")];
        folders.extend(self.single.iter().map(|(database, _)| work.join("odoo-data/filestore").join(database)));
        for folder in folders {
            std::fs::create_dir_all(&folder).map_err(Error::io("cannot create", &folder))?;
        }
        Ok(())
    }

    /// Everything that belongs to Odoo's user in the container.
    pub fn owned(&self, work: &Path) -> Vec<PathBuf> {
        let mut paths = vec![work.join("odoo"), work.join("odoo-data")];
        paths.extend(self.filestore.clone());
        paths.extend(self.single.iter().map(|(_, folder)| folder.clone()));
        paths.extend(self.addons.iter().cloned());
        paths
    }
}

/// Odoo's filestore folder of a database has folders of two hexadecimal digits.
fn is_database_folder(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name == "checklist" || (name.len() == 2 && name.bytes().all(|c| c.is_ascii_hexdigit()))
    })
}

/// What is known of an image after asking it.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program's name in the image.
    pub path: String,
    /// The Python that runs it.
    pub python: Vec<String>,
    /// What it says to `--version`.
    pub version: String,
    /// Modules in the restored addons and in the image, and their folders in the order of search.
    pub available: Available,
}

/// Asks an image whether it is Odoo, and which. `Ok(Err(…))` says what it is instead.
pub async fn probe(
    container: &Container,
    image: &Image,
    user: User,
    layout: &Layout,
    timing: &Timing,
) -> Result<Result<Program, String>> {
    let limit = Duration::from_secs(60);
    let variable = image.environment.iter().find_map(|line| line.strip_prefix("ODOO_RC="));
    let settings = variable.unwrap_or("/etc/odoo/odoo.conf");
    let looked = container.run(&user.spec(), &["sh", "-c", LOOK, "sh", settings], limit).await?;
    let mut lines = looked.stdout.lines().map(str::trim);
    let path = lines.next().unwrap_or_default().to_owned();
    if !looked.is_ok() || path.is_empty() {
        return Ok(Err(format!("image {} has no Odoo program", image.reference)));
    }
    let python = interpreter(lines.next().unwrap_or_default());
    let own_addons = lines.filter(|line| !line.is_empty()).map(str::to_owned);
    let mounted = (0..layout.addons.len()).map(|index| format!("{ADDONS}/{index}"));
    let mut command = python.clone();
    command.extend(["-c".to_owned(), MANIFESTS_PROGRAM.to_owned()]);
    command.extend(mounted.chain(own_addons));
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let version_command = [path.as_str(), "--version"];
    let spec = user.spec();
    let (version, manifests) = tokio::try_join!(
        timing.program(Worker::Odoo, "odoo --version", container.run(&spec, &version_command, limit)),
        timing.during(Worker::Own, "list modules", container.run(&spec, &command, limit)),
    )?;
    if !version.is_ok() || versions::series(&version.stdout).is_none() {
        return Ok(Err(format!("{path} of image {} is not Odoo: {}", image.reference, version.tail())));
    }
    if !manifests.is_ok() {
        return Ok(Err(format!("image {} cannot list its modules: {}", image.reference, manifests.tail())));
    }
    let available = Available::parse(&manifests.stdout)?;
    Ok(Ok(Program { path, python, version: version.stdout.trim().to_owned(), available }))
}

/// Where the program is, its first line, and then `addons_path` of the image's own configuration file, the first argument: where
/// it keeps modules besides Odoo's. One program instead of three, since Docker needs longer to begin one than it runs.
const LOOK: &str = "for p in odoo odoo-bin /opt/odoo/odoo-bin /usr/bin/odoo /usr/local/bin/odoo; do \
                    f=$(command -v $p) && break; done; [ \"$f\" ] || exit 1; \
                    printf '%s\\n' \"$f\" \"$(head -n 1 \"$f\" | tr -d '\\000')\"; \
                    sed -n 's/^[[:space:]]*addons_path[[:space:]]*=//p' \"$1\" 2>/dev/null | tr ',' '\\n' | \
                    while read -r d; do ls \"$d\"/*/__manifest__.py >/dev/null 2>&1 && echo \"$d\"; done; true";

/// The Python that runs the program, with the Odoo package in reach: as its first line says, else the image's.
fn interpreter(first_line: &str) -> Vec<String> {
    let words = first_line.strip_prefix("#!").unwrap_or_default().split_whitespace().map(str::to_owned);
    let words: Vec<String> = words.collect();
    if words.iter().any(|word| word.contains("python")) { words } else { vec!["python3".to_owned()] }
}

/// How Odoo reaches the database.
pub struct Database<'a> {
    /// Host address.
    pub host: String,
    /// Role.
    pub role: &'a str,
    /// Its sandbox password.
    pub password: &'a Secret,
    /// The databases to serve.
    pub names: &'a [String],
}

/// Writes our configuration file, readable by Odoo's user only.
pub fn write_settings(work: &Path, user: User, program: &Program, database: &Database<'_>) -> Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let names: Vec<String> = database.names.iter().map(|name| escape(name)).collect();
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| Error::NoRandomness)?;
    let mut text = format!(
        "[options]\ndata_dir = {DATA}\ndb_host = {}\ndb_port = 5432\ndb_user = {}\ndb_password = {}\ndb_sslmode = disable\n\
         dbfilter = ^({})$\nlist_db = False\nadmin_passwd = {}\nmax_cron_threads = 0\nworkers = 0\nproxy_mode = False\n\
         smtp_server = invalid\n",
        database.host,
        database.role.replace('%', "%%"),
        database.password.expose(),
        names.join("|"),
        hex::encode(random),
    );
    if !program.available.folders.is_empty() {
        // Only folders that hold modules: Odoo refuses to start with any other.
        text.push_str(&format!("addons_path = {}\n", program.available.folders.join(",")));
    }
    let path = work.join("odoo/odoo.conf");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(Error::io("cannot create", &path))?;
    file.write_all(text.as_bytes()).map_err(Error::io("cannot write", &path))?;
    user.own(&path)
}

/// A database name inside a regular expression.
fn escape(name: &str) -> String {
    let special = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    name.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// Runs Odoo's own neutralisation (16 and later) on one database.
pub async fn neutralise(
    container: &Container,
    user: User,
    program: &Program,
    database: &str,
    limit: Duration,
) -> Result<()> {
    let settings = format!("--config={SETTINGS}/odoo.conf");
    let command = [program.path.as_str(), "neutralize", &settings, "-d", database];
    container.run_ok(&user.spec(), &command, limit).await?;
    Ok(())
}

/// The running Odoo.
pub struct Server {
    container: Container,
    program: String,
    scanner: Arc<Mutex<Scanner>>,
    progress: watch::Receiver<Boot>,
    /// The address that nobody but [`Server::settled`] asks for.
    marker: String,
    /// The way to it, which is closed with it.
    _gate: Gate,
    /// Where it serves, for this host.
    pub base: Url,
}

/// How far a boot has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Boot {
    loaded: usize,
    serving: bool,
    /// The marker's request is in the log.
    marked: bool,
    ended: bool,
}

impl Server {
    /// Starts Odoo; it loads the registry of every database at once and then serves. No job runs by itself.
    pub async fn start(container: &Container, user: User, program: &Program, databases: &[String]) -> Result<Server> {
        let gate = Gate::open(container, user, &program.python, PORT).await?;
        let (settings, names) = (format!("--config={SETTINGS}/odoo.conf"), databases.join(","));
        let command = [program.path.as_str(), &settings, "-d", &names, "--max-cron-threads=0"];
        let spawned = container.spawn(&user.spec(), &command, &["HOME=/tmp", "PYTHONDONTWRITEBYTECODE=1"]).await?;
        let scanner = Arc::new(Mutex::new(Scanner::default()));
        let (sender, progress) = watch::channel(Boot::default());
        let (sink, mut output) = (Arc::clone(&scanner), spawned.output);
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|_| Error::NoRandomness)?;
        let marker = format!("/lifeboat/end-of-log/{}", hex::encode(random));
        let wanted = marker.clone();
        tokio::spawn(async move {
            let mut lines = Lines::default();
            let mut marked = false;
            while let Some(Ok(piece)) = output.next().await {
                lines.feed(&piece, |line| {
                    let mut scanner = lock(&sink);
                    scanner.push(line);
                    marked |= line.contains(&wanted);
                    let report = scanner.report();
                    let boot = Boot { loaded: report.registries.len(), serving: report.serving, marked, ended: false };
                    sender.send_if_modified(|known| std::mem::replace(known, boot.clone()) != boot);
                });
            }
            sender.send_modify(|boot| boot.ended = true);
        });
        let base = format!("http://{}/", gate.address);
        let base = base.parse().map_err(|_| Error::Task(format!("{base} is no address")))?;
        Ok(Server { container: container.clone(), program: spawned.id, scanner, progress, marker, _gate: gate, base })
    }

    /// Waits until every registry is loaded and HTTP is served, or Odoo has ended. Gives whether it serves.
    pub async fn ready(&mut self, databases: usize, limit: Duration) -> Result<bool> {
        let wait = self.progress.wait_for(|boot| boot.ended || (boot.serving && boot.loaded >= databases));
        match timeout(limit, wait).await {
            Ok(Ok(boot)) => Ok(!boot.ended),
            Ok(Err(_)) => Ok(false),
            Err(_) => Err(Error::Timeout { what: "Odoo's boot".to_owned(), after: limit }),
        }
    }

    /// Waits until everything that Odoo has printed for the requests before has been read, and gives whether that is known: its log
    /// comes by another way than its answers. Odoo writes down every request, so one more request is made, to an address that does
    /// not exist, and its line is waited for; or Odoo has ended, and so has its log.
    pub async fn settled(&mut self, limit: Duration) -> bool {
        if let Ok(visitor) = Session::new(self.base.clone(), limit) {
            // That there is no such page is the expected answer; what matters is the line in the log.
            let _ = visitor.fetch(&self.marker).await;
        }
        timeout(limit, self.progress.wait_for(|boot| boot.marked || boot.ended))
            .await
            .is_ok_and(|waited| waited.is_ok())
    }

    /// What the log has told until now.
    pub fn log(&self) -> boot_log::Report {
        lock(&self.scanner).report().clone()
    }

    /// The exit code, none while it runs.
    pub async fn exit_code(&self) -> Result<Option<i64>> {
        self.container.exit_code(&self.program).await
    }
}

fn lock(scanner: &Mutex<Scanner>) -> std::sync::MutexGuard<'_, Scanner> {
    scanner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(make: &[&str], databases: &[&str], addons: &[&str]) -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        make.iter().for_each(|path| std::fs::create_dir_all(folder.path().join(path)).unwrap());
        let databases: Vec<String> = databases.iter().map(|&name| name.into()).collect();
        let addons: Vec<PathBuf> = addons.iter().map(PathBuf::from).collect();
        let layout = Layout::find(folder.path(), &databases, &addons);
        (folder, layout)
    }

    #[test]
    fn the_filestore_is_found_at_every_level() {
        for make in ["filestore/demo/ab", "filestore/filestore/demo/ab", "filestore/ab"] {
            let (folder, layout) = layout(&[make], &["demo"], &[]);
            let expected = folder.path().join(make.strip_suffix("/ab").unwrap());
            assert_eq!(layout.of_database("demo"), Some(expected), "{make}");
        }
        let (_folder, layout) = layout(&["filestore/other/ab"], &["demo"], &[]);
        assert_eq!(layout.of_database("demo"), None);
    }

    /// What one database is known to lack excuses no other whose name ends like it.
    #[test]
    fn a_file_is_of_the_database_whose_folder_it_lies_in() {
        let (_folder, many) = layout(&["filestore/prod/ab"], &["prod", "preprod"], &[]);
        for (name, database, below) in [
            ("prod/ab/abcd", "prod", Some("ab/abcd")),
            ("preprod/ab/abcd", "prod", None),
            ("preprod/ab/abcd", "preprod", Some("ab/abcd")),
            ("filestore/prod/ab/abcd", "prod", Some("ab/abcd")),
            ("filestore/preprod/ab/abcd", "prod", None),
            ("prod", "prod", None),
        ] {
            assert_eq!(many.below_database(name, database), below, "{name} of {database}");
        }
        let (_folder, single) = layout(&["filestore/ab"], &["prod"], &[]);
        assert_eq!(single.below_database("ab/abcd", "prod"), Some("ab/abcd"));
    }

    #[test]
    fn addons_that_were_not_restored_are_named() {
        let (_folder, layout) = layout(&["config/paths/opt/addons"], &[], &["/opt/addons", "/opt/gone"]);
        assert_eq!(layout.addons.len(), 1);
        assert_eq!(layout.missing_addons, [PathBuf::from("/opt/gone")]);
    }

    /// A folder of the host's with what would be emptied, and how it looks.
    fn host(at: &Path) -> (PathBuf, Vec<(String, u32, u32)>) {
        std::fs::create_dir_all(at.join("demo/ab")).unwrap();
        std::fs::create_dir_all(at.join(".git")).unwrap();
        for (name, text) in [(".git/config", "token"), ("odoo.conf", "db_password = x\n"), ("demo/ab/one", "1")] {
            std::fs::write(at.join(name), text).unwrap();
        }
        (at.to_owned(), state(at))
    }

    fn state(at: &Path) -> Vec<(String, u32, u32)> {
        use std::os::unix::fs::MetadataExt as _;
        let one = |name: &str| {
            let path = at.join(name);
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let text = std::fs::read_to_string(&path).unwrap_or_else(|_| format!("{path:?}"));
            (text, metadata.uid(), metadata.gid())
        };
        ["", ".git", ".git/config", "odoo.conf", "demo", "demo/ab", "demo/ab/one"].map(one).to_vec()
    }

    #[tokio::test]
    async fn no_link_in_the_restored_folder_leads_to_the_host() {
        use std::os::unix::fs::symlink;
        for link in [
            "config/paths/opt/addons",
            "config/paths/opt",
            "config",
            "filestore",
            "filestore/filestore",
            "filestore/demo",
        ] {
            let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (host, before) = host(&outside.path().join("addons"));
            let place = folder.path().join(link);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            let parent = matches!(link, "config/paths/opt");
            symlink(if parent { outside.path() } else { &host }, &place).unwrap();
            if link == "config" {
                std::fs::create_dir_all(host.join("paths/opt/addons")).unwrap();
            }
            let layout = Layout::find(folder.path(), &["demo".to_owned()], &[PathBuf::from("/opt/addons")]);
            assert_eq!((layout.addons.len(), layout.missing_addons.len()), (0, 1), "{link}");
            assert_eq!(layout.of_database("demo"), None, "{link}");
            assert_eq!(layout.binds(&folder.path().join("work")).len(), 2, "{link}");
            // Nor does what would be done to such a place reach the host.
            let _ = crate::sandbox::secrets::hide_in_addons(vec![place.clone()]).await;
            let _ = User { uid: 65534, gid: 65534 }.own(&place);
            assert_eq!(state(&host), before, "{link}");
        }
    }

    #[test]
    fn a_database_whose_folder_is_a_link_has_no_filestore_beside_one_that_has() {
        let (outside, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(folder.path().join("filestore/demo/ab")).unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("filestore/second")).unwrap();
        let layout = Layout::find(folder.path(), &["demo".to_owned(), "second".to_owned()], &[]);
        assert!(layout.of_database("demo").is_some());
        assert_eq!(layout.of_database("second"), None);
    }

    #[test]
    fn names_are_no_patterns() {
        assert_eq!(escape("demo-1_a"), "demo-1_a");
        assert_eq!(escape("a.b|c"), "a\\.b\\|c");
    }
}
