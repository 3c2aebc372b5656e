//! What runs tell, numbered from 1 within each.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use lifeboat_model::id::RunId;
use rusqlite::{Connection, Row, params};

use super::{Cache, State, board::Whose, from_micros, json, rows, signed, to_micros, unreadable, unsigned};
use crate::{Result, job::Job, runner::RunEvent, view::EventView};

/// Events of ended runs are kept so long.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);
/// And not more than so many, of all runs.
const MOST: i64 = 100_000;
/// So many may wait for a transaction.
const WAITING: usize = 512;

/// Events that are not written yet, and where each run's count is.
#[derive(Default)]
pub(super) struct Pending {
    events: Vec<(RunId, u64, Timestamp, String)>,
    counts: HashMap<RunId, u64>,
    whose: HashMap<RunId, Whose>,
}

impl Pending {
    /// A run is about to tell.
    pub fn opened(&mut self, job: &Job) {
        self.whose.insert(job.run, Whose::of(job));
    }

    /// A run tells nothing more.
    pub fn closed(&mut self, run: RunId) {
        self.counts.remove(&run);
        self.whose.remove(&run);
    }
}

impl State {
    /// Keeps an event, and says its number. It is written with others, at the latest when nothing else is to be done.
    pub async fn event(&self, run: RunId, at: Timestamp, event: &RunEvent) -> Result<u64> {
        let event = event.clone();
        self.ask(move |cache| {
            let known = cache.pending.counts.get(&run).copied();
            let last = match known {
                Some(last) => last,
                None => newest(&cache.connection, run)?,
            };
            cache.pending.counts.insert(run, last + 1);
            cache.pending.events.push((run, last + 1, at, json(&event)?));
            if let RunEvent::Wal { .. } = event
                && let Some(whose) = whose(cache, run)?
            {
                cache.board.streamed(&whose, at, &event);
            }
            if cache.pending.events.len() >= WAITING {
                flush(cache)?;
            }
            Ok(last + 1)
        })
        .await
    }

    /// Events behind `after`, oldest first.
    pub async fn events(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<EventView>> {
        self.ask(move |cache| {
            flush(cache)?;
            let sql = "SELECT number, at, event FROM events WHERE run = ?1 AND number > ?2 ORDER BY number LIMIT ?3";
            let mut statement = cache.connection.prepare_cached(sql)?;
            let found =
                statement.query_map(params![run.to_string(), signed(after), rows(limit)], |row| read(run, row))?;
            found.collect()
        })
        .await
    }

    /// The last events of a run, oldest first.
    pub async fn last_events(&self, run: RunId, limit: usize) -> Result<Vec<EventView>> {
        self.ask(move |cache| {
            flush(cache)?;
            let sql = "SELECT number, at, event FROM events WHERE run = ?1 ORDER BY number DESC LIMIT ?2";
            let mut statement = cache.connection.prepare_cached(sql)?;
            let found = statement.query_map(params![run.to_string(), rows(limit)], |row| read(run, row))?;
            let mut found = found.collect::<rusqlite::Result<Vec<_>>>()?;
            found.reverse();
            Ok(found)
        })
        .await
    }
}

fn read(run: RunId, row: &Row<'_>) -> rusqlite::Result<EventView> {
    let event: String = row.get(2)?;
    Ok(EventView {
        run: run.to_string(),
        number: unsigned(row.get(0)?),
        at: from_micros(row.get(1)?),
        event: serde_json::from_str(&event).map_err(|error| unreadable(2, error))?,
    })
}

fn newest(connection: &Connection, run: RunId) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(max(number), 0) FROM events WHERE run = ?1";
    connection.prepare_cached(sql)?.query_row([run.to_string()], |row| row.get(0)).map(unsigned)
}

/// Whose a run is: remembered, or looked up for a run that was queued before this daemon began.
fn whose(cache: &mut Cache, run: RunId) -> rusqlite::Result<Option<Whose>> {
    if let Some(whose) = cache.pending.whose.get(&run) {
        return Ok(Some(whose.clone()));
    }
    let found = super::runs::job(&cache.connection, run)?;
    if let Some(job) = &found {
        cache.pending.opened(job);
    }
    Ok(found.as_ref().map(Whose::of))
}

/// Writes what waits.
pub(super) fn flush(cache: &mut Cache) -> rusqlite::Result<()> {
    if cache.pending.events.is_empty() {
        return Ok(());
    }
    let waiting = std::mem::take(&mut cache.pending.events);
    let transaction = cache.connection.transaction()?;
    {
        let sql = "INSERT OR IGNORE INTO events (run, number, at, event) VALUES (?1, ?2, ?3, ?4)";
        let mut statement = transaction.prepare_cached(sql)?;
        for (run, number, at, event) in &waiting {
            statement.execute(params![run.to_string(), signed(*number), to_micros(*at), event])?;
        }
    }
    transaction.commit()
}

/// Events that are too old or too many; those of open runs only when there are too many of them all.
pub(super) fn forget(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    let ended = "run NOT IN (SELECT run FROM runs WHERE ended IS NULL)";
    let oldest = to_micros(now.saturating_sub(KEPT).unwrap_or_default());
    connection.execute(&format!("DELETE FROM events WHERE at < ?1 AND {ended}"), [oldest])?;
    let beyond = "at < (SELECT at FROM events ORDER BY at DESC LIMIT 1 OFFSET ?1)";
    connection.execute(&format!("DELETE FROM events WHERE {beyond} AND {ended}"), [MOST])?;
    connection.execute(&format!("DELETE FROM events WHERE {beyond}"), [2 * MOST])?;
    Ok(())
}
