//! `http`: one request, and what must be answered.
//!
//! GET and HEAD change nothing and are repeated at will; so, by HTTP, may PUT and DELETE be. Another method that was cut off is asked
//! about, unless `done_when` names a URL that answers once it is done. Practice asks the sandbox's Odoo where the URL is that of the
//! instance; other hosts cannot be reached from a sandbox, and the step is listed as not practised.

use lifeboat_model::config::reading::{Result, Table, Value};

use super::{Act, Again, Effect, Practice, Show};
use crate::{
    template::Template,
    values::{Secret, named, one_of, secret},
};

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Where to.
    pub url: Template,
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
    /// What must stand in the answer.
    pub contains: Option<Template>,
    /// What it does.
    pub effect: Effect,
    /// A URL that answers 200 once it is done.
    pub done_when: Option<Template>,
}

/// Methods, and whether they may be repeated.
const METHODS: [(&str, &str); 6] =
    [("GET", "GET"), ("HEAD", "HEAD"), ("PUT", "PUT"), ("DELETE", "DELETE"), ("POST", "POST"), ("PATCH", "PATCH")];

/// Headers whose value is a secret.
const SECRET_HEADERS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-api-key"];

impl Http {
    pub(crate) fn read(table: &Table<'_>) -> Result<Http> {
        let url = table.required("url", "add url = \"https://…\"", url);
        let method = table.optional("method", |value| one_of(value, &METHODS));
        let headers = table.optional("headers", headers);
        let bearer = secret(table, "bearer");
        let body = table.optional("body", Template::of);
        let status = table.optional("status", status);
        let contains = table.optional("contains", Template::of);
        let effect = table.optional("effect", Effect::read);
        let done_when = table.optional("done_when", self::url);
        let method = method?.unwrap_or("GET");
        let by_method = match method {
            "GET" | "HEAD" => Effect::Nothing,
            "DELETE" => Effect::Destroys,
            _ => Effect::Changes,
        };
        Ok(Http {
            url: url?,
            method,
            headers: headers?.unwrap_or_default(),
            bearer: bearer?,
            body: body?,
            status: status?.unwrap_or_else(|| vec![200]),
            contains: contains?,
            effect: effect?.unwrap_or(by_method),
            done_when: done_when?,
        })
    }
}

/// A URL of the web, or one that begins with a value.
pub(crate) fn url(value: &Value<'_>) -> Result<Template> {
    let template = Template::of(value)?;
    let text = value.text()?;
    match ["http://", "https://", "{{"].iter().any(|begin| text.starts_with(begin)) {
        true => Ok(template),
        false => Err(value.place.problem("not a URL of the web", "begin it with https:// or http://")),
    }
}

/// One status or a list of them.
pub(crate) fn status(value: &Value<'_>) -> Result<Vec<u16>> {
    let one = |value: &Value<'_>| value.whole(100, 599).map(|status| u16::try_from(status).unwrap_or(0));
    match value.is_list() {
        true => value.filled_list_of("name at least one status", one),
        false => Ok(vec![one(value)?]),
    }
}

/// Headers without secrets.
pub(crate) fn headers(value: &Value<'_>) -> Result<Vec<(String, Template)>> {
    for (name, value) in value.table()?.named() {
        if SECRET_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            let hint = "use bearer_file or bearer_env; people read this file";
            return Err(value.place.problem("a secret must not stand in a runbook", hint));
        }
    }
    named(value)
}

impl Act for Http {
    fn outputs(&self) -> &'static [&'static str] {
        &["status", "body"]
    }

    fn words(&self, show: Show<'_>) -> String {
        format!("{} {}", self.method, show(&self.url))
    }

    fn effect(&self) -> Effect {
        self.effect
    }

    fn again(&self) -> Again {
        match (self.effect, self.method, &self.done_when) {
            (Effect::Nothing, ..) | (_, "PUT" | "DELETE", _) => Again::Harmless,
            (_, _, Some(_)) => Again::Probe,
            (_, _, None) => Again::Ask,
        }
    }

    fn practice(&self) -> Practice {
        match self.effect {
            Effect::Nothing => Practice::Instead("the sandbox's Odoo, where the URL is the instance's"),
            _ => Practice::Not("it would reach a system outside of the sandbox"),
        }
    }

    fn touches(&self, show: Show<'_>) -> Vec<String> {
        if self.effect == Effect::Nothing { Vec::new() } else { vec![show(&self.url)] }
    }

    fn limit(&self) -> Option<lifeboat_model::time::Span> {
        Some(super::minutes(1))
    }
}
