//! A source with a writer who knows what he has committed, a repository in a folder, and servers on what comes back.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use lifeboat_engine::{
    backup,
    context::{self, Context, Initiator},
    recovery::{self, Plan, Target, Wish, staging::Staged},
    restore::{self, Parts, RestoreReport, RestoreRequest},
    stream::{self, Until},
};
use lifeboat_model::{
    config::parse,
    id::{Instance, RepositoryId},
    lsn::Lsn,
    signature::SigningKey,
};
use lifeboat_postgres::ConnectOptions;
use lifeboat_repo::{
    point::Point,
    progress::Silent,
    repository::{InstanceRepo, Repository},
    seal::Identity,
    wal::{WalObjectKind, WalWriter},
};
use lifeboat_store::local::LocalStore;
use lifeboat_testkit::postgres::{Options, Postgres, SUPERUSER, SUPERUSER_PASSWORD};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Installed on the host, so that it starts fastest.
const MAJOR: u32 = 15;

/// A row that was committed: its number, where the log stood right after, and the time in its commit record.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub id: i64,
    pub lsn: Lsn,
    pub time: Timestamp,
}

pub struct World {
    pub folder: TempDir,
    pub source: Postgres,
    pub context: Arc<Context>,
    pub connect: ConnectOptions,
    recovery: Identity,
    next: i64,
}

/// A running stream.
pub struct Stream {
    task: JoinHandle<lifeboat_engine::Result<()>>,
    state: watch::Receiver<stream::State>,
    cancel: CancellationToken,
}

impl Stream {
    /// Stops it; what had come is stored.
    pub async fn stop(self) {
        self.cancel.cancel();
        let ended = self.task.await.unwrap();
        assert!(matches!(ended, Ok(()) | Err(lifeboat_engine::Error::Cancelled)), "{ended:?}");
    }

    pub async fn durable_to(&mut self, lsn: Lsn) {
        let wait = self.state.wait_for(|state| state.durable >= lsn);
        let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
        waited.expect("the log becomes durable").unwrap();
    }
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

impl World {
    pub async fn new() -> World {
        World::of(MAJOR).await
    }

    pub async fn of(major: u32) -> World {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let conf = ["track_commit_timestamp = on", "max_wal_size = 64MB", "wal_keep_size = 0"];
        let options = Options { conf: conf.map(str::to_owned).into(), ..Options::default() };
        let source = Postgres::start(major, &options).unwrap();
        source.psql("postgres", "CREATE DATABASE demo").unwrap();
        source.psql("demo", "CREATE TABLE entry (id bigint PRIMARY KEY, noise text)").unwrap();
        let (recovery, host) = (Identity::generate(), Identity::generate());
        let signing = SigningKey::from_seed(&[7; 32]);
        secret(&folder.path().join("host"), host.to_secret_text().expose());
        secret(&folder.path().join("signing"), signing.to_secret_text().expose());
        secret(&folder.path().join("password"), SUPERUSER_PASSWORD);
        fs::create_dir_all(folder.path().join("filestore/demo/ab")).unwrap();
        let text = format!(
            r#"tenant = "hospital"
[repository]
path = "repository"
[keys]
recovery_recipients = ["{}"]
host_identity_file = "host"
signing_key_file = "signing"
trusted_keys = ["{}"]
[tiers.gold]
rpo = "15m"
rto = "1h"
[instances.clinic]
tier = "gold"
[instances.clinic.postgres]
host = "127.0.0.1"
port = {}
user = "{SUPERUSER}"
password_file = "password"
tls = "disable"
databases = ["demo"]
[instances.clinic.postgres.wal]
max_lag = "200ms"
heartbeat = "off"
[instances.clinic.filestore]
path = "filestore"
[instances.clinic.drill]
postgres_image = "postgres:15"
odoo_image = "odoo:19"
[engine]
state_dir = "state"
"#,
            recovery.recipient(),
            signing.public(),
            source.port(),
        );
        let (config, _) = parse(&text, &folder.path().join("lifeboat.toml")).unwrap();
        let store = LocalStore::open(&folder.path().join("repository"), true).unwrap();
        let repository = Repository::init(Arc::new(store), RepositoryId([1; 16]), Timestamp::now()).await.unwrap();
        let connect = {
            let (_, instance) = config.instance("clinic").unwrap();
            context::connect_options(&instance.postgres, &|_| None).unwrap()
        };
        let initiator = Initiator { who: "test@here".into(), command: "test".into() };
        let context = Context::new(config, "0".repeat(64), repository, Arc::new(Timestamp::now), initiator);
        World { folder, source, context: Arc::new(context), connect, recovery, next: 0 }
    }

    /// The backup host's clock is slow by so much.
    pub fn slow_clock(&mut self, by: Duration) {
        let context = Arc::get_mut(&mut self.context).expect("nothing runs yet");
        context.clock = Arc::new(move || Timestamp::now() - by);
    }

    pub fn repo(&self) -> InstanceRepo {
        let instance: Instance = "clinic".parse().unwrap();
        self.context.instance_repo(&instance)
    }

    pub async fn backup(&self) -> Point {
        let cancel = CancellationToken::new();
        backup::run(&self.context, "clinic", &self.connect, Arc::new(Silent), &cancel).await.unwrap().point
    }

    pub fn stream(&self) -> Stream {
        let (sender, state) = watch::channel(stream::State::default());
        let (context, connect, cancel) = (self.context.clone(), self.connect.clone(), CancellationToken::new());
        let token = cancel.clone();
        let task =
            tokio::spawn(
                async move { stream::run(&context, "clinic", &connect, Until::Cancelled, &sender, &token).await },
            );
        Stream { task, state, cancel }
    }

    /// Commits rows, one a transaction, with so much noise each.
    pub fn write(&mut self, rows: u32, noise: u32) -> Vec<Row> {
        (0..rows).map(|_| self.write_one(noise)).collect()
    }

    pub fn write_one(&mut self, noise: u32) -> Row {
        self.next += 1;
        let id = self.next;
        let text = format!("(SELECT string_agg(md5(g::text || {id}), '') FROM generate_series(1, {noise}) g)");
        self.source.psql("demo", &format!("INSERT INTO entry VALUES ({id}, {text})")).unwrap();
        let seen = self.source.psql(
            "demo",
            &format!(
                "SELECT pg_current_wal_insert_lsn(), \
                 to_char(pg_xact_commit_timestamp(xmin) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
                 FROM entry WHERE id = {id}"
            ),
        );
        let seen = seen.unwrap();
        let (lsn, time) = seen.split_once('\t').unwrap();
        Row { id, lsn: lsn.parse().unwrap(), time: time.parse().unwrap() }
    }

    pub fn position(&self) -> Lsn {
        self.source.psql("postgres", "SELECT pg_current_wal_insert_lsn()").unwrap().parse().unwrap()
    }

    pub fn wish(target: Target) -> Wish {
        Wish { point: None, target, timeline: None }
    }

    pub async fn plan(&self, wish: &Wish) -> lifeboat_engine::Result<Plan> {
        let trusted = &self.context.config.keys.trusted_keys;
        recovery::plan(&self.repo(), trusted, std::slice::from_ref(&self.recovery), wish).await
    }

    pub async fn windows(&self) -> recovery::Windows {
        let host = lifeboat_engine::keys::read_identity(&self.folder.path().join("host")).unwrap();
        recovery::windows(&self.repo(), &self.context.config.keys.trusted_keys, &[host]).await.unwrap()
    }

    /// Stores what a segment of the archive holds once more, in slices.
    pub async fn store_in_slices(&self, segment: &Path) {
        let config = &self.context.config;
        let archive = self.repo().wal_archive();
        let (system_id, timeline) = archive.streams().await.unwrap()[0];
        let listing = archive.list(system_id, timeline, Lsn(0)).await.unwrap();
        let object = listing.objects().iter().find(|object| segment.ends_with(object.key.as_str())).unwrap();
        let head = archive.head(object, &config.keys.trusted_keys).await.unwrap();
        let reader = archive.reader(config.keys.trusted_keys.clone(), vec![self.recovery.clone()]);
        let bytes = reader.read(object).await.unwrap();
        let keys = lifeboat_engine::keys::writer_keys(&config.keys).unwrap();
        let writer = WalWriter::new(self.repo(), keys.recipients, keys.signing, 3);
        let quarter = bytes.len() / 4;
        for number in 0..4 {
            let first = Lsn(object.first.0 + (number * quarter) as u64);
            let part = bytes.slice(number * quarter..(number + 1) * quarter);
            let kind = WalObjectKind::Slice;
            writer.put(kind, system_id, timeline, head.segment_size, first, part, head.commits).await.unwrap();
        }
    }

    /// Files of the repository whose path has all these words.
    pub fn objects(&self, words: &[&str]) -> Vec<PathBuf> {
        let root = self.folder.path().join("repository");
        let all = lifeboat_testkit::folder::files(&root).into_iter().map(|name| root.join(name));
        let mut found: Vec<PathBuf> =
            all.filter(|path| words.iter().all(|word| path.to_str().unwrap().contains(word))).collect();
        found.sort();
        found
    }

    /// Brings the files back; the log may still be on its way.
    pub async fn bring(&self, plan: &Plan, parts: Parts) -> Restored {
        let server = Postgres::empty(self.source.major()).unwrap();
        let to = server.root().join("restored");
        let report = self.bring_to(plan, parts, &to, false).await;
        Restored { server, to, report }
    }

    pub async fn bring_to(&self, plan: &Plan, parts: Parts, to: &Path, delta: bool) -> RestoreReport {
        let identities = [self.recovery.clone()];
        let trusted = self.context.config.keys.trusted_keys.clone();
        let request = RestoreRequest {
            repo: &self.repo(),
            plan,
            trusted: &trusted,
            identities: &identities,
            to: to.to_owned(),
            delta,
            parts,
        };
        restore::run(request, Arc::new(Silent), &CancellationToken::new()).await.unwrap()
    }

    /// The rows that a server has that was restored to the target. It is started while the log is still being brought.
    pub async fn rows_at(&self, wish: &Wish) -> Vec<i64> {
        let plan = self.plan(wish).await.unwrap_or_else(|error| panic!("{wish:?}: {error}"));
        let mut restored = self.bring(&plan, Parts { database: true, filestore: false, config: false }).await;
        let started = restored.start();
        assert!(started.is_ok(), "{wish:?}: {started:?}\n{}", restored.server.log());
        let staged = restored.stage().await;
        assert!(staged.damage.is_empty(), "{wish:?}: {staged:?}");
        restored.rows()
    }
}

pub struct Restored {
    pub server: Postgres,
    pub to: PathBuf,
    pub report: RestoreReport,
}

impl Restored {
    /// Starts the server where a link leads to what was restored, and waits until it is promoted.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let pgdata = self.to.join("pgdata");
        // As people are told to: not the folder beside it, in which files come and go.
        self.server.own(&pgdata)?;
        if !self.server.data_dir().exists() {
            std::os::unix::fs::symlink(&pgdata, self.server.data_dir())?;
        }
        self.server.resume()?;
        self.server.wait_for("SELECT pg_is_in_recovery()", "f")?;
        Ok(())
    }

    pub async fn stage(&mut self) -> Staged {
        match self.report.staging.take() {
            Some(staging) => staging.finished(&CancellationToken::new()).await.unwrap(),
            None => Staged::default(),
        }
    }

    pub fn rows(&self) -> Vec<i64> {
        let ids = self.server.psql("demo", "SELECT id FROM entry ORDER BY id").unwrap();
        ids.lines().map(|id| id.parse().unwrap()).collect()
    }
}

/// Rows up to and with this number.
pub fn up_to(id: i64) -> Vec<i64> {
    (1..=id).collect()
}
