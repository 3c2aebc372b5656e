//! A tree that was built to write outside its target. It takes a stolen signing key to forge one; a restore as root must
//! not be the second step.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use lifeboat_engine::{details::SourceNotes, files::place::Placer};
use lifeboat_model::lsn::Lsn;
use lifeboat_repo::{
    progress::Silent,
    reader::Sink,
    tree::{Entry, EntryKind, TreeKind},
    writer::{Chunking, Finish, WalSpan},
};

use crate::world::World;

const OUTSIDE_MODE: u32 = 0o750;

fn entry(path: &str, kind: EntryKind) -> Entry {
    let euid = rustix::process::geteuid().as_raw();
    let egid = rustix::process::getegid().as_raw();
    Entry { path: path.into(), kind, mode: 0o666, uid: euid, gid: egid, ..Entry::default() }
}

fn folder(path: &str) -> Entry {
    Entry { mode: 0o777, ..entry(path, EntryKind::Directory) }
}

fn file(path: &str) -> Entry {
    entry(path, EntryKind::File { size: 0, extents: Vec::new() })
}

fn link(path: &str, target: &Path) -> Entry {
    entry(path, EntryKind::Symlink { target: target.to_str().unwrap().into() })
}

/// A folder that must stay as it is.
struct Outside {
    path: PathBuf,
    before: crate::snapshot::Snapshot,
}

impl Outside {
    fn new(world: &World) -> Outside {
        let path = world.at("outside");
        fs::create_dir_all(path.join("inner")).unwrap();
        for name in ["precious", "inner/precious", "postgresql.auto.conf"] {
            fs::write(path.join(name), "mine").unwrap();
        }
        crate::odd::set_mode(&path, OUTSIDE_MODE);
        let before = crate::snapshot::take(&path);
        Outside { path, before }
    }

    fn assert_untouched(&self) {
        crate::snapshot::assert_same(&self.before, &crate::snapshot::take(&self.path));
    }
}

/// What a restore does with one entry: begin, two bytes of it, end.
fn place(placer: &Placer, entry: &Entry) -> io::Result<()> {
    placer.begin(entry)?;
    if matches!(entry.kind, EntryKind::File { .. }) {
        placer.write(&entry.path, 0, b"xx")?;
    }
    placer.end(entry)
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_paths_are_refused() {
    let world = World::new().await;
    let outside = Outside::new(&world);
    let target = world.at("to");
    fs::create_dir(&target).unwrap();
    for delta in [false, true] {
        let placer = Placer::new(target.clone(), delta);
        for path in ["../outside/x", "a/../../outside/x", "..", "/outside", "a//b", "./x", "a/.", "nul\0byte", "x/"] {
            for entry in [file(path), folder(path), link(path, &outside.path), entry(path, EntryKind::Fifo)] {
                let error = placer.begin(&entry).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{path:?}: {error}");
                assert!(placer.finish_directory(&entry).is_err(), "{path:?}");
            }
            assert!(placer.write(path.as_bytes(), 0, b"x").is_err(), "{path:?}");
            let hard = entry("hard", EntryKind::HardLink { target: path.into() });
            assert!(placer.begin(&hard).is_err(), "{path:?}");
        }
    }
    outside.assert_untouched();
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
}

/// Each list of entries ends with one that must be refused; what lies outside is as it was.
#[tokio::test(flavor = "multi_thread")]
async fn links_of_a_tree_lead_nowhere() {
    let world = World::new().await;
    let outside = Outside::new(&world);
    let out = outside.path.as_path();
    let way = || link("way", out);
    let cases: Vec<Vec<Entry>> = vec![
        vec![way(), file("way/new")],
        vec![way(), file("way/precious")],
        vec![way(), folder("way")],
        vec![way(), folder("way/new")],
        vec![way(), folder("way/inner")],
        vec![way(), link("way/new", Path::new("x"))],
        vec![way(), entry("way/new", EntryKind::Fifo)],
        vec![way(), entry("way/new", EntryKind::HardLink { target: "way/precious".into() })],
        vec![way(), entry("stolen", EntryKind::HardLink { target: "way/precious".into() })],
        vec![way(), file("way/inner/new")],
        vec![folder("a"), link("a/b", out), file("a/b/precious")],
        vec![link("first", Path::new(".")), link("first/second", out), file("first/second/new")],
        vec![link("precious", &out.join("precious")), file("precious")],
        vec![folder("a"), file("a/file"), way(), file("way/new")],
    ];
    for (number, entries) in cases.iter().enumerate() {
        let target = world.at(&format!("to{number}"));
        fs::create_dir(&target).unwrap();
        let placer = Placer::new(target, false);
        let refused = entries.iter().map(|entry| place(&placer, entry)).any(|placed| placed.is_err());
        outside.assert_untouched();
        assert!(refused, "case {number}: {entries:?}");
    }
}

/// Over a folder that holds something, entries may replace each other. They still must not lead out.
#[tokio::test(flavor = "multi_thread")]
async fn a_delta_restore_replaces_links_and_follows_none() {
    let world = World::new().await;
    let outside = Outside::new(&world);
    let out = outside.path.as_path();
    let target = world.at("to");
    fs::create_dir(&target).unwrap();
    for name in ["way", "file"] {
        std::os::unix::fs::symlink(out.join(if name == "way" { "" } else { "precious" }), target.join(name)).unwrap();
    }
    let placer = Placer::new(target.clone(), true);
    for entry in [folder("way"), file("way/precious"), folder("way/inner"), file("file")] {
        place(&placer, &entry).unwrap();
    }
    assert!(!target.join("way").is_symlink() && !target.join("file").is_symlink());
    outside.assert_untouched();
    // A forged order: a folder that is a link the next moment.
    placer.begin(&folder("x")).unwrap();
    placer.begin(&file("x/precious")).unwrap();
    let _ = placer.begin(&link("x", out));
    let written = placer.write(b"x/precious", 0, b"xx");
    let ended = placer.end(&file("x/precious"));
    let finished = placer.finish_directory(&folder("x"));
    outside.assert_untouched();
    assert!(written.is_err() && ended.is_err() && finished.is_err());
}

/// The same through a repository and the whole restore.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_point_is_refused_by_the_restore() {
    let world = World::new().await;
    let outside = Outside::new(&world);
    let mut writer = world.writer(Arc::new(Silent)).await;
    writer.begin_tree(TreeKind::Filestore).await.unwrap();
    writer.entry(folder("")).await.unwrap();
    writer.entry(link("way", &outside.path)).await.unwrap();
    writer.begin_file(file("way/forged"), Chunking::DOCUMENT).await.unwrap();
    writer.data(Bytes::from_static(b"forged")).await.unwrap();
    writer.end_file(Finish::default()).await.unwrap();
    writer.end_tree().await.unwrap();
    let point = world.commit(writer, &SourceNotes::default(), None).await;
    for delta in [false, true] {
        let error = world.restore(&point, &format!("to{delta}"), delta).await.unwrap_err();
        assert!(error.to_string().contains("way/forged"), "{error}");
        outside.assert_untouched();
    }
}

/// What the restore itself writes into a cluster (WAL, recovery settings) goes through no link either.
#[tokio::test(flavor = "multi_thread")]
async fn links_in_a_forged_cluster_lead_nowhere() {
    let world = World::new().await;
    let outside = Outside::new(&world);
    let out = outside.path.as_path();
    let cases = [
        link("pg_wal", out),
        link("global", out),
        link("pg_tblspc/99", out),
        link("postgresql.auto.conf", &out.join("postgresql.auto.conf")),
        link("recovery.signal", &out.join("precious")),
        link("pg_wal/000000010000000000000001", &out.join("precious")),
    ];
    for (number, forged) in cases.into_iter().enumerate() {
        let mut writer = world.writer(Arc::new(Silent)).await;
        writer.begin_tree(TreeKind::Database).await.unwrap();
        let mut paths = vec![folder(""), forged.clone()];
        for name in ["pg_wal", "global", "pg_tblspc"] {
            if forged.path != name.as_bytes() {
                paths.push(folder(name));
            }
        }
        paths.sort_by(|a, b| a.path.cmp(&b.path));
        for entry in paths {
            writer.entry(entry).await.unwrap();
        }
        for name in ["global/pg_control", "pg_tblspc/99/file", "PG_VERSION", "backup_manifest"] {
            let below = name.as_bytes().strip_prefix(forged.path.as_slice()).is_some_and(|rest| rest.starts_with(b"/"));
            if name == "pg_tblspc/99/file" && !below {
                continue;
            }
            writer.begin_file(file(name), Chunking::RELATION).await.unwrap();
            writer.data(Bytes::from_static(b"forged")).await.unwrap();
            writer.end_file(Finish::default()).await.unwrap();
        }
        writer.end_tree().await.unwrap();
        let (start, system_id) = (Lsn(0x100_0000), 7);
        writer.put_wal(system_id, 1, start, Bytes::from_static(&[7; 4096])).await.unwrap();
        let wal = WalSpan { system_id, timeline: 1, start, end: Lsn(start.0 + 4096) };
        let point = world.commit(writer, &SourceNotes::default(), Some(wal)).await;
        let restored = world.restore(&point, &format!("to{number}"), false).await;
        outside.assert_untouched();
        assert!(restored.is_err(), "{}", forged.display_path());
        assert!(!world.at(&format!("to{number}/pgdata/global/pg_control")).is_file());
    }
}
