//! A TOML text with positions, read key by key.
//!
//! Every reading function either gives a value or has reported a [`Problem`] and gives [`Reported`], which cannot be made
//! any other way. So a reader looks at all keys of a table before its first `?`, and nothing is missed or dropped silently.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    files::{FileCheck, FileKind},
    nearest::nearest,
    problem::{Problem, Warning},
};

/// Proof that a problem was reported.
#[derive(Debug)]
pub(super) struct Reported(());

pub(super) type Result<T> = std::result::Result<T, Reported>;

/// The text, its file, and what was found wrong so far.
pub(super) struct Source<'t> {
    text: &'t str,
    file: &'t Path,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Warning>>,
    files: RefCell<Vec<FileCheck>>,
}

impl<'t> Source<'t> {
    pub(super) fn new(text: &'t str, file: &'t Path) -> Self {
        let (problems, warnings, files) = Default::default();
        Self { text, file, problems, warnings, files }
    }

    /// The line, from 1, of a byte position.
    pub(super) fn line(&self, position: usize) -> usize {
        let before = &self.text.as_bytes()[..position.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    pub(super) fn problem(&self, line: Option<usize>, key: &str, message: &str, hint: &str) -> Reported {
        self.problems.borrow_mut().push(self.finding(line, key, message, hint));
        Reported(())
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    pub(super) fn files(&self) -> Vec<FileCheck> {
        self.files.borrow().clone()
    }

    fn finding(&self, line: Option<usize>, key: &str, message: &str, hint: &str) -> Problem {
        Problem { file: self.file.to_owned(), line, key: key.into(), message: message.into(), hint: hint.into() }
    }

    /// Everything found, each list in the order of the file.
    pub(super) fn into_findings(self) -> (Vec<Problem>, Vec<Warning>, Vec<FileCheck>) {
        let sorted = |mut findings: Vec<Problem>| {
            findings.sort_by_key(|finding| finding.line);
            findings.dedup();
            findings
        };
        let mut files = self.files.into_inner();
        files.sort_by_key(|file| file.line);
        (sorted(self.problems.into_inner()), sorted(self.warnings.into_inner()), files)
    }
}

/// A position in the file: a dotted key and its line.
#[derive(Clone)]
pub(super) struct Place<'s> {
    pub(super) source: &'s Source<'s>,
    pub(super) key: String,
    pub(super) line: Option<usize>,
}

impl<'s> Place<'s> {
    pub(super) fn problem(&self, message: impl AsRef<str>, hint: impl AsRef<str>) -> Reported {
        self.source.problem(self.line, &self.key, message.as_ref(), hint.as_ref())
    }

    pub(super) fn warn(&self, message: impl AsRef<str>, hint: impl AsRef<str>) {
        let warning = self.source.finding(self.line, &self.key, message.as_ref(), hint.as_ref());
        self.source.warnings.borrow_mut().push(warning);
    }

    /// Remembers a path that the caller of [`super::parse`] should look at.
    pub(super) fn file(&self, path: &Path, kind: FileKind) {
        let file = self.source.file.to_owned();
        let check = FileCheck { file, line: self.line, key: self.key.clone(), path: path.to_owned(), kind };
        self.source.files.borrow_mut().push(check);
    }

    /// The place that a remembered path was named at.
    pub(super) fn at(&self, check: &FileCheck) -> Place<'s> {
        Place { source: self.source, key: check.key.clone(), line: check.line }
    }

    fn below(&self, name: &str, line: Option<usize>) -> Place<'s> {
        let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let name = if bare { name.to_owned() } else { format!("{name:?}") };
        let key = if self.key.is_empty() { name } else { format!("{}.{name}", self.key) };
        Place { source: self.source, key, line }
    }
}

/// One value and where it stands.
#[derive(Clone)]
pub(super) struct Value<'s> {
    pub(super) place: Place<'s>,
    value: &'s DeValue<'s>,
}

impl<'s> Value<'s> {
    /// The type as people call it.
    fn kind(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }

    pub(super) fn is_text(&self) -> bool {
        self.value.is_str()
    }

    pub(super) fn is_list(&self) -> bool {
        self.value.is_array()
    }

    /// Says which type was expected and which was found, never the value.
    pub(super) fn wrong_type(&self, expected: &str, hint: &str) -> Reported {
        self.place.problem(format!("expected {expected}, found {}", self.kind()), hint)
    }

    pub(super) fn text(&self) -> Result<&'s str> {
        let hint = match self.value {
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => "put it in double quotes",
            DeValue::Array(_) => "write one text in double quotes, without the brackets",
            _ => "",
        };
        self.value.as_str().ok_or_else(|| self.wrong_type("a text", hint))
    }

    pub(super) fn flag(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.wrong_type("true or false", "write it without quotes"))
    }

    pub(super) fn whole(&self, least: i64, most: i64) -> Result<i64> {
        let DeValue::Integer(number) = self.value else {
            let hint = if self.value.is_str() { "write it without quotes" } else { "" };
            return Err(self.wrong_type("a whole number", hint));
        };
        i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.place.problem("the number is out of range", format!("use {least} to {most}")))
    }

    pub(super) fn list(&self) -> Result<Vec<Value<'s>>> {
        let hint = if self.value.is_str() { "put it in brackets: [\"…\"]" } else { "" };
        let items = self.value.as_array().ok_or_else(|| self.wrong_type("a list", hint))?;
        let item = |(index, item): (usize, &'s toml::Spanned<DeValue<'s>>)| {
            let key = format!("{}[{index}]", self.place.key);
            let line = Some(self.place.source.line(item.span().start));
            Value { place: Place { source: self.place.source, key, line }, value: item.get_ref() }
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub(super) fn table(&self) -> Result<Table<'s>> {
        let hint = format!("write a [{}] section", self.place.key);
        let entries = self.value.as_table().ok_or_else(|| self.wrong_type("a table", &hint))?;
        Ok(Table::new(self.place.clone(), entries))
    }

    /// Calls `visit` with every text at or below this value.
    pub(super) fn texts(&self, visit: &mut dyn FnMut(&Place<'s>, &'s str)) {
        match self.value {
            DeValue::String(text) => visit(&self.place, text),
            DeValue::Array(_) => self.list().into_iter().flatten().for_each(|item| item.texts(visit)),
            DeValue::Table(entries) => Table::new(self.place.clone(), entries).texts(visit),
            _ => {}
        }
    }
}

/// A table whose keys are asked for by name; [`Table::finish`] reports those that nobody asked for.
pub(super) struct Table<'s> {
    pub(super) place: Place<'s>,
    entries: &'s DeTable<'s>,
    asked: RefCell<BTreeSet<String>>,
    refused: RefCell<BTreeSet<String>>,
}

impl<'s> Table<'s> {
    pub(super) fn new(place: Place<'s>, entries: &'s DeTable<'s>) -> Self {
        Self { place, entries, asked: RefCell::default(), refused: RefCell::default() }
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<Value<'s>> {
        self.asked.borrow_mut().insert(name.to_owned());
        let (key, value) = self.entries.get_key_value(name)?;
        Some(self.value(key, value))
    }

    /// Like [`Table::get`], for keys that are known only to be refused: hints do not offer them.
    pub(super) fn get_hidden(&self, name: &str) -> Option<Value<'s>> {
        let (key, value) = self.entries.get_key_value(name)?;
        self.refused.borrow_mut().insert(name.to_owned());
        Some(self.value(key, value))
    }

    /// What stands where a key is not: for problems that name the key.
    pub(super) fn missing(&self, name: &str, hint: &str) -> Reported {
        self.place.below(name, self.place.line).problem("missing", hint)
    }

    pub(super) fn required<T>(&self, name: &str, hint: &str, read: impl FnOnce(&Value<'s>) -> Result<T>) -> Result<T> {
        match self.get(name) {
            Some(value) => read(&value),
            None => Err(self.missing(name, hint)),
        }
    }

    pub(super) fn optional<T>(&self, name: &str, read: impl FnOnce(&Value<'s>) -> Result<T>) -> Result<Option<T>> {
        self.get(name).map(|value| read(&value)).transpose()
    }

    /// All keys and values, for tables whose keys are names.
    pub(super) fn named(&self) -> Vec<(&'s str, Value<'s>)> {
        self.entries
            .iter()
            .map(|(key, value)| {
                let name: &'s str = key.get_ref();
                self.asked.borrow_mut().insert(name.to_owned());
                (name, self.value(key, value))
            })
            .collect()
    }

    /// Reports keys that have no meaning here, with the one that was probably meant.
    pub(super) fn finish(&self) {
        let asked = self.asked.borrow();
        let known: Vec<&str> = asked.iter().map(String::as_str).collect();
        for (key, value) in self.entries {
            let name: &str = key.get_ref();
            if !asked.contains(name) && !self.refused.borrow().contains(name) {
                let hint = match nearest(key.get_ref(), known.iter().copied()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                self.value(key, value).place.problem("unknown key", hint);
            }
        }
    }

    pub(super) fn texts(&self, visit: &mut dyn FnMut(&Place<'s>, &'s str)) {
        for (key, value) in self.entries {
            self.value(key, value).texts(visit);
        }
    }

    fn value(&self, key: &toml::Spanned<toml::de::DeString<'s>>, value: &'s toml::Spanned<DeValue<'s>>) -> Value<'s> {
        let line = Some(self.place.source.line(key.span().start));
        Value { place: self.place.below(key.get_ref(), line), value: value.get_ref() }
    }
}
