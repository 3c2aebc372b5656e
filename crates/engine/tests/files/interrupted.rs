//! A restore that is stopped leaves a folder that says so, and a cluster that cannot be started.

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use lifeboat_engine::{Error, details::SourceNotes, restore::INCOMPLETE_MARKER};
use lifeboat_model::lsn::Lsn;
use lifeboat_repo::{
    point::Point,
    progress::{Counter, Progress, Silent},
    tree::{Entry, EntryKind, FileTime, TreeKind},
    writer::{Chunking, Finish, WalSpan},
};
use tokio_util::sync::CancellationToken;

use crate::world::{World, noise};

/// Cancels at the first byte of a restore, or once so many files are complete.
struct CancelAfter {
    files: u64,
    done: std::sync::atomic::AtomicU64,
    cancel: CancellationToken,
}

impl Progress for CancelAfter {
    fn add(&self, counter: Counter, n: u64) {
        if counter == Counter::Files {
            let done = self.done.fetch_add(n, std::sync::atomic::Ordering::SeqCst) + n;
            if done >= self.files {
                self.cancel.cancel();
            }
        }
    }

    fn note(&self, _: &str) {}
}

fn owned(path: &str, kind: EntryKind, mode: u32) -> Entry {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mtime = FileTime { seconds: 1_000_000, nanos: 0 };
    Entry { path: path.into(), kind, mode, uid, gid, mtime, ..Entry::default() }
}

/// A point with a cluster of a few files, one of them `global/pg_control`, and a filestore that takes longer.
async fn point(world: &World) -> Point {
    let mut writer = world.writer(Arc::new(Silent)).await;
    writer.begin_tree(TreeKind::Database).await.unwrap();
    for name in ["", "base", "global", "pg_wal"] {
        writer.entry(owned(name, EntryKind::Directory, 0o700)).await.unwrap();
    }
    for name in ["PG_VERSION", "global/pg_control", "base/1", "base/2", "postgresql.auto.conf"] {
        let file = owned(name, EntryKind::File { size: 0, extents: Vec::new() }, 0o600);
        writer.begin_file(file, Chunking::RELATION).await.unwrap();
        writer.data(Bytes::from(noise(name.len() as u64, 100_000))).await.unwrap();
        writer.end_file(Finish::default()).await.unwrap();
    }
    writer.end_tree().await.unwrap();
    writer.begin_tree(TreeKind::Filestore).await.unwrap();
    writer.entry(owned("", EntryKind::Directory, 0o755)).await.unwrap();
    for number in 0..2_000u64 {
        let kind = EntryKind::File { size: 0, extents: Vec::new() };
        writer.begin_file(owned(&format!("{number:04}"), kind, 0o644), Chunking::DOCUMENT).await.unwrap();
        writer.data(Bytes::from(noise(number, 20_000))).await.unwrap();
        writer.end_file(Finish::default()).await.unwrap();
    }
    writer.end_tree().await.unwrap();
    let (start, end) = (Lsn(0x100_0000), Lsn(0x100_1000));
    writer.put_wal(7, 1, start, Bytes::from_static(&[7; 4096])).await.unwrap();
    world.commit(writer, &SourceNotes::default(), Some(WalSpan { system_id: 7, timeline: 1, start, end })).await
}

fn assert_unusable(to: &Path) {
    assert!(to.join(INCOMPLETE_MARKER).exists());
    assert!(!to.join("pgdata/global/pg_control").exists(), "the cluster could be started");
}

/// Wherever it is stopped, also when the cluster is complete and the filestore is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_restore_is_marked_and_not_startable() {
    let world = World::new().await;
    let point = point(&world).await;
    for (round, files) in [1, 4, 200, 1_000, 1_500].into_iter().enumerate() {
        let cancel = CancellationToken::new();
        let progress = Arc::new(CancelAfter { files, done: 0.into(), cancel: cancel.clone() });
        let to = format!("to{round}");
        let error = world.restore_watched(&point, &to, false, progress, &cancel).await.unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert_unusable(&world.at(&to));
    }
    // What was stopped can be gone on with, and only then loses its mark.
    let report = world.restore(&point, "to3", true).await.unwrap();
    assert!(report.is_complete());
    assert!(!world.at("to3").join(INCOMPLETE_MARKER).exists());
    assert!(world.at("to3/pgdata/global/pg_control").is_file());
    world.restore(&point, "whole", false).await.unwrap();
    crate::snapshot::assert_equal(&world.at("whole/filestore"), &world.at("to3/filestore"));
}

/// A delta restore over a cluster that could be started makes it unstartable first.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_delta_restore_takes_the_name_of_pg_control_away() {
    let world = World::new().await;
    let point = point(&world).await;
    world.restore(&point, "to", false).await.unwrap();
    for number in 0..2_000 {
        fs::write(world.at(&format!("to/filestore/{number:04}")), "changed").unwrap();
    }
    let cancel = CancellationToken::new();
    let progress = Arc::new(CancelAfter { files: 100, done: 0.into(), cancel: cancel.clone() });
    world.restore_watched(&point, "to", true, progress, &cancel).await.unwrap_err();
    assert_unusable(&world.at("to"));
    assert!(world.restore(&point, "to", true).await.unwrap().is_complete());
    assert!(world.at("to/pgdata/global/pg_control").is_file());
}

/// A server that leaves recovery removes its signal, and writes: what it wrote is in no backup.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_was_promoted_since_is_refused_and_not_touched() {
    let world = World::new().await;
    let point = point(&world).await;
    world.restore(&point, "to", false).await.unwrap();
    let signal = world.at("to/pgdata/recovery.signal");
    assert!(signal.is_file(), "what was never started is known by it");
    fs::remove_file(&signal).unwrap();
    for written in ["to/pgdata/base-of-the-day", "to/filestore/attachment-of-the-day"] {
        fs::write(world.at(written), "written since").unwrap();
    }
    let refused = world.restore(&point, "to", true).await.unwrap_err();
    assert!(matches!(refused, Error::Promoted { .. }), "{refused}");
    for written in ["to/pgdata/base-of-the-day", "to/filestore/attachment-of-the-day"] {
        assert_eq!(fs::read_to_string(world.at(written)).unwrap(), "written since");
    }
    assert!(world.at("to/pgdata/global/pg_control").is_file() && !world.at("to").join(INCOMPLETE_MARKER).exists());
    // What was started and still replays has nothing of its own.
    fs::write(&signal, "").unwrap();
    assert!(world.restore(&point, "to", true).await.unwrap().is_complete());
    assert!(!world.at("to/filestore/attachment-of-the-day").exists());
}

/// A part that fails for good (here: a name is taken) stops the others too, and leaves the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_part_keeps_the_cluster_unstartable() {
    let world = World::new().await;
    let point = point(&world).await;
    world.restore(&point, "to", false).await.unwrap();
    fs::remove_dir_all(world.at("to/filestore")).unwrap();
    fs::write(world.at("to/filestore"), "a file where the folder should be").unwrap();
    world.restore(&point, "to", true).await.unwrap_err();
    assert_unusable(&world.at("to"));
}
