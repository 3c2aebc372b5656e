//! Who is sure to have said yes before something is destroyed.

use lifeboat_runbook::{
    check::{self, Surroundings},
    consent::{Asked, Conditions, destroying},
    document::Document,
    plan::{Mode, Plan, Request},
};

use crate::{parse, with};

const WAITS: &str = "action = 'wait'\nfor = '{{p}}'";
const DROPS: &str =
    "action = 'sql'\nhost = 'db'\nuser = 'a'\ndatabase = 'd'\nsql = 'DROP TABLE t'\neffect = 'destroys'";
const ASKS: &str = "action = 'approve'\nrole = 'lead'\nquestion = 'Go on?'";
const FORK: &str = "action = 'decide'\nquestion = 'Which?'\nanswers = { a = 'x', b = 'y' }";

fn when(block: &str, condition: &str) -> String {
    format!("{block}\nonly_when = \"{condition}\"")
}

fn plan<'d>(document: &'d Document, runbooks: &'d [&'d Document]) -> Plan {
    let lookup = |id: &str| {
        let is_it = |document: &&&Document| document.head.as_ref().is_some_and(|head| head.id.value == id);
        runbooks.iter().find(is_it).copied()
    };
    let parameters = [("p".to_owned(), "1s".to_owned())].into();
    let request = Request { parameters, mode: Mode::Real, past: &|_| None, runbooks: Some(&lookup) };
    Plan::of(document, &request).unwrap()
}

/// What destroys, with whether somebody was asked.
type Found = Vec<(String, Asked)>;

/// Each step that destroys with whether somebody was asked: as a run begins with what is given, and whatever it is run with.
fn found(steps: &[(&str, &str)]) -> (Found, Found) {
    let document = parse(&with(&[&[("## First", WAITS)], steps].concat()));
    let plan = plan(&document, &[]);
    let of = |conditions| {
        let found = destroying(&plan.items, conditions).into_iter();
        found.map(|it| (if it.by_undo { format!("undo of {}", it.step) } else { it.step }, it.asked)).collect()
    };
    (of(Conditions::Open), of(Conditions::All))
}

#[track_caller]
fn is(steps: &[(&str, &str)], expected: &[(&str, Asked)]) {
    let expected: Found = expected.iter().map(|(id, asked)| ((*id).to_owned(), asked.clone())).collect();
    let (open, all) = found(steps);
    assert_eq!((&open, &all), (&expected, &expected));
}

#[test]
fn an_approval_counts_that_stands_before_and_is_sure_to_be_asked() {
    let maybe = "first.outcome == 'passed'";
    is(&[("## Drop", DROPS)], &[("drop", Asked::No)]);
    is(&[("## Ask", ASKS), ("## Drop", DROPS)], &[("drop", Asked::Yes)]);
    is(&[("## Drop", DROPS), ("## Ask", ASKS)], &[("drop", Asked::No)]);
    is(&[("## Ask", &when(ASKS, maybe)), ("## Drop", DROPS)], &[("drop", Asked::No)]);
    is(&[("## Ask", &when(ASKS, maybe)), ("## Drop", &when(DROPS, maybe))], &[("drop", Asked::Yes)]);
    is(&[("## Ask", &when(ASKS, maybe)), ("### Drop", DROPS)], &[("drop", Asked::Yes)]);
    // The same condition, but the one of them in a branch that nobody may choose.
    let (ask, drop) = (when(ASKS, maybe), when(DROPS, maybe));
    let in_branch = [("## Q", FORK), ("## X", WAITS), ("### Ask", ask.as_str()), ("## Y", WAITS), ("## Drop", &drop)];
    is(&in_branch, &[("drop", Asked::No)]);
    let both = [("## Q", FORK), ("## X", WAITS), ("### Ask", ASKS), ("### Drop", DROPS), ("## Y", WAITS)];
    is(&both, &[("drop", Asked::Yes)]);
    let other = [("## Q", FORK), ("## X", WAITS), ("### Ask", ASKS), ("## Y", WAITS), ("### Drop", DROPS)];
    is(&other, &[("drop", Asked::No)]);
}

#[test]
fn a_no_must_be_heard() {
    for (on_failure, asked) in [
        ("continue", Asked::Unheard("ask".to_owned())),
        ("ask", Asked::Unheard("ask".to_owned())),
        ("stop", Asked::Yes),
    ] {
        let ask = format!("{ASKS}\non_failure = '{on_failure}'");
        is(&[("## Ask", &ask), ("## Drop", DROPS)], &[("drop", asked)]);
        is(&[("## Ask", &ask), ("## Again", ASKS), ("## Drop", DROPS)], &[("drop", Asked::Yes)]);
    }
}

#[test]
fn what_takes_a_step_back_may_destroy_as_well() {
    let undo = "action = 'stop'\nunit = 'odoo'\nundo = { action = 'http', url = 'https://a/b', method = 'DELETE' }";
    is(&[("## A", undo), ("## Ask", ASKS)], &[("undo of a", Asked::No)]);
    is(&[("## Ask", ASKS), ("## A", undo)], &[("undo of a", Asked::Yes)]);
    // Where it stands itself is of no matter: it runs when the step is taken back.
    let by_step = "action = 'stop'\nunit = 'odoo'\nundo = 'drop'";
    is(&[("## A", by_step), ("## Ask", ASKS), ("## Drop", DROPS)], &[("undo of a", Asked::No)]);
    is(&[("## Ask", ASKS), ("## A", by_step), ("## Drop", DROPS)], &[("undo of a", Asked::Yes)]);
}

/// What does not hold with what is given cannot run now; with something else it could.
#[test]
fn what_is_given_decides_whether_it_can_run() {
    let (open, all) = found(&[("## Drop", &when(DROPS, "p == '2s'"))]);
    assert_eq!((open, all), (vec![], vec![("drop".to_owned(), Asked::No)]));
    let (open, all) = found(&[("## Ask", &when(ASKS, "p == '1s'")), ("## Drop", DROPS)]);
    assert_eq!((open, all), (vec![("drop".to_owned(), Asked::Yes)], vec![("drop".to_owned(), Asked::No)]));
}

#[test]
fn a_runbook_that_is_run_counts_with_what_it_is_given() {
    let inner = |steps: &[(&str, &str)]| {
        let text = with(&[&[("## First", WAITS)], steps].concat());
        parse(&text.replace("id = \"t\"", "id = \"inner\""))
    };
    let calls = "action = 'runbook'\nrunbook = 'inner'\nwith = { p = '{{p}}' }";
    let of = |outer: &[(&str, &str)], inner: &Document| {
        let document = parse(&with(outer));
        let found = destroying(&plan(&document, &[inner]).items, Conditions::Open);
        found.into_iter().map(|it| (it.step, it.asked)).collect::<Vec<_>>()
    };
    let (drops, asks) = (inner(&[("## Drop", DROPS)]), inner(&[("## Ask", ASKS)]));
    let drop = |asked| vec![("call/drop".to_owned(), asked)];
    assert_eq!(of(&[("## Call", calls)], &drops), drop(Asked::No));
    assert_eq!(of(&[("## Ask", ASKS), ("## Call", calls)], &drops), drop(Asked::Yes));
    // It may have ended before it asked, or have failed and been passed over.
    assert_eq!(of(&[("## Call", calls), ("## Drop", DROPS)], &asks), vec![("drop".to_owned(), Asked::No)]);
    // A value that a step gives while the run goes on is no value yet: its condition is open.
    let reads = "action = 'command'\nrun = ['x']\ntouches = []";
    let open = inner(&[("## Drop", &when(DROPS, "p == '2s'"))]);
    let later = calls.replace("{{p}}", "{{read.output}}");
    assert_eq!(of(&[("## Read", reads), ("## Call", &later)], &open), drop(Asked::No));
    assert_eq!(of(&[("## Read", reads), ("## Call", calls)], &open), vec![]);
}

#[test]
fn the_instances_are_those_that_the_action_names_else_the_parameters() {
    let head = "[parameters.target]\nkind = 'instance'\n[parameters.source]\nkind = 'instance'\nrequired = false";
    let restore = |instance: &str| format!("action = 'restore'\ninstance = '{instance}'\nto = '/a'\nreplace = true");
    let named = ["other", "{{target}}", "{{read.output}}"].map(restore);
    let steps = [
        ("## Read", "action = 'command'\nrun = ['x']\ntouches = []"),
        ("## A", named[0].as_str()),
        ("## B", &named[1]),
        ("## C", &named[2]),
        ("## D", DROPS),
    ];
    let text = with(&steps).replacen("kind = \"text\"\n", &format!("kind = \"text\"\n{head}\n"), 1);
    let document = parse(&text);
    let parameters = [("target".to_owned(), "clinic".to_owned()), ("p".to_owned(), "1s".to_owned())].into();
    let request = Request { parameters, mode: Mode::Real, past: &|_| None, runbooks: None };
    let plan = Plan::of(&document, &request).unwrap();
    let found: Vec<Vec<String>> =
        destroying(&plan.items, Conditions::Open).into_iter().map(|it| it.instances).collect();
    assert_eq!(found, [["other"], ["clinic"], ["{{read.output}}"], ["clinic"]]);
}

/// `check` tells it where it stands: of a *no* that is not heard, at the word that lets the run go on.
#[test]
fn it_is_told_by_line_and_column() {
    let told = |steps: &[(&str, &str)]| -> Vec<String> {
        let document = parse(&with(&[&[("## First", WAITS)], steps].concat()));
        check::check(&document, &Surroundings::default()).iter().map(ToString::to_string).collect()
    };
    let ask = format!("{ASKS}\non_failure = 'ask'");
    let heard = told(&[("## Ask", &ask), ("## Drop", DROPS), ("## Drop Again", DROPS)]);
    let [finding] = heard.as_slice() else { panic!("{heard:#?}") };
    assert!(finding.contains(": error: whoever says no is not heard: \"drop\" destroys"), "{finding}");
    let line = with(&[("## First", WAITS), ("## Ask", &ask)]).lines().position(|line| line.starts_with("on_failure"));
    assert!(finding.starts_with(&format!("{}:1: ", line.unwrap() + 1)), "{finding}");
    let undone = told(&[(
        "## A",
        "action = 'stop'\nunit = 'odoo'\nundo = { action = 'http', url = 'https://a', method = 'DELETE' }",
    )]);
    assert!(undone[0].contains(": warning: taking \"a\" back destroys, and no step before it is sure"), "{undone:#?}");
    assert_eq!(told(&[("## Ask", ASKS), ("## Drop", DROPS)]), [""; 0]);
}
