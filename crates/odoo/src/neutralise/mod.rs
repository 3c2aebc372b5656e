//! Making a restored database harmless before Odoo ever loads it: no mail out or in, no jobs, no payments, no pushes, no
//! remote storage. And proving it: the assertions are data, each a statement and the answer that it must give.
//!
//! From 16 on Odoo has a command (`odoo neutralize`) that runs what each installed module brings; it knows the localisations
//! and is run first, by whoever owns the container. Our statements then close its gaps (queue_job, outgoing mail already
//! queued, remote storage, credentials) and are the whole of it for 14 and 15. Both may run in any order and again. What modules
//! call their own is found by name: see [`SWEEPS`].
//!
//! A statement or an assertion whose tables or columns do not exist does not apply; the report lists it as such.

mod statements;
mod sweep;

use std::collections::HashSet;

use lifeboat_model::check::Verdict;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Transaction};

pub use statements::{ASSERTIONS, Assertion, STATEMENTS, Statement};
pub use sweep::{SWEEPS, Sweep};

use crate::error::{Error, Result};

/// What one of our statements did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The statement's id.
    pub id: String,
    /// Rows changed; none where the tables or columns that it needs do not exist.
    pub rows: Option<u64>,
}

/// The answer to one assertion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asserted {
    /// The assertion's id.
    pub id: String,
    /// What it is for.
    pub purpose: String,
    /// What the query had to count.
    pub expected: i64,
    /// What it counted.
    pub observed: Option<i64>,
    /// Whether both are the same; not executed where there is nothing to ask.
    pub verdict: Verdict,
}

/// Runs every statement that applies, in one transaction: all or none.
pub async fn apply(client: &mut Client) -> Result<Vec<Applied>> {
    let columns = Columns::read(client).await?;
    let transaction = client.transaction().await.map_err(Error::sql("begin to neutralise"))?;
    let mut applied = Vec::with_capacity(STATEMENTS.len());
    for statement in STATEMENTS {
        let rows = if columns.has_all(statement.needs) { Some(run(&transaction, statement).await?) } else { None };
        applied.push(Applied { id: statement.id.to_owned(), rows });
    }
    for sweep in SWEEPS {
        applied.push(Applied { id: sweep.id.to_owned(), rows: sweep::apply(&transaction, sweep).await? });
    }
    transaction.commit().await.map_err(Error::sql("commit the neutralisation"))?;
    Ok(applied)
}

async fn run(transaction: &Transaction<'_>, statement: &Statement) -> Result<u64> {
    transaction.execute(statement.sql, &[]).await.map_err(Error::sql(format!("neutralise {}", statement.id)))
}

/// Asks every assertion.
pub async fn assert(client: &Client) -> Result<Vec<Asserted>> {
    let columns = Columns::read(client).await?;
    let mut answers = Vec::with_capacity(ASSERTIONS.len());
    for assertion in ASSERTIONS {
        let observed = if columns.has_all(assertion.needs) { Some(ask(client, assertion).await?) } else { None };
        answers.push(Asserted {
            id: assertion.id.to_owned(),
            purpose: assertion.purpose.to_owned(),
            expected: assertion.expected,
            observed,
            verdict: judge(assertion, observed),
        });
    }
    for sweep in SWEEPS {
        let observed = sweep::count(client, sweep).await?;
        answers.push(Asserted {
            id: sweep.id.to_owned(),
            purpose: sweep.purpose.to_owned(),
            expected: 0,
            observed,
            verdict: compare(sweep.purpose, "no such column here", 0, observed),
        });
    }
    Ok(answers)
}

async fn ask(client: &Client, assertion: &Assertion) -> Result<i64> {
    let failed = || Error::sql(format!("assert {}", assertion.id));
    let row = client.query_one(assertion.sql, &[]).await.map_err(failed())?;
    row.try_get(0).map_err(failed())
}

fn judge(assertion: &Assertion, observed: Option<i64>) -> Verdict {
    let absent = format!("no {} here", assertion.needs.join(", "));
    compare(assertion.purpose, &absent, assertion.expected, observed)
}

fn compare(purpose: &str, absent: &str, expected: i64, observed: Option<i64>) -> Verdict {
    match observed {
        None => Verdict::NotExecuted(absent.to_owned()),
        Some(count) if count == expected => Verdict::Passed,
        Some(count) => Verdict::Failed(format!("{purpose}: counted {count}, expected {expected}")),
    }
}

/// Every column of the schema that Odoo uses, as `table.column`, and every table by name.
struct Columns(HashSet<String>);

impl Columns {
    async fn read(client: &Client) -> Result<Columns> {
        let query = "SELECT table_name::text, column_name::text FROM information_schema.columns \
                     WHERE table_schema = current_schema() AND is_updatable = 'YES'";
        let failed = || Error::sql("list tables and columns");
        let mut known = HashSet::new();
        for row in client.query(query, &[]).await.map_err(failed())? {
            let (table, column): (String, String) =
                (row.try_get(0).map_err(failed())?, row.try_get(1).map_err(failed())?);
            known.insert(format!("{table}.{column}"));
            known.insert(table);
        }
        Ok(Columns(known))
    }

    fn has_all(&self, needs: &[&str]) -> bool {
        needs.iter().all(|need| self.0.contains(*need))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_needs_are_named_in_the_statement() {
        let mut ids = HashSet::new();
        for (id, needs, sql) in
            STATEMENTS.iter().map(|s| (s.id, s.needs, s.sql)).chain(ASSERTIONS.iter().map(|a| (a.id, a.needs, a.sql)))
        {
            assert!(ids.insert((id, sql)), "{id} twice");
            for need in needs {
                let (table, column) = need.split_once('.').unwrap_or((need, ""));
                assert!(sql.contains(table) && sql.contains(column), "{id} names {need} and does not use it");
            }
        }
    }

    #[test]
    fn nothing_to_ask_is_not_a_pass() {
        let assertion = &ASSERTIONS[0];
        assert!(matches!(judge(assertion, None), Verdict::NotExecuted(_)));
        assert!(matches!(judge(assertion, Some(assertion.expected + 1)), Verdict::Failed(_)));
        assert_eq!(judge(assertion, Some(assertion.expected)), Verdict::Passed);
    }
}
