//! The end of a run. The point is written last, after everything that it names has been seen to be there.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    sync::PoisonError,
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture};
use lifeboat_model::{id::ObjectId, time};
use lifeboat_store::{Key, ObjectInfo, Retention, VersionId};

use super::{
    PointDraft, Shared, WalSink, Writer,
    begin::{CLOCK_STEP, Run},
    packer::Summary,
    uploads::Durable,
    wal::{self, StoredSlice},
};
use crate::{
    error::{Error, Result},
    lease::Claim,
    locks::{Keep, Wanted},
    point::{self, DUMP, FORMAT, ObjectKind, ObjectRef, Point, PointHeader, SealedPart, TreeRef, WalRange},
    repository::{InstanceRepo, marker_key},
    seal,
    tree::TreeKind,
    trust::Trust,
};

pub(super) async fn commit(writer: Writer, draft: PointDraft) -> Result<Point> {
    let Writer { shared, collector, uploading, wal, lease, run } = writer;
    if !collector.is_at_rest() {
        let _ = lease.release().await;
        return Err(Error::usage("a point cannot be committed while a tree is open"));
    }
    let result = async {
        let summary = collector.finish().await;
        let drained = drain(&shared, uploading, &wal).await;
        // In this order: of one failure, the first who asks is told its cause.
        let summary = summary?;
        let (durable, slices) = drained?;
        let content = Content { summary, durable, slices };
        publish(&shared, &run, &lease, content, draft).await
    }
    .await;
    // A commit that failed has an error to report already; one that succeeded has its point whatever becomes of the lease.
    if let Err(error) = lease.release().await {
        shared.progress.note(&format!("the writer's lease could not be given back, it ends by itself: {error}"));
    }
    result
}

pub(super) async fn abort(writer: Writer) -> Result<()> {
    let Writer { shared, collector, uploading, wal, lease, .. } = writer;
    let _ = collector.finish().await;
    let drained = drain(&shared, uploading, &wal).await;
    let released = lease.release().await;
    match drained {
        // A caller that aborts because of this very error knows it already.
        Err(Error::Ended(_)) | Ok(_) => released,
        Err(error) => Err(error),
    }
}

/// Waits until everything handed in is durable and indexed.
async fn drain(
    shared: &Shared,
    uploading: tokio::task::JoinHandle<Durable>,
    wal: &WalSink,
) -> Result<(Durable, Vec<StoredSlice>)> {
    let durable = uploading.await;
    let slices = wal.finish().await;
    shared.failure.check()?;
    let durable = durable.map_err(|e| Error::Io { what: "uploading".into(), source: io::Error::other(e) })?;
    Ok((durable, slices))
}

/// What the point will name.
struct Content {
    summary: Summary,
    durable: Durable,
    slices: Vec<StoredSlice>,
}

async fn publish(shared: &Shared, run: &Run, lease: &Claim, content: Content, draft: PointDraft) -> Result<Point> {
    let Content { summary, durable, slices } = content;
    let mut objects = vec![run.chunk_key.clone()];
    objects.extend(packs(shared, &durable, &summary.packs)?);
    let packs = objects.len() - 1;
    let mut trees: BTreeMap<_, _> = durable.objects.into_iter().map(|object| (object.key.clone(), object)).collect();
    for key in summary.trees.iter().flat_map(|tree| &tree.objects) {
        let tree = trees.remove(key);
        objects.push(tree.ok_or_else(|| Error::Gone { object: key.to_string(), reason: "it was not stored".into() })?);
    }
    let wal = match &draft.wal {
        Some(span) => {
            let slices = wal::covering(slices, span)?;
            let keys = slices.iter().map(|slice| slice.object.key.clone()).collect();
            objects.extend(slices.into_iter().map(|slice| slice.object));
            let (system_id, timeline, start, end) = (span.system_id, span.timeline, span.start, span.end);
            Some(WalRange { system_id, timeline, start, end, objects: keys })
        }
        None => None,
    };
    check_durable(&shared.repo, &objects).await?;

    let finished = finished(run).await;
    let lock = lock(shared, run, finished, &mut objects).await?;
    let details = serde_json::to_vec(&draft.details).map_err(|e| Error::usage(format!("the details: {e}")))?;
    let sealed = seal::seal(&shared.metadata_recipients, &details)?;
    let header = PointHeader {
        format: FORMAT,
        features: features(&summary.trees, draft.wal.is_some())?,
        point: shared.point,
        repository: shared.repo.repository(),
        tenant: shared.repo.tenant().clone(),
        instance: shared.repo.instance().clone(),
        started: draft.started,
        finished,
        software: run.options.software.clone(),
        chunk_key: shared.chunk_key.id,
        recipients: shared.recipients.iter().map(ToString::to_string).collect(),
        sizes: sizes(shared, &summary, packs, &objects),
        trees: summary.trees,
        wal,
        retain_until: lock.map(|lock| lock.until),
        lock_mode: lock.map(|lock| lock.mode),
        sealed: SealedPart { len: sealed.bytes.len() as u64, sha256: sealed.sha256 },
        objects,
    };
    let bytes: bytes::Bytes = point::encode(&header, &sealed.bytes, &run.keys.signing)?.into();
    let key = shared.repo.layout().point(finished, shared.point);
    let modified = shared.repo.locks().map_or(finished, |locks| (locks.clock)());
    let info = ObjectInfo { key: key.clone(), len: bytes.len() as u64, version: None, modified };
    let mut made = point::decode(&info, &bytes, &Trust::own(&[run.keys.signing.public()]))?;
    lease.recheck().await?;
    let keep = lock.map_or(Keep::Point, |lock| Keep::Until(lock.until));
    made.version = shared.repo.put_kept(&key, bytes, keep).await?.0.version;
    Ok(made)
}

/// Locks all that the point names until its end, and the repository's marker with it. What is locked so long already, as
/// it was put by this run or as the previous point's signed header promises, costs no request.
async fn lock(
    shared: &Shared,
    run: &Run,
    finished: jiff::Timestamp,
    objects: &mut [ObjectRef],
) -> Result<Option<Retention>> {
    let Some(locks) = shared.repo.locks() else { return Ok(None) };
    let retention = locks.of_point(finished);
    let promised = promised(run, retention);
    let mut wanted = Vec::new();
    for object in objects {
        let promised = promised.get(&(&object.key, &object.version)).copied();
        object.retain_until = object.retain_until.max(promised);
        if object.retain_until.is_none_or(|until| until < retention.until) {
            wanted.push(Wanted { key: object.key.clone(), version: object.version.clone() });
            object.retain_until = Some(retention.until);
        }
    }
    let marker = shared.repo.first(&marker_key()).await?;
    wanted.push(Wanted { key: marker.key, version: marker.version });
    shared.repo.extend(wanted, retention).await?;
    Ok(Some(retention))
}

/// Until when the previous point says that its objects are locked, where that is at least as firm.
fn promised(run: &Run, wanted: Retention) -> HashMap<(&Key, &Option<VersionId>), jiff::Timestamp> {
    let firm = |point: &&Point| point.header.lock_mode.is_some_and(|mode| mode >= wanted.mode);
    let objects = run.previous.as_ref().filter(firm).into_iter().flat_map(|point| &point.header.objects);
    objects.filter_map(|object| Some(((&object.key, &object.version), object.retain_until?))).collect()
}

/// What a reader must know. A point with dumps holds nothing else, so that it is never taken for a backup.
fn features(trees: &[TreeRef], wal: bool) -> Result<Vec<String>> {
    let dumps = trees.iter().filter(|tree| tree.kind == TreeKind::Dump).count();
    match dumps {
        0 => Ok(Vec::new()),
        _ if dumps == trees.len() && !wal => Ok(vec![DUMP.to_owned()]),
        _ => Err(Error::usage("a point with logical dumps cannot hold an instance as well")),
    }
}

/// The time of the point. Keys tell seconds: a point that would not sort after the newest one waits for its turn.
async fn finished(run: &Run) -> jiff::Timestamp {
    let newest = run.previous.as_ref().map(|point| time::compact(point.header.finished));
    for _ in 0..=CLOCK_STEP * 10 {
        if newest.as_ref().is_none_or(|newest| time::compact((run.options.clock)()) > *newest) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (run.options.clock)()
}

fn sizes(shared: &Shared, summary: &Summary, packs: usize, objects: &[ObjectRef]) -> BTreeMap<String, u64> {
    let stored = *shared.stored_bytes.lock().unwrap_or_else(PoisonError::into_inner);
    let source = summary.trees.iter().map(|tree| tree.bytes).sum();
    let referenced = objects.iter().map(|object| object.len).sum();
    let sizes = [("source", source), ("stored", stored), ("referenced", referenced), ("packs", packs as u64)];
    sizes.into_iter().map(|(name, size)| (name.to_owned(), size)).collect()
}

/// References to the packs that the trees use.
fn packs(shared: &Shared, durable: &Durable, used: &HashSet<ObjectId>) -> Result<Vec<ObjectRef>> {
    let mut used: Vec<ObjectId> = used.iter().copied().collect();
    used.sort();
    let reference = |id: ObjectId| {
        let key = shared.repo.layout().pack(id);
        let meta = durable.packs.get(&id).or_else(|| shared.index.stored_pack(id));
        let meta = meta.ok_or_else(|| Error::Gone { object: key.to_string(), reason: "it was not stored".into() })?;
        let (len, sha256, version) = (meta.len, meta.sha256, meta.version.clone());
        Ok(ObjectRef { key, kind: ObjectKind::Pack, len, sha256, version, retain_until: meta.retain_until })
    };
    used.into_iter().map(reference).collect()
}

/// Sees that the store still has everything: packs by one listing, and by name what the listing does not show as it
/// was written.
async fn check_durable(repo: &InstanceRepo, objects: &[ObjectRef]) -> Result<()> {
    let mut open: BTreeMap<_, _> = objects.iter().map(|object| (&object.key, object)).collect();
    let mut listed = repo.store().list(&repo.layout().prefix("packs"));
    while let Some(found) = listed.try_next().await? {
        let as_written = |object: &ObjectRef| object.len == found.len && object.version == found.version;
        if open.get(&found.key).is_some_and(|object| as_written(object)) {
            open.remove(&found.key);
        }
    }
    // Boxed in a loop: closures over references keep the future from being `Send`.
    let mut heads: Vec<BoxFuture<'_, Result<()>>> = Vec::with_capacity(open.len());
    for object in open.into_values() {
        heads.push(Box::pin(head(repo, object)));
    }
    futures::stream::iter(heads).buffer_unordered(8).try_collect().await
}

async fn head(repo: &InstanceRepo, object: &ObjectRef) -> Result<()> {
    let gone = |reason: String| Error::Gone { object: object.key.to_string(), reason };
    match repo.store_of(object.version.as_ref()).head(&object.key, object.version.as_ref()).await {
        Ok(info) if info.len == object.len => Ok(()),
        Ok(info) => Err(gone(format!("it has {} bytes, {} were written", info.len, object.len))),
        Err(lifeboat_store::Error::NotFound { .. }) => Err(gone("the store does not know it".into())),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_and_an_instance_do_not_share_a_point() {
        let tree = |kind| TreeRef { kind, objects: vec![], entries: 0, bytes: 0 };
        let (dump, config) = (tree(TreeKind::Dump), tree(TreeKind::Config));
        assert_eq!(features(std::slice::from_ref(&config), true).unwrap(), [""; 0]);
        assert_eq!(features(std::slice::from_ref(&dump), false).unwrap(), [DUMP]);
        assert!(features(std::slice::from_ref(&dump), true).is_err(), "with a log");
        assert!(features(&[config, dump], false).is_err(), "with another tree");
    }
}
