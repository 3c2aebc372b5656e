//! The daemon as it is started: the built binary, real PostgreSQL, real Docker, runs as processes. It is begun on a repository that
//! does not exist, killed in the middle of a drill, robbed of its state, and followed by another one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics fails, which is what it is for")]

mod away;
#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lifeboat_testkit::testbed;
use serde_json::Value;
use support::{Settings, Site, text};

/// How long anything is waited for: a drill beside others on two cores, and once more after a kill.
const PATIENCE: Duration = Duration::from_secs(240);

/// A backup at every half minute, and a drill after each: the third begins before the first drill is over.
const SCHEDULES: &str = r#"
time_zone = "Europe/Berlin"

[schedule.half-minute]
do = "backup"
tiers = ["gold"]
cron = "0,30 * * * * *"
missed = { once_within = "5m" }
retries = 2
retry_after = "5s"

[schedule.proof]
do = "drill"
tiers = ["gold"]
after = "half-minute"
missed = { once_within = "5m" }
retries = 2
retry_after = "5s"
"#;

/// A daemon that runs.
struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    fn start(site: &Site, name: &str) -> Daemon {
        let folder = site.dir.path();
        let settings = format!(
            "state_dir = \"{name}\"\nlisten = \"127.0.0.1:0\"\n[[tenant]]\nconfig = \"lifeboat.toml\"\nschedules = \"schedules\"\n"
        );
        let file = folder.join(format!("{name}.toml"));
        fs::write(&file, settings).unwrap();
        let log = folder.join(format!("{name}.log"));
        let output = fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_lifeboat"))
            .args(["daemon", "--settings", file.to_str().unwrap()])
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .unwrap();
        Daemon { child, log }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn end(mut self, signal: &str) {
        self.signal(signal);
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn wait<T>(what: &str, daemon: &mut Daemon, mut look: impl FnMut(&Daemon) -> Option<T>) -> T {
    let patience = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look(daemon) {
            return found;
        }
        assert!(daemon.child.try_wait().unwrap().is_none(), "it ended: {}", daemon.said());
        assert!(Instant::now() < patience, "no {what}\n{}", daemon.said());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Every statement of a scheduled run: kind, the words of who began it, outcome.
fn scheduled(site: &Site) -> Vec<(String, String, String)> {
    let folder = site.repository().join("demo-group/evidence");
    let mut found = Vec::new();
    for file in fs::read_dir(folder).into_iter().flatten() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".dsse.json") {
            continue;
        }
        let envelope: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let predicate = serde_json::from_slice::<Value>(&payload).unwrap()["predicate"].take();
        let command = predicate["started_by"]["command"].as_str().unwrap();
        let Some((_, because)) = command.split_once("(schedule ") else { continue };
        let kind = name.split("-clinic-").nth(1).unwrap().split('-').next().unwrap().to_owned();
        let outcome = predicate["outcome"].as_str().unwrap_or("passed").to_owned();
        found.push((kind, because.to_owned(), outcome));
    }
    found
}

fn count(site: &Site, kind: &str) -> usize {
    scheduled(site).iter().filter(|(of, _, outcome)| of == kind && outcome == "passed").count()
}

/// Containers of this site's sandboxes.
fn containers(site: &Site) -> Vec<String> {
    let format = "{{.ID}} {{.Label \"lifeboat.work\"}}";
    let output = Command::new("docker")
        .args(["container", "ls", "-a", "--filter", "label=lifeboat.drill", "--format", format])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let below = site.dir.path().display().to_string();
    let lines = String::from_utf8(output.stdout).unwrap();
    let ours = lines.lines().filter_map(|line| line.split_once(' ')).filter(|(_, work)| work.starts_with(&below));
    ours.map(|(id, _)| id.to_owned()).collect()
}

/// Runs of this site that are processes now.
fn processes(site: &Site) -> usize {
    let config = site.config().display().to_string();
    let is_run = |entry: &fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains("--until-stdin-closes") && line.contains(&config)
    };
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(is_run).count()
}

#[test]
fn a_daemon_that_is_killed_robbed_and_followed_does_everything_once() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(&Settings::default());
    let folder = site.dir.path();
    let config = fs::read_to_string(site.config()).unwrap();
    let identity = "recovery_identity_file = \"keys/recovery.identity\"\nhost_identity_file";
    fs::write(site.config(), config.replacen("host_identity_file", identity, 1)).unwrap();
    fs::create_dir(folder.join("schedules")).unwrap();
    fs::write(folder.join("schedules/all.toml"), SCHEDULES).unwrap();

    // Nothing is there: no repository, no state.
    let mut first = Daemon::start(&site, "first");
    wait("backup on a repository that did not exist", &mut first, |_| (count(&site, "backup") > 0).then_some(()));

    // Killed in the middle of a drill: the drill notices, tears down and is gone.
    wait("sandbox", &mut first, |_| (!containers(&site).is_empty()).then_some(()));
    let killed = first.said().rsplit_once("begun because=schedule proof").unwrap().1.lines().next().unwrap().to_owned();
    let killed = format!("proof{killed})");
    first.end("KILL");
    let mut first = Daemon::start(&site, "first");
    let again = |of: &(String, String, String)| (&*of.0, &*of.1, &*of.2) == ("drill", &*killed, "passed");
    wait("second try of the drill", &mut first, |_| scheduled(&site).iter().any(again).then_some(()));

    // A second daemon on the same repository says so, and takes over when the first is gone.
    let mut second = Daemon::start(&site, "second");
    wait("word of who works", &mut second, |second| {
        second.said().contains("another daemon works for demo-group").then_some(())
    });
    assert!(!second.said().contains("this daemon works for the tenant now"), "{}", second.said());
    let before = count(&site, "backup");
    first.end("KILL");
    wait("takeover", &mut second, |second| {
        second.said().contains("this daemon works for the tenant now").then_some(())
    });
    wait("backup by the second", &mut second, |_| (count(&site, "backup") > before).then_some(()));

    // Its state is lost: what was done is read again from evidence, and nothing is done twice.
    second.end("TERM");
    for file in ["daemon.sqlite", "daemon.sqlite-wal", "daemon.sqlite-shm"] {
        let _ = fs::remove_file(folder.join("second").join(file)); // a clean end leaves one of them
    }
    let before = count(&site, "backup");
    let mut second = Daemon::start(&site, "second");
    wait("backup after the loss", &mut second, |_| (count(&site, "backup") > before).then_some(()));
    let said = second.said();
    assert!(said.contains("statements told of runs that the state had no statement of"), "{said}");
    second.end("TERM");

    // Whatever was cut off has torn down by itself.
    let patience = Instant::now() + PATIENCE;
    while processes(&site) > 0 || !containers(&site).is_empty() {
        assert!(Instant::now() < patience, "left: {} processes, {:?}", processes(&site), containers(&site));
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut done: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (kind, because, outcome) in scheduled(&site) {
        *done.entry((kind, because)).or_default() += usize::from(outcome == "passed");
    }
    assert!(done.values().all(|times| *times <= 1), "done twice: {done:#?}");
    site.succeed(&["evidence", "verify"]);
}
