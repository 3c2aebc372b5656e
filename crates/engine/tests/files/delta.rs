//! A delta restore makes any folder equal to the point, and leaves alone what is equal already.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use lifeboat_engine::Error;
use lifeboat_repo::progress::Counter;
use tokio_util::sync::CancellationToken;

use crate::{
    odd,
    snapshot::{self, Snapshot},
    world::{Counts, World, is_root, noise},
};

struct Restored {
    world: World,
    point: lifeboat_repo::point::Point,
    wanted: Snapshot,
}

impl Restored {
    async fn new(build: impl FnOnce(&Path)) -> Restored {
        let world = World::new().await;
        build(&world.source());
        let point = world.backup().await.point;
        world.restore(&point, "to", false).await.unwrap();
        let wanted = snapshot::take(&world.source());
        Restored { world, point, wanted }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.world.at("to/filestore").join(name)
    }

    /// Restores over what is there; gives how many entries were removed and bytes were written.
    async fn again(&self) -> (u64, u64) {
        let counts = Arc::new(Counts::default());
        let cancel = CancellationToken::new();
        let report = self.world.restore_watched(&self.point, "to", true, counts.clone(), &cancel).await.unwrap();
        assert!(report.is_complete(), "{:?}", report.damage);
        snapshot::assert_same(&self.wanted, &snapshot::take(&self.world.at("to/filestore")));
        snapshot::assert_equal(&self.world.source(), &self.world.at("to/filestore"));
        (report.removed, counts.get(Counter::RestoredBytes))
    }
}

/// Inode, modification time and blocks of every regular file.
fn identities(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, u64)> {
    let files = lifeboat_testkit::folder::files(root).into_iter().filter_map(|name| {
        let metadata = fs::symlink_metadata(root.join(&name)).unwrap();
        let identity = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.blocks());
        metadata.is_file().then_some((name, identity))
    });
    files.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equal_folder_is_left_alone() {
    let restored = Restored::new(odd::build).await;
    let before = identities(&restored.at(""));
    assert_eq!(restored.again().await, (0, 0));
    let after = identities(&restored.at(""));
    let changed: Vec<_> = before.iter().filter(|(name, identity)| after.get(*name) != Some(identity)).collect();
    assert!(changed.is_empty(), "rewritten, or holes filled: {changed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_are_mended() {
    let restored = Restored::new(odd::build).await;
    let before = identities(&restored.at(""));
    let open = |name: &str| File::options().write(true).open(restored.at(name)).unwrap();
    let metadata = fs::metadata(restored.at("large")).unwrap();
    open("large").write_all_at(b"!", 5 << 20).unwrap();
    odd::set_mtime(&restored.at("large"), metadata.mtime(), metadata.mtime_nsec());
    open("text").set_len(100).unwrap();
    open("equal one").write_all_at(b"and more", 70_000).unwrap();
    open("one byte").set_len(0).unwrap();
    open("empty").write_all_at(b"not any more", 0).unwrap();
    fs::remove_file(restored.at("chunk exactly")).unwrap();
    fs::remove_dir_all(restored.at("many")).unwrap();
    let (removed, written) = restored.again().await;
    assert_eq!(removed, 0);
    // One chunk of the large file, not all of it.
    assert!(written < (9 << 20) + 1_000_000, "{written} bytes written");
    let after = identities(&restored.at(""));
    assert_eq!(before[Path::new("equal two")], after[Path::new("equal two")]);
    assert_eq!(before[Path::new("large")].0, after[Path::new("large")].0, "mended in place");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_holes_becomes_a_hole_again() {
    let restored = Restored::new(odd::build).await;
    for (file, source) in odd::sparse_files(&restored.at("")).iter().zip(odd::sparse_files(&restored.world.source())) {
        let size = fs::metadata(file).unwrap().len();
        let open = File::options().write(true).open(file).unwrap();
        // Across the boundaries of holes and data, at odd offsets, and at the very end.
        open.write_all_at(&noise(7, 1_000_000), odd::HOLE / 2 + 1).unwrap();
        open.write_all_at(b"end", size - 3).unwrap();
        open.write_all_at(b"begin", 0).unwrap();
        drop(open);
        assert!(fs::metadata(file).unwrap().blocks() >= fs::metadata(source).unwrap().blocks() + 1900);
    }
    restored.again().await;
    for (file, source) in odd::sparse_files(&restored.at("")).iter().zip(odd::sparse_files(&restored.world.source())) {
        let (got, wanted) = (fs::metadata(file).unwrap().blocks(), fs::metadata(source).unwrap().blocks());
        assert!(got <= wanted + 256, "{}: {got} blocks, {wanted} at the source", file.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_removed_and_folders_keep_their_times() {
    let restored = Restored::new(odd::build).await;
    fs::write(restored.at("stranger"), "x").unwrap();
    fs::write(restored.at("a/b/stranger.lifeboat-pending"), "x").unwrap();
    fs::create_dir_all(restored.at("empty folder/strange/folder")).unwrap();
    fs::write(restored.at("empty folder/strange/folder/file"), "x").unwrap();
    // A link of a stranger is removed, not what it points at.
    let outside = restored.world.at("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "mine").unwrap();
    symlink(&outside, restored.at("a/link out")).unwrap();
    assert_eq!(restored.again().await.0, 4);
    assert_eq!(fs::read(outside.join("precious")).unwrap(), b"mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_are_put_right() {
    let restored = Restored::new(odd::build).await;
    let outside = restored.world.at("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "mine").unwrap();
    // A folder where a file should be, and the other way round; links to what lies outside in place of both.
    fs::remove_file(restored.at("text")).unwrap();
    fs::create_dir_all(restored.at("text/with/content")).unwrap();
    fs::remove_dir_all(restored.at("many")).unwrap();
    fs::write(restored.at("many"), "a file").unwrap();
    fs::remove_file(restored.at("large")).unwrap();
    symlink(outside.join("precious"), restored.at("large")).unwrap();
    fs::remove_dir_all(restored.at("a")).unwrap();
    symlink(&outside, restored.at("a")).unwrap();
    fs::remove_file(restored.at("pipe")).unwrap();
    fs::write(restored.at("pipe"), "a file").unwrap();
    fs::remove_file(restored.at("links/dangling")).unwrap();
    fs::create_dir(restored.at("links/dangling")).unwrap();
    fs::remove_file(restored.at("links/up")).unwrap();
    symlink("elsewhere", restored.at("links/up")).unwrap();
    fs::remove_file(restored.at("empty")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, restored.at("empty"), rustix::fs::Mode::RUSR).unwrap();
    restored.again().await;
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read(outside.join("precious")).unwrap(), b"mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_put_right() {
    let restored = Restored::new(odd::build).await;
    odd::set_mode(&restored.at("text"), 0o4777);
    odd::set_mode(&restored.at("a"), 0o700);
    odd::set_mtime(&restored.at("times/nanoseconds"), 5, 5);
    xattr::set(restored.at("attributes/file"), "user.text", b"another value").unwrap();
    xattr::remove(restored.at("attributes/file"), "user.binary").unwrap();
    xattr::set(restored.at("attributes/file"), "user.stranger", b"x").unwrap();
    xattr::set(restored.at("many"), "user.stranger", b"x").unwrap();
    if is_root() {
        std::os::unix::fs::lchown(restored.at("equal two"), Some(5), Some(6)).unwrap();
    }
    assert_eq!(restored.again().await, (0, 0));
}

/// The other names of a file that lies in the target belong to somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_linked_from_outside_is_not_written_to() {
    let restored = Restored::new(odd::build).await;
    let outside = restored.world.at("outside");
    fs::write(&outside, "mine").unwrap();
    odd::set_mode(&outside, 0o604);
    odd::set_mtime(&outside, 1_000, 0);
    fs::remove_file(restored.at("text")).unwrap();
    fs::hard_link(&outside, restored.at("text")).unwrap();
    restored.again().await;
    let metadata = fs::metadata(&outside).unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"mine");
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime(), metadata.nlink()), (0o604, 1_000, 1));
}

/// What belongs to somebody else is not mended: a delta restore removes what does not belong.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_no_restore_made_is_refused() {
    let restored = Restored::new(odd::build).await;
    let (world, point) = (&restored.world, &restored.point);
    fs::create_dir_all(world.at("home/filestore")).unwrap();
    fs::write(world.at("home/filestore/precious"), "mine").unwrap();
    let refused = world.restore(point, "home", true).await.unwrap_err();
    assert!(matches!(refused, Error::NotOurs { .. }), "{refused}");
    assert_eq!(fs::read(world.at("home/filestore/precious")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(world.at("home")).unwrap().count(), 1, "nothing was added");
    // Nor is a cluster on which a server runs.
    fs::create_dir(world.at("to/pgdata")).unwrap();
    fs::write(world.at("to/pgdata/postmaster.pid"), "1\n").unwrap();
    fs::write(restored.at("stranger"), "x").unwrap();
    let refused = world.restore(point, "to", true).await.unwrap_err();
    assert!(matches!(refused, Error::ServerRunning { .. }), "{refused}");
    assert!(restored.at("stranger").exists());
}

/// However many files differ, they are not all open at once.
#[tokio::test(flavor = "multi_thread")]
async fn many_changed_files_do_not_exhaust_descriptors() {
    let restored = Restored::new(|root| {
        for number in 0..3_000 {
            fs::write(root.join(format!("{number:04}")), format!("file number {number}")).unwrap();
        }
    })
    .await;
    for number in 0..3_000 {
        fs::write(restored.at(&format!("{number:04}")), "FILE").unwrap();
    }
    let most = Arc::new(AtomicUsize::new(0));
    let counting = CountDescriptors { root: restored.at(""), most: most.clone() };
    let cancel = CancellationToken::new();
    let progress = Arc::new(counting);
    restored.world.restore_watched(&restored.point, "to", true, progress, &cancel).await.unwrap();
    snapshot::assert_equal(&restored.world.source(), &restored.at(""));
    let most = most.load(Ordering::SeqCst);
    assert!((1..=200).contains(&most), "{most} files of the target open at once");
}

/// Looks now and then how many files of the target are open.
struct CountDescriptors {
    root: PathBuf,
    most: Arc<AtomicUsize>,
}

impl lifeboat_repo::progress::Progress for CountDescriptors {
    fn add(&self, counter: Counter, _: u64) {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        if counter != Counter::RestoredBytes || !CALLS.fetch_add(1, Ordering::SeqCst).is_multiple_of(50) {
            return;
        }
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let open = open.filter(|entry| fs::read_link(entry.path()).is_ok_and(|path| path.starts_with(&self.root)));
        self.most.fetch_max(open.count(), Ordering::SeqCst);
    }

    fn note(&self, _: &str) {}
}
