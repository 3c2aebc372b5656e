//! What goes, what stays, and why.

use std::{collections::BTreeSet, sync::Arc};

use lifeboat_model::{lsn::Lsn, retention::LockMode, signature::SigningKey};
use lifeboat_repo::{
    document::DocumentKind,
    point::Point,
    prune::{Fate, PruneItem, PruneKind},
    reach::Needs,
    wal::{WalObject, WalObjectKind, WalWriter},
};
use lifeboat_store::{Key, Retention, Store as _, fault::FaultStore};

use crate::world::*;

fn of(items: &[PruneItem], kind: PruneKind) -> Vec<&PruneItem> {
    items.iter().filter(|item| item.kind == kind).collect()
}

/// A first point whose packs all others use, one with packs of its own that is not kept, and one that is.
async fn three(policy: Policy) -> (World, Point, Point) {
    let world = World::new(policy);
    world.backup(&files(0), stream(SEGMENT)).await;
    world.store_clock.advance(HOUR);
    let first = world.backup(&files(10), stream(SEGMENT + 4096)).await;
    world.store_clock.advance(HOUR);
    let second = world.backup(&files(20), stream(3 * SEGMENT)).await;
    (world, first, second)
}

/// All points but this one are kept; WAL from the last one on.
async fn without(world: &World, dropped: &Point, last: &Point) -> Needs {
    let points = world.points().await;
    let kept: Vec<&Point> = points.iter().filter(|point| point.header.point != dropped.header.point).collect();
    let mut needs = keep(&kept, &[dropped]);
    needs.wal.base = Some(last.header.point);
    needs
}

#[tokio::test]
async fn a_dry_run_says_what_a_run_does_and_changes_nothing() {
    let (world, first, second) = three(no_locks()).await;
    world.store_clock.advance(3 * HOUR);
    world.put_wal(world.store(), stream(SEGMENT - 5000), 3 * SEGMENT + 700).await.unwrap();
    world.store_clock.advance(3 * HOUR);
    let (needs, repo, before) = (without(&world, &first, &second).await, world.repo().await, world.versions().await);
    let options = lifeboat_repo::prune::PruneOptions { remove: false, ..world.prune_options() };
    let faults = FaultStore::new(world.store());
    let watched = world.repo_on(Arc::new(faults.clone())).await.unwrap();
    let (plan, planned) = world.prune_with(&watched, &needs, options).await.unwrap();
    assert!(world.versions().await == before);
    use lifeboat_store::fault::Operation;
    let writes = [Operation::Put, Operation::Delete, Operation::ExtendLock, Operation::LegalHold];
    assert!(faults.calls().iter().all(|(made, _)| !writes.contains(made)), "it needs no right to write");
    let (report, done) = world.prune_with(&repo, &needs, world.prune_options()).await.unwrap();
    let keys = |items: &[PruneItem], fate: Fate| -> BTreeSet<Key> {
        items.iter().filter(|item| item.fate == fate).map(|item| item.key.clone()).collect()
    };
    assert_eq!(keys(&planned, Fate::WouldRemove), keys(&done, Fate::Removed));
    assert_eq!((plan.removed, plan.freed_bytes, plan.kept), (report.removed, report.freed_bytes, report.kept.clone()));
    assert!(planned.iter().all(|item| !item.why.is_empty()));
    for kind in [PruneKind::Point, PruneKind::Tree, PruneKind::Pack, PruneKind::Index, PruneKind::PointWal] {
        assert!(!of(&done, kind).is_empty(), "no {} went: {done:?}", kind.word());
    }
    let left: u64 = world.versions().await.iter().map(|version| version.info.len).sum();
    assert_eq!(report.kept_bytes, left, "what is kept is what is left");
    world.assert_restores(&second).await;
}

#[tokio::test]
async fn what_nothing_locks_must_be_an_hour_old() {
    let (world, first, second) = three(no_locks()).await;
    let needs = without(&world, &first, &second).await;
    // The first point is an hour old, and what it names; the orphan is not.
    let orphan = Key::new(format!("{ROOT}packs/ab/{}", "ab".repeat(16))).unwrap();
    world.vault.put(&orphan, "x".into()).await.unwrap();
    world.store_clock.advance(HOUR - 1);
    let (_, items) = world.prune_with(&world.repo().await, &needs, world.prune_options()).await.unwrap();
    assert!(matches!(fate(&items, &orphan), Fate::Waits(why) if why.contains("hour")), "{items:?}");
    world.store_clock.advance(1);
    let (_, items) = world.prune_with(&world.repo().await, &needs, world.prune_options()).await.unwrap();
    assert_eq!(fate(&items, &orphan), &Fate::Removed);
}

#[tokio::test]
async fn what_a_dead_backup_left_goes_when_its_locks_have_ended() {
    let world = World::new(policy(std::time::Duration::from_secs(6 * 86_400)));
    let point = world.backup(&files(0), stream(SEGMENT)).await;
    world.store_clock.advance(HOUR);
    let faults = FaultStore::new(world.store());
    let calls = {
        let probe = world.fork();
        let counted = FaultStore::new(probe.store());
        probe.backup_on(Arc::new(counted.clone()), &files(10), stream(2 * SEGMENT)).await.unwrap();
        counted.made()
    };
    let before = world.versions().await.len();
    faults.crash_at(calls - 6, true); // shortly before the point
    world.backup_on(Arc::new(faults), &files(10), stream(2 * SEGMENT)).await.unwrap_err();
    let left = world.versions().await.len() - before;
    assert!(left >= 3, "it left packs, a tree and WAL: {left}");
    world.store_clock.advance(200);
    let needs = keep(&[&point], &[]);
    let (report, items) = world.prune_with(&world.repo().await, &needs, world.prune_options()).await.unwrap();
    assert_eq!((report.removed, report.locked.objects), (0, left as u64), "{items:?}");
    world.store_clock.advance(30 * DAY);
    let (report, _) = world.prune_with(&world.repo().await, &needs, world.prune_options()).await.unwrap();
    assert_eq!((report.removed, world.versions().await.len()), (left as u64, before));
    world.assert_restores(&point).await;
}

#[tokio::test]
async fn what_a_thief_put_over_objects_is_named_and_left_alone_unless_asked() {
    let (world, first, second) = three(no_locks()).await;
    world.store_clock.advance(HOUR);
    let thief = world.vault.thief();
    let pack = |point: &Point| {
        let kind = lifeboat_repo::point::ObjectKind::Pack;
        point.header.objects.iter().filter(|o| o.kind == kind).map(|o| o.key.clone()).collect::<Vec<_>>()
    };
    let needed = pack(&second)[0].clone();
    let own = pack(&first).into_iter().find(|key| !pack(&second).contains(key)).unwrap();
    let stranger = Key::new(format!("{ROOT}packs/zz/readme")).unwrap();
    let elsewhere = Key::new(format!("{ROOT}notes/ransom")).unwrap();
    thief.overwrite(&needed, "other bytes".into());
    thief.delete_marker(&needed);
    thief.overwrite(&own, "other bytes".into());
    thief.overwrite(&stranger, "pay".into());
    thief.overwrite(&elsewhere, "pay".into());
    thief.delete_marker(&second.key);
    world.store_clock.advance(2 * HOUR);
    let (needs, repo) = (without(&world, &first, &second).await, world.repo().await);
    let (report, items) = world.prune_with(&repo, &needs, world.prune_options()).await.unwrap();
    assert_eq!((report.foreign.objects, of(&items, PruneKind::Foreign).len()), (6, 6), "{items:?}");
    assert!(matches!(fate(&items[..], &own), Fate::Foreign), "the newer version comes first");
    assert!(items.iter().any(|item| item.key == own && matches!(item.fate, Fate::Waits(_))));
    assert_eq!(world.vault.versions_of(&needed).len(), 3);
    assert_eq!(world.vault.versions_of(&own).len(), 2, "the object stays under what lies over it");
    let (again, _) = world.prune_with(&repo, &needs, world.prune_options()).await.unwrap();
    assert_eq!((again.removed, again.foreign), (0, report.foreign));

    let options = lifeboat_repo::prune::PruneOptions { foreign: true, ..world.prune_options() };
    let (report, _) = world.prune_with(&repo, &needs, options).await.unwrap();
    assert_eq!(report.foreign.objects, 0);
    assert_eq!(world.vault.versions_of(&needed).len(), 1);
    assert_eq!(world.vault.versions_of(&second.key).len(), 1);
    for gone in [&own, &stranger, &elsewhere] {
        assert!(world.vault.versions_of(gone).is_empty(), "{gone}");
    }
    world.assert_restores(&second).await;
}

async fn put(world: &World, writer: &WalWriter, kind: WalObjectKind, first: u64, last: u64) -> WalObject {
    let Stream { system_id, timeline, .. } = stream(0);
    let bytes = wal(first, last);
    let put = writer.put(kind, system_id, timeline, SEGMENT, Lsn(first), bytes, None).await;
    world.store_clock.advance(1);
    put.unwrap()
}

#[tokio::test]
async fn slices_go_where_a_good_segment_holds_their_range() {
    use WalObjectKind::{Segment, Slice};
    let world = World::new(no_locks());
    let point = world.backup(&files(0), stream(SEGMENT + 100)).await;
    let ours = world.wal_writer(world.store()).await.unwrap();
    let theirs =
        WalWriter::new(world.repo().await, vec![world.recovery.recipient()], SigningKey::from_seed(&[8; 32]), 1);
    let old = put(&world, &ours, Segment, 0, SEGMENT).await;
    let good = put(&world, &ours, Segment, SEGMENT, 2 * SEGMENT).await;
    let covered = put(&world, &ours, Slice, SEGMENT + 5, SEGMENT + 500).await;
    put(&world, &theirs, Segment, 2 * SEGMENT, 3 * SEGMENT).await;
    let forged_over = put(&world, &ours, Slice, 2 * SEGMENT, 2 * SEGMENT + 500).await;
    let cut = put(&world, &ours, Segment, 3 * SEGMENT, 4 * SEGMENT).await;
    // A segment that was cut short on its way: another object at a name like its own.
    let bytes = world.vault.get(&cut.key, cut.version.as_ref(), None).await.unwrap();
    world.vault.delete(&cut.key, cut.version.as_ref()).await.unwrap();
    world.vault.put(&cut.key, bytes.slice(..bytes.len() - 1)).await.unwrap();
    let cut_over = put(&world, &ours, Slice, 3 * SEGMENT, 3 * SEGMENT + 500).await;
    // A segment whose bytes have rotted under its header.
    let rotten = put(&world, &ours, Segment, 5 * SEGMENT, 6 * SEGMENT).await;
    let mut bytes = world.vault.get(&rotten.key, rotten.version.as_ref(), None).await.unwrap().to_vec();
    let middle = bytes.len() - 100;
    bytes[middle] ^= 1;
    world.vault.delete(&rotten.key, rotten.version.as_ref()).await.unwrap();
    world.vault.put(&rotten.key, bytes.into()).await.unwrap();
    let rotten_over = put(&world, &ours, Slice, 5 * SEGMENT, 5 * SEGMENT + 500).await;
    let tail = put(&world, &ours, Slice, 4 * SEGMENT, 4 * SEGMENT + 500).await;
    world.store_clock.advance(2 * HOUR);
    let (needs, repo) = (keep(&[&point], &[]), world.repo().await);
    let (_, items) = world.prune_with(&repo, &needs, world.prune_options()).await.unwrap();
    let gone: BTreeSet<Key> = items.iter().map(|item| item.key.clone()).collect();
    assert_eq!(gone, BTreeSet::from([old.key, covered.key]), "{items:?}");
    for stays in [&good, &forged_over, &cut_over, &rotten_over, &tail] {
        assert!(!world.vault.versions_of(&stays.key).is_empty(), "{}", stays.key);
    }
    // What was just received stays whatever it is.
    let late = put(&world, &ours, Segment, 0, SEGMENT).await;
    let mut needs = needs;
    needs.wal.since = late_enough(&world);
    world.store_clock.advance(2 * HOUR);
    world.prune_with(&repo, &needs, world.prune_options()).await.unwrap();
    assert!(!world.vault.versions_of(&late.key).is_empty());
}

fn late_enough(world: &World) -> jiff::Timestamp {
    lifeboat_model::retention::earlier(world.now(), std::time::Duration::from_secs(60))
}

#[tokio::test]
async fn documents_stay_as_long_as_there_is_something_to_say() {
    use DocumentKind::{RestorePoint, Timeline, Witness};
    let world = World::new(no_locks());
    let at = |system_id: u64, lsn: u64| Stream { system_id, timeline: 1, lsn };
    let document = async |kind, stream| {
        world.store_clock.advance(1);
        world.put_document(world.store(), kind, stream).await.unwrap()
    };
    let ancient = document(Timeline, at(5, 0)).await;
    let with_point = document(Timeline, at(6, 0)).await;
    let old_mark = document(RestorePoint, at(6, SEGMENT - 1)).await;
    let in_point = document(Witness, at(6, SEGMENT + 100)).await;
    let old = world.backup(&files(0), at(6, SEGMENT)).await;
    let between = document(Witness, at(6, SEGMENT + 5000)).await;
    world.store_clock.advance(10);
    let base = world.backup(&files(10), at(6, 2 * SEGMENT)).await;
    let after = document(RestorePoint, at(6, 2 * SEGMENT + 5000)).await;
    let newest = document(Timeline, at(7, 0)).await;
    world.store_clock.advance(2 * HOUR);
    let mut needs = keep(&[&old, &base], &[]);
    needs.wal.base = Some(base.header.point);
    let (_, items) = world.prune_with(&world.repo().await, &needs, world.prune_options()).await.unwrap();
    let gone: BTreeSet<Key> = items.iter().map(|item| item.key.clone()).collect();
    assert_eq!(gone, BTreeSet::from([ancient, old_mark, between]));
    for stays in [with_point, in_point, after, newest] {
        assert!(!world.vault.versions_of(&stays).is_empty(), "{stays}");
    }
}

#[tokio::test]
async fn index_objects_go_with_the_last_pack_that_they_name() {
    let (world, first, second) = three(no_locks()).await;
    let indexes = world.names("index/").await;
    assert_eq!(indexes.len(), 3);
    // Of an earlier release, which does not tell what it names; older than all packs, and younger.
    let unsigned = Key::new(format!("{ROOT}index/{}", "cd".repeat(16))).unwrap();
    world.vault.put(&unsigned, "age-encryption.org/v1 and so on".into()).await.unwrap();
    let forged = Key::new(format!("{ROOT}index/{}", "ef".repeat(16))).unwrap();
    let theirs = {
        let bytes = world.vault.get(&Key::new(indexes[0].clone()).unwrap(), None, None).await.unwrap();
        world.vault.put(&forged, bytes).await.unwrap() // a copy under another name
    };
    assert!(theirs.version.is_some());
    world.store_clock.advance(2 * HOUR);
    let (_, items) = world
        .prune_with(&world.repo().await, &without(&world, &first, &second).await, world.prune_options())
        .await
        .unwrap();
    assert_eq!(fate(&items, &forged), &Fate::Removed, "it is a copy, so no backup uses it");
    assert_eq!(of(&items, PruneKind::Index).len(), 2, "and that of the point that went: {items:?}");
    assert!(world.names("index/").await.contains(&unsigned.to_string()), "it may name a pack that is needed");
    // A host with another chunk key stores everything anew; then nothing of the old is needed.
    let other = World { host: lifeboat_repo::seal::Identity::generate(), ..world.fork() };
    let third = other.backup(&files(20), stream(5 * SEGMENT)).await;
    other.store_clock.advance(2 * HOUR);
    let points = other.points().await;
    let needs = keep(&[&third], &points.iter().filter(|point| point.key != third.key).collect::<Vec<_>>());
    let (_, items) = other.prune_with(&other.repo().await, &needs, other.prune_options()).await.unwrap();
    assert_eq!(of(&items, PruneKind::Index).len(), 3, "{items:?}");
    assert_eq!(of(&items, PruneKind::Key).len(), 1);
    other.assert_restores(&third).await;
}

#[tokio::test]
async fn a_run_that_is_cancelled_stops_between_objects() {
    let (world, first, second) = three(no_locks()).await;
    world.store_clock.advance(2 * HOUR);
    let options = world.prune_options();
    options.cancel.cancel();
    let (report, _) =
        world.prune_with(&world.repo().await, &without(&world, &first, &second).await, options).await.unwrap();
    assert!(report.cancelled && report.removed == 0, "{report:?}");
    world.assert_restores(&first).await;
}

#[tokio::test]
async fn the_store_has_the_last_word() {
    let (world, first, second) = three(no_locks()).await;
    world.store_clock.advance(2 * HOUR);
    // The lock comes between the look and the delete: as if the reply to the look were old.
    let until = lifeboat_model::retention::later(world.now(), std::time::Duration::from_secs(86_400));
    let lock = Retention { mode: LockMode::Compliance, until };
    let tree = first.header.trees[0].objects[0].clone();
    let version = first.header.objects.iter().find(|object| object.key == tree).unwrap().version.clone();
    let locking = LateLock { inner: world.vault.clone(), key: tree.clone(), lock };
    let repo = world.repo_on(Arc::new(locking)).await.unwrap();
    let (report, items) =
        world.prune_with(&repo, &without(&world, &first, &second).await, world.prune_options()).await.unwrap();
    assert_eq!(fate(&items, &tree), &Fate::LockedUntil(until));
    assert_eq!((report.locked.objects, report.locked_until), (1, Some(until)));
    assert!(world.vault.head(&tree, version.as_ref()).await.is_ok());
}

/// Locks an object right after its lock was read.
#[derive(Debug)]
struct LateLock {
    inner: lifeboat_store::vault::VaultStore,
    key: Key,
    lock: Retention,
}

#[async_trait::async_trait]
impl lifeboat_store::Store for LateLock {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn capabilities(&self) -> lifeboat_store::Capabilities {
        self.inner.capabilities()
    }
    async fn put_locked(
        &self,
        key: &Key,
        bytes: bytes::Bytes,
        retention: Option<Retention>,
    ) -> lifeboat_store::Result<lifeboat_store::Stored> {
        self.inner.put_locked(key, bytes, retention).await
    }
    async fn get(
        &self,
        key: &Key,
        version: Option<&lifeboat_store::VersionId>,
        range: Option<std::ops::Range<u64>>,
    ) -> lifeboat_store::Result<bytes::Bytes> {
        self.inner.get(key, version, range).await
    }
    async fn head(
        &self,
        key: &Key,
        version: Option<&lifeboat_store::VersionId>,
    ) -> lifeboat_store::Result<lifeboat_store::ObjectInfo> {
        self.inner.head(key, version).await
    }
    fn list_from(
        &self,
        prefix: &str,
        after: &str,
    ) -> futures::stream::BoxStream<'static, lifeboat_store::Result<lifeboat_store::ObjectInfo>> {
        self.inner.list_from(prefix, after)
    }
    fn list_versions(
        &self,
        prefix: &str,
        after: &str,
    ) -> futures::stream::BoxStream<'static, lifeboat_store::Result<lifeboat_store::VersionInfo>> {
        self.inner.list_versions(prefix, after)
    }
    async fn delete(&self, key: &Key, version: Option<&lifeboat_store::VersionId>) -> lifeboat_store::Result<()> {
        assert!(version.is_some() || key.as_str().contains("/lease/"), "{key} is deleted without a version");
        self.inner.delete(key, version).await
    }
    async fn lock_state(
        &self,
        key: &Key,
        version: Option<&lifeboat_store::VersionId>,
    ) -> lifeboat_store::Result<lifeboat_store::LockState> {
        let state = self.inner.lock_state(key, version).await;
        if *key == self.key {
            self.inner.extend_lock(key, version, self.lock).await?;
        }
        state
    }
    async fn clock(&self) -> lifeboat_store::Result<jiff::Timestamp> {
        self.inner.clock().await
    }
}
