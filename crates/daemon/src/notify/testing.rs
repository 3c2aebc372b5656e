//! Conditions and channels for tests.

use lifeboat_model::config::SecretSource;

use super::Condition;
use crate::settings::{Channel, ChannelKind, Severity};

pub(super) fn condition(tenant: &str, instance: &str, kind: &str, severity: Severity) -> Condition {
    Condition {
        key: format!("{tenant}/{instance}/{kind}"),
        kind: kind.to_owned(),
        tenant: Some(tenant.to_owned()),
        instance: Some(instance.to_owned()),
        tier: Some("gold".to_owned()),
        owner: None,
        severity,
        title: format!("{kind} of {instance} is bad"),
        text: "because".to_owned(),
        next: None,
        since: None,
        deadline: None,
    }
}

pub(super) fn channel(name: &str, hourly: u32) -> Channel {
    let url = SecretSource::Env(format!("{}_URL", name.to_uppercase()));
    Channel { name: name.to_owned(), kind: ChannelKind::Webhook { url, secret: None }, hourly }
}
