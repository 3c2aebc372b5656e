//! The Markdown of a runbook as HTML. Of the file only words are taken: markup that stands in it is shown as text, pictures are their
//! words, links lead to web pages, mail and telephone numbers, places on this page and other runbooks of the folder, or nowhere.

use std::ops::Range;

use maud::{Markup, html};
use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// Deeper than this everything is words: what calls itself must not go as deep as a file says.
const DEEPEST: usize = 24;

/// What stands at a heading, by the byte at which that begins.
pub(super) type AtHeading<'a> = &'a dyn Fn(usize) -> Option<Heading>;

/// What belongs to a heading that is a step's.
pub(super) struct Heading {
    /// Its place on the page.
    pub id: String,
    /// What stands below it.
    pub below: Markup,
}

/// A text. Its first heading of level 1 is left out: it is the page's own. `folder` is where links to other files of the folder lead.
pub(super) fn rendered(text: &str, folder: &str, at_heading: AtHeading<'_>) -> Markup {
    let events = Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter();
    let mut reading = Reading { events: Box::new(events), folder, at_heading, titled: false };
    let blocks = reading.until(None, 0);
    html! { @for block in blocks { (block) } }
}

type Events<'t> = Box<dyn Iterator<Item = (Event<'t>, Range<usize>)> + 't>;

struct Reading<'t> {
    events: Events<'t>,
    folder: &'t str,
    at_heading: AtHeading<'t>,
    titled: bool,
}

impl<'t> Reading<'t> {
    /// What stands before this end.
    fn until(&mut self, end: Option<TagEnd>, depth: usize) -> Vec<Markup> {
        let mut found = Vec::new();
        while let Some((event, range)) = self.events.next() {
            match event {
                Event::End(tag) if Some(tag) == end => break,
                Event::End(_) => {}
                Event::Start(tag) if depth >= DEEPEST => {
                    let words = self.words(tag.to_end());
                    found.push(html! { (words) " " });
                }
                Event::Start(tag) => found.push(self.tag(tag, range, depth + 1)),
                Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => found.push(html! { (text) }),
                Event::Code(text) | Event::InlineMath(text) | Event::DisplayMath(text) => {
                    found.push(html! { code { (text) } });
                }
                Event::SoftBreak => found.push(html! { "\n" }),
                Event::HardBreak => found.push(html! { br; }),
                Event::Rule => found.push(html! { hr; }),
                Event::FootnoteReference(text) => found.push(html! { (text) }),
                Event::TaskListMarker(is_done) => found.push(html! { (if is_done { "[x] " } else { "[ ] " }) }),
            }
        }
        found
    }

    /// The words alone, however deep they stand.
    fn words(&mut self, end: TagEnd) -> String {
        let (mut words, mut open) = (String::new(), 1usize);
        for (event, _) in self.events.by_ref() {
            match event {
                Event::Start(tag) if tag.to_end() == end => open += 1,
                Event::End(tag) if tag == end => {
                    open -= 1;
                    if open == 0 {
                        break;
                    }
                }
                Event::Text(text) | Event::Code(text) | Event::Html(text) | Event::InlineHtml(text) => {
                    words.push_str(&text)
                }
                Event::SoftBreak | Event::HardBreak => words.push(' '),
                _ => {}
            }
        }
        words
    }

    fn tag(&mut self, tag: Tag<'t>, range: Range<usize>, depth: usize) -> Markup {
        let end = Some(tag.to_end());
        if let Tag::CodeBlock(kind) = &tag {
            let is_toml = matches!(kind, CodeBlockKind::Fenced(language) if language.trim() == "toml");
            let text = self.words(tag.to_end());
            return code(&text, is_toml);
        }
        if matches!(tag, Tag::Image { .. }) {
            let words = self.words(tag.to_end());
            return html! { (words) };
        }
        if let Tag::Table(alignments) = &tag {
            return self.table(alignments.len(), depth);
        }
        let inner = self.until(end, depth);
        let inner = html! { @for one in inner { (one) } };
        match tag {
            Tag::Paragraph | Tag::HtmlBlock => html! { p { (inner) } },
            Tag::Heading { level, .. } => self.heading(level, range.start, inner),
            Tag::BlockQuote(_) => html! { blockquote { (inner) } },
            Tag::List(None) => html! { ul { (inner) } },
            Tag::List(Some(first)) => html! { ol start=(first) { (inner) } },
            Tag::Item => html! { li { (inner) } },
            Tag::Emphasis => html! { em { (inner) } },
            Tag::Strong => html! { strong { (inner) } },
            Tag::Strikethrough => html! { s { (inner) } },
            Tag::Link { dest_url, .. } => match self.leads_to(&dest_url) {
                Some(address) => html! { a href=(address) rel="noreferrer" { (inner) } },
                None => inner,
            },
            _ => inner,
        }
    }

    fn heading(&mut self, level: HeadingLevel, at: usize, words: Markup) -> Markup {
        if level == HeadingLevel::H1 && !self.titled {
            self.titled = true;
            return html! {};
        }
        let found = (self.at_heading)(at);
        let (id, class) = (found.as_ref().map(|heading| heading.id.clone()), found.is_some().then_some("step"));
        let heading = match level {
            HeadingLevel::H1 | HeadingLevel::H2 => html! { h2 id=[id] class=[class] { (words) } },
            HeadingLevel::H3 => html! { h3 id=[id] class=[class] { (words) } },
            HeadingLevel::H4 => html! { h4 id=[id] class=[class] { (words) } },
            HeadingLevel::H5 => html! { h5 id=[id] class=[class] { (words) } },
            HeadingLevel::H6 => html! { h6 id=[id] class=[class] { (words) } },
        };
        html! { (heading) @if let Some(found) = found { (found.below) } }
    }

    fn table(&mut self, columns: usize, depth: usize) -> Markup {
        let (mut head, mut rows) = (Vec::new(), Vec::new());
        while let Some((event, _)) = self.events.next() {
            match event {
                Event::End(TagEnd::Table) => break,
                Event::Start(Tag::TableHead) => head = self.cells(TagEnd::TableHead, depth),
                Event::Start(Tag::TableRow) => rows.push(self.cells(TagEnd::TableRow, depth)),
                _ => {}
            }
        }
        html! {
            table {
                thead { tr { @for cell in &head { th scope="col" { (cell) } } } }
                tbody { @for row in rows { tr { @for cell in row.into_iter().take(columns.max(1)) { td { (cell) } } } } }
            }
        }
    }

    fn cells(&mut self, end: TagEnd, depth: usize) -> Vec<Markup> {
        let mut cells = Vec::new();
        while let Some((event, _)) = self.events.next() {
            match event {
                Event::End(tag) if tag == end => break,
                Event::Start(Tag::TableCell) => {
                    let inner = self.until(Some(TagEnd::TableCell), depth + 1);
                    cells.push(html! { @for one in inner { (one) } });
                }
                _ => {}
            }
        }
        cells
    }

    /// Where a link may lead.
    fn leads_to(&self, address: &str) -> Option<String> {
        let is_plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if ["https://", "http://", "mailto:", "tel:"].iter().any(|scheme| address.starts_with(scheme)) {
            return Some(address.to_owned());
        }
        if let Some(place) = address.strip_prefix('#') {
            return is_plain(place).then(|| address.to_owned());
        }
        let (file, place) = address.split_once('#').map_or((address, None), |(file, place)| (file, Some(place)));
        let is_runbook =
            file.ends_with(".md") && is_plain(file) && !file.starts_with('.') && place.is_none_or(is_plain);
        is_runbook.then(|| format!("{}/{address}", self.folder))
    }
}

/// The block of a step is for Lifeboat: it is there, and folded.
fn code(text: &str, is_toml: bool) -> Markup {
    html! {
        @if is_toml {
            details.block { summary { "As Lifeboat reads it" } pre tabindex="0" { code { (text) } } }
        } @else {
            pre tabindex="0" { code { (text) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        rendered(text, "/runbooks/northern", &|_| None).into_string()
    }

    #[test]
    fn words_become_what_they_are() {
        let text = "# Title\n\nOne *two* **three** `four`\n\n## Next\n\n1. a\n2. b\n\n> said\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\n---\n";
        let shown = shown(text);
        assert_eq!(
            shown,
            "<p>One <em>two</em> <strong>three</strong> <code>four</code></p><h2>Next</h2><ol start=\"1\"><li>a</li><li>b</li></ol>\
             <blockquote><p>said</p></blockquote><table><thead><tr><th scope=\"col\">x</th><th scope=\"col\">y</th></tr></thead>\
             <tbody><tr><td>1</td><td>2</td></tr></tbody></table><hr>"
        );
    }

    #[test]
    fn a_step_is_told_at_its_heading() {
        let text = "# T\n\n## 1. Stop\n\nwhy\n\n```toml\naction = \"stop\"\n```\n";
        let place = text.find("## 1").unwrap_or_default();
        let at = |at: usize| (at == place).then(|| Heading { id: "step-stop".into(), below: html! { p { "stops" } } });
        let shown = rendered(text, "", &at).into_string();
        assert!(shown.starts_with("<h2 id=\"step-stop\" class=\"step\">1. Stop</h2><p>stops</p><p>why</p>"), "{shown}");
        assert!(shown.contains("<details class=\"block\">") && shown.contains("action = &quot;stop&quot;"), "{shown}");
    }

    #[test]
    fn nothing_of_a_file_is_taken_for_markup() {
        let hostile = [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "[x](javascript:alert(1))",
            "[x](<data:text/html,<script>>)",
            "![<b>](x \"onload=1\")",
            "<https://example.org/\"onmouseover=x>",
            "```<script>\n<script>\n```",
            "## <b onclick=x>\n",
            "| <b> |\n|---|\n| <b> |\n",
            "[x](//evil.example.org)",
            "[x](../../secrets.md)",
            "&lt;script&gt;",
        ];
        for text in hostile {
            let shown = shown(text);
            for bad in [
                "<script",
                "<img",
                "<b ",
                "<b>",
                "=\"javascript:",
                "=\"data:",
                "\"onmouseover",
                "=\"//",
                "=\"../",
                "/../",
            ] {
                assert!(!shown.contains(bad), "{text}: {shown}");
            }
        }
        assert!(shown("[x](failover.md#stop)").contains("href=\"/runbooks/northern/failover.md#stop\""));
        assert!(shown("[x](tel:+431234)").contains("href=\"tel:+431234\""));
    }

    #[test]
    fn depth_has_an_end() {
        let deep = format!("{} x", ">".repeat(20_000));
        let shown = shown(&deep);
        assert!(shown.contains('x') && shown.matches("<blockquote>").count() <= DEEPEST, "{}", shown.len());
        let nested: String = (0..400).map(|depth| format!("{}- y\n", " ".repeat(depth * 2))).collect();
        assert!(rendered(&nested, "", &|_| None).into_string().contains('y'));
    }
}
