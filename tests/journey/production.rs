//! A production system of a test's own, made from the testbed's: two containers with their volumes, backed up, streamed, written to.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use lifeboat_testkit::{folder::put_program, testbed};

use crate::support::{Settings, Site, Source, text};

/// For whatever is waited for, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// What the names of containers end with that were put aside.
const ASIDE: &str = "-aside";

/// A machine with Docker: two containers, two volumes, one folder. Whatever happens, it goes.
pub struct Machine {
    pub name: String,
    pub port: u16,
    pub web: u16,
    /// What the names of volumes end with: those of the data that came later, beside the first.
    pub generation: &'static str,
}

impl Machine {
    pub fn new(of: &str) -> Machine {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let machine = Machine {
            name: format!("lifeboat-loss-{of}-{}", std::process::id()),
            port: free(),
            web: free(),
            generation: "",
        };
        docker(&["network", "create", &machine.name]);
        machine
    }

    pub fn part(&self, of: &str) -> String {
        format!("{}-{of}", self.name)
    }

    pub fn volume(&self, of: &str) -> String {
        self.part(of) + self.generation
    }

    pub fn volumes(&self) -> String {
        format!("postgres={},filestore={}", self.volume("db"), self.volume("files"))
    }

    /// Others take their names; what is in their volumes stays.
    pub fn put_aside(&self) {
        for container in [self.part("web"), self.part("db")] {
            docker(&["rename", &container, &format!("{container}{ASIDE}")]);
        }
    }

    /// A program that makes the containers unless they are there, starts none, and counts what it makes in `made`.
    pub fn maker(&self, folder: &Path) -> PathBuf {
        let state = testbed::state_dir();
        let place = |below: &str, at: &str| format!("-v {}:{at}:ro", state.join(below).display());
        let (tls, conf) =
            (place("tls", "/etc/lifeboat-testbed/tls"), place("odoo/etc/odoo.conf", "/etc/odoo/odoo.conf"));
        let addons = place("odoo/addons", "/mnt/extra-addons");
        let postgres = testbed::setting("LIFEBOAT_TESTBED_PG_IMAGE", "lifeboat-testbed/postgres:17");
        let odoo = testbed::setting("LIFEBOAT_TESTBED_ODOO_IMAGE", "lifeboat-testbed/odoo:19");
        let (db, web, net) = (self.part("db"), self.part("web"), &self.name);
        let (data, files) = (self.volume("db"), self.volume("files"));
        let (port, web_port, made) = (self.port, self.web, folder.join("made"));
        let made = made.display();
        let script = format!(
            "#!/bin/sh\nset -e\n\
             make() {{ name=$1; shift; docker container inspect \"$name\" >/dev/null 2>&1 && return; docker create --name \"$name\" --network {net} \"$@\" >/dev/null; echo \"$name\" >> {made}; }}\n\
             make {db} --network-alias postgres -p 127.0.0.1:{port}:5432 -v {data}:/var/lib/postgresql/data {tls} {postgres}\n\
             make {web} -p 127.0.0.1:{web_port}:8069 -v {files}:/var/lib/odoo {conf} {addons} {odoo} odoo --max-cron-threads=0\n"
        );
        let path = folder.join("make-containers");
        put_program(&path, script);
        path
    }

    pub fn psql(&self, database: &str, sql: &str) -> Option<String> {
        let asked = ["exec", "-u", "postgres", &self.part("db"), "psql", "-XAtqd", database, "-c", sql];
        let output = Command::new("docker").args(asked).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    pub fn destroy(&self) {
        for container in [self.part("web"), self.part("db")] {
            let _ = Command::new("docker").args(["rm", "-fv", &container, &format!("{container}{ASIDE}")]).output();
        }
        for volume in ["db", "files"].map(|of| [self.part(of), self.volume(of)]).as_flattened() {
            let _ = Command::new("docker").args(["volume", "rm", "-f", volume]).output();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.destroy();
        let _ = Command::new("docker").args(["network", "rm", &self.name]).output();
    }
}

pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "no {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A person who writes one row after the other, and remembers the last that was acknowledged.
pub struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicI64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(machine: &Machine) -> Writer {
        machine.psql("demo", "CREATE TABLE on_call (id bigint PRIMARY KEY)").unwrap();
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicI64>::default());
        let (stopped, last) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let shell = ["exec", "-i", "-u", "postgres", &machine.part("db"), "psql", "-XAtqd", "demo"];
        let mut session = Command::new("docker")
            .args(shell)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let thread = thread::spawn(move || {
            use std::io::{BufRead as _, BufReader, Write as _};
            let (mut words, mut answers) =
                (session.stdin.take().unwrap(), BufReader::new(session.stdout.take().unwrap()));
            for id in 1.. {
                let mut answer = String::new();
                let asked = writeln!(words, "INSERT INTO on_call VALUES ({id}) RETURNING id;");
                if asked.is_err()
                    || !matches!(answers.read_line(&mut answer), Ok(1..))
                    || stopped.load(Ordering::SeqCst)
                {
                    break;
                }
                last.store(answer.trim().parse().unwrap(), Ordering::SeqCst);
                thread::sleep(Duration::from_millis(20));
            }
            drop(words);
            let _ = session.wait();
        });
        Writer { stop, acknowledged, thread: Some(thread) }
    }

    pub fn last(&self) -> i64 {
        self.acknowledged.load(Ordering::SeqCst)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A process that is ended with the test.
pub struct Process(Child);

impl Process {
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A production system on the first machine, made from the testbed's, backed up, streamed, and written to.
pub fn production_that_is_used(machine: &Machine) -> (Site, Process, Writer) {
    let origin = Site::new(&Settings::default());
    origin.succeed(&["backup", "clinic"]);
    let port = machine.port.to_string();
    let mut settings = Settings::default();
    settings.source = Source { port, ..settings.source };
    let site = Site::new(&settings);
    let folder = site.dir.path().join("old");
    let identity = origin.identity();
    let volumes = machine.volumes();
    origin.succeed(&[
        "restore",
        "clinic",
        "--to-docker",
        &volumes,
        "--folder",
        folder.to_str().unwrap(),
        "--identity",
        identity.to_str().unwrap(),
    ]);
    let maker = machine.maker(site.dir.path());
    assert!(Command::new(&maker).status().unwrap().success());
    docker(&["start", &machine.part("db"), &machine.part("web")]);
    until("PostgreSQL", || machine.psql("postgres", "SELECT pg_is_in_recovery()").as_deref() == Some("f"));
    let filestore = folder.join("odoo-data/filestore");
    let config = fs::read_to_string(site.config()).unwrap();
    let was = crate::support::filestore();
    fs::write(site.config(), config.replace(was.to_str().unwrap(), filestore.to_str().unwrap())).unwrap();
    let writer = Writer::start(machine);
    site.succeed(&["backup", "clinic"]);
    let log = fs::File::create(site.dir.path().join("stream.log")).unwrap();
    let stream = site
        .command(&["wal", "stream", "clinic"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let stream = Process(stream);
    let begun = writer.last();
    until("stream", || {
        let status = site.run(&["wal", "status", "clinic", "--json"]);
        status.status.success() && writer.last() > begun + 50
    });
    (site, stream, writer)
}

pub fn copy_runbooks(site: &Site) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runbooks");
    let to = site.dir.path().join("runbooks");
    let _ = fs::create_dir(&to);
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
