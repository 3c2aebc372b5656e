//! Replication slots as the server tells of them: whether one is there, what WAL it keeps, and how long that goes well.
//!
//! A slot keeps WAL for a stream that is away, and so can fill the server's disk. Where `max_slot_wal_keep_size` is set
//! the server rather gives the slot up: its `wal_status` goes from `reserved` over `extended` and `unreserved` to `lost`,
//! and with it the WAL that was not read. Slots are made and removed by [`crate::Replication`].

use jiff::Timestamp;
use lifeboat_model::lsn::Lsn;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Row, types::PgLsn};

use crate::{
    error::{Error, Result},
    sql,
};

/// Stands in errors for the address, which a session does not know.
const SERVER: &str = "the server";
const MIB: u64 = 1 << 20;

/// One slot (`pg_replication_slots`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Physical: for WAL as it is. A logical one is of no use here.
    pub physical: bool,
    /// It ends with the session that made it.
    pub temporary: bool,
    /// Whether somebody streams through it now.
    pub active: bool,
    /// Who: the process at the server.
    pub active_pid: Option<i32>,
    /// WAL is kept from here on; `None` if it never kept any, or lost it.
    pub restart: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`; `None` if it never kept any WAL.
    pub wal_status: Option<String>,
    /// How many bytes more can be written before it may be given up; `None` without a limit, or when it is lost.
    pub safe_wal_size: Option<i64>,
    /// Why it was given up, where the server tells (17 and later).
    pub invalidated: Option<String>,
}

impl Slot {
    /// Whether the server has given it up: WAL that nobody has read is gone, and the slot must be made anew.
    pub fn is_lost(&self) -> bool {
        self.invalidated.is_some() || self.wal_status.as_deref() == Some("lost")
    }

    /// The bytes of WAL that it keeps the server from recycling.
    pub fn held_back(&self, server: &ServerWal) -> Option<u64> {
        self.restart.map(|restart| server.insert.0.saturating_sub(restart.0))
    }
}

/// Where a server is in its WAL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerWal {
    /// Written and flushed up to here; of a standby, received or replayed.
    pub flush: Lsn,
    /// The next record begins here; of a standby, the same as `flush`.
    pub insert: Lsn,
    /// Whether it is a standby, or recovers.
    pub in_recovery: bool,
    /// The timeline that it writes; of a standby, that of its last restart point, which may be behind.
    pub timeline: u32,
    /// The server's clock.
    pub now: Timestamp,
    /// `max_slot_wal_keep_size` in bytes; `None`: no limit.
    pub max_slot_wal_keep_size: Option<u64>,
    /// Bytes in a segment.
    pub segment_size: u64,
}

/// Looks for a slot; any role may.
pub async fn look(client: &Client, name: &str) -> Result<Option<Slot>> {
    // Columns that older versions lack are NULL there.
    const ASK: &str = "SELECT slot_name::text, slot_type = 'physical', temporary, active, active_pid, restart_lsn, \
        wal_status, safe_wal_size, to_jsonb(s) ->> 'invalidation_reason' \
        FROM pg_replication_slots s WHERE slot_name = $1::text::name";
    let row = client.query_opt(ASK, &[&name]).await.map_err(|error| sql::error_of(SERVER, ASK, error))?;
    row.map(|row| slot(&row)).transpose()
}

fn slot(row: &Row) -> Result<Slot> {
    let read = || -> std::result::Result<Slot, tokio_postgres::Error> {
        Ok(Slot {
            name: row.try_get(0)?,
            physical: row.try_get(1)?,
            temporary: row.try_get(2)?,
            active: row.try_get(3)?,
            active_pid: row.try_get(4)?,
            restart: row.try_get::<_, Option<PgLsn>>(5)?.map(lsn),
            wal_status: row.try_get(6)?,
            safe_wal_size: row.try_get(7)?,
            invalidated: row.try_get(8)?,
        })
    };
    read().map_err(|error| sql::error_of(SERVER, "the look at a slot", error))
}

/// Asks a server where it is; any role may.
pub async fn server(client: &Client) -> Result<ServerWal> {
    // Functions of the wrong side raise errors: CASE calls only those of the right one. The current timeline is the one
    // in the name of the segment that is being written: the control file lags behind a promotion.
    const ASK: &str = "SELECT r, \
        CASE WHEN r THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_flush_lsn() END, \
        CASE WHEN r THEN NULL ELSE pg_current_wal_insert_lsn() END, \
        CASE WHEN r THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END, \
        (SELECT timeline_id FROM pg_control_checkpoint()), \
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
        (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'), \
        (SELECT pg_size_bytes(current_setting('wal_segment_size'))) \
        FROM (SELECT pg_is_in_recovery() AS r OFFSET 0) s";
    let row = client.query_one(ASK, &[]).await.map_err(|error| sql::error_of(SERVER, ASK, error))?;
    server_wal(&row)
}

fn server_wal(row: &Row) -> Result<ServerWal> {
    let failed = |error| sql::error_of(SERVER, "the look at the WAL", error);
    let odd = |what: &str| Error::Protocol { server: SERVER.into(), during: "looking at the WAL", reason: what.into() };
    let flush = row.try_get::<_, Option<PgLsn>>(1).map_err(failed)?.map_or(Lsn(0), lsn);
    let insert = row.try_get::<_, Option<PgLsn>>(2).map_err(failed)?.map_or(flush, lsn);
    let timeline = match row.try_get::<_, Option<&str>>(3).map_err(failed)? {
        Some(digits) => u32::from_str_radix(digits, 16).map_err(|_| odd("no timeline in a segment's name"))?,
        None => u32::try_from(row.try_get::<_, i32>(4).map_err(failed)?).map_err(|_| odd("a negative timeline"))?,
    };
    let now = Timestamp::from_microsecond(row.try_get(5).map_err(failed)?).map_err(|_| odd("an impossible time"))?;
    // In MB; -1 is no limit.
    let limit: i64 = row.try_get(6).map_err(failed)?;
    Ok(ServerWal {
        flush,
        insert,
        in_recovery: row.try_get(0).map_err(failed)?,
        timeline,
        now,
        max_slot_wal_keep_size: u64::try_from(limit).ok().map(|limit| limit.saturating_mul(MIB)),
        segment_size: row.try_get::<_, i64>(7).map_err(failed)?.try_into().map_err(|_| odd("a negative size"))?,
    })
}

fn lsn(position: PgLsn) -> Lsn {
    Lsn(position.into())
}
