//! Moving to new recipients: a repository of its own that the new identity opens and the old one does not.

use std::sync::Arc;

use lifeboat_model::{id::RepositoryId, lsn::Lsn, signature::SigningKey};
use lifeboat_repo::{
    Error,
    copy::reencrypt::{Origin, Reencrypt},
    document::DocumentKind,
    point::{Point, PointDetails, PointSelector},
    progress::Silent,
    reader::{Reader, ReaderOptions},
    repository::{InstanceRepo, Repository},
    seal::Identity,
    tree::{Entry, EntryKind, FileTime, TreeKind},
    writer::{Chunking, Finish, PointDraft, Writer, WriterKeys},
};
use lifeboat_store::fault::{Fault, Operation, Rule};

use crate::world::*;

struct New {
    recovery: Identity,
    keys: WriterKeys,
    cache: tempfile::TempDir,
}

impl New {
    fn generated() -> Self {
        let recovery = Identity::generate();
        let keys = WriterKeys {
            recipients: vec![recovery.recipient()],
            host: Identity::generate(),
            signing: SigningKey::from_seed(&[8; 32]),
            trusted: vec![],
        };
        New { recovery, keys, cache: tempfile::tempdir().unwrap() }
    }

    async fn repo(&self, world: &World) -> InstanceRepo {
        let store = Arc::new(world.offsite.clone());
        let repository = Repository::init(store, RepositoryId([9; 16]), world.now()).await.unwrap();
        repository.instance(&tenant(), &instance())
    }
}

/// Everything again; `(from, to)` of each point, and how many of them were there.
async fn reencrypt(world: &World, new: &New) -> Result<(Vec<(Point, Point)>, usize), Error> {
    let from = Repository::open(Arc::new(world.from.clone())).await?.instance(&tenant(), &instance());
    let (to, trusted) = (new.repo(world).await, [world.signing.public()]);
    let mut options = world.writer_options();
    options.cache_dir = new.cache.path().to_owned();
    let identities = [world.recovery.clone()];
    let moving = Reencrypt {
        from: &from,
        identities: &identities,
        trusted: &trusted,
        to: &to,
        keys: &new.keys,
        options: &options,
        progress: Arc::new(Silent),
    };
    let (mut points, mut there) = (Vec::new(), 0);
    for reference in from.list_points().await? {
        let moved = moving.point(&reference).await?;
        there += usize::from(moved.there);
        let old = from.read_point(&reference, &trusted).await?;
        let new = to.find_point(&PointSelector::Id(moved.to.to_string()), &[new.keys.signing.public()]).await?;
        assert_eq!((moved.from, moved.sha256, moved.finished), (old.header.point, new.sha256, old.header.finished));
        points.push((old, new));
    }
    let archive = moving.archive(None).await?;
    assert_eq!(archive.problems, []);
    Ok((points, there))
}

async fn entries(repo: &InstanceRepo, point: &Point, identity: &Identity) -> Vec<Entry> {
    let identities = [identity.clone()];
    let options = ReaderOptions::default();
    let reader = Reader::open(repo.clone(), point, &identities, options, Arc::new(Silent)).await.unwrap();
    let mut cursor = reader.entries(TreeKind::Filestore).unwrap().unwrap();
    let mut entries = Vec::new();
    while let Some(mut entry) = cursor.next().await.unwrap() {
        if let EntryKind::File { extents, .. } = &mut entry.kind {
            extents.clear();
        }
        entries.push(entry);
    }
    entries
}

async fn content(repo: &InstanceRepo, point: &Point, identity: &Identity, path: &str) -> Vec<u8> {
    let options = ReaderOptions::default();
    let reader =
        Reader::open(repo.clone(), point, std::slice::from_ref(identity), options, Arc::new(Silent)).await.unwrap();
    let sink = Arc::new(MemorySink::default());
    reader.restore_tree(TreeKind::Filestore, sink.clone(), None).await.unwrap();
    sink.0.lock().unwrap()[path.as_bytes()].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn points_wal_and_documents_open_with_the_new_identity_alone() {
    let (world, new) = (World::new(), New::generated());
    world.fill().await;
    let (points, there) = reencrypt(&world, &new).await.unwrap();
    assert_eq!((points.len(), there), (2, 0));
    let (source, to) = (world.source().await, new.repo(&world).await);
    let reading = World { recovery: new.recovery.clone(), signing: new.keys.signing.clone(), ..world.elsewhere() };
    for (old, made) in &points {
        let files = if old.header.trees[0].entries == 2 { first() } else { second() };
        reading.assert_restores_point(&to, made, &files).await;
        assert_eq!((made.header.started, made.header.finished), (old.header.started, old.header.finished));
        assert_eq!(made.header.wal.as_ref().map(|wal| (wal.start, wal.end)), Some((Lsn(0x100), Lsn(0x5000))));
        let details = made.open_details(std::slice::from_ref(&new.recovery)).unwrap();
        let origin = Origin { repository: source.repository(), point: old.header.point, sha256: old.sha256 };
        assert_eq!(Origin::of(&details), Some(origin));
        assert!(made.open_details(&[Identity::generate()]).is_err());
    }
    assert!(reading.stream(&to).await == wal(0, SEGMENT + 700));
    let found = to.list_documents(DocumentKind::RestorePoint).await.unwrap();
    let read =
        to.read_document::<String>(&found[0], &[new.keys.signing.public()], std::slice::from_ref(&new.recovery)).await;
    assert_eq!((found.len(), read.unwrap().details.as_str()), (1, "before the upgrade"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_entry_keeps_all_that_it_has() {
    let (world, new) = (World::new(), New::generated());
    let source = world.source().await;
    let writing = Writer::begin(source.clone(), world.writer_keys(), world.writer_options(), Arc::new(Silent)).await;
    let mut writer = writing.unwrap();
    writer.begin_tree(TreeKind::Filestore).await.unwrap();
    let mtime = FileTime { seconds: 1_700_000_000, nanos: 5 };
    let entry =
        |path: &str, kind| Entry { path: path.into(), kind, mode: 0o4750, uid: 7, gid: 8, mtime, ..Entry::default() };
    writer.entry(entry("", EntryKind::Directory)).await.unwrap();
    writer.entry(entry("link", EntryKind::Symlink { target: b"../a".to_vec() })).await.unwrap();
    let xattrs = vec![(b"user.a".to_vec(), b"b".to_vec())];
    let note = Some("grew while it was read".to_owned());
    let sparse = Entry { xattrs, note, ..entry("sparse", EntryKind::File { size: 0, extents: vec![] }) };
    writer.begin_file(sparse, Chunking::RELATION).await.unwrap();
    writer.data_from(&noise(1, 100_000)).await.unwrap();
    writer.hole(1 << 20).await.unwrap();
    writer.data_from(&noise(2, 200_001)).await.unwrap();
    writer.end_file(Finish { size: Some(5 << 20), ..Finish::default() }).await.unwrap();
    writer.entry(entry("twin", EntryKind::HardLink { target: b"sparse".to_vec() })).await.unwrap();
    writer.entry(entry("pipe", EntryKind::Fifo)).await.unwrap();
    writer.begin_file(entry("void", EntryKind::File { size: 0, extents: vec![] }), Chunking::DOCUMENT).await.unwrap();
    writer.end_file(Finish::default()).await.unwrap();
    writer.end_tree().await.unwrap();
    let draft = PointDraft { started: world.now(), details: PointDetails::default(), wal: None };
    writer.commit(draft).await.unwrap();
    let (points, _) = reencrypt(&world, &new).await.unwrap();
    let (old, made) = &points[0];
    let before = entries(&source, old, &world.recovery).await;
    assert_eq!(before.len(), 6);
    assert_eq!(entries(&new.repo(&world).await, made, &new.recovery).await, before);
    assert_eq!(made.header.trees[0].bytes, old.header.trees[0].bytes);
    let bytes = [noise(1, 100_000), vec![0; 1 << 20], noise(2, 200_001), vec![0; (4 << 20) - 300_001]].concat();
    let restored = content(&new.repo(&world).await, made, &new.recovery, "sparse").await;
    assert!(restored == bytes, "{} bytes, {} were written", restored.len(), bytes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_makes_only_what_is_missing() {
    let (world, new) = (World::new(), New::generated());
    world.fill().await;
    // The first run ends at the second point's trees.
    world.from.add(Rule::on(Operation::Get, Fault::FailBefore).key("/trees/").nth(2).and_ever_after());
    reencrypt(&world, &new).await.unwrap_err();
    world.from.heal();
    assert_eq!(new.repo(&world).await.list_points().await.unwrap().len(), 1);
    let (points, there) = reencrypt(&world, &new).await.unwrap();
    assert_eq!((points.len(), there), (2, 1));
    let keys = |vault| versions(vault).into_keys().filter(|key| !key.contains("/index/")).collect::<Vec<_>>();
    let before = keys(&world.offsite);
    let (_, there) = reencrypt(&world, &new).await.unwrap();
    assert_eq!((there, keys(&world.offsite)), (2, before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_point_is_not_made() {
    let (world, new) = (World::new(), New::generated());
    world.fill().await;
    world.from.add(Rule::on(Operation::Get, Fault::FlipByte(3000)).key("/packs/").and_ever_after());
    let error = reencrypt(&world, &new).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(new.repo(&world).await.list_points().await.unwrap().is_empty());
}
