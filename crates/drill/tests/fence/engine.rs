//! An engine that is restarted in the middle of a drill. It is one of the test's own, so that nobody else's containers are touched: with
//! its own folders, without a bridge and without a rule of the firewall, which a sandbox does not need.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use lifeboat_drill::{DrillRequest, ladder::Observer};
use lifeboat_model::check::{Outcome, Verdict};
use tokio_util::sync::CancellationToken;

use crate::origin::{POSTGRES_IMAGE, check, enabled, failed, print, request, shell, work_root};

/// A second engine. It is stopped when this is dropped.
struct Engine {
    folder: tempfile::TempDir,
    daemon: Mutex<Option<Child>>,
}

impl Engine {
    fn new() -> Engine {
        let engine = Engine { folder: tempfile::tempdir().unwrap(), daemon: Mutex::default() };
        engine.start();
        shell(&format!("docker save {POSTGRES_IMAGE} | docker -H {} load", engine.address())).unwrap();
        engine
    }

    fn address(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.path().display())
    }

    fn start(&self) {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let log = std::fs::File::options().create(true).append(true).open(at("log")).unwrap();
        // In a network namespace of its own: an engine without a bridge removes the default one of whoever is there.
        let daemon = Command::new("unshare")
            .args(["--net", "dockerd", "-H", &self.address(), "--data-root", &at("data"), "--exec-root", &at("exec")])
            .args(["--pidfile", &at("pid"), "--shutdown-timeout", "1"])
            .args(["--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"])
            .args([
                "--containerd-namespace",
                "lifeboat-test",
                "--containerd-plugins-namespace",
                "lifeboat-test-plugins",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.daemon() = Some(daemon);
        let patience = Instant::now() + Duration::from_secs(60);
        while shell(&format!("docker -H {} version", self.address())).is_err() {
            assert!(Instant::now() < patience, "{}", std::fs::read_to_string(at("log")).unwrap());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn daemon(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks it to end, and ends it if it does not.
    fn stop(&self) {
        let Some(mut daemon) = self.daemon().take() else { return };
        let _ = shell(&format!("kill -TERM {}", daemon.id()));
        let patience = Instant::now() + Duration::from_secs(60);
        while matches!(daemon.try_wait(), Ok(None)) {
            if Instant::now() > patience {
                let _ = daemon.kill();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Processes that an engine which had to be killed leaves: they name its folder.
    fn end_survivors(&self) {
        let folder = self.folder.path().display().to_string();
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&words).contains(&folder) {
                let _ = shell(&format!("kill -KILL {}", process.file_name().display()));
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
        self.end_survivors();
        // What the engine leaves mounted when it ends would keep its folder.
        let _ = shell(&format!(
            "grep -o '{}[^ ]*' /proc/mounts | sort -r | xargs -r -n 1 umount -l",
            self.folder.path().display()
        ));
    }
}

/// When: the containers run, and PostgreSQL serves the copy.
const PHASE: &str = "check data";

/// Stops the engine when that phase begins, and starts it again a little later, when the drill has gone on without it.
struct Restart {
    engine: Arc<Engine>,
    done: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Observer for Restart {
    fn phase(&self, name: &str) {
        let mut done = self.done.lock().unwrap();
        if name == PHASE && done.is_none() {
            self.engine.stop();
            let engine = Arc::clone(&self.engine);
            *done = Some(std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(6));
                engine.start();
            }));
        }
    }
}

impl Restart {
    /// Waits until the engine is there again; whether its phase was reached.
    fn finish(&self) -> bool {
        let restarting = self.done.lock().unwrap_or_else(PoisonError::into_inner).take();
        restarting.is_some_and(|restarting| restarting.join().is_ok())
    }
}

impl Drop for Restart {
    /// A test that fails meanwhile must not leave an engine that is started after its end.
    fn drop(&mut self) {
        self.finish();
    }
}

/// What the engine of this host keeps in the kernel: its bridges, by name.
fn bridges() -> String {
    shell("ip -o link show type bridge | awk '{print $2}' | grep -E '^docker0' || true").unwrap()
}

fn containers_left(address: &str) -> String {
    shell(&format!("docker -H {address} ps -aq; docker -H {address} volume ls -q; ")).unwrap()
}

fn mounted_below(folder: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let is_below = |line: &&str| line.contains(&folder.display().to_string());
    mounts.lines().filter(is_below).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_whose_engine_is_restarted_is_incomplete_and_leaves_nothing() {
    if !enabled() {
        return;
    }
    let testbed = "docker ps -q --filter name=lifeboat-testbed | sort";
    let (others, bridge) = (shell(testbed).unwrap(), bridges());
    let engine = Arc::new(tokio::task::spawn_blocking(Engine::new).await.unwrap());
    let work = work_root();
    let observer = Arc::new(Restart { engine: Arc::clone(&engine), done: Mutex::default() });
    let mut request = DrillRequest { docker: Some(engine.address()), ..request(work.path()) };
    // Odoo is not reached: what its image is does not matter.
    request.config.odoo_image = POSTGRES_IMAGE.into();
    let report = lifeboat_drill::run(request, observer.clone(), &CancellationToken::new()).await.unwrap();
    print(&report);
    assert!(observer.finish(), "{PHASE} was not reached, or the engine did not come back");
    assert_eq!((report.outcome, failed(&report)), (Outcome::Incomplete, Vec::new()));
    match &check(&report, "use.login").verdict {
        Verdict::NotExecuted(why) => assert!(why.contains("Docker engine went away"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(check(&report, "teardown.proof").verdict, Verdict::Passed);
    assert_eq!(containers_left(&engine.address()), "");
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0, "no plaintext is left");
    assert_eq!(mounted_below(work.path()), [] as [String; 0]);
    drop(observer);
    assert_eq!(shell(testbed).unwrap(), others, "nobody else's containers noticed");
    assert_eq!(bridges(), bridge, "the other engine's bridge is where it was");
    let folder = engine.folder.path().to_owned();
    drop(engine);
    assert!(!folder.exists() && mounted_below(&folder).is_empty(), "nothing of the second engine is left");
    shell("curl -sf -o /dev/null --max-time 10 http://127.0.0.1:58069/web/health")
        .expect("published ports still answer");
}
