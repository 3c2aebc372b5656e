//! Who else streams from a server: its standbys, and how far behind they replay.

use std::time::Duration;

use lifeboat_model::lsn::Lsn;
use tokio_postgres::{Client, Row, types::PgLsn};

use crate::{
    error::{Error, Result},
    sql,
};

/// Stands in errors for the address, which a session does not know.
const SERVER: &str = "the server";

/// What a server tells of who streams from it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standbys {
    /// Those that say what they have replayed, or are on their way there; by name.
    pub found: Vec<Standby>,
    /// How many there are of which the role may see nothing.
    pub hidden: u64,
}

/// One row of `pg_stat_replication`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standby {
    /// `application_name`.
    pub name: String,
    /// Its address; none over a Unix socket.
    pub address: Option<String>,
    /// `startup`, `catchup`, `streaming`, …
    pub state: String,
    /// `async`, `potential`, `sync` or `quorum`.
    pub sync_state: String,
    /// Up to here it has replayed; none: it has not said so yet.
    pub replayed: Option<Lsn>,
    /// How many bytes of the server's log it has not replayed.
    pub lag_bytes: Option<u64>,
    /// How long a recent commit waited until it had replayed it; none on an idle server.
    pub lag: Option<Duration>,
}

/// Asks who streams. Left out are whoever streams through `own_slot`, backups that go on, sessions with our own name that have
/// not begun to stream (a look at the log is one), and clients that only receive the log: they replay nothing and nobody can fail over
/// to them. Without `pg_read_all_stats` a role sees no more than that somebody
/// is there.
pub async fn look(client: &Client, own_slot: &str) -> Result<Standbys> {
    // Without the right to it a role sees the names of its own sessions, and the state of none.
    // A receiver of the log says where it has written and never where it has replayed. The server is asked for its position
    // inside the same statement; on a standby that has standbys, it is what it has received.
    const ASK: &str = "SELECT r.application_name::text, host(r.client_addr), r.state, r.sync_state, r.replay_lsn, \
        pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_flush_lsn() END, \
            r.replay_lsn)::bigint, \
        (extract(epoch FROM r.replay_lag) * 1000)::bigint \
        FROM pg_stat_replication r \
        WHERE NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.slot_name = $1::text::name AND s.active_pid = r.pid) \
        AND r.state IS DISTINCT FROM 'backup' \
        AND NOT coalesce(r.application_name = current_setting('application_name') \
            AND coalesce(r.state, 'startup') = 'startup', false) \
        AND (r.state IS NULL OR r.state <> 'streaming' OR r.replay_lsn IS NOT NULL) \
        ORDER BY 1, 2";
    let failed = |error| sql::error_of(SERVER, ASK, error);
    let rows = client.query(ASK, &[&own_slot]).await.map_err(failed)?;
    let mut standbys = Standbys::default();
    for row in &rows {
        match standby(row)? {
            Some(standby) => standbys.found.push(standby),
            None => standbys.hidden += 1,
        }
    }
    Ok(standbys)
}

/// None: the role may not see it.
fn standby(row: &Row) -> Result<Option<Standby>> {
    let read = || -> std::result::Result<Option<Standby>, tokio_postgres::Error> {
        let Some(state) = row.try_get::<_, Option<String>>(2)? else { return Ok(None) };
        let lag_bytes = row.try_get::<_, Option<i64>>(5)?;
        let lag = row.try_get::<_, Option<i64>>(6)?;
        Ok(Some(Standby {
            name: row.try_get::<_, Option<String>>(0)?.unwrap_or_default(),
            address: row.try_get(1)?,
            state,
            sync_state: row.try_get::<_, Option<String>>(3)?.unwrap_or_default(),
            replayed: row.try_get::<_, Option<PgLsn>>(4)?.map(|position| Lsn(position.into())),
            // It may have replayed what came after the server was asked for its position.
            lag_bytes: lag_bytes.map(|bytes| u64::try_from(bytes).unwrap_or_default()),
            lag: lag.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or_default())),
        }))
    };
    read().map_err(|error: tokio_postgres::Error| -> Error { sql::error_of(SERVER, "the look at the standbys", error) })
}
