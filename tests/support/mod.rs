//! A configured site around the testbed's live Odoo, driven by the built binary like a person would.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, PoisonError},
};

use lifeboat_testkit::{account::Who, testbed};
use serde_json::Value;
use tempfile::TempDir;

/// The testbed's Odoo is one: backups of it take turns. What comes after reads the repository, which each site has for itself.
static TURN: Mutex<()> = Mutex::new(());

/// Where recovery points go.
pub enum Storage {
    /// A folder of the site.
    Local,
    /// The testbed's Ceph RGW.
    #[allow(dead_code, reason = "not every test binary uses it")]
    S3,
    /// A bucket of Ceph, used by role: `lifeboat.toml` is the writer's, `<role>.toml` the others'.
    #[allow(dead_code, reason = "not every test binary uses it")]
    Roles { bucket: String },
}

/// What a test changes in the configuration.
pub struct Settings {
    pub storage: Storage,
    pub filestore: PathBuf,
    pub addons: Option<PathBuf>,
    pub odoo_image: String,
    pub extra: String,
    pub source: Source,
}

/// Which Odoo of the testbed is protected.
pub struct Source {
    /// Its folder below the testbed's state: data, configuration, addons.
    pub folder: PathBuf,
    /// The port of its PostgreSQL.
    pub port: String,
    pub database: &'static str,
}

impl Source {
    fn current() -> Source {
        let port = testbed::setting("LIFEBOAT_TESTBED_PG_PORT", "55432");
        Source { folder: testbed::state_dir().join("odoo"), port, database: "demo" }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            storage: Storage::Local,
            filestore: filestore(),
            addons: Some(testbed::state_dir().join("odoo/addons")),
            odoo_image: testbed::setting("LIFEBOAT_TESTBED_ODOO_IMAGE", "lifeboat-testbed/odoo:19"),
            extra: String::new(),
            source: Source::current(),
        }
    }
}

impl Settings {
    /// The oldest Odoo of the testbed, which has a cluster of its own.
    #[allow(dead_code, reason = "not every test binary uses it")]
    pub fn odoo14() -> Settings {
        let folder = testbed::state_dir().join("odoo14");
        Settings {
            filestore: folder.join("data/filestore"),
            addons: Some(folder.join("addons")),
            odoo_image: testbed::setting("LIFEBOAT_TESTBED_ODOO14_IMAGE", "lifeboat-testbed/odoo:14"),
            source: Source {
                folder,
                port: testbed::setting("LIFEBOAT_TESTBED_ODOO14_PG_PORT", "55414"),
                database: "demo14",
            },
            ..Settings::default()
        }
    }
}

/// The testbed's filestore folder, which holds one folder per database.
pub fn filestore() -> PathBuf {
    testbed::state_dir().join("odoo/data/filestore")
}

/// A folder with configuration, keys and, for local storage, the repository.
pub struct Site {
    pub dir: TempDir,
}

impl Site {
    pub fn new(settings: &Settings) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new(env!("CARGO_BIN_EXE_lifeboat"))
            .args(["init", "--tenant", "demo-group", "--instance", "clinic", "--json"])
            .arg(dir.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", text(&made));
        let site = Site { dir };
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        fs::write(site.config(), configuration(&made, settings, "writer")).unwrap();
        if matches!(settings.storage, Storage::Roles { .. }) {
            for role in ["reader", "pruner", "holder"] {
                fs::write(site.role(role), configuration(&made, settings, role)).unwrap();
            }
        }
        site
    }

    /// The configuration of a role.
    fn role(&self, role: &str) -> PathBuf {
        self.dir.path().join(format!("{role}.toml"))
    }

    /// Runs a command with the configuration of a role.
    #[allow(dead_code, reason = "not every test binary uses it")]
    pub fn run_as(&self, role: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.arg("--config").arg(self.role(role)).args(arguments).output().unwrap()
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("lifeboat.toml")
    }

    pub fn repository(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    #[allow(dead_code, reason = "not every test binary uses it")]
    pub fn identity(&self) -> PathBuf {
        self.dir.path().join("keys/recovery.identity")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.arg("--config").arg(self.config()).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let is_backup = arguments.first() == Some(&"backup");
        let _turn = is_backup.then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner));
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "lifeboat {arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must succeed and answers JSON.
    #[allow(dead_code, reason = "not every test binary uses it")]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.succeed(&arguments)).unwrap()
    }

    /// All files under a prefix of the local repository.
    #[allow(dead_code, reason = "not every test binary uses it")]
    pub fn objects(&self, kind: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.repository().join("demo-group/clinic").join(kind), &mut found);
        found.sort();
        found
    }
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, found) } else { found.push(path) }
    }
}

/// Standard output and error, for messages.
pub fn text(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}\n{err}", output.status)
}

fn bucket_section(bucket: &str, prefix: &str, who: Who) -> String {
    let (access, secret) = who.secret_files();
    let (state, endpoint) =
        (testbed::state_dir(), testbed::setting("LIFEBOAT_TESTBED_S3_ENDPOINT", "http://127.0.0.1:57480"));
    let state = state.display();
    format!(
        "[repository.s3]\nendpoint = \"{endpoint}\"\nbucket = \"{bucket}\"\nprefix = \"{prefix}\"\n\
         region = \"us-east-1\"\npath_style = true\n\
         access_key_file = \"{state}/secrets/{access}\"\nsecret_key_file = \"{state}/secrets/{secret}\""
    )
}

fn configuration(made: &Value, settings: &Settings, role: &str) -> String {
    let state = testbed::state_dir();
    let state = state.display();
    let repository = match &settings.storage {
        Storage::Local => "[repository]\npath = \"repository\"".to_owned(),
        Storage::S3 => {
            let bucket = testbed::setting("LIFEBOAT_TESTBED_S3_BUCKET", "lifeboat");
            bucket_section(&bucket, &lifeboat_testkit::bucket::random_prefix("journey"), Who::Owner)
        }
        Storage::Roles { bucket } => {
            let role = ["writer", "reader", "pruner", "holder"].into_iter().find(|known| *known == role);
            bucket_section(bucket, "", Who::Role(role.expect("a known role")))
        }
    };
    let Source { folder, port, database } = &settings.source;
    let addons = match &settings.addons {
        Some(addons) => format!("addons = [\"{}\"]", addons.display()),
        None => String::new(),
    };
    format!(
        r#"tenant = "demo-group"

{repository}

[keys]
recovery_recipients = {recipients}
host_identity_file = "keys/host.identity"
signing_key_file = "keys/signing.key"
trusted_keys = [{trusted}]

[tiers.gold]
rpo = "15m"
rto = "1h"

[instances.clinic]
tier = "gold"

[instances.clinic.postgres]
host = "localhost"
port = {port}
user = "lifeboat"
password_file = "{state}/secrets/lifeboat.password"
tls = "verify-full"
root_cert_file = "{state}/tls/ca.crt"
databases = ["{database}"]

[instances.clinic.filestore]
path = "{filestore}"

[instances.clinic.config]
paths = ["{folder}/etc/odoo.conf", "{folder}/addons"]

[[instances.clinic.config.commands]]
name = "kernel"
run = ["uname", "-a"]

[instances.clinic.drill]
postgres_image = "{postgres_image}"
odoo_image = "{odoo_image}"
{addons}

[engine]
state_dir = "state"
{extra}
"#,
        recipients = made["recovery_recipients"],
        trusted = made["signing_public_key"],
        filestore = settings.filestore.display(),
        folder = folder.display(),
        postgres_image = testbed::setting("LIFEBOAT_TESTBED_PG_IMAGE", "lifeboat-testbed/postgres:17"),
        odoo_image = settings.odoo_image,
        extra = settings.extra,
    )
}
