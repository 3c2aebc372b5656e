//! The overview for each reader: what they need first, and nothing that they do not.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{
    context::PageContext,
    filter::Filter,
    overview::{self, PER_PAGE},
    parts::{self, Table, Tone},
    timeline, words,
};
use crate::view::{Line, Overview, RunLine};

const READERS: [(Option<&str>, &str); 5] = [
    (None, "Everything"),
    (Some("on-call"), "On call"),
    (Some("owner"), "Owners"),
    (Some("executive"), "Executive"),
    (Some("auditor"), "Auditor"),
];

/// Who reads.
pub(super) fn switch(filter: &Filter) -> Markup {
    let chosen = filter.reader.as_deref().filter(|name| READERS.iter().any(|(reader, _)| reader == &Some(*name)));
    html! {
        nav.readers aria-label="Read as" {
            @for (reader, name) in READERS {
                a href=(Filter::read_by(reader)) aria-current=[(reader == chosen).then_some("page")] { (name) }
            }
        }
    }
}

/// Only what is wrong, each with the next command.
pub(super) fn on_call(view: &Overview, filter: &Filter, context: &PageContext) -> Markup {
    let wrong: Vec<&Line> =
        view.instances.iter().filter(|line| line.state != "protected" && filter.takes(line)).collect();
    let page = filter.page.clamp(1, wrong.len().div_ceil(PER_PAGE).max(1));
    let shown = &wrong[(page - 1) * PER_PAGE..wrong.len().min(page * PER_PAGE)];
    let running: Vec<RunLine> = view.instances.iter().flat_map(|line| &line.running).take(20).cloned().collect();
    html! {
        section #wrong data-part {
            @if wrong.is_empty() {
                h1 { "Nothing needs you" }
                (parts::nothing("Every instance is protected", html! {
                    p { (overview::sentence(view)) ", as of " (words::time(view.now)) " UTC." }
                }))
            } @else {
                h1 { (words::count(wrong.len() as u64, "instance needs you", "instances need you")) }
                ol.wrong {
                    @for line in shown {
                        li.(Tone::of_state(&line.state).class()) {
                            div.title {
                                (parts::state(&line.state))
                                h2 { a href=(parts::instance_path(&line.tenant, &line.instance)) { (line.instance) } }
                                span.soft { (line.tenant) " · " (line.tier) @if let Some(owner) = &line.owner { " · " (owner) } }
                            }
                            p.what { (line.reason.as_deref().unwrap_or("It has not been looked at since the daemon started.")) }
                            @if let Some(next) = &line.next { p { span.soft { "Next: " } (parts::command(next)) } }
                            p.soft {
                                "Loss now: " (loss(line))
                                @if let Some(point) = line.newest_point { ". Newest point " (words::ago(context.now, point)) }
                                "."
                            }
                        }
                    }
                }
                (overview::pages(filter, page, wrong.len()))
            }
        }
        @if !running.is_empty() {
            section #running data-part { h2 { "Running now" } (parts::runs("Running now", &running, context.now, true)) }
        }
    }
}

/// In words: what a loss would cost.
fn loss(line: &Line) -> String {
    let target = line.rpo_target_seconds.map(|target| format!(", {} may be", words::span(target))).unwrap_or_default();
    match line.exposure_seconds {
        Some(seconds) => format!("{} of work{target}", words::span(seconds)),
        None if line.state == "unknown" => "not known".to_owned(),
        None => format!("everything{target}"),
    }
}

/// Everybody's own instances.
pub(super) fn owner(view: &Overview, filter: &Filter, context: &PageContext) -> Markup {
    let mut owners: BTreeMap<Option<&str>, Vec<&Line>> = BTreeMap::new();
    for line in view.instances.iter().filter(|line| filter.takes(line)) {
        owners.entry(line.owner.as_deref()).or_default().push(line);
    }
    let mut left = PER_PAGE;
    let mut sections = Vec::new();
    for (owner, lines) in &owners {
        let shown = &lines[..lines.len().min(left)];
        left -= shown.len();
        sections.push((owner, lines, shown));
    }
    html! {
        h1 { "By owner" }
        (filter.form(view))
        div #owners data-part {
            @for (owner, lines, shown) in sections {
                @let protected = lines.iter().filter(|line| line.state == "protected").count();
                section.owner {
                    h2 { (owner.unwrap_or("Nobody answers for these")) }
                    p.soft {
                        (words::number(protected as u64)) " of " (words::count(lines.len() as u64, "instance", "instances"))
                        " protected"
                        @if owner.is_none() { ". Name somebody: " code { "owner" } " in the instance's section of " code { "lifeboat.toml" } }
                    }
                    (owned(shown, context))
                    @if shown.len() < lines.len() {
                        p { "… and " (words::number((lines.len() - shown.len()) as u64)) " more: find them by the owner's name." }
                    }
                }
            }
        }
    }
}

fn owned(lines: &[&Line], context: &PageContext) -> Markup {
    let mut table = Table::new("owned", "Instances", &["Instance", "State", "Loss now", "Last drill", "Next run"]);
    for line in lines {
        table.row(vec![
            html! { a href=(parts::instance_path(&line.tenant, &line.instance)) { (line.instance) } " " span.soft { (line.tier) } },
            html! { (parts::state(&line.state)) @if let Some(reason) = &line.reason { span.because { (parts::first_line(reason)) } } },
            overview::exposure(line),
            overview::drill(line, context),
            html! {
                @match &line.next_run {
                    Some(due) => { (due.verb) " " (words::ago(context.now, due.at)) }
                    None => { "none is due" }
                }
            },
        ]);
    }
    html! { @if !table.is_empty() { (table) } }
}

/// One screen: a verdict in words, and four numbers.
pub(super) fn executive(view: &Overview, context: &PageContext) -> Markup {
    let lines = &view.instances;
    let all = lines.len() as u64;
    let tone = match (view.counts.unprotected, view.counts.at_risk + view.counts.unknown) {
        (0, 0) => Tone::Good,
        (0, _) => Tone::Doubt,
        _ => Tone::Bad,
    };
    let proven = lines.iter().filter(|line| line.drill_outcome.as_deref() == Some("passed")).count() as u64;
    let nothing_back =
        lines.iter().filter(|line| line.exposure_seconds.is_none() && line.state != "unknown").count() as u64;
    let within = lines.iter().filter(|line| is_within(line.exposure_seconds, line.rpo_target_seconds)).count() as u64;
    let worst = lines.iter().filter_map(|line| line.exposure_seconds).max_by(f64::total_cmp);
    let slowest = lines.iter().filter_map(|line| Some((line.rto_seconds?, line))).max_by(|a, b| a.0.total_cmp(&b.0));
    let fast = lines.iter().filter(|line| is_within(line.rto_seconds, line.rto_target_seconds)).count() as u64;
    let share = |many: u64| html! { (words::number(many)) small { " of " (words::number(all)) } };
    html! {
        section.executive #executive data-part {
            div.verdict.(tone.class()) {
                (parts::icon(tone))
                div {
                    h1 { (overview::sentence(view)) }
                    p { (in_words(view)) }
                }
            }
            div.tiles {
                (parts::tile("Protected", share(view.counts.protected), "every promise kept, and proven"))
                (parts::tile("Brought back in a drill", share(proven), "the last rehearsal passed"))
                (parts::tile("Losing no more than promised", share(within), match (nothing_back, worst) {
                    (0, Some(worst)) => format!("the most that would be lost now: {} of work", words::span(worst)),
                    (0, None) => "not known".to_owned(),
                    (many, _) => format!("{}: nothing could be brought back", words::count(many, "instance", "instances")),
                }))
                (parts::tile("Back as fast as promised", share(fast), match slowest {
                    Some((seconds, line)) => format!("the slowest, {}, took {}", line.instance, words::span(seconds)),
                    None => "never measured".to_owned(),
                }))
            }
            @let grave: Vec<&Line> = lines.iter().filter(|line| line.state == "unprotected").take(5).collect();
            @if !grave.is_empty() {
                h2 { "What would not come back" }
                ul.grave {
                    @for line in &grave {
                        li {
                            a href=(parts::instance_path(&line.tenant, &line.instance)) { (line.instance) }
                            @if let Some(owner) = &line.owner { span.soft { ", " (owner) } }
                            @if let Some(reason) = &line.reason { ": " (parts::first_line(reason)) }
                        }
                    }
                }
                @if view.counts.unprotected > grave.len() as u64 {
                    p { a href="/?state=unprotected" { "All " (words::number(view.counts.unprotected)) } }
                }
            }
            p.soft { "As of " (words::time(context.now)) " UTC. What stands here was measured and signed; the " a href="/?as=auditor" { "evidence" } " can be checked by somebody else." }
        }
    }
}

fn is_within(measured: Option<f64>, target: Option<f64>) -> bool {
    matches!((measured, target), (Some(measured), Some(target)) if measured <= target)
}

fn in_words(view: &Overview) -> String {
    let counts = &view.counts;
    let mut words = Vec::new();
    if counts.unprotected > 0 {
        words.push(format!("{} would not come back if lost today", words::number(counts.unprotected)));
    }
    if counts.at_risk > 0 {
        words.push(format!("{} would, but a promise is broken or not proven", words::number(counts.at_risk)));
    }
    if counts.unknown > 0 {
        let have = if counts.unknown == 1 { "has" } else { "have" };
        words.push(format!("{} {have} not been looked at yet", words::number(counts.unknown)));
    }
    if words.is_empty() {
        return "If any of them were lost now, it would come back within the promised time.".to_owned();
    }
    format!("{}.", words.join("; "))
}

/// Evidence, and where there is none.
pub(super) fn auditor(view: &Overview, filter: &Filter, context: &PageContext) -> Markup {
    let found: Vec<&Line> = view.instances.iter().filter(|line| filter.takes(line)).collect();
    let page = filter.page.clamp(1, found.len().div_ceil(PER_PAGE).max(1));
    let mut table = Table::new(
        "audit",
        "Proof and gaps by instance",
        &["Instance", "Rehearsed", "Negative control", "Not proven", "Evidence"],
    );
    for line in &found[(page - 1) * PER_PAGE..found.len().min(page * PER_PAGE)] {
        table.row(vec![
            html! { a href=(parts::instance_path(&line.tenant, &line.instance)) { (line.instance) } " " span.soft { (line.tenant) " · " (line.tier) } },
            overview::drill(line, context),
            last_control(line, context),
            gaps(line),
            html! {
                a href=(format!("/evidence?tenant={}&instance={}", parts::encoded(&line.tenant), parts::encoded(&line.instance))) {
                    "Statements" span.unseen { " of " (line.instance) }
                }
            },
        ]);
    }
    html! {
        h1 { "Evidence and gaps" }
        p.lead { "Each backup, drill and control leaves a signed statement. Take nobody's word for it, not even this page's: "
            a href="/evidence#offline" { "verify it offline" } "." }
        (filter.form(view))
        section #audit data-part {
            @if table.is_empty() { (parts::nothing("No instance is like that", html! { p { a href=(filter.without()) { "Show all instances" } } })) }
            @else { (table) (overview::pages(filter, page, found.len())) }
        }
    }
}

fn last_control(line: &Line, context: &PageContext) -> Markup {
    let newest = line.timeline.marks.iter().filter(|mark| mark.verb == "control").max_by_key(|mark| mark.at);
    html! {
        @match newest {
            Some(mark) => { (parts::word(Tone::of_outcome(&mark.outcome), html! { (mark.outcome) " " (words::ago(context.now, mark.at)) })) }
            None => { span.soft { "none in 14 days" } }
        }
    }
}

/// What an auditor asks about, in words.
fn gaps(line: &Line) -> Markup {
    let mut found = Vec::new();
    if line.drill_outcome.is_none() {
        found.push("never brought back in a drill".to_owned());
    }
    for (verb, more) in [("backup", "backups"), ("drill", "drills"), ("control", "controls")] {
        let bad = line.timeline.marks.iter().filter(|mark| mark.verb == verb && mark.outcome != "passed").count();
        if bad > 0 {
            found.push(format!("{} of 14 days did not pass", words::count(bad as u64, verb, more)));
        }
    }
    if !timeline::gaps(&line.timeline).is_empty() {
        found.push(timeline::covered(&line.timeline));
    }
    html! {
        @if found.is_empty() { "no gap" } @else { ul.plain { @for gap in &found { li { (gap) } } } }
    }
}
