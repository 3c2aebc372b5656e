//! The report as one HTML document: no script, no font, no picture but those that lie in it, and a policy in its head that
//! forbids them. Prints on A4.
//!
//! All text goes through the templates of `maud`, which escape it; nothing but our own style sheet is written as it is.
//! Written in pieces: [`head`], then a [`record()`] for each drill, then [`tail`].

mod chart;
mod front;
mod instance;
mod parts;
mod record;
mod rest;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::period::{Period, State};
pub use record::{Line, Picture};

/// Ours, and thus not escaped.
const STYLE: &str = include_str!("style.css");
/// Nothing is loaded, nothing runs, nothing is sent.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// Everything before the first full record: the page for those in a hurry, each instance, the clauses. `records` says in
/// words which records follow.
pub fn head(period: &Period, records: &str) -> String {
    let title = format!("Recovery evidence of {}, {}", period.tenant, front::days(period));
    let body = html! {
        (front::front(period))
        @for of in &period.instances { (instance::instance(period, of)) }
        (rest::clauses(period))
        section.annex id="records" {
            h2 { "Full records" }
            p.soft { (records) }
        }
    };
    opened(&title, body)
}

/// The full record of a rehearsal or a control.
pub fn record(drill: &crate::DrillPredicate, line: Line<'_>, picture: Picture<'_>) -> String {
    record::record(drill, line, picture).into_string()
}

/// What stands before the records of negative controls.
pub fn controls_head() -> String {
    html! {
        section.annex id="controls" {
            h2 { "Records of negative controls" }
            p { "Not rehearsals: a copy was damaged on purpose, and the control passes only when exactly the right checks fail." }
        }
    }
    .into_string()
}

/// Everything after the last record.
pub fn tail(period: &Period) -> String {
    format!("{}</main></body></html>\n", rest::about(period).into_string())
}

/// A document whose end is still to come.
pub(super) fn opened(title: &str, body: Markup) -> String {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    };
    let text = document.into_string();
    // Texts are escaped, so these three tags in a row stand at the end alone.
    text.strip_suffix("</main></body></html>").map(str::to_owned).unwrap_or(text)
}

fn tone(state: State) -> parts::Tone {
    match state {
        State::Protected => parts::Tone::Good,
        State::AtRisk => parts::Tone::Doubt,
        State::Unprotected => parts::Tone::Bad,
    }
}
