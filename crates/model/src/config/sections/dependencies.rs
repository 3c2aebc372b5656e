//! `[instances.<name>.dependencies.<dependency>]`: what an instance cannot work without.

use std::collections::BTreeMap;

use crate::{
    config::{
        checked::{Dependency, DependencyKind},
        nearest::nearest,
        source::{Result, Value},
        value::is_url_with_login,
    },
    id::DependencyName,
};

pub(super) fn read(value: &Value<'_>) -> Result<BTreeMap<DependencyName, Dependency>> {
    super::whole::named(value, dependency)
}

fn dependency(value: &Value<'_>) -> Result<Dependency> {
    let table = value.table()?;
    let hint = format!("say what it is: {}", words().join(", "));
    let kind = table.required("kind", &hint, kind);
    let address = table.required("address", "say where it is: a host and port, or a URL", |value| {
        let text = value.filled()?;
        match is_url_with_login(text) {
            true => Err(value.place.problem("holds a user name or password", "write the address without it")),
            false => Ok(text.to_owned()),
        }
    });
    let note = table.optional("note", |value| value.filled().map(str::to_owned));
    table.finish();
    Ok(Dependency { kind: kind?, address: address?, note: note? })
}

fn words() -> Vec<&'static str> {
    DependencyKind::ALL.iter().map(|kind| kind.word()).collect()
}

fn kind(value: &Value<'_>) -> Result<DependencyKind> {
    let text = value.filled()?;
    DependencyKind::ALL.into_iter().find(|kind| kind.word() == text).ok_or_else(|| {
        let hint = match nearest(text, words().into_iter()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("use one of: {}", words().join(", ")),
        };
        value.place.problem("not a kind of dependency", hint)
    })
}
