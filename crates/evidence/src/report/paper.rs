//! A paper for people: headings, tables, lists and questions, as one HTML document in the style of the evidence report, or as Markdown.
//! What stands in it is the caller's; all of it is text, and none becomes markup.

use maud::html;

use super::html;

/// A paper.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paper {
    /// Its title.
    pub title: String,
    /// What matters most: names and values.
    pub facts: Vec<(String, String)>,
    /// The rest.
    pub sections: Vec<Section>,
}

/// A part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// What stands below it.
    pub blocks: Vec<Block>,
}

/// A piece of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// A heading within the part.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// A question that somebody is to answer in writing.
    Question(String),
    /// A list.
    List(Vec<String>),
    /// What a program has printed, line by line as it was.
    Printed(String),
    /// A table.
    Table {
        /// Names of the columns.
        header: Vec<String>,
        /// Its rows.
        rows: Vec<Vec<String>>,
    },
}

impl Section {
    /// With nothing below it yet.
    pub fn new(heading: impl Into<String>) -> Section {
        Section { heading: heading.into(), blocks: Vec::new() }
    }
}

impl Paper {
    /// One HTML document that needs nothing else.
    pub fn html(&self) -> String {
        let body = html! {
            h1 { (self.title) }
            table { tbody { @for (name, value) in &self.facts { tr { th scope="row" { (name) } td { (value) } } } } }
            @for section in &self.sections {
                section {
                    h2 { (section.heading) }
                    @for block in &section.blocks {
                        @match block {
                            Block::Heading(text) => { h3 { (text) } }
                            Block::Text(text) => { p { (text) } }
                            Block::Question(text) => { p { strong { (text) } } p { "\u{2026}" } }
                            Block::List(items) => { ul { @for item in items { li { (item) } } } }
                            Block::Printed(text) => { pre { (text) } }
                            Block::Table { header, rows } => {
                                table {
                                    thead { tr { @for name in header { th scope="col" { (name) } } } }
                                    tbody { @for row in rows { tr { @for cell in row { td { (cell) } } } } }
                                }
                            }
                        }
                    }
                }
            }
        };
        format!("{}</main></body></html>\n", html::opened(&self.title, body))
    }

    /// Markdown, to be gone on with in an editor.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n", plain(&self.title));
        for (name, value) in &self.facts {
            text += &format!("- **{}**: {}\n", plain(name), plain(value));
        }
        for section in &self.sections {
            text += &format!("\n## {}\n", plain(&section.heading));
            for block in &section.blocks {
                text.push('\n');
                match block {
                    Block::Heading(words) => text += &format!("### {}\n", plain(words)),
                    Block::Text(words) => text += &format!("{}\n", plain(words)),
                    Block::Question(words) => text += &format!("**{}**\n\n…\n", plain(words)),
                    Block::List(items) => items.iter().for_each(|item| text += &format!("- {}\n", plain(item))),
                    // Four spaces: nothing in it is markup, whatever it holds.
                    Block::Printed(words) => {
                        words
                            .lines()
                            .for_each(|line| text += &format!("    {}\n", line.replace(char::is_control, " ")));
                    }
                    Block::Table { header, rows } => {
                        let row = |cells: &[String]| {
                            let cells: Vec<String> = cells.iter().map(|cell| plain(cell).replace('|', "\\|")).collect();
                            format!("| {} |\n", cells.join(" | "))
                        };
                        text += &row(header);
                        text += &format!("|{}\n", "---|".repeat(header.len()));
                        rows.iter().for_each(|cells| text += &row(cells));
                    }
                }
            }
        }
        text
    }
}

/// In one line, with nothing that Markdown would take for its own.
fn plain(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' => line.extend(['\\', c]),
            c if c.is_control() => line.push(' '),
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        let evil = "<script>alert(1)</script> **x** |\n# y";
        let table = Block::Table { header: vec![evil.into()], rows: vec![vec![evil.into()]] };
        let blocks = [Block::Heading, Block::Text, Block::Question].map(|block| block(evil.to_owned()));
        let blocks =
            blocks.into_iter().chain([Block::List(vec![evil.into()]), Block::Printed(evil.into()), table]).collect();
        let paper = Paper {
            title: evil.into(),
            facts: vec![(evil.into(), evil.into())],
            sections: vec![Section { heading: evil.into(), blocks }],
        };
        let html = paper.html();
        assert!(!html.contains("<script>") && html.matches("&lt;script&gt;").count() >= 10, "{html}");
        assert!(html.ends_with("</main></body></html>\n"));
        let markdown = paper.markdown();
        assert!(
            markdown.matches("<script>").count() == 1 && markdown.matches("**x**").count() == 1,
            "only as printed: {markdown}"
        );
        assert!(!markdown.contains("\n# y"), "{markdown}");
        assert!(markdown.contains("\n    <script>alert(1)</script> **x** |\n    # y\n"), "{markdown}");
        assert!(markdown.contains("| \\<script\\>alert(1)\\</script\\> \\*\\*x\\*\\* \\| \\# y |"), "{markdown}");
    }
}
