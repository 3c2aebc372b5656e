//! A copy is written by nothing but copies.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use lifeboat_model::{id::RepositoryId, lsn::Lsn};
use lifeboat_repo::{
    Error,
    document::{DocumentKeys, DocumentKind, Position},
    progress::Silent,
    repository::Repository,
    wal::{WalObjectKind, WalWriter},
    writer::Writer,
};
use lifeboat_store::{SharedStore, Store as _};

use crate::world::*;

fn is_refused<T>(result: Result<T, Error>) {
    let error = result.err().expect("it was written");
    assert!(matches!(error, Error::Replica { .. }), "{error}");
    assert!(error.to_string().contains("only `lifeboat copy` writes into it"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_streams_and_documents_are_refused() {
    let world = World::new();
    world.fill().await;
    world.copy().await.unwrap();
    let before = world.offsite.snapshot();
    let replica = world.replica().await;
    let (keys, options) = (world.writer_keys(), world.writer_options());
    is_refused(Writer::begin(replica.clone(), keys, options, Arc::new(Silent)).await);
    let writer = WalWriter::new(replica.clone(), vec![world.recovery.recipient()], world.signing.clone(), 1);
    is_refused(writer.put(WalObjectKind::Segment, SYSTEM, 1, SEGMENT, Lsn(0), wal(0, SEGMENT), None).await);
    let keys = DocumentKeys { recipients: vec![world.recovery.recipient()], signing: world.signing.clone() };
    let position = Position { system_id: SYSTEM, timeline: 1, lsn: Lsn(0) };
    is_refused(replica.put_document(DocumentKind::Witness, position, &"x", &keys, world.now()).await);
    assert_eq!(world.offsite.snapshot(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_empty_place_or_the_same_copy_is_taken() {
    let world = World::new();
    let store: SharedStore = Arc::new(world.primary.clone());
    let primary = world.repository(store.clone()).await;
    let error = Repository::init_replica(store, &primary).await.unwrap_err();
    assert!(error.to_string().contains("a repository of its own"), "{error}");

    let place: SharedStore = Arc::new(world.offsite.clone());
    let copy = Repository::init_replica(place.clone(), &primary).await.unwrap();
    assert!(copy.is_replica() && copy.id() == primary.id() && copy.created() == primary.created());
    assert!(Repository::init_replica(place.clone(), &primary).await.unwrap().is_replica(), "again");
    let other = World::new();
    let other = Repository::init(Arc::new(other.primary), RepositoryId([7; 16]), Timestamp::UNIX_EPOCH).await.unwrap();
    let error = Repository::init_replica(place, &other).await.unwrap_err();
    assert!(matches!(&error, Error::NotACopy { is, .. } if is.contains("a copy of repository")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_marker_that_was_there_first_counts() {
    let world = World::new();
    let primary = world.repository(Arc::new(world.primary.clone())).await;
    Repository::init_replica(Arc::new(world.offsite.clone()), &primary).await.unwrap();
    let marker = lifeboat_store::Key::new("lifeboat.json").unwrap();
    let as_primary = world.primary.get(&marker, None, None).await.unwrap();
    world.offsite.thief().overwrite(&marker, as_primary);
    world.primary.thief().overwrite(&marker, Bytes::from_static(b"{\"format\":2}"));
    assert!(Repository::open(Arc::new(world.offsite.clone())).await.unwrap().is_replica());
    assert!(!Repository::open(Arc::new(world.primary.clone())).await.unwrap().is_replica());
}
