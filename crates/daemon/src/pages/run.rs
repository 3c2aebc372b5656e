//! One run: what it does, how far it is, what it said. Live while it goes on.

use maud::{Markup, html};

use super::{
    context::{PageContext, Place},
    ladder, layout,
    parts::{self, Tone},
    words,
};
use crate::view::{NoteView, RunView};

/// The page at `/runs/{run}`.
pub fn page(view: &RunView, context: &PageContext) -> Markup {
    let context = context.clone().at(Place::Overview);
    let line = &view.line;
    let is_live = line.outcome.is_none();
    let of = line.instance.as_deref().unwrap_or(&line.tenant);
    let body = html! {
        div data-run=[is_live.then_some(&line.run)] {
            (head(view, of, &context))
            section #progress data-part aria-labelledby="progress-title" {
                h2 #progress-title { @if is_ladder(view) { "The ladder" } @else { "Progress" } }
                (doing(view, is_live))
                @if is_ladder(view) { (ladder::ladder(&view.checks, is_live)) }
                @else if !view.checks.is_empty() { (ladder::ladder(&view.checks, false)) }
            }
            section #notes data-part aria-labelledby="notes-title" {
                h2 #notes-title { "What it said" }
                (notes(&view.notes))
            }
            @if let Some(answer) = &view.answer { (answer_of(answer)) }
        }
    };
    let title = format!("{} of {of}, {}", words::capital(&line.verb), line.outcome.as_deref().unwrap_or(&line.phase));
    if is_live { layout::live_page(&context, &title, 5, body) } else { layout::page(&context, &title, body) }
}

fn is_ladder(view: &RunView) -> bool {
    matches!(view.line.verb.as_str(), "drill" | "control") && view.line.outcome.as_deref() != Some("missed")
}

fn head(view: &RunView, of: &str, context: &PageContext) -> Markup {
    let line = &view.line;
    html! {
        nav.crumbs aria-label="Where this is" {
            a href="/" { "Overview" } " / " a href=(format!("/?tenant={}", parts::encoded(&line.tenant))) { (line.tenant) }
            @if let Some(instance) = &line.instance { " / " a href=(parts::instance_path(&line.tenant, instance)) { (instance) } }
        }
        div.headline {
            div {
                h1 { (words::capital(&line.verb)) " of " (of) }
                p.soft { (parts::because(line)) " · " code.id { (line.run) } }
            }
            @if line.outcome.is_none() && context.operates(&line.tenant) {
                div.acts #acts data-part { form method="post" action=(format!("{}/cancel", parts::run_path(&line.run))) {
                    (context.csrf())
                    button.danger type="submit" { "Cancel this run" }
                } }
            }
        }
        div #outcome data-part { (outcome(view, context)) }
    }
}

fn outcome(view: &RunView, context: &PageContext) -> Markup {
    let line = &view.line;
    let tone = match (&line.outcome, line.phase.as_str()) {
        (Some(outcome), _) => Tone::of_outcome(outcome),
        (None, "running") => Tone::Live,
        (None, _) => Tone::Plain,
    };
    let word = line
        .outcome
        .clone()
        .unwrap_or_else(|| if line.phase == "queued" { "waiting".into() } else { line.phase.clone() });
    html! {
        div.verdict.(tone.class()) {
            (parts::icon(tone))
            div {
                p.large data-say { (words::capital(&word)) @if !view.checks.is_empty() { span.soft { ": " (ladder::sum(&view.checks)) } } }
                @if let Some(reason) = &line.reason { p.reason { (reason) } }
            }
        }
        (parts::facts(vec![
            ("Due", line.due.map(|at| words::time_and_ago(context.now, at))),
            ("Began", line.started.map(|at| words::time_and_ago(context.now, at))),
            ("Ended", line.ended.map(|at| words::time_and_ago(context.now, at))),
            (if line.ended.is_some() { "Took" } else { "For" }, parts::took(line, context.now).map(|took| html! { (took) })),
            ("Evidence", evidence(view, context)),
        ]))
    }
}

fn evidence(view: &RunView, context: &PageContext) -> Option<Markup> {
    let key = view.evidence.as_ref()?;
    let path = super::evidence::path(&view.line.tenant, key);
    Some(html! {
        @if context.may(crate::auth::Need::Evidence) { a href=(path) { "Open the signed statement" } } @else { "signed and kept" }
    })
}

fn doing(view: &RunView, is_live: bool) -> Markup {
    html! {
        @if is_live {
            p.doing data-say {
                @match (&view.doing, view.line.phase.as_str()) {
                    (Some(doing), _) => { (parts::word(Tone::Live, "now")) " " (doing) }
                    (None, "queued") => { "It has not begun. " (view.line.reason.as_deref().unwrap_or("It is next in line.")) }
                    (None, _) => { "It has begun, and has not said anything yet." }
                }
            }
        } @else if view.checks.is_empty() && !is_ladder(view) {
            p.soft { "It is over." }
        }
    }
}

fn notes(notes: &[NoteView]) -> Markup {
    html! {
        @if notes.is_empty() {
            p.soft { "Nothing." }
        } @else {
            ol.notes {
                @for note in notes {
                    li.(level(&note.level).class()) {
                        time datetime=(note.at) { (note.at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%H:%M:%S").to_string()) }
                        span { @if note.level != "INFO" { strong { (note.level.to_lowercase()) ": " } } (note.text) }
                    }
                }
            }
        }
    }
}

fn level(level: &str) -> Tone {
    match level {
        "ERROR" => Tone::Bad,
        "WARN" => Tone::Doubt,
        _ => Tone::Plain,
    }
}

fn answer_of(answer: &serde_json::Value) -> Markup {
    let text = serde_json::to_string_pretty(answer).unwrap_or_else(|_| answer.to_string());
    html! { details.answer { summary { "The answer in full" } pre tabindex="0" { code { (text) } } } }
}
