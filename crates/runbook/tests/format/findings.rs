//! Everything that can be wrong, with the line and character where it is told. In these texts `¦` marks the place; it is taken
//! out before they are read.

use std::path::Path;

use lifeboat_model::config;
use lifeboat_runbook::{
    check::{self, Surroundings},
    document::Document,
    error::Finding,
};

use crate::{parse, with};

/// What is found in a text, from both passes.
fn found(text: &str, around: &Surroundings<'_>) -> Vec<Finding> {
    match Document::parse(text) {
        Ok(document) => check::check(&document, around),
        Err(findings) => findings,
    }
}

/// There is one finding at the mark, with these words, and nothing else.
#[track_caller]
fn one_around(marked: &str, words: &str, around: &Surroundings<'_>) {
    let before = marked.split_once('¦').expect("a mark").0;
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let findings: Vec<String> = found(&marked.replace('¦', ""), around).iter().map(ToString::to_string).collect();
    let at = format!("{line}:{column}: ");
    let [finding] = findings.as_slice() else { panic!("{marked}\nexpected {at}{words}\n{findings:#?}") };
    assert!(finding.starts_with(&at) && finding.contains(words), "{marked}\nexpected {at}{words}\nfound    {finding}");
}

#[track_caller]
fn one(marked: &str, words: &str) {
    one_around(marked, words, &Surroundings::default());
}

/// A step that uses the parameter, so that nothing else is told.
const FIRST: (&str, &str) = ("## First", "action = 'wait'\nfor = '{{p}}'");

/// Steps after the first.
fn after(steps: &[(&str, &str)]) -> String {
    with(&[&[FIRST], steps].concat())
}

/// A block after the first step, told as a whole: the mark is its fence.
fn whole(block: &str) -> String {
    after(&[("## A", block)]).replace("## A\n", "## A\n¦")
}

#[test]
fn a_document() {
    let good = after(&[]);
    let block = "```toml\naction = 'wait'\nfor = '1s'\n```\n";
    let cases = [
        (format!("# T\n¦## A\n{block}"), "error: there are steps and no head"),
        (format!("## A\n¦{block}# T\n"), "error: a step and no title"),
        (format!("¦```toml\na = 1\n```\n{good}"), "error: a block outside of the document"),
        (format!("{good}¦{block}"), "error: a second block under one heading"),
        (good.replace("## First", "¦```toml\na = 1\n```\n## First"), "error: a second block under the title"),
        (format!("{good}- x\n\n  ¦```toml\n  a = 1\n  ```\n"), "error: a block of TOML stands in a list"),
        (format!("{good}> ¦```toml\n> a = 1\n> ```\n"), "error: a block of TOML stands in a list"),
        (format!("{good}  ¦```toml\n  a = 1\n  ```\n"), "error: a block of TOML stands in a list"),
        (format!("{good}¦```\naction = 'wait'\n```\n"), "warning: looks like a step and is only read"),
        (format!("{good}## B\n¦```toml\naction = 'wait'\n"), "error: the block is never closed"),
        (format!("{good}¦## First\n{block}"), "error: the id \"first\" stands in line 10 as well"),
        (format!("{good}¦## End\n{block}"), "error: the id \"end\" means something else"),
        (format!("{good}¦## !!\n{block}"), "error: the heading gives no id"),
        (format!("{good}## B\n¦```toml\n[runbook]\nid = 'x'\n```\n"), "error: the head stands here"),
        (format!("¦{}", "x".repeat(lifeboat_runbook::document::LARGEST + 1)), "error: is larger than 1 MiB"),
    ];
    for (marked, words) in cases {
        one(&marked, words);
    }
    let told = Document::read(b"# T\nab\xff").unwrap_err()[0].to_string();
    assert_eq!(told, "2:3: error: is not UTF-8 from here on: save the file as UTF-8");
}

#[test]
fn a_head() {
    let cases = [
        ("¦sumary = 'x'", "error: runbook.sumary: unknown key; did you mean \"summary\"?"),
        ("¦rto = 4", "error: runbook.rto: expected a time span in quotes"),
        ("¦id = 'x'", "error: not valid TOML: duplicate key"),
        (
            "[parameters.x]\n¦kind = 'txt'",
            "error: parameters.x.kind: not a word that is known here; did you mean \"text\"?",
        ),
        ("[parameters.¦mode]\nkind = 'text'", "error: parameters.mode: the name means something else"),
        ("[parameters.x]\nkind = 'path'\n¦default = 'etc'", "error: parameters.x.default: is not an absolute path"),
        ("[parameters.x]\nkind = 'choice'\nchoices = ['one', 'two']\n¦default = 'tow'", "did you mean \"two\"?"),
        ("[parameters.x]\nkind = 'text'\n¦choices = ['one']", "with kind = \"choice\" only"),
        ("[parameters.x]\nkind = 'moment'\n¦default = 'today'", "is not a moment"),
        ("[parameters.x]\nkind = 'duration'\n¦default = '5'", "is not a time span"),
        ("[parameters.x]\nkind = 'host'\n¦default = 'https://x'", "is not a host name"),
        ("[parameters.¦x]\nkind = 'text'", "warning: no step uses the parameter \"x\""),
    ];
    let step = "```\n## A\n```toml\naction = 'wait'\nfor = '1s'\n```\n";
    for (head, words) in cases {
        one(&format!("# T\n```toml\n[runbook]\nid = 't'\nsummary = 's'\n{head}\n{step}"), words);
    }
    one(
        &format!("# T\n```toml\n[runbook]\n¦id = 'T T'\nsummary = 's'\n{step}"),
        "runbook.id: \"T T\" is not a valid name",
    );
    one(&format!("# T\n```toml\n[¦runbook]\nid = 't'\n{step}"), "error: runbook.summary: missing; say when to use it");
}

#[test]
fn secrets_are_told_and_never_repeated() {
    for (block, words) in [
        ("action = 'http'\n¦url = 'https://me:hidden@x'", "error: url: holds a URL with a user name or password"),
        ("action = 'http'\nurl = 'https://x'\n¦body = 'AGE-SECRET-KEY-1HIDDEN'", "error: body: holds a private key"),
        ("action = 'http'\nurl = 'https://x'\n¦bearer = 'hidden'", "error: bearer: a secret must not stand in"),
        (
            "action = 'http'\nurl = 'https://x'\nheaders = { ¦Authorization = 'hidden' }",
            "error: headers.Authorization: a secret",
        ),
    ] {
        let text = after(&[("## A", block)]);
        one(&text, words);
        let findings = found(&text.replace('¦', ""), &Surroundings::default());
        assert!(findings.iter().all(|it| !it.message.to_lowercase().contains("hidden")), "{findings:#?}");
    }
}

#[test]
fn what_stands_in_a_block() {
    let cases = [
        ("action = 'wait'\n¦for = 5", "error: for: expected a text"),
        ("action = 'wait'\n¦for = '5 minutes'", "error: for: \"5 minutes\" is not a time span"),
        ("action = 'wait'\nfor = '1s'\n¦timout = '1s'", "error: timout: unknown key; did you mean \"timeout\"?"),
        ("action = 'wait'\nfor = '1s'\n¦timeout = '8d'", "error: timeout: is out of range"),
        ("¦action = 'wiat'", "error: action: not something that can be done; did you mean \"wait\"?"),
        ("action = 'wait'\nfor = '1s'\n¦on_failure = 'halt'", "use one of: stop, continue, rollback, ask"),
        ("action = 'wait'\nfor = '1s'\n¦role = 'leed'", "error: no role \"leed\"; did you mean \"lead\"?"),
        ("action = 'wait'\nfor = '1s'\n¦id = 'A B'", "error: id: \"A B\" is not a valid name"),
        (
            "action = 'wait'\nfor = '1s'\n¦until_moment = '2026-11-21T14:03:10Z'",
            "error: until_moment: for is set as well",
        ),
        ("action = 'wait'\n¦until = { action = 'stop', unit = 'x' }", "error: until: this changes something"),
        ("action = 'wait'\nuntil = { ¦action = 'manual', look_for = 'x' }", "\"manual\" is a step of its own"),
        (
            "action = 'wait'\nuntil = { action = 'http', url = 'https://a', ¦bdy = 'x' }",
            "until.bdy: unknown key; did you mean \"body\"?",
        ),
        ("action = 'start'\n¦services = ['odoo']\ncontainers = ['x']", "has a meaning with compose only"),
        ("action = 'start'\n¦containers = []", "the list is empty"),
        (
            "action = 'restore'\ninstance = 'c'\nto = '/a'\n¦to_docker = { postgres = 'v' }",
            "error: to_docker: to is set as well",
        ),
        ("action = 'restore'\ninstance = 'c'\nto = '/a'\n¦at = 'yesterday'", "error: at: "),
        (
            "action = 'sql'\ninstance = 'c'\ndatabase = 'd'\nsql = '''\nselect 1,\n  ¦{{p}}'''",
            "a value put into SQL could become SQL",
        ),
        (
            "action = 'sql'\ninstance = 'c'\n¦host = 'h'\ndatabase = 'd'\nsql = 'select 1'",
            "error: host: instance is set as well",
        ),
        ("action = 'command'\n¦run = 'rm -r /'", "write program and arguments apart"),
        (
            "action = 'command'\nrun = ['sh', '-c', 'echo ¦{{p}}']\ntouches = []",
            "a value put into a shell's line could become commands",
        ),
        ("action = 'http'\n¦url = 'ftp://x'", "error: url: not a URL of the web"),
        ("action = 'odoo'\nurl = 'https://x'\n¦check = 'log'", "did you mean \"login\"?"),
        ("action = 'verify'\ninstance = 'c'\nrestored_by = 'first'\nrungs = [¦'boat']", "did you mean \"boot\"?"),
        (
            "action = 'decide'\nquestion = 'q'\n¦answers = { yes = 'end' }",
            "error: answers: there is nothing to choose from",
        ),
        (
            "action = 'decide'\ncheck = { action = 'http', url = 'https://a' }\n¦answers = { yes = 'end', no = 'end' }",
            "a check finds \"passed\" or \"failed\"",
        ),
    ];
    for (text, words) in cases {
        one(&after(&[("## A", text)]), words);
    }
    // What is missing stands nowhere: its block is named.
    let missing = [
        ("for = '1s'", "error: action: missing; say what is done: restore, start"),
        ("action = 'restore'\nto = '/a'", "error: instance: missing"),
        ("action = 'promote'\ninstance = 'c'", "error: fenced_by: missing"),
        ("action = 'kubernetes'\nscale = 'deployment/x'", "error: replicas: missing"),
        ("action = 'approve'\nquestion = 'q'", "error: role: missing"),
    ];
    for (text, words) in missing {
        one(&whole(text), words);
    }
}

#[test]
fn all_findings_of_all_blocks_are_told_in_order() {
    let blocks =
        [("## A", "action = 'wait'\nfor = 1\nretries = 'x'\nwhy = 2"), ("## B", "action = 'no'"), ("## C", "= 1")];
    let findings = found(&after(&blocks), &Surroundings::default());
    let at: Vec<(usize, usize)> = findings.iter().map(|it| (it.at.line, it.at.column)).collect();
    assert_eq!(at, [(18, 1), (19, 1), (20, 1), (24, 1), (28, 1)], "{findings:#?}");
}

#[test]
fn what_is_named() {
    let ask = "action = 'decide'\nquestion = 'q'\nanswers = { yes = 'continue', no = 'end' }";
    let sql = "action = 'sql'\ninstance = 'c'\ndatabase = 'd'\nsql = 'select 1'";
    let only = |condition: &str| format!("{sql}\n{condition}");
    let tell = |text: &str| format!("action = 'notify'\nchannels = ['a']\nsubject = \"{text}\"");
    let cases = [
        (after(&[("## A", &tell("ä {{p}} ¦{{q}}"))]), "error: no parameter \"q\"; did you mean \"p\"?"),
        (after(&[("## A", &tell("{{{{ ¦{{.State}}"))]), "error: subject: not a name between {{ and }}"),
        (after(&[("## A", &tell("x ¦{{p"))]), "error: subject: {{ without }}"),
        (after(&[("## A", &tell("{{run.id}} ¦{{run.ids}}"))]), "error: a run has no \"ids\"; did you mean \"id\"?"),
        (after(&[("## A", &tell("¦{{frist.outcome}}"))]), "error: no step \"frist\"; did you mean \"first\"?"),
        (
            after(&[("## S", sql), ("## A", &tell("{{s.value}} ¦{{s.valeu}}"))]),
            "error: \"s\" (sql) gives no \"valeu\"; did you mean \"value\"?",
        ),
        (after(&[("## A", &tell("¦{{s.value}}")), ("## S", sql)]), "error: \"s\" runs later than this"),
        (after(&[("## A", &tell("¦{{a.outcome}}"))]), "error: \"a\" runs later than this"),
        (
            after(&[("## S", &only("only_when = 'p'")), ("## A", &tell("{{s.outcome}} ¦{{s.value}}"))]),
            "warning: \"s\" may not have run",
        ),
        (after(&[("## A", &only("¦only_when = \"q == 'x'\""))]), "error: no parameter \"q\""),
        (after(&[("## A", &only("only_when = \"mode ¦= 'real'\""))]), "error: only_when: write == to compare"),
        (
            after(&[("## A", &only("¦only_when = \"mode == 'reel'\""))]),
            "error: it is never \"reel\"; did you mean \"real\"?",
        ),
        (
            after(&[("## Q", ask), ("## A", &only("¦only_when = \"q.answer != 'yess'\""))]),
            "error: it is never \"yess\"; did you mean \"yes\"?",
        ),
        (after(&[("## A", &only("¦only_when = \"first.outcome == 'ok'\""))]), "error: it is never \"ok\""),
    ];
    for (marked, words) in cases {
        one(&marked, words);
    }
}

#[test]
fn where_things_lead() {
    let wait = "action = 'wait'\nfor = '1s'";
    let ask = |yes: &str, no: &str| format!("action = 'decide'\nquestion = 'q'\nanswers = {{ {yes}, {no} }}");
    let stop = |more: &str| format!("action = 'stop'\nunit = 'odoo'\n{more}");
    let promote = |fence: &str| format!("action = 'promote'\ninstance = 'c'\n¦fenced_by = '{fence}'");
    let approve = ("## Ok", "action = 'approve'\nrole = 'lead'\nquestion = 'q'");
    let verify = "action = 'verify'\ninstance = 'c'\nrungs = ['boot']\n¦restored_by = 'first'";
    let rollback = "undo = { action = 'start', unit = 'x' }\n¦on_failure = 'rollback'";
    let ends = ask("a = 'end'", "b = 'end'");
    let cases = [
        (after(&[("## Q", &ask("¦a = 'nowhere'", "b = 'end'"))]), "error: no step or group \"nowhere\""),
        (
            after(&[("## Q", &ask("¦a = 'first'", "b = 'end'"))]),
            "error: \"first\" stands before this: a run never goes back",
        ),
        (after(&[("## Q", &ask("¦a = 'q'", "b = 'end'"))]), "error: \"q\" stands before this"),
        (
            after(&[("## Q", &ask("a = 'x'", "¦b = 'y'")), ("## X", wait), ("### Y", wait)]),
            "error: \"y\" lies in \"x\", which must be chosen first",
        ),
        (
            after(&[("## Q", &ends), ("¦## X", wait)]),
            "warning: \"x\" can never be reached: every way that leads here ends before it",
        ),
        (
            after(&[("## Q", &ask("a = 'x'", "b = 'end'")), ("## X", &ends), ("¦## Y", wait)]),
            "warning: \"y\" can never be reached",
        ),
        (after(&[("## A", &stop("¦undo = 'nowhere'"))]), "error: no step or group \"nowhere\""),
        (after(&[("## A", &stop("¦undo = 'a'"))]), "error: a step cannot take itself back"),
        (
            after(&[("## A", &stop("undo = { action = 'start', ¦unti = 'x', unit = 'x' }"))]),
            "error: undo.unti: unknown key",
        ),
        (after(&[("## A", &stop("¦on_failure = 'rollback'"))]), "error: no step up to here has an undo"),
        (
            after(&[("## A", &stop("")), ("## B", &stop(rollback))]),
            "warning: a rollback leaves what these did: a; give each an undo",
        ),
        (after(&[approve, ("## A", &promote("first"))]), "error: \"first\" cannot fence anything"),
        (after(&[approve, ("## A", &promote("b")), ("## B", &stop(""))]), "error: \"b\" is not before this"),
        (
            after(&[approve, ("## F", &stop("on_failure = 'continue'")), ("## A", &promote("f"))]),
            "two primaries would write",
        ),
        (after(&[("## A", verify)]), "error: \"first\" restores nothing"),
    ];
    for (marked, words) in cases {
        one(&marked, words);
    }
    // Two steps with one undo: the second is told, whichever it is.
    let shared = after(&[("## A", &stop("undo = 'c'")), ("## B", &stop("undo = 'c'")), ("## C", wait)]);
    assert!(found(&shared, &Surroundings::default())[0].message.contains("takes back another step already"));
    // What is not wrong: branches in their places, one after the other, and a common end.
    let right = after(&[
        ("## Q", &ask("a = 'x'", "b = 'y'")),
        ("## X", &stop("undo = 'back'")),
        ("## Y", &ask("a = 'end'", "b = 'continue'")),
        ("## Both", wait),
        ("## Back", "action = 'start'\nunit = 'odoo'"),
    ]);
    let findings = found(&right, &Surroundings::default());
    assert!(findings.is_empty(), "{findings:#?}");
}

/// A limit that nobody keeps, and a way back that cannot be gone.
#[test]
fn what_no_run_would_keep() {
    let asked = [
        "action = 'approve'\nrole = 'lead'\nquestion = 'q'",
        "action = 'manual'\nlook_for = 'x'\ntouches = []",
        "action = 'decide'\nquestion = 'q'\nanswers = { a = 'continue', b = 'end' }",
    ];
    for block in asked {
        one(&after(&[("## A", &format!("{block}\n¦timeout = '1h'"))]), "error: people are waited for without end");
    }
    let call = "action = 'runbook'\nrunbook = 'other'";
    let limited = after(&[("## A", &format!("{call}\n¦timeout = '1h'"))]);
    one(&limited, "error: the steps of the other runbook have limits of their own");
    let back = after(&[("## A", "action = 'stop'\nunit = 'odoo'\nundo = 'b'"), ("## B", call)]);
    one(&back.replace("## B\n", "## B\n¦"), "error: a runbook cannot take back \"a\"");
}

#[test]
fn what_is_doubtful() {
    let retried = "action = 'command'\nrun = ['x']\ntouches = []\n¦retries = 1";
    one(&after(&[("## A", retried)]), "warning: nobody can tell whether a try that failed had an effect");
    let slow = "action = 'restore'\ninstance = 'c'\nto = '/a'\ntimeout = '1h'\n¦expected = '2h'";
    one(&after(&[("## A", slow)]), "warning: is expected to last 2h 0m and may last 1h 0m");
    one(&whole("action = 'command'\nrun = ['x']"), "warning: a command may change anything: say what");
    let replaces = "action = 'restore'\ninstance = 'c'\nto = '/a'\nreplace = true";
    one(&whole(replaces), "warning: \"a\" destroys, and no step before it is sure to ask for approval");
    let slow = after(&[("## A", "action = 'wait'\nfor = '1s'\nexpected = '20m'")]);
    one(
        &slow.replace("roles =", "¦rto = '10m'\nroles ="),
        "warning: the steps are expected to last 20m 0s, longer than the RTO",
    );
}

const CONFIG: &str = r#"
tenant = "hospital"
[repository]
path = "/srv/lifeboat"
[keys]
recovery_recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]
host_identity_file = "host.age"
signing_key_file = "signing"
trusted_keys = ["lifeboat-ed25519:6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw="]
[tiers.t]
rpo = "1h"
rto = "4h"
[instances.clinic]
tier = "t"
postgres = { host = "db", user = "lifeboat", databases = ["odoo"] }
drill = { postgres_image = "postgres:17", odoo_image = "odoo:19" }
[instances.clinic.dependencies.database]
kind = "postgresql"
address = "db:5432"
[instances.clinic.dependencies.sign-in]
kind = "identity"
address = "https://id.example.org"
"#;

#[test]
fn what_stands_around() {
    let (config, _) = config::parse(CONFIG, Path::new("lifeboat.toml")).unwrap();
    let around = Surroundings { config: Some(&config), ..Surroundings::default() };
    let needs = |text: String, needs: &str| text.replace("roles =", &format!("needs = [{needs}]\nroles ="));
    let forgets = needs(after(&[]), "'postgresql'").replacen("```toml", "¦```toml", 1);
    let words = "warning: forgets \"sign-in\" (identity, https://id.example.org), which clinic cannot work without";
    one_around(&forgets, words, &around);
    let dns = needs(after(&[]), "'database', 'identity', ¦'dns'");
    one_around(&dns, "warning: clinic has no dependency \"dns\"", &around);
    let other = "other".parse().unwrap();
    let elsewhere = Surroundings { config: Some(&config), instance: Some(&other), runbooks: None };
    one_around(
        &needs(after(&[]), "¦'singin'"),
        "error: no dependency \"singin\"; did you mean \"sign-in\"?",
        &elsewhere,
    );

    let all = |text| needs(text, "'postgresql', 'sign-in'");
    let parameter = "[parameters.i]\nkind = 'instance'\n¦default = 'clinc'\n```\n## First";
    let restore = "action = 'restore'\ninstance = '{{i}}'\nto = '/a'";
    let unknown = after(&[("## A", restore)]).replacen("```\n## First", parameter, 1);
    one_around(&unknown, "error: no instance \"clinc\" in the configuration; did you mean \"clinic\"?", &around);
    let moon = all(whole("action = 'restore'\ninstance = 'clinic'\nto = '/a'\nfrom = 'moon'"));
    one_around(&moon, "error: from: no repository \"moon\"", &around);
    // What a step relies on counts for the whole.
    let of_step = after(&[("## A", "action = 'wait'\nfor = '1s'\nneeds = ['database', 'sign-in']")]);
    assert!(found(&of_step, &around).is_empty());
}

#[test]
fn other_runbooks() {
    let named = |id: &str, calls: &str| {
        let call = format!("action = 'runbook'\nrunbook = '{calls}'");
        let steps: &[(&str, &str)] = if calls.is_empty() { &[] } else { &[("## Call", &call)] };
        parse(&after(steps).replace("id = \"t\"", &format!("id = \"{id}\"")))
    };
    let shelf = [named("other", "third"), named("third", "t"), named("plain", "")];
    let lookup = |id: &str| shelf.iter().find(|document| document.head.as_ref().unwrap().id.value == id);
    let around = Surroundings { runbooks: Some(&lookup), ..Surroundings::default() };
    let call = |lines: &str| after(&[("## A", &format!("action = 'runbook'\n{lines}"))]);
    one_around(&call("¦runbook = 'nothing'"), "error: no runbook \"nothing\"", &around);
    one_around(&call("¦runbook = 't'"), "error: it would run itself", &around);
    let circle = "error: goes round in a circle: t runs other runs third runs t";
    one_around(&call("¦runbook = 'other'\nwith = { p = 'x' }"), circle, &around);
    let unknown = "error: \"plain\" has no parameter \"pp\"; did you mean \"p\"?";
    one_around(&call("runbook = 'plain'\nwith = { p = 'x', ¦pp = 'x' }"), unknown, &around);
    let missing = "error: \"plain\" needs the parameter \"p\"";
    one_around(&whole("action = 'runbook'\nrunbook = 'plain'"), missing, &around);
    assert!(found(&call("runbook = 'plain'\nwith = { p = '{{p}}' }"), &around).is_empty());
}
