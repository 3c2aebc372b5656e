//! A database that comes as SQL, in place of rungs 4 and 5: a new cluster in the sandbox, and the dump loaded into it. From there
//! on the climb is the same.
//!
//! What only a recovery point can be asked (signature, log, page checksums, digests of the source, its age) is not executed, and
//! says why.

use std::{
    os::unix::fs::DirBuilderExt as _,
    time::{Duration, Instant},
};

use lifeboat_evidence::drill::{Comparison, Worker};
use lifeboat_model::size::ByteSize;
use lifeboat_postgres::control::ControlData;

use super::{
    Climb, Places, own,
    prepare::{Brought, Prepared, prove, start_odoo},
    replay::Replayed,
};
use crate::{
    error::{Error, Result},
    ladder::{self, Answer},
    odoo::Layout,
    postgres::{self, PGDATA, ROLE, Server, Start},
    run::DrillRequest,
    sandbox::{Bind, Container, Limits, User, secrets::Hidden},
};

/// Where the dump lies in the container.
const DUMP: &str = "/lifeboat/dump.sql";
/// Owns the tables, as on a source: Odoo does not run as a superuser.
const OWNER: &str = "odoo_import";
/// A new cluster is made in seconds, whatever is loaded then.
const INITDB_LIMIT: Duration = Duration::from_secs(120);

impl Climb {
    /// Makes a cluster and loads the dump.
    pub(super) async fn import(
        &mut self,
        request: &DrillRequest,
        brought: Brought,
        places: &Places,
    ) -> Result<Option<(Prepared, Replayed)>> {
        for (spec, why) in [
            (&ladder::MANIFEST, "a zip has no backup_manifest: its dump was loaded into a new cluster"),
            (&ladder::PAGES, "a zip has no pages: its dump was loaded into a new cluster"),
            (&ladder::DIGESTS, "a zip does not tell what its source looked like"),
            (&ladder::RPO, "a zip does not tell when its source was as it is in it"),
            (&ladder::SIGNED, "a zip is no recovery point: its check is shown, and is no evidence of the instance"),
        ] {
            self.ladder.record(spec.not_executed(why));
        }
        self.comparison = Comparison::None { why: "a zip does not tell what its source looked like".to_owned() };
        self.begin_phase("load the dump");
        let begun = Instant::now();
        let prepared = self.cluster(request, brought, places).await?;
        match self.timing.program(Worker::Postgres, "load the dump", load(request, &prepared, places)).await {
            Ok(replayed) => {
                let why = "a zip has no log: its dump was loaded instead, without an error";
                self.ladder.record(ladder::REPLAY.not_executed(why));
                let version = replayed.clients[0].1.query_one("SHOW server_version", &[]).await;
                self.versions.postgres = Some(version.map_err(Error::sql("ask for the version"))?.get(0));
                Ok(Some((prepared, replayed)))
            }
            // What PostgreSQL does not take is no backup; an engine that does not answer says nothing of it.
            Err(error @ Error::Program { .. }) => {
                let answer =
                    Answer::failed(format!("the dump cannot be loaded: {}", crate::error::with_causes(&error)))
                        .in_public("the dump cannot be loaded");
                let passed = self.stop_unless_passed(&ladder::REPLAY, answer, begun.elapsed());
                Ok(passed.and(None))
            }
            Err(error) => Err(error),
        }
    }

    /// The containers, and an empty cluster in one of them.
    async fn cluster(&mut self, request: &DrillRequest, brought: Brought, places: &Places) -> Result<Prepared> {
        let Brought { fetched, sandbox, postgres: image, odoo } = brought;
        postgres::write_settings(&places.settings)?;
        postgres::make_socket_folder(&places.socket)?;
        let made = std::fs::DirBuilder::new().mode(0o700).create(&places.pgdata);
        made.map_err(Error::io("cannot create", &places.pgdata))?;
        let layout = Layout::find(&places.restored, &request.databases, &request.config.addons);
        layout.prepare(&places.work)?;
        let limits = Limits { memory: ByteSize(request.config.memory.0 / 2), pids: 512 };
        let dump = places.restored.join("dump.sql");
        let mut binds = postgres::binds(&places.restored, &places.settings, &places.socket);
        binds.push(Bind { source: dump.clone(), target: DUMP.to_owned(), writable: false });
        let timing = self.timing.clone();
        let (started, odoo) = tokio::join!(
            async {
                let container = sandbox.start("postgres", &image, limits, &binds).await?;
                let user = User::of(&container, &image, "postgres").await?;
                for path in [&places.pgdata, &places.settings, &places.socket, &dump] {
                    own(user, path).await?;
                }
                timing.program(Worker::Postgres, "initdb", initialise(&container, user)).await?;
                Ok::<_, Error>((container, user))
            },
            start_odoo(&sandbox, odoo, limits, (&layout, &places.work), &timing),
        );
        let (postgres, user) = started?;
        let isolation = Some(prove(sandbox, Hidden::default(), (&postgres, user), odoo.as_ref().ok()));
        Ok(Prepared { fetched, layout, postgres, user, odoo, isolation })
    }
}

async fn initialise(container: &Container, user: User) -> Result<()> {
    let command =
        ["initdb", "-D", PGDATA, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"];
    container.run_ok(&user.spec(), &command, INITDB_LIMIT).await.map(|_| ())
}

/// Starts the server and loads the dump, as a superuser, so that what a dump needs one for (comments on extensions) is no error; then
/// gives everything to a role that is none.
async fn load(request: &DrillRequest, prepared: &Prepared, places: &Places) -> Result<Replayed> {
    let control = ControlData::read(&places.pgdata)?;
    let start = Start { control: &control, socket: &places.socket, login_hint: "postgres", stop_at: None };
    let mut server = Server::start(&prepared.postgres, prepared.user, start).await?;
    let limit = request.config.timeout.0;
    let ready = server.promoted(limit).await?;
    if !ready.ready {
        return Err(Error::Output { program: "postgres".to_owned(), detail: ready.last_words() });
    }
    server.make_role().await?;
    let database = request.databases.first().ok_or_else(|| Error::Task("no database to import".to_owned()))?;
    let name = format!("\"{}\"", database.replace('"', "\"\""));
    let client = server.connect("postgres").await?;
    for statement in [
        format!("CREATE ROLE {OWNER} LOGIN"),
        // As Odoo itself makes its databases (`_create_empty_database` in `odoo/service/db.py`).
        format!("CREATE DATABASE {name} OWNER {OWNER} ENCODING 'unicode' LC_COLLATE 'C' TEMPLATE template0"),
    ] {
        client.batch_execute(&statement).await.map_err(Error::sql("make the database"))?;
    }
    psql(prepared, database, limit).await?;
    let client = server.connect(database).await?;
    let owned = client.batch_execute(&format!("REASSIGN OWNED BY {ROLE} TO {OWNER}")).await;
    owned.map_err(Error::sql("give the tables to Odoo's role"))?;
    Ok(Replayed { server, clients: vec![(database.clone(), client)] })
}

async fn psql(prepared: &Prepared, database: &str, limit: Duration) -> Result<()> {
    // Ten thousand statements, each durable by itself, would wait for the disk most of the time.
    let name = database.replace('\\', "\\\\").replace('\'', "\\'");
    let target = format!("dbname='{name}' options='-c synchronous_commit=off'");
    let command = [
        "psql",
        "-X",
        "-q",
        "-w",
        "-v",
        "ON_ERROR_STOP=1",
        "-o",
        "/dev/null",
        "-h",
        "/tmp",
        "-U",
        ROLE,
        "-d",
        &target,
        "-f",
        DUMP,
    ];
    prepared.postgres.run_ok(&prepared.user.spec(), &command, limit).await.map(|_| ())
}
