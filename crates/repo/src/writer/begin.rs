//! The start of a run: lease, previous point, chunk key, index, threads.

use std::sync::{Arc, Mutex, mpsc};

use futures::TryStreamExt as _;
use lifeboat_model::{
    id::{ObjectId, PointId},
    signature::PublicKey,
};

use super::{
    Collector, Failure, Shared, WalSink, Writer, WriterKeys, WriterOptions, batch::Buffers, collect, packer, uploads,
    work,
};
use crate::{
    chunk::ChunkKey,
    error::{Error, Result},
    index::{self, PackMeta},
    layout,
    lease::{Claim, Purpose},
    locks::Keep,
    point::{ObjectKind, ObjectRef, Point, PointSelector},
    progress::Progress,
    repository::InstanceRepo,
    seal::{self, OpenError, Recipient},
};

/// What the end of the run needs of its start.
pub(super) struct Run {
    pub keys: WriterKeys,
    pub options: WriterOptions,
    pub previous: Option<Point>,
    pub builds_on_previous: bool,
    pub chunk_key: ObjectRef,
}

/// Seconds that a clock may be set back by its daemon; a commit waits that long if it must.
pub(super) const CLOCK_STEP: i64 = 3;
/// No more compression threads than this: each has its own buffers.
const MAX_WORKERS: usize = 16;

pub(super) async fn begin(
    repo: InstanceRepo,
    keys: WriterKeys,
    options: WriterOptions,
    progress: Arc<dyn Progress>,
) -> Result<Writer> {
    repo.check_not_replica()?;
    check(&keys, &options)?;
    repo.check_signer(&keys.signing.public())?;
    check_locks(&repo)?;
    let lease = repo.claim(Purpose::Backup, &options.software, (options.clock)(), progress.clone()).await?;
    match prepare(repo, keys, options, progress).await {
        Ok((shared, run)) => start(shared, run, lease),
        Err(error) => {
            // The first error is the one to report; the lease would end by itself.
            let _ = lease.release().await;
            Err(error)
        }
    }
}

fn check(keys: &WriterKeys, options: &WriterOptions) -> Result<()> {
    if keys.recipients.is_empty() {
        return Err(Error::usage("there is no recovery recipient: nobody could ever restore"));
    }
    if !(1..=19).contains(&options.level) {
        return Err(Error::usage(format!("compression level {}: 1 to 19 are possible", options.level)));
    }
    if !(4 << 20..=64 << 20).contains(&options.pack_size) {
        return Err(Error::usage(format!("packs of {} bytes: 4 to 64 MiB are possible", options.pack_size)));
    }
    Ok(())
}

/// Refuses before anything is written what the store would refuse at the first object.
fn check_locks(repo: &InstanceRepo) -> Result<()> {
    if repo.locks().is_some() && !repo.store().capabilities().locks {
        let (key, store) = (repo.layout().prefix("points"), repo.store().describe());
        return Err(lifeboat_store::Error::NoLocks { key, store }.into());
    }
    Ok(())
}

async fn prepare(
    repo: InstanceRepo,
    keys: WriterKeys,
    options: WriterOptions,
    progress: Arc<dyn Progress>,
) -> Result<(Shared, Run)> {
    let previous = previous(&repo, &keys, &*progress).await?;
    check_clock(&options, previous.as_ref())?;
    let (chunk_key, key_object) = chunk_key(&repo, &keys, &options, previous.as_ref(), &*progress).await?;
    let recipients = &keys.recipients;
    let same_recipients = |point: &Point| recipients.iter().all(|r| point.header.recipients.contains(&r.to_string()));
    let builds_on_previous =
        previous.as_ref().is_some_and(|point| point.header.chunk_key == chunk_key.id && same_recipients(point));
    let vouched = previous.as_ref().filter(|_| builds_on_previous).map(packs_of).unwrap_or_default();
    let index = index::load(index::Load {
        repo: &repo,
        chunk_key: &chunk_key,
        host: &keys.host,
        recipients,
        cache_dir: &options.cache_dir,
        progress: &*progress,
        vouched,
    });
    let index = index.await?;
    let point = PointId(crate::random::bytes()?);
    let mut metadata_recipients = recipients.clone();
    if !metadata_recipients.contains(&keys.host.recipient()) {
        metadata_recipients.push(keys.host.recipient());
    }
    let uploads = options.uploads.clamp(1, 64);
    let shared = Shared {
        repo,
        point,
        recipients: recipients.clone(),
        metadata_recipients,
        chunk_key,
        index,
        progress,
        failure: Failure::new(point),
        level: options.level,
        pack_size: options.pack_size,
        uploads,
        data_buffers: Buffers::new(8),
        pack_buffers: Buffers::new(uploads + 2),
        stored_bytes: Mutex::new(0),
    };
    Ok((shared, Run { keys, options, previous, builds_on_previous, chunk_key: key_object }))
}

fn start(shared: Shared, run: Run, lease: Claim) -> Result<Writer> {
    let shared = Arc::new(shared);
    let cores = || std::thread::available_parallelism().map_or(2, usize::from);
    let workers = if run.options.workers == 0 { cores() } else { run.options.workers }.min(MAX_WORKERS);
    let (work, batches) = mpsc::sync_channel(collect::MAX_BATCHES);
    let (done, packed) = mpsc::sync_channel(collect::MAX_BATCHES);
    let (uploads, queue) = tokio::sync::mpsc::channel(1);
    work::start(workers, &shared, batches, &done)?;
    let packing = shared.clone();
    super::thread("packer", move || packer::run(&packing, &packed, uploads))?;
    let uploading = tokio::spawn(uploads::run(shared.clone(), queue));
    let collector = Collector::new(shared.clone(), work);
    let wal = WalSink::new(shared.clone());
    Ok(Writer { shared, collector, uploading, wal, lease, run })
}

/// The newest point that verifies. That there are only invalid ones is no reason not to make a new one.
async fn previous(repo: &InstanceRepo, keys: &WriterKeys, progress: &dyn Progress) -> Result<Option<Point>> {
    let trusted: Vec<PublicKey> = keys.trusted.iter().copied().chain([keys.signing.public()]).collect();
    match repo.find_point(&PointSelector::Latest, &trusted).await {
        Ok(point) => {
            point
                .skipped
                .iter()
                .for_each(|why| progress.note(&format!("a newer recovery point is passed over: {why}")));
            Ok(Some(point))
        }
        Err(Error::NoPoint { wanted, .. }) => {
            if wanted.starts_with("that verifies") {
                progress.note(&format!("there is no recovery point {wanted}"));
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Refuses a clock that has gone back: the new point would count as older than one that is there.
fn check_clock(options: &WriterOptions, previous: Option<&Point>) -> Result<()> {
    let now = (options.clock)();
    match previous.map(|point| point.header.finished) {
        Some(newest) if now.duration_since(newest).as_secs() < -CLOCK_STEP => {
            Err(Error::Clock { now: now.to_string(), newest: newest.to_string() })
        }
        _ => Ok(()),
    }
}

fn packs_of(point: &Point) -> Vec<(ObjectId, PackMeta)> {
    let packs = point.header.objects.iter().filter(|object| object.kind == ObjectKind::Pack);
    let meta = |object: &ObjectRef| PackMeta {
        len: object.len,
        sha256: object.sha256,
        version: object.version.clone(),
        retain_until: None,
    };
    packs.filter_map(|object| Some((layout::last_id(&object.key)?, meta(object)))).collect()
}

/// Opens the chunk key that the previous point used, or any other that serves, or makes one.
async fn chunk_key(
    repo: &InstanceRepo,
    keys: &WriterKeys,
    options: &WriterOptions,
    previous: Option<&Point>,
    progress: &dyn Progress,
) -> Result<(ChunkKey, ObjectRef)> {
    let mut listed: Vec<_> = repo.store().list(&repo.layout().prefix("keys")).try_collect().await?;
    let preferred = previous.map(|point| repo.layout().chunk_key(point.header.chunk_key));
    listed.sort_by_key(|object| (Some(&object.key) != preferred.as_ref(), object.key.clone()));
    let mut unusable = Vec::new();
    for object in listed {
        let file = repo.store().get(&object.key, object.version.as_ref(), None).await?;
        match open_key(&keys.host, &keys.recipients, &file) {
            Ok(key) if layout::last_id(&object.key) == Some(key.id) => {
                let sha256 = seal::digest(&file);
                let (len, version) = (file.len() as u64, object.version);
                let kind = ObjectKind::Key;
                return Ok((key, ObjectRef { key: object.key, kind, len, sha256, version, retain_until: None }));
            }
            Ok(_) => unusable.push(format!("{} holds another key", object.key)),
            Err(why) => unusable.push(format!("{} {why}", object.key)),
        }
    }
    if !unusable.is_empty() {
        let why = unusable.join("; ");
        progress.note(&format!("everything is stored anew, since no chunk key can be used: {why}"));
    }
    let key = ChunkKey::generate(&keys.recipients, (options.clock)())?;
    let object = store_key(repo, &key, &keys.recipients, keys.host.recipient()).await?;
    Ok((key, object))
}

fn open_key(
    host: &seal::Identity,
    recipients: &[Recipient],
    file: &[u8],
) -> std::result::Result<ChunkKey, &'static str> {
    let json = seal::open_all(std::slice::from_ref(host), file).map_err(|error| match error {
        OpenError::WrongIdentity => "is sealed to another host",
        OpenError::Damaged(_) => "is damaged",
        OpenError::Plugin(_) => "needs a plugin that failed",
    })?;
    let json = zeroize::Zeroizing::new(json);
    let key = ChunkKey::from_json(&json)?;
    if key.serves(recipients) { Ok(key) } else { Err("is sealed to other recovery recipients") }
}

async fn store_key(
    repo: &InstanceRepo,
    key: &ChunkKey,
    recipients: &[Recipient],
    host: Recipient,
) -> Result<ObjectRef> {
    let recipients: Vec<Recipient> = recipients.iter().cloned().chain([host]).collect();
    let sealed = seal::seal(&recipients, &key.to_json())?;
    let (name, len) = (repo.layout().chunk_key(key.id), sealed.bytes.len() as u64);
    let (stored, retain_until) = repo.put_kept(&name, sealed.bytes.into(), Keep::Point).await?;
    let (kind, sha256, version) = (ObjectKind::Key, sealed.sha256, stored.version);
    Ok(ObjectRef { key: name, kind, len, sha256, version, retain_until })
}
