//! `fetch.sh` as PostgreSQL calls it: its answers, and that it waits for whom it should and for nobody else.

use std::{
    process::{Command, Output},
    thread,
};

use super::*;
use crate::recovery::target::RESTORE_COMMAND;

const SEGMENT: &str = "000000010000000000000007";
const OTHER: &str = "000000010000000000000008";

struct Cluster(tempfile::TempDir);

impl Cluster {
    fn new(segments: &[&str]) -> Cluster {
        let cluster = Cluster(tempfile::tempdir().unwrap());
        fs::create_dir_all(cluster.pgdata().join("pg_wal")).unwrap();
        let segment = |name: &&str| Segment { name: (*name).to_owned(), start: Lsn(0), parts: Vec::new() };
        let order = Order {
            segments: segments.iter().map(segment).collect(),
            histories: vec![("00000002.history".to_owned(), "1\t0/7000000\tnone\n".to_owned())],
            segment_size: 1 << 20,
        };
        prepare(&cluster.pgdata(), &order).unwrap();
        cluster
    }

    fn pgdata(&self) -> PathBuf {
        self.0.path().join("pgdata")
    }

    fn places(&self) -> Places {
        Places { folder: self.pgdata().join(FOLDER), waiting: waiting(&self.pgdata()) }
    }

    fn stage(&self, name: &str, content: &str) {
        let places = self.places();
        fs::write(places.waiting.join(name), content).unwrap();
        fs::rename(places.waiting.join(name), places.folder.join(name)).unwrap();
    }

    fn fetch(&self, name: &str) -> Output {
        let mut command = Command::new("sh");
        // As PostgreSQL does it, in PGDATA.
        let line = RESTORE_COMMAND.replace("%f", name).replace("%p", "pg_wal/RECOVERYXLOG");
        command.args(["-c", &line]);
        command.current_dir(self.pgdata()).env("LIFEBOAT_WAL_TRIES", "10").output().unwrap()
    }

    fn code(&self, name: &str) -> i32 {
        self.fetch(name).status.code().unwrap()
    }

    fn delivered(&self) -> String {
        fs::read_to_string(self.pgdata().join("pg_wal/RECOVERYXLOG")).unwrap()
    }
}

#[test]
fn what_is_there_is_delivered_as_often_as_it_is_asked_for() {
    let cluster = Cluster::new(&[SEGMENT]);
    cluster.stage(SEGMENT, "wal");
    for _ in 0..2 {
        assert_eq!(cluster.code(SEGMENT), 0);
        assert_eq!(cluster.delivered(), "wal");
    }
    assert_eq!(cluster.code("00000002.history"), 0);
    assert!(cluster.delivered().starts_with("1\t"));
}

#[test]
fn what_is_not_held_is_not_waited_for() {
    let cluster = Cluster::new(&[SEGMENT]);
    for name in [OTHER, "00000003.history", "00000001000000000000000.", ""] {
        assert_eq!(cluster.code(name), 1, "{name:?}");
    }
}

#[test]
fn what_is_on_its_way_is_waited_for() {
    let cluster = Cluster::new(&[SEGMENT, OTHER]);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| cluster.fetch(OTHER));
        // Longer than a stager may be silent, with a sign of life now and then.
        for beat in 1..8 {
            thread::sleep(Duration::from_millis(500));
            assert!(!waiting.is_finished(), "after {beat} beats");
            cluster.places().say(&format!("staging {beat}"));
        }
        cluster.stage(OTHER, "late");
        assert_eq!(waiting.join().unwrap().status.code(), Some(0));
    });
    assert_eq!(cluster.delivered(), "late");
}

/// PostgreSQL ends recovery by itself at a code up to 125, and stops with an error above.
#[test]
fn what_will_not_come_any_more_is_an_error_and_no_end() {
    for (state, words) in [("broken", "staging is over"), ("complete", "staging is over"), ("staging 7", "not answer")]
    {
        let cluster = Cluster::new(&[SEGMENT]);
        cluster.places().say(state);
        let output = cluster.fetch(SEGMENT);
        assert!(output.status.code().unwrap() > 125, "{state}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(words) && told.contains(SEGMENT), "{state}: {told}");
    }
    let cluster = Cluster::new(&[SEGMENT]);
    fs::remove_file(cluster.pgdata().join("lifeboat_wal/list")).unwrap();
    assert!(cluster.code(OTHER) > 125, "without the list nothing is known not to come");
    fs::remove_dir_all(cluster.pgdata().join(FOLDER)).unwrap();
    assert!(cluster.code(SEGMENT) > 125, "nor without the folder");
}

#[test]
fn a_second_restore_begins_anew() {
    let cluster = Cluster::new(&[SEGMENT]);
    cluster.stage(SEGMENT, "old");
    cluster.places().say("complete");
    prepare(&cluster.pgdata(), &Order::default()).unwrap();
    assert_eq!(cluster.code(SEGMENT), 1);
    assert_eq!(fs::read_to_string(cluster.pgdata().join("lifeboat_wal/staging")).unwrap(), "staging 0\n");
}
