//! What people did, and what they were not allowed to do.

use jiff::Timestamp;
use lifeboat_model::id::Tenant;
use rusqlite::{Connection, Row, params};

use super::{State, json, rows, to_micros, unreadable};
use crate::{Result, settings::Tenants, view::ActivityView};

/// What a row is. Each class is bounded by itself, so that no flood of one pushes out what is of another.
#[derive(Clone, Copy)]
enum Class {
    Act = 0,
    /// A refusal of somebody known.
    Refusal = 1,
    /// A refusal of somebody unknown: anybody can make more of them.
    Stranger = 2,
}

/// So many of each are kept.
const MOST: [(Class, i64); 3] = [(Class::Act, 100_000), (Class::Refusal, 50_000), (Class::Stranger, 20_000)];

impl State {
    /// Keeps an entry. An act in a tenant is owed to that tenant's ledger.
    pub async fn activity(&self, activity: &ActivityView) -> Result<()> {
        self.keep_activity(activity, if activity.allowed { Class::Act } else { Class::Refusal }).await
    }

    /// Keeps a refusal of somebody unknown.
    pub async fn stranger(&self, activity: &ActivityView) -> Result<()> {
        self.keep_activity(activity, Class::Stranger).await
    }

    async fn keep_activity(&self, activity: &ActivityView, class: Class) -> Result<()> {
        let activity = activity.clone();
        self.ask(move |cache| {
            let owed = activity.allowed && activity.tenant.is_some();
            let sql = "INSERT INTO activity (at, tenant, activity, class, owed) VALUES (?1, ?2, ?3, ?4, ?5)";
            let mut statement = cache.connection.prepare_cached(sql)?;
            statement.execute(params![to_micros(activity.at), activity.tenant, json(&activity)?, class as i64, owed])
        })
        .await
        .map(drop)
    }

    /// Acts that a tenant's ledger has not yet, oldest first, each with its number.
    pub(crate) async fn owed(&self, tenant: &Tenant, limit: usize) -> Result<Vec<(i64, ActivityView)>> {
        let tenant = tenant.to_string();
        self.ask(move |cache| {
            let sql = "SELECT number, activity FROM activity WHERE owed = 1 AND tenant = ?1 ORDER BY number LIMIT ?2";
            let mut statement = cache.connection.prepare_cached(sql)?;
            statement.query_map(params![tenant, rows(limit)], |row| Ok((row.get(0)?, read(row, 1)?)))?.collect()
        })
        .await
    }

    /// A tenant's ledger has its acts up to this number.
    pub(crate) async fn entered(&self, tenant: &Tenant, last: i64) -> Result<()> {
        let tenant = tenant.to_string();
        self.ask(move |cache| {
            let sql = "UPDATE activity SET owed = 0 WHERE owed = 1 AND tenant = ?1 AND number <= ?2";
            cache.connection.prepare_cached(sql)?.execute(params![tenant, last])
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
            let read = |row: &Row<'_>| read(row, 0);
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

fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<ActivityView> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| unreadable(column, error))
}

pub(super) fn forget(connection: &Connection, oldest: Timestamp) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM activity WHERE at < ?1", [to_micros(oldest)])?;
    let beyond = "DELETE FROM activity WHERE class = ?1 AND number <=
        (SELECT number FROM activity WHERE class = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)";
    for (class, most) in MOST {
        connection.execute(beyond, [class as i64, most])?;
    }
    Ok(())
}
