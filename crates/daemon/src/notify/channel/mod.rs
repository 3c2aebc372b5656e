//! How a message gets to people. Each reads its secrets when it uses them, so that a changed one counts at once, and none of
//! them appears in an error: the address of a webhook is a secret too.

mod http;
mod mail;
mod pagerduty;
mod slack;
mod webhook;

use jiff::Timestamp;
use lifeboat_engine::keys::{KeyError, read_secret};
use lifeboat_model::{config::SecretSource, secret::Secret};
use url::Url;

use super::Message;
use crate::{daemon::Environment, error::with_causes, settings::ChannelKind};

pub(super) use http::{Http, TIMEOUT};

/// Why a message did not get there.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A secret.
    #[error("{}", with_causes(_0))]
    Secret(#[source] KeyError),
    /// The secret is no usable address.
    #[error("what {place} holds is no http or https address")]
    Address {
        /// Where it was read.
        place: String,
    },
    /// Nobody answered.
    #[error("{0}")]
    Unreachable(String),
    /// An answer, and not a good one.
    #[error("{0}")]
    Refused(String),
    /// The settings of the channel, or what it would say.
    #[error("{0}")]
    Unusable(String),
}

/// What every channel is given.
#[derive(Clone)]
pub(super) struct Means {
    pub http: Http,
    pub environment: Environment,
    pub public_url: Option<Url>,
}

/// Sends a message; comes back when whoever is at the other end has it.
pub(super) async fn send(kind: &ChannelKind, message: &Message, now: Timestamp, means: &Means) -> Result<(), Failure> {
    match kind {
        ChannelKind::Webhook { url, secret } => webhook::send(url, secret.as_ref(), message, now, means).await,
        ChannelKind::Slack { url } => slack::send(url, message, means).await,
        ChannelKind::PagerDuty { url, routing_key } => pagerduty::send(url, routing_key, message, means).await,
        ChannelKind::Mail(mail) => mail::send(mail, message, means).await,
    }
}

impl Means {
    /// A secret, read now. Files are small and local.
    pub(super) fn secret(&self, source: &SecretSource) -> Result<Secret, Failure> {
        read_secret(source, &|name| (self.environment)(name)).map_err(Failure::Secret)
    }

    /// An address that is a secret.
    pub(super) fn address(&self, source: &SecretSource) -> Result<Url, Failure> {
        let url = self.secret(source)?.expose().trim().parse::<Url>().ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.ok_or_else(|| Failure::Address { place: source.to_string() })
    }
}
