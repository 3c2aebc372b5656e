//! In and out again.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
    },
};

use lifeboat_engine::restore::INCOMPLETE_MARKER;
use lifeboat_testkit::folder;

use crate::{odd, snapshot, world::World};

/// What a file system may need beyond the data itself: indirect blocks, attributes, a rounded-up extent.
const SLACK_BLOCKS: u64 = 256;

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_with_everything_in_it_comes_back_exactly() {
    let world = World::new().await;
    odd::build(&world.source());
    let before = snapshot::take(&world.source());
    let backup = world.backup().await;
    assert_eq!((backup.notes.changed_count, backup.notes.skipped_count), (0, 0), "{:?}", backup.notes);
    let files = before.values().filter(|node| matches!(node.kind, snapshot::Kind::File { .. })).count();
    assert_eq!((backup.stats.files, backup.stats.entries), (files as u64, before.len() as u64));

    let report = world.restore(&backup.point, "to", false).await.unwrap();
    assert!(report.is_complete(), "{:?}", report.damage);
    assert!(!world.at("to").join(INCOMPLETE_MARKER).exists());
    snapshot::assert_equal(&world.source(), &world.at("to/filestore"));
    // Reading has changed nothing at the source.
    snapshot::assert_same(&before, &snapshot::take(&world.source()));
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_stay_holes_and_cost_nothing() {
    let world = World::new().await;
    odd::build(&world.source());
    let backup = world.backup().await;
    let sparse: u64 = odd::sparse_files(&world.source()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(backup.read + sparse < backup.stats.bytes + (1 << 20), "holes were read: {} bytes", backup.read);
    world.restore(&backup.point, "to", false).await.unwrap();
    let pairs = odd::sparse_files(&world.source()).into_iter().zip(odd::sparse_files(&world.at("to/filestore")));
    for (source, restored) in pairs {
        let blocks = |path| fs::metadata(path).unwrap().blocks();
        let (source, got) = (blocks(&source), blocks(&restored));
        assert!(got <= source + SLACK_BLOCKS, "{}: {got} blocks, {source} at the source", restored.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_contents_are_stored_once() {
    let world = World::new().await;
    let (bytes, between) = (crate::world::noise(9, 3 << 20), crate::world::noise(10, 30 << 20));
    // Farther apart than the writer works ahead: what is in work at the same time may be stored twice.
    for (name, bytes) in [("first", &bytes), ("other", &between), ("second", &bytes)] {
        fs::write(world.source().join(name), bytes).unwrap();
    }
    let backup = world.backup().await;
    let (new, again) = ((bytes.len() + between.len()) as u64, bytes.len() as u64);
    assert_eq!((backup.stats.new_bytes, backup.stats.reused_bytes), (new, again));
    let stored: u64 = world.packs().iter().map(|pack| fs::metadata(pack).unwrap().len()).sum();
    assert!(stored < new + new / 100, "{stored} bytes in packs");
    world.restore(&backup.point, "to", false).await.unwrap();
    snapshot::assert_equal(&world.source(), &world.at("to/filestore"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_left_out_and_named() {
    let world = World::new().await;
    fs::write(world.source().join("file"), "kept").unwrap();
    let _socket = UnixListener::bind(world.source().join("socket")).unwrap();
    let backup = world.backup().await;
    assert_eq!(backup.notes.skipped, ["socket: a socket or device, which is not backed up"]);
    world.restore(&backup.point, "to", false).await.unwrap();
    assert_eq!(folder::files(&world.at("to/filestore")), [std::path::Path::new("file")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filestore_that_cannot_be_read_is_an_error_that_names_it() {
    let world = World::new().await;
    let missing = world.at("not here");
    let file = world.at("a file");
    fs::write(&file, "not a folder").unwrap();
    for (path, why) in [(missing, "No such file"), (file, "Not a directory")] {
        let error = world.try_backup(&path).await.map(|_| ()).unwrap_err();
        let text =
            format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default());
        assert!(text.contains(path.to_str().unwrap()) && text.contains(why), "{text}");
    }
    assert_eq!(world.repo.list_points().await.unwrap().len(), 0);
    // A failed backup gives its lease back.
    world.backup().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_holds_something_is_refused_and_left_alone() {
    let world = World::new().await;
    fs::write(world.source().join("file"), "x").unwrap();
    let backup = world.backup().await;
    fs::create_dir(world.at("to")).unwrap();
    fs::write(world.at("to/precious"), "mine").unwrap();
    let error = world.restore(&backup.point, "to", false).await.unwrap_err().to_string();
    assert!(error.contains("is not empty") && error.contains("--delta"), "{error}");
    assert_eq!(folder::files(&world.at("to")), [std::path::Path::new("precious")]);
    // An empty folder of any mode is fine.
    fs::create_dir(world.at("empty")).unwrap();
    fs::set_permissions(world.at("empty"), fs::Permissions::from_mode(0o700)).unwrap();
    world.restore(&backup.point, "empty", false).await.unwrap();
    assert_eq!(fs::metadata(world.at("empty")).unwrap().mode() & 0o777, 0o700);
}
