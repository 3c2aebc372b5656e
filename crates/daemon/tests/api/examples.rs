//! The examples of docs/api.md, taken from the document and run as they stand there, one after the other in one shell.

use std::{fs, path::Path, process::Stdio, time::Duration};

use lifeboat_daemon::settings::Role;
use lifeboat_engine::record;
use lifeboat_evidence::{
    DrillPredicate, Statement,
    backup::StartedBy,
    drill::{Comparison, SoftwareVersions, Targets, Teardown, VersionsReadBack},
};
use lifeboat_model::check::{Check, Outcome, Verdict};
use serde_json::Value;
use tokio::process::Command;

use crate::world::{INSTANCES, OWN, World};

/// What stands between these fences.
fn blocks(document: &str, kind: &str) -> Vec<String> {
    let fence = format!("```{kind}\n");
    let begun = document.split(fence.as_str()).skip(1);
    begun.map(|rest| rest.split_once("```").expect("each fence is closed").0.to_owned()).collect()
}

/// Runs shell, and gives what each part printed. A part that prints a run names it for those behind it, as a person would.
async fn shell(parts: &[String], environment: &[(&str, &str)], folder: &Path) -> Vec<String> {
    let mut script = "set -euo pipefail\n".to_owned();
    for (number, part) in parts.iter().enumerate() {
        script.push_str(&format!(
            "echo part {number} >&2\n{{\n{part}\n}} > {number}\nRUN=$(jq -r '.run? // empty' {number} 2> /dev/null || echo \"${{RUN-}}\")\n"
        ));
    }
    let command = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(Duration::from_secs(60), command).await.expect("it ends in time").unwrap();
    assert!(ended.status.success(), "{}\n{script}", String::from_utf8_lossy(&ended.stderr));
    (0..parts.len()).map(|number| fs::read_to_string(folder.join(number.to_string())).unwrap()).collect()
}

/// Keeps the statement of a drill, for the example that looks for one.
async fn drilled(world: &World) {
    let context = world.daemon.context(&OWN.parse().unwrap()).await.unwrap();
    let now = world.daemon.now();
    let check = Check {
        id: "boot.log".into(),
        rung: 1,
        purpose: String::new(),
        expected: String::new(),
        observed: String::new(),
        verdict: Verdict::Passed,
        duration_ms: 1,
    };
    let drill = DrillPredicate {
        run: record::new_run().unwrap(),
        started_by: StartedBy { user: "test".into(), host: "here".into(), command: "test".into() },
        software: "lifeboat test".into(),
        config_sha256: record::config_digest(&context).unwrap(),
        tenant: OWN.parse().unwrap(),
        instance: INSTANCES[0].1.parse().unwrap(),
        tier: "gold".parse().unwrap(),
        repository: None,
        storage: String::new(),
        started: now,
        finished: now,
        point: None,
        versions_read_back: VersionsReadBack::default(),
        outcome: Outcome::Incomplete,
        required: vec![],
        checks: vec![check],
        not_executed: vec![],
        comparison: Comparison::None { why: "a test".into() },
        rpo_seconds: None,
        newest_commit: None,
        rpo_reference: None,
        rto_seconds: None,
        targets: Targets::compare("1h".parse().unwrap(), "1h".parse().unwrap(), None, None),
        phases: vec![],
        images: vec![],
        software_versions: SoftwareVersions::default(),
        isolation: vec![],
        teardown: Teardown { complete: true, ..Teardown::default() },
        not_covered: vec![],
        sabotage: None,
        notes: vec![],
        exceptions: vec![],
        corrective_action: None,
        sign_offs: vec![],
        control: None,
        policy_sha256: None,
        breakdown: None,
        prediction: None,
        screenshot: None,
    };
    record::keep(&context, &Statement::drill(drill)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_document_do_what_it_says() {
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md")).unwrap();
    // What the shell is told beforehand, and commands of the binary, which other tests have.
    let is_here = |line: &&str| !line.starts_with("export TOKEN=") && !line.starts_with("lifeboat ");
    let parts =
        blocks(&document, "sh").into_iter().map(|block| block.lines().filter(is_here).collect::<Vec<_>>().join("\n"));
    let parts: Vec<String> = parts.collect();
    assert_eq!(parts.len(), 6, "whoever adds an example says here what it prints");

    let world = World::new().await;
    let key = world.token("ann", &[Role::Operator, Role::Auditor], Some(OWN));
    let looks = world.token("bob", &[Role::Viewer], Some(OWN));
    drilled(&world).await;
    world.tokens_are_read().await;
    // It works for the tenant.
    let run = world.start(OWN, INSTANCES[0].1).await;
    let folder = tempfile::tempdir().unwrap();
    let printed = shell(&parts, &[("TOKEN", &key), ("DAEMON", &world.base)], folder.path()).await;
    let [status, looking, evidence, asked, cancelled, followed] = printed.as_slice() else { panic!("{printed:?}") };

    let status: Value = serde_json::from_str(status).unwrap();
    assert_eq!(status["instances"][0]["instance"], INSTANCES[0].1, "{status}");
    let line = looking.lines().next().unwrap();
    assert_eq!(line.split('\t').take(2).collect::<Vec<_>>(), ["unknown", INSTANCES[0].1], "{looking}");
    let count = serde_json::Deserializer::from_str(looking.split_once('\n').unwrap().1).into_iter::<Value>().count();
    assert_eq!(count, 7, "one answer each: {looking}");
    assert_eq!(evidence, "");
    let envelope: Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("statement.json")).unwrap()).unwrap();
    assert!(envelope["payload"].is_string() && envelope["signatures"].is_array(), "{envelope}");
    let asked: Value = serde_json::from_str(asked).unwrap();
    let asked = asked["run"].as_str().unwrap();
    assert_ne!(asked, run.to_string());
    assert!(cancelled.is_empty() || serde_json::from_str::<Value>(cancelled).is_ok(), "{cancelled}");
    assert!(followed.contains("event: end") && followed.contains("interrupted"), "{followed}");

    // The no that it shows is the one that is given.
    let shown: Value = serde_json::from_str(&blocks(&document, "json")[0]).unwrap();
    let body = format!("{{\"tenant\": \"{OWN}\", \"instance\": \"{}\", \"verb\": \"drill\"}}", INSTANCES[0].1);
    let (code, said) = world.ask(reqwest::Method::POST, "/api/v1/runs", Some(&looks), Some(&body)).await;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["error"]["message"]), (403, &shown["error"]["message"]), "{said}");
    let keys = |value: &Value| value["error"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&said), keys(&shown));
    let hint = shown["error"]["hint"].as_str().unwrap().trim_end_matches(['…', ' ']).to_owned();
    assert!(said["error"]["hint"].as_str().unwrap().starts_with(&hint), "{said}");
}
