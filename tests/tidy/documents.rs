//! Documents and shipped files that must keep fitting the program.

use std::{collections::BTreeSet, process::Command};

use lifeboat_runbook::{
    check::{self, Surroundings},
    document::Document,
};

use crate::tree::{files, none, read, root, shown};

#[test]
fn runbooks_and_schedules_are_shipped() {
    let runbooks = files(&root().join("runbooks"), "md");
    let timers = files(&root().join("schedules"), "timer");
    assert!(runbooks.len() > 1, "runbooks/ has no runbook");
    assert!(!timers.is_empty(), "schedules/ has no timer");
    let mut wrong = Vec::new();
    for timer in timers {
        if !timer.with_extension("service").is_file() {
            wrong.push(format!("{} starts nothing", shown(&timer)));
        }
        if !read(&timer).contains("OnCalendar=") {
            wrong.push(format!("{} has no OnCalendar", shown(&timer)));
        }
    }
    none("schedules that do nothing", &wrong);
}

/// What people follow at night, and what the specification shows, is right.
#[test]
fn shipped_runbooks_have_no_error() {
    let specification = read(&root().join("docs/runbook-format.md"));
    let example = specification.split_once("````markdown\n").and_then(|(_, rest)| rest.split_once("````\n"));
    let example = example.map(|(example, _)| ("docs/runbook-format.md".to_owned(), example.to_owned()));
    let shipped = files(&root().join("runbooks"), "md").into_iter().map(|file| (shown(&file), read(&file)));
    let mut wrong = Vec::new();
    for (file, text) in shipped.chain([example.unwrap()]) {
        let findings = match Document::parse(&text) {
            Ok(document) => check::check(&document, &Surroundings::default()),
            Err(findings) => findings,
        };
        wrong.extend(findings.iter().filter(|it| it.is_error()).map(|finding| format!("{file}:{finding}")));
    }
    none("runbooks with errors", &wrong);
}

/// Every `lifeboat …` in a document names a verb that exists, with options that it has.
#[test]
fn documents_name_commands_that_exist() {
    let mut documents = files(&root().join("runbooks"), "md");
    documents.extend(files(&root().join("schedules"), "service"));
    documents.extend(files(&root().join("docs"), "md"));
    documents.push(root().join("README.md"));
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for document in documents {
        for command in commands(&read(&document)) {
            seen.insert(command[0].clone());
            if let Err(why) = check(&command) {
                wrong.push(format!("{}: lifeboat {}: {why}", shown(&document), command.join(" ")));
            }
        }
    }
    none("commands that do not exist", &wrong);
    let expected = ["backup", "drill", "restore", "verify"];
    assert!(expected.iter().all(|verb| seen.contains(*verb)), "found too little: {seen:?}");
}

/// The words after `lifeboat` in code blocks, `inline code` and ExecStart lines, up to what ends a command.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let blocks = text.lines().filter(|line| line.starts_with("    ") || line.starts_with("ExecStart="));
    let inline = text.split('`').skip(1).step_by(2).filter(|code| !code.contains('\n'));
    for code in blocks.chain(inline) {
        for part in code.split(" && ").flat_map(|part| part.split(" ; ")) {
            let mut words = part.split('#').next().unwrap_or_default().split_whitespace();
            let program = words.next().unwrap_or_default();
            if !matches!(program, "lifeboat" | "ExecStart=/usr/local/bin/lifeboat") {
                continue;
            }
            let words: Vec<String> = words.map(|word| word.trim_matches(['…', '|']).to_owned()).collect();
            let words = skip_global(words);
            if words.first().is_some_and(|verb| verb.chars().all(|c| c.is_ascii_lowercase())) {
                found.push(words);
            }
        }
    }
    found
}

fn skip_global(mut words: Vec<String>) -> Vec<String> {
    while words.first().is_some_and(|word| word.starts_with("--")) {
        let takes_value = words[0] == "--config" || words[0] == "--log-format";
        words.drain(..if takes_value { 2.min(words.len()) } else { 1 });
    }
    words
}

fn check(command: &[String]) -> Result<(), String> {
    let path: Vec<&String> = command.iter().take_while(|word| word.chars().all(|c| c.is_ascii_lowercase())).collect();
    // A subcommand or an argument such as an instance's name: the longest chain that is a command counts.
    let help = (1..=path.len().min(2)).rev().find_map(|length| help(&path[..length]));
    let help = help.ok_or("there is no such command")?;
    let options = command.iter().filter(|word| word.starts_with("--"));
    let unknown =
        options.map(|option| option.split('=').next().unwrap_or(option)).find(|option| !help.contains(*option));
    unknown.map_or(Ok(()), |option| Err(format!("there is no option {option}")))
}

fn help(path: &[&String]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_lifeboat")).arg("help").args(path).output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whoever copies a shipped configuration begins with one that is right.
#[test]
fn shipped_configurations_parse() {
    let mut wrong = Vec::new();
    for file in files(&root(), "toml") {
        if !file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lifeboat")) {
            continue;
        }
        if let Err(problems) = lifeboat_model::config::parse(&read(&file), &file) {
            wrong.extend(problems.iter().map(ToString::to_string));
        }
    }
    none("configurations that do not parse", &wrong);
}

/// The documented JSON forms are those that the two programs have.
#[test]
fn json_forms_are_documented() {
    let document = read(&root().join("docs/json.md"));
    let mut forms = BTreeSet::new();
    let sources = ["crates/lifeboat/src", "crates/verify/src"].map(|source| files(&root().join(source), "rs"));
    for file in sources.into_iter().flatten() {
        forms.extend(read(&file).split('"').filter(|text| is_form(text)).map(str::to_owned));
    }
    let documented: BTreeSet<String> = document.split('`').filter(|text| is_form(text)).map(str::to_owned).collect();
    assert!(!forms.is_empty());
    assert_eq!(documented, forms);
}

fn is_form(text: &str) -> bool {
    let rest = text.strip_prefix("lifeboat.").and_then(|rest| rest.split_once('/'));
    rest.is_some_and(|(name, version)| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '-')
            && !version.is_empty()
            && version.chars().all(|c| c.is_ascii_digit())
    })
}
