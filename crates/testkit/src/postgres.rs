//! Throw-away PostgreSQL clusters: real servers of any version that this machine has, as packages in
//! `/usr/lib/postgresql/<major>/bin` or else as image `lifeboat-testbed/postgres:<major>`.
//!
//! Both run the same commands on the same paths: a container shares the host's network and has the cluster's folder
//! mounted where it lies on the host. A cluster is stopped and removed when its handle is dropped, by the id of the
//! process or container that was started here.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

mod replica;
mod workload;

pub use workload::Workload;

/// The superuser of every cluster.
pub const SUPERUSER: &str = "postgres";
/// Its password, over TCP; on the Unix socket none is asked for.
pub const SUPERUSER_PASSWORD: &str = "throw-away";
/// The versions that are looked for.
const MAJORS: std::ops::RangeInclusive<u32> = 13..=18;
/// The user `postgres` in the images.
const IMAGE_UID: u32 = 999;
const START_TIMEOUT: Duration = Duration::from_secs(90);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Every version that can be started here.
pub fn versions() -> BTreeSet<u32> {
    MAJORS.filter(|major| Programs::find(*major).is_ok()).collect()
}

/// How a cluster is made and started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Page checksums (`initdb --data-checksums`).
    pub checksums: bool,
    /// `ssl = on`, with a certificate for `localhost` from an authority of its own: see [`Postgres::ca_file`].
    pub tls: bool,
    /// Lines for `postgresql.conf`, for example `wal_level = minimal`.
    pub conf: Vec<String>,
    /// The whole `pg_hba.conf`; by default SCRAM for everybody over TCP, and everybody on the socket.
    pub hba: Vec<String>,
    /// More arguments for `initdb`.
    pub initdb: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        let hba = ["local all all trust", "local replication all trust", "host all all all scram-sha-256"];
        let replication = "host replication all all scram-sha-256";
        Options {
            checksums: true,
            tls: false,
            conf: Vec::new(),
            hba: hba.into_iter().chain([replication]).map(str::to_owned).collect(),
            initdb: Vec::new(),
        }
    }
}

/// Where the programs of a version are, and as whom they run.
#[derive(Debug, Clone)]
struct Programs {
    bin: PathBuf,
    image: Option<String>,
    /// Uid and gid, where the tests run as root: PostgreSQL refuses to.
    user: Option<(u32, u32)>,
}

impl Programs {
    fn find(major: u32) -> Result<Programs> {
        let is_root = fs::metadata("/proc/self")?.uid() == 0;
        let bin = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
        if bin.join("postgres").exists() {
            let user = if is_root { Some(user_ids("postgres")?) } else { None };
            return Ok(Programs { bin, image: None, user });
        }
        let image = format!("lifeboat-testbed/postgres:{major}");
        let mut inspect = Command::new("docker");
        inspect.args(["image", "inspect", &image]).stdout(Stdio::null()).stderr(Stdio::null());
        let has_image = inspect.status().is_ok_and(|status| status.success());
        ensure!(has_image, "no PostgreSQL {major}: neither {} nor image {image}", bin.display());
        Ok(Programs { bin, image: Some(image), user: is_root.then_some((IMAGE_UID, IMAGE_UID)) })
    }

    /// A command that runs a program on the files below `root`.
    fn command(&self, program: &str, root: &Path, docker: &[&str]) -> Command {
        let program = self.bin.join(program);
        let mut command;
        match (&self.image, self.user) {
            (Some(image), user) => {
                command = Command::new("docker");
                command.args(["run", "--rm", "--network", "host", "--label", "lifeboat.testkit=postgres"]).args(docker);
                command.arg("-v").arg(format!("{0}:{0}", root.display())).arg("-w").arg(root);
                if let Some((uid, gid)) = user {
                    command.arg("-u").arg(format!("{uid}:{gid}"));
                }
                command.args(["-e", "PGPASSWORD", "--entrypoint"]).arg(program).arg(image);
            }
            (None, Some((uid, gid))) => {
                command = Command::new("setpriv");
                command.args([format!("--reuid={uid}"), format!("--regid={gid}")]).arg("--clear-groups").arg("--");
                command.arg(program).current_dir(root);
            }
            (None, None) => {
                command = Command::new(program);
                command.current_dir(root);
            }
        }
        command.stdin(Stdio::null());
        command
    }
}

fn user_ids(name: &str) -> Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name));
    let line = line.with_context(|| format!("no user {name} on this machine"))?;
    let mut fields = line.split(':').skip(2);
    let mut id = || fields.next().context("a short line in /etc/passwd")?.parse().context("an id in /etc/passwd");
    Ok((id()?, id()?))
}

enum Running {
    Process(Child),
    Container(String),
    Nothing,
}

/// A cluster of its own. Dropping it stops the server and removes its files.
pub struct Postgres {
    major: u32,
    programs: Programs,
    port: u16,
    data: PathBuf,
    running: Running,
    root: TempDir,
}

impl Postgres {
    /// Makes a cluster and starts it.
    pub fn start(major: u32, options: &Options) -> Result<Postgres> {
        let mut cluster = Self::empty(major)?;
        cluster.initialise(options)?;
        cluster.resume()?;
        Ok(cluster)
    }

    /// A place for a cluster that somebody else puts into [`Postgres::data_dir`]: a restored one, say. Nothing runs yet.
    pub fn empty(major: u32) -> Result<Postgres> {
        let programs = Programs::find(major)?;
        let root = tempfile::Builder::new().prefix("lifeboat-pg-").tempdir_in("/tmp")?;
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755))?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let data = root.path().join("data");
        let cluster = Postgres { major, programs, port, data, running: Running::Nothing, root };
        cluster.own(cluster.root.path())?;
        Ok(cluster)
    }

    /// The major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The TCP port on 127.0.0.1 (and `localhost`).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection string of the superuser for a database.
    pub fn superuser_dsn(&self, database: &str) -> String {
        let port = self.port;
        format!("host=127.0.0.1 port={port} user={SUPERUSER} password={SUPERUSER_PASSWORD} dbname={database}")
    }

    /// PGDATA.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// The folder with everything of this cluster: data, log, socket; the server may write here.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The authority that signed the server's certificate (with [`Options::tls`]).
    pub fn ca_file(&self) -> PathBuf {
        self.root.path().join("ca.crt")
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        match &self.running {
            Running::Container(id) => Command::new("docker")
                .args(["logs", id])
                .output()
                .map(|output| String::from_utf8_lossy(&output.stderr).into_owned())
                .unwrap_or_default(),
            _ => fs::read_to_string(self.root.path().join("log")).unwrap_or_default(),
        }
    }

    /// Gives a file or folder, and what is below it, to the user that the server runs as.
    pub fn own(&self, path: &Path) -> Result<()> {
        let Some((uid, gid)) = self.programs.user else { return Ok(()) };
        lchown(path, Some(uid), Some(gid))?;
        if fs::symlink_metadata(path)?.is_dir() {
            for entry in fs::read_dir(path)? {
                self.own(&entry?.path())?;
            }
        }
        Ok(())
    }

    /// Starts the server on its data, and waits until it answers.
    pub fn resume(&mut self) -> Result<()> {
        ensure!(matches!(self.running, Running::Nothing), "the server runs already");
        let (root, port) = (self.root.path().to_owned(), self.port.to_string());
        let settings = ["fsync=off".into(), format!("unix_socket_directories={}", root.display())];
        let arguments = |command: &mut Command| {
            command.arg("-D").arg(&self.data).args(["-p", &port]);
            settings.iter().for_each(|setting: &String| {
                command.args(["-c", setting]);
            });
        };
        if self.programs.image.is_some() {
            let mut command = self.programs.command("postgres", &root, &["-d", "--shm-size", "256m"]);
            arguments(&mut command);
            let id = text(check(command.output()?, "docker run")?).trim().to_owned();
            self.running = Running::Container(id);
        } else {
            let mut command = self.programs.command("postgres", &root, &[]);
            arguments(&mut command);
            let log = fs::File::options().create(true).append(true).open(root.join("log"))?;
            self.running = Running::Process(command.stdout(Stdio::null()).stderr(log).spawn()?);
        }
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if self.psql("postgres", "SELECT 1").is_ok() {
                return Ok(());
            }
            if !self.is_running() || Instant::now() > deadline {
                bail!("PostgreSQL {} did not start:\n{}", self.major, self.log());
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// Whether the server process is there.
    pub fn is_running(&mut self) -> bool {
        match &mut self.running {
            Running::Nothing => false,
            Running::Process(child) => matches!(child.try_wait(), Ok(None)),
            Running::Container(id) => Command::new("docker")
                .args(["inspect", "-f", "{{.State.Running}}", id])
                .output()
                .is_ok_and(|output| output.stdout.starts_with(b"true")),
        }
    }

    /// Sends a signal to the server process: `INT` is a fast shutdown, `QUIT` an immediate one, `KILL` a crash.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let mut command = match &self.running {
            Running::Nothing => bail!("the server does not run"),
            Running::Process(child) => {
                let mut command = Command::new("kill");
                command.arg(format!("-{signal}")).arg(child.id().to_string());
                command
            }
            Running::Container(id) => {
                let mut command = Command::new("docker");
                command.args(["kill", "--signal", signal, id]);
                command
            }
        };
        check(command.output()?, "a signal").map(drop)
    }

    /// Fast shutdown; [`Postgres::resume`] starts it again on the same port.
    pub fn stop(&mut self) -> Result<()> {
        self.end("INT")
    }

    /// `kill -9` of the server process.
    pub fn crash(&mut self) -> Result<()> {
        self.end("KILL")?;
        // The children of a killed server go by themselves, and it can only be started when they have.
        let deadline = Instant::now() + STOP_TIMEOUT;
        let _ = fs::remove_file(self.data.join("postmaster.pid"));
        while fs::read_dir("/proc")?.flatten().any(|entry| is_server_of(&entry.path(), &self.data)) {
            ensure!(Instant::now() < deadline, "processes of the killed server are still there");
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn end(&mut self, signal: &str) -> Result<()> {
        if matches!(self.running, Running::Nothing) {
            return Ok(());
        }
        let signalled = self.signal(signal);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.is_running() {
            if Instant::now() > deadline {
                self.signal("KILL")?;
                bail!("PostgreSQL {} did not stop:\n{}", self.major, self.log());
            }
            sleep(Duration::from_millis(50));
        }
        self.running = Running::Nothing;
        signalled
    }

    /// Runs SQL as the superuser and gives the rows, tab-separated, one a line.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let output =
            self.run("psql", &["-X", "-qAt", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql])?;
        Ok(text(output).trim_end().to_owned())
    }

    /// Runs a program of this version (`pgbench`, `pg_basebackup`, `pg_verifybackup` …) with PGHOST, PGPORT and PGUSER set,
    /// and times in UTC.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let root = self.root.path();
        let environment = [
            ("PGHOST", root.display().to_string()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", SUPERUSER.to_owned()),
            ("TZ", "UTC".to_owned()),
        ];
        let mut command = match &self.running {
            Running::Container(id) => {
                let mut command = Command::new("docker");
                command.arg("exec");
                for (name, value) in &environment {
                    command.arg("-e").arg(format!("{name}={value}"));
                }
                command.arg(id).arg(self.programs.bin.join(program));
                command
            }
            _ => {
                let mut command = self.programs.command(program, root, &[]);
                command.envs(environment.iter().map(|(name, value)| (name, value)));
                command
            }
        };
        check(command.args(arguments).output()?, program)
    }

    fn initialise(&self, options: &Options) -> Result<()> {
        let root = self.root.path();
        let password = root.join("password");
        fs::write(&password, SUPERUSER_PASSWORD)?;
        self.own(&password)?;
        let mut command = self.programs.command("initdb", root, &[]);
        command.arg("-D").arg(&self.data).args(["-U", SUPERUSER, "--no-sync", "-E", "UTF8", "--locale=C"]);
        command.arg("--auth=scram-sha-256").arg("--pwfile").arg(&password);
        match (options.checksums, self.major) {
            (true, _) => drop(command.arg("--data-checksums")),
            (false, 18..) => drop(command.arg("--no-data-checksums")),
            (false, _) => {}
        }
        check(command.args(&options.initdb).output()?, "initdb")?;
        let mut conf = vec!["listen_addresses = 'localhost'".to_owned(), "max_wal_senders = 10".to_owned()];
        if options.tls {
            self.make_certificates()?;
            let file = |name: &str| root.join(name).display().to_string();
            conf.push("ssl = on".into());
            conf.push(format!("ssl_cert_file = '{}'", file("server.crt")));
            conf.push(format!("ssl_key_file = '{}'", file("server.key")));
        }
        conf.extend(options.conf.iter().cloned());
        let path = self.data.join("postgresql.conf");
        let text = fs::read_to_string(&path)?;
        fs::write(&path, format!("{text}\n{}\n", conf.join("\n")))?;
        self.write_hba(&options.hba)
    }

    /// Replaces `pg_hba.conf`; a running server reads it after `SELECT pg_reload_conf()`.
    pub fn write_hba(&self, lines: &[String]) -> Result<()> {
        fs::write(self.data.join("pg_hba.conf"), lines.join("\n") + "\n").context("writing pg_hba.conf")
    }

    fn make_certificates(&self) -> Result<()> {
        let root = self.root.path();
        make_authority(root, "ca")?;
        openssl(
            root,
            &["req", "-new", "-nodes", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"],
        )?;
        fs::write(root.join("server.ext"), "subjectAltName=DNS:localhost\n")?;
        let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
        let rest = ["-days", "2", "-extfile", "server.ext", "-out", "server.crt"];
        openssl(root, &[&sign[..], &rest[..]].concat())?;
        fs::set_permissions(root.join("server.key"), fs::Permissions::from_mode(0o600))?;
        if let Some((uid, gid)) = self.programs.user {
            chown(root.join("server.key"), Some(uid), Some(gid))?;
        }
        Ok(())
    }
}

/// Makes `<name>.key` and a self-signed `<name>.crt` in a folder.
pub fn make_authority(folder: &Path, name: &str) -> Result<PathBuf> {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let subject = format!("/CN=throw-away {name}");
    let begin = ["req", "-x509", "-nodes", "-days", "2", "-newkey", "rsa:2048", "-subj", &subject];
    openssl(folder, &[&begin[..], &["-keyout", &key, "-out", &certificate][..]].concat())?;
    Ok(folder.join(certificate))
}

fn openssl(folder: &Path, arguments: &[&str]) -> Result<()> {
    check(Command::new("openssl").args(arguments).current_dir(folder).output()?, "openssl").map(drop)
}

fn check(output: Output, what: &str) -> Result<Output> {
    ensure!(output.status.success(), "{what} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

fn text(output: Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a process works in this data directory, as all processes of a server do.
fn is_server_of(process: &Path, data: &Path) -> bool {
    fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == data)
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.end("QUIT");
        if let Running::Container(id) = &self.running {
            let _ = Command::new("docker").args(["rm", "-f", id]).output();
        }
    }
}
