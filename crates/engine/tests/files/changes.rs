//! Files that change or vanish under the walk's hands.
//!
//! The walk hands over through a channel of one item. When the channel is full and the walking thread sleeps, it is in
//! the middle of handing over the next one, at a known place: then the test changes something.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use lifeboat_engine::files::walk::{Captured, Previous, Walk, WalkError};
use lifeboat_repo::tree::{Entry, EntryKind};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::world::{World, noise, settle};

/// What the walk reads at once.
const READ: usize = 256 << 10;

struct Stepper {
    items: mpsc::Receiver<Captured>,
    thread: Option<JoinHandle<Result<(), WalkError>>>,
    stat: PathBuf,
}

impl Stepper {
    fn start(root: &Path, previous: Previous) -> Stepper {
        let (out, items) = mpsc::channel(1);
        let (tell, told) = std::sync::mpsc::channel();
        let root = root.to_owned();
        let thread = std::thread::spawn(move || {
            tell.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
            Walk { previous, out }.tree(&root)
        });
        Stepper { items, thread: Some(thread), stat: Path::new("/proc").join(told.recv().unwrap()).join("stat") }
    }

    /// Waits until one item lies in the channel and the walk sleeps with the next in its hands.
    fn blocked(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut asleep = 0;
        while asleep < 5 {
            let stat = fs::read_to_string(&self.stat).unwrap();
            let state = stat.rsplit_once(") ").unwrap().1.as_bytes()[0];
            asleep = if self.items.len() == 1 && state == b'S' { asleep + 1 } else { 0 };
            assert!(Instant::now() < deadline, "the walk does not wait: {stat}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn next(&mut self) -> Option<Captured> {
        self.items.blocking_recv()
    }

    /// The next item, which is an entry.
    fn entry(&mut self) -> Entry {
        match self.next() {
            Some(Captured::Entry(entry) | Captured::Begin(entry)) => entry,
            other => panic!("expected an entry, got {other:?}"),
        }
    }

    /// The bytes of a file from after its begin, holes as zeros, and its note.
    fn content(&mut self) -> (Vec<u8>, Option<String>) {
        let mut bytes = Vec::new();
        loop {
            match self.next() {
                Some(Captured::Data(data)) => bytes.extend_from_slice(&data),
                Some(Captured::Hole(len)) => bytes.resize(bytes.len() + len as usize, 0),
                Some(Captured::End(note)) => return (bytes, note),
                other => panic!("expected content, got {other:?}"),
            }
        }
    }

    /// Everything that is left, and how the walk ended.
    fn rest(mut self) -> (Vec<Captured>, Result<(), WalkError>) {
        let mut items = Vec::new();
        while let Some(item) = self.next() {
            items.push(item);
        }
        (items, self.thread.take().unwrap().join().unwrap())
    }
}

fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Walks a folder that holds only `file`, up to the moment when one read of it lies in the channel and a second one is
/// in the walk's hands; changes it; gives what came out.
fn change_while_read(content: &[u8], change: impl FnOnce(&Path)) -> (Vec<u8>, Option<String>) {
    let folder = folder();
    let path = folder.path().join("file");
    fs::write(&path, content).unwrap();
    let mut walk = Stepper::start(folder.path(), Previous::none());
    assert_eq!(walk.entry().path, b"");
    let begun = walk.entry();
    assert_eq!((begun.path.as_slice(), begun.size()), (&b"file"[..], content.len() as u64));
    walk.blocked();
    change(&path);
    let found = walk.content();
    let (rest, ended) = walk.rest();
    assert!(rest.is_empty() && ended.is_ok(), "{rest:?} {ended:?}");
    found
}

#[test]
fn an_untouched_file_carries_no_note() {
    let content = noise(1, 5 * READ + 3);
    assert!(change_while_read(&content, |_| {}) == (content, None));
}

#[test]
fn a_file_that_shrinks_is_kept_as_far_as_it_was_read() {
    let content = noise(1, 5 * READ);
    let (bytes, note) = change_while_read(&content, |path| {
        File::options().write(true).open(path).unwrap().set_len(3 * READ as u64 + 100).unwrap();
    });
    assert!(bytes == content[..3 * READ + 100]);
    assert_eq!(note.unwrap(), format!("shrank from {} to {} bytes while it was read", 5 * READ, 3 * READ + 100));
}

#[test]
fn a_file_that_grows_is_kept_as_long_as_it_was_and_noted() {
    let content = noise(1, 5 * READ);
    let (bytes, note) = change_while_read(&content, |path| {
        File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
    });
    assert!(bytes == content);
    assert_eq!(note.unwrap(), "changed while it was read");
}

#[test]
fn a_file_that_is_rewritten_in_place_is_noted() {
    let content = noise(1, 5 * READ);
    let (bytes, note) = change_while_read(&content, |path| {
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(b"changed", 0).unwrap();
        file.write_all_at(b"changed", 4 * READ as u64).unwrap();
    });
    // The start had been read, the end had not.
    assert!(bytes[..4 * READ] == content[..4 * READ] && bytes[4 * READ..][..7] == *b"changed");
    assert_eq!(note.unwrap(), "changed while it was read");
}

#[test]
fn a_file_that_is_removed_while_it_is_read_is_kept_whole() {
    let content = noise(1, 5 * READ);
    let (bytes, note) = change_while_read(&content, |path| fs::remove_file(path).unwrap());
    assert!(bytes == content);
    assert_eq!(note.unwrap(), "changed while it was read");
}

#[test]
fn a_sparse_file_that_shrinks_into_a_hole_is_noted() {
    let folder = folder();
    let path = folder.path().join("file");
    let file = File::create(&path).unwrap();
    let size = 64 * READ as u64;
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 16 * READ as u64).unwrap();
    file.set_len(size).unwrap();
    // At every place where the walk waits: it must neither fail nor give more than there was.
    for steps in 0..5 {
        file.set_len(size).unwrap();
        file.write_all_at(b"middle", 16 * READ as u64).unwrap();
        let mut walk = Stepper::start(folder.path(), Previous::none());
        assert_eq!(walk.entry().path, b"");
        for _ in 0..steps {
            walk.blocked();
            drop(walk.next());
        }
        if steps < 4 {
            walk.blocked();
        }
        file.set_len(1).unwrap();
        let (rest, ended) = walk.rest();
        ended.unwrap_or_else(|error| panic!("after {steps} steps: {error:?}"));
        let last = rest.last();
        assert!(matches!(last, Some(Captured::End(Some(_)))) || steps >= 4, "after {steps} steps: {last:?}");
    }
}

#[test]
fn what_vanishes_before_its_turn_is_left_out_and_named() {
    let folder = folder();
    for name in ["a", "file", "full/inside"] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, name).unwrap();
    }
    std::os::unix::fs::symlink("a", folder.path().join("link")).unwrap();
    let mut walk = Stepper::start(folder.path(), Previous::none());
    assert_eq!(walk.entry().path, b"");
    // The folder has been listed when its first entry comes.
    assert_eq!(walk.entry().path, b"a");
    fs::remove_file(folder.path().join("file")).unwrap();
    fs::remove_dir_all(folder.path().join("full")).unwrap();
    fs::remove_file(folder.path().join("link")).unwrap();
    let (rest, ended) = walk.rest();
    ended.unwrap();
    let skipped: Vec<_> = rest
        .iter()
        .filter_map(|item| match item {
            Captured::Skipped { path, why } => Some((String::from_utf8_lossy(path).into_owned(), why.as_str())),
            _ => None,
        })
        .collect();
    let why = "vanished before it was read";
    assert_eq!(skipped, [("file".into(), why), ("full".into(), why), ("link".into(), why)]);
}

/// Walks a folder `full` with something in it, which is changed between its entry and the listing of its content.
fn change_folder(change: impl FnOnce(&Path)) -> Vec<Captured> {
    let folder = folder();
    let full = folder.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("inside"), "inside").unwrap();
    let walk = Stepper::start(folder.path(), Previous::none());
    // The root lies in the channel, `full` is in the walk's hands, its content is not listed yet.
    walk.blocked();
    change(&full);
    let (rest, ended) = walk.rest();
    ended.unwrap();
    assert!(matches!(&rest[1], Captured::Entry(entry) if entry.path == b"full"));
    rest
}

#[test]
fn a_folder_that_vanishes_before_it_is_listed_is_kept_empty() {
    assert_eq!(change_folder(|full| fs::remove_dir_all(full).unwrap()).len(), 2);
}

#[test]
fn a_folder_that_becomes_a_file_is_kept_empty() {
    let rest = change_folder(|full| {
        fs::remove_dir_all(full).unwrap();
        fs::write(full, "a file now").unwrap();
    });
    assert_eq!(rest.len(), 2);
}

/// Whoever may write into a filestore must not be able to have other folders of the host backed up.
#[test]
fn a_folder_that_becomes_a_link_is_not_followed() {
    let outside = folder();
    fs::write(outside.path().join("secret"), "of somebody else").unwrap();
    let rest = change_folder(|full| {
        fs::remove_dir_all(full).unwrap();
        std::os::unix::fs::symlink(outside.path(), full).unwrap();
    });
    let secret = |item: &Captured| matches!(item, Captured::Begin(entry) if entry.path.ends_with(b"secret"));
    assert!(!rest.iter().any(secret), "{rest:?}");
}

/// A name that is a file now and a pipe the next moment must not hold up the walk: opening a pipe waits for a writer.
#[test]
fn names_that_keep_changing_their_kind_do_not_stop_the_walk() {
    let folder = folder();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let path = folder.path().to_owned();
    let changing = std::thread::spawn(move || {
        let names: Vec<_> = (0..20).map(|number| path.join(format!("f{number:02}"))).collect();
        let beside = path.join("beside");
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            for (round, name) in names.iter().chain(&names).chain(&names).chain(&names).enumerate() {
                let _ = fs::remove_dir(name);
                match round / names.len() {
                    0 => fs::write(&beside, "file").unwrap(),
                    1 => rustix::fs::mkfifoat(rustix::fs::CWD, &beside, rustix::fs::Mode::RUSR).unwrap(),
                    2 => std::os::unix::fs::symlink("/etc/passwd", &beside).unwrap(),
                    _ => {
                        fs::remove_file(name).unwrap();
                        fs::create_dir(name).unwrap();
                        continue;
                    }
                }
                fs::rename(&beside, name).unwrap();
            }
        }
    });
    for _ in 0..150 {
        let (rest, ended) = Stepper::start(folder.path(), Previous::none()).rest();
        ended.unwrap();
        for item in &rest {
            let Captured::Data(data) = item else { continue };
            assert_eq!(&data[..], b"file", "only what lies in the folder is read");
        }
    }
    drop(stop);
    changing.join().unwrap();
}

#[test]
fn a_stopped_receiver_ends_the_walk() {
    let folder = folder();
    fs::write(folder.path().join("file"), noise(1, 20 * READ)).unwrap();
    let mut walk = Stepper::start(folder.path(), Previous::none());
    walk.entry();
    walk.blocked();
    drop(walk.items);
    assert!(matches!(walk.thread.take().unwrap().join().unwrap(), Err(WalkError::Stopped)));
}

/// The next run takes over what is unchanged, and nothing that changed while it was read.
#[test]
fn only_settled_entries_without_a_note_are_taken_over() {
    let folder = folder();
    for name in ["known", "noted", "unmarked"] {
        fs::write(folder.path().join(name), name).unwrap();
    }
    settle(folder.path());
    let entries = |previous| {
        let (items, ended) = Stepper::start(folder.path(), previous).rest();
        ended.unwrap();
        items
    };
    let mut known: Vec<Entry> = entries(Previous::none())
        .into_iter()
        .filter_map(|item| match item {
            Captured::Begin(entry) => Some(entry),
            _ => None,
        })
        .collect();
    assert!(known.iter().all(|entry| entry.change.is_some()));
    known[1].note = Some("changed while it was read".into());
    known[2].change = None;
    let (send, batches) = mpsc::channel(1);
    send.blocking_send(known).unwrap();
    drop(send);
    let mut kept = Vec::new();
    let mut read = Vec::new();
    for item in entries(Previous::from_channel(batches)) {
        match item {
            Captured::Entry(entry) if matches!(entry.kind, EntryKind::File { .. }) => kept.push(entry.path),
            Captured::Begin(entry) => read.push(entry.path),
            _ => {}
        }
    }
    assert_eq!(kept, [b"known"]);
    assert_eq!(read, [&b"noted"[..], b"unmarked"]);
}

/// A file that was touched right before it is read may change again unseen: no change mark.
#[test]
fn a_fresh_file_gets_no_change_mark() {
    let folder = folder();
    let began = Instant::now();
    fs::write(folder.path().join("fresh"), "fresh").unwrap();
    let mut walk = Stepper::start(folder.path(), Previous::none());
    walk.entry();
    let entry = walk.entry();
    // On a machine that was held up for so long, the file is not fresh any more.
    assert!(entry.change.is_none() || began.elapsed() > Duration::from_secs(1), "{entry:?}");
}

/// The whole way: a file that changes while a backup reads it is named in the point, and read again by the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_is_reported_and_read_again() {
    let world = World::new().await;
    let path = world.source().join("busy");
    // Far more than waits between the walk and the writer, so that the end is not read when the start is changed.
    fs::write(&path, noise(1, 64 << 20)).unwrap();
    fs::write(world.source().join("quiet"), "quiet").unwrap();
    settle(&world.source());
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (stopped, busy) = (stop.clone(), path.clone());
    let changing = std::thread::spawn(move || {
        let file = File::options().write(true).open(busy).unwrap();
        while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
            file.write_all_at(b"x", 0).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let first = world.backup().await;
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    changing.join().unwrap();
    assert_eq!(first.notes.changed, ["busy: changed while it was read"]);
    assert_eq!(first.notes.of("filestore").changed, 1);
    settle(&world.source());
    let second = world.backup().await;
    assert_eq!((second.read, second.notes.changed_count), (64 << 20, 0));
    assert_eq!(world.backup().await.read, 0);
}
