//! `webhook`: tells another system to do something: a load balancer, a provider's API.
//!
//! Every call carries the header `Idempotency-Key`, made of run and step: a system that honours it does nothing twice, which
//! `repeatable = true` says. Without it a run that was cut off asks a person. Practice does not call it.

use lifeboat_model::config::reading::{Result, Table, Value};

use super::{
    Act, Again, Effect, Practice, Show,
    http::{headers, status, url},
    minutes,
};
use crate::{
    template::Template,
    values::{Secret, one_of, secret, twice},
};

/// A call.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// Where to.
    pub url: Place,
    /// How.
    pub method: &'static str,
    /// Headers that hold no secret.
    pub headers: Vec<(String, Template)>,
    /// Sent as `Authorization: Bearer …`.
    pub bearer: Option<Secret>,
    /// What is sent.
    pub body: Option<Template>,
    /// What may be answered.
    pub status: Vec<u16>,
    /// Whether twice is as once.
    pub repeatable: bool,
    /// What it does.
    pub effect: Effect,
}

/// A URL, which may be a secret by itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// This.
    Url(Template),
    /// The one that stands there.
    Secret(Secret),
}

impl Webhook {
    pub(crate) fn read(table: &Table<'_>) -> Result<Webhook> {
        let place = place(table);
        let methods = [("POST", "POST"), ("PUT", "PUT"), ("PATCH", "PATCH"), ("DELETE", "DELETE")];
        let method = table.optional("method", |value| one_of(value, &methods));
        let headers = table.optional("headers", headers);
        let bearer = secret(table, "bearer");
        let body = table.optional("body", Template::of);
        let status = table.optional("status", status);
        let repeatable = table.optional("repeatable", Value::flag);
        let effect = table.optional("effect", Effect::read);
        Ok(Webhook {
            url: place?,
            method: method?.unwrap_or("POST"),
            headers: headers?.unwrap_or_default(),
            bearer: bearer?,
            body: body?,
            status: status?.unwrap_or_else(|| vec![200, 201, 202, 204]),
            repeatable: repeatable?.unwrap_or(false),
            effect: effect?.unwrap_or(Effect::Changes),
        })
    }
}

/// `url`, or where one that is a secret lies.
fn place(table: &Table<'_>) -> Result<Place> {
    let plain = table.optional("url", |value| url(value).map(Place::Url));
    let file = table.optional("url_file", |value| Template::of(value).map(Secret::File));
    let env = table.optional("url_env", |value| crate::values::variable(value).map(Secret::Env));
    match (plain?, file?, env?) {
        (Some(_), Some(_), _) => Err(twice(table, "url_file", "url")),
        (Some(_), _, Some(_)) => Err(twice(table, "url_env", "url")),
        (_, Some(_), Some(_)) => Err(twice(table, "url_env", "url_file")),
        (Some(place), None, None) => Ok(place),
        (None, Some(secret), None) | (None, None, Some(secret)) => Ok(Place::Secret(secret)),
        (None, None, None) => Err(table.missing("url", "add url = \"https://…\", or url_file where it holds a token")),
    }
}

impl Act for Webhook {
    fn outputs(&self) -> &'static [&'static str] {
        &["status", "body"]
    }

    fn words(&self, show: Show<'_>) -> String {
        match &self.url {
            Place::Url(url) => format!("call {} {}", self.method, show(url)),
            Place::Secret(Secret::File(path)) => format!("call the URL in {}", show(path)),
            Place::Secret(Secret::Env(name)) => format!("call the URL in ${name}"),
        }
    }

    fn effect(&self) -> Effect {
        self.effect
    }

    fn again(&self) -> Again {
        if self.repeatable { Again::Harmless } else { Again::Ask }
    }

    fn practice(&self) -> Practice {
        Practice::Not("it would reach a system outside of the sandbox")
    }

    fn limit(&self) -> Option<lifeboat_model::time::Span> {
        Some(minutes(1))
    }
}
