//! The index on this host's disk: sorted runs that cover index objects of the repository.
//!
//! It is only a cache. It counts as valid for one chunk key and one set of recipients; it is thrown away when a file
//! of it is damaged, or when the repository no longer has an index object that it covers, and is then built again
//! from the index objects.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use lifeboat_model::{
    id::{ObjectId, Sha256Digest},
    signature::PublicKey,
};
use lifeboat_store::{ObjectInfo, VersionId};
use serde::{Deserialize, Serialize};

use super::{
    Index, PackMeta,
    object::IndexContent,
    run::{self, Record, Run},
    signed::IndexObject,
};
use crate::{
    blocking::blocking,
    chunk::ChunkKey,
    error::{Error, Result},
    layout,
    progress::Progress,
    repository::InstanceRepo,
    seal::{Identity, Recipient},
};

const STATE: &str = "state";
/// More runs than this are merged into one: each costs 256 KiB of memory and a read a question.
const MAX_RUNS: usize = 8;
/// Records gathered before they are written as a run: about 16 MiB.
const GATHER: usize = 256 << 10;
/// Index objects fetched at the same time.
const FETCHES: usize = 4;

/// What the cache holds; a line with the BLAKE3 of the rest stands before it in the file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    valid_for: String,
    /// When the store received the first signed index object.
    signed_since: Option<Timestamp>,
    covered: BTreeSet<ObjectId>,
    runs: Vec<String>,
    packs: Vec<(ObjectId, u64, Sha256Digest, Option<VersionId>)>,
}

/// Whose index is loaded, and how.
pub(crate) struct Load<'a> {
    pub repo: &'a InstanceRepo,
    pub chunk_key: &'a ChunkKey,
    pub host: &'a Identity,
    pub recipients: &'a [Recipient],
    /// Whose index objects count.
    pub trusted: &'a [PublicKey],
    pub cache_dir: &'a Path,
    pub progress: &'a dyn Progress,
    /// Packs that the previous point vouches for, should an index object have gone or be unsigned.
    pub vouched: Vec<(ObjectId, PackMeta)>,
}

/// Brings the cache up to date with the repository's index objects and opens it.
pub(crate) async fn load(load: Load<'_>) -> Result<Index> {
    let repo = load.repo;
    let names = [repo.repository().to_string(), repo.tenant().to_string(), repo.instance().to_string()];
    let dir = names.iter().fold(load.cache_dir.to_owned(), |dir, name| dir.join(name));
    let mut listed = Vec::new();
    let mut objects = repo.store().list(&repo.layout().prefix("index"));
    while let Some(object) = objects.try_next().await? {
        listed.extend(layout::last_id(&object.key).map(|id| (id, object)));
    }
    // Oldest first: where a chunk was stored again, the newest place is added last and counts.
    listed.sort_by_key(|(id, object)| (object.modified, *id));
    let valid_for = fingerprint(&load);
    let all: BTreeSet<ObjectId> = listed.iter().map(|(id, _)| *id).collect();
    let builder = blocking("loading the index", move || Builder::open(dir, valid_for, &all)).await?;
    let builder = add_new(&load, builder, listed).await?;
    let Loaded { mut metas, runs, spill } = blocking("loading the index", move || builder.finish()).await?;
    for (id, meta) in load.vouched {
        metas.insert(id, meta);
    }
    let stored = present(repo, metas).await?;
    Ok(Index::new(stored, runs, spill))
}

/// What decides which entries may be used.
fn fingerprint(load: &Load<'_>) -> String {
    let recipients: BTreeSet<String> = load.recipients.iter().map(ToString::to_string).collect();
    let trusted: BTreeSet<String> = load.trusted.iter().map(ToString::to_string).collect();
    let revoked = load.repo.revocations().iter();
    let revoked: BTreeSet<String> = revoked.map(|revoked| format!("{} {}", revoked.key, revoked.at)).collect();
    let text = format!("2 {} {recipients:?} {trusted:?} {revoked:?}", load.chunk_key.id);
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Fetches the index objects that the cache does not cover. What cannot be used is told each time, since it may be the
/// trace of an attack.
async fn add_new(load: &Load<'_>, mut builder: Builder, listed: Vec<(ObjectId, ObjectInfo)>) -> Result<Builder> {
    let missing: Vec<_> = listed.into_iter().filter(|(id, _)| !builder.state.covered.contains(id)).collect();
    let fetch = |(id, info): (ObjectId, ObjectInfo)| async move {
        let read = read(load, &info).await;
        Ok::<_, Error>((id, info, read))
    };
    let mut fetched = futures::stream::iter(missing).map(fetch).buffered(FETCHES);
    let mut unusable = Unusable::default();
    while let Some((id, info, read)) = fetched.try_next().await? {
        let content = match read {
            Ok(IndexObject::Unsigned(_)) if builder.state.signed_since.is_some_and(|since| info.modified > since) => {
                let reason = "it is not signed, and all that this repository has received for some time are".into();
                unusable.note(load.progress, Error::Untrusted { object: info.key.to_string(), reason });
                continue;
            }
            Ok(IndexObject::Unsigned(content)) => IndexContent { vouched: false, ..content },
            Ok(IndexObject::Signed(content)) => {
                builder.state.signed_since.get_or_insert(info.modified);
                content
            }
            // Sealed to another host: nothing of it can ever be used here.
            Err(Error::WrongIdentity { .. }) => {
                builder.state.covered.insert(id);
                continue;
            }
            Err(error @ (Error::Damaged { .. } | Error::Untrusted { .. } | Error::Unknown { .. })) => {
                unusable.note(load.progress, error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let usable = content.chunk_key == load.chunk_key.id
            && load.recipients.iter().all(|recipient| content.recipients.contains(&recipient.to_string()));
        let add = move || builder.add(id, usable.then_some(content)).map(|()| builder);
        builder = blocking("loading the index", add).await?;
    }
    unusable.finish(load.progress);
    Ok(builder)
}

async fn read(load: &Load<'_>, info: &ObjectInfo) -> Result<IndexObject> {
    let file = load.repo.fetch_index(info).await?;
    let (repo, info, host) = (load.repo.clone(), info.clone(), [load.host.clone()]);
    let trusted = load.trusted.to_vec();
    let open = move || repo.open_index(&info, &file, &host, &repo.trust(&trusted, info.modified));
    blocking("loading the index", open).await
}

/// Index objects that are passed over: a few are named, the others counted.
#[derive(Default)]
struct Unusable {
    count: u64,
}

impl Unusable {
    const NAMED: u64 = 10;

    fn note(&mut self, progress: &dyn Progress, error: Error) {
        self.count += 1;
        if self.count <= Self::NAMED {
            progress.note(&format!("{error}: what it lists is stored anew"));
        }
    }

    fn finish(self, progress: &dyn Progress) {
        if self.count > Self::NAMED {
            progress.note(&format!("{} more index objects are passed over like these", self.count - Self::NAMED));
        }
    }
}

/// The packs that the repository really has, whole.
async fn present(repo: &InstanceRepo, mut metas: HashMap<ObjectId, PackMeta>) -> Result<HashMap<ObjectId, PackMeta>> {
    let mut stored = HashMap::with_capacity(metas.len());
    let mut objects = repo.store().list(&repo.layout().prefix("packs"));
    while let Some(object) = objects.try_next().await? {
        let Some((id, meta)) = layout::last_id(&object.key).and_then(|id| metas.remove_entry(&id)) else { continue };
        if meta.len == object.len && (meta.version.is_none() || meta.version == object.version) {
            // Written before the bucket had versions: from now on the point names the first one.
            stored.insert(id, PackMeta { version: object.version, ..meta });
        }
    }
    Ok(stored)
}

/// The cache once it is up to date.
struct Loaded {
    metas: HashMap<ObjectId, PackMeta>,
    runs: Vec<Arc<Run>>,
    spill: PathBuf,
}

/// The cache while it is brought up to date.
struct Builder {
    dir: PathBuf,
    state: State,
    runs: Vec<Arc<Run>>,
    metas: HashMap<ObjectId, PackMeta>,
    gathered: Vec<Record>,
    changed: bool,
}

impl Builder {
    fn cache_error(path: &Path) -> impl Fn(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Cache { path: path.clone(), source }
    }

    /// Opens what is there, or starts empty.
    fn open(dir: PathBuf, valid_for: String, listed: &BTreeSet<ObjectId>) -> Result<Self> {
        std::fs::create_dir_all(&dir).map_err(Self::cache_error(&dir))?;
        let state = read_state(&dir).filter(|state| state.valid_for == valid_for && state.covered.is_subset(listed));
        if let Some(state) = state {
            let runs: io::Result<Vec<_>> =
                state.runs.iter().map(|name| Run::open(&dir.join(name)).map(Arc::new)).collect();
            if let Ok(runs) = runs {
                let meta = |(id, len, sha256, version): &(_, _, _, Option<VersionId>)| {
                    let (len, sha256, version) = (*len, *sha256, version.clone());
                    (*id, PackMeta { len, sha256, version, retain_until: None })
                };
                let metas = state.packs.iter().map(meta).collect();
                return Ok(Self { dir, state, runs, metas, gathered: Vec::new(), changed: false });
            }
        }
        std::fs::remove_dir_all(&dir).map_err(Self::cache_error(&dir))?;
        std::fs::create_dir_all(&dir).map_err(Self::cache_error(&dir))?;
        let state = State { valid_for, ..State::default() };
        Ok(Self { dir, state, runs: Vec::new(), metas: HashMap::new(), gathered: Vec::new(), changed: true })
    }

    /// Adds an index object; `None` where nothing of it may be used.
    fn add(&mut self, id: ObjectId, content: Option<IndexContent>) -> Result<()> {
        let vouched = content.as_ref().is_none_or(|content| content.vouched);
        for pack in content.into_iter().flat_map(|content| content.packs) {
            self.gathered.extend(pack.table.locations(pack.id));
            if vouched {
                self.metas.insert(pack.id, pack.meta);
            }
            if self.gathered.len() >= GATHER {
                self.write_run()?;
            }
        }
        self.changed = true;
        self.state.covered.insert(id);
        Ok(())
    }

    fn new_path(&self) -> Result<PathBuf> {
        Ok(self.dir.join(format!("run-{}", hex::encode(crate::random::bytes::<8>()?))))
    }

    fn write_run(&mut self) -> Result<()> {
        let mut records = std::mem::take(&mut self.gathered);
        // Of equal ids the first is written: the newest.
        records.reverse();
        records.sort_by_key(|record| record.0);
        let path = self.new_path()?;
        let run = Run::write(&path, records.into_iter().map(Ok)).map_err(Self::cache_error(&path))?;
        self.runs.push(Arc::new(run));
        Ok(())
    }

    fn finish(mut self) -> Result<Loaded> {
        if !self.gathered.is_empty() {
            self.write_run()?;
        }
        if self.runs.len() > MAX_RUNS {
            let path = self.new_path()?;
            let merged = run::merge(&self.runs, &path).map_err(Self::cache_error(&path))?;
            self.runs = vec![Arc::new(merged)];
        }
        if self.changed {
            self.write_state()?;
        }
        self.remove_strangers();
        let spill = self.dir.join(format!("spill-{}", hex::encode(crate::random::bytes::<8>()?)));
        Ok(Loaded { metas: self.metas, runs: self.runs, spill })
    }

    fn write_state(&mut self) -> Result<()> {
        let name = |run: &Arc<Run>| run.path().file_name().map(|name| name.to_string_lossy().into_owned());
        self.state.runs = self.runs.iter().filter_map(name).collect();
        let packs = self.metas.iter().map(|(id, meta)| (*id, meta.len, meta.sha256, meta.version.clone()));
        self.state.packs = packs.collect();
        let json = serde_json::to_string(&self.state).expect("a state has only text keys");
        let text = format!("{}\n{json}", blake3::hash(json.as_bytes()).to_hex());
        let (path, temporary) = (self.dir.join(STATE), self.dir.join("state.new"));
        // A crash in between leaves the old state, or none: then the cache is built again.
        std::fs::write(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, &path))
            .map_err(Self::cache_error(&path))
    }

    /// Removes what the state does not name: merged runs, and what a killed run left. Failing costs only space.
    fn remove_strangers(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != STATE && !self.runs.iter().any(|run| run.path() == entry.path()) {
                let _ = std::fs::remove_file(entry.path()).or_else(|_| std::fs::remove_dir_all(entry.path()));
            }
        }
    }
}

fn read_state(dir: &Path) -> Option<State> {
    let text = std::fs::read_to_string(dir.join(STATE)).ok()?;
    let (hash, json) = text.split_once('\n')?;
    (hash == blake3::hash(json.as_bytes()).to_hex().as_str()).then_some(())?;
    serde_json::from_str(json).ok()
}
