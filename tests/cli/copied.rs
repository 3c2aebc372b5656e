//! Copies in folders: what they hold, what stays out of them, and every verb that reads from one.

use std::{fs, path::Path, time::Instant};

use serde_json::Value;

use crate::{program::Program, repository::add_point};

const SEVERAL: &str = "\
[[repository]]
name = \"main\"
role = \"primary\"
path = \"repository\"
[[repository]]
name = \"offsite\"
role = \"copy\"
path = \"offsite\"
[[repository]]
name = \"renewed\"
role = \"copy\"
path = \"renewed\"
";

/// Two points, a primary and two places to copy to.
fn with_copies() -> (Program, [String; 2]) {
    let program = Program::initialised();
    let points = ["2026-01-02T10:00:00Z", "2026-03-01T10:00:00Z"].map(|time| add_point(&program, time));
    program.edit("[repository]\npath = \"repository\"\n", SEVERAL);
    (program, points)
}

fn objects(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(objects(&path)) } else { found.push(path.display().to_string()) }
    }
    found.retain(|name| !name.contains("/lease/"));
    found.sort();
    found
}

fn ids(answer: &Value) -> Vec<&str> {
    answer["points"].as_array().unwrap().iter().map(|point| point["point"].as_str().unwrap()).collect()
}

#[test]
fn every_reading_verb_works_on_a_copy_with_the_primary_gone() {
    let (program, [older, newer]) = with_copies();
    let copy = |answer: &Value| answer["instances"][0]["copies"][0].clone();
    assert_eq!(copy(&program.run("status --json").json())["reaches"], Value::Null);
    let copied = program.run("copy clinic --to offsite --json").expect(0).json();
    assert_eq!((&copied["schema"], &copied["complete"]), (&"lifeboat.copy/1".into(), &true.into()), "{copied:#}");
    assert_eq!(ids(&copied["copies"][0]), [&newer, &older], "newest first: {copied:#}");
    assert_eq!(copy(&program.run("status --json").json())["missing_points"], 0);
    let there = objects(&program.path("offsite"));
    let again = program.run("copy --to offsite --json").expect(0).json();
    assert_eq!((&again["copies"][0]["objects"], &again["copies"][0]["evidence"]), (&0.into(), &Value::Null));
    assert_eq!(objects(&program.path("offsite")), there, "not even a statement, where nothing was copied");

    fs::rename(program.path("repository"), program.path("gone")).unwrap();
    program.run("points list clinic").expect(6);
    let listed = program.run("points list clinic --repository offsite --json").expect(0).json();
    assert_eq!(ids(&listed), [&older, &newer]);
    for verb in [
        "points show clinic",
        "points files clinic",
        "points windows clinic",
        "verify clinic",
        "verify --quick",
        "evidence list",
        "evidence verify",
    ] {
        program.run(&format!("{verb} --repository offsite")).expect(0);
    }
    program.run("wal check clinic --repository offsite").expect(5); // there is none
    program.run("restore clinic --to restored --identity keys/recovery.identity --repository offsite").expect(0);
    assert_eq!(fs::read_to_string(program.path("restored/filestore/odoo/ab/abc")).unwrap(), "attachment");
}

#[test]
fn a_copy_keeps_to_its_part_of_the_line_and_a_restore_has_all_of_it() {
    const RATE: f64 = 5_000.0;
    let (program, _) = with_copies();
    let begun = Instant::now();
    program.run(&format!("copy clinic --to offsite --upload-limit={RATE}B/s")).expect(0);
    let took = begun.elapsed().as_secs_f64();
    let sent: u64 = objects(&program.path("offsite")).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    // A quarter of a second's worth may have been saved up, and more is never.
    assert!(sent > 12_000 && took >= sent as f64 / RATE - 0.25, "{sent} bytes in {took} s");
    // In days, if it were held back.
    program.run("restore clinic --to restored --identity keys/recovery.identity --download-limit=1B/s").expect(0);
}

#[test]
fn damage_stays_behind_and_is_named() {
    let (program, [_, newer]) = with_copies();
    let trees = objects(&program.path("repository/hospital/clinic/trees"));
    let copied = program.run("copy --to offsite --points latest --json").expect(0).json();
    assert_eq!((ids(&copied["copies"][0]), &copied["copies"][0]["points_left"]), (vec![newer.as_str()], &1.into()));
    // What is left to copy is damaged.
    let missing = trees.iter().find(|tree| !Path::new(&tree.replace("/repository/", "/offsite/")).exists()).unwrap();
    let mut bytes = fs::read(missing).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::remove_file(missing).unwrap();
    fs::write(missing, bytes).unwrap();
    let failed = program.run("copy --to offsite --json").expect(4).json();
    let problem = &failed["copies"][0]["problems"][0];
    assert!(missing.ends_with(problem["key"].as_str().unwrap()) && problem["side"] == "source", "{failed:#}");
    assert_eq!((problem["points"].as_array().unwrap().len(), &failed["complete"]), (1, &false.into()), "{failed:#}");
    program.run("verify --repository offsite").expect(0);
    assert!(program.run("copy --to offsite").expect(4).stdout.contains("not copied for it"));
}

#[test]
fn names_are_told_when_they_are_wrong() {
    let (program, _) = with_copies();
    let unknown = program.run("points list --repository offside").expect(6);
    assert!(unknown.stderr.contains("did you mean \"offsite\"?"), "{}", unknown.stderr);
    program.run("copy --to offside").expect(6);
    assert!(program.run("copy --to main").expect(2).stderr.contains("is the primary"));
    program.run("copy --reencrypt").expect(2);
    program.run("copy --since 2026-01-01T00:00:00Z --points latest --to offsite").expect(2);
    program.edit(SEVERAL, "[repository]\npath = \"repository\"\n");
    assert!(program.run("copy").expect(3).stderr.contains("no copy is configured"));
}

#[test]
fn a_copy_that_was_there_and_is_gone_is_no_new_one() {
    let (program, _) = with_copies();
    program.run("copy --to offsite").expect(0);
    fs::rename(program.path("offsite"), program.path("unmounted")).unwrap();
    let refused = program.run("copy --to offsite --json");
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(!program.path("offsite/lifeboat.json").exists());
}

#[test]
fn a_repository_that_is_sealed_anew_names_where_its_points_came_from() {
    let (program, [older, newer]) = with_copies();
    let made = program.run("key generate recovery --out fresh.identity --json").expect(0).json();
    let text = program.read("lifeboat.toml");
    let begin = text.find("recovery_recipients = [").unwrap();
    let end = begin + text[begin..].find(']').unwrap() + 1;
    program.edit(&text[begin..end], &format!("recovery_recipients = [\"{}\"]", made["public"].as_str().unwrap()));
    let copy = "copy --to renewed --reencrypt --identity keys/recovery.identity --json";
    let moved = program.run(copy).expect(0).json();
    let points = moved["copies"][0]["points"].as_array().unwrap();
    let from: Vec<&str> = points.iter().map(|point| point["made_from"].as_str().unwrap()).collect();
    assert_eq!(from, [&older, &newer], "oldest first: {moved:#}");
    assert_eq!(points[1]["finished"], "2026-03-01T10:00:00Z");
    let again = program.run(copy).expect(0).json();
    assert_eq!((&again["copies"][0]["points_present"], &again["copies"][0]["objects"]), (&2.into(), &0.into()));
    program.run("verify --read-data --identity fresh.identity --repository renewed").expect(0);
    program.run("restore clinic --to old --identity keys/recovery.identity --repository renewed").expect(8);
    program.run("restore clinic --to new --identity fresh.identity --repository renewed").expect(0);
    assert_eq!(fs::read_to_string(program.path("new/config/paths/odoo.conf")).unwrap(), "[options]");
    // Where a repository of its own is, no copy goes.
    assert!(program.run("copy --to renewed").stderr.contains("a repository of its own"));
}

#[test]
fn config_show_lists_the_copies() {
    let program = Program::initialised();
    program.edit("[repository]\npath = \"repository\"\n", &format!("{SEVERAL}lock = \"none\"\n"));
    let shown = program.run("config show --json").expect(0).json();
    let copies = shown["copies"].as_array().unwrap();
    let of = |field: &str| copies.iter().map(|copy| copy[field].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!((of("name"), of("lock")), (vec!["offsite", "renewed"], vec!["as-tiers", "none"]), "{shown:#}");
    assert!(of("repository")[0] == "directory offsite" && copies[0]["immutable"] == false, "{shown:#}");
    let text = program.run("config show").expect(0).stdout;
    assert!(
        text.contains("offsite: directory ") && text.contains("(not immutable), locks as the tiers demand"),
        "{text}"
    );
    assert!(text.contains("renewed: directory ") && text.contains("(not immutable), locks nothing"), "{text}");
}
