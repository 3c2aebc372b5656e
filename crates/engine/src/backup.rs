//! Makes one recovery point of database, filestore and configuration.
//!
//! The order matters. The base backup comes first; then the witness, and the position where WAL ends; then the
//! filestore, so that every file which a row of the point names has been written before it is walked. The point is
//! written last of all, when everything that it names is durable: whatever happens before, nothing is visible.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use lifeboat_model::{
    config::InstanceConfig,
    id::{Instance, RunId},
    lsn::Lsn,
};
use lifeboat_postgres::{ConnectOptions, Replication, digest::DatabaseDigest};
use lifeboat_repo::{
    point::{Point, PointDetails},
    progress::Progress,
    writer::{PointDraft, TreeStats, WalSpan, Writer, WriterOptions},
};
use lifeboat_store::Key;
use tokio_util::sync::CancellationToken;

use crate::{
    context::{Context, SOFTWARE},
    database,
    details::{Comparison, PostgresDetails, SourceFacts, SourceNotes, Witness, encode},
    error::{Error, Result},
    file_source,
    keys::writer_keys,
    record, retain,
    tally::Tally,
    witness,
};

/// What a backup did.
#[derive(Debug)]
pub struct BackupReport {
    /// The run.
    pub run: RunId,
    /// The finished point.
    pub point: Point,
    /// The source's PostgreSQL.
    pub postgres: PostgresDetails,
    /// What went into each tree: `database`, `filestore`, `config`.
    pub trees: Vec<(&'static str, TreeStats)>,
    /// Whether a restore can be compared with the source.
    pub comparison: Comparison,
    /// Changed and skipped files, failed commands, remarks.
    pub notes: SourceNotes,
    /// Where the signed statement of this backup is kept.
    pub evidence: Option<Key>,
    /// From the first connection to the durable point.
    pub started: Timestamp,
    /// See `started`.
    pub finished: Timestamp,
}

/// Backs an instance up.
pub async fn run(
    context: &Context,
    instance: &str,
    connect: &ConnectOptions,
    progress: Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<BackupReport> {
    let (name, config) = context.instance(instance)?;
    let backup = Backup { context, name, config, connect, started: (context.clock)() };
    // First of all the server: what cannot be reached must not leave a trace in the repository.
    let mut replication = Replication::connect(connect).await?;
    let source = database::look(&mut replication).await?;
    drop(replication);
    let tally = Tally::new(progress);
    let mut writer = backup.begin(tally.clone()).await?;
    let result = tokio::select! {
        result = backup.capture(&mut writer, &source) => result,
        () = cancel.cancelled() => Err(Error::Cancelled),
    };
    match result {
        Ok(draft) => {
            let mut report = backup.commit(writer, draft).await?;
            let statement = record::backup_statement(context, &report, &tally)?;
            // The point stands whether or not its statement could be kept; that it could not is told.
            match record::keep(context, &statement).await {
                Ok((key, _)) => report.evidence = Some(key),
                Err(error) => report.notes.remarks.push(format!("the evidence could not be kept: {error}")),
            }
            // So does it where older locks could not be renewed.
            if let Err(error) = retain::renew(context, name, tally).await {
                report.notes.incomplete.push(format!("locks of what is kept could not be renewed: {error}"));
            }
            Ok(report)
        }
        Err(error) => {
            // Keeps what was stored for the next run. That it could not is no reason to hide the first error.
            if let Err(second) = writer.abort().await {
                tracing::debug!(error = %second, "cleaning up after the failed backup");
            }
            Err(error)
        }
    }
}

struct Backup<'a> {
    context: &'a Context,
    name: &'a Instance,
    config: &'a InstanceConfig,
    connect: &'a ConnectOptions,
    started: Timestamp,
}

struct Captured {
    postgres: PostgresDetails,
    system_id: u64,
    trees: Vec<(&'static str, TreeStats)>,
    witness: Witness,
    notes: SourceNotes,
}

impl Backup<'_> {
    async fn begin(&self, progress: Arc<dyn Progress>) -> Result<Writer> {
        let engine = &self.context.config.engine;
        let options = WriterOptions {
            level: engine.compression_level,
            pack_size: engine.pack_size.0,
            workers: engine.workers,
            uploads: engine.uploads,
            cache_dir: engine.state_dir.join("cache"),
            software: SOFTWARE.to_owned(),
            clock: self.context.clock.clone(),
        };
        let keys = writer_keys(&self.context.config.keys)?;
        Ok(Writer::begin(self.context.writing_repo(self.name).await?, keys, options, progress).await?)
    }

    async fn capture(&self, writer: &mut Writer, source: &database::Source) -> Result<Captured> {
        let mut notes = SourceNotes::default();
        let clock = &self.context.clock;
        let label = format!("lifeboat {}", writer.point_id());
        let (base, wal) = database::capture(self.connect, writer, source, &label, self.started).await?;
        let finished = clock();
        let (witness, mark) = self.witness(&mut notes).await?;
        let wal_end = wal.finish(mark.map_or(base.end, |mark| mark.end.max(base.end))).await?;
        let mut trees = vec![("database", base.stats)];
        if let Some(filestore) = &self.config.filestore {
            let stats = file_source::filestore(writer, &filestore.path, &mut notes).await?;
            if stats.files == 0 {
                let path = filestore.path.display();
                notes.incomplete.push(format!("the filestore {path} has no files: is its disk mounted?"));
            }
            trees.push(("filestore", stats));
        } else {
            notes.remarks.push("no filestore is configured: attachments kept in files are not covered".to_owned());
        }
        if let Some(sources) = &self.config.config {
            trees.push(("config", file_source::config(writer, sources, &mut notes).await?));
        }
        let mark = mark.map(|mark| mark.message);
        let postgres = PostgresDetails { mark, ..self.details(source, base, wal_end, finished) };
        Ok(Captured { postgres, system_id: source.system_id, trees, witness, notes })
    }

    async fn witness(&self, notes: &mut SourceNotes) -> Result<(Witness, Option<witness::Mark>)> {
        if !self.config.postgres.digests {
            let why = "digests are switched off in the configuration (postgres.digests)".to_owned();
            return Ok((self.no_witness(why), None));
        }
        match witness::take(self.connect, &self.config.postgres, &self.context.clock).await {
            Ok(taken) => {
                notes.remarks.extend(unread_tables(&taken.0));
                notes.remarks.extend(changed_tables(&taken.0));
                Ok(taken)
            }
            Err(error) => {
                let why = format!("the source's tables could not be digested: {error}");
                notes.remarks.push(why.clone());
                Ok((self.no_witness(why), witness::mark(self.connect, &self.config.postgres).await))
            }
        }
    }

    fn no_witness(&self, why: String) -> Witness {
        let comparison = Comparison::NotExact { why };
        let (taken, databases) = ((self.context.clock)(), BTreeMap::new());
        Witness { comparison, taken, databases, facts: SourceFacts::default() }
    }

    fn details(
        &self,
        source: &database::Source,
        base: database::BaseBackup,
        wal_end: Lsn,
        finished: Timestamp,
    ) -> PostgresDetails {
        PostgresDetails {
            version: source.version,
            system_id: source.system_id.to_string(),
            timeline: base.timeline,
            start: base.start,
            backup_end: base.end,
            wal_end,
            mark: None,
            segment_size: source.segment_size,
            data_checksums: source.data_checksums,
            tablespaces: base.tablespaces,
            databases: self.config.postgres.databases.clone(),
            started: self.started,
            finished,
        }
    }

    async fn commit(&self, writer: Writer, captured: Captured) -> Result<BackupReport> {
        let Captured { postgres, system_id, trees, witness, notes } = captured;
        let details = PointDetails {
            postgres: encode(&postgres)?,
            witness: encode(&witness)?,
            facts: [(SourceNotes::FACT.to_owned(), encode(&notes)?)].into(),
            notes: notes.remarks.clone(),
            ..PointDetails::default()
        };
        let start = postgres.start.segment_start(postgres.segment_size);
        let wal = WalSpan { system_id, timeline: postgres.timeline, start, end: postgres.wal_end };
        let point = writer.commit(PointDraft { started: self.started, details, wal: Some(wal) }).await?;
        Ok(BackupReport {
            run: record::new_run()?,
            point,
            postgres,
            trees,
            comparison: witness.comparison,
            notes,
            evidence: None,
            started: self.started,
            finished: (self.context.clock)(),
        })
    }
}

/// One remark about all relations that changed while they were read.
fn changed_tables(witness: &Witness) -> Option<String> {
    let of_database = |(database, digest): (&String, &DatabaseDigest)| {
        let changed = digest.inconclusive.iter();
        changed.map(|(name, why)| format!("{database}: {name}: {why}")).collect::<Vec<_>>()
    };
    let changed: Vec<String> = witness.databases.iter().flat_map(of_database).collect();
    let first = changed.first()?;
    Some(format!("{} relations are inconclusive, so a drill cannot compare all of the data ({first})", changed.len()))
}

/// One remark about all tables that hold rows and could not be digested.
fn unread_tables(witness: &Witness) -> Option<String> {
    let of_database = |(database, digest)| {
        let unread = DatabaseDigest::unread(digest);
        unread.map(move |(table, why)| format!("{database}: {table}: {why}"))
    };
    let unread: Vec<String> = witness.databases.iter().flat_map(of_database).collect();
    let first = unread.first()?;
    let count = if unread.len() == 1 { "1 table".to_owned() } else { format!("{} tables", unread.len()) };
    Some(format!(
        "{count} could not be digested, so a drill cannot compare all of the data ({first}); where a right is missing: \
         GRANT pg_read_all_data to the role of the backup"
    ))
}
