//! Runbooks and their runs: from this host and from the repository, and to nobody else's readers.

use std::{fs, path::Path, sync::Arc, time::Duration};

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
        tenant: None,
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

    world.end().await;
}

/// The journal of a run that has begun.
async fn begun(folder: &Path, run: &str, tenant: Option<&str>, instance: &str) {
    fs::create_dir_all(folder.join("runs")).unwrap();
    let path = folder.join(format!("runs/{run}.jsonl"));
    let mut journal = FileJournal::create(&path, "eve@other", Arc::new(Timestamp::now)).unwrap();
    let begun = Event::Begun {
        runbook: "evacuate".to_owned(),
        sha256: "0".repeat(64),
        mode: Mode::Real,
        parameters: [].into(),
        texts: [].into(),
        tenant: tenant.map(str::to_owned),
        instance: Some(instance.to_owned()),
        incident: None,
        reference: None,
    };
    journal.append(None, begun).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_is_its_tenants_whoever_has_the_folder() {
    let world = World::new().await;
    let (own_instance, other_instance) = (INSTANCES[0].1, INSTANCES[1].1);
    let folder = world.folder.path().join(OWN).join("state");
    let [own, own_older, others, others_older, gone, gone_older] = [1, 2, 3, 4, 5, 6].map(|id| format!("{id:016x}"));
    begun(&folder, &own, Some(OWN), "renamed").await;
    begun(&folder, &own_older, None, own_instance).await;
    begun(&folder, &others, Some(OTHER), other_instance).await;
    begun(&folder, &others_older, None, other_instance).await;
    // Of one who is not here any more: an instance's name is nobody's alone.
    begun(&folder, &gone, Some("gone"), own_instance).await;
    begun(&folder, &gone_older, None, "nobody-knows").await;
    // Many that others write do not keep back the own ones.
    for number in 100..160 {
        begun(&folder, &format!("{number:016x}"), Some("gone"), "any").await;
    }
    let key = world.token("ann", &[Role::Viewer], Some(OWN));
    let other = world.token("bob", &[Role::Viewer], Some(OTHER));
    world.tokens_are_read().await;
    let runs = async |key: &str| {
        let told = json(&world, "/api/v1/runbook-runs", key, |told| told["doubts"] == Value::Array(Vec::new())).await;
        let mut runs: Vec<String> =
            told["runs"].as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap().to_owned()).collect();
        runs.sort();
        runs
    };
    assert_eq!(runs(&key).await, [own.clone(), own_older.clone()]);
    assert_eq!(world.get(&format!("/api/v1/runbook-runs/{gone}"), &key).await.0, 404);
    assert_eq!(runs(&other).await, Vec::<String>::new());

    // Another tenant has the same folder, by another name: an older journal is of whoever alone has its instance.
    let link = world.folder.path().join("link");
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    world.daemon.policies.send_modify(|policies| {
        let other = Arc::make_mut(policies).sites.get_mut(&OTHER.parse().unwrap()).unwrap();
        let config = &mut Arc::make_mut(other).config;
        config.engine.state_dir = link;
        let both = config.instances.values().next().unwrap().clone();
        config.instances.insert(own_instance.parse().unwrap(), both);
    });
    assert_eq!(runs(&other).await, [others, others_older]);
    assert_eq!(runs(&key).await, [own], "an older one may be of either");
    world.end().await;
}
