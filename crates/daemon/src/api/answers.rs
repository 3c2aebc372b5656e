//! The answers that say no, as the OpenAPI document has them.

use axum::http::StatusCode;
use lifeboat_model::id::{Instance, Tenant};
use serde::Deserialize;
use utoipa::{IntoParams, IntoResponses};

use crate::auth::{Problem, Refused};

/// An instance in an address.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes the address")]
pub(super) struct Here {
    /// The owner.
    #[param(value_type = String, pattern = "^[a-z0-9][a-z0-9-]{0,62}$")]
    tenant: Tenant,
    /// The instance.
    #[param(value_type = String, pattern = "^[a-z0-9][a-z0-9-]{0,62}$")]
    instance: Instance,
}

/// Of a list.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes answers")]
pub(super) enum Listing {
    /// A key of the query is unknown, or its value is not understood.
    #[response(status = 400)]
    BadRequest(#[to_schema] Problem),
    /// No key was sent, or one that opens nothing.
    #[response(status = 401)]
    Unauthorized(#[to_schema] Problem),
    /// You are known, and this takes a role that you have not.
    #[response(status = 403)]
    Forbidden(#[to_schema] Problem),
    /// Too many requests; `Retry-After` says when to come back.
    #[response(status = 429)]
    TooMany(#[to_schema] Problem),
    /// Something that this needs does not work at the moment.
    #[response(status = 503)]
    Unavailable(#[to_schema] Problem),
}

/// Of one thing.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes answers")]
pub(super) enum One {
    /// The address or the query is not understood.
    #[response(status = 400)]
    BadRequest(#[to_schema] Problem),
    /// No key was sent, or one that opens nothing.
    #[response(status = 401)]
    Unauthorized(#[to_schema] Problem),
    /// You are known, and this takes a role that you have not.
    #[response(status = 403)]
    Forbidden(#[to_schema] Problem),
    /// There is no such thing, or you may not see it.
    #[response(status = 404)]
    NotFound(#[to_schema] Problem),
    /// Too many requests; `Retry-After` says when to come back.
    #[response(status = 429)]
    TooMany(#[to_schema] Problem),
    /// Something that this needs does not work at the moment.
    #[response(status = 503)]
    Unavailable(#[to_schema] Problem),
}

/// Of an act.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes answers")]
pub(super) enum Acting {
    /// The body is no JSON.
    #[response(status = 400)]
    BadRequest(#[to_schema] Problem),
    /// No key was sent, or one that opens nothing.
    #[response(status = 401)]
    Unauthorized(#[to_schema] Problem),
    /// You are known, and this takes a role that you have not there; or a browser was made to send this.
    #[response(status = 403)]
    Forbidden(#[to_schema] Problem),
    /// There is no such thing, or you may not see it.
    #[response(status = 404)]
    NotFound(#[to_schema] Problem),
    /// It waits or goes on already, or it is over.
    #[response(status = 409)]
    Conflict(#[to_schema] Problem),
    /// The body is larger than 64 KiB.
    #[response(status = 413)]
    TooLarge(#[to_schema] Problem),
    /// The body is not `application/json`.
    #[response(status = 415)]
    Unsupported(#[to_schema] Problem),
    /// It is understood, and cannot be done.
    #[response(status = 422)]
    Unprocessable(#[to_schema] Problem),
    /// Too many requests; `Retry-After` says when to come back.
    #[response(status = 429)]
    TooMany(#[to_schema] Problem),
    /// Something that this needs does not work at the moment.
    #[response(status = 503)]
    Unavailable(#[to_schema] Problem),
}

/// Something of ours does not work: told in the log, and to the caller only that it is so.
pub(super) fn broken(error: crate::Error) -> Refused {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    tracing::warn!("cannot answer a request: {why}");
    let mut refused = Refused::unavailable("this cannot be looked up at the moment");
    refused.status = StatusCode::SERVICE_UNAVAILABLE;
    refused
}
