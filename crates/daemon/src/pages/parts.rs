//! The small pieces that all pages are made of. Meaning is in shape and word; colour only repeats it.

use maud::{Markup, Render, html};

use super::words;
use crate::view::RunLine;

/// How a word is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Doubt,
    Bad,
    /// Going on.
    Live,
    Plain,
}

impl Tone {
    pub fn class(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Doubt => "doubt",
            Tone::Bad => "bad",
            Tone::Live => "live",
            Tone::Plain => "plain",
        }
    }

    /// Of the state of an instance.
    pub fn of_state(state: &str) -> Tone {
        match state {
            "protected" => Tone::Good,
            "at-risk" => Tone::Doubt,
            "unprotected" => Tone::Bad,
            _ => Tone::Plain,
        }
    }

    /// Of the outcome of a run.
    pub fn of_outcome(outcome: &str) -> Tone {
        match outcome {
            "passed" => Tone::Good,
            "failed" => Tone::Bad,
            "incomplete" | "interrupted" | "missed" | "not-executed" => Tone::Doubt,
            _ => Tone::Plain,
        }
    }
}

/// A tick in a circle, a mark in a triangle, a cross in an octagon, a half circle or a dot: told apart in black and white.
pub(super) fn icon(tone: Tone) -> Markup {
    html! {
        svg.icon viewBox="0 0 24 24" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="2.4"
            stroke-linecap="round" stroke-linejoin="round" {
            (shape(tone))
        }
    }
}

/// The lines of an icon, for a drawing of 24 by 24.
pub(super) fn shape(tone: Tone) -> Markup {
    html! {
        @match tone {
            Tone::Good => { circle cx="12" cy="12" r="10" {} path d="M7 12.5l3.5 3.5L17 8.5" {} }
            Tone::Doubt => { path d="M12 2.5L22.5 21h-21z" {} path d="M12 9.5v5M12 17.6v.1" {} }
            Tone::Bad => { path d="M8 2h8l6 6v8l-6 6H8l-6-6V8z" {} path d="M8.5 8.5l7 7M15.5 8.5l-7 7" {} }
            Tone::Live => { circle cx="12" cy="12" r="10" {} path d="M12 12V2a10 10 0 0 1 0 20z" fill="currentColor" {} }
            Tone::Plain => { circle cx="12" cy="12" r="4" {} }
        }
    }
}

/// A word with its sign.
pub(super) fn word(tone: Tone, word: impl Render) -> Markup {
    html! { span.word.(tone.class()) { (icon(tone)) (word) } }
}

/// `Protected`, `At risk`, `Unprotected`, `Not looked at`.
pub(super) fn state_word(state: &str) -> &'static str {
    match state {
        "protected" => "Protected",
        "at-risk" => "At risk",
        "unprotected" => "Unprotected",
        _ => "Not looked at",
    }
}

/// The state of an instance.
pub(super) fn state(state: &str) -> Markup {
    word(Tone::of_state(state), state_word(state))
}

/// The outcome of a run or check.
pub(super) fn outcome(outcome: &str) -> Markup {
    word(Tone::of_outcome(outcome), outcome.replace('-', " "))
}

/// What a run is at: its outcome, or its phase.
pub(super) fn run_state(run: &RunLine) -> Markup {
    match (&run.outcome, run.phase.as_str()) {
        (Some(ended), _) => outcome(ended),
        (None, "running") => word(Tone::Live, "running"),
        (None, phase) => word(Tone::Plain, phase),
    }
}

/// A command that people can take with them; the script adds a button that copies it.
pub(super) fn command(command: &str) -> Markup {
    html! { code.command data-copy { (command) } }
}

/// Names and values; those without a value are left out.
pub(super) fn facts(rows: Vec<(&str, Option<Markup>)>) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in rows {
                @if let Some(value) = value { div { dt { (name) } dd { (value) } } }
            }
        }
    }
}

/// A number with its name, and a line below.
pub(super) fn tile(name: &str, value: impl Render, more: impl Render) -> Markup {
    html! {
        div.tile {
            p.name { (name) }
            p.value { (value) }
            p.more { (more) }
        }
    }
}

/// What stands where there is nothing, and what to do about it.
pub(super) fn nothing(title: &str, body: impl Render) -> Markup {
    html! { div.nothing { p.title { (title) } (body) } }
}

/// A table whose rows become cards on a narrow screen, where each cell tells its column's name.
pub(super) struct Table<'n> {
    caption: &'n str,
    names: &'n [&'n str],
    class: &'static str,
    rows: Vec<Vec<Markup>>,
}

impl<'n> Table<'n> {
    /// The caption is for who does not see the heading above.
    pub fn new(class: &'static str, caption: &'n str, names: &'n [&'n str]) -> Self {
        Table { caption, names, class, rows: Vec::new() }
    }

    /// A row; its first cell is the row's name.
    pub fn row(&mut self, cells: Vec<Markup>) {
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Render for Table<'_> {
    fn render(&self) -> Markup {
        html! {
            table class=(self.class) {
                caption.unseen { (self.caption) }
                thead { tr { @for name in self.names { th scope="col" { (name) } } } }
                tbody {
                    @for row in &self.rows {
                        tr {
                            @for (at, (name, cell)) in self.names.iter().zip(row).enumerate() {
                                @if at == 0 {
                                    th scope="row" data-name=(name) { span { (cell) } }
                                } @else {
                                    td data-name=(name) { span { (cell) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The address of an instance's page.
pub(super) fn instance_path(tenant: &str, instance: &str) -> String {
    format!("/tenants/{}/instances/{}", encoded(tenant), encoded(instance))
}

/// The address of a run's page.
pub(super) fn run_path(run: &str) -> String {
    format!("/runs/{}", encoded(run))
}

/// A text as part of a path or query: what does not belong there is percent-encoded.
pub(super) fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// Who wanted a run.
pub(super) fn because(run: &RunLine) -> Markup {
    html! {
        @match (&run.schedule, &run.who) {
            (Some(schedule), _) => { "schedule " (schedule) }
            (None, Some(who)) => { "asked by " (who) }
            (None, None) => { "by hand" }
        }
        @if run.attempt > 1 { span.soft { ", try " (run.attempt) } }
    }
}

/// How long a run took, or has been going on.
pub(super) fn took(run: &RunLine, now: jiff::Timestamp) -> Option<String> {
    let started = run.started?;
    Some(words::span(words::between(started, run.ended.unwrap_or(now))))
}

/// Runs in a table, newest first as they come.
pub(super) fn runs(caption: &str, runs: &[RunLine], now: jiff::Timestamp, with_instance: bool) -> Markup {
    let with = ["Run", "Instance", "Outcome", "Began", "Took", "Why"];
    let without = ["Run", "Outcome", "Began", "Took", "Why"];
    let mut table = Table::new("runs", caption, if with_instance { &with } else { &without });
    for run in runs {
        let at = run.started.or(run.due);
        let mut cells = vec![html! { a href=(run_path(&run.run)) { (words::capital(&run.verb)) } }];
        if with_instance {
            cells.push(html! {
                @match &run.instance {
                    Some(instance) => { a href=(instance_path(&run.tenant, instance)) { (instance) } }
                    None => { "all of " (run.tenant) }
                }
            });
        }
        cells.extend([
            html! {
                (run_state(run))
                @if let Some(reason) = &run.reason { span.because { (first_line(reason)) } }
            },
            html! { @if let Some(at) = at { (words::time_and_ago(now, at)) } @else { "not yet" } },
            html! { @match took(run, now) { Some(took) => { (took) } None => { "–" } } },
            because(run),
        ]);
        table.row(cells);
    }
    table.render()
}

/// What stands before the first line break, cut at a length that lists can bear.
pub(super) fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= 160 { line.to_owned() } else { line.chars().take(159).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_texts_stay_texts() {
        let hostile = "<script>alert(1)</script>\"' onmouseover=x";
        let shown = html! { (command(hostile)) (word(Tone::Bad, hostile)) (nothing(hostile, hostile)) }.into_string();
        assert!(!shown.contains("<script>") && !shown.contains("\"'"), "{shown}");
        assert_eq!(instance_path("a/../b", "x?y#z é"), "/tenants/a%2F..%2Fb/instances/x%3Fy%23z%20%C3%A9");
    }

    #[test]
    fn every_state_has_a_shape_of_its_own() {
        let shapes: std::collections::BTreeSet<String> =
            [Tone::Good, Tone::Doubt, Tone::Bad, Tone::Live, Tone::Plain].map(|tone| icon(tone).into_string()).into();
        assert_eq!(shapes.len(), 5);
        assert_eq!(Tone::of_state("something new"), Tone::Plain, "never shown as good");
        assert_eq!(Tone::of_outcome("something new"), Tone::Plain);
    }

    #[test]
    fn long_reasons_are_cut_in_lists() {
        assert_eq!(first_line("one\ntwo"), "one");
        assert_eq!(first_line(&"ü".repeat(500)).chars().count(), 160);
    }
}
