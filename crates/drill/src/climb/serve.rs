//! Rungs 10 to 12: Odoo boots on the copy and is used, as a person would.

use std::time::{Duration, Instant};

use lifeboat_evidence::drill::Worker;
use lifeboat_odoo::login::{self, SandboxLogin};
use tokio_postgres::Client;

use super::{Climb, content::Ready, prepare::Prepared, replay::Replayed};
use crate::{
    checks::{self, own::Running},
    error::{Error, Result, with_causes},
    ladder::{self, Answer, Answered, Ladder, Spec},
    odoo,
    run::DrillRequest,
    screenshot,
};

/// How long the last line of Odoo's log may take to come.
const LOG_LIMIT: Duration = Duration::from_secs(10);

/// What the wait for Odoo to serve, and for the first login, is called.
pub(crate) const BOOT: &str = "boot";
/// The same of a login.
pub(crate) const LOGIN: &str = "login";

/// An Odoo that serves.
pub(super) struct Served {
    pub odoo: odoo::Server,
    /// By database, where one could be made: the sandbox's user.
    pub logins: Vec<(String, SandboxLogin)>,
}

impl Climb {
    /// Rungs 10 to 12; nothing where Odoo did not serve at all.
    pub(super) async fn serve(
        &mut self,
        request: &DrillRequest,
        prepared: &Prepared,
        replayed: &mut Replayed,
        ready: &Ready,
    ) -> Result<Option<Served>> {
        let Ok(odoo) = &prepared.odoo else { return Ok(None) };
        self.begin_phase("boot");
        let modules = checks::boot::modules(&ready.program, &ready.installed, &prepared.layout.missing_addons);
        self.ladder.record(ladder::MODULES.ask(async { Ok(modules) }).await);
        let extensions = checks::extensions::available(&replayed.server, &request.databases);
        self.ladder.record(ladder::EXTENSIONS.ask(extensions).await);
        let seed = request.run.to_string();
        let mut visits = Vec::new();
        for (database, client) in &mut replayed.clients {
            // A user that cannot be made is told by rung 11: Odoo boots without.
            let login = login::prepare(client).await.map_err(Error::from);
            visits.push((database.clone(), login, checks::usage::expect(client, &seed).await?));
        }
        let timing = self.timing.clone();
        let booting = Instant::now();
        let mut serving = odoo::Server::start(&odoo.container, odoo.user, &ready.program, &request.databases).await?;
        let (serves, printer) = tokio::join!(
            timing.during(Worker::Odoo, BOOT, serving.ready(request.databases.len(), request.config.timeout.0)),
            checks::usage::printer(&odoo.container, odoo.user),
        );
        let answer = match serves {
            Ok(serves) => {
                let sessions = if serves { checks::boot::sessions(&replayed.clients).await? } else { Vec::new() };
                checks::boot::registry(serves, &serving.log(), &request.databases, &sessions)
            }
            Err(error) => Answer::broken(&error),
        };
        let booted = self.stop_unless_passed(&ladder::REGISTRY, answer, booting.elapsed());
        if booted.is_some() && !self.is_found(request) {
            self.begin_phase("use");
            let mut answers = Use::default();
            for ((database, login, expected), (_, client)) in visits.iter().zip(&replayed.clients) {
                let visit = Visit {
                    database,
                    login,
                    expected,
                    client,
                    printer: &printer,
                    limit: request.config.timeout.0 / 2,
                    is_control: request.sabotage.is_some(),
                };
                self.visit(&serving, visit, &mut answers).await;
            }
            answers.record(&mut self.ladder);
            let known = |(database, login, _): &'_ (String, Result<SandboxLogin>, _)| {
                login.as_ref().ok().map(|login| (database.clone(), login.clone()))
            };
            let people: Vec<_> = visits.iter().filter_map(known).collect();
            let people: Vec<_> = people.iter().map(|(database, login)| (database.as_str(), login)).collect();
            let running =
                Running { postgres: &replayed.server, odoo: &odoo.container, user: odoo.user, base: &serving.base };
            self.ask_own(request, running, &people).await;
        }
        let read = async {
            let settled = serving.settled(LOG_LIMIT).await;
            Ok(checks::boot::log(&serving.log(), settled))
        };
        self.ladder.record(ladder::LOG.ask(read).await);
        if booted.is_none() {
            return Ok(None);
        }
        if let Some(code) = serving.exit_code().await? {
            self.public_notes.push(format!("Odoo ended with code {code} while it was used"));
        }
        if let Some(code) = replayed.server.exit_code().await? {
            self.public_notes.push(format!("PostgreSQL ended with code {code} while it was used"));
        }
        let known = visits.into_iter().filter_map(|(database, login, _)| Some((database, login.ok()?)));
        Ok(Some(Served { odoo: serving, logins: known.collect() }))
    }

    /// Rungs 11 and 12 in one database: after the login all at the same time.
    async fn visit(&mut self, serving: &odoo::Server, visit: Visit<'_>, answers: &mut Use) {
        let Visit { database, login, expected, client, printer, limit, is_control } = visit;
        let timing = self.timing.clone();
        let asked = Instant::now();
        let opened = match login {
            Ok(login) => {
                let opening = checks::usage::login(&serving.base, database, login);
                timing.during(Worker::Odoo, LOGIN, opening).await
            }
            Err(error) => Err(Error::Task(format!("no sandbox user could be made: {}", with_causes(error)))),
        };
        let session = match opened {
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
        // One picture is enough, and a browser takes more than the other checks together.
        let mut picture = None;
        let wanted = !is_control && self.picture.is_none() && answers.screenshot.is_empty();
        let (records, content, assets, invoice, books, screenshot) = tokio::join!(
            timing.during(
                Worker::Odoo,
                "records",
                ladder::RECORDS.ask(checks::usage::records(&session, client, database))
            ),
            timing.during(
                Worker::Odoo,
                "attachments",
                ladder::CONTENT.ask(checks::usage::content(&session, database, expected))
            ),
            timing.during(
                Worker::Odoo,
                "assets",
                ladder::ASSETS.ask(checks::usage::assets(&serving.base, &session, database))
            ),
            timing.during(
                Worker::Odoo,
                "invoice",
                ladder::INVOICE.ask(checks::usage::invoice(&session, printer, expected))
            ),
            timing.during(
                Worker::Odoo,
                "books",
                ladder::BOOKS.ask(checks::books::integrity(&session, database, limit))
            ),
            async {
                let taking = async {
                    let (taken, answer) = screenshot::take(&session, &serving.base, database).await?;
                    picture = taken;
                    Ok(answer)
                };
                if wanted { Some(ladder::SCREENSHOT.ask(taking).await) } else { None }
            },
        );
        answers.screenshot.extend(screenshot);
        self.picture = picture.or(self.picture.take());
        answers.records.push(records);
        answers.content.push(content);
        answers.assets.push(assets);
        answers.invoice.push(invoice);
        answers.books.push(books);
    }
}

/// What is asked of one database.
struct Visit<'a> {
    database: &'a str,
    login: &'a Result<SandboxLogin>,
    expected: &'a checks::usage::Expected,
    client: &'a Client,
    /// Whether the image can print.
    printer: &'a std::result::Result<(), String>,
    /// For what reads as much as there is.
    limit: Duration,
    /// Nobody looks at the picture of a negative control.
    is_control: bool,
}

/// The answers of rungs 11 and 12 by database.
#[derive(Default)]
struct Use {
    login: Vec<Answered>,
    records: Vec<Answered>,
    content: Vec<Answered>,
    assets: Vec<Answered>,
    invoice: Vec<Answered>,
    screenshot: Vec<Answered>,
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
            (ladder::SCREENSHOT, self.screenshot),
            (ladder::BOOKS, self.books),
        ];
        for (spec, answers) in rungs {
            ladder.record(merge(&spec, answers));
        }
    }
}

/// One check of many databases' answers: the worst verdict, everything that was seen, the time of all.
pub(crate) fn merge(spec: &Spec, answers: Vec<Answered>) -> Answered {
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
