//! Runbooks and their runs: from this host and from the repository, and to nobody else's readers.

use std::{fs, sync::Arc, time::Duration};

use jiff::Timestamp;
use lifeboat_daemon::settings::Role;
use lifeboat_engine::{
    journal::{Appended, Journals, Kind, Name},
    record,
};
use lifeboat_evidence::{
    Act,
    act::{PASSED, RunbookRun, Stage},
};
use lifeboat_model::{
    check::Outcome,
    id::{RunId, Sha256Digest},
};
use lifeboat_runbook::{
    event::{Ending, Event},
    execute::Journal as _,
    journal::FileJournal,
    plan::Mode,
};
use serde_json::Value;

use crate::world::{INSTANCES, OTHER, OWN, World};

const HERE: &str = "00000000000000a1";
const THERE: &str = "00000000000000a2";

/// Asks until the repository has answered as well.
async fn json(world: &World, path: &str, key: &str, is: impl Fn(&Value) -> bool) -> Value {
    let began = std::time::Instant::now();
    loop {
        let (status, text) = world.get(path, key).await;
        let told: Value = serde_json::from_str(&text).unwrap();
        if status == 200 && is(&told) {
            return told;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{path}: {status} {text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A run of which this host has no file: a practice that passed, with its statement.
async fn practised(world: &World, sha256: Sha256Digest) {
    let context = world.daemon.context(&OWN.parse().unwrap()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let mut journal = FileJournal::create(&path, "eve@other", Arc::new(Timestamp::now)).unwrap();
    let begun = Event::Begun {
        runbook: "evacuate".to_owned(),
        sha256: sha256.to_string(),
        mode: Mode::Practice,
        parameters: [].into(),
        texts: [].into(),
        instance: Some(INSTANCES[0].1.to_owned()),
        incident: None,
        reference: None,
    };
    journal.append(None, begun).await.unwrap();
    let over = Event::Finished { ending: Ending::Passed, outputs: [].into(), why: None };
    journal.append(None, over).await.unwrap();
    let (journals, run) = (Journals::of(&context).await.unwrap(), THERE.parse::<RunId>().unwrap());
    let texts = FileJournal::texts(&path).unwrap();
    for (number, text) in (1..).zip(&texts) {
        let kept = journals.append(Name { kind: Kind::Run, id: run }, number, text.clone().into()).await.unwrap();
        assert_eq!(kept, Appended::Ours);
    }
    let act = Act::Runbook(RunbookRun {
        run,
        runbook: "evacuate".to_owned(),
        runbook_sha256: sha256,
        texts_sha256: None,
        mode: "practice".to_owned(),
        parameters: [].into(),
        incident: None,
        begun: world.daemon.now(),
        stage: Stage::Over,
        ending: Some(PASSED.to_owned()),
        failed: Vec::new(),
        not_practised: Vec::new(),
        steps_passed: None,
        lines: texts.len() as u64,
        head: Sha256Digest([7; 32]),
    });
    record::keep_act(&context, None, world.daemon.now(), Outcome::Passed, act).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_follow_and_what_became_of_it() {
    let world = World::new().await;
    world.runbook(OWN, INSTANCES[0].1, HERE).await;
    let file = world.folder.path().join(OWN).join("runbooks/evacuate.md");
    let text = fs::read_to_string(&file).unwrap();
    let document = lifeboat_runbook::document::Document::parse(&text).unwrap();
    practised(&world, document.digest.parse().unwrap()).await;
    let key = world.token("ann", &[Role::Viewer], Some(OWN));
    let other = world.token("bob", &[Role::Viewer], Some(OTHER));
    world.tokens_are_read().await;

    let books = json(&world, "/api/v1/runbooks", &key, |told| told["runbooks"][0]["rehearsed"] != "not-known").await;
    let book = &books["runbooks"][0];
    assert_eq!(
        (&book["runbook"], &book["steps"], &book["errors"]),
        (&"evacuate".into(), &1.into(), &0.into()),
        "{book}"
    );
    assert_eq!(book["rehearsed"], "rehearsed", "{book}");
    fs::write(&file, text.replace("Leave?", "Leave now?")).unwrap();
    let books = json(&world, "/api/v1/runbooks", &key, |told| !told["runbooks"].as_array().unwrap().is_empty()).await;
    assert_eq!(books["runbooks"][0]["rehearsed"], "changed", "{books}");

    let runs = json(&world, "/api/v1/runbook-runs", &key, |told| told["runs"].as_array().unwrap().len() == 2).await;
    let of = |run: &str| runs["runs"].as_array().unwrap().iter().find(|one| one["run"] == run).unwrap().clone();
    assert_eq!((&of(HERE)["phase"], &of(HERE)["at"]), (&"asks".into(), &"Leave".into()), "{runs}");
    assert_eq!((&of(THERE)["phase"], &of(THERE)["ending"]), (&"over".into(), &"passed".into()), "{runs}");
    assert_eq!(of(HERE)["rto_target_seconds"], 3600.0, "the tier's, where the runbook says none");
    // The text on this host is another now: the run goes on with its own.
    let run = json(&world, &format!("/api/v1/runbook-runs/{HERE}"), &key, |_| true).await;
    assert_eq!((&run["is_text_known"], &run["steps"][0]["state"]), (&true.into(), &"running".into()), "{run}");
    assert_eq!(world.get(&format!("/api/v1/runbook-runs/{HERE}"), &other).await.0, 404);
    assert_eq!(world.get(&format!("/api/v1/runbook-runs/{THERE}"), &other).await.0, 404);
    assert_eq!(world.get(&format!("/runbooks/{OWN}/evacuate.md"), &other).await.0, 404);

    // Two tenants that share the folder of working files: a journal is of whoever has its instance, or of nobody.
    let (own, shared) = (OWN.parse().unwrap(), world.folder.path().join(OWN).join("state"));
    world.runbook(OTHER, "nobody-knows", "00000000000000a3").await;
    let from = world.folder.path().join(OTHER).join("state/runs/00000000000000a3.jsonl");
    fs::rename(from, shared.join("runs/00000000000000a3.jsonl")).unwrap();
    world.daemon.policies.send_modify(|policies| {
        let policies = Arc::make_mut(policies);
        let state_dir = policies.sites[&own].config.engine.state_dir.clone();
        let other = policies.sites.get_mut(&OTHER.parse().unwrap()).unwrap();
        Arc::make_mut(other).config.engine.state_dir = state_dir;
    });
    let runs = json(&world, "/api/v1/runbook-runs", &other, |told| told["doubts"].as_array().unwrap().is_empty()).await;
    assert_eq!(runs["runs"], Value::Array(Vec::new()), "{runs}");
    let runs = json(&world, "/api/v1/runbook-runs", &key, |_| true).await;
    assert_eq!(runs["runs"].as_array().unwrap().len(), 2, "{runs}");
    world.end().await;
}
