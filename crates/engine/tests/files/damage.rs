//! Damage in the repository is reported, and everything else comes back.

use std::{fs, os::unix::fs::FileExt as _};

use lifeboat_engine::restore::INCOMPLETE_MARKER;

use crate::{
    odd, snapshot,
    world::{World, noise},
};

/// Flips one byte in the middle of a file.
fn flip(path: &std::path::Path) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
}

/// A file of many chunks in several packs, of which a part is damaged, must not end the restore of the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_that_is_hit_in_the_middle_does_not_stop_the_rest() {
    let world = World::new().await;
    fs::write(world.source().join("before"), noise(1, 100_000)).unwrap();
    fs::write(world.source().join("huge"), noise(2, 36 << 20)).unwrap();
    fs::write(world.source().join("zz after"), noise(3, 100_000)).unwrap();
    let backup = world.backup().await;
    let packs = world.packs();
    assert!(packs.len() >= 8, "{} packs", packs.len());
    // The pack that holds the middle: packs are named at random, so look at what is hit.
    let mut hit_huge_alone = 0;
    for (round, pack) in packs.iter().enumerate() {
        let whole = fs::read(pack).unwrap();
        if round % 2 == 0 {
            flip(pack)
        } else {
            fs::remove_file(pack).unwrap()
        }
        let to = format!("to{round}");
        let report = world.restore(&backup.point, &to, false).await.unwrap();
        assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
        let damage = &report.damage[0];
        let name = pack.file_name().unwrap().to_str().unwrap();
        assert!(damage.object.as_str().ends_with(name), "{damage:?}");
        assert!(world.at(&to).join(INCOMPLETE_MARKER).exists());
        let (wanted, got) = (snapshot::take(&world.source()), snapshot::take(&world.at(&to).join("filestore")));
        for (path, node) in wanted {
            let path = String::from_utf8(path).unwrap();
            if !damage.files.contains(&path) {
                assert_eq!(Some(&node), got.get(path.as_bytes()), "{path}");
            }
        }
        hit_huge_alone += u32::from(damage.files == ["huge"]);
        fs::write(pack, whole).unwrap();
        fs::remove_dir_all(world.at(&to)).unwrap();
    }
    assert!(hit_huge_alone >= 6, "{hit_huge_alone}");
    world.restore(&backup.point, "whole", false).await.unwrap();
    snapshot::assert_equal(&world.source(), &world.at("whole/filestore"));
}

/// Over a folder that is complete already, a missing pack hits nothing: no byte of it is needed.
#[tokio::test(flavor = "multi_thread")]
async fn a_delta_restore_needs_only_what_differs() {
    let world = World::new().await;
    odd::build(&world.source());
    let backup = world.backup().await;
    world.restore(&backup.point, "to", false).await.unwrap();
    for pack in world.packs() {
        fs::remove_file(&pack).unwrap();
    }
    let report = world.restore(&backup.point, "to", true).await.unwrap();
    assert!(report.is_complete(), "{:?}", report.damage);
    snapshot::assert_equal(&world.source(), &world.at("to/filestore"));
    // What differs and cannot be fetched is named; strangers go all the same, and what is right stays.
    fs::write(world.at("to/filestore/text"), "wrong").unwrap();
    fs::write(world.at("to/filestore/stranger"), "x").unwrap();
    let report = world.restore(&backup.point, "to", true).await.unwrap();
    let files: Vec<_> = report.damage.iter().flat_map(|damage| &damage.files).collect();
    assert_eq!(files, ["text"]);
    assert!(world.at("to").join(INCOMPLETE_MARKER).exists());
    assert!(!world.at("to/filestore/stranger").exists());
}

/// Where the list of files itself is damaged, nothing may be taken for a stranger.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_tree_is_reported_and_removes_nothing() {
    let world = World::new().await;
    odd::build(&world.source());
    let backup = world.backup().await;
    world.restore(&backup.point, "to", false).await.unwrap();
    let before = snapshot::take(&world.at("to/filestore"));
    let tree = backup.point.header.tree(lifeboat_repo::tree::TreeKind::Filestore).unwrap().objects[0].clone();
    let path = world.at("repository").join(tree.as_str());
    let whole = fs::read(&path).unwrap();
    flip(&path);
    let report = world.restore(&backup.point, "to", true).await.unwrap();
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
    assert_eq!((&report.damage[0].object, report.removed), (&tree, 0));
    assert!(world.at("to").join(INCOMPLETE_MARKER).exists());
    snapshot::assert_same(&before, &snapshot::take(&world.at("to/filestore")));
    fs::write(&path, whole).unwrap();
    assert!(world.restore(&backup.point, "to", true).await.unwrap().is_complete());
    assert!(!world.at("to").join(INCOMPLETE_MARKER).exists());
}
