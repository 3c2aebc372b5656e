//! What the dispatcher answers to people and to changed policies.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use lifeboat_model::id::{Instance, RunId, Tenant};

use super::{
    carry::STREAM,
    desk::{Asked, Command, Refused},
    dispatch::{Dispatcher, job},
    open::{Off, Open, Phase, key_of},
    plan::Recorded,
};
use crate::{
    Error, Result,
    auth::{Deed, record},
    daemon::Told,
    error::with_causes,
    job::{Because, Job, RunOutcome, Verb},
    policies::{Policies, Site},
    runner::Ended,
    schedule::Schedule,
};

/// Runs of a tenant that people have asked for and that are not over.
const ASKED: usize = 50;

impl Dispatcher {
    /// Does what somebody asks at the desk, and notes it before it answers: whoever asked may go away at any time, and then
    /// nobody else would. What is asked by somebody who has gone already is not done.
    pub(super) async fn answer(&mut self, command: Command) {
        match command {
            Command::Start(_, answer) if answer.is_closed() => {}
            Command::Cancel { answer, .. } if answer.is_closed() => {}
            Command::Start(asked, answer) => {
                let mut deed = started(&asked);
                let done = self.start(asked).await;
                if let Ok(run) = &done {
                    deed.detail = Some(format!("run {run}"));
                    record(&self.daemon, &deed).await;
                }
                drop(answer.send(done));
            }
            Command::Cancel { run, who, answer } => {
                let tenant = self.open.get(run).map(|open| open.job.tenant.clone());
                let done = self.cancel(run, who.clone()).await;
                if done.is_ok() {
                    let (act, target) = ("cancel".to_owned(), Some(format!("run {run}")));
                    record(&self.daemon, &Deed { tenant, who, act, target, allowed: true, detail: None }).await;
                }
                drop(answer.send(done));
            }
            Command::Again(whose) => self.streams.wake_all(|key| {
                key.instance.as_ref().is_some_and(|name| whose.contains(&(key.tenant.clone(), name.clone())))
            }),
        }
    }

    async fn start(&mut self, asked: Asked) -> Result<RunId, Refused> {
        let Asked { tenant, instance, verb, who } = asked;
        let nobody = || Refused::Unknown("there is no such tenant or instance".to_owned());
        let site = self.policies.sites.get(&tenant).ok_or_else(nobody)?;
        if instance.as_ref().is_some_and(|instance| !site.config.instances.contains_key(instance)) {
            return Err(nobody());
        }
        if verb == Verb::Stream {
            let why = "a stream goes on by itself: give it a schedule with when = \"always\"";
            return Err(Refused::Impossible(why.to_owned()));
        }
        if instance.is_none() && !verb.is_tenant_wide() {
            return Err(Refused::Impossible(format!("a {} is of an instance: name one", verb.word())));
        }
        if instance.is_some() && verb == Verb::Audit {
            return Err(Refused::Impossible("an audit is of the whole tenant: name no instance".to_owned()));
        }
        if !self.led.contains_key(&tenant) {
            let all = self.daemon.troubles.all();
            let why = all
                .iter()
                .find(|it| matches!(&*it.of, "leader" | "lead") && it.tenant.as_deref() == Some(tenant.as_str()));
            let why =
                why.map_or("this daemon is about to begin its work for the tenant: ask again soon", |it| &it.text);
            return Err(Refused::NotNow(why.to_owned()));
        }
        let is_same = |open: &Open| open.job.instance == instance && open.job.verb == verb;
        if let Some((run, open)) = self.open.of(&tenant).find(|(_, open)| is_same(open)) {
            let how = if matches!(open.phase, Phase::Waits) { "waits already" } else { "goes on already" };
            return Err(Refused::Already(format!("this {} {how}: run {run}", verb.word())));
        }
        let is_asked = |open: &Open| matches!(open.job.because, Because::Asked { .. });
        if self.open.of(&tenant).filter(|(_, open)| is_asked(open)).count() >= ASKED {
            return Err(Refused::NotNow(format!(
                "{ASKED} runs that were asked for are not over yet: wait for one of them"
            )));
        }
        let now = self.daemon.now();
        let because = Because::Asked { who, at: now };
        let queued = async { self.queue(job(&tenant, instance.as_ref(), &verb, because)?, 1, now).await };
        match queued.await {
            Ok(Some(run)) => Ok(run),
            Ok(None) => Err(Refused::NotNow("the run could not be queued: ask again".to_owned())),
            Err(error) => Err(state_failed(&error)),
        }
    }

    async fn cancel(&mut self, run: RunId, who: String) -> Result<(), Refused> {
        let Some(open) = self.open.get_mut(run) else {
            return match self.daemon.state.run(run).await {
                Ok(Some(row)) if row.ended.is_some() => Err(Refused::Already("the run is over".to_owned())),
                Ok(Some(_)) => Err(Refused::NotNow("this daemon does not lead for the tenant of the run".to_owned())),
                Ok(None) => Err(Refused::Unknown("there is no such run".to_owned())),
                Err(error) => Err(state_failed(&error)),
            };
        };
        if open.job.verb == Verb::Stream {
            let why = "a stream goes on as long as its schedule says so: remove the schedule";
            return Err(Refused::Impossible(why.to_owned()));
        }
        match &mut open.phase {
            Phase::Runs { off: Some(_), .. } => Err(Refused::Already("the run is called off already".to_owned())),
            Phase::Runs { cancel, off, .. } => {
                *off = Some(Off::Person(who));
                cancel.cancel();
                Ok(())
            }
            Phase::Unclear { .. } => {
                Err(Refused::NotNow("what became of the run is being found out: ask again soon".to_owned()))
            }
            Phase::Waits => {
                let tenant = open.job.tenant.clone();
                let ended = interrupted(format!("called off by {who}"));
                let now = self.daemon.now();
                self.daemon.state.ended(run, &ended, now).await.map_err(|error| state_failed(&error))?;
                self.open.remove(run);
                self.daemon.tell(Told::Changed { tenant });
                Ok(())
            }
        }
    }

    /// Goes on by changed policies. Runs that go on are not disturbed, but for streams that are no longer wanted or that are
    /// about something else now; runs that wait for a schedule that is gone are over.
    pub(super) async fn adopt(&mut self, policies: Arc<Policies>) {
        // What was due until now was due by the old ones.
        if let Err(error) = self.queue_due(self.daemon.now()).await {
            tracing::error!("what was due when policies changed could not be recorded: {}", with_causes(&error));
        }
        let before = std::mem::replace(&mut self.policies, policies);
        let tenants: Vec<Tenant> = self.led.keys().cloned().collect();
        for tenant in tenants {
            match self.policies.sites.get(&tenant).cloned() {
                Some(site) => {
                    // What is new or has changed counts from now on.
                    let recorded = Recorded { until: None, newest: &BTreeMap::new() };
                    let now = self.daemon.now();
                    self.held.extend(self.plan.renew(&tenant, &site, &recorded, now));
                    self.streams.renew(&tenant, &site);
                    if let Some(before) = before.sites.get(&tenant) {
                        self.renew_streams(&tenant, before, &site);
                    }
                }
                None => {
                    self.plan.forget(&tenant);
                    self.streams.forget(&tenant);
                }
            }
            let unwanted = |open: &Open| key_of(&open.job).is_none_or(|key| !self.streams.has(&key));
            let streams = |open: &Open| open.job.tenant == tenant && open.job.verb == Verb::Stream;
            let gone: Vec<RunId> =
                self.open.iter().filter(|(_, open)| streams(open) && unwanted(open)).map(|(run, _)| run).collect();
            let off = Off::Ours("its schedule was removed".to_owned());
            self.open.call_off(|open| gone.contains(&open.job.run), &off);
            if let Err(error) = self.drop_queued(&tenant).await {
                tracing::error!("runs of schedules that are gone still wait: {}", with_causes(&error));
            }
        }
        self.forget_streams();
        self.follow_leads();
    }

    /// Records what becomes of what was held back when policies changed.
    pub(super) async fn settle_held(&mut self, now: Timestamp) -> Result<()> {
        while let Some((key, dues)) = self.held.front().cloned() {
            self.settle(&key, &dues, now).await?;
            self.drop_queued(&key.tenant).await?; // policies may have changed again
            self.held.pop_front();
        }
        Ok(())
    }

    /// A stream that nobody wants any more troubles nobody.
    fn forget_streams(&self) {
        let is_wanted = |tenant: &str, name: &str| -> Option<bool> {
            let site = self.policies.sites.get(&tenant.parse::<Tenant>().ok()?)?;
            let name = name.parse::<Instance>().ok()?;
            let has = |schedule: &Schedule| schedule.verb == Verb::Stream && schedule.has(&site.config, Some(&name));
            Some(site.schedules.iter().any(has))
        };
        for trouble in self.daemon.troubles.all() {
            if let (Some(tenant), Some(name)) = (&trouble.tenant, trouble.of.strip_prefix(STREAM))
                && is_wanted(tenant, name) != Some(true)
            {
                self.daemon.troubles.end(Some(tenant), &trouble.of);
            }
        }
    }

    /// Streams whose instance is configured in another way are begun anew.
    fn renew_streams(&mut self, tenant: &Tenant, before: &Site, now: &Site) {
        if before.config == now.config {
            return;
        }
        let is_changed = |open: &Open| {
            let Some(instance) = &open.job.instance else { return false };
            let (old, new) = (before.config.instances.get(instance), now.config.instances.get(instance));
            let elsewhere = before.config.repository != now.config.repository || before.config.keys != now.config.keys;
            open.job.tenant == *tenant && open.job.verb == Verb::Stream && (old != new || elsewhere)
        };
        let keys: Vec<_> =
            self.open.iter().filter(|(_, open)| is_changed(open)).filter_map(|(_, open)| key_of(&open.job)).collect();
        self.open.call_off(is_changed, &Off::Ours("its configuration has changed".to_owned()));
        keys.iter().for_each(|key| self.streams.wake(key));
    }

    /// Runs that wait for a schedule that is gone will not be begun.
    async fn drop_queued(&mut self, tenant: &Tenant) -> Result<()> {
        let is_gone = |job: &Job| match &job.because {
            Because::Schedule { .. } => self.schedule_of(job).is_none(),
            Because::Asked { .. } => match (self.policies.sites.get(tenant), &job.instance) {
                (Some(site), Some(instance)) => !site.config.instances.contains_key(instance),
                (site, _) => site.is_none(),
            },
        };
        let gone: Vec<Arc<Job>> = self
            .open
            .of(tenant)
            .filter(|(_, open)| matches!(open.phase, Phase::Waits) && is_gone(&open.job))
            .map(|(_, open)| Arc::clone(&open.job))
            .collect();
        for job in gone {
            let why = match job.because {
                Because::Schedule { .. } => "its schedule was removed",
                Because::Asked { .. } => "its instance was removed",
            };
            self.daemon.state.missed(&job, why, self.daemon.now()).await?;
            self.open.remove(job.run);
            self.daemon.tell(Told::Changed { tenant: tenant.clone() });
        }
        Ok(())
    }
}

/// That somebody begins a run.
fn started(asked: &Asked) -> Deed {
    let word = asked.verb.word();
    Deed {
        tenant: Some(asked.tenant.clone()),
        who: asked.who.clone(),
        act: "start".to_owned(),
        target: Some(asked.instance.as_ref().map_or_else(|| word.to_owned(), |name| format!("{word} of {name}"))),
        allowed: true,
        detail: None,
    }
}

fn state_failed(error: &Error) -> Refused {
    tracing::error!("what was asked for cannot be recorded: {}", with_causes(error));
    Refused::NotNow("the daemon cannot write its state at the moment: look at its log, and ask again".to_owned())
}

fn interrupted(reason: String) -> Ended {
    let (outcome, reason) = (RunOutcome::Interrupted, Some(reason));
    Ended { outcome, exit: None, answer: None, reason, is_transient: false }
}
