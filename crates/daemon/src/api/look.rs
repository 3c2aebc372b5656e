//! Looking: every answer is made by `view`, for what the caller may see.

use std::sync::Arc;

use axum::{Json, extract::State};
use lifeboat_model::id::{Instance, Tenant};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    answers::{Here, Listing, One, broken},
    ask::{Asked, Limit, Moment, Named, Nothing},
};
use crate::{
    auth::{Caller, Need, Refused},
    view::{
        self, ActivityView, EvidenceView, InstanceView, Overview, PointView, ScheduleView, StatementView, StorageView,
    },
};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(instance))
        .routes(routes!(points))
        .routes(routes!(evidence))
        .routes(routes!(statement))
        .routes(routes!(schedules))
        .routes(routes!(storage))
        .routes(routes!(activity))
}

/// All instances that you may see, gravest first
#[utoipa::path(get, path = "/status", tag = "look", responses((status = 200, body = Overview), Listing))]
async fn status(caller: Caller, State(api): State<Arc<Api>>, _: Asked<Nothing>) -> Result<Json<Overview>, Refused> {
    let scope = caller.scope(Need::Look)?;
    view::overview(&api.daemon, &scope).await.map(Json).map_err(broken)
}

/// Everything about one instance
#[utoipa::path(
    get, path = "/instances/{tenant}/{instance}", tag = "look", params(Here),
    responses((status = 200, body = InstanceView), One)
)]
async fn instance(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Named((tenant, instance)): Named<(Tenant, Instance)>,
    _: Asked<Nothing>,
) -> Result<Json<InstanceView>, Refused> {
    let scope = caller.scope(Need::Look)?;
    let found = view::instance(&api.daemon, &scope, &tenant, &instance).await.map_err(broken)?;
    found.map(Json).ok_or_else(Refused::not_found)
}

/// Recovery points, newest first.
#[derive(Debug, Serialize, ToSchema)]
struct Points {
    /// The points.
    points: Vec<PointView>,
}

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Page {
    /// Only what is older than this.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    before: Option<Moment>,
    /// At most so many.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500, default = 100, nullable = false)]
    limit: Limit,
}

/// The newest recovery points of an instance, newest first
#[utoipa::path(
    get, path = "/points/{tenant}/{instance}", tag = "look", params(Here),
    responses((status = 200, body = Points), One)
)]
async fn points(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Named((tenant, instance)): Named<(Tenant, Instance)>,
    _: Asked<Nothing>,
) -> Result<Json<Points>, Refused> {
    let scope = caller.scope(Need::Look)?;
    let found = view::points(&api.daemon, &scope, &tenant, &instance).await.map_err(broken)?;
    found.map(|points| Json(Points { points })).ok_or_else(Refused::not_found)
}

/// Statements, newest first.
#[derive(Debug, Serialize, ToSchema)]
struct Evidence {
    /// The statements. Older ones: ask again with `before` set to the last one's time.
    evidence: Vec<EvidenceView>,
}

/// Which statements.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EvidenceQuery {
    /// Of this tenant.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9-]{0,62}$", nullable = false)]
    tenant: Option<Tenant>,
    /// Of this instance.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9-]{0,62}$", nullable = false)]
    instance: Option<Instance>,
    /// Of this kind: `backup`, `drill`, …
    #[param(nullable = false)]
    kind: Option<String>,
    /// Only what is older than this.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    before: Option<Moment>,
    /// At most so many.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500, default = 100, nullable = false)]
    limit: Limit,
}

/// Signed statements, newest first
#[utoipa::path(
    get, path = "/evidence", tag = "evidence", params(EvidenceQuery),
    responses((status = 200, body = Evidence), Listing)
)]
async fn evidence(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Asked(asked): Asked<EvidenceQuery>,
) -> Result<Json<Evidence>, Refused> {
    let scope = caller.scope(Need::Evidence)?;
    let EvidenceQuery { tenant, instance, kind, before, limit } = asked;
    let filter = view::EvidenceFilter { tenant, instance, kind, before: before.map(|Moment(before)| before) };
    let evidence = view::evidence(&api.daemon, &scope, filter, limit.0).await.map_err(broken)?;
    Ok(Json(Evidence { evidence }))
}

/// A statement and its signed envelope
///
/// Write `envelope` into a file: `lifeboat evidence verify` checks it without the daemon.
#[utoipa::path(
    get, path = "/evidence/{tenant}/{*key}", tag = "evidence",
    params(
        ("tenant" = String, Path, description = "The owner.", pattern = "^[a-z0-9][a-z0-9-]{0,62}$"),
        ("key" = String, Path, description = "The statement's key, as in the list.", min_length = 1),
    ),
    responses((status = 200, body = StatementView), One)
)]
async fn statement(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Named((tenant, key)): Named<(Tenant, String)>,
    _: Asked<Nothing>,
) -> Result<Json<StatementView>, Refused> {
    caller.may(Need::Evidence, &tenant)?;
    let scope = caller.scope(Need::Evidence)?;
    let found = view::statement(&api.daemon, &scope, &tenant, &key).await.map_err(broken)?;
    found.map(Json).ok_or_else(Refused::not_found)
}

/// Schedules with their next and last runs.
#[derive(Debug, Serialize, ToSchema)]
struct Schedules {
    /// The schedules.
    schedules: Vec<ScheduleView>,
}

/// Schedules, and what became of them
#[utoipa::path(get, path = "/schedules", tag = "look", responses((status = 200, body = Schedules), Listing))]
async fn schedules(caller: Caller, State(api): State<Arc<Api>>, _: Asked<Nothing>) -> Result<Json<Schedules>, Refused> {
    let scope = caller.scope(Need::Look)?;
    let schedules = view::schedules(&api.daemon, &scope).await.map_err(broken)?;
    Ok(Json(Schedules { schedules }))
}

/// What is stored, by tenant.
#[derive(Debug, Serialize, ToSchema)]
struct Storage {
    /// Tenants.
    tenants: Vec<StorageView>,
}

/// What is stored, how it grows, and when locks end
#[utoipa::path(get, path = "/storage", tag = "look", responses((status = 200, body = Storage), Listing))]
async fn storage(caller: Caller, State(api): State<Arc<Api>>, _: Asked<Nothing>) -> Result<Json<Storage>, Refused> {
    let scope = caller.scope(Need::Look)?;
    let tenants = view::storage(&api.daemon, &scope).await.map_err(broken)?;
    Ok(Json(Storage { tenants }))
}

/// What was done and refused, newest first.
#[derive(Debug, Serialize, ToSchema)]
struct Activity {
    /// The entries. Older ones: ask again with `before` set to the last one's time.
    activity: Vec<ActivityView>,
}

/// Who did what, and who was refused what
#[utoipa::path(
    get, path = "/activity", tag = "evidence", params(Page),
    responses((status = 200, body = Activity), Listing)
)]
async fn activity(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Asked(page): Asked<Page>,
) -> Result<Json<Activity>, Refused> {
    let scope = caller.scope(Need::Activity)?;
    let before = page.before.map(|Moment(before)| before);
    let activity = view::activity(&api.daemon, &scope, before, page.limit.0).await.map_err(broken)?;
    Ok(Json(Activity { activity }))
}
