//! Rungs 10 to 12: Odoo boots on the copy and is used, as a person would.

use std::time::Instant;

use lifeboat_odoo::login;

use super::{
    Climb,
    content::Ready,
    prepare::{Odoo, Prepared},
    replay::Replayed,
};
use crate::{
    checks::{self, own::Running},
    error::Result,
    ladder::{self, Answer, Answered, Ladder, Spec},
    odoo,
    run::DrillRequest,
};

impl Climb {
    /// Rungs 10 to 12; whether Odoo served at all.
    pub(super) async fn serve(
        &mut self,
        request: &DrillRequest,
        prepared: &Prepared,
        replayed: &mut Replayed,
        ready: &Ready,
    ) -> Result<bool> {
        let Ok(odoo) = &prepared.odoo else { return Ok(false) };
        self.begin_phase("boot");
        let modules = checks::boot::modules(&ready.program, &ready.installed, &prepared.layout.missing_addons);
        self.ladder.record(ladder::MODULES.ask(async { Ok(modules) }).await);
        let mut people = Vec::new();
        for (database, client) in &mut replayed.clients {
            let login = login::prepare(client).await?;
            people.push((database.clone(), login, checks::usage::expect(client).await?));
        }
        let booting = Instant::now();
        let mut serving = odoo::Server::start(&odoo.container, odoo.user, &ready.program, &request.databases).await?;
        let registry = serving
            .ready(request.databases.len(), request.config.timeout.0)
            .await
            .map(|serves| checks::boot::registry(serves, &serving.log(), &request.databases));
        let answer = registry.unwrap_or_else(|error| Answer::broken(&error));
        let booted = self.stop_unless_passed(&ladder::REGISTRY, answer, booting.elapsed());
        if booted.is_some() {
            self.begin_phase("use");
            let mut answers = Use::default();
            for (database, login, expected) in &people {
                self.visit(odoo, &serving, database, (login, expected), &mut answers).await;
            }
            answers.record(&mut self.ladder);
            let people: Vec<_> = people.iter().map(|(database, login, _)| (database.as_str(), login)).collect();
            let running = Running {
                postgres: &replayed.server,
                odoo: &odoo.container,
                user: odoo.user,
                base: &serving.base,
            };
            self.ask_own(request, running, &people).await;
        }
        self.ladder.record(ladder::LOG.ask(async { Ok(checks::boot::log(&serving.log())) }).await);
        if booted.is_none() {
            return Ok(false);
        }
        if let Some(code) = serving.exit_code().await? {
            self.public_notes.push(format!("Odoo ended with code {code} while it was used"));
        }
        if let Some(code) = replayed.server.exit_code().await? {
            self.public_notes.push(format!("PostgreSQL ended with code {code} while it was used"));
        }
        Ok(true)
    }

    /// Rungs 11 and 12 in one database.
    async fn visit(
        &mut self,
        odoo: &Odoo,
        serving: &odoo::Server,
        database: &str,
        (login, expected): (&login::SandboxLogin, &checks::usage::Expected),
        answers: &mut Use,
    ) {
        let asked = Instant::now();
        let session = match checks::usage::login(&serving.base, database, login).await {
            Ok((session, answer)) => {
                answers.login.push(ladder::LOGIN.answered(answer, asked.elapsed()));
                session
            }
            Err(error) => {
                answers.login.push(ladder::LOGIN.answered(Answer::broken(&error), asked.elapsed()));
                return;
            }
        };
        self.rto.get_or_insert(self.begun.elapsed());
        let (records, content, assets) = tokio::join!(
            ladder::RECORDS.ask(checks::usage::records(&session, database, expected)),
            ladder::CONTENT.ask(checks::usage::content(&session, database, expected)),
            ladder::ASSETS.ask(checks::usage::assets(&serving.base, database)),
        );
        answers.records.push(records);
        answers.content.push(content);
        answers.assets.push(assets);
        answers
            .invoice
            .push(ladder::INVOICE.ask(checks::usage::invoice(&session, &odoo.container, odoo.user, expected)).await);
        answers.books.push(ladder::BOOKS.ask(checks::books::integrity(&session, database)).await);
    }
}

/// The answers of rungs 11 and 12 by database.
#[derive(Default)]
struct Use {
    login: Vec<Answered>,
    records: Vec<Answered>,
    content: Vec<Answered>,
    assets: Vec<Answered>,
    invoice: Vec<Answered>,
    books: Vec<Answered>,
}

impl Use {
    fn record(self, ladder: &mut Ladder) {
        let rungs = [
            (ladder::LOGIN, self.login),
            (ladder::RECORDS, self.records),
            (ladder::CONTENT, self.content),
            (ladder::ASSETS, self.assets),
            (ladder::INVOICE, self.invoice),
            (ladder::BOOKS, self.books),
        ];
        for (spec, answers) in rungs {
            ladder.record(merge(&spec, answers));
        }
    }
}

/// One check of many databases' answers: the worst verdict, everything that was seen, the time of all.
pub(super) fn merge(spec: &Spec, answers: Vec<Answered>) -> Answered {
    merge_as(spec.not_executed("no database was reached"), answers)
}

/// [`merge`] where no [`Spec`] tells what to say of none.
pub(super) fn merge_as(none: Answered, answers: Vec<Answered>) -> Answered {
    use lifeboat_model::check::Verdict;
    let mut merged = none;
    let badness = |answer: &&Answered| match &answer.check.verdict {
        Verdict::Failed(_) => 2,
        Verdict::NotExecuted(_) => 1,
        Verdict::Passed => 0,
    };
    let Some(worst) = answers.iter().max_by_key(badness) else { return merged };
    let join = |texts: Vec<&str>| texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    merged.check.verdict = worst.check.verdict.clone();
    merged.check.observed = join(answers.iter().map(|answer| answer.check.observed.as_str()).collect());
    merged.check.duration_ms = answers.iter().map(|answer| answer.check.duration_ms).sum();
    if answers.iter().any(|answer| answer.public.is_some()) {
        let public = answers.iter().map(|answer| answer.public.as_deref().unwrap_or(&answer.check.observed));
        merged.public = Some(join(public.collect()));
    }
    merged
}
