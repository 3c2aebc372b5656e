//! What is answered where something cannot be had: one shape for all, JSON for programs. Pages get the same words as a page.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use lifeboat_model::id::Tenant;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Need;

/// An answer that says no, why, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status.
    pub status: StatusCode,
    /// What could not be done.
    pub message: String,
    /// What would make it work.
    pub hint: Option<String>,
    /// The next command or address.
    pub next: Option<String>,
    /// For "too many requests": when to come back.
    pub retry_after: Option<Duration>,
    /// Whose log of activity tells of it, where it was refused to somebody who may look at that tenant. Not for the answer.
    pub tenant: Option<Tenant>,
}

/// The body of every answer that says no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What happened.
    pub error: ProblemDetail,
}

/// What happened, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemDetail {
    /// What could not be done.
    pub message: String,
    /// What would make it work.
    pub hint: Option<String>,
    /// The next command or address.
    pub next: Option<String>,
}

impl Refused {
    /// With a status and a message.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Refused {
        Refused { status, message: message.into(), hint: None, next: None, retry_after: None, tenant: None }
    }

    /// With what would make it work.
    pub fn hint(self, hint: impl Into<String>) -> Refused {
        Refused { hint: Some(hint.into()), ..self }
    }

    /// With the next command or address.
    pub fn next(self, next: impl Into<String>) -> Refused {
        Refused { next: Some(next.into()), ..self }
    }

    /// 401: nobody is known to be asking.
    pub fn not_signed_in() -> Refused {
        Refused::new(StatusCode::UNAUTHORIZED, "not signed in")
            .hint("send a token as `Authorization: Bearer …`; an operator of the host makes one")
            .next("lifeboat token create")
    }

    /// 401: what was sent is not, or no longer, a key to anything. Which of these is not said.
    pub fn not_valid() -> Refused {
        Refused::new(StatusCode::UNAUTHORIZED, "the token is unknown, expired or revoked")
            .hint("ask for a new one")
            .next("lifeboat token create")
    }

    /// 403: known, and without the role that this takes.
    pub fn forbidden(need: Need) -> Refused {
        Refused::new(StatusCode::FORBIDDEN, format!("this takes the role {}", need.words()))
            .hint("ask whoever gives out tokens, or the groups of the identity provider, for that role in this tenant")
    }

    /// The same, in a tenant that they may look at.
    pub fn in_tenant(self, tenant: &Tenant) -> Refused {
        Refused { tenant: Some(tenant.clone()), ..self }
    }

    /// 403: a browser was made to send this by another site's page, or by one of ours that is too old.
    pub fn foreign_form() -> Refused {
        Refused::new(StatusCode::FORBIDDEN, "this did not come from a page of this session")
            .hint("load the page again and send it once more; programs use a token instead of a cookie")
    }

    /// 404: not there, or not to be seen. Both are answered alike.
    pub fn not_found() -> Refused {
        Refused::new(StatusCode::NOT_FOUND, "there is no such thing, or you may not see it")
            .hint("check the spelling; names are shown by GET /api/v1/status")
    }

    /// 422: understood, and nothing that can be done.
    pub fn invalid(message: impl Into<String>) -> Refused {
        Refused::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// 409: not now.
    pub fn conflict(message: impl Into<String>) -> Refused {
        Refused::new(StatusCode::CONFLICT, message)
    }

    /// 429: too many.
    pub fn too_many(after: Duration) -> Refused {
        let seconds = after.as_secs().max(1);
        Refused {
            retry_after: Some(Duration::from_secs(seconds)),
            ..Refused::new(StatusCode::TOO_MANY_REQUESTS, "too many requests").hint(format!("try again in {seconds} s"))
        }
    }

    /// 503: something that this needs is not there at the moment.
    pub fn unavailable(message: impl Into<String>) -> Refused {
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, message)
            .hint("try again in a minute; `lifeboat status` says what is wrong")
    }

    /// The body.
    pub fn problem(&self) -> Problem {
        Problem {
            error: ProblemDetail { message: self.message.clone(), hint: self.hint.clone(), next: self.next.clone() },
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.problem())).into_response();
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"lifeboat\""));
        }
        response.extensions_mut().insert(self); // whoever draws pages draws this one instead
        response
    }
}
