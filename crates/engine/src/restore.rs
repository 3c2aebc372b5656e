//! Brings a recovery point back into a folder: `pgdata`, `tablespaces`, `filestore`, `config`.
//!
//! The parts come back in parallel, and every chunk is checked against its keyed hash. A marker file says that the
//! folder is incomplete until the last byte is in place, and the cluster's `global/pg_control` gets its name last.
//! Damage does not stop the rest: it is collected, and the report says what is hit.

use std::{
    collections::{HashMap, HashSet},
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use lifeboat_model::id::PointId;
use lifeboat_repo::{
    point::Point,
    progress::Progress,
    reader::{Damage, Reader, ReaderOptions},
    repository::InstanceRepo,
    seal::Identity,
    tree::{EntryKind, TreeKind},
};
use tokio_util::sync::CancellationToken;

use crate::{
    details::{PostgresDetails, SourceNotes, Witness, decode},
    error::{Error, Result},
    files::{is_real_folder, place::Placer},
    pgdata::{WalPlacer, adopt, configure_recovery},
};

/// In the folder while it is incomplete.
pub const INCOMPLETE_MARKER: &str = "RESTORE-INCOMPLETE";

/// Which parts to bring back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// PGDATA with its WAL and tablespaces.
    pub database: bool,
    /// The filestore.
    pub filestore: bool,
    /// Configuration files and kept command output.
    pub config: bool,
}

impl Parts {
    /// Everything.
    pub const ALL: Parts = Parts { database: true, filestore: true, config: true };
}

/// What to restore, and where to.
pub struct RestoreRequest<'a> {
    /// The instance's part of the repository.
    pub repo: &'a InstanceRepo,
    /// The verified point.
    pub point: &'a Point,
    /// Recovery identities.
    pub identities: &'a [Identity],
    /// The folder.
    pub to: PathBuf,
    /// Reuse what is there and matches; remove what does not belong.
    pub delta: bool,
    /// Which parts.
    pub parts: Parts,
}

/// What one part of a restore did.
#[derive(Debug, Clone)]
pub struct PartReport {
    /// `database`, `filestore`, `config` or `wal`.
    pub name: &'static str,
    /// Files placed.
    pub files: u64,
    /// Bytes placed (or found in place).
    pub bytes: u64,
    /// From start to end of this part.
    pub seconds: f64,
}

/// What a restore did.
#[derive(Debug)]
pub struct RestoreReport {
    /// The point.
    pub point: PointId,
    /// The folder.
    pub to: PathBuf,
    /// By part.
    pub parts: Vec<PartReport>,
    /// What could not be brought back.
    pub damage: Vec<Damage>,
    /// The source's PostgreSQL.
    pub postgres: PostgresDetails,
    /// What its tables looked like, where the point says.
    pub witness: Option<Witness>,
    /// What the backup noted about its sources.
    pub notes: SourceNotes,
    /// Files removed by a delta restore.
    pub removed: u64,
}

impl RestoreReport {
    /// Whether every byte is in place.
    pub fn is_complete(&self) -> bool {
        self.damage.is_empty()
    }
}

/// Restores a point.
pub async fn run(
    request: RestoreRequest<'_>,
    progress: Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<RestoreReport> {
    tokio::select! {
        report = restore(request, progress) => report,
        () = cancel.cancelled() => Err(Error::Cancelled),
    }
}

async fn restore(request: RestoreRequest<'_>, progress: Arc<dyn Progress>) -> Result<RestoreReport> {
    let details = request.point.open_details(request.identities)?;
    let postgres: PostgresDetails = decode(&details.postgres)?;
    let witness = if details.witness.is_null() { None } else { Some(decode(&details.witness)?) };
    let notes: SourceNotes = details.facts.get(SourceNotes::FACT).map(decode).transpose()?.unwrap_or_default();
    let reader =
        Reader::open(request.repo.clone(), request.point, request.identities, ReaderOptions::default(), progress)
            .await?;
    reader.check_identity().await?;
    prepare_target(&request.to, request.delta)?;

    let job = Job { request: &request, reader: &reader, postgres: &postgres };
    let (database, filestore, config) = tokio::try_join!(job.database(), job.filestore(), job.config())?;

    let mut report = RestoreReport {
        point: request.point.header.point,
        to: request.to.clone(),
        parts: Vec::new(),
        damage: Vec::new(),
        postgres,
        witness,
        notes,
        removed: 0,
    };
    for part in [database, filestore, config].into_iter().flatten() {
        if let Some(placer) = part.startable {
            // Only now: from here on the cluster can be started, and nothing of the folder is missing for lack of time.
            placer.reveal().map_err(Error::io("cannot rename pg_control in", &request.to))?;
        }
        report.parts.extend(part.reports);
        report.damage.extend(part.damage);
        report.removed += part.removed;
    }
    if report.is_complete() {
        let ours = request.to.join(RESTORED_MARKER);
        fs::write(&ours, format!("{}\n", report.point)).map_err(Error::io("cannot write", &ours))?;
        let marker = request.to.join(INCOMPLETE_MARKER);
        fs::remove_file(&marker).map_err(Error::io("cannot remove", &marker))?;
    }
    Ok(report)
}

struct Part {
    reports: Vec<PartReport>,
    damage: Vec<Damage>,
    removed: u64,
    /// A whole cluster that waits for its `pg_control`.
    startable: Option<Arc<Placer>>,
}

struct Job<'a> {
    request: &'a RestoreRequest<'a>,
    reader: &'a Reader,
    postgres: &'a PostgresDetails,
}

impl Job<'_> {
    async fn database(&self) -> Result<Option<Part>> {
        if !self.request.parts.database {
            return Ok(None);
        }
        let pgdata = self.request.to.join("pgdata");
        make_folder(&pgdata, 0o700)?;
        let placer = Arc::new(Placer::cluster(pgdata.clone(), self.request.delta, self.tablespaces()?));
        placer.conceal().map_err(Error::io("cannot rename pg_control in", &pgdata))?;
        let mut part = self.tree(TreeKind::Database, "database", &pgdata, &placer).await?;
        part.reports.push(self.wal(&pgdata, &mut part.damage).await?);
        if part.damage.is_empty() {
            configure_recovery(&pgdata, self.request.point.header.point)
                .and_then(|()| adopt(&pgdata, &self.request.to.join("tablespaces")))
                .map_err(Error::io("cannot configure recovery in", &pgdata))?;
            sync_file_system(&pgdata)?;
            part.startable = Some(placer);
        }
        Ok(Some(part))
    }

    async fn filestore(&self) -> Result<Option<Part>> {
        self.files(self.request.parts.filestore, TreeKind::Filestore, "filestore").await
    }

    async fn config(&self) -> Result<Option<Part>> {
        self.files(self.request.parts.config, TreeKind::Config, "config").await
    }

    async fn files(&self, wanted: bool, kind: TreeKind, name: &'static str) -> Result<Option<Part>> {
        if !wanted || self.request.point.header.tree(kind).is_none() {
            return Ok(None);
        }
        let root = self.request.to.join(name);
        make_folder(&root, 0o755)?;
        let placer = Arc::new(Placer::new(root.clone(), self.request.delta));
        let part = self.tree(kind, name, &root, &placer).await?;
        sync_file_system(&root)?;
        Ok(Some(part))
    }

    async fn tree(&self, kind: TreeKind, name: &'static str, root: &Path, placer: &Arc<Placer>) -> Result<Part> {
        let started = Instant::now();
        let done = self.reader.restore_tree(kind, Arc::clone(placer) as _, None).await?;
        let mut removed = 0;
        if self.request.delta
            && let Some(known) = self.known_paths(kind).await?
        {
            removed += remove_strangers(root, b"", &known, placer)?;
            for (oid, folder) in placer.tablespaces() {
                removed += remove_strangers(folder, &[b"pg_tblspc/", oid].concat(), &known, placer)?;
            }
        }
        // Last, as removing strangers changes the times of folders.
        self.finish_directories(kind, placer).await?;
        let report =
            PartReport { name, files: done.files, bytes: done.bytes, seconds: started.elapsed().as_secs_f64() };
        Ok(Part { reports: vec![report], damage: done.damage, removed, startable: None })
    }

    /// Hashes of the paths that belong; none where damage hides some of them.
    async fn known_paths(&self, kind: TreeKind) -> Result<Option<HashSet<u64>>> {
        let mut known = HashSet::new();
        let Some(mut cursor) = self.reader.entries(kind)? else { return Ok(None) };
        loop {
            match cursor.next().await {
                Ok(Some(entry)) => known.insert(path_hash(&entry.path)),
                Ok(None) => return Ok(Some(known)),
                Err(error) if is_damage(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        }
    }

    /// The second pass over folders.
    async fn finish_directories(&self, kind: TreeKind, placer: &Arc<Placer>) -> Result<()> {
        let Some(mut cursor) = self.reader.entries(kind)? else { return Ok(()) };
        loop {
            match cursor.next().await {
                Ok(Some(entry)) if matches!(entry.kind, EntryKind::Directory) => {
                    placer.finish_directory(&entry).map_err(Error::io("cannot finish folder in", &self.request.to))?;
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                // Reported by the first pass; the cursor goes on behind it.
                Err(error) if is_damage(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn tablespaces(&self) -> Result<HashMap<Vec<u8>, PathBuf>> {
        let mut map = HashMap::new();
        for tablespace in &self.postgres.tablespaces {
            let oid = tablespace.oid.to_string();
            let folder = self.request.to.join("tablespaces").join(&oid);
            make_folder(&folder, 0o700)?;
            map.insert(oid.into_bytes(), folder);
        }
        Ok(map)
    }

    async fn wal(&self, pgdata: &Path, damage: &mut Vec<Damage>) -> Result<PartReport> {
        let started = Instant::now();
        let placer = WalPlacer::new(pgdata, self.postgres.timeline, self.postgres.segment_size)
            .map_err(Error::io("cannot make pg_wal in", pgdata))?;
        let mut bytes = 0;
        let slices = self.reader.wal_slices();
        for slice in &slices {
            match self.reader.read_wal(slice).await {
                Ok(wal) => {
                    // The point ends at an exact position; a slice may reach past it.
                    let wanted = self.postgres.wal_end.0.saturating_sub(slice.first.0);
                    let wal = wal.slice(..wal.len().min(usize::try_from(wanted).unwrap_or(usize::MAX)));
                    placer.place(slice.first, &wal).map_err(Error::io("cannot write WAL into", pgdata))?;
                    bytes += wal.len() as u64;
                }
                Err(error) if error.is_transient() => return Err(error.into()),
                Err(error) => damage.push(Damage {
                    object: slice.key.clone(),
                    reason: error.to_string(),
                    files: vec!["the whole database: without this WAL it does not become consistent".to_owned()],
                    file_count: 1,
                }),
            }
        }
        Ok(PartReport { name: "wal", files: slices.len() as u64, bytes, seconds: started.elapsed().as_secs_f64() })
    }
}

/// Removes what lies below `root` and is not in the tree below `stored`.
fn remove_strangers(root: &Path, stored: &[u8], known: &HashSet<u64>, placer: &Placer) -> Result<u64> {
    let mut removed = 0;
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::io("cannot read", &folder))? {
            let path = entry.map_err(Error::io("cannot read", &folder))?.path();
            let relative = path.strip_prefix(root).unwrap_or(&path).as_os_str().as_bytes();
            let name = if stored.is_empty() { relative.to_owned() } else { [stored, relative].join(&b'/') };
            let is_folder = is_real_folder(&path);
            if placer.is_held_back(&path) || known.contains(&path_hash(&name)) {
                if is_folder {
                    folders.push(path);
                }
                continue;
            }
            let result = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            result.map_err(Error::io("cannot remove", &path))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether an object is missing or not what was stored, which the restore reports; anything else ends it.
fn is_damage(error: &lifeboat_repo::Error) -> bool {
    use lifeboat_repo::Error;
    matches!(
        error,
        Error::Damaged { .. }
            | Error::WrongIdentity { .. }
            | Error::Store(lifeboat_store::Error::NotFound { .. } | lifeboat_store::Error::Damaged { .. })
    )
}

fn path_hash(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// Left in a folder that a restore has made: only such a one is mended by a delta restore, which removes what does not
/// belong.
pub const RESTORED_MARKER: &str = ".lifeboat-restore";

fn check_reuse(to: &Path, delta: bool) -> Result<()> {
    if !delta {
        return Err(Error::TargetNotEmpty { path: to.to_owned() });
    }
    if ![RESTORED_MARKER, INCOMPLETE_MARKER].iter().any(|marker| to.join(marker).exists()) {
        return Err(Error::NotOurs { path: to.to_owned(), marker: RESTORED_MARKER });
    }
    let path = to.join("pgdata/postmaster.pid");
    if path.exists() { Err(Error::ServerRunning { path }) } else { Ok(()) }
}

fn prepare_target(to: &Path, delta: bool) -> Result<()> {
    if to.exists() {
        let mut content = fs::read_dir(to).map_err(Error::io("cannot read", to))?;
        if content.next().is_some() {
            check_reuse(to, delta)?;
        }
    } else {
        make_folder(to, 0o755)?;
    }
    let marker = to.join(INCOMPLETE_MARKER);
    fs::write(&marker, "A restore into this folder has not finished. Do not start anything from it.\n")
        .map_err(Error::io("cannot write", &marker))
}

fn make_folder(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(Error::io("cannot create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io("cannot set mode of", path))
}

/// One call makes everything that was placed durable, instead of one per file.
fn sync_file_system(path: &Path) -> Result<()> {
    let folder = fs::File::open(path).map_err(Error::io("cannot open", path))?;
    rustix::fs::syncfs(&folder).map_err(std::io::Error::from).map_err(Error::io("cannot make durable", path))
}
