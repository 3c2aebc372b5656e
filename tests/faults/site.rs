//! A configured site around a throw-away cluster, driven by the built binary like a person would.

use std::{
    fs,
    io::Read as _,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use lifeboat_testkit::postgres::{Options, Postgres};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub const ROLE: &str = "lifeboat";
pub const PASSWORD: &str = "a throw-away password";
/// No command may take longer, whatever the fault.
const PATIENCE: Duration = Duration::from_secs(55);

/// A cluster with a role for backups and a database `demo`.
pub fn cluster(major: u32, options: &Options) -> Postgres {
    let cluster = Postgres::start(major, options).unwrap();
    let role = format!("CREATE ROLE {ROLE} LOGIN REPLICATION PASSWORD '{PASSWORD}' IN ROLE pg_read_all_data");
    cluster.psql("postgres", &role).unwrap();
    cluster.psql("postgres", "CREATE DATABASE demo").unwrap();
    cluster
        .psql("demo", "CREATE TABLE partner AS SELECT g AS id, md5(g::text) AS name FROM generate_series(1, 5000) g")
        .unwrap();
    cluster
}

/// Adds a table of so many MiB that hardly compresses.
pub fn fill(cluster: &Postgres, table: &str, mib: u32) {
    let rows = mib * 655;
    let text = "(SELECT string_agg(md5(g::text || i::text), '') FROM generate_series(1, 49) i)";
    let sql = format!("CREATE TABLE {table} AS SELECT g AS id, {text} AS noise FROM generate_series(1, {rows}) g");
    cluster.psql("demo", &sql).unwrap();
    cluster.psql("postgres", "CHECKPOINT").unwrap();
}

pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A folder with configuration, keys, a small filestore and, as a rule, the repository.
pub struct Site {
    pub dir: TempDir,
    made: Value,
    pub port: u16,
    pub role: String,
    pub tls: &'static str,
    /// TOML of the section.
    pub repository: String,
    pub state: PathBuf,
}

impl Site {
    pub fn new(port: u16) -> Site {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let init = Command::new(env!("CARGO_BIN_EXE_lifeboat"))
            .args(["init", "--tenant", "hospital", "--instance", "clinic", "--json"])
            .arg(dir.path())
            .output()
            .unwrap();
        assert!(init.status.success(), "{}", text(&init));
        let files = dir.path().join("filestore/demo/ab");
        fs::create_dir_all(&files).unwrap();
        for number in 0..20u32 {
            fs::write(files.join(format!("ab{number:02}")), format!("attachment {number} ").repeat(1000)).unwrap();
        }
        let site = Site {
            made: serde_json::from_slice(&init.stdout).unwrap(),
            port,
            role: ROLE.to_owned(),
            tls: "disable",
            repository: "[repository]\npath = \"repository\"".to_owned(),
            state: dir.path().join("state"),
            dir,
        };
        site.set_password(PASSWORD);
        site.configure();
        site
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn set_password(&self, password: &str) {
        fs::write(self.at("password"), password).unwrap();
        fs::set_permissions(self.at("password"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes the configuration from the fields.
    pub fn configure(&self) {
        let Site { made, port, role, tls, repository, state, .. } = self;
        let (recipients, trusted, state) = (&made["recovery_recipients"], &made["signing_public_key"], state.display());
        let text = format!(
            r#"tenant = "hospital"

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
host = "127.0.0.1"
port = {port}
user = "{role}"
password_file = "password"
tls = "{tls}"
databases = ["demo"]

[instances.clinic.filestore]
path = "filestore"

[instances.clinic.drill]
postgres_image = "postgres:17"
odoo_image = "odoo:19"

[engine]
state_dir = "{state}"
pack_size = "4 MiB"
"#
        );
        fs::write(self.at("lifeboat.toml"), text).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.arg("--config").arg(self.at("lifeboat.toml")).args(arguments).stdin(Stdio::null());
        command
    }

    /// Starts a command.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        Running(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.start(arguments).end()
    }

    /// Runs a command that must succeed.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "lifeboat {arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Ids of the visible points. A repository that was never made has none.
    pub fn points(&self) -> Vec<String> {
        let output = self.run(&["points", "list", "clinic", "--json"]);
        if output.status.code() == Some(6) {
            return Vec::new();
        }
        assert!(output.status.success(), "{}", text(&output));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let points = answer["points"].as_array().unwrap();
        points.iter().map(|point| point["point"].as_str().unwrap().to_owned()).collect()
    }

    /// A backup fails as it should, and nothing new is visible.
    pub fn fails(&self, exit: i32, words: &[&str]) {
        let before = self.points();
        let output = self.run(&["backup", "clinic"]);
        assert_refused(&output, exit, words);
        assert_eq!(self.points(), before, "a failed backup left something that looks like a point");
    }

    /// A backup works, and every byte of it can be read back.
    pub fn works(&self) {
        let before = self.points();
        self.succeed(&["backup", "clinic"]);
        let after = self.points();
        assert_eq!(after.len(), before.len() + 1);
        self.verifies();
    }

    /// The newest point is whole: every byte opened and checked.
    pub fn verifies(&self) {
        let identity = self.identity();
        let verify = ["verify", "clinic", "--point", "latest", "--read-data", "--identity", &identity];
        self.succeed(&verify);
    }

    pub fn identity(&self) -> String {
        self.at("keys/recovery.identity").to_str().unwrap().to_owned()
    }

    /// The arguments of a restore of the newest point.
    pub fn restore_to<'a>(&self, to: &'a Path, identity: &'a str) -> [&'a str; 8] {
        ["restore", "clinic", "--point", "latest", "--to", to.to_str().unwrap(), "--identity", identity]
    }
}

/// One message that says what is wrong and what to do, and an exit code that says it to a script.
pub fn assert_refused(output: &Output, exit: i32, words: &[&str]) {
    let all = text(output);
    assert_eq!(output.status.code(), Some(exit), "{all}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(errors.len(), 1, "one error, not {}: {all}", errors.len());
    assert!(output.stdout.is_empty(), "data came out of a failed run: {all}");
    for word in words {
        assert!(stderr.to_lowercase().contains(&word.to_lowercase()), "no word of {word:?} in: {all}");
    }
    for line in ["safe: "].iter().chain(if exit == 130 { &[][..] } else { &["caused by: "][..] }) {
        assert!(stderr.contains(line), "no line {line:?} in: {all}");
    }
    for noise in ["panicked", "RUST_BACKTRACE", "please report this", PASSWORD] {
        assert!(!stderr.contains(noise), "{noise:?} in: {all}");
    }
}

/// Standard output and error, for messages.
pub fn text(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}\n{err}", output.status)
}

/// A command that is under way; killed if the test ends first.
pub struct Running(Option<Child>);

impl Running {
    pub fn signal(&self, signal: Signal) {
        let child = self.0.as_ref().unwrap();
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Waits for the end, within bounds.
    pub fn end(mut self) -> Output {
        let mut child = self.0.take().unwrap();
        let pid = Pid::from_child(&child);
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let read_out = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            out.read_to_end(&mut bytes).map(|_| bytes)
        });
        let read_err = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            err.read_to_end(&mut bytes).map(|_| bytes)
        });
        let deadline = Instant::now() + PATIENCE;
        let mut late = false;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline && !late {
                late = true;
                kill_process(pid, Signal::KILL).unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let (stdout, stderr) = (read_out.join().unwrap().unwrap(), read_err.join().unwrap().unwrap());
        let output = Output { status, stdout, stderr };
        assert!(!late, "not done after {} s: {}", PATIENCE.as_secs(), text(&output));
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill(); // it may have ended by itself
            let _ = child.wait();
        }
    }
}

/// Polls until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
