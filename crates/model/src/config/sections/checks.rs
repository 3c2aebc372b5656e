//! `[[instances.<name>.drill.checks]]`: what an operator wants to be asked besides the ladder.

use std::time::Duration;

use crate::{
    config::{
        checks::{OwnCheck, PREFIX, Question, Returned, Rows},
        source::{Result, Table, Value},
    },
    time::Span,
};

const DEFAULT_TIMEOUT: Span = Span(Duration::from_secs(30));
/// The kinds of question; each check has exactly one.
const KINDS: [&str; 4] = ["sql", "rpc", "http", "run"];
const KINDS_HINT: &str = "give it one of sql, rpc, http and run";

pub(super) fn read(value: &Value<'_>) -> Result<Vec<OwnCheck>> {
    let mut checks: Vec<OwnCheck> = Vec::new();
    let mut failed = None;
    for item in value.list()? {
        match check(&item) {
            Ok(check) if checks.iter().any(|other| other.id == check.id) => {
                let message = format!("there is another check with the id \"{}\"", check.id);
                failed = Some(item.place.problem(message, "give each its own"));
            }
            Ok(check) => checks.push(check),
            Err(reported) => failed = Some(reported),
        }
    }
    failed.map_or(Ok(checks), Err)
}

fn check(value: &Value<'_>) -> Result<OwnCheck> {
    let table = value.table()?;
    let id = table.required("id", "add id = \"own.…\", the name it has in a drill's table", id);
    let purpose = table.optional("purpose", |value| value.filled().map(str::to_owned));
    let database = table.optional("database", |value| value.filled().map(str::to_owned));
    let timeout = table.optional("timeout", |value| value.span("1s", "1h"));
    let required = table.optional("required", Value::flag);
    let question = question(&table);
    table.finish();
    let (id, purpose) = (id?, purpose?);
    Ok(OwnCheck {
        purpose: purpose.unwrap_or_else(|| "a check of the operator's own".to_owned()),
        id,
        database: database?,
        timeout: timeout?.unwrap_or(DEFAULT_TIMEOUT),
        required: required?.unwrap_or(true),
        question: question?,
    })
}

fn id(value: &Value<'_>) -> Result<String> {
    let text = super::drill::check_id(value)?;
    if text.len() > PREFIX.len() && text.starts_with(PREFIX) {
        return Ok(text);
    }
    Err(value
        .place
        .problem("not the id of an own check", format!("begin it with \"{PREFIX}\", for example \"own.invoices\"")))
}

fn question(table: &Table<'_>) -> Result<Question> {
    let asked: Vec<&str> = KINDS.into_iter().filter(|kind| table.get(kind).is_some()).collect();
    match asked.as_slice() {
        ["sql"] => sql(table),
        ["rpc"] => rpc(table),
        ["http"] => http(table),
        ["run"] => command(table),
        [] => Err(table.place.problem("asks nothing", KINDS_HINT)),
        more => Err(table.place.problem(format!("asks {} things: {}", more.len(), more.join(", ")), KINDS_HINT)),
    }
}

fn sql(table: &Table<'_>) -> Result<Question> {
    let query = table.required("sql", KINDS_HINT, |value| value.filled().map(str::to_owned));
    let rows = table.optional("rows", |value| {
        let row = |row: Value<'_>| row.list()?.iter().map(|cell| cell.text().map(str::to_owned)).collect();
        value.list()?.into_iter().map(row).collect::<Result<Vec<Vec<String>>>>()
    });
    let at_least = table.optional("at_least", |value| value.whole(i64::MIN, i64::MAX));
    let (query, rows, at_least) = (query?, rows?, at_least?);
    let expect = match (rows, at_least) {
        (Some(rows), None) => Rows::Equal(rows),
        (None, Some(number)) => Rows::AtLeast(number),
        _ => return Err(one_expectation(table, "rows = [[\"…\"]]")),
    };
    Ok(Question::Sql { query, expect })
}

fn rpc(table: &Table<'_>) -> Result<Question> {
    let called = table.required("rpc", KINDS_HINT, |value| {
        let text = value.filled()?;
        let parts = text.rsplit_once('.').filter(|(model, method)| !model.is_empty() && !method.is_empty());
        let parts = parts.map(|(model, method)| (model.to_owned(), method.to_owned()));
        parts
            .ok_or_else(|| value.place.problem("no model and method", "write for example \"res.partner.search_count\""))
    });
    let arguments = table.optional("arguments", |value| json(value, "a list", serde_json::Value::is_array));
    let keywords = table.optional("keywords", |value| json(value, "an object", serde_json::Value::is_object));
    let result = table.optional("result", |value| json(value, "a value", |_| true));
    let at_least = table.optional("at_least", |value| value.whole(i64::MIN, i64::MAX));
    let ((model, method), arguments, keywords) = (called?, arguments?, keywords?);
    let expect = match (result?, at_least?) {
        (Some(result), None) => Returned::Equal(result),
        (None, Some(number)) => Returned::AtLeast(number),
        _ => return Err(one_expectation(table, "result = \"…\" in JSON")),
    };
    let arguments = arguments.unwrap_or_else(|| serde_json::Value::Array(Vec::new()));
    let keywords = keywords.unwrap_or_else(|| serde_json::Value::Object(serde_json::Map::new()));
    Ok(Question::Rpc { model, method, arguments, keywords, expect })
}

fn http(table: &Table<'_>) -> Result<Question> {
    let path = table.required("http", KINDS_HINT, |value| {
        let text = value.filled()?;
        // Two slashes would name another host.
        let is_path = text.starts_with('/') && !text.starts_with("//") && !text.contains(['\\', ' ']);
        let path = is_path.then(|| text.to_owned());
        path.ok_or_else(|| {
            value.place.problem("not a path", "write the part behind the host, for example \"/web/login\"")
        })
    });
    let status = table.optional("status", |value| value.whole(100, 599));
    let contains = table.optional("contains", |value| value.filled().map(str::to_owned));
    let logged_in = table.optional("logged_in", Value::flag);
    let status = status?.and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
    Ok(Question::Http { path: path?, status, contains: contains?, logged_in: logged_in?.unwrap_or(false) })
}

fn command(table: &Table<'_>) -> Result<Question> {
    let hint = "add run = [\"program\", \"argument\"]; no shell is in between";
    let run = table.required("run", hint, super::sources::arguments);
    let exit = table.optional("exit", |value| value.whole(0, 255));
    let contains = table.optional("contains", |value| value.filled().map(str::to_owned));
    Ok(Question::Command { run: run?, exit: exit?.unwrap_or(0), contains: contains? })
}

fn one_expectation(table: &Table<'_>, other: &str) -> crate::config::source::Reported {
    table.place.problem("does not say what must be answered", format!("give it either {other} or at_least = N"))
}

/// A text in JSON of the wanted type.
fn json(value: &Value<'_>, wanted: &str, is_wanted: impl Fn(&serde_json::Value) -> bool) -> Result<serde_json::Value> {
    let parsed = serde_json::from_str(value.text()?).ok().filter(is_wanted);
    parsed.ok_or_else(|| value.place.problem(format!("not {wanted} in JSON"), "write for example arguments = '[[]]'"))
}
