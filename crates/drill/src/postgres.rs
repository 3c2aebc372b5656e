//! The restored PostgreSQL in its container: settings that fit the data and the sandbox, replay watched line by line, a way in.
//!
//! Nothing of the restored configuration is trusted to fit: files it names (certificates, included files, libraries) are
//! elsewhere, and what it archives or replicates to must not be touched. So the server gets configuration files of ours,
//! and whatever `postgresql.auto.conf` may still set is overridden on the command line. What the data itself demands (the
//! limits that replay needs) is read from `pg_control`.
//!
//! The way in: sockets in the container are trusted, and only over them roles get random passwords; from the other containers of
//! the sandbox only these roles are let in. One of the sockets lies in a folder of the host that nobody else can enter, and that is
//! the host's way in: the sandbox has no network.

use std::{
    fs::File,
    net::IpAddr,
    os::{fd::AsRawFd as _, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt as _;
use jiff::Timestamp;
use lifeboat_engine::recovery::{Action, Settings, Stop};
use lifeboat_model::{lsn::Lsn, secret::Secret};
use lifeboat_postgres::control::ControlData;
use tokio::{sync::watch, time::timeout};
use tokio_postgres::Client;

use crate::{
    checks::extensions::Sessions,
    error::{Error, Result, with_causes},
    sandbox::{Bind, Container, User, tree},
};

mod log;

pub(crate) use log::{Lines, Replay, parse_time};

/// Where PGDATA lies in the container.
pub const PGDATA: &str = "/lifeboat/pgdata";
/// Where our configuration lies in the container.
const SETTINGS: &str = "/lifeboat/postgres";
/// Where the folder with the socket for the host lies in the container.
const SOCKET: &str = "/lifeboat/socket";
/// The superuser that exists in the sandbox only.
pub const ROLE: &str = "lifeboat_sandbox";
/// Only members of this group are let in from other containers: no role of production with its own password.
const GROUP: &str = "lifeboat_sandbox_logins";
/// The number in the socket's name.
pub const PORT: u16 = 5432;

/// The mounts of the PostgreSQL container. Links to tablespaces are absolute, so their folder keeps its path.
pub fn binds(restored: &Path, settings: &Path, socket: &Path) -> Vec<Bind> {
    let tablespaces = restored.join("tablespaces");
    let mut binds = vec![
        Bind { source: restored.join("pgdata"), target: PGDATA.to_owned(), writable: true },
        Bind { source: settings.to_owned(), target: SETTINGS.to_owned(), writable: false },
        Bind { source: socket.to_owned(), target: SOCKET.to_owned(), writable: true },
    ];
    if tree::is_real_folder(restored, Path::new("tablespaces")) {
        binds.push(Bind { target: tablespaces.display().to_string(), source: tablespaces, writable: true });
    }
    binds
}

/// Settings that must not be lower than on the source, or replay refuses to begin.
fn limits(control: &ControlData) -> [(&'static str, u32); 5] {
    [
        ("max_connections", control.max_connections),
        ("max_worker_processes", control.max_worker_processes),
        ("max_wal_senders", control.max_wal_senders),
        ("max_prepared_transactions", control.max_prepared_transactions),
        ("max_locks_per_transaction", control.max_locks_per_transaction),
    ]
}

/// Overridden whatever the data's configuration says: no way to other servers, no library that the image may lack, nothing
/// outside PGDATA, logs in English and UTC on the standard error.
const OVERRIDES: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("port", "5432"),
    ("unix_socket_directories", "/tmp,/lifeboat/socket"),
    ("unix_socket_permissions", "0700"),
    ("ssl", "off"),
    ("archive_mode", "off"),
    ("archive_command", ""),
    ("primary_conninfo", ""),
    ("primary_slot_name", ""),
    ("synchronous_standby_names", ""),
    ("shared_preload_libraries", ""),
    ("session_preload_libraries", ""),
    ("local_preload_libraries", ""),
    ("hot_standby", "on"),
    ("wal_level", "replica"),
    ("autovacuum", "off"),
    ("shared_buffers", "128MB"),
    ("work_mem", "16MB"),
    ("maintenance_work_mem", "128MB"),
    ("huge_pages", "off"),
    ("max_wal_size", "1GB"),
    ("jit", "off"),
    ("password_encryption", "scram-sha-256"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
    ("lc_messages", "C"),
    ("log_line_prefix", "%m [%p] "),
    ("log_min_messages", "warning"),
    ("log_min_error_statement", "panic"),
    ("log_statement", "none"),
    ("log_min_duration_statement", "-1"),
    ("log_checkpoints", "off"),
];

/// Our configuration files, before the container starts.
pub fn write_settings(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("cannot create", folder))?;
    let hba = format!("local all all trust\nhost all +{GROUP} 127.0.0.1/32 scram-sha-256\n");
    for (name, text) in
        [("postgresql.conf", "# All settings are on the command line.\n"), ("pg_hba.conf", &hba), ("pg_ident.conf", "")]
    {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(Error::io("cannot write", &path))?;
    }
    Ok(())
}

/// The folder of the socket. Whoever can enter it is a superuser of the restored cluster.
pub fn make_socket_folder(folder: &Path) -> Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(folder).map_err(Error::io("cannot create", folder))
}

/// The running server.
pub struct Server {
    container: Container,
    user: User,
    program: String,
    replay: watch::Receiver<Replay>,
    password: Secret,
    /// The folder of the socket, on the host.
    socket: PathBuf,
    login_hint: String,
}

/// What a server is started with.
pub struct Start<'a> {
    /// The limits that the data demands.
    pub control: &'a ControlData,
    /// The folder of the socket, on the host.
    pub socket: &'a Path,
    /// A role of the source that can log in.
    pub login_hint: &'a str,
    /// Where to stop instead of the target that the restore has configured, and what to do there.
    pub stop_at: Option<(Lsn, Action)>,
}

impl Server {
    /// Starts the server on the restored PGDATA; replay begins.
    pub async fn start(container: &Container, user: User, start: Start<'_>) -> Result<Server> {
        let mut options: Vec<String> = vec!["postgres".into(), "-D".into(), PGDATA.into()];
        let mut set = |name: &str, value: &str| options.extend(["-c".to_owned(), format!("{name}={value}")]);
        for (name, file) in
            [("config_file", "postgresql.conf"), ("hba_file", "pg_hba.conf"), ("ident_file", "pg_ident.conf")]
        {
            set(name, &format!("{SETTINGS}/{file}"));
        }
        OVERRIDES.iter().for_each(|(name, value)| set(name, value));
        limits(start.control).iter().for_each(|(name, value)| set(name, &value.to_string()));
        if let Some((lsn, action)) = start.stop_at {
            let target = Settings::target(Stop::Lsn(lsn), action);
            target.iter().for_each(|(name, value)| set(name, value));
        }
        let command: Vec<&str> = options.iter().map(String::as_str).collect();
        let spawned = container.spawn(&user.spec(), &command, &["HOME=/tmp", "LC_ALL=C"]).await?;

        let (sender, replay) = watch::channel(Replay::default());
        let mut output = spawned.output;
        tokio::spawn(async move {
            let mut lines = Lines::default();
            while let Some(Ok(piece)) = output.next().await {
                lines.feed(&piece, |line| sender.send_modify(|replay| replay.push(line)));
            }
            sender.send_modify(|replay| replay.ended = true);
        });
        let password = random_password()?;
        let (socket, login_hint) = (start.socket.to_owned(), start.login_hint.to_owned());
        Ok(Server { container: container.clone(), user, program: spawned.id, replay, password, socket, login_hint })
    }

    /// What the log has told until now.
    pub fn replay(&self) -> Replay {
        self.replay.borrow().clone()
    }

    /// Waits until the server has promoted itself, or has ended.
    pub async fn promoted(&mut self, limit: Duration) -> Result<Replay> {
        let wait = self.replay.wait_for(|replay| replay.ready || replay.ended);
        let waited = timeout(limit, wait).await.map(|_| ());
        waited.map_err(|_| Error::Timeout { what: "replay of the write-ahead log".to_owned(), after: limit })?;
        Ok(self.replay())
    }

    /// Waits until the server has come to where it was told to wait, or has ended, or was promoted against all expectation.
    pub async fn paused(&mut self, limit: Duration) -> Result<Replay> {
        let wait = self.replay.wait_for(|replay| replay.paused || replay.ready || replay.ended);
        let waited = timeout(limit, wait).await.map(|_| ());
        waited.map_err(|_| Error::Timeout { what: "replay to the witness".to_owned(), after: limit })?;
        Ok(self.replay())
    }

    /// Stops the server and waits for its end; what it was doing is kept.
    pub async fn stop(&mut self) -> Result<()> {
        let command = ["sh", "-c", "kill -INT \"$(head -n 1 \"$1\")\"", "sh", "/lifeboat/pgdata/postmaster.pid"];
        self.container.run_ok(&self.user.spec(), &command, Duration::from_secs(30)).await?;
        let limit = Duration::from_secs(120);
        let waited = timeout(limit, self.replay.wait_for(|replay| replay.ended)).await.map(|_| ());
        waited.map_err(|_| Error::Timeout { what: "stopping the paused server".to_owned(), after: limit })
    }

    /// A session from the host with a server that is paused in recovery, as a superuser of the source.
    pub async fn connect_paused(&self, database: &str) -> Result<Client> {
        self.connect_as(&self.superuser().await?, database).await
    }

    /// A session from the host, as the sandbox's superuser.
    pub async fn connect(&self, database: &str) -> Result<Client> {
        self.connect_as(ROLE, database).await
    }

    async fn connect_as(&self, role: &str, database: &str) -> Result<Client> {
        let folder = File::open(&self.socket).map_err(Error::io("cannot open", &self.socket))?;
        let mut config = tokio_postgres::Config::new();
        config
            // The address of a socket has 107 bytes at most, and the folder's path may be longer.
            .host(format!("/proc/self/fd/{}", folder.as_raw_fd()))
            .port(PORT)
            .user(role)
            .dbname(database)
            .application_name("lifeboat drill")
            .connect_timeout(Duration::from_secs(10));
        let what = format!("connect to database \"{database}\" of the sandbox");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(Error::sql(what))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a session with the restored database ended");
            }
        });
        Ok(client)
    }

    /// The time of the last commit that a paused server has replayed.
    pub async fn last_commit(&self) -> Result<Option<Timestamp>> {
        let client = self.connect_paused("postgres").await?;
        let query = "SELECT pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC' || ''";
        let row = client.query_one(query, &[]).await.map_err(Error::sql("ask for the last commit"))?;
        Ok(row.get::<_, Option<String>>(0).as_deref().and_then(parse_time))
    }

    /// Where the sandbox's containers find it.
    pub fn address(&self) -> IpAddr {
        self.container.address
    }

    /// What a file in the folder of our settings is called in the container.
    pub fn inside(&self, name: &str) -> String {
        format!("{SETTINGS}/{name}")
    }

    /// Whether the server's program has ended, with its code.
    pub async fn exit_code(&self) -> Result<Option<i64>> {
        self.container.exit_code(&self.program).await
    }

    /// Makes the sandbox's superuser. What the server is told holds the verifier, not the password.
    pub async fn make_role(&self) -> Result<()> {
        let superuser = self.superuser().await?;
        let verifier = postgres_protocol::password::scram_sha_256(self.password.expose().as_bytes());
        let sql = format!(
            "CREATE ROLE {GROUP} NOLOGIN; CREATE ROLE {ROLE} LOGIN SUPERUSER PASSWORD '{verifier}' IN ROLE {GROUP}"
        );
        let client = self.connect_as(&superuser, "postgres").await?;
        client.batch_execute(&sql).await.map_err(Error::sql("make the sandbox's superuser"))
    }

    /// The name of a superuser of the restored cluster: any role may ask for it, if one is known that can log in.
    async fn superuser(&self) -> Result<String> {
        let query = "SELECT rolname FROM pg_roles WHERE rolsuper AND rolcanlogin ORDER BY oid LIMIT 1";
        let mut last = String::new();
        for role in ["postgres", self.login_hint.as_str(), "odoo"] {
            let asked = async {
                let client = self.connect_as(role, "postgres").await?;
                client.query_opt(query, &[]).await.map_err(Error::sql("ask for a superuser"))
            };
            match asked.await {
                Ok(Some(row)) => return Ok(row.get(0)),
                Ok(None) => "none of them can log in".clone_into(&mut last),
                Err(error) => last = with_causes(&error),
            }
        }
        Err(Error::Output {
            program: "postgres".to_owned(),
            detail: format!("no superuser of the restored cluster found: {last}"),
        })
    }

    /// The role that Odoo shall use, with a password of the sandbox: the owner of Odoo's tables, as on the source; the sandbox's
    /// superuser where owners differ or Odoo would refuse (it does not run as `postgres`).
    pub async fn odoo_role(&self, databases: &[String]) -> Result<(String, Secret)> {
        let mut owners = Vec::new();
        for database in databases {
            let client = self.connect(database).await?;
            let query = "SELECT r.rolname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner \
                         WHERE c.oid = to_regclass('res_users') AND r.rolcanlogin AND r.rolname <> 'postgres'";
            let row = client.query_opt(query, &[]).await.map_err(Error::sql("find the owner of Odoo's tables"))?;
            owners.push(row.map(|row| row.get::<_, String>(0)));
        }
        owners.dedup();
        let [Some(owner)] = owners.as_slice() else { return Ok((ROLE.to_owned(), self.password.clone())) };
        let password = random_password()?;
        let verifier = postgres_protocol::password::scram_sha_256(password.expose().as_bytes());
        let name = format!("\"{}\"", owner.replace('"', "\"\""));
        let client = self.connect("postgres").await?;
        let sql = format!(
            "ALTER ROLE {name} PASSWORD '{verifier}' VALID UNTIL 'infinity' CONNECTION LIMIT -1; GRANT {GROUP} TO {name}"
        );
        client.batch_execute(&sql).await.map_err(Error::sql(format!("give role \"{owner}\" a sandbox password")))?;
        Ok((owner.clone(), password))
    }
}

#[async_trait]
impl Sessions for Server {
    async fn open(&self, database: &str) -> Result<Client> {
        self.connect(database).await
    }
}

fn random_password() -> Result<Secret> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
    Ok(Secret::new(hex::encode(bytes)))
}
