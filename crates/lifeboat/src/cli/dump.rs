//! `lifeboat dump`: logical dumps of single databases, as a recovery point of their own kind.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use lifeboat_drill::{
    extract::{ImageProgram, Owner},
    sandbox::Docker,
};
use lifeboat_engine::{
    context::{Context, connect_options},
    dump::{self, DumpReport, Dumper, Server, program::LocalProgram},
    keys::writer_keys,
};
use lifeboat_model::{
    config::{DumpProgram, InstanceConfig},
    id::Instance,
};
use lifeboat_postgres::ConnectOptions;
use lifeboat_repo::{point::Point, repository::InstanceRepo, seal::Identity};
use serde::Serialize;

use super::{Session, restore::Damaged};
use crate::{
    exit::Exit,
    failure::{Advise as _, Failure, Result},
    output::{Answer, Page, Rows, Tone, bytes, moment, seconds},
    progress::Meter,
    wire,
};

/// Dump single databases into a recovery point
///
/// pg_dump of the server's own major version (from this host, else from the image of drill.postgres_image: dump.program), streamed into the
/// repository: encrypted, signed, no file in between. For servers without replication, for another major version, for handing
/// out one database. It holds no roles, no filestore and no configuration, and takes no backup's place.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Dump {
    /// The instance
    instance: Instance,
    /// A database of its server (repeatable) [default: all of postgres.databases]
    #[arg(long, value_name = "NAME")]
    database: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  lifeboat dump clinic
  lifeboat dump clinic --database north --database south
  lifeboat restore clinic --point 3fa9 --to /srv/dumps        gives /srv/dumps/dump/north.dump
  pg_restore --no-owner --dbname new_north /srv/dumps/dump/north.dump

Exit codes: 0 durable, 5 durable but no evidence could be kept, 6 no such database.";

#[derive(Serialize)]
struct Done {
    instance: String,
    run: String,
    point: String,
    key: String,
    started: Timestamp,
    finished: Timestamp,
    seconds: f64,
    postgres_version: String,
    /// What made the dumps, and where it was.
    program: String,
    program_place: String,
    databases: Vec<Dumped>,
    new_bytes: u64,
    reused_bytes: u64,
    remarks: Vec<String>,
    /// Where the signed statement is kept; none when it could not be.
    evidence: Option<String>,
}

#[derive(Serialize)]
struct Dumped {
    name: String,
    file: String,
    bytes: u64,
    size_on_server: u64,
}

impl Done {
    fn new(report: DumpReport, place: &str) -> Self {
        let databases = report.details.databases.iter().map(|one| Dumped {
            name: one.name.clone(),
            file: one.file.clone(),
            bytes: one.bytes,
            size_on_server: one.size_on_server,
        });
        Done {
            instance: report.point.header.instance.to_string(),
            run: report.run.to_string(),
            point: report.point.header.point.to_string(),
            key: report.point.key.to_string(),
            started: report.started,
            finished: report.finished,
            seconds: report.finished.duration_since(report.started).as_secs_f64(),
            postgres_version: report.details.version_text(),
            program: report.details.program.clone(),
            program_place: place.to_owned(),
            databases: databases.collect(),
            new_bytes: report.stats.new_bytes,
            reused_bytes: report.stats.reused_bytes,
            remarks: report.remarks,
            evidence: report.evidence.map(|key| key.to_string()),
        }
    }
}

impl Answer for Done {
    const SCHEMA: &'static str = "lifeboat.dump/1";

    fn text(&self, page: &mut Page) {
        let took = seconds(self.seconds);
        let word = Tone::Good.paint("durable:");
        page.line(format_args!("{word} recovery point {} with dumps of {} in {took}", self.point, self.instance));
        page.field("finished", moment(self.finished));
        page.field("source", format_args!("PostgreSQL {}", self.postgres_version));
        page.field("program", format_args!("{} ({})", self.program, self.program_place));
        page.field("key", &self.key);
        match &self.evidence {
            Some(key) => page.field("evidence", key),
            None => page.field("evidence", Tone::Doubtful.paint("none: see the notes below")),
        }
        page.gap();
        let mut rows = Rows::new(&["database", "on the server", "dump"]).numbers(&[1, 2]);
        for database in &self.databases {
            rows.plain([&database.name, &bytes(database.size_on_server), &bytes(database.bytes)]);
        }
        page.table(rows);
        for remark in &self.remarks {
            page.line(format_args!("{} {remark}", Tone::Doubtful.paint("note:")));
        }
        page.gap();
        page.line(format_args!("Next: lifeboat restore {} --point {} --to DIR", self.instance, self.point));
    }
}

/// Who dumps.
enum Program {
    Local(Box<LocalProgram>),
    Image(Box<ImageProgram>),
}

impl Program {
    /// A program of the server's major version: of this host, else of the instance's image.
    async fn choose(
        context: &Context,
        (name, instance): (&Instance, &InstanceConfig),
        (server, connect): (&Server, &ConnectOptions),
    ) -> Result<Program> {
        let missing = match &instance.dump.program {
            DumpProgram::Path(path) => return Ok(Program::Local(Box::new(LocalProgram::at(path, connect).await?))),
            DumpProgram::Image => None,
            DumpProgram::Auto => match LocalProgram::find(server.major(), connect).await {
                Ok(program) => return Ok(Program::Local(Box::new(program))),
                Err(missing) => Some(missing),
            },
        };
        let image = &instance.drill.postgres_image;
        let docker = Docker::connect(wire::environment("DOCKER_HOST").as_deref()).await;
        let docker = docker.map_err(|error| {
            let why = Failure::from(error);
            match missing {
                Some(missing) => {
                    let why = why.messages().join(": ");
                    Failure::from(missing).hint(format!("image {image} cannot be used either: {why}"))
                }
                None => why,
            }
        })?;
        let owner = Owner {
            run: lifeboat_engine::record::new_run()?,
            tenant: context.config.tenant.clone(),
            instance: name.clone(),
            work_root: std::path::absolute(context.config.engine.state_dir.join("drills"))?,
            now: (context.clock)(),
        };
        let program = ImageProgram::start(&docker, image, connect, &owner).await;
        Ok(Program::Image(Box::new(program.context(format!("cannot use pg_dump of image {image}"))?)))
    }

    fn dumper(&self) -> &dyn Dumper {
        match self {
            Program::Local(program) => &**program,
            Program::Image(program) => &**program,
        }
    }

    /// Leaves nothing behind.
    async fn close(self, session: &Session) {
        if let Program::Image(program) = self
            && let Err(error) = program.close().await
        {
            let why = Failure::from(error).messages().join(": ");
            session
                .voice
                .warn(&format!("the container of pg_dump could not be removed, the next drill does it: {why}"));
        }
    }
}

#[derive(Serialize)]
struct Restored {
    instance: String,
    point: String,
    to: PathBuf,
    complete: bool,
    postgres_version: String,
    program: String,
    files: Vec<PathBuf>,
    bytes: u64,
    damage: Vec<Damaged>,
}

impl Answer for Restored {
    const SCHEMA: &'static str = "lifeboat.restore-dump/1";

    fn text(&self, page: &mut Page) {
        let word = if self.complete { Tone::Good.paint("restored:") } else { Tone::Bad.paint("INCOMPLETE:") };
        let size = bytes(self.bytes);
        page.line(format_args!(
            "{word} dumps of {} from {}, {size}, in {}",
            self.instance,
            self.point,
            self.to.display()
        ));
        page.field("made by", format_args!("{} from PostgreSQL {}", self.program, self.postgres_version));
        for file in &self.files {
            page.field("dump", file.display());
        }
        for damage in &self.damage {
            page.line(format_args!("- {}: {}; hits {}", damage.object, damage.reason, damage.files.join(", ")));
        }
        if let Some(file) = self.files.first().filter(|_| self.complete) {
            page.gap();
            page.line(format_args!("Next: pg_restore --no-owner --dbname NEW {}", file.display()));
        }
    }
}

/// A point with dumps back into a folder.
pub async fn restore(
    session: &Session,
    (repo, point): (&InstanceRepo, &Point),
    identities: &[Identity],
    to: &Path,
) -> Result<Exit> {
    wire::opens(point, identities)?;
    let meter = Meter::start(&session.voice, format!("restore {}", repo.instance()));
    let report = dump::restore((repo, point), identities, to, meter.clone(), &session.cancel).await;
    drop(meter);
    let report =
        report.safe("the repository is as it was").context(format!("restore of {} failed", repo.instance()))?;
    let complete = report.damage.is_empty();
    session.output.show(&Restored {
        instance: repo.instance().to_string(),
        point: point.header.point.to_string(),
        to: to.to_owned(),
        complete,
        postgres_version: report.details.version_text(),
        program: report.details.program.clone(),
        files: report.details.databases.iter().map(|database| report.folder.join(&database.file)).collect(),
        bytes: report.bytes,
        damage: report.damage.into_iter().map(Damaged::from).collect(),
    })?;
    Ok(if complete { Exit::Ok } else { Exit::CheckFailed })
}

impl Dump {
    /// Runs it.
    pub async fn run(self, session: &Session) -> Result<Exit> {
        let loaded = wire::load_config(session)?;
        let (_, instance) = loaded.config.instance(self.instance.as_str())?;
        let instance = instance.clone();
        let connect = connect_options(&instance.postgres, &wire::environment)?;
        writer_keys(&loaded.config.keys)?; // before anything is connected to: a wrong key is told at once
        let failed = format!("dump of {} failed", self.instance);
        let databases = match self.database.as_slice() {
            [] => instance.postgres.databases.clone(),
            named => named.to_vec(),
        };
        let safe = "nothing was done; recovery points that were there are as they were";
        let look = async {
            let server = dump::look(&connect, &instance.postgres.databases).await?;
            server.choose(&databases)?;
            Ok::<_, lifeboat_engine::Error>(server)
        };
        let server = look.await.safe(safe).context(failed.clone())?;
        let repository = wire::open_or_make(session, &loaded).await.safe(safe).context(failed.clone())?;
        let context = wire::context(session, loaded, repository, &format!("lifeboat dump {}", self.instance));
        let program = Program::choose(&context, (&self.instance, &instance), (&server, &connect));
        let program = program.await.safe(safe).context(failed.clone())?;
        let place = program.dumper().place().to_owned();
        session.voice.say(&format!("dumping with {} ({place})", program.dumper().version()));

        let meter = Meter::start(&session.voice, format!("dump {}", self.instance));
        let name = self.instance.as_str();
        let report =
            dump::run(&context, name, &databases, (&server, program.dumper()), meter.clone(), &session.cancel).await;
        drop(meter);
        program.close(session).await;
        let report = report
            .safe(
                "no recovery point was made, those that were there are as they were; what was stored so far is reused",
            )
            .context(failed)?;
        let done = Done::new(report, &place);
        session.output.show(&done)?;
        Ok(if done.evidence.is_some() { Exit::Ok } else { Exit::Incomplete })
    }
}
