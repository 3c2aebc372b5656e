//! The keys that the configuration names: readable, what they should be, and fitting each other.

use std::path::Path;

use lifeboat_engine::keys::{KeyError, read_identity, read_signing_key};
use lifeboat_model::config::KeysConfig;
use lifeboat_repo::seal::Recipient;

use super::{Finding, Findings};

/// Looks at every key of the configuration.
pub fn look(keys: &KeysConfig) -> Findings {
    let mut findings = vec![recipients(keys), host(keys), signing(keys)];
    findings.extend(keys.recovery_identity_file.as_deref().map(|path| recovery(keys, path)));
    Findings(findings)
}

fn recipients(keys: &KeysConfig) -> Finding {
    const CHECK: &str = "keys.recovery_recipients";
    let wrong: Vec<&String> =
        keys.recovery_recipients.iter().filter(|text| text.parse::<Recipient>().is_err()).collect();
    if let Some(text) = wrong.first() {
        return Finding::failed(CHECK, format!("\"{text}\" is not an age recipient"), "write its public key, age1…");
    }
    match keys.recovery_recipients.len() {
        1 => Finding::ok(CHECK, format!("1 recipient: {}", keys.recovery_recipients[0])),
        n => Finding::ok(CHECK, format!("{n} recipients, each opens everything")),
    }
}

fn host(keys: &KeysConfig) -> Finding {
    const CHECK: &str = "keys.host_identity_file";
    let path = &keys.host_identity_file;
    match read_identity(path) {
        Ok(identity) if keys.recovery_recipients.contains(&identity.recipient().to_string()) => Finding::failed(
            CHECK,
            format!("{} is a recovery identity: this host could read its own backups", path.display()),
            "make one for the host alone: lifeboat key generate host --out FILE",
        ),
        Ok(identity) => Finding::ok(CHECK, format!("{} → {}", path.display(), identity.recipient())),
        Err(error) => unusable(CHECK, &error),
    }
}

fn signing(keys: &KeysConfig) -> Finding {
    const CHECK: &str = "keys.signing_key_file";
    let path = &keys.signing_key_file;
    match read_signing_key(path) {
        Ok(key) if keys.trusted_keys.contains(&key.public()) => {
            Finding::ok(CHECK, format!("{} → {}, trusted", path.display(), key.public()))
        }
        Ok(key) => Finding::failed(
            CHECK,
            format!("{} has public key {}, which is not trusted", path.display(), key.public()),
            format!("add \"{}\" to keys.trusted_keys", key.public()),
        ),
        Err(error) => unusable(CHECK, &error),
    }
}

fn recovery(keys: &KeysConfig, path: &Path) -> Finding {
    const CHECK: &str = "keys.recovery_identity_file";
    match read_identity(path) {
        Ok(identity) if keys.recovery_recipients.contains(&identity.recipient().to_string()) => {
            Finding::ok(CHECK, format!("{} opens what is sealed now", path.display()))
        }
        Ok(identity) => Finding::failed(
            CHECK,
            format!("{} belongs to {}, to whom nothing is sealed now", path.display(), identity.recipient()),
            "name the identity of one of keys.recovery_recipients, or remove the line",
        ),
        Err(error) => unusable(CHECK, &error),
    }
}

fn unusable(check: &str, error: &KeyError) -> Finding {
    let cause = std::error::Error::source(error).map(|cause| format!(" ({cause})")).unwrap_or_default();
    Finding::failed(check, format!("{error}{cause}"), "lifeboat key generate makes a key file with the right mode")
}
