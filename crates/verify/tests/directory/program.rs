//! The program as an auditor runs it.

use std::process::{Command, Output};

use crate::world::{World, key, write};

fn run(words: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_lifeboat-verify")).args(words).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn exit_codes_and_words() {
    let mut world = World::small();
    let outside = tempfile::tempdir().unwrap();
    let kept = write(outside.path(), "kept", &world.kept());
    let folder = world.written();
    let (directory, public) = (folder.path().to_str().unwrap(), key(7).public().to_string());
    let (code, said, _) = run(&[directory, "--key", &public, "--against", kept.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    assert!(said.ends_with("\nbelieved\n") && said.contains("3 statements, 3 proven; 3 entries"), "{said}");
    assert!(said.contains("newest drill of") && !said.contains("end was cut"), "{said}");
    assert!(said.contains("3 checkpoints, 0 of them stamped by an authority"), "{said}");
    let (code, said, _) = run(&[directory, "--key", &public, "--tsa-ca", "ca.pem"]);
    assert!(code == 5 && said.contains("DOUBT  time stamp: ledger: "), "{said}");
    let (code, said, _) = run(&[directory, "--key", &key(8).public().to_string()]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("WRONG  re-signed") && said.contains("NOT BELIEVED"), "{said}");
    let revoked = format!("{public}=2026-11-21T11:30:00Z");
    let (code, said, _) = run(&[directory, "--key", &public, "--revoked", &revoked, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &json["schema"], &json["believed"]), (4, &"lifeboat.verify-directory/1".into(), &false.into()));
    assert_eq!(json["audit"]["findings"]["counts"]["revoked"], 3, "statement, entry, checkpoint: {json:#}");
    assert_eq!(json["audit"]["proven"], 2);
    world.hold("2026-11-21T13:00:00Z");
    let kept = write(outside.path(), "newer", &world.kept());
    let (code, said, _) = run(&[directory, "--key", &public, "--against", kept.to_str().unwrap()]);
    assert!(code == 4 && said.contains("WRONG  cut"), "{said}");
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let public = key(7).public().to_string();
    let (code, _, said) = run(&["/nowhere/at/all", "--key", &public]);
    assert!(code == 1 && said.starts_with("error: cannot read /nowhere/at/all: "), "{said}");
    let (code, _, _) = run(&["/tmp"]);
    assert_eq!(code, 2, "no key");
    let (code, _, said) = run(&["/tmp", "--key", "nonsense"]);
    assert!(code == 2 && said.contains("not a Lifeboat public key"), "{said}");
    let (code, _, said) = run(&["/tmp", "--key", &public, "--revoked", &format!("{public}=yesterday")]);
    assert!(code == 2 && said.contains("not a time such as"), "{said}");
}
