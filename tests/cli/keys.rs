//! `init` and `key`: what they make, with which modes, and that nothing is ever written over.

use std::fs;

use crate::program::{Program, mode, shape};

#[test]
fn init_makes_private_keys_and_says_what_must_leave() {
    let program = Program::new();
    let ended = program.run("init --tenant hospital --instance clinic").expect(0);
    insta::assert_snapshot!("init", program.stable(&ended.stdout));
    assert_eq!(ended.stderr, "");
    assert_eq!(mode(&program.path("keys")), 0o700);
    for file in ["recovery.identity", "host.identity", "signing.key"] {
        assert_eq!(mode(&program.path("keys").join(file)), 0o600, "{file}");
    }
    let recovery = program.read("keys/recovery.identity");
    let secret = recovery.lines().last().unwrap();
    assert!(secret.starts_with("AGE-SECRET-KEY-1"));
    assert!(!ended.stdout.contains(secret), "a secret is never printed");
    assert!(!program.read("lifeboat.toml").contains("SECRET"));
    // The made keys fit the made configuration.
    program.run("key check").expect(0);
    let public = program.run("key show keys/recovery.identity").expect(0).stdout;
    assert!(program.read("lifeboat.toml").contains(public.trim()));
}

#[test]
fn init_writes_over_nothing() {
    let program = Program::initialised();
    let before = |name: &str| (name.to_owned(), program.read(name));
    let files = ["lifeboat.toml", "keys/recovery.identity", "keys/host.identity", "keys/signing.key"].map(before);
    let ended = program.run("init").expect(1);
    insta::assert_snapshot!("init-again", program.stable(&ended.stderr));
    // One file that is left is enough to refuse.
    fs::remove_dir_all(program.path("keys")).unwrap();
    program.run("init").expect(1);
    assert!(!program.path("keys").exists());
    assert_eq!(program.read("lifeboat.toml"), files[0].1);

    let other = Program::new();
    fs::create_dir(other.path("keys")).unwrap(); // mode 0755
    let ended = other.run("init").expect(1);
    assert!(ended.stderr.contains("chmod 0700 keys"), "{}", ended.stderr);
    assert!(!other.path("lifeboat.toml").exists());
}

#[test]
fn init_with_a_recipient_makes_no_recovery_identity() {
    let program = Program::initialised();
    let public = program.run("key show keys/recovery.identity").stdout;
    let ended = program.run(&format!("init second --recipient {} --json", public.trim())).expect(0);
    let made = ended.json();
    assert_eq!(made["recovery_identity_file"], serde_json::Value::Null);
    assert_eq!(made["recovery_recipients"][0], public.trim());
    assert!(!program.path("second/keys/recovery.identity").exists());
    program.run("--config second/lifeboat.toml key check").expect(0);
    program.run("init third --recipient age1nonsense").expect(2);
}

#[test]
fn keys_are_generated_once() {
    let program = Program::new();
    for (kind, shown) in [("recovery", "age1"), ("host", "age1"), ("signing", "lifeboat-ed25519:")] {
        let ended = program.run(&format!("key generate {kind} --out {kind}.key")).expect(0);
        insta::assert_snapshot!(format!("key-generate-{kind}"), program.stable(&ended.stdout));
        assert_eq!(mode(&program.path(&format!("{kind}.key"))), 0o600);
        let before = program.read(&format!("{kind}.key"));
        program.run(&format!("key generate {kind} --out {kind}.key")).expect(1);
        assert_eq!(program.read(&format!("{kind}.key")), before);
        assert!(program.run(&format!("key show {kind}.key")).expect(0).stdout.starts_with(shown));
    }
    let json = program.run("key show host.key --json").expect(0).json();
    insta::assert_snapshot!("key-show-json", shape(&json));
    program.write("noise", "hello");
    let ended = program.run("key show noise").expect(8);
    assert!(!ended.stderr.contains("hello"), "what may be a secret is not repeated");
    program.run("key show missing").expect(8);
}

#[test]
fn key_check_names_what_does_not_fit() {
    let program = Program::initialised();
    insta::assert_snapshot!("key-check-json", shape(&program.run("key check --json").expect(0).json()));
    program.run("key generate signing --out other.key").expect(0);
    program.edit("keys/signing.key", "other.key");
    let ended = program.run("key check").expect(8);
    assert!(ended.stdout.contains("which is not trusted"), "{}", ended.stdout);
    program.edit("other.key", "missing.key");
    assert!(program.run("key check").expect(8).stdout.contains("missing.key"));
    program.edit("keys/host.identity", "keys/recovery.identity");
    let ended = program.run("key check").expect(8);
    assert!(ended.stdout.contains("could read its own backups"), "{}", ended.stdout);
}
