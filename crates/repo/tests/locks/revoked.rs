//! A key that was revoked: what the store received before stays, what it received later does not count.

use bytes::Bytes;
use lifeboat_model::lsn::Lsn;
use lifeboat_repo::{
    Error,
    document::{DocumentKeys, DocumentKind, Position},
    point::PointSelector,
    progress::Counter,
    repository::InstanceRepo,
    trust::Revocation,
    wal::{WalObject, WalObjectKind, WalWriter},
};

use crate::world::*;

const SEGMENT: u64 = 1 << 20;

async fn slice(world: &World, first: u64) -> WalObject {
    let repo = world.repo().await;
    let writer = WalWriter::new(repo, vec![world.recovery.recipient()], world.signing.clone(), 3);
    let bytes = Bytes::from(noise(first, 1000));
    writer.put(WalObjectKind::Slice, 7, 1, SEGMENT, Lsn(first), bytes, None).await.unwrap()
}

async fn mark(world: &World, lsn: u64) {
    let keys = DocumentKeys { recipients: vec![world.host.recipient()], signing: world.signing.clone() };
    let position = Position { system_id: 7, timeline: 1, lsn: Lsn(lsn) };
    let (repo, now) = (world.repo().await, world.clock.now());
    repo.put_document(DocumentKind::RestorePoint, position, &"here", &keys, now).await.unwrap();
}

/// What verifies of WAL and marks.
async fn valid(world: &World, repo: &InstanceRepo) -> Vec<u64> {
    let (trusted, archive, mut valid) = ([world.signing.public()], repo.wal_archive(), Vec::new());
    for object in archive.list(7, 1, Lsn(0)).await.unwrap().objects() {
        let (head, read) =
            (archive.head(object, &trusted).await, archive.reader(trusted.to_vec(), vec![world.recovery.clone()]));
        let read = read.read(object).await;
        assert_eq!(head.is_ok(), read.is_ok());
        match head {
            Ok(_) => valid.push(object.first.0),
            Err(error) => assert!(error.to_string().contains("revoked"), "{error}"),
        }
    }
    for mark in repo.list_documents(DocumentKind::RestorePoint).await.unwrap() {
        match repo.read_document::<String>(&mark, &trusted, &[world.host.clone()]).await {
            Ok(_) => valid.push(mark.position.lsn.0),
            Err(error) => assert!(error.to_string().contains("revoked"), "{error}"),
        }
    }
    valid
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_later_does_not_count_and_what_came_before_does() {
    let mut world = World::new();
    let before = world.backup(&files(2)).await.unwrap();
    slice(&world, 0x1000).await;
    mark(&world, 0x3000).await;
    world.clock.advance(600);
    let at = world.clock.now();
    world.clock.advance(600);
    // The thief writes with the stolen key.
    world.backup(&files(3)).await.unwrap();
    slice(&world, 0x2000).await;
    mark(&world, 0x4000).await;

    let stolen = world.signing.public();
    let revoked = |repo: InstanceRepo| repo.with_revocations(vec![Revocation { key: stolen, at }]);
    let repo = world.clean().await;
    assert_eq!(valid(&world, &repo).await, [0x1000, 0x2000, 0x3000, 0x4000]);
    let repo = revoked(repo);
    assert_eq!(valid(&world, &repo).await, [0x1000, 0x3000]);
    let latest = repo.find_point(&PointSelector::Latest, &[stolen]).await.unwrap();
    assert_eq!(latest.header, before.header);
    assert!(latest.skipped[0].contains("revoked"), "{:?}", latest.skipped);

    // Nobody signs with it any more; a new key goes on from the last point that counts, and stores anew what the thief's
    // index lists.
    let error = world.backup_into(revoked(world.repo().await), &files(3)).await.unwrap_err();
    assert!(matches!(error, Error::RevokedSigner { .. }), "{error}");
    world.signing = lifeboat_model::signature::SigningKey::from_seed(&[6; 32]);
    let mut keys = world.keys();
    keys.trusted = vec![stolen];
    let repo = revoked(world.repo().await);
    let stored = world.tally.get(Counter::NewBytes);
    let mut writer =
        lifeboat_repo::writer::Writer::begin(repo, keys, world.options(), world.tally.clone()).await.unwrap();
    assert_eq!(writer.previous_point().unwrap().header, before.header);
    world.write(&mut writer, &files(3)).await.unwrap();
    let point = world.commit(writer).await.unwrap();
    assert_eq!(world.tally.get(Counter::NewBytes) - stored, 20_000, "the thief's pack is not built upon");
    assert!(world.tally.noted("revoked"), "{:?}", world.tally.notes());
    assert_eq!(world.restore(&point).await, files(3));
}
