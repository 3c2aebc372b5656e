//! Who can read what, and which points count.

use std::sync::Arc;

use lifeboat_model::{id::RepositoryId, signature::SigningKey};
use lifeboat_repo::{
    Error,
    point::PointSelector,
    progress::Silent,
    reader::{Reader, ReaderOptions},
    repository::Repository,
    seal::Identity,
    tree::TreeKind,
};

use crate::world::*;

fn sample() -> Vec<File> {
    vec![file("a", text(1, 100_000)), file("b", noise(2, 100_000))]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_lists_and_reads_no_data() {
    let world = World::new();
    let point = world.backup(&sample()).await.unwrap();
    let host = [world.host.clone()];
    let repo = world.clean_repo().await;
    assert_eq!(point.open_details(&host).unwrap().notes, ["made by a test"]);
    let reader = Reader::open(repo, &point, &host, ReaderOptions::default(), Arc::new(Silent)).await.unwrap();
    let mut cursor = reader.entries(TreeKind::Filestore).unwrap().unwrap();
    assert_eq!(cursor.next().await.unwrap().unwrap().path, b"a");
    let sink = Arc::new(MemorySink::default());
    let error = reader.restore_tree(TreeKind::Filestore, sink.clone(), None).await.unwrap_err();
    assert!(matches!(error, Error::WrongIdentity { .. }), "{error}");
    assert!(error.to_string().contains(&world.recovery.recipient().to_string()), "says whose identity: {error}");
    assert!(sink.take().entries.is_empty(), "told before anything was written");
    let error = reader.read_wal(&reader.wal_slices()[0]).await.unwrap_err();
    assert!(matches!(error, Error::WrongIdentity { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_told_so_at_once() {
    let world = World::new();
    let point = world.backup(&sample()).await.unwrap();
    let stranger = [Identity::generate()];
    let opened = Reader::open(world.clean_repo().await, &point, &stranger, ReaderOptions::default(), Arc::new(Silent));
    let error = opened.await.err().unwrap();
    assert!(matches!(error, Error::WrongIdentity { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_host_starts_anew_and_says_so() {
    let mut world = World::new();
    world.backup(&sample()).await.unwrap();
    world.host = Identity::generate();
    let writer = world.writer().await.unwrap();
    assert!(writer.previous_point().is_some() && writer.previous(TreeKind::Filestore).is_none());
    writer.abort().await.unwrap();
    let point = world.backup(&sample()).await.unwrap();
    world.assert_restores(&point, &sample()).await;
    assert!(world.tally.notes.lock().unwrap().iter().any(|note| note.contains("stored anew")));
    let again = world.backup(&sample()).await.unwrap();
    assert_eq!(again.header.chunk_key, point.header.chunk_key, "and keeps its new key");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_recipients_get_everything_and_rely_on_nothing_old() {
    let mut world = World::new();
    world.backup(&sample()).await.unwrap();
    world.recovery = Identity::generate();
    let point = world.backup(&sample()).await.unwrap();
    world.assert_restores(&point, &sample()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_and_foreign_points_do_not_count() {
    let mut world = World::new();
    let good = world.backup(&sample()).await.unwrap();
    // Signed by somebody else, newer.
    let honest = std::mem::replace(&mut world.signing, SigningKey::from_seed(&[66; 32]));
    let forged = world.backup(&sample()).await.unwrap();
    world.signing = honest;
    let latest = world.latest().await.unwrap();
    assert_eq!(latest.header.point, good.header.point);
    assert!(latest.skipped.len() == 1 && latest.skipped[0].contains(forged.key.as_str()), "{:?}", latest.skipped);
    let repo = world.clean_repo().await;
    let trusted = [world.signing.public()];
    let selector = PointSelector::Id(forged.header.point.to_string()[..6].to_owned());
    let error = repo.find_point(&selector, &trusted).await.unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error}");

    // A good point, copied to another name: an old state that poses as a new one.
    let bytes = repo.store().get(&good.key, None, None).await.unwrap();
    let copy = format!("{ROOT}points/20991231T235959Z-00000000deadbeef");
    repo.store().put(&lifeboat_store::Key::new(copy).unwrap(), bytes).await.unwrap();
    let latest = world.latest().await.unwrap();
    assert_eq!((latest.header.point, latest.skipped.len()), (good.header.point, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_points_are_passed_over_by_latest() {
    let world = World::new();
    let first = world.backup(&sample()).await.unwrap();
    let second = world.backup(&sample()).await.unwrap();
    world.memory.tamper(second.key.as_str(), |bytes| bytes[200] ^= 1);
    assert_eq!(world.latest().await.unwrap().header.point, first.header.point);
    world.memory.tamper(first.key.as_str(), |bytes| bytes.truncate(100));
    let error = world.latest().await.unwrap_err();
    assert!(matches!(error, Error::NoPoint { .. }) && error.to_string().contains("2 do not"), "{error}");
    // Only invalid points are no reason not to make a new one.
    let third = world.backup(&sample()).await.unwrap();
    assert_eq!(world.latest().await.unwrap().header.point, third.header.point);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_public_names_no_file() {
    let world = World::new();
    let files = [file("secret/patient-name.pdf", b"diagnosis: confidential".to_vec())];
    world.backup(&files).await.unwrap();
    for key in world.memory.keys("") {
        let key = lifeboat_store::Key::new(key).unwrap();
        let bytes = world.clean_repo().await.store().get(&key, None, None).await.unwrap();
        for secret in [&b"patient-name"[..], b"confidential", b"made by a test"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_are_told_apart() {
    let world = World::new();
    let store: lifeboat_store::SharedStore = Arc::new(world.memory.clone());
    let error = Repository::open(store.clone()).await.unwrap_err();
    assert!(matches!(error, Error::NotARepository { .. }), "{error}");
    let made = Repository::init(store.clone(), RepositoryId([1; 16]), now()).await.unwrap();
    let again = Repository::init(store.clone(), RepositoryId([2; 16]), now()).await.unwrap();
    assert_eq!(again.id(), made.id(), "never overwritten");
    world.memory.tamper("lifeboat.json", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap().replace("\"format\": 1", "\"format\": 2");
        *bytes = text.into_bytes();
    });
    let error = Repository::open(store).await.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
}
