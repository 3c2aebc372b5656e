//! The envelope against a foreign implementation: what OpenSSL says about our signatures.

use std::{path::Path, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lifeboat_evidence::{Statement, seal, verify};
use serde_json::Value;

use crate::samples::{backup, key};

/// SubjectPublicKeyInfo of an Ed25519 key up to the 32 key bytes (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Made once with `openssl pkeyutl -sign -rawin` (OpenSSL 3.0) from seed 07…07 over the bytes in the test's comment.
const BY_OPENSSL: &str = "wcB0t5b17P/fi3c/OEfQkARL6Mru7BBtXex8t3zXkbKFCua0F8CJxJJxyZZf729iM07epTItFrK4lLV+sCKJBg==";

/// `DSSEv1 28 application/vnd.in-toto+json <length> <golden/backup-v1.json without its line end>`, signed by OpenSSL:
/// Ed25519 is deterministic, so our envelope must hold the very same signature, and must believe it.
#[test]
fn the_signature_is_the_one_that_openssl_makes() {
    let sealed = seal(&Statement::backup(backup()), &key());
    let envelope: Value = serde_json::from_slice(&sealed).unwrap();
    assert_eq!(envelope["signatures"][0]["sig"], BY_OPENSSL);
    assert!(verify(&sealed, &[key().public()]).is_ok());
}

/// The same, asked today. Needs the `openssl` command, so it is part of the testbed's tests.
#[test]
fn openssl_verifies_an_envelope() {
    if std::env::var("LIFEBOAT_TESTBED").is_err() {
        return;
    }
    let envelope: Value = serde_json::from_slice(&seal(&Statement::backup(backup()), &key())).unwrap();
    let field = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let payload = field(&envelope["payload"]);
    let kind = envelope["payloadType"].as_str().unwrap();
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend(&payload);
    let signature = field(&envelope["signatures"][0]["sig"]);
    assert!(openssl_accepts(&message, &signature));
    message[40] ^= 1;
    assert!(!openssl_accepts(&message, &signature));
}

fn openssl_accepts(message: &[u8], signature: &[u8]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("message", message);
    write("signature", signature);
    write("key.der", &[&SPKI, key().public().as_bytes().as_slice()].concat());
    run_openssl(folder.path())
}

fn run_openssl(folder: &Path) -> bool {
    let output = Command::new("openssl")
        .args(["pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER", "-inkey", "key.der"])
        .args(["-sigfile", "signature", "-in", "message"])
        .current_dir(folder)
        .output()
        .expect("openssl is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("Signature Verified Successfully") || said.contains("Signature Verification Failure"),
        "{said}"
    );
    output.status.success()
}
