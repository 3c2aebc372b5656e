//! The dashboard: pages made on the server, whole without JavaScript and better with it.
//!
//! **In:** views ([`crate::view`]), already cut to what their reader may see. **Out:** HTML. **Never here:** asking the state or
//! the repository (handlers ask `view`), deciding who may see what (`auth` does), text that is not escaped: all of it goes
//! through `maud`. Style sheet, script and icon are files under `/assets`, so that the policy of the content can be
//! `default-src 'self'`: a page that somebody smuggles a script into does not run it.
//!
//! Each page is a pure function of its view and a [`PageContext`]. A part that changes while somebody looks has the attribute
//! `data-part`: the script loads the page again and puts new parts in the place of old ones; without it, the browser does.

mod activity;
mod assets;
mod chart;
mod context;
mod errors;
mod evidence;
mod filter;
mod handlers;
mod instance;
mod ladder;
mod layout;
mod login;
#[cfg(test)]
mod made_up;
mod markdown;
mod overview;
mod parts;
mod readers;
mod run;
mod runbook_run;
mod runbooks;
mod schedules;
mod storage;
#[cfg(test)]
mod tests;
mod timeline;
mod words;

use std::sync::Arc;

use axum::{
    Router,
    response::Response,
    routing::{get, post},
};
use jiff::Timestamp;

pub use context::{PageContext, Place};

use crate::{auth::Refused, daemon::Daemon};

/// Every page. What stands in front of it must know who asks ([`crate::auth`]).
pub fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route("/", get(handlers::overview))
        .route("/tenants/{tenant}/instances/{instance}", get(handlers::instance))
        .route("/tenants/{tenant}/instances/{instance}/runs", post(handlers::start))
        .route("/runs/{run}", get(handlers::run))
        .route("/runs/{run}/cancel", post(handlers::cancel))
        .route("/evidence", get(handlers::evidence))
        .route("/evidence/{tenant}/{*key}", get(handlers::statement))
        .route("/schedules", get(handlers::schedules))
        .route("/runbooks", get(handlers::runbooks))
        .route("/runbooks/{tenant}/{file}", get(handlers::runbook))
        .route("/runbook-runs/{run}", get(handlers::runbook_run))
        .route("/storage", get(handlers::storage))
        .route("/activity", get(handlers::activity))
        .route("/login", get(handlers::login))
        .with_state(daemon)
        .route("/assets/{file}", get(assets::asset))
}

/// The page of what was refused, in place of the answer for programs.
pub fn refused(refused: &Refused, now: Timestamp) -> Response {
    handlers::refused(refused, now)
}
