//! Facts of instances as they were last looked up, and how their sizes grew.

use std::sync::Arc;

use jiff::Timestamp;
use lifeboat_engine::status::Facts;
use lifeboat_model::id::{Instance, Tenant};
use rusqlite::params;

use super::{State, from_micros, json, to_micros};
use crate::Result;

const MICROS_A_DAY: i64 = 86_400_000_000;

impl State {
    /// Keeps what was found, in place of what was found before. The size is kept apart, one a day.
    pub async fn put_facts(&self, tenant: &Tenant, facts: &Facts) -> Result<()> {
        let (tenant, facts) = (tenant.clone(), Arc::new(facts.clone()));
        self.ask(move |cache| {
            let looked = to_micros(facts.looked);
            cache.transact(false, |transaction| {
                let sql = "INSERT OR REPLACE INTO facts (tenant, instance, looked, facts) VALUES (?1, ?2, ?3, ?4)";
                let text = json(&*facts)?;
                transaction.prepare_cached(sql)?.execute(params![tenant.as_str(), facts.instance, looked, text])?;
                if facts.storage.not_known.is_some() {
                    return Ok(());
                }
                let sql = "INSERT OR REPLACE INTO sizes (tenant, instance, day, at, bytes) VALUES (?1, ?2, ?3, ?4, ?5)";
                let bytes = i64::try_from(facts.storage.bytes).unwrap_or(i64::MAX);
                let day = looked.div_euclid(MICROS_A_DAY);
                transaction.prepare_cached(sql)?.execute(params![
                    tenant.as_str(),
                    facts.instance,
                    day,
                    looked,
                    bytes
                ])?;
                Ok(())
            })?;
            cache.board.put_facts(&tenant, facts);
            Ok(())
        })
        .await
    }

    /// What was last found of an instance.
    pub fn facts(&self, tenant: &Tenant, instance: &Instance) -> Option<Arc<Facts>> {
        self.board().facts(tenant, instance)
    }

    /// What was last found of all instances of a tenant.
    pub fn all_facts(&self, tenant: &Tenant) -> Vec<Arc<Facts>> {
        self.board().all_facts(tenant)
    }

    /// All sizes of a tenant together by day, oldest first, the last `days`.
    pub async fn growth(&self, tenant: &Tenant, days: u32) -> Result<Vec<(Timestamp, u64)>> {
        let tenant = tenant.to_string();
        self.ask(move |cache| {
            let sql = "SELECT max(at), sum(bytes) FROM sizes WHERE tenant = ?1
                GROUP BY day ORDER BY day DESC LIMIT ?2";
            let mut statement = cache.connection.prepare_cached(sql)?;
            let found = statement.query_map(params![tenant, days], |row| {
                Ok((from_micros(row.get(0)?), row.get::<_, i64>(1)?.unsigned_abs()))
            })?;
            let mut found = found.collect::<rusqlite::Result<Vec<_>>>()?;
            found.reverse();
            Ok(found)
        })
        .await
    }
}
