//! Who asks, and what they may see and do.
//!
//! A request is looked at once, before any handler ([`gate`]), and what was found out about it goes along with it as a
//! [`Caller`]. Three keys are known: a bearer token of `tokens.toml` ([`tokens`]), the cookie of a session of the dashboard
//! ([`sessions`], begun at [`login`]), and an access token of the identity provider ([`oidc`]). Whatever a handler gives out, it
//! gives out for a [`Scope`](crate::daemon::Scope): outside of it nothing exists.

mod activity;
mod caller;
pub(crate) mod gate;
mod headers;
mod keyring;
mod ledger;
pub(crate) mod limits;
pub(crate) mod login;
mod oidc;
mod refused;
mod sessions;
pub mod tokens;

use std::sync::Arc;

pub use activity::{Deed, record};
pub use caller::{Caller, How, Need};
pub use ledger::Book;
pub use limits::{Allowances, Following};
pub use refused::{Problem, ProblemDetail, Refused};

use crate::daemon::Daemon;

/// All that is needed to know who asks.
pub(crate) struct Auth {
    daemon: Arc<Daemon>,
    keyring: Arc<keyring::Keyring>,
    limits: limits::Limits,
    refusals: activity::Refusals,
    providers: oidc::Providers,
    begun: oidc::Begun,
}

impl Auth {
    /// For a daemon.
    pub(crate) fn new(daemon: Arc<Daemon>, allowances: Allowances) -> Arc<Auth> {
        Arc::new(Auth {
            daemon,
            keyring: Arc::new(keyring::Keyring::new()),
            limits: limits::Limits::new(allowances),
            refusals: activity::Refusals::default(),
            providers: oidc::Providers::default(),
            begun: oidc::Begun::default(),
        })
    }

    /// Somebody begins to follow a run.
    pub(crate) fn follow(&self, who: &str) -> Result<Following, Refused> {
        self.limits.follow(who)
    }

    /// What has to be done from time to time; with `all`, for the last time.
    pub(crate) async fn tidy(&self, all: bool) {
        self.limits.forget();
        self.refusals.sum_up(&self.daemon, all).await;
        self.daemon.book.enter(&self.daemon, all).await;
    }

    /// Whether browsers speak HTTPS with us: by our own certificate, or that of whoever stands in front.
    fn secure(&self) -> bool {
        let policies = self.daemon.policies();
        let public = policies.settings.public_url.as_ref().is_some_and(|url| url.scheme() == "https");
        public || policies.settings.tls.is_some()
    }

    /// Where the identity provider sends browsers back to.
    fn callback_url(&self) -> String {
        let settings = &self.daemon.policies().settings;
        match &settings.public_url {
            Some(url) => format!("{}/auth/callback", url.as_str().trim_end_matches('/')),
            None => format!("{}://{}/auth/callback", if self.secure() { "https" } else { "http" }, settings.listen),
        }
    }
}
