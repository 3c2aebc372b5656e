//! A PostgreSQL server, as actions name it: an instance of the configuration, or an address.

use lifeboat_model::config::{
    TlsMode,
    reading::{Result, Table, Value},
};

use super::Show;
use crate::{
    template::Template,
    values::{Secret, secret, suggest, twice},
};

/// Which server, and who asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Server {
    /// The one that an instance is configured with, with its role.
    Instance(Template),
    /// Another.
    Address {
        /// Host name or address.
        host: Template,
        /// Port: [`port_of`] reads it.
        port: Template,
        /// The role.
        user: Template,
        /// Its password, unless the server asks for none.
        password: Option<Secret>,
        /// How the connection is protected: [`tls_of`] reads it.
        tls: Template,
    },
}

impl Server {
    pub(crate) fn read(table: &Table<'_>) -> Result<Server> {
        let instance = table.optional("instance", Template::of);
        let host = table.optional("host", Template::of);
        let port = table.optional("port", |value| match value.is_text() {
            true => known(value, port_of),
            false => value.whole(1, 65_535).map(|port| Template::literal(port.to_string())),
        });
        let user = table.optional("user", Template::of);
        let password = secret(table, "password");
        let tls = table.optional("tls", |value| known(value, tls_of));
        let (instance, host, port, user, password, tls) = (instance?, host?, port?, user?, password?, tls?);
        match (instance, host) {
            (Some(_), Some(_)) => Err(twice(table, "host", "instance")),
            (Some(instance), None) if user.is_none() && password.is_none() && port.is_none() => {
                Ok(Server::Instance(instance))
            }
            (Some(_), None) => {
                let key = ["user", "port", "password_file"].into_iter().find(|key| table.get_hidden(key).is_some());
                Err(twice(table, key.unwrap_or("password_env"), "instance"))
            }
            (None, None) => Err(table.missing("instance", "say which server: instance = \"…\", or host and user")),
            (None, Some(host)) => {
                let user = user.ok_or_else(|| table.missing("user", "say as whom: user = \"…\""))?;
                let port = port.unwrap_or_else(|| Template::literal("5432"));
                let tls = tls.unwrap_or_else(|| Template::literal(TlsMode::default().word()));
                Ok(Server::Address { host, port, user, password, tls })
            }
        }
    }

    pub(crate) fn instance(&self) -> Option<&Template> {
        match self {
            Server::Instance(instance) => Some(instance),
            Server::Address { .. } => None,
        }
    }

    pub(crate) fn words(&self, show: Show<'_>) -> String {
        match self {
            Server::Instance(instance) => format!("PostgreSQL of {}", show(instance)),
            Server::Address { host, port, .. } => format!("PostgreSQL at {}:{}", show(host), show(port)),
        }
    }
}

/// A text that is read when the step runs, and now already where it asks for nothing.
fn known<T>(value: &Value<'_>, read: fn(&str) -> std::result::Result<T, String>) -> Result<Template> {
    let template = Template::of(value)?;
    match template.as_literal().map(|text| read(&text)) {
        Some(Err(wrong)) => Err(value.place.problem(wrong, "")),
        _ => Ok(template),
    }
}

/// The port that a text is.
pub fn port_of(text: &str) -> std::result::Result<u16, String> {
    let port = text.parse::<u16>().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("\"{text}\" is not a port; write a number from 1 to 65535"))
}

/// The protection that a text is.
pub fn tls_of(text: &str) -> std::result::Result<TlsMode, String> {
    let words = TlsMode::ALL.map(TlsMode::word);
    let found = TlsMode::ALL.into_iter().find(|mode| mode.word() == text);
    found.ok_or_else(|| format!("not a word that is known here; {}", suggest(text, &words)))
}
