//! Counters that metrics show: kept apart from what they count, which is forgotten one day.

use rusqlite::params;

use super::State;
use crate::Result;

/// Upper ends of the buckets of durations, in seconds; the last bucket has none. The trigger `runs_counted` sorts by them.
pub const DURATIONS: [f64; 10] = [10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0];

/// Runs of a tenant that ended one way.
#[derive(Debug, Clone, PartialEq)]
pub struct RunTotal {
    /// The owner.
    pub tenant: String,
    /// The verb's word.
    pub verb: String,
    /// The outcome's word.
    pub outcome: String,
    /// How many were never begun.
    pub not_begun: u64,
    /// How many took how long: by [`DURATIONS`], and those that took longer.
    pub buckets: [u64; DURATIONS.len() + 1],
    /// How long all took together.
    pub seconds: f64,
}

impl State {
    /// Runs that ended since the state was made.
    pub async fn run_totals(&self) -> Result<Vec<RunTotal>> {
        self.ask(|cache| {
            let sql =
                "SELECT tenant, verb, outcome, bucket, runs, seconds FROM run_totals ORDER BY tenant, verb, outcome";
            let mut statement = cache.connection.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            let mut totals: Vec<RunTotal> = Vec::new();
            while let Some(row) = rows.next()? {
                let (tenant, verb, outcome): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let is_next = totals
                    .last()
                    .is_none_or(|total| (&total.tenant, &total.verb, &total.outcome) != (&tenant, &verb, &outcome));
                if is_next {
                    let buckets = [0; DURATIONS.len() + 1];
                    totals.push(RunTotal { tenant, verb, outcome, not_begun: 0, buckets, seconds: 0.0 });
                }
                let Some(total) = totals.last_mut() else { continue };
                let (bucket, runs, seconds): (i64, i64, f64) = (row.get(3)?, row.get(4)?, row.get(5)?);
                total.seconds += seconds;
                match usize::try_from(bucket).ok().and_then(|bucket| total.buckets.get_mut(bucket)) {
                    Some(bucket) => *bucket += runs.unsigned_abs(),
                    None => total.not_begun += runs.unsigned_abs(),
                }
            }
            Ok(totals)
        })
        .await
    }

    /// Counts a message of a channel: `delivered`, `failed` or `given-up`.
    pub async fn count_notice(&self, channel: &str, result: &'static str) -> Result<()> {
        let channel = channel.to_owned();
        self.ask(move |cache| {
            let sql = "INSERT INTO notice_totals VALUES (?1, ?2, 1)
                ON CONFLICT DO UPDATE SET messages = messages + 1";
            cache.connection.prepare_cached(sql)?.execute(params![channel, result])
        })
        .await
        .map(drop)
    }

    /// Messages by channel and result.
    pub async fn notice_totals(&self) -> Result<Vec<(String, String, u64)>> {
        self.ask(|cache| {
            let sql = "SELECT channel, result, messages FROM notice_totals ORDER BY channel, result";
            let mut statement = cache.connection.prepare_cached(sql)?;
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?.unsigned_abs()));
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

    #[tokio::test]
    async fn runs_are_counted_once_by_how_long_they_took_and_stay_counted() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let began = Timestamp::constant(1_795_400_000, 0);
        let all = DURATIONS.iter().copied().chain([50_000.0]);
        let mut seconds = 0.0;
        for (number, took) in all.enumerate() {
            let run = RunId([number as u8 + 1; 8]);
            let because = Because::Asked { who: "Ann".into(), at: began };
            let job = Job {
                run,
                tenant: "acme".parse().unwrap(),
                instance: Some("clinic".parse().unwrap()),
                verb: Verb::Backup,
                because,
            };
            assert!(state.queue(&job, 1, began).await.unwrap());
            state.begun(run, began).await.unwrap();
            let ended =
                Ended { outcome: RunOutcome::Passed, exit: Some(0), answer: None, reason: None, is_transient: false };
            let at = began + SignedDuration::from_secs_f64(took);
            state.ended(run, &ended, at).await.unwrap();
            state.ended(run, &ended, at).await.unwrap();
            seconds += took;
        }
        let later = began + SignedDuration::from_hours(24 * 400);
        state.forget_before(later, later).await.unwrap();
        let totals = state.run_totals().await.unwrap();
        assert_eq!(totals.len(), 1);
        assert_eq!(totals[0].buckets, [1; DURATIONS.len() + 1]);
        assert_eq!((totals[0].not_begun, totals[0].seconds), (0, seconds));
    }

    #[tokio::test]
    async fn messages_are_counted_by_channel_and_result() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        for result in ["delivered", "failed", "delivered"] {
            state.count_notice("ops", result).await.unwrap();
        }
        let expected = [("ops".to_owned(), "delivered".to_owned(), 2), ("ops".to_owned(), "failed".to_owned(), 1)];
        assert_eq!(state.notice_totals().await.unwrap(), expected);
    }
}
