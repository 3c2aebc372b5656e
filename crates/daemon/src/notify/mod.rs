//! Tells people what is wrong, by its consequence and with the time that is left; and says so when it cannot.
//!
//! [`condition`] (what is so, and what it means) → [`memory`] (who knows of it already) → [`route`] (whom it concerns) →
//! [`post`] (what waits, and what may be sent now) → [`channel`] (how it gets there). All but the last are plain functions of
//! what they are given. What [`Memory`] knows is on the disk before anything is sent: after a `kill -9` a message may be sent
//! twice, with the same id, and none is lost.

mod channel;
mod condition;
mod dead_man;
mod memory;
mod post;
mod render;
mod route;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::status::Facts;
use lifeboat_model::id::Instance;
use tokio::{
    sync::broadcast,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

pub use channel::Failure;
pub use condition::{BadRun, Condition, Seen, Watched, conditions};
pub use memory::{Memory, What};
pub use post::{Message, Notice, Outgoing};

use self::channel::{Http, Means};
use crate::{
    daemon::{Daemon, Environment, Told},
    policies::Policies,
    settings::{Channel, DeadMan, Notify},
    view::{self, Trouble},
};

/// It looks at least so often, because time alone makes things worse.
const LOOK: SignedDuration = SignedDuration::from_secs(20);
/// It looks at most so often, however much happens,
const APART: SignedDuration = SignedDuration::from_secs(3);
/// and more seldom by so much for each instance: with a thousand of them, something happens all the time.
const APART_FOR_EACH: SignedDuration = SignedDuration::from_millis(7);
/// Between two turns.
const TURN: SignedDuration = SignedDuration::from_secs(2);
/// What is on its way when the daemon ends has so long to get there.
const LAST: Duration = Duration::from_secs(3);

/// Tells people until it is cancelled. What could not be told then is told after the next start.
pub async fn run(daemon: Arc<Daemon>, cancel: CancellationToken) {
    let http = match Http::new() {
        Ok(http) => http,
        Err(error) => {
            tracing::error!(%error, "nobody can be notified");
            daemon.troubles.begin(trouble(&daemon, "channels", error.to_string()));
            cancel.cancelled().await;
            return;
        }
    };
    let mut told = daemon.told.subscribe();
    let mut teller = Teller::new(Arc::clone(&daemon), http).await;
    let mut wake = daemon.now() + TURN;
    loop {
        // What happens does not put the next turn off, and neither does a clock that was set back.
        wake = wake.min(daemon.now() + TURN);
        tokio::select! {
            () = cancel.cancelled() => break,
            () = daemon.surroundings.time.sleep_until(wake) => {}
            happened = told.recv() => match happened {
                Ok(Told::Changed { .. }) | Err(broadcast::error::RecvError::Lagged(_)) => teller.is_stale = true,
                Ok(Told::Event { .. }) if daemon.now() < wake => continue,
                Ok(Told::Event { .. }) => {}
                Err(broadcast::error::RecvError::Closed) => break,
            },
            Some(sent) = teller.sending.join_next() => match sent {
                Ok(sent) => teller.take(sent).await,
                Err(error) => teller.drop_task(&error),
            },
        }
        teller.turn().await;
        wake = daemon.now() + TURN;
    }
    let last = async {
        while let Some(sent) = teller.sending.join_next().await {
            if let Ok(sent) = sent {
                teller.take(sent).await;
            }
        }
    };
    // Whatever is not through by then is tried again after the start: the rows say so.
    let _ = tokio::time::timeout(LAST, last).await;
}

/// Sends one message that only shows that messages get there, past everything that waits.
///
/// # Errors
/// Why it did not get there.
pub async fn test(
    channel: &Channel,
    public_url: Option<url::Url>,
    environment: Environment,
    who: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let means = Means { http: Http::new()?, environment, public_url };
    channel::send(&channel.kind, &Message::test(new_id(), now, who), now, &means).await
}

/// Sends what somebody has to say over one channel, past the daemon, its limits and what waits there.
///
/// # Errors
/// Why it did not get there.
pub async fn say(
    channel: &Channel,
    public_url: Option<url::Url>,
    environment: Environment,
    (subject, text): (&str, &str),
    now: Timestamp,
) -> Result<(), Failure> {
    let means = Means { http: Http::new()?, environment, public_url };
    channel::send(&channel.kind, &Message::said(new_id(), now, subject, text), now, &means).await
}

/// What became of something that was sent.
enum Sent {
    Message { id: String, channel: String, answer: Result<(), Failure> },
    Ping(Result<(), Failure>),
}

struct Teller {
    daemon: Arc<Daemon>,
    http: Http,
    memory: Memory,
    /// As on the disk.
    kept: BTreeMap<String, String>,
    /// Whether nothing in memory has changed since.
    is_kept: bool,
    sending: JoinSet<Sent>,
    busy: BTreeMap<String, AbortHandle>,
    is_stale: bool,
    looked: Option<Timestamp>,
    pinged: Option<Timestamp>,
    is_pinging: bool,
}

impl Teller {
    async fn new(daemon: Arc<Daemon>, http: Http) -> Teller {
        let kept: BTreeMap<_, _> = match daemon.state.conditions().await {
            Ok(rows) => rows.into_iter().collect(),
            Err(error) => {
                tracing::error!(%error, "what people were told is not known: they may be told again");
                BTreeMap::new()
            }
        };
        let memory = Memory::from_rows(kept.clone());
        Teller {
            daemon,
            http,
            memory,
            kept,
            is_kept: false,
            sending: JoinSet::new(),
            busy: BTreeMap::new(),
            is_stale: true,
            looked: None,
            pinged: None,
            is_pinging: false,
        }
    }

    async fn turn(&mut self) {
        let now = self.daemon.now();
        let policies = self.daemon.policies();
        // A look ahead of now was by a clock that ran ahead.
        let since = self.looked.filter(|looked| *looked <= now).map(|looked| now.duration_since(looked));
        if since.is_none_or(|since| since >= LOOK || (self.is_stale && since >= apart(&policies))) {
            self.look(&policies, now).await;
        }
        let notify = &policies.settings.notify;
        if self.memory.compose(notify, now, new_id) {
            self.is_kept = false;
        }
        // Nothing is sent that is not kept: it could be forgotten that it was.
        if self.keep().await {
            self.send(&policies, now);
        }
        if let Some(dead_man) = &notify.dead_man {
            self.ping(dead_man, &policies, now).await;
        }
    }

    /// How things are, and who should know.
    async fn look(&mut self, policies: &Policies, now: Timestamp) {
        (self.is_stale, self.is_kept) = (false, false);
        self.looked = Some(now);
        let runs: Vec<_> = match self.daemon.state.bad_runs(now).await {
            Ok(runs) => runs.into_iter().filter(|run| is_configured(policies, run)).collect(),
            Err(error) => return tracing::warn!(%error, "nobody can be told of runs: the state does not answer"),
        };
        let troubles = self.daemon.troubles.all();
        let facts = self.facts(policies, now);
        let watched: Vec<_> = facts.iter().map(Fact::watched).collect();
        let seen = conditions(&watched, &runs, &troubles, now);
        let unheard = self.memory.see(&seen, &policies.settings.notify, now);
        match unheard.len() {
            0 => self.daemon.troubles.end(None, "routes"),
            count => {
                let text = format!("{count} conditions reach nobody: every channel is kept for other tenants");
                self.daemon.troubles.begin(trouble(&self.daemon, "routes", text));
            }
        }
        self.tell_of_channels(&policies.settings.notify);
    }

    fn facts(&self, policies: &Policies, now: Timestamp) -> Vec<Fact> {
        let mut all = Vec::new();
        for (tenant, site) in &policies.sites {
            for (name, instance) in &site.config.instances {
                all.push(Fact {
                    tenant: tenant.to_string(),
                    instance: name.to_string(),
                    tier: instance.tier.to_string(),
                    owner: instance.owner.clone(),
                    facts: view::facts_now(&self.daemon, tenant, name, now),
                });
            }
        }
        all
    }

    /// Channels that do not work are a trouble of the daemon.
    fn tell_of_channels(&self, notify: &Notify) {
        let failing = self.memory.failing();
        for channel in &notify.channels {
            let of = format!("channel {}", channel.name);
            match failing.get(&channel.name) {
                Some((since, why)) => self.daemon.troubles.begin(Trouble {
                    tenant: None,
                    of,
                    since: *since,
                    text: why.clone(),
                    next: Some(format!("lifeboat notify test {}", channel.name)),
                }),
                None => self.daemon.troubles.end(None, &of),
            }
        }
        let is_there = |name: &str| notify.channels.iter().any(|channel| channel.name == name);
        for trouble in self.daemon.troubles.all() {
            if trouble.of.strip_prefix("channel ").is_some_and(|name| !is_there(name)) {
                self.daemon.troubles.end(None, &trouble.of);
            }
        }
    }

    /// Brings the rows up to date. False: they are not, and nothing may be sent.
    async fn keep(&mut self) -> bool {
        if self.is_kept {
            return true;
        }
        let rows = self.memory.rows();
        let changed = rows.iter().filter(|(key, value)| self.kept.get(*key) != Some(value));
        let put: Vec<_> = changed.map(|(key, value)| (key.clone(), value.clone())).collect();
        let gone: Vec<_> = self.kept.keys().filter(|key| !rows.contains_key(*key)).cloned().collect();
        if put.is_empty() && gone.is_empty() {
            self.is_kept = true;
            return true;
        }
        match self.daemon.state.keep_conditions(put, gone).await {
            Ok(()) => {
                (self.kept, self.is_kept) = (rows, true);
                self.daemon.troubles.end(None, "state of notifications");
                true
            }
            Err(error) => {
                self.daemon.troubles.begin(trouble(&self.daemon, "state of notifications", error.to_string()));
                false
            }
        }
    }

    fn send(&mut self, policies: &Policies, now: Timestamp) {
        let busy: BTreeSet<_> = self.busy.keys().cloned().collect();
        for Outgoing { channel: name, message, .. } in self.memory.due(&busy, now) {
            let Some(channel) = policies.settings.notify.channels.iter().find(|channel| channel.name == name) else {
                continue;
            };
            let (kind, means) = (channel.kind.clone(), self.means(policies));
            let (id, channel) = (message.id.clone(), name.clone());
            let handle = self.sending.spawn(async move {
                let answer = channel::send(&kind, &message, now, &means).await;
                Sent::Message { id, channel, answer }
            });
            self.busy.insert(name, handle);
        }
    }

    /// A task that died answered nothing: its message is tried again.
    fn drop_task(&mut self, error: &tokio::task::JoinError) {
        tracing::error!(%error, "a notification was not sent");
        self.busy.retain(|_, handle| handle.id() != error.id());
        self.is_pinging = false;
    }

    async fn take(&mut self, sent: Sent) {
        let now = self.daemon.now();
        let (id, channel, answer) = match sent {
            Sent::Message { id, channel, answer } => (id, channel, answer),
            Sent::Ping(answer) => {
                self.is_pinging = false;
                match answer {
                    Ok(()) => self.daemon.troubles.end(None, "dead man's switch"),
                    Err(error) => {
                        self.daemon.troubles.begin(trouble(&self.daemon, "dead man's switch", error.to_string()));
                    }
                }
                return;
            }
        };
        self.busy.remove(&channel);
        self.is_kept = false;
        let result = match answer {
            Ok(()) => {
                self.memory.delivered(&id);
                tracing::info!(channel, message = id, "notified");
                "delivered"
            }
            Err(error) => {
                let given_up = self.memory.failed(&id, &error.to_string(), now);
                tracing::warn!(channel, message = id, %error, given_up, "a notification did not get there");
                if given_up { "given-up" } else { "failed" }
            }
        };
        if let Err(error) = self.daemon.state.count_notice(&channel, result).await {
            tracing::debug!(%error, "a notification is not counted");
        }
        self.tell_of_channels(&self.daemon.policies().settings.notify);
        self.keep().await;
    }

    async fn ping(&mut self, dead_man: &DeadMan, policies: &Policies, now: Timestamp) {
        let every = SignedDuration::try_from(dead_man.every).unwrap_or(LOOK);
        let is_recent = |pinged: Timestamp| pinged <= now && now.duration_since(pinged) < every;
        if self.is_pinging || self.pinged.is_some_and(is_recent) {
            return;
        }
        self.pinged = Some(now);
        if let Some(why) = dead_man::unwell(&self.daemon, &self.memory, now).await {
            tracing::warn!(why, "the dead man's switch is not pinged");
            return;
        }
        self.is_pinging = true;
        let (dead_man, means) = (dead_man.clone(), self.means(policies));
        self.sending.spawn(async move { Sent::Ping(dead_man::ping(&dead_man, &means).await) });
    }

    fn means(&self, policies: &Policies) -> Means {
        Means {
            http: self.http.clone(),
            environment: Arc::clone(&self.daemon.surroundings.environment),
            public_url: policies.settings.public_url.clone(),
        }
    }
}

/// Whether a run's schedule is still there, and still for its instance: what is gone is wanted by nobody.
fn is_configured(policies: &Policies, run: &BadRun) -> bool {
    let site = policies.sites.iter().find(|(tenant, _)| tenant.as_str() == run.tenant).map(|(_, site)| site);
    let instance = run.instance.as_ref().map(|name| name.parse::<Instance>()).transpose();
    let (Some(site), Ok(instance)) = (site, instance) else { return false };
    site.schedules.iter().any(|schedule| {
        schedule.name == run.schedule
            && schedule.verb.word() == run.verb
            && schedule.has(&site.config, instance.as_ref())
    })
}

/// Between two looks.
fn apart(policies: &Policies) -> SignedDuration {
    let instances: usize = policies.sites.values().map(|site| site.config.instances.len()).sum();
    (APART + APART_FOR_EACH * i32::try_from(instances).unwrap_or(i32::MAX)).min(LOOK)
}

/// What [`Watched`] borrows from.
struct Fact {
    tenant: String,
    instance: String,
    tier: String,
    owner: Option<String>,
    facts: Option<Arc<Facts>>,
}

impl Fact {
    fn watched(&self) -> Watched<'_> {
        Watched {
            tenant: &self.tenant,
            instance: &self.instance,
            tier: &self.tier,
            owner: self.owner.as_deref(),
            facts: self.facts.as_deref(),
        }
    }
}

fn trouble(daemon: &Daemon, of: &str, text: String) -> Trouble {
    Trouble {
        tenant: None,
        of: of.to_owned(),
        since: daemon.now(),
        text,
        next: Some("lifeboat notify test".to_owned()),
    }
}

/// Unlike any other, also after the state was wiped.
fn new_id() -> String {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).expect("the system has randomness once it has started");
    format!("lb-{}", hex::encode(bytes))
}
