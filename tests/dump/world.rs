//! A cluster with the databases of two tenants, a site around it, and what tells two databases apart.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use lifeboat_postgres::digest;
use lifeboat_testkit::postgres::{Options, Postgres};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

pub const PASSWORD: &str = "p:a\\ss word'";

/// A cluster with databases `north` and `south`, which differ, and a role for backups.
pub fn cluster(major: u32, tls: bool) -> Postgres {
    let cluster = Postgres::start(major, &Options { tls, ..Options::default() }).unwrap();
    let role = format!(
        "CREATE ROLE lifeboat LOGIN REPLICATION PASSWORD '{}' IN ROLE pg_read_all_data",
        PASSWORD.replace('\'', "''")
    );
    cluster.psql("postgres", &role).unwrap();
    for (database, rows) in [("north", 4000), ("south", 2500)] {
        cluster.psql("postgres", &format!("CREATE DATABASE {database}")).unwrap();
        let tables = format!(
            "CREATE TABLE patient AS SELECT g AS id, md5('{database}' || g) AS name, now() AS seen FROM generate_series(1, {rows}) g; \
             ALTER TABLE patient ADD PRIMARY KEY (id); CREATE SEQUENCE invoice START 17; SELECT nextval('invoice'); \
             CREATE TABLE document (id serial PRIMARY KEY, body bytea); \
             INSERT INTO document (body) SELECT decode(md5(g::text), 'hex') FROM generate_series(1, 300) g; \
             CREATE VIEW named AS SELECT name FROM patient; CREATE INDEX ON patient (name)"
        );
        cluster.psql(database, &tables).unwrap();
    }
    cluster
}

/// What tells two databases apart, whatever their files look like: rows and sums of every table, and where sequences stand (not how
/// far the server has reserved them, which a dump does not keep).
pub fn digest(cluster: &Postgres, database: &str) -> BTreeMap<String, String> {
    let dsn = cluster.superuser_dsn(database);
    let sequences = cluster.psql(database, "SELECT schemaname, sequencename, last_value FROM pg_sequences").unwrap();
    let sequences = sequences.lines().map(|line| (line.to_owned(), String::new()));
    let tables: BTreeMap<String, String> =
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await.unwrap();
            let driving = tokio::spawn(connection);
            let found = digest::run(&client, &digest::Options::default()).await.unwrap();
            assert!(found.left_out.is_empty() && found.inconclusive.is_empty(), "{found:?}");
            drop(client);
            driving.await.unwrap().unwrap();
            found
                .tables
                .iter()
                .map(|(name, table)| (name.clone(), format!("{} {:?}", table.rows, table.sums)))
                .collect()
        });
    assert!(tables.len() >= 2, "{tables:?}");
    tables.into_iter().chain(sequences).collect()
}

/// SHA-256 of every file of a database's own directory, after a checkpoint. PostgreSQL's cache of its catalogue
/// (`pg_internal.init`) comes and goes with sessions.
pub fn files(cluster: &Postgres, database: &str) -> BTreeMap<PathBuf, String> {
    cluster.psql("postgres", "CHECKPOINT").unwrap();
    let oid = cluster.psql("postgres", &format!("SELECT oid FROM pg_database WHERE datname = '{database}'")).unwrap();
    let folder = cluster.data_dir().join("base").join(oid);
    let files: BTreeMap<PathBuf, String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("pg_internal.init"))
        .map(|path| (path.clone(), hex::encode(Sha256::digest(fs::read(&path).unwrap()))))
        .collect();
    assert!(files.len() > 100, "{files:?}");
    files
}

/// Restores a dump into a new database with the server's own `pg_restore`.
pub fn pg_restore(cluster: &Postgres, dump: &Path, database: &str) {
    cluster.psql("postgres", &format!("CREATE DATABASE {database}")).unwrap();
    let copy = cluster.root().join(format!("{database}.dump"));
    fs::copy(dump, &copy).unwrap();
    cluster.own(&copy).unwrap();
    cluster.run("pg_restore", &["--exit-on-error", "--dbname", database, copy.to_str().unwrap()]).unwrap();
    fs::remove_file(copy).unwrap();
}

/// A folder with configuration, keys and the repository.
pub struct Site {
    pub dir: TempDir,
    made: Value,
    /// What is added to the configuration.
    pub dump: String,
    port: u16,
    major: u32,
    root_cert: Option<PathBuf>,
}

impl Site {
    pub fn new(cluster: &Postgres, tls: bool) -> Site {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let init = Command::new(env!("CARGO_BIN_EXE_lifeboat"))
            .args(["init", "--tenant", "hospital", "--instance", "clinic", "--json"])
            .arg(dir.path())
            .output()
            .unwrap();
        assert!(init.status.success(), "{}", text(&init));
        fs::create_dir_all(dir.path().join("filestore/north/ab")).unwrap();
        fs::write(dir.path().join("filestore/north/ab/abcd"), "an attachment").unwrap();
        fs::write(dir.path().join("password"), PASSWORD).unwrap();
        fs::set_permissions(dir.path().join("password"), fs::Permissions::from_mode(0o600)).unwrap();
        let made = serde_json::from_slice(&init.stdout).unwrap();
        let root_cert = tls.then(|| cluster.ca_file());
        let site = Site { dir, made, dump: String::new(), port: cluster.port(), major: cluster.major(), root_cert };
        site.configure();
        site
    }

    /// Writes the configuration from the fields.
    pub fn configure(&self) {
        let Site { made, dump, port, major, .. } = self;
        let tls = match &self.root_cert {
            Some(path) => format!("tls = \"verify-full\"\nroot_cert_file = \"{}\"", path.display()),
            None => "tls = \"disable\"".to_owned(),
        };
        let text = format!(
            r#"tenant = "hospital"

[repository]
path = "repository"

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
password_file = "password"
{tls}
databases = ["north", "south"]

[instances.clinic.filestore]
path = "filestore"

[instances.clinic.drill]
postgres_image = "lifeboat-testbed/postgres:{major}"
odoo_image = "lifeboat-testbed/odoo:19"
{dump}
[engine]
state_dir = "state"
"#,
            recipients = made["recovery_recipients"],
            trusted = made["signing_public_key"],
        );
        fs::write(self.at("lifeboat.toml"), text).unwrap();
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.arg("--config").arg(self.at("lifeboat.toml")).args(arguments).stdin(Stdio::null());
        // What a careless environment must not change.
        command.env("PGHOST", "nowhere.invalid").env("PGDATABASE", "postgres").env("PGOPTIONS", "-c search_path=none");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed and answers JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).arg("--json").output().unwrap();
        assert!(output.status.success(), "lifeboat {arguments:?}: {}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs a command that must fail with this code and these words.
    pub fn refused(&self, arguments: &[&str], exit: i32, words: &[&str]) {
        let output = self.run(arguments);
        let all = text(&output);
        assert_eq!(output.status.code(), Some(exit), "{all}");
        words.iter().for_each(|word| assert!(all.contains(word), "no {word:?} in {all}"));
        assert!(!all.contains(PASSWORD) && !all.contains("please report this"), "{all}");
    }

    pub fn identity(&self) -> String {
        self.at("keys/recovery.identity").to_str().unwrap().to_owned()
    }

    /// Ids and kinds of the points, oldest first.
    pub fn points(&self) -> Vec<(String, String)> {
        if !self.at("repository").exists() {
            return Vec::new();
        }
        let listed = self.json(&["points", "list", "clinic"]);
        let field = |point: &Value, name: &str| point[name].as_str().unwrap().to_owned();
        let points = listed["points"].as_array().unwrap();
        points.iter().map(|point| (field(point, "point"), field(point, "kind"))).collect()
    }
}

/// Nothing of ours runs or lies about any more: no container, no network of these runs, no folder of a sandbox.
pub fn nothing_left(site: &Site) {
    let labelled = |kind: &[&str]| {
        let output = Command::new("docker")
            .args(kind)
            .args(["--no-trunc", "--filter", "label=lifeboat.drill", "--format", "{{.Label \"lifeboat.work\"}}"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let ours = site.dir.path().to_str().unwrap();
    for kind in [&["ps", "-a"][..], &["network", "ls"]] {
        let found = labelled(kind);
        assert!(!found.contains(ours), "{kind:?}: {found}");
    }
    let drills = site.at("state/drills");
    let left = if drills.exists() { fs::read_dir(&drills).unwrap().count() } else { 0 };
    assert_eq!(left, 0, "folders in {}", drills.display());
}

/// Standard output and error, for messages.
pub fn text(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}\n{err}", output.status)
}
