//! All instances, one line each, gravest first.

use maud::{Markup, html};

use super::{
    context::{PageContext, Place},
    filter::Filter,
    layout, parts, readers, timeline, words,
};
use crate::view::{Line, Overview};

/// Lines on a page: more than anybody reads, and few enough that a browser shows them at once.
pub(super) const PER_PAGE: usize = 100;

/// The page at `/`, for whoever reads it.
pub fn page(view: &Overview, filter: &Filter, context: &PageContext) -> Markup {
    let context = context.clone().at(Place::Overview);
    let body = html! {
        (readers::switch(filter))
        @if view.instances.is_empty() {
            (empty())
        } @else {
            @match filter.reader.as_deref() {
                Some("on-call") => { (readers::on_call(view, filter, &context)) }
                Some("owner") => { (readers::owner(view, filter, &context)) }
                Some("executive") => { (readers::executive(view, &context)) }
                Some("auditor") => { (readers::auditor(view, filter, &context)) }
                _ => { (everyone(view, filter, &context)) }
            }
        }
    };
    layout::live_page(&context, &title(view), 60, body)
}

/// What the browser's tab says.
fn title(view: &Overview) -> String {
    let counts = &view.counts;
    match (counts.unprotected, counts.at_risk) {
        (0, 0) => "Overview".to_owned(),
        (0, risk) => format!("{} at risk", words::number(risk)),
        (bad, _) => format!("{} unprotected", words::number(bad)),
    }
}

fn everyone(view: &Overview, filter: &Filter, context: &PageContext) -> Markup {
    let found: Vec<&Line> = view.instances.iter().filter(|line| filter.takes(line)).collect();
    let page = filter.page.clamp(1, found.len().div_ceil(PER_PAGE).max(1));
    let shown = &found[(page - 1) * PER_PAGE..found.len().min(page * PER_PAGE)];
    html! {
        section aria-labelledby="sum" {
            div #summary data-part {
                h1 #sum { (sentence(view)) }
                (counts(view, filter))
            }
            (filter.form(view))
        }
        section #instances aria-label="Instances" data-part {
            @if found.is_empty() {
                (parts::nothing("No instance is like that", html! { p { a href=(filter.without()) { "Show all instances" } } }))
            } @else {
                (timeline::legend())
                (table(shown, context, has_tenants(view)))
                (pages(filter, page, found.len()))
            }
        }
    }
}

/// The first thing that is read, and it must be right.
pub(super) fn sentence(view: &Overview) -> String {
    let counts = &view.counts;
    let all = view.instances.len() as u64;
    if all > 0 && counts.protected == all {
        return if all == 1 {
            "The one instance is protected".to_owned()
        } else {
            format!("All {} instances are protected", words::number(all))
        };
    }
    let are = |many: u64| if many == 1 { "is" } else { "are" };
    let protected = counts.protected;
    format!(
        "{} of {} {} protected",
        words::number(protected),
        words::count(all, "instance", "instances"),
        are(protected)
    )
}

fn counts(view: &Overview, filter: &Filter) -> Markup {
    let counts = &view.counts;
    let all = [
        ("unprotected", counts.unprotected),
        ("at-risk", counts.at_risk),
        ("protected", counts.protected),
        ("unknown", counts.unknown),
    ];
    html! {
        ul.counts aria-label="By state" {
            @for (state, many) in all {
                @if many > 0 || state != "unknown" {
                    @let is_chosen = filter.state.as_deref() == Some(state);
                    li {
                        a.count.(parts::Tone::of_state(state).class()) href=(filter.toggle_state(state))
                            aria-current=[is_chosen.then_some("true")] {
                            (parts::icon(parts::Tone::of_state(state)))
                            strong { (words::number(many)) } " " (parts::state_word(state).to_lowercase())
                            @if is_chosen { span.unseen { " (shown alone; choose again to show all)" } }
                        }
                    }
                }
            }
        }
    }
}

/// Whether there is more than one: with one, its name on each line would say nothing.
fn has_tenants(view: &Overview) -> bool {
    view.instances.windows(2).any(|pair| pair[0].tenant != pair[1].tenant)
}

fn table(lines: &[&Line], context: &PageContext, with_tenant: bool) -> Markup {
    html! {
        table.overview {
            caption.unseen { "Instances, gravest first" }
            thead { tr {
                th scope="col" { "Instance" }
                th scope="col" { "What is wrong, and the next command" }
                th.number scope="col" { "Loss now" }
                th scope="col" { "Last drill" }
                th scope="col" { "Last 14 days" }
            } }
            @for group in lines.chunk_by(|a, b| a.state == b.state) {
                tbody {
                    @for line in group { (row(line, context, with_tenant)) }
                }
            }
        }
    }
}

fn row(line: &Line, context: &PageContext, with_tenant: bool) -> Markup {
    let now = context.now;
    html! {
        tr.(parts::Tone::of_state(&line.state).class()) {
            th scope="row" {
                a.name href=(parts::instance_path(&line.tenant, &line.instance)) { (line.instance) }
                (parts::state(&line.state)) " " span.soft { @if with_tenant { (line.tenant) " · " } (line.tier) }
            }
            td.what {
                @if let Some(reason) = &line.reason { p { (reason) } }
                @if let Some(next) = &line.next { p { (parts::command(next)) } }
                @for run in line.running.iter().take(3) {
                    p { a href=(parts::run_path(&run.run)) { (parts::word(parts::Tone::Live, &run.verb)) }
                        @if let Some(started) = run.started { span.soft { " began " (words::ago(now, started)) } } }
                }
                @if line.running.is_empty() && line.reason.is_none() {
                    @if let Some(due) = &line.next_run { p.soft { "Next: " (due.verb) " " (words::ago(now, due.at)) } }
                }
            }
            td.number data-name="Loss now" { (exposure(line)) }
            td data-name="Last drill" { (drill(line, context)) }
            td.when { (timeline::small(&line.timeline)) }
        }
    }
}

/// What a loss would cost now, beside what it may cost.
pub(super) fn exposure(line: &Line) -> Markup {
    let target = line.rpo_target_seconds;
    html! {
        div {
            @match line.exposure_seconds {
                Some(seconds) => {
                    strong.bad[target.is_some_and(|target| seconds > target)] { (words::short(seconds)) }
                    @if target.is_some_and(|target| seconds > target) { span.unseen { ", more than may be lost" } }
                }
                None if line.state == "unknown" => { "not known" }
                None => { strong.bad { "everything" } }
            }
            @if let Some(target) = target { span.soft { "of " (words::short(target)) } }
        }
    }
}

/// The last drill, and how long it took to bring the instance back.
pub(super) fn drill(line: &Line, context: &PageContext) -> Markup {
    html! {
        div {
            @match (&line.drill_outcome, line.drill_started) {
                (Some(outcome), Some(started)) => {
                    (parts::word(parts::Tone::of_outcome(outcome), html! { (outcome) " " (words::ago(context.now, started)) }))
                    @if let Some(rto) = line.rto_seconds {
                        span.soft {
                            "back in " (words::short(rto))
                            @if let Some(target) = line.rto_target_seconds { " of " (words::short(target)) }
                        }
                    }
                }
                _ => { span.soft { "never" } }
            }
        }
    }
}

/// Which page of how many.
pub(super) fn pages(filter: &Filter, page: usize, all: usize) -> Markup {
    let last = all.div_ceil(PER_PAGE).max(1);
    let (first_line, last_line) = ((page - 1) * PER_PAGE + 1, all.min(page * PER_PAGE));
    html! {
        @if last > 1 {
            nav.pages aria-label="Pages" {
                p { (words::number(first_line as u64)) "–" (words::number(last_line as u64)) " of " (words::number(all as u64)) ", gravest first" }
                @if page > 1 { a rel="prev" href=(filter.at_page(page - 1)) { "← Graver" } }
                @if page < last { a rel="next" href=(filter.at_page(page + 1)) { "Next →" } }
            }
        }
    }
}

fn empty() -> Markup {
    html! {
        h1 { "No instance yet" }
        (parts::nothing("Nothing is protected here, because nothing is named to be", html! {
            p { "An instance is a section of " code { "lifeboat.toml" } ". Start with a configuration and check it:" }
            p { (parts::command("lifeboat init")) }
            p { (parts::command("lifeboat config check")) }
            p { "The daemon sees the change within seconds. If somebody else set this up: your sign-in may be for a tenant that has none." }
        }))
    }
}
