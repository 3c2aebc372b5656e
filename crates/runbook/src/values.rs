//! Values that many blocks have: words out of a few, templates, and where secrets lie.

use std::{fmt::Display, str::FromStr};

use lifeboat_model::config::reading::{Reported, Result, Table, Value, is_private_key, is_url_with_login, nearest};

use crate::template::Template;

/// Where a secret lies; never the secret. The path may be a parameter's.
#[derive(Debug, Clone, PartialEq)]
pub enum Secret {
    /// The content of a file, mode 0600.
    File(Template),
    /// An environment variable.
    Env(String),
}

/// `<name>_file` or `<name>_env`; the secret itself is refused.
pub(crate) fn secret(table: &Table<'_>, name: &str) -> Result<Option<Secret>> {
    let (file_key, env_key) = (format!("{name}_file"), format!("{name}_env"));
    let hint = format!("name the file that holds it in {file_key}, or a variable in {env_key}; people read this file");
    let inline = table.no_inline(name, &hint);
    let file = table.optional(&file_key, Template::of);
    let env = table.optional(&env_key, variable);
    inline?;
    match (file?, env?) {
        (Some(_), Some(_)) => Err(twice(table, &env_key, &file_key)),
        (file, env) => Ok(file.map(Secret::File).or(env.map(Secret::Env))),
    }
}

/// The name of an environment variable.
pub(crate) fn variable(value: &Value<'_>) -> Result<String> {
    let text = value.filled()?;
    let is_first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if is_first && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(text.to_owned());
    }
    Err(value.place.problem("not the name of an environment variable", "use letters, digits and _"))
}

/// Two keys of which only one can be meant.
pub(crate) fn twice(table: &Table<'_>, name: &str, other: &str) -> Reported {
    let place = table.get_hidden(name).map_or_else(|| table.place.clone(), |value| value.place);
    place.problem(format!("{other} is set as well"), "keep one of the two")
}

/// One of some words.
pub(crate) fn one_of<T: Clone>(value: &Value<'_>, known: &[(&str, T)]) -> Result<T> {
    let text = value.filled()?;
    let found = known.iter().find(|(word, _)| *word == text).map(|(_, meaning)| meaning.clone());
    found.ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        value.place.problem("not a word that is known here", suggest(text, &words))
    })
}

/// The word that was probably meant, or all of them.
pub(crate) fn suggest(text: &str, known: &[&str]) -> String {
    match nearest(text, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if known.is_empty() => "there is none".to_owned(),
        None => format!("use one of: {}", known.join(", ")),
    }
}

/// A name: small letters, digits and hyphens.
pub(crate) fn name(value: &Value<'_>) -> Result<String> {
    value.parse::<lifeboat_model::id::DependencyName>().map(String::from)
}

/// A list of templates, at least one.
pub(crate) fn templates(value: &Value<'_>) -> Result<Vec<Template>> {
    let all: Vec<Result<Template>> = value.list()?.iter().map(Template::of).collect();
    let all = all.into_iter().collect::<Result<Vec<_>>>()?;
    match all.is_empty() {
        true => Err(value.place.problem("the list is empty", "name at least one, or remove the line")),
        false => Ok(all),
    }
}

/// A template that, where it asks for nothing, must be readable as this.
pub(crate) fn template_of<T: FromStr>(value: &Value<'_>) -> Result<Template>
where
    T::Err: Display,
{
    let template = Template::of(value)?;
    match template.as_literal() {
        Some(_) => value.parse::<T>().map(|_| template),
        None => Ok(template),
    }
}

/// Program and arguments; no shell in between.
pub(crate) fn arguments(value: &Value<'_>) -> Result<Vec<Template>> {
    if value.is_text() {
        let hint = "write program and arguments apart: [\"systemctl\", \"stop\", \"odoo\"]";
        return Err(value.wrong_type("a list", hint));
    }
    templates(value)
}

/// Named texts, as the variables of a command.
pub(crate) fn named(value: &Value<'_>) -> Result<Vec<(String, Template)>> {
    let read = |(name, value): (&str, Value<'_>)| Template::of(&value).map(|template| (name.to_owned(), template));
    let all: Vec<Result<_>> = value.table()?.named().into_iter().map(read).collect();
    all.into_iter().collect()
}

/// A key or a login in the file is a leak, whatever key it stands under.
pub(crate) fn refuse_secrets(table: &Table<'_>) {
    table.texts(&mut |value, text| {
        if is_private_key(text) {
            let hint = "remove it, and replace the key: whoever has seen this file has it";
            value.place.problem("holds a private key", hint);
        } else if is_url_with_login(text) {
            let hint = "write the URL without them, and name a file that holds the secret";
            value.place.problem("holds a URL with a user name or password", hint);
        }
    });
}
