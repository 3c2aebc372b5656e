//! `runbook list`, `check` and `show`: what there is, what is wrong with it, and what a run would do.

use crate::program::{Program, shape};

const SPECIFICATION: &str = include_str!("../../docs/runbook-format.md");

/// The specification's example, for the instance that `init` writes.
fn example() -> String {
    let (_, rest) = SPECIFICATION.split_once("````markdown\n").unwrap();
    rest.split_once("````\n").unwrap().0.to_owned()
}

fn with_example() -> Program {
    let program = Program::initialised();
    program.write("runbooks/README.md", "# About them\n");
    program.write("runbooks/prose.md", "# Only prose\n\nCall somebody.\n");
    program.write("runbooks/total-loss.md", example());
    program
}

#[test]
fn runbooks_are_listed() {
    let program = with_example();
    let ended = program.run("runbook list").expect(0);
    insta::assert_snapshot!("runbook-list", ended.stdout);
    let json = program.run("runbook list --json").expect(0).json();
    insta::assert_snapshot!("runbook-list-json", shape(&json));
    assert_eq!(json["runbooks"][1]["id"], "total-loss");
    let nothing = Program::new().run("runbook list").expect(0);
    assert_eq!(nothing.stdout, "there is no runbook in runbooks\n");
}

#[test]
fn what_is_wrong_is_told_by_line_and_column() {
    let program = with_example();
    let ended = program.run("runbook check").expect(0);
    assert_eq!(
        ended.stdout,
        "runbooks/prose.md:1:1: warning: has no step: only for reading\n2 runbooks: usable, 0 errors, 1 warning\n"
    );
    program.write("runbooks/again.md", example().replace("on_failure = \"ask\"", "on_failure = \"panic\""));
    program.write("runbooks/z-twin.md", example().replace("{{restore.newest-commit}}", "{{restor.newest-commit}}"));
    let ended = program.run("runbook check").expect(4);
    insta::assert_snapshot!("runbook-check", ended.stdout);
    let json = program.run("runbook check --json").expect(4).json();
    insta::assert_snapshot!("runbook-check-json", shape(&json));
    assert_eq!(
        program.run("runbook check runbooks/total-loss.md").expect(0).stdout,
        "1 runbook: usable, 0 errors, 0 warnings\n"
    );
    assert!(program.run("runbook check none.md").expect(6).stderr.contains("none.md"));
}

#[test]
fn a_runbook_is_held_against_the_dependencies_of_its_instance() {
    let program = with_example();
    let map = "[instances.clinic.dependencies.sign-in]\nkind = \"identity\"\naddress = \"https://id.example.org\"\n";
    program.edit("[engine]", &format!("{map}[engine]"));
    assert!(program.run("config show").expect(0).stdout.contains("https://id.example.org"));
    let told = program.run("runbook check runbooks/total-loss.md").expect(0).stdout;
    let words =
        "runbooks/total-loss.md:5:1: warning: forgets \"sign-in\" (identity, https://id.example.org), which clinic";
    assert!(told.contains(words), "{told}");
    let shown = program.run("runbook show total-loss --instance clinic").expect(0).stdout;
    assert!(shown.contains("What clinic cannot work without"), "{shown}");
    let line = shown.lines().find(|line| line.starts_with("sign-in")).unwrap_or_default();
    assert!(line.contains("identity") && line.contains("forgotten: say what to do without it"), "{shown}");
    program.write("runbooks/total-loss.md", example().replace("needs = [\"dns\"]", "needs = [\"dns\", \"identity\"]"));
    let json = program.run("runbook show total-loss --instance clinic --json").expect(0).json();
    let map = &json["dependencies"]["map"][0];
    assert_eq!((&map["needed"], &map["steps"][0]), (&true.into(), &"point-the-name-here".into()), "{map}");
    let unknown = program.run("runbook check --instance clinc").expect(6);
    assert!(unknown.stderr.contains("did you mean \"clinic\"?"), "{}", unknown.stderr);
}

/// Runbooks are wanted when much is broken.
#[test]
fn a_configuration_that_is_wrong_does_not_stand_in_the_way() {
    let program = with_example();
    program.edit("rpo = \"24h\"", "rpo = 24");
    let ended = program.run("runbook check runbooks/total-loss.md").expect(5);
    assert!(
        ended.stdout.contains("not checked: instances, repositories and dependencies, as lifeboat.toml has 1 problem")
    );
    assert!(program.run("runbook show total-loss").expect(0).stdout.contains("Total loss"));
    std::fs::remove_file(program.path("lifeboat.toml")).unwrap();
    let ended = program.run("runbook check runbooks/total-loss.md").expect(0);
    assert!(ended.stdout.contains("as there is no lifeboat.toml"), "{}", ended.stdout);
    program.run("runbook check --instance clinic").expect(3);
}

#[test]
fn a_plan_is_shown_as_a_tree() {
    let program = with_example();
    let ended = program.run("runbook show total-loss --instance clinic").expect(0);
    insta::assert_snapshot!("runbook-show", program.stable(&ended.stdout));
    let practice = program.run("runbook show runbooks/total-loss.md --set instance=clinic --mode practice").expect(0);
    insta::assert_snapshot!("runbook-show-practice", program.stable(&practice.stdout));
    let json = program.run("runbook show total-loss --json").expect(0).json();
    insta::assert_snapshot!("runbook-show-json", shape(&json));
    let wrong = program.run("runbook show total-loss --mode real --set moment=today").expect(2);
    assert!(
        wrong.stderr.contains("instance must be given") && wrong.stderr.contains("not a moment"),
        "{}",
        wrong.stderr
    );
    assert!(program.run("runbook show nothing").expect(6).stderr.contains("lifeboat runbook list"));
    program.write("runbooks/total-loss.md", example().replace("on_failure = \"ask\"", "on_failure = \"panic\""));
    let wrong = program.run("runbook show runbooks/total-loss.md").expect(4);
    assert!(wrong.stderr.contains("runbooks/total-loss.md:79:1: error: on_failure"), "{}", wrong.stderr);
}
