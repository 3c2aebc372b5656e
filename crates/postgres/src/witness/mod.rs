//! The witness: what a busy server looked like at an exact position of its WAL.
//!
//! A snapshot comes first, and its position is found afterwards in the WAL. The record of a commit is written before the
//! commit becomes visible, so the commits around a snapshot are read from a WAL stream of our own and asked whether the
//! snapshot shows them. If those it shows all come before those it does not show, the snapshot is what a recovery that
//! stops before the first hidden commit shows, and that place is its position; if not, no position is exact and another
//! snapshot is tried ([`position`]). A standby with paused replay is exact by construction ([`standby`]).
//!
//! Two limits are known. A commit that hangs for longer than the look-back between its record and its visibility is
//! overlooked: [`unseen_commits`] finds it on the restored server. And what is not transactional has no such moment:
//! sequences are told as bounds, and tables that change their shape meanwhile are *inconclusive*.
//!
//! A snapshot belongs to one database. For several, one is taken of each at nearly the same time, a few times over, until
//! all of one round have the same position.

mod digests;
mod holder;
mod position;
mod primary;
mod snapshot;
mod standby;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use lifeboat_model::lsn::Lsn;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use crate::{
    digest::{DatabaseDigest, read::PINNED},
    error::{Error, Result},
    sql,
    transport::ConnectOptions,
};
use holder::Fixed;

pub use snapshot::Snapshot;

/// What taking a witness may cost the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// The longest that one table may take, pauses not counted. The snapshot is held for at most four times as long.
    pub statement_timeout: Duration,
    /// Sessions that digest at the same time.
    pub parallel: usize,
    /// The share of its time that a session works, in percent.
    pub duty_cycle: u8,
    /// Larger tables, in bytes, are digested in a sample of their blocks.
    pub sample_above: Option<u64>,
    /// How often a snapshot is taken until one has an exact position.
    pub tries: u32,
}

impl Default for Budget {
    fn default() -> Self {
        let statement_timeout = Duration::from_secs(30 * 60);
        Budget { statement_timeout, parallel: 1, duty_cycle: 100, sample_above: None, tries: 5 }
    }
}

impl Budget {
    /// The longest that a snapshot may be held: it keeps the server from removing old rows.
    pub fn longest_hold(&self) -> Duration {
        self.statement_timeout.saturating_mul(4)
    }
}

/// Where a witness was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// At the primary: independent of what replication and replay do.
    Primary,
    /// At a standby: it shares the primary's WAL with the restore, so it is the weaker evidence.
    Standby,
}

/// Whether a witness can be compared with a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exactness {
    /// A recovery that stops before the first record at or behind the position shows exactly this.
    Exact,
    /// No try had an exact position, and nothing was digested.
    Inexact {
        /// Why not.
        why: String,
    },
}

/// A witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Where it was taken.
    pub kind: Kind,
    /// The cluster.
    pub system_id: u64,
    /// The timeline of the position.
    pub timeline: u32,
    /// The position: recover to here, exclusive.
    pub lsn: Lsn,
    /// What the first database's snapshot was; each database has its own in its digest.
    pub snapshot: String,
    /// Snapshots that were tried.
    pub tries: u32,
    /// What it is worth.
    pub exactness: Exactness,
    /// The server's version, as it tells it.
    pub version: String,
    /// The digests.
    pub databases: BTreeMap<String, DatabaseDigest>,
    /// Extensions and their versions, by database.
    pub extensions: BTreeMap<String, BTreeMap<String, String>>,
    /// The settings that the digests were taken with.
    pub settings: BTreeMap<String, String>,
}

/// What one try came to.
enum Attempt {
    Fixed(Fixed),
    Inexact(String),
}

/// Takes a witness of some databases of a cluster: from the standby, where one is given.
///
/// # Errors
/// Where a server cannot be reached or refuses what is needed. That no position was exact is no error but an answer.
pub async fn take(
    primary: &ConnectOptions,
    standby: Option<&ConnectOptions>,
    databases: &[String],
    budget: &Budget,
) -> Result<Taken> {
    if databases.is_empty() {
        return Err(Error::Invalid { what: "the list of databases", reason: "it is empty".into() });
    }
    let kind = if standby.is_some() { Kind::Standby } else { Kind::Primary };
    // What is in the way at a standby takes longer to go than another try.
    let tries = if standby.is_some() { 1 } else { budget.tries.max(1) };
    let mut why = String::new();
    for tried in 1..=tries {
        let attempt = match standby {
            Some(standby) => standby::attempt(primary, standby, databases, budget).await,
            None => primary::attempt(primary, databases, budget).await,
        };
        match attempt {
            // The next try has new sessions, and a new stretch of WAL.
            Err(error) if tried < tries && (error.is_transient() || matches!(error, Error::WalRemoved { .. })) => {
                tracing::debug!(tried, %error, "a try for a witness broke off");
                why = error.to_string();
            }
            Err(error) => return Err(error),
            Ok(Attempt::Fixed(fixed)) => {
                tracing::info!(lsn = %fixed.lsn, tried, "a snapshot has an exact position");
                return digest(standby.unwrap_or(primary), kind, fixed, tried, budget).await;
            }
            Ok(Attempt::Inexact(reason)) => {
                tracing::debug!(tried, reason, "a snapshot has no exact position");
                why = reason;
            }
        }
    }
    let why = match kind {
        Kind::Standby => why,
        Kind::Primary => format!("none of {tries} snapshots had an exact position; of the last: {why}"),
    };
    Ok(inexact(kind, tries, why))
}

async fn digest(source: &ConnectOptions, kind: Kind, fixed: Fixed, tries: u32, budget: &Budget) -> Result<Taken> {
    let snapshot = fixed.holders.first().map(|holder| holder.snapshot.to_string()).unwrap_or_default();
    let mut taken = Taken {
        system_id: fixed.system_id,
        timeline: fixed.timeline,
        lsn: fixed.lsn,
        snapshot,
        exactness: Exactness::Exact,
        ..inexact(kind, tries, String::new())
    };
    let deadline = Instant::now() + budget.longest_hold();
    for holder in fixed.holders {
        let digested = digests::of_database(source, &holder, budget, deadline).await?;
        taken.version = digested.version;
        taken.extensions.insert(holder.database.clone(), digested.extensions);
        taken.databases.insert(holder.database.clone(), digested.digest);
        holder.release().await;
    }
    Ok(taken)
}

fn inexact(kind: Kind, tries: u32, why: String) -> Taken {
    Taken {
        kind,
        system_id: 0,
        timeline: 0,
        lsn: Lsn(0),
        snapshot: String::new(),
        tries,
        exactness: Exactness::Inexact { why },
        version: String::new(),
        databases: BTreeMap::new(),
        extensions: BTreeMap::new(),
        settings: PINNED.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    }
}

/// How many transactions that a snapshot of the primary could not see are committed on this restored server, which must be
/// paused at the snapshot's position. Not zero: the snapshot had no exact position after all.
///
/// Only in one direction: that all transactions which the snapshot saw are there is for the WAL to say. After promotion,
/// ids are given again and the answer means nothing.
pub async fn unseen_commits(client: &Client, snapshot: &str) -> Result<u64> {
    // Of ids that the restored server has not come to yet, it would refuse to tell the state.
    const COUNT: &str = "WITH s AS (SELECT $1::text::pg_snapshot s1, pg_snapshot_xmax(pg_current_snapshot()) next),
            hidden AS (SELECT pg_snapshot_xip(s1) AS x, next FROM s
                UNION ALL SELECT x::text::xid8, next FROM s,
                    generate_series(pg_snapshot_xmax(s1)::text::bigint, next::text::bigint - 1) x)
        SELECT count(*) FROM hidden WHERE CASE WHEN x < next THEN pg_xact_status(x) = 'committed' ELSE false END";
    let row = client.query_one(COUNT, &[&snapshot]).await;
    let row = row.map_err(|error| sql::error_of("the restored server", COUNT, error))?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or_default())
}
