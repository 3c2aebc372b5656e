//! What a plan says.

use std::collections::BTreeMap;

use lifeboat_model::time::Span;
use lifeboat_runbook::plan::{Item, Lasts, Mode, Plan, Request, Runs};

use crate::{example, parse, with};

fn span(text: &str) -> Span {
    text.parse().unwrap()
}

/// A plan of a text with these parameters.
fn plan(text: &str, mode: Mode, parameters: &[(&str, &str)]) -> Result<Plan, Vec<String>> {
    let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let request = Request { parameters, mode, past: &|_| None, runbooks: None };
    Plan::of(&parse(text), &request).map_err(|findings| findings.iter().map(ToString::to_string).collect())
}

fn item<'p>(items: &'p [Item], id: &str) -> &'p Item {
    fn find<'p>(items: &'p [Item], id: &str) -> Option<&'p Item> {
        items.iter().find_map(|item| if item.id == id { Some(item) } else { find(&item.items, id) })
    }
    find(items, id).unwrap()
}

const CLINIC: &[(&str, &str)] = &[("instance", "clinic")];

#[test]
fn the_specifications_example() {
    let plan = plan(&example(), Mode::Practice, CLINIC).unwrap();
    let sums = (&plan.parameters, &plan.touches, &plan.approvals, &plan.not_practised, &plan.needs);
    insta::assert_debug_snapshot!("practice", sums);
    assert_eq!(plan.lasts, Lasts { known: span("93m"), unknown: 1 }, "the fork leads to Fence, or past it");
    let restore = item(&plan.items, "restore").step.as_ref().unwrap();
    assert_eq!(restore.words, "restore clinic, as of latest, to the volumes of /srv/odoo/compose.yml");
    assert_eq!(item(&plan.items, "tell-people").step.as_ref().unwrap().words, "tell business: clinic is back");
    assert_eq!(item(&plan.items, "fence").runs, Runs::Chosen(vec!["is-the-old-system-off: no".into()]));
    assert!(matches!(&item(&plan.items, "point-the-name-here").runs, Runs::Never(_)), "mode is practice");
}

#[test]
fn the_mode_decides_what_it_can() {
    let planned = |mode| plan(&example(), mode, CLINIC).unwrap();
    for mode in [Mode::Plan, Mode::Real] {
        let plan = planned(mode);
        assert!(matches!(item(&plan.items, "point-the-name-here").runs, Runs::When(_)));
        assert!(plan.touches.contains(&"the name odoo.clinic.example.org".to_owned()), "{:?}", plan.touches);
    }
    assert!(!planned(Mode::Practice).touches.contains(&"the name odoo.clinic.example.org".to_owned()));
}

#[test]
fn parameters_are_what_they_may_be() {
    let read = plan(&example(), Mode::Plan, &[]).unwrap();
    assert!(read.parameters.contains(&("instance".into(), None)), "a plan can be read without");
    let wrong = plan(&example(), Mode::Real, &[("moment", "today"), ("instnace", "clinic")]).unwrap_err();
    assert_eq!(wrong.len(), 3, "{wrong:#?}");
    assert!(wrong[0].contains("no parameter \"instnace\"; did you mean \"instance\"?"), "{wrong:#?}");
    assert!(wrong[1].contains("instance must be given: Which system is lost; add --set instance="), "{wrong:#?}");
    assert!(wrong[2].contains("moment: is not a moment"), "{wrong:#?}");
}

#[test]
fn the_longest_way_counts() {
    let wait = |expected: &str| format!("action = 'wait'\nfor = '{{{{p}}}}'\nexpected = '{expected}'");
    let ask = "action = 'decide'\nquestion = 'q'\nanswers = { a = 'x', b = 'y', c = 'continue' }\nexpected = '1m'";
    let text = with(&[
        ("## Q", ask),
        ("## X", &wait("10m")),
        ("### Below", &wait("5m")),
        ("## Y", &format!("{}\nonly_when = \"q.answer == 'b'\"", wait("12m"))),
        ("## Both", &format!("{}\nundo = 'back'", wait("1m"))),
        ("## Back", &wait("1h")),
        ("## Never", &format!("{}\nonly_when = \"mode == 'real'\"", wait("2h"))),
        ("## Unknown", "action = 'wait'\nfor = '{{p}}'"),
    ]);
    let document = parse(&text);
    let lasts = |mode, past: &dyn Fn(&str) -> Option<Span>| {
        let parameters = BTreeMap::from([("p".to_owned(), "1s".to_owned())]);
        Plan::of(&document, &Request { parameters, mode, past, runbooks: None }).unwrap().lasts
    };
    assert_eq!(lasts(Mode::Practice, &|_| None), Lasts { known: span("17m"), unknown: 1 }, "1 + (10 + 5) + 1");
    assert_eq!(lasts(Mode::Real, &|_| None).known, span("137m"));
    let past = |id: &str| (id == "y").then(|| span("30m"));
    assert_eq!(lasts(Mode::Practice, &past).known, span("32m"), "past runs count more than what was expected");
}

#[test]
fn a_runbook_that_is_run_is_shown_with_its_own_parameters() {
    let stop = "action = 'stop'\nunit = '{{p}}'\nexpected = '3m'";
    let inner = parse(&with(&[("## Inner", stop)]).replace("id = \"t\"", "id = \"inner\""));
    let call = "action = 'runbook'\nrunbook = 'inner'\nwith = { p = '{{p}}.service' }";
    let outer = parse(&with(&[("## Call", call)]));
    let lookup = |id: &str| (id == "inner").then_some(&inner);
    let parameters = BTreeMap::from([("p".to_owned(), "odoo".to_owned())]);
    let request = Request { parameters, mode: Mode::Real, past: &|_| None, runbooks: Some(&lookup) };
    let plan = Plan::of(&outer, &request).unwrap();
    assert_eq!(plan.items[0].called[0].step.as_ref().unwrap().words, "stop unit odoo.service");
    assert_eq!(plan.lasts.known, span("3m"));
    assert_eq!(plan.touches, ["unit odoo.service"]);
}
