//! The first page: what an executive reads in a minute.

use lifeboat_model::check::Outcome;
use maud::{Markup, html};

use super::{
    parts::{self, Table, Tone, badge, icon, tile},
    tone,
};
use crate::report::{
    judge,
    period::{InstancePeriod, Ledger, Measured, Period, State},
    words::{count, day, minute, span, thousands},
};

/// The gravest stand here, the rest with their instances.
const QUESTIONS: usize = 6;

/// `1 Jan 2026 to 31 Mar 2026`: the last day is the last one that belongs to it.
pub(super) fn days(period: &Period) -> String {
    let last = period.to - jiff::SignedDuration::from_secs(1);
    format!("{} to {}", day(period.from), day(last))
}

pub(super) fn front(period: &Period) -> Markup {
    html! {
        section.front id="front" {
            div.top {
                div {
                    p.kicker { "Recovery evidence report" }
                    h1 { (period.tenant) }
                    div { (days(period)) }
                }
                div.made.small.soft {
                    "Made " (minute(period.made)) br;
                    "by " (period.made_by.user) "@" (period.made_by.host)
                }
            }
            (verdict(period))
            (tiles(period))
            (questions(period))
            (overview(period))
        }
        (contents(period))
    }
}

fn verdict(period: &Period) -> Markup {
    let sums = &period.sums;
    let all = period.instances.len() as u64;
    let answer = match period.state {
        _ if all == 0 => "Not known: no instance is configured and none has left evidence.".to_owned(),
        _ if !period.ledger.is_sound() => {
            "Not proven: the ledger of evidence is not sound, see what needs a decision.".to_owned()
        }
        State::Protected => format!("Yes: {} protected.", are(all, all)),
        _ if sums.protected > 0 => format!("In part: {} protected.", are(sums.protected, all)),
        _ => format!("No: none of {} proven to come back.", are(all, all)),
    };
    let others = [(sums.at_risk, "at risk"), (sums.unprotected, "unprotected")];
    let others: Vec<String> =
        others.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
    html! {
        div.verdict.(tone(period.state).class()) {
            (icon(tone(period.state)))
            div {
                strong { "Are we protected? " (answer) }
                @if !others.is_empty() { p { (others.join(", ")) "." } }
                p.small.soft {
                    "Protected: the last full restore in a sandbox passed every required check within its targets, and the \
                     next one is not overdue. By the signed evidence of this period."
                }
            }
        }
    }
}

fn are(number: u64, all: u64) -> String {
    match (number, all) {
        (1, 1) => "the 1 instance is".to_owned(),
        (number, all) if number == all => format!("all {all} instances are"),
        (1, all) => format!("1 of {all} instances is"),
        (number, all) => format!("{number} of {all} instances are"),
    }
}

fn tiles(period: &Period) -> Markup {
    let sums = &period.sums;
    let due = match sums.due {
        0 => html! { (thousands(sums.rehearsals)) small { " done" } },
        due => html! { (thousands(sums.rehearsals)) small { " done, " (thousands(due)) " due" } },
    };
    let due_more = match (sums.due, sums.missed, sums.without_rhythm) {
        (0, _, 0) if sums.rehearsals == 0 => html! { span.soft { "nothing was due" } },
        (0, ..) => html! { span.doubt { "nobody has said how often" } },
        (_, 0, 0) => html! { span.good { "all in time" } },
        (_, 0, silent) => html! { span.doubt { "no rhythm set for " (count(silent, "instance", "instances")) } },
        (_, missed, _) => html! { span.bad { (thousands(missed)) " not done in time" } },
    };
    let passed = html! { (thousands(sums.passed)) small { " of " (thousands(sums.rehearsals)) } };
    let passed_more = match (sums.failed, sums.incomplete) {
        (0, 0) if sums.rehearsals == 0 => html! { span.doubt { "none was done" } },
        (0, 0) => html! { span.good { "none failed" } },
        (failed, incomplete) => html! { span.bad { (failed) " failed, " (incomplete) " incomplete" } },
    };
    html! {
        div.tiles {
            (tile("Rehearsals", due, due_more))
            (tile("Passed", passed, passed_more))
            (worst("Worst RPO rehearsed", period, |of| (&of.rpo, of.rpo_target_seconds), gap(period)))
            (worst("Worst RTO: until login", period, |of| (&of.rto, of.rto_target_seconds), html! {}))
            (controls(period))
            (exceptions(period))
            (accepted(period))
            (ledger(period))
        }
    }
}

/// Targets differ, so the worst is the one that is nearest to its target or furthest above it.
fn worst(name: &str, period: &Period, of: fn(&InstancePeriod) -> (&Measured, u64), last: Markup) -> Markup {
    let measured = period.instances.iter().filter_map(|instance| {
        let (measured, target) = of(instance);
        Some((measured.worst_seconds?, target, instance))
    });
    let share = |seconds: f64, target: u64| seconds / (target as f64).max(1.0);
    let worst = measured.max_by(|a, b| share(a.0, a.1).total_cmp(&share(b.0, b.1)));
    match worst {
        None => tile(name, "–", html! { span.doubt { "not measured" } (last) }),
        Some((seconds, target, instance)) => {
            let (word, class) = if seconds <= target as f64 { ("within", "good") } else { ("over", "bad") };
            let more = html! {
                span class=(class) { (word) " its target of " (span(target as f64)) }
                @if period.instances.len() > 1 { br; span.soft { (instance.instance) } }
                (last)
            };
            tile(name, span(seconds), more)
        }
    }
}

/// A rehearsal to the end of a backup says nothing of the time until the next one.
fn gap(period: &Period) -> Markup {
    let unshown = period.instances.iter().filter_map(judge::unshown_gap).max();
    let longest = period.instances.iter().filter_map(|of| of.backups.exposed_seconds()).max();
    html! {
        @match (unshown, longest) {
            (Some(gap), _) => { br; span.bad { "backups up to " (span(gap as f64)) " apart; log between them not shown" } }
            (None, Some(gap)) => { br; span.soft { "backups up to " (span(gap as f64)) " apart" } }
            (None, None) => {}
        }
    }
}

fn controls(period: &Period) -> Markup {
    let sums = &period.sums;
    match (sums.controls, sums.controls_passed) {
        (0, _) => tile("Negative controls", "none", html! { span.doubt { "that drills see damage is not shown" } }),
        (all, passed) => {
            let value = html! { (thousands(passed)) small { " of " (thousands(all)) } };
            let more = match all == passed {
                true => html! { span.good { "every damage was seen" } },
                false => html! { span.bad { (all - passed) " not as they must be" } },
            };
            tile("Negative controls", value, more)
        }
    }
}

fn exceptions(period: &Period) -> Markup {
    let all: u64 = period.instances.iter().map(|of| of.exceptions.len() as u64).sum();
    let more = match (period.sums.open_exceptions, all) {
        (0, 0) => html! { span.good { "nothing deviated" } },
        (0, all) => html! { span.good { (count(all, "deviation", "deviations")) ", answered for" } },
        (_, all) => html! { span.bad { "of " (count(all, "deviation", "deviations")) } },
    };
    tile("Open exceptions", thousands(period.sums.open_exceptions), more)
}

fn accepted(period: &Period) -> Markup {
    let sums = &period.sums;
    let value = html! { (thousands(sums.accepted)) small { " of " (thousands(sums.rehearsals)) } };
    let more = match sums.rehearsals.saturating_sub(sums.accepted) {
        _ if sums.rehearsals == 0 => html! { span.soft { "nothing to sign" } },
        0 => html! { span.good { "every rehearsal" } },
        _ if sums.accepted == 0 => html! { span.doubt { "nobody has signed" } },
        open => html! { span.soft { (thousands(open)) " without a signature" } },
    };
    tile("Accepted by a person", value, more)
}

fn ledger(period: &Period) -> Markup {
    match &period.ledger {
        Ledger::NotExecuted { .. } => {
            tile("Ledger of evidence", "not audited", html! { span.doubt { "not executed for this report" } })
        }
        Ledger::Executed { entries: 0, findings, .. } if findings.is_empty() => {
            tile("Ledger of evidence", "none", html! { span.doubt { "statements count by their signatures alone" } })
        }
        Ledger::Executed { entries, findings, remarks, .. } if findings.is_empty() => {
            let stale: u64 = remarks.values().sum();
            tile(
                "Ledger of evidence",
                html! { span.good { "sound" } },
                html! {
                    (count(*entries, "entry", "entries"))
                    @if stale > 0 { ", " (thousands(stale)) " remarks" }
                },
            )
        }
        Ledger::Executed { findings, .. } => {
            let found: Vec<String> = findings.iter().map(|(word, number)| format!("{number} {word}")).collect();
            tile("Ledger of evidence", html! { span.bad { "NOT SOUND" } }, html! { span.bad { (found.join(", ")) } })
        }
    }
}

fn questions(period: &Period) -> Markup {
    let more = period.decisions.len().saturating_sub(QUESTIONS);
    html! {
        h2 { "What needs a decision" }
        @if period.decisions.is_empty() { p { "Nothing." } }
        ul.questions {
            @for question in period.decisions.iter().take(QUESTIONS) {
                li {
                    @if let Some(instance) = &question.instance { strong { (instance) } " – " }
                    (question.what)
                    @if let Some(how) = &question.how { span.how { code { (how) } } }
                }
            }
        }
        @if more > 0 {
            p.small { "And " (count(more as u64, "more", "more")) ", each with its instance: see the exceptions there." }
        }
    }
}

fn overview(period: &Period) -> Markup {
    let names =
        ["Instance", "State", "Last rehearsal", "RPO worst / target", "RTO worst / target", "Done / due", "Open"];
    let mut table = Table::new("overview", &names);
    let mut instances: Vec<&InstancePeriod> = period.instances.iter().collect();
    instances.sort_by_key(|of| std::cmp::Reverse(of.state));
    for of in instances {
        table.row(vec![
            html! { a href=(format!("#i-{}", of.instance)) { (of.instance) } },
            badge(tone(of.state), of.state.word()),
            last(of),
            measure(&of.rpo, of.rpo_target_seconds),
            measure(&of.rto, of.rto_target_seconds),
            match &of.due {
                Some(due) => {
                    html! { (of.rehearsals.len()) " / " (due.due) @if due.missed > 0 { ", " (due.missed) " missed" } }
                }
                None => html! { (of.rehearsals.len()) " / not said" },
            },
            html! { (super::super::judge::open(of).count()) },
        ]);
    }
    html! { h2 { "Instances" } (table) }
}

fn last(of: &InstancePeriod) -> Markup {
    match of.rehearsals.last() {
        None => badge(Tone::Doubt, "none"),
        Some(last) => html! {
            span.once { (day(last.started)) }
            @if last.outcome != Outcome::Passed { " " (parts::outcome(last.outcome)) }
        },
    }
}

fn measure(measured: &Measured, target: u64) -> Markup {
    let target_text = span(target as f64);
    match measured.worst_seconds {
        None => html! { "– / " (target_text) },
        Some(worst) if worst <= target as f64 => html! { span.once { (span(worst)) " / " (target_text) } },
        Some(worst) => html! {
            span.once { strong.bad { (span(worst)) } " / " (target_text) } ", missed " (measured.missed) "×"
        },
    }
}

fn contents(period: &Period) -> Markup {
    html! {
        nav aria-label="Contents" {
            h2 { "Contents" }
            ul.contents {
                @for of in &period.instances {
                    li { a href=(format!("#i-{}", of.instance)) { (of.instance) } }
                }
                li { a href="#clauses" { "What this supports: HIPAA, SOC 2, ISO" } }
                li { a href="#records" { "Full records of drills" } }
                li { a href="#about" { "How to read and check this report" } }
            }
        }
    }
}
