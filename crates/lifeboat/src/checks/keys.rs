//! The keys that the configuration names: readable, what they should be, and fitting each other.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use lifeboat_engine::{
    keys::{KeyError, host_identity, read_identity, read_signing_key},
    rehearsal,
};
use lifeboat_model::{config::KeysConfig, id::Instance};
use lifeboat_repo::seal::{self, Recipient};

use super::{Finding, Findings, Grade};
use crate::wire::{self, Loaded};

/// A plugin that takes longer holds up a backup of many objects, and WAL that is stored every two seconds.
const PLUGIN_DOUBTFUL: Duration = Duration::from_millis(250);
/// What does not answer within this is told as not looked at.
const LIMIT: Duration = Duration::from_secs(60);

/// Looks at every key of the configuration.
pub fn look(keys: &KeysConfig) -> Findings {
    let mut findings = vec![recipients(keys), host(keys), signing(keys)];
    findings.extend(keys.recovery_identity_file.as_deref().map(|path| recovery(keys, path)));
    Findings(findings)
}

fn recipients(keys: &KeysConfig) -> Finding {
    const CHECK: &str = "keys.recovery_recipients";
    let mut recipients: Vec<Recipient> = Vec::new();
    for text in &keys.recovery_recipients {
        match text.parse() {
            Ok(recipient) => recipients.push(recipient),
            Err(_) => {
                let observed = format!("\"{text}\" is not a recipient");
                return Finding::failed(CHECK, observed, "write a public key: age1…, ssh-ed25519 … or ssh-rsa …");
            }
        }
    }
    let started = Instant::now();
    if let Err(error) = seal::try_recipients(&recipients) {
        return Finding::failed(CHECK, format!("nothing can be sealed: {error}"), "see docs/keys.md on plugins");
    }
    let plugins: BTreeSet<&str> = recipients.iter().filter_map(Recipient::plugin).collect();
    if !plugins.is_empty() {
        return with_plugins(CHECK, &plugins, started.elapsed());
    }
    match recipients.as_slice() {
        [one] => Finding::ok(CHECK, format!("1 recipient: {one}")),
        many => Finding::ok(CHECK, format!("{} recipients, each opens everything", many.len())),
    }
}

/// A plugin is a program of its own, run once for every object that a backup or a stream of WAL writes.
fn with_plugins(check: &str, plugins: &BTreeSet<&str>, took: Duration) -> Finding {
    let names: Vec<String> = plugins.iter().map(|name| format!("age-plugin-{name}")).collect();
    let observed = format!("{} runs for every object: {} ms each", names.join(", "), took.as_millis());
    if took <= PLUGIN_DOUBTFUL {
        return Finding::ok(check, observed);
    }
    let mend = "seal to an X25519 recipient instead, and let the plugin protect that identity's file; see docs/keys.md";
    Finding::wrong(Grade::Warning, check, observed, mend)
}

fn host(keys: &KeysConfig) -> Finding {
    const CHECK: &str = "keys.host_identity_file";
    let path = &keys.host_identity_file;
    match host_identity(keys) {
        Ok(identity) if keys.recovery_recipients.contains(&identity.recipient().to_string()) => Finding::failed(
            CHECK,
            format!("{} is a recovery identity: this host could read its own backups", path.display()),
            "make one for the host alone: lifeboat key generate host --out FILE",
        ),
        Ok(identity) => {
            let former = match keys.former_host_identity_files.len() {
                0 => String::new(),
                n => format!(", and {n} former"),
            };
            Finding::ok(CHECK, format!("{} → {}{former}", path.display(), identity.recipient()))
        }
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
        Err(KeyError::Locked { .. }) => Finding::wrong(
            Grade::Warning,
            CHECK,
            format!("{} is behind a passphrase: a scheduled drill cannot use it", path.display()),
            "remove the line where drills run without anybody, or give them --passphrase-file",
        ),
        Err(error) => unusable(CHECK, &error),
    }
}

/// Who could open the newest recovery points, and whether anybody has tried lately.
pub async fn rehearsals(loaded: &Loaded, instances: &[&Instance], now: Timestamp) -> Vec<Finding> {
    const CHECK: &str = "keys.rehearsed";
    let looking = tokio::time::timeout(LIMIT, async {
        let (repository, config) = wire::open_for_reading(loaded).await.ok()?;
        let mut findings = Vec::new();
        for instance in instances {
            let status = rehearsal::status(&repository, &config.tenant, &config.keys, instance).await.ok()?;
            // Before the first backup there is nothing to open.
            if status.point.is_some() {
                findings.extend(rehearsed(CHECK, &status, now).into_iter().map(|one| one.of(instance.as_str())));
            }
        }
        Some(findings)
    });
    // What is wrong with the repository itself is said by the checks of the repository.
    looking.await.ok().flatten().unwrap_or_default()
}

fn rehearsed(check: &str, status: &rehearsal::KeyStatus, now: Timestamp) -> Vec<Finding> {
    let mend = "bring the identity and run: lifeboat key rehearse --name NAME --identity FILE";
    let mut findings = Vec::new();
    for one in &status.recipients {
        let who = one.name.as_deref().unwrap_or(&one.recipient);
        findings.extend(
            one.worries(now)
                .into_iter()
                .map(|worry| Finding::wrong(Grade::Warning, check, format!("{who}: {worry}"), mend)),
        );
    }
    findings.extend(status.unreadable.iter().map(|(name, at, why)| {
        Finding::wrong(Grade::Warning, check, format!("\"{name}\" could not be read at {at:.0}: {why}"), mend)
    }));
    if findings.is_empty() {
        findings.push(Finding::ok(check, format!("all {} recipients were tried lately", status.recipients.len())));
    }
    findings
}

fn unusable(check: &str, error: &KeyError) -> Finding {
    let cause = std::error::Error::source(error).map(|cause| format!(" ({cause})")).unwrap_or_default();
    Finding::failed(check, format!("{error}{cause}"), "lifeboat key generate makes a key file with the right mode")
}
