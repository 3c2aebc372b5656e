//! The dashboard in a real browser: a daemon is served on loopback, somebody signs in as each role, begins a drill, watches it and
//! opens its evidence; every page is measured at three widths, in light and dark, and looked at by axe. Pictures stay in the
//! build's temporary folder.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
#![allow(clippy::print_stdout, reason = "what is measured is shown by `make bench`")]
#![allow(clippy::disallowed_methods, reason = "the browser is driven from the thread of the test")]
#![recursion_limit = "256"]

mod site;

#[path = "../support/mod.rs"]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use lifeboat_daemon::settings::Role;
use lifeboat_runbook::event::{Asked, Ending, Event, Outcome};
use lifeboat_testkit::{browser::Browser, testbed};
use serde_json::{Value, json};

use site::{OTHER, RUNGS, Site, TENANT};

fn browser() -> Browser {
    Browser::start(Browser::program().expect("chromium is here: testbed/install brings it"))
}

fn kept(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard");
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// Types the token into the form and sends it.
fn sign_in(browser: &mut Browser, site: &Site, token: &str) {
    browser.forget();
    browser.go(&format!("{}/", site.base), 1280, false);
    assert_eq!(browser.value("location.pathname"), "/login", "nobody reads a page unknown");
    browser.value(&format!(
        "document.getElementById('token').value = {}; document.querySelector('.login form').requestSubmit()",
        json!(token)
    ));
    browser.wait("location.pathname === '/' && document.readyState === 'complete'");
}

fn text(browser: &mut Browser) -> String {
    browser.value("document.body.innerText").as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_reads_what_it_may() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(8).await;
    let roles = [Role::Viewer, Role::Operator, Role::Approver, Role::Auditor];
    let tokens: Vec<String> = roles.iter().map(|role| site.token(role.word(), *role, &[TENANT])).collect();
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await; // the daemon reads tokens each second
    tokio::task::block_in_place(|| {
        let mut browser = browser();
        for (role, token) in roles.into_iter().zip(tokens) {
            sign_in(&mut browser, &site, &token);
            let seen = text(&mut browser);
            assert!(seen.contains("clinic") && !seen.contains("hidden"), "{role:?}: {seen}");
            let menu = browser
                .value("Array.from(document.querySelectorAll('.bar nav a'), (link) => link.textContent).join(' ')");
            let menu = menu.as_str().unwrap().to_owned();
            assert_eq!(menu.contains("Evidence"), role != Role::Viewer, "{role:?}: {menu}");
            assert_eq!(menu.contains("Activity"), role == Role::Auditor, "{role:?}: {menu}");
            browser.go(&format!("{}/tenants/{TENANT}/instances/clinic", site.base), 1280, false);
            let offered = browser.value("document.querySelectorAll('.acts button').length");
            assert_eq!(offered, if role == Role::Operator { 2 } else { 0 }, "{role:?}");
            // What is another tenant's is as absent as what does not exist.
            let mut told = Vec::new();
            for path in
                [format!("/tenants/{OTHER}/instances/hidden-ward"), "/tenants/nobody/instances/nothing".to_owned()]
            {
                browser.go(&format!("{}{path}", site.base), 1280, false);
                told.push(browser.value("document.querySelector('main').innerText"));
            }
            assert!(told[0] == told[1] && told[0].as_str().unwrap().contains("Not found"), "{told:#?}");
        }
        browser.value("document.querySelector('.who form')?.requestSubmit()");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_is_begun_watched_and_its_evidence_opened() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(2).await;
    let token = site.token("ann", Role::Operator, &[TENANT]);
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    tokio::task::block_in_place(|| {
        let mut browser = browser();
        sign_in(&mut browser, &site, &token);
        browser.click("Array.from(document.querySelectorAll('a')).find((link) => link.textContent === 'clinic')");
        browser.wait("location.pathname.endsWith('/instances/clinic') && document.readyState === 'complete'");
        browser.click("Array.from(document.querySelectorAll('.acts button')).find((button) => button.textContent === 'Drill now')");
        browser.wait("location.pathname.startsWith('/runs/') && document.readyState === 'complete'");
        // The ladder is climbed before one's eyes: the page is never loaded again.
        browser.value("window.mark = 'the same page'; document.querySelector('.acts button').focus()");
        site.climb(2);
        browser.wait("document.querySelectorAll('.ladder > li.good').length === 2");
        assert_eq!(browser.value("document.activeElement.textContent"), "Cancel this run", "the focus stays");
        fs::write(kept("drill-live.png"), browser.screenshot(1400)).unwrap();
        site.climb(RUNGS.len() - 2);
        browser.wait("document.querySelector('#outcome .verdict.good') && document.querySelector('#outcome a')");
        assert_eq!(browser.value("window.mark"), "the same page");
        assert_eq!(browser.value("document.querySelectorAll('.acts').length"), 0, "what is over is not cancelled");
        assert_eq!(browser.value("document.querySelectorAll('.ladder > li.good').length"), RUNGS.len());
        assert!(
            browser.value("document.getElementById('said').textContent").as_str().unwrap().contains("Passed"),
            "it is said aloud"
        );
        fs::write(kept("drill-over.png"), browser.screenshot(1400)).unwrap();
        browser.click("document.querySelector('#outcome a')");
        browser.wait("location.pathname.startsWith('/evidence/') && document.readyState === 'complete'");
        let seen = text(&mut browser);
        assert!(
            seen.contains("Signed by a trusted key") && seen.contains("lifeboat-verify") && seen.contains("in-toto"),
            "{seen}"
        );

        // Without scripts: the form begins one, the page loads itself again, the form calls it off.
        browser.allow_scripts(false);
        browser.go(&format!("{}/tenants/{TENANT}/instances/clinic", site.base), 375, false);
        browser.click("Array.from(document.querySelectorAll('.acts button')).find((button) => button.textContent === 'Drill now')");
        browser.wait("location.pathname.startsWith('/runs/') && document.readyState === 'complete'");
        site.climb(1);
        browser.wait("document.querySelector('.ladder > li.good')");
        browser.click("document.querySelector('.acts button')");
        browser.wait("document.querySelector('#outcome')?.innerText.includes('Interrupted')");
        browser.allow_scripts(true);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_whole_and_accessible() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(24).await;
    let tokens = [site.token("ann", Role::Operator, &[TENANT]), site.token("olga", Role::Auditor, &[])];
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let axe = testbed::state_dir().join("axe/node_modules/axe-core/axe.min.js");
    let axe = fs::read_to_string(&axe).unwrap_or_else(|_| panic!("{} is missing; run testbed/axe", axe.display()));
    let instance = format!("/tenants/{TENANT}/instances");
    let mut course = site.runbook("total-loss.md").await;
    let first = lifeboat_runbook::document::Document::parse(
        &fs::read_to_string(site.folder.path().join(TENANT).join("runbooks/total-loss.md")).unwrap(),
    )
    .unwrap();
    let first = first.steps().next().unwrap().0.id.clone();
    course.tell(None, Event::Started { step: first, attempt: 1 }).await;
    let operator = [
        ("runbooks", "/runbooks".to_owned()),
        ("runbook", format!("/runbooks/{TENANT}/total-loss.md")),
        ("runbook-run", format!("/runbook-runs/{}", course.run)),
        ("overview", "/".to_owned()),
        ("on-call", "/?as=on-call".to_owned()),
        ("owner", "/?as=owner".to_owned()),
        ("executive", "/?as=executive".to_owned()),
        ("nothing", "/?q=nothing-is-called-so".to_owned()),
        ("instance", format!("{instance}/clinic")),
        ("instance-new", format!("{instance}/laboratory")),
        ("run", format!("/runs/{:08x}{:08x}", 1, 90)),
        ("schedules", "/schedules".to_owned()),
        ("storage", "/storage".to_owned()),
        ("evidence", "/evidence".to_owned()),
        ("not-found", "/nothing".to_owned()),
        ("refused", "/activity".to_owned()),
    ];
    let auditor = [("auditor", "/?as=auditor".to_owned()), ("activity", "/activity".to_owned())];
    tokio::task::block_in_place(|| {
        let mut browser = browser();
        let mut found = Vec::new();
        for (token, pages) in tokens.iter().zip([&operator[..], &auditor[..]]) {
            sign_in(&mut browser, &site, token);
            for (name, path) in pages {
                found.extend(looked_at(&mut browser, &axe, name, &format!("{}{path}", site.base)));
            }
        }
        browser.forget();
        found.extend(looked_at(&mut browser, &axe, "login", &format!("{}/login?problem=token", site.base)));
        assert!(found.is_empty(), "{found:#?}");
        has_contrast(&mut browser, false);
        has_contrast(&mut browser, true);
    });
}

/// What is cut, lies on something else, or is not accessible.
fn looked_at(browser: &mut Browser, axe: &str, name: &str, url: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (width, dark) in [(1280, false), (1280, true), (768, false), (375, false), (375, true)] {
        let here = format!("{name} at {width}{}", if dark { ", dark" } else { "" });
        let asked = browser.go(url, width, dark);
        let own = url.split('/').take(3).collect::<Vec<_>>().join("/");
        assert!(asked.iter().all(|asked| asked.starts_with(&own)), "{here}: {asked:?}");
        let measured = browser.value(include_str!("../../../../tests/report/measure.js"));
        assert!(measured["texts"].as_u64() > Some(8), "{here} shows nothing");
        found.extend(measured["found"].as_array().unwrap().iter().map(|what| format!("{here}: {what}")));
        fs::write(kept(&format!("{name}-{width}{}.png", if dark { "-dark" } else { "" })), browser.screenshot(1500))
            .unwrap();
        if width == 768 {
            continue;
        }
        browser.value(&format!("{axe}; true"));
        let broken = browser.value("axe.run(document, { resultTypes: ['violations'] }).then((ran) => ran.violations.map((rule) => `${rule.id}: ${rule.help}: ${rule.nodes.map((node) => node.target + ' ' + node.html.slice(0, 120)).slice(0, 3).join(' | ')}`))");
        found.extend(broken.as_array().unwrap().iter().map(|what| format!("{here}: {what}")));
    }
    found
}

/// WCAG's 4.5 : 1 for every tone of text.
fn has_contrast(browser: &mut Browser, dark: bool) {
    let url = browser.value("location.href").as_str().unwrap().to_owned();
    browser.go(&url, 1280, dark);
    let ratios = browser.value(include_str!("../../../../tests/report/contrast.js"));
    let weak: Vec<&Value> =
        ratios.as_array().unwrap().iter().filter(|ratio| ratio["ratio"].as_f64() < Some(4.5)).collect();
    assert!(ratios.as_array().unwrap().len() >= 10 && weak.is_empty(), "{weak:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_a_runbook_is_watched_as_it_goes_on() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(1).await;
    let mut course = site.runbook("total-loss.md").await;
    let text = fs::read_to_string(site.folder.path().join(TENANT).join("runbooks/total-loss.md")).unwrap();
    let document = lifeboat_runbook::document::Document::parse(&text).unwrap();
    let (section, _) = document.steps().next().unwrap();
    let (step, title) = (section.id.clone(), section.title.clone());
    let token = site.token("ann", Role::Viewer, &[TENANT]);
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let handle = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        let mut browser = browser();
        sign_in(&mut browser, &site, &token);
        browser.go(&format!("{}/runbooks", site.base), 1280, false);
        browser.click("document.querySelector('#going-on a')");
        browser.wait("location.pathname.startsWith('/runbook-runs/') && document.readyState === 'complete'");
        browser.value("window.mark = 'the same page'");
        handle.block_on(course.tell(None, Event::Started { step: step.clone(), attempt: 1 }));
        browser.wait(&format!("document.querySelector('.verdict')?.innerText.includes({})", json!(title)));
        let asked = Asked::Question;
        let answered = Event::Answered { step: step.clone(), asked, answer: "yes".to_owned(), comment: None };
        handle.block_on(course.tell(Some("eve@rescue"), answered));
        let ended = Event::Ended {
            step,
            attempt: 1,
            outcome: Outcome::Passed,
            outputs: [("answer".to_owned(), "yes".to_owned())].into(),
            why: None,
        };
        handle.block_on(course.tell(None, ended));
        browser.wait("document.querySelector('.course > li.good')?.innerText.includes('eve@rescue: yes')");
        let over = Event::Finished { ending: Ending::Answered, outputs: [].into(), why: None };
        handle.block_on(course.tell(None, over));
        browser.wait("document.querySelector('.verdict')?.innerText.includes('Ended by an answer')");
        assert_eq!(browser.value("window.mark"), "the same page", "nobody has to load it again");
    });
}

/// How long it takes until something of a page is seen, in milliseconds: the median of five loads.
fn first_paint(browser: &mut Browser, url: &str) -> f64 {
    let mut all: Vec<f64> = (0..5)
        .map(|_| {
            browser.go(url, 1280, false);
            browser.wait("performance.getEntriesByName('first-contentful-paint').length");
            browser.value("performance.getEntriesByName('first-contentful-paint')[0].startTime").as_f64().unwrap()
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all[2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_are_shown_at_once() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(1000).await;
    let token = site.token("ann", Role::Viewer, &[TENANT]);
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    tokio::task::block_in_place(|| {
        let mut browser = browser();
        sign_in(&mut browser, &site, &token);
        let painted = first_paint(&mut browser, &format!("{}/", site.base));
        let bytes = browser.value("performance.getEntriesByType('navigation')[0].encodedBodySize");
        let lines = browser.value("document.querySelectorAll('.overview tbody tr').length");
        fs::write(kept("thousand.png"), browser.screenshot(1400)).unwrap();
        assert_eq!(lines, 100);
        assert!(text(&mut browser).contains("1–100 of 1,000"));
        // Found while one types: the field keeps its text and the focus.
        browser.value("{ const field = document.querySelector('input[name=q]'); field.focus(); field.value = 'payroll-999'; field.dispatchEvent(new Event('input', { bubbles: true })) }");
        browser.wait("document.querySelectorAll('.overview tbody tr').length < 100");
        assert_eq!(browser.value("document.activeElement.name"), "q");
        assert!(browser.value("location.search").as_str().unwrap().contains("q=payroll-999"));
        // What the browser itself needs for a page about nothing. For `make bench`, which shows what a test prints.
        browser.forget();
        let floor = first_paint(&mut browser, &format!("{}/login", site.base));
        println!(
            "overview of a thousand instances, {bytes} bytes: first paint after {painted:.0} ms; the login page {floor:.0} ms, {:.1} x",
            painted / floor
        );
    });
}
