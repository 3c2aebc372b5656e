//! A key that was revoked: what the store received before stays, what it received later does not count.

use bytes::Bytes;
use lifeboat_model::lsn::Lsn;
use lifeboat_repo::{
    Error,
    document::{DocumentKeys, DocumentKind, Position},
    point::{Point, PointSelector},
    progress::Counter,
    repository::InstanceRepo,
    trust::Revocation,
    wal::{WalObject, WalObjectKind, WalWriter},
};
use lifeboat_store::{Key, Store as _};
use sha2::Digest as _;

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
        match repo.read_document::<String>(&mark, &trusted, std::slice::from_ref(&world.host)).await {
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

/// The same point with another time and id, signed as well as the original.
async fn redated(world: &World, point: &Point, finished: &str) -> Key {
    let bytes = world.vault.get(&point.key, point.version.as_ref(), None).await.unwrap();
    let len = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let (json, rest) = bytes[12..bytes.len() - 32].split_at(len);
    let mut header: serde_json::Value = serde_json::from_slice(json).unwrap();
    header["finished"] = finished.into();
    header["point"] = "0909090909090909".into();
    let json = serde_json::to_vec(&header).unwrap();
    let mut out = bytes[..8].to_vec();
    out.extend_from_slice(&(json.len() as u32).to_le_bytes());
    out.extend_from_slice(&json);
    out.extend_from_slice(&rest[..2 + 32]);
    out.extend_from_slice(&world.signing.sign(&[&b"lifeboat recovery point v1\n"[..], &json].concat()));
    out.extend_from_slice(&rest[2 + 32 + 64..]);
    let digest = sha2::Sha256::digest(&out);
    out.extend_from_slice(&digest);
    let time = lifeboat_model::time::compact(finished.parse().unwrap());
    let forged = key(&format!("{ROOT}points/{time}-0909090909090909"));
    world.vault.thief().overwrite(&forged, out.into());
    forged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_of_the_future_does_not_end_all_backups() {
    let world = World::new();
    let point = world.backup(&files(2)).await.unwrap();
    let soon = world.clock.now() + std::time::Duration::from_secs(600);
    redated(&world, &point, &soon.to_string()).await;
    assert_eq!(world.latest().await.unwrap().header.finished, soon, "a signature that is right counts");
    world.clock.advance(1200);
    let tomorrow = world.clock.now() + std::time::Duration::from_secs(23 * 3600);
    redated(&world, &point, &tomorrow.to_string()).await;
    assert_eq!(world.latest().await.unwrap().header.finished, soon, "no writer's clock is so far ahead");
    redated(&world, &point, "9990-01-01T00:00:00Z").await;
    let latest = world.latest().await.unwrap();
    assert!(latest.header.finished == soon && latest.skipped[0].contains("9990"), "{:?}", latest.skipped);
    let next = world.backup(&files(3)).await.unwrap();
    assert_eq!(world.restore(&next).await, files(3));
}
