//! Whether a signed token counts, and what it says.

use std::collections::BTreeMap;

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use lifeboat_model::secret::Secret;
use serde::Deserialize;
use serde_json::Value;

use super::{super::Auth, OidcError};
use crate::settings::Oidc;

/// What tokens may be signed with. Never a shared secret, never nothing.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
/// Clocks differ by so many seconds.
const LEEWAY: i64 = 60;
/// Longer ones are not looked at.
const LONGEST: usize = 12 * 1024;

/// What a token is shown for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// To use the API.
    Bearer {
        /// Whom it must be meant for.
        audience: &'a str,
    },
    /// To sign in at the dashboard.
    SignIn {
        /// What we sent along, so that it was made for this sign-in.
        nonce: &'a str,
    },
}

/// What a token that counts says.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Claims {
    sub: String,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    azp: Option<String>,
    /// One, or a list: that we are among them is checked with the signature.
    aud: Value,
    #[serde(default)]
    preferred_username: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl Claims {
    /// Whose it is.
    pub(super) fn subject(&self) -> &str {
        &self.sub
    }

    /// A name for people, with the subject: names change hands, subjects do not.
    pub(super) fn who(&self) -> String {
        match self.preferred_username.as_deref().or(self.email.as_deref()) {
            Some(name) if name != self.sub => format!("{name} ({})", self.sub),
            _ => self.sub.clone(),
        }
    }

    /// The groups, if it tells any.
    pub(super) fn groups(&self, claim: &str) -> Vec<String> {
        groups(self.others.get(claim))
    }

    /// Whether it tells groups at all.
    pub(super) fn tells(&self, claim: &str) -> bool {
        self.others.contains_key(claim)
    }
}

/// The groups in a claim: a list, or one alone.
pub(super) fn groups(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// Checks signature, issuer, audience and times.
pub(super) async fn check(
    auth: &Auth,
    settings: &Oidc,
    token: &Secret,
    purpose: Purpose<'_>,
) -> Result<Claims, OidcError> {
    let bad = |why: &str| OidcError::Token(why.to_owned());
    if token.expose().len() > LONGEST {
        return Err(bad("too long"));
    }
    let header = decode_header(token.expose()).map_err(|error| OidcError::Token(error.to_string()))?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(bad("signed in a way that is not allowed"));
    }
    if header.crit.is_some() {
        return Err(bad("it demands what is not understood"));
    }
    let key = auth.providers.key(auth, settings, header.kid.as_deref(), header.alg).await?;
    let audience = match purpose {
        Purpose::Bearer { audience } => audience,
        Purpose::SignIn { .. } => &settings.client_id,
    };
    let claims = verify(token, header.alg, &key, &issuer(settings), audience)?;
    let now = auth.daemon.now().as_second();
    if (now - LEEWAY) as f64 >= claims.exp {
        return Err(bad("expired"));
    }
    if claims.nbf.is_some_and(|from| ((now + LEEWAY) as f64) < from) {
        return Err(bad("not valid yet"));
    }
    if let Purpose::SignIn { nonce } = purpose {
        if !claims.nonce.as_deref().is_some_and(|sent| super::super::sessions::same(sent, nonce)) {
            return Err(bad("made for another sign-in"));
        }
        let others = claims.aud.as_array().is_some_and(|all| all.len() > 1);
        if (others || claims.azp.is_some()) && claims.azp.as_deref() != Some(&settings.client_id) {
            return Err(bad("made for another program"));
        }
    }
    Ok(claims)
}

/// The issuer as the provider writes it: without the slash that an address without a path is given.
pub(super) fn issuer(settings: &Oidc) -> [String; 2] {
    let with = settings.issuer.as_str();
    [with.trim_end_matches('/').to_owned(), with.to_owned()]
}

fn verify(
    token: &Secret,
    algorithm: Algorithm,
    key: &DecodingKey,
    issuer: &[String],
    audience: &str,
) -> Result<Claims, OidcError> {
    let mut validation = Validation::new(algorithm);
    // The times are checked by our own clock.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.set_issuer(issuer);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let decoded = decode::<Claims>(token.expose(), key, &validation);
    decoded.map(|token| token.claims).map_err(|error| OidcError::Token(error.to_string()))
}

/// Whether a key of the provider is one for tokens that are signed in this way.
pub(super) fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let for_signing = !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption));
    let named = key.common.key_algorithm.is_none_or(|named| named.to_string() == format!("{algorithm:?}"));
    let kind = match (&key.algorithm, algorithm) {
        // 2048 bits are 342 characters of base64.
        (AlgorithmParameters::RSA(rsa), Algorithm::RS256) => rsa.n.len() >= 342,
        (AlgorithmParameters::EllipticCurve(curve), Algorithm::ES256) => curve.curve == EllipticCurve::P256,
        (AlgorithmParameters::OctetKeyPair(pair), Algorithm::EdDSA) => pair.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    for_signing && named && kind
}
