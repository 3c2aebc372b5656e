//! Restored into volumes, started by Docker as a person would, and verified: production, not a sandbox. What is damaged afterwards
//! is found; the server of somebody else is not taken for it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use lifeboat_testkit::{folder::put_program, testbed};
use serde_json::{Value, json};

use super::first_file;
use crate::support::{Settings, Site, text};

/// Whatever happens, containers, volumes and the network go.
struct Machine {
    name: String,
}

impl Machine {
    fn new() -> Machine {
        let machine = Machine { name: format!("lifeboat-recovered-{}", std::process::id()) };
        docker(&["network", "create", &machine.name]);
        machine
    }

    fn volume(&self, of: &str) -> String {
        format!("{}-{of}", self.name)
    }

    fn container(&self, of: &str) -> String {
        format!("{}-{of}", self.name)
    }

    /// Starts PostgreSQL and Odoo on the volumes, in the testbed's own way but for the data.
    fn start(&self) {
        let state = testbed::state_dir();
        let place = |below: &str, at: &str| format!("{}:{at}:ro", state.join(below).display());
        let (tls, conf) =
            (place("tls", "/etc/lifeboat-testbed/tls"), place("odoo/etc/odoo.conf", "/etc/odoo/odoo.conf"));
        let addons = place("odoo/addons", "/mnt/extra-addons");
        let pgdata = format!("{}:/var/lib/postgresql/data", self.volume("db"));
        let data = format!("{}:/var/lib/odoo", self.volume("files"));
        let postgres = testbed::setting("LIFEBOAT_TESTBED_PG_IMAGE", "lifeboat-testbed/postgres:17");
        let odoo = testbed::setting("LIFEBOAT_TESTBED_ODOO_IMAGE", "lifeboat-testbed/odoo:19");
        let (db, web) = (self.container("db"), self.container("web"));
        let run = ["run", "-d", "--network", &self.name, "--name"];
        let own: [&str; 8] = [&db, "--network-alias", "postgres", "-v", &pgdata, "-v", &tls, &postgres];
        docker(&[run.as_slice(), own.as_slice()].concat());
        let own: [&str; 10] = [&web, "-v", &data, "-v", &conf, "-v", &addons, &odoo, "odoo", "--max-cron-threads=0"];
        docker(&[run.as_slice(), own.as_slice()].concat());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for of in ["web", "db"] {
            let _ = Command::new("docker").args(["rm", "-fv", &self.container(of)]).output();
        }
        for of in ["db", "files"] {
            let _ = Command::new("docker").args(["volume", "rm", &self.volume(of)]).output();
        }
        let _ = Command::new("docker").args(["network", "rm", &self.name]).output();
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code and answer.
fn verify(site: &Site, folder: &Path, rungs: &str, more: &[&str]) -> (i32, Value) {
    let fixed = ["verify", "clinic", "--recovered", folder.to_str().unwrap(), "--rungs", rungs, "--json"];
    let output = site.run(&[&fixed, more].concat());
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    (output.status.code().unwrap(), answer)
}

fn verdict<'a>(answer: &'a Value, id: &str) -> &'a str {
    let check = answer["checks"].as_array().unwrap().iter().find(|check| check["id"] == id);
    check.unwrap_or_else(|| panic!("no {id}: {answer:#}"))["verdict"]["outcome"].as_str().unwrap()
}

/// Until the server is promoted, or Odoo serves.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within two minutes");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The same by the volumes of a Compose file, with a program in the place of Compose that answers as it does.
fn by_compose(site: &Site, machine: &Machine, folder: &Path) -> Output {
    let programs = site.dir.path().join("programs");
    fs::create_dir(&programs).unwrap();
    let volume = |source: &str, target: &str| json!([{ "type": "volume", "source": source, "target": target }]);
    let answer = json!({
        "services": {
            "db": { "volumes": volume("pg", "/var/lib/postgresql/data") },
            "web": { "volumes": volume("data", "/var/lib/odoo") },
        },
        "volumes": { "pg": { "name": machine.volume("db") }, "data": { "name": machine.volume("files") } },
    });
    let program = programs.join("docker-compose");
    put_program(&program, format!("#!/bin/sh\n[ \"$*\" = '--file c.yml config --format json' ] && echo '{answer}'\n"));
    let services = ["--to-compose", "c.yml", "--postgres", "db", "--odoo", "web", "--folder", folder.to_str().unwrap()];
    let identity = site.identity();
    let arguments = [&["restore", "clinic", "--identity", identity.to_str().unwrap()], services.as_slice()].concat();
    site.command(&arguments).env("PATH", &programs).output().unwrap()
}

/// The same restore as a step of a runbook, in place of the volume that is there, and a step that verifies it.
fn as_a_runbook(site: &Site, machine: &Machine, folder: &Path) {
    let file = site.dir.path().join("volumes.md");
    let (db, files) = (machine.volume("db"), machine.volume("files"));
    let (folder, identity) = (folder.display(), site.identity());
    let content = format!(
        "# Volumes\n\n```toml\n[runbook]\nid = \"volumes\"\nsummary = \"a test\"\nroles = [\"lead\"]\n```\n\n\
         ## Approve\n\n```toml\naction = \"approve\"\nrole = \"lead\"\nquestion = \"Go on?\"\n```\n\n\
         ## Restore\n\n```toml\naction = \"restore\"\ninstance = \"clinic\"\nreplace = true\nidentity_file = \"{}\"\n\
         to_docker = {{ postgres = \"{db}\", filestore = \"{files}\", folder = \"{folder}\" }}\n```\n\n\
         ## Verify\n\n```toml\naction = \"verify\"\ninstance = \"clinic\"\nrungs = [\"files\"]\nrestored_by = \"restore\"\n```\n",
        identity.display()
    );
    fs::write(&file, content).unwrap();
    let run = ["runbook", "run", file.to_str().unwrap(), "--answer", "approve=yes@ann"];
    let refused = site.run(&run);
    assert!(refused.status.code() == Some(2) && text(&refused).contains("--confirm"), "it lives: {}", text(&refused));
    site.succeed(&[&run, &["--confirm", "clinic"] as &[&str]].concat());
}

#[test]
fn volumes_are_started_and_verified() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(&Settings::default());
    site.succeed(&["backup", "clinic"]);
    let machine = Machine::new();
    let folder = site.dir.path().join("recovered");
    let identity = site.identity();
    let volumes = format!("postgres={},filestore={}", machine.volume("db"), machine.volume("files"));
    let restore = ["restore", "clinic", "--to-docker", &volumes, "--folder", folder.to_str().unwrap()];
    let restore = [&restore, &["--identity", identity.to_str().unwrap()] as &[&str]].concat();

    // A volume that holds something else stays as it is, unless somebody says otherwise.
    docker(&["volume", "create", &machine.volume("db")]);
    for refused in [site.run(&restore), by_compose(&site, &machine, &folder)] {
        assert!(!refused.status.success() && text(&refused).contains("--replace"), "{}", text(&refused));
        assert!(!folder.exists(), "nothing may be written");
    }
    as_a_runbook(&site, &machine, &folder);

    let (code, before) = verify(&site, &folder, "files,replay", &[]);
    assert_eq!((code, verdict(&before, "files.manifest")), (5, "passed"), "{before:#}");
    assert_eq!(verdict(&before, "recovered.server"), "not-executed", "the old server still answers: {before:#}");
    // Twice is as once.
    let again = site.json(&[&restore, &["--delta"] as &[&str]].concat());
    assert_eq!(again["volumes"][0]["folder"], folder.join("pgdata").to_str().unwrap(), "{again:#}");
    assert!(again["lost_since"].is_string(), "{again:#}");

    machine.start();
    let used = site.run(&[&restore, &["--delta"] as &[&str]].concat());
    assert!(!used.status.success() && text(&used).contains("docker stop"), "{}", text(&used));
    let db = machine.container("db");
    let answers = || {
        let asked = ["exec", "-u", "postgres", &db, "psql", "-XAtc", "SELECT pg_is_in_recovery()"];
        Command::new("docker").args(asked).output().unwrap().stdout.starts_with(b"f")
    };
    until("PostgreSQL", answers);
    let (code, answer) = verify(&site, &folder, "replay,structure,data,attachments", &[]);
    assert_eq!((code, answer["outcome"].as_str()), (0, Some("passed")), "{answer:#}");
    assert!(answer["rpo_seconds"].is_number() && answer["newest_commit"].is_string(), "{answer:#}");
    let newest = answer["newest_commit"].clone();
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'lifeboat%'";
    let schemas = docker(&["exec", "-u", "postgres", &db, "psql", "-XAtd", "demo", "-c", schemas]);
    assert_eq!(schemas.trim(), "0", "nothing is left in the recovered database");

    let web = machine.container("web");
    until("Odoo", || text(&Command::new("docker").args(["logs", &web]).output().unwrap()).contains("HTTP service"));
    let secrets = testbed::state_dir().join("secrets/odoo-admin.password");
    let person = ["--user", "admin", "--password-file", secrets.to_str().unwrap()];
    let (code, answer) = verify(&site, &folder, "boot,use", &person);
    assert_eq!((code, answer["outcome"].as_str()), (0, Some("passed")), "{answer:#}");
    let (code, nobody) = verify(&site, &folder, "use", &[]);
    assert_eq!((code, verdict(&nobody, "use.login")), (5, "not-executed"), "{nobody:#}");

    // What is damaged now is found, and what the source still has is not taken for it.
    let files: PathBuf = folder.join("odoo-data/filestore/demo");
    fs::remove_file(first_file(&files)).unwrap();
    let (code, answer) = verify(&site, &folder, "attachments", &[]);
    assert_eq!((code, verdict(&answer, "attachments.filestore")), (4, "failed"), "{answer:#}");
    let port = testbed::setting("LIFEBOAT_TESTBED_PG_PORT", "55432");
    let secrets = testbed::state_dir().join("secrets/lifeboat.password");
    let old = format!("host=127.0.0.1,port={port},user=lifeboat,tls=require,password-file={}", secrets.display());
    let (code, answer) = verify(&site, &folder, "attachments", &["--postgres", &old]);
    assert_eq!((code, verdict(&answer, "recovered.server")), (4, "failed"), "{answer:#}");
    assert_eq!(verdict(&answer, "attachments.filestore"), "not-executed", "{answer:#}");

    // Started again, the server does not know any more which commit it replayed last.
    docker(&["restart", &db]);
    until("PostgreSQL", answers);
    let (_, answer) = verify(&site, &folder, "replay,data", &[]);
    assert_eq!((&answer["newest_commit"], verdict(&answer, "replay.end")), (&newest, "passed"), "{answer:#}");
    let record = folder.join("RESTORED.json");
    let mut known: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    known.as_object_mut().unwrap().remove("newest_replayed").unwrap();
    fs::write(&record, known.to_string()).unwrap();
    let (_, answer) = verify(&site, &folder, "data", &[]);
    assert!(answer["newest_commit"].is_null() && answer["rpo_seconds"].is_null(), "nobody knows: {answer:#}");

    // Stopped cleanly it is production still: nothing is moved or removed.
    docker(&["stop", &web, &db]);
    let refused = site.run(&[&restore, &["--delta"] as &[&str]].concat());
    assert!(!refused.status.success() && text(&refused).contains("has left recovery"), "{}", text(&refused));
    assert!(files.is_dir() && !folder.join("RESTORE-INCOMPLETE").exists());
}
