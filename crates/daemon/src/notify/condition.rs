//! What people should know of, said by its consequence. Pure: the same facts at the same time give the same conditions.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use lifeboat_engine::status::{self, Facts, Judgement, Reason};
use serde::{Deserialize, Serialize};

use super::words::{between, short, span, until};
use crate::{settings::Severity, view::Trouble};

/// Something that should not be so. It is the same for as long as its key is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// `tenant/instance/kind`; what is missing is empty.
    pub key: String,
    /// What it is about, in a fixed word: those of [`Reason::kind`], `rpo-soon`, `run`, `trouble`.
    pub kind: String,
    /// Whose; none: the daemon's own.
    pub tenant: Option<String>,
    /// The instance.
    pub instance: Option<String>,
    /// Its recovery class.
    pub tier: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// How grave.
    pub severity: Severity,
    /// What it means for people, in one line.
    pub title: String,
    /// What was found.
    pub text: String,
    /// What to do.
    pub next: Option<String>,
    /// Since when, where that is known.
    pub since: Option<Timestamp>,
    /// When it gets worse unless somebody acts.
    pub deadline: Option<Timestamp>,
}

/// One instance, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Watched<'a> {
    /// The owner.
    pub tenant: &'a str,
    /// The instance.
    pub instance: &'a str,
    /// Its recovery class.
    pub tier: &'a str,
    /// Who answers for it.
    pub owner: Option<&'a str>,
    /// What was last found; none: nobody has looked yet.
    pub facts: Option<&'a Facts>,
}

/// The newest scheduled run of its kind that is over and did not pass.
#[derive(Debug, Clone, PartialEq)]
pub struct BadRun {
    /// The owner.
    pub tenant: String,
    /// The instance; none: the tenant as a whole.
    pub instance: Option<String>,
    /// `backup`, `drill`, …
    pub verb: String,
    /// The schedule.
    pub schedule: String,
    /// How it ended.
    pub outcome: String,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub ended: Timestamp,
}

/// What is so now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// What should not be so.
    pub conditions: Vec<Condition>,
    /// Tenant and instance of whom nothing is known now: what was said of them is neither repeated nor taken back.
    pub blind: BTreeSet<(String, String)>,
    /// Tenants that another daemon looks after.
    pub elsewhere: BTreeSet<String>,
}

impl Seen {
    /// Whether nothing can be said of what a condition is about.
    pub(super) fn is_blind(&self, condition: &Condition) -> bool {
        let Some(tenant) = &condition.tenant else { return false };
        let instance = condition.instance.clone().unwrap_or_default();
        self.elsewhere.contains(tenant)
            || (condition.kind != "trouble"
                && condition.kind != "run"
                && self.blind.contains(&(tenant.clone(), instance)))
    }
}

/// Everything that people should know of.
pub fn conditions(watched: &[Watched<'_>], runs: &[BadRun], troubles: &[Trouble], now: Timestamp) -> Seen {
    let mut seen = Seen::default();
    let elsewhere =
        troubles.iter().filter(|trouble| trouble.of == "leader").filter_map(|trouble| trouble.tenant.clone());
    seen.elsewhere = elsewhere.collect();
    for one in watched.iter().filter(|one| !seen.elsewhere.contains(one.tenant)) {
        match one.facts {
            Some(facts) => seen.conditions.extend(of_instance(one, facts, now)),
            None => {
                seen.blind.insert((one.tenant.to_owned(), one.instance.to_owned()));
            }
        }
    }
    let known: Known<'_> = watched.iter().map(|one| ((one.tenant, one.instance), one)).collect();
    let is_here = |tenant: &Option<String>| tenant.as_ref().is_none_or(|tenant| !seen.elsewhere.contains(tenant));
    let runs = runs.iter().filter(|run| is_here(&Some(run.tenant.clone()))).map(|run| of_run(run, &known));
    let troubles = troubles.iter().filter(|trouble| trouble.of != "leader" && is_here(&trouble.tenant));
    let rest: Vec<_> = runs.chain(troubles.map(|trouble| of_trouble(trouble, &known))).collect();
    seen.conditions.extend(rest);
    seen
}

/// Those that are watched, by tenant and instance: there may be as many troubles as instances.
type Known<'a> = HashMap<(&'a str, &'a str), &'a Watched<'a>>;

fn of_instance(one: &Watched<'_>, facts: &Facts, now: Timestamp) -> Vec<Condition> {
    let judgement = status::judge(facts, now);
    let mut found: Vec<Condition> = Vec::new();
    for reason in &judgement.reasons {
        let (title, since, deadline) = consequence(one.instance, reason, facts, &judgement, now);
        let key = key(one.tenant, one.instance, &reason.kind);
        // Several reasons of one kind (two certificates, three copies) are one condition: the gravest names it.
        if let Some(known) = found.iter_mut().find(|known| known.key == key) {
            known.text = format!("{}\n{}", known.text, reason.text);
            continue;
        }
        found.push(Condition {
            key,
            kind: reason.kind.clone(),
            tenant: Some(one.tenant.to_owned()),
            instance: Some(one.instance.to_owned()),
            tier: Some(one.tier.to_owned()),
            owner: one.owner.map(str::to_owned),
            severity: severity(reason, facts, &judgement),
            title,
            text: reason.text.clone(),
            next: Some(reason.next.clone()),
            since,
            deadline,
        });
    }
    found.extend(
        soon(one, facts, &judgement, now).filter(|_| judgement.reasons.iter().all(|reason| reason.kind != "rpo")),
    );
    found
}

/// A promise is broken, or will be.
fn severity(reason: &Reason, facts: &Facts, judgement: &Judgement) -> Severity {
    let is_over = match reason.kind.as_str() {
        "rpo" => judgement.exposure_seconds.is_none_or(|exposure| exposure > facts.targets.rpo_seconds),
        "drill" => facts.drill.as_ref().is_some_and(|drill| drill.outcome == lifeboat_model::check::Outcome::Failed),
        _ => false,
    };
    if reason.state == status::State::Unprotected || is_over { Severity::Critical } else { Severity::Warning }
}

/// What a reason means: in a line, since when, and until when there is time.
fn consequence(
    name: &str,
    reason: &Reason,
    facts: &Facts,
    judgement: &Judgement,
    now: Timestamp,
) -> (String, Option<Timestamp>, Option<Timestamp>) {
    let rpo = facts.targets.rpo_seconds;
    match reason.kind.as_str() {
        "rpo" => match (judgement.exposure_seconds, judgement.rpo_broken_at) {
            (_, Some(at)) if at > now => (format!("RPO of {name} is exceeded {}", until(now, at)), None, Some(at)),
            (Some(exposure), _) => {
                let since = jiff::SignedDuration::try_from_secs_f64((exposure - rpo).max(0.0)).ok();
                let since = since.and_then(|over| now.checked_sub(over).ok());
                let cost =
                    format!("a loss of {name} now would cost {} of work, {} are allowed", span(exposure), span(rpo));
                (cost, since, None)
            }
            (None, _) => (format!("a loss of {name} now could not be undone"), None, None),
        },
        "points" => (format!("{name} could not be brought back: there is no recovery point to rely upon"), None, None),
        "drill" => match &facts.drill {
            Some(drill) => {
                let at = drill.first_bad.as_ref().map(|check| format!(" at {check}")).unwrap_or_default();
                let title = match drill.outcome {
                    lifeboat_model::check::Outcome::Failed => {
                        format!("{name} would not come back: its last drill failed{at}")
                    }
                    _ => format!("nobody knows whether {name} would come back: its last drill did not pass{at}"),
                };
                (title, Some(drill.finished), None)
            }
            None => (format!("nobody knows whether {name} would come back: it was never rehearsed"), None, None),
        },
        "drill-age" => {
            let title = match &facts.drill {
                Some(drill) => {
                    let age = span(between(drill.started, now));
                    format!("nobody knows whether {name} would still come back: its last drill was {age} ago")
                }
                None => format!("nobody knows whether {name} would come back: it was never rehearsed"),
            };
            (title, None, None)
        }
        "rto" => {
            let rto = facts.drill.as_ref().and_then(|drill| drill.rto_seconds);
            let title = match rto {
                Some(rto) => {
                    let target = span(facts.targets.rto_seconds);
                    format!("{name} would be away for {}, {target} are allowed", span(rto))
                }
                None => format!("nobody knows how long {name} would be away"),
            };
            (title, None, None)
        }
        "wal-slot" => {
            let lost_at = facts.wal.as_ref().and_then(|wal| wal.slot.as_ref()).and_then(|slot| slot.lost_at);
            match lost_at.filter(|at| *at > now) {
                Some(at) => (format!("{name} loses its log {}", until(now, at)), None, Some(at)),
                None => (format!("the log of {name} is not safe: {}", short(&reason.text, 100)), None, None),
            }
        }
        "locks" => (format!("whoever breaks in could delete the backups of {name}"), None, None),
        "copy" => (format!("if the repository is lost, so is work of {name}: a copy is behind"), None, None),
        "standby" => (format!("a failover of {name} would lose work"), None, None),
        "certificate" => {
            let ends = facts.certificates.iter().filter_map(|certificate| certificate.not_after).min();
            match ends {
                Some(at) if at > now => {
                    (format!("{name} is no longer backed up {}: a certificate ends", until(now, at)), None, Some(at))
                }
                _ => (format!("a certificate that {name} is backed up with has ended or cannot be seen"), ends, None),
            }
        }
        "key" => (format!("nobody knows whether the keys of {name} still open its backups"), None, None),
        "evidence" => (format!("what is said of {name} cannot be proven"), None, None),
        "unknown" => (format!("part of {name} cannot be seen: {}", short(&reason.text, 100)), None, None),
        _ => (format!("{name}: {}", short(&reason.text, 140)), None, None),
    }
}

/// The RPO holds, but not for long. How long before is a part of the target: half of it, at most ten minutes, or a fifth.
fn soon<'a>(
    one: &'a Watched<'_>,
    facts: &'a Facts,
    judgement: &'a Judgement,
    now: Timestamp,
) -> impl Iterator<Item = Condition> + 'a {
    let rpo = facts.targets.rpo_seconds;
    let warn = (rpo * 0.2).max((rpo * 0.5).min(600.0));
    let at = judgement.rpo_broken_at.filter(|at| *at > now && between(now, *at) <= warn);
    at.into_iter().map(move |at| Condition {
        key: key(one.tenant, one.instance, "rpo-soon"),
        kind: "rpo-soon".to_owned(),
        tenant: Some(one.tenant.to_owned()),
        instance: Some(one.instance.to_owned()),
        tier: Some(one.tier.to_owned()),
        owner: one.owner.map(str::to_owned),
        severity: Severity::Warning,
        title: format!("RPO of {} is exceeded {}", one.instance, until(now, at)),
        text: match judgement.exposure_seconds {
            Some(exposure) => format!("a loss now would cost {} of work, {} are allowed", span(exposure), span(rpo)),
            None => format!("{} are allowed", span(rpo)),
        },
        next: Some(match facts.wal {
            Some(_) => format!("lifeboat wal status {}", one.instance),
            None => format!("lifeboat backup {}", one.instance),
        }),
        since: None,
        deadline: Some(at),
    })
}

fn of_run(run: &BadRun, known: &Known<'_>) -> Condition {
    let instance = run.instance.as_deref();
    let name = instance.unwrap_or(&run.tenant);
    let what = match run.verb.as_str() {
        "backup" => "has no new recovery point",
        "drill" | "control" => "was not rehearsed",
        "copy" => "has no newer copy",
        "scrub" | "locks" | "signs" | "audit" => "was not checked",
        "prune" => "keeps what should be gone",
        "stream" => "streams no log",
        _ => "lacks what was asked for",
    };
    let (tier, owner) = class(known, &run.tenant, instance);
    Condition {
        key: key(&run.tenant, instance.unwrap_or_default(), &format!("run {}", run.schedule)),
        kind: "run".to_owned(),
        tenant: Some(run.tenant.clone()),
        instance: run.instance.clone(),
        tier,
        owner,
        severity: Severity::Warning,
        title: format!("{name} {what}: the {} of schedule {} {}", run.verb, run.schedule, said(&run.outcome)),
        text: run.reason.clone().unwrap_or_else(|| "it gave no reason".to_owned()),
        next: Some(format!("lifeboat status {}", instance.unwrap_or_default()).trim_end().to_owned()),
        since: Some(run.ended),
        deadline: None,
    }
}

fn said(outcome: &str) -> &str {
    match outcome {
        "missed" => "was missed",
        "interrupted" => "was interrupted",
        "incomplete" => "is incomplete",
        _ => "failed",
    }
}

fn of_trouble(trouble: &Trouble, known: &Known<'_>) -> Condition {
    let tenant = trouble.tenant.as_deref().unwrap_or_default();
    let mut words = trouble.of.split(' ');
    let what = words.next().unwrap_or_default();
    let name = words.next_back().unwrap_or_default();
    let instance = known.get(&(tenant, name)).map(|one| one.instance);
    let (tier, owner) = class(known, tenant, instance);
    let (severity, title) = match what {
        "state" => (Severity::Critical, "what the daemon does is not kept: its state cannot be written".to_owned()),
        "docker" => (Severity::Warning, "nothing can be rehearsed or dumped: Docker does not answer".to_owned()),
        "postgres" => (Severity::Warning, format!("{name} cannot be backed up: its PostgreSQL does not answer")),
        "dependency" => {
            let dependency = trouble.of.split(' ').nth(1).unwrap_or_default();
            (Severity::Warning, format!("{name} may not work: {dependency}, which it needs, does not answer"))
        }
        "repository" => {
            (Severity::Warning, format!("nothing can be backed up or brought back: repository {name} does not answer"))
        }
        "lead" => (Severity::Warning, short(&trouble.text, 140)),
        "policies" => (Severity::Warning, "changed policies are not in force: they cannot be used".to_owned()),
        "channel" => (Severity::Warning, format!("people are not told over {name}: messages do not get there")),
        "routes" => (Severity::Warning, "some alarms reach nobody: no channel may carry them".to_owned()),
        _ => (Severity::Warning, format!("{}: {}", trouble.of, short(&trouble.text, 140))),
    };
    Condition {
        key: key(tenant, "", &trouble.of),
        kind: "trouble".to_owned(),
        tenant: trouble.tenant.clone(),
        instance: instance.map(str::to_owned),
        tier,
        owner,
        severity,
        title,
        text: trouble.text.clone(),
        next: trouble.next.clone(),
        since: Some(trouble.since),
        deadline: None,
    }
}

fn class(known: &Known<'_>, tenant: &str, instance: Option<&str>) -> (Option<String>, Option<String>) {
    let found = instance.and_then(|instance| known.get(&(tenant, instance)));
    (found.map(|one| one.tier.to_owned()), found.and_then(|one| one.owner.map(str::to_owned)))
}

fn key(tenant: &str, instance: &str, kind: &str) -> String {
    format!("{tenant}/{instance}/{kind}")
}
