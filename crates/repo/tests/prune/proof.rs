//! The proof of locks, their extension, and signs of an attack.

use std::sync::Arc;

use futures::TryStreamExt as _;
use jiff::Timestamp;
use lifeboat_model::{
    id::PointId,
    retention::{LockMode, later},
    signature::SigningKey,
};
use lifeboat_repo::{
    Error,
    check::{self, LocksReport, SignKind, SignsReport},
    document::DocumentKind,
    point::Point,
    progress::Silent,
    prune::Fate,
    reach::Needs,
    repository::Repository,
    retain,
};
use lifeboat_store::{
    Key, Store as _,
    fault::{Fault, FaultStore, Operation, Rule},
    vault::VaultStore,
};

use crate::world::*;

const DAYS: u64 = 86_400;

fn locked() -> Policy {
    policy(std::time::Duration::from_secs(6 * DAYS))
}

async fn prove(world: &World, needs: &Needs, mode: LockMode) -> LocksReport {
    let repo = world.repo().await;
    check::locks(&repo, needs, mode, &world.trusted(), Arc::new(Silent)).await.unwrap()
}

async fn extend(world: &World, needs: &Needs, dry_run: bool) -> retain::RetainReport {
    let repo = world.repo().await;
    let (trusted, now) = (world.trusted(), world.now());
    retain::extend(&repo, needs, LockMode::Compliance, &trusted, now, dry_run, Arc::new(Silent)).await.unwrap()
}

async fn two() -> (World, Point, Point) {
    let world = World::new(locked());
    world.put_document(world.store(), DocumentKind::Timeline, stream(SEGMENT)).await.unwrap();
    let first = world.backup(&files(0), stream(SEGMENT)).await;
    world.put_wal(world.store(), stream(SEGMENT), 2 * SEGMENT + 1000).await.unwrap();
    world.store_clock.advance(HOUR);
    let second = world.backup(&files(10), stream(3 * SEGMENT)).await;
    world.store_clock.advance(HOUR);
    (world, first, second)
}

fn until(world: &World, days: u64) -> Timestamp {
    later(world.now(), std::time::Duration::from_secs(days * DAYS))
}

fn ends(first: (&Point, Timestamp), second: (&Point, Timestamp)) -> Needs {
    let mut needs = keep(&[first.0, second.0], &[]);
    needs.points.insert(first.0.header.point, first.1);
    needs.points.insert(second.0.header.point, second.1);
    needs
}

#[tokio::test]
async fn every_object_gets_the_latest_end_of_the_points_that_name_it_and_is_asked_once() {
    let (world, first, second) = two().await;
    let (far, farther) = (until(&world, 500), until(&world, 600));
    let mut needs = ends((&first, farther), (&second, far));
    (needs.wal.until, needs.slice_until) = (until(&world, 50), until(&world, 40));
    let short = prove(&world, &needs, LockMode::Compliance).await;
    assert_eq!(short.problems.len() as u64, short.objects, "nothing is locked so long");
    let shared: Vec<&Key> = first
        .header
        .objects
        .iter()
        .filter(|o| second.header.objects.iter().any(|p| p.key == o.key))
        .map(|o| &o.key)
        .collect();
    assert!(!shared.is_empty());
    for problem in &short.problems {
        if shared.contains(&&problem.key) {
            assert_eq!(problem.points, [first.header.point, second.header.point], "{problem:?}");
        }
    }
    let plan = extend(&world, &needs, true).await;
    assert_eq!((plan.extended, plan.enough), (plan.objects, 0), "{plan:?}");
    assert_eq!(prove(&world, &needs, LockMode::Compliance).await.locked, 0, "a dry run changes nothing");

    let done = extend(&world, &needs, false).await;
    assert_eq!(done, plan);
    let proof = prove(&world, &needs, LockMode::Compliance).await;
    assert_eq!((proof.problems.len(), proof.locked, proof.earliest), (0, proof.objects, Some(needs.slice_until)));
    for object in &second.header.objects {
        let lock = world.vault.lock_state(&object.key, object.version.as_ref()).await.unwrap().retention.unwrap();
        assert_eq!(lock.until, if shared.contains(&&object.key) { farther } else { far }, "{}", object.key);
    }
    let mut of_indexes = Vec::new();
    for index in world.names("index/").await {
        let lock = world.vault.lock_state(&Key::new(index).unwrap(), None).await.unwrap().retention.unwrap();
        of_indexes.push(lock.until);
    }
    of_indexes.sort();
    assert_eq!(of_indexes, [far, farther], "as long as the packs that each names");
    let again = extend(&world, &needs, false).await;
    assert_eq!((again.extended, again.enough), (0, again.objects));
}

#[tokio::test]
async fn what_headers_promise_spares_requests_but_not_in_a_copy() {
    let (world, first, second) = two().await;
    let promised = second.header.retain_until.unwrap();
    let mut needs = ends((&first, promised), (&second, promised));
    (needs.wal.until, needs.slice_until) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    let faults = FaultStore::new(world.store());
    let repo = world.repo_on(Arc::new(faults.clone())).await.unwrap();
    let trusted = world.trusted();
    let report =
        retain::extend(&repo, &needs, LockMode::Compliance, &trusted, world.now(), false, Arc::new(Silent)).await;
    let report = report.unwrap();
    let asked = faults.count(Operation::LockState, "");
    assert!(report.objects > 8 && asked < report.objects as usize / 2, "{asked} of {} asked", report.objects);

    // A copy whose locks nobody put: the headers are the primary's.
    let copy = VaultStore::new(world.store_clock.closure());
    let primary = Repository::open(world.store()).await.unwrap();
    Repository::init_replica(Arc::new(copy.clone()), &primary).await.unwrap();
    for version in world.versions().await {
        let key = version.info.key;
        let bytes = world.vault.get(&key, version.info.version.as_ref(), None).await.unwrap();
        copy.put(&key, bytes).await.unwrap();
    }
    let replica = Repository::open(Arc::new(copy.clone())).await.unwrap();
    let replica = replica.instance(&"hospital".parse().unwrap(), &"clinic".parse().unwrap());
    let report =
        retain::extend(&replica, &needs, LockMode::Compliance, &trusted, world.now(), false, Arc::new(Silent)).await;
    assert_eq!(report.unwrap().enough, 3, "two segments or documents and a slice need no lock any more");
    let proof = check::locks(&replica, &needs, LockMode::Compliance, &trusted, Arc::new(Silent)).await.unwrap();
    let of_points: Vec<_> = proof.problems.iter().filter(|problem| !problem.points.is_empty()).collect();
    assert_eq!(of_points, Vec::<&check::Problem>::new());
}

#[tokio::test]
async fn each_thing_that_is_not_locked_is_named_with_its_points() {
    let (world, first, second) = two().await;
    let needs = world.needs(&world.repo().await, true).await.unwrap();
    assert_eq!(prove(&world, &needs, LockMode::Compliance).await.problems, []);
    let tree = second.header.trees[0].objects[0].clone();
    let named = |key: &Key| second.header.objects.iter().find(|object| object.key == *key).unwrap().version.clone();
    // A server that forgets: nothing that a thief could do.
    let forgetful = world.fork();
    let missing = second.header.wal.as_ref().unwrap().objects[0].clone();
    forgetful.store_clock.advance(1000 * DAY);
    forgetful.vault.delete(&missing, named(&missing).as_ref()).await.unwrap();
    forgetful.vault.thief().set_retention(&tree, &named(&tree).unwrap(), None).unwrap();
    forgetful.store_clock.advance(-1000 * DAY);
    let proof = prove(&forgetful, &needs, LockMode::Compliance).await;
    let what = |key: &Key| {
        let found = proof.problems.iter().find(|problem| problem.key == *key).unwrap();
        assert_eq!(found.points, [second.header.point]);
        found.what.clone()
    };
    assert_eq!(proof.problems.len(), 2, "{:?}", proof.problems);
    assert!(what(&missing).contains("missing") && what(&tree).contains("not locked"));

    let governed = World { policy: Policy { lock: None, ..locked() }, ..world.fork() };
    let third = governed.backup(&files(20), stream(4 * SEGMENT)).await;
    let needs = keep(&[&third], &[&first, &second]);
    let proof = prove(&governed, &needs, LockMode::Governance).await;
    let unlocked: Vec<_> = proof.problems.iter().filter(|problem| problem.what.contains("not locked")).collect();
    assert!(unlocked.iter().any(|problem| problem.key == third.key), "{:?}", proof.problems);
    assert!(unlocked.len() < proof.objects as usize, "the packs that it shares are locked");
}

#[tokio::test]
async fn a_weaker_mode_and_a_shortened_lock_are_told_apart() {
    let (world, _, second) = two().await;
    let mut weak = locked();
    weak.lock.as_mut().unwrap().mode = LockMode::Governance;
    let governed = World::new(weak);
    let point = governed.backup(&files(0), stream(SEGMENT)).await;
    let mut needs = keep(&[&point], &[]);
    needs.points.insert(point.header.point, until(&governed, 1));
    assert_eq!(prove(&governed, &needs, LockMode::Governance).await.problems, []);
    let proof = prove(&governed, &needs, LockMode::Compliance).await;
    assert_eq!(proof.problems.len() as u64, proof.objects);
    assert!(proof.problems.iter().all(|problem| problem.what.contains("governance mode")), "{:?}", proof.problems);

    let promised = second.header.retain_until.unwrap();
    let sooner = lifeboat_store::Retention { mode: LockMode::Compliance, until: until(&world, 2) };
    world.store_clock.advance(1000 * DAY);
    let version = second.version.clone().unwrap();
    let past = lifeboat_store::Retention { until: Timestamp::from_second(BEGIN + 5 * DAY).unwrap(), ..sooner };
    world.vault.thief().set_retention(&second.key, &version, Some(past)).unwrap();
    world.store_clock.advance(-1000 * DAY);
    let mut needs = keep(&[&second], &[]);
    needs.points.insert(second.header.point, until(&world, 1));
    (needs.wal.until, needs.slice_until) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    let proof = prove(&world, &needs, LockMode::Compliance).await;
    assert_eq!(proof.problems.len(), 1, "{:?}", proof.problems);
    assert!(proof.problems[0].what.contains("shortened") && proof.problems[0].what.contains(&promised.to_string()));
    let signs = signs(&world).await;
    assert_eq!((signs.shortened, signs.samples[0].kind), (1, SignKind::ShortenedLock));
}

#[tokio::test]
async fn refusals_are_named_and_an_unreachable_store_is_an_error() {
    let (world, first, second) = two().await;
    let needs = ends((&first, until(&world, 500)), (&second, until(&world, 500)));
    let faults = FaultStore::new(world.store());
    let repo = world.repo_on(Arc::new(faults.clone())).await.unwrap();
    let trusted = world.trusted();
    let extending =
        || retain::extend(&repo, &needs, LockMode::Compliance, &trusted, world.now(), false, Arc::new(Silent));
    faults.add(Rule::on(Operation::ExtendLock, Fault::Refuse).key("/trees/").times(2));
    let report = extending().await.unwrap();
    assert_eq!(report.refused.len(), 2);
    assert!(report.refused.iter().all(|(key, why)| key.as_str().contains("/trees/") && why.contains("refused")));
    assert_eq!(report.extended + report.enough + 2, report.objects);
    faults.add(Rule::on(Operation::LockState, Fault::FailBefore).nth(3));
    let error = extending().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    faults.heal();
    let report = extending().await.unwrap();
    assert_eq!((report.extended, report.refused.len()), (2, 0), "only what was refused is left");
    let plain = World::new(no_locks());
    let point = plain.backup(&files(0), stream(SEGMENT)).await;
    let directory = lifeboat_store::local::LocalStore::open(&plain.cache.join("store"), true).unwrap();
    let repo = plain.repo_on(Arc::new(directory)).await.unwrap();
    let needs = keep(&[&point], &[]);
    let error =
        retain::extend(&repo, &needs, LockMode::Compliance, &trusted, plain.now(), false, Arc::new(Silent)).await;
    assert!(matches!(error, Err(Error::Store(lifeboat_store::Error::NoLocks { .. }))), "{error:?}");
}

async fn signs(world: &World) -> SignsReport {
    check::signs(&world.repo().await, &world.trusted(), Arc::new(Silent)).await.unwrap()
}

#[tokio::test]
async fn what_a_thief_leaves_is_found_and_nothing_else() {
    let (world, first, second) = two().await;
    assert_eq!(signs(&world).await.count(), 0, "{:?}", signs(&world).await.samples);
    let thief = world.vault.thief();
    let pack = second.header.objects[1].key.clone();
    thief.overwrite(&pack, "x".into());
    thief.delete_marker(&pack);
    thief.delete_marker(&Key::new("hospital/evidence/2027/run").unwrap());
    thief.overwrite(&Key::new("lifeboat.json").unwrap(), "{}".into());
    thief.overwrite(&Key::new(format!("{ROOT}wal/7/1/x")).unwrap(), "x".into());
    let garbage = Key::new(format!("{ROOT}points/20270301T000000Z-0123456789abcdef")).unwrap();
    world.vault.put(&garbage, "x".into()).await.unwrap();
    let forged = world.forge(&first, &SigningKey::from_seed(&[8; 32]), |header| header.point = PointId([1; 8])).await;
    // What is not the instance's is not looked at; leases come and go.
    thief.overwrite(&Key::new("hospital/other/packs/x").unwrap(), "x".into());
    thief.delete_marker(&Key::new(format!("{ROOT}lease/0000000000000001-{}-00000000", "ab".repeat(16))).unwrap());
    let found = signs(&world).await;
    let mut kinds: Vec<(SignKind, &str)> = found.samples.iter().map(|sign| (sign.kind, sign.key.as_str())).collect();
    kinds.sort();
    let mut expected = [
        (SignKind::NewerVersion, pack.as_str()),
        (SignKind::NewerVersion, "lifeboat.json"),
        (SignKind::DeleteMarker, pack.as_str()),
        (SignKind::DeleteMarker, "hospital/evidence/2027/run"),
        (SignKind::StrangeKey, "hospital/clinic/wal/7/1/x"),
        (SignKind::StrangePoint, forged.as_str()),
        (SignKind::DamagedPoint, garbage.as_str()),
    ];
    expected.sort();
    assert_eq!(kinds, expected);
    assert_eq!((found.newer_versions, found.delete_markers, found.strange_keys, found.strange_points), (2, 2, 1, 2));
}

/// What was written before the bucket had versions names none; now somebody has put a version over everything.
async fn overwritten_without_versions() -> (World, Point) {
    let (world, folder) = (World::new(Policy { lock: None, ..locked() }), tempfile::tempdir().unwrap());
    let old = Arc::new(lifeboat_store::local::LocalStore::open(folder.path(), true).unwrap());
    let point = world.backup_on(old.clone(), &files(0), stream(SEGMENT)).await.unwrap();
    assert!(point.header.objects.iter().all(|object| object.version.is_none()));
    let listed: Vec<lifeboat_store::ObjectInfo> = old.list("").try_collect().await.unwrap();
    let keys: Vec<Key> =
        listed.into_iter().map(|info| info.key).filter(|key| !key.as_str().contains("/lease/")).collect();
    for key in &keys {
        world.vault.put(key, old.get(key, None, None).await.unwrap()).await.unwrap();
    }
    for key in &keys {
        world.vault.thief().overwrite(key, "x".into());
    }
    let world = World { policy: locked(), ..world };
    (world, point)
}

#[tokio::test]
async fn what_names_no_version_means_the_first_one() {
    let (world, point) = overwritten_without_versions().await;
    let far = until(&world, 500);
    let mut needs = keep(&[&point], &[]);
    needs.points.insert(point.header.point, far);
    let newest = |key: &Key| world.vault.versions_of(key).into_iter().find(|found| found.latest).unwrap().info.version;
    for object in &point.header.objects {
        // The thief locks his own version; it is not the one that the proof is about.
        let lock = lifeboat_store::Retention { mode: LockMode::Compliance, until: far };
        world.vault.extend_lock(&object.key, newest(&object.key).as_ref(), lock).await.unwrap();
    }
    let proof = prove(&world, &needs, LockMode::Compliance).await;
    assert_eq!(proof.locked, 0, "nothing of the point is locked: {proof:?}");
    extend(&world, &needs, false).await;
    for object in &point.header.objects {
        let first = world.repo().await.store_of(None);
        let state = first.lock_state(&object.key, None).await.unwrap();
        assert_eq!(state.retention.map(|lock| lock.until), Some(far), "{}", object.key);
    }
    assert_eq!(prove(&world, &needs, LockMode::Compliance).await.problems, []);
}

/// WAL of this stream, signed by somebody else.
async fn forged_wal(world: &World, stream: Stream, first: u64) -> Key {
    let (recipients, theirs) = (vec![world.recovery.recipient()], SigningKey::from_seed(&[8; 32]));
    let writer = lifeboat_repo::wal::WalWriter::new(world.repo().await, recipients, theirs, 1);
    let kind = lifeboat_repo::wal::WalObjectKind::Segment;
    let Stream { system_id, timeline, .. } = stream;
    let bytes = wal(first, first + SEGMENT);
    let put = writer.put(kind, system_id, timeline, SEGMENT, lifeboat_model::lsn::Lsn(first), bytes, None).await;
    put.unwrap().key
}

#[tokio::test]
async fn junk_under_the_names_of_wal_is_neither_locked_nor_kept_for_ever() {
    let (world, _, second) = two().await;
    let later = Stream { timeline: 9, ..stream(0) };
    let forged = [forged_wal(&world, later, 9 * SEGMENT).await, forged_wal(&world, stream(0), 9 * SEGMENT).await];
    let empty = Key::new(forged[0].as_str().rsplit_once('-').unwrap().0.to_owned() + "-" + &"cd".repeat(16)).unwrap();
    world.vault.put(&empty, "".into()).await.unwrap();
    let locked = async |key: &Key| {
        let first = world.repo().await.store_of(None);
        first.lock_state(key, None).await.unwrap().retention.map(|lock| lock.until)
    };
    let before = [locked(&forged[0]).await, locked(&forged[1]).await, locked(&empty).await];
    let far = until(&world, 500);
    let mut needs = keep(&[&second], &[]);
    (needs.wal.until, needs.slice_until) = (far, far);
    let report = extend(&world, &needs, false).await;
    assert_eq!(report.foreign, 3, "{report:?}");
    assert_eq!(before, [locked(&forged[0]).await, locked(&forged[1]).await, locked(&empty).await]);
    assert_eq!(prove(&world, &needs, LockMode::Compliance).await.problems, [], "what is not ours needs no lock");
    world.store_clock.advance(DAY);
    let (report, items) = world.prune_with(&world.repo().await, &needs, world.prune_options()).await.unwrap();
    assert_eq!((fate(&items, &forged[0]), fate(&items, &empty)), (&Fate::Foreign, &Fate::Foreign), "{items:?}");
    assert_eq!(report.foreign.objects, 2);
    // A stream that a trusted document begins is believed by its names, so that prune need not read all of it.
    world.put_document(world.store(), DocumentKind::Timeline, Stream { lsn: 9 * SEGMENT, ..later }).await.unwrap();
    let (_, items) = world.prune_with(&world.repo().await, &needs, world.prune_options()).await.unwrap();
    assert!(items.iter().all(|item| item.key != forged[0]), "{items:?}");
}

#[tokio::test]
async fn what_nobody_trusted_has_signed_is_a_sign_wherever_it_lies() {
    let (world, ..) = two().await;
    let wal = forged_wal(&world, stream(0), 9 * SEGMENT).await;
    let copy = async |folder: &str, id: &str| {
        let genuine = Key::new(world.names(folder).await.remove(0)).unwrap();
        let bytes = world.vault.get(&genuine, None, None).await.unwrap();
        let (place, name) = genuine.as_str().rsplit_once('/').unwrap();
        let name = &name[..name.len() - 32];
        let key = Key::new(format!("{place}/{name}{}", id.repeat(16))).unwrap();
        world.vault.put(&key, bytes).await.unwrap();
        key
    };
    let (index, document) = (copy("index/", "ef").await, copy("timelines/", "ef").await);
    let found = signs(&world).await;
    let mut kinds: Vec<(SignKind, &Key)> = found.samples.iter().map(|sign| (sign.kind, &sign.key)).collect();
    kinds.sort();
    let strange =
        [(SignKind::StrangeIndex, &index), (SignKind::StrangeWal, &wal), (SignKind::StrangeDocument, &document)];
    assert_eq!((kinds, found.forged), (strange.to_vec(), 3));
}

#[tokio::test]
async fn what_was_promised_less_firmly_is_asked_for_again() {
    let mut weak = locked();
    weak.lock.as_mut().unwrap().mode = LockMode::Governance;
    let world = World::new(weak);
    let point = world.backup(&files(0), stream(SEGMENT)).await;
    let mut needs = keep(&[&point], &[]);
    needs.points.insert(point.header.point, point.header.retain_until.unwrap());
    let report = extend(&world, &needs, false).await;
    assert!(report.extended >= point.header.objects.len() as u64, "{report:?}");
    assert_eq!(prove(&world, &needs, LockMode::Compliance).await.problems, []);
}
