//! Behind the instances: what the evidence supports; behind the records: how to read and check all of it.

use maud::{Markup, html};

use super::parts::{Table, facts, text};
use crate::report::{
    clauses::Clause,
    due::GRACE,
    period::{Ledger, Period},
    words::{count, moment, thousands},
};

pub(super) fn clauses(period: &Period) -> Markup {
    html! {
        section.annex id="clauses" {
            h2 { "What this evidence supports, and what it does not show" }
            p.soft {
                "The demands are told in our words; the text of the law or standard decides. Whether they are met is an \
                 auditor's judgement."
            }
            div.clauses { @for clause in &period.clauses { (self::clause(clause)) } }
        }
    }
}

fn clause(clause: &Clause) -> Markup {
    html! {
        div.clause {
            p.kicker { (clause.source) " " (clause.number) }
            h3 { (clause.title) }
            p { (clause.asks) }
            h4 { "Evidence in this period" }
            @if clause.supported_by.is_empty() { p { "None." } }
            ul { @for fact in &clause.supported_by { li { (fact) } } }
            h4 { "Not shown here" }
            ul { @for gap in &clause.not_shown { li { (gap) } } }
        }
    }
}

pub(super) fn about(period: &Period) -> Markup {
    let statements = &period.statements;
    let mut refused = Table::new("refused", &["Not believed", "Why"]);
    for one in &statements.listed {
        refused.row(vec![html! { code { (one.key) } }, html! { (one.why) }]);
    }
    html! {
        section.annex id="about" {
            h2 { "How to read and check this report" }
            (facts(vec![
                ("Period", text(html! { (moment(period.from)) " until before " (moment(period.to)) })),
                ("Made", text(html! { (moment(period.made)) " by " (period.made_by.user) "@" (period.made_by.host) ", " (period.software) })),
                ("Repository", text(html! { (period.storage) ", " code { (period.repository) } })),
                ("Rests on", text(html! {
                    (count(statements.believed, "signed statement", "signed statements")) " of this period; "
                    (thousands(statements.not_believed)) " not believed and in no sum"
                })),
                ("Ledger", text(ledger(&period.ledger))),
            ]))
            (refused)
            h4 { "Words" }
            ul {
                li { "Rehearsal: a drill that restores a recovery point in full into an isolated sandbox and checks it. One on a copy that was damaged on purpose is a negative control, and counts as no rehearsal." }
                li { "RPO: the work lost at the moment that was rehearsed, from the newest restored commit to it. Where a rehearsal took the end of a backup, that says nothing of the time until the next backup: then the longest time between backups counts against the target, too. RTO: from the first second to a served login." }
                li { "Passed: every required check ran and passed. A check that did not run is never a pass: then a rehearsal is incomplete." }
                li { "Due: so long after the last rehearsal as the tier says; late when it came more than one " (ordinal(GRACE)) " of that time later." }
                li { "Open exception: a failed or incomplete rehearsal or a wrong control that nobody has said a corrective action for, one whose action was not done in time, and a rehearsal that is overdue. Closed: answered for and passed since, or allowed by name." }
                li { "Sign-offs name the operating system's user; the role is what they said of themselves." }
            }
            h4 { "Checking" }
            ol {
                li { "Every line rests on a statement, named by its key and SHA-256; " code { "lifeboat evidence show RUN" } " shows it and its signature." }
                li { code { "lifeboat evidence verify" } " checks all of them; offline, with files and the public key alone, as well." }
                li { "This page is a rendering and is not signed: where it and a statement differ, the statement counts." }
            }
        }
    }
}

fn ordinal(part: u64) -> String {
    match part {
        10 => "tenth".to_owned(),
        part => format!("{part}th"),
    }
}

fn ledger(ledger: &Ledger) -> Markup {
    match ledger {
        Ledger::NotExecuted { why } => html! { "not audited for this report: " (why) },
        Ledger::Executed { entries, root, findings, remarks } => html! {
            (count(*entries, "entry", "entries"))
            @if let Some(root) = root { ", root " code { (root) } }
            @if findings.is_empty() { "; nothing is missing, edited or out of order" }
            @if *entries == 0 { "; without a ledger, statements count by their signatures alone" }
            @for (word, number) in findings { "; " strong.bad { (number) " " (word) } }
            @for (word, number) in remarks { "; " (number) " " (word) }
        },
    }
}
