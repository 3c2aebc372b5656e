//! Rung 12: Odoo's own inalterability check.

use std::time::Duration;

use lifeboat_odoo::{
    books::{self, Books, State},
    rpc::Session,
};

use crate::{checks::some, error::Result, ladder::Answer};

/// Asks Odoo; it reads every entry that has a hash.
pub(crate) async fn integrity(session: &Session, database: &str, limit: Duration) -> Result<Answer> {
    Ok(match books::check(session, limit).await? {
        Some(books) => judge(database, &books),
        None => Answer::not_executed(format!("{database}: accounting is not installed")),
    })
}

/// Corrupted fails; nothing hashed is no pass; hashed entries that no answer speaks of are none either.
fn judge(database: &str, books: &Books) -> Answer {
    let (verified, corrupted) = (books.count(State::Verified), books.count(State::Corrupted));
    let (no_data, unknown, hashed) = (books.count(State::NoData), books.count(State::Unknown), books.entries());
    if corrupted > 0 {
        let broken = books.journals.iter().filter(|journal| journal.state == State::Corrupted);
        let names: Vec<String> =
            broken.map(|journal| format!("{}, {}: {}", journal.company, journal.name, journal.message)).collect();
        return Answer::failed(format!("{database}: corrupted: {}", some(&names, corrupted as u64)))
            .in_public(format!("{database}: {corrupted} chains corrupted, {verified} verified"));
    }
    let unseen = books.unseen();
    match (verified, unknown, hashed) {
        (_, 1.., _) => Answer::not_executed(format!("{database}: {unknown} answers cannot be told apart")),
        (0, 0, 0) => Answer::not_executed(format!("{database}: no data: no journal entry is hashed")),
        (0, 0, _) => Answer::not_executed(format!(
            "{database}: {hashed} journal entries are hashed, and Odoo looks at none of them: their journals are not in strict mode"
        )),
        _ if !unseen.is_empty() => {
            let entries: u64 = unseen.iter().map(|journal| journal.entries).sum();
            let names: Vec<String> =
                unseen.iter().map(|journal| format!("{}, {}", journal.company, journal.journal)).collect();
            let why = format!(
                "{database}: Odoo does not look at {entries} of {hashed} hashed journal entries, since {} of {} journals are not in strict mode",
                unseen.len(),
                books.hashed.len()
            );
            Answer::not_executed(format!("{why}: {}", some(&names, names.len() as u64))).in_public(why)
        }
        _ => {
            let rest = if no_data > 0 { format!(", {no_data} journals without data") } else { String::new() };
            Answer::passed(format!("{database}: {verified} chains of {hashed} entries verified{rest}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_model::check::Verdict;
    use lifeboat_odoo::books::{Hashed, Journal};

    use super::*;

    fn verdict(states: &[State], hashed: u64) -> Verdict {
        let journal = |state: &State| Journal {
            company: "A".into(),
            name: "INV".into(),
            state: *state,
            message: "entry 7".into(),
        };
        let entries = Hashed { company: "A".into(), journal: "INV".into(), entries: hashed };
        let hashed = if hashed > 0 { vec![entries] } else { Vec::new() };
        judge("demo", &Books { journals: states.iter().map(journal).collect(), hashed }).verdict
    }

    #[test]
    fn a_chain_that_nobody_looked_at_is_not_verified() {
        let journal = Journal { company: "A".into(), name: "INV".into(), state: State::Verified, message: "".into() };
        let hashed = [("INV", 2), ("Old", 1000)].map(|(journal, entries)| Hashed {
            company: "A".into(),
            journal: journal.into(),
            entries,
        });
        let verdict = judge("demo", &Books { journals: vec![journal], hashed: hashed.into() }).verdict;
        assert!(
            matches!(&verdict, Verdict::NotExecuted(why) if why.contains("1000 of 1002") && why.contains("Old")),
            "{verdict:?}"
        );
    }

    #[test]
    fn only_verified_chains_pass() {
        assert_eq!(verdict(&[State::Verified, State::NoData], 4), Verdict::Passed);
        assert!(
            matches!(verdict(&[State::Verified, State::Corrupted], 4), Verdict::Failed(why) if why.contains("entry 7"))
        );
        for (states, hashed, word) in [
            (&[State::NoData][..], 0, "no data"),
            (&[], 0, "no data"),
            (&[State::NoData], 3, "strict mode"),
            (&[State::Verified, State::Unknown], 4, "told apart"),
        ] {
            assert!(matches!(verdict(states, hashed), Verdict::NotExecuted(why) if why.contains(word)), "{word}");
        }
    }
}
