//! `evidence ledger`: where the log of all statements stands, and a checkpoint to keep elsewhere.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use lifeboat_engine::keys::read_signing_key;
use lifeboat_evidence::{ActPredicate, Predicate, Statement, ledger::checkpoint, seal, verify};
use lifeboat_model::{id::RunId, signature::PublicKey};

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

/// More statements than a tile holds, none of them in a ledger: as an older release left them.
const MANY: u64 = 520;

#[test]
fn the_first_act_adopts_hundreds_and_nothing_is_missing_then() {
    let program = with_statements(1);
    let folder = program.path("repository/hospital/evidence");
    let listed = program.run("evidence list --json").expect(0).json();
    let name = listed["statements"][0]["key"].as_str().unwrap().to_owned();
    let key = read_signing_key(&program.path("keys/signing.key")).unwrap();
    let envelope = fs::read(program.path("repository").join(name)).unwrap();
    let Predicate::Act(act) = verify(&envelope, &[key.public()]).unwrap().statement.predicate else {
        panic!("a check of the repository is an act")
    };
    // A host that remembers a ledger goes on after its end: what is gone must be seen. An older release remembers none.
    fs::remove_dir_all(folder.join("ledger")).unwrap();
    fs::remove_dir_all(program.path("state")).unwrap();
    for run in 1..=MANY {
        let statement = Statement::act(ActPredicate { run: RunId(run.to_be_bytes()), ..*act.clone() });
        let name = statement.storage_key().unwrap().to_string();
        fs::write(program.path("repository").join(name), seal(&statement, &key)).unwrap();
    }
    program.run("evidence sign-off 0000000000000007 --role owner --comment seen").expect(0);
    let tiles = || {
        ["tile/0/000", "tile/entries/000", "tile/0/001", "tile/entries/001"].map(|one| folder.join("ledger").join(one))
    };
    assert!(tiles().iter().all(|tile| tile.is_file()), "full tiles are put at once");
    assert!(!folder.join("ledger/tile/0/002").exists(), "and only full ones");
    let findings = |answer: &serde_json::Value| answer["audit"]["findings"]["listed"].as_array().unwrap().len();
    let answer = program.run("evidence verify --json").expect(0).json();
    let all = MANY + 2; // the check, and what was said of one
    let audit = &answer["audit"];
    assert_eq!((findings(&answer), &audit["proven"], &audit["size"]), (0, &all.into(), &all.into()), "{audit:#}");

    // A crash between a checkpoint and its tiles takes nothing away from the evidence, and the next act puts them.
    tiles().iter().for_each(|tile| fs::remove_file(tile).unwrap());
    let answer = program.run("evidence verify --json").expect(0).json();
    assert_eq!(findings(&answer), 4, "{:#}", answer["audit"]);
    fs::remove_dir_all(program.path("state")).unwrap();
    program.run("repo check --json").expect(0);
    assert_eq!(findings(&program.run("evidence verify --json").expect(0).json()), 0);

    // One that holds something else is named. It accuses nobody: anyone who may write can be first there, and entries say it all.
    let tile = &tiles()[0];
    let mut bytes = fs::read(tile).unwrap();
    bytes[5] ^= 1;
    fs::write(tile, bytes).unwrap();
    let answer = program.run("evidence verify --json").expect(0).json();
    assert_eq!(findings(&answer), 1, "{:#}", answer["audit"]);
}

/// Three writers who never pause; whoever verifies meanwhile finds nothing wrong, every time.
#[test]
fn somebody_who_writes_meanwhile_is_no_finding() {
    let program = with_statements(1);
    let stop = AtomicBool::new(false);
    let (mut verified, mut entries) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    program.run("repo check --json").expect(0);
                }
            });
        }
        for _ in 0..12 {
            let ended = program.run("evidence verify --json");
            entries.push(ended.json()["audit"]["entries"].as_u64().unwrap_or_default());
            verified.push(ended);
        }
        stop.store(true, Ordering::Relaxed);
    });
    for ended in verified {
        let findings = ended.json()["audit"]["findings"].to_string();
        assert!(ended.json()["believed"] == true, "{findings}");
    }
    assert!(entries.last() > entries.first(), "nobody wrote: {entries:?}");
}
