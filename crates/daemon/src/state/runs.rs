//! Runs: queued, begun, ended or missed. (tenant, schedule, instance, due, attempt) is there once.

use std::collections::HashSet;

use jiff::Timestamp;
use lifeboat_model::id::{Instance, RunId, Tenant};
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, Transaction, params};

use super::{State, from_micros, json, to_micros, unreadable};
use crate::{
    Result,
    job::{Because, Job, RunOutcome},
    runner::Ended,
    settings::Tenants,
};

/// A run, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// What is to be done.
    pub job: Job,
    /// Which try it is, from 1.
    pub attempt: u32,
    /// Not to be begun before.
    pub at: Timestamp,
    /// When it was begun; none: it waits, or was never begun.
    pub started: Option<Timestamp>,
    /// When it was over; none: it is open.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<RunOutcome>,
    /// The exit code.
    pub exit: Option<u8>,
    /// Why it waits; why it did not pass, or was missed.
    pub reason: Option<String>,
    /// Worth trying again soon.
    pub is_transient: bool,
    /// What it printed; only where one run is asked for.
    pub answer: Option<serde_json::Value>,
    /// Key of its statement, where one is known.
    pub evidence: Option<String>,
}

/// Which runs are wanted. Nothing said: all.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Of these tenants; none: of all.
    pub tenants: Option<Tenants>,
    /// Of this instance.
    pub instance: Option<Instance>,
    /// The verb's word.
    pub verb: Option<String>,
    /// Of this schedule.
    pub schedule: Option<String>,
    /// How they ended.
    pub outcome: Option<RunOutcome>,
    /// Begun, or due, before.
    pub before: Option<Timestamp>,
    /// Begun, or due, then or later.
    pub since: Option<Timestamp>,
}

/// So many are kept, of all tenants.
const MOST: i64 = 250_000;

const COLUMNS: &str = "job, attempt, at, started, ended, outcome, exit, reason, transient, evidence, run";

impl State {
    /// Puts a run into the queue, to be begun not before `at`. False: this try of what was due is known already, and nothing
    /// was done.
    pub async fn queue(&self, job: &Job, attempt: u32, at: Timestamp) -> Result<bool> {
        Ok(self.queue_all(vec![(job.clone(), attempt, at)]).await? == 1)
    }

    /// Puts many runs into the queue, all or none. Answers how many were not known.
    pub async fn queue_all(&self, jobs: Vec<(Job, u32, Timestamp)>) -> Result<usize> {
        self.ask(move |cache| {
            let added = cache.transact(true, |transaction| {
                let each = jobs.iter().map(|(job, attempt, at)| add(transaction, job, *attempt, *at));
                each.collect::<rusqlite::Result<Vec<bool>>>()
            })?;
            let added = jobs.iter().zip(added).filter(|(_, added)| *added);
            Ok(added.map(|((job, ..), _)| cache.pending.opened(job)).count())
        })
        .await
    }

    /// Why a queued run waits, for whoever looks.
    pub async fn waiting(&self, run: RunId, why: Option<&str>) -> Result<()> {
        let why = why.map(str::to_owned);
        self.ask(move |cache| {
            let sql = "UPDATE runs SET reason = ?2 WHERE run = ?1 AND started IS NULL AND ended IS NULL";
            cache.connection.prepare_cached(sql)?.execute(params![run.to_string(), why])
        })
        .await
        .map(drop)
    }

    /// A run of which evidence tells, and which was not known: it is over already. False: it, or this try of what was due,
    /// is known.
    pub async fn heard_of(
        &self,
        job: &Job,
        attempt: u32,
        ended: &Ended,
        started: Timestamp,
        at: Timestamp,
        evidence: Option<&str>,
    ) -> Result<bool> {
        let (job, ended, evidence) = (job.clone(), ended.clone(), evidence.map(str::to_owned));
        self.ask(move |cache| {
            let found = cache.transact(true, |transaction| {
                if !add(transaction, &job, attempt, started)? {
                    return Ok(None);
                }
                let run = job.run.to_string();
                begin(transaction, &run, started)?;
                end(transaction, &run, &ended, at)?;
                let sql = "UPDATE runs SET evidence = ?2 WHERE run = ?1";
                transaction.prepare_cached(sql)?.execute(params![run, evidence])?;
                one(transaction, &run)
            })?;
            if let Some(row) = &found {
                cache.board.over(row);
            }
            Ok(found.is_some())
        })
        .await
    }

    /// A run was begun.
    pub async fn begun(&self, run: RunId, at: Timestamp) -> Result<()> {
        self.ask(move |cache| cache.transact(true, |transaction| begin(transaction, &run.to_string(), at))).await
    }

    /// A run is over. One that is over already stays as it is.
    pub async fn ended(&self, run: RunId, ended: &Ended, at: Timestamp) -> Result<()> {
        let ended = ended.clone();
        self.ask(move |cache| {
            let found = cache.transact(true, |transaction| {
                let run = run.to_string();
                if end(transaction, &run, &ended, at)? { one(transaction, &run) } else { Ok(None) }
            })?;
            cache.pending.closed(run);
            if let Some(row) = found {
                cache.board.over(&row);
            }
            Ok(())
        })
        .await
    }

    /// A run that was due will not be begun. One that waits in the queue is over with that.
    pub async fn missed(&self, job: &Job, why: &str, at: Timestamp) -> Result<()> {
        let (job, why) = (job.clone(), why.to_owned());
        self.ask(move |cache| {
            let run = job.run;
            let found = cache.transact(true, |transaction| {
                add(transaction, &job, 1, at)?;
                let sql = "UPDATE runs SET ended = ?2, outcome = 'missed', reason = ?3
                    WHERE run = ?1 AND ended IS NULL AND started IS NULL";
                let changed = transaction.execute(sql, params![run.to_string(), to_micros(at), why])?;
                if changed == 0 { Ok(None) } else { one(transaction, &run.to_string()) }
            })?;
            if let Some(row) = found {
                cache.pending.closed(run);
                cache.board.over(&row);
            }
            Ok(())
        })
        .await
    }

    /// Which statement tells of a run.
    pub async fn set_evidence(&self, run: RunId, key: &str) -> Result<()> {
        let key = key.to_owned();
        self.ask(move |cache| {
            let sql = "UPDATE runs SET evidence = ?2 WHERE run = ?1";
            cache.connection.execute(sql, params![run.to_string(), key])
        })
        .await
        .map(drop)
    }

    /// Runs that were queued or begun and are not over, the longest waiting first.
    pub async fn open_runs(&self) -> Result<Vec<RunRow>> {
        self.ask(|cache| {
            let sql = format!("SELECT {COLUMNS} FROM runs WHERE ended IS NULL ORDER BY at, rowid");
            cache.connection.prepare_cached(&sql)?.query_map([], read)?.collect()
        })
        .await
    }

    /// The newest time that a schedule was due and became something: queued, done or missed.
    pub async fn newest_due(
        &self,
        tenant: &Tenant,
        schedule: &str,
        instance: Option<&Instance>,
    ) -> Result<Option<Timestamp>> {
        let key = (tenant.to_string(), schedule.to_owned(), instance.map_or("", Instance::as_str).to_owned());
        self.ask(move |cache| {
            let sql = "SELECT due FROM dues WHERE tenant = ?1 AND schedule = ?2 AND instance = ?3";
            let mut statement = cache.connection.prepare_cached(sql)?;
            let found = statement.query_row(params![key.0, key.1, key.2], |row| row.get(0)).optional()?;
            Ok(found.map(from_micros))
        })
        .await
    }

    /// All of [`newest_due`](Self::newest_due) of a tenant at once: by schedule and instance.
    pub async fn newest_dues(&self, tenant: &Tenant) -> Result<Vec<(String, Option<Instance>, Timestamp)>> {
        let tenant = tenant.to_string();
        self.ask(move |cache| {
            let sql = "SELECT schedule, instance, due FROM dues WHERE tenant = ?1";
            let mut statement = cache.connection.prepare_cached(sql)?;
            let read =
                |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, String>(1)?.parse().ok(), from_micros(row.get(2)?)));
            statement.query_map([tenant], read)?.collect()
        })
        .await
    }

    /// All tries of what was due at one time, the first in front.
    pub async fn attempts(
        &self,
        tenant: &Tenant,
        schedule: &str,
        instance: Option<&Instance>,
        due: Timestamp,
    ) -> Result<Vec<RunRow>> {
        let key = (tenant.to_string(), schedule.to_owned(), instance.map_or("", Instance::as_str).to_owned());
        self.ask(move |cache| {
            let sql = format!(
                "SELECT {COLUMNS} FROM runs WHERE tenant = ?1 AND schedule = ?2 AND instance = ?3 AND due = ?4
                 ORDER BY attempt"
            );
            let mut statement = cache.connection.prepare_cached(&sql)?;
            statement.query_map(params![key.0, key.1, key.2, to_micros(due)], read)?.collect()
        })
        .await
    }

    /// Scheduled runs of a tenant that passed, and ended then or later, oldest first.
    pub async fn passed_since(&self, tenant: &Tenant, since: Timestamp) -> Result<Vec<RunRow>> {
        let tenant = tenant.to_string();
        self.ask(move |cache| {
            let sql = format!(
                "SELECT {COLUMNS} FROM runs WHERE tenant = ?1 AND outcome = 'passed' AND ended >= ?2
                 AND schedule IS NOT NULL ORDER BY ended"
            );
            cache.connection.prepare_cached(&sql)?.query_map(params![tenant, to_micros(since)], read)?.collect()
        })
        .await
    }

    /// Of each schedule and instance of a tenant the run that passed and was due last.
    pub async fn newest_passed(&self, tenant: &Tenant) -> Result<Vec<RunRow>> {
        let tenant = tenant.to_string();
        self.ask(move |cache| {
            let sql = format!(
                "SELECT {COLUMNS} FROM runs WHERE rowid IN (SELECT (
                    SELECT rowid FROM runs WHERE tenant = dues.tenant AND schedule = dues.schedule
                        AND instance = dues.instance AND outcome = 'passed' ORDER BY due DESC, attempt DESC LIMIT 1)
                 FROM dues WHERE tenant = ?1)"
            );
            cache.connection.prepare_cached(&sql)?.query_map([tenant], read)?.collect()
        })
        .await
    }

    /// A clock that ran ahead was put right: what was reported as missed, and is yet to be due, never was, nor does anything
    /// count as due last that is yet to be. `begins`: when runs that wait are to be begun instead.
    pub async fn set_back(&self, tenant: &Tenant, now: Timestamp, begins: Vec<(RunId, Timestamp)>) -> Result<()> {
        let (tenant, now) = (tenant.to_string(), to_micros(now));
        self.ask(move |cache| {
            cache.transact(true, |transaction| {
                let sql =
                    "DELETE FROM runs WHERE tenant = ?1 AND schedule IS NOT NULL AND due > ?2 AND outcome = 'missed'";
                transaction.execute(sql, params![tenant, now])?;
                let sql = "UPDATE dues SET due = coalesce((SELECT max(due) FROM runs WHERE tenant = dues.tenant
                        AND schedule = dues.schedule AND instance = dues.instance AND due <= ?2), ?2)
                    WHERE tenant = ?1 AND due > ?2";
                transaction.execute(sql, params![tenant, now])?;
                let mut statement = transaction
                    .prepare_cached("UPDATE runs SET at = ?2 WHERE run = ?1 AND started IS NULL AND ended IS NULL")?;
                for (run, at) in begins {
                    statement.execute(params![run.to_string(), to_micros(at)])?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Until when what is due for a tenant has been planned.
    pub async fn planned_until(&self, tenant: &Tenant) -> Result<Option<Timestamp>> {
        let tenant = tenant.to_string();
        self.ask(move |cache| {
            let mut statement = cache.connection.prepare_cached("SELECT until FROM planned WHERE tenant = ?1")?;
            Ok(statement.query_row([tenant], |row| row.get(0)).optional()?.map(from_micros))
        })
        .await
    }

    /// What is due for a tenant has been planned until then; on the disk before this comes back.
    pub async fn set_planned_until(&self, tenant: &Tenant, until: Timestamp) -> Result<()> {
        let tenant = tenant.to_string();
        self.ask(move |cache| {
            cache.transact(true, |transaction| {
                let sql = "INSERT OR REPLACE INTO planned (tenant, until) VALUES (?1, ?2)";
                transaction.prepare_cached(sql)?.execute(params![tenant, to_micros(until)])
            })
        })
        .await
        .map(drop)
    }

    /// When the runs of a tenant were last recalled from evidence.
    pub async fn recalled(&self, tenant: &Tenant) -> Result<Option<Timestamp>> {
        let tenant = tenant.to_string();
        self.ask(move |cache| {
            let mut statement = cache.connection.prepare_cached("SELECT at FROM rebuilt WHERE tenant = ?1")?;
            Ok(statement.query_row([tenant], |row| row.get(0)).optional()?.map(from_micros))
        })
        .await
    }

    /// The runs of a tenant have been recalled from evidence.
    pub async fn set_recalled(&self, tenant: &Tenant, at: Timestamp) -> Result<()> {
        let tenant = tenant.to_string();
        self.ask(move |cache| {
            cache.transact(true, |transaction| {
                let sql = "INSERT OR REPLACE INTO rebuilt (tenant, at) VALUES (?1, ?2)";
                transaction.prepare_cached(sql)?.execute(params![tenant, to_micros(at)])
            })
        })
        .await
        .map(drop)
    }

    /// Keys of statements, and ids of runs, that are known of a tenant since then.
    pub async fn statements_since(&self, tenant: &Tenant, since: Timestamp) -> Result<HashSet<String>> {
        let tenant = tenant.to_string();
        self.ask(move |cache| {
            let sql = "SELECT run, evidence FROM runs WHERE tenant = ?1 AND listed >= ?2";
            let mut statement = cache.connection.prepare_cached(sql)?;
            let mut known = HashSet::new();
            let mut rows = statement.query(params![tenant, to_micros(since)])?;
            while let Some(row) = rows.next()? {
                known.insert(row.get(0)?);
                known.extend(row.get::<_, Option<String>>(1)?);
            }
            Ok(known)
        })
        .await
    }

    /// One run, with its answer.
    pub async fn run(&self, run: RunId) -> Result<Option<RunRow>> {
        self.ask(move |cache| one(&cache.connection, &run.to_string())).await
    }

    /// Runs, newest first, without their answers.
    pub async fn runs(&self, filter: RunFilter, limit: usize) -> Result<Vec<RunRow>> {
        self.ask(move |cache| select(&cache.connection, &filter, limit)).await
    }
}

/// Adds a run, unless it or this try of what was due is known.
fn add(transaction: &Transaction<'_>, job: &Job, attempt: u32, at: Timestamp) -> rusqlite::Result<bool> {
    let (schedule, due) = match &job.because {
        Because::Schedule { schedule, due } => (Some(schedule), Some(to_micros(*due))),
        Because::Asked { .. } => (None, None),
    };
    let (tenant, instance) = (job.tenant.as_str(), job.instance.as_ref().map_or("", Instance::as_str));
    let sql = "INSERT OR IGNORE INTO runs (run, tenant, instance, verb, job, schedule, due, attempt, at, listed)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let at = to_micros(at);
    let added = transaction.prepare_cached(sql)?.execute(params![
        job.run.to_string(),
        tenant,
        instance,
        job.verb.word(),
        json(job)?,
        schedule,
        due,
        attempt,
        at,
        due.unwrap_or(at),
    ])?;
    if let (Some(schedule), Some(due)) = (schedule, due) {
        let sql = "INSERT INTO dues (tenant, schedule, instance, due) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT DO UPDATE SET due = max(due, excluded.due)";
        transaction.prepare_cached(sql)?.execute(params![tenant, schedule, instance, due])?;
    }
    Ok(added > 0)
}

fn begin(transaction: &Transaction<'_>, run: &str, at: Timestamp) -> rusqlite::Result<()> {
    let sql = "UPDATE runs SET started = ?2, listed = ?2, reason = NULL WHERE run = ?1 AND ended IS NULL";
    transaction.prepare_cached(sql)?.execute(params![run, to_micros(at)])?;
    Ok(())
}

/// False: it is over already, or not known.
fn end(transaction: &Transaction<'_>, run: &str, ended: &Ended, at: Timestamp) -> rusqlite::Result<bool> {
    let Ended { outcome, exit, answer, reason, is_transient } = ended;
    let answer = answer.as_ref().map(json).transpose()?;
    let sql = "UPDATE runs SET ended = ?2, outcome = ?3, exit = ?4, reason = ?5, transient = ?6, answer = ?7
        WHERE run = ?1 AND ended IS NULL";
    let values = params![run, to_micros(at), outcome.word(), exit, reason, is_transient, answer];
    Ok(transaction.prepare_cached(sql)?.execute(values)? > 0)
}

fn one(connection: &Connection, run: &str) -> rusqlite::Result<Option<RunRow>> {
    let sql = format!("SELECT {COLUMNS}, answer FROM runs WHERE run = ?1");
    let with_answer = |row: &Row<'_>| {
        let answer: Option<String> = row.get(11)?;
        let answer =
            answer.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| unreadable(11, error))?;
        Ok(RunRow { answer, ..read(row)? })
    };
    connection.prepare_cached(&sql)?.query_row([run], with_answer).optional()
}

fn select(connection: &Connection, filter: &RunFilter, limit: usize) -> rusqlite::Result<Vec<RunRow>> {
    let mut wheres = vec!["1".to_owned()];
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let mut only = |condition: &str, value: Box<dyn ToSql>| {
        values.push(value);
        wheres.push(condition.replace('?', &format!("?{}", values.len())));
    };
    if let Some(Tenants::Some(tenants)) = &filter.tenants {
        let names: Vec<&str> = tenants.iter().map(Tenant::as_str).collect();
        only("tenant IN (SELECT value FROM json_each(?))", Box::new(json(&names)?));
    }
    if let Some(instance) = &filter.instance {
        only("instance = ?", Box::new(instance.to_string()));
    }
    if let Some(verb) = &filter.verb {
        only("verb = ?", Box::new(verb.clone()));
    }
    if let Some(schedule) = &filter.schedule {
        only("schedule = ?", Box::new(schedule.clone()));
    }
    if let Some(outcome) = filter.outcome {
        only("outcome = ?", Box::new(outcome.word()));
    }
    if let Some(before) = filter.before {
        only("listed < ?", Box::new(to_micros(before)));
    }
    if let Some(since) = filter.since {
        only("listed >= ?", Box::new(to_micros(since)));
    }
    let wheres = wheres.join(" AND ");
    let sql = format!("SELECT {COLUMNS} FROM runs WHERE {wheres} ORDER BY listed DESC, attempt DESC LIMIT {limit}");
    connection.prepare_cached(&sql)?.query_map(rusqlite::params_from_iter(values), read)?.collect()
}

/// A row of [`COLUMNS`].
fn read(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    let job: String = row.get(0)?;
    let time = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(from_micros));
    let outcome: Option<String> = row.get(5)?;
    Ok(RunRow {
        job: serde_json::from_str(&job).map_err(|error| unreadable(0, error))?,
        attempt: row.get(1)?,
        at: from_micros(row.get(2)?),
        started: time(3)?,
        ended: time(4)?,
        outcome: outcome.as_deref().and_then(outcome_of),
        exit: row.get(6)?,
        reason: row.get(7)?,
        is_transient: row.get(8)?,
        answer: None,
        evidence: row.get(9)?,
    })
}

/// From the word of [`RunOutcome`].
pub(super) fn outcome_of(word: &str) -> Option<RunOutcome> {
    use RunOutcome::{Failed, Incomplete, Interrupted, Missed, Passed};
    [Passed, Failed, Incomplete, Interrupted, Missed].into_iter().find(|outcome| outcome.word() == word)
}

/// Ended runs from before. `dues` stay: they say what is not to be done again.
pub(super) fn forget(connection: &Connection, oldest: Timestamp) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM runs WHERE listed < ?1 AND ended IS NOT NULL", [to_micros(oldest)])?;
    let beyond = "DELETE FROM runs WHERE ended IS NOT NULL
        AND listed < (SELECT listed FROM runs ORDER BY listed DESC LIMIT 1 OFFSET ?1)";
    connection.execute(beyond, [MOST])?;
    Ok(())
}

/// What a run is to do.
pub(super) fn job(connection: &Connection, run: RunId) -> rusqlite::Result<Option<Job>> {
    let mut statement = connection.prepare_cached("SELECT job FROM runs WHERE run = ?1")?;
    let text: Option<String> = statement.query_row([run.to_string()], |row| row.get(0)).optional()?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| unreadable(0, error))).transpose()
}
