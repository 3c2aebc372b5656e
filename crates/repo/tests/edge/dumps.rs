//! Points with logical dumps: read like any other, and never in the way of those that hold an instance.

use lifeboat_repo::{
    Error,
    point::{Point, PointDetails, PointSelector},
    tree::TreeKind,
    writer::PointDraft,
};

use crate::world::*;

async fn dump(world: &World, files: &[File]) -> Point {
    let mut writer = world.writer().await.unwrap();
    writer.begin_tree(TreeKind::Dump).await.unwrap();
    write_files(&mut writer, files).await.unwrap();
    writer.end_tree().await.unwrap();
    let draft = PointDraft { started: now(), details: PointDetails::default(), wal: None };
    writer.commit(draft).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_no_newer_backup() {
    let world = World::new();
    let dumped = [file("north.dump", noise(7, 3 << 20))];
    let first = dump(&world, &dumped).await;
    assert!(first.header.is_dump() && first.header.wal.is_none());
    let error = world.latest().await.unwrap_err();
    assert!(matches!(&error, Error::NoPoint { wanted, .. } if wanted.contains("only logical dumps")), "{error}");

    let files = [file("a", noise(1, 2 << 20)), file("b", text(2, 90_000))];
    let backup = world.backup(&files).await.unwrap();
    let second = dump(&world, &dumped).await;
    assert_eq!(world.latest().await.unwrap().header.point, backup.header.point);
    assert!(world.latest().await.unwrap().skipped.is_empty(), "nothing is wrong with the dump");
    assert_eq!(second.header.chunk_key, backup.header.chunk_key);

    // The next backup builds on the last backup, and not a byte of it is stored again.
    let writer = world.writer().await.unwrap();
    assert_eq!(writer.previous_point().unwrap().header.point, backup.header.point);
    assert!(writer.previous(TreeKind::Filestore).is_some());
    writer.abort().await.unwrap();
    let packs = world.memory.keys(&format!("{ROOT}packs/"));
    let again = world.backup(&files).await.unwrap();
    assert_eq!(world.memory.keys(&format!("{ROOT}packs/")), packs);
    world.assert_restores(&again, &files).await;

    for point in [&first, &second] {
        let repo = world.repo().await;
        let selector = PointSelector::Id(point.header.point.to_string());
        let found = repo.find_point(&selector, &[world.signing.public()]).await.unwrap();
        let (restored, report) = world.restore(&found, TreeKind::Dump).await;
        assert_eq!(report.damage, []);
        assert!(restored.files[&b"north.dump"[..]] == dumped[0].bytes);
    }
}
