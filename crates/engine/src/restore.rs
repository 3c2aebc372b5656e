//! Brings a recovery point back into a folder: `pgdata`, `tablespaces`, `filestore`, `config`.
//!
//! The parts come back in parallel, and every chunk is checked against its keyed hash. A marker file says that the
//! folder is incomplete until the last byte is in place, and the cluster's `global/pg_control` gets its name last.
//! Damage does not stop the rest: it is collected, and the report says what is hit.
//!
//! What is restored is a [`Plan`]: a point as it is, or a point and the log that leads from it to another moment. Then the
//! server can be started while that log is still on its way: see [`crate::recovery::staging`].

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
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

use lifeboat_model::{id::PointId, lsn::Lsn, signature::PublicKey};
use lifeboat_repo::{
    point::Point,
    progress::Progress,
    reader::{Damage, Filter, Reader, ReaderOptions},
    repository::InstanceRepo,
    seal::Identity,
    tree::{Entry, EntryKind, TreeKind},
};
use tokio_util::sync::CancellationToken;

use crate::{
    details::{PostgresDetails, SourceNotes, Witness, decode},
    error::{Error, Result},
    files::{is_real_folder, place::Placer},
    pgdata::{WalPlacer, adopt, configure_recovery, place_histories},
    recovery::{
        Plan,
        pieces::Pieces,
        staging::{self, WalStaging},
    },
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
    /// What to bring back.
    pub plan: &'a Plan,
    /// Who may have signed it.
    pub trusted: &'a [PublicKey],
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
    /// What people should know of the plan and of stored data that was found damaged and got around.
    pub remarks: Vec<String>,
    /// The log that is still on its way; the server can be started meanwhile. See [`RestoreReport::stage`].
    pub staging: Option<WalStaging>,
}

impl RestoreReport {
    /// Whether every byte is in place.
    pub fn is_complete(&self) -> bool {
        self.damage.is_empty() && self.staging.is_none()
    }

    /// Waits until all of the log is in place, or is known to be damaged. Only then is the folder complete.
    pub async fn stage(&mut self, cancel: &CancellationToken) -> Result<()> {
        let Some(staging) = self.staging.take() else { return Ok(()) };
        let staged = staging.finished(cancel).await?;
        self.remarks.extend(staged.replaced.iter().map(|why| format!("read from another copy: {why}")));
        self.parts.push(PartReport {
            name: "staged wal",
            files: staged.files,
            bytes: staged.bytes,
            seconds: staged.seconds,
        });
        self.damage.extend(staged.damage);
        sync_file_system(&self.to)?;
        self.finish()
    }

    /// Takes the mark of incompleteness away.
    fn finish(&self) -> Result<()> {
        if !self.damage.is_empty() {
            return Ok(());
        }
        let ours = self.to.join(RESTORED_MARKER);
        fs::write(&ours, format!("{}\n", self.point)).map_err(Error::io("cannot write", &ours))?;
        let marker = self.to.join(INCOMPLETE_MARKER);
        fs::remove_file(&marker).map_err(Error::io("cannot remove", &marker))
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
    let plan = request.plan;
    let details = plan.base.open_details(request.identities)?;
    let witness = if details.witness.is_null() { None } else { Some(decode(&details.witness)?) };
    let notes: SourceNotes = details.facts.get(SourceNotes::FACT).map(decode).transpose()?.unwrap_or_default();
    let reader = reader(&request, &plan.base, &progress).await?;
    reader.check_identity().await?;
    prepare_target(&request.to, request.delta)?;

    let archive = request.repo.wal_archive();
    let pieces = Pieces::new(Arc::clone(&reader), &archive, &plan.log.objects, request.trusted, request.identities);
    let job = Job { request: &request, reader: &reader, pieces: &Arc::new(pieces), progress: &progress };
    let (database, filestore, config) = tokio::try_join!(job.database(), job.filestore(), job.config())?;

    let mut report = RestoreReport {
        point: plan.base.header.point,
        to: request.to.clone(),
        parts: Vec::new(),
        damage: Vec::new(),
        postgres: plan.postgres.clone(),
        witness,
        notes,
        removed: 0,
        remarks: plan.remarks.clone(),
        staging: None,
    };
    let parts: Vec<Part> = [database, filestore, config].into_iter().flatten().collect();
    let is_damaged = parts.iter().any(|part| !part.damage.is_empty());
    for part in parts {
        if let Some(placer) = part.startable {
            if plan.log.staged {
                if !is_damaged {
                    say_staging(&request.to)?;
                }
                let pgdata = request.to.join("pgdata");
                report.staging = Some(staging::begin(&pgdata, plan.log.order.clone(), Arc::clone(job.pieces)));
            }
            // Only now: from here on the cluster can be started, and nothing of the folder is missing for lack of time.
            placer.reveal().map_err(Error::io("cannot rename pg_control in", &request.to))?;
        }
        report.parts.extend(part.reports);
        report.damage.extend(part.damage);
        report.removed += part.removed;
    }
    if report.is_complete() {
        report.finish()?;
    }
    Ok(report)
}

async fn reader(request: &RestoreRequest<'_>, point: &Point, progress: &Arc<dyn Progress>) -> Result<Arc<Reader>> {
    let options = ReaderOptions::default();
    let reader = Reader::open(request.repo.clone(), point, request.identities, options, Arc::clone(progress));
    Ok(Arc::new(reader.await?))
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
    reader: &'a Arc<Reader>,
    pieces: &'a Arc<Pieces>,
    progress: &'a Arc<dyn Progress>,
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
        let mut part = self.tree(TreeKind::Database, "database", &pgdata, &placer, &[]).await?;
        part.reports.push(self.wal(&pgdata, &mut part.damage).await?);
        if part.damage.is_empty() {
            let plan = self.request.plan;
            let prepared = match plan.log.staged {
                true => staging::prepare(&pgdata, &plan.log.order),
                false => place_histories(&pgdata, &plan.log.order.histories),
            };
            prepared
                .and_then(|()| configure_recovery(&pgdata, plan.base.header.point, &plan.settings()))
                .and_then(|()| adopt(&pgdata, &self.request.to.join("tablespaces")))
                .map_err(Error::io("cannot configure recovery in", &pgdata))?;
            sync_file_system(&pgdata)?;
            part.startable = Some(placer);
        }
        Ok(Some(part))
    }

    /// The base's files, and those of later points that may belong to the moment. Odoo names files by their content and never
    /// changes them, so one that is there already is the same.
    async fn filestore(&self) -> Result<Option<Part>> {
        let later = &self.request.plan.later;
        self.files(self.request.parts.filestore, TreeKind::Filestore, "filestore", later).await
    }

    async fn config(&self) -> Result<Option<Part>> {
        self.files(self.request.parts.config, TreeKind::Config, "config", &[]).await
    }

    async fn files(&self, wanted: bool, kind: TreeKind, name: &'static str, later: &[Point]) -> Result<Option<Part>> {
        if !wanted || self.request.plan.base.header.tree(kind).is_none() {
            return Ok(None);
        }
        let root = self.request.to.join(name);
        make_folder(&root, 0o755)?;
        let placer = Arc::new(Placer::new(root.clone(), self.request.delta));
        let part = self.tree(kind, name, &root, &placer, later).await?;
        sync_file_system(&root)?;
        Ok(Some(part))
    }

    async fn tree(
        &self,
        kind: TreeKind,
        name: &'static str,
        root: &Path,
        placer: &Arc<Placer>,
        later: &[Point],
    ) -> Result<Part> {
        let started = Instant::now();
        let mut done = self.reader.restore_tree(kind, Arc::clone(placer) as _, None).await?;
        let mut readers = vec![Arc::clone(self.reader)];
        for point in later {
            let reader = reader(self.request, point, self.progress).await?;
            let more = reader.restore_tree(kind, Arc::clone(placer) as _, self.missing(root)).await?;
            done.files += more.files;
            done.bytes += more.bytes;
            done.damage.extend(more.damage);
            readers.push(reader);
        }
        let mut removed = 0;
        if self.request.delta
            && let Some(known) = known_paths(&readers, kind).await?
        {
            removed += remove_strangers(root, b"", &known, placer)?;
            for (oid, folder) in placer.tablespaces() {
                removed += remove_strangers(folder, &[b"pg_tblspc/", oid].concat(), &known, placer)?;
            }
        }
        // Last, as removing strangers changes the times of folders. The base's own words count last.
        for reader in readers.iter().rev() {
            self.finish_directories(reader, kind, placer).await?;
        }
        let report =
            PartReport { name, files: done.files, bytes: done.bytes, seconds: started.elapsed().as_secs_f64() };
        Ok(Part { reports: vec![report], damage: done.damage, removed, startable: None })
    }

    /// Lets pass what is not there yet. In a folder with an earlier restore being there says nothing: everything is looked
    /// at, and what fits is kept.
    fn missing(&self, root: &Path) -> Option<Filter> {
        if self.request.delta {
            return None;
        }
        let root = root.to_owned();
        Some(Arc::new(move |entry: &Entry| {
            entry.path.is_empty() || root.join(OsStr::from_bytes(&entry.path)).symlink_metadata().is_err()
        }))
    }

    /// The second pass over folders.
    async fn finish_directories(&self, reader: &Reader, kind: TreeKind, placer: &Arc<Placer>) -> Result<()> {
        let Some(mut cursor) = reader.entries(kind)? else { return Ok(()) };
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
        for tablespace in &self.request.plan.postgres.tablespaces {
            let oid = tablespace.oid.to_string();
            let folder = self.request.to.join("tablespaces").join(&oid);
            make_folder(&folder, 0o700)?;
            map.insert(oid.into_bytes(), folder);
        }
        Ok(map)
    }

    /// The base's own log, without which it does not become consistent.
    async fn wal(&self, pgdata: &Path, damage: &mut Vec<Damage>) -> Result<PartReport> {
        let started = Instant::now();
        let postgres = &self.request.plan.postgres;
        let placer = WalPlacer::new(pgdata, postgres.timeline, postgres.segment_size)
            .map_err(Error::io("cannot make pg_wal in", pgdata))?;
        let (mut bytes, mut files) = (0, 0);
        // The point ends at an exact position; a slice may reach past it.
        if let Some(own) = self.request.plan.log.own {
            let mut position = own.first;
            while position < own.last {
                match self.pieces.read(own.timeline, position, own.last).await? {
                    Ok(wal) => {
                        placer.place(position, &wal).map_err(Error::io("cannot write WAL into", pgdata))?;
                        position = Lsn(position.0 + wal.len() as u64);
                        bytes += wal.len() as u64;
                        files += 1;
                    }
                    Err(lost) => {
                        let files = "the whole database: without this WAL it does not become consistent".to_owned();
                        damage.push(Damage { files: vec![files], ..lost });
                        break;
                    }
                }
            }
        }
        Ok(PartReport { name: "wal", files, bytes, seconds: started.elapsed().as_secs_f64() })
    }
}

/// Hashes of the paths that belong; none where damage hides some of them.
async fn known_paths(readers: &[Arc<Reader>], kind: TreeKind) -> Result<Option<HashSet<u64>>> {
    let mut known = HashSet::new();
    for reader in readers {
        let Some(mut cursor) = reader.entries(kind)? else { return Ok(None) };
        loop {
            match cursor.next().await {
                Ok(Some(entry)) => known.insert(path_hash(&entry.path)),
                Ok(None) => break,
                Err(error) if is_damage(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        }
    }
    Ok(Some(known))
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
pub(crate) fn is_damage(error: &lifeboat_repo::Error) -> bool {
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

/// Whether a restore may be made into the folder, as it is now. Nothing is changed.
///
/// A cluster that is startable and has no `recovery.signal` any more was promoted: what it holds since then is in no
/// backup perhaps. Every restore writes that signal before it lets the cluster be started, and the server removes it when it
/// leaves recovery, so one that was never started, or still replays, is mended.
pub fn check_target(to: &Path, delta: bool) -> Result<()> {
    if !to.exists() {
        return Ok(());
    }
    let mut content = fs::read_dir(to).map_err(Error::io("cannot read", to))?;
    if content.next().is_none() {
        return Ok(());
    }
    if !delta {
        return Err(Error::TargetNotEmpty { path: to.to_owned() });
    }
    if ![RESTORED_MARKER, INCOMPLETE_MARKER].iter().any(|marker| to.join(marker).exists()) {
        return Err(Error::NotOurs { path: to.to_owned(), marker: RESTORED_MARKER });
    }
    let path = to.join("pgdata/postmaster.pid");
    if path.exists() {
        return Err(Error::ServerRunning { path });
    }
    let control = to.join("pgdata/global/pg_control");
    let is_startable = control.symlink_metadata().is_ok();
    if is_startable && to.join("pgdata/recovery.signal").symlink_metadata().is_err() {
        return Err(Error::Promoted { path: to.join("pgdata"), control });
    }
    Ok(())
}

fn prepare_target(to: &Path, delta: bool) -> Result<()> {
    check_target(to, delta)?;
    if !to.exists() {
        make_folder(to, 0o755)?;
    }
    let marker = to.join(INCOMPLETE_MARKER);
    fs::write(&marker, "A restore into this folder has not finished. Do not start anything from it.\n")
        .map_err(Error::io("cannot write", &marker))
}

/// The mark stays until all of the log is there, and says that the server need not wait for it.
fn say_staging(to: &Path) -> Result<()> {
    let marker = to.join(INCOMPLETE_MARKER);
    let text = "All files are restored; the write-ahead log is still being brought into pgdata/lifeboat_wal.\n\
                PostgreSQL can be started meanwhile: it waits for what it needs. If the restore was stopped, run it again.\n";
    fs::write(&marker, text).map_err(Error::io("cannot write", &marker))
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
