//! What becomes of a run that is over: recorded, tried again, followed by another.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lifeboat_model::{id::RunId, time::Span};

use super::{
    carry::stream_trouble,
    dispatch::{Dispatcher, followers, job},
    open::{Off, Open, Phase, key_of},
    plan::{self, Key},
};
use crate::{
    Result,
    daemon::Told,
    job::{Because, Job, RunOutcome, Verb},
    runner::Ended,
    schedule::Schedule,
    view::Trouble,
};

/// A run that somebody asked for, and that the end of the daemon interrupted, is begun again within this.
const STILL_ASKED: SignedDuration = SignedDuration::from_hours(12);

impl Dispatcher {
    /// A run is over: it is tried again or recorded, and what follows it is queued.
    pub(super) async fn conclude(&mut self, run: RunId, ended: Ended) -> Result<()> {
        let Some(open) = self.open.get(run) else { return Ok(()) };
        let (now, job, attempt) = (self.daemon.now(), Arc::clone(&open.job), open.attempt);
        let (ended, again) = self.judge(open, ended, now).await?;
        if let Some(at) = again {
            // First, so that nothing is lost in between: a try that is known is not queued twice.
            let next = self::job(&job.tenant, job.instance.as_ref(), &job.verb, job.because.clone())?;
            self.queue(next, attempt + 1, at).await?;
        }
        self.daemon.state.ended(run, &ended, now).await?;
        if ended.outcome == RunOutcome::Passed
            && let Some(site) = self.policies.sites.get(&job.tenant).cloned()
        {
            for (key, dues) in followers(&site, &job, now) {
                self.settle(&key, &dues, now).await?;
            }
        }
        let key = key_of(&job);
        if let (Verb::Stream, Some(key)) = (&job.verb, &key) {
            self.stream_ended(key, &ended, now);
        }
        self.open.remove(run);
        self.daemon.tell(Told::Changed { tenant: job.tenant.clone() });
        if changes_facts(&job.verb) {
            self.look(&job);
        }
        self.follow_leads();
        Ok(())
    }

    /// How a run is recorded, and when it is tried again.
    async fn judge(&self, open: &Open, ended: Ended, now: Timestamp) -> Result<(Ended, Option<Timestamp>)> {
        let off = match &open.phase {
            Phase::Runs { off, .. } => off.clone(),
            Phase::Unclear { .. } | Phase::Waits => None,
        };
        let schedule = self.schedule_of(&open.job);
        match off {
            Some(_) if ended.outcome == RunOutcome::Passed => Ok((ended, None)), // it was faster
            Some(Off::Person(who)) => {
                let reason = Some(format!("called off by {who}"));
                Ok((Ended { outcome: RunOutcome::Interrupted, reason, is_transient: false, ..ended }, None))
            }
            Some(Off::Ours(why)) => {
                let (why, again) = self.again(&open.job, why, None, now);
                let reason = Some(why);
                Ok((Ended { outcome: RunOutcome::Interrupted, reason, is_transient: false, ..ended }, again))
            }
            None => {
                // Nobody here stopped it: its process was ended from outside, which says nothing of the next try.
                let is_cut_off = ended.outcome == RunOutcome::Interrupted;
                let ended = Ended { is_transient: ended.is_transient || is_cut_off, ..ended };
                let (Some(schedule), true) = (schedule, is_worth_a_try(&ended)) else { return Ok((ended, None)) };
                let tries = self.tries(&open.job).await?;
                if open.job.verb == Verb::Stream || tries >= schedule.retries {
                    return Ok((ended, None));
                }
                Ok((ended, Some(schedule.begin(later(now, schedule.retry_after)))))
            }
        }
    }

    /// How often what was due has been tried in vain before. Tries that the daemon itself ended do not count.
    async fn tries(&self, job: &Job) -> Result<u32> {
        let Because::Schedule { schedule, due } = &job.because else { return Ok(0) };
        let all = self.daemon.state.attempts(&job.tenant, schedule, job.instance.as_ref(), *due).await?;
        let failed = all.iter().filter(|row| row.job.run != job.run && row.ended.is_some() && row.is_transient);
        Ok(u32::try_from(failed.count()).unwrap_or(u32::MAX))
    }

    /// When something that was interrupted is begun again; the reason says it too.
    fn again(
        &self,
        job: &Job,
        why: String,
        there_until: Option<Timestamp>,
        now: Timestamp,
    ) -> (String, Option<Timestamp>) {
        if job.verb == Verb::Stream {
            return (why, None); // its schedule begins the next
        }
        match &job.because {
            Because::Asked { at, .. } if now.duration_since(*at) <= STILL_ASKED => {
                (format!("{why}; it is begun again"), Some(now))
            }
            Because::Asked { .. } => (format!("{why}; too long ago to begin it again: ask for it again"), None),
            Because::Schedule { due, .. } => match self.schedule_of(job) {
                None => (format!("{why}; its schedule was removed"), None),
                Some(schedule) => match plan::still_wanted(schedule, *due, there_until, now) {
                    Ok(()) => (format!("{why}; it is begun again"), Some(schedule.begin(now))),
                    Err(not) => (format!("{why}; it is not begun again: {not}"), None),
                },
            },
        }
    }

    /// The schedule that a run is of, if it is still there and still for its instance.
    pub(super) fn schedule_of(&self, job: &Job) -> Option<&Schedule> {
        let Because::Schedule { schedule: name, .. } = &job.because else { return None };
        let site = self.policies.sites.get(&job.tenant)?;
        let schedule = site.schedules.iter().find(|schedule| schedule.name == *name)?;
        (schedule.verb.word() == job.verb.word() && schedule.has(&site.config, job.instance.as_ref()))
            .then_some(schedule)
    }

    /// A run that an earlier daemon had did not come to an end: it waits on, is begun again, or is recorded for good.
    pub(super) async fn resume(&mut self, run: RunId) -> Result<()> {
        let now = self.daemon.now();
        let Some(Open { job, attempt, phase: Phase::Unclear { begun }, at, .. }) = self.open.get(run) else {
            return Ok(());
        };
        let (job, attempt, begun, at) = (Arc::clone(job), *attempt, *begun, *at);
        let Some(led) = self.led.get(&job.tenant) else {
            self.open.remove(run); // as it is in the state, for whoever leads with it
            return Ok(());
        };
        let why = if begun { "the daemon ended while it went on" } else { "the daemon ended while it waited" };
        let (why, again) = self.again(&job, why.to_owned(), led.there_until, now);
        match again {
            Some(_) if !begun => {
                if let Some(open) = self.open.get_mut(run) {
                    open.phase = Phase::Waits;
                    open.at = at;
                }
                return Ok(());
            }
            Some(again) => {
                let next = self::job(&job.tenant, job.instance.as_ref(), &job.verb, job.because.clone())?;
                self.queue(next, attempt + 1, again).await?;
            }
            None if !begun && job.verb != Verb::Stream => {
                self.daemon.state.missed(&job, &why, now).await?;
                self.open.remove(run);
                return Ok(());
            }
            None => {}
        }
        let ended = Ended {
            outcome: RunOutcome::Interrupted,
            exit: None,
            answer: None,
            reason: Some(why),
            is_transient: false,
        };
        self.daemon.state.ended(run, &ended, now).await?;
        self.open.remove(run);
        self.daemon.tell(Told::Changed { tenant: job.tenant.clone() });
        Ok(())
    }

    fn stream_ended(&mut self, key: &Key, ended: &Ended, now: Timestamp) {
        self.streams.ended(key, now);
        let Some(instance) = &key.instance else { return };
        let tenant = Some(key.tenant.to_string());
        if ended.outcome == RunOutcome::Interrupted || self.is_ending || !self.streams.has(key) {
            self.daemon.troubles.end(tenant.as_deref(), &stream_trouble(instance.as_str()));
            return;
        }
        let reason = ended.reason.as_deref().unwrap_or("it ended without a reason");
        self.daemon.troubles.begin(Trouble {
            tenant,
            of: stream_trouble(instance.as_str()),
            since: now,
            text: format!("the WAL stream of {instance} does not go on: {reason}"),
            next: Some(format!("lifeboat wal stream {instance}")),
        });
    }
}

fn is_worth_a_try(ended: &Ended) -> bool {
    ended.is_transient && ended.outcome != RunOutcome::Passed
}

/// Whether an instance is another after such a run.
fn changes_facts(verb: &Verb) -> bool {
    match verb {
        Verb::Backup
        | Verb::Drill { .. }
        | Verb::Control { .. }
        | Verb::Dump
        | Verb::Locks
        | Verb::Prune
        | Verb::Copy { .. }
        | Verb::Scrub { .. }
        | Verb::Signs => true,
        Verb::Audit | Verb::Report { .. } | Verb::Stream => false,
    }
}

fn later(time: Timestamp, span: Span) -> Timestamp {
    SignedDuration::try_from(span.0).ok().and_then(|span| time.checked_add(span).ok()).unwrap_or(time)
}
