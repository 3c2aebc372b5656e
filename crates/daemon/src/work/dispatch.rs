//! The dispatcher: one task that alone decides what is queued, begun, tried again and called off. Everything else tells it.
//!
//! What it must never do: forget a run that was due, begin one twice, or begin one beside another that it must not be beside.
//! Each decision is in the state before it is carried out. It is written such that `kill -9` between any two lines leaves
//! something that [`take_over`](Dispatcher::take_over) puts right: a try is queued before the one that failed is recorded as
//! over, a run that was begun is looked for in evidence before it is begun again, and what was due is settled in memory only
//! when it is recorded.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use lifeboat_model::id::{Instance, RunId, Tenant};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    carry::{self, News},
    open::{Off, Open, Opens, Phase},
    overlap,
    plan::{self, Dues, Key, LATE, Plan, Recorded, Verdict},
    streams::Streams,
};
use crate::{
    Daemon, Result,
    daemon::Told,
    error::with_causes,
    job::{Because, Job, Verb},
    policies::{Policies, Site},
    runner::Ended,
    schedule::{Occurrence, Schedule, When},
    state::RunRow,
    view::Trouble,
};

/// What the tasks tell, and has not been heard.
const NEWS: usize = 256;
/// How often it is recorded up to when everything that was due is.
const RECORD: SignedDuration = SignedDuration::from_secs(60);
/// After something could not be recorded.
const AGAIN: Duration = Duration::from_secs(1);
/// How far back runs are looked for that others follow.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(1);
/// How long what was called off may take to tear down, when the daemon ends: a drill takes up to 300 s. Then it is left alone:
/// it notices.
const TEARS_DOWN: Duration = Duration::from_secs(330);
/// How long it may take to give leads back.
const GIVES_BACK: Duration = Duration::from_secs(10);

/// One life of the dispatcher. What it knows is in the state; whoever comes after it finds it there.
pub(super) struct Dispatcher {
    pub(super) daemon: Arc<Daemon>,
    pub(super) policies: Arc<Policies>,
    pub(super) plan: Plan,
    pub(super) open: Opens,
    pub(super) led: BTreeMap<Tenant, Led>,
    pub(super) streams: Streams,
    leads: BTreeMap<Tenant, CancellationToken>,
    over: VecDeque<(RunId, Ended)>,
    cleared: VecDeque<RunId>,
    taken: VecDeque<Tenant>,
    /// What was due by policies that are gone, and is not settled.
    pub(super) held: VecDeque<(Key, Dues)>,
    runs: JoinSet<()>,
    holds: JoinSet<()>,
    looks: JoinSet<()>,
    news: mpsc::Sender<News>,
    pub(super) is_ending: bool,
    /// When it last looked at the clock.
    turned: Timestamp,
}

/// A tenant that this daemon works for.
pub(super) struct Led {
    /// Since when.
    pub since: Timestamp,
    /// Up to when somebody here was at work before.
    pub there_until: Option<Timestamp>,
    /// Up to when it is recorded that everything that was due is.
    recorded: Option<Timestamp>,
}

/// Works until `cancel` says so; then lets short runs finish, calls off what is left, and records everything.
pub async fn run(daemon: Arc<Daemon>, cancel: CancellationToken) {
    let (news, mut heard) = mpsc::channel(NEWS);
    let mut changes = daemon.policies.subscribe();
    let policies = Arc::clone(&changes.borrow_and_update());
    let mut dispatcher = Dispatcher {
        daemon: Arc::clone(&daemon),
        policies,
        plan: Plan::default(),
        open: Opens::default(),
        led: BTreeMap::new(),
        streams: Streams::default(),
        leads: BTreeMap::new(),
        over: VecDeque::new(),
        cleared: VecDeque::new(),
        taken: VecDeque::new(),
        held: VecDeque::new(),
        runs: JoinSet::new(),
        holds: JoinSet::new(),
        looks: JoinSet::new(),
        news,
        is_ending: false,
        turned: daemon.now(),
    };
    dispatcher.follow_leads();
    let mut commands = daemon.desk.receiver.lock().await;
    while !cancel.is_cancelled() {
        let wake = dispatcher.turn_or_say().await;
        tokio::select! {
            () = cancel.cancelled() => {}
            () = wake => {}
            Some(news) = heard.recv() => dispatcher.hear(news),
            Some(command) = commands.recv() => dispatcher.answer(command).await,
            _ = changes.changed() => {
                let policies = Arc::clone(&changes.borrow_and_update());
                dispatcher.adopt(policies).await;
            }
        }
        while let Ok(news) = heard.try_recv() {
            dispatcher.hear(news);
        }
        while dispatcher.runs.try_join_next().is_some() || dispatcher.looks.try_join_next().is_some() {}
    }
    drop(commands);
    dispatcher.end(&mut heard).await;
}

impl Dispatcher {
    /// One turn; what it answers waits for the next. A state that cannot be written is told and tried again: nothing is lost by
    /// that, as nothing is settled before it is recorded.
    async fn turn_or_say(&mut self) -> impl Future<Output = ()> + use<> {
        let turned = self.turn().await;
        let daemon = Arc::clone(&self.daemon);
        let wake = match turned {
            Ok(wake) => {
                daemon.troubles.end(None, "state");
                Some(wake)
            }
            Err(error) => {
                let text = with_causes(&error);
                tracing::error!("what is due cannot be recorded, trying again: {text}");
                daemon.troubles.begin(Trouble {
                    tenant: None,
                    of: "state".to_owned(),
                    since: daemon.now(),
                    text,
                    next: Some("df -h; then look at the folder of the state".to_owned()),
                });
                None
            }
        };
        async move {
            match wake {
                Some(wake) => daemon.surroundings.time.sleep_until(wake).await,
                None => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Does everything that is to be done now, and says when something will be.
    async fn turn(&mut self) -> Result<Timestamp> {
        while let Some(tenant) = self.taken.front().cloned() {
            self.take_over(&tenant).await?;
            self.taken.pop_front();
        }
        while let Some((run, ended)) = self.over.front().cloned() {
            self.conclude(run, ended).await?;
            self.over.pop_front();
        }
        while let Some(run) = self.cleared.front().copied() {
            self.resume(run).await?;
            self.cleared.pop_front();
        }
        let now = self.daemon.now();
        if now.duration_since(self.turned) < -LATE {
            self.set_back(now).await?;
        }
        self.turned = now;
        self.settle_held(now).await?;
        let mut skipped = BTreeSet::new();
        if !self.is_ending {
            skipped = self.queue_due(now).await?;
            self.queue_streams(now).await?;
            self.begin(now).await?;
        }
        self.record(now, &skipped).await?;
        self.daemon.dispatched.store(now.as_second(), Ordering::Relaxed);
        (self.daemon.surroundings.alive)();
        Ok(self.wake(now, &skipped))
    }

    fn wake(&self, now: Timestamp, skipped: &BTreeSet<Key>) -> Timestamp {
        let waits = self.open.iter().filter(|(_, open)| matches!(open.phase, Phase::Waits) && open.at > now);
        let at = [
            self.plan.next(skipped),
            waits.map(|(_, open)| open.at).min(),
            self.streams.next(now),
            now.checked_add(RECORD).ok(),
        ];
        at.into_iter().flatten().min().unwrap_or(now)
    }

    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Ended(run, ended) => self.over.push_back((run, ended)),
            News::Cleared(run, Some(ended)) => self.over.push_back((run, ended)),
            News::Cleared(run, None) => self.cleared.push_back(run),
            News::Led(tenant) => self.taken.push_back(tenant),
            News::Lost(tenant, why) => self.lose(&tenant, &why),
        }
    }

    /// A lead is held for every tenant of the policies, and for no other.
    pub(super) fn follow_leads(&mut self) {
        for tenant in self.policies.sites.keys() {
            if !self.leads.contains_key(tenant) {
                let cancel = CancellationToken::new();
                self.leads.insert(tenant.clone(), cancel.clone());
                let hold = carry::hold(Arc::clone(&self.daemon), tenant.clone(), self.news.clone(), cancel);
                self.holds.spawn(hold);
            }
        }
        let gone = |tenant: &Tenant, open: &Opens| {
            !self.policies.sites.contains_key(tenant) && open.of(tenant).next().is_none()
        };
        let gone: Vec<Tenant> = self.leads.keys().filter(|tenant| gone(tenant, &self.open)).cloned().collect();
        for tenant in gone {
            self.leads.remove(&tenant).inspect(CancellationToken::cancel);
            self.led.remove(&tenant);
        }
    }

    /// This daemon works for a tenant from now on. What an earlier one had queued or begun is looked into first.
    async fn take_over(&mut self, tenant: &Tenant) -> Result<()> {
        let Some(site) = self.policies.sites.get(tenant).cloned() else { return Ok(()) };
        let daemon = Arc::clone(&self.daemon);
        let (now, state) = (daemon.now(), &daemon.state);
        for RunRow { job, attempt, at, started, .. } in state.open_runs().await? {
            if job.tenant != *tenant || self.open.get(job.run).is_some() {
                continue;
            }
            let (job, begun) = (Arc::new(job), started.is_some());
            let phase = Phase::Unclear { begun };
            self.open.insert(Open { job: Arc::clone(&job), attempt, at, phase, reason: None });
            self.runs.spawn(carry::clear(Arc::clone(&self.daemon), job, begun, self.news.clone()));
        }
        // What is ahead of now was recorded by a clock that ran ahead, here or on another host: it counts as of now. Only what
        // follows something may well be due later.
        let planned = state.planned_until(tenant).await?;
        let is_ahead = |time: Timestamp| now.duration_since(time) < -LATE;
        let has_line = |name: &str| site.schedules.iter().any(|it| it.name == name && matches!(it.when, When::Cron(_)));
        let dues = state.newest_dues(tenant).await?;
        if planned.is_some_and(is_ahead) || dues.iter().any(|(name, _, due)| is_ahead(*due) && has_line(name)) {
            self.put_right(tenant, now).await?;
        }
        let there_until = planned.map(|until| until.min(now));
        let newest: BTreeMap<Key, Timestamp> = state
            .newest_dues(tenant)
            .await?
            .into_iter()
            .map(|(schedule, instance, due)| (Key { tenant: tenant.clone(), schedule, instance }, due))
            .collect();
        let passed = match there_until.and_then(|until| until.checked_sub(LOOK_BACK).ok()) {
            Some(since) => state.passed_since(tenant, since).await?,
            None => state.newest_passed(tenant).await?, // somebody else did what is followed
        };
        self.led.insert(tenant.clone(), Led { since: now, there_until, recorded: None });
        let recorded = Recorded { until: there_until, newest: &newest };
        self.plan.renew(tenant, &site, &recorded, now);
        self.streams.renew(tenant, &site);
        for RunRow { job, ended, .. } in passed {
            // What follows a run that ended by a clock that ran ahead was settled by that clock.
            let Some(ended) = ended.filter(|ended| !is_ahead(*ended)) else { continue };
            for (key, dues) in followers(&site, &job, ended) {
                let is_new =
                    newest.get(&key).is_none_or(|newest| dues.occurrences.iter().any(|next| next.due > *newest));
                if is_new {
                    self.settle(&key, &dues, now).await?;
                }
            }
        }
        Ok(())
    }

    /// The clock ran ahead, and was put right. What was settled meanwhile is yet to come: it is not settled.
    async fn set_back(&mut self, now: Timestamp) -> Result<()> {
        tracing::warn!(before = %self.turned, "the clock was set back: what was due while it ran ahead will be due again");
        let tenants: Vec<Tenant> = self.led.keys().cloned().collect();
        for tenant in &tenants {
            self.put_right(tenant, now).await?;
        }
        for led in self.led.values_mut() {
            (led.since, led.recorded) = (led.since.min(now), None);
        }
        self.plan.set_back(now);
        self.streams.wake_all(|_| true);
        Ok(())
    }

    /// What a clock that ran ahead left of a tenant counts as of now. Runs that wait need not wait any longer: by how much
    /// they are ahead cannot be told, and to begin one too early does no harm outside of blackouts.
    async fn put_right(&mut self, tenant: &Tenant, now: Timestamp) -> Result<()> {
        let is_late =
            |open: &Open| open.at > now && matches!(open.phase, Phase::Waits | Phase::Unclear { begun: false });
        let late = self.open.of(tenant).filter(|(_, open)| is_late(open));
        let begins = late.map(|(run, open)| {
            let begin = self.schedule_of(&open.job).map_or(now, |schedule| schedule.begin(now));
            (run, begin.min(open.at))
        });
        let begins: Vec<(RunId, Timestamp)> = begins.collect();
        self.daemon.state.set_back(tenant, now, begins.clone()).await?;
        for (run, at) in begins {
            if let Some(open) = self.open.get_mut(run) {
                open.at = at;
            }
        }
        Ok(())
    }

    /// Another daemon works for a tenant now, or nobody can tell: nothing of it goes on here.
    fn lose(&mut self, tenant: &Tenant, why: &str) {
        self.taken.retain(|taken| taken != tenant); // it was lost before it was begun with
        self.led.remove(tenant);
        self.plan.forget(tenant);
        self.streams.forget(tenant);
        let off = Off::Ours(format!("this daemon does not lead any more: {why}"));
        self.open.call_off(|open| open.job.tenant == *tenant, &off);
        let waits: Vec<RunId> =
            self.open.of(tenant).filter(|(_, open)| matches!(open.phase, Phase::Waits)).map(|(run, _)| run).collect();
        for run in waits {
            self.open.remove(run); // still in the state's queue, for whoever leads with it
        }
    }

    /// Queues or misses what is due by cron lines. Answers the keys of which it is not clear yet whether a run goes on.
    pub(super) async fn queue_due(&mut self, now: Timestamp) -> Result<BTreeSet<Key>> {
        let mut skipped = BTreeSet::new();
        for key in self.plan.due(now) {
            if self.open.is_unclear(&key) {
                skipped.insert(key);
                continue;
            }
            let Some(dues) = self.plan.dues(&key, now) else { continue };
            self.settle(&key, &dues, now).await?;
            self.plan.settle(&key, &dues, now);
        }
        Ok(skipped)
    }

    /// Records what becomes of what is due.
    pub(super) async fn settle(&mut self, key: &Key, dues: &Dues, now: Timestamp) -> Result<()> {
        let Some(led) = self.led.get(&key.tenant) else { return Ok(()) };
        for (Occurrence { due, at }, verdict) in plan::decide(dues, led.since, now, self.open.before(key)) {
            let because = Because::Schedule { schedule: key.schedule.clone(), due };
            let job = job(&key.tenant, key.instance.as_ref(), &dues.schedule.verb, because)?;
            match verdict {
                Verdict::Queue => drop(self.queue(job, 1, at).await?),
                Verdict::Miss(why) => {
                    self.daemon.state.missed(&job, &why, now).await?;
                    carry::span(&self.policies, &job)
                        .in_scope(|| tracing::warn!(because = %job.because, why, "missed"));
                    self.daemon.tell(Told::Changed { tenant: key.tenant.clone() });
                }
            }
        }
        Ok(())
    }

    /// The facts of an instance are looked up again.
    pub(super) fn look(&mut self, job: &Arc<Job>) {
        let (daemon, job) = (Arc::clone(&self.daemon), Arc::clone(job));
        self.looks.spawn(async move {
            if let Some(instance) = &job.instance {
                daemon.surroundings.past.changed(&daemon, &job.tenant, instance).await;
            }
        });
    }

    /// Puts a run into the queue. None: this try is known already.
    pub(super) async fn queue(&mut self, job: Job, attempt: u32, at: Timestamp) -> Result<Option<RunId>> {
        let (run, tenant) = (job.run, job.tenant.clone());
        if !self.daemon.state.queue(&job, attempt, at).await? {
            return Ok(None);
        }
        if self.led.contains_key(&tenant) {
            self.open.insert(Open { job: Arc::new(job), attempt, at, phase: Phase::Waits, reason: None });
        }
        self.daemon.tell(Told::Changed { tenant });
        Ok(Some(run))
    }

    /// Each stream that nobody carries, and that has rested, is queued.
    async fn queue_streams(&mut self, now: Timestamp) -> Result<()> {
        for (key, verb) in self.streams.wanted(now, |key| self.open.before(key).is_some()) {
            let because = Because::Schedule { schedule: key.schedule.clone(), due: now };
            let job = job(&key.tenant, key.instance.as_ref(), &verb, because)?;
            self.queue(job, 1, now).await?;
            self.streams.begun(&key, now);
        }
        Ok(())
    }

    /// Begins what may begin, and says of the rest why it waits.
    async fn begin(&mut self, now: Timestamp) -> Result<()> {
        let policies = Arc::clone(&self.policies);
        let budget = &policies.settings.budget;
        let is_ready = |open: &Open| matches!(open.phase, Phase::Waits) && open.at <= now;
        let mut waiting: Vec<(RunId, &Open)> = self.open.iter().filter(|(_, open)| is_ready(open)).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        waiting
            .sort_by_cached_key(|(run, open)| (is_of_schedule(&open.job), rank(&policies, &open.job), open.at, *run));
        let waiting: Vec<(RunId, &Job)> = waiting.into_iter().map(|(run, open)| (run, &*open.job)).collect();
        let going = self
            .open
            .iter()
            .filter(|(_, open)| matches!(open.phase, Phase::Runs { .. } | Phase::Unclear { begun: true }));
        let going: Vec<&Job> = going.map(|(_, open)| &*open.job).collect();
        let (begin, wait) = overlap::pick(&waiting, &going, budget);
        for run in begin {
            let Some(open) = self.open.get_mut(run) else { continue };
            let Some(how) = carry::how(&policies, &open.job) else { continue };
            self.daemon.state.begun(run, now).await?;
            let cancel = CancellationToken::new();
            open.phase = Phase::Runs { cancel: cancel.clone(), off: None };
            let (daemon, job) = (Arc::clone(&self.daemon), Arc::clone(&open.job));
            self.daemon.tell(Told::Changed { tenant: job.tenant.clone() });
            self.runs.spawn(carry::carry(daemon, job, how, cancel, self.news.clone()));
        }
        for (run, why) in wait {
            if let Some(open) = self.open.get_mut(run)
                && open.reason.as_ref() != Some(&why)
            {
                self.daemon.state.waiting(run, Some(&why)).await?;
                open.reason = Some(why);
                self.daemon.tell(Told::Changed { tenant: open.job.tenant.clone() });
            }
        }
        Ok(())
    }

    /// Lets runs finish for a while, calls off what is left, and records how each ended.
    async fn end(mut self, heard: &mut mpsc::Receiver<News>) {
        self.is_ending = true;
        let grace = self.policies.settings.stop_grace;
        let off = Off::Ours("the daemon was stopped".to_owned());
        tracing::info!(runs = self.running(), "stopping: nothing new is begun, runs may finish within {grace:?}");
        self.open.call_off(|open| open.job.verb == Verb::Stream, &off);
        let (call_off, leave) = (Instant::now() + grace, Instant::now() + grace + TEARS_DOWN);
        let mut is_called_off = false;
        while self.running() > 0 {
            let deadline = if is_called_off { leave } else { call_off };
            tokio::select! {
                Some(news) = heard.recv() => self.hear(news),
                () = tokio::time::sleep_until(deadline) => {
                    if is_called_off {
                        tracing::error!(runs = self.running(), "these runs do not end: they are left to notice by themselves");
                        break;
                    }
                    is_called_off = true;
                    self.open.call_off(|_| true, &off);
                }
            }
            drop(self.turn_or_say().await);
        }
        drop(self.turn_or_say().await);
        self.leads.values().for_each(CancellationToken::cancel);
        let given_back = async { while self.holds.join_next().await.is_some() {} };
        if timeout(GIVES_BACK, given_back).await.is_err() {
            tracing::warn!("a lead could not be given back in time: another daemon takes it over when it has run out");
        }
    }

    fn running(&self) -> usize {
        self.open.iter().filter(|(_, open)| matches!(open.phase, Phase::Runs { .. })).count()
    }

    /// Up to when everything that was due is recorded. Not while something is still unclear: after a kill it would be taken
    /// for recorded.
    async fn record(&mut self, now: Timestamp, skipped: &BTreeSet<Key>) -> Result<()> {
        for (tenant, led) in &mut self.led {
            let is_new = led.recorded.is_none_or(|last| now.duration_since(last) >= RECORD || self.is_ending);
            let is_clear = !skipped.iter().any(|key| key.tenant == *tenant) && self.plan.due_of(tenant, now).is_none();
            if is_new && is_clear {
                self.daemon.state.set_planned_until(tenant, now).await?;
                led.recorded = Some(now);
            }
        }
        Ok(())
    }
}

/// A run of a key, with an id of its own.
pub(super) fn job(tenant: &Tenant, instance: Option<&Instance>, verb: &Verb, because: Because) -> Result<Job> {
    let run = lifeboat_engine::record::new_run()?;
    Ok(Job { run, tenant: tenant.clone(), instance: instance.cloned(), verb: verb.clone(), because })
}

/// What follows a run that passed at this time.
pub(super) fn followers(site: &Site, job: &Job, passed: Timestamp) -> Vec<(Key, Dues)> {
    let Because::Schedule { schedule: before, .. } = &job.because else { return Vec::new() };
    let follows = |schedule: &&Schedule| matches!(&schedule.when, When::After { schedule, .. } if schedule == before);
    let all = site.schedules.iter().filter(follows);
    let of_instance = all.filter(|schedule| schedule.has(&site.config, job.instance.as_ref()));
    let due = of_instance.filter_map(|schedule| {
        let next = schedule.follows(job.instance.as_ref(), passed)?;
        let key = Key { tenant: job.tenant.clone(), schedule: schedule.name.clone(), instance: job.instance.clone() };
        Some((key, Dues { schedule: Arc::new(schedule.clone()), occurrences: vec![next], untold: 0 }))
    });
    due.collect()
}

/// People wait for what they asked for; schedules do not.
fn is_of_schedule(job: &Job) -> bool {
    matches!(job.because, Because::Schedule { .. })
}

/// The place of the instance's tier in the order in which tiers are served.
fn rank(policies: &Policies, job: &Job) -> usize {
    let order = &policies.settings.budget.priority;
    let config = policies.sites.get(&job.tenant).map(|site| &site.config);
    let tier =
        config.zip(job.instance.as_ref()).and_then(|(config, name)| config.instances.get(name)).map(|it| &it.tier);
    tier.and_then(|tier| order.iter().position(|known| known == tier)).unwrap_or(order.len())
}
