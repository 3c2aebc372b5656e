//! `--help` of every command, and what clap says to wrong arguments.

use crate::program::Program;

/// Every command there is, as clap itself lists them.
fn commands(program: &Program, path: &str, found: &mut Vec<String>) {
    let help = program.run(&format!("{path} --help")).expect(0).stdout;
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return };
    for line in list.lines().take_while(|line| !line.is_empty()) {
        // A deeper line goes on with the one above.
        let name = line.strip_prefix("  ").and_then(|line| line.split(' ').next());
        let Some(name) = name.filter(|name| !matches!(*name, "" | "help")) else { continue };
        let command = format!("{path} {name}").trim().to_owned();
        found.push(command.clone());
        commands(program, &command, found);
    }
}

#[test]
fn every_command_explains_itself() {
    let program = Program::new();
    let mut found = Vec::new();
    commands(&program, "", &mut found);
    insta::assert_snapshot!("commands", found.join("\n"));
    insta::assert_snapshot!("help", program.run("--help").expect(0).stdout);
    for command in found {
        let help = program.run(&format!("{command} --help")).expect(0).stdout;
        // The global options stand in the first snapshot; a change to them must not change thirty.
        let own = help.split("\nGlobal options:").next().unwrap_or_default();
        let examples = help.split_once("\nExample").map(|(_, examples)| format!("\nExample{examples}"));
        let is_group = help.contains("\nCommands:\n");
        assert!(is_group || examples.is_some() || command.contains(' '), "{command} has no example");
        insta::assert_snapshot!(
            format!("help-{}", command.replace(' ', "-")),
            format!("{own}{}", examples.unwrap_or_default())
        );
    }
}

#[test]
fn wrong_arguments_are_told_apart_from_failures() {
    let program = Program::new();
    let without_expectation = "find-corruption clinic --database odoo --sql 1";
    let wrong = ["", "bakup", "backup", "restore clinic --point latest", "points show clinic xyz", "-q -v status"];
    for wrong in wrong.into_iter().chain([without_expectation]) {
        let ended = program.run(wrong).expect(2);
        assert!(ended.stdout.is_empty(), "{wrong}: {}", ended.stdout);
        assert!(ended.stderr.contains("Usage") || ended.stderr.contains("--help"), "{wrong}: {}", ended.stderr);
    }
    assert!(program.run("bakup").stderr.contains("backup"), "the nearest command is named");
    assert!(program.run("--version").expect(0).stdout.starts_with("lifeboat "));
}
