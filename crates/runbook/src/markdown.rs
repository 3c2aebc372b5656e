//! A Markdown text cut at its headings, with the blocks of TOML under each. All else is prose and stays untouched.

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::error::{At, Finding};

/// A heading and what stands below it, up to the next heading of any level.
#[derive(Debug)]
pub(crate) struct Cut {
    /// 1–6; 0 for what stands before the first heading.
    pub level: u8,
    /// The heading's words, without marks.
    pub title: String,
    pub at: At,
    /// Bytes of the text, the heading included.
    pub range: Range<usize>,
    pub blocks: Vec<Block>,
}

/// A fenced block of TOML.
#[derive(Debug)]
pub(crate) struct Block {
    /// Of the opening fence.
    pub at: At,
    /// Bytes between the fences.
    pub content: Range<usize>,
}

/// Cuts a text. What stands in lists and quotations is prose, headings and blocks included.
pub(crate) fn cut(text: &str) -> (Vec<Cut>, Vec<Finding>) {
    let lines = Lines::of(text);
    let mut cuts = vec![Cut { level: 0, title: String::new(), at: At::BEGIN, range: 0..0, blocks: Vec::new() }];
    let mut findings = Vec::new();
    let (mut nested, mut in_heading) = (0usize, false);
    for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Start(Tag::BlockQuote(_) | Tag::List(_)) => nested += 1,
            Event::End(TagEnd::BlockQuote(_) | TagEnd::List(_)) => nested = nested.saturating_sub(1),
            Event::Start(Tag::Heading { level, .. }) if nested == 0 => {
                in_heading = true;
                if let Some(last) = cuts.last_mut() {
                    last.range.end = range.start;
                }
                let at = lines.at(range.start);
                cuts.push(Cut { level: level as u8, title: String::new(), at, range, blocks: Vec::new() });
            }
            Event::End(TagEnd::Heading(_)) => in_heading = false,
            Event::Text(words) | Event::Code(words) if in_heading => title(&mut cuts, &words),
            Event::SoftBreak | Event::HardBreak if in_heading => title(&mut cuts, " "),
            Event::Start(Tag::CodeBlock(kind)) => match block(text, &lines, &kind, range, nested > 0) {
                Ok(Some(block)) => {
                    if let Some(cut) = cuts.last_mut() {
                        cut.blocks.push(block);
                    }
                }
                Ok(None) => {}
                Err(finding) => findings.push(finding),
            },
            _ => {}
        }
    }
    if let Some(last) = cuts.last_mut() {
        last.range.end = text.len();
    }
    (cuts, findings)
}

fn title(cuts: &mut [Cut], words: &str) {
    if let Some(cut) = cuts.last_mut() {
        cut.title.extend(words.chars().filter(|c| !c.is_control())); // it is shown on terminals
    }
}

/// A block, if it is one of TOML; a finding where one is meant and could not be read as what people see.
fn block(
    text: &str,
    lines: &Lines<'_>,
    kind: &CodeBlockKind<'_>,
    range: Range<usize>,
    is_nested: bool,
) -> Result<Option<Block>, Finding> {
    let at = lines.at(range.start);
    let written = text.get(range.clone()).unwrap_or_default();
    let language = match kind {
        CodeBlockKind::Fenced(info) => info.split([' ', '\t', ',', '{']).next().unwrap_or_default(),
        CodeBlockKind::Indented => "",
    };
    if !language.eq_ignore_ascii_case("toml") {
        let is_action =
            |line: &str| line.trim().strip_prefix("action").is_some_and(|rest| rest.trim().starts_with('='));
        return match written.lines().any(is_action) {
            true => {
                Err(at.warning("looks like a step and is only read: begin the block with ```toml to have it executed"))
            }
            false => Ok(None),
        };
    }
    let begins = text.get(..range.start).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
    if is_nested || begins != range.start {
        return Err(at.error("a block of TOML stands in a list, in a quotation or indented: put it at the left margin"));
    }
    let fence = written.chars().next().unwrap_or('`');
    let body = written.trim_end_matches(['\n', '\r']);
    let last = body.rfind('\n').map(|end| end + 1);
    let is_fence = |line: &str| line.trim().len() >= 3 && line.trim().chars().all(|c| c == fence);
    match (body.find('\n'), last) {
        (Some(first), Some(last)) if body.get(last..).is_some_and(is_fence) => {
            let content = range.start + first + 1..range.start + last;
            Ok(Some(Block { at, content: content.start..content.end.max(content.start) }))
        }
        _ => Err(at.error("the block is never closed: end it with ``` on a line of its own")),
    }
}

/// Where the lines of a text begin.
pub(crate) struct Lines<'t> {
    text: &'t str,
    begins: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub fn of(text: &'t str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Lines { text, begins: std::iter::once(0).chain(after).collect() }
    }

    /// The line and character of a byte.
    pub fn at(&self, byte: usize) -> At {
        let line = self.begins.partition_point(|begins| *begins <= byte).max(1);
        let begins = self.begins.get(line - 1).copied().unwrap_or(0);
        At { line, column: 1 + self.text.get(begins..byte).map_or(0, |before| before.chars().count()) }
    }
}

/// The id that a heading gives: lower case, words joined by `-`, without a number before it (`3. Stop Odoo` is `stop-odoo`), so
/// that a new step before it does not rename it.
pub(crate) fn slug(title: &str) -> String {
    let title = title.trim();
    let digits = title.find(|c: char| !c.is_ascii_digit()).unwrap_or(title.len());
    let (number, rest) = title.split_at(digits);
    let unnumbered = rest.strip_prefix(['.', ')']).filter(|rest| !number.is_empty() && rest.starts_with(' '));
    let mut slug = String::new();
    for c in unnumbered.unwrap_or(title).trim().chars() {
        match c {
            ' ' | '-' | '_' | '/' if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            c if c.is_alphanumeric() => slug.extend(c.to_lowercase()),
            _ => {}
        }
    }
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn headings_give_ids() {
        let cases = [
            ("Stop Odoo", "stop-odoo"),
            ("3. Stop Odoo!", "stop-odoo"),
            ("12) Stop — Odoo", "stop-odoo"),
            ("2 hosts", "2-hosts"),
            ("Zurück auf Anfang", "zurück-auf-anfang"),
            ("`pg_promote` now", "pg-promote-now"),
            ("!!!", ""),
            ("", ""),
        ];
        for (title, id) in cases {
            assert_eq!(slug(title), id, "{title}");
        }
    }
}
