//! What is shown where something cannot be: what happened, and what to do.

use axum::http::StatusCode;
use maud::{Markup, html};

use super::{context::PageContext, layout, parts};
use crate::auth::Refused;

/// The page of a refusal.
pub fn page(refused: &Refused, context: &PageContext) -> Markup {
    let title = match refused.status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::UNAUTHORIZED => "Not signed in",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::TOO_MANY_REQUESTS => "Too many requests",
        StatusCode::CONFLICT => "Not now",
        status if status.is_server_error() => "Something is broken",
        _ => "That cannot be done",
    };
    let body = html! {
        div.failure {
            p.code { (refused.status.as_u16()) }
            h1 { (title) }
            p.lead { (super::words::capital(&refused.message)) "." }
            @if let Some(hint) = &refused.hint { p { (super::words::capital(hint)) "." } }
            @if refused.status.is_server_error() {
                p { "Backups go on without this page. What is wrong, on the host:" }
                p { (parts::command("lifeboat status")) }
            }
            @if let Some(next) = &refused.next { p { "Next: " (parts::command(next)) } }
            p { a href="/" { "Back to the overview" } }
        }
    };
    layout::page(context, title, body)
}
