//! Who was told what, so that a restart tells nobody twice and forgets nobody. What a row holds is the business of `notify`.

use jiff::Timestamp;
use rusqlite::params;

use super::{State, from_micros, to_micros};
use crate::{Result, notify::BadRun};

impl State {
    /// Keeps rows in place of those with the same keys, and forgets others: all of it or nothing, and on the disk before this
    /// comes back.
    pub async fn keep_conditions(&self, put: Vec<(String, String)>, forget: Vec<String>) -> Result<()> {
        self.ask(move |cache| {
            cache.transact(true, |transaction| {
                let sql = "INSERT OR REPLACE INTO conditions (key, condition) VALUES (?1, ?2)";
                let mut statement = transaction.prepare_cached(sql)?;
                for (key, condition) in &put {
                    statement.execute(params![key, condition])?;
                }
                let mut statement = transaction.prepare_cached("DELETE FROM conditions WHERE key = ?1")?;
                for key in &forget {
                    statement.execute([key])?;
                }
                Ok(())
            })
        })
        .await
    }

    /// All rows, by key.
    pub async fn conditions(&self) -> Result<Vec<(String, String)>> {
        self.ask(|cache| {
            let mut statement =
                cache.connection.prepare_cached("SELECT key, condition FROM conditions ORDER BY key")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .await
    }

    /// Of each schedule and instance the run that was due last and is over, where it did not pass and is not tried again. What
    /// somebody called off, or whose schedule was removed, is as if it had never been due. Streams are left out: what they
    /// lack shows in what could be lost.
    pub async fn bad_runs(&self, now: Timestamp) -> Result<Vec<BadRun>> {
        self.ask(move |cache| {
            // A run that was due later than now is one of a clock that ran ahead: it says nothing of how things are.
            let sql = "SELECT over.tenant, over.instance, verb, over.schedule, outcome, reason, ended
                FROM dues JOIN runs AS over ON over.rowid = (
                    SELECT rowid FROM runs WHERE tenant = dues.tenant AND schedule = dues.schedule
                        AND instance = dues.instance AND due <= ?1 AND ended IS NOT NULL
                        AND NOT (outcome = 'interrupted' AND coalesce(reason, '') LIKE 'called off by %')
                        AND NOT (outcome <> 'passed' AND coalesce(reason, '') LIKE '%its schedule was removed')
                    ORDER BY due DESC, attempt DESC LIMIT 1)
                WHERE verb <> 'stream' AND outcome <> 'passed' AND NOT EXISTS (
                    SELECT 1 FROM runs AS next WHERE next.ended IS NULL AND next.tenant = over.tenant
                        AND next.schedule = over.schedule AND next.instance = over.instance AND next.due = over.due)";
            let mut statement = cache.connection.prepare_cached(sql)?;
            let read = |row: &rusqlite::Row<'_>| {
                Ok(BadRun {
                    tenant: row.get(0)?,
                    instance: Some(row.get::<_, String>(1)?).filter(|instance| !instance.is_empty()),
                    verb: row.get(2)?,
                    schedule: row.get(3)?,
                    outcome: row.get(4)?,
                    reason: row.get(5)?,
                    ended: from_micros(row.get(6)?),
                })
            };
            statement.query_map([to_micros(now)], read)?.collect()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use lifeboat_model::id::RunId;

    use super::*;
    use crate::{
        job::{Because, Job, RunOutcome, Verb},
        runner::Ended,
    };

    const THEN: Timestamp = Timestamp::constant(1_795_400_000, 0);
    const LATER: Timestamp = Timestamp::constant(1_799_000_000, 0);

    async fn run(state: &State, number: u8, hours: i64, attempt: u32, outcome: Option<RunOutcome>) {
        let due = THEN + SignedDuration::from_hours(hours);
        let job = Job {
            run: RunId([number; 8]),
            tenant: "acme".parse().unwrap(),
            instance: Some("clinic".parse().unwrap()),
            verb: Verb::Backup,
            because: Because::Schedule { schedule: "nightly".into(), due },
        };
        let at = due + SignedDuration::from_mins(attempt.into());
        assert!(state.queue(&job, attempt, at).await.unwrap());
        state.begun(job.run, at).await.unwrap();
        if let Some(outcome) = outcome {
            let ended = Ended { outcome, exit: Some(1), answer: None, reason: Some("no".into()), is_transient: true };
            state.ended(job.run, &ended, at + SignedDuration::from_secs(9)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_run_is_bad_until_one_passes_but_not_while_it_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        run(&state, 1, 0, 1, Some(RunOutcome::Passed)).await;
        assert_eq!(state.bad_runs(LATER).await.unwrap(), []);
        run(&state, 2, 24, 1, Some(RunOutcome::Failed)).await;
        let bad = state.bad_runs(LATER).await.unwrap();
        assert_eq!((bad.len(), bad[0].schedule.as_str(), bad[0].reason.as_deref()), (1, "nightly", Some("no")));
        run(&state, 3, 24, 2, None).await;
        assert_eq!(state.bad_runs(LATER).await.unwrap(), [], "it is tried again");
        run(&state, 4, 48, 1, Some(RunOutcome::Failed)).await;
        assert_eq!(state.bad_runs(LATER).await.unwrap().len(), 1);
        run(&state, 5, 72, 1, Some(RunOutcome::Passed)).await;
        assert_eq!(state.bad_runs(LATER).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_run_that_was_cut_off_is_bad_unless_somebody_meant_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let cut_off = async |number: u8, hours: i64, why: &str| {
            run(&state, number, hours, 1, None).await;
            let (outcome, reason) = (RunOutcome::Interrupted, Some(why.to_owned()));
            let ended = Ended { outcome, exit: None, answer: None, reason, is_transient: false };
            state.ended(RunId([number; 8]), &ended, THEN + SignedDuration::from_hours(hours + 1)).await.unwrap();
            state.bad_runs(LATER).await.unwrap().into_iter().map(|bad| bad.outcome).collect::<Vec<_>>()
        };
        run(&state, 1, 0, 1, Some(RunOutcome::Passed)).await;
        assert_eq!(cut_off(2, 24, "the daemon ended while it went on; it is not begun again").await, ["interrupted"]);
        run(&state, 3, 48, 1, Some(RunOutcome::Passed)).await;
        assert!(cut_off(4, 72, "called off by ann").await.is_empty(), "what was before it counts");
        assert!(cut_off(5, 96, "its schedule was removed").await.is_empty());
        run(&state, 6, 120, 1, Some(RunOutcome::Failed)).await;
        assert_eq!(cut_off(7, 144, "called off by ann").await, ["failed"]);
        run(&state, 8, 48 * 24, 1, Some(RunOutcome::Passed)).await;
        assert_eq!(state.bad_runs(LATER).await.unwrap().len(), 1, "what a clock did that ran ahead hides nothing");
    }

    #[tokio::test]
    async fn the_newest_run_is_the_one_that_was_due_last() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        run(&state, 2, 24, 1, Some(RunOutcome::Passed)).await;
        // Nobody was at work when this was due: it was missed later than the run began that stands for it.
        let because = Because::Schedule { schedule: "nightly".into(), due: THEN };
        let (tenant, instance) = ("acme".parse().unwrap(), Some("clinic".parse().unwrap()));
        let older = Job { run: RunId([1; 8]), tenant, instance, verb: Verb::Backup, because };
        state.missed(&older, "nobody was at work", THEN + SignedDuration::from_hours(30)).await.unwrap();
        assert_eq!(state.bad_runs(LATER).await.unwrap(), []);
    }

    #[tokio::test]
    async fn rows_are_kept_together_and_outlast_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let row = |key: &str| (key.to_owned(), "{}".to_owned());
        {
            let state = State::open(folder.path()).unwrap();
            state.keep_conditions(vec![row("a"), row("b")], vec![]).await.unwrap();
            state.keep_conditions(vec![row("c")], vec!["a".into()]).await.unwrap();
        }
        let opened = (0..50).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20)); // until its thread has let go of the lock
            State::open(folder.path()).ok()
        });
        assert_eq!(opened.unwrap().conditions().await.unwrap(), [row("b"), row("c")]);
    }
}
