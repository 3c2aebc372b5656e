//! Checks of an operator's own, asked when the ladder's are answered.
//!
//! They see the restored system as it is then: neutralised, booted, used. What they are told may be data, so evidence hears
//! only whether it was what the configuration says.

use std::{fmt::Display, time::Duration};

use futures::{StreamExt as _, pin_mut};
use lifeboat_model::config::checks::{OwnCheck, Question, Returned, Rows};
use lifeboat_odoo::{login::SandboxLogin, rpc::Session};
use serde_json::Value;
use tokio_postgres::SimpleQueryMessage;
use url::Url;

use crate::{
    error::{Error, Result},
    ladder::Answer,
    postgres,
    sandbox::{Container, User},
};

/// As much of an answer as is shown.
const SHOWN: usize = 200;

/// The running copy.
#[derive(Clone, Copy)]
pub(crate) struct Running<'a> {
    pub postgres: &'a postgres::Server,
    pub odoo: &'a Container,
    pub user: User,
    /// Where Odoo serves.
    pub base: &'a Url,
}

/// Asks one check of one database. What takes longer than its timeout was not executed.
pub(crate) async fn ask(
    check: &OwnCheck,
    running: Running<'_>,
    database: &str,
    login: &SandboxLogin,
) -> Result<Answer> {
    let limit = check.timeout.0;
    let asked = async {
        match &check.question {
            Question::Sql { query, expect } => sql(running.postgres, database, query, expect, limit).await,
            Question::Rpc { model, method, arguments, keywords, expect } => {
                let session = Session::login(running.base.clone(), database, login, limit).await?;
                let answered = session.call(model, method, arguments.clone(), keywords.clone()).await;
                Ok(returned(answered, expect)?)
            }
            Question::Http { path, status, contains, logged_in } => {
                let session = match logged_in {
                    true => Session::login(running.base.clone(), database, login, limit).await?,
                    false => Session::new(running.base.clone(), limit)?,
                };
                let (seen, page) = session.answer(path).await?;
                Ok(told(format!("status {seen}"), seen == *status, contains.as_deref(), &page))
            }
            Question::Command { run, exit, contains } => {
                let command: Vec<&str> = run.iter().map(String::as_str).collect();
                let ran = running.odoo.run(&running.user.spec(), &command, limit).await?;
                let output = ran.stdout.clone() + &ran.stderr;
                Ok(told(format!("exit code {}", ran.code), ran.code == *exit, contains.as_deref(), &output))
            }
        }
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(answer) => answer,
        Err(_) => Ok(Answer::not_executed(format!("{database}: no answer within {}", check.timeout))),
    }
}

/// A read-only transaction of its own, of which no more rows are read than it takes to tell.
async fn sql(server: &postgres::Server, database: &str, query: &str, expect: &Rows, limit: Duration) -> Result<Answer> {
    let client = server.connect(database).await?;
    let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {}", limit.as_millis());
    client.batch_execute(&begin).await.map_err(Error::sql("begin an own check"))?;
    let enough = match expect {
        Rows::Equal(rows) => rows.len() + 1,
        Rows::AtLeast(_) => 2,
    };
    let mut seen: Vec<Vec<String>> = Vec::new();
    let stream = client.simple_query_raw(query).await.map_err(Error::sql("ask an own check"))?;
    pin_mut!(stream);
    while let Some(message) = stream.next().await {
        match message {
            Ok(SimpleQueryMessage::Row(row)) if seen.len() < enough => {
                let cell = |index| row.get(index).unwrap_or("NULL").to_owned();
                seen.push((0..row.len()).map(cell).collect());
            }
            Ok(SimpleQueryMessage::Row(_)) => break,
            Ok(_) => {}
            Err(error) => match error.as_db_error() {
                Some(said) => return Ok(another(format!("PostgreSQL says: {}", said.message()))),
                None => return Err(Error::sql("ask an own check")(error)),
            },
        }
    }
    Ok(rows(&seen, expect))
}

fn rows(seen: &[Vec<String>], expect: &Rows) -> Answer {
    match expect {
        Rows::Equal(rows) if seen == rows.as_slice() => as_configured(format!("the {} configured rows", rows.len())),
        Rows::Equal(rows) => {
            let differs = (0..rows.len().max(seen.len())).find(|&at| seen.get(at) != rows.get(at)).unwrap_or(0);
            let show = |row: Option<&Vec<String>>| row.map_or("no row".to_owned(), |row| shown(&row.join(" | ")));
            another(format!("row {}: {}, expected {}", differs + 1, show(seen.get(differs)), show(rows.get(differs))))
        }
        Rows::AtLeast(least) => match seen {
            [row] if row.len() == 1 => at_least(row[0].parse::<f64>().ok(), *least, &row[0]),
            rows => another(format!("{} rows, not one number", rows.len())),
        },
    }
}

/// An exception of Odoo is an answer; that nothing came back is none.
fn returned(answered: lifeboat_odoo::Result<Value>, expect: &Returned) -> lifeboat_odoo::Result<Answer> {
    let answered = match answered {
        Err(error @ lifeboat_odoo::Error::Rpc { .. }) => return Ok(another(error.to_string())),
        answered => answered?,
    };
    Ok(match expect {
        Returned::Equal(expected) if answered == *expected => as_configured("the configured result"),
        Returned::Equal(expected) => {
            another(format!("{}, expected {}", shown(&answered.to_string()), shown(&expected.to_string())))
        }
        Returned::AtLeast(least) => at_least(answered.as_f64(), *least, &answered.to_string()),
    })
}

fn at_least(number: Option<f64>, least: i64, text: &str) -> Answer {
    match number {
        // A whole number of more than 15 digits is compared as what it is near to.
        Some(number) if number >= least as f64 => as_configured(format!("{text}, at least {least}")),
        Some(_) => another(format!("{} is less than {least}", shown(text))),
        None => another(format!("{} is no number", shown(text))),
    }
}

fn told(what: String, holds: bool, contains: Option<&str>, text: &str) -> Answer {
    match contains {
        _ if !holds => another(format!("{what}: {}", shown(text.trim()))),
        Some(wanted) if !text.contains(wanted) => {
            another(format!("{what}, without \"{wanted}\": {}", shown(text.trim())))
        }
        Some(_) => as_configured(format!("{what}, with the configured text")),
        None => as_configured(what),
    }
}

fn as_configured(seen: impl Into<String>) -> Answer {
    Answer::passed(seen).in_public("as configured")
}

fn another(why: impl Display) -> Answer {
    Answer::failed(why.to_string()).in_public("another answer than configured")
}

fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use lifeboat_model::check::Verdict;
    use serde_json::json;

    use super::*;

    fn passes(answer: Answer) -> bool {
        assert!(answer.public.is_some(), "evidence hears no values: {answer:?}");
        assert!(!matches!(answer.verdict, Verdict::NotExecuted(_)), "{answer:?}");
        answer.verdict.is_passed()
    }

    fn table(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect()
    }

    #[test]
    fn rows_are_equal_or_not() {
        let expect = |rows: &[&[&str]]| Rows::Equal(table(rows));
        assert!(passes(rows(&table(&[&["1", "a"]]), &expect(&[&["1", "a"]]))));
        assert!(passes(rows(&[], &expect(&[]))));
        for (seen, wanted) in [
            (table(&[&["1"]]), expect(&[&["2"]])),
            (table(&[&["1"], &["2"]]), expect(&[&["1"]])),
            (table(&[&["1"]]), expect(&[&["1"], &["2"]])),
            (table(&[]), expect(&[&["1"]])),
        ] {
            assert!(!passes(rows(&seen, &wanted)), "{seen:?} {wanted:?}");
        }
    }

    #[test]
    fn one_number_is_at_least_another() {
        assert!(passes(rows(&table(&[&["10"]]), &Rows::AtLeast(10))));
        assert!(passes(rows(&table(&[&["10.5"]]), &Rows::AtLeast(10))));
        for seen in [table(&[&["9"]]), table(&[&["x"]]), table(&[&["NULL"]]), table(&[]), table(&[&["10"], &["10"]])] {
            assert!(!passes(rows(&seen, &Rows::AtLeast(10))), "{seen:?}");
        }
    }

    #[test]
    fn what_odoo_returns_is_compared() {
        let ask = |value: Value, expect: Returned| passes(returned(Ok(value), &expect).unwrap());
        assert!(ask(json!([1, "a"]), Returned::Equal(json!([1, "a"]))));
        assert!(!ask(json!([1]), Returned::Equal(json!([2]))));
        assert!(ask(json!(7), Returned::AtLeast(7)) && !ask(json!(6), Returned::AtLeast(7)));
        assert!(!ask(json!("many"), Returned::AtLeast(7)));
        let raised = lifeboat_odoo::Error::Rpc { method: "m".into(), name: "AccessError".into(), message: "no".into() };
        assert!(!passes(returned(Err(raised), &Returned::AtLeast(0)).unwrap()));
    }

    #[test]
    fn a_text_must_be_there() {
        assert!(passes(told("status 200".into(), true, Some("pass"), "{\"status\": \"pass\"}")));
        assert!(!passes(told("status 200".into(), true, Some("pass"), "")));
        assert!(!passes(told("status 500".into(), false, None, "")));
    }
}
