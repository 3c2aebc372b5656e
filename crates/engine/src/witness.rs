//! The witness of a backup, or one by itself: what the source's tables looked like at an exact position of its WAL.
//!
//! `lifeboat_postgres::witness` says how that position is found on a busy source. Here, its end is marked: a transaction of
//! our own follows it, so that a recovery to the position finds a record behind it to stop at, and the stored WAL has an end
//! that replay must reach. The witness is worth nothing before the WAL up to that mark is durable.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use lifeboat_model::{config::PostgresConfig, lsn::Lsn};
use lifeboat_odoo::modules;
use lifeboat_postgres::{
    ConnectOptions, sql,
    witness::{self, Budget, Exactness, Taken},
};

use crate::{
    context::Clock,
    details::{Comparison, SourceFacts, Witness},
    error::{Error, Result},
};

/// Naming the modules must not hold up a backup.
const MODULES_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a transaction of our own left its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The end of its message: a replay that does not reach this has lost the end of the log.
    pub message: Lsn,
    /// A flushed position behind its commit, where the stored log ends.
    pub end: Lsn,
}

/// A witness outside of a backup.
#[derive(Debug, Clone, PartialEq)]
pub struct Alone {
    /// The cluster.
    pub system_id: u64,
    /// The timeline of the position.
    pub timeline: u32,
    /// The position.
    pub lsn: Lsn,
    /// It may be stored once all WAL before this is durable in the repository.
    pub durable_before: Lsn,
    /// What to store.
    pub witness: Witness,
}

/// Takes the witness of a backup. One that cannot be compared says so.
///
/// # Errors
/// Where a server cannot be reached or refuses what is needed.
pub async fn take(options: &ConnectOptions, config: &PostgresConfig, clock: &Clock) -> Result<(Witness, Option<Mark>)> {
    let taken: Timestamp = clock();
    let standby = standby(options, config);
    let found = witness::take(options, standby.as_ref(), &config.databases, &budget(config)).await?;
    let modules = installed_modules(options, &config.databases).await;
    let mark = mark(options, config).await;
    let comparison = judge(&found, mark, options);
    let Taken { version, settings, extensions, databases, .. } = found;
    let databases = if comparison.is_exact() { databases } else { BTreeMap::new() };
    let facts = SourceFacts { version, settings, extensions, modules };
    Ok((Witness { comparison, taken, databases, facts }, mark))
}

/// Takes a witness by itself.
///
/// # Errors
/// As [`take`], and where there is none that a restore could be compared with.
pub async fn take_alone(options: &ConnectOptions, config: &PostgresConfig, clock: &Clock) -> Result<Alone> {
    let (witness, mark) = take(options, config, clock).await?;
    match (&witness.comparison, mark) {
        (Comparison::Exact { lsn, timeline, system_id, .. }, Some(mark)) => {
            let system_id = system_id.parse().map_err(|_| Error::Details(format!("system id {system_id}")))?;
            Ok(Alone { system_id, timeline: *timeline, lsn: *lsn, durable_before: mark.end, witness })
        }
        (Comparison::NotExact { why }, _) => Err(Error::NoWitness(why.clone())),
        (Comparison::Exact { .. } | Comparison::QuietSource { .. }, _) => {
            Err(Error::NoWitness("its end could not be marked".to_owned()))
        }
    }
}

fn budget(config: &PostgresConfig) -> Budget {
    let wanted = &config.witness;
    Budget {
        statement_timeout: wanted.statement_timeout.0,
        parallel: wanted.parallel,
        duty_cycle: wanted.duty_cycle,
        sample_above: wanted.sample_above.map(|size| size.0),
        tries: wanted.tries,
    }
}

/// The standby has the primary's roles; the rest is as it is for the primary.
fn standby(options: &ConnectOptions, config: &PostgresConfig) -> Option<ConnectOptions> {
    let standby = config.witness.standby.as_ref()?;
    Some(ConnectOptions { host: standby.host.clone(), port: standby.port, ..options.clone() })
}

fn judge(taken: &Taken, mark: Option<Mark>, options: &ConnectOptions) -> Comparison {
    let not_exact = |why: String| Comparison::NotExact { why };
    if let Exactness::Inexact { why } = &taken.exactness {
        return not_exact(why.clone());
    }
    if let Some((database, _)) = taken.databases.iter().find(|(_, digest)| digest.tables.is_empty()) {
        return not_exact(format!("no table of {database} could be read: GRANT pg_read_all_data TO {}", options.user));
    }
    match mark {
        None => not_exact(
            "the role may not commit a marked transaction behind the snapshot (pg_logical_emit_message)".to_owned(),
        ),
        Some(mark) if mark.end <= taken.lsn => {
            not_exact(format!("the log was marked at {}, before the snapshot's position {}", mark.end, taken.lsn))
        }
        Some(_) => Comparison::Exact {
            lsn: taken.lsn,
            timeline: taken.timeline,
            system_id: taken.system_id.to_string(),
            from: taken.kind,
            snapshot: taken.snapshot.clone(),
            tries: taken.tries,
        },
    }
}

/// By database; a database without Odoo, or one that is slow to answer, has none.
async fn installed_modules(
    options: &ConnectOptions,
    databases: &[String],
) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for database in databases {
        let asked = async { modules::installed(&sql::connect(options, database).await.ok()?).await.ok() };
        let Ok(Some(list)) = tokio::time::timeout(MODULES_TIMEOUT, asked).await else { continue };
        let version = |module: modules::Module| (module.name, module.version.unwrap_or_default());
        found.insert(database.clone(), list.into_iter().map(version).collect());
    }
    found
}

/// Commits a record at the primary that changes no table: it carries a time, and makes all WAL before it durable there.
pub(crate) async fn mark(options: &ConnectOptions, config: &PostgresConfig) -> Option<Mark> {
    let first = config.databases.first().map_or("postgres", String::as_str);
    let client = sql::connect(options, first).await.ok()?;
    let text = "BEGIN; SET LOCAL synchronous_commit = local; \
                SELECT pg_logical_emit_message(true, 'lifeboat', 'recovery point')::text; COMMIT";
    let messages = client.simple_query(text).await.ok()?;
    let message = messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    })?;
    let row = client.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await.ok()?;
    let end = row.get::<_, String>(0).parse().ok()?;
    Some(Mark { message, end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_postgres::{
        digest::{DatabaseDigest, TableDigest},
        witness::Kind,
    };

    fn taken(exactness: Exactness) -> Taken {
        let tables = [("public.t".to_owned(), TableDigest::default())].into();
        Taken {
            kind: Kind::Primary,
            system_id: 7,
            timeline: 1,
            lsn: Lsn(100),
            snapshot: "10:10:".into(),
            tries: 1,
            exactness,
            version: "17.6".into(),
            databases: [("demo".to_owned(), DatabaseDigest { tables, ..DatabaseDigest::default() })].into(),
            extensions: BTreeMap::new(),
            settings: BTreeMap::new(),
        }
    }

    fn judged(taken: &Taken, mark: Option<u64>) -> Comparison {
        let mark = mark.map(|end| Mark { message: Lsn(end), end: Lsn(end) });
        judge(taken, mark, &ConnectOptions::new("db", 5432, "lifeboat"))
    }

    #[test]
    fn a_witness_needs_a_position_tables_and_a_mark_behind_it() {
        let exact = taken(Exactness::Exact);
        assert!(matches!(judged(&exact, Some(101)), Comparison::Exact { lsn: Lsn(100), tries: 1, .. }));
        assert!(!judged(&exact, Some(100)).is_exact(), "nothing follows the position");
        assert!(!judged(&exact, None).is_exact());
        let mut empty = taken(Exactness::Exact);
        empty.databases.insert("other".into(), DatabaseDigest::default());
        assert!(!judged(&empty, Some(101)).is_exact());
        let why = "two commits".to_owned();
        assert_eq!(judged(&taken(Exactness::Inexact { why: why.clone() }), Some(101)), Comparison::NotExact { why });
    }

    #[test]
    fn what_the_first_release_wrote_is_read() {
        let old = r#"{"comparison":{"kind":"quiet-source","snapshot":"741:741:"},"taken":"2026-11-21T20:00:00Z","databases":{}}"#;
        let witness: Witness = serde_json::from_str(old).unwrap();
        assert!(witness.comparison.is_exact() && witness.facts == SourceFacts::default());
        let old = r#"{"kind":"not-exact","why":"busy"}"#;
        assert!(!serde_json::from_str::<Comparison>(old).unwrap().is_exact());
    }
}
