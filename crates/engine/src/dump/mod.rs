//! Logical dumps: single databases as `pg_dump` writes them, kept as a recovery point of their own kind.
//!
//! They stand beside the base backup: for servers that give no replication, for going to another major version, for handing
//! one tenant its data. A point with dumps is encrypted, signed, listed and verified like any other, and is never taken for a
//! backup of the instance: roles, filestore and configuration are not in it.
//!
//! The dump goes from `pg_dump` into the repository as it comes, through no file. Only a program that has ended well makes a
//! point. It is stored as `pg_dump` writes it uncompressed, since the repository compresses better and knows what it has already.
//!
//! Read on: [`program`] for who runs `pg_dump`, [`restore()`] for the way back.

mod error;
pub mod program;
mod restore;
mod server;

use std::sync::Arc;

use futures::StreamExt as _;
use jiff::Timestamp;
use lifeboat_model::{
    config::InstanceConfig,
    id::{Instance, RunId},
};
use lifeboat_repo::{
    point::{Point, PointDetails},
    progress::Progress,
    tree::{Entry, EntryKind, FileTime, TreeKind},
    writer::{Chunking, Finish, PointDraft, TreeStats, Writer, WriterOptions},
};
use lifeboat_store::Key;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use error::DumpError;
pub use program::Dumper;
pub use restore::{DumpRestoreReport, details, restore};
pub use server::{Database, Server, look};

use crate::{
    context::{Context, SOFTWARE},
    details::encode,
    error::{Error, Result},
    keys::writer_keys,
    record, retain,
    tally::Tally,
};

/// Cuts of a dump: what lies before a change stays at its place and is known already.
const CHUNK: u32 = 1 << 20;

/// What a dump in the archive format of `pg_dump` begins with.
const MAGIC: &[u8] = b"PGDMP";

/// What a point with dumps tells about them, sealed inside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpDetails {
    /// `server_version_num` of the source.
    pub version: u32,
    /// Cluster identity as decimal text, where the role may ask for it.
    pub system_id: Option<String>,
    /// What `pg_dump` says of itself.
    pub program: String,
    /// The databases, in the order of their names.
    pub databases: Vec<DumpedDatabase>,
    /// When the first dump began and the last ended, by this host's clock.
    pub started: Timestamp,
    /// See `started`.
    pub finished: Timestamp,
}

impl DumpDetails {
    /// Their name among a point's facts.
    pub const FACT: &'static str = "dump";

    /// `17.6` of 170006.
    pub fn version_text(&self) -> String {
        format!("{}.{}", self.version / 10_000, self.version % 10_000)
    }
}

/// One dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpedDatabase {
    /// The database.
    pub name: String,
    /// Its file in the point.
    pub file: String,
    /// The dump's length.
    pub bytes: u64,
    /// What the database took on the server.
    pub size_on_server: u64,
}

/// What a dump did.
#[derive(Debug)]
pub struct DumpReport {
    /// The run.
    pub run: RunId,
    /// The finished point.
    pub point: Point,
    /// Server, program, databases.
    pub details: DumpDetails,
    /// What went into the tree.
    pub stats: TreeStats,
    /// What people should know.
    pub remarks: Vec<String>,
    /// Where the signed statement is kept.
    pub evidence: Option<Key>,
    /// From the first connection to the durable point.
    pub started: Timestamp,
    /// See `started`.
    pub finished: Timestamp,
}

/// Refuses a point with dumps, where one that holds the instance is needed.
pub fn refuse(point: &Point) -> Result<(), DumpError> {
    let what = "holds logical dumps and not the instance: `lifeboat restore --point` gives its files, and it can be neither replayed nor drilled";
    match point.header.is_dump() {
        true => Err(DumpError::WrongKind { point: point.header.point.to_string(), what }),
        false => Ok(()),
    }
}

/// Dumps databases of an instance into one point. `server` is what [`look`] has seen, `dumper` a program of its major version.
pub async fn run(
    context: &Context,
    instance: &str,
    databases: &[String],
    (server, dumper): (&Server, &dyn Dumper),
    progress: Arc<dyn Progress>,
    cancel: &CancellationToken,
) -> Result<DumpReport> {
    let (name, config) = context.instance(instance)?;
    let wanted = server.choose(databases)?;
    program::check_major(dumper, server.major())?;
    let started = (context.clock)();
    let tally = Tally::new(progress);
    let mut writer = begin(context, name, tally.clone()).await?;
    let job = Job { context, config, server, dumper, started };
    let captured = tokio::select! {
        captured = job.capture(&mut writer, &wanted) => captured,
        () = cancel.cancelled() => Err(Error::Cancelled),
    };
    match captured {
        Ok((details, stats)) => {
            let mut report = job.commit(writer, details, stats, &tally).await?;
            if let Err(error) = retain::renew(context, name, tally).await {
                report.remarks.push(format!("locks of what is kept could not be renewed: {error}"));
            }
            Ok(report)
        }
        Err(error) => {
            // Keeps what was stored for the next run. That it could not is no reason to hide the first error.
            if let Err(second) = writer.abort().await {
                tracing::debug!(error = %second, "cleaning up after the failed dump");
            }
            Err(error)
        }
    }
}

async fn begin(context: &Context, name: &Instance, progress: Arc<dyn Progress>) -> Result<Writer> {
    let engine = &context.config.engine;
    let options = WriterOptions {
        level: engine.compression_level,
        pack_size: engine.pack_size.0,
        workers: engine.workers,
        uploads: engine.uploads,
        cache_dir: engine.state_dir.join("cache"),
        software: SOFTWARE.to_owned(),
        clock: context.clock.clone(),
    };
    let keys = writer_keys(&context.config.keys)?;
    Ok(Writer::begin(context.writing_repo(name).await?, keys, options, progress).await?)
}

struct Job<'a> {
    context: &'a Context,
    config: &'a InstanceConfig,
    server: &'a Server,
    dumper: &'a dyn Dumper,
    started: Timestamp,
}

impl Job<'_> {
    async fn capture(&self, writer: &mut Writer, wanted: &[&Database]) -> Result<(DumpDetails, TreeStats)> {
        let started = (self.context.clock)();
        writer.begin_tree(TreeKind::Dump).await?;
        let mut databases = Vec::with_capacity(wanted.len());
        for database in wanted {
            databases.push(self.one(writer, database).await?);
        }
        let stats = writer.end_tree().await?;
        let details = DumpDetails {
            version: self.server.version,
            system_id: self.server.system_id.clone(),
            program: self.dumper.version().to_owned(),
            databases,
            started,
            finished: (self.context.clock)(),
        };
        Ok((details, stats))
    }

    async fn one(&self, writer: &mut Writer, database: &Database) -> Result<DumpedDatabase> {
        let file = file_name(&database.name)?;
        let now = (self.context.clock)();
        let entry = Entry {
            path: file.clone().into_bytes(),
            kind: EntryKind::File { size: 0, extents: Vec::new() },
            mode: 0o600,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mtime: FileTime { seconds: now.as_second(), nanos: u32::try_from(now.subsec_nanosecond()).unwrap_or(0) },
            ..Entry::default()
        };
        writer.begin_file(entry, Chunking::Pages { chunk: CHUNK }).await?;
        let mut output = self.dumper.start(&database.name).await?;
        let (mut bytes, mut first) = (0, Vec::<u8>::new());
        while let Some(piece) = output.next().await {
            let piece = piece?;
            if first.len() < MAGIC.len() {
                first.extend(piece.iter().take(MAGIC.len() - first.len()));
            }
            bytes += piece.len() as u64;
            writer.data(piece).await?;
        }
        if first != MAGIC {
            return Err(DumpError::NoArchive { database: database.name.clone(), bytes }.into());
        }
        writer.end_file(Finish::default()).await?;
        Ok(DumpedDatabase { name: database.name.clone(), file, bytes, size_on_server: database.bytes })
    }

    async fn commit(
        &self,
        writer: Writer,
        details: DumpDetails,
        stats: TreeStats,
        tally: &Tally,
    ) -> Result<DumpReport> {
        let facts = [(DumpDetails::FACT.to_owned(), encode(&details)?)].into();
        let draft =
            PointDraft { started: self.started, details: PointDetails { facts, ..PointDetails::default() }, wal: None };
        let point = writer.commit(draft).await?;
        let mut report = DumpReport {
            run: record::new_run()?,
            point,
            details,
            stats,
            remarks: Vec::new(),
            evidence: None,
            started: self.started,
            finished: (self.context.clock)(),
        };
        let statement = record::dump_statement(self.context, self.config, &report, tally)?;
        // The point stands whether or not its statement could be kept; that it could not is told.
        match record::keep(self.context, &statement).await {
            Ok((key, _)) => report.evidence = Some(key),
            Err(error) => report.remarks.push(format!("the evidence could not be kept: {error}")),
        }
        Ok(report)
    }
}

/// The file of a database's dump. Only a name that is one part of a path can be one.
fn file_name(database: &str) -> Result<String> {
    if database.starts_with('.') || database.contains(['/', '\0']) {
        return Err(DumpError::NoFileName { database: database.to_owned() }.into());
    }
    Ok(format!("{database}.dump"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_named_by_its_database() {
        assert_eq!(file_name("clinic north").unwrap(), "clinic north.dump");
        for bad in ["../x", "a/b", ".hidden", "a\0b"] {
            assert!(matches!(file_name(bad), Err(Error::Dump(DumpError::NoFileName { .. }))), "{bad}");
        }
    }
}
