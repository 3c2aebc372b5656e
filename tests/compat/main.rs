//! A repository that was written by the first release opens for ever.
//!
//! `repos/v1.json` holds every object of a small repository, and the keys made for it alone. It is never written again;
//! a change that cannot read it is a change of the format, and needs a new version beside it.
//! `LIFEBOAT_NEW_GOLDEN=FILE cargo test -p lifeboat --test compat` writes a new one with the current writer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use lifeboat_model::{
    id::{Instance, RepositoryId, Tenant},
    lsn::Lsn,
    secret::Secret,
    signature::{PublicKey, SigningKey},
};
use lifeboat_repo::{
    check::{VerifyMode, verify},
    point::{PointDetails, PointSelector},
    progress::Silent,
    reader::{Reader, ReaderOptions, Sink, Wanted},
    repository::Repository,
    seal::Identity,
    tree::{Entry, EntryKind, FileTime, TreeKind},
    writer::{Chunking, Finish, PointDraft, WalSpan, Writer, WriterKeys, WriterOptions},
};
use lifeboat_store::{Key, SharedStore, local::LocalStore};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Golden {
    /// Made for this fixture alone; they open nothing else.
    recovery_identity: String,
    host_identity: String,
    trusted_key: PublicKey,
    objects: BTreeMap<String, String>,
}

fn tenant() -> Tenant {
    "golden-group".parse().unwrap()
}

fn instance() -> Instance {
    "clinic".parse().unwrap()
}

/// What the golden repository holds, file by file.
fn files() -> Vec<(TreeKind, &'static str, Vec<u8>, Chunking)> {
    let text = b"An invoice of 2026. ".repeat(500);
    let noise: Vec<u8> = (0..20_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut relation = vec![0; 3 * 8192];
    relation[8192..8192 + 5].copy_from_slice(b"tuple");
    vec![
        (TreeKind::Database, "base/5/1259", relation, Chunking::RELATION),
        (TreeKind::Database, "global/pg_control", b"control".to_vec(), Chunking::RELATION),
        (TreeKind::Filestore, "demo/ab/first", text.clone(), Chunking::DOCUMENT),
        (TreeKind::Filestore, "demo/ab/same-again", text, Chunking::DOCUMENT),
        (TreeKind::Filestore, "demo/cd/noise", noise, Chunking::DOCUMENT),
        (TreeKind::Config, "paths/etc/odoo/odoo.conf", b"[options]\n".to_vec(), Chunking::DOCUMENT),
        (TreeKind::Config, "paths/etc/odoo/empty", Vec::new(), Chunking::DOCUMENT),
    ]
}

fn wal() -> Vec<u8> {
    (0..100_000u32).map(|at| (at % 7) as u8).collect()
}

#[tokio::test]
async fn version_1_opens() {
    if let Ok(file) = std::env::var("LIFEBOAT_NEW_GOLDEN") {
        std::fs::write(file, make().await).unwrap();
        return;
    }
    let golden: Golden = serde_json::from_str(include_str!("repos/v1.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store: SharedStore = Arc::new(LocalStore::open(folder.path(), true).unwrap());
    for (key, bytes) in &golden.objects {
        let bytes = Bytes::from(STANDARD.decode(bytes).unwrap());
        store.put(&Key::new(key.as_str()).unwrap(), bytes).await.unwrap();
    }

    let repo = Repository::open(store).await.unwrap().instance(&tenant(), &instance());
    let point = repo.find_point(&PointSelector::Latest, &[golden.trusted_key]).await.unwrap();
    let identity = |text: &str| [Identity::from_secret_text(&Secret::new(text)).unwrap()];
    let recovery = identity(&golden.recovery_identity);
    assert_eq!(point.open_details(&recovery).unwrap().notes, ["golden"]);

    let mode = VerifyMode::ReadData(recovery.to_vec());
    let report = verify(&repo, std::slice::from_ref(&point), mode, Arc::new(Silent)).await.unwrap();
    assert_eq!(report.problems, []);
    assert!(report.chunks >= 4, "{report:?}");

    let options = ReaderOptions::default();
    let reader = Reader::open(repo.clone(), &point, &recovery, options.clone(), Arc::new(Silent)).await.unwrap();
    for kind in TreeKind::ALL {
        let memory = Arc::new(Memory::default());
        let restored = reader.restore_tree(kind, memory.clone(), None).await.unwrap();
        assert_eq!(restored.damage, []);
        let expected: BTreeMap<_, _> =
            files().into_iter().filter(|file| file.0 == kind).map(|file| (file.1.to_owned(), file.2)).collect();
        assert_eq!(*memory.files.lock().unwrap(), expected, "{kind}");
    }
    let slices = reader.wal_slices();
    assert_eq!((slices.len(), slices[0].first), (1, Lsn(0x0100_0000)));
    assert_eq!(reader.read_wal(&slices[0]).await.unwrap(), wal());

    // The host that wrote it can list it, and can open none of its data.
    let host = identity(&golden.host_identity);
    let reader = Reader::open(repo, &point, &host, options, Arc::new(Silent)).await.unwrap();
    let mut listed = reader.entries(TreeKind::Filestore).unwrap().unwrap();
    assert_eq!(listed.next().await.unwrap().unwrap().display_path(), "demo/ab/first");
    let refused = reader.check_identity().await.unwrap_err();
    assert!(matches!(refused, lifeboat_repo::Error::WrongIdentity { .. }), "{refused}");
}

/// Files in memory.
#[derive(Default)]
struct Memory {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Sink for Memory {
    fn begin(&self, entry: &Entry) -> io::Result<Wanted> {
        if let EntryKind::File { size, .. } = entry.kind {
            self.files.lock().unwrap().insert(entry.display_path(), vec![0; size as usize]);
        }
        Ok(Wanted::All)
    }

    fn write(&self, path: &[u8], offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        let file = files.get_mut(std::str::from_utf8(path).unwrap()).unwrap();
        file[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn end(&self, _entry: &Entry) -> io::Result<()> {
        Ok(())
    }
}

async fn make() -> String {
    let folder = tempfile::tempdir().unwrap();
    let store: SharedStore = Arc::new(LocalStore::open(&folder.path().join("repository"), true).unwrap());
    let time: Timestamp = "2026-11-21T20:00:00Z".parse().unwrap();
    let (recovery, host) = (Identity::generate(), Identity::generate());
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    let signing = SigningKey::from_seed(&seed);
    let repository = Repository::init(store.clone(), RepositoryId([7; 16]), time).await.unwrap();
    let keys = WriterKeys {
        recipients: vec![recovery.recipient()],
        host: host.clone(),
        signing: signing.clone(),
        trusted: vec![signing.public()],
    };
    let options = WriterOptions {
        level: 3,
        pack_size: 16 << 20,
        workers: 1,
        uploads: 1,
        cache_dir: folder.path().join("cache"),
        software: "lifeboat golden".to_owned(),
        clock: Arc::new(move || time),
    };
    let repo = repository.instance(&tenant(), &instance());
    let mut writer = Writer::begin(repo, keys, options, Arc::new(Silent)).await.unwrap();
    for kind in TreeKind::INSTANCE {
        writer.begin_tree(kind).await.unwrap();
        for (_, path, content, chunking) in files().into_iter().filter(|file| file.0 == kind) {
            let mtime = FileTime { seconds: 1_790_000_000, nanos: 5 };
            let entry = Entry {
                path: path.as_bytes().to_vec(),
                kind: EntryKind::File { size: 0, extents: Vec::new() },
                mode: 0o640,
                uid: 100,
                gid: 101,
                mtime,
                xattrs: vec![(b"user.origin".to_vec(), b"golden".to_vec())],
                ..Entry::default()
            };
            writer.begin_file(entry, chunking).await.unwrap();
            writer.data(content.into()).await.unwrap();
            writer.end_file(Finish::default()).await.unwrap();
        }
        writer.end_tree().await.unwrap();
    }
    let (start, bytes) = (Lsn(0x0100_0000), wal());
    let end = Lsn(start.0 + bytes.len() as u64);
    writer.put_wal(42, 1, start, bytes.into()).await.unwrap();
    let details = PointDetails { notes: vec!["golden".to_owned()], ..PointDetails::default() };
    let wal = Some(WalSpan { system_id: 42, timeline: 1, start, end });
    writer.commit(PointDraft { started: time, details, wal }).await.unwrap();

    let mut objects = BTreeMap::new();
    use futures::TryStreamExt as _;
    let listed: Vec<_> = store.list("").try_collect().await.unwrap();
    for object in listed.iter().filter(|object| !object.key.as_str().contains("/lease/")) {
        let bytes = store.get(&object.key, None, None).await.unwrap();
        objects.insert(object.key.to_string(), STANDARD.encode(bytes));
    }
    let golden = Golden {
        recovery_identity: recovery.to_secret_text().expose().to_owned(),
        host_identity: host.to_secret_text().expose().to_owned(),
        trusted_key: signing.public(),
        objects,
    };
    serde_json::to_string_pretty(&golden).unwrap() + "\n"
}
