//! However a drill ends, the host is as it was: no container, network, volume, mount, process, temporary file or plaintext.
//!
//! Others may run drills on the same host at the same time, so everything is looked for by what belongs to this test: labels that
//! name its folder, paths below it, volumes that its containers had.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics fails, which is what it is for")]

#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use lifeboat_testkit::testbed;
use support::{Settings, Site};

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

fn shell(command: &str) -> String {
    let output = Command::new("bash").args(["-o", "pipefail", "-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Ids of this site's containers and networks, stopped ones too.
fn labelled(site: &Site, kind: &str) -> Vec<String> {
    let all = if kind == "container" { "-a" } else { "" };
    let lines = shell(&format!(
        "docker {kind} ls {all} --filter label=lifeboat.drill --format '{{{{.ID}}}} {{{{.Label \"lifeboat.work\"}}}}'"
    ));
    let below = site.dir.path().display().to_string();
    let ours = lines.lines().filter_map(|line| line.split_once(' ')).filter(|(_, work)| work.starts_with(&below));
    ours.map(|(id, _)| id.to_owned()).collect()
}

/// A drill that runs, with temporary files of its own.
struct Running {
    child: Child,
    temporary: PathBuf,
    volumes: BTreeSet<String>,
}

impl Running {
    fn start(site: &Site) -> Running {
        Running::with(site, &[])
    }

    fn with(site: &Site, arguments: &[&str]) -> Running {
        let temporary = site.dir.path().join("tmp");
        fs::create_dir_all(&temporary).unwrap();
        let identity = site.identity();
        let mut command = site.command(&["drill", "clinic", "--identity", identity.to_str().unwrap()]);
        command.args(arguments);
        let child = command.env("TMPDIR", &temporary).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Running { child, temporary, volumes: BTreeSet::new() }
    }

    /// Waits until so many containers run, and remembers their volumes.
    fn with_containers(&mut self, site: &Site, count: usize) {
        let patience = Instant::now() + PATIENCE;
        while labelled(site, "container").len() < count {
            assert!(self.child.try_wait().unwrap().is_none(), "the drill ended before it had {count} containers");
            assert!(Instant::now() < patience, "no {count} containers");
            std::thread::sleep(Duration::from_millis(50));
        }
        for id in labelled(site, "container") {
            let format = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Name}} {{end}}{{end}}";
            let names = Command::new("docker").args(["inspect", "-f", format, &id]).output().unwrap().stdout;
            self.volumes.extend(String::from_utf8(names).unwrap().split_whitespace().map(str::to_owned));
        }
    }

    fn signal(&self, signal: &str) {
        shell(&format!("kill -{signal} {}", self.child.id()));
    }

    fn end(&mut self) -> ExitStatus {
        let patience = Instant::now() + 2 * PATIENCE;
        while Instant::now() < patience {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.child.kill().unwrap();
        panic!("the drill did not end");
    }

    /// Everything that could be left, by name.
    fn left(&self, site: &Site) -> Vec<String> {
        let mut left = Vec::new();
        for kind in ["container", "network"] {
            left.extend(labelled(site, kind).into_iter().map(|id| format!("{kind} {id}")));
        }
        let volumes = shell("docker volume ls -q");
        left.extend(volumes.lines().filter(|name| self.volumes.contains(*name)).map(|name| format!("volume {name}")));
        let drills = site.dir.path().join("state/drills");
        for folder in [&drills, &self.temporary] {
            let entries = fs::read_dir(folder).into_iter().flatten();
            left.extend(entries.map(|entry| format!("file {}", entry.unwrap().path().display())));
        }
        left.extend(users_of(&drills));
        left
    }
}

/// Processes of the whole host, those in containers too, that have something below a folder mounted, open or as an argument.
fn users_of(folder: &Path) -> Vec<String> {
    let text = folder.display().to_string();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()) {
        let read = |name: &str| fs::read(process.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let links = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let mut open = links.filter_map(|entry| fs::read_link(entry.path()).ok());
        let uses = ["mountinfo", "cmdline"].iter().any(|name| read(name).is_ok_and(|found| found.contains(&text)))
            || open.any(|path| path.starts_with(folder));
        if uses && process.file_name().is_some_and(|name| name != "self" && name != "thread-self") {
            found.push(format!("process {}: {}", process.display(), read("cmdline").unwrap_or_default()));
        }
    }
    found
}

/// Docker reports a removal a moment before the last process is reaped.
fn nothing_left(running: &Running, site: &Site, how: &str) {
    let patience = Instant::now() + Duration::from_secs(15);
    let mut left = running.left(site);
    while !left.is_empty() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(200));
        left = running.left(site);
    }
    assert_eq!(left, [] as [String; 0], "left by a drill that {how}");
}

#[test]
fn nothing_is_left_however_a_drill_ends() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(&Settings::default());
    site.succeed(&["backup", "clinic"]);
    let rules = firewall();

    let mut passed = Running::start(&site);
    passed.with_containers(&site, 3);
    assert!(!users_of(&site.dir.path().join("state/drills")).is_empty(), "a drill that runs is seen by this test");
    assert_eq!(labelled(&site, "network"), [] as [String; 0], "a sandbox has no network");
    assert_eq!(firewall(), rules, "no rule for it");
    assert!(passed.end().success());
    nothing_left(&passed, &site, "passed");

    // A drill that fails, as it must: its data cannot be opened.
    let mut failed = Running::with(&site, &["--sabotage", "wrong-key"]);
    assert!(failed.end().success(), "the drill has failed, so that the control passes");
    nothing_left(&failed, &site, "failed");

    for (signal, containers) in [("INT", 1), ("TERM", 3)] {
        let mut stopped = Running::start(&site);
        stopped.with_containers(&site, containers);
        stopped.signal(signal);
        assert!(!stopped.end().success());
        nothing_left(&stopped, &site, signal);
    }

    let mut killed = Running::start(&site);
    killed.with_containers(&site, 3);
    killed.signal("KILL");
    killed.end();
    assert!(!killed.left(&site).is_empty(), "nobody has cleaned up yet");
    // The next drill does, before it begins with its own.
    let mut next = Running::start(&site);
    next.with_containers(&site, 1);
    assert!(next.end().success());
    next.volumes.extend(killed.volumes.clone());
    nothing_left(&next, &site, "was killed");
}

/// Rules that know the networks set aside for tests, or our name; those of others come and go.
fn firewall() -> String {
    shell("{ iptables-save 2>/dev/null || true; } | { grep -E '198\\.1[89]\\.|lifeboat' || true; }")
}

/// A host that may run one drill at a time: the second waits, says for whom, and passes.
#[test]
fn a_drill_waits_for_its_turn() {
    if !testbed::enabled() {
        return;
    }
    let settings = Settings { extra: "\n[drills]\nconcurrent = 1\n".to_owned(), ..Settings::default() };
    let site = Site::new(&settings);
    site.succeed(&["backup", "clinic"]);
    let mut first = Running::start(&site);
    first.with_containers(&site, 1);
    let identity = site.identity();
    let second = site.run(&["drill", "clinic", "--identity", identity.to_str().unwrap()]);
    assert!(second.status.success(), "{}", support::text(&second));
    assert!(support::text(&second).contains("drills.concurrent allows 1"), "{}", support::text(&second));
    assert!(first.child.try_wait().unwrap().is_some_and(|status| status.success()), "the first had ended by then");
    nothing_left(&first, &site, "was waited for");
}
