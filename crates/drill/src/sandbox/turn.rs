//! Whose turn it is: all drills on a host share a budget, and more of them wait.
//!
//! Every drill has a file in its own folder that it keeps locked while it lives. The kernel gives the lock back when the process
//! ends, however it ends, so that a dead drill never holds a place. Who comes first is first; the decision is made under a lock of
//! the folder of all drills, which is held for a moment.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use lifeboat_model::{config::DrillsConfig, id::RunId, size::ByteSize};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::teardown::FOLDER_PREFIX;
use crate::error::{Error, Result};

/// In a drill's folder.
const FILE: &str = "turn";

/// How often those who wait look again.
const LOOK: Duration = Duration::from_millis(500);

/// What a drill asks for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The drill.
    pub run: RunId,
    /// For others to read: whose drill it is.
    pub instance: String,
    /// What its containers may have together.
    pub memory: ByteSize,
}

/// What a drill's file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    run: RunId,
    instance: String,
    memory: u64,
    /// When it asked.
    since: Timestamp,
    runs: bool,
}

/// A place among the drills that run. It is given back when this is dropped, or the process ends.
#[derive(Debug)]
pub struct Turn {
    _file: File,
}

/// Asks for a turn, and waits for it. `waiting` is told for whom, whenever that changes.
pub async fn take(root: &Path, wish: &Wish, budget: DrillsConfig, mut waiting: impl FnMut(&str)) -> Result<Turn> {
    if let Some(memory) = budget.memory.filter(|memory| *memory < wish.memory) {
        return Err(Error::Budget { instance: wish.instance.clone(), needed: wish.memory, memory });
    }
    let mut queued = Queued::new(root, wish)?;
    let mut told = String::new();
    loop {
        match queued.look(budget)? {
            None => return Ok(Turn { _file: queued.file }),
            Some(why) if why != told => {
                waiting(&why);
                told = why;
            }
            Some(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A drill that is known to all others, and may have to wait.
struct Queued {
    root: PathBuf,
    path: PathBuf,
    file: File,
    place: Place,
}

impl Queued {
    fn new(root: &Path, wish: &Wish) -> Result<Queued> {
        let path = root.join(format!("{FOLDER_PREFIX}{}", wish.run)).join(FILE);
        let _all = Everybody::lock(root)?;
        let file = File::create_new(&path).map_err(Error::io("cannot create", &path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|error| Error::io("cannot lock", &path)(error.into()))?;
        let place = Place {
            run: wish.run,
            instance: wish.instance.clone(),
            memory: wish.memory.0,
            // Read under the lock: the order of these times is the order of those who asked.
            since: Timestamp::now(),
            runs: false,
        };
        let queued = Queued { root: root.to_owned(), path, file, place };
        queued.write()?;
        Ok(queued)
    }

    fn write(&self) -> Result<()> {
        let text = serde_json::to_vec(&self.place).map_err(|error| Error::Task(error.to_string()))?;
        fs::write(&self.path, text).map_err(Error::io("cannot write", &self.path))
    }

    /// Takes the turn if it is ours; else gives why not.
    fn look(&mut self, budget: DrillsConfig) -> Result<Option<String>> {
        let _all = Everybody::lock(&self.root)?;
        let others = living(&self.root, self.place.run);
        let why = must_wait(&self.place, &others, budget);
        if why.is_none() {
            self.place.runs = true;
            self.write()?;
        }
        Ok(why)
    }
}

/// The lock of the folder of all drills.
struct Everybody {
    _folder: File,
}

impl Everybody {
    fn lock(root: &Path) -> Result<Everybody> {
        let folder = File::open(root).map_err(Error::io("cannot open", root))?;
        flock(&folder, FlockOperation::LockExclusive).map_err(|error| Error::io("cannot lock", root)(error.into()))?;
        Ok(Everybody { _folder: folder })
    }
}

/// What the drills that live say. A file whose lock can be had belongs to a dead one.
fn living(root: &Path, except: RunId) -> Vec<Place> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let files = entries.flatten().map(|entry| entry.path().join(FILE));
    let alive = |path: &PathBuf| {
        File::open(path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
    };
    let read = |path: PathBuf| serde_json::from_slice::<Place>(&fs::read(path).ok()?).ok();
    files.filter(alive).filter_map(read).filter(|place| place.run != except).collect()
}

/// Why a drill has to wait, and for whom; none when it is its turn.
fn must_wait(mine: &Place, others: &[Place], budget: DrillsConfig) -> Option<String> {
    let running: Vec<&Place> = others.iter().filter(|other| other.runs).collect();
    let names = |places: &[&Place]| {
        let name = |place: &&Place| format!("{} ({})", place.instance, ByteSize(place.memory));
        places.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    if running.len() >= budget.concurrent as usize {
        return Some(format!(
            "{} drills run: {}; drills.concurrent allows {}",
            running.len(),
            names(&running),
            budget.concurrent
        ));
    }
    let used: u64 = running.iter().map(|place| place.memory).sum();
    if let Some(memory) = budget.memory.filter(|memory| used.saturating_add(mine.memory) > memory.0) {
        return Some(format!(
            "{} of memory wanted, and {} of drills.memory = {memory} are in use: {}",
            ByteSize(mine.memory),
            ByteSize(used),
            names(&running)
        ));
    }
    let before = |other: &&Place| !other.runs && (other.since, other.run.0) < (mine.since, mine.run.0);
    let first: Vec<&Place> = others.iter().filter(before).collect();
    (!first.is_empty()).then(|| format!("others came first: {}", names(&first)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::teardown::make_folder;

    fn wish(root: &Path, number: u8, memory: u64) -> Wish {
        let run = RunId([number; 8]);
        make_folder(root, run).unwrap();
        Wish { run, instance: format!("clinic-{number}"), memory: ByteSize(memory << 30) }
    }

    fn budget(concurrent: u32, memory: Option<u64>) -> DrillsConfig {
        DrillsConfig { concurrent, memory: memory.map(|memory| ByteSize(memory << 30)) }
    }

    #[tokio::test]
    async fn one_too_many_waits_and_is_told_for_whom() {
        let root = tempfile::tempdir().unwrap();
        let two = budget(2, None);
        let first = take(root.path(), &wish(root.path(), 1, 2), two, |_| panic!("nobody is there")).await.unwrap();
        let second = take(root.path(), &wish(root.path(), 2, 2), two, |_| panic!("there is room")).await.unwrap();
        let (told, mut telling) = tokio::sync::mpsc::unbounded_channel();
        let (path, third) = (root.path().to_owned(), wish(root.path(), 3, 2));
        let waiting =
            tokio::spawn(
                async move { take(&path, &third, two, |why| told.send(why.to_owned()).unwrap()).await.unwrap() },
            );
        let why = telling.recv().await.unwrap();
        assert!(why.contains("clinic-1") && why.contains("clinic-2") && why.contains("allows 2"), "{why}");
        assert!(!waiting.is_finished());
        drop(first);
        drop(waiting.await.unwrap());
        drop(second);
    }

    #[tokio::test]
    async fn memory_is_shared_and_a_drill_that_never_fits_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let eight = budget(9, Some(8));
        let refused = take(root.path(), &wish(root.path(), 1, 9), eight, |_| {}).await.unwrap_err();
        assert!(refused.to_string().contains("drills.memory"), "{refused}");
        let _first = take(root.path(), &wish(root.path(), 2, 6), eight, |_| panic!("there is room")).await.unwrap();
        let mut second = Queued::new(root.path(), &wish(root.path(), 3, 4)).unwrap();
        let why = second.look(eight).unwrap().unwrap();
        assert!(why.contains("clinic-2 (6.0 GiB)") && why.contains("8.0 GiB"), "{why}");
        // Who comes later does not overtake, though there is room for it.
        let mut third = Queued::new(root.path(), &wish(root.path(), 4, 1)).unwrap();
        assert!(third.look(eight).unwrap().unwrap().contains("clinic-3"));
        drop(second);
        assert_eq!(third.look(eight).unwrap(), None);
    }

    #[test]
    fn the_dead_hold_no_place() {
        let root = tempfile::tempdir().unwrap();
        let mut dead = Queued::new(root.path(), &wish(root.path(), 1, 2)).unwrap();
        assert_eq!(dead.look(budget(1, None)).unwrap(), None);
        let mut next = Queued::new(root.path(), &wish(root.path(), 2, 2)).unwrap();
        assert!(next.look(budget(1, None)).unwrap().is_some());
        // As when its process ends: the file stays, the lock does not.
        drop(dead);
        assert!(root.path().join("drill-0101010101010101/turn").exists());
        assert_eq!(next.look(budget(1, None)).unwrap(), None);
    }
}
