//! What a thousand instances cost while nothing is to be done: `make bench`.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    clock::Clock,
    world::{self, Running},
};

/// Once a day each, and two more.
const SCHEDULES: &str = r#"
time_zone = "Europe/Berlin"
[schedule.backup]
do = "backup"
instances = "all"
cron = "30 1 * * *"
jitter = "2h"
[schedule.drill]
do = "drill"
instances = "all"
cron = "0 3 * * sun"
jitter = "2h"
[schedule.locks]
do = "locks"
instances = "all"
after = "backup"
"#;
const SETTLES: Duration = Duration::from_secs(30);
const MEASURED: Duration = Duration::from_secs(60);

/// What Linux counts in, on every machine (USER_HZ).
const TICKS: u64 = 100;

/// Measures and judges.
pub fn main() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("lifeboat.toml"), world::config(&[("gold", 200), ("bronze", 800)])).unwrap();
    world::settings(folder.path(), "whole", "runs = 4");
    world::schedules(folder.path(), SCHEDULES);
    // At noon nothing is due for hours.
    Clock::begin(folder.path(), "2026-05-04T10:00:00Z".parse().unwrap(), 1);
    let daemon = Running::begin(folder.path(), "whole");
    std::thread::sleep(SETTLES);
    let (before, since) = (cpu(daemon.0.id()), Instant::now());
    std::thread::sleep(MEASURED);
    let share = (cpu(daemon.0.id()) - before).as_secs_f64() / since.elapsed().as_secs_f64();
    let memory = daemon.memory().unwrap() / 1024;
    daemon.stop();
    println!("a thousand idle instances: {:.2} % of a core, {memory} MiB", share * 100.0);
    assert!(share < 0.01, "less than 1 % of a core is promised");
    assert!(memory < 150, "less than 150 MiB are promised");
}

/// Time that a process has had of the processors.
fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|index: &usize| fields[*index].parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// The whole daemon, API and pages included.
pub async fn whole(folder: &Path, clock: Clock, cancel: tokio_util::sync::CancellationToken) {
    let surroundings = super::child::surroundings(folder, "whole", clock);
    let surroundings = lifeboat_daemon::Surroundings { ready: Arc::new(|_| {}), ..surroundings };
    let sources = lifeboat_daemon::Sources { settings: Some(folder.join("whole.toml")), config: None };
    lifeboat_daemon::run(sources, surroundings, cancel).await.unwrap();
}
