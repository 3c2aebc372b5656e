//! What must be agreed to before a run begins, and what people are shown of it.

use std::{net::TcpListener, path::Path};

use crate::program::{Ended, Program};

const HEAD: &str = "# Drop\n\n```toml\n[runbook]\nid = \"drop-it\"\nsummary = \"x\"\nroles = [\"lead\"]\n```\n";
const ASKS: &str = "action = \"approve\"\nrole = \"lead\"\nquestion = \"Go on?\"";
/// Nobody listens there.
const CLOSED: u16 = 1;

/// A runbook with these steps: heading and block each.
fn runbook(steps: &[(&str, &str)]) -> String {
    let steps = steps.iter().map(|(heading, block)| format!("\n## {heading}\n\n```toml\n{block}\n```\n"));
    format!("{HEAD}{}", steps.collect::<String>())
}

/// Leaves a file where it was done.
fn drops(program: &Program) -> String {
    let file = program.path("dropped");
    format!(
        "action = \"command\"\nrun = [\"touch\", \"{}\"]\neffect = \"destroys\"\ntouches = [\"all\"]",
        file.display()
    )
}

/// A site whose instances `clinic` and `other` have their databases at these ports of this host. Their passwords are not here.
fn site(clinic: u16, other: Option<u16>) -> Program {
    let program = Program::initialised();
    program.edit("host = \"localhost\"\nport = 5432", &format!("host = \"127.0.0.1\"\nport = {clinic}"));
    if let Some(port) = other {
        let section = program.read("lifeboat.toml");
        let (_, section) = section.split_once("[instances.clinic]").unwrap();
        let (section, _) = section.split_once("[engine]").unwrap();
        let section = format!("[instances.clinic]{section}").replace(".clinic", ".other");
        let section = section.replace(&format!("port = {clinic}"), &format!("port = {port}"));
        program.edit("[engine]", &format!("{section}[engine]"));
    }
    program
}

fn run(program: &Program, more: &str) -> Ended {
    program.run(&format!("runbook run drop.md --answer ask=yes@ann {more}"))
}

fn is_done(program: &Program) -> bool {
    program.path("dropped").exists()
}

#[track_caller]
fn refused(program: &Program, more: &str, code: i32, words: &str) {
    let ended = run(program, more).expect(code);
    assert!(ended.stderr.contains(words), "no {words:?} in {}", ended.stderr);
    assert!(!is_done(program), "{}", ended.stderr);
    assert!(!Path::new(&program.path("state/runs")).exists(), "a run was begun");
}

#[test]
fn what_destroys_something_that_may_live_needs_an_approval_and_its_name() {
    let database = TcpListener::bind("127.0.0.1:0").unwrap();
    let program = site(database.local_addr().unwrap().port(), None);
    program.write("drop.md", runbook(&[("Drop", &drops(&program))]));
    refused(&program, "--yes --confirm clinic", 4, "nobody is sure to be asked before");
    // The password cannot be read, and whoever listens says nothing: it lives all the same.
    program.write("drop.md", runbook(&[("Ask", ASKS), ("Drop", &drops(&program))]));
    refused(&program, "--yes", 2, "--confirm");
    refused(&program, "--yes --confirm other", 2, "\"other\" is not \"clinic\"");
    run(&program, "--confirm clinic").expect(0);
    assert!(is_done(&program));
}

/// A lead who says no is not passed over.
#[test]
fn an_approval_that_goes_on_after_a_no_is_an_error() {
    let program = site(CLOSED, None);
    let ask = format!("{ASKS}\non_failure = \"continue\"");
    program.write("drop.md", runbook(&[("Ask", &ask), ("Drop", &drops(&program))]));
    let told = program.run("runbook check drop.md").expect(4).stdout;
    assert!(told.contains("drop.md:16:1: error: whoever says no is not heard: \"drop\" destroys"), "{told}");
    refused(&program, "--yes --confirm clinic", 4, "whoever says no is not heard");
}

#[test]
fn it_is_the_instance_that_a_step_names_that_counts() {
    let database = TcpListener::bind("127.0.0.1:0").unwrap();
    let program = site(CLOSED, Some(database.local_addr().unwrap().port()));
    let restore = |instance: &str| {
        let target = program.path("target");
        format!("action = \"restore\"\ninstance = \"{instance}\"\nto = \"{}\"\nreplace = true", target.display())
    };
    program.write("drop.md", runbook(&[("Restore", &restore("other"))]));
    for instance in ["", " --instance clinic"] {
        refused(&program, &format!("--yes --confirm other{instance}"), 4, "nobody is sure to be asked before");
    }
    program.write("drop.md", runbook(&[("Ask", ASKS), ("Restore", &restore("other"))]));
    refused(&program, "--yes --instance clinic", 2, "other, PostgreSQL at 127.0.0.1");
    program.write("drop.md", runbook(&[("Ask", ASKS), ("Restore", &restore("other")), ("Again", &restore("gone"))]));
    refused(&program, "--yes --confirm other", 2, "\"other\" is not \"gone,other\"");
}

/// Where nobody knows what would be destroyed, it is taken for alive.
#[test]
fn without_a_configuration_the_runbooks_id_is_typed() {
    let program = Program::new();
    program.write("drop.md", runbook(&[("Drop", &drops(&program))]));
    refused(&program, "--yes --confirm drop-it", 4, "nobody is sure to be asked before");
    program.write("drop.md", runbook(&[("Ask", ASKS), ("Drop", &drops(&program))]));
    refused(&program, "--yes", 2, "--confirm");
    run(&program, "--confirm drop-it").expect(0);
    assert!(is_done(&program));
}

/// After a total loss there is nothing left to ask for.
#[test]
fn a_database_that_surely_does_not_answer_needs_only_a_yes() {
    let program = site(CLOSED, None);
    program.write("drop.md", runbook(&[("Drop", &drops(&program))]));
    refused(&program, "", 2, "--yes");
    let ended = run(&program, "--yes").expect(0);
    assert!(
        is_done(&program) && ended.stderr.contains("clinic does not answer: PostgreSQL at 127.0.0.1:1"),
        "{ended:?}"
    );
}

#[test]
fn what_a_step_printed_is_shown_when_it_ends_and_afterwards() {
    let program = Program::new();
    program
        .write("drop.md", runbook(&[("Count", "action = \"command\"\nrun = [\"seq\", \"40\"]\neffect = \"nothing\"")]));
    let ran = run(&program, "--yes").expect(0);
    let shown = program.run("runbook runs latest").expect(0).stdout;
    for (text, what) in [(&ran.stderr, "while it runs"), (&shown, "afterwards")] {
        assert!(text.contains("│ 11\n") && text.contains("│ 40\n") && !text.contains("│ 10\n"), "{what}: {text}");
        assert!(text.contains("10 lines before; all of it: lifeboat runbook runs "), "{what}: {text}");
    }
    assert!(!ran.stdout.contains('│'), "once is enough: {}", ran.stdout);
}
