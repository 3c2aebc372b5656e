//! `evidence ledger`: where the log of all statements stands, and a checkpoint to keep elsewhere.

use std::fs;

use lifeboat_evidence::ledger::checkpoint;
use lifeboat_model::signature::PublicKey;

use crate::{
    program::{Program, shape},
    repository::add_point,
};

fn with_statements(count: usize) -> Program {
    let program = Program::initialised();
    add_point(&program, "2026-01-02T10:00:00Z");
    for _ in 0..count {
        program.run("repo check --json").expect(0);
    }
    program
}

#[test]
fn it_tells_where_the_log_stands_and_saves_a_checkpoint() {
    let program = with_statements(3);
    let told = program.run("evidence ledger").expect(0).stdout;
    assert!(told.contains("of 3 entries") && told.contains("\u{2014} lifeboat.dev/ledger/"), "{told}");
    let json = program.run("evidence ledger --json --checkpoint kept.checkpoint").expect(0).json();
    insta::assert_snapshot!("evidence-ledger-json", shape(&json));
    let (entries, size) = (json["entries"].as_u64(), json["checkpoint"]["size"].as_u64());
    assert_eq!((entries, size), (Some(3), Some(3)));
    let saved = program.read("kept.checkpoint");
    let key: PublicKey = json["checkpoint"]["signed_by"].as_str().unwrap().parse().unwrap();
    let signed = checkpoint::open(saved.as_bytes(), &[key]).unwrap();
    assert_eq!(signed.checkpoint.root.to_string(), json["checkpoint"]["root"].as_str().unwrap());
    assert_eq!(json["checkpoint"]["note"].as_str().unwrap(), saved);
    // An older checkpoint is worth more: it is not written over.
    program.run("repo check --json").expect(0);
    let ended = program.run("evidence ledger --checkpoint kept.checkpoint").expect(2);
    assert!(ended.stderr.contains("is there already"), "{}", ended.stderr);
    assert_eq!(program.read("kept.checkpoint"), saved);
    let listed = program.run("evidence list --json").expect(0).json();
    assert_eq!(listed["statements"].as_array().unwrap().len(), 4, "what belongs to the ledger is no statement");
}

#[test]
fn a_repository_from_before_the_ledger_has_none_and_that_is_no_error() {
    let program = with_statements(2);
    let folder = program.path("repository/hospital/evidence/ledger");
    fs::remove_dir_all(&folder).unwrap();
    let told = program.run("evidence ledger").expect(0).stdout;
    assert!(told.contains("no ledger yet"), "{told}");
    assert_eq!(program.run("evidence ledger --json").expect(0).json()["entries"], 0);
    program.run("evidence ledger --checkpoint none").expect(6);
    assert!(!program.path("none").exists());
    // The next statement begins it, also where this host remembers another.
    program.run("repo check --json").expect(0);
    let json = program.run("evidence ledger --json").expect(0).json();
    assert!(json["checkpoint"]["size"].as_u64() >= Some(1), "{json:#}");
}

#[test]
fn a_ledger_that_nobody_trusted_signed_is_told() {
    let program = with_statements(1);
    let checkpoints = program.path("repository/hospital/evidence/ledger/checkpoints");
    for file in fs::read_dir(checkpoints).unwrap() {
        let path = file.unwrap().path();
        let note = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, note.replacen("\n1\n", "\n2\n", 1)).unwrap();
    }
    let ended = program.run("evidence ledger").expect(4);
    assert!(ended.stdout.contains("NO CHECKPOINT that is to be believed"), "{}", ended.stdout);
}
