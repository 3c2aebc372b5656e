//! Policies that change, and daemons that meet.

use std::{collections::BTreeSet, fs, process::Command};

use jiff::{SignedDuration, Timestamp};

use super::{
    clock::Clock,
    effects::{self, Key},
    world::{self, LOG, Running, until},
};

/// Every ten minutes, which is every second.
const OFTEN: &str = "[schedule.often]\ndo = \"locks\"\ntiers = [\"gold\"]\ncron = \"*/10 * * * *\"\nmissed = { once_within = \"6h\" }\n";
const FACTOR: u32 = 600;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("lifeboat.toml"), world::config(&[("gold", 3)])).unwrap();
    world::settings(folder.path(), "a", "runs = 4");
    world::schedules(folder.path(), OFTEN);
    Clock::begin(folder.path(), "2026-05-04T08:00:00Z".parse().unwrap(), FACTOR);
    folder
}

/// Due runs of a schedule that were done to their end.
fn done(folder: &std::path::Path, schedule: &str) -> Vec<Key> {
    let all = effects::read(&folder.join(LOG)).into_values();
    let done =
        all.filter(|effect| effect.key.schedule == schedule && effect.ended.as_ref().is_some_and(|it| it.1 == "end"));
    done.map(|effect| effect.key).collect()
}

fn goes_on(folder: &std::path::Path, schedule: &str) {
    let before = done(folder, schedule).len();
    until(&format!("more runs of {schedule}"), || (done(folder, schedule).len() >= before + 4).then_some(()));
}

pub fn a_bad_policy_is_refused_whole() {
    let folder = folder();
    let path = folder.path();
    let daemon = Running::begin(path, "a");
    goes_on(path, "often");

    let good = "[schedule.extra]\ndo = \"signs\"\ntiers = [\"gold\"]\ncron = \"*/10 * * * *\"\n";
    world::schedules(path, &format!("{OFTEN}{}", good.replace("*/10", "*/99")));
    let troubles = || fs::read_to_string(world::troubles(path, "a")).unwrap_or_default();
    let told = until("the problem to be told", || {
        troubles().lines().find(|line| line.starts_with("policies: ")).map(str::to_owned)
    });
    assert!(told.contains("the old ones count") && told.contains("99"), "{told}");
    goes_on(path, "often");
    assert_eq!(done(path, "extra"), [], "nothing of a bad file counts");

    world::schedules(path, &format!("{OFTEN}{good}"));
    until("the good file to count", || (!done(path, "extra").is_empty()).then_some(()));
    assert!(!troubles().contains("policies: "), "{}", troubles());

    world::schedules(path, good);
    until("the removed schedule to rest", || {
        let before = done(path, "often").len();
        goes_on(path, "extra");
        (done(path, "often").len() == before).then_some(())
    });
    daemon.stop();
}

pub fn one_daemon_a_state_folder() {
    let folder = folder();
    let daemon = Running::begin(folder.path(), "a");
    goes_on(folder.path(), "often");
    let second =
        Command::new(std::env::current_exe().unwrap()).arg("daemon").arg(folder.path()).arg("a").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&second.stdout), "busy\n");
    goes_on(folder.path(), "often");
    daemon.stop();
}

pub fn one_daemon_leads_and_another_takes_over() {
    let folder = folder();
    let path = folder.path();
    fs::write(path.join("lead"), "").unwrap();
    world::settings(path, "b", "runs = 4");
    let first = Running::begin(path, "a");
    goes_on(path, "often");

    let second = Running::begin(path, "b");
    until("the second to say that the first leads", || {
        let told = fs::read_to_string(world::troubles(path, "b")).unwrap_or_default();
        told.contains("leader: another daemon works for acme: a").then_some(())
    });
    goes_on(path, "often");
    assert_eq!(world::rows(path, "b").len(), 0, "the second does nothing");

    first.kill();
    until("the second to lead", || (fs::read_to_string(path.join("lead")).unwrap() == "b").then_some(()));
    goes_on(path, "often");
    second.stop();

    let all = done(path, "often");
    let known: BTreeSet<&Key> = all.iter().collect();
    assert_eq!(known.len(), all.len(), "nothing was done twice");
    let told: BTreeSet<Key> = ["a", "b"]
        .iter()
        .flat_map(|name| world::rows(path, name))
        .filter(|row| row.reason.is_some())
        .map(|row| Key { schedule: row.schedule, instance: row.instance, due: row.due })
        .collect();
    for number in 0..3 {
        let instance = format!("gold-{number}");
        let dues: Vec<Timestamp> =
            all.iter().filter(|key| key.instance == instance).map(|key| key.due.parse().unwrap()).collect();
        let (mut due, last) = (*dues.iter().min().unwrap(), *dues.iter().max().unwrap());
        while due < last {
            let key = Key { schedule: "often".to_owned(), instance: instance.clone(), due: due.to_string() };
            assert!(known.contains(&key) || told.contains(&key), "{key:?} was neither done nor reported");
            due = due.checked_add(SignedDuration::from_mins(10)).unwrap();
        }
    }
}
