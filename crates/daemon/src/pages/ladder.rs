//! The ladder of a drill: rungs in their order, each with its checks, those to come as well.

use maud::{Markup, html};

use super::{
    parts::{self, Table, Tone},
    words,
};
use crate::view::CheckView;

/// Name of a rung, and the words before the dot of its checks' ids (docs/drill.md).
const RUNGS: [(&str, &[&str]); 15] = [
    ("Select the point", &["select"]),
    ("Signature and locks", &["point"]),
    ("Fetch and place", &["fetch"]),
    ("Files", &["files"]),
    ("Replay", &["replay", "sandbox"]),
    ("Structure", &["structure"]),
    ("Data", &["data"]),
    ("Attachments", &["attachments"]),
    ("Make it harmless", &["neutralise"]),
    ("Boot", &["boot"]),
    ("Use", &["use"]),
    ("Books", &["books"]),
    ("Measure", &["measure"]),
    ("Tear down", &["teardown"]),
    ("Sign", &["evidence"]),
];

/// A rung with what its checks answered.
struct Rung<'c> {
    number: Option<usize>,
    name: &'c str,
    checks: Vec<&'c CheckView>,
}

/// Whatever answered, in the order of the ladder; own checks of an instance stand after the rungs that are known.
fn climbed(checks: &[CheckView]) -> Vec<Rung<'_>> {
    let of = |check: &CheckView, prefixes: &[&str]| {
        check.id.split('.').next().is_some_and(|prefix| prefixes.contains(&prefix))
    };
    let mut rungs: Vec<Rung<'_>> = RUNGS
        .iter()
        .enumerate()
        .map(|(at, (name, prefixes))| Rung {
            number: Some(at + 1),
            name,
            checks: checks.iter().filter(|check| of(check, prefixes)).collect(),
        })
        .collect();
    let known = |check: &CheckView| RUNGS.iter().any(|(_, prefixes)| of(check, prefixes));
    let others: Vec<&CheckView> = checks.iter().filter(|check| !known(check)).collect();
    if !others.is_empty() {
        rungs.push(Rung { number: None, name: "Other checks", checks: others });
    }
    rungs
}

/// The worst of its checks.
fn verdict(rung: &Rung<'_>) -> Option<&'static str> {
    let any = |word: &str| rung.checks.iter().any(|check| check.verdict == word);
    match () {
        () if rung.checks.is_empty() => None,
        () if any("failed") => Some("failed"),
        () if rung.checks.iter().all(|check| check.verdict == "passed") => Some("passed"),
        () => Some("not-executed"),
    }
}

/// The ladder. While it is climbed, `is_live`, rungs without an answer are still to come; after it they were not reached.
pub(super) fn ladder(checks: &[CheckView], is_live: bool) -> Markup {
    let rungs = climbed(checks);
    let reached = rungs.iter().rposition(|rung| !rung.checks.is_empty());
    html! {
        ol.ladder {
            @for (at, rung) in rungs.iter().enumerate() {
                @let answer = verdict(rung);
                li class=(answer.map_or("to-come", |answer| Tone::of_outcome(answer).class())) {
                    div.rung {
                        span.number { (rung.number.map(|number| number.to_string()).unwrap_or_default()) }
                        h3 { (rung.name) }
                        @match answer {
                            Some(answer) => { (parts::outcome(answer)) }
                            None if is_live && reached.is_none_or(|reached| at > reached) => { (parts::word(Tone::Plain, "to come")) }
                            None => { (parts::word(Tone::Plain, "no check")) }
                        }
                        span.time { @if answer.is_some() { (words::span(rung.checks.iter().map(|check| check.seconds).sum())) } }
                    }
                    @if !rung.checks.is_empty() { (table(rung)) }
                }
            }
        }
    }
}

fn table(rung: &Rung<'_>) -> Markup {
    let mut table = Table::new("checks", rung.name, &["Check", "Answer", "What was seen", "Took"]);
    for check in &rung.checks {
        table.row(vec![
            html! { code { (check.id) } },
            parts::outcome(&check.verdict),
            html! { (check.detail) },
            html! { (words::span(check.seconds)) },
        ]);
    }
    html! { (table) }
}

/// `12 passed, 1 failed, 2 not executed`.
pub(super) fn sum(checks: &[CheckView]) -> String {
    let of = |word: &str| checks.iter().filter(|check| check.verdict == word).count() as u64;
    let mut parts = vec![format!("{} passed", words::number(of("passed")))];
    for (word, name) in [("failed", "failed"), ("not-executed", "not executed")] {
        if of(word) > 0 {
            parts.push(format!("{} {name}", words::number(of(word))));
        }
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &str, verdict: &str) -> CheckView {
        CheckView { id: id.into(), verdict: verdict.into(), detail: "<b>seen</b>".into(), seconds: 1.5 }
    }

    #[test]
    fn rungs_are_in_order_and_answer_with_their_worst() {
        let checks = [
            check("files.pages", "not-executed"),
            check("select.point", "passed"),
            check("files.manifest", "passed"),
            check("own.thing", "failed"),
        ];
        let rungs = climbed(&checks);
        let answers: Vec<_> = rungs.iter().map(verdict).collect();
        assert_eq!(
            (answers[0], answers[1], answers[3], answers[15]),
            (Some("passed"), None, Some("not-executed"), Some("failed"))
        );
        assert_eq!(sum(&checks), "2 passed, 1 failed, 1 not executed");
    }

    #[test]
    fn what_is_to_come_is_not_what_was_left_out() {
        let checks = [check("select.point", "passed"), check("fetch.place", "passed")];
        let live = ladder(&checks, true).into_string();
        assert_eq!((live.matches("to come<").count(), live.matches("no check<").count()), (12, 1), "{live}");
        let over = ladder(&checks, false).into_string();
        assert_eq!((over.matches("to come<").count(), over.matches("no check<").count()), (0, 13));
        assert!(!over.contains("<b>seen"));
    }
}
