//! The climb, one rung after the other, and what surrounds it: time limit, cancellation, teardown.
//!
//! What is independent runs at the same time; what a failed rung makes meaningless is not tried. `climb` returns early at
//! such a rung and says why, and the ladder writes that reason into every check that was not reached.

use std::{
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use jiff::Timestamp;
use lifeboat_evidence::drill::{Comparison, Phase, SoftwareVersions};
use lifeboat_model::{
    config::DrillConfig,
    id::{Instance, RunId, Tenant},
    size::ByteSize,
    time::Span,
};
use lifeboat_odoo::{attachments, login, modules};
use lifeboat_postgres::control::ControlData;
use tokio_postgres::Client;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    checks,
    error::{Error, Result, chain},
    ladder::{self, Answer, Answered, Ladder, Observer, Spec},
    measure,
    odoo::{self, Layout},
    postgres,
    report::{self, DrillReport},
    sandbox::{Container, Docker, Image, Isolation, Limits, Sandbox, Scope, User, teardown},
    source::{Fetched, Sabotage, Selected, Source},
};

/// An engine that hangs must not hang the report with it.
const TEARDOWN_LIMIT: Duration = Duration::from_secs(300);

/// What to rehearse, with what, where.
pub struct DrillRequest {
    /// The run's id, chosen at random by the caller.
    pub run: RunId,
    /// The owner.
    pub tenant: Tenant,
    /// The instance.
    pub instance: Instance,
    /// Its Odoo databases.
    pub databases: Vec<String>,
    /// A role of the source that can log in: it is asked for the superuser's name if there is none called `postgres`.
    pub login_hint: String,
    /// Images, addons, limits.
    pub config: DrillConfig,
    /// Recovery point objective.
    pub rpo: Span,
    /// Recovery time objective.
    pub rto: Span,
    /// Where the data comes from.
    pub source: Arc<dyn Source>,
    /// Below this folder the drill makes its own.
    pub work_root: PathBuf,
    /// The Docker engine's address; none for the usual socket.
    pub docker: Option<String>,
    /// Tells the time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Damages the copy on purpose: a negative control.
    pub sabotage: Option<Arc<dyn Sabotage>>,
}

/// What the climb leaves behind, also when it is stopped in the middle.
struct Climb {
    ladder: Ladder,
    begun: Instant,
    phase_begun: Instant,
    phases: Vec<Phase>,
    docker: Option<Docker>,
    selected: Option<Selected>,
    images: Vec<Image>,
    versions: SoftwareVersions,
    isolation: Option<Isolation>,
    comparison: Comparison,
    newest_commit: Option<Timestamp>,
    rpo: Option<Duration>,
    rto: Option<Duration>,
    not_covered: Vec<(String, u64)>,
    notes: Vec<String>,
    /// Our own words, fit for evidence.
    public_notes: Vec<String>,
    observer: Arc<dyn Observer>,
}

/// Runs a drill to its end. Always gives a report; an error only where nothing could be begun.
pub async fn run(
    request: DrillRequest,
    observer: Arc<dyn Observer>,
    cancel: &CancellationToken,
) -> Result<DrillReport> {
    let started = (request.clock)();
    let begun = Instant::now();
    let work = teardown::make_folder(&request.work_root, request.run)?;
    let mut climb = Climb::new(Arc::clone(&observer), begun);

    let limit = request.config.timeout.0;
    let climbing = AssertUnwindSafe(climb.climb(&request, started, &work)).catch_unwind();
    let mut interrupted = true;
    let stopped = tokio::select! {
        done = climbing => match done {
            Ok(Ok(())) => {
                interrupted = false;
                None
            }
            Ok(Err(error)) => {
                climb.ladder.stop_by(&error);
                None
            }
            Err(_) => Some("the drill ended by a defect of ours; please report this".to_owned()),
        },
        () = cancel.cancelled() => Some("stopped by a person or a signal".to_owned()),
        () = tokio::time::sleep(limit) => Some(format!("the drill took longer than {} (drill.timeout)", request.config.timeout)),
    };
    if let Some(why) = stopped {
        climb.ladder.stop(why);
    }

    climb.begin_phase("tear down");
    let asked = Instant::now();
    let removing = async {
        match interrupted {
            true => teardown::remove_interrupted(climb.docker.as_ref(), request.run, &work).await,
            false => teardown::remove(climb.docker.as_ref(), request.run, &work).await,
        }
    };
    let teardown = tokio::time::timeout(TEARDOWN_LIMIT, removing).await.unwrap_or_else(|_| teardown::Teardown {
        left: vec![format!("not known: Docker did not answer within {} s", TEARDOWN_LIMIT.as_secs())],
        ..teardown::Teardown::default()
    });
    let proof = match teardown.left.is_empty() {
        true => Answer::passed(format!(
            "removed {} containers, {} networks, {} volumes and the folder; nothing is left",
            teardown.containers, teardown.networks, teardown.volumes
        )),
        false => Answer::failed(format!("left: {}", teardown.left.join("; "))),
    };
    climb.ladder.record(ladder::TEARDOWN.answered(proof, asked.elapsed()));
    climb.end_phase(None);
    Ok(climb.finish(request, started, teardown))
}

impl Climb {
    fn new(observer: Arc<dyn Observer>, begun: Instant) -> Climb {
        Climb {
            ladder: Ladder::new(Arc::clone(&observer)),
            begun,
            phase_begun: begun,
            phases: Vec::new(),
            docker: None,
            selected: None,
            images: Vec::new(),
            versions: SoftwareVersions::default(),
            isolation: None,
            comparison: Comparison::None { why: "not reached".to_owned() },
            newest_commit: None,
            rpo: None,
            rto: None,
            not_covered: Vec::new(),
            notes: Vec::new(),
            public_notes: Vec::new(),
            observer,
        }
    }

    /// From the first rung to the last but teardown. Long and straight on purpose: this is the order of the ladder.
    async fn climb(&mut self, request: &DrillRequest, started: Timestamp, work: &Path) -> Result<()> {
        let ladder_stop = |spec: &Spec| format!("{} did not pass", spec.id);
        let databases = &request.databases;
        let restored = work.join("restored");
        self.notes
            .extend(request.sabotage.iter().map(|sabotage| format!("damaged on purpose: {}", sabotage.describe())));

        // Rungs 1 and 2, while the sandbox is prepared.
        self.begin_phase("select");
        let docker = Docker::connect(request.docker.as_deref()).await?;
        self.docker = Some(docker.clone());
        let orphans = teardown::orphans(&docker, &request.work_root, started).await?;
        self.public_notes.extend(orphans.into_iter().map(|orphan| format!("left by a dead drill: {orphan}")));
        let selecting = Instant::now();
        let selected = match request.source.select().await {
            Ok(selected) => selected,
            Err(error) => {
                let answer = Answer::broken(&error);
                self.ladder.record(ladder::SELECT.answered(answer, selecting.elapsed()));
                self.ladder.stop(ladder_stop(&ladder::SELECT));
                return Ok(());
            }
        };
        let age = Span(Duration::from_secs(selected.age_seconds));
        let answer = Answer::passed(format!("{}, {age} old", selected.name));
        self.ladder.record(ladder::SELECT.answered(answer, selecting.elapsed()));
        for check in selected.checks.clone() {
            self.ladder.record(check);
        }
        self.selected = Some(selected.clone());
        // Rung 3, while images are looked up and the network is made.
        self.begin_phase("fetch and place");
        let scope = Scope {
            run: request.run,
            tenant: request.tenant.clone(),
            instance: request.instance.clone(),
            started,
            deadline: started + request.config.timeout.0,
            work: work.to_owned(),
        };
        let fetching = Instant::now();
        let (fetched, postgres_image, odoo_image, sandbox) = tokio::join!(
            request.source.fetch(&selected, &restored),
            docker.image("postgres", &request.config.postgres_image),
            docker.image("odoo", &request.config.odoo_image),
            Sandbox::create(docker.clone(), scope),
        );
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                self.ladder.record(ladder::FETCH.answered(Answer::broken(&error), fetching.elapsed()));
                self.ladder.stop(ladder_stop(&ladder::FETCH));
                return Ok(());
            }
        };
        self.notes.extend(fetched.notes.iter().cloned());
        self.end_phase(Some((fetched.files, fetched.bytes)));
        let answer = match fetched.damage.is_empty() {
            true => Answer::passed(format!("{} files, {}", fetched.files, ByteSize(fetched.bytes))),
            false => Answer::failed(checks::some(&fetched.damage, fetched.damage.len() as u64))
                .in_public(format!("{} objects are damaged or missing", fetched.damage.len())),
        };
        self.ladder.record(ladder::FETCH.answered(answer, fetching.elapsed()));
        if !self.ladder.passed(&ladder::FETCH) {
            self.ladder.stop(ladder_stop(&ladder::FETCH));
            return Ok(());
        }
        if let Some(sabotage) = &request.sabotage {
            sabotage.placed(&restored).await?;
        }
        let sandbox = sandbox?;
        let postgres_image = match postgres_image {
            Ok(image) => image,
            Err(error) => {
                self.ladder.record(ladder::REPLAY.answered(Answer::broken(&error), Duration::ZERO));
                self.ladder.stop(ladder_stop(&ladder::REPLAY));
                return Ok(());
            }
        };
        self.images.push(postgres_image.clone());
        self.images.extend(odoo_image.as_ref().ok().cloned());

        // Rung 4, while Odoo's container is made and asked what it is.
        self.begin_phase("verify files");
        let pgdata = restored.join("pgdata");
        let settings = work.join("postgres");
        postgres::write_settings(&settings)?;
        let layout = Layout::find(&restored, databases, &request.config.addons);
        layout.prepare(work)?;
        // Two containers share what the sandbox may have.
        let limits = Limits { memory: ByteSize(request.config.memory.0 / 2), pids: 512 };
        let (postgres, odoo) = tokio::join!(
            async {
                let container =
                    sandbox.start("postgres", &postgres_image, limits, &postgres::binds(&restored, &settings)).await?;
                let user = User::of(&container, &postgres_image, "postgres").await?;
                for folder in [&pgdata, &settings, &restored.join("tablespaces")] {
                    own(user, folder).await?;
                }
                let files = checks::files::verify(&pgdata, &container, user, request.config.timeout.0).await;
                Ok::<_, Error>((container, user, files))
            },
            start_odoo(&sandbox, odoo_image, limits, &layout, work),
        );
        let (postgres, postgres_user, files) = postgres?;
        files.into_iter().for_each(|check| self.ladder.record(check));
        if !self.ladder.passed(&ladder::MANIFEST) {
            self.ladder.stop(ladder_stop(&ladder::MANIFEST));
            return Ok(());
        }

        // It takes three seconds to be sure that nobody answers: meanwhile the climb goes on.
        let isolated: Vec<Container> =
            [&postgres].into_iter().chain(odoo.as_ref().ok().map(|odoo| &odoo.container)).cloned().collect();
        let isolation = AbortOnDropHandle::new(tokio::spawn(async move { sandbox.isolation(&isolated).await }));

        // Rung 5.
        self.begin_phase("replay");
        let replaying = Instant::now();
        let started_server = match ControlData::read(&pgdata) {
            Ok(control) => postgres::Server::start(&postgres, postgres_user, &control).await,
            Err(error) => Err(error.into()),
        };
        let mut server = match started_server {
            Ok(server) => server,
            Err(error) => {
                self.ladder.record(ladder::REPLAY.answered(Answer::broken(&error), replaying.elapsed()));
                self.ladder.stop(ladder_stop(&ladder::REPLAY));
                return Ok(());
            }
        };
        let limit = replay_limit(request.config.timeout.0, self.begun.elapsed());
        let replay = match server.promoted(limit).await {
            // A server that does not get ready is no restore; the drill itself still has time to say so.
            Err(Error::Timeout { .. }) => server.replay(),
            other => other?,
        };
        self.newest_commit = replay.newest_commit;
        self.ladder
            .record(ladder::REPLAY.answered(checks::replay::judge(&replay, &fetched, &pgdata), replaying.elapsed()));
        if !self.ladder.passed(&ladder::REPLAY) {
            self.ladder.stop(ladder_stop(&ladder::REPLAY));
            return Ok(());
        }
        server.make_role(&settings, &request.login_hint).await?;
        let mut clients = Vec::with_capacity(databases.len());
        for database in databases {
            clients.push((database.clone(), server.connect(database).await?));
        }
        if let Some(sabotage) = &request.sabotage {
            for (database, client) in &clients {
                sabotage.replayed(database, client).await?;
            }
        }
        let version =
            clients[0].1.query_one("SHOW server_version", &[]).await.map_err(Error::sql("ask for the version"))?;
        self.versions.postgres = Some(version.get(0));

        // Rungs 6, 7 and 8 are independent of each other.
        self.begin_phase("check data");
        let mut reports = Vec::new();
        let mut comparison = self.comparison.clone();
        let (amcheck, digests, attachments, isolation, installed) = tokio::join!(
            ladder::AMCHECK.ask(checks::structure::amcheck(
                &postgres,
                postgres_user,
                &server,
                request.config.timeout.0 / 2
            )),
            ladder::DIGESTS.ask(checks::data::compare(&server, fetched.witness.as_ref(), &mut comparison)),
            ladder::ATTACHMENTS.ask(verify_attachments(&clients, &layout, &fetched, &mut reports)),
            isolation,
            list_modules(&clients),
        );
        self.comparison = comparison;
        self.note_attachments(&reports);
        for check in [amcheck, digests, attachments] {
            self.ladder.record(check);
        }
        self.record_isolation(isolation.unwrap_or_else(|error| Err(Error::Task(error.to_string()))));
        let installed = installed?;
        self.versions.modules = Some(installed.iter().map(|(_, modules)| modules.len() as u64).sum());

        // Rung 9. Nothing of Odoo has loaded the database until here.
        self.begin_phase("neutralise");
        let probed = match &odoo {
            Ok(odoo) => odoo.probed.clone(),
            Err(error) => Err(chain(error)),
        };
        let image = match &odoo {
            Ok(_) => checks::boot::image(&request.config.odoo_image, &probed, &installed),
            // An engine without the image says nothing of the backup.
            Err(error) => Answer::impossible(error),
        };
        self.ladder.record(ladder::IMAGE.answered(image, Duration::ZERO));
        let usable =
            if self.ladder.passed(&ladder::IMAGE) { odoo.as_ref().ok().zip(probed.as_ref().ok()) } else { None };
        self.versions.odoo = probed.as_ref().ok().map(|program| program.version.clone());
        let (role, password) = server.odoo_role(databases).await?;
        if let Some((odoo, program)) = usable {
            let host = postgres.address.to_string();
            let database = odoo::Database { host, role: &role, password: &password, names: databases };
            odoo::write_settings(work, odoo.user, program, &database)?;
        }
        let mut neutralised = Vec::new();
        for ((database, client), (_, modules)) in clients.iter_mut().zip(&installed) {
            let has_command = modules::major(modules).is_ok_and(|major| major.facts().neutralize_command);
            let own = usable.filter(|_| has_command).map(|(odoo, program)| checks::neutralise::OwnProgram {
                container: &odoo.container,
                user: odoo.user,
                program,
            });
            neutralised.push(ladder::NEUTRALISE.ask(checks::neutralise::apply(own, database, client)).await);
        }
        self.ladder.record(merge(&ladder::NEUTRALISE, neutralised));
        self.ladder.record(ladder::ASSERT.ask(checks::neutralise::assert(&clients)).await);
        if !self.ladder.passed(&ladder::ASSERT) {
            self.ladder.stop(format!(
                "{} did not pass: Odoo is not started on data that is not neutralised",
                ladder::ASSERT.id
            ));
            return Ok(());
        }
        if !self.ladder.passed(&ladder::ISOLATION) {
            self.ladder.stop(ladder_stop(&ladder::ISOLATION));
            return Ok(());
        }
        let Some((odoo, program)) = usable else {
            self.ladder.stop(ladder_stop(&ladder::IMAGE));
            return Ok(());
        };

        // Rung 10.
        self.begin_phase("boot");
        self.ladder.record(
            ladder::MODULES.ask(async { Ok(checks::boot::modules(program, &installed, &layout.missing_addons)) }).await,
        );
        let mut logins = Vec::new();
        let mut expected = Vec::new();
        for (_, client) in &mut clients {
            logins.push(login::prepare(client).await?);
            expected.push(checks::usage::expect(client).await?);
        }
        let booting = Instant::now();
        let mut serving = odoo::Server::start(&odoo.container, odoo.user, program, databases).await?;
        let registry = serving
            .ready(databases.len(), request.config.timeout.0)
            .await
            .map(|serves| checks::boot::registry(serves, &serving.log(), databases));
        let answer = registry.unwrap_or_else(|error| Answer::broken(&error));
        self.ladder.record(ladder::REGISTRY.answered(answer, booting.elapsed()));
        if !self.ladder.passed(&ladder::REGISTRY) {
            self.ladder.record(ladder::LOG.ask(async { Ok(checks::boot::log(&serving.log())) }).await);
            self.ladder.stop(ladder_stop(&ladder::REGISTRY));
            return Ok(());
        }

        // Rungs 11 and 12.
        self.begin_phase("use");
        let mut answers = Use::default();
        for ((database, login), expected) in databases.iter().zip(&logins).zip(&expected) {
            let asked = Instant::now();
            let session = match checks::usage::login(&serving.base, database, login).await {
                Ok((session, answer)) => {
                    answers.login.push(ladder::LOGIN.answered(answer, asked.elapsed()));
                    session
                }
                Err(error) => {
                    answers.login.push(ladder::LOGIN.answered(Answer::broken(&error), asked.elapsed()));
                    continue;
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
            answers.invoice.push(
                ladder::INVOICE.ask(checks::usage::invoice(&session, &odoo.container, odoo.user, expected)).await,
            );
            answers.books.push(ladder::BOOKS.ask(checks::books::integrity(&session, database)).await);
        }
        answers.record(&mut self.ladder);
        self.ladder.record(ladder::LOG.ask(async { Ok(checks::boot::log(&serving.log())) }).await);
        if let Some(code) = serving.exit_code().await? {
            self.public_notes.push(format!("Odoo ended with code {code} while it was used"));
        }
        if let Some(code) = server.exit_code().await? {
            self.public_notes.push(format!("PostgreSQL ended with code {code} while it was used"));
        }

        // Rung 13.
        let known = self.newest_commit.or(fetched.began);
        self.rpo = measure::rpo(selected.finished, known);
        let mut rpo =
            measure::judge("commit was replayed and the backup's beginning is not known", self.rpo, request.rpo);
        if self.newest_commit.is_none() && self.rpo.is_some() {
            rpo.observed = format!("at most {}: no commit was replayed, so from the backup's beginning", rpo.observed);
        }
        let rto = measure::judge("login was served", self.rto, request.rto);
        self.ladder.record(ladder::RPO.answered(rpo, Duration::ZERO));
        self.ladder.record(ladder::RTO.answered(rto, Duration::ZERO));
        self.ladder.stop("not asked");
        Ok(())
    }

    fn begin_phase(&mut self, name: &str) {
        self.end_phase(None);
        self.observer.phase(name);
        self.phase_begun = Instant::now();
        self.phases.push(report::phase(name, Duration::ZERO, None));
    }

    /// Writes the time of the phase that ends; what it moved stays as it was said first.
    fn end_phase(&mut self, moved: Option<(u64, u64)>) {
        let took = self.phase_begun.elapsed();
        if let Some(last) = self.phases.last_mut() {
            let known = last.files.zip(last.bytes);
            *last = report::phase(&last.name.clone(), took, moved.or(known));
        }
    }

    fn record_isolation(&mut self, isolation: Result<Isolation>) {
        let answer = match &isolation {
            Ok(seen) => seen.answer(),
            Err(error) => Answer::impossible(error),
        };
        self.isolation = isolation.ok();
        self.ladder.record(ladder::ISOLATION.answered(answer, Duration::ZERO));
    }

    fn note_attachments(&mut self, reports: &[(String, attachments::Report)]) {
        for (_, report) in reports {
            for (kind, count) in &report.not_covered {
                match self.not_covered.iter_mut().find(|(known, _)| known == kind) {
                    Some((_, known)) => *known += count,
                    None => self.not_covered.push((kind.clone(), *count)),
                }
            }
        }
    }

    fn finish(self, request: DrillRequest, started: Timestamp, teardown: teardown::Teardown) -> DrillReport {
        let mut ladder = self.ladder;
        ladder
            .record(ladder::SIGNED.not_executed("signed after the report is drawn up: see where the evidence is kept"));
        let answered = ladder.finish();
        let evidence_checks = answered.iter().map(Answered::for_evidence).collect();
        let checks: Vec<_> = answered.into_iter().map(|answered| answered.check).collect();
        let required = ladder::required(&request.config.required);
        let outcome = ladder::outcome(&checks, &required);
        DrillReport {
            run: request.run,
            tenant: request.tenant,
            instance: request.instance,
            started,
            finished: (request.clock)(),
            selected: self.selected,
            checks,
            evidence_checks,
            outcome,
            required,
            comparison: self.comparison,
            phases: self.phases,
            rpo: self.rpo,
            rto: self.rto,
            newest_commit: self.newest_commit,
            targets: report::targets(request.rpo, request.rto, (self.rpo, self.rto)),
            images: self.images,
            versions: self.versions,
            isolation: self.isolation,
            teardown,
            sabotage: request.sabotage.map(|sabotage| sabotage.describe()),
            not_covered: self.not_covered,
            notes: self.notes.iter().chain(&self.public_notes).cloned().collect(),
            public_notes: self.public_notes,
        }
    }
}

/// Three quarters of what is left of the drill's time, but never so little that a slow host would count as a bad backup.
fn replay_limit(timeout: Duration, elapsed: Duration) -> Duration {
    (timeout.saturating_sub(elapsed) * 3 / 4).max(Duration::from_secs(60))
}

/// Odoo's container, and what the image turned out to be.
struct Odoo {
    container: Container,
    user: User,
    probed: Result<odoo::Program, String>,
}

async fn start_odoo(
    sandbox: &Sandbox,
    image: Result<Image>,
    limits: Limits,
    layout: &Layout,
    work: &Path,
) -> Result<Odoo> {
    let image = image?;
    let container = sandbox.start("odoo", &image, limits, &layout.binds(work)).await?;
    let user = match User::of(&container, &image, "odoo").await {
        Ok(user) => user,
        Err(error) => {
            let probed = Err(format!("image {} has no user for Odoo: {}", image.reference, chain(&error)));
            return Ok(Odoo { container, user: User { uid: 65534, gid: 65534 }, probed });
        }
    };
    for path in layout.owned(work) {
        own(user, &path).await?;
    }
    let probed = odoo::probe(&container, &image, user, layout).await?;
    Ok(Odoo { container, user, probed })
}

/// Changes owners off the async threads.
async fn own(user: User, path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || user.own(&path)).await.map_err(|error| Error::Task(error.to_string()))?
}

async fn verify_attachments(
    clients: &[(String, Client)],
    layout: &Layout,
    fetched: &Fetched,
    reports: &mut Vec<(String, attachments::Report)>,
) -> Result<Answer> {
    for (database, client) in clients {
        let folder = layout.of_database(database);
        // Names in the point are relative to the filestore's root; rows name them relative to the database's folder.
        let known = fetched.known_missing.iter().filter_map(|name| match name.rsplit_once(&format!("{database}/")) {
            Some((_, below)) => Some(below.to_owned()),
            None if layout.single.is_some() => Some(name.clone()),
            None => None,
        });
        let place = checks::attachments::Place { folder, known_missing: known.collect() };
        reports.push((database.clone(), checks::attachments::verify(client, place).await?));
    }
    Ok(checks::attachments::judge(reports))
}

async fn list_modules(clients: &[(String, Client)]) -> Result<Vec<(String, Vec<modules::Module>)>> {
    let mut lists = Vec::with_capacity(clients.len());
    for (database, client) in clients {
        lists.push((database.clone(), modules::installed(client).await?));
    }
    Ok(lists)
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
fn merge(spec: &Spec, answers: Vec<Answered>) -> Answered {
    use lifeboat_model::check::Verdict;
    let mut merged = spec.not_executed("no database was reached");
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
