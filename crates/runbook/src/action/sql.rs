//! `sql`: one statement for a PostgreSQL server.
//!
//! It runs in a read-only transaction unless `effect` says that it changes or destroys. Placeholders stand in `parameters`
//! (`$1`, `$2`), never in the statement: a value cannot become SQL. A statement that changes is done in one transaction; whether
//! it was, `done_when` asks: a query that gives true. Without it, a resumed run asks a person. Practice asks the sandbox's server.

use lifeboat_model::config::reading::{Result, Table, Value};

use super::{Act, Again, Effect, Practice, Show, server::Server};
use crate::{
    template::Template,
    values::{templates, twice},
};

/// A statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Sql {
    /// The server.
    pub server: Server,
    /// The database.
    pub database: Template,
    /// The statement.
    pub sql: String,
    /// `$1`, `$2` …, as text.
    pub parameters: Vec<Template>,
    /// What it must give; none: it must not fail.
    pub expect: Option<Rows>,
    /// What it does.
    pub effect: Effect,
    /// A query that gives true once it is done.
    pub done_when: Option<String>,
}

/// What a query must give.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// This, in the first column of the first row.
    Equals(Template),
    /// A number in it, at least this.
    AtLeast(i64),
    /// So many rows.
    Count(i64),
}

impl Sql {
    pub(crate) fn read(table: &Table<'_>) -> Result<Sql> {
        let server = Server::read(table);
        let database = table.required("database", "name the database", Template::of);
        let sql = table.required("sql", "write the statement", statement);
        let parameters = table.optional("parameters", templates);
        let expect = expect(table);
        let effect = table.optional("effect", Effect::read);
        let done_when = table.optional("done_when", statement);
        Ok(Sql {
            server: server?,
            database: database?,
            sql: sql?,
            parameters: parameters?.unwrap_or_default(),
            expect: expect?,
            effect: effect?.unwrap_or(Effect::Nothing),
            done_when: done_when?,
        })
    }
}

/// SQL is what stands there, and nothing that comes from elsewhere.
fn statement(value: &Value<'_>) -> Result<String> {
    let text = value.text()?;
    if text.trim().is_empty() {
        return Err(value.place.problem("is empty", ""));
    }
    if text.contains("{{") {
        let hint = "write $1 for it, and parameters = [\"{{…}}\"]";
        return Err(value.place_of("{{", 0).problem("a value put into SQL could become SQL", hint));
    }
    Ok(text.to_owned())
}

fn expect(table: &Table<'_>) -> Result<Option<Rows>> {
    let equals = table.optional("equals", Template::of);
    let at_least = table.optional("at_least", |value| value.whole(i64::MIN, i64::MAX));
    let rows = table.optional("rows", |value| value.whole(0, i64::MAX));
    match (equals?, at_least?, rows?) {
        (Some(_), Some(_), _) => Err(twice(table, "at_least", "equals")),
        (Some(_), _, Some(_)) => Err(twice(table, "rows", "equals")),
        (_, Some(_), Some(_)) => Err(twice(table, "rows", "at_least")),
        (equals, at_least, rows) => {
            Ok(equals.map(Rows::Equals).or(at_least.map(Rows::AtLeast)).or(rows.map(Rows::Count)))
        }
    }
}

impl Act for Sql {
    fn outputs(&self) -> &'static [&'static str] {
        &["value", "rows"]
    }

    fn words(&self, show: Show<'_>) -> String {
        let verb = if self.effect == Effect::Nothing { "ask" } else { "tell" };
        let first = self.sql.split_whitespace().take(8).collect::<Vec<_>>().join(" ");
        format!("{verb} {}, database {}: {first}", self.server.words(show), show(&self.database))
    }

    fn effect(&self) -> Effect {
        self.effect
    }

    fn again(&self) -> Again {
        match (self.effect, &self.done_when) {
            (Effect::Nothing, _) => Again::Harmless,
            (_, Some(_)) => Again::Probe,
            (_, None) => Again::Ask,
        }
    }

    fn practice(&self) -> Practice {
        Practice::Instead("the server in the sandbox")
    }

    fn touches(&self, show: Show<'_>) -> Vec<String> {
        match self.effect {
            Effect::Nothing => Vec::new(),
            _ => vec![format!("database {} on {}", show(&self.database), self.server.words(show))],
        }
    }
}
