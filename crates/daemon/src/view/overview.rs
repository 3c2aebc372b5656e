//! All instances, a line each. Made from memory: a thousand of them are asked for every few seconds by each who looks.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::status::{Facts, Judgement, State, Wal, Window, judge};
use lifeboat_model::{
    config::InstanceConfig,
    id::{Instance, Tenant},
};

use super::{Counts, Line, Mark, Overview, RunLine, Stretch, Timeline, Trouble, schedules};
use crate::{
    Result,
    daemon::{Daemon, Scope},
    job::RunOutcome,
    look::needs_docker,
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

/// What does not work and may be known. What is nobody's own may name anybody's: it is for who sees all. But that Docker is
/// away is also for whoever needs it; told to others, it would say that somebody else does.
pub(crate) fn troubles(daemon: &Daemon, scope: &Scope) -> Vec<Trouble> {
    let (all, policies) = (daemon.troubles.all().into_iter(), daemon.policies());
    let docker = || policies.sites.iter().any(|(tenant, site)| scope.has(tenant) && needs_docker(site));
    let seen = |trouble: &Trouble| match trouble.tenant.as_deref().map(str::parse::<Tenant>) {
        Some(Ok(tenant)) => scope.has(&tenant),
        Some(Err(_)) => false,
        None => *scope == Scope::all() || (trouble.of == "docker" && docker()),
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

/// The facts with what the stream said since. One that does not follow its server, or lets something wait in silence, holds
/// nothing that came after; one that nothing waits for has nothing to say.
fn with_stream(facts: Arc<Facts>, live: Option<Live>, now: Timestamp) -> Arc<Facts> {
    let (Some(live), Some(wal)) = (live, &facts.wal) else { return facts };
    // What is held behind a hole leads nowhere, however new it is.
    if live.at <= facts.looked || wal.cut_since.is_some() {
        return facts;
    }
    let newest_commit = live.newest_commit.max(wal.newest_commit);
    let looked = wal.waiting_since.filter(|_| !live.follows);
    let waiting_since = live.waiting_since.into_iter().chain(looked).min();
    // What came before the newest commit that is held waits no more.
    let waiting_since = waiting_since.map(|since| newest_commit.map_or(since, |held| since.max(held.min(live.at))));
    let silent = waiting_since.is_some() && now.duration_since(live.at) > SILENT;
    let mut wal = Wal { newest_commit, waiting_since, waiting_bytes: live.waiting_bytes, ..wal.clone() };
    if live.follows && !silent {
        wal.not_asked = None;
    } else if let Some(slot) = &mut wal.slot {
        slot.active = false;
    }
    let mut facts = Facts::clone(&facts);
    Window::grow(&mut facts.windows, wal.newest_commit);
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
mod tests {
    use super::*;
    use crate::{settings::Tenants, testing};

    #[tokio::test]
    async fn that_docker_is_away_is_told_to_whoever_needs_it() {
        let drill = "[schedule.drill]\ndo = \"drill\"\ntiers = [\"gold\"]\ncron = \"@daily\"\n";
        let backup = "[schedule.backup]\ndo = \"backup\"\ntiers = [\"gold\"]\ncron = \"@daily\"\n";
        for (schedule, is_told) in [(drill, true), (backup, false)] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("schedules")).unwrap();
            std::fs::write(folder.path().join("schedules/all.toml"), schedule).unwrap();
            let daemon = testing::daemon(folder.path(), Arc::new(|| {}));
            let text = "no answer".to_owned();
            daemon.troubles.begin(Trouble {
                tenant: None,
                of: "docker".to_owned(),
                since: daemon.now(),
                text,
                next: None,
            });
            let scope = |tenant: &str| Scope(Tenants::Some([tenant.parse().unwrap()].into()));
            assert_eq!(!troubles(&daemon, &scope("acme")).is_empty(), is_told, "{schedule}");
            assert!(troubles(&daemon, &scope("other")).is_empty());
            assert_eq!(troubles(&daemon, &Scope::all()).len(), 1);
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// Looked up at 0: the stream is at work, and nothing waits. Since then it said this.
    fn judged(wal: impl FnOnce(&mut Wal), live: Live, now: i64) -> (Arc<Facts>, Judgement) {
        let mut facts: Facts = serde_json::from_value(serde_json::json!({
            "instance": "clinic", "tier": "gold", "looked": at(0),
            "targets": {"rpo_seconds": 300.0, "rto_seconds": 600.0},
            "points": {"stored": 1, "newest": {"id": "00ab", "started": at(-7200), "finished": at(-7100)}, "passed_over": 0},
            "wal": {"newest_commit": at(-5), "slot": {
                "name": "lifeboat_clinic", "wal_status": "reserved", "active": true, "limit_bytes": 1_000_000,
            }},
            "windows": [{"timeline": 1, "from": at(-7100), "to": at(-5), "grows": true}],
            "drills_passed_over": 0, "rto_trend": [], "locks": {}, "copies": [], "standbys": {"found": []},
            "certificates": [], "keys": [], "unknown": [],
            "storage": {"objects": 1, "bytes": 1, "wal_bytes": 1, "pack_bytes": 1},
        }))
        .unwrap();
        wal(facts.wal.as_mut().unwrap());
        let facts = with_stream(Arc::new(facts), Some(live), at(now));
        let judgement = judge(&facts, at(now));
        (facts, judgement)
    }

    fn live(said: i64, waiting: Option<i64>) -> Live {
        let waiting_bytes = Some(waiting.map_or(0, |_| 4096));
        Live { at: at(said), newest_commit: Some(at(55)), waiting_bytes, waiting_since: waiting.map(at), follows: true }
    }

    #[test]
    fn what_a_stream_says_counts_for_more_than_the_last_look() {
        let exposed = |live, now| judged(|_| (), live, now).1.exposure_seconds;
        let (facts, well) = judged(|_| (), live(60, None), 500);
        assert_eq!(well.exposure_seconds, Some(0.0), "an idle stream has nothing to say");
        assert!(well.reasons.iter().all(|reason| reason.kind != "wal-slot"), "{well:?}");
        assert_eq!(facts.windows[0].to, at(55));
        assert_eq!(exposed(live(61, Some(60)), 62), Some(2.0));
        // The repository takes nothing any more, and nobody can look.
        let (_, stuck) = judged(|_| (), live(90, Some(60)), 720);
        assert_eq!(stuck.exposure_seconds, Some(660.0));
        assert!(stuck.reasons.iter().any(|reason| reason.kind == "rpo"), "{stuck:?}");
        assert_eq!(exposed(live(700, Some(60)), 720), Some(660.0), "nor does talk help");
        let before = Live { waiting_since: Some(at(-60)), newest_commit: None, ..live(10, Some(0)) };
        assert_eq!(judged(|_| (), before, 200).1.exposure_seconds, Some(205.0), "it waited before the look");
        let busy = Live { newest_commit: Some(at(598)), ..live(600, Some(60)) };
        assert_eq!(exposed(busy, 600), Some(2.0), "what came before the newest commit held waits no more");
    }

    #[test]
    fn a_stream_that_does_not_follow_its_server_holds_nothing_new() {
        let gone = Live { follows: false, waiting_bytes: None, ..live(70, Some(70)) };
        let (facts, over) = judged(|_| (), gone, 200);
        assert_eq!((over.exposure_seconds, over.rpo_broken_at), (Some(130.0), Some(at(370))));
        assert!(over.reasons.iter().any(|reason| reason.kind == "wal-slot"), "{over:?}");
        assert_eq!(facts.wal.as_ref().unwrap().not_asked, None);
        let silent = |wal: &mut Wal| wal.not_asked = Some("no answer".to_owned());
        let (facts, _) = judged(silent, gone, 200);
        assert!(facts.wal.as_ref().unwrap().not_asked.is_some(), "it has not been asked meanwhile");
        let cut = |wal: &mut Wal| {
            (wal.cut_since, wal.waiting_since, wal.newest_commit) = (Some(at(-50)), Some(at(-50)), Some(at(-50)))
        };
        let (facts, behind) = judged(cut, live(60, None), 100);
        assert_eq!(behind.exposure_seconds, Some(150.0), "it holds what nothing leads to");
        assert_eq!(facts.windows[0].to, at(-5));
    }
}
