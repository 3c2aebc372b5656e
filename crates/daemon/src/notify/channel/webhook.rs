//! Our own JSON, signed. docs/daemon.md describes it for whoever receives it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use lifeboat_model::config::SecretSource;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Failure, Means};
use crate::notify::{Message, render};

pub(super) async fn send(
    url: &SecretSource,
    secret: Option<&SecretSource>,
    message: &Message,
    now: Timestamp,
    means: &Means,
) -> Result<(), Failure> {
    let url = means.address(url)?;
    let body = body(message, means).to_string();
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: &str| {
        let value = HeaderValue::from_str(value).map_err(|_| Failure::Unusable(format!("{name} is no header")))?;
        headers.insert(name, value);
        Ok(())
    };
    put("content-type", "application/json")?;
    put("lifeboat-id", &message.id)?;
    if let Some(secret) = secret {
        let timestamp = now.as_second().to_string();
        put("lifeboat-timestamp", &timestamp)?;
        put("lifeboat-signature", &sign(means.secret(secret)?.expose(), &timestamp, &body))?;
    }
    means.http.post(url, headers, body.into_bytes()).await
}

/// `v1=` and HMAC-SHA-256 over timestamp, a full stop and the body.
fn sign(secret: &str, timestamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    format!("v1={}", hex::encode(mac.finalize().into_bytes()))
}

fn body(message: &Message, means: &Means) -> Value {
    let public_url = means.public_url.as_ref();
    let notices: Vec<_> = message
        .notices
        .iter()
        .map(|notice| {
            let condition = &notice.condition;
            json!({
                "what": notice.what,
                "key": condition.key,
                "kind": condition.kind,
                "tenant": condition.tenant,
                "instance": condition.instance,
                "tier": condition.tier,
                "owner": condition.owner,
                "severity": condition.severity,
                "title": condition.title,
                "text": condition.text,
                "next": condition.next,
                "since": condition.since,
                "deadline": condition.deadline,
                "thread": notice.thread.as_ref().unwrap_or(&message.id),
                "link": render::link(condition, public_url),
            })
        })
        .collect();
    json!({
        "version": 1,
        "id": message.id,
        "at": message.at,
        "test": message.is_test,
        "subject": render::subject(message),
        "notices": notices,
        "more": message.more,
        "held_back": message.held_back,
        "given_up": message.given_up,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn signatures_are_those_of_other_programs() {
        // printf '1795400000.{"a":1}' | openssl dgst -sha256 -hmac topsecret
        let expected = "v1=5124d1be92c73297378a12450785d11c9d070f45c9b860e0e974710d3d3602f0";
        assert_eq!(super::sign("topsecret", "1795400000", "{\"a\":1}"), expected);
    }
}
