//! Odoo's own check that posted accounting entries were not altered: a chain of hashes over the entries of a journal.
//!
//! `res.company._check_hash_integrity` is private, and private methods cannot be called from outside. A server action can
//! call it, and making and running one needs public methods only (`ir.actions.server` `create` and `run`), without
//! loading a second registry as `odoo shell` would, and without reading a translated report. The action is a row in the
//! sandbox's database and goes with it.
//!
//! The answers are told apart: *verified*, *corrupted*, *no data* (nothing is hashed: the check says nothing), because
//! Odoo's report looks much the same for the first and the last.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    error::{Error, Result, shorten},
    rpc::Session,
};

/// What the check says about one chain of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Every hash fits.
    Verified,
    /// An entry does not fit its hash.
    Corrupted,
    /// No entry is hashed.
    NoData,
    /// The answer cannot be told apart; never a pass.
    Unknown,
}

/// One journal, or one sequence in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The company.
    pub company: String,
    /// The journal, as Odoo names it in its result.
    pub name: String,
    /// What the check says.
    pub state: State,
    /// Odoo's sentence.
    pub message: String,
}

/// Results of every company. Empty where accounting is not installed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// One entry per chain.
    pub journals: Vec<Journal>,
}

impl Books {
    /// How many chains are in a state.
    pub fn count(&self, state: State) -> usize {
        self.journals.iter().filter(|journal| journal.state == state).count()
    }
}

/// `getattr` is not there in a server action; a method whose name begins with one underscore may be called.
const PROGRAM: &str = "\
results = []
for company in env['res.company'].search([]):
    scoped = company.with_company(company).with_context(lang='en_US', allowed_company_ids=[company.id])
    for result in scoped._check_hash_integrity()['results']:
        results.append({
            'company': company.name,
            'journal': result.get('journal_name') or '',
            'status': result.get('status') or '',
            'message': str(result.get('msg_cover') or ''),
            'first_hash': str(result.get('first_hash') or ''),
        })
action = {'type': 'ir.actions.client', 'tag': 'lifeboat_books', 'params': {'results': results}}
";

/// Runs the check in a sandbox as the session's user, who must be an administrator and see the books (`login::prepare` sees to it).
pub async fn check(session: &Session) -> Result<Books> {
    let models = session
        .search_read("ir.model", json!([["model", "in", ["account.move", "res.company"]]]), &["model"], 2)
        .await?;
    let id_of = |name: &str| models.iter().find(|model| model["model"] == name).and_then(|model| model["id"].as_i64());
    if id_of("account.move").is_none() {
        return Ok(Books::default());
    }
    let model = id_of("res.company").ok_or_else(|| Error::unexpected("ir.model", "no res.company"))?;
    let action = json!({"name": "Lifeboat: check of the books", "model_id": model, "state": "code", "code": PROGRAM});
    let created = session.call("ir.actions.server", "create", json!([action]), json!({})).await?;
    let id = created.as_i64().or_else(|| created[0].as_i64());
    let id = id.ok_or_else(|| Error::unexpected("ir.actions.server.create", shorten(&created.to_string(), 80)))?;
    let answer = session.call("ir.actions.server", "run", json!([[id]]), json!({})).await?;
    read(&answer)
}

fn read(answer: &Value) -> Result<Books> {
    let results = answer.pointer("/params/results").and_then(Value::as_array);
    let results =
        results.ok_or_else(|| Error::unexpected("the check of the books", shorten(&answer.to_string(), 120)))?;
    let journals = results.iter().map(|result| {
        let text = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
        Journal {
            company: text("company"),
            name: text("journal"),
            state: state(&text("status"), &text("message"), &text("first_hash")),
            message: shorten(&text("message"), 200),
        }
    });
    Ok(Books { journals: journals.collect() })
}

/// 18.0 and later say it; before, the English sentence and the first hash do.
fn state(status: &str, message: &str, first_hash: &str) -> State {
    let hashed = !matches!(first_hash, "" | "None" | "False");
    match status {
        "verified" => State::Verified,
        "corrupted" => State::Corrupted,
        "no_data" => State::NoData,
        _ if message.starts_with("Corrupted data") => State::Corrupted,
        _ if hashed => State::Verified,
        _ if message.contains("no journal entry")
            || message.contains("any journal entry flagged")
            || message.contains("There isn't") =>
        {
            State::NoData
        }
        _ => State::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verified_corrupted_and_no_data_are_told_apart() {
        let answer = json!({"params": {"results": [
            {"company": "A", "journal": "Sales (INV/...)", "status": "verified", "message": "Entries are correctly hashed", "first_hash": "$4$ab"},
            {"company": "A", "journal": "Cash", "status": "no_data", "message": "", "first_hash": ""},
            {"company": "A", "journal": "Old", "status": "", "message": "Corrupted data on journal entry with id 7.", "first_hash": "None"},
            {"company": "A", "journal": "Old2", "status": "", "message": "There isn't any journal entry flagged for data inalterability yet for this journal.", "first_hash": "None"},
            {"company": "A", "journal": "Old3", "status": "", "message": "All entries are hashed.", "first_hash": "abc"},
            {"company": "A", "journal": "New", "status": "", "message": "Was sonst", "first_hash": ""},
        ]}});
        let books = read(&answer).unwrap();
        let states: Vec<State> = books.journals.iter().map(|journal| journal.state).collect();
        let expected =
            [State::Verified, State::NoData, State::Corrupted, State::NoData, State::Verified, State::Unknown];
        assert_eq!(states, expected);
        assert_eq!(books.count(State::NoData), 2);
    }

    #[test]
    fn another_answer_is_an_error() {
        assert!(read(&json!(false)).is_err());
    }
}
