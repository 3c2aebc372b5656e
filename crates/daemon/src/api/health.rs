//! For whoever watches the process: it tells nothing that strangers may not know.

use std::sync::Arc;

use axum::{Json, Router, extract::State, routing::get};
use lifeboat_model::id::RunId;
use serde::Serialize;

use super::Api;
use crate::auth::Refused;

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

pub(super) fn router(api: Arc<Api>) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(api)
}

/// The process lives.
async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Policies are loaded, or it would not serve; the state answers.
async fn readyz(State(api): State<Arc<Api>>) -> Result<Json<Health>, Refused> {
    match api.daemon.state.run(RunId([0; 8])).await {
        Ok(_) => Ok(Json(Health { status: "ok" })),
        Err(error) => {
            tracing::warn!("not ready: {error}");
            Err(Refused::unavailable("the state does not answer"))
        }
    }
}
