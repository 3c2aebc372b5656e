//! The form of a Slack incoming webhook, which Mattermost, Rocket.Chat and others take as well.

use lifeboat_model::config::SecretSource;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{Failure, Means};
use crate::{
    notify::{Message, What, render},
    settings::Severity,
};

/// Slack shows no more parts, and no longer texts.
const PARTS: usize = 20;
const LONGEST: usize = 2500;

pub(super) async fn send(url: &SecretSource, message: &Message, means: &Means) -> Result<(), Failure> {
    let url = means.address(url)?;
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    means.http.post(url, headers, body(message, means).to_string().into_bytes()).await
}

fn body(message: &Message, means: &Means) -> Value {
    let mut parts: Vec<_> = message
        .notices
        .iter()
        .take(PARTS)
        .map(|notice| {
            // A message of this one alone: the same words as in mail.
            let one =
                Message { notices: vec![notice.clone()], more: Default::default(), held_back: 0, ..message.clone() };
            let colour = match (notice.what, notice.condition.severity) {
                (What::Resolved, _) => "good",
                (_, Severity::Critical) => "danger",
                (_, Severity::Warning) => "warning",
                (_, Severity::Info) => "#44617b",
            };
            let text = render::text(&one, means.public_url.as_ref());
            json!({ "color": colour, "fallback": render::subject(&one), "text": escape(&cut(&text)) })
        })
        .collect();
    let others = message.notices.len().saturating_sub(PARTS) as u64 + message.more.values().sum::<u64>();
    if others + message.held_back > 0 {
        let text = format!("and {others} more; {} notices were held back before", message.held_back);
        parts.push(json!({ "text": text }));
    }
    json!({ "text": escape(&render::subject(message)), "attachments": parts })
}

/// What Slack would take for its own marks.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
