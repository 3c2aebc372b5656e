//! Rung 9: the copy is made harmless, and asserted to be, before Odoo's first load of it.

use std::time::Duration;

use lifeboat_model::check::Verdict;
use lifeboat_odoo::neutralise::{self, Asserted};
use tokio_postgres::Client;

use crate::{
    error::{Error, Result, with_causes},
    ladder::Answer,
    odoo::{self, Program},
    sandbox::{Container, User},
};

/// Odoo's own program, where the image has the right one.
pub(crate) struct OwnProgram<'a> {
    pub container: &'a Container,
    pub user: User,
    pub program: &'a Program,
    /// What is left of the drill's time.
    pub limit: Duration,
}

/// Runs Odoo's own neutralisation where there is one, then ours.
pub(crate) async fn apply(own: Option<OwnProgram<'_>>, database: &str, client: &mut Client) -> Result<Answer> {
    let (mut said, mut failed) = (Vec::new(), None);
    match own {
        Some(own) => match odoo::neutralise(own.container, own.user, own.program, database, own.limit).await {
            Ok(()) => said.push("odoo neutralize".to_owned()),
            // Ours runs all the same, and the assertions decide; but the failure is not hidden.
            Err(error) => failed = Some(error),
        },
        None => said.push("odoo neutralize not available".to_owned()),
    }
    let applied = neutralise::apply(client).await?;
    let ran = applied.iter().filter(|one| one.rows.is_some()).count();
    let rows: u64 = applied.iter().filter_map(|one| one.rows).sum();
    said.push(format!("{ran} statements of {} apply, {rows} rows changed", applied.len()));
    Ok(match failed {
        Some(error) => not_by_odoo(&error, &said.join(", ")),
        None => Answer::passed(format!("{database}: {}", said.join(", "))),
    })
}

/// Only a program that ended with a failure tells of the backup: one that had no time, or that the engine did not run, does not.
fn not_by_odoo(error: &Error, ours: &str) -> Answer {
    let why = format!("odoo neutralize failed: {}; {ours}", with_causes(error));
    match error {
        Error::Program { .. } => Answer::failed(why).in_public("odoo neutralize failed"),
        _ => Answer::not_executed(why).in_public(format!("odoo neutralize could not be run: {}", error.public())),
    }
}

/// Asks every assertion of every database.
pub(crate) async fn assert(clients: &[(String, Client)]) -> Result<Answer> {
    let (mut held, mut absent, mut wrong) = (0, 0, Vec::new());
    for (database, client) in clients {
        for Asserted { id, verdict, .. } in neutralise::assert(client).await? {
            match verdict {
                Verdict::Passed => held += 1,
                Verdict::NotExecuted(_) => absent += 1,
                Verdict::Failed(why) => wrong.push(format!("{database}: {id}: {why}")),
            }
        }
    }
    Ok(told(held, absent, &wrong))
}

/// A failure names every assertion that does not hold, since whoever mends the neutralisation needs the whole list: there is one
/// line of ours for each.
fn told(held: usize, absent: usize, wrong: &[String]) -> Answer {
    let seen = format!("{held} assertions hold, {absent} do not apply");
    match (wrong.is_empty(), held) {
        (true, 0) => Answer::not_executed("no assertion applies: is this an Odoo database?"),
        (true, _) => Answer::passed(seen),
        (false, _) => Answer::failed(format!("{}; {seen}", wrong.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_assertion_that_does_not_hold_is_named() {
        let wrong: Vec<String> =
            ["a", "b", "c", "d", "e"].map(|id| format!("demo: {id}: counted 1, expected 0")).into();
        let Answer { verdict: Verdict::Failed(why), .. } = told(3, 1, &wrong) else { panic!("it passed") };
        assert!(
            wrong.iter().all(|line| why.contains(line)) && why.ends_with("3 assertions hold, 1 do not apply"),
            "{why}"
        );
        assert_eq!(told(3, 1, &[]).verdict, Verdict::Passed);
        assert!(matches!(told(0, 4, &[]).verdict, Verdict::NotExecuted(_)));
    }

    #[test]
    fn a_slow_host_is_no_bad_backup() {
        let slow = Error::Timeout { what: "odoo neutralize".into(), after: Duration::from_secs(120) };
        let verdict = not_by_odoo(&slow, "9 rows").verdict;
        assert!(matches!(&verdict, Verdict::NotExecuted(why) if why.contains("120 s")), "{verdict:?}");
        let ended = Error::Program { program: "odoo".into(), role: "odoo", code: 1, output: "KeyError".into() };
        assert!(matches!(not_by_odoo(&ended, "").verdict, Verdict::Failed(why) if why.contains("KeyError")));
    }
}
