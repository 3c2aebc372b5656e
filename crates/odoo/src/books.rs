//! Odoo's own check that posted accounting entries were not altered: a chain of hashes over the entries of a journal.
//!
//! `res.company._check_hash_integrity` is private, and private methods cannot be called from outside. A server action can
//! call it, and making and running one needs public methods only (`ir.actions.server` `create` and `run`), without
//! loading a second registry as `odoo shell` would, and without reading a translated report. The action is a row in the
//! sandbox's database and goes with it.
//!
//! The answers are told apart: *verified*, *corrupted*, *no data* (nothing is hashed: the check says nothing), because
//! Odoo's report looks much the same for the first and the last.

use std::time::Duration;

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

/// Results of every company.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// One entry per chain.
    pub journals: Vec<Journal>,
    /// Journals that have entries with a hash, counted beside the check.
    pub hashed: Vec<Hashed>,
}

/// A journal that has entries with a hash, whether Odoo looks at it or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashed {
    /// The company.
    pub company: String,
    /// The journal's name.
    pub journal: String,
    /// How many of its entries have a hash.
    pub entries: u64,
}

impl Hashed {
    /// Whether this answer is of the journal: it has the journal's name, or the name and the beginning of a sequence in brackets.
    fn is_of(&self, answer: &Journal) -> bool {
        let rest = answer.name.strip_prefix(&self.journal);
        answer.company == self.company && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
    }
}

impl Books {
    /// How many chains are in a state.
    pub fn count(&self, state: State) -> usize {
        self.journals.iter().filter(|journal| journal.state == state).count()
    }

    /// How many entries have a hash.
    pub fn entries(&self) -> u64 {
        self.hashed.iter().map(|hashed| hashed.entries).sum()
    }

    /// Journals with hashed entries of which no answer speaks: Odoo looks at none that is not in strict mode any more.
    pub fn unseen(&self) -> Vec<&Hashed> {
        let is_seen = |hashed: &Hashed| {
            let looked = self.journals.iter().filter(|answer| answer.state != State::NoData);
            looked.into_iter().any(|answer| hashed.is_of(answer))
        };
        self.hashed.iter().filter(|hashed| !is_seen(hashed)).collect()
    }
}

/// `getattr` is not there in a server action; a method whose name begins with one underscore may be called. Archived companies
/// and journals have books too; nobody may choose an archived company, hence `sudo`. Localisations that answer themselves
/// (Portugal) say `name` and `msg`. How many entries are hashed is counted beside the check: an answer without any chain means
/// something else when there are some.
const PROGRAM: &str = "\
results = []
hashed = []
for company in env['res.company'].with_context(active_test=False).search([]):
    scoped = company.sudo().with_context(lang='en_US', allowed_company_ids=[company.id])
    for journal in scoped.env['account.journal'].with_context(active_test=False).search([('company_id', '=', company.id)]):
        entries = scoped.env['account.move'].search_count([('journal_id', '=', journal.id), ('inalterable_hash', '!=', False)])
        if entries:
            hashed.append({'company': company.name, 'journal': journal.name, 'entries': entries})
    for result in scoped._check_hash_integrity()['results']:
        results.append({
            'company': company.name,
            'journal': result.get('journal_name') or result.get('name') or '',
            'status': result.get('status') or '',
            'message': str(result.get('msg_cover') or result.get('msg') or ''),
            'first_hash': str(result.get('first_hash') or ''),
        })
action = {'type': 'ir.actions.client', 'tag': 'lifeboat_books', 'params': {'results': results, 'hashed': hashed}}
";

/// Runs the check in a sandbox as the session's user, who must be an administrator and see the books (`login::prepare` sees to it).
/// It reads every hashed entry, so it has a limit of its own. None where accounting is not installed.
pub async fn check(session: &Session, limit: Duration) -> Result<Option<Books>> {
    let models = session
        .search_read("ir.model", json!([["model", "in", ["account.move", "res.company"]]]), &["model"], 2)
        .await?;
    let id_of = |name: &str| models.iter().find(|model| model["model"] == name).and_then(|model| model["id"].as_i64());
    if id_of("account.move").is_none() {
        return Ok(None);
    }
    let model = id_of("res.company").ok_or_else(|| Error::unexpected("ir.model", "no res.company"))?;
    let action = json!({"name": "Lifeboat: check of the books", "model_id": model, "state": "code", "code": PROGRAM});
    let created = session.call("ir.actions.server", "create", json!([action]), json!({})).await?;
    let id = created.as_i64().or_else(|| created[0].as_i64());
    let id = id.ok_or_else(|| Error::unexpected("ir.actions.server.create", shorten(&created.to_string(), 80)))?;
    let answer = session.call_within(limit, "ir.actions.server", "run", json!([[id]]), json!({})).await?;
    read(&answer).map(Some)
}

fn read(answer: &Value) -> Result<Books> {
    let unexpected = || Error::unexpected("the check of the books", shorten(&answer.to_string(), 120));
    let results = answer.pointer("/params/results").and_then(Value::as_array).ok_or_else(unexpected)?;
    let hashed = answer.pointer("/params/hashed").cloned().ok_or_else(unexpected)?;
    let hashed: Vec<Hashed> = serde_json::from_value(hashed).map_err(|_| unexpected())?;
    let journals = results.iter().map(|result| {
        let text = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
        Journal {
            company: text("company"),
            name: text("journal"),
            state: state(&text("status"), &text("message"), &text("first_hash")),
            message: shorten(&text("message"), 200),
        }
    });
    Ok(Books { journals: journals.collect(), hashed })
}

/// 18.0 and later say it (19.0 leaves journals without hashed entries out altogether); before, the English sentence and the
/// first hash do. A chain that is broken at its first entry has no first hash, so the sentence comes before.
fn state(status: &str, message: &str, first_hash: &str) -> State {
    let hashed = !matches!(first_hash, "" | "None" | "False");
    let is_empty = ["any journal entry flagged", "no journal entry flagged", "not in strict mode"];
    match status {
        "verified" => State::Verified,
        "corrupted" => State::Corrupted,
        "no_data" | "not_checked" => State::NoData,
        _ if message.starts_with("Corrupted data") => State::Corrupted,
        _ if is_empty.iter().any(|words| message.contains(words)) => State::NoData,
        _ if hashed => State::Verified,
        _ => State::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verified_corrupted_and_no_data_are_told_apart() {
        let answer = json!({"params": {"hashed": [{"company": "A", "journal": "Sales", "entries": 9}], "results": [
            {"company": "A", "journal": "Sales (INV/...)", "status": "verified", "message": "Entries are correctly hashed", "first_hash": "$4$ab"},
            {"company": "A", "journal": "Cash", "status": "no_data", "message": "", "first_hash": ""},
            {"company": "A", "journal": "Old", "status": "", "message": "Corrupted data on journal entry with id 7.", "first_hash": "None"},
            {"company": "A", "journal": "Old2", "status": "", "message": "There isn't any journal entry flagged for data inalterability yet for this journal.", "first_hash": "None"},
            {"company": "A", "journal": "Old3", "status": "", "message": "All entries are hashed.", "first_hash": "abc"},
            {"company": "A", "journal": "Old4", "status": "", "message": "This journal is not in strict mode.", "first_hash": "None"},
            {"company": "A", "journal": "New", "status": "", "message": "Was sonst", "first_hash": ""},
        ]}});
        let books = read(&answer).unwrap();
        let states: Vec<State> = books.journals.iter().map(|journal| journal.state).collect();
        let expected = [
            State::Verified,
            State::NoData,
            State::Corrupted,
            State::NoData,
            State::Verified,
            State::NoData,
            State::Unknown,
        ];
        assert_eq!(states, expected);
        assert_eq!((books.count(State::NoData), books.entries()), (3, 9));
    }

    #[test]
    fn another_answer_is_an_error() {
        assert!(read(&json!(false)).is_err());
    }

    #[test]
    fn hashed_entries_that_no_answer_speaks_of_are_known() {
        let hashed = |company: &str, journal: &str| json!({"company": company, "journal": journal, "entries": 5});
        let result = |journal: &str, status: &str| json!({"company": "A", "journal": journal, "status": status});
        let answer = json!({"params": {
            "hashed": [hashed("A", "Sales"), hashed("A", "Sale"), hashed("A", "Old"), hashed("B", "Sales"), hashed("A", "Cash")],
            "results": [result("Sales (INV/...)", "verified"), result("Old", "not_checked"), result("Cash", "corrupted")],
        }});
        let books = read(&answer).unwrap();
        let unseen: Vec<_> = books.unseen().iter().map(|one| format!("{} {}", one.company, one.journal)).collect();
        assert_eq!(unseen, ["A Sale", "A Old", "B Sales"]);
    }
}
