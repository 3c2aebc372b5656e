//! Whatever stands in a file, reading it gives an answer.

use std::collections::BTreeMap;

use lifeboat_runbook::{
    check::{self, Surroundings},
    condition::Condition,
    document::Document,
    plan::{Mode, Plan, Request},
};
use proptest::prelude::*;

use crate::example;

/// Reads, checks and plans.
fn exercise(text: &str) {
    let Ok(document) = Document::parse(text) else { return };
    let other = document.clone();
    let lookup = |_: &str| Some(&other);
    let runbooks: Option<&check::Lookup<'_>> = Some(&lookup);
    for finding in check::check(&document, &Surroundings { runbooks, ..Surroundings::default() }) {
        let _ = finding.to_string();
    }
    for mode in [Mode::Plan, Mode::Practice, Mode::Real] {
        let _ = Plan::of(&document, &Request { parameters: BTreeMap::new(), mode, past: &|_| None, runbooks });
    }
}

const PIECES: [&str; 34] = [
    "# T\n",
    "## A\n",
    "### A B\n",
    "## 1. C\n",
    "---\n",
    "```toml\n",
    "```\n",
    "~~~toml\n",
    "~~~\n",
    "> ",
    "- ",
    "\r\n",
    "\t",
    "action = ",
    "\"decide\"\n",
    "'wait'\n",
    "'runbook'\n",
    "runbook = 't'\n",
    "answers = { a = 'a', b = 'c', c = 'end' }\n",
    "answers = { a = 'end', b = 'end' }\n",
    "question = 'q'\n",
    "for = '1s'\n",
    "undo = 'a'\n",
    "on_failure = 'rollback'\n",
    "only_when = \"a.answer == 'a'\"\n",
    "only_when = '",
    "id = 'c'\n",
    "[runbook]\nid = 't'\nsummary = 's'\n",
    "[parameters.p]\nkind = 'text'\n",
    "{{p}}",
    "{{a.answer}}",
    "{{",
    "ä𝄞",
    "\u{0}",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        exercise(&text);
    }

    #[test]
    fn no_order_of_pieces_panics(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..60)) {
        let text: String = pieces.concat();
        exercise(&text);
        exercise(&format!("# T\n```toml\n[runbook]\nid = 't'\nsummary = 's'\n```\n{text}"));
    }

    /// A right document with a piece cut out or put in.
    #[test]
    fn no_damage_panics(from in any::<prop::sample::Index>(), length in 0usize..40, put in prop::sample::select(&PIECES[..])) {
        let mut text = example();
        let begins: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let from = *from.get(&begins);
        let to = begins.iter().copied().find(|at| *at >= from + length).unwrap_or(text.len());
        text.replace_range(from..to, put);
        exercise(&text);
    }

    #[test]
    fn no_condition_panics(text in "[a-z.'\"=!() -]{0,60}") {
        if let Err(wrong) = Condition::parse(&text) {
            prop_assert!(wrong.at <= text.len());
        }
    }
}

/// Wide and deep documents are read in a time that people do not notice.
#[test]
fn large_documents_are_read_quickly() {
    let begun = std::time::Instant::now();
    let mut text = String::from("# T\n```toml\n[runbook]\nid = 't'\nsummary = 's'\n```\n");
    for number in 0..1500 {
        let next = if number < 1499 { format!("s{}", number + 1) } else { "end".to_owned() };
        text.push_str(&format!(
            "## s{number}\n```toml\naction = 'decide'\nquestion = 'q'\nanswers = {{ a = '{next}', b = 'end' }}\n```\n"
        ));
    }
    exercise(&text);
    exercise(&"> ".repeat(400_000));
    exercise(&"# a\n```toml\n".repeat(50_000));
    exercise(&format!("# T\n```toml\nx = {}", "[".repeat(900_000)));
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}
