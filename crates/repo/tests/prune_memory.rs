//! A hundred thousand objects: what prune plans and what the proof of locks reads back is never held as names.
//!
//! Alone in its process, because it measures the process.

#![allow(missing_docs, clippy::unwrap_used)] // a test ends where something is not as it must be

use std::{collections::BTreeMap, fs, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use lifeboat_model::{
    id::{ObjectId, PointId, RepositoryId, Sha256Digest},
    retention::LockMode,
    signature::SigningKey,
};
use lifeboat_repo::{
    check,
    point::{FORMAT, ObjectKind, ObjectRef, PointHeader, SealedPart},
    progress::Silent,
    prune::{self, PruneItem, PruneKind, PruneOptions},
    reach::{Needs, WalNeeds},
    repository::{InstanceRepo, Repository},
    retain,
};
use lifeboat_store::{Key, Retention, SharedStore, Store as _, VersionId, vault::VaultStore};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

const OBJECTS: usize = 100_000;
const POINTS: usize = 4;
/// Packs that a point names, and how many of them the next one does not.
const NAMED: usize = 72_000;
const STEP: usize = 8_000;
const ORPHANS: usize = OBJECTS - NAMED - (POINTS - 1) * STEP;
const LIMIT: u64 = 256 << 20;

fn now() -> Timestamp {
    "2026-11-21T20:00:00Z".parse().unwrap()
}

fn end() -> Timestamp {
    now() + SignedDuration::from_hours(24)
}

fn pack_key(n: usize) -> Key {
    let id = ObjectId(*blake3::hash(&n.to_le_bytes()).as_bytes().first_chunk().unwrap()).to_string();
    Key::new(format!("hospital/clinic/packs/{}/{id}", &id[..2])).unwrap()
}

/// FORMAT.md, "Signed objects", without the code that is tested.
fn envelope(header: &PointHeader, sealed: &[u8], signing: &SigningKey) -> Vec<u8> {
    let json = serde_json::to_vec(header).unwrap();
    let mut out = b"LBPOINT1".to_vec();
    out.extend((json.len() as u32).to_le_bytes());
    out.extend(&json);
    out.extend(1u16.to_le_bytes());
    out.extend(signing.public().as_bytes());
    out.extend(signing.sign(&[b"lifeboat recovery point v1\n".as_slice(), &json].concat()));
    out.extend((sealed.len() as u64).to_le_bytes());
    out.extend(sealed);
    let digest = Sha256::digest(&out);
    out.extend(digest);
    out
}

struct World {
    vault: VaultStore,
    repo: InstanceRepo,
    signing: SigningKey,
    needs: Needs,
    /// What the store itself takes, and what was in use before it was filled.
    own: u64,
}

async fn world() -> World {
    let vault = VaultStore::new(Arc::new(now));
    let store: SharedStore = Arc::new(vault.clone());
    let repository = Repository::init(store, RepositoryId([1; 16]), now()).await.unwrap();
    let repo = repository.instance(&"hospital".parse().unwrap(), &"clinic".parse().unwrap());
    let signing = SigningKey::from_seed(&[5; 32]);
    let lock = Retention { mode: LockMode::Compliance, until: end() };
    let retention = Some(lock);
    let mut versions: Vec<Option<VersionId>> = Vec::new();
    for n in 0..OBJECTS {
        // Orphans are not locked, and nothing is old enough to go: it is a dry run.
        let lock = retention.filter(|_| n < OBJECTS - ORPHANS);
        versions.push(vault.put_locked(&pack_key(n), "x".into(), lock).await.unwrap().version);
    }
    let mut own = status("VmRSS");
    let mut needs = Needs { slice_until: end(), ..Needs::default() };
    needs.wal = WalNeeds { base: None, since: now(), until: end() };
    for point in 0..POINTS {
        let id = PointId([point as u8; 8]);
        let finished = now() - SignedDuration::from_mins(point as i64);
        let objects = (point * STEP..point * STEP + NAMED).map(|n| ObjectRef {
            key: pack_key(n),
            kind: ObjectKind::Pack,
            len: 1,
            sha256: Sha256Digest(Sha256::digest(b"x").into()),
            version: versions[n].clone(),
            retain_until: None,
        });
        let sealed = [9; 100];
        let header = PointHeader {
            format: FORMAT,
            features: vec![],
            point: id,
            repository: RepositoryId([1; 16]),
            tenant: "hospital".parse().unwrap(),
            instance: "clinic".parse().unwrap(),
            started: finished,
            finished,
            software: "lifeboat test".into(),
            chunk_key: ObjectId([3; 16]),
            recipients: vec![],
            trees: vec![],
            wal: None,
            sizes: BTreeMap::new(),
            retain_until: None,
            lock_mode: None,
            sealed: SealedPart { len: 100, sha256: Sha256Digest(Sha256::digest(sealed).into()) },
            objects: objects.collect(),
        };
        let name = format!("{}-{id}", lifeboat_model::time::compact(finished));
        let key = Key::new(format!("hospital/clinic/points/{name}")).unwrap();
        let object = envelope(&header, &sealed, &signing);
        own += object.len() as u64;
        vault.put_locked(&key, object.into(), retention).await.unwrap();
        needs.points.insert(id, end());
    }
    let marker = Key::new("lifeboat.json").unwrap();
    vault.extend_lock(&marker, None, lock).await.unwrap();
    World { vault, repo, signing, needs, own }
}

fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Bytes by which the peak of `work` lies above `own`: what was freed before, and is used again, counts as well.
async fn peak<T>(own: u64, work: impl Future<Output = T>) -> (u64, T) {
    fs::write("/proc/self/clear_refs", "5").unwrap(); // resets VmHWM to VmRSS
    let done = work.await;
    (status("VmHWM").saturating_sub(own), done)
}

#[tokio::test]
async fn a_hundred_thousand_objects_take_little_memory() {
    let world = world().await;
    assert_eq!(world.vault.snapshot().keys, OBJECTS + POINTS + 1);
    let trusted = [world.signing.public()];

    let options = PruneOptions {
        remove: false,
        foreign: false,
        disregard: Default::default(),
        software: "lifeboat test".into(),
        scratch: std::env::temp_dir(),
        now: now() + SignedDuration::from_hours(2),
        cancel: CancellationToken::new(),
    };
    let mut told = 0;
    let mut each = |item: &PruneItem| told += u64::from(item.kind == PruneKind::Pack);
    let run = prune::run(&world.repo, &world.needs, options, &trusted, &mut each, Arc::new(Silent));
    let (extra, report) = peak(world.own, run).await;
    let report = report.unwrap();
    eprintln!("prune --dry-run of {OBJECTS} objects: {} MiB", extra >> 20);
    assert_eq!((report.removed, told), (ORPHANS as u64, ORPHANS as u64));
    assert_eq!(report.kept[&PruneKind::Pack].objects, (OBJECTS - ORPHANS) as u64);
    assert!(extra < LIMIT, "prune took {} MiB", extra >> 20);

    let check = check::locks(&world.repo, &world.needs, LockMode::Compliance, &trusted, Arc::new(Silent));
    let (extra, report) = peak(world.own, check).await;
    let report = report.unwrap();
    eprintln!("verify --locks of {OBJECTS} objects: {} MiB", extra >> 20);
    assert_eq!((report.objects, report.locked), ((OBJECTS - ORPHANS + POINTS + 1) as u64, report.objects));
    assert_eq!(report.problems, []);
    assert!(extra < LIMIT, "the proof of locks took {} MiB", extra >> 20);

    let now = now();
    let extend = retain::extend(&world.repo, &world.needs, LockMode::Compliance, &trusted, now, true, Arc::new(Silent));
    let (extra, report) = peak(world.own, extend).await;
    let report = report.unwrap();
    eprintln!("extending the locks of {OBJECTS} objects: {} MiB", extra >> 20);
    assert_eq!((report.enough, report.extended), ((OBJECTS - ORPHANS + POINTS + 1) as u64, 0));
    assert!(extra < LIMIT, "retention took {} MiB", extra >> 20);

    let (extra, names) = peak(world.own, async { (0..8 * OBJECTS).map(pack_key).collect::<Vec<_>>() }).await;
    assert!(names.len() == 8 * OBJECTS && extra > 32 << 20, "the meter works: names take {} MiB", extra >> 20);
}
