//! A second backup reads what changed, and nothing else.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
};

use crate::{
    odd, snapshot,
    world::{World, noise, settle},
};

/// Access times, which reading moves: an oracle beside our own counters, on file systems that keep them.
fn set_atime(path: &Path) {
    let old = rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 };
    let omit = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let times = rustix::fs::Timestamps { last_access: old, last_modification: omit };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_tree_is_not_read_and_a_changed_file_is() {
    let world = World::new().await;
    odd::build(&world.source());
    let large = world.source().join("large");
    set_atime(&large);
    settle(&world.source());
    let first = world.backup().await;
    assert!(first.read > 10 << 20, "{}", first.read);
    // The file system may or may not have noted the first read; from here on nothing may read.
    let atime = fs::metadata(&large).unwrap().atime();

    let second = world.backup().await;
    assert_eq!((second.read, second.stats.new_bytes), (0, 0));
    assert_eq!((second.stats.files, second.stats.bytes), (first.stats.files, first.stats.bytes));
    assert_eq!(fs::metadata(&large).unwrap().atime(), atime);

    // Same size, modification time set back: the change time tells.
    let metadata = fs::metadata(&large).unwrap();
    let file = File::options().write(true).open(&large).unwrap();
    file.write_all_at(b"changed", 5 << 20).unwrap();
    drop(file);
    odd::set_mtime(&large, metadata.mtime(), metadata.mtime_nsec());
    let third = world.backup().await;
    assert_eq!(third.read, metadata.len());
    // Three chunks of at most 4 MiB, one of which changed.
    assert_eq!((third.stats.new_bytes, third.stats.files), (4 << 20, first.stats.files));

    for (point, to) in [(&second.point, "second"), (&third.point, "third")] {
        world.restore(point, to, false).await.unwrap();
    }
    snapshot::assert_equal(&world.source(), &world.at("third/filestore"));
    let (old, new) = (snapshot::take(&world.at("second/filestore")), snapshot::take(&world.source()));
    let differing: Vec<_> = old.iter().filter(|(path, node)| new.get(*path) != Some(node)).map(|(p, _)| p).collect();
    assert_eq!(differing, [b"large"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_and_names_alone_are_followed_without_storing_bytes_again() {
    let world = World::new().await;
    let at = |name: &str| world.source().join(name);
    for name in ["mode", "attribute", "renamed", "gone", "dir/moved"] {
        fs::create_dir_all(at("dir")).unwrap();
        fs::write(at(name), noise(name.len() as u64, 100_000)).unwrap();
    }
    settle(&world.source());
    world.backup().await;
    odd::set_mode(&at("mode"), 0o640);
    xattr::set(at("attribute"), "user.new", b"x").unwrap();
    fs::rename(at("renamed"), at("another name")).unwrap();
    fs::rename(at("dir"), at("other dir")).unwrap();
    fs::remove_file(at("gone")).unwrap();
    fs::write(at("new"), "new").unwrap();
    let second = world.backup().await;
    assert_eq!(second.stats.new_bytes, 3, "only the new file is stored");
    world.restore(&second.point, "to", false).await.unwrap();
    snapshot::assert_equal(&world.source(), &world.at("to/filestore"));
}

/// A file that is replaced by another with the same size and times is another file.
#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_is_read_again() {
    let world = World::new().await;
    let path = world.source().join("file");
    fs::write(&path, "first").unwrap();
    fs::write(world.source().join("beside"), "other").unwrap();
    odd::set_mtime(&path, 1000, 0);
    settle(&world.source());
    world.backup().await;
    fs::rename(world.source().join("beside"), &path).unwrap();
    odd::set_mtime(&path, 1000, 0);
    let second = world.backup().await;
    assert_eq!(second.read, 5);
    world.restore(&second.point, "to", false).await.unwrap();
    assert_eq!(fs::read(world.at("to/filestore/file")).unwrap(), b"other");
}

/// A pack that went missing is noticed by the next backup, which stores its files again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_stored_any_more_is_read_again() {
    let world = World::new().await;
    fs::write(world.source().join("file"), noise(1, 1 << 20)).unwrap();
    settle(&world.source());
    world.backup().await;
    for pack in world.packs() {
        fs::remove_file(pack).unwrap();
    }
    let second = world.backup().await;
    assert_eq!(second.read, 1 << 20);
    world.restore(&second.point, "to", false).await.unwrap();
    snapshot::assert_equal(&world.source(), &world.at("to/filestore"));
}

/// Growing by appending, as logs do: every run is exact for its moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_growing_file_is_exact_each_time() {
    let world = World::new().await;
    let path = world.source().join("log");
    let mut file = File::create(&path).unwrap();
    for round in 0..4u64 {
        file.write_all(&noise(round, 2 << 20)).unwrap();
        let backup = world.backup().await;
        let to = format!("to{round}");
        world.restore(&backup.point, &to, false).await.unwrap();
        snapshot::assert_equal(&world.source(), &world.at(&to).join("filestore"));
    }
}
