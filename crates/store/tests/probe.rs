//! The probe: it believes an honest endpoint, catches each lie, and says what it could not try.

#![allow(clippy::unwrap_used)] // a test ends where something is not as it must be

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lifeboat_model::retention::LockMode;
use lifeboat_store::{
    SharedStore,
    fault::{Fault, FaultStore, Operation, Rule},
    local::LocalStore,
    probe::{ProbeOptions, ProbeReport, Verdict, probe},
    s3::S3Options,
    suite,
    vault::{Flaw, VaultStore},
};
use lifeboat_testkit::{
    account::{Account, Who},
    bucket,
    folder::TempFolder,
    testbed,
};

const COMPLIANCE: ProbeOptions = ProbeOptions { mode: LockMode::Compliance, intrusive: true };
const GOVERNANCE: ProbeOptions = ProbeOptions { mode: LockMode::Governance, intrusive: false };

fn vault() -> VaultStore {
    VaultStore::new(Arc::new(Timestamp::now))
}

fn ids(report: &ProbeReport, wanted: impl Fn(&Verdict) -> bool) -> Vec<&'static str> {
    report.findings.iter().filter(|found| wanted(&found.verdict)).map(|found| found.id).collect()
}

fn failed(report: &ProbeReport) -> Vec<&'static str> {
    ids(report, |verdict| *verdict == Verdict::Failed)
}

fn untried(report: &ProbeReport) -> Vec<&'static str> {
    ids(report, |verdict| matches!(verdict, Verdict::NotExecuted(_)))
}

fn observed<'a>(report: &'a ProbeReport, id: &str) -> &'a str {
    &report.findings.iter().find(|found| found.id == id).unwrap().observed
}

#[tokio::test]
async fn an_honest_endpoint_is_believed() {
    let store: SharedStore = Arc::new(vault());
    let report = probe(&store, "", COMPLIANCE).await;
    assert_eq!(failed(&report), [""; 0], "{report:#?}");
    assert_eq!(untried(&report), ["put.checksum"], "nothing is checked on the way to memory");
    assert!(!report.is_immutable() && report.unproven().map(|found| found.id).eq(["put.checksum"]));
    assert_eq!(report.left, 2, "what is locked for a minute stays for now");
    let report = probe(&store, "", GOVERNANCE).await;
    assert_eq!(untried(&report), ["put.checksum", "lock.weaken", "bucket.versioning"]);
    assert!(!report.unproven().any(|found| found.id == "lock.weaken"), "there is nothing weaker");
}

#[tokio::test]
async fn where_the_bucket_locks_by_itself_the_trials_are_the_same() {
    let store = vault().with_default_retention(LockMode::Governance, std::time::Duration::from_secs(3600));
    let report = probe(&(Arc::new(store) as SharedStore), "", GOVERNANCE).await;
    assert_eq!(failed(&report), [""; 0], "{report:#?}");
    assert!(observed(&report, "bucket.default-retention").contains("there is one"));
    assert!(observed(&report, "lock.delete").contains("without lock was deleted"));
}

#[tokio::test]
async fn a_directory_has_no_locks_and_nothing_is_said_to_have_passed() {
    let folder = TempFolder::new();
    let store: SharedStore = Arc::new(LocalStore::open(folder.path(), true).unwrap());
    let report = probe(&store, "", COMPLIANCE).await;
    assert_eq!(
        ids(&report, |verdict| *verdict == Verdict::Passed),
        ["clock.skew", "versions.overwrite", "put.conditional"]
    );
    assert_eq!(failed(&report), [""; 0]);
    assert!(!report.is_immutable() && report.unproven().count() >= 9);
    assert_eq!(report.left, 0, "nothing stays in a directory");
}

#[tokio::test]
async fn what_a_credential_may_not_do_is_not_executed() {
    let store = FaultStore::new(Arc::new(vault()));
    store.add(Rule::on(Operation::Delete, Fault::Refuse).and_ever_after());
    store.add(Rule::on(Operation::LegalHold, Fault::Refuse).and_ever_after());
    let report = probe(&(Arc::new(store) as SharedStore), "", COMPLIANCE).await;
    assert_eq!(failed(&report), [""; 0]);
    assert_eq!(untried(&report), ["put.checksum", "lock.delete", "hold.delete", "hold.release"], "{report:#?}");
}

#[tokio::test]
async fn clocks_that_are_far_apart_are_told() {
    for (minutes, passes) in [(-16, false), (-14, true), (14, true), (16, false)] {
        let store = VaultStore::new(Arc::new(move || Timestamp::now() + SignedDuration::from_mins(minutes)));
        let report = probe(&(Arc::new(store) as SharedStore), "", GOVERNANCE).await;
        assert_eq!(failed(&report).is_empty(), passes, "{minutes} min: {report:#?}");
        assert!((report.skew.unwrap().as_secs() - minutes * 60).abs() < 5);
    }
}

#[tokio::test]
async fn each_broken_promise_is_caught() {
    let cases: [(Flaw, &[&str]); 11] = [
        (Flaw::ForgetsLocks, &["lock.put", "lock.parts"]),
        (Flaw::ForgetsLocksOfParts, &["lock.parts"]),
        (Flaw::DeletesLocked, &["lock.delete", "hold.delete"]),
        (Flaw::ForgetsExtensions, &["lock.extend"]),
        (Flaw::Shortens, &["lock.shorten"]),
        (Flaw::Weakens, &["lock.weaken"]),
        (Flaw::LetsBypass, &["lock.bypass"]),
        (Flaw::IgnoresHolds, &["hold.delete"]),
        (Flaw::Replaces, &["versions.overwrite"]),
        (Flaw::MarkersDelete, &["versions.marker"]),
        (Flaw::Suspends, &["bucket.versioning"]),
    ];
    for (flaw, expected) in cases {
        let store: SharedStore = Arc::new(vault().with_flaw(flaw));
        let report = probe(&store, "", COMPLIANCE).await;
        let found = failed(&report);
        assert!(expected.iter().all(|id| found.contains(id)), "{flaw:?} gave {found:?}: {report:#?}");
        let required = report.failed().count();
        assert!(required > 0 || flaw == Flaw::IgnoresHolds, "{flaw:?} is not immutable: {report:#?}");
    }
}

/// The testbed's Ceph, as the owner of the bucket.
#[tokio::test(flavor = "multi_thread")]
async fn ceph_keeps_compliance_and_lets_its_owner_bypass_governance() {
    if !testbed::enabled() {
        return;
    }
    let store: SharedStore = Arc::new(bucket::store("probe").await);
    let report = probe(&store, "", COMPLIANCE).await;
    assert!(report.is_immutable(), "{report:#?}");
    assert_eq!((failed(&report), untried(&report)), (vec![], vec![]), "{report:#?}");
    assert!(observed(&report, "put.conditional").starts_with("ignored"), "{report:#?}");
    let report = probe(&store, "", GOVERNANCE).await;
    assert_eq!(failed(&report), ["credential.bypass"], "the owner may: {report:#?}");
}

/// A bucket without locks.
#[tokio::test(flavor = "multi_thread")]
async fn a_plain_bucket_is_not_immutable() {
    if !testbed::enabled() {
        return;
    }
    let name = format!("lifeboat-plain-{}", suite::random_name());
    Account::new(Who::Owner, &name).create(false).await.unwrap();
    let options = S3Options { bucket: name, ..bucket::options("") };
    let store: SharedStore = Arc::new(bucket::connect(options).await);
    let report = probe(&store, "", COMPLIANCE).await;
    assert_eq!(failed(&report), [""; 0], "{report:#?}");
    assert!(!report.is_immutable() && report.unproven().any(|found| found.id == "lock.put"), "{report:#?}");
    // Ceph keeps the condition where it keeps no versions.
    assert!(observed(&report, "put.conditional").starts_with("honoured"), "{report:#?}");
    assert!(report.unproven().any(|found| found.id == "lock.delete") && report.left == 0, "{report:#?}");
}
