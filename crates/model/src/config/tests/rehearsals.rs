//! What tiers demand of drills, and checks of an operator's own.

use std::time::Duration;

use super::{check_problems, good};
use crate::config::checks::{OwnCheck, Question, Returned, Rows};

const END: &str = "[engine]\n";

fn with(section: &str) -> String {
    super::changed(&[(END, &format!("{section}{END}"))])
}

fn parsed(section: &str) -> Vec<OwnCheck> {
    let (config, _) = super::parse(&with(section), std::path::Path::new(super::FILE)).unwrap();
    config.instances.into_values().next().unwrap().drill.checks
}

fn problems(section: &str, expected: &[&str]) {
    check_problems(&[(END, &format!("{section}{END}"))], expected);
}

#[test]
fn a_tier_says_how_often_and_what() {
    assert_eq!(good().tiers.values().next().unwrap().drill, Default::default());
    let text = with("[tiers.gold.drill]\nevery = \"7d\"\nrequired = [\"use.invoice\"]\n");
    let (config, _) = super::parse(&text, std::path::Path::new(super::FILE)).unwrap();
    let drill = &config.tiers.values().next().unwrap().drill;
    assert_eq!(drill.every.unwrap().0, Duration::from_secs(7 * 86_400));
    assert_eq!(drill.required, ["use.invoice"]);
    problems(
        "[tiers.gold.drill]\nevery = \"5m\"\n",
        &["F:38: tiers.gold.drill.every: is out of range; use \"1h\" to \"366d\""],
    );
}

#[test]
fn own_checks_arrive() {
    let checks = parsed(
        r#"[[instances.clinic.drill.checks]]
id = "own.invoices"
purpose = "the year's invoices are there"
sql = "SELECT count(*) FROM account_move"
at_least = 10
database = "clinic"
timeout = "5s"
[[instances.clinic.drill.checks]]
id = "own.rows"
sql = "SELECT 1, 'a'"
rows = [["1", "a"]]
required = false
[[instances.clinic.drill.checks]]
id = "own.partners"
rpc = "res.partner.search_count"
arguments = '[[["active", "=", true]]]'
result = "42"
[[instances.clinic.drill.checks]]
id = "own.health"
http = "/web/health"
contains = "pass"
[[instances.clinic.drill.checks]]
id = "own.version"
run = ["odoo", "--version"]
contains = "19"
"#,
    );
    assert_eq!(checks.len(), 5);
    assert_eq!((checks[0].database.as_deref(), checks[0].timeout.0), (Some("clinic"), Duration::from_secs(5)));
    assert!(checks[0].required && !checks[1].required);
    assert_eq!(checks[1].timeout.0, Duration::from_secs(30));
    let Question::Sql { expect: Rows::Equal(rows), .. } = &checks[1].question else { panic!("{checks:?}") };
    assert_eq!(rows, &[["1", "a"]]);
    let Question::Rpc { model, method, arguments, keywords, expect } = &checks[2].question else {
        panic!("{checks:?}")
    };
    assert_eq!((model.as_str(), method.as_str()), ("res.partner", "search_count"));
    assert_eq!((arguments.to_string(), keywords.to_string()), (r#"[[["active","=",true]]]"#.into(), "{}".into()));
    assert_eq!(expect, &Returned::Equal(42.into()));
    let http =
        Question::Http { path: "/web/health".into(), status: 200, contains: Some("pass".into()), logged_in: false };
    assert_eq!(checks[3].question, http);
    let run = vec!["odoo".to_owned(), "--version".to_owned()];
    assert_eq!(checks[4].question, Question::Command { run, exit: 0, contains: Some("19".into()) });
}

#[test]
fn own_checks_are_checked() {
    let head = "[[instances.clinic.drill.checks]]\n";
    let one = |lines: &str, expected: &str| problems(&format!("{head}{lines}"), &[expected]);
    one(
        "id = \"boot.log\"\nhttp = \"/\"\n",
        "F:38: instances.clinic.drill.checks[0].id: not the id of an own check; begin it with \"own.\", for example \"own.invoices\"",
    );
    one(
        "id = \"own.a\"\n",
        "F:37: instances.clinic.drill.checks[0]: asks nothing; give it one of sql, rpc, http and run",
    );
    one(
        "id = \"own.a\"\nhttp = \"/\"\nsql = \"SELECT 1\"\n",
        "F:37: instances.clinic.drill.checks[0]: asks 2 things: sql, http; give it one of sql, rpc, http and run",
    );
    one(
        "id = \"own.a\"\nsql = \"SELECT 1\"\n",
        "F:37: instances.clinic.drill.checks[0]: does not say what must be answered; give it either rows = [[\"…\"]] or at_least = N",
    );
    one(
        "id = \"own.a\"\nhttp = \"//example.org/\"\n",
        "F:39: instances.clinic.drill.checks[0].http: not a path; write the part behind the host, for example \"/web/login\"",
    );
    one(
        "id = \"own.a\"\nrpc = \"res.users.search\"\narguments = \"[\"\nat_least = 1\n",
        "F:40: instances.clinic.drill.checks[0].arguments: not a list in JSON; write for example arguments = '[[]]'",
    );
    one(
        "id = \"own.a\"\nhttp = \"/\"\ndatabase = \"other\"\n",
        "F:37: instances.clinic.drill.checks: own.a asks database \"other\", which is not one of the instance; use one of clinic, clinic_test",
    );
    let twice = "id = \"own.a\"\nhttp = \"/\"\n";
    problems(
        &format!("{head}{twice}{head}{twice}"),
        &["F:40: instances.clinic.drill.checks[1]: there is another check with the id \"own.a\"; give each its own"],
    );
}

#[test]
fn all_drills_share_a_budget() {
    let shared = |section: &str| {
        let (config, _) = super::parse(&with(section), std::path::Path::new(super::FILE)).unwrap();
        config.drills
    };
    assert_eq!(shared(""), Default::default());
    let given = shared("[drills]\nconcurrent = 3\nmemory = \"8 GiB\"\n");
    assert_eq!((given.concurrent, given.memory), (3, Some(crate::size::ByteSize(8 << 30))));
    problems("[drills]\nconcurrent = 0\n", &["F:38: drills.concurrent: the number is out of range; use 1 to 64"]);
}
