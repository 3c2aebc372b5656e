//! What really happened: one line for the beginning and one for the end of each run, by the process that did it.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
    time::Duration,
};

use super::clock;

/// What was done: this run, of this schedule for this instance, at this time. As it is passed to the process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub schedule: String,
    pub instance: String,
    pub due: String,
}

/// One run, as its process wrote it down.
#[derive(Debug, Clone)]
pub struct Effect {
    pub run: String,
    pub verb: String,
    pub key: Key,
    pub began: Duration,
    /// When, and how: `end`, `abandoned` or `transient`.
    pub ended: Option<(Duration, String)>,
}

/// Writes a line, whole or not at all.
pub fn write(log: &Path, what: &str, run: &str, verb: &str, key: &Key) {
    let at = clock::real().as_nanos();
    let line = format!("{what}|{at}|{run}|{verb}|{}|{}|{}\n", key.schedule, key.instance, key.due);
    OpenOptions::new().append(true).create(true).open(log).unwrap().write_all(line.as_bytes()).unwrap();
}

/// All runs, by id.
pub fn read(log: &Path) -> BTreeMap<String, Effect> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split('|').collect();
        let [what, at, run, verb, schedule, instance, due] = words.as_slice() else { panic!("{line}") };
        let at = Duration::from_nanos(at.parse().unwrap());
        if *what == "begin" {
            let key = Key { schedule: schedule.to_string(), instance: instance.to_string(), due: due.to_string() };
            let effect = Effect { run: run.to_string(), verb: verb.to_string(), key, began: at, ended: None };
            assert!(all.insert(run.to_string(), effect).is_none(), "run {run} began twice");
        } else {
            let effect: &mut Effect = all.get_mut(*run).expect("what ends has begun");
            assert!(effect.ended.is_none(), "run {run} ended twice");
            effect.ended = Some((at, what.to_string()));
        }
    }
    all
}
