//! Who was told what, so that a restart tells nobody twice and forgets nobody. What a row holds is the business of `notify`.

use rusqlite::params;

use super::{State, from_micros};
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

    /// Of each schedule and instance the newest run that is over, where it did not pass and is not tried again. Streams are
    /// left out: what they lack shows in what could be lost.
    pub async fn bad_runs(&self) -> Result<Vec<BadRun>> {
        self.ask(|cache| {
            // With max() the other columns are those of its row.
            let sql = "SELECT tenant, instance, verb, schedule, outcome, reason, ended, due, max(at) FROM runs AS over
                WHERE schedule IS NOT NULL AND ended IS NOT NULL AND verb <> 'stream' AND outcome <> 'interrupted'
                GROUP BY tenant, schedule, instance
                HAVING outcome <> 'passed' AND NOT EXISTS (
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
            statement.query_map([], read)?.collect()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use lifeboat_model::id::RunId;

    use super::*;
    use crate::{
        job::{Because, Job, RunOutcome, Verb},
        runner::Ended,
    };

    const THEN: Timestamp = Timestamp::constant(1_795_400_000, 0);

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
        assert_eq!(state.bad_runs().await.unwrap(), []);
        run(&state, 2, 24, 1, Some(RunOutcome::Failed)).await;
        let bad = state.bad_runs().await.unwrap();
        assert_eq!((bad.len(), bad[0].schedule.as_str(), bad[0].reason.as_deref()), (1, "nightly", Some("no")));
        run(&state, 3, 24, 2, None).await;
        assert_eq!(state.bad_runs().await.unwrap(), [], "it is tried again");
        run(&state, 4, 48, 1, Some(RunOutcome::Failed)).await;
        assert_eq!(state.bad_runs().await.unwrap().len(), 1);
        run(&state, 5, 72, 1, Some(RunOutcome::Passed)).await;
        assert_eq!(state.bad_runs().await.unwrap(), []);
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
