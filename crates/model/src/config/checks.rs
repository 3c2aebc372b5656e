//! Checks of an operator's own, asked of the restored system beside those of the ladder.

use serde_json::Value;

use crate::time::Span;

/// What the ids of all of them begin with.
pub const PREFIX: &str = "own.";

/// One check: a question to the sandbox, and the answer it must give.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnCheck {
    /// Its id, `own.<name>`; unique within the instance.
    pub id: String,
    /// What it is for, one line. Stands in evidence.
    pub purpose: String,
    /// The database it is asked of; none: each.
    pub database: Option<String>,
    /// How long it may take.
    pub timeout: Span,
    /// Whether the drill is incomplete without it.
    pub required: bool,
    /// What is asked.
    pub question: Question,
}

/// What is asked, and what must be answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// One SQL query in a read-only transaction.
    Sql {
        /// The query.
        query: String,
        /// What it must give.
        expect: Rows,
    },
    /// A public method of a model, called in the sandbox user's session.
    Rpc {
        /// The model, for example `res.partner`.
        model: String,
        /// The method, for example `search_count`.
        method: String,
        /// Positional arguments: a JSON list.
        arguments: Value,
        /// Named arguments: a JSON object.
        keywords: Value,
        /// What it must give.
        expect: Returned,
    },
    /// A page of Odoo.
    Http {
        /// Path and query, for example `/web/login`.
        path: String,
        /// The status it must have.
        status: u16,
        /// A text that it must contain.
        contains: Option<String>,
        /// Whether it is asked for in the sandbox user's session.
        logged_in: bool,
    },
    /// A program in Odoo's container, as Odoo's user; no shell in between.
    Command {
        /// Program and arguments.
        run: Vec<String>,
        /// The code it must end with.
        exit: i64,
        /// A text that its output must contain.
        contains: Option<String>,
    },
}

/// What a query must give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// Exactly these rows, as PostgreSQL writes values as text; NULL is the text `NULL`.
    Equal(Vec<Vec<String>>),
    /// One number, at least this.
    AtLeast(i64),
}

/// What a method must give.
#[derive(Debug, Clone, PartialEq)]
pub enum Returned {
    /// Exactly this.
    Equal(Value),
    /// A number, at least this.
    AtLeast(i64),
}

impl Question {
    /// What must be seen, in words that may stand in evidence: they say nothing of values.
    pub fn expected(&self) -> String {
        match self {
            Question::Sql { expect: Rows::Equal(rows), .. } => format!("the {} configured rows", rows.len()),
            Question::Sql { expect: Rows::AtLeast(number), .. } => format!("a number of {number} or more"),
            Question::Rpc { expect: Returned::Equal(_), .. } => "the configured result".to_owned(),
            Question::Rpc { expect: Returned::AtLeast(number), .. } => format!("a number of {number} or more"),
            Question::Http { status, contains: None, .. } => format!("status {status}"),
            Question::Http { status, .. } => format!("status {status} and the configured text"),
            Question::Command { exit, contains: None, .. } => format!("exit code {exit}"),
            Question::Command { exit, .. } => format!("exit code {exit} and the configured text"),
        }
    }
}
