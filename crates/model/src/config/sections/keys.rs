//! `[keys]`: whom backups are sealed to, and what signs them.

use crate::{
    config::{
        checked::{KeysConfig, RevokedKey},
        files::FileKind,
        recipient::{self, RecipientError},
        source::{Result, Value},
        value::is_private_key,
    },
    signature::PublicKey,
};

pub(super) fn read(value: &Value<'_>) -> Result<KeysConfig> {
    let table = value.table()?;
    for (name, hint) in [
        ("recovery_identity", "keep it off this host, in a safe place; give its public half in recovery_recipients"),
        ("host_identity", "write it to a file with mode 0600 and name that in host_identity_file"),
        ("signing_key", "write it to a file with mode 0600 and name that in signing_key_file"),
    ] {
        // Reported; the other keys are looked at all the same.
        let _ = table.no_inline(name, hint);
    }
    let recovery_recipients = table.required(
        "recovery_recipients",
        "add recovery_recipients = [\"age1…\"]; `lifeboat init` makes a pair of keys",
        |value| value.filled_list_of("without a recipient nobody could open a backup: add \"age1…\"", recipient),
    );
    let host_identity_file = table.required(
        "host_identity_file",
        "add host_identity_file = \"…\"; `lifeboat init` makes the key",
        |value| value.path(FileKind::Secret),
    );
    let former_host_identity_files = table.optional("former_host_identity_files", |value| {
        value.filled_list_of("name a former host identity, or remove the line", |value| value.path(FileKind::Secret))
    });
    let signing_key_file =
        table.required("signing_key_file", "add signing_key_file = \"…\"; `lifeboat init` makes the key", |value| {
            value.path(FileKind::Secret)
        });
    let trusted_keys = table.required(
        "trusted_keys",
        "add trusted_keys = [\"lifeboat-ed25519:…\"] with the public half of the signing key",
        |value| {
            value.filled_list_of(
                "without a trusted key no backup could be believed: add \"lifeboat-ed25519:…\"",
                trusted,
            )
        },
    );
    let revoked = table.optional("revoked", |value| value.list_of(revoked));
    let recovery_identity_file = table.optional("recovery_identity_file", |value| {
        value.place.warn(
            "whoever takes this host can read every backup",
            "keep the recovery identity elsewhere, and give it to a restore or drill only when it runs",
        );
        value.path(FileKind::Secret)
    });
    table.finish();
    let recovery_recipients = recovery_recipients?;
    if let ([_], Some(list)) = (recovery_recipients.as_slice(), table.get("recovery_recipients")) {
        list.place.warn(
            "there is one recovery recipient: when its identity is lost, every backup is lost",
            "add a second one whose identity is kept in another place",
        );
    }
    Ok(KeysConfig {
        recovery_recipients,
        host_identity_file: host_identity_file?,
        former_host_identity_files: former_host_identity_files?.unwrap_or_default(),
        signing_key_file: signing_key_file?,
        trusted_keys: trusted_keys?,
        revoked: revoked?.unwrap_or_default(),
        recovery_identity_file: recovery_identity_file?,
    })
}

fn recipient(value: &Value<'_>) -> Result<String> {
    let text = value.filled()?;
    if is_private_key(text) {
        // The scan for private keys has said the rest.
        return Err(value.place.problem(
            "expected a public recipient, found a private key",
            "use its public half: age1…, ssh-ed25519 … or ssh-rsa …",
        ));
    }
    let problem = |message: &str, hint: &str| Err(value.place.problem(message, hint));
    match recipient::check(text) {
        Ok(recipient) => Ok(recipient),
        Err(RecipientError::NotAge) => {
            problem("not an age recipient", "a recipient starts with age1, ssh-ed25519 or ssh-rsa")
        }
        Err(RecipientError::PostQuantum) => problem(
            "a post-quantum recipient, which may not stand beside recipients of other kinds",
            "use an X25519 recipient, as `lifeboat init` and age-keygen make them",
        ),
        Err(RecipientError::SshKind(kind)) => problem(
            &format!("an SSH key of kind {kind}, which cannot be sealed to"),
            "use one of kind ssh-ed25519 or ssh-rsa: ssh-keygen -t ed25519",
        ),
        Err(RecipientError::RsaBits(bits)) => problem(
            &format!("an RSA key of {bits} bits"),
            "use one of 2048 to 4096 bits, or better: ssh-keygen -t ed25519",
        ),
        Err(RecipientError::Mistyped) => {
            problem("a recipient with a wrong letter or length", "copy it again; nothing sealed to it could be opened")
        }
    }
}

fn trusted(value: &Value<'_>) -> Result<PublicKey> {
    let hint = "write \"lifeboat-ed25519:\" and 44 base64 characters, as `lifeboat init` printed it";
    value.filled()?.parse().map_err(|_| value.place.problem("not a Lifeboat public key", hint))
}

fn revoked(value: &Value<'_>) -> Result<RevokedKey> {
    let table = value.table()?;
    let hint = "add key = \"lifeboat-ed25519:…\" and at = \"2026-11-21T14:00:00Z\"";
    let key = table.required("key", hint, trusted);
    let at = table.required("at", hint, |value| {
        let wrong = "write a time with its zone, as \"2026-11-21T14:00:00Z\"";
        value.filled()?.parse().map_err(|_| value.place.problem("not a time", wrong))
    });
    table.finish();
    Ok(RevokedKey { key: key?, at: at? })
}
