//! The policies of the roles, on the testbed's Ceph with a user for each: what each can do, and what it cannot.

#![allow(clippy::unwrap_used)] // a test ends where something is not as it must be

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use lifeboat_model::retention::LockMode;
use lifeboat_store::{
    Error, Key, Raw as _, Result, Retention, SharedStore, Store as _, VersionId,
    probe::{ProbeOptions, Role, Verdict, policy, probe},
    s3::{S3Options, S3Store},
    suite,
};
use lifeboat_testkit::{
    account::{Account, Who},
    bucket, testbed,
};
use serde_json::{Value, json};

const ROLES: [(Role, &str); 4] =
    [(Role::Writer, "writer"), (Role::DrillReader, "reader"), (Role::Pruner, "pruner"), (Role::Holder, "holder")];
const PACK: &str = "acme/clinic/packs/one";
const LEASE: &str = "acme/clinic/lease/one";
const EVIDENCE: &str = "acme/evidence/one";

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// A bucket with Object Lock, at whose prefix `clinic` the roles have their rights.
struct Vault {
    bucket: String,
    owner: Account,
}

impl Vault {
    async fn new() -> Vault {
        let bucket = format!("lifeboat-policy-{}", suite::random_name());
        let owner = Account::new(Who::Owner, &bucket);
        owner.create(true).await.unwrap();
        let mut statements: Vec<Value> = Vec::new();
        for (role, name) in ROLES {
            for statement in policy(role, &bucket, "clinic", None)["Statement"].as_array().unwrap() {
                let mut statement = statement.clone();
                statement["Principal"] = json!({ "AWS": [format!("arn:aws:iam:::user/lifeboat-{name}")] });
                statements.push(statement);
            }
        }
        owner.set_policy(&json!({ "Version": "2012-10-17", "Statement": statements }).to_string()).await.unwrap();
        Vault { bucket, owner }
    }

    async fn as_(&self, role: &'static str) -> S3Store {
        let (access_key, secret_key) = Who::Role(role).keys();
        let options = S3Options { bucket: self.bucket.clone(), access_key, secret_key, ..bucket::options("clinic") };
        bucket::connect(options).await
    }
}

fn denied<T: std::fmt::Debug>(answer: Result<T>, what: &str) {
    assert!(matches!(answer, Err(Error::Denied { .. } | Error::Locked { .. })), "{what}: {answer:?}");
}

fn lock(mode: LockMode, seconds: i64) -> Retention {
    let until = Timestamp::from_second(Timestamp::now().as_second()).unwrap() + SignedDuration::from_secs(seconds);
    Retention { mode, until }
}

async fn put(store: &S3Store, name: &str, retention: Option<Retention>) -> VersionId {
    store.put_locked(&key(name), Bytes::from_static(b"bytes"), retention).await.unwrap().version.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_can_do_its_work_and_nothing_else() {
    if !testbed::enabled() {
        return;
    }
    let vault = Vault::new().await;
    for (_, name) in ROLES {
        let store = vault.as_(name).await;
        let may = store.capabilities();
        assert!(may.versions && may.locks && !may.default_retention, "{name} may ask what the bucket is: {may:?}");
        store.clock().await.unwrap();
        assert!(store.list("").try_collect::<Vec<_>>().await.unwrap().len() < 10, "{name} lists");
    }
    the_writer(&vault).await;
    the_reader(&vault).await;
    the_pruner(&vault).await;
    the_holder(&vault).await;
    nobody_touches_the_bucket(&vault).await;
}

async fn the_writer(vault: &Vault) {
    let writer = vault.as_("writer").await;
    for mode in [LockMode::Governance, LockMode::Compliance] {
        let (pack, first, longer) = (key(PACK), lock(mode, 20), lock(mode, 25));
        let version = put(&writer, PACK, Some(first)).await;
        assert_eq!(writer.lock_state(&pack, Some(&version)).await.unwrap().retention, Some(first));
        writer.extend_lock(&pack, Some(&version), longer).await.unwrap();
        for bypass in [false, true] {
            denied(writer.set_retention(&pack, &version, lock(mode, 2), bypass).await, "shorten");
            denied(
                writer.set_retention(&pack, &version, Retention { mode: LockMode::Governance, ..first }, bypass).await,
                "weaken",
            );
        }
        denied(writer.delete_with_bypass(&pack, &version).await, "bypass");
        denied(writer.delete(&pack, Some(&version)).await, "delete");
        denied(writer.lay_marker(&pack).await, "marker");
        denied(writer.set_legal_hold(&pack, Some(&version), true).await, "hold");
        assert_eq!(writer.lock_state(&pack, Some(&version)).await.unwrap().retention, Some(longer), "as it was");
    }
    // Not even what is not locked, except leases.
    let version = put(&writer, "acme/clinic/packs/free", None).await;
    denied(writer.delete(&key("acme/clinic/packs/free"), Some(&version)).await, "delete what is free");
    let version = put(&writer, LEASE, None).await;
    writer.delete(&key(LEASE), Some(&version)).await.unwrap();
    let (large, lock) = (key("acme/clinic/packs/large"), lock(LockMode::Governance, 5));
    writer.put_in_parts(&large, suite::pattern(1, 100), Some(lock)).await.unwrap();
}

async fn the_reader(vault: &Vault) {
    let (reader, pack) = (vault.as_("reader").await, key(PACK));
    let listed: Vec<_> = reader.list(PACK).try_collect().await.unwrap();
    let version = listed[0].version.clone().unwrap();
    assert_eq!(reader.get(&pack, Some(&version), None).await.unwrap(), "bytes");
    assert_eq!(reader.list_versions(PACK, "").try_collect::<Vec<_>>().await.unwrap().len(), 2);
    assert!(reader.lock_state(&pack, Some(&version)).await.unwrap().retention.is_some(), "it can read locks");
    put(&reader, EVIDENCE, Some(lock(LockMode::Governance, 5))).await;
    denied(reader.put(&pack, Bytes::new()).await, "overwrite");
    denied(reader.delete(&pack, Some(&version)).await, "delete");
    denied(reader.extend_lock(&pack, Some(&version), lock(LockMode::Compliance, 60)).await, "extend");
    denied(reader.lay_marker(&pack).await, "marker");
}

async fn the_pruner(vault: &Vault) {
    let (writer, pruner) = (vault.as_("writer").await, vault.as_("pruner").await);
    let pack = key("acme/clinic/packs/old");
    let version = put(&writer, pack.as_str(), Some(lock(LockMode::Governance, 20))).await;
    pruner.extend_lock(&pack, Some(&version), lock(LockMode::Governance, 25)).await.unwrap();
    let refused = pruner.delete(&pack, Some(&version)).await;
    assert!(matches!(refused, Err(Error::Locked { until: Some(_), .. })), "{refused:?}");
    denied(pruner.delete_with_bypass(&pack, &version).await, "bypass");
    denied(pruner.lay_marker(&pack).await, "marker");
    denied(pruner.put(&pack, Bytes::new()).await, "overwrite");
    denied(pruner.set_legal_hold(&pack, Some(&version), true).await, "hold");
    let free = key("acme/clinic/packs/free");
    let version = pruner.list(free.as_str()).try_collect::<Vec<_>>().await.unwrap()[0].version.clone();
    pruner.delete(&free, version.as_ref()).await.unwrap();
    // It takes the lease for its deletes, and records what it did; evidence it cannot remove.
    let version = put(&pruner, LEASE, None).await;
    pruner.delete(&key(LEASE), Some(&version)).await.unwrap();
    let version = put(&pruner, EVIDENCE, None).await;
    denied(pruner.delete(&key(EVIDENCE), Some(&version)).await, "delete evidence");
}

async fn the_holder(vault: &Vault) {
    let (writer, holder) = (vault.as_("writer").await, vault.as_("holder").await);
    let pack = key("acme/clinic/packs/held");
    let version = put(&writer, pack.as_str(), None).await;
    holder.set_legal_hold(&pack, Some(&version), true).await.unwrap();
    assert!(holder.lock_state(&pack, Some(&version)).await.unwrap().legal_hold);
    let pruner = vault.as_("pruner").await;
    let refused = pruner.delete(&pack, Some(&version)).await;
    assert!(matches!(refused, Err(Error::Locked { until: None, .. })), "{refused:?}");
    denied(writer.set_legal_hold(&pack, Some(&version), false).await, "the writer releases nothing");
    denied(holder.delete(&pack, Some(&version)).await, "delete");
    denied(holder.extend_lock(&pack, Some(&version), lock(LockMode::Compliance, 60)).await, "lock");
    holder.set_legal_hold(&pack, Some(&version), false).await.unwrap();
    put(&holder, EVIDENCE, Some(lock(LockMode::Governance, 5))).await;
    pruner.delete(&pack, Some(&version)).await.unwrap();
}

async fn nobody_touches_the_bucket(vault: &Vault) {
    for (_, name) in ROLES {
        let thief = Account::new(Who::Role(name), &vault.bucket);
        let refused = |said: std::result::Result<(), String>, what: &str| assert!(said.is_err(), "{name}: {what}");
        refused(thief.set_policy("{}").await, "policy");
        refused(thief.remove_policy().await, "policy away");
        refused(thief.suspend_versioning().await, "versioning");
        refused(thief.put("elsewhere/one", b"x".to_vec()).await, "another prefix");
    }
    let stranger = bucket::options("elsewhere");
    let (access_key, secret_key) = Who::Role("reader").keys();
    let options = S3Options { bucket: vault.bucket.clone(), access_key, secret_key, ..stranger };
    denied(bucket::connect(options).await.list("").try_collect::<Vec<_>>().await, "list another prefix");
    assert_eq!(vault.owner.put("elsewhere/one", b"x".to_vec()).await, Ok(()), "the bucket is as it was");
}

/// What may not be read is not taken for unlocked, and what a narrow credential proves is not taken for more.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_may_not_be_read_is_not_none() {
    if !testbed::enabled() {
        return;
    }
    let bucket = format!("lifeboat-policy-{}", suite::random_name());
    let owner = Account::new(Who::Owner, &bucket);
    owner.create(true).await.unwrap();
    let arn = format!("arn:aws:s3:::{bucket}");
    let blind = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "AWS": ["arn:aws:iam:::user/lifeboat-reader"] },
        "Action": ["s3:GetBucketObjectLockConfiguration", "s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket"],
        "Resource": [arn, format!("{arn}/*")],
    }, {
        "Effect": "Allow", "Principal": { "AWS": ["arn:aws:iam:::user/lifeboat-writer"] },
        "Action": ["s3:GetBucketObjectLockConfiguration", "s3:PutObject"], "Resource": [arn, format!("{arn}/*")],
    }] });
    owner.set_policy(&blind.to_string()).await.unwrap();
    let vault = Vault { bucket, owner };
    let (writer, reader) = (vault.as_("writer").await, vault.as_("reader").await);
    let version = put(&writer, PACK, Some(lock(LockMode::Governance, 5))).await;
    denied(reader.lock_state(&key(PACK), Some(&version)).await, "a lock that HEAD keeps quiet about");
    let hidden = reader.list("").try_collect::<Vec<_>>().await;
    denied(hidden, "names alone would hide what a thief did to them");
}

/// A probe with the writer's own credential: no lie, and no more than it can know.
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_with_the_writers_credential_says_what_it_could_not_try() {
    if !testbed::enabled() {
        return;
    }
    let vault = Vault::new().await;
    let store: SharedStore = Arc::new(vault.as_("writer").await);
    for mode in [LockMode::Governance, LockMode::Compliance] {
        let report = probe(&store, "", ProbeOptions { mode, intrusive: true }).await;
        let failed: Vec<_> = report.findings.iter().filter(|found| found.verdict == Verdict::Failed).collect();
        assert!(failed.is_empty(), "{mode}: {failed:#?}");
        let unproven: Vec<_> = report.unproven().map(|found| found.id).collect();
        assert_eq!(unproven, ["versions.marker", "lock.delete"], "{mode}: it may delete nothing: {report:#?}");
    }
}
