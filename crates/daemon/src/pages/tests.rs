//! Every page from made-up views: what is escaped, what is said, who is offered what. With `LIFEBOAT_KEEP_PAGES` set to a folder
//! the pages are kept there, to be looked at.

use std::fs;

use maud::Markup;

use super::{
    activity, assets, context::PageContext, errors, evidence, filter::Filter, instance, login, made_up, overview, run,
    runbook_run, runbooks, schedules, storage,
};
use crate::{auth::Refused, settings::Role, view::*};

fn reader(name: &str) -> Filter {
    Filter { reader: Some(name.into()), ..Filter::default() }
}

fn all(context: &PageContext) -> Vec<(&'static str, Markup)> {
    let troubled = PageContext { troubles: vec![made_up::trouble()], ..context.clone() };
    let nobody = PageContext { reader: None, ..context.clone() };
    let (few, thousand) = (made_up::overview(14), made_up::overview(1000));
    let one = made_up::evidence();
    vec![
        ("overview", overview::page(&few, &Filter::default(), &troubled)),
        ("thousand", overview::page(&thousand, &Filter::default(), context)),
        ("on-call", overview::page(&few, &reader("on-call"), context)),
        ("owner", overview::page(&few, &reader("owner"), context)),
        ("executive", overview::page(&few, &reader("executive"), context)),
        ("auditor", overview::page(&few, &reader("auditor"), context)),
        ("well", overview::page(&made_up::overview(0), &Filter::default(), context)),
        ("nothing-found", overview::page(&few, &Filter { text: Some("zzz".into()), ..Filter::default() }, context)),
        ("instance", instance::page(&made_up::instance("unprotected"), context)),
        (
            "instance-new",
            instance::page(
                &InstanceView { facts: None, runs: Vec::new(), due: Vec::new(), ..made_up::instance("unknown") },
                context,
            ),
        ),
        ("run-live", run::page(&made_up::drill(None), context)),
        ("run-failed", run::page(&made_up::drill(Some("failed")), context)),
        (
            "evidence",
            evidence::list(&one, &evidence::Wanted::default(), &["northern".into(), "southern".into()], context),
        ),
        ("statement", evidence::statement(&made_up::statement(), context)),
        ("schedules", schedules::page(&made_up::schedules(), None, context)),
        ("schedules-none", schedules::page(&[], None, context)),
        ("runbooks", runbooks::list(&made_up::runbooks(), &made_up::runbook_runs(), context)),
        (
            "runbooks-none",
            runbooks::list(
                &Runbooks { runbooks: Vec::new(), doubts: Vec::new() },
                &RunbookRuns { runs: Vec::new(), doubts: Vec::new() },
                context,
            ),
        ),
        ("runbook", runbooks::text(&made_up::runbook(), context)),
        ("runbook-run-live", runbook_run::page(&made_up::runbook_run("going-on", None), context)),
        ("runbook-run-stopped", runbook_run::page(&made_up::runbook_run("stopped", None), context)),
        ("runbook-run-over", runbook_run::page(&made_up::runbook_run("over", Some("passed")), context)),
        ("storage", storage::page(&made_up::storage(), context)),
        ("activity", activity::page(&made_up::activity(), context)),
        ("login", login::page(Some("The token is not known."), None, true, &nobody)),
        ("not-found", errors::page(&Refused::not_found(), context)),
        ("broken", errors::page(&Refused::unavailable("the state cannot be read"), context)),
    ]
}

#[test]
fn pages_are_whole() {
    let context = made_up::context(&[Role::Operator, Role::Auditor]);
    for (name, page) in all(&context) {
        let text = page.into_string();
        assert!(text.starts_with("<!DOCTYPE html><html lang=\"en\">") && text.ends_with("</html>"), "{name}");
        assert_eq!(text.matches("<h1").count(), 1, "{name} has one title");
        assert!(text.contains("<main id=\"main\"") && text.contains("class=\"skip\""), "{name}");
        // The policy of the content allows neither.
        assert!(!text.contains(" style=") && !text.contains("<style") && !text.contains(" onclick="), "{name}");
        assert_eq!(text.matches("<script").count(), 1, "{name}: ours alone");
        for part in text.split("data-part").skip(1) {
            assert!(!part.is_empty());
        }
        if let Ok(folder) = std::env::var("LIFEBOAT_KEEP_PAGES") {
            fs::create_dir_all(&folder).unwrap();
            let text = text.replace("\"/assets/", "\"assets/");
            fs::write(format!("{folder}/{name}.html"), text).unwrap();
            assets::keep(folder.as_ref());
        }
    }
}

#[test]
fn hostile_names_stay_names() {
    let hostile = || Some(made_up::HOSTILE.to_owned());
    let context = made_up::context(&[Role::Operator, Role::Auditor]);
    let mut view = made_up::overview(2);
    for line in &mut view.instances {
        line.instance = made_up::HOSTILE.into();
        line.tenant = made_up::HOSTILE.into();
        line.tier = made_up::HOSTILE.into();
        line.state = made_up::HOSTILE.into();
        (line.owner, line.reason, line.next) = (hostile(), hostile(), hostile());
        line.drill_outcome = hostile();
    }
    let asked = Filter { text: hostile(), tenant: hostile(), state: None, tier: hostile(), ..Filter::default() };
    let mut run = made_up::drill(Some("failed"));
    run.line.instance = hostile();
    run.line.reason = hostile();
    run.checks[0].id = made_up::HOSTILE.into();
    run.checks[0].detail = made_up::HOSTILE.into();
    run.notes[0].text = made_up::HOSTILE.into();
    run.evidence = hostile();
    run.answer = Some(serde_json::json!({ "x": made_up::HOSTILE }));
    let mut statement = made_up::statement();
    statement.line.key = made_up::HOSTILE.into();
    statement.line.doubt = hostile();
    statement.statement = Some(serde_json::json!({ "x": made_up::HOSTILE }));
    statement.envelope = made_up::HOSTILE.into();
    let mut schedules = made_up::schedules();
    schedules[0].when = made_up::HOSTILE.into();
    schedules[0].next[0].verb = made_up::HOSTILE.into();
    let mut storage = made_up::storage();
    storage[0].tenant = made_up::HOSTILE.into();
    storage[0].place = made_up::HOSTILE.into();
    storage[0].cost.as_mut().unwrap().currency = made_up::HOSTILE.into();
    let mut instance = made_up::instance("at-risk");
    for one in &mut instance.dependencies {
        (one.name, one.kind, one.address) = (made_up::HOSTILE.into(), made_up::HOSTILE.into(), made_up::HOSTILE.into());
        (one.note, one.why) = (hostile(), hostile());
    }
    let (mut books, mut book) = (made_up::runbooks(), made_up::runbook());
    let line = &mut books.runbooks[0];
    (line.title, line.summary, line.file) = (hostile(), hostile(), made_up::HOSTILE.into());
    books.doubts = vec![made_up::HOSTILE.into()];
    book.text = format!(
        "# {0}\n\n{0}\n\n## {0}\n\n```toml\n{0}\n```\n\n[{0}](<{0}>)\n\n| {0} |\n|---|\n| {0} |\n",
        made_up::HOSTILE
    );
    book.steps[0].at = book.text.find("## ").unwrap() as u64;
    (book.steps[0].words, book.steps[0].id) = (made_up::HOSTILE.into(), made_up::HOSTILE.into());
    book.findings[0].text = made_up::HOSTILE.into();
    let (mut course, mut courses) = (made_up::runbook_run("stopped", None), made_up::runbook_runs());
    (course.line.title, course.line.at, course.line.reason) = (hostile(), hostile(), hostile());
    (course.steps[1].title, course.steps[1].why) = (made_up::HOSTILE.into(), hostile());
    course.steps[1].printed = vec![made_up::HOSTILE.into()];
    (course.steps[1].answers[0].who, course.steps[1].answers[0].comment) = (made_up::HOSTILE.into(), hostile());
    course.notes[0].text = made_up::HOSTILE.into();
    course.parameters = [(made_up::HOSTILE.to_owned(), made_up::HOSTILE.to_owned())].into();
    courses.runs[0] = course.line.clone();
    let pages = [
        instance::page(&instance, &context),
        runbooks::list(&books, &courses, &context),
        runbooks::text(&book, &context),
        runbook_run::page(&course, &context),
        overview::page(&view, &asked, &context),
        overview::page(&view, &reader("on-call"), &context),
        overview::page(&view, &reader("owner"), &context),
        overview::page(&view, &reader("executive"), &context),
        overview::page(&view, &reader("auditor"), &context),
        overview::page(&view, &reader(made_up::HOSTILE), &context),
        run::page(&run, &context),
        evidence::list(
            std::slice::from_ref(&statement.line),
            &evidence::Wanted { instance: hostile(), ..Default::default() },
            &[made_up::HOSTILE.into()],
            &context,
        ),
        evidence::statement(&statement, &context),
        schedules::page(&schedules, Some(made_up::HOSTILE), &context),
        storage::page(&storage, &context),
        errors::page(&Refused::invalid(made_up::HOSTILE), &context),
        login::page(Some(made_up::HOSTILE), Some(made_up::HOSTILE), true, &context),
    ];
    for page in pages {
        let text = page.into_string();
        assert!(!text.contains("<img"), "{}", &text[text.find("<img").unwrap().saturating_sub(200)..][..400]);
        assert!(!text.contains("alert(1)>\"'"), "an attribute ends early");
    }
}

#[test]
fn storage_costs_what_the_configuration_says_or_how_to_say_it() {
    let (context, mut storage) = (made_up::context(&[Role::Viewer]), made_up::storage());
    let text = storage::page(&storage, &context).into_string();
    for told in ["32.12 USD", "at 0.023 USD for a GiB and month", "7.47 USD", "0.68 USD", "6.79 USD"] {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert!(!text.contains("price_per_gb_month"), "nobody is told what is done already");
    storage[0].cost = None;
    let text = storage::page(&storage, &context).into_string();
    assert!(text.contains("price_per_gb_month") && !text.contains("USD for a GiB"), "{text}");
}

#[test]
fn only_who_may_is_offered_an_act() {
    let (view, run) = (made_up::instance("at-risk"), made_up::drill(None));
    for (roles, may) in [(&[Role::Operator][..], true), (&[Role::Viewer, Role::Auditor, Role::Approver][..], false)] {
        let context = made_up::context(roles);
        let text = instance::page(&view, &context).into_string() + &run::page(&run, &context).into_string();
        assert_eq!(text.contains("action=\"/tenants/northern/instances/clinic/runs\""), may, "{roles:?}");
        assert_eq!(text.contains("/cancel\""), may, "{roles:?}");
        assert!(
            text.matches("method=\"post\"").count() == text.matches("name=\"csrf\"").count(),
            "each form has its field"
        );
    }
    let viewer =
        overview::page(&made_up::overview(3), &Filter::default(), &made_up::context(&[Role::Viewer])).into_string();
    assert!(
        !viewer.contains("href=\"/evidence\"") && !viewer.contains("href=\"/activity\""),
        "links that lead to a refusal"
    );
    let over = run::page(&made_up::drill(Some("failed")), &made_up::context(&[Role::Operator])).into_string();
    assert!(
        !over.contains("/cancel") && !over.contains("http-equiv=\"refresh\""),
        "what is over is not cancelled or followed"
    );
}

#[test]
fn a_thousand_are_paged_gravest_first() {
    let view = made_up::overview(1000);
    let context = made_up::context(&[Role::Viewer]);
    let first = overview::page(&view, &Filter::default(), &context).into_string();
    assert_eq!(first.matches("<tr class=").count(), overview::PER_PAGE);
    assert!(
        first.contains("760 of 1,000 instances are protected") && first.contains("1–100 of 1,000"),
        "the sum counts all"
    );
    assert!(first.contains("href=\"/?page=2\"") && !first.contains("rel=\"prev\""));
    assert!(first.len() < 1_500_000, "{} bytes", first.len());
    let far = overview::page(&view, &Filter { page: 10_000, ..Filter::default() }, &context).into_string();
    assert!(
        far.contains("901–1,000 of 1,000") && !far.contains("rel=\"next\""),
        "a page that is not there is the last"
    );
    let bad = overview::page(&view, &Filter { state: Some("unprotected".into()), ..Filter::default() }, &context)
        .into_string();
    assert_eq!(bad.matches("<tr class=\"bad\"").count(), 60);
    let (tenant, text) = (Some("southern-clinics".to_owned()), Some("  ADA ".to_owned()));
    let some = overview::page(&view, &Filter { tenant, text, ..Filter::default() }, &context).into_string();
    assert!(some.contains(">southern-clinics · ") && !some.contains(">northern · "), "only what was asked for");
}

#[test]
fn words_are_right_about_what_they_say() {
    let context = made_up::context(&[Role::Viewer]);
    let executive = |view: &Overview| overview::page(view, &reader("executive"), &context).into_string();
    let good = Overview {
        instances: vec![made_up::line(0, "protected")],
        counts: Counts { protected: 1, ..Counts::default() },
        ..made_up::overview(1)
    };
    let text = executive(&good);
    assert!(
        text.contains("The one instance is protected") && text.contains("it would come back within the promised time")
    );
    let unknown = Overview {
        instances: vec![made_up::line(0, "unknown")],
        counts: Counts { unknown: 1, ..Counts::default() },
        ..good
    };
    let text = executive(&unknown);
    assert!(text.contains("0 of 1 instance are protected") && text.contains("1 has not been looked at yet"), "{text}");
    assert!(!text.contains("verdict good"), "what nobody looked at is not good");
}

#[test]
fn queries_that_mean_nothing_ask_for_nothing() {
    let read =
        |query: &str| axum::extract::Query::<Filter>::try_from_uri(&format!("/?{query}").parse().unwrap()).unwrap().0;
    assert_eq!(read("page=x&foo=1").page, 1);
    assert!(!read("q=%20&state=").is_any());
    let filter = read("as=owner&q=a%26b&page=3");
    assert_eq!((filter.page, filter.at_page(4)), (3, "/?as=owner&q=a%26b&page=4".to_owned()));
    assert_eq!(filter.without(), "/?as=owner");
}

#[test]
fn a_dependency_says_its_state_in_words_and_whom_to_call() {
    let context = made_up::context(&[Role::Viewer]);
    let mut view = made_up::instance("protected");
    let text = instance::page(&view, &context).into_string();
    for told in [
        "1 does not answer, 2 answer",
        "does not answer</span>",
        "connection refused",
        "IT service desk",
        "class=\"way bad\"",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert!(text.contains("laboratory-results-of-the-regional-hospital"), "the table has the whole name");
    view.dependencies.clear();
    let text = instance::page(&view, &context).into_string();
    assert!(!text.contains("<figure class=\"map\"") && text.contains(".dependencies]"), "{text}");
    view.dependencies = (0..60)
        .map(|at| DependencyView { name: format!("number-{at}"), ..made_up::dependencies().remove(1) })
        .collect();
    let text = instance::page(&view, &context).into_string();
    assert_eq!(text.matches("class=\"node good\"").count(), 24, "a map stays one that can be read");
    assert!(text.contains("number-59"), "the table has all");
}

#[test]
fn a_run_of_a_runbook_shows_the_clock_and_only_follows_what_goes_on() {
    let context = made_up::context(&[Role::Viewer]);
    let page = |phase, ending| runbook_run::page(&made_up::runbook_run(phase, ending), &context).into_string();
    let live = page("going-on", None);
    assert!(
        live.contains("data-quick") && live.contains("http-equiv=\"refresh\"") && live.contains("target 4 h"),
        "{live}"
    );
    assert!(live.contains("Then: Start, Verify, Point the name here") && live.contains("2 h 49 min left"), "{live}");
    assert!(
        live.contains("point 3fa9 &lt;whole&gt;\nnothing is missing") && live.contains("12 lines before"),
        "{live}"
    );
    let stopped = page("stopped", None);
    assert!(stopped.contains("over the target of 4 h") && stopped.contains("lifeboat runbook resume 00000000000000b7"));
    let over = page("over", Some("passed"));
    assert!(
        !over.contains("data-quick") && !over.contains("http-equiv=\"refresh\"") && !over.contains("runbook resume")
    );
    let list = runbooks::list(&made_up::runbooks(), &made_up::runbook_runs(), &context).into_string();
    for told in ["UNREHEARSED", ", edited since", "3 errors", "RTO 1 h", "only for reading"] {
        assert!(list.contains(told), "{told}");
    }
}
