//! A cluster restored into a sandbox for the sake of what is in it. Not a drill: nothing is judged but the replay, nothing is made
//! harmless, because nothing of it but PostgreSQL is started, and what is taken out is the data as it was.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bollard::container::LogOutput;
use futures::StreamExt as _;
use jiff::Timestamp;
use lifeboat_engine::dump::{DumpError, program::one_line};
use lifeboat_model::{
    check::Verdict,
    config::DrillConfig,
    id::{Instance, RunId, Tenant},
    size::ByteSize,
};
use lifeboat_postgres::control::ControlData;
use tokio::{sync::mpsc, time::timeout};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    checks,
    error::{Error, Result},
    ladder::{Answer, Observer},
    odoo::Layout,
    postgres::{self, ROLE, Replay, Server, Start},
    sandbox::{Container, Docker, Limits, Sandbox, Scope, User, teardown},
    source::{Fetched, Selected, Source},
};

/// An engine that hangs must not hang the answer with it.
const TEARDOWN_LIMIT: Duration = Duration::from_secs(300);

/// A program in the sandbox that gives nothing for so long hangs.
const STALL: Duration = Duration::from_secs(30 * 60);

/// What to restore, and where.
pub struct ExtractRequest {
    /// The run's id, chosen at random by the caller.
    pub run: RunId,
    /// The owner.
    pub tenant: Tenant,
    /// The instance.
    pub instance: Instance,
    /// A role of the source that can log in.
    pub login_hint: String,
    /// The image and the limits of the instance's drills.
    pub config: DrillConfig,
    /// Where the data comes from.
    pub source: Arc<dyn Source>,
    /// Below this folder the sandbox gets its own.
    pub work_root: PathBuf,
    /// The Docker engine's address; none for the usual socket.
    pub docker: Option<String>,
    /// Tells the time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// What was done with a restored cluster.
#[derive(Debug)]
pub struct Extracted<T> {
    /// What the work gave.
    pub value: T,
    /// What was restored.
    pub selected: Selected,
    /// The server's version.
    pub postgres_version: String,
    /// The newest commit that replay met.
    pub newest_commit: Option<Timestamp>,
    /// What people should know of the point.
    pub notes: Vec<String>,
    /// What the teardown removed; nothing is left.
    pub teardown: teardown::Teardown,
}

/// The restored cluster, running in its sandbox.
pub struct Restored {
    server: Server,
    container: Container,
    user: User,
    /// The folder with the restored parts.
    pub folder: PathBuf,
    /// Databases that accept connections, in the order of their names; templates are left out.
    pub databases: Vec<String>,
    /// What was restored.
    pub selected: Selected,
    /// How replay ended.
    pub(crate) replay: Replay,
    /// When the base backup began.
    pub(crate) began: Option<Timestamp>,
    postgres_version: String,
    notes: Vec<String>,
}

/// Restores, lets `work` take out what it wants, and tears down whatever happens.
pub async fn run<T>(
    request: ExtractRequest,
    observer: &dyn Observer,
    cancel: &CancellationToken,
    work: impl AsyncFnOnce(&Restored) -> Result<T>,
) -> Result<Extracted<T>> {
    let folder = teardown::make_folder(&request.work_root, request.run)?;
    let mut docker = None;
    let job = Job { request: &request, folder: &folder, observer };
    let limit = request.config.timeout.0;
    let mut interrupted = true;
    let result = tokio::select! {
        done = job.work(&mut docker, work) => {
            interrupted = false;
            done
        }
        () = cancel.cancelled() => Err(lifeboat_engine_cancelled()),
        () = tokio::time::sleep(limit) => {
            Err(Error::Timeout { what: "the extraction (drill.timeout)".to_owned(), after: limit })
        }
    };
    observer.phase("tear down");
    let removing = async {
        match interrupted {
            true => teardown::remove_interrupted(docker.as_ref(), request.run, &folder).await,
            false => teardown::remove(docker.as_ref(), request.run, &folder).await,
        }
    };
    let teardown = timeout(TEARDOWN_LIMIT, removing).await;
    let unknown = |_| Error::Timeout { what: "the teardown of the sandbox".to_owned(), after: TEARDOWN_LIMIT };
    let teardown = teardown.map_err(unknown);
    // What stopped the work is told first; a sandbox that is left is then found by the next drill.
    let (value, restored) = result?;
    let teardown = teardown?;
    if !teardown.left.is_empty() {
        let program = format!("the teardown of {}", folder.display());
        return Err(Error::Output { program, detail: format!("left: {}", teardown.left.join("; ")) });
    }
    let Restored { selected, postgres_version, replay, notes, .. } = restored;
    let newest_commit = replay.newest_commit;
    Ok(Extracted { value, selected, postgres_version, newest_commit, notes, teardown })
}

fn lifeboat_engine_cancelled() -> Error {
    Error::source("the extraction was stopped")(Box::new(lifeboat_engine::Error::Cancelled))
}

struct Job<'a> {
    request: &'a ExtractRequest,
    folder: &'a Path,
    observer: &'a dyn Observer,
}

impl Job<'_> {
    async fn work<T>(
        &self,
        docker: &mut Option<Docker>,
        work: impl AsyncFnOnce(&Restored) -> Result<T>,
    ) -> Result<(T, Restored)> {
        let (sandbox, restored) = self.restore(docker).await?;
        self.observer.phase("take out");
        // It takes some seconds to be sure that nobody answers: meanwhile the work goes on.
        let containers = [restored.container.clone()];
        let (isolation, value) = tokio::join!(sandbox.isolation(&containers), work(&restored));
        let value = value?;
        match isolation?.answer().verdict {
            Verdict::Passed => Ok((value, restored)),
            Verdict::Failed(why) | Verdict::NotExecuted(why) => {
                Err(Error::Output { program: "the proof that the sandbox has no way out".to_owned(), detail: why })
            }
        }
    }

    async fn restore(&self, docker: &mut Option<Docker>) -> Result<(Sandbox, Restored)> {
        let request = self.request;
        let started = (request.clock)();
        self.observer.phase("select");
        let engine = docker.insert(Docker::connect(request.docker.as_deref()).await?).clone();
        teardown::orphans(&engine, &request.work_root, started).await?;
        let selected = request.source.select().await?;
        self.observer.phase("fetch and place");
        let scope = Scope {
            run: request.run,
            tenant: request.tenant.clone(),
            instance: request.instance.clone(),
            started,
            deadline: started + request.config.timeout.0,
            work: self.folder.to_owned(),
        };
        let folder = self.folder.join("restored");
        let (fetched, made) = tokio::join!(request.source.fetch(&selected, &folder), async {
            let image = engine.image("postgres", &request.config.postgres_image).await?;
            let sandbox = Sandbox::create(engine.clone(), scope, &image).await?;
            Ok::<_, Error>((image, sandbox))
        });
        let (fetched, (image, sandbox)) = (fetched?, made?);
        if !fetched.damage.is_empty() {
            return Err(damaged(&fetched.damage));
        }
        let (settings, socket) = (self.folder.join("postgres"), self.folder.join("socket"));
        postgres::write_settings(&settings)?;
        postgres::make_socket_folder(&socket)?;
        let binds = postgres::binds(&folder, &settings, &socket);
        let limits = Limits { memory: ByteSize(request.config.memory.0 / 2), pids: 512 };
        let container = sandbox.start("postgres", &image, limits, &binds).await?;
        let user = User::of(&container, &image, "postgres").await?;
        for path in [&folder.join("pgdata"), &settings, &socket, &folder.join("tablespaces")] {
            crate::climb::own(user, path).await?;
        }
        self.observer.phase("replay");
        let control = ControlData::read(&folder.join("pgdata"))?;
        let start = Start { control: &control, socket: &socket, login_hint: &request.login_hint, stop_at: None };
        let mut server = Server::start(&container, user, start).await?;
        let replay = self.replayed(&mut server, &fetched, &folder).await?;
        server.make_role().await?;
        let (databases, postgres_version) = look(&server).await?;
        let (began, notes) = (fetched.began, fetched.notes);
        let restored =
            Restored { server, container, user, folder, databases, selected, replay, began, postgres_version, notes };
        Ok((sandbox, restored))
    }

    /// Waits for the end of replay, and judges it as a drill does.
    async fn replayed(&self, server: &mut Server, fetched: &Fetched, folder: &Path) -> Result<Replay> {
        let begun = Instant::now();
        let replay = server.promoted(self.request.config.timeout.0).await?;
        let staged = self.request.source.staged().await?;
        if !staged.damage.is_empty() {
            let damage: Vec<String> = staged.damage.iter().map(crate::point::describe).collect();
            return Err(damaged(&damage));
        }
        tracing::debug!(seconds = begun.elapsed().as_secs_f64(), "replayed");
        let Answer { verdict, .. } =
            checks::replay::judge(&replay, replay.newest_commit, fetched, &folder.join("pgdata"));
        match verdict {
            Verdict::Passed => Ok(replay),
            Verdict::Failed(why) | Verdict::NotExecuted(why) => {
                Err(Error::Output { program: "the replay in the sandbox".to_owned(), detail: why })
            }
        }
    }
}

fn damaged(damage: &[String]) -> Error {
    let words = checks::some(damage, damage.len() as u64);
    Error::source("cannot restore into the sandbox")(Box::new(lifeboat_engine::Error::Damaged(words)))
}

async fn look(server: &Server) -> Result<(Vec<String>, String)> {
    let client = server.connect("postgres").await?;
    let list =
        "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname COLLATE \"C\"";
    let rows = client.query(list, &[]).await.map_err(Error::sql("list the databases"))?;
    let version = client.query_one("SHOW server_version", &[]).await.map_err(Error::sql("ask for the version"))?;
    Ok((rows.iter().map(|row| row.get(0)).collect(), version.get(0)))
}

/// How a database is written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `pg_dump`'s own archive, compressed: for `pg_restore`.
    Custom,
    /// SQL without owners, as Odoo's own dumps have it.
    Sql,
}

impl Restored {
    /// The database, or an error that names those there are.
    pub fn database(&self, name: &str) -> Result<()> {
        if self.databases.iter().any(|known| known == name) {
            return Ok(());
        }
        let error = DumpError::UnknownDatabase {
            name: name.to_owned(),
            place: self.selected.name.clone(),
            known: self.databases.clone(),
        };
        Err(Error::source("cannot take a database out")(Box::new(lifeboat_engine::Error::Dump(error))))
    }

    /// A session as the sandbox's superuser.
    pub async fn connect(&self, database: &str) -> Result<Client> {
        self.server.connect(database).await
    }

    /// The folder with a database's attachments, where the point has one. `databases` are the instance's, by which the filestore's
    /// level is known.
    pub fn filestore(&self, database: &str, databases: &[String]) -> Option<PathBuf> {
        let folder = Layout::find(&self.folder, databases, &[]).of_database(database);
        folder.filter(|folder| folder.is_dir())
    }

    /// Dumps a database into the channel. Only when this returns without an error the dump is whole.
    pub async fn dump(&self, database: &str, form: Form, to: &mpsc::Sender<bytes::Bytes>) -> Result<u64> {
        let target = format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"));
        let form: &[&str] = match form {
            Form::Custom => &["--format=custom"],
            Form::Sql => &["--format=plain", "--no-owner"],
        };
        let mut command = vec!["pg_dump", "--no-password", "--host=/tmp", "--username", ROLE];
        command.extend(form);
        command.extend(["--dbname", &target]);
        let mut spawned = self.container.spawn(&self.user.spec(), &command, &["HOME=/tmp", "LC_ALL=C"]).await?;
        let (mut bytes, mut words) = (0, String::new());
        let stalled = |_| Error::Timeout { what: format!("pg_dump of \"{database}\""), after: STALL };
        while let Some(piece) = timeout(STALL, spawned.output.next()).await.map_err(stalled)? {
            match piece? {
                LogOutput::StdErr { message } => {
                    words.push_str(&String::from_utf8_lossy(&message));
                    super::image::keep_end(&mut words);
                }
                piece => {
                    let piece = piece.into_bytes();
                    bytes += piece.len() as u64;
                    let gone = |_| Error::Task("whoever writes the dump has ended".to_owned());
                    to.send(piece).await.map_err(gone)?;
                }
            }
        }
        match self.container.ended(&spawned.id).await? {
            Some(0) => Ok(bytes),
            code => Err(Error::Program {
                program: "pg_dump".to_owned(),
                role: "postgres",
                code: code.unwrap_or(-1),
                output: one_line(&words),
            }),
        }
    }

    /// Dumps a database into a new file, which the caller publishes when the sandbox is known to have been closed and to be gone.
    pub async fn dump_to(&self, database: &str, file: super::NewFile) -> Result<(u64, super::NewFile)> {
        self.database(database)?;
        let (pieces, writing) = file.write();
        let dumped = self.dump(database, Form::Custom, &pieces).await;
        drop(pieces);
        // A disk that is full ends the writing, and with it the dump: the first cause is the writing's.
        let written = writing.await.map_err(|error| Error::Task(error.to_string()))?;
        let file = written?;
        Ok((dumped?, file))
    }
}
