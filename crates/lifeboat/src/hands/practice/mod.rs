//! Practice: the same steps, with the sandbox of a drill in place of production.
//!
//! The step `restore` begins the drill, which climbs its whole ladder and is then held; what comes behind is done in its
//! sandbox. So everything that a drill proves is proven of the practice as well: no way out, no credential of production, all torn
//! down in the end, and signed evidence. Nothing here reads a secret that a runbook names: the sandbox has its own.
//!
//! A practice is not gone on with: its sandbox went with its executor.

mod held;

use std::{fs::File, os::fd::AsRawFd as _};

use lifeboat_drill::ladder::LADDER;
use lifeboat_model::{check::Verdict, secret::Secret};
use lifeboat_odoo::login::SandboxLogin;
use lifeboat_postgres::ConnectOptions;
use lifeboat_runbook::{
    action::{
        Action, Practice,
        decide::By,
        http::Http,
        odoo::{Check, Odoo},
        restore::{Moment, Restore},
        sql::Sql,
        verify::Verify,
        wait::For,
    },
    document::Document,
    execute::{Acting, Finish, Outputs},
    template::Template,
    values,
};
use tokio::sync::Mutex;
use url::{Origin, Url};

use super::{Tools, answers, command, dns, http, kubernetes, notify, odoo, sql, wait};
use crate::cli::drill::hold::ServingFile;
use held::{Checked, Held, Known, Verdicted};

const NOTHING_RESTORED: &str = "nothing was restored before it, and production is left alone";

/// What stands in for production.
pub struct Sandbox {
    /// Where production's Odoo answers, as the runbook says.
    addresses: Vec<Template>,
    held: Mutex<Option<Held>>,
    /// Drills that were let go of.
    over: Mutex<Vec<Verdicted>>,
}

impl Sandbox {
    /// For a run of this runbook and of those that it may run.
    pub fn new<'d>(documents: impl IntoIterator<Item = &'d Document>) -> Sandbox {
        let actions = documents.into_iter().flat_map(|document| document.steps().map(|(_, step)| &step.action));
        let addresses = actions.flat_map(addresses).cloned().collect();
        Sandbox { addresses, held: Mutex::default(), over: Mutex::default() }
    }

    /// Why a step cannot be practised, where that is seen only when it is its turn.
    pub(super) async fn not_practised(&self, action: &Action, acting: &Acting<'_>) -> Option<String> {
        if let Practice::Not(why) = action.practice() {
            return Some(why.to_owned());
        }
        let needs_sandbox = match action {
            Action::Start(_) | Action::Sql(_) | Action::Odoo(_) | Action::Verify(_) => true,
            Action::Http(http) => {
                if http.bearer.is_some() {
                    return Some("it shows a credential of production".to_owned());
                }
                if !self.is_odoo(&http.url, acting) {
                    return Some("no step odoo or verify says that Odoo answers there".to_owned());
                }
                true
            }
            Action::Wait(wait) => match &wait.0 {
                For::Passes { check, .. } => return Box::pin(self.not_practised(check, acting)).await,
                _ => false,
            },
            Action::Decide(decide) => match &decide.by {
                By::Check(check) => return Box::pin(self.not_practised(check, acting)).await,
                By::Question(_) => false,
            },
            _ => false,
        };
        (needs_sandbox && self.held.lock().await.is_none()).then(|| NOTHING_RESTORED.to_owned())
    }

    /// Does it in the sandbox.
    pub(super) async fn act(&self, action: &Action, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
        if let Some(why) = self.not_practised(action, acting).await {
            return Err(format!("it cannot be practised: {why}"));
        }
        match action {
            Action::Restore(restore) => self.restore(restore, acting, tools).await,
            Action::Start(_) => self.serving(tools).await.map(|_| Outputs::new()),
            Action::Sql(sql) => self.sql(sql, acting, tools).await,
            Action::Http(http) => self.http(http, acting, tools).await,
            Action::Odoo(odoo) => self.odoo(odoo, acting, tools).await,
            Action::Verify(verify) => self.verify(verify, acting, tools).await,
            Action::Command(command) => command::act(command, acting, tools).await,
            Action::Dns(dns) => dns::look(dns, acting, tools).await,
            Action::Kubernetes(kubernetes) => kubernetes::act(kubernetes, acting, tools, true).await,
            Action::Notify(message) => {
                notify::show(message, acting, tools, "practice: it is not sent");
                Ok(Outputs::new())
            }
            Action::Wait(wait) => wait::act(wait, acting, tools).await,
            Action::Decide(decide) => answers::act(decide, acting, tools).await,
            Action::Stop(_) | Action::Promote(_) | Action::Webhook(_) => Err("it cannot be practised".to_owned()),
            Action::Approve(_) | Action::Manual(_) | Action::Runbook(_) => {
                Err(format!("a defect of ours: {} was to be done by a program", action.word()))
            }
        }
    }

    /// Lets go of the sandbox; what the drills proved is what the practice proved. A run that has come to its end waits for the
    /// whole ladder, also where none of its steps did.
    pub(super) async fn finish(&self, is_over: bool, tools: &Tools) -> Finish {
        if is_over {
            self.climbed().await;
        }
        self.let_go(tools).await;
        let over = self.over.lock().await;
        let all = |of: fn(&Verdicted) -> Option<&String>| {
            let all: Vec<&str> = over.iter().filter_map(of).map(String::as_str).collect();
            (!all.is_empty()).then(|| all.join(", "))
        };
        let drills = all(|drill| drill.run.as_ref()).map(|runs| ("drill".to_owned(), runs));
        let evidence = all(|drill| drill.evidence.as_ref()).map(|keys| ("evidence".to_owned(), keys));
        let why =
            over.iter().find_map(|drill| drill.why.as_ref()).map(|why| format!("its drill has not passed: {why}"));
        Finish { outputs: drills.into_iter().chain(evidence).collect(), why }
    }

    /// Waits until there is nothing more to be asked in the sandbox.
    async fn climbed(&self) {
        if let Some(held) = self.held.lock().await.as_ref() {
            let _ = held.until(|known| known.file.serving.clone()).await; // why it has ended is told by its verdict
        }
    }

    async fn let_go(&self, tools: &Tools) {
        let Some(held) = self.held.lock().await.take() else { return };
        (tools.talk)("sandbox: it is not needed any more");
        let ended = held.release().await;
        self.over.lock().await.push(ended);
    }

    /// Begins the drill, and comes back when the data are there.
    async fn restore(&self, restore: &Restore, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
        let arguments = arguments(restore, acting)?;
        self.climbed().await;
        self.let_go(tools).await;
        let held = Held::begin(&acting.course.fill(&restore.instance), &arguments, tools)?;
        let mut standing = self.held.lock().await;
        let held = standing.insert(held);
        let restored = held.until(|known| known.file.restored.clone()).await?;
        let newest = restored.newest_commit.map(|newest| newest.to_string());
        let outputs = [
            ("directory", Some(restored.folder.display().to_string())),
            ("point", restored.point),
            ("newest-commit", newest.clone()),
            ("lost-since", newest),
        ];
        Ok(outputs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }

    /// Waits until Odoo serves, everything has been asked and the sandbox is held.
    async fn serving(&self, tools: &Tools) -> Result<(Known, ServingFile), String> {
        let standing = self.held.lock().await;
        let held = standing.as_ref().ok_or_else(|| NOTHING_RESTORED.to_owned())?;
        let found = held.until(|known| known.file.serving.clone().map(|serving| (known.clone(), serving))).await?;
        found.1.logins.iter().for_each(|login| tools.masks.hide(&Secret::new(login.password.as_str())));
        Ok(found)
    }

    /// Whether production's Odoo answers at this address.
    fn is_odoo(&self, url: &Template, acting: &Acting<'_>) -> bool {
        let origin = |template: &Template| origin(&acting.course.fill(template));
        origin(url).is_some_and(|asked| self.addresses.iter().any(|known| origin(known).as_ref() == Some(&asked)))
    }

    async fn sql(&self, statement: &Sql, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
        let (_, serving) = self.serving(tools).await?;
        let failed = |error| format!("cannot open {}: {error}", serving.socket.display());
        let folder = File::open(&serving.socket).map_err(failed)?;
        // The address of a socket has 107 bytes at most, and the folder's path may be longer.
        let host = format!("/proc/self/fd/{}", folder.as_raw_fd());
        let options = ConnectOptions::new(host, serving.port, serving.role);
        sql::run(statement, &options, acting, &tools.masks).await
    }

    async fn http(&self, request: &Http, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
        let (_, serving) = self.serving(tools).await?;
        let url = acting.course.fill(&request.url);
        http::ask(request, moved(&url, &serving.url)?, acting, tools).await
    }

    /// Whoever the runbook names would need a password of production: the sandbox's own user asks instead.
    async fn odoo(&self, question: &Odoo, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
        let (_, serving) = self.serving(tools).await?;
        let login = match &question.check {
            Check::Health => None,
            Check::Login { database, .. } | Check::Modules { database, .. } => {
                let name = acting.course.fill(database);
                let login = serving.logins.iter().find(|login| login.database == name);
                let login = login.ok_or_else(|| format!("the sandbox has no user for database {name}"))?;
                let password = Secret::new(login.password.as_str());
                Some(SandboxLogin { id: 0, login: login.login.clone(), password })
            }
        };
        odoo::ask(question, serving.url, login, acting).await
    }

    /// The answers that the drill's ladder gave.
    async fn verify(&self, verify: &Verify, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
        let (known, serving) = self.serving(tools).await?;
        let wanted = acting.course.fill(&verify.instance);
        let instance = self.held.lock().await.as_ref().map(|held| held.instance.clone()).unwrap_or_default();
        if instance != wanted {
            return Err(format!("the sandbox is one of {instance}, not of {wanted}"));
        }
        let asked = answers_of(&verify.rungs, &known.checks)?;
        let newest = known.file.restored.and_then(|restored| restored.newest_commit).map(|newest| newest.to_string());
        let outputs = [
            ("checks", Some(asked.to_string())),
            ("newest-commit", newest),
            ("rpo-seconds", serving.rpo_seconds.map(|rpo| rpo.to_string())),
        ];
        Ok(outputs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }
}

/// The addresses that an action says Odoo answers at.
fn addresses(action: &Action) -> Vec<&Template> {
    match action {
        Action::Odoo(odoo) => vec![&odoo.url],
        Action::Verify(verify) => verify.url.iter().collect(),
        Action::Wait(wait) => match &wait.0 {
            For::Passes { check, .. } => addresses(check),
            _ => Vec::new(),
        },
        Action::Decide(decide) => match &decide.by {
            By::Check(check) => addresses(check),
            By::Question(_) => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn origin(url: &str) -> Option<Origin> {
    url.parse::<Url>().ok().map(|url| url.origin())
}

/// The same path and query elsewhere.
fn moved(url: &str, to: &Url) -> Result<String, String> {
    let from: Url = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let mut moved = to.clone();
    moved.set_path(from.path());
    moved.set_query(from.query());
    Ok(moved.into())
}

/// How many checks of these rungs have answered, all well; or what did not pass. What could not be asked is no pass.
fn answers_of(rungs: &[&str], checks: &[Checked]) -> Result<usize, String> {
    let (mut passed, mut problems) = (0, Vec::new());
    for rung in rungs {
        let is_of = |id: &str| id.split('.').next() == Some(rung);
        let of_it: Vec<&Checked> = checks.iter().filter(|check| is_of(&check.id)).collect();
        let well = of_it.iter().filter(|check| check.verdict.is_passed()).count();
        if of_it.is_empty() {
            problems.push(format!("{rung}: nothing of it was asked"));
        }
        for check in of_it {
            let is_required = LADDER.iter().any(|spec| spec.id == check.id && spec.required);
            match &check.verdict {
                Verdict::Failed(why) => problems.push(format!("{} failed: {why}", check.id)),
                Verdict::NotExecuted(why) if is_required || well == 0 => {
                    problems.push(format!("{} was not executed: {why}", check.id));
                }
                Verdict::Passed | Verdict::NotExecuted(_) => {}
            }
        }
        passed += well;
    }
    if problems.is_empty() { Ok(passed) } else { Err(problems.join("; ")) }
}

/// Which moment of which repository, with which key: as `lifeboat drill` is told.
fn arguments(restore: &Restore, acting: &Acting<'_>) -> Result<Vec<String>, String> {
    let fill = |template| acting.course.fill(template);
    let mut arguments = Vec::new();
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    match &restore.moment {
        Moment::Latest => {}
        Moment::At(at) => match fill(at) {
            at if at == "latest" => {}
            at => add("--at", at),
        },
        Moment::Point(point) => add("--point", fill(point)),
        Moment::RestorePoint(name) => add("--restore-point", fill(name)),
    }
    if let Some(repository) = &restore.from {
        add("--repository", fill(repository));
    }
    match &restore.identity {
        Some(values::Secret::File(path)) => add("--identity", fill(path)),
        Some(values::Secret::Env(name)) => {
            return Err(format!(
                "the identity in ${name}: name a file with identity_file, or the one of lifeboat.toml"
            ));
        }
        None => {}
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(id: &str, verdict: Verdict) -> Checked {
        Checked { id: id.into(), verdict }
    }

    #[test]
    fn what_was_not_asked_is_no_pass() {
        let passed = |id| checked(id, Verdict::Passed);
        let unasked = |id| checked(id, Verdict::NotExecuted("no browser".into()));
        let failed = |id| checked(id, Verdict::Failed("3 rows".into()));
        let checks = [
            passed("use.login"),
            unasked("use.screenshot"),
            unasked("data.digests"),
            failed("books.integrity"),
            passed("boot.registry"),
            unasked("boot.log"),
        ];
        assert_eq!(answers_of(&["use"], &checks), Ok(1), "a picture is not needed");
        for (rung, word) in [("data", "data.digests"), ("books", "3 rows"), ("boot", "boot.log"), ("files", "nothing")]
        {
            let why = answers_of(&["use", rung], &checks).unwrap_err();
            assert!(why.contains(word) && !why.contains("use."), "{rung}: {why}");
        }
    }

    #[test]
    fn a_request_goes_to_the_sandbox_with_its_path() {
        let to: Url = "http://127.0.0.1:40123/".parse().unwrap();
        let moved = moved("https://erp.example.org/web/health?x=1", &to).unwrap();
        assert_eq!(moved, "http://127.0.0.1:40123/web/health?x=1");
        assert_eq!(origin("https://erp.example.org/a"), origin("https://erp.example.org:443/b"));
        assert_ne!(origin("https://erp.example.org/a"), origin("https://status.example.org/a"));
    }
}
