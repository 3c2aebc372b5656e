//! What the identity provider tells about itself, and its keys: asked for when they are needed, kept for an hour, and asked for
//! again when a token names a key that is not known, though not for every such token.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{Jwk, JwkSet},
};
use lifeboat_model::config::reading::is_loopback;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::Mutex;
use url::Url;

use super::{super::Auth, OidcError, claims};
use crate::{settings::Oidc, view::Trouble};

/// So long keys are used without asking again.
const FRESH: Duration = Duration::from_secs(3600);
/// A token with an unknown key makes us ask no more often than this; so does a provider that does not answer.
const PAUSE: Duration = Duration::from_secs(15);
/// So long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// So much an answer may hold.
const LARGEST: usize = 256 * 1024;

/// The name of the trouble.
const OF: &str = "identity provider";

/// What is known of the provider.
#[derive(Default)]
pub(in super::super) struct Providers(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// For which settings.
    settings: Option<Oidc>,
    provider: Option<Arc<Provider>>,
    /// When it was asked last, and why it could not be.
    asked: Option<(Instant, Option<String>)>,
}

/// A provider that has told about itself.
pub(super) struct Provider {
    pub(super) client: reqwest::Client,
    pub(super) metadata: Metadata,
    keys: Vec<Jwk>,
    fetched: Instant,
}

/// What the provider tells about itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    jwks_uri: Url,
    pub(super) authorization_endpoint: Url,
    pub(super) token_endpoint: Url,
    #[serde(default)]
    pub(super) userinfo_endpoint: Option<Url>,
    #[serde(default)]
    pub(super) scopes_supported: Vec<String>,
    #[serde(default)]
    pub(super) token_endpoint_auth_methods_supported: Vec<String>,
}

impl Providers {
    /// The key that a token was signed with.
    pub(super) async fn key(
        &self,
        auth: &Auth,
        settings: &Oidc,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<DecodingKey, OidcError> {
        let mut found = None;
        for at_least in [FRESH, PAUSE] {
            let provider = self.provider(auth, settings, at_least).await?;
            found = provider.find(kid, algorithm);
            if found.is_some() {
                break;
            }
        }
        found.ok_or_else(|| OidcError::Token("signed with a key that the identity provider does not name".to_owned()))
    }

    /// The provider, asked again if what is known is older than this. One who cannot be asked is as it was known.
    pub(super) async fn provider(
        &self,
        auth: &Auth,
        settings: &Oidc,
        oldest: Duration,
    ) -> Result<Arc<Provider>, OidcError> {
        let mut known = self.0.lock().await;
        if known.settings.as_ref() != Some(settings) {
            *known = Known { settings: Some(settings.clone()), ..Known::default() };
        }
        if let Some(provider) = known.provider.as_ref().filter(|provider| provider.fetched.elapsed() < oldest) {
            return Ok(Arc::clone(provider));
        }
        let recent = known.asked.as_ref().filter(|(asked, _)| asked.elapsed() < PAUSE);
        let failed = match recent {
            Some((_, why)) => why.clone(),
            None => {
                let answer = ask(settings).await;
                let why = answer.as_ref().err().cloned();
                known.asked = Some((Instant::now(), why.clone()));
                if let Ok(provider) = answer {
                    known.provider = Some(Arc::new(provider));
                }
                tell(auth, settings, why.as_deref());
                why
            }
        };
        match (&known.provider, failed) {
            (Some(provider), _) => Ok(Arc::clone(provider)),
            (None, why) => Err(OidcError::Provider {
                issuer: settings.issuer.to_string(),
                why: why.unwrap_or_else(|| "it has not answered yet".to_owned()),
            }),
        }
    }
}

fn tell(auth: &Auth, settings: &Oidc, why: Option<&str>) {
    let Some(why) = why else {
        return auth.daemon.troubles.end(None, OF);
    };
    auth.daemon.troubles.begin(Trouble {
        tenant: None,
        of: OF.to_owned(),
        since: auth.daemon.now(),
        text: format!("{} cannot be asked: {why}. Nobody can sign in there; tokens still count", settings.issuer),
        next: Some(format!("curl {}/.well-known/openid-configuration", settings.issuer.as_str().trim_end_matches('/'))),
    });
}

impl Provider {
    fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let mut fitting = self.keys.iter().filter(|key| claims::fits(key, algorithm));
        let key = match kid {
            Some(kid) => fitting.find(|key| key.common.key_id.as_deref() == Some(kid)),
            None => match (fitting.next(), fitting.next()) {
                (only, None) => only,
                _ => None, // any of them: nobody guesses here
            },
        };
        DecodingKey::from_jwk(key?).ok()
    }
}

async fn ask(settings: &Oidc) -> Result<Provider, String> {
    let client = client(settings)?;
    let base = settings.issuer.as_str().trim_end_matches('/');
    let place = format!("{base}/.well-known/openid-configuration");
    let place: Url = place.parse().map_err(|error: url::ParseError| error.to_string())?;
    let metadata: Metadata = get(&client, &place).await?;
    if metadata.issuer.trim_end_matches('/') != base {
        return Err(format!("it calls itself {}", metadata.issuer));
    }
    let places = [&metadata.jwks_uri, &metadata.authorization_endpoint, &metadata.token_endpoint];
    for place in places.into_iter().chain(&metadata.userinfo_endpoint) {
        check_place(place)?;
    }
    #[derive(Deserialize)]
    struct Keys {
        keys: Vec<serde_json::Value>,
    }
    let set: Keys = get(&client, &metadata.jwks_uri).await?;
    // A key of a kind that is not known must not hide the others.
    let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
    let keys = JwkSet { keys: keys.collect() }.keys;
    Ok(Provider { client, metadata, keys, fetched: Instant::now() })
}

/// Secrets and keys travel over TLS, or do not leave the host.
fn check_place(place: &Url) -> Result<(), String> {
    match place.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(place) => Ok(()),
        _ => Err(format!("{place} is not https")),
    }
}

fn client(settings: &Oidc) -> Result<reqwest::Client, String> {
    check_place(&settings.issuer)?;
    let tls = crate::tls::client_config(settings.ca_file.as_deref()).map_err(|error| error.to_string())?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .map_err(|error| told(&error))
}

async fn get<T: DeserializeOwned>(client: &reqwest::Client, place: &Url) -> Result<T, String> {
    read(client.get(place.clone())).await
}

/// Sends a question and reads a bounded JSON answer.
pub(super) async fn read<T: DeserializeOwned>(question: reqwest::RequestBuilder) -> Result<T, String> {
    let mut answer = question.send().await.map_err(|error| told(&error))?;
    let status = answer.status();
    let place = answer.url().path().to_owned();
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|error| told(&error))? {
        if body.len() + part.len() > LARGEST {
            return Err(format!("{place} answers more than {LARGEST} bytes"));
        }
        body.extend_from_slice(&part);
    }
    if !status.is_success() {
        return Err(format!("{place} answers {status}{}", reason(&body)));
    }
    serde_json::from_slice(&body).map_err(|error| format!("{place} answers what is not understood: {error}"))
}

/// The provider's own fixed word for what it did not like.
fn reason(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Reason {
        error: String,
    }
    match serde_json::from_slice::<Reason>(body) {
        Ok(reason) if reason.error.len() < 60 => format!(" ({})", reason.error),
        _ => String::new(),
    }
}

/// With all causes, without the address: it may hold what is secret.
fn told(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "it does not answer in time" } else { "it cannot be reached" }.to_owned();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
