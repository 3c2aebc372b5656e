//! People and programs known by an identity provider (OpenID Connect).
//!
//! Two ways in: the code flow for people at the dashboard ([`code`]), and access tokens that other programs have got there
//! ([`bearer`]). Both end with a signed token that is checked in one place ([`claims`]) against the provider's keys
//! ([`provider`]). What somebody may do follows from their groups by the settings, never from anything else in a token.

mod claims;
mod code;
mod provider;

pub(super) use code::{Answer, Begun, LASTS, callback, start};
pub(super) use provider::Providers;

use axum::http::StatusCode;
use lifeboat_model::secret::Secret;

use self::claims::Purpose;
use super::{Auth, Caller, How, Refused};
use crate::settings::{Grant, Oidc};

/// Why somebody did not get in.
#[derive(Debug, thiserror::Error)]
pub(super) enum OidcError {
    /// The provider cannot be asked, or what it answers cannot be used.
    #[error("the identity provider {issuer}: {why}")]
    Provider {
        /// Which.
        issuer: String,
        /// Why.
        why: String,
    },
    /// A token that does not count. The reason is for the log alone.
    #[error("a token that does not count: {0}")]
    Token(String),
    /// A sign-in that was not begun here, took too long, or was broken off.
    #[error("{0}")]
    Flow(String),
}

/// What members of these groups may do.
pub(super) fn grants(settings: &Oidc, groups: &[String]) -> Vec<Grant> {
    let own = settings.grants.iter().filter(|granted| groups.contains(&granted.group));
    own.map(|granted| granted.grant.clone()).collect()
}

/// Who has this access token.
pub(super) async fn bearer(auth: &Auth, settings: &Oidc, token: &str) -> Result<Caller, Refused> {
    let purpose = Purpose::Bearer { audience: settings.audience.as_deref().unwrap_or(&settings.client_id) };
    match claims::check(auth, settings, &Secret::new(token), purpose).await {
        Ok(claims) => {
            let groups = claims.groups(&settings.groups_claim);
            Ok(Caller { who: claims.who(), grants: grants(settings, &groups), how: How::Oidc })
        }
        Err(OidcError::Provider { .. }) => {
            Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the identity provider cannot be asked at the moment")
                .hint("try again in a minute, or use a token of `lifeboat token create`"))
        }
        Err(error) => {
            tracing::debug!("{error}");
            Err(Refused::not_valid())
        }
    }
}
