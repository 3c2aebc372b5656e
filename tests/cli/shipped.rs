//! The shipped runbooks: whole, without a warning, within their time, and in the kit.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use lifeboat_model::config::DependencyKind;
use lifeboat_runbook::{
    action::{
        Action, Effect,
        command::Command,
        restore::Target,
        wait::{For, Wait},
    },
    consent::{Asked, Conditions, destroying},
    document::Document,
    plan::{Mode, Plan, Request},
    step::Undo,
    template::Template,
};

use crate::program::Program;

/// What an incident may be.
const EXPECTED: [&str; 12] = [
    "accidental-deletion",
    "damaged-repository",
    "database-corruption",
    "failback",
    "failover",
    "loss-of-object-storage",
    "lost-filestore",
    "lost-recovery-key",
    "one-tenant",
    "planned-migration",
    "ransomware",
    "total-loss",
];

/// What somebody looks for in each of them, in this order.
const PARTS: [&str; 9] = [
    "**When:**",
    "**Not when:**",
    "## Decide first",
    "## What this depends on",
    "## While ",
    "## Messages to copy",
    "## Who does what",
    "## How to know that it worked",
    "## Afterwards",
];

/// Values for parameters that have no default.
const GIVEN: [(&str, &str); 8] = [
    ("instance", "clinic"),
    ("moment", "2026-11-21T14:03:10+01:00"),
    ("point", "3fa9"),
    ("database", "odoo"),
    ("loaded", "odoo_loaded"),
    ("old-host", "db1.example.org"),
    ("new-host", "db2.example.org"),
    ("stolen-key", "lifeboat-ed25519:PPsSAeIobVcXp3TrhrYBUVUCXwbUfdRQlpbim8aOV38="),
];

fn shipped() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runbooks");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    files.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect()
}

fn runbooks() -> BTreeMap<String, String> {
    shipped().into_iter().filter(|(name, _)| name != "README.md").collect()
}

/// A site with all of them, whose instance relies on something of every kind, and has a copy.
fn site() -> Program {
    let program = Program::initialised();
    for (name, text) in shipped() {
        program.write(&format!("runbooks/{name}"), text);
    }
    let section = |kind: DependencyKind| {
        let word = kind.word();
        format!("[instances.clinic.dependencies.its-{word}]\nkind = \"{word}\"\naddress = \"{word}.example.org:1\"\n")
    };
    let map: String = DependencyKind::ALL.into_iter().map(section).collect();
    program.edit("[engine]", &format!("{map}[engine]"));
    program
}

#[test]
fn each_is_whole_and_without_a_warning() {
    let program = site();
    let ids = |answer: &serde_json::Value, list: &str| -> Vec<String> {
        answer[list].as_array().unwrap().iter().map(|book| book["id"].as_str().unwrap_or("?").to_owned()).collect()
    };
    assert_eq!(ids(&program.run("runbook list --json").expect(0).json(), "runbooks"), EXPECTED);
    let ended = program.run("runbook check").expect(0);
    assert_eq!(ended.stdout, format!("{} runbooks: usable, 0 errors, 0 warnings\n", EXPECTED.len()));
    let checked = program.run("runbook check --json").expect(0).json();
    assert_eq!(ids(&checked, "files"), EXPECTED);
    for book in checked["files"].as_array().unwrap() {
        assert!(book["steps"].as_u64().unwrap() > 5, "{book:#}");
    }
    for (name, text) in runbooks() {
        let mut rest = text.as_str();
        for part in PARTS {
            let found = rest.split_once(part);
            rest = found.unwrap_or_else(|| panic!("{name}: no \"{part}\" in its place")).1;
        }
        assert!(shipped()["README.md"].contains(&format!("]({name})")), "README.md does not tell of {name}");
    }
}

#[test]
fn each_has_a_plan_within_its_time() {
    let program = site();
    for id in EXPECTED {
        let open = program.run(&format!("runbook show {id} --json")).expect(0).json();
        let names: BTreeSet<&str> =
            open["parameters"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
        let platforms = if names.contains("platform") { ["docker", "systemd", "other"].as_slice() } else { &[""] };
        for (platform, mode) in platforms.iter().flat_map(|platform| [(platform, "practice"), (platform, "real")]) {
            let platform = Some(("platform", *platform)).filter(|(name, _)| names.contains(name));
            let way = Some(("way", "same-major")).filter(|(name, _)| names.contains(name));
            let given = GIVEN.into_iter().filter(|(name, _)| names.contains(name)).chain(platform).chain(way);
            let given: String = given.map(|(name, value)| format!(" --set {name}={value}")).collect();
            let plan = program.run(&format!("runbook show {id} --mode {mode}{given} --json")).expect(0).json();
            let (lasts, rto) = (plan["lasts_seconds"].as_f64().unwrap(), plan["rto_seconds"].as_f64().unwrap());
            assert!(0.0 < lasts && lasts <= rto, "{id} ({mode}, {platform:?}) lasts {lasts} s, and its RTO is {rto} s");
            assert!(plan["touches"].as_array().is_some_and(|touches| !touches.is_empty()), "{id} touches nothing");
        }
    }
}

/// Whatever it is run with: nothing is destroyed that nobody was asked about, and that no *no* can stop.
#[test]
fn none_destroys_before_somebody_has_said_yes() {
    let documents: BTreeMap<String, Document> =
        runbooks().into_iter().map(|(name, text)| (name, Document::parse(&text).unwrap())).collect();
    let find = |id: &str| documents.get(&format!("{id}.md"));
    let mut count = 0;
    for (name, document) in &documents {
        let request = Request { parameters: [].into(), mode: Mode::Plan, past: &|_| None, runbooks: Some(&find) };
        let found = destroying(&Plan::of(document, &request).unwrap().items, Conditions::All);
        let unasked: Vec<_> = found.iter().filter(|destroying| destroying.asked != Asked::Yes).collect();
        assert!(unasked.is_empty(), "{name}: {unasked:#?}");
        count += found.len();
    }
    assert!(count > 1, "found too little: {count}");
}

/// What a step types is something that can be typed.
#[test]
fn each_command_exists() {
    let program = Program::new();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (name, document) in documents() {
        let commands = document.steps().filter_map(|(_, step)| match &step.action {
            Action::Command(command) => Some(command),
            Action::Wait(Wait(For::Passes { check, .. })) => match check.as_ref() {
                Action::Command(command) => Some(command),
                _ => None,
            },
            _ => None,
        });
        for Command { run, .. } in commands {
            let words: Vec<String> = run.iter().map(|word| Template::as_literal(word).unwrap_or_default()).collect();
            if words[0] != "lifeboat" {
                continue;
            }
            seen += 1;
            let path: Vec<&str> =
                words[1..].iter().map(String::as_str).take_while(|it| !it.is_empty() && !it.starts_with('-')).collect();
            // What follows a verb may be its argument: the longest chain that is a command counts.
            let asked = (1..=path.len()).rev().map(|length| program.run(&format!("help {}", path[..length].join(" "))));
            let help = asked.into_iter().find(|ended| ended.code == 0);
            let help = help.unwrap_or_else(|| panic!("{name}: there is no command {path:?}")).stdout;
            let options = words.iter().filter(|word| word.starts_with("--"));
            wrong.extend(options.filter(|it| !help.contains(it.as_str())).map(|it| format!("{name}: {path:?} {it}")));
        }
    }
    assert!(seen > 20, "found too little: {seen}");
    assert_eq!(wrong, Vec::<String>::new());
}

fn documents() -> impl Iterator<Item = (String, Document)> {
    runbooks().into_iter().map(|(name, text)| {
        let document = Document::parse(&text).unwrap_or_else(|findings| panic!("{name}: {findings:?}"));
        (name, document)
    })
}

fn place(document: &Document, id: &str) -> usize {
    document.steps().position(|(section, _)| section.id == id).unwrap_or_else(|| panic!("no step {id}"))
}

/// After a total loss, production lives in what was restored: the next run must not come near it.
#[test]
fn nothing_goes_where_an_earlier_run_was() {
    let is_own = |template: &Template| template.names().any(|name| name.to_string() == "run.id");
    let mut seen = 0;
    for (name, document) in documents() {
        for (section, step) in document.steps() {
            let at = format!("{name}: {}", section.id);
            match &step.action {
                Action::Restore(restore) => {
                    seen += 1;
                    assert!(!restore.replace, "{at} replaces");
                    let folder = match &restore.target {
                        Target::Directory(folder) => Some(folder),
                        Target::Docker { folder, .. } | Target::Compose { folder, .. } => folder.as_ref(),
                    };
                    assert!(folder.is_some_and(is_own), "{at} restores into a folder that other runs have too");
                    if let Target::Docker { postgres, .. } = &restore.target {
                        let looks = |command: &Command| command.exit == 1 && command.run.contains(postgres);
                        let looks = document
                            .steps()
                            .any(|(_, step)| matches!(&step.action, Action::Command(command) if looks(command)));
                        assert!(looks || name == "total-loss.md", "{at}: nobody looks whether the volume is free");
                    }
                }
                Action::Command(command) if command.run[0] == Template::literal("createdb") => {
                    seen += 1;
                    let is_free = || place(&document, "free-database") < place(&document, &section.id);
                    assert!(command.run.last().is_some_and(is_own) || is_free(), "{at} may meet a database of others");
                }
                _ => {}
            }
        }
    }
    assert!(seen > 10, "found too little: {seen}");
}

#[test]
fn what_a_run_stops_is_started_when_it_is_called_off() {
    let mut seen = 0;
    for (name, document) in documents() {
        for (section, step) in document.steps() {
            let Action::Stop(stop) = &step.action else { continue };
            seen += 1;
            let undo = step.undo.as_ref().map(|undo| &undo.value);
            let is_started = matches!(
                undo,
                Some(Undo::Action(action)) if matches!(&**action, Action::Start(start) if start.0 == stop.service)
            );
            assert!(is_started, "{name}: {} stays stopped", section.id);
        }
    }
    assert!(seen > 5, "found too little: {seen}");
}

/// An intruder who knows the old passwords waits for the system to come back.
#[test]
fn nobody_is_let_in_before_the_secrets_are_changed() {
    let program = site();
    let given = GIVEN.into_iter().filter(|(name, _)| ["instance", "moment", "point", "stolen-key"].contains(name));
    let given: String = given.map(|(name, value)| format!(" --set {name}={value}")).collect();
    let plan = program.run(&format!("runbook show ransomware --set platform=docker{given} --json")).expect(0).json();
    let of = |items: &serde_json::Value, id: &str| -> serde_json::Value {
        items.as_array().unwrap().iter().find(|item| item["id"] == id).unwrap_or_else(|| panic!("{items:#}")).clone()
    };
    let called = of(&of(&plan["items"], "bring-it-back-elsewhere")["items"], "bring-back")["called"].clone();
    let group = of(&called, "let-people-in");
    for id in ["point-the-name-here", "the-business-has-looked"] {
        assert_eq!(of(&group["items"], id)["runs"], "never", "{group:#}");
    }
    let (_, document) = documents().find(|(name, _)| name == "ransomware.md").unwrap();
    let order = ["own-keys", "hold", "bring-back", "of-odoo-and-around-it", "looked", "open-the-way", "tell-by-hand"];
    assert!(order.map(|id| place(&document, id)).is_sorted());
}

/// A disk that may be the only one with what was acknowledged.
#[test]
fn a_server_is_made_anew_only_after_approval() {
    let (_, document) = documents().find(|(name, _)| name == "failback.md").unwrap();
    let approved = place(&document, "settled");
    for id in ["rebuild-by-program", "rebuild-by-hand", "standby-by-program", "standby-by-hand"] {
        let at = place(&document, id);
        let (_, step) = document.steps().nth(at).unwrap();
        assert!(approved < at && step.action.effect() == Effect::Destroys, "{id}");
    }
    let order = ["end-of-log", "fence", "all-arrived", "promote"].map(|id| place(&document, id));
    assert!(order.is_sorted());
}

#[test]
fn the_kit_carries_them() {
    let program = site();
    program.run("kit write kit").expect(0);
    for (name, text) in runbooks() {
        let carried = fs::read_to_string(program.path(&format!("kit/runbooks/{name}")));
        assert_eq!(carried.unwrap_or_else(|error| panic!("{name}: {error}")), text);
    }
}
