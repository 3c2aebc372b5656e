//! What opens sealed objects: age identities, SSH private keys, identities of plugins.
//!
//! An identity knows its recipient, so that it can be told before a restore whether it fits a point. A plugin's identity
//! does not give it away by itself; plugins write it as a comment into the identity file, and that is asked for.

use std::{fmt, io::BufReader, sync::Arc};

use age::{
    Callbacks,
    plugin::{IdentityPluginV1, ResolveError},
    secrecy::{ExposeSecret as _, SecretString},
    ssh::{ParseRecipientKeyError, UnsupportedKey},
};
use lifeboat_model::secret::Secret;

use super::Recipient;
use crate::error::{Error, Result};

/// What a plugin may want from the person who sits there: a PIN, a touch. Without anybody, [`Nobody`] answers.
pub trait Ask: Send + Sync {
    /// Shows a message.
    fn show(&self, message: &str);
    /// A question with two answers; `None`: nobody can be asked.
    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool>;
    /// A text that is no secret.
    fn text(&self, what: &str) -> Option<String>;
    /// A secret, typed without echo.
    fn secret(&self, what: &str) -> Option<Secret>;
}

/// Nobody is there to be asked.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Ask for Nobody {
    fn show(&self, _: &str) {}

    fn confirm(&self, _: &str, _: &str, _: Option<&str>) -> Option<bool> {
        None
    }

    fn text(&self, _: &str) -> Option<String> {
        None
    }

    fn secret(&self, _: &str) -> Option<Secret> {
        None
    }
}

/// The private half of one or more recipients. Never printed.
///
/// A host that was given a new identity carries its former ones along: [`recipient`](Self::recipient) is that of the
/// newest, and all of them open.
#[derive(Clone)]
pub struct Identity {
    newest: Key,
    former: Vec<Key>,
}

#[derive(Clone)]
pub(super) struct Key {
    recipient: Recipient,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    X25519(age::x25519::Identity),
    Ssh(age::ssh::Identity),
    Plugin(age::plugin::Identity, Asking),
}

impl Identity {
    /// A new one, from the operating system's random numbers.
    pub fn generate() -> Self {
        Key::x25519(age::x25519::Identity::generate()).into()
    }

    /// Reads an identity file's text that is not protected by a passphrase; exactly one key is expected.
    pub fn from_secret_text(text: &Secret) -> Result<Self> {
        let mut keys = read(text.expose(), &Asking(Arc::new(Nobody)))?;
        match (keys.pop(), keys.is_empty()) {
            (Some(identity), true) => Ok(identity),
            _ => Err(bad("more than one key; keep one key a file")),
        }
    }

    /// The same identity, and what was sealed to `former` ones opens as well.
    #[must_use]
    pub fn with_former(mut self, former: Vec<Identity>) -> Self {
        self.former.extend(former.into_iter().flat_map(|identity| [vec![identity.newest], identity.former].concat()));
        self
    }

    /// The text form, `AGE-SECRET-KEY-1…`, for a key file with mode 0600. SSH keys and plugins' identities are kept in
    /// files of their own making and have none here: a comment says so.
    pub fn to_secret_text(&self) -> Secret {
        match &self.newest.kind {
            Kind::X25519(identity) => Secret::new(identity.to_string().expose_secret()),
            _ => Secret::new(format!("# {}: see its own file", self.newest.recipient)),
        }
    }

    /// The public half; of several, that of the newest.
    pub fn recipient(&self) -> Recipient {
        self.newest.recipient.clone()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.newest).chain(&self.former)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(public {})", self.recipient())
    }
}

impl From<Key> for Identity {
    fn from(newest: Key) -> Self {
        Self { newest, former: Vec::new() }
    }
}

impl Key {
    fn x25519(identity: age::x25519::Identity) -> Self {
        Self { recipient: Recipient::x25519(identity.to_public()), kind: Kind::X25519(identity) }
    }
}

/// A key in the form that age takes.
pub(super) enum Opener<'a> {
    Own(&'a dyn age::Identity),
    Plugin(IdentityPluginV1<Asking>),
}

impl Opener<'_> {
    pub fn as_age(&self) -> &dyn age::Identity {
        match self {
            Opener::Own(identity) => *identity,
            Opener::Plugin(plugin) => plugin,
        }
    }
}

impl Key {
    /// Finds the plugin, if one is needed.
    pub fn opener(&self) -> std::result::Result<Opener<'_>, ResolveError> {
        Ok(match &self.kind {
            Kind::X25519(identity) => Opener::Own(identity),
            Kind::Ssh(identity) => Opener::Own(identity),
            Kind::Plugin(identity, asking) => {
                let own = std::slice::from_ref(identity);
                Opener::Plugin(IdentityPluginV1::new(identity.plugin(), own, asking.clone())?)
            }
        })
    }
}

/// [`Ask`], in the form that plugins call.
#[derive(Clone)]
pub(super) struct Asking(pub Arc<dyn Ask>);

impl Callbacks for Asking {
    fn display_message(&self, message: &str) {
        self.0.show(message);
    }

    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        self.0.confirm(message, yes, no)
    }

    fn request_public_string(&self, description: &str) -> Option<String> {
        self.0.text(description)
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        self.0.secret(description).map(|secret| SecretString::from(secret.expose().to_owned()))
    }
}

pub(super) fn bad(reason: impl Into<String>) -> Error {
    Error::BadKey { what: "identity", reason: reason.into() }
}

/// All keys of an identity file in clear.
pub(super) fn read(text: &str, asking: &Asking) -> Result<Vec<Identity>> {
    if super::file::is_ssh(text) {
        return match parse_ssh(&super::file::with_newline(text))? {
            key @ age::ssh::Identity::Unencrypted(_) => Ok(vec![ssh(key)?]),
            _ => Err(bad("an SSH key that is protected by a passphrase")),
        };
    }
    let mut identities = Vec::new();
    let mut said = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.strip_prefix('#') {
            Some(comment) => said = recipient_in(comment).or(said),
            None => identities.push(one(line, said.take(), asking)?),
        }
    }
    if identities.is_empty() { Err(bad("no line with AGE-SECRET-KEY-1…")) } else { Ok(identities) }
}

/// The recipient in a comment like `#    Recipient: age1yubikey1…` or `# public key: age1…`.
fn recipient_in(comment: &str) -> Option<Recipient> {
    comment.rsplit_once(':')?.1.trim().parse().ok()
}

fn one(line: &str, said: Option<Recipient>, asking: &Asking) -> Result<Identity> {
    if !line.starts_with("AGE-PLUGIN-") {
        let key = line.parse::<age::x25519::Identity>().map_err(|reason| bad(reason.to_owned()))?;
        return Ok(Key::x25519(key).into());
    }
    let identity: age::plugin::Identity = line.parse().map_err(|reason: &str| bad(reason.to_owned()))?;
    let recipient = said.ok_or_else(|| {
        let name = identity.plugin();
        bad(format!("it does not say the recipient of the plugin's identity: write \"# recipient: age1{name}1…\" in the line before it"))
    })?;
    Ok(Key { recipient, kind: Kind::Plugin(identity, asking.clone()) }.into())
}

pub(super) fn parse_ssh(text: &str) -> Result<age::ssh::Identity> {
    let parsed = age::ssh::Identity::from_buffer(BufReader::new(text.as_bytes()), None);
    match parsed.map_err(|_| bad("a damaged SSH private key"))? {
        age::ssh::Identity::Unsupported(UnsupportedKey::EncryptedPem) => {
            Err(bad("an SSH key in the old PEM form with a passphrase: convert a copy with ssh-keygen -p -f FILE"))
        }
        age::ssh::Identity::Unsupported(UnsupportedKey::EncryptedSsh(cipher)) => {
            Err(bad(format!("an SSH key protected with {cipher}, which is not supported")))
        }
        age::ssh::Identity::Unsupported(UnsupportedKey::Hardware(kind) | UnsupportedKey::Type(kind)) => {
            Err(bad(format!("an SSH key of kind {kind}, which cannot open backups; ssh-ed25519 and ssh-rsa can")))
        }
        key => Ok(key),
    }
}

/// An identity of a key whose passphrase, if it had one, was taken off.
pub(super) fn ssh(key: age::ssh::Identity) -> Result<Identity> {
    let recipient = age::ssh::Recipient::try_from(key.clone()).map_err(|error| match error {
        ParseRecipientKeyError::RsaModulusTooLarge => bad("an RSA key of more than 4096 bits is not supported"),
        _ => bad("an SSH key of a kind that cannot open backups"),
    })?;
    Ok(Key { recipient: Recipient::ssh(recipient), kind: Kind::Ssh(key) }.into())
}
