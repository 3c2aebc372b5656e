//! Locks, holds and prune on a real server with object lock. Locks are of minutes (which are rounded up to the hour), so
//! that nothing stays in the testbed's bucket for long.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures::TryStreamExt as _;
use lifeboat_engine::context::open_store;
use lifeboat_model::{
    config::{Config, parse},
    retention::LockMode,
};
use lifeboat_repo::{
    point::PointSelector,
    repository::{InstanceRepo, Repository},
};
use lifeboat_store::Retention;
use lifeboat_testkit::testbed;
use serde_json::Value;

use crate::support::{Settings, Site, Storage, text};

const POLICY: &str = "\n[tiers.gold.lock]\nmode = \"governance\"\nminimum = \"1m\"\n\
                      [tiers.gold.retention]\nlast = 1\n[evidence]\nretain = \"1m\"\n";

fn points(plan: &Value) -> Vec<(String, bool, String)> {
    let row = |point: &Value| {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (word(&point["point"]), point["keep"].as_bool().unwrap(), word(&point["reasons"][0]["reason"]))
    };
    plan["instances"][0]["points"].as_array().unwrap().iter().map(row).collect()
}

/// The instance's part of the repository, by way of the site's own credential.
fn with_repo<T>(site: &Site, work: impl AsyncFnOnce(InstanceRepo, &Config) -> T) -> T {
    let text = fs::read_to_string(site.config()).unwrap();
    let (config, _) = parse(&text, &site.config()).unwrap_or_else(|found| panic!("{found:#?}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open_store(&config.repository, &|_| None, false).await.unwrap();
        let repository = Repository::open(store).await.unwrap();
        work(repository.instance(&config.tenant, &"clinic".parse().unwrap()), &config).await
    })
}

fn names(site: &Site) -> Vec<String> {
    with_repo(site, async |repo, _| {
        let listed: Vec<_> = repo.store().list("demo-group/clinic/").try_collect().await.unwrap();
        listed.into_iter().map(|object| object.key.to_string()).collect()
    })
}

/// Gives what a point needs locks of some seconds (longer ones stay as they are), and waits until they have ended.
fn lock_for_seconds(site: &Site, point: &str) {
    with_repo(site, async |repo, config| {
        let point = repo.find_point(&point.parse::<PointSelector>().unwrap(), &config.keys.trusted_keys).await.unwrap();
        let store = repo.store();
        let until = store.clock().await.unwrap() + Duration::from_secs(10);
        let retention = Retention { mode: LockMode::Governance, until };
        let own = (&point.key, &point.version);
        for (key, version) in point.header.objects.iter().map(|object| (&object.key, &object.version)).chain([own]) {
            store.extend_lock(key, version.as_ref(), retention).await.unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(120);
        // A server tells its time in whole seconds: another process may still read the one before.
        while store.clock().await.unwrap() <= until + Duration::from_secs(3) {
            assert!(Instant::now() < deadline, "the store's clock stands");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
}

#[test]
fn what_is_kept_is_locked_and_what_is_not_goes() {
    if !testbed::enabled() {
        return;
    }
    let site = Site::new(&Settings { storage: Storage::S3, ..Settings::default() });
    let first = site.json(&["backup", "clinic"])["point"].as_str().unwrap().to_owned();
    assert!(text(&site.run(&["status"])).contains("not locked: its tier has no lock"));
    let not_looked_at = site.run(&["verify", "--locks"]);
    assert_eq!(not_looked_at.status.code(), Some(5), "{}", text(&not_looked_at));

    // From now on the tier demands locks: the next backup locks also what it takes over from the first.
    let config = fs::read_to_string(site.config()).unwrap() + POLICY;
    fs::write(site.config(), config).unwrap();
    let second = site.json(&["backup", "clinic"])["point"].as_str().unwrap().to_owned();
    site.succeed(&["points", "hold", &first, "--reason", "an audit"]);
    let plan = site.json(&["prune", "--dry-run"]);
    assert_eq!(points(&plan), [(first.clone(), true, "held".into()), (second.clone(), true, "newest".into())]);
    // The first was never locked, and is kept: that is told, object by object, until its locks are renewed.
    let proof = site.run(&["verify", "--locks", "--json"]);
    assert_eq!(proof.status.code(), Some(4), "{}", text(&proof));
    assert!(text(&proof).contains(&first), "{}", text(&proof));

    site.succeed(&["points", "release", &first, "--reason", "the audit is over"]);
    let proof = site.json(&["verify", "--locks", "--signs"]);
    let row = &proof["instances"][0];
    assert_eq!((&row["locks"]["points"], &row["signs"]["sign_count"]), (&Value::from(1), &Value::from(0)), "{proof:#}");
    assert!(row["locks"]["objects"].as_u64() > Some(10) && row["locks"]["locked"] == row["locks"]["objects"]);
    let shown = site.json(&["points", "show", "clinic", &second, "--objects"]);
    let locks = shown["locks"].as_array().unwrap();
    assert!(locks.iter().all(|lock| lock["mode"] == "governance" && lock["locked_until"].is_string()), "{shown:#}");

    let plan = site.json(&["prune", "--dry-run"]);
    assert_eq!(points(&plan)[0], (first.clone(), false, String::new()), "{plan:#}");
    let row = &plan["instances"][0];
    assert_eq!(row["freed_bytes"], 0, "what was never locked waits until it is an hour old: {plan:#}");
    assert!(row["waiting_objects"].as_u64() > Some(0), "{plan:#}");
    let before = names(&site);
    lock_for_seconds(&site, &first);
    let plan = site.json(&["prune", "--dry-run"]);
    let freed = plan["instances"][0]["freed_bytes"].as_u64().unwrap();
    assert!(freed > 0, "the locks have ended: {plan:#}");
    assert_eq!(names(&site), before, "a dry run removes nothing");
    let done = site.json(&["prune"]);
    assert_eq!(done["instances"][0]["freed_bytes"].as_u64(), Some(freed), "{done:#}");
    let listed = site.json(&["points", "list", "clinic"]);
    let left: Vec<&str> =
        listed["points"].as_array().unwrap().iter().map(|point| point["point"].as_str().unwrap()).collect();
    assert_eq!(left, [&second]);
    assert_eq!(site.json(&["prune"])["instances"][0]["removed_objects"], 0, "twice changes nothing");
    site.succeed(&["verify"]);
    site.succeed(&["verify", "--locks", "--sample", "100%/day"]);
    let status = text(&site.run(&["status"]));
    assert!(status.contains("locked (governance)") && status.contains("proven"), "{status}");
    let kinds = site.json(&["evidence", "list", "--limit", "0"]);
    for kind in ["hold", "release", "prune", "verify", "scrub"] {
        let found =
            kinds["statements"].as_array().unwrap().iter().any(|one| one["kind"] == kind && one["verified"] == true);
        assert!(found, "no {kind} in {kinds:#}");
    }
}
