//! What is looked at all the time, in memory: facts, the marks of timelines, and how far streams are. An overview of a
//! thousand instances is made from it without a query. Some 20 KiB an instance.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::status::Facts;
use lifeboat_model::id::{Instance, RunId, Tenant};
use rusqlite::{Connection, Row};

use super::{RunRow, from_micros, runs::outcome_of, to_micros};
use crate::{
    job::{Job, RunOutcome},
    runner::RunEvent,
};

/// How far back timelines go.
pub const TIMELINE: SignedDuration = SignedDuration::from_hours(14 * 24);
/// Marks that are kept of an instance.
pub const MOST_MARKS: usize = 400;
/// Verbs that stand on timelines.
const MARKED: [&str; 3] = ["backup", "drill", "control"];

/// What is kept in memory of every instance.
#[derive(Default)]
pub struct Board(RwLock<BTreeMap<Tenant, BTreeMap<Instance, Entry>>>);

#[derive(Default)]
struct Entry {
    facts: Option<Arc<Facts>>,
    marks: VecDeque<MarkRow>,
    live: Option<Live>,
}

/// A run that ended, for a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkRow {
    /// When it was begun, or due.
    pub at: Timestamp,
    /// The verb's word.
    pub verb: &'static str,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Which.
    pub run: RunId,
}

/// How far a stream is, as it said itself: newer than any facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// When it said so.
    pub at: Timestamp,
    /// The commit time of the newest commit that is durable.
    pub newest_commit: Option<Timestamp>,
    /// Bytes that the server has and the repository has not.
    pub waiting_bytes: Option<u64>,
    /// Since when something has waited; of a stream that does not follow its server, something may have.
    pub waiting_since: Option<Timestamp>,
    /// Whether it follows its server.
    pub follows: bool,
}

impl Live {
    /// What is known of the stream once this was said too.
    fn after(self, before: Option<Live>) -> Live {
        let began = self.waiting_since.or((!self.follows).then_some(self.at));
        let earlier = before.and_then(|before| before.waiting_since);
        Live {
            newest_commit: self.newest_commit.max(before.and_then(|before| before.newest_commit)),
            // A process that has just begun does not know for how long something has waited.
            waiting_since: began.map(|began| earlier.map_or(began, |earlier| earlier.min(began))),
            ..self
        }
    }
}

/// Whose a run is.
#[derive(Debug, Clone)]
pub(super) struct Whose {
    tenant: Tenant,
    instance: Option<Instance>,
}

impl Whose {
    pub fn of(job: &Job) -> Whose {
        Whose { tenant: job.tenant.clone(), instance: job.instance.clone() }
    }
}

/// What is known of an instance at once.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Facts as they were looked up.
    pub facts: Option<Arc<Facts>>,
    /// Marks, oldest first.
    pub marks: Vec<MarkRow>,
    /// How far its stream is.
    pub live: Option<Live>,
}

impl Board {
    /// From the file.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Board> {
        let board = Board::default();
        let mut statement = connection.prepare("SELECT tenant, facts FROM facts")?;
        let kept = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        for found in kept {
            let (tenant, facts) = found?;
            // Facts of another release are looked up again anyway.
            if let (Ok(tenant), Ok(facts)) = (tenant.parse(), serde_json::from_str::<Facts>(&facts)) {
                board.put_facts(&tenant, Arc::new(facts));
            }
        }
        let newest: Option<i64> = connection.query_row("SELECT max(listed) FROM runs", [], |row| row.get(0))?;
        let oldest = newest.map(from_micros).and_then(|newest| newest.saturating_sub(TIMELINE).ok());
        let sql = "SELECT tenant, instance, verb, outcome, listed, run FROM runs
            WHERE listed >= ?1 AND ended IS NOT NULL AND verb IN ('backup', 'drill', 'control') ORDER BY listed";
        let mut statement = connection.prepare(sql)?;
        let text = |row: &Row<'_>, column| row.get::<_, String>(column);
        let kept = statement.query_map([oldest.map_or(i64::MIN, to_micros)], |row| {
            let outcome: Option<String> = row.get(3)?;
            let mark = (|| {
                let verb = text(row, 2).ok()?;
                Some(MarkRow {
                    at: from_micros(row.get(4).ok()?),
                    verb: MARKED.into_iter().find(|word| *word == verb)?,
                    outcome: outcome_of(&outcome?)?,
                    run: text(row, 5).ok()?.parse().ok()?,
                })
            })();
            Ok((text(row, 0)?.parse(), text(row, 1)?.parse(), mark))
        })?;
        for found in kept {
            if let (Ok(tenant), Ok(instance), Some(mark)) = found? {
                board.mark(&tenant, &instance, mark);
            }
        }
        Ok(board)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Tenant, BTreeMap<Instance, Entry>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Tenant, BTreeMap<Instance, Entry>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, tenant: &Tenant, instance: &Instance, change: impl FnOnce(&mut Entry)) {
        let mut all = self.write();
        change(all.entry(tenant.clone()).or_default().entry(instance.clone()).or_default());
    }

    fn mark(&self, tenant: &Tenant, instance: &Instance, mark: MarkRow) {
        self.entry(tenant, instance, |entry| {
            let place = entry.marks.partition_point(|known| known.at <= mark.at);
            entry.marks.insert(place, mark);
            if entry.marks.len() > MOST_MARKS {
                entry.marks.pop_front();
            }
        });
    }

    /// A run ended.
    pub(super) fn over(&self, row: &RunRow) {
        let Some(instance) = &row.job.instance else { return };
        let word = row.job.verb.word();
        if word == "stream"
            && row.started.is_some()
            && let Some(at) = row.ended
        {
            let live = Live { at, newest_commit: None, waiting_bytes: None, waiting_since: None, follows: false };
            self.entry(&row.job.tenant, instance, |entry| entry.live = Some(live.after(entry.live)));
        }
        let (Some(outcome), true) = (row.outcome, MARKED.contains(&word)) else { return };
        let due = match &row.job.because {
            crate::job::Because::Schedule { due, .. } => Some(*due),
            crate::job::Because::Asked { .. } => None,
        };
        let at = row.started.or(due).unwrap_or(row.at);
        self.mark(&row.job.tenant, instance, MarkRow { at, verb: word, outcome, run: row.job.run });
    }

    pub(super) fn put_facts(&self, tenant: &Tenant, facts: Arc<Facts>) {
        let Ok(instance) = facts.instance.parse() else { return };
        self.entry(tenant, &instance, |entry| entry.facts = Some(facts));
    }

    pub(super) fn streamed(&self, whose: &Whose, at: Timestamp, event: &RunEvent) {
        let (RunEvent::Wal { phase, newest_commit, waiting_bytes, waiting_since }, Some(instance)) =
            (event, &whose.instance)
        else {
            return;
        };
        let (follows, newest_commit, waiting_since) = (phase == "streaming", *newest_commit, *waiting_since);
        let live = Live { at, newest_commit, waiting_bytes: waiting_bytes.filter(|_| follows), waiting_since, follows };
        self.entry(&whose.tenant, instance, |entry| entry.live = Some(live.after(entry.live)));
    }

    pub(super) fn forget_before(&self, now: Timestamp) {
        let oldest = now.saturating_sub(TIMELINE).unwrap_or_default();
        for entry in self.write().values_mut().flat_map(BTreeMap::values_mut) {
            while entry.marks.front().is_some_and(|mark| mark.at < oldest) {
                entry.marks.pop_front();
            }
        }
    }

    /// What is known of an instance.
    pub fn known(&self, tenant: &Tenant, instance: &Instance) -> Known {
        let all = self.read();
        let Some(entry) = all.get(tenant).and_then(|instances| instances.get(instance)) else {
            return Known::default();
        };
        Known { facts: entry.facts.clone(), marks: entry.marks.iter().copied().collect(), live: entry.live }
    }

    /// The same without the marks, which are many.
    pub fn facts_and_live(&self, tenant: &Tenant, instance: &Instance) -> (Option<Arc<Facts>>, Option<Live>) {
        let all = self.read();
        let entry = all.get(tenant).and_then(|instances| instances.get(instance));
        entry.map_or((None, None), |entry| (entry.facts.clone(), entry.live))
    }

    pub(super) fn facts(&self, tenant: &Tenant, instance: &Instance) -> Option<Arc<Facts>> {
        self.read().get(tenant)?.get(instance)?.facts.clone()
    }

    pub(super) fn all_facts(&self, tenant: &Tenant) -> Vec<Arc<Facts>> {
        let all = self.read();
        let facts = |instances: &BTreeMap<Instance, Entry>| {
            instances.values().filter_map(|entry| entry.facts.clone()).collect::<Vec<_>>()
        };
        all.get(tenant).map(facts).unwrap_or_default()
    }
}
