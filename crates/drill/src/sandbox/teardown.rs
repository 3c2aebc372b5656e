//! Removing a sandbox, and proving that nothing is left; removing what earlier drills left when they were killed.
//!
//! It goes by labels, not by memory. An orphan is a sandbox whose owner is gone: the owner's host is this one and its process
//! does not live any more, or its deadline is long past. A live drill of somebody else is never touched.

use std::{
    collections::HashMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use jiff::Timestamp;
use lifeboat_model::id::RunId;
use serde::{Deserialize, Serialize};

use super::{Docker, LABEL};
use crate::error::{Error, Result};

/// How long after its deadline a drill of another host counts as dead.
const GRACE: Duration = Duration::from_secs(600);

/// The prefix of a drill's folder, before the run's id.
pub(super) const FOLDER_PREFIX: &str = "drill-";

/// In a drill's folder: who owns it.
const OWNER_FILE: &str = "owner";

/// How lines of [`Teardown::left`] begin.
const CONTAINER: &str = "container ";
const NETWORK: &str = "network ";
const VOLUME: &str = "volume ";
const FOLDER: &str = "folder ";

/// What a teardown did, and what it found afterwards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Teardown {
    /// Containers removed.
    pub containers: usize,
    /// Networks removed.
    pub networks: usize,
    /// Anonymous volumes removed with their containers.
    pub volumes: usize,
    /// What is still there; empty is the proof.
    pub left: Vec<String>,
}

impl Teardown {
    /// How many containers, networks, volumes and folders are left.
    pub(crate) fn counts(&self) -> [u64; 4] {
        [CONTAINER, NETWORK, VOLUME, FOLDER]
            .map(|kind| self.left.iter().filter(|line| line.starts_with(kind)).count() as u64)
    }
}

/// Who owns a sandbox: a process, told apart from a later one with the same number by its start time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    host: String,
    pid: u32,
    start: u64,
}

impl Owner {
    /// This process.
    pub fn myself() -> Owner {
        let pid = std::process::id();
        Owner { host: host_id(), pid, start: start_time(pid).unwrap_or(0) }
    }

    fn is_gone(&self) -> bool {
        self.host == host_id() && has_ended(Path::new("/proc"), self.pid, self.start)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.host, self.pid, self.start)
    }
}

impl FromStr for Owner {
    type Err = ();
    fn from_str(text: &str) -> Result<Owner, ()> {
        let mut parts = text.trim().split('/');
        let (host, pid, start) = (parts.next().ok_or(())?, parts.next().ok_or(())?, parts.next().ok_or(())?);
        Ok(Owner { host: host.to_owned(), pid: pid.parse().map_err(|_| ())?, start: start.parse().map_err(|_| ())? })
    }
}

/// The name of the host and of its process numbers: two containers of one host do not see each other's processes.
fn host_id() -> String {
    let name = rustix::system::uname();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{}:{}", name.nodename().to_string_lossy(), namespace.display()).replace('/', "-")
}

/// Whether a process has ended for certain. One that cannot be seen may only be hidden (`hidepid`), or `/proc` is none.
fn has_ended(proc: &Path, pid: u32, start: u64) -> bool {
    let stat = |pid: u32| fs::read_to_string(proc.join(pid.to_string()).join("stat"));
    match stat(pid) {
        Ok(text) => start_time_in(&text) != Some(start) && start != 0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => stat(1).is_ok(),
        Err(_) => false,
    }
}

/// Field 22 of `/proc/<pid>/stat`, in clock ticks since boot; none when there is no such process.
fn start_time(pid: u32) -> Option<u64> {
    start_time_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// A killed process that nobody has waited for yet still has a line, with state Z: it is dead all the same.
fn start_time_in(stat: &str) -> Option<u64> {
    // The second field is the program's name in brackets and may hold anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// The folder of a drill below `root`.
pub fn folder(root: &Path, run: RunId) -> PathBuf {
    root.join(format!("{FOLDER_PREFIX}{run}"))
}

/// Makes a drill's folder, for nobody else to look into, and signs it with its owner.
pub fn make_folder(root: &Path, run: RunId) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::create_dir_all(root).map_err(Error::io("cannot create", root))?;
    let path = folder(root, run);
    fs::DirBuilder::new().mode(0o700).create(&path).map_err(Error::io("cannot create", &path))?;
    let owner = path.join(OWNER_FILE);
    fs::write(&owner, Owner::myself().to_string()).map_err(Error::io("cannot write", &owner))?;
    Ok(path)
}

/// A request to the engine that was under way when its drill was stopped has come true after this time.
const LATE: Duration = Duration::from_secs(2);

/// [`remove`] for a drill that was stopped in the middle: looks again for what was only being made.
pub async fn remove_interrupted(docker: Option<&Docker>, run: RunId, work: &Path) -> Teardown {
    let first = remove(docker, run, work).await;
    tokio::time::sleep(LATE).await;
    let late = remove(docker, run, work).await;
    Teardown {
        containers: first.containers + late.containers,
        networks: first.networks + late.networks,
        volumes: first.volumes + late.volumes,
        // What the last look does not find is gone; a volume's name is known to the first alone.
        left: first.left.into_iter().filter(|line| line.starts_with(VOLUME)).chain(late.left).collect(),
    }
}

/// Removes everything of one run that has come to its end by itself, so that no request to the engine is under way, and looks
/// whether anything is left. Does not stop at the first thing that fails.
pub async fn remove(docker: Option<&Docker>, run: RunId, work: &Path) -> Teardown {
    let mut done = Teardown::default();
    let containers = async {
        if let Some(docker) = docker {
            remove_labelled(docker, &format!("{LABEL}={run}"), 1, &mut done).await;
        }
    };
    let ((), first) = tokio::join!(containers, remove_folder(work));
    // A container that was still running may have written into it until it was gone.
    let folder = if first.is_err() || work.exists() { remove_folder(work).await } else { first };
    if let Err(error) = folder {
        done.left.push(format!("{FOLDER}{}: {error}", work.display()));
    }
    done
}

/// `looks`: so many in a row must find nothing.
async fn remove_labelled(docker: &Docker, label: &str, looks: u32, done: &mut Teardown) {
    let mut volumes = Vec::new();
    let mut clean = 0;
    for attempt in 0_u32..20 {
        match sweep(docker, label, &mut volumes, done).await {
            Ok(0) => clean += 1,
            // What was removed is gone: the next look can be at once, unless somebody else is still removing it.
            Ok(_) if attempt == 0 => continue,
            Ok(_) => clean = 0,
            Err(error) => {
                clean = 0;
                tracing::warn!(%error, attempt, "teardown: trying again");
            }
        }
        if clean == looks {
            break;
        }
        tokio::time::sleep(Duration::from_millis(if clean > 0 { 150 } else { 300 })).await;
    }
    if clean < looks {
        done.left.extend(leftovers(docker, label).await);
    }
    for volume in volumes {
        done.volumes += 1;
        let left = match docker.volume_exists(&volume).await {
            Ok(true) => docker.remove_volume(&volume).await.err().map(|error| error.to_string()),
            Ok(false) => None,
            Err(error) => Some(error.to_string()),
        };
        done.left.extend(left.map(|error| format!("{VOLUME}{volume}: {error}")));
    }
}

/// What still carries the label, by name, or that it is not known.
async fn leftovers(docker: &Docker, label: &str) -> Vec<String> {
    let (containers, networks) = tokio::join!(docker.containers(label), docker.networks(label));
    let mut left = Vec::new();
    for (kind, found) in [(CONTAINER, containers), (NETWORK, networks)] {
        match found {
            Ok(found) => left.extend(found.into_iter().map(|(id, _)| format!("{kind}{id}"))),
            Err(error) => left.push(format!("not known whether a {kind}is left: {error}")),
        }
    }
    left
}

/// Removes what carries the label; gives how much was found.
async fn sweep(docker: &Docker, label: &str, volumes: &mut Vec<String>, done: &mut Teardown) -> Result<usize> {
    let containers = docker.containers(label).await?;
    for (id, _) in &containers {
        for volume in docker.volumes_of(id).await.unwrap_or_default() {
            if !volumes.contains(&volume) {
                volumes.push(volume);
            }
        }
    }
    let removals = containers.iter().map(|(id, _)| docker.remove_container(id));
    for removed in futures::future::join_all(removals).await {
        removed?;
        done.containers += 1;
    }
    let networks = docker.networks(label).await?;
    for (id, _) in &networks {
        docker.remove_network(id).await?;
        done.networks += 1;
    }
    Ok(containers.len() + networks.len())
}

/// Removes the folder. Tasks that were stopped in the middle may still write a moment: again, a few times.
async fn remove_folder(work: &Path) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..20 {
        let path = work.to_owned();
        last = match tokio::task::spawn_blocking(move || fs::remove_dir_all(path)).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(result) => result,
            Err(error) => Err(io::Error::other(error)),
        };
        if last.is_ok() && !work.exists() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    last.and(if work.exists() { Err(io::Error::other("it is filled again and again")) } else { Ok(()) })
}

/// Removes the sandboxes of drills that died. Gives a line for each, for the report: what was removed, and folders that could
/// not be, because they are another user's for example, which is no reason to do without this drill.
pub async fn orphans(docker: &Docker, root: &Path, now: Timestamp) -> Result<Vec<String>> {
    let mut dead: HashMap<String, Option<PathBuf>> = HashMap::new();
    let objects = [docker.containers(LABEL).await?, docker.networks(LABEL).await?];
    for labels in objects.into_iter().flatten().map(|(_, labels)| labels) {
        if let Some(run) = labels.get(LABEL).filter(|_| is_dead(&labels, now)) {
            dead.insert(run.clone(), labels.get("lifeboat.work").map(PathBuf::from));
        }
    }
    let mut removed = Vec::new();
    for (run, work) in dead {
        let mut done = Teardown::default();
        // A request that was under way when its drill was killed may still come true.
        remove_labelled(docker, &format!("{LABEL}={run}"), 2, &mut done).await;
        let kept = match work.filter(|work| is_drill_folder(work, root, &run)) {
            Some(work) => remove_folder(&work).await.err(),
            None => None,
        };
        tracing::info!(%run, containers = done.containers, networks = done.networks, "removed the sandbox of a dead drill");
        removed.push(format!(
            "{run}: {} containers, {} networks, {} volumes removed",
            done.containers, done.networks, done.volumes
        ));
        removed.extend(kept.map(|error| format!("{run}: its folder cannot be removed: {error}")));
    }
    removed.extend(orphan_folders(root).await);
    Ok(removed)
}

fn is_dead(labels: &HashMap<String, String>, now: Timestamp) -> bool {
    let owner: Option<Owner> = labels.get("lifeboat.owner").and_then(|text| text.parse().ok());
    let deadline: Option<Timestamp> = labels.get("lifeboat.deadline").and_then(|text| text.parse().ok());
    let overdue = deadline.is_none_or(|deadline| now.as_second() > deadline.as_second() + GRACE.as_secs() as i64);
    owner.is_some_and(|owner| owner.is_gone()) || overdue
}

/// A label could name any folder: only one that is ours, below our root, is ever removed.
fn is_drill_folder(work: &Path, root: &Path, run: &str) -> bool {
    work.parent() == Some(root)
        && work.file_name().and_then(|name| name.to_str()) == Some(&format!("{FOLDER_PREFIX}{run}"))
}

/// A folder is signed at once; who was killed before that never will.
fn is_unsigned_long_ago(folder: &Path) -> bool {
    let made = fs::metadata(folder).and_then(|metadata| metadata.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > GRACE))
}

/// Folders whose drill died before it made any container.
async fn orphan_folders(root: &Path) -> Vec<String> {
    let mut removed = Vec::new();
    let Ok(entries) = fs::read_dir(root) else { return removed };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_ours = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.strip_prefix(FOLDER_PREFIX).is_some_and(|run| run.parse::<RunId>().is_ok()));
        let owner: Option<Owner> = fs::read_to_string(path.join(OWNER_FILE)).ok().and_then(|text| text.parse().ok());
        if is_ours && owner.map_or_else(|| is_unsigned_long_ago(&path), |owner| owner.is_gone()) {
            removed.push(match remove_folder(&path).await {
                Ok(()) => format!("folder {} removed", path.display()),
                Err(error) => format!("folder {} cannot be removed: {error}", path.display()),
            });
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(owner: &str, deadline: &str) -> HashMap<String, String> {
        HashMap::from([("lifeboat.owner".into(), owner.into()), ("lifeboat.deadline".into(), deadline.into())])
    }

    #[test]
    fn only_the_dead_are_orphans() {
        let now: Timestamp = "2026-11-21T20:00:00Z".parse().unwrap();
        let later = "2026-11-21T20:30:00Z";
        let myself = Owner::myself();
        assert!(!is_dead(&labels(&myself.to_string(), later), now));
        let reused = Owner { start: myself.start + 1, ..myself.clone() };
        assert!(is_dead(&labels(&reused.to_string(), later), now), "same number, other process");
        let elsewhere = Owner { host: "elsewhere".into(), pid: 1, start: 1 };
        assert!(!is_dead(&labels(&elsewhere.to_string(), later), now));
        assert!(is_dead(&labels(&elsewhere.to_string(), "2026-11-21T19:40:00Z"), now), "long past its deadline");
    }

    #[test]
    fn an_owner_survives_its_text_form() {
        let myself = Owner::myself();
        assert_eq!(myself.to_string().parse(), Ok(myself.clone()));
        assert!(!myself.is_gone());
    }

    #[test]
    fn a_process_that_cannot_be_seen_has_not_ended() {
        let proc = tempfile::tempdir().unwrap();
        let put = |pid: u32, state: &str, start: u64| {
            let dir = proc.path().join(pid.to_string());
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("stat"), format!("{pid} (a) b) {state} {}{start} 0", "0 ".repeat(18))).unwrap();
        };
        assert!(!has_ended(proc.path(), 40, 7), "there is no /proc to ask");
        put(40, "S", 7);
        assert!(!has_ended(proc.path(), 40, 7) && has_ended(proc.path(), 40, 6) && !has_ended(proc.path(), 40, 0));
        put(40, "Z", 7);
        assert!(has_ended(proc.path(), 40, 7), "nobody has waited for it yet");
        assert!(!has_ended(proc.path(), 41, 7), "others' processes are hidden");
        put(1, "S", 1);
        assert!(has_ended(proc.path(), 41, 7), "init is seen, and it is not");
    }

    #[test]
    fn a_zombie_is_dead() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 602995 20";
        assert_eq!(start_time_in(&format!("7 (a) b) S {rest}")), Some(602_995));
        assert_eq!(start_time_in(&format!("7 (a) b) Z {rest}")), None);
        assert_eq!(start_time_in(""), None);
    }

    #[test]
    fn a_label_cannot_name_a_foreign_folder() {
        let root = Path::new("/var/lib/lifeboat/drills");
        assert!(is_drill_folder(&root.join("drill-00ff"), root, "00ff"));
        for other in ["/", "/var/lib/lifeboat/drills", "/var/lib/lifeboat/drills/drill-00ff/..", "/etc/drill-00ff"] {
            assert!(!is_drill_folder(Path::new(other), root, "00ff"), "{other}");
        }
    }

    #[test]
    fn what_is_left_is_counted_by_kind() {
        let lines =
            ["container ab", "container cd", "network ef", "volume gh: busy", "folder /work: denied", "not known"];
        let left = lines.map(str::to_owned).to_vec();
        assert_eq!(Teardown { left, ..Teardown::default() }.counts(), [2, 1, 1, 1]);
    }

    #[tokio::test]
    async fn the_folder_of_a_dead_drill_goes_and_a_live_one_stays() {
        let root = tempfile::tempdir().unwrap();
        let live = make_folder(root.path(), RunId([1; 8])).unwrap();
        let dead = make_folder(root.path(), RunId([2; 8])).unwrap();
        let gone = Owner { start: 1, ..Owner::myself() };
        fs::write(dead.join(OWNER_FILE), gone.to_string()).unwrap();
        let foreign = root.path().join("drill-of-mine");
        fs::create_dir(&foreign).unwrap();
        assert_eq!(orphan_folders(root.path()).await.len(), 1);
        assert!(live.exists() && !dead.exists() && foreign.exists());
    }
}
