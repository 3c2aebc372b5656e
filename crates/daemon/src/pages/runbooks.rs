//! Runbooks: what there is, and each as people read it.

use maud::{Markup, html};

use super::{
    context::{PageContext, Place},
    layout, markdown,
    parts::{self, Table, Tone},
    runbook_run::{self, run_path, state},
    words,
};
use crate::view::{RunbookRunLine, RunbookRuns, RunbookText, RunbookView, Runbooks, StepPlan};

/// A run that nobody went on with for so long, in seconds, is not what is going on: it stands in the list.
const RECENT: f64 = 86_400.0;

/// The page at `/runbooks`.
pub fn list(runbooks: &Runbooks, runs: &RunbookRuns, context: &PageContext) -> Markup {
    let context = context.clone().at(Place::Runbooks);
    let body = html! {
        h1 { "Runbooks" }
        p.lead { "What people follow when it is real, and Lifeboat executes: the same file. A run needs no daemon: "
            (parts::command("lifeboat runbook run")) }
        (going_on(runs, &context))
        (doubts(&runbooks.doubts))
        section #runbooks data-part aria-labelledby="runbooks-title" {
            h2.unseen #runbooks-title { "All runbooks" }
            @if runbooks.runbooks.is_empty() {
                (parts::nothing("There is no runbook", html! { p { "Put Markdown files into the folder " code { "runbooks" } " beside lifeboat.toml. "
                    "Those that Lifeboat ships are a good beginning." } }))
            } @else { (table(&runbooks.runbooks, &context)) }
        }
        section #runs data-part aria-labelledby="runs-title" {
            h2 #runs-title { "Runs" }
            (doubts(&runs.doubts))
            @if runs.runs.is_empty() {
                (parts::nothing("None has been run", html! { p { "A runbook that nobody has practised is a hope: "
                    (parts::command("lifeboat runbook run total-loss --mode practice")) } }))
            } @else { (runs_table(&runs.runs, &context)) }
        }
    };
    layout::live_page(&context, "Runbooks", 60, body)
}

/// The address of a runbook's text.
pub(super) fn path(tenant: &str, file: &str) -> String {
    format!("{}/{}", folder(tenant), parts::encoded(file))
}

fn folder(tenant: &str) -> String {
    format!("/runbooks/{}", parts::encoded(tenant))
}

/// A run that goes on comes first: whoever opens the page then wants nothing else.
fn going_on(runs: &RunbookRuns, context: &PageContext) -> Markup {
    html! {
        div #going-on data-part {
            @for run in runs.runs.iter().filter(|run| run.phase != "over" && words::between(run.last, context.now) < RECENT) {
                div.verdict.(state(run).0.class()) {
                    (parts::icon(state(run).0))
                    div {
                        p.large { a href=(run_path(&run.run)) { (run.title.as_deref().unwrap_or(&run.runbook)) } " " (state(run).1) }
                        p { (runbook_run::clock(run)) @if let Some(at) = &run.at { " · at " (at) } " · last heard of " (words::ago(context.now, run.last)) }
                    }
                }
            }
        }
    }
}

fn doubts(doubts: &[String]) -> Markup {
    html! { @for doubt in doubts { p.problem.mild { (parts::icon(Tone::Doubt)) span { (doubt) } } } }
}

fn table(runbooks: &[RunbookView], context: &PageContext) -> Markup {
    let names = ["Runbook", "When to use it", "Takes", "Rehearsed", "Check"];
    let mut table = Table::new("books", "Runbooks", &names);
    for book in runbooks {
        let title = book.title.as_deref().unwrap_or(&book.file);
        table.row(vec![
            html! { a href=(path(&book.tenant, &book.file)) { (title) } span.because { (book.tenant) ", " (book.file) } },
            html! { @match &book.summary { Some(summary) => { (summary) } None => { "" } } },
            html! { (takes(book)) },
            rehearsed(book, context),
            findings(book),
        ]);
    }
    html! { (table) }
}

fn takes(book: &RunbookView) -> Markup {
    let seconds = book.expected_seconds.unwrap_or_default();
    let is_late = book.rto_target_seconds.is_some_and(|target| seconds > target);
    html! {
        @if book.title.is_none() { "not known" }
        @else if book.steps == 0 { "only for reading" }
        @else {
            @if seconds > 0.0 { (words::span(seconds)) } @else { "not known" }
            @if let Some(target) = book.rto_target_seconds {
                @if is_late { " " (parts::word(Tone::Doubt, html! { "RTO " (words::span(target)) })) }
                @else { span.soft { " of RTO " (words::span(target)) } }
            }
            span.because { (words::count(book.steps, "step", "steps"))
                @if book.expected_unknown > 0 { ", " (words::number(book.expected_unknown)) " of unknown length" } }
        }
    }
}

fn rehearsed(book: &RunbookView, context: &PageContext) -> Markup {
    html! {
        @match book.rehearsed.as_str() {
            "rehearsed" => { (parts::word(Tone::Good, "rehearsed")) @if let Some(at) = book.rehearsed_at { span.because { (words::ago(context.now, at)) } } }
            "failed" => {
                (parts::word(Tone::Bad, "UNREHEARSED")) @if let Some(at) = book.rehearsed_at { span.because { "practice failed " (words::ago(context.now, at)) } }
            }
            "changed" => {
                (parts::word(Tone::Doubt, "UNREHEARSED")) @if let Some(at) = book.rehearsed_at { span.because { "practised " (words::ago(context.now, at)) ", edited since" } }
            }
            "never" if book.steps > 0 => { (parts::word(Tone::Doubt, "UNREHEARSED")) span.because { "never practised" } }
            _ if book.steps == 0 => { span.soft { "–" } }
            _ => { (parts::word(Tone::Plain, "not known")) }
        }
    }
}

fn findings(book: &RunbookView) -> Markup {
    let warnings = words::count(book.warnings, "warning", "warnings");
    html! {
        @if book.errors > 0 { (parts::word(Tone::Bad, words::count(book.errors, "error", "errors"))) span.because { "it is not executed" } }
        @else if book.warnings > 0 { (parts::word(Tone::Doubt, warnings)) }
        @else { (parts::word(Tone::Good, "fine")) }
    }
}

fn runs_table(runs: &[RunbookRunLine], context: &PageContext) -> Markup {
    let mut table =
        Table::new("courses", "Runs of runbooks, newest first", &["Runbook", "State", "Mode", "Began", "Took", "By"]);
    for run in runs {
        let (tone, word) = state(run);
        table.row(vec![
            html! { a href=(run_path(&run.run)) { (run.title.as_deref().unwrap_or(&run.runbook)) }
                @if let Some(instance) = &run.instance { span.because { (instance) " of " (run.tenant) } } },
            html! { (parts::word(tone, word)) @if let Some(reason) = &run.reason { span.because { (parts::first_line(reason)) } } },
            html! { (run.mode) },
            words::time_and_ago(context.now, run.started),
            html! { (words::span(run.elapsed_seconds)) },
            html! { (run.who) },
        ]);
    }
    html! { (table) }
}

/// The page at `/runbooks/{tenant}/{file}`.
pub fn text(view: &RunbookText, context: &PageContext) -> Markup {
    let context = context.clone().at(Place::Runbooks);
    let (line, title) = (&view.line, view.line.title.as_deref().unwrap_or(&view.line.file));
    let at_heading = |at: usize| {
        let step = view.steps.iter().find(|step| step.at == at as u64)?;
        Some(markdown::Heading { id: place(&step.id), below: does(step) })
    };
    let body = html! {
        nav.crumbs aria-label="Where this is" { a href="/runbooks" { "Runbooks" } " / " (line.tenant) }
        h1 { (title) }
        @if let Some(summary) = &line.summary { p.lead { (summary) } }
        (parts::facts(vec![
            ("Takes", Some(takes(line))),
            ("Rehearsed", Some(rehearsed(line, &context))),
            ("Relies on", (!view.needs.is_empty()).then(|| html! { (view.needs.join(", ")) })),
            ("Changes", (!view.touches.is_empty()).then(|| html! { ul.plain-list { @for one in &view.touches { li { (one) } } } })),
            ("File", Some(html! { (line.file) @if let Some(version) = &line.version { ", version " (version) } })),
            ("SHA-256", line.sha256.as_ref().map(|sha256| html! { code.id { (sha256) } })),
        ]))
        @if !view.findings.is_empty() { (found(view)) }
        article.prose { (markdown::rendered(&view.text, &folder(&line.tenant), &at_heading)) }
    };
    layout::page(&context, title, body)
}

fn place(id: &str) -> String {
    format!("step-{id}")
}

fn found(view: &RunbookText) -> Markup {
    html! {
        section.checked aria-labelledby="findings-title" {
            h2 #findings-title { "What its check says" }
            ul.findings {
                @for one in &view.findings {
                    @let tone = if one.severity == "error" { Tone::Bad } else { Tone::Doubt };
                    li { (parts::word(tone, html! { (one.severity) })) " line " (one.line) ": " (one.text) }
                }
            }
        }
    }
}

/// What Lifeboat does at a step.
fn does(step: &StepPlan) -> Markup {
    let (tone, effect) = match step.effect.as_str() {
        "destroys" => (Tone::Bad, "destroys"),
        "changes" => (Tone::Doubt, "changes"),
        _ => (Tone::Plain, "changes nothing"),
    };
    html! {
        div.does {
            p { (step.words) }
            p {
                @if step.touches.is_empty() { (parts::word(tone, effect)) }
                @else { (parts::word(tone, effect)) " " (step.touches.join(", ")) }
                @if let Some(seconds) = step.expected_seconds { span.soft { " · about " (words::span(seconds)) } }
                @if let Some(role) = &step.role { span.soft { " · " (role) } }
            }
            @if !step.answers.is_empty() { p.soft { (step.answers.join("; ")) } }
        }
    }
}
