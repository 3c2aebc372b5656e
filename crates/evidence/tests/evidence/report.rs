//! Reports: what they sum, what they say of it, and that no text of a statement gets out of its place.

use jiff::Timestamp;
use lifeboat_evidence::{
    DrillPredicate, Predicate, Statement,
    backup::StartedBy,
    report::{
        Builder, Charge, Ledger, Period, Scope, State, Told, csv, html, json,
        period::{InstancePeriod, Status},
    },
};
use lifeboat_model::{
    check::Outcome,
    id::{RepositoryId, Sha256Digest},
};
use serde_json::Value;

use crate::{
    samples,
    year::{self, ARCHIVE, CLINIC, CLOSED, FROM, HOSTILE, LONG, NOW, PHARMACY},
};

const DAY: u64 = 86_400;

fn scope() -> Scope {
    let charge = |name: &str, tier: &str, rpo: u64, rto: u64, every: Option<u64>| Charge {
        instance: name.parse().unwrap(),
        tier: tier.parse().unwrap(),
        owner: (name == CLINIC).then(|| "Dr. Agnès Müller, Leitung Medizin-IT <it@example.org>".to_owned()),
        rpo_seconds: rpo,
        rto_seconds: rto,
        every_seconds: every,
        known_since: None,
        rehearsed_before: None,
    };
    Scope {
        tenant: year::TENANT.parse().unwrap(),
        from: FROM.parse().unwrap(),
        to: NOW.parse().unwrap(),
        made: NOW.parse().unwrap(),
        made_by: StartedBy { user: "auditor".into(), host: "desk".into(), command: "lifeboat evidence report".into() },
        software: "lifeboat 0.1.0".into(),
        repository: RepositoryId([3; 16]),
        storage: "s3://hospital-evidence".into(),
        instances: vec![
            charge(CLINIC, "gold", 900, 3600, Some(7 * DAY)),
            charge(LONG, "silver", 3600, 14_400, Some(31 * DAY)),
            charge(PHARMACY, "silver", 3600, 14_400, Some(14 * DAY)),
            charge(ARCHIVE, "bronze", DAY, 2 * DAY, None),
        ],
    }
}

fn told(statements: &[Statement], scope: Scope, ledger: Ledger) -> Period {
    let mut builder = Builder::new(scope);
    for statement in statements {
        assert_eq!(statement.contradictions(), Vec::<String>::new());
        let key = statement.storage_key().unwrap().to_string();
        builder.add(Told { statement, key: &key, sha256: year::digest(statement) });
    }
    builder.add_not_believed("northern-hospitals/evidence/x.dsse.json", "no signature by a trusted key");
    builder.finish(ledger)
}

fn not_audited() -> Ledger {
    Ledger::NotExecuted { why: "lifeboat evidence verify looks at it".into() }
}

fn of_year() -> (Vec<Statement>, Period) {
    let statements = year::statements();
    let period = told(&statements, scope(), not_audited());
    (statements, period)
}

fn of<'p>(period: &'p Period, name: &str) -> &'p InstancePeriod {
    period.instances.iter().find(|of| of.instance.as_str() == name).unwrap()
}

fn document(statements: &[Statement], period: &Period) -> String {
    let drill = |run| {
        let found = statements.iter().find_map(|statement| match &statement.predicate {
            Predicate::Drill(drill) if drill.run == run => Some(drill.as_ref()),
            _ => None,
        });
        let found: &DrillPredicate = found.unwrap();
        found
    };
    let mut text = html::head(period, "Of all.");
    for of in &period.instances {
        for one in &of.rehearsals {
            text += &html::record(drill(one.run), html::Line::Rehearsal(one), html::Picture::Kept);
        }
    }
    text += &html::controls_head();
    for of in &period.instances {
        for one in &of.controls {
            text += &html::record(drill(one.run), html::Line::Control(one), html::Picture::Kept);
        }
    }
    text + &html::tail(period)
}

#[test]
fn a_year_is_summed() {
    let (_, period) = of_year();
    let clinic = of(&period, CLINIC);
    assert_eq!((clinic.rehearsals.len(), clinic.controls.len()), (48, 15), "controls are no rehearsals");
    let due = clinic.due.as_ref().unwrap();
    assert_eq!((due.due, due.missed, due.gaps.len()), (52, 5, 2), "one came to no answer: {due:?}");
    assert!(due.gaps[0].done.is_some());
    assert_eq!(clinic.state, State::Protected, "{:?}", clinic.reasons);
    let status = |text: &str| clinic.exceptions.iter().find(|one| one.what.contains(text)).map(|one| one.status);
    assert_eq!(status("data.digests"), Some(Status::Closed), "a corrective action, and passed since");
    assert_eq!(status("structure.amcheck"), Some(Status::Closed), "allowed");
    assert_eq!(status("boot.log"), Some(Status::Open), "nobody has said what is done about it");
    assert_eq!(status("older-module"), Some(Status::Open), "a control that saw the wrong thing");
    assert_eq!(status("came"), Some(Status::Closed), "late, and done since");

    let long = of(&period, LONG);
    assert!(long.rto.missed > 0 && long.rto.worst_seconds > Some(14_400.0), "{:?}", long.rto);
    let pharmacy = of(&period, PHARMACY);
    assert_eq!((pharmacy.state, pharmacy.exceptions.len()), (State::Protected, 0), "{:?}", pharmacy.reasons);
    assert_eq!(period.sums.accepted, 26 + 16 + 1);
    let archive = of(&period, ARCHIVE);
    assert_eq!((archive.state, archive.due.is_none()), (State::AtRisk, true));
    let closed = of(&period, CLOSED);
    assert_eq!((closed.state, closed.configured), (State::Unprotected, false));
    assert_eq!((period.state, period.sums.unprotected, period.sums.without_rhythm), (State::Unprotected, 2, 2));
    assert_eq!((period.sums.controls, period.sums.controls_passed), (15, 14));
    let asked: Vec<&str> = period.decisions.iter().map(|question| question.what.as_str()).collect();
    for wanted in ["1 statement of this period is not believed", "web_responsive", "older-module", "how often archive"]
    {
        assert!(asked.iter().any(|what| what.contains(wanted)), "{wanted}: {asked:#?}");
    }
}

#[test]
fn who_was_not_rehearsed_is_not_protected() {
    let silent = told(&[], scope(), not_audited());
    assert_eq!(silent.state, State::Unprotected);
    let clinic = of(&silent, CLINIC);
    assert_eq!((clinic.due.as_ref().unwrap().missed, clinic.state), (52, State::Unprotected));
    assert!(clinic.exceptions.iter().all(|one| one.status == Status::Open) && !clinic.exceptions.is_empty());
    let nobody = told(&[], Scope { instances: vec![], ..scope() }, not_audited());
    assert_eq!((nobody.state, nobody.instances.len()), (State::Unprotected, 0));
    assert!(document(&[], &nobody).contains("no instance is configured"));
}

#[test]
fn words_from_after_the_period_count_and_drills_do_not() {
    let statements = year::statements();
    let to: Timestamp = "2026-01-12T12:00:00Z".parse().unwrap();
    let period = told(&statements, Scope { to, ..scope() }, not_audited());
    let last = of(&period, CLINIC).rehearsals.last().unwrap();
    assert!(last.started < to && !last.sign_offs.is_empty() && last.sign_offs[0].time > to, "{last:#?}");
}

#[test]
fn no_text_of_a_statement_becomes_markup() {
    let (statements, period) = of_year();
    let text = document(&statements, &period);
    // For whoever wants to look at it.
    std::fs::write(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-year.html"), &text).unwrap();
    assert!(text.matches("&lt;script&gt;").count() >= 3, "the hostile text is in it");
    assert!(!text.contains("<script") && !text.contains("<img"), "and is text");
    assert_eq!(text.matches("</style>").count(), 1);
    assert!(
        text.contains("Content-Security-Policy") && text.contains("default-src &#39;none&#39;")
            || text.contains("default-src 'none'")
    );
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        let found = text.match_indices(outside).map(|(at, _)| &text[at.saturating_sub(60)..(at + 60).min(text.len())]);
        // The place of the repository is told as a text, and so is what is hostile.
        let found: Vec<&str> = found.filter(|near| !near.contains("s3://") && !near.contains("&lt;img")).collect();
        assert!(found.is_empty(), "{outside}: {found:?}");
    }
    assert!(text.ends_with("</main></body></html>\n") && text.matches("</main>").count() == 1);
    let open = |tag: &str| text.matches(&format!("<{tag} ")).count() + text.matches(&format!("<{tag}>")).count();
    for tag in ["section", "table", "svg", "figure", "dl", "ul", "div"] {
        assert_eq!(open(tag), text.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn links_lead_somewhere() {
    let (statements, period) = of_year();
    let text = document(&statements, &period);
    let ids: std::collections::BTreeSet<&str> =
        text.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let links: Vec<&str> = text.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(links.len() > 200);
    for link in links {
        assert!(ids.contains(link), "#{link}");
    }
}

#[test]
fn json_and_csv_have_the_same_runs() {
    let (statements, period) = of_year();
    let mut text = json::head("lifeboat.evidence-report/1", &period, "Of all.");
    let mut first = true;
    for statement in &statements {
        if let Predicate::Drill(drill) = &statement.predicate {
            text += &json::drill(drill, std::mem::take(&mut first));
        }
    }
    let value: Value = serde_json::from_str(&(text + json::tail())).unwrap();
    assert_eq!(value["schema"], "lifeboat.evidence-report/1");
    assert_eq!(value["ledger"]["audit"], "not-executed");
    let drills = value["drills"].as_array().unwrap().len() as u64;
    assert_eq!(drills, period.sums.rehearsals + period.sums.controls);
    let table = csv(&period);
    let gaps: usize = period.instances.iter().flat_map(|of| &of.due).map(|due| due.gaps.len()).sum();
    assert_eq!(table.matches("\r\n").count(), 1 + drills as usize + gaps);
    assert!(table.contains(&HOSTILE.replace('"', "\"\"")[..40]), "what is said stands in it");
    let empty: Value = serde_json::from_str(&(json::head("s/1", &period, "") + json::tail())).unwrap();
    assert_eq!(empty["drills"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_drill_that_came_to_no_answer_meets_no_deadline() {
    let mut statements = year::statements();
    for statement in &mut statements {
        if let Predicate::Drill(drill) = &mut statement.predicate {
            drill.outcome = Outcome::Incomplete;
        }
    }
    let mut builder = Builder::new(scope());
    for statement in &statements {
        let key = statement.storage_key().unwrap().to_string();
        builder.add(Told { statement, key: &key, sha256: year::digest(statement) });
    }
    let period = builder.finish(not_audited());
    let due = of(&period, CLINIC).due.as_ref().unwrap();
    assert_eq!((due.due, due.missed), (52, 52), "{due:?}");
}

#[test]
fn a_second_statement_of_a_run_counts_for_nothing() {
    let statements = year::statements();
    let drill = statements.iter().find(|statement| statement.kind() == "drill").unwrap();
    let key = drill.storage_key().unwrap().to_string();
    let mut builder = Builder::new(scope());
    assert!(builder.add(Told { statement: drill, key: &key, sha256: Sha256Digest([7; 32]) }));
    assert!(!builder.add(Told { statement: drill, key: "another", sha256: Sha256Digest([8; 32]) }));
    for word in statements.iter().filter(|statement| statement.kind() == "signoff") {
        let key = word.storage_key().unwrap().to_string();
        builder.add(Told { statement: word, key: &key, sha256: year::digest(word) });
    }
    let period = builder.finish(not_audited());
    assert_eq!((period.sums.rehearsals, period.statements.not_believed), (1, 1));
    assert!(period.statements.listed[0].why.contains("second statement"), "{:?}", period.statements);
}

#[test]
fn a_rehearsal_to_a_backups_end_says_nothing_of_the_time_between_backups() {
    let mut statements = year::statements();
    for statement in &mut statements {
        if let Predicate::Drill(drill) = &mut statement.predicate
            && let Some(point) = &mut drill.point
        {
            point.selected_by = "latest".into();
        }
    }
    let period = told(&statements, scope(), not_audited());
    let clinic = of(&period, CLINIC);
    assert_eq!(clinic.state, State::AtRisk, "weekly backups, and a target of 15 minutes");
    assert!(clinic.reasons[0].contains("apart or old"), "{:?}", clinic.reasons);
    assert!(html::head(&period, "").contains("log between them not shown"));
}

#[test]
fn an_unsound_ledger_is_the_first_thing_to_decide() {
    let findings = [("missing".to_owned(), 2)].into();
    let ledger = Ledger::Executed { entries: 40, root: None, findings, remarks: [].into() };
    let period = told(&year::statements(), scope(), ledger);
    assert!(period.decisions[0].what.contains("2 × missing"), "{:?}", period.decisions[0]);
    let page = html::head(&period, "");
    assert!(page.contains("NOT SOUND") && page.contains("Not proven") && period.state != State::Protected);
}

#[test]
fn the_time_without_backups_at_the_beginning_counts() {
    let time = |text: &str| -> Timestamp { text.parse().unwrap() };
    let mut backup = samples::backup();
    backup.instance = ARCHIVE.parse().unwrap();
    (backup.started, backup.finished) = (time("2026-03-31T11:30:00Z"), time("2026-03-31T12:00:00Z"));
    let statements = [Statement::backup(backup)];
    let archive = |known_since: &str| {
        let mut scope = Scope { from: time("2026-01-01T00:00:00Z"), to: time("2026-04-01T00:00:00Z"), ..scope() };
        scope.instances.retain(|charge| charge.instance.as_str() == ARCHIVE);
        scope.instances[0].known_since = Some(time(known_since));
        let period = told(&statements, scope, not_audited());
        let archive = of(&period, ARCHIVE);
        let is_apart = archive.reasons.iter().any(|why| why.contains("apart or old"));
        (archive.backups.longest_gap_seconds, is_apart)
    };
    assert_eq!(archive("2025-06-01T00:00:00Z"), (Some(89 * DAY + DAY / 2), true));
    assert_eq!(archive("2026-03-31T11:30:00Z"), (Some(1800), false), "nothing was due before it was known");
}
