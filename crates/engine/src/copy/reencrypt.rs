//! Moves an instance to the recipients and the signing key of today's configuration, into a repository of its own.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use lifeboat_evidence::{
    Act,
    act::{self, Refused},
    backup::PointReference,
};
use lifeboat_model::{
    check::Outcome,
    id::{Instance, PointId},
    lsn::Lsn,
};
use lifeboat_repo::{
    copy::reencrypt::{ArchiveMoved, Moved, Reencrypt},
    progress::{Counter, Progress},
    repository::{InstanceRepo, Repository},
    seal::Identity,
    writer::WriterOptions,
};
use lifeboat_store::{Key, SharedStore};
use tokio_util::sync::CancellationToken;

use super::{Wanted, keep_in_both, wal_from, wanted};
use crate::{
    context::{Context, SOFTWARE, open_repository},
    error::{Error, Result},
    keys::writer_keys,
    lifetime::Lifetime,
    record,
    tally::Tally,
};

/// What moving did.
#[derive(Debug)]
pub struct Reencrypted {
    /// Which point came from which, oldest first.
    pub points: Vec<Moved>,
    /// WAL and documents.
    pub archive: ArchiveMoved,
    /// Points that do not open whole, and why; they were not made.
    pub refused: Vec<(Key, PointId, String)>,
    /// Ciphertext that was written.
    pub bytes: u64,
    /// Where the statement about this run is kept, in both; none where nothing was written.
    pub statement: Option<Key>,
    /// What people should know.
    pub remarks: Vec<String>,
    /// When it began.
    pub started: Timestamp,
    /// When it was done.
    pub finished: Timestamp,
}

impl Reencrypted {
    /// Whether all that was wanted was made.
    pub fn is_complete(&self) -> bool {
        self.refused.is_empty() && self.archive.problems.is_empty()
    }
}

/// Opens the repository to move to, and makes it on first use. A copy is refused: it has the id of its primary, and holds
/// what is sealed to the recipients of before.
pub async fn open_target(
    store: SharedStore,
    state_dir: &Path,
    now: Timestamp,
    from: &Repository,
) -> Result<Repository> {
    let target = open_repository(store, state_dir, now).await?;
    if target.is_replica() || target.id() == from.id() {
        return Err(lifeboat_repo::Error::Replica { store: target.store().describe() }.into());
    }
    Ok(target)
}

/// Opens what one repository of the configuration holds of an instance, and writes it again into another.
pub async fn run(
    from: &Context,
    to: &Context,
    instance: &str,
    wanted: Wanted,
    identities: &[Identity],
    progress: Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<Reencrypted> {
    let (name, _) = from.instance(instance)?;
    let job = Job { from, to, name, wanted, identities, tally: Tally::new(progress), started: (from.clock)() };
    tokio::select! {
        moved = job.run() => moved,
        () = cancel.cancelled() => Err(Error::Cancelled),
    }
}

struct Job<'a> {
    from: &'a Context,
    to: &'a Context,
    name: &'a Instance,
    wanted: Wanted,
    identities: &'a [Identity],
    tally: Arc<Tally>,
    started: Timestamp,
}

impl Job<'_> {
    async fn run(&self) -> Result<Reencrypted> {
        let lifetime = Lifetime::look(self.from, self.name).await?;
        let wanted_points = wanted(&lifetime, self.wanted);
        let (from, to) = (self.from.instance_repo(self.name), self.to.writing_repo(self.name).await?);
        let keys = writer_keys(&self.to.config.keys)?;
        let options = self.options();
        let moving = Reencrypt {
            from: &from,
            identities: self.identities,
            trusted: &self.from.config.keys.trusted_keys,
            to: &to,
            keys: &keys,
            options: &options,
            progress: self.tally.clone(),
        };
        let mut done = Reencrypted {
            points: Vec::new(),
            archive: ArchiveMoved::default(),
            refused: Vec::new(),
            bytes: 0,
            statement: None,
            remarks: Vec::new(),
            started: self.started,
            finished: self.started,
        };
        for reference in lifetime.points.iter().filter(|point| wanted_points.contains(&point.id)) {
            match moving.point(reference).await {
                Ok(moved) => done.points.push(moved),
                Err(error) if speaks_of_the_point(&error) => {
                    done.refused.push((reference.key.clone(), reference.id, error.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let base = match wal_from(&lifetime, self.wanted, &wanted_points) {
            lifeboat_repo::copy::WalFrom::Point(id) => self.start_of(&from, &lifetime, id).await?,
            _ => None,
        };
        done.archive = moving.archive(base).await?;
        done.bytes = self.tally.get(Counter::StoredBytes);
        let new = done.points.iter().any(|moved| !moved.there);
        if new || done.archive.wal_objects > 0 || !done.is_complete() {
            match self.keep(&done).await {
                Ok(key) => done.statement = Some(key),
                Err(error) => done.remarks.push(format!("the evidence could not be kept: {error}")),
            }
        }
        done.finished = (self.from.clock)();
        Ok(done)
    }

    fn options(&self) -> WriterOptions {
        let engine = &self.to.config.engine;
        WriterOptions {
            level: engine.compression_level,
            pack_size: engine.pack_size.0,
            workers: engine.workers,
            uploads: engine.uploads,
            cache_dir: engine.state_dir.join("cache"),
            software: SOFTWARE.to_owned(),
            clock: self.to.clock.clone(),
        }
    }

    async fn start_of(&self, from: &InstanceRepo, lifetime: &Lifetime, id: PointId) -> Result<Option<(u64, Lsn)>> {
        let Some(reference) = lifetime.points.iter().find(|point| point.id == id) else { return Ok(None) };
        let point = from.read_point(reference, &self.from.config.keys.trusted_keys).await?;
        Ok(point.header.wal.map(|wal| (wal.system_id, wal.start)))
    }

    async fn keep(&self, done: &Reencrypted) -> Result<Key> {
        let made = done.points.iter().filter(|moved| !moved.there);
        let problems = done.archive.problems.iter().map(|problem| (&problem.key, &problem.what));
        let refused = done.refused.iter().map(|(key, _, why)| (key, why)).chain(problems);
        let act = act::Copy {
            from: self.from.config.repository_name.clone(),
            to: self.to.config.repository_name.clone(),
            to_storage: record::storage_of(self.to, self.name)?,
            points: done.points.len() as u64,
            objects: made.count() as u64 + done.archive.wal_objects + done.archive.documents,
            bytes: done.bytes,
            present: done.points.iter().filter(|moved| moved.there).count() as u64,
            reencrypted: true,
            newest: done.points.last().map(|moved| PointReference {
                id: moved.to,
                key: moved.key.to_string(),
                sha256: moved.sha256,
                version: None,
            }),
            refused: refused.map(|(key, why)| Refused { key: key.to_string(), why: why.clone() }).collect(),
        };
        let outcome = if act.refused.is_empty() { Outcome::Passed } else { Outcome::Failed };
        keep_in_both(self.from, self.to, self.name, self.started, outcome, Act::Copy(act)).await
    }
}

/// Whether an error says that the point does not open whole. Anything else ends the run; a wrong identity too, which no
/// other point would open either.
fn speaks_of_the_point(error: &lifeboat_repo::Error) -> bool {
    use lifeboat_repo::Error as Repo;
    use lifeboat_store::Error as Store;
    matches!(
        error,
        Repo::Damaged { .. } | Repo::Untrusted { .. } | Repo::Store(Store::NotFound { .. } | Store::Damaged { .. })
    )
}
