//! `{{…}}` in texts: a parameter (`{{target}}`) or what an earlier step gave (`{{restore.directory}}`). `{{{{` and `}}}}`
//! write the braces themselves.
//!
//! A value is put in as it is, in one place: it is never read again, so it cannot hold placeholders, and an argument of a
//! command stays one argument. SQL takes no placeholders at all, but parameters (see [`crate::action::sql`]).

use std::fmt;

use lifeboat_model::config::reading::{Result, Value};

use crate::error::At;

/// The word before the dot that means the run itself: `{{run.id}}`.
pub const RUN: &str = "run";

/// What is known of the run: `{{run.…}}`.
pub const OF_RUN: [&str; 3] = ["id", "mode", "started"];

/// A text with places to fill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Name),
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// A parameter.
    Parameter(String),
    /// An output of a step, or of the run.
    Output {
        /// The step's id, or [`RUN`].
        step: String,
        /// The output.
        name: String,
    },
}

impl Name {
    /// `name` or `step.name`; none where it is neither.
    pub fn read(text: &str) -> Option<Name> {
        let is_name = |text: &str| {
            text.starts_with(char::is_alphanumeric)
                && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
        };
        match text.split_once('.') {
            None => is_name(text).then(|| Name::Parameter(text.to_owned())),
            Some((step, name)) => {
                let (step, name) = (step.to_owned(), name.to_owned());
                (is_name(&step) && is_name(&name)).then_some(Name::Output { step, name })
            }
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Parameter(name) => f.write_str(name),
            Name::Output { step, name } => write!(f, "{step}.{name}"),
        }
    }
}

/// A placeholder that cannot be one.
#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    message: &'static str,
    /// How many `{{` stand before it.
    skip: usize,
}

impl Template {
    /// A text that is a template already, for tests and defaults.
    pub fn literal(text: impl Into<String>) -> Template {
        Template(vec![Piece::Text(text.into())])
    }

    /// Reads the template that a value of a block is.
    pub(crate) fn of(value: &Value<'_>) -> Result<Template> {
        let text = value.text()?;
        if text.trim().is_empty() {
            return Err(value.place.problem("is empty", ""));
        }
        let (template, _) = parse(text);
        template.map_err(|wrong| {
            let hint = "write {{parameter}} or {{step-id.output}}; for the braces themselves, {{{{ and }}}}";
            value.place_of("{{", wrong.skip).problem(wrong.message, hint)
        })
    }

    /// The names that a value asks for, with where each stands. A text that is no template asks for none.
    pub(crate) fn names_in(value: &Value<'_>, text: &str) -> Vec<(Name, At)> {
        let (template, skips) = parse(text);
        let names = template.map(|template| template.names().cloned().collect::<Vec<_>>()).unwrap_or_default();
        names.into_iter().zip(skips).map(|(name, skip)| (name, At::from(&value.place_of("{{", skip)))).collect()
    }

    /// What it asks for, in order.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Value(name) => Some(name),
            Piece::Text(_) => None,
        })
    }

    /// The text, if it asks for nothing.
    pub fn as_literal(&self) -> Option<String> {
        self.names().next().is_none().then(|| self.fill(|_| None))
    }

    /// The text with what is known filled in; what is not stays `{{…}}`.
    pub fn fill(&self, known: impl Fn(&Name) -> Option<String>) -> String {
        let fill = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Value(name) => known(name).unwrap_or_else(|| format!("{{{{{name}}}}}")),
        };
        self.0.iter().map(fill).collect()
    }
}

/// The template, and how many `{{` stand before each of its names.
fn parse(text: &str) -> (std::result::Result<Template, Wrong>, Vec<usize>) {
    let (mut pieces, mut literal, mut skips, mut seen) = (Vec::new(), String::new(), Vec::new(), 0);
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("{{{{") {
            literal.push_str("{{");
            seen += 2;
            rest = after;
        } else if let Some(after) = rest.strip_prefix("}}}}") {
            literal.push_str("}}");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{{") {
            let wrong = |message| (Err(Wrong { message, skip: seen }), Vec::new());
            let Some((name, after)) = after.split_once("}}") else { return wrong("{{ without }}") };
            let Some(name) = Name::read(name.trim()) else { return wrong("not a name between {{ and }}") };
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Value(name));
            skips.push(seen);
            seen += 1;
            rest = after;
        } else {
            let next =
                rest.char_indices().skip(1).find(|(_, c)| matches!(c, '{' | '}')).map_or(rest.len(), |(at, _)| at);
            let (plain, after) = rest.split_at(next);
            literal.push_str(plain);
            rest = after;
        }
    }
    if !literal.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    (Ok(Template(pieces)), skips)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
mod tests {
    use super::*;

    fn filled(text: &str) -> std::result::Result<String, Wrong> {
        let (template, _) = parse(text);
        template.map(|template| {
            template.fill(|name| (*name != Name::read("left.out").unwrap()).then(|| format!("<{name}>")))
        })
    }

    #[test]
    fn names_are_filled_in_and_braces_written() {
        let cases = [
            ("plain", "plain"),
            ("{{a}}", "<a>"),
            ("x {{ a-b }}/{{step-1.out}} y", "x <a-b>/<step-1.out> y"),
            ("{{{{.State.Status}}}}", "{{.State.Status}}"),
            ("{one} }} {", "{one} }} {"),
            ("{{left.out}}", "{{left.out}}"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(filled(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_told() {
        for (text, skip) in [("{{", 0), ("{{.State}}", 0), ("{{a}} {{}}", 1), ("{{{{ {{a b}}", 2), ("{{a.b.c}}", 0)] {
            assert_eq!(filled(text).unwrap_err().skip, skip, "{text}");
        }
    }
}
