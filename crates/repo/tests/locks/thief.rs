//! A thief with every right that the locks leave: overwrites, delete markers, old points under new names. Whatever he puts
//! over a key, the first version is the object.

use bytes::Bytes;
use lifeboat_model::{lsn::Lsn, signature::PublicKey};
use lifeboat_repo::{
    Error,
    document::{DocumentKeys, DocumentKind, Position},
    point::{Point, PointSelector},
    progress::Counter,
    wal::{WalObjectKind, WalWriter},
};
use lifeboat_store::{Key, Store as _};

use crate::world::*;

const POSITION: Position = Position { system_id: 7, timeline: 1, lsn: Lsn(0x2100) };

/// A repository with all kinds of objects.
async fn filled() -> (World, Point) {
    let world = World::new();
    world.backup(&files(3)).await.unwrap();
    let repo = world.repo().await;
    let writer = WalWriter::new(repo.clone(), vec![world.recovery.recipient()], world.signing.clone(), 3);
    let segment = 1 << 20;
    let put = |kind, first: u64, len| {
        let (writer, bytes) = (writer.clone(), Bytes::from(noise(first, len)));
        async move { writer.put(kind, 7, 1, segment, Lsn(first), bytes, None).await.unwrap() }
    };
    put(WalObjectKind::Segment, segment, segment as usize).await;
    put(WalObjectKind::Slice, 2 * segment, 5000).await;
    let keys = DocumentKeys { recipients: vec![world.host.recipient()], signing: world.signing.clone() };
    repo.put_document(DocumentKind::Timeline, POSITION, &"begins", &keys, world.clock.now()).await.unwrap();
    let repository = world.repository(std::sync::Arc::new(world.vault.clone())).await;
    repository.put_evidence(&tenant(), "drill.json", Bytes::from_static(b"it was restored")).await.unwrap();
    world.clock.advance(60);
    let point = world.backup(&files(4)).await.unwrap();
    (world, point)
}

/// All that a reader can see, content included.
async fn seen(world: &World) -> String {
    let repo = world.clean().await;
    let trusted: [PublicKey; 1] = [world.signing.public()];
    let points = repo.list_points().await.unwrap();
    let latest = repo.find_point(&PointSelector::Latest, &trusted).await.unwrap();
    assert_eq!(latest.skipped, [""; 0]);
    let files = world.restore(&latest).await;
    let archive = repo.wal_archive();
    let listing = archive.list(7, 1, Lsn(0)).await.unwrap();
    let reader = archive.reader(trusted.to_vec(), vec![world.recovery.clone()]);
    let mut wal = Vec::new();
    for object in listing.objects() {
        archive.head(object, &trusted).await.unwrap();
        wal.push(blake3::hash(&reader.read(object).await.unwrap()));
    }
    let documents = repo.list_documents(DocumentKind::Timeline).await.unwrap();
    let document =
        repo.read_document::<String>(&documents[0], &trusted, std::slice::from_ref(&world.host)).await.unwrap();
    let repository = world.repository(std::sync::Arc::new(world.vault.clone())).await;
    let evidence = repository.list_evidence(&tenant(), "").await.unwrap();
    let drill = repository.get_evidence(&evidence[0]).await.unwrap();
    let check = lifeboat_repo::check::verify(
        &repo,
        std::slice::from_ref(&latest),
        lifeboat_repo::check::VerifyMode::ReadData(vec![world.recovery.clone()]),
        std::sync::Arc::new(lifeboat_repo::progress::Silent),
    );
    assert_eq!(check.await.unwrap().problems, []);
    let content = (files.len(), blake3::hash(format!("{files:?}").as_bytes()), wal, document.details, drill);
    format!("{points:?} {latest:?} {listing:?} {documents:?} {evidence:?} {content:?}")
}

async fn attack(how: impl Fn(&World, &Key)) {
    let (world, point) = filled().await;
    let before = seen(&world).await;
    let objects: Vec<Key> = world.stored("").await;
    for kind in ["lifeboat.json", "keys/", "packs/", "index/", "trees/", "wal/7/", "timelines/", "points/", "evidence/"]
    {
        assert!(objects.iter().any(|key| key.as_str().contains(kind)), "nothing of {kind} is attacked");
    }
    world.clock.advance(60);
    objects.iter().for_each(|key| how(&world, key));
    assert_eq!(seen(&world).await, before);

    // The next backups, with the cache and without, find everything where it was: they store what is new and no more.
    let mut world = world;
    for round in 5..=6 {
        let stored = world.tally.get(Counter::NewBytes);
        let next = world.backup(&files(round)).await.unwrap();
        assert_eq!(world.tally.get(Counter::NewBytes) - stored, 20_000, "one new file");
        assert_eq!(next.header.chunk_key, point.header.chunk_key);
        world.assert_locked(&next).await;
        assert_eq!(world.restore(&next).await, files(round));
        world.with_empty_cache();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overwriting_every_key_changes_nothing() {
    attack(|world, key| {
        world.vault.thief().overwrite(key, Bytes::from_static(b"{\"pay\": \"us\"}"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_marker_on_every_key_changes_nothing() {
    attack(|world, key| {
        world.vault.thief().delete_marker(key);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_bytes_of_the_same_kind_over_every_key_change_nothing() {
    use futures::FutureExt as _;
    attack(|world, key| {
        let folder = key.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = if folder.contains("/packs/") { "hospital/clinic/packs" } else { folder };
        let first = world.stored(folder).now_or_never().unwrap().remove(0);
        let version = world.vault.versions_of(&first).pop().unwrap().info.version;
        let bytes = world.vault.get(&first, version.as_ref(), None).now_or_never().unwrap().unwrap();
        world.vault.thief().overwrite(key, bytes);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_locked_cannot_be_deleted() {
    let (world, point) = filled().await;
    let mut locked = 0;
    for key in world.stored("").await {
        for version in world.vault.versions_of(&key) {
            let version = version.info.version.unwrap();
            let deleted = world.vault.thief().delete_version(&key, &version);
            assert!(matches!(deleted, Err(lifeboat_store::Error::Locked { .. })), "{key}: {deleted:?}");
            world.vault.thief().set_retention(&key, &version, None).unwrap_err();
            locked += 1;
        }
    }
    assert!(locked > 12, "{locked}");
    assert_eq!(world.restore(&point).await, files(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_point_under_a_newer_name_is_not_the_newest() {
    let (world, newest) = filled().await;
    let repo = world.clean().await;
    let points = repo.list_points().await.unwrap();
    let old = world.vault.get(&points[0].key, None, None).await.unwrap();
    let name = |time: &str, id: &str| key(&format!("{ROOT}points/{time}-{id}"));
    let id = points[0].id.to_string();
    for copy in [name("20991231T235959Z", &id), name("20991231T235959Z", "00112233aabbccdd")] {
        world.vault.thief().overwrite(&copy, old.clone());
        let listed = repo.list_points().await.unwrap();
        let replayed = listed.iter().find(|point| point.key == copy).unwrap();
        let error = repo.read_point(replayed, &[world.signing.public()]).await.unwrap_err();
        assert!(matches!(error, Error::Untrusted { .. }), "{error}");
        assert!(
            error.to_string().contains("a copy of point") && error.to_string().contains("first version"),
            "{error}"
        );
    }
    let latest = world.latest().await.unwrap();
    assert_eq!((latest.header, latest.skipped.len()), (newest.header, 2), "and it says what it passed over");
    let named = repo.find_point(&PointSelector::Id(id), &[world.signing.public()]).await.unwrap();
    assert_eq!(named.key, points[0].key, "it is found under its own name");
    let next = world.backup(&files(4)).await.unwrap();
    assert_eq!(world.restore(&next).await, files(4));
    assert!(world.tally.noted("a newer recovery point is passed over"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_version_that_does_not_verify_is_told_and_later_ones_do_not_count() {
    let world = World::new();
    let point = world.backup(&files(1)).await.unwrap();
    let genuine = world.vault.get(&point.key, None, None).await.unwrap();
    // A bucket in which somebody was there first: garbage, then the point's own bytes.
    let other = World::new();
    other.clean().await;
    other.vault.thief().overwrite(&point.key, Bytes::from_static(b"garbage"));
    other.vault.thief().overwrite(&point.key, genuine);
    let id = point.header.point.to_string().parse().unwrap();
    let error = other.clean().await.find_point(&id, &[world.signing.public()]).await.unwrap_err();
    assert!(error.to_string().contains("later ones never count"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_the_bucket_had_versions_is_read_by_its_first_one() {
    use futures::TryStreamExt as _;
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let old = std::sync::Arc::new(lifeboat_store::local::LocalStore::open(folder.path(), true).unwrap());
    let repository = world.repository(old.clone()).await;
    let repo = repository.instance(&tenant(), &"clinic".parse().unwrap());
    let point = world.backup_into(repo, &files(3)).await.unwrap();
    assert!(point.header.objects.iter().all(|object| object.version.is_none()));
    let objects: Vec<_> = old.list("").try_collect().await.unwrap();
    for object in &objects {
        world.vault.put(&object.key, old.get(&object.key, None, None).await.unwrap()).await.unwrap();
    }
    for object in &objects {
        world.vault.thief().overwrite(&object.key, Bytes::from_static(b"{}"));
    }
    let point = world.latest().await.unwrap();
    assert_eq!(world.restore(&point).await, files(3));
    let mode = lifeboat_repo::check::VerifyMode::ReadCiphertext;
    let progress = std::sync::Arc::new(lifeboat_repo::progress::Silent);
    let check = lifeboat_repo::check::verify(&world.clean().await, &[point], mode, progress).await.unwrap();
    assert_eq!(check.problems, []);
    let stored = world.tally.get(Counter::NewBytes);
    let next = world.backup(&files(4)).await.unwrap();
    assert_eq!(world.tally.get(Counter::NewBytes) - stored, 20_000, "one new file");
    assert!(next.header.objects.iter().all(|object| object.version.is_some()));
    world.assert_locked(&next).await;
    assert_eq!(world.restore(&next).await, files(4));
}
