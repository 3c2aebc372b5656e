//! PagerDuty's Events API v2: an incident is opened, added to and resolved under one key.

use lifeboat_model::config::SecretSource;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};
use url::Url;

use super::{Failure, Means};
use crate::{
    notify::{Message, render},
    settings::Severity,
};

/// PagerDuty takes no longer summary.
const SUMMARY: usize = 1000;

pub(super) async fn send(
    url: &Url,
    routing_key: &SecretSource,
    message: &Message,
    means: &Means,
) -> Result<(), Failure> {
    let key = means.secret(routing_key)?;
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    means.http.post(url.clone(), headers, body(key.expose(), message, means).to_string().into_bytes()).await
}

fn body(key: &str, message: &Message, means: &Means) -> Value {
    let action = if message.is_resolved() { "resolve" } else { "trigger" };
    let mut event = json!({ "routing_key": key, "event_action": action, "dedup_key": message.thread });
    if action == "resolve" {
        return event;
    }
    let first = message.notices.first().map(|notice| &notice.condition);
    let of = |part: fn(&crate::notify::Condition) -> Option<&String>| first.and_then(part).cloned();
    let severity = match message.severity() {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    };
    event["client"] = json!("Lifeboat");
    if let Some(link) = first.and_then(|condition| render::link(condition, means.public_url.as_ref())) {
        event["client_url"] = json!(link);
    }
    event["payload"] = json!({
        "summary": render::subject(message).chars().take(SUMMARY).collect::<String>(),
        "source": of(|condition| condition.instance.as_ref()).unwrap_or_else(|| "lifeboat".to_owned()),
        "severity": severity,
        "timestamp": message.at,
        "component": of(|condition| condition.instance.as_ref()),
        "group": of(|condition| condition.tenant.as_ref()),
        "class": first.map(|condition| &condition.kind),
        "custom_details": { "text": render::text(message, means.public_url.as_ref()) },
    });
    event
}
