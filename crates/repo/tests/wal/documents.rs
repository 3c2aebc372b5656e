//! Documents come back as they were written, to those who may read them.

use lifeboat_model::{lsn::Lsn, signature::SigningKey};
use lifeboat_repo::{
    Error,
    document::{DocumentKind, DocumentRef, Position},
    seal::Identity,
};
use lifeboat_store::{
    Key,
    fault::{Fault, Operation, Rule},
};
use serde::{Deserialize, Serialize};

use crate::world::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Beginning {
    history: Option<String>,
    segment_size: u64,
}

fn beginning() -> Beginning {
    Beginning { history: Some("1\t0/5000\tsecret reason\n".into()), segment_size: SEGMENT }
}

fn at(system_id: u64, timeline: u32, lsn: u64) -> Position {
    Position { system_id, timeline, lsn: Lsn(lsn) }
}

async fn put(world: &World, kind: DocumentKind, position: Position) -> DocumentRef {
    let repo = world.repo().await;
    repo.put_document(kind, position, &beginning(), &world.document_keys(), now()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_and_host_can_read_and_nobody_else() {
    let world = World::new();
    let repo = world.repo().await;
    let trusted = [world.signing.public()];
    for kind in DocumentKind::ALL {
        let reference = put(&world, kind, at(SYSTEM, 1, 0x5000)).await;
        assert_eq!(repo.list_documents(kind).await.unwrap(), std::slice::from_ref(&reference));
        for identity in [&world.recovery, &world.host] {
            let document =
                repo.read_document::<Beginning>(&reference, &trusted, std::slice::from_ref(identity)).await.unwrap();
            assert_eq!((document.details, document.created), (beginning(), now()));
            assert_eq!((document.signer, document.reference), (trusted[0], reference.clone()));
        }
        let stranger = [Identity::generate()];
        let error = repo.read_document::<Beginning>(&reference, &trusted, &stranger).await.unwrap_err();
        assert!(matches!(error, Error::WrongIdentity { .. }), "{error}");
        assert!(error.to_string().contains(&world.recovery.recipient().to_string()), "says whose: {error}");
        let bytes = repo.store().get(&reference.key, None, None).await.unwrap();
        assert!(!bytes.windows(13).any(|window| window == b"secret reason"), "the content is sealed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_listed_by_position_and_tell_the_streams() {
    let world = World::new();
    // Decimal numbers of different lengths: names sort otherwise.
    let positions = [at(9, 2, 5), at(10, 1, 0x1_0000_0000), at(10, 1, 3), at(9, 11, 1), at(100, 1, 1), at(10, 1, 3)];
    for position in positions {
        put(&world, DocumentKind::Timeline, position).await;
    }
    put(&world, DocumentKind::Witness, at(77, 1, 1)).await;
    let repo = world.repo().await;
    let mut sorted = positions.to_vec();
    sorted.sort();
    let listed = repo.list_documents(DocumentKind::Timeline).await.unwrap();
    assert_eq!(listed.iter().map(|found| found.position).collect::<Vec<_>>(), sorted);
    assert_eq!(repo.wal_archive().streams().await.unwrap(), [(9, 2), (9, 11), (10, 1), (100, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_renamed_and_foreign_documents_are_refused() {
    let world = World::new();
    let repo = world.repo().await;
    let trusted = [world.signing.public()];
    let identities = [world.host.clone()];
    let good = put(&world, DocumentKind::RestorePoint, at(SYSTEM, 1, 0x5000)).await;
    let bytes = repo.store().get(&good.key, None, None).await.unwrap();

    for at in (0..bytes.len()).step_by(7) {
        world.memory.tamper(good.key.as_str(), |bytes| bytes[at] ^= 4);
        let error = repo.read_document::<Beginning>(&good, &trusted, &identities).await.unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "byte {at}: {error}");
        world.memory.tamper(good.key.as_str(), |bytes| bytes[at] ^= 4);
    }
    let other = SigningKey::from_seed(&[9; 32]).public();
    let error = repo.read_document::<Beginning>(&good, &[other], &identities).await.unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error}");

    // The same bytes at another position, of another kind, under another id.
    let names = [
        (DocumentKind::RestorePoint, format!("{ROOT}marks/{SYSTEM}-00000001-0000000000006000-{}", good.id)),
        (DocumentKind::Witness, format!("{ROOT}witnesses/{SYSTEM}-00000001-0000000000005000-{}", good.id)),
        (DocumentKind::RestorePoint, format!("{ROOT}marks/{SYSTEM}-00000001-0000000000005000-{:032x}", 5)),
    ];
    for (kind, name) in names {
        repo.store().put(&Key::new(name.as_str()).unwrap(), bytes.clone()).await.unwrap();
        let copies = repo.list_documents(kind).await.unwrap();
        let copy = copies.iter().find(|copy| copy.key.as_str() == name).unwrap();
        let error = repo.read_document::<Beginning>(copy, &trusted, &identities).await.unwrap_err();
        assert!(matches!(error, Error::Untrusted { .. }), "{name}: {error}");
    }
    let error = repo.read_document::<String>(&good, &trusted, &identities).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "another content: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_leaves_one_document() {
    let world = World::new();
    world.faults.add(Rule::on(Operation::Put, Fault::LoseReply).key("/timelines/"));
    let reference = put(&world, DocumentKind::Timeline, at(SYSTEM, 1, 0)).await;
    assert_eq!(world.faults.struck(), 1);
    assert_eq!(world.repo().await.list_documents(DocumentKind::Timeline).await.unwrap(), [reference]);
}
