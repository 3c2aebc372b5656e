//! A run of a runbook: where it stands, against the clock. Live while it goes on.

use maud::{Markup, html};

use super::{
    context::{PageContext, Place},
    layout,
    parts::{self, Table, Tone},
    words,
};
use crate::view::{AnswerView, JournalNote, RunbookRunLine, RunbookRunView, StepView};

/// The page at `/runbook-runs/{run}`.
pub fn page(view: &RunbookRunView, context: &PageContext) -> Markup {
    let context = context.clone().at(Place::Runbooks);
    let line = &view.line;
    let is_live = line.phase != "over";
    let title = line.title.as_deref().unwrap_or(&line.runbook);
    let body = html! {
        div data-quick=[is_live.then_some("")] {
            nav.crumbs aria-label="Where this is" { a href="/runbooks" { "Runbooks" } " / " (line.tenant) }
            div.headline {
                div {
                    h1 { (title) }
                    p.soft { (capital_mode(line)) @if let Some(instance) = &line.instance { " · "
                        a href=(parts::instance_path(&line.tenant, instance)) { (instance) } } " · " code.id { (line.run) } }
                }
            }
            div #standing data-part { (standing(view, &context)) }
            div.tiles #clock data-part { (tiles(view, &context)) }
            section #steps data-part aria-labelledby="steps-title" {
                h2 #steps-title { "Steps" }
                @if !view.is_text_known {
                    p.problem.mild { (parts::icon(Tone::Doubt)) span { "The text that is executed is not here, or was edited since: only steps that were begun are known." } }
                }
                @if view.steps.is_empty() { p.soft { "None was begun." } }
                @else { ol.course { @for step in &view.steps { (one_step(step, line, &context)) } } }
            }
            section #notes data-part aria-labelledby="notes-title" {
                h2 #notes-title { "Journal" }
                (notes(&view.notes))
            }
            section aria-labelledby="parameters-title" {
                h2 #parameters-title { "What it was begun with" }
                (parameters(view))
            }
        }
    };
    let title = format!("{title}, {}", state(line).1);
    if is_live { layout::live_page(&context, &title, 5, body) } else { layout::page(&context, &title, body) }
}

/// The address of a run's page.
pub(super) fn run_path(run: &str) -> String {
    format!("/runbook-runs/{}", parts::encoded(run))
}

fn capital_mode(line: &RunbookRunLine) -> &'static str {
    match line.mode.as_str() {
        "real" => "For real",
        "practice" => "Practice, with sandboxes in place of production",
        _ => "Plan",
    }
}

/// How a run is, in a word.
pub(super) fn state(line: &RunbookRunLine) -> (Tone, &'static str) {
    match (line.phase.as_str(), line.ending.as_deref()) {
        ("over", Some("passed")) => (Tone::Good, "passed"),
        ("over", Some("failed")) => (Tone::Bad, "ended, with steps that failed"),
        ("over", Some("answered")) => (Tone::Doubt, "ended by an answer"),
        ("over", Some("rolled-back")) => (Tone::Doubt, "taken back"),
        ("over", Some("half-rolled-back")) => (Tone::Bad, "taken back in part"),
        ("over", _) => (Tone::Plain, "over"),
        ("stopped", _) => (Tone::Bad, "stands still"),
        ("asks", _) => (Tone::Doubt, "waits for a person"),
        _ => (Tone::Live, "goes on"),
    }
}

/// Elapsed against the target.
pub(super) fn clock(line: &RunbookRunLine) -> String {
    let elapsed = words::span(line.elapsed_seconds);
    match line.rto_target_seconds {
        Some(target) if line.elapsed_seconds > target => {
            format!("{elapsed} of {}: {} over the RTO", words::span(target), words::span(line.elapsed_seconds - target))
        }
        Some(target) => format!("{elapsed} of {}", words::span(target)),
        None => format!("{elapsed} so far"),
    }
}

fn standing(view: &RunbookRunView, context: &PageContext) -> Markup {
    let line = &view.line;
    let (tone, word) = state(line);
    html! {
        div.verdict.(tone.class()) {
            (parts::icon(tone))
            div {
                p.large data-say { (words::capital(word)) @if let Some(at) = &line.at { span.soft { ": " (at) } } }
                @if let Some(reason) = &line.reason { p.reason { (reason) } }
                @if line.phase == "stopped" { p { "Next: " (parts::command(&format!("lifeboat runbook resume {}", line.run))) } }
                @if line.phase != "over" {
                    p { "Its journal was last written " (words::ago(context.now, line.last)) ". If it was cut off: "
                        (parts::command(&format!("lifeboat runbook resume {}", line.run))) }
                }
                @if !view.next.is_empty() { p { "Then: " (view.next.join(", ")) } }
            }
        }
    }
}

fn tiles(view: &RunbookRunView, context: &PageContext) -> Markup {
    let line = &view.line;
    let share = line.rto_target_seconds.filter(|target| *target > 0.0).map(|target| line.elapsed_seconds / target);
    let more = match (share, line.rto_target_seconds) {
        (Some(share), Some(target)) if share > 1.0 => parts::word(
            Tone::Bad,
            html! { (words::span(line.elapsed_seconds - target)) " over the target of " (words::span(target)) },
        ),
        (_, Some(target)) => {
            html! { "target " (words::span(target)) ", " (words::span(target - line.elapsed_seconds)) " left" }
        }
        _ => html! { "no target is known" },
    };
    let more = match (line.phase.as_str(), line.rto_target_seconds) {
        ("over", Some(target)) if share.is_some_and(|share| share <= 1.0) => html! { "target " (words::span(target)) },
        _ => more,
    };
    html! {
        (parts::tile(if line.phase == "over" { "Took" } else { "Since it began" }, words::span(line.elapsed_seconds), more))
        (parts::tile("Steps", html! { (words::number(line.steps_over)) small { " of " (words::number(line.steps)) } }, "that are over"))
        (parts::tile("Began", words::ago(context.now, line.started), words::exact(line.started)))
        (parts::tile("By", html! { small { (line.who) } }, html! {
            @if let Some(incident) = &line.incident { "incident " (incident) } @else { "no incident" } }))
    }
}

fn of_step(step: &StepView) -> (Tone, &'static str) {
    match step.state.as_str() {
        "running" => (Tone::Live, "at it"),
        "passed" => (Tone::Good, "done"),
        "failed" => (Tone::Bad, "failed"),
        "skipped" => (Tone::Plain, "passed over"),
        "not-practised" => (Tone::Doubt, "not practised"),
        "taking-back" => (Tone::Live, "being taken back"),
        "taken-back" => (Tone::Doubt, "taken back"),
        "not-taken-back" => (Tone::Bad, "could not be taken back"),
        _ => (Tone::Plain, "to come"),
    }
}

fn one_step(step: &StepView, line: &RunbookRunLine, context: &PageContext) -> Markup {
    if step.is_group {
        return html! { li.group { h3 { (step.title) } } };
    }
    let (tone, word) = match line.phase.as_str() {
        "asks" if step.state == "running" => (Tone::Doubt, "waits for a person"),
        "over" if step.state == "untouched" => (Tone::Plain, "not run"),
        _ => of_step(step),
    };
    let is_to_come = step.state == "untouched";
    html! {
        li.(tone.class()).to-come[is_to_come] {
            div.rung {
                (parts::icon(tone))
                h3 { (step.title) @if let Some(action) = &step.action { " " span.soft { (action) } } }
                span.state {
                    @if let (true, Some(undone)) = (is_to_come, &step.undoes) { span.soft { "only to take back " (undone) } }
                    @else { (word) @if step.attempt > 1 { ", try " (step.attempt) } }
                }
                span.time { (time(step, context)) }
            }
            @if let Some(why) = &step.why { p.why { (why) } }
            @if !step.printed.is_empty() { (printed(step, line)) }
            @if !step.answers.is_empty() { ul.answers { @for answer in &step.answers { li { (answered(answer)) } } } }
        }
    }
}

/// The end of what it printed, and where the rest is.
fn printed(step: &StepView, line: &RunbookRunLine) -> Markup {
    html! {
        pre.printed role="group" tabindex="0" aria-label={ "What " (step.title) " printed" } { (step.printed.join("\n")) }
        @if step.printed_before > 0 {
            p.soft { (words::number(step.printed_before)) " lines before these: "
                (parts::command(&format!("lifeboat runbook runs {} --json", line.run))) }
        }
    }
}

/// Elapsed against expected.
fn time(step: &StepView, context: &PageContext) -> Markup {
    let elapsed = step.started.map(|started| words::between(started, step.ended.unwrap_or(context.now)));
    let is_late =
        matches!((elapsed, step.expected_seconds), (Some(elapsed), Some(expected)) if elapsed > expected * 1.5);
    html! {
        @match (elapsed, step.expected_seconds) {
            (Some(elapsed), Some(expected)) => {
                @if is_late { strong { (words::span(elapsed)) } } @else { (words::span(elapsed)) }
                " of " (words::span(expected))
            }
            (Some(elapsed), None) => { (words::span(elapsed)) }
            (None, Some(expected)) if step.state == "untouched" => { "about " (words::span(expected)) }
            (None, _) => {}
        }
    }
}

fn answered(answer: &AnswerView) -> Markup {
    let asked = match answer.asked.as_str() {
        "failure" => "after it failed",
        "doubt" => "whether it was done",
        _ => "",
    };
    html! {
        strong { (answer.who) } ": " (answer.answer)
        @if !asked.is_empty() { span.soft { ", " (asked) } }
        @if let Some(comment) = &answer.comment { ", \u{201c}" (comment) "\u{201d}" }
        span.soft { " at " (clock_time(answer.at)) }
    }
}

fn clock_time(at: jiff::Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%H:%M:%S").to_string()
}

fn notes(notes: &[JournalNote]) -> Markup {
    html! {
        @if notes.is_empty() { p.soft { "Nothing." } }
        @else {
            ol.notes tabindex="0" aria-label="Lines of the journal" {
                @for note in notes.iter().rev() {
                    li.(if note.is_bad { "bad" } else { "plain" }) {
                        time datetime=(note.at) { (clock_time(note.at)) }
                        span { (note.text) " " span.soft { (note.who) } }
                    }
                }
            }
        }
    }
}

fn parameters(view: &RunbookRunView) -> Markup {
    let mut table = Table::new("parameters", "Parameters", &["Parameter", "Value"]);
    for (name, value) in &view.parameters {
        table.row(vec![html! { (name) }, html! { code { (value) } }]);
    }
    html! {
        @if table.is_empty() { p.soft { "No parameter." } } @else { (table) }
        p.soft { "Text " code.id { (view.sha256) } }
    }
}
