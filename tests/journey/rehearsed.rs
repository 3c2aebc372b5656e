//! The shipped runbooks are practised from their first step to their last: every question answered, what needs a sandbox done in one.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use lifeboat_testkit::testbed;
use serde_json::Value;

use crate::support::{Settings, Site, text};

/// Two halves that take about as long as each other. Primary and standby change sides in a test of their own.
const HALVES: [&str; 2] = [
    "database-corruption planned-migration loss-of-object-storage lost-filestore lost-recovery-key",
    "ransomware one-tenant accidental-deletion total-loss damaged-repository",
];

/// Every question of a plan with the answer that leads on, by two people.
fn answers(items: &Value, path: &str, said: &mut Vec<String>) {
    for item in items.as_array().into_iter().flatten() {
        let id = format!("{path}{}", item["id"].as_str().unwrap());
        let step = &item["step"];
        let answer = match step["action"].as_str() {
            Some("approve" | "manual") => Some("yes"),
            Some("decide") => {
                let known: Vec<&Value> = step["answers"].as_array().unwrap().iter().collect();
                let on = known.iter().find(|answer| answer["leads_to"] == "continue").or(known.last());
                Some(on.unwrap()["answer"].as_str().unwrap())
            }
            _ => None,
        };
        for who in ["ann", "bob"] {
            said.extend(answer.iter().flat_map(|answer| ["--answer".to_owned(), format!("{id}={answer}@{who}")]));
        }
        answers(&item["called"], &format!("{id}/"), said);
        answers(&item["items"], path, said);
    }
}

/// Practises a shipped runbook, and gives the answer.
fn practise(site: &Site, id: &str) -> Value {
    let point = site.json(&["points", "list", "clinic"])["points"][0]["point"].as_str().unwrap().to_owned();
    let known = [
        ("instance", "clinic".to_owned()),
        ("platform", "other".to_owned()),
        ("key", site.identity().display().to_string()),
        ("database", "demo".to_owned()),
        ("moment", "latest".to_owned()),
        ("point", point),
        ("loaded", "demo_loaded".to_owned()),
        ("way", "same-major".to_owned()),
        ("locked", "no".to_owned()),
        ("stolen-key", "lifeboat-ed25519:PPsSAeIobVcXp3TrhrYBUVUCXwbUfdRQlpbim8aOV38=".to_owned()),
    ];
    let plan = site.json(&["runbook", "show", id]);
    let names: Vec<&str> =
        plan["parameters"].as_array().unwrap().iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
    let settings = known.into_iter().filter(|(name, _)| names.contains(name));
    let mut said: Vec<String> =
        settings.flat_map(|(name, value)| ["--set".to_owned(), format!("{name}={value}")]).collect();
    answers(&plan["items"], "", &mut said);
    let run = ["runbook", "run", id, "--mode", "practice", "--json"];
    let output = site.run(&run.iter().copied().chain(said.iter().map(String::as_str)).collect::<Vec<_>>());
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{id}: {}", text(&output)));
    assert_eq!((output.status.code(), &answer["stand"]), (Some(0), &"passed".into()), "{id}: {}", text(&output));
    answer
}

/// Practises each of them, and tells how it went; `LIFEBOAT_REHEARSE` may name fewer.
fn rehearse(ids: &str) -> Vec<String> {
    let mut told = Vec::new();
    if !testbed::enabled() {
        return told;
    }
    let site = Site::new(&Settings::default());
    site.succeed(&["backup", "clinic"]);
    std::os::unix::fs::symlink(shipped(), site.dir.path().join("runbooks")).unwrap();
    let named = std::env::var("LIFEBOAT_REHEARSE").ok();
    let is_named = |id: &&str| named.as_ref().is_none_or(|named| named.split_whitespace().any(|one| one == *id));
    for id in ids.split_whitespace().filter(is_named) {
        let begun = std::time::Instant::now();
        let answer = practise(&site, id);
        let passed = answer["steps"].as_array().unwrap().iter().filter(|step| step["outcome"] == "passed").count();
        let (left, took) = (&answer["not_practised"], begun.elapsed());
        told.push(format!("{id}: {passed} steps passed, not practised {left}, {took:.1?}"));
    }
    told
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runbooks")
}

#[test]
fn what_is_shipped_can_be_rehearsed() {
    rehearse(HALVES[0]).iter().for_each(|told| eprintln!("{told}"));
}

#[test]
fn so_can_the_other_half() {
    rehearse(HALVES[1]).iter().for_each(|told| eprintln!("{told}"));
}

#[test]
fn none_that_is_shipped_is_left_out() {
    let elsewhere = ["failback", "failover", "README"].map(str::to_owned);
    let files = fs::read_dir(shipped()).unwrap().map(|entry| entry.unwrap().path());
    let names: BTreeSet<String> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let practised = HALVES.iter().flat_map(|ids| ids.split_whitespace()).map(str::to_owned);
    assert_eq!(names, practised.chain(elsewhere).collect());
}
