//! `evidence verify` and `show`, offline: files and a public key, no configuration, no repository.

use lifeboat_evidence::{BackupPredicate, DrillPredicate, Statement, seal};
use lifeboat_model::signature::SigningKey;
use serde_json::Value;

use crate::program::{Program, shape};

const DRILL: &str = include_str!("../../crates/evidence/tests/evidence/golden/drill-v1.json");
const BACKUP: &str = include_str!("../../crates/evidence/tests/evidence/golden/backup-v1.json");

fn key() -> SigningKey {
    SigningKey::from_seed(&[9; 32])
}

fn predicate(statement: &str) -> Value {
    serde_json::from_str::<Value>(statement).unwrap()["predicate"].take()
}

/// A folder with one drill's and one backup's statement, and no configuration.
fn with_evidence() -> Program {
    let program = Program::new();
    let drill: DrillPredicate = serde_json::from_value(predicate(DRILL)).unwrap();
    let backup: BackupPredicate = serde_json::from_value(predicate(BACKUP)).unwrap();
    program.write("drill.dsse.json", seal(&Statement::drill(drill), &key()));
    program.write("backup.dsse.json", seal(&Statement::backup(backup), &key()));
    program
}

fn with_key(words: &str) -> String {
    format!("{words} --key {}", key().public())
}

#[test]
fn verification_needs_files_and_a_key_only() {
    let program = with_evidence();
    let ended = program.run(&with_key("evidence verify drill.dsse.json backup.dsse.json")).expect(0);
    insta::assert_snapshot!("evidence-verify", program.stable(&ended.stdout));
    let json = program.run(&with_key("evidence verify drill.dsse.json --json")).expect(0).json();
    insta::assert_snapshot!("evidence-verify-json", shape(&json));
    assert_eq!(json["believed"], true);
    let shown = program.run(&with_key("evidence show drill.dsse.json")).expect(0);
    insta::assert_snapshot!("evidence-show", program.stable(&shown.stdout));
    let envelope = program.run(&with_key("evidence show drill.dsse.json --envelope")).expect(0);
    assert_eq!(envelope.stdout, program.read("drill.dsse.json"));
}

#[test]
fn every_change_is_refused() {
    let program = with_evidence();
    let good = program.read("drill.dsse.json").into_bytes();
    // A byte of the payload, of the signature, of the structure.
    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut changed = good.clone();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        program.write("changed.json", &changed);
        let ended = program.run(&with_key("evidence verify changed.json"));
        let same_statement = ended.code == 0 && ended.stdout.contains("verified");
        // The key id in an envelope is a hint that nothing rests on.
        let in_hint = String::from_utf8_lossy(&good[..at]).contains("\"keyid\"");
        assert!(ended.code == 4 || (same_statement && in_hint), "byte {at}: {ended:?}");
    }
    program.write("cut.json", &good[..good.len() / 2]);
    let ended = program.run(&with_key("evidence verify cut.json drill.dsse.json")).expect(4);
    assert!(ended.stdout.contains("REFUSED  cut.json") && ended.stdout.contains("1 verified, 1 refused"), "{ended:?}");
}

#[test]
fn strangers_are_not_believed() {
    let program = with_evidence();
    let stranger = SigningKey::from_seed(&[1; 32]).public();
    let ended = program.run(&format!("evidence verify drill.dsse.json --key {stranger}")).expect(4);
    assert!(ended.stdout.contains("no signature by a trusted key"), "{}", ended.stdout);
    let ended = program.run(&format!("evidence show drill.dsse.json --key {stranger}")).expect(4);
    assert_eq!(ended.stdout, "");
    program.run(&with_key("evidence verify missing.json")).expect(6);
    program.run("evidence verify drill.dsse.json --key nonsense").expect(2);
}
