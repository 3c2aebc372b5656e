//! Whom objects are sealed to.
//!
//! Points, chunk keys and indexes name their recipients as text, and runs compare these texts to know whether what is
//! stored serves them: so a recipient has exactly one text. An SSH key's comment is not part of it.

use std::{
    fmt, io,
    str::FromStr,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use age::{EncryptError, NoCallbacks, plugin::RecipientPluginV1, ssh::ParseRecipientKeyError};

use crate::error::{Error, Result};

/// A plugin has this long to seal one object's key; a card that wants a touch for it does not suit backups at night.
const PLUGIN_PATIENCE: Duration = Duration::from_secs(60);

/// Somebody who can open what is sealed to them: `age1…`, `ssh-ed25519 …`, `ssh-rsa …`, or `age1name1…` of a plugin.
#[derive(Clone)]
pub struct Recipient {
    text: String,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    X25519(age::x25519::Recipient),
    Ssh(age::ssh::Recipient),
    /// `age1tag1…`: a key in hardware, which needs its plugin only to open.
    Tag(age::tag::Recipient),
    Plugin(age::plugin::Recipient),
}

impl Recipient {
    /// The plugin that seals to this recipient, where one does: `age-plugin-` and this name is run for every object.
    pub fn plugin(&self) -> Option<&str> {
        match &self.kind {
            Kind::Plugin(recipient) => Some(recipient.plugin()),
            _ => None,
        }
    }

    pub(super) fn x25519(recipient: age::x25519::Recipient) -> Self {
        Self { text: recipient.to_string(), kind: Kind::X25519(recipient) }
    }

    pub(super) fn ssh(recipient: age::ssh::Recipient) -> Self {
        Self { text: recipient.to_string(), kind: Kind::Ssh(recipient) }
    }
}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Recipient {}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

impl FromStr for Recipient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let parsed = match text.split_once("1") {
            Some(("age", rest)) => native_or_plugin(text, rest),
            _ => ssh(text),
        };
        parsed.map_err(|reason| Error::BadKey { what: "recipient", reason })
    }
}

fn native_or_plugin(text: &str, rest: &str) -> std::result::Result<Recipient, String> {
    let reason = |reason: &str| format!("{reason} (expected a public key that starts with age1)");
    let kind = match rest.rsplit_once('1') {
        None => Kind::X25519(text.parse().map_err(reason)?),
        Some(("tag", _)) => Kind::Tag(text.parse().map_err(reason)?),
        Some(("tagpq" | "pq", _)) => {
            return Err("a post-quantum recipient, which may not stand beside recipients of other kinds".to_owned());
        }
        Some(_) => Kind::Plugin(text.parse().map_err(reason)?),
    };
    Ok(Recipient { text: text.to_owned(), kind })
}

fn ssh(text: &str) -> std::result::Result<Recipient, String> {
    let mut words = text.split_ascii_whitespace();
    let (Some(kind), Some(data)) = (words.next(), words.next()) else {
        return Err("expected age1…, ssh-ed25519 … or ssh-rsa …".to_owned());
    };
    let bare = format!("{kind} {data}");
    let recipient: age::ssh::Recipient = bare.parse().map_err(|error| match error {
        ParseRecipientKeyError::RsaModulusTooSmall => "an RSA key of less than 2048 bits is too weak".to_owned(),
        ParseRecipientKeyError::RsaModulusTooLarge => "an RSA key of more than 4096 bits is not supported".to_owned(),
        ParseRecipientKeyError::Unsupported(kind) => format!("SSH keys of kind {kind} cannot be sealed to"),
        _ => "not an SSH public key; copy the whole line of its .pub file".to_owned(),
    })?;
    let recipient = Recipient::ssh(recipient);
    // The parser passes over what follows a key that it understands.
    if recipient.text == bare { Ok(recipient) } else { Err("an SSH public key with surplus characters".to_owned()) }
}

/// Wraps a new file key for all recipients. Where a plugin does that, waits for it a bounded time.
pub(super) fn encryptor(recipients: &[Recipient]) -> Result<age::Encryptor> {
    if recipients.iter().all(|recipient| recipient.plugin().is_none()) {
        return wrap(recipients);
    }
    let own = recipients.to_vec();
    let (done, wrapped) = mpsc::sync_channel(1);
    let working = move || drop(done.send(wrap(&own)));
    let started = thread::Builder::new().name("age plugin".to_owned()).spawn(working);
    started.map_err(|source| Error::Io { what: "starting a thread for a plugin".to_owned(), source })?;
    wrapped.recv_timeout(PLUGIN_PATIENCE).unwrap_or_else(|error| match error {
        RecvTimeoutError::Timeout => {
            Err(sealing(format!("an age plugin did not answer within {} s", PLUGIN_PATIENCE.as_secs())))
        }
        RecvTimeoutError::Disconnected => Err(sealing("an age plugin could not be run")),
    })
}

fn wrap(recipients: &[Recipient]) -> Result<age::Encryptor> {
    let plugins = plugins(recipients)?;
    let own = recipients.iter().filter_map(|recipient| match &recipient.kind {
        Kind::X25519(recipient) => Some(recipient as &dyn age::Recipient),
        Kind::Ssh(recipient) => Some(recipient as &dyn age::Recipient),
        Kind::Tag(recipient) => Some(recipient as &dyn age::Recipient),
        Kind::Plugin(_) => None,
    });
    let all = own.chain(plugins.iter().map(|plugin| plugin as &dyn age::Recipient));
    age::Encryptor::with_recipients(all).map_err(|error| match error {
        EncryptError::IncompatibleRecipients { .. } | EncryptError::InvalidRecipientLabels(_) => {
            sealing("a plugin's recipient does not allow others beside it; take it out of keys.recovery_recipients")
        }
        EncryptError::Plugin(errors) => sealing(super::plugin_words(&errors)),
        EncryptError::PluginResolve(error) => sealing(super::missing_plugin(&error)),
        other => sealing(other),
    })
}

/// Each plugin once, with all of its recipients.
fn plugins(recipients: &[Recipient]) -> Result<Vec<RecipientPluginV1<NoCallbacks>>> {
    let of_plugins: Vec<age::plugin::Recipient> = recipients
        .iter()
        .filter_map(|recipient| match &recipient.kind {
            Kind::Plugin(recipient) => Some(recipient.clone()),
            _ => None,
        })
        .collect();
    let mut names: Vec<&str> = of_plugins.iter().map(age::plugin::Recipient::plugin).collect();
    names.sort_unstable();
    names.dedup();
    let plugin = |name: &str| RecipientPluginV1::new(name, &of_plugins, &[], NoCallbacks);
    names.into_iter().map(|name| plugin(name).map_err(|error| sealing(super::missing_plugin(&error)))).collect()
}

pub(super) fn sealing(reason: impl fmt::Display) -> Error {
    Error::Io { what: "sealing".to_owned(), source: io::Error::other(reason.to_string()) }
}
