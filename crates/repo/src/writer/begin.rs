//! The start of a run: lease, previous point, chunk key, index, threads.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, mpsc},
};

use futures::TryStreamExt as _;
use lifeboat_model::{
    id::{ObjectId, PointId},
    signature::PublicKey,
};
use lifeboat_store::Key;

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
    let trusted: Vec<PublicKey> = keys.trusted.iter().copied().chain([keys.signing.public()]).collect();
    let previous = previous(&repo, &trusted, &*progress).await?;
    check_clock(&options, previous.as_ref())?;
    let search = KeySearch { repo: &repo, keys: &keys, trusted: &trusted, unusable: Vec::new() };
    let (chunk_key, key_object) = search.run(&options, previous.as_ref(), &*progress).await?;
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
        trusted: &trusted,
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
        signing: keys.signing.clone(),
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
async fn previous(repo: &InstanceRepo, trusted: &[PublicKey], progress: &dyn Progress) -> Result<Option<Point>> {
    match repo.find_point(&PointSelector::Latest, trusted).await {
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

/// A chunk key sealed to dozens of recipients has a few KiB.
const LONGEST_KEY: u64 = 1 << 20;
/// Index objects looked at for a chunk key, where no point names one that serves.
const MAX_ASKED: usize = 256;

/// The search for a chunk key that serves. Only what is signed names one: sealed to the right recipients is what anybody
/// can send who knows them, and whoever knows the chunk key can tell what is stored.
struct KeySearch<'a> {
    repo: &'a InstanceRepo,
    keys: &'a WriterKeys,
    trusted: &'a [PublicKey],
    unusable: Vec<String>,
}

impl KeySearch<'_> {
    /// Opens the chunk key that the previous point names, by version and digest; else one that a signed index names,
    /// which a run has left that did not come to its end; else makes one.
    async fn run(
        mut self,
        options: &WriterOptions,
        previous: Option<&Point>,
        progress: &dyn Progress,
    ) -> Result<(ChunkKey, ObjectRef)> {
        let named = previous.map(|point| (point, self.repo.layout().chunk_key(point.header.chunk_key)));
        if let Some((point, key)) = &named {
            match self.of_point(point, key).await {
                Ok(found) => return Ok(found),
                Err(why) => self.note(why)?,
            }
        }
        let tried = previous.map(|point| point.header.chunk_key);
        if let Some(found) = self.of_indexes(tried).await? {
            return Ok(found);
        }
        if !self.unusable.is_empty() {
            let why = self.unusable.join("; ");
            progress.note(&format!("everything is stored anew, since no chunk key can be used: {why}"));
        }
        let KeySearch { repo, keys, .. } = self;
        let key = ChunkKey::generate(&keys.recipients, (options.clock)())?;
        let object = store_key(repo, &key, &keys.recipients, keys.host.recipient()).await?;
        Ok((key, object))
    }

    /// Remembers why a key cannot be used; an unreachable store is an error.
    fn note(&mut self, why: Error) -> Result<()> {
        use lifeboat_store::Error as Store;
        let why = match why {
            Error::Store(error @ (Store::NotFound { .. } | Store::Damaged { .. })) => error.to_string(),
            Error::Store(error) => return Err(error.into()),
            Error::Usage(why) => why,
            other => other.to_string(),
        };
        self.unusable.push(why);
        Ok(())
    }

    async fn of_point(&self, point: &Point, key: &Key) -> Result<(ChunkKey, ObjectRef)> {
        let object = point.object(key)?;
        let version = match &object.version {
            None => self.repo.first(key).await?.version,
            named => named.clone(),
        };
        let file = self.repo.store().get(key, version.as_ref(), None).await?;
        object.check(&file)?;
        let found = self.open(key, &file)?;
        Ok((found, ObjectRef { version, retain_until: None, ..object.clone() }))
    }

    async fn of_indexes(&mut self, tried: Option<ObjectId>) -> Result<Option<(ChunkKey, ObjectRef)>> {
        let mut indexes: Vec<_> = self.repo.store().list(&self.repo.layout().prefix("index")).try_collect().await?;
        indexes.sort_by_key(|object| std::cmp::Reverse(object.modified));
        let mut tried: HashSet<ObjectId> = tried.into_iter().collect();
        for info in indexes.into_iter().take(MAX_ASKED) {
            let id = match self.repo.index_header(&info, self.trusted).await {
                Ok(Some(header)) if tried.insert(header.chunk_key) => header.chunk_key,
                Ok(_) => continue,
                Err(error) => {
                    self.note(error)?;
                    continue;
                }
            };
            let key = self.repo.layout().chunk_key(id);
            match self.of_id(&key, id).await {
                Ok(found) => return Ok(Some(found)),
                Err(why) => self.note(why)?,
            }
        }
        Ok(None)
    }

    /// The first version under the id's key: the index that names it was written later.
    async fn of_id(&self, key: &Key, id: ObjectId) -> Result<(ChunkKey, ObjectRef)> {
        let info = self.repo.first(key).await?;
        if info.len > LONGEST_KEY {
            return Err(Error::damaged(key, format!("it has {} bytes; no chunk key has so many", info.len)));
        }
        let file = self.repo.store().get(key, info.version.as_ref(), None).await?;
        let found = self.open(key, &file)?;
        if found.id != id {
            return Err(Error::damaged(key, "it holds another key"));
        }
        let (len, sha256, version) = (info.len, seal::digest(&file), info.version);
        let object = ObjectRef { key: key.clone(), kind: ObjectKind::Key, len, sha256, version, retain_until: None };
        Ok((found, object))
    }

    fn open(&self, key: &Key, file: &[u8]) -> Result<ChunkKey> {
        open_key(&self.keys.host, &self.keys.recipients, file).map_err(|why| Error::usage(format!("{key} {why}")))
    }
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
