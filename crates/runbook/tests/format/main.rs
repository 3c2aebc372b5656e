//! The format as docs/runbook-format.md has it: what is read, what is told to be wrong and where, and what a plan says.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod consent;
mod findings;
mod panics;
mod parsing;
mod planning;

use lifeboat_runbook::document::Document;

const SPECIFICATION: &str = include_str!("../../../../docs/runbook-format.md");

/// The whole example of the specification.
fn example() -> String {
    let (_, rest) = SPECIFICATION.split_once("````markdown\n").unwrap();
    rest.split_once("````\n").unwrap().0.to_owned()
}

/// A document that must be one.
#[track_caller]
fn parse(text: &str) -> Document {
    Document::parse(text).unwrap_or_else(|findings| {
        panic!("{}\n{text}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

/// A runbook with these steps: heading and block each.
fn with(steps: &[(&str, &str)]) -> String {
    let head = "# T\n```toml\n[runbook]\nid = \"t\"\nsummary = \"s\"\nroles = [\"lead\"]\n[parameters.p]\nkind = \"text\"\n```\n";
    let steps = steps.iter().map(|(heading, block)| format!("{heading}\n```toml\n{block}\n```\n"));
    format!("{head}{}", steps.collect::<String>())
}
