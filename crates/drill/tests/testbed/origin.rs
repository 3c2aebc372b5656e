//! A source for drills that needs no repository: the testbed's own servers, copied once and then copied again for each drill.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_drill::{
    DrillRequest,
    ladder::{self, Answer, Silent, Spec},
    report::DrillReport,
    source::{Fetched, Selected, Source},
};
use lifeboat_engine::details::{Comparison, SourceFacts, Witness};
use lifeboat_evidence::drill::VersionsReadBack;
use lifeboat_model::{
    check::{Check, Verdict},
    config::{DrillConfig, DrillsConfig},
    id::RunId,
    size::ByteSize,
    time::Span,
};
use lifeboat_postgres::digest::{self, DatabaseDigest};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

pub const DATABASE: &str = "demo";
pub const ODOO_IMAGE: &str = "lifeboat-testbed/odoo:19";
pub const POSTGRES_IMAGE: &str = "lifeboat-testbed/postgres:17";

/// Whether the real servers are to be used.
pub fn enabled() -> bool {
    let enabled = std::env::var("LIFEBOAT_TESTBED").is_ok_and(|value| value == "1");
    if !enabled {
        println!("LIFEBOAT_TESTBED is not 1: no real servers, nothing tested");
    }
    enabled
}

pub fn state() -> PathBuf {
    std::env::var_os("LIFEBOAT_TESTBED_STATE").map_or_else(|| "/var/lib/lifeboat-testbed".into(), PathBuf::from)
}

/// The addons folder on the source, as the configuration names it.
pub fn addons() -> PathBuf {
    state().join("odoo/addons")
}

/// A copy that drills start from, and what its tables looked like.
pub struct Golden {
    pub folder: PathBuf,
    taken: Timestamp,
    digest: DatabaseDigest,
}

/// Made once in a process, kept beside the tests' other output until a later run removes it.
async fn golden() -> Result<&'static Arc<Golden>> {
    static GOLDEN: OnceCell<Arc<Golden>> = OnceCell::const_new();
    GOLDEN.get_or_try_init(copy_from_testbed).await
}

async fn copy_from_testbed() -> Result<Arc<Golden>> {
    let parent = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(&parent)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let dead = |process: &str| !Path::new("/proc").join(process).exists();
        if name.strip_prefix("drill-origin-").is_some_and(dead) {
            // Another process may be at it as well.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let root = parent.join(format!("drill-origin-{}", std::process::id()));
    std::fs::create_dir_all(&root)?;
    let server = Server::start(&root, "origin")?;
    copy_out(&server, &root).await
}

/// A copy of a server of our own, as a restore would lay it out, with the seed's filestore and addons.
pub async fn copy_out(server: &Server, root: &Path) -> Result<Arc<Golden>> {
    let taken = Timestamp::now();
    let pgdata = root.join("pgdata");
    std::fs::create_dir_all(&pgdata)?;
    std::fs::create_dir_all(root.join("filestore"))?;
    let config = root.join("config/paths").join(addons().strip_prefix("/")?);
    std::fs::create_dir_all(config.parent().context("addons have a parent")?)?;

    let digest = base_backup(server, &pgdata).await?;
    shell(&format!("chmod 0700 '{}'", pgdata.display()))?;
    let filestore = state().join("golden/odoo-data/filestore");
    shell(&format!("cp -a '{}' '{}'", filestore.join(DATABASE).display(), root.join("filestore").display()))?;
    shell(&format!("cp -a '{}' '{}'", addons().display(), config.display()))?;

    std::fs::write(pgdata.join("recovery.signal"), "")?;
    let settings = pgdata.join("postgresql.auto.conf");
    let mut text = std::fs::read_to_string(&settings)?;
    text.push_str(
        "restore_command = 'false'\nrecovery_target_timeline = 'current'\nrecovery_target_action = 'promote'\n",
    );
    std::fs::write(settings, text)?;
    Ok(Arc::new(Golden { folder: root.to_owned(), taken, digest }))
}

/// A server of our own on a copy of the seeded cluster, so that no other use of the testbed is seen or disturbed. It is
/// removed when this is dropped.
pub struct Server {
    pub name: String,
    pub port: u16,
    cluster: PathBuf,
}

impl Server {
    pub fn start(root: &Path, purpose: &str) -> Result<Server> {
        ensure!(state().join("golden/complete").exists(), "the testbed is not seeded: testbed/testbed seed");
        let (cluster, access) = (root.join("cluster"), root.join("cluster.hba"));
        let lines = ["local all all trust", "local replication all trust", "host all all all trust"];
        std::fs::write(&access, [&lines[..], &["host replication all all trust", ""]].concat().join("\n"))?;
        shell(&format!("cp -a --reflink=auto '{}' '{}'", state().join("golden/pg/data").display(), cluster.display()))?;
        let name = format!("lifeboat-drill-test-{purpose}-{}", std::process::id());
        shell(&format!(
            "docker run -d --rm --name {name} --network lifeboat-testbed -p 127.0.0.1:0:5432 -v '{}':/var/lib/postgresql/data \
             -v '{}':/pg_hba.conf:ro {POSTGRES_IMAGE} postgres -c ssl=off -c hba_file=/pg_hba.conf",
            cluster.display(),
            access.display()
        ))?;
        let mut server = Server { name, port: 0, cluster };
        let name = &server.name;
        shell(&format!("for i in $(seq 100); do docker exec {name} pg_isready -q && break; sleep 0.2; done"))?;
        let port = shell(&format!("docker port {name} 5432 | head -1 | sed 's/.*://'"))?;
        server.port = port.trim().parse()?;
        Ok(server)
    }

    pub async fn connect(&self) -> Result<tokio_postgres::Client> {
        let address = format!("host=127.0.0.1 port={} user=postgres dbname={DATABASE}", self.port);
        let (client, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = shell(&format!("docker rm -f {}", self.name));
        let _ = std::fs::remove_dir_all(&self.cluster);
    }
}

async fn base_backup(server: &Server, pgdata: &Path) -> Result<DatabaseDigest> {
    let client = server.connect().await?;
    // Nobody else writes to it, so that digests before and after the copy are the same.
    let digest = digest::run(&client, &digest::Options::default()).await?;
    client.batch_execute("SELECT pg_logical_emit_message(true, 'lifeboat', 'test')").await?;
    shell(&format!(
        "docker exec -u postgres {} pg_basebackup -D - -Ft -X fetch -c fast | tar -x -C '{}'",
        server.name,
        pgdata.display()
    ))?;
    Ok(digest)
}

pub fn shell(command: &str) -> Result<String> {
    let output = Command::new("bash").args(["-o", "pipefail", "-c", command]).output()?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Copies the testbed's state, or another copy.
pub struct Testbed {
    finished: Timestamp,
    readable: bool,
    copy: Option<Arc<Golden>>,
}

impl Testbed {
    pub fn new() -> Testbed {
        Testbed { finished: Timestamp::now(), readable: true, copy: None }
    }

    /// Of a copy of one's own.
    pub fn of(copy: &Arc<Golden>) -> Testbed {
        Testbed { copy: Some(Arc::clone(copy)), ..Testbed::new() }
    }

    /// Fails to fetch as a repository with a missing pack does.
    pub fn unreadable() -> Testbed {
        Testbed { readable: false, ..Testbed::new() }
    }
}

#[async_trait]
impl Source for Testbed {
    async fn select(&self) -> lifeboat_drill::Result<Selected> {
        let answered = |spec: &Spec| spec.answered(Answer::passed("answered by the test's own source"), Duration::ZERO);
        Ok(Selected {
            name: "a copy of the testbed".into(),
            finished: self.finished,
            reference: Some(self.finished),
            age_seconds: 0,
            point: None,
            repository: None,
            versions: VersionsReadBack::default(),
            checks: vec![answered(&ladder::SIGNATURE), answered(&ladder::OBJECTS)],
        })
    }

    async fn fetch(&self, _: &Selected, to: &Path) -> lifeboat_drill::Result<Fetched> {
        let failed = |error: anyhow::Error| lifeboat_drill::Error::source("cannot copy the testbed")(error.into());
        if !self.readable {
            let damaged = lifeboat_engine::Error::Damaged("pack 00ff is missing".into());
            return Err(lifeboat_drill::Error::source("cannot copy the testbed")(Box::new(damaged)));
        }
        let golden = match &self.copy {
            Some(copy) => Arc::clone(copy),
            None => Arc::clone(golden().await.map_err(failed)?),
        };
        let command = format!("cp -a --reflink=auto '{}' '{}'", golden.folder.display(), to.display());
        let copied = tokio::task::spawn_blocking(move || shell(&command)).await;
        copied.map_err(anyhow::Error::from).and_then(|result| result).map_err(failed)?;
        Ok(Fetched {
            files: 1,
            bytes: 1,
            began: Some(golden.taken),
            witness: Some(Witness {
                comparison: Comparison::QuietSource { snapshot: String::new() },
                taken: golden.taken,
                databases: [(DATABASE.to_owned(), golden.digest.clone())].into(),
                facts: SourceFacts::default(),
            }),
            ..Fetched::default()
        })
    }
}

/// A request for the testbed's images; `work_root` is the test's own.
pub fn request(work_root: &Path) -> DrillRequest {
    let mut run = [0; 8];
    getrandom::fill(&mut run).expect("the system has random bytes");
    DrillRequest {
        run: RunId(run),
        tenant: "testbed".parse().expect("a valid name"),
        instance: "demo".parse().expect("a valid name"),
        databases: vec![DATABASE.into()],
        login_hint: "lifeboat".into(),
        config: DrillConfig {
            postgres_image: POSTGRES_IMAGE.into(),
            odoo_image: ODOO_IMAGE.into(),
            addons: vec![addons()],
            memory: ByteSize(2 << 30),
            timeout: Span(Duration::from_secs(300)),
            required: Vec::new(),
            checks: Vec::new(),
        },
        rpo: Span(Duration::from_secs(365 * 86_400)),
        rto: Span(Duration::from_secs(600)),
        source: Arc::new(Testbed::new()),
        work_root: work_root.to_owned(),
        docker: None,
        clock: Arc::new(Timestamp::now),
        sabotage: None,
        budget: DrillsConfig { concurrent: 64, memory: None },
        show_rows: false,
        hold: None,
    }
}

pub async fn drill(request: DrillRequest) -> DrillReport {
    golden().await.expect("the testbed is up: testbed/testbed up");
    let report =
        lifeboat_drill::run(request, Arc::new(Silent), &CancellationToken::new()).await.expect("a drill begins");
    print(&report);
    report
}

pub fn work_root() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder for the drill")
}

pub fn print(report: &DrillReport) {
    for check in &report.checks {
        let why = match &check.verdict {
            Verdict::NotExecuted(why) => why,
            _ => &check.observed,
        };
        println!("{:>2} {:<22} {:<12} {:>6} ms  {why}", check.rung, check.id, check.verdict.word(), check.duration_ms);
    }
    println!("outcome {}; rpo {:?} rto {:?}; notes {:?}", report.outcome.word(), report.rpo, report.rto, report.notes);
    for phase in &report.phases {
        println!("{:>6} ms {}", phase.duration_ms, phase.name);
    }
}

pub fn check<'a>(report: &'a DrillReport, id: &str) -> &'a Check {
    report.checks.iter().find(|check| check.id == id).unwrap_or_else(|| panic!("no check {id}"))
}

pub fn failed(report: &DrillReport) -> Vec<&str> {
    let failed = report.checks.iter().filter(|check| matches!(check.verdict, Verdict::Failed(_)));
    failed.map(|check| check.id.as_str()).collect()
}

/// Everything a drill could leave behind.
pub fn nothing_left(report: &DrillReport, work_root: &Path) {
    assert_eq!(check(report, "teardown.proof").verdict, Verdict::Passed);
    let left = shell(&format!(
        "docker ps -aq --filter label=lifeboat.drill={0}; docker network ls -q --filter label=lifeboat.drill={0}",
        report.run
    ));
    assert_eq!(left.expect("docker answers"), "");
    assert_eq!(std::fs::read_dir(work_root).expect("the folder is there").count(), 0, "no plaintext is left");
}
