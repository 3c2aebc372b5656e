//! Lines, fields and tables for people. Meaning is always in the words; colour only repeats it.

use std::{
    fmt::{Display, Write},
    time::Duration,
};

use clap::builder::styling::{AnsiColor, Style};
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use jiff::Timestamp;
use lifeboat_model::{size::ByteSize, time::Span};

/// How a word is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Not proven, or soon wrong.
    Doubtful,
    /// Wrong.
    Bad,
    /// Of no weight.
    Plain,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Doubtful => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
            Tone::Plain => Style::new(),
        }
    }

    /// The word with its colour around it.
    pub fn paint(self, word: &str) -> String {
        let style = self.style();
        format!("{style}{word}{style:#}")
    }

    fn cell(self, word: &str) -> Cell {
        match self {
            Tone::Good => Cell::new(word).fg(Color::Green),
            Tone::Doubtful => Cell::new(word).fg(Color::Yellow),
            Tone::Bad => Cell::new(word).fg(Color::Red).add_attribute(Attribute::Bold),
            Tone::Plain => Cell::new(word),
        }
    }
}

/// Text that grows line by line.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// An empty page.
    pub fn new() -> Self {
        Self::default()
    }

    /// One line.
    pub fn line(&mut self, text: impl Display) {
        let _ = writeln!(self.0, "{text}"); // writing to a String cannot fail
    }

    /// An empty line, unless the page is empty or ends in one.
    pub fn gap(&mut self) {
        if !self.0.is_empty() && !self.0.ends_with("\n\n") {
            self.0.push('\n');
        }
    }

    /// A heading with an empty line before it.
    pub fn heading(&mut self, text: impl Display) {
        self.gap();
        let bold = Style::new().bold();
        self.line(format_args!("{bold}{text}{bold:#}"));
    }

    /// `name   value`, in columns that line up with other fields.
    pub fn field(&mut self, name: &str, value: impl Display) {
        self.line(format_args!("{name:<20} {value}"));
    }

    /// A table; nothing at all where there are no rows.
    pub fn table(&mut self, rows: Rows) {
        if !rows.table.is_empty() {
            self.line(rows.table.trim_fmt());
        }
    }

    /// The text, styles included.
    pub fn finish(self) -> String {
        self.0
    }
}

/// Terminals that claim to be narrower (some say 0) would get one letter a line.
const NARROWEST: u16 = 40;

/// A table in the making.
pub struct Rows {
    table: Table,
}

impl Rows {
    /// With these column names.
    pub fn new(header: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        // On a terminal long texts are folded to its width; in a pipe a row stays a line.
        if table.width().is_some_and(|width| width >= NARROWEST) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        table.enforce_styling(); // `anstream` takes the colours out again where they are not wanted
        table.style_text_only();
        table.set_header(header.iter().map(|name| match *name {
            "" => Cell::new(""),
            name => Cell::new(name).add_attribute(Attribute::Bold),
        }));
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Rows { table }
    }

    /// Right-aligns the columns with these numbers.
    pub fn numbers(mut self, columns: &[usize]) -> Self {
        for index in columns {
            if let Some(column) = self.table.column_mut(*index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self
    }

    /// Adds a row.
    pub fn row<'a>(&mut self, cells: impl IntoIterator<Item = (Tone, &'a str)>) {
        self.table.add_row(cells.into_iter().map(|(tone, text)| tone.cell(text)).collect::<Vec<_>>());
    }

    /// Adds a row without colours.
    pub fn plain<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.table.add_row(cells.into_iter().map(|text| Cell::new(text.as_ref())).collect::<Vec<_>>());
    }
}

/// `2026-11-21 20:07:32Z`
pub fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// `3h 5m ago`; a time that is yet to come says so, because then some clock is wrong.
pub fn ago(now: Timestamp, time: Timestamp) -> String {
    let distance = now.duration_since(time);
    let span = Span(Duration::from_secs(distance.unsigned_abs().as_secs()));
    if span.0.is_zero() {
        return "just now".to_owned();
    }
    if distance.is_negative() { format!("{span} in the future") } else { format!("{span} ago") }
}

/// `1.5 GiB`
pub fn bytes(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

/// `12.3s`, `4m 5s`
pub fn seconds(seconds: f64) -> String {
    Span(Duration::try_from_secs_f64(seconds).unwrap_or_default()).to_string()
}

/// `1 file`, `2 files`, `12,345 files`
pub fn count(n: u64, one: &str, many: &str) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_people() {
        let time: Timestamp = "2026-11-21T20:07:32.5Z".parse().unwrap();
        let later: Timestamp = "2026-11-21T23:12:40Z".parse().unwrap();
        assert_eq!(moment(time), "2026-11-21 20:07:32Z");
        assert_eq!(ago(later, time), "3h 5m ago");
        assert_eq!(ago(time, later), "3h 5m in the future");
        assert_eq!(count(1, "file", "files"), "1 file");
        assert_eq!(count(1_234_567, "file", "files"), "1,234,567 files");
        assert_eq!(seconds(245.2), "4m 5s");
    }

    #[test]
    fn tables_line_up_and_empty_ones_vanish() {
        let mut page = Page::new();
        page.table(Rows::new(&["point", "size"]));
        assert_eq!(page.finish(), "");
        let mut rows = Rows::new(&["point", "size"]).numbers(&[1]);
        rows.plain(["ab", "1 B"]);
        rows.row([(Tone::Bad, "cdef"), (Tone::Plain, "12 B")]);
        let mut page = Page::new();
        page.table(rows);
        let text = anstream::adapter::strip_str(&page.finish()).to_string();
        assert_eq!(text, "point  size\nab      1 B\ncdef   12 B\n");
    }
}
