//! `lifeboat witness`: what the source looks like at an exact position of its log, between backups.

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use lifeboat_engine::{context::connect_options, details::Comparison, stream::keep_witness, witness};
use lifeboat_model::{id::Instance, lsn::Lsn};
use serde::Serialize;

use super::Session;
use crate::{
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    output::{Answer, Page, count},
    wire,
};

/// A stream that keeps up stores the log within seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Take digests of a live source, for drills to compare with
///
/// Every backup takes a witness; between backups, this takes one more. Needs a running `lifeboat wal stream`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct WitnessCommand {
    #[command(subcommand)]
    verb: WitnessVerb,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat witness take clinic";

#[derive(Debug, Subcommand)]
enum WitnessVerb {
    Take(Take),
}

/// Digest every table at an exact position, and keep that
///
/// The source goes on working: all tables are read in one snapshot, whose position is found in the write-ahead log
/// afterwards. The witness is kept when the log past it is durable in the repository.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lifeboat witness take clinic

Exit codes: 0 kept, 5 the source was too busy for an exact position, 10 the log past it was not stored in time.")]
pub struct Take {
    /// The instance
    instance: Instance,
}

#[derive(Serialize)]
struct Taken {
    instance: String,
    key: String,
    system_id: String,
    timeline: u32,
    lsn: Lsn,
    taken: Timestamp,
    /// `primary` or `standby`.
    from: String,
    tries: u32,
    databases: u64,
    tables: u64,
    rows: u64,
}

impl Answer for Taken {
    const SCHEMA: &'static str = "lifeboat.witness-take/1";

    fn text(&self, page: &mut Page) {
        let (tables, rows) = (count(self.tables, "table", "tables"), count(self.rows, "row", "rows"));
        page.line(format_args!("{} at {} of timeline {}: {tables}, {rows}.", self.instance, self.lsn, self.timeline));
        page.line(format_args!("From the {}, in {}.", self.from, count(u64::from(self.tries), "try", "tries")));
        page.line(format_args!("Kept as {}.", self.key));
    }
}

impl WitnessCommand {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let WitnessVerb::Take(verb) = self.verb;
        tokio::select! {
            done = verb.run(session) => done,
            () = session.cancel.cancelled() => {
                Err(Failure::new(Exit::Interrupted, "stopped before it was done").safe("no witness was kept"))
            }
        }
    }
}

impl Take {
    async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = wire::load_config(session)?;
        let (_, config) = loaded.config.instance(self.instance.as_str())?;
        let postgres = config.postgres.clone();
        let connect = connect_options(&postgres, &wire::environment)?;
        let (repository, _) = wire::open_for_reading(&loaded).await?;
        let context = wire::context(session, loaded, repository, &format!("lifeboat witness take {}", self.instance));
        let taken = witness::take_alone(&connect, &postgres, &context.clock).await;
        let alone = taken.safe("no witness was kept").context(format!("cannot take a witness of {}", self.instance))?;
        let kept = keep_witness(&context, &self.instance, &alone, PATIENCE).await.safe("no witness was kept")?;
        let (from, tries) = match &alone.witness.comparison {
            Comparison::Exact { from, tries, .. } => (format!("{from:?}").to_lowercase(), *tries),
            _ => (String::new(), 0),
        };
        let databases = &alone.witness.databases;
        session.output.show(&Taken {
            instance: self.instance.to_string(),
            key: kept.key.to_string(),
            system_id: alone.system_id.to_string(),
            timeline: alone.timeline,
            lsn: alone.lsn,
            taken: alone.witness.taken,
            from,
            tries,
            databases: databases.len() as u64,
            tables: databases.values().map(|digest| digest.tables.len() as u64).sum(),
            rows: databases.values().map(|digest| digest.rows()).sum(),
        })?;
        Ok(Exit::Ok)
    }
}
