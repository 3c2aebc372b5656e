//! The tasks beside the dispatcher: one run that goes on, one that an earlier daemon left behind, one tenant's lead.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use jiff::Timestamp;
use lifeboat_model::{
    check::Outcome,
    config::LimitsConfig,
    id::{RunId, Tenant},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    lead::{Claim, Held},
    ledger,
};
use crate::{
    Daemon,
    daemon::Told,
    error::with_causes,
    job::{Job, RunOutcome, Verb},
    policies::Policies,
    runner::{Ended, How, RunEvent},
    view::{EventView, Trouble},
};

/// Events of a run that may wait to be kept.
const EVENTS: usize = 256;
/// How often the lead is asked for while another daemon has it, and what failed is asked again.
const AGAIN: Duration = Duration::from_secs(5);
/// How often a process that winds up is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Longer than this nothing winds up by itself.
const WINDS_UP: Duration = Duration::from_secs(300);

/// How long the ledger is waited for with what a run did. Then the run is over without it.
const KEEPS: Duration = Duration::from_secs(60);

/// What the tasks tell the dispatcher.
pub(super) enum News {
    /// A run is over.
    Ended(RunId, Ended),
    /// What became of a run of an earlier daemon; none: it did not come to an end.
    Cleared(RunId, Option<Ended>),
    /// This daemon works for the tenant now, and its past is in the state.
    Led(Tenant),
    /// It does not any more.
    Lost(Tenant, String),
}

/// What a runner needs beside the job; none: the tenant is no longer configured.
pub(super) fn how(policies: &Policies, job: &Job) -> Option<How> {
    Some(How {
        config_file: policies.sites.get(&job.tenant)?.config_file.clone(),
        nice: policies.settings.budget.nice,
        limits: limits(policies, &job.verb),
        alive_file: policies.settings.state_dir.join("runs").join(format!("{}.lock", job.run)),
    })
}

/// A run's part of the line. A stream is not held back: what it has not stored is what would be lost.
fn limits(policies: &Policies, verb: &Verb) -> LimitsConfig {
    if *verb == Verb::Stream {
        return LimitsConfig::default();
    }
    let mut schedules = policies.sites.values().flat_map(|site| &site.schedules);
    policies.settings.budget.share(schedules.any(|schedule| schedule.verb == Verb::Stream))
}

/// The fields that every line of a run's log has.
pub(super) fn span(policies: &Policies, job: &Job) -> tracing::Span {
    let of = job.instance.as_ref();
    let config = of.and_then(|instance| policies.sites.get(&job.tenant)?.config.instances.get(instance));
    tracing::info_span!(
        "run",
        tenant = %job.tenant,
        instance = of.map(tracing::field::display),
        tier = config.map(|config| tracing::field::display(&config.tier)),
        data_class = config.map(|config| config.data_class.as_str()),
        run = %job.run,
        verb = job.verb.word(),
    )
}

/// Carries out one run and keeps what it tells.
pub(super) async fn carry(
    daemon: Arc<Daemon>,
    job: Arc<Job>,
    how: How,
    cancel: CancellationToken,
    news: mpsc::Sender<News>,
) {
    let span = span(&daemon.policies(), &job);
    let started = daemon.now();
    let ended = async {
        tracing::info!(because = %job.because, "begun");
        let carried = AssertUnwindSafe(told(&daemon, &job, &how, cancel)).catch_unwind().await;
        let ended = carried.unwrap_or_else(|_| Ended {
            outcome: RunOutcome::Failed,
            exit: None,
            answer: None,
            reason: Some("the daemon itself failed while it carried the run out; its log says where".to_owned()),
            is_transient: false,
        });
        let reason = ended.reason.as_deref().and_then(|reason| reason.lines().next());
        match ended.outcome {
            RunOutcome::Passed => tracing::info!("passed"),
            RunOutcome::Interrupted => tracing::info!(reason, "interrupted"),
            outcome => tracing::warn!(reason, exit = ended.exit, "{}", outcome.word()),
        }
        if let Some(outcome) = untold(&job.verb, &ended) {
            let told = AssertUnwindSafe(tell_ledger(&daemon, &job, outcome, started)).catch_unwind().await;
            if told.is_err() {
                tracing::error!("the daemon itself failed while it told the ledger: a lost state forgets this run");
            }
        }
        ended
    };
    let ended = ended.instrument(span).await;
    let _ = news.send(News::Ended(job.run, ended)).await; // an error: the dispatcher has ended as well
}

/// How a run came to its end, where its command leaves no statement that says so.
fn untold(verb: &Verb, ended: &Ended) -> Option<Outcome> {
    match (verb, ended.outcome) {
        (Verb::Audit | Verb::Report { .. }, RunOutcome::Passed) => Some(Outcome::Passed),
        (Verb::Audit | Verb::Report { .. }, RunOutcome::Incomplete) => Some(Outcome::Incomplete),
        (Verb::Audit | Verb::Report { .. }, RunOutcome::Failed) if !ended.is_transient => Some(Outcome::Failed),
        _ => None,
    }
}

/// Before the run counts as over: so that one that nobody saw end is found, and one of a lost state is known.
async fn tell_ledger(daemon: &Daemon, job: &Job, outcome: Outcome, started: Timestamp) {
    let kept = tokio::time::timeout(KEEPS, daemon.surroundings.past.keep_run(daemon, job, outcome, started)).await;
    let why = match kept {
        Ok(Ok(())) => return,
        Ok(Err(error)) => with_causes(&error),
        Err(_) => format!("no answer within {} s", KEEPS.as_secs()),
    };
    tracing::warn!("the ledger does not tell of this run, so a lost state forgets it: {why}");
}

async fn told(daemon: &Daemon, job: &Job, how: &How, cancel: CancellationToken) -> Ended {
    let (sender, mut receiver) = mpsc::channel(EVENTS);
    let mut run = std::pin::pin!(daemon.surroundings.runner.run(job, how, sender, cancel));
    let ended = loop {
        tokio::select! {
            biased;
            Some(event) = receiver.recv() => keep(daemon, job, event).await,
            ended = &mut run => break ended,
        }
    };
    receiver.close();
    while let Some(event) = receiver.recv().await {
        keep(daemon, job, event).await;
    }
    ended
}

async fn keep(daemon: &Daemon, job: &Job, event: RunEvent) {
    if let (RunEvent::Wal { .. }, Some(instance)) = (&event, &job.instance) {
        daemon.troubles.end(Some(job.tenant.as_str()), &stream_trouble(instance.as_str()));
    }
    let at = daemon.now();
    match daemon.state.event(job.run, at, &event).await {
        Ok(number) => {
            let event = Arc::new(EventView { run: job.run.to_string(), number, at, event });
            daemon.tell(Told::Event { tenant: job.tenant.clone(), event });
        }
        Err(error) => tracing::debug!(error = %with_causes(&error), "an event could not be kept"),
    }
}

/// What the trouble of a stream that does not go on is called, before its instance.
pub(super) const STREAM: &str = "stream ";

/// The same with it.
pub(super) fn stream_trouble(instance: &str) -> String {
    format!("{STREAM}{instance}")
}

/// Finds out what became of a run of an earlier daemon. Its process has noticed that the daemon is gone, and winds up: only
/// when it has gone, what it left in evidence is all that it did.
pub(super) async fn clear(daemon: Arc<Daemon>, job: Arc<Job>, begun: bool, news: mpsc::Sender<News>) {
    while let Err(_panic) = AssertUnwindSafe(find_out(&daemon, &job, begun, &news)).catch_unwind().await {
        tracing::error!(run = %job.run, "the daemon itself failed while it found out what became of a run, trying again");
        tokio::time::sleep(AGAIN).await;
    }
}

async fn find_out(daemon: &Daemon, job: &Job, begun: bool, news: &mpsc::Sender<News>) {
    let trouble = format!("run {}", job.run);
    let since = Instant::now();
    while begun
        && let Some(how) = how(&daemon.policies(), job)
        && daemon.surroundings.runner.is_alive(job, &how).await
    {
        if since.elapsed() > WINDS_UP {
            daemon.troubles.begin(Trouble {
                tenant: Some(job.tenant.to_string()),
                of: trouble.clone(),
                since: daemon.now(),
                text: format!("the {} of an earlier daemon, run {}, does not end", job.verb.word(), job.run),
                next: Some("look at its process, and end it with kill if it hangs".to_owned()),
            });
        }
        tokio::time::sleep(LOOK).await;
    }
    let happened = loop {
        if job.verb == Verb::Stream {
            break None;
        }
        match daemon.surroundings.past.happened(daemon, job).await {
            Ok(happened) => break happened,
            Err(error) => {
                tracing::info!(run = %job.run, error = %with_causes(&error), "what became of a run cannot be found out now");
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    daemon.troubles.end(Some(job.tenant.as_str()), &trouble);
    // A run that was cut off says so itself: it is no answer, and is tried again.
    let happened = happened.filter(|ended| !matches!(ended.outcome, RunOutcome::Incomplete | RunOutcome::Interrupted));
    let _ = news.send(News::Cleared(job.run, happened)).await;
}

/// Sees to it that this daemon leads for a tenant as soon as no other does, and tells when that changes. Should that itself
/// fail, the lead goes with it: nothing may go on, and it is begun again.
pub(super) async fn hold(daemon: Arc<Daemon>, tenant: Tenant, news: mpsc::Sender<News>, cancel: CancellationToken) {
    while let Err(_panic) = AssertUnwindSafe(follow(&daemon, &tenant, &news, &cancel)).catch_unwind().await {
        let why = "the daemon itself failed while it led, its log says where";
        tracing::error!(%tenant, "{why}");
        let text = format!("nothing is begun for {tenant}, as the lead is lost: {why}");
        trouble(&daemon, &tenant, LEAD, text, "look at the daemon's log, and report this");
        let _ = news.send(News::Lost(tenant.clone(), why.to_owned())).await;
        cancel.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
    }
    end_troubles(&daemon, &tenant);
}

async fn follow(daemon: &Arc<Daemon>, tenant: &Tenant, news: &mpsc::Sender<News>, cancel: &CancellationToken) {
    while !cancel.is_cancelled() {
        match daemon.surroundings.lead.claim(daemon, tenant, cancel).await {
            Ok(Claim::Ours(held)) => {
                daemon.troubles.end(Some(tenant.as_str()), LEADER);
                work(daemon, tenant, held, news, cancel).await;
            }
            Ok(Claim::Theirs { who }) => {
                let text = format!("another daemon works for {tenant}: {who}; this one takes over when it is gone");
                let next = "none, if that is meant so; else stop one of the two";
                trouble(daemon, tenant, LEADER, text, next);
            }
            Err(error) => {
                let text = format!("cannot tell whether another daemon works for {tenant}: {}", with_causes(&error));
                trouble(daemon, tenant, LEAD, text, "lifeboat repo check");
            }
        }
        cancel.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
    }
}

/// Another daemon works for the tenant: it tells people, not this one. Never beside [`LEAD`], which nobody would hear of.
const LEADER: &str = "leader";
/// Nobody may work for the tenant, as far as is known here: that is for people to know.
const LEAD: &str = "lead";

fn end_troubles(daemon: &Daemon, tenant: &Tenant) {
    for of in [LEADER, LEAD] {
        daemon.troubles.end(Some(tenant.as_str()), of);
    }
}

/// Begins one of the two, and ends the other.
fn trouble(daemon: &Daemon, tenant: &Tenant, of: &str, text: String, next: &str) {
    let all = daemon.troubles.all();
    let mut known = all.iter().filter(|known| known.of == of && known.tenant.as_deref() == Some(tenant.as_str()));
    // Each try of a store that does not answer fails with other words.
    if !known.any(|known| of == LEAD || known.text == text) {
        tracing::warn!(%tenant, next, "{text}");
    }
    daemon.troubles.begin(Trouble {
        tenant: Some(tenant.to_string()),
        of: of.to_owned(),
        since: daemon.now(),
        text,
        next: Some(next.to_owned()),
    });
    daemon.troubles.end(Some(tenant.as_str()), if of == LEAD { LEADER } else { LEAD });
}

/// Leads until that is lost, or no longer wanted.
async fn work(
    daemon: &Arc<Daemon>,
    tenant: &Tenant,
    held: Box<dyn Held>,
    news: &mpsc::Sender<News>,
    cancel: &CancellationToken,
) {
    let leads = async {
        while let Err(error) = daemon.surroundings.past.recall(daemon, tenant).await {
            let text =
                format!("nothing is begun for {tenant}, as its evidence cannot be read: {}", with_causes(&error));
            trouble(daemon, tenant, LEAD, text, "lifeboat evidence verify");
            tokio::time::sleep(AGAIN).await;
        }
        end_troubles(daemon, tenant);
        tracing::info!(%tenant, "this daemon works for the tenant now");
        let _ = news.send(News::Led(tenant.clone())).await;
        keep_policies(daemon, tenant).await;
    };
    tokio::select! {
        () = leads => {}
        why = held.lost() => {
            let text = format!("nothing is begun for {tenant}, as the lead is lost: {why}");
            trouble(daemon, tenant, LEAD, text, "none: it is taken again when it is free");
            let _ = news.send(News::Lost(tenant.clone(), why)).await;
        }
        () = cancel.cancelled() => held.give_back().await,
    }
}

/// Has the ledger say which policies count, from the beginning of the lead and whenever they change.
async fn keep_policies(daemon: &Daemon, tenant: &Tenant) {
    let mut changes = daemon.policies.subscribe();
    let mut kept: Option<Arc<Policies>> = None;
    loop {
        let policies = Arc::clone(&changes.borrow_and_update());
        if let Some(act) = ledger::policy(kept.as_deref(), &policies, tenant) {
            while let Err(error) = daemon.surroundings.past.keep_policy(daemon, tenant, act.clone()).await {
                tracing::info!(%tenant, error = %with_causes(&error), "the policies cannot be recorded in the ledger now");
                tokio::time::sleep(AGAIN).await;
            }
        }
        kept = Some(policies);
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::size::ByteRate;

    use super::*;
    use crate::testing::CONFIG;

    const BACKUP: &str = "[schedule.backup]\ndo = \"backup\"\ntiers = [\"gold\"]\ncron = \"@daily\"\n";
    const STREAM: &str = "[schedule.stream]\ndo = \"stream\"\ntiers = [\"gold\"]\n";

    fn read(budget: &str, schedules: &str) -> crate::Result<Policies> {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::create_dir(folder.path().join("schedules")).unwrap();
        write("lifeboat.toml", CONFIG);
        write("schedules/gold.toml", schedules);
        write("daemon.toml", &format!("state_dir = \"state\"\n[budget]\n{budget}"));
        crate::policies::read(&crate::Sources { settings: Some(folder.path().join("daemon.toml")), config: None })
    }

    /// What a run may send and fetch, in MiB a second.
    fn given(policies: &Policies, verb: Verb) -> (Option<u64>, Option<u64>) {
        let because = crate::job::Because::Schedule { schedule: "gold".into(), due: Timestamp::UNIX_EPOCH };
        let (tenant, instance) = ("acme".parse().unwrap(), Some("clinic".parse().unwrap()));
        let job = Job { run: RunId([1; 8]), tenant, instance, verb, because };
        let LimitsConfig { upload, download } = how(policies, &job).unwrap().limits;
        let whole = |rate: ByteRate| rate.bytes() >> 20;
        (upload.map(whole), download.map(whole))
    }

    #[test]
    fn a_run_is_given_its_share_of_the_line_and_a_stream_all_of_it() {
        let budget = "runs = 4\nupload = \"40 MiB/s\"\ndownload = \"80 MiB/s\"\n";
        let policies = read(budget, BACKUP).unwrap();
        assert_eq!(given(&policies, Verb::Backup), (Some(10), Some(20)));
        let policies = read(budget, &format!("{BACKUP}{STREAM}")).unwrap();
        assert_eq!(given(&policies, Verb::Backup), (Some(8), Some(16)), "a fifth is left to streams");
        assert_eq!(given(&policies, Verb::Stream), (None, None));
        let policies = read("runs = 4\nupload = \"40 MiB/s\"\n", BACKUP).unwrap();
        assert_eq!(given(&policies, Verb::Prune), (Some(10), None));
        for (budget, says) in [
            ("runs = 100\nupload = \"5 MiB/s\"\n", "leaves less than 64 KiB/s for each of 100 runs"),
            ("upload = \"fast\"\n", "is not a rate"),
        ] {
            let Err(crate::Error::Unusable { problems, .. }) = read(budget, BACKUP) else {
                panic!("{budget} is taken")
            };
            let told = problems.join("\n");
            assert!(told.contains("budget.upload") && told.contains(says), "{told}");
        }
    }
}
