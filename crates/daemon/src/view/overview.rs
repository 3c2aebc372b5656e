//! All instances, a line each. Made from memory: a thousand of them are asked for every few seconds by each who looks.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::status::{Facts, Judgement, State, judge};
use lifeboat_model::{
    config::InstanceConfig,
    id::{Instance, Tenant},
};

use super::{Counts, Line, Mark, Overview, RunLine, Stretch, Timeline, Trouble, schedules};
use crate::{
    Result,
    daemon::{Daemon, Scope},
    job::RunOutcome,
    policies::Site,
    state::{
        RunRow,
        board::{Known, Live, MOST_MARKS, MarkRow, TIMELINE},
    },
};

/// Marks of all timelines together; of many instances each has fewer, and of those that fall together the worst.
const MARKS: usize = 24_000;
/// A timeline has at least so many places for marks.
const LEAST_PLACES: usize = 42;
/// A stream that has said nothing for so long may not be relied upon.
const SILENT: SignedDuration = SignedDuration::from_secs(120);

/// All instances that somebody may see, gravest first.
pub async fn overview(daemon: &Daemon, scope: &Scope) -> Result<Overview> {
    let (policies, now) = (daemon.policies(), daemon.now());
    let sites: Vec<(&Tenant, &Arc<Site>)> = policies.sites.iter().filter(|(tenant, _)| scope.has(tenant)).collect();
    let count: usize = sites.iter().map(|(_, site)| site.config.instances.len()).sum();
    let places = (MARKS / count.max(1)).clamp(LEAST_PLACES, MOST_MARKS);
    let mut running = running(&daemon.state.open_runs().await?);
    let mut counts = Counts::default();
    let mut instances = Vec::with_capacity(count);
    for (tenant, site) in sites {
        for (name, config) in &site.config.instances {
            let running = running.remove(&(tenant.clone(), name.clone())).unwrap_or_default();
            let (_, line) = line(daemon, (tenant, site), (name, config), running, places, now);
            match line.state.as_str() {
                "protected" => counts.protected += 1,
                "at-risk" => counts.at_risk += 1,
                "unprotected" => counts.unprotected += 1,
                _ => counts.unknown += 1,
            }
            instances.push(line);
        }
    }
    instances.sort_by_cached_key(|line| (gravity(&line.state), line.tenant.clone(), line.instance.clone()));
    Ok(Overview { now, counts, troubles: troubles(daemon, scope), instances })
}

/// What does not work and may be known. What is nobody's own may name anybody's: but for Docker, it is for who sees all.
pub(crate) fn troubles(daemon: &Daemon, scope: &Scope) -> Vec<Trouble> {
    let all = daemon.troubles.all().into_iter();
    let seen = |trouble: &Trouble| match trouble.tenant.as_deref().map(str::parse::<Tenant>) {
        Some(Ok(tenant)) => scope.has(&tenant),
        Some(Err(_)) => false,
        None => *scope == Scope::all() || trouble.of == "docker",
    };
    all.filter(seen).collect()
}

fn gravity(state: &str) -> u8 {
    match state {
        "unprotected" => 0,
        "at-risk" => 1,
        "unknown" => 2,
        _ => 3,
    }
}

fn running(open: &[RunRow]) -> HashMap<(Tenant, Instance), Vec<RunLine>> {
    let mut running: HashMap<_, Vec<RunLine>> = HashMap::new();
    for row in open.iter().filter(|row| row.started.is_some()) {
        if let Some(instance) = &row.job.instance {
            running.entry((row.job.tenant.clone(), instance.clone())).or_default().push(RunLine::from(row));
        }
    }
    running
}

/// What is known of an instance now, and what it means.
pub(super) struct Judged {
    pub facts: Option<Arc<Facts>>,
    pub judgement: Option<Judgement>,
}

/// The instance's line, with at most `places` marks of each verb on its timeline.
pub(super) fn line(
    daemon: &Daemon,
    (tenant, site): (&Tenant, &Arc<Site>),
    (name, config): (&Instance, &InstanceConfig),
    running: Vec<RunLine>,
    places: usize,
    now: Timestamp,
) -> (Judged, Line) {
    let Known { facts, marks, live } = daemon.state.board().known(tenant, name);
    let facts = facts.map(|facts| with_stream(facts, live, now));
    let judgement = facts.as_ref().map(|facts| judge(facts, now));
    let tier = site.config.tier_of(config);
    let drill = facts.as_ref().and_then(|facts| facts.drill.as_ref());
    let gravest = judgement.as_ref().and_then(|judgement| judgement.reasons.first());
    let line = Line {
        tenant: tenant.to_string(),
        instance: name.to_string(),
        tier: config.tier.to_string(),
        owner: config.owner.clone(),
        state: judgement.as_ref().map_or("unknown", |judgement| word(judgement.state)).to_owned(),
        reason: gravest.map(|reason| reason.text.clone()),
        next: judgement.as_ref().and_then(|judgement| judgement.next.clone()),
        exposure_seconds: judgement.as_ref().and_then(|judgement| judgement.exposure_seconds),
        rpo_target_seconds: tier.map(|tier| tier.rpo.0.as_secs_f64()),
        newest_point: facts.as_ref().and_then(|facts| Some(facts.points.newest.as_ref()?.started)),
        drill_outcome: drill.map(|drill| drill.outcome.word().to_owned()),
        drill_started: drill.map(|drill| drill.started),
        rto_seconds: drill.and_then(|drill| drill.rto_seconds),
        rto_target_seconds: tier.map(|tier| tier.rto.0.as_secs_f64()),
        next_run: daemon
            .looking
            .next_run(tenant, site, name, now, || schedules::dues(tenant, site, name, now, 1).into_iter().next()),
        running,
        timeline: timeline(facts.as_deref(), &marks, places, now),
    };
    (Judged { facts, judgement }, line)
}

/// The word in API and pages.
pub(super) fn word(state: State) -> &'static str {
    match state {
        State::Protected => "protected",
        State::AtRisk => "at-risk",
        State::Unprotected => "unprotected",
    }
}

/// What is known of an instance now; none: nobody has looked yet.
pub(crate) fn facts_now(daemon: &Daemon, tenant: &Tenant, name: &Instance, now: Timestamp) -> Option<Arc<Facts>> {
    let (facts, live) = daemon.state.board().facts_and_live(tenant, name);
    facts.map(|facts| with_stream(facts, live, now))
}

/// The next run of an instance.
pub(crate) fn next_run_of(
    daemon: &Daemon,
    (tenant, site): (&Tenant, &Arc<Site>),
    name: &Instance,
    now: Timestamp,
) -> Option<super::Due> {
    daemon.looking.next_run(tenant, site, name, now, || schedules::dues(tenant, site, name, now, 1).into_iter().next())
}

/// The facts with what the running stream said since. One that has fallen silent holds nothing that came after.
fn with_stream(facts: Arc<Facts>, live: Option<Live>, now: Timestamp) -> Arc<Facts> {
    let (Some(live), Some(wal)) = (live, &facts.wal) else { return facts };
    if live.at <= facts.looked {
        return facts;
    }
    let silent = now.duration_since(live.at) > SILENT;
    let wal = lifeboat_engine::status::Wal {
        newest_commit: live.newest_commit.max(wal.newest_commit),
        waiting_since: live.waiting_since.or(silent.then_some(live.at)),
        waiting_bytes: live.waiting_bytes,
        not_asked: None,
        ..wal.clone()
    };
    let mut facts = Facts::clone(&facts);
    if let (Some(window), Some(commit)) = (facts.windows.last_mut(), wal.newest_commit) {
        window.to = window.to.max(commit);
    }
    facts.wal = Some(wal);
    Arc::new(facts)
}

fn timeline(facts: Option<&Facts>, marks: &[MarkRow], places: usize, now: Timestamp) -> Timeline {
    let from = now.saturating_sub(TIMELINE).unwrap_or(now);
    let width = (TIMELINE.as_secs() / places.max(1) as i64).max(1);
    // Of those that fall together, the worst: a failure is never hidden by a pass.
    let mut kept: BTreeMap<(i64, &str), MarkRow> = BTreeMap::new();
    for mark in marks.iter().filter(|mark| mark.at >= from && mark.at <= now) {
        let place = (mark.at.as_second() - from.as_second()).div_euclid(width);
        let known = kept.entry((place, mark.verb)).or_insert(*mark);
        if badness(mark.outcome) >= badness(known.outcome) {
            *known = *mark;
        }
    }
    let mut marks: Vec<MarkRow> = kept.into_values().collect();
    marks.sort_by_key(|mark| mark.at);
    let beyond = marks.len().saturating_sub(MOST_MARKS);
    let windows = facts.map(|facts| facts.windows.as_slice()).unwrap_or_default();
    Timeline {
        from,
        to: now,
        marks: marks.drain(beyond..).map(Mark::from).collect(),
        windows: windows
            .iter()
            .filter(|window| window.to >= from)
            .map(|window| Stretch { from: window.from.max(from), to: window.to.min(now) })
            .collect(),
    }
}

fn badness(outcome: RunOutcome) -> u8 {
    match outcome {
        RunOutcome::Passed => 0,
        RunOutcome::Interrupted => 1,
        RunOutcome::Missed => 2,
        RunOutcome::Incomplete => 3,
        RunOutcome::Failed => 4,
    }
}

impl From<MarkRow> for Mark {
    fn from(mark: MarkRow) -> Mark {
        Mark {
            verb: mark.verb.to_owned(),
            outcome: mark.outcome.word().to_owned(),
            at: mark.at,
            run: Some(mark.run.to_string()),
        }
    }
}
