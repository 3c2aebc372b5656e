//! What goes to standard output: text for people or one JSON document, never both.
//!
//! Each command's answer is a plain struct of its own ([`Answer`]): the JSON is an interface that scripts lean on, so it
//! must not move when a type inside moves. Every document is an object that begins with its `schema`, for example
//! `lifeboat.points-list/1`; fields may be added under the same number, never renamed, removed or given another meaning.
//! `docs/json.md` lists them.

use std::io::{self, Write};

use serde::Serialize;

mod page;

pub use page::{Page, Rows, Tone, ago, bytes, count, moment, seconds};

/// What a command answers.
pub trait Answer: Serialize {
    /// Name and version of the JSON form.
    const SCHEMA: &'static str;

    /// The form for people.
    fn text(&self, page: &mut Page);
}

/// Standard output, in the form asked for.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

/// A JSON document: the answer with its schema before it.
#[derive(Serialize)]
struct Document<'a, A> {
    schema: &'static str,
    #[serde(flatten)]
    answer: &'a A,
}

impl Output {
    /// JSON or text.
    pub fn new(json: bool) -> Self {
        Output { json }
    }

    /// Whether JSON was asked for.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints the whole answer.
    pub fn show<A: Answer>(&self, answer: &A) -> io::Result<()> {
        write_stdout(&self.render(answer))
    }

    /// The bytes of [`Output::show`], styles included.
    pub fn render<A: Answer>(&self, answer: &A) -> String {
        if !self.json {
            let mut page = Page::new();
            answer.text(&mut page);
            return page.finish();
        }
        let document = Document { schema: A::SCHEMA, answer };
        let mut text =
            serde_json::to_string_pretty(&document).expect("answers are structs with text keys, which JSON can hold");
        text.push('\n');
        text
    }
}

/// Writes to standard output; colours only where it is a terminal that wants them. A reader that went away
/// (`| head -1`) is no failure: what was asked for was done.
pub fn write_stdout(text: &str) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
