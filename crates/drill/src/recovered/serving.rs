//! Rungs 10 to 12 on a recovered system: the Odoo that people are to use. Nobody is made a user in it.

use std::time::{Duration, Instant};

use lifeboat_odoo::{boot_log::Scanner, login::SandboxLogin, rpc::Session};
use tokio_postgres::Client;
use url::Url;

use super::{
    Found, Request, Rung, database,
    server::{self, Inside, Server},
};
use crate::{
    checks,
    climb::merge,
    error::{Error, Result, with_causes},
    ladder::{self, Answer},
    odoo::{self, Layout},
    sandbox::Docker,
    timing::Timing,
};

/// Where Odoo listens in its container.
const PORT: u16 = 8069;
/// One page.
const PAGE: Duration = Duration::from_secs(60);
/// Sessions of others than us.
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename IS NOT NULL \
                        AND (usename <> current_user OR application_name <> current_setting('application_name'))";

/// Asks; gives what was asked, for people.
pub(super) async fn climb(
    request: &Request,
    rungs: &[Rung],
    server: &Server,
    docker: Option<&Docker>,
    found: &mut Found<'_>,
) -> Result<Option<String>> {
    let begun = Instant::now();
    let reached = async {
        let inside = inside(request, docker).await?;
        let clients = database::clients(request, server).await?;
        let url = url(request, docker, inside.as_ref()).await?;
        Ok::<_, Error>((inside, clients, url))
    };
    let (inside, clients, url) = match reached.await {
        Ok(reached) => reached,
        Err(error) => {
            let asked = rungs.iter().filter(|rung| rung.asks_odoo()).flat_map(|rung| rung.demanded()).copied();
            database::impossible(&error, begun, found, &asked.collect::<Vec<_>>());
            return Err(error);
        }
    };
    if rungs.contains(&Rung::Boot) {
        boot(request, server, inside.as_ref(), (&clients, &url), found).await;
    }
    if rungs.contains(&Rung::Use) || rungs.contains(&Rung::Books) {
        work(request, rungs, (&clients, &url), found).await;
    }
    Ok(Some(match &inside {
        Some(inside) => format!("Odoo in the container {} ({url})", inside.name),
        None => format!("Odoo at {url}"),
    }))
}

async fn inside(request: &Request, docker: Option<&Docker>) -> Result<Option<Inside>> {
    let Some(docker) = docker else { return Ok(None) };
    match server::odoo_container(request, docker).await? {
        Some(used) => Ok(Some(Inside::of(docker, "odoo", &used).await?)),
        None => Ok(None),
    }
}

async fn url(request: &Request, docker: Option<&Docker>, inside: Option<&Inside>) -> Result<Url> {
    if let Some(url) = &request.url {
        return Ok(url.clone());
    }
    let unknown =
        || Error::NotRecovered { why: "nobody has said where the recovered Odoo answers: --url http://…".to_owned() };
    let (Some(docker), Some(inside)) = (docker, inside) else { return Err(unknown()) };
    let (address, _) = docker.whereabouts(&inside.container.id).await?;
    format!("http://{}:{PORT}/", address.ok_or_else(unknown)?).parse().map_err(|_| unknown())
}

/// Rung 10.
async fn boot(
    request: &Request,
    server: &Server,
    inside: Option<&Inside>,
    (clients, url): (&[(String, Client)], &Url),
    found: &mut Found<'_>,
) {
    let begun = Instant::now();
    match inside {
        Some(inside) => match fits(inside, clients).await {
            Ok((image, modules)) => {
                found.record(ladder::IMAGE.answered(image, begun.elapsed()));
                found.record(ladder::MODULES.answered(modules, begun.elapsed()));
            }
            Err(error) => database::impossible(&error, begun, found, &[ladder::IMAGE, ladder::MODULES]),
        },
        None => {
            let why = "the container of the recovered Odoo is not known: name it with --odoo-container";
            for spec in [ladder::IMAGE, ladder::MODULES, ladder::LOG] {
                found.record(spec.not_executed(why));
            }
        }
    }
    let extensions = checks::extensions::available(server, &request.record.databases);
    found.record(ladder::EXTENSIONS.ask(extensions).await);
    found.record(ladder::REGISTRY.ask(serves(clients, url)).await);
    if let Some(inside) = inside {
        found.record(ladder::LOG.ask(log(inside)).await);
    }
}

/// Whether the image is of the databases' series, and has their modules.
async fn fits(inside: &Inside, clients: &[(String, Client)]) -> Result<(Answer, Answer)> {
    let installed = database::installed(clients).await?;
    let none = Layout { filestore: None, single: None, addons: Vec::new(), missing_addons: Vec::new() };
    let timing = Timing::new(Instant::now());
    let probed = odoo::probe(&inside.container, &inside.image, inside.user, &none, &timing).await?;
    let image = checks::boot::image(&inside.image.reference, &probed, &installed);
    let modules = match &probed {
        Ok(program) => checks::boot::modules(program, &installed, &[]),
        Err(why) => Answer::not_executed(why.clone()),
    };
    Ok((image, modules))
}

/// The login page of every database, from an Odoo that has sessions with the restored server.
async fn serves(clients: &[(String, Client)], url: &Url) -> Result<Answer> {
    let mut seen = Vec::new();
    for (name, client) in clients {
        let visitor = Session::new(url.clone(), PAGE)?;
        let page = visitor.page(&format!("/web/login?db={}", checks::usage::encode(name))).await?;
        if !page.contains("name=\"password\"") && !page.contains("name=\"login\"") {
            return Ok(Answer::failed(format!("{name}: what {url} serves is no login page")));
        }
        let row = client.query_one(SESSIONS, &[]).await.map_err(Error::sql("count Odoo's sessions"))?;
        let sessions: i64 = row.get(0);
        if sessions == 0 {
            let why = format!("{name}: {url} serves, and nobody but us has a session with the restored database");
            return Ok(Answer::failed(why));
        }
        seen.push(format!("{name}: login page served, {sessions} sessions with the restored database"));
    }
    Ok(Answer::passed(seen.join("; ")))
}

/// What Odoo has printed since it was started.
async fn log(inside: &Inside) -> Result<Answer> {
    let mut scanner = Scanner::default();
    inside.container.log_lines(|line| scanner.push(line)).await?;
    Ok(checks::boot::log(scanner.report(), true))
}

/// Rungs 11 and 12, by somebody who exists.
async fn work(request: &Request, rungs: &[Rung], (clients, url): (&[(String, Client)], &Url), found: &mut Found<'_>) {
    let mut specs = Vec::new();
    if rungs.contains(&Rung::Use) {
        specs.extend([ladder::LOGIN, ladder::RECORDS, ladder::CONTENT, ladder::ASSETS]);
    }
    if rungs.contains(&Rung::Books) {
        specs.push(ladder::BOOKS);
    }
    let Some(person) = &request.person else {
        let why = "nobody is made a user in production: give somebody who can log in with --user and --password-file";
        for spec in &specs {
            found.record(spec.not_executed(why));
        }
        return;
    };
    let mut answers: Vec<Vec<ladder::Answered>> = specs.iter().map(|_| Vec::new()).collect();
    for (name, client) in clients {
        let begun = Instant::now();
        let opened = async {
            let query = "SELECT id FROM res_users WHERE login = $1";
            let row = client.query_opt(query, &[&person.login]).await.map_err(Error::sql("look for the user"))?;
            let Some(row) = row else { return Ok(Err(format!("{name}: there is no user {}", person.login))) };
            let login = SandboxLogin { id: row.get(0), login: person.login.clone(), password: person.password.clone() };
            let (session, _) = checks::usage::login(url, name, &login).await?;
            let is_that = session.user() == Some(i64::from(login.id));
            let answer = Answer::when(is_that, format!("{name}: {} has a session", person.login));
            Ok::<_, Error>(Ok((session, answer)))
        };
        let (session, login) = match opened.await {
            Ok(Ok(opened)) => opened,
            Ok(Err(why)) => {
                not_logged_in(Answer::not_executed(why), begun, &specs, &mut answers);
                continue;
            }
            Err(error) => {
                not_logged_in(Answer::broken(&error), begun, &specs, &mut answers);
                continue;
            }
        };
        let mut login = Some(ladder::LOGIN.answered(login, begun.elapsed()));
        for (spec, answers) in specs.iter().zip(&mut answers) {
            let answered = match spec.id {
                id if id == ladder::LOGIN.id => match login.take() {
                    Some(login) => login,
                    None => continue,
                },
                id if id == ladder::RECORDS.id => spec.ask(checks::usage::records(&session, client, name)).await,
                id if id == ladder::CONTENT.id => {
                    let content = async {
                        let expected = checks::usage::expect(client, &request.record.point).await?;
                        checks::usage::content(&session, name, &expected).await
                    };
                    spec.ask(content).await
                }
                id if id == ladder::ASSETS.id => spec.ask(checks::usage::assets(url, &session, name)).await,
                _ => spec.ask(books(&session, name, request.limit)).await,
            };
            answers.push(answered);
        }
    }
    for (spec, answers) in specs.iter().zip(answers) {
        found.record(merge(spec, answers));
    }
}

/// Odoo's check; it refuses to tell whoever has no right to accounting, and that says nothing of the books.
async fn books(session: &Session, name: &str, limit: Duration) -> Result<Answer> {
    match checks::books::integrity(session, name, limit).await {
        Err(error @ Error::Odoo(lifeboat_odoo::Error::Rpc { .. })) => {
            Ok(Answer::not_executed(format!("{}: give a user who may see accounting", with_causes(&error))))
        }
        answered => answered,
    }
}

/// What the login answered, and that the rest was not asked.
fn not_logged_in(answer: Answer, begun: Instant, specs: &[ladder::Spec], answers: &mut [Vec<ladder::Answered>]) {
    let mut answer = Some(answer);
    for (spec, answers) in specs.iter().zip(answers) {
        let answered = match answer.take_if(|_| spec.id == ladder::LOGIN.id) {
            Some(answer) => spec.answered(answer, begun.elapsed()),
            None => spec.not_executed("nobody could log in"),
        };
        answers.push(answered);
    }
}
