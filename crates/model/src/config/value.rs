//! Values with a meaning: names, spans, sizes, paths, and where a secret lies.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    str::FromStr,
};

use url::{Host, Url};

use super::{
    checked::SecretSource,
    files::FileKind,
    source::{Place, Result, Table, Value},
};
use crate::{
    retention::{UnknownZone, Zone},
    size::{ByteRate, ByteSize},
    time::Span,
};

/// What private keys begin with. A text with one of these in it is never repeated.
const SECRET_MARKS: [&str; 3] = ["AGE-SECRET-KEY-", "LIFEBOAT-ED25519-SECRET:", "PRIVATE KEY-----"];

/// Whether a text is plainly a private key, wherever it stands.
pub fn is_private_key(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    SECRET_MARKS.iter().any(|mark| upper.contains(mark))
}

/// A URL with a user name or password in it (`postgres://user:password@host`).
pub fn is_url_with_login(text: &str) -> bool {
    let after_scheme = text.split_once("://").map(|(_, rest)| rest);
    after_scheme.is_some_and(|rest| rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@')))
}

/// Whether a URL names this very host: what goes there in plain text is read by nobody else.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl<'s> Value<'s> {
    /// A text with something in it and no control characters.
    pub fn filled(&self) -> Result<&'s str> {
        let text = self.text()?;
        if text.trim().is_empty() {
            return Err(self.place.problem("is empty", ""));
        }
        if text.contains(char::is_control) {
            return Err(self.place.problem("holds a control character", "remove it"));
        }
        Ok(text)
    }

    /// A text that a type of ours reads; its error says what was expected.
    pub fn parse<T>(&self) -> Result<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text = self.filled()?;
        text.parse().map_err(|error: T::Err| {
            let repeatable = text.len() <= 80 && !is_private_key(text) && !is_url_with_login(text);
            let message = if repeatable { error.to_string() } else { "not a valid value".to_owned() };
            self.place.problem(message, "")
        })
    }

    /// A span of at least `least` and at most `most`.
    pub fn span(&self, least: &str, most: &str) -> Result<Span> {
        self.between(least, most, "\"15m\"", "a time span")
    }

    /// A size of at least `least` and at most `most`.
    pub fn size(&self, least: &str, most: &str) -> Result<ByteSize> {
        self.between(least, most, "\"64 MiB\"", "a size")
    }

    /// A rate of at least `least` and at most `most`.
    pub fn rate(&self, least: &str, most: &str) -> Result<ByteRate> {
        self.between(least, most, "\"50 MiB/s\"", "a rate")
    }

    fn between<T>(&self, least: &str, most: &str, example: &str, what: &str) -> Result<T>
    where
        T: FromStr + PartialOrd,
        T::Err: Display,
    {
        if !self.is_text() {
            return Err(self.wrong_type(&format!("{what} in quotes"), &format!("for example {example}")));
        }
        let value: T = self.parse()?;
        let bound = |text: &str| text.parse::<T>().ok();
        let low = bound(least).is_some_and(|least| value < least);
        let high = bound(most).is_some_and(|most| value > most);
        if low || high {
            return Err(self.place.problem("is out of range", format!("use \"{least}\" to \"{most}\"")));
        }
        Ok(value)
    }

    /// A path, resolved against the folder of the configuration, for the caller to look at.
    pub fn path(&self, kind: FileKind) -> Result<PathBuf> {
        let text = self.filled()?;
        if is_private_key(text) {
            return Err(self.place.problem("expected the path of a file, found a private key", ""));
        }
        let path = self.place.source.resolve(text);
        self.place.file(&path, kind);
        Ok(path)
    }

    /// An absolute path without `.` and `..`, as a restore must be able to name it.
    pub fn absolute(&self, kind: FileKind) -> Result<PathBuf> {
        let text = self.filled()?;
        let path = Path::new(text);
        let plain = text.split('/').skip(1).all(|part| part != "." && part != "..");
        if !path.is_absolute() || !plain {
            let hint = "write the whole path from / on, without . and ..";
            return Err(self.place.problem("is not an absolute path", hint));
        }
        self.path(kind)?;
        Ok(path.components().collect())
    }

    /// A list with at least one entry, each read by `read`, no two the same.
    pub fn list_of<T: PartialEq>(&self, read: impl Fn(&Value<'s>) -> Result<T>) -> Result<Vec<T>> {
        let items: Vec<(Place<'s>, Result<T>)> =
            self.list()?.iter().map(|item| (item.place.clone(), read(item))).collect();
        let mut seen: Vec<T> = Vec::new();
        let mut failed = None;
        for (place, item) in items {
            match item {
                Ok(item) if seen.contains(&item) => {
                    failed = Some(place.problem("stands in the list twice", "remove one"))
                }
                Ok(item) => seen.push(item),
                Err(reported) => failed = Some(reported),
            }
        }
        failed.map_or(Ok(seen), Err)
    }

    /// Like [`Value::list_of`], and an empty list is a problem.
    pub fn filled_list_of<T: PartialEq>(&self, hint: &str, read: impl Fn(&Value<'s>) -> Result<T>) -> Result<Vec<T>> {
        match self.list_of(read)? {
            list if list.is_empty() => Err(self.place.problem("the list is empty", hint)),
            list => Ok(list),
        }
    }
}

impl<'s> Table<'s> {
    /// `<name>_file` or `<name>_env`; an inline `<name>` is refused and never repeated.
    pub fn secret(&self, name: &str) -> Result<Option<SecretSource>> {
        let (file_key, env_key) = (format!("{name}_file"), format!("{name}_env"));
        let file = self.optional(&file_key, |value| Ok(SecretSource::File(value.path(FileKind::Secret)?)));
        let env = self.optional(&env_key, |value| Ok(SecretSource::Env(variable_name(value)?)));
        self.no_inline(name, &format!("write it to a file with mode 0600 and name that in {file_key} (or name a variable in {env_key}); change the secret if others have seen this file"))?;
        match (file?, env?) {
            (Some(_), Some(_)) => {
                let place = self.get(&env_key).map_or_else(|| self.place.clone(), |value| value.place);
                Err(place.problem(format!("{file_key} is set as well"), "keep one of the two"))
            }
            (file, env) => Ok(file.or(env)),
        }
    }

    /// Refuses a secret that stands in the file itself.
    pub fn no_inline(&self, name: &str, hint: &str) -> Result<()> {
        match self.get_hidden(name) {
            Some(value) => Err(value.place.problem("a secret must not stand in the configuration", hint)),
            None => Ok(()),
        }
    }
}

impl<'s> Value<'s> {
    /// The name of a time zone.
    pub fn zone(&self) -> Result<Zone> {
        self.filled()?.parse().map_err(|unknown: UnknownZone| {
            let hint = match &unknown.near {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "use an IANA name, for example \"Europe/Berlin\"".to_owned(),
            };
            self.place.problem("not a time zone", hint)
        })
    }
}

fn variable_name(value: &Value<'_>) -> Result<String> {
    let text = value.filled()?;
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if first && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(text.to_owned());
    }
    Err(value.place.problem(
        "not the name of an environment variable",
        "write the variable's name (letters, digits and _), not the secret",
    ))
}
