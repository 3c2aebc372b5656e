//! An archive that was written by the first release that had one opens for ever.
//!
//! `golden/v1.json` holds every object of a small archive, and the keys made for it alone. It is never written again; a
//! change that cannot read it is a change of the format, and needs a new version beside it.
//! `LIFEBOAT_NEW_GOLDEN=FILE cargo test -p lifeboat-repo --test wal golden` writes a new one with the current writer.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use lifeboat_model::{id::RepositoryId, lsn::Lsn, secret::Secret, signature::PublicKey};
use lifeboat_repo::{
    check::{self, WalCheckMode},
    document::{DocumentKind, Position},
    progress::Silent,
    repository::Repository,
    seal::Identity,
    wal::WalObjectKind::{Segment, Slice},
};
use lifeboat_store::Key;
use serde::{Deserialize, Serialize};

use crate::{memory::MemoryStore, world::*};

#[derive(Serialize, Deserialize)]
struct Golden {
    /// Made for this fixture alone; they open nothing else.
    recovery_identity: String,
    host_identity: String,
    trusted_key: PublicKey,
    objects: BTreeMap<String, String>,
}

const END: u64 = SEGMENT + 300_000;

/// Compresses well.
fn golden_wal(first: u64, last: u64) -> Bytes {
    (first..last).map(|at| (at / 5000) as u8).collect()
}

fn position(lsn: u64) -> Position {
    Position { system_id: SYSTEM, timeline: TIMELINE, lsn: Lsn(lsn) }
}

async fn make() -> String {
    let world = World::new();
    let (repo, writer, keys) = (world.repo().await, world.writer().await, world.document_keys());
    repo.put_document(DocumentKind::Timeline, position(0), &"timeline 3", &keys, now()).await.unwrap();
    for (kind, first, last) in [
        (Slice, 0, 100),
        (Slice, 100, SEGMENT),
        (Segment, 0, SEGMENT),
        (Slice, SEGMENT, END - 1),
        (Slice, END - 1, END),
    ] {
        let commits = (first == 0).then(commits);
        writer.put(kind, SYSTEM, TIMELINE, SEGMENT, Lsn(first), golden_wal(first, last), commits).await.unwrap();
    }
    repo.put_document(DocumentKind::RestorePoint, position(500), &"before the upgrade", &keys, now()).await.unwrap();
    repo.put_document(DocumentKind::Witness, position(700), &"digests", &keys, now()).await.unwrap();
    let mut objects = BTreeMap::new();
    for key in world.memory.keys("") {
        let bytes = repo.store().get(&Key::new(key.as_str()).unwrap(), None, None).await.unwrap();
        objects.insert(key, hex::encode(bytes));
    }
    let text = |identity: &Identity| identity.to_secret_text().expose().to_owned();
    let (recovery_identity, host_identity) = (text(&world.recovery), text(&world.host));
    let golden = Golden { recovery_identity, host_identity, trusted_key: world.signing.public(), objects };
    serde_json::to_string_pretty(&golden).unwrap() + "\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_archive_opens() {
    if let Ok(file) = std::env::var("LIFEBOAT_NEW_GOLDEN") {
        std::fs::write(file, make().await).unwrap();
        return;
    }
    let golden: Golden = serde_json::from_str(include_str!("golden/v1.json")).unwrap();
    let store: lifeboat_store::SharedStore = Arc::new(MemoryStore::default());
    for (key, bytes) in &golden.objects {
        store.put(&Key::new(key.as_str()).unwrap(), hex::decode(bytes).unwrap().into()).await.unwrap();
    }
    let repository = Repository::open(store).await.unwrap();
    assert_eq!(repository.id(), RepositoryId([1; 16]));
    let repo = repository.instance(&"hospital".parse().unwrap(), &"clinic".parse().unwrap());
    let trusted = [golden.trusted_key];
    let identity = |text: &str| vec![Identity::from_secret_text(&Secret::new(text)).unwrap()];
    let (recovery, host) = (identity(&golden.recovery_identity), identity(&golden.host_identity));

    let report = check::wal(&repo, &trusted, WalCheckMode::ReadCiphertext, Arc::new(Silent)).await.unwrap();
    assert_eq!((report.problems, report.documents), (vec![], 3));
    assert_eq!(report.streams[0].runs, [(Lsn(0), Lsn(END))]);
    assert_eq!((report.streams[0].segments, report.streams[0].slices), (1, 2));

    let archive = repo.wal_archive();
    assert_eq!(archive.streams().await.unwrap(), [(SYSTEM, TIMELINE)]);
    let listing = archive.list(SYSTEM, TIMELINE, Lsn(0)).await.unwrap();
    let run = listing.from(Lsn(5)).unwrap();
    assert_eq!(pieces(&run), [(0, SEGMENT), (SEGMENT, END - 1), (END - 1, END)]);
    let superseded = archive.replacements(&run.objects[0]).await.unwrap();
    let reader = archive.reader(trusted.to_vec(), recovery.clone());
    for object in run.objects.iter().chain(&superseded) {
        assert!(reader.read(object).await.unwrap() == golden_wal(object.first.0, object.last.0), "{}", object.key);
        let header = archive.head(object, &trusted).await.unwrap();
        assert_eq!(header.commits, (object.first == Lsn(0)).then(commits));
    }
    let documents = [
        (DocumentKind::Timeline, 0, "timeline 3"),
        (DocumentKind::RestorePoint, 500, "before the upgrade"),
        (DocumentKind::Witness, 700, "digests"),
    ];
    for (kind, lsn, content) in documents {
        let found = repo.list_documents(kind).await.unwrap();
        assert_eq!((found.len(), found[0].position), (1, position(lsn)));
        for identities in [&recovery, &host] {
            let document = repo.read_document::<String>(&found[0], &trusted, identities).await.unwrap();
            assert_eq!((document.details.as_str(), document.created), (content, now()));
        }
    }
}
