//! The operator's own checks, on the copy that is in use.

use std::time::{Duration, Instant};

use lifeboat_model::config::{DrillConfig, checks::OwnCheck};
use lifeboat_odoo::login::SandboxLogin;

use super::{Climb, serve::merge_as};
use crate::{
    checks::own::{self, Running},
    ladder::{Answer, Answered, Own},
    run::DrillRequest,
};

impl Climb {
    /// Asks each of the databases it is for, one after the other: they may take as long as they were given.
    pub(super) async fn ask_own(
        &mut self,
        request: &DrillRequest,
        running: Running<'_>,
        people: &[(&str, &SandboxLogin)],
    ) {
        if !request.config.checks.is_empty() {
            self.begin_phase("own checks");
        }
        for check in &request.config.checks {
            let of_interest = |database: &str| check.database.as_deref().is_none_or(|wanted| wanted == database);
            let mut answers: Vec<Answered> = without_login(&request.databases, people)
                .filter(|database| of_interest(database))
                .map(|database| {
                    let why = format!("{database}: no sandbox user could be made");
                    own_check(check).answered(Answer::not_executed(why), Duration::ZERO)
                })
                .collect();
            for (database, login) in people.iter().filter(|(database, _)| of_interest(database)) {
                let asked = Instant::now();
                let answer = own::ask(check, running, database, login).await;
                let mut answer = answer.unwrap_or_else(|error| Answer::impossible(&error));
                if request.databases.len() > 1 {
                    answer.observed = format!("{database}: {}", answer.observed);
                }
                answers.push(own_check(check).answered(answer, asked.elapsed()));
            }
            let none = own_check(check).answered(Answer::not_executed("no database was reached"), Duration::ZERO);
            self.ladder.record(merge_as(none, answers));
        }
    }
}

/// Databases that nobody can log in to, and so nobody asks.
fn without_login<'a>(
    databases: &'a [String],
    people: &'a [(&str, &SandboxLogin)],
) -> impl Iterator<Item = &'a str> + 'a {
    let databases = databases.iter().map(String::as_str);
    databases.filter(|database| people.iter().all(|(known, _)| known != database))
}

/// As the ladder's book knows it.
fn own_check(check: &OwnCheck) -> Own {
    Own { id: check.id.clone(), purpose: check.purpose.clone(), expected: check.question.expected() }
}

/// All that a drill with this configuration is to ask.
pub(super) fn own_checks(config: &DrillConfig) -> Vec<Own> {
    config.checks.iter().map(own_check).collect()
}

/// Ids that this configuration requires besides the ladder's.
pub(super) fn required(config: &DrillConfig) -> Vec<String> {
    let own = config.checks.iter().filter(|check| check.required).map(|check| check.id.clone());
    config.required.iter().cloned().chain(own).collect()
}
