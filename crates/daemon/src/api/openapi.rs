//! The OpenAPI document: made of the very functions that answer. docs/openapi.json is a copy of it, held against it by a test.

use std::sync::Arc;

use axum::{Router, http::header, routing::get};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::router::OpenApiRouter;

use super::{Api, events, look, runbooks, runs};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Lifeboat",
        description = "What a Lifeboat daemon knows of its instances, and asking it for runs. docs/api.md has examples.",
        license(name = "Apache-2.0 OR MIT"),
    ),
    security(("token" = [])),
    components(schemas(crate::view::EventView, crate::auth::ProblemDetail)),
    modifiers(&Token),
    tags(
        (name = "look", description = "How things are: every role."),
        (name = "runs", description = "What goes on: every role looks, operators act."),
        (name = "evidence", description = "Statements: operators, approvers, auditors. Activity: auditors."),
    ),
)]
struct Description;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some(
            "A token of `lifeboat token create`, or an access token of the identity provider. In a browser the cookie of the \
             dashboard's session counts as well; what changes something then needs its `csrf` in the header `x-csrf`."
                .to_owned(),
        );
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// All functions, with what describes them.
pub(super) fn described() -> OpenApiRouter<Arc<Api>> {
    let functions = OpenApiRouter::new()
        .merge(look::router())
        .merge(runbooks::router())
        .merge(runs::router())
        .merge(events::router());
    OpenApiRouter::with_openapi(Description::openapi()).nest("/api/v1", functions)
}

/// The document.
pub fn document() -> String {
    let (_, mut document) = described().split_for_parts();
    // What is one parameter with slashes in it for the server is a plain one in the document.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    let mut text = serde_json::to_string_pretty(&document).expect("a document of plain data has a JSON form");
    text.push('\n');
    text
}

pub(super) fn router() -> Router {
    let text: axum::body::Bytes = document().into();
    Router::new().route("/api/v1/openapi.json", get(async move || ([(header::CONTENT_TYPE, "application/json")], text)))
}
