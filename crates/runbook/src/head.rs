//! The first block of a runbook: what it is, who it needs, and what must be said before it runs.

use lifeboat_model::{
    config::reading::{Result, Table, Value},
    id::Instance,
    time::Span,
};

use crate::{
    condition::MODE,
    error::{At, Placed},
    template::RUN,
    values::{name, one_of, suggest},
};

/// What a runbook says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Its name, unique in its folder: what other runbooks and evidence call it.
    pub id: Placed<String>,
    /// When to use it, one line.
    pub summary: String,
    /// The author's own count; evidence goes by the digest.
    pub version: Option<String>,
    /// Who takes part.
    pub roles: Vec<String>,
    /// How long it may take until people work again.
    pub rto: Option<Placed<Span>>,
    /// What it relies on, by name or kind of the dependency map.
    pub needs: Vec<Placed<String>>,
    /// What must be said before it runs, in the order of the file.
    pub parameters: Vec<Parameter>,
    /// Where the block begins.
    pub at: At,
}

/// A value that is given when a run begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What it may be.
    pub kind: Kind,
    /// What it is for, as it is asked.
    pub description: Option<String>,
    /// What it is unless said.
    pub default: Option<Placed<String>>,
    /// Whether it must be given; so it is where there is no default, unless said.
    pub required: bool,
    /// Where it stands.
    pub at: At,
}

/// What a parameter may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Text,
    /// An instance of the configuration.
    Instance,
    /// An absolute path.
    Path,
    /// A host name or address.
    Host,
    /// A moment with its zone, or `latest`.
    Moment,
    /// `15m`.
    Duration,
    /// One of these.
    Choice(Vec<String>),
    /// The path of a file that holds a secret. What is in it is never put into a text.
    SecretFile,
}

const KINDS: [(&str, Kind); 8] = [
    ("text", Kind::Text),
    ("instance", Kind::Instance),
    ("path", Kind::Path),
    ("host", Kind::Host),
    ("moment", Kind::Moment),
    ("duration", Kind::Duration),
    ("choice", Kind::Choice(Vec::new())),
    ("secret-file", Kind::SecretFile),
];

/// Names that mean something else where parameters are named.
const RESERVED: [&str; 5] = [MODE, RUN, "and", "or", "not"];

impl Kind {
    /// The word in a file.
    pub fn word(&self) -> &'static str {
        let same = |kind: &Kind| std::mem::discriminant(kind) == std::mem::discriminant(self);
        KINDS.iter().find(|(_, kind)| same(kind)).map_or("", |(word, _)| word)
    }

    /// Whether a text may be such a value; if not, what to do.
    pub fn takes(&self, text: &str) -> std::result::Result<(), String> {
        if text.contains(char::is_control) {
            return Err("holds a control character; remove it".to_owned());
        }
        match self {
            Kind::Text => Ok(()),
            Kind::Instance => text.parse::<Instance>().map(|_| ()).map_err(|error| error.to_string()),
            Kind::Path | Kind::SecretFile => match text.starts_with('/') {
                true => Ok(()),
                false => Err("is not an absolute path; write the whole path from / on".to_owned()),
            },
            Kind::Host => {
                let is_host = !text.is_empty()
                    && !text.starts_with('-')
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_'));
                is_host
                    .then_some(())
                    .ok_or_else(|| "is not a host name or address; write it without a scheme".to_owned())
            }
            Kind::Moment if text == "latest" => Ok(()),
            Kind::Moment => text.parse::<jiff::Timestamp>().map(|_| ()).map_err(|_| {
                "is not a moment; write \"latest\", or a time with its zone: 2026-11-21T14:03:10+01:00".to_owned()
            }),
            Kind::Duration => text.parse::<Span>().map(|_| ()).map_err(|error| error.to_string()),
            Kind::Choice(choices) if choices.iter().any(|choice| choice == text) => Ok(()),
            Kind::Choice(choices) => {
                let words: Vec<&str> = choices.iter().map(String::as_str).collect();
                Err(format!("is not one of the choices; {}", suggest(text, &words)))
            }
        }
    }
}

/// Whether a block is meant as the head, however wrong it is.
pub(crate) fn is_head(table: &Table<'_>) -> bool {
    table.get_hidden("runbook").is_some_and(|value| !value.is_text()) && table.get_hidden("action").is_none()
}

pub(crate) fn read(table: &Table<'_>, at: At) -> Result<Head> {
    let parameters = table.optional("parameters", |value| {
        let mut entries = value.table()?.named();
        entries.sort_by_key(|(_, value)| (value.place.line, value.place.column));
        // All are read before the first problem ends it.
        let read: Vec<Result<Parameter>> = entries.iter().map(|(name, value)| parameter(name, value)).collect();
        read.into_iter().collect::<Result<Vec<_>>>()
    });
    let hint = "write [runbook] with id and summary";
    let head = table.required("runbook", hint, |value| {
        let table = value.table()?;
        let placed = |value: &Value<'_>| name(value).map(|value_| Placed { value: value_, at: At::from(&value.place) });
        let id = table.required("id", "add id = \"…\": what other runbooks and evidence call it", placed);
        let summary =
            table.required("summary", "say when to use it, in one line", |value| value.filled().map(str::to_owned));
        let version = table.optional("version", |value| value.filled().map(str::to_owned));
        let roles = table.optional("roles", |value| value.list_of(name));
        let rto = table.optional("rto", |value| {
            value.span("1s", "366d").map(|span| Placed { value: span, at: At::from(&value.place) })
        });
        let needs = table.optional("needs", |value| value.list_of(placed));
        table.finish();
        Ok((id?, summary?, version?, roles?, rto?, needs?))
    });
    table.finish();
    let (parameters, (id, summary, version, roles, rto, needs)) = (parameters?, head?);
    let (parameters, roles, needs) =
        (parameters.unwrap_or_default(), roles.unwrap_or_default(), needs.unwrap_or_default());
    Ok(Head { id, summary, version, roles, rto, needs, parameters, at })
}

fn parameter(named: &str, value: &Value<'_>) -> Result<Parameter> {
    let table = value.table()?;
    let is_name = match named.parse::<Instance>() {
        Ok(_) if RESERVED.contains(&named) => {
            Err(value.place.problem("the name means something else", "choose another"))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(value.place.problem("not a valid name", "use 1 to 63 of a-z, 0-9 and '-'")),
    };
    let words: Vec<&str> = KINDS.iter().map(|(word, _)| *word).collect();
    let hint = format!("say what it may be: {}", words.join(", "));
    let kind = table.required("kind", &hint, |value| one_of(value, &KINDS));
    let kind = kind.and_then(|kind| choices(&table, kind));
    let description = table.optional("description", |value| value.filled().map(str::to_owned));
    let default = table.optional("default", |value| {
        let text = value.text()?;
        // Problems of values that may be secret are told without them.
        if let Ok(kind) = &kind
            && let Err(wrong) = kind.takes(text)
        {
            return Err(value.place.problem(wrong, ""));
        }
        Ok(Placed { value: text.to_owned(), at: At::from(&value.place) })
    });
    let required = table.optional("required", Value::flag);
    table.finish();
    is_name?;
    let (kind, description, default) = (kind?, description?, default?);
    let required = required?.unwrap_or(default.is_none());
    Ok(Parameter { name: named.to_owned(), kind, description, default, required, at: At::from(&value.place) })
}

fn choices(table: &Table<'_>, kind: Kind) -> Result<Kind> {
    let text = |value: &Value<'_>| value.filled().map(str::to_owned);
    match kind {
        Kind::Choice(_) => {
            let hint = "say what there is to choose from: choices = [\"…\", \"…\"]";
            table.required("choices", hint, |value| value.filled_list_of(hint, text)).map(Kind::Choice)
        }
        kind => match table.get_hidden("choices") {
            Some(value) => Err(value.place.problem("has a meaning with kind = \"choice\" only", "remove it")),
            None => Ok(kind),
        },
    }
}
