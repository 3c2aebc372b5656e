//! What people did, and what they were not allowed to do.

use jiff::Timestamp;
use lifeboat_model::id::Tenant;
use rusqlite::{Connection, Row, params};

use super::{State, json, rows, to_micros, unreadable};
use crate::{Result, settings::Tenants, view::ActivityView};

/// So many are kept.
const MOST: i64 = 100_000;

impl State {
    /// Keeps an entry.
    pub async fn activity(&self, activity: &ActivityView) -> Result<()> {
        let activity = activity.clone();
        self.ask(move |cache| {
            let sql = "INSERT INTO activity (at, tenant, activity) VALUES (?1, ?2, ?3)";
            let mut statement = cache.connection.prepare_cached(sql)?;
            statement.execute(params![to_micros(activity.at), activity.tenant, json(&activity)?])
        })
        .await
        .map(drop)
    }

    /// Entries, newest first. Those of no tenant are the daemon's own: only who sees all tenants sees them.
    pub async fn activities(&self, of: &Tenants, before: Option<Timestamp>, limit: usize) -> Result<Vec<ActivityView>> {
        let tenants = match of {
            Tenants::All => None,
            Tenants::Some(tenants) => Some(tenants.iter().map(Tenant::to_string).collect::<Vec<_>>()),
        };
        let before = before.map_or(i64::MAX, to_micros);
        self.ask(move |cache| {
            let read = |row: &Row<'_>| {
                let text: String = row.get(0)?;
                serde_json::from_str(&text).map_err(|error| unreadable(0, error))
            };
            let order = "at < ?1 ORDER BY at DESC, number DESC LIMIT ?2";
            match tenants {
                None => {
                    let sql = format!("SELECT activity FROM activity WHERE {order}");
                    cache.connection.prepare_cached(&sql)?.query_map(params![before, rows(limit)], read)?.collect()
                }
                Some(tenants) => {
                    let sql = format!(
                        "SELECT activity FROM activity WHERE tenant IN (SELECT value FROM json_each(?3)) AND {order}"
                    );
                    let mut statement = cache.connection.prepare_cached(&sql)?;
                    statement.query_map(params![before, rows(limit), json(&tenants)?], read)?.collect()
                }
            }
        })
        .await
    }
}

pub(super) fn forget(connection: &Connection, oldest: Timestamp) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM activity WHERE at < ?1", [to_micros(oldest)])?;
    let beyond = "DELETE FROM activity WHERE number <= (SELECT max(number) FROM activity) - ?1";
    connection.execute(beyond, [MOST])?;
    Ok(())
}
