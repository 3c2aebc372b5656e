//! Signing in at the identity provider: the code flow with PKCE. What was begun is remembered here and bound to the browser by
//! a cookie of its own, so that nobody can be signed in as somebody else by a link.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use lifeboat_model::secret::Secret;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{
    super::{Auth, limits, sessions::SignedIn, tokens},
    OidcError,
    claims::{self, Purpose},
    provider,
};
use crate::settings::Oidc;

/// So long a sign-in may take.
pub(in super::super) const LASTS: Duration = Duration::from_secs(600);
/// So many may be going on.
const MOST: usize = 1000;
/// Keys as old as this are good enough to begin with.
const OLDEST: Duration = Duration::from_secs(3600);

/// Sign-ins that were begun, by the cookie that the browser was given.
#[derive(Default)]
pub(in super::super) struct Begun(Mutex<HashMap<String, Flow>>);

struct Flow {
    state: Secret,
    nonce: Secret,
    verifier: Secret,
    to: String,
    /// Where it was begun.
    from: String,
    at: Instant,
}

impl Begun {
    /// Where too many are going on, the oldest of the place with the most of them gives way: nobody keeps others out.
    fn insert(&self, key: String, flow: Flow) {
        let mut flows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flows.retain(|_, flow| flow.at.elapsed() < LASTS);
        if flows.len() >= MOST
            && let Some(key) = gives_way(&flows)
        {
            flows.remove(&key);
        }
        flows.insert(key, flow);
    }
}

fn gives_way(flows: &HashMap<String, Flow>) -> Option<String> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    flows.values().for_each(|flow| *counts.entry(&flow.from).or_default() += 1);
    let first = flows.iter().max_by_key(|(_, flow)| (counts.get(&*flow.from), Reverse(flow.at)));
    first.map(|(key, _)| key.clone())
}

/// What the browser comes back with.
#[derive(Debug, Default, Deserialize)]
pub(in super::super) struct Answer {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

/// Where to send the browser of a peer, and the cookie to give it.
pub(in super::super) async fn start(
    auth: &Auth,
    settings: &Oidc,
    peer: IpAddr,
    to: String,
) -> Result<(Url, Secret), OidcError> {
    let provider = auth.providers.provider(auth, settings, OLDEST).await?;
    let random = || tokens::random().map_err(|error| OidcError::Flow(error.to_string()));
    let (from, at) = (limits::place(peer), Instant::now());
    let flow = Flow { state: random()?, nonce: random()?, verifier: random()?, to, from, at };
    let cookie = random()?;
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(flow.verifier.expose()));
    let mut place = provider.metadata.authorization_endpoint.clone();
    place
        .query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &settings.client_id)
        .append_pair("redirect_uri", &auth.callback_url())
        .append_pair("scope", &scopes(&provider.metadata.scopes_supported))
        .append_pair("state", flow.state.expose())
        .append_pair("nonce", flow.nonce.expose())
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256");
    auth.begun.insert(tokens::digest(cookie.expose()).to_string(), flow);
    Ok((place, cookie))
}

/// Those that we can use and that the provider has: some refuse what they do not know.
fn scopes(supported: &[String]) -> String {
    let wanted = ["profile", "email", "groups"].into_iter().filter(|scope| supported.iter().any(|have| have == scope));
    std::iter::once("openid").chain(wanted).collect::<Vec<_>>().join(" ")
}

/// Who came back, and where they wanted to go.
pub(in super::super) async fn callback(
    auth: &Auth,
    settings: &Oidc,
    cookie: &str,
    answer: Answer,
) -> Result<(String, SignedIn, String), OidcError> {
    let flow = |why: &str| OidcError::Flow(why.to_owned());
    let key = tokens::digest(cookie).to_string();
    let begun = auth.begun.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    let begun = begun.filter(|begun| begun.at.elapsed() < LASTS);
    let begun = begun.ok_or_else(|| flow("this sign-in was not begun in this browser, or took too long"))?;
    let same = super::super::sessions::same;
    if !answer.state.as_deref().is_some_and(|state| same(state, begun.state.expose())) {
        return Err(flow("this is the answer to another sign-in"));
    }
    if answer.iss.as_ref().is_some_and(|issuer| !claims::issuer(settings).contains(issuer)) {
        return Err(flow("this is another identity provider's answer"));
    }
    let code = match (answer.error, answer.code) {
        (None, Some(code)) => Secret::new(code),
        _ => return Err(flow("the identity provider did not let them in")),
    };
    let provider = auth.providers.provider(auth, settings, OLDEST).await?;
    let failed = |why: String| OidcError::Provider { issuer: settings.issuer.to_string(), why };

    #[derive(Deserialize)]
    struct Tokens {
        id_token: Received,
        access_token: Option<Received>,
    }
    let redirect = auth.callback_url();
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("code", code.expose()),
        ("redirect_uri", &redirect),
        ("code_verifier", begun.verifier.expose()),
    ];
    let secret = match &settings.client_secret {
        None => None,
        Some(source) => {
            let (source, environment) = (source.clone(), auth.daemon.surroundings.environment.clone());
            let read = move || lifeboat_engine::keys::read_secret(&source, &*environment);
            let read = tokio::task::spawn_blocking(read).await.map_err(|error| failed(error.to_string()))?;
            Some(read.map_err(|error| failed(format!("our secret there cannot be read: {error}")))?)
        }
    };
    let mut question = provider.client.post(provider.metadata.token_endpoint.clone());
    match &secret {
        None => form.push(("client_id", &settings.client_id)),
        Some(secret) if in_body(&provider.metadata.token_endpoint_auth_methods_supported) => {
            form.push(("client_id", &settings.client_id));
            form.push(("client_secret", secret.expose()));
        }
        // Both are encoded as in a form before they are joined (RFC 6749, 2.3.1).
        Some(secret) => question = question.basic_auth(encoded(&settings.client_id), Some(encoded(secret.expose()))),
    }
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let question = question.header("content-type", "application/x-www-form-urlencoded").body(body);
    let tokens: Tokens = provider::read(question).await.map_err(failed)?;

    let purpose = Purpose::SignIn { nonce: begun.nonce.expose() };
    let claims = claims::check(auth, settings, &tokens.id_token.0, purpose).await?;
    let mut groups = claims.groups(&settings.groups_claim);
    if !claims.tells(&settings.groups_claim)
        && let (Some(place), Some(access)) = (&provider.metadata.userinfo_endpoint, &tokens.access_token)
    {
        let question = provider.client.get(place.clone()).bearer_auth(access.0.expose());
        let info: HashMap<String, Value> = provider::read(question).await.map_err(failed)?;
        if info.get("sub").and_then(Value::as_str) != Some(claims.subject()) {
            return Err(OidcError::Token("the identity provider tells about somebody else".to_owned()));
        }
        groups = claims::groups(info.get(&settings.groups_claim));
    }
    let issuer = settings.issuer.to_string();
    Ok((claims.who(), SignedIn::Oidc { who: claims.who(), groups, issuer }, begun.to))
}

/// Whether our secret has to go into the form: nothing said means that it does not.
fn in_body(methods: &[String]) -> bool {
    let has = |method: &str| methods.iter().any(|known| known == method);
    !methods.is_empty() && !has("client_secret_basic") && has("client_secret_post")
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A secret in an answer.
struct Received(Secret);

impl<'de> Deserialize<'de> for Received {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Received(Secret::new(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_keeps_nobody_out() {
        let begun = Begun::default();
        let (now, none) = (Instant::now(), || Secret::new(String::new()));
        let begin = |key: String, from: &str, second| {
            let (to, from, at) = (String::new(), from.to_owned(), now + Duration::from_secs(second));
            begun.insert(key, Flow { state: none(), nonce: none(), verifier: none(), to, from, at });
        };
        begin("early".to_owned(), "192.0.2.1", 0);
        (0..1500).for_each(|number| begin(format!("stranger {number}"), "192.0.2.66", 1 + number));
        begin("late".to_owned(), "192.0.2.2", 2000);
        (1500..3000).for_each(|number| begin(format!("stranger {number}"), "192.0.2.66", 1 + number));
        let flows = begun.0.lock().unwrap();
        assert!(flows.contains_key("early") && flows.contains_key("late"));
        assert!(flows.contains_key("stranger 2999") && !flows.contains_key("stranger 1999"), "its own gave way");
        assert_eq!(flows.len(), MOST);
    }
}
