//! `dns`: points a name elsewhere (RFC 2136, with a TSIG key), or without `update` waits until somebody has.
//!
//! It ends in a state: after a crash the name is asked first. What was there before is kept in the journal. Practice
//! asks what the name answers now and updates nothing.

use lifeboat_model::{
    config::reading::{Result, Table},
    time::Span,
};

use super::{Act, Again, Effect, Practice, Show, minutes};
use crate::{
    template::Template,
    values::{Secret, one_of, secret, templates},
};

/// A name that must answer something.
#[derive(Debug, Clone, PartialEq)]
pub struct Dns {
    /// The name.
    pub name: Template,
    /// A, AAAA or CNAME.
    pub kind: &'static str,
    /// What it must answer.
    pub value: Template,
    /// Who is asked; empty: the resolver of this host.
    pub servers: Vec<Template>,
    /// Who is told; none: somebody else tells them.
    pub update: Option<Update>,
}

/// A dynamic update.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The primary server of the zone.
    pub server: Template,
    /// The TSIG key.
    pub key: Secret,
    /// How long others may keep the answer.
    pub ttl: Span,
}

impl Dns {
    pub(crate) fn read(table: &Table<'_>) -> Result<Dns> {
        let name = table.required("name", "add name = \"odoo.example.org\"", Template::of);
        let kinds = [("A", "A"), ("AAAA", "AAAA"), ("CNAME", "CNAME")];
        let kind = table.required("type", "add type = \"A\", \"AAAA\" or \"CNAME\"", |value| one_of(value, &kinds));
        let value = table.required("value", "say what the name must answer", Template::of);
        let servers = table.optional("servers", templates);
        let update = table.optional("update", |value| {
            let table = value.table()?;
            let server = table.required("server", "name the zone's primary server", Template::of);
            let key = match secret(&table, "key") {
                Ok(Some(key)) => Ok(key),
                Ok(None) => Err(table.missing("key_file", "name the file that holds the TSIG key")),
                Err(reported) => Err(reported),
            };
            let ttl = table.optional("ttl", |value| value.span("1s", "7d"));
            table.finish();
            Ok(Update { server: server?, key: key?, ttl: ttl?.unwrap_or(minutes(5)) })
        });
        Ok(Dns { name: name?, kind: kind?, value: value?, servers: servers?.unwrap_or_default(), update: update? })
    }
}

impl Act for Dns {
    fn outputs(&self) -> &'static [&'static str] {
        &["before"]
    }

    fn words(&self, show: Show<'_>) -> String {
        let (name, value) = (show(&self.name), show(&self.value));
        match &self.update {
            Some(update) => format!("point {name} {} to {value}, at {}", self.kind, show(&update.server)),
            None => format!("wait until {name} {} answers {value}", self.kind),
        }
    }

    fn effect(&self) -> Effect {
        if self.update.is_some() { Effect::Changes } else { Effect::Nothing }
    }

    fn again(&self) -> Again {
        Again::Look("what the name answers is asked first")
    }

    fn practice(&self) -> Practice {
        match &self.update {
            Some(_) => Practice::Instead("the present answer is asked for, nothing is updated"),
            None => Practice::Not("the name answers what production has"),
        }
    }

    fn touches(&self, show: Show<'_>) -> Vec<String> {
        self.update.iter().map(|_| format!("the name {}", show(&self.name))).collect()
    }

    fn limit(&self) -> Option<Span> {
        Some(minutes(30))
    }
}
