//! A TOML text with positions, read key by key.
//!
//! Every reading function either gives a value or has reported a [`Problem`] and gives [`Reported`], which cannot be made
//! any other way. So a reader looks at all keys of a table before its first `?`, and nothing is missed or dropped silently.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    ops::Range,
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
pub struct Reported(());

/// A value, or the proof that what is wrong with it was reported.
pub type Result<T> = std::result::Result<T, Reported>;

/// A text's lines and file, and what was found wrong so far.
pub struct Source<'t> {
    text: &'t str,
    /// Where each line but the first begins: asked for at every value, and a file may have thousands.
    lines: Vec<usize>,
    file: &'t Path,
    /// The number of the text's first line in its file.
    first_line: usize,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Warning>>,
    files: RefCell<Vec<FileCheck>>,
}

impl<'t> Source<'t> {
    /// A text, and the file that it stands in: the whole of it, or what begins in this line.
    pub fn new(text: &'t str, file: &'t Path, first_line: usize) -> Self {
        let (problems, warnings, files) = Default::default();
        let lines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1).collect();
        Self { text, lines, file, first_line, problems, warnings, files }
    }

    /// The line and the character in it, both from 1, of a byte position.
    pub fn position(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|begins| *begins <= at);
        let begins = line.checked_sub(1).and_then(|before| self.lines.get(before)).copied().unwrap_or(0);
        let column = self.text.get(begins..at).map_or(0, |before| before.chars().count());
        (self.first_line + line, 1 + column)
    }

    /// A path, taken relative to the folder of the file.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Reports a problem.
    fn problem(&self, problem: Problem) -> Reported {
        self.problems.borrow_mut().push(problem);
        Reported(())
    }

    /// Whether anything was reported.
    pub fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// The paths that were remembered so far.
    pub fn files(&self) -> Vec<FileCheck> {
        self.files.borrow().clone()
    }

    /// Everything found, each list in the order of the file.
    pub fn into_findings(self) -> (Vec<Problem>, Vec<Warning>, Vec<FileCheck>) {
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
pub struct Place<'s> {
    /// The text.
    pub source: &'s Source<'s>,
    /// The dotted key; empty for the file as a whole.
    pub key: String,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The character in it, from 1.
    pub column: Option<usize>,
}

impl<'s> Place<'s> {
    /// The text as a whole.
    pub fn whole(source: &'s Source<'s>) -> Self {
        Place { source, key: String::new(), line: None, column: None }
    }

    /// This key, where a byte position of the text is.
    pub fn at_byte(&self, at: usize) -> Self {
        let (line, column) = self.source.position(at);
        Place { line: Some(line), column: Some(column), ..self.clone() }
    }

    /// Reports a problem here.
    pub fn problem(&self, message: impl AsRef<str>, hint: impl AsRef<str>) -> Reported {
        self.source.problem(self.finding(message.as_ref(), hint.as_ref()))
    }

    /// Reports a warning here.
    pub fn warn(&self, message: impl AsRef<str>, hint: impl AsRef<str>) {
        let warning = self.finding(message.as_ref(), hint.as_ref());
        self.source.warnings.borrow_mut().push(warning);
    }

    /// A problem here, for what is not known to be one yet.
    pub fn finding(&self, message: &str, hint: &str) -> Problem {
        let (file, key) = (self.source.file.to_owned(), self.key.clone());
        Problem { file, line: self.line, column: self.column, key, message: message.into(), hint: hint.into() }
    }

    /// Remembers a path that the caller of [`super::parse`] should look at.
    pub fn file(&self, path: &Path, kind: FileKind) {
        let file = self.source.file.to_owned();
        let check = FileCheck { file, line: self.line, key: self.key.clone(), path: path.to_owned(), kind };
        self.source.files.borrow_mut().push(check);
    }

    /// The same position without the text, for what is found out later.
    pub fn spot(&self) -> Spot {
        Spot { file: self.source.file.to_owned(), line: self.line, key: self.key.clone() }
    }

    /// The place that a remembered path was named at.
    pub fn at(&self, check: &FileCheck) -> Place<'s> {
        Place { source: self.source, key: check.key.clone(), line: check.line, column: None }
    }

    fn below(&self, name: &str) -> Place<'s> {
        let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let name = if bare { name.to_owned() } else { format!("{name:?}") };
        let key = if self.key.is_empty() { name } else { format!("{}.{name}", self.key) };
        Place { key, ..self.clone() }
    }
}

/// A position in a file that need not be open any more: for problems that only all files together show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The dotted key.
    pub key: String,
}

impl Spot {
    /// A problem here.
    pub fn problem(&self, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        let (message, hint) = (message.into(), hint.into());
        Problem { file: self.file.clone(), line: self.line, column: None, key: self.key.clone(), message, hint }
    }
}

/// One value and where it stands.
#[derive(Clone)]
pub struct Value<'s> {
    /// Where it stands.
    pub place: Place<'s>,
    value: &'s DeValue<'s>,
    span: Range<usize>,
}

impl<'s> Value<'s> {
    /// The place of a part of the value, as it is written: the one after `skip` others. The value's own if it is escaped.
    pub fn place_of(&self, part: &str, skip: usize) -> Place<'s> {
        let written = self.place.source.text.get(self.span.clone()).unwrap_or_default();
        let found = written.match_indices(part).nth(skip);
        found.map_or_else(|| self.place.clone(), |(at, _)| self.place.at_byte(self.span.start + at))
    }

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

    /// Whether it is a text.
    pub fn is_text(&self) -> bool {
        self.value.is_str()
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        self.value.is_array()
    }

    /// Says which type was expected and which was found, never the value.
    pub fn wrong_type(&self, expected: &str, hint: &str) -> Reported {
        self.place.problem(format!("expected {expected}, found {}", self.kind()), hint)
    }

    /// A text.
    pub fn text(&self) -> Result<&'s str> {
        let hint = match self.value {
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => "put it in double quotes",
            DeValue::Array(_) => "write one text in double quotes, without the brackets",
            _ => "",
        };
        self.value.as_str().ok_or_else(|| self.wrong_type("a text", hint))
    }

    /// True or false.
    pub fn flag(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.wrong_type("true or false", "write it without quotes"))
    }

    /// A whole number from `least` to `most`.
    pub fn whole(&self, least: i64, most: i64) -> Result<i64> {
        let DeValue::Integer(number) = self.value else {
            let hint = if self.value.is_str() { "write it without quotes" } else { "" };
            return Err(self.wrong_type("a whole number", hint));
        };
        i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.place.problem("the number is out of range", format!("use {least} to {most}")))
    }

    /// A list, each entry with its place.
    pub fn list(&self) -> Result<Vec<Value<'s>>> {
        let hint = if self.value.is_str() { "put it in brackets: [\"…\"]" } else { "" };
        let items = self.value.as_array().ok_or_else(|| self.wrong_type("a list", hint))?;
        let item = |(index, item): (usize, &'s toml::Spanned<DeValue<'s>>)| {
            let place = Place { key: format!("{}[{index}]", self.place.key), ..self.place.clone() };
            Value { place: place.at_byte(item.span().start), value: item.get_ref(), span: item.span() }
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// A table.
    pub fn table(&self) -> Result<Table<'s>> {
        let hint = format!("write a [{}] section", self.place.key);
        let entries = self.value.as_table().ok_or_else(|| self.wrong_type("a table", &hint))?;
        Ok(Table::new(self.place.clone(), entries))
    }

    /// Calls `visit` with every text at or below this value.
    pub fn texts(&self, visit: &mut dyn FnMut(&Value<'s>, &'s str)) {
        match self.value {
            DeValue::String(text) => visit(self, text),
            DeValue::Array(_) => self.list().into_iter().flatten().for_each(|item| item.texts(visit)),
            DeValue::Table(entries) => Table::new(self.place.clone(), entries).texts(visit),
            _ => {}
        }
    }
}

/// A table whose keys are asked for by name; [`Table::finish`] reports those that nobody asked for.
pub struct Table<'s> {
    /// Where it stands.
    pub place: Place<'s>,
    entries: &'s DeTable<'s>,
    asked: RefCell<BTreeSet<String>>,
    refused: RefCell<BTreeSet<String>>,
}

impl<'s> Table<'s> {
    /// The table that stands at a place.
    pub fn new(place: Place<'s>, entries: &'s DeTable<'s>) -> Self {
        Self { place, entries, asked: RefCell::default(), refused: RefCell::default() }
    }

    /// The value of a key, if it is there.
    pub fn get(&self, name: &str) -> Option<Value<'s>> {
        self.asked.borrow_mut().insert(name.to_owned());
        let (key, value) = self.entries.get_key_value(name)?;
        Some(self.value(key, value))
    }

    /// Like [`Table::get`], for keys that are known only to be refused: hints do not offer them.
    pub fn get_hidden(&self, name: &str) -> Option<Value<'s>> {
        let (key, value) = self.entries.get_key_value(name)?;
        self.refused.borrow_mut().insert(name.to_owned());
        Some(self.value(key, value))
    }

    /// What stands where a key is not: for problems that name the key.
    pub fn missing(&self, name: &str, hint: &str) -> Reported {
        self.place.below(name).problem("missing", hint)
    }

    /// What `read` makes of a key that must be there; `hint` says what to write.
    pub fn required<T>(&self, name: &str, hint: &str, read: impl FnOnce(&Value<'s>) -> Result<T>) -> Result<T> {
        match self.get(name) {
            Some(value) => read(&value),
            None => Err(self.missing(name, hint)),
        }
    }

    /// What `read` makes of a key, if it is there.
    pub fn optional<T>(&self, name: &str, read: impl FnOnce(&Value<'s>) -> Result<T>) -> Result<Option<T>> {
        self.get(name).map(|value| read(&value)).transpose()
    }

    /// All keys and values, for tables whose keys are names.
    pub fn named(&self) -> Vec<(&'s str, Value<'s>)> {
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
    pub fn finish(&self) {
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

    /// Calls `visit` with every text at or below this table.
    pub fn texts(&self, visit: &mut dyn FnMut(&Value<'s>, &'s str)) {
        for (key, value) in self.entries {
            self.value(key, value).texts(visit);
        }
    }

    fn value(&self, key: &toml::Spanned<toml::de::DeString<'s>>, value: &'s toml::Spanned<DeValue<'s>>) -> Value<'s> {
        let place = self.place.below(key.get_ref()).at_byte(key.span().start);
        Value { place, value: value.get_ref(), span: value.span() }
    }
}
