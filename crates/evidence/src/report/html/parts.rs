//! The small pieces that all pages are made of. Meaning is in shape and word; colour only repeats it.

use lifeboat_model::check::{Outcome, Verdict};
use maud::{Markup, Render, html};

use crate::report::period::Status;

/// How a word is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Doubt,
    Bad,
    Plain,
}

impl Tone {
    pub fn class(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Doubt => "doubt",
            Tone::Bad => "bad",
            Tone::Plain => "plain",
        }
    }
}

/// A tick in a circle, a mark in a triangle, a cross in an octagon, or a dot: told apart in black and white.
pub(super) fn icon(tone: Tone) -> Markup {
    html! {
        svg viewBox="0 0 24 24" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="2.4"
            stroke-linecap="round" stroke-linejoin="round" {
            @match tone {
                Tone::Good => { circle cx="12" cy="12" r="10" {} path d="M7 12.5l3.5 3.5L17 8.5" {} }
                Tone::Doubt => { path d="M12 2.5L22.5 21h-21z" {} path d="M12 9.5v5M12 17.6v.1" {} }
                Tone::Bad => { path d="M8 2h8l6 6v8l-6 6H8l-6-6V8z" {} path d="M8.5 8.5l7 7M15.5 8.5l-7 7" {} }
                Tone::Plain => { circle cx="12" cy="12" r="4" {} }
            }
        }
    }
}

pub(super) fn badge(tone: Tone, word: &str) -> Markup {
    html! { span.badge.(tone.class()) { (icon(tone)) (word) } }
}

pub(super) fn outcome(outcome: Outcome) -> Markup {
    let tone = match outcome {
        Outcome::Passed => Tone::Good,
        Outcome::Failed => Tone::Bad,
        Outcome::Incomplete => Tone::Doubt,
    };
    badge(tone, outcome.word())
}

pub(super) fn verdict(verdict: &Verdict) -> Markup {
    let tone = match verdict {
        Verdict::Passed => Tone::Good,
        Verdict::Failed(_) => Tone::Bad,
        Verdict::NotExecuted(_) => Tone::Doubt,
    };
    badge(tone, verdict.word())
}

pub(super) fn status(status: Status) -> Markup {
    let tone = match status {
        Status::Open => Tone::Bad,
        Status::InHand => Tone::Doubt,
        Status::Closed => Tone::Plain,
    };
    badge(tone, status.word())
}

/// A number with its name, and a line below.
pub(super) fn tile(name: &str, value: impl Render, more: impl Render) -> Markup {
    html! {
        div.tile {
            div.name { (name) }
            div.value { (value) }
            div.more { (more) }
        }
    }
}

/// Names and values; those without a value are left out.
pub(super) fn facts(rows: Vec<(&str, Option<Markup>)>) -> Markup {
    html! {
        dl {
            @for (name, value) in rows {
                @if let Some(value) = value { dt { (name) } dd { (value) } }
            }
        }
    }
}

pub(super) fn text(text: impl Render) -> Option<Markup> {
    Some(html! { (text) })
}

pub(super) fn code(text: impl Render) -> Option<Markup> {
    Some(html! { code { (text) } })
}

/// A table whose rows become cards on a narrow screen, where each cell tells its column's name.
pub(super) struct Table<'n> {
    names: &'n [&'n str],
    class: &'static str,
    rows: Vec<Vec<Markup>>,
}

impl<'n> Table<'n> {
    pub fn new(class: &'static str, names: &'n [&'n str]) -> Self {
        Table { names, class, rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<Markup>) {
        self.rows.push(cells);
    }
}

impl Render for Table<'_> {
    fn render(&self) -> Markup {
        html! {
            @if !self.rows.is_empty() {
                table class=(self.class) {
                    thead { tr { @for name in self.names { th scope="col" { (name) } } } }
                    tbody {
                        @for row in &self.rows {
                            tr {
                                @for (name, cell) in self.names.iter().zip(row) {
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
