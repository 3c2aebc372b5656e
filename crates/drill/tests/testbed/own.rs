//! Checks of an operator's own: each kind asked of the real thing, with right and with wrong expectations.

use std::time::Duration;

use lifeboat_model::{
    check::{Outcome, Verdict},
    config::checks::{OwnCheck, Question, Returned, Rows},
    time::Span,
};
use serde_json::json;

use crate::origin::{check, drill, enabled, nothing_left, request, work_root};

fn own(name: &str, question: Question) -> OwnCheck {
    OwnCheck {
        id: format!("own.{name}"),
        purpose: name.to_owned(),
        database: None,
        timeout: Span(Duration::from_secs(30)),
        required: true,
        question,
    }
}

fn sql(query: &str, expect: Rows) -> Question {
    Question::Sql { query: query.to_owned(), expect }
}

fn rows(rows: &[&[&str]]) -> Rows {
    Rows::Equal(rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect())
}

fn rpc(method: &str, arguments: serde_json::Value, expect: Returned) -> Question {
    Question::Rpc { model: "res.partner".into(), method: method.into(), arguments, keywords: json!({}), expect }
}

fn http(path: &str, status: u16, contains: Option<&str>, logged_in: bool) -> Question {
    Question::Http { path: path.into(), status, contains: contains.map(str::to_owned), logged_in }
}

fn run(run: &[&str], exit: i64, contains: Option<&str>) -> Question {
    let run = run.iter().map(|&word| word.to_owned()).collect();
    Question::Command { run, exit, contains: contains.map(str::to_owned) }
}

/// What holds of the testbed's Odoo.
pub fn right() -> Vec<OwnCheck> {
    vec![
        own("rows", sql("SELECT 1, NULL::text, true", rows(&[&["1", "NULL", "t"]]))),
        own("count", sql("SELECT count(*) FROM res_partner", Rows::AtLeast(10))),
        own("partners", rpc("search_count", json!([[]]), Returned::AtLeast(10))),
        own("none", rpc("search_count", json!([[["id", "=", -1]]]), Returned::Equal(json!(0)))),
        own("login-page", http("/web/login", 200, Some("password"), false)),
        own("version", run(&["odoo", "--version"], 0, Some("Odoo Server 19"))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn another_answer_than_configured_fails_and_no_answer_is_not_executed() {
    if !enabled() {
        return;
    }
    let work = work_root();
    let mut request = request(work.path());
    let mut slow = own("slow", sql("SELECT pg_sleep(60)", rows(&[&[""]])));
    slow.timeout = Span(Duration::from_secs(1));
    request.config.checks = vec![
        own("rows", sql("SELECT name FROM res_partner ORDER BY id LIMIT 1", rows(&[&["Nobody's Name"]]))),
        own("writes", sql("DELETE FROM res_partner", rows(&[]))),
        own("no-table", sql("SELECT 1 FROM gone", Rows::AtLeast(0))),
        own("partners", rpc("search_count", json!([[]]), Returned::AtLeast(10_000_000))),
        own("no-method", rpc("no_such_method", json!([]), Returned::AtLeast(0))),
        own("page", http("/no/such/page", 200, None, false)),
        own("text", http("/web/login", 200, Some("no such text"), true)),
        own("program", run(&["sh", "-c", "echo oops; exit 3"], 0, None)),
        slow,
    ];
    let wrong: Vec<String> = request.config.checks.iter().map(|check| check.id.clone()).collect();
    let report = drill(request).await;
    for id in wrong.iter().filter(|id| *id != "own.slow") {
        assert!(matches!(check(&report, id).verdict, Verdict::Failed(_)), "{:?}", check(&report, id));
    }
    assert!(check(&report, "own.writes").observed.contains("read-only"), "{:?}", check(&report, "own.writes"));
    assert!(check(&report, "own.program").observed.contains("oops"), "{:?}", check(&report, "own.program"));
    let slow = check(&report, "own.slow");
    let told = matches!(&slow.verdict, Verdict::NotExecuted(_)) || slow.observed.contains("statement timeout");
    assert!(told && !slow.verdict.is_passed(), "{slow:?}");
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(wrong.iter().all(|id| report.required.contains(id)), "{:?}", report.required);
    // Evidence hears neither what was seen nor what was expected.
    let evidence = serde_json::to_string(&report.evidence_checks).expect("checks are written");
    let said = check(&report, "own.rows").observed.clone();
    assert!(said.contains("Nobody's Name") && !evidence.contains("Nobody's Name"), "{said}");
    nothing_left(&report, work.path());
}
