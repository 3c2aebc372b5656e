//! A heartbeat: a transaction that writes a message and a commit record with the time, and touches no table. A system
//! where nothing happens then still shows how far its WAL has come.

use lifeboat_model::lsn::Lsn;
use tokio_postgres::{Client, types::PgLsn};

use crate::{
    error::{Error, Result},
    sql,
};

/// The prefix of our messages, by which logical decoding can tell them.
pub const PREFIX: &str = "lifeboat";

/// Stands in errors for the address, which a session does not know.
const SERVER: &str = "the server";
const INSUFFICIENT_PRIVILEGE: &str = "42501";
const UNDEFINED_FUNCTION: &str = "42883";

/// Writes one heartbeat, and returns when the server has it on disk: the commit record follows the position that is
/// given. Not within a transaction of the caller's: it would be that one's.
///
/// It never waits for synchronous standbys: one that is away would otherwise stop the heartbeat of the primary.
pub async fn emit(client: &Client) -> Result<Lsn> {
    // One statement is one transaction, and one round trip; nothing stays open if the caller gives up waiting. The setting
    // lasts until the commit is written.
    const STATEMENT: &str = "SELECT pg_logical_emit_message(true, $1, 'heartbeat'::text) \
        FROM (SELECT set_config('synchronous_commit', 'local', true) OFFSET 0) s";
    let row = client.query_one(STATEMENT, &[&PREFIX]).await;
    let position: PgLsn = match row.and_then(|row| row.try_get(0)) {
        Ok(position) => position,
        Err(error) => return Err(explained(client, sql::error_of(SERVER, STATEMENT, error)).await),
    };
    Ok(Lsn(position.into()))
}

/// Standbys refuse in other words from version to version: they are asked.
async fn explained(client: &Client, error: Error) -> Error {
    let Error::Statement { server, statement, cause } = error else { return error };
    if [INSUFFICIENT_PRIVILEGE, UNDEFINED_FUNCTION].contains(&cause.code.as_str()) {
        return Error::NoHeartbeatRight { server, cause };
    }
    let asked = client.query_one("SELECT pg_is_in_recovery()", &[]).await;
    match asked.and_then(|row| row.try_get(0)) {
        Ok(true) => Error::HeartbeatOnStandby { server, cause },
        _ => Error::Statement { server, statement, cause },
    }
}
