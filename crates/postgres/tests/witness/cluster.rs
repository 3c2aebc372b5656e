//! What the tests share: a server that archives its WAL, load, a standby, and a copy that is restored to positions.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lifeboat_model::{lsn::Lsn, secret::Secret};
use lifeboat_postgres::{ConnectOptions, TlsMode, sql};
use lifeboat_testkit::postgres::{Options, Postgres};
use tokio_postgres::Client;

/// Nothing but what the manual asks for: `REPLICATION`, `pg_read_all_data`, and the two functions at a standby.
pub const ROLE: &str = "lifeboat";
const PASSWORD: &str = "s3cret";
const PATIENCE: Duration = Duration::from_secs(60);

/// The versions to test: 15 of the host, and the newest image.
pub fn versions() -> Vec<u32> {
    if !lifeboat_testkit::testbed::enabled() {
        return Vec::new();
    }
    let versions = lifeboat_testkit::postgres::versions();
    assert!(versions.contains(&17), "PostgreSQL 17 is missing (testbed/testbed images); found {versions:?}");
    versions.into_iter().filter(|major| *major >= 14).collect()
}

/// The version for tests that need no more than one: a local one starts fastest.
pub fn any_version() -> Option<u32> {
    let local = |major: &u32| Path::new(&format!("/usr/lib/postgresql/{major}/bin")).exists();
    versions().into_iter().find(local).or(versions().pop())
}

/// A server with the role, prepared transactions, and an archive below its own folder.
pub fn server(major: u32) -> Result<Postgres> {
    let conf = ["max_prepared_transactions = 40", "max_connections = 80", "archive_mode = on", "max_wal_size = 4GB"];
    let command = "archive_command = 'test -d ../archive || mkdir ../archive; cp %p ../archive/%f'";
    let conf = conf.into_iter().chain([command]).map(str::to_owned).collect();
    let server = Postgres::start(major, &Options { conf, ..Options::default() })?;
    server.psql("postgres", &format!("CREATE ROLE {ROLE} LOGIN REPLICATION PASSWORD '{PASSWORD}'"))?;
    server.psql("postgres", &format!("GRANT pg_read_all_data TO {ROLE}"))?;
    Ok(server)
}

pub fn options(server: &Postgres) -> ConnectOptions {
    let mut options = ConnectOptions::new("127.0.0.1", server.port(), ROLE);
    options.password = Some(Secret::new(PASSWORD));
    options.tls = TlsMode::Disable;
    options
}

/// `pgbench` until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Load {
    pub fn start(server: &Arc<Postgres>, database: &'static str, clients: u32, scripts: &[&str]) -> Result<Load> {
        let mut arguments: Vec<String> =
            ["-n", "-c", &clients.to_string(), "-j", "2", "-T", "4"].map(str::to_owned).into();
        for (index, script) in scripts.iter().enumerate() {
            let file = server.root().join(format!("{database}-{index}.sql"));
            fs::write(&file, script)?;
            server.own(&file)?;
            arguments.extend(["-f".to_owned(), file.display().to_string()]);
        }
        arguments.push(database.to_owned());
        let (server, stop) = (Arc::clone(server), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            while !stopped.load(Ordering::Relaxed) {
                server.run("pgbench", &arguments)?;
            }
            Ok(())
        });
        Ok(Load { stop, thread: Some(thread) })
    }

    pub fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().context("it runs once")?.join().map_err(|_| anyhow::anyhow!("the load broke"))?
    }
}

/// A copy of a running server, in a cluster of its own.
pub fn copy(server: &Postgres) -> Result<Postgres> {
    let copy = Postgres::empty(server.major())?;
    let on_the_way = server.root().join(format!("copy-{}", copy.port()));
    let arguments = ["-D", &on_the_way.display().to_string(), "-X", "none", "-c", "fast"].map(str::to_owned);
    server.run("pg_basebackup", &arguments.each_ref().map(String::as_str))?;
    move_tree(&on_the_way, copy.data_dir())?;
    copy.own(copy.root())?;
    Ok(copy)
}

fn move_tree(from: &Path, to: &Path) -> Result<()> {
    let moved = std::process::Command::new("cp").arg("-a").arg(from).arg(to).output()?;
    ensure!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    Ok(fs::remove_dir_all(from)?)
}

/// A streaming standby.
pub fn standby(primary: &Postgres) -> Result<Postgres> {
    let mut standby = copy(primary)?;
    let settings = format!(
        "primary_conninfo = 'host=127.0.0.1 port={} user={ROLE} password={PASSWORD}'\narchive_mode = off\n",
        primary.port()
    );
    configure(&standby, &settings)?;
    fs::write(standby.data_dir().join("standby.signal"), "")?;
    standby.own(standby.root())?;
    standby.resume()?;
    Ok(standby)
}

fn configure(server: &Postgres, settings: &str) -> Result<()> {
    let path = server.data_dir().join("postgresql.auto.conf");
    Ok(fs::write(path, settings)?)
}

/// A copy that is recovered from the archive to one position after the other, in rising order.
pub struct Restored {
    pub server: Postgres,
    archive: PathBuf,
}

impl Restored {
    pub fn new(source: &Postgres) -> Result<Restored> {
        Ok(Restored { server: copy(source)?, archive: source.root().join("archive") })
    }

    /// Copies what the source has archived by now.
    pub fn fetch_archive(&mut self) -> Result<()> {
        let here = self.server.root().join("archive");
        let copied = std::process::Command::new("cp").arg("-a").arg(&self.archive).arg(&here).output()?;
        ensure!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        self.server.own(&here)
    }

    /// Stops at a position, exclusive, and pauses there.
    pub fn pause_at(&mut self, lsn: Lsn) -> Result<()> {
        self.server.stop()?;
        let settings = format!(
            "restore_command = 'cp ../archive/%f %p'\nrecovery_target_lsn = '{lsn}'\nrecovery_target_inclusive = off\n\
             recovery_target_action = pause\narchive_mode = off\nhot_standby = on\n"
        );
        configure(&self.server, &settings)?;
        fs::write(self.server.data_dir().join("recovery.signal"), "")?;
        self.server.own(self.server.root())?;
        self.server.resume()?;
        until("the restored server pauses", || {
            Ok(self.server.psql("postgres", "SELECT pg_get_wal_replay_pause_state()")? == "paused")
        })
    }

    pub fn promote(&self) -> Result<()> {
        self.server.psql("postgres", "SELECT pg_wal_replay_resume()")?;
        until("the restored server is promoted", || {
            Ok(self.server.psql("postgres", "SELECT pg_is_in_recovery()")? == "f")
        })
    }

    pub async fn connect(&self, database: &str) -> Result<Client> {
        Ok(sql::connect(&options(&self.server), database).await?)
    }
}

/// Ends the log with a commit, and waits until all of it is archived.
pub fn archive_all(server: &Postgres) -> Result<()> {
    server.psql("postgres", "SELECT pg_logical_emit_message(true, 'test', 'end')")?;
    let last = server.psql("postgres", "SELECT pg_walfile_name(pg_switch_wal())")?;
    until("the last segment is archived", || {
        Ok(server.psql("postgres", "SELECT last_archived_wal FROM pg_stat_archiver")? >= last)
    })
}

pub fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "not within {} s: {what}", PATIENCE.as_secs());
        sleep(Duration::from_millis(50));
    }
    Ok(())
}
