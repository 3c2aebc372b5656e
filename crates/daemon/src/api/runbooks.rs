//! Runbooks and their runs: looked at here, and run by `lifeboat runbook run`.

use std::sync::Arc;

use axum::{Json, extract::State};
use lifeboat_model::id::RunId;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    answers::{Listing, One},
    ask::{Asked, Named, Nothing},
};
use crate::{
    auth::{Caller, Need, Refused},
    view::{self, RunbookRunView, RunbookRuns, Runbooks},
};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(runbooks)).routes(routes!(runbook_runs)).routes(routes!(runbook_run))
}

/// Runbooks: when to use each, how long it takes, and whether it was rehearsed
#[utoipa::path(get, path = "/runbooks", tag = "look", responses((status = 200, body = Runbooks), Listing))]
async fn runbooks(caller: Caller, State(api): State<Arc<Api>>, _: Asked<Nothing>) -> Result<Json<Runbooks>, Refused> {
    let scope = caller.scope(Need::Look)?;
    Ok(Json(view::runbooks(&api.daemon, &scope).await))
}

/// Runs of runbooks, newest first
#[utoipa::path(get, path = "/runbook-runs", tag = "look", responses((status = 200, body = RunbookRuns), Listing))]
async fn runbook_runs(
    caller: Caller,
    State(api): State<Arc<Api>>,
    _: Asked<Nothing>,
) -> Result<Json<RunbookRuns>, Refused> {
    let scope = caller.scope(Need::Look)?;
    Ok(Json(view::runbook_runs(&api.daemon, &scope).await))
}

/// A run of a runbook, step by step
#[utoipa::path(
    get, path = "/runbook-runs/{run}", tag = "look",
    params(("run" = String, Path, description = "Its id.", pattern = "^[0-9a-f]{16}$")),
    responses((status = 200, body = RunbookRunView), One)
)]
async fn runbook_run(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Named(run): Named<RunId>,
    _: Asked<Nothing>,
) -> Result<Json<RunbookRunView>, Refused> {
    let scope = caller.scope(Need::Look)?;
    view::runbook_run(&api.daemon, &scope, run).await.map(Json).ok_or_else(Refused::not_found)
}
