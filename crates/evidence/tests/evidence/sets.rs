//! Many files: what they say together, and what cannot be told.

use lifeboat_evidence::{
    Error, SetVerifier, Statement, seal,
    verify::{Finding, LEDGER_NOT_CHECKED, SetSummary},
};
use lifeboat_model::{check::Outcome, id::RunId};

use crate::samples::{backup, drill, key};

#[test]
fn findings_by_file_and_sums() {
    let mut set = SetVerifier::new(&[key().public()]);
    let first = Statement::backup(backup());
    let name = first.storage_key().unwrap().to_string();
    let sealed = seal(&first, &key());

    let entry = set.add(&name, &sealed);
    assert_eq!(entry.findings, []);
    let summary = entry.result.unwrap();
    assert_eq!((summary.kind.as_str(), summary.run, summary.outcome), ("backup", Some(RunId([1; 8])), None));

    assert_eq!(set.add("copy.json", &sealed).findings, [Finding::Duplicate(name.clone())]);

    let mut retold = backup();
    retold.sizes.files += 1;
    let entry = set.add("retold.json", &seal(&Statement::backup(retold), &key()));
    assert_eq!(entry.findings, [Finding::Conflict(RunId([1; 8]))]);

    let statement = Statement::drill(drill());
    let right = statement.storage_key().unwrap().to_string();
    let wrong = right.replace("20261121", "20261122").replace("acme/evidence/", "/mnt/copy/");
    let entry = set.add(&wrong, &seal(&statement, &key()));
    assert_eq!(entry.findings, [Finding::Misnamed(right)]);
    assert_eq!(entry.result.unwrap().outcome, Some(Outcome::Failed));

    let entry = set.add("damaged.json", &sealed[..100]);
    assert!(matches!(entry.result, Err(Error::NotJson(_))));

    let not_checked = vec![LEDGER_NOT_CHECKED.to_owned()];
    assert_eq!(set.finish(), SetSummary { files: 5, verified: 4, refused: 1, with_findings: 3, not_checked });
}

#[test]
fn two_tenants_may_have_the_same_run_id() {
    let mut set = SetVerifier::new(&[key().public()]);
    set.add("a", &seal(&Statement::backup(backup()), &key()));
    let mut other = backup();
    other.tenant = "umbrella".parse().unwrap();
    assert_eq!(set.add("b", &seal(&Statement::backup(other), &key())).findings, []);
}
