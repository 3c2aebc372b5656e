//! Rung 12: Odoo's own inalterability check.

use lifeboat_odoo::{
    books::{self, State},
    rpc::Session,
};

use crate::{checks::some, error::Result, ladder::Answer};

/// Corrupted fails; nothing hashed is no pass.
pub(crate) async fn integrity(session: &Session, database: &str) -> Result<Answer> {
    let books = books::check(session).await?;
    let (verified, corrupted) = (books.count(State::Verified), books.count(State::Corrupted));
    let (no_data, unknown) = (books.count(State::NoData), books.count(State::Unknown));
    let seen = format!("{database}: {verified} chains verified, {no_data} journals without hashed entries");
    if corrupted > 0 {
        let broken = books.journals.iter().filter(|journal| journal.state == State::Corrupted);
        let names: Vec<String> = broken.map(|journal| format!("{}: {}", journal.name, journal.message)).collect();
        return Ok(Answer::failed(format!("{database}: {}", some(&names, corrupted as u64)))
            .in_public(format!("{database}: {corrupted} chains corrupted, {verified} verified")));
    }
    Ok(match (verified, unknown) {
        (_, 1..) => Answer::not_executed(format!("{database}: {unknown} answers cannot be told apart")),
        (0, 0) => Answer::not_executed(format!("{database}: no journal entry is hashed")),
        _ => Answer::passed(seen),
    })
}
