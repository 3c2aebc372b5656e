//! What the source's tables look like, and where the stored WAL must end for a restore to look the same.
//!
//! A digest taken from a *quiet* source is exact: while no transaction takes an id, no row changes. So: read the
//! snapshot, digest every table, read the snapshot again, then commit one marked transaction of our own. If nothing
//! but ours took an id between the first look and the end of that commit's WAL, a restore that replays to there must
//! show the same digests. On a busy source there is no such moment, the digests are not comparable, and the point
//! says so.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use lifeboat_model::lsn::Lsn;
use lifeboat_postgres::{ConnectOptions, digest, sql};

use crate::{
    context::Clock,
    details::{Comparison, Witness},
    error::Result,
};

/// A source with short pauses may be quiet on the next try.
const TRIES: u32 = 3;

/// Between two looks that tell whether it is worth to begin.
const SETTLE: Duration = Duration::from_millis(300);

/// Takes the witness. Never fails a backup: what could not be done is told in the answer.
pub async fn take(options: &ConnectOptions, databases: &[String], clock: &Clock) -> Result<(Witness, Option<Mark>)> {
    let taken: Timestamp = clock();
    let mut why = "no database is configured".to_owned();
    let mut mark = None;
    for _ in 0..TRIES {
        match attempt(options, databases).await? {
            Attempt::Quiet { snapshot, databases, end } => {
                let comparison = Comparison::QuietSource { snapshot };
                return Ok((Witness { comparison, taken, databases }, Some(end)));
            }
            Attempt::Busy { reason, end } => {
                why = reason;
                mark = end.or(mark);
            }
        }
    }
    Ok((Witness { comparison: Comparison::NotExact { why }, taken, databases: BTreeMap::new() }, mark))
}

/// Where a transaction of our own left its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The end of its message: a replay that does not reach this has lost the end of the log.
    pub message: Lsn,
    /// A flushed position behind its commit, where the stored log ends.
    pub end: Lsn,
}

enum Attempt {
    Quiet { snapshot: String, databases: BTreeMap<String, digest::DatabaseDigest>, end: Mark },
    Busy { reason: String, end: Option<Mark> },
}

async fn attempt(options: &ConnectOptions, databases: &[String]) -> Result<Attempt> {
    let first = databases.first().map_or("postgres", String::as_str);
    let client = sql::connect(options, first).await?;
    let snapshot = look(options, &client).await?;
    tokio::time::sleep(SETTLE).await;
    let Some(next_xid) = quiet_xid(&snapshot) else {
        return busy(&client, "transactions were under way".to_owned()).await;
    };
    if look(options, &client).await? != snapshot {
        return busy(&client, format!("transactions began within {} ms", SETTLE.as_millis())).await;
    }
    let mut digests = BTreeMap::new();
    for database in databases {
        let client = sql::connect(options, database).await?;
        digests.insert(database.clone(), digest::run(&client, &digest::Options::default()).await?);
    }
    if let Some((database, _)) = digests.iter().find(|(_, digest)| digest.tables.is_empty()) {
        let reason = format!("no table of {database} could be read: GRANT pg_read_all_data TO {}", options.user);
        return busy(&client, reason).await;
    }
    if look(options, &client).await? != snapshot {
        return busy(&client, "somebody wrote while the digests were taken".to_owned()).await;
    }
    let Some((xid, end)) = mark(&client).await else {
        let reason = "the role may not commit a marked transaction (pg_logical_emit_message)".to_owned();
        return Ok(Attempt::Busy { reason, end: None });
    };
    // Every id is given once and in order: if the second mark's id follows the first one's, nobody else took one from
    // before the first digest until after the end of WAL was read, even one that no snapshot shows yet.
    let follows = matches!(mark(&client).await, Some((second, _)) if second == next_xid + 1);
    let undisturbed = xid == next_xid && follows;
    if !undisturbed {
        let reason = "somebody wrote right after the digests were taken".to_owned();
        return Ok(Attempt::Busy { reason, end: Some(end) });
    }
    Ok(Attempt::Quiet { snapshot, databases: digests, end })
}

async fn busy(client: &tokio_postgres::Client, reason: String) -> Result<Attempt> {
    Ok(Attempt::Busy { reason, end: mark(client).await.map(|(_, end)| end) })
}

async fn look(options: &ConnectOptions, client: &tokio_postgres::Client) -> Result<String> {
    const LOOK: &str = "SELECT pg_current_snapshot()::text";
    let row = client.query_one(LOOK, &[]).await.map_err(|error| sql::statement_error(options, LOOK, error))?;
    Ok(row.get(0))
}

/// The next transaction id, if no transaction is under way (`xmin:xmax:` with both equal).
fn quiet_xid(snapshot: &str) -> Option<u64> {
    let mut parts = snapshot.split(':');
    let xmin: u64 = parts.next()?.parse().ok()?;
    let xmax: u64 = parts.next()?.parse().ok()?;
    (xmin == xmax && parts.next()?.is_empty()).then_some(xmin)
}

/// Commits a record that changes no table: it carries a time, and makes all WAL before it durable on the server.
/// Gives its transaction id and a flushed position behind its commit.
async fn mark(client: &tokio_postgres::Client) -> Option<(u64, Mark)> {
    let text = "BEGIN; SET LOCAL synchronous_commit = local; \
                SELECT pg_current_xact_id()::text, pg_logical_emit_message(true, 'lifeboat', 'recovery point')::text; COMMIT";
    let messages = client.simple_query(text).await.ok()?;
    let (xid, message) = messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok().zip(row.get(1)?.parse().ok()),
        _ => None,
    })?;
    let row = client.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await.ok()?;
    let end = row.get::<_, String>(0).parse().ok()?;
    Some((xid, Mark { message, end }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_snapshot_is_quiet() {
        assert_eq!(quiet_xid("741:741:"), Some(741));
        for busy in ["741:742:", "741:745:742,743", "", "x:x:", "741:741:741"] {
            assert_eq!(quiet_xid(busy), None, "{busy:?}");
        }
    }
}
