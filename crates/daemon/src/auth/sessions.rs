//! Sessions of people at the dashboard: a random cookie whose hash lies in the state. What they may do is not kept with it
//! but looked up each time, so that a revoked token or a changed policy counts at once.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use axum_extra::extract::cookie::CookieJar;
use lifeboat_model::{id::Sha256Digest, secret::Secret};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Auth, Caller, How, tokens};
use crate::Result;

/// A working day; then one signs in again.
pub(super) const LASTS: Duration = Duration::from_secs(12 * 3600);

/// How somebody signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub(super) enum SignedIn {
    /// With a token: the session is worth what the token is worth.
    Token {
        /// The digest of the token.
        sha256: Sha256Digest,
    },
    /// At the identity provider.
    Oidc {
        /// Their name there.
        who: String,
        /// Their groups there.
        groups: Vec<String>,
        /// Of which provider: another one's groups mean nothing.
        issuer: String,
    },
}

/// The name of the cookie. `__Host-` makes browsers insist on HTTPS and on this very host.
pub(super) fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-lifeboat" } else { "lifeboat" }
}

/// A cookie of ours, as a header; no scripts see it. One that lasts no time is one that ends.
pub(super) fn set_cookie(name: &str, value: &str, same_site: &str, secure: bool, lasts: Duration) -> HeaderValue {
    let secure = if secure { "; Secure" } else { "" };
    let seconds = lasts.as_secs();
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite={same_site}; Max-Age={seconds}{secure}");
    HeaderValue::try_from(text).expect("cookies of ours are made of base64 and fixed words")
}

/// The value of a cookie that was sent.
pub(super) fn sent(headers: &HeaderMap, name: &str) -> Option<String> {
    CookieJar::from_headers(headers).get(name).map(|cookie| cookie.value().to_owned())
}

/// What a form must send along, made of the cookie: no other site has either.
fn csrf(cookie: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"lifeboat csrf ");
    hash.update(cookie.as_bytes());
    hex::encode(hash.finalize())
}

/// Whether two texts are the same, in a time that does not tell where they differ.
pub(super) fn same(one: &str, other: &str) -> bool {
    bool::from(one.as_bytes().ct_eq(other.as_bytes()))
}

impl Auth {
    /// Begins a session for whoever has just proved who they are. Its cookie is always a new one: nobody is made to use one
    /// that somebody else knows.
    pub(super) async fn begin_session(&self, signed_in: &SignedIn) -> Result<Secret> {
        let cookie = tokens::random()?;
        let text = serde_json::to_string(signed_in).expect("plain data has a JSON form");
        self.daemon.state.put_session(&hash(&cookie), &text, self.daemon.now() + LASTS).await?;
        Ok(cookie)
    }

    /// Who has this cookie; none where there is no such session, or no longer.
    pub(super) async fn session(&self, cookie: &str) -> Result<Option<Caller>> {
        let cookie = Secret::new(cookie);
        let Some(text) = self.daemon.state.session(&hash(&cookie), self.daemon.now()).await? else {
            return Ok(None);
        };
        let how = How::Session { csrf: csrf(cookie.expose()) };
        Ok(match serde_json::from_str(&text) {
            Ok(SignedIn::Token { sha256 }) => self.holder(&sha256).await.map(|caller| Caller { how, ..caller }),
            Ok(SignedIn::Oidc { who, groups, issuer }) => {
                let settings = self.daemon.policies().settings.oidc.clone();
                let still = settings.filter(|oidc| oidc.issuer.as_str() == issuer);
                still.map(|oidc| Caller { who, grants: super::oidc::grants(&oidc, &groups), how })
            }
            Err(_) => None, // of another release: one signs in again
        })
    }

    /// Ends a session.
    pub(super) async fn end_session(&self, cookie: &str) -> Result<()> {
        self.daemon.state.end_session(&hash(&Secret::new(cookie))).await
    }

    /// Whose token has this digest, if it still counts.
    pub(super) async fn holder(&self, sha256: &Sha256Digest) -> Option<Caller> {
        let all = self.keyring.tokens(&self.daemon).await;
        let token = tokens::find(&all, sha256).filter(|token| token.expires > self.daemon.now())?;
        Some(Caller { who: token.name.clone(), grants: token.grants(), how: How::Token })
    }
}

fn hash(cookie: &Secret) -> String {
    tokens::digest(cookie.expose()).to_string()
}
