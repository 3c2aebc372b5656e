//! One instance: how it is, why, what happened, what comes.

mod dependencies;
mod facts;

use maud::{Markup, html};

use super::{
    chart,
    context::{PageContext, Place},
    layout,
    parts::{self, Table},
    timeline, words,
};
use crate::view::{Due, InstanceView};

/// The page at `/tenants/{tenant}/instances/{instance}`.
pub fn page(view: &InstanceView, context: &PageContext) -> Markup {
    let mut context = context.clone().at(Place::Overview);
    context.looked = view.facts.as_ref().map(|facts| facts.looked);
    let line = &view.line;
    let body = html! {
        (head(view, &context))
        section.reasons #reasons data-part aria-labelledby="why" { (reasons(view)) }
        section #history data-part aria-labelledby="history-title" {
            h2 #history-title { "Last 14 days" }
            (timeline::large(&line.timeline))
            p.soft { (timeline::told(&line.timeline)) }
        }
        (dependencies::section(view, &context))
        @if let Some(facts) = &view.facts { (facts::all(facts, &context)) }
        div.two {
            section #runs data-part aria-labelledby="runs-title" {
                h2 #runs-title { "Runs" }
                @if view.runs.is_empty() {
                    (parts::nothing("Nothing has run yet", html! { p { "The first run is the one that is due next, or one that you start above." } }))
                } @else {
                    (parts::runs("Runs of this instance, newest first", &view.runs, context.now, false))
                }
            }
            section #due data-part aria-labelledby="due-title" {
                h2 #due-title { "Next" }
                (due(&view.due, &context))
            }
        }
    };
    layout::live_page(
        &context,
        &format!("{}, {}", line.instance, parts::state_word(&line.state).to_lowercase()),
        60,
        body,
    )
}

fn head(view: &InstanceView, context: &PageContext) -> Markup {
    let line = &view.line;
    html! {
        nav.crumbs aria-label="Where this is" { a href="/" { "Overview" } " / " a href=(format!("/?tenant={}", parts::encoded(&line.tenant))) { (line.tenant) } }
        div.headline {
            div #state data-part {
                h1 { (line.instance) }
                p.soft { (parts::state(&line.state)) " " (line.tier) " tier of " (line.tenant) @if let Some(owner) = &line.owner { ", owned by " (owner) } }
            }
            @if context.operates(&line.tenant) { (acts(view, context)) }
        }
        div.tiles #measures data-part { (tiles(view, context)) }
    }
}

/// What an operator can begin. A form, so that it works without a script.
fn acts(view: &InstanceView, context: &PageContext) -> Markup {
    let path = format!("{}/runs", parts::instance_path(&view.line.tenant, &view.line.instance));
    html! {
        div.acts {
            @for (verb, name) in [("backup", "Back up now"), ("drill", "Drill now")] {
                form method="post" action=(path) {
                    (context.csrf())
                    input type="hidden" name="verb" value=(verb);
                    button.primary[verb == "backup"] type="submit" { (name) }
                }
            }
        }
    }
}

fn tiles(view: &InstanceView, context: &PageContext) -> Markup {
    let line = &view.line;
    let of = |target: Option<f64>| target.map(|target| format!("target {}", words::span(target))).unwrap_or_default();
    let exposure = match line.exposure_seconds {
        Some(seconds) => words::span(seconds),
        None if view.facts.is_some() => "everything".to_owned(),
        None => "not known".to_owned(),
    };
    html! {
        (parts::tile("Loss if it were lost now", exposure, of(line.rpo_target_seconds)))
        (parts::tile("Back in, when last rehearsed", line.rto_seconds.map_or_else(|| "not measured".to_owned(), words::span), of(line.rto_target_seconds)))
        (parts::tile("Newest point", html! { @match line.newest_point { Some(at) => { (words::ago(context.now, at)) } None => { "none" } } },
            line.newest_point.map(words::exact).unwrap_or_default()))
        (parts::tile("Last drill", html! {
            @match &line.drill_outcome { Some(outcome) => { (parts::outcome(outcome)) } None => { "never" } }
        }, html! { @if let Some(at) = line.drill_started { (words::time_and_ago(context.now, at)) } }))
    }
}

fn reasons(view: &InstanceView) -> Markup {
    html! {
        @if view.facts.is_none() {
            h2 #why { "Not looked at yet" }
            p { "The daemon asks the source and the repository in turn, within minutes of its start. To ask now: "
                (parts::command(&format!("lifeboat status {}", view.line.instance))) }
        } @else if view.reasons.is_empty() {
            h2 #why { "Why it is protected" }
            p { "What was promised is so, and the last drill proved it." }
        } @else {
            h2 #why { "Why, and what to do" }
            ol.reasons {
                @for reason in &view.reasons {
                    li.(parts::Tone::of_state(&reason.state).class()) {
                        p { (parts::state(&reason.state)) " " (reason.text) }
                        p { span.soft { "Next: " } (parts::command(&reason.next)) }
                    }
                }
            }
        }
    }
}

fn due(due: &[Due], context: &PageContext) -> Markup {
    let mut table = Table::new("due", "Next runs, soonest first", &["Run", "When", "Schedule"]);
    for one in due {
        table.row(vec![
            html! { (words::capital(&one.verb)) },
            words::time_and_ago(context.now, one.at),
            html! { (one.schedule) },
        ]);
    }
    html! {
        @if table.is_empty() {
            (parts::nothing("Nothing is due", html! { p { "No schedule takes this instance: see " a href="/schedules" { "schedules" } "." } }))
        } @else { (table) }
    }
}

/// The RTO of the last drills against its target.
fn trend(facts: &lifeboat_engine::status::Facts) -> Markup {
    let points: Vec<chart::Point> =
        facts.rto_trend.iter().map(|one| chart::Point { at: one.at, value: one.seconds }).collect();
    chart::against_target("rto", "Time to be back (RTO) of each passed drill", &points, facts.targets.rto_seconds)
}
