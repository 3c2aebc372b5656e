//! What a daemon needs is taken away and given back, one thing at a time, while it works: Docker, PostgreSQL, the repository's
//! storage. It says what is wrong within a minute, does what it can meanwhile, and is as before when all is there again. Asked over
//! TLS, as an operator elsewhere would, who also calls a backup off in its middle.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use lifeboat_testkit::{
    bucket,
    cable::Cable,
    postgres::{Options, Postgres},
    testbed,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

#[path = "../faults/site.rs"]
#[allow(dead_code, reason = "shared with other test binaries")]
mod site;

use site::{Site, cluster, loopback, text};

/// What is promised: whatever is wrong is told within it, and so is its end.
const A_MINUTE: Duration = Duration::from_secs(60);
/// How long runs are waited for, beside other tests on two cores.
const PATIENCE: Duration = Duration::from_secs(90);
/// However much is away, whoever asks is answered within this.
const AT_ONCE: Duration = Duration::from_secs(3);

/// A stream that ends rests for longer than this test takes: it comes back by what answers again, or not at all.
const STREAM: &str = r#"
[schedule.stream]
do = "stream"
tiers = ["gold"]
retry_after = "5m"

[schedule.proof]
do = "dump"
tiers = ["gold"]
cron = "0 0 1 1 *"
missed = "skip"
"#;

/// A failed one is tried again soon, so that runs are under way when something goes and when it comes.
const BACKUPS: &str = r#"
[schedule.often]
do = "backup"
tiers = ["gold"]
cron = "*/6 * * * * *"
missed = { once_within = "5m" }
retries = 20
retry_after = "5s"
"#;

/// A site around a cluster of its own, each thing that it needs behind a cable; and the daemon that looks after it.
struct World {
    daemon: Child,
    address: SocketAddr,
    docker: Cable,
    postgres: Cable,
    storage: Cable,
    runtime: Runtime,
    http: reqwest::Client,
    site: Site,
    cluster: Postgres,
}

impl World {
    fn new() -> World {
        let cluster = cluster(17, &Options::default());
        // A dump waits for whoever locks it, a backup's witness does not look at it: it is not in the log.
        cluster
            .psql("demo", "CREATE UNLOGGED TABLE draft (id int); CREATE TABLE entry (id serial, word text)")
            .unwrap();
        let postgres = Cable::tcp(loopback(cluster.port()));
        let storage = Cable::tcp(server_of(&bucket::options("").endpoint.unwrap()));
        let mut site = Site::new(postgres.address().port());
        site.repository = repository(storage.address());
        site.configure();
        let config = fs::read_to_string(site.at("lifeboat.toml")).unwrap();
        let image = testbed::setting("LIFEBOAT_TESTBED_PG_IMAGE", "lifeboat-testbed/postgres:17");
        let config = config.replace("\"postgres:17\"", &format!("{image:?}"));
        let config = config.replace("[engine]", "[instances.clinic.dump]\nprogram = \"image\"\n\n[engine]");
        fs::write(site.at("lifeboat.toml"), config).unwrap();
        fs::create_dir(site.at("schedules")).unwrap();
        fs::write(site.at("schedules/stream.toml"), STREAM).unwrap();
        let docker = Cable::unix(&site.at("docker.sock"), Path::new("/var/run/docker.sock"));
        certificate(&site);
        let settings = "listen = \"127.0.0.1:0\"\nstate_dir = \"daemon\"\nlook_every = \"30s\"\nprobe_every = \"2s\"\n\
                        [tls]\ncert_file = \"server.crt\"\nkey_file = \"server.key\"\n[[tenant]]\nconfig = \"lifeboat.toml\"\n";
        fs::write(site.at("daemon.toml"), settings).unwrap();
        let settings = site.at("daemon.toml");
        let token =
            ["token", "create", "ann", "--role", "operator", "--role", "auditor", "--all-tenants", "--settings"];
        let token = site.succeed(&[&token[..], &[settings.to_str().unwrap()]].concat());
        let token = token.split_whitespace().find(|word| word.starts_with("lbt_")).unwrap().to_owned();
        fs::write(site.at("ann.token"), &token).unwrap();
        fs::set_permissions(site.at("ann.token"), fs::Permissions::from_mode(0o600)).unwrap();
        let log = fs::File::create(site.at("daemon.log")).unwrap();
        let mut daemon = site.command(&["daemon", "--settings", settings.to_str().unwrap()]);
        daemon.env("DOCKER_HOST", format!("unix://{}", site.at("docker.sock").display()));
        let daemon = daemon.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let runtime = Runtime::new().unwrap();
        let authority = reqwest::Certificate::from_pem(&fs::read(site.at("ca.crt")).unwrap()).unwrap();
        let bearer = format!("Bearer {token}").parse().unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([authority])
            .default_headers([(reqwest::header::AUTHORIZATION, bearer)].into_iter().collect())
            .build()
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut world = World { daemon, address, docker, postgres, storage, runtime, http, site, cluster };
        world.address = world.wait("address", PATIENCE, |world| {
            let said = world.said();
            let (_, rest) = said.split_once("serving on ")?;
            rest.split(';').next()?.parse().ok()
        });
        world
    }

    fn said(&self) -> String {
        fs::read_to_string(self.site.at("daemon.log")).unwrap()
    }

    /// Waits until there is something; the daemon goes on meanwhile.
    #[track_caller]
    fn wait<T>(&mut self, what: &str, patience: Duration, mut look: impl FnMut(&World) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(self.daemon.try_wait().unwrap().is_none(), "it ended: {}", self.said());
            assert!(begun.elapsed() < patience, "no {what} within {patience:?}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(150));
        }
    }

    /// What the daemon answers, at once, with its status.
    #[track_caller]
    fn ask(&self, path: &str) -> (u16, String) {
        self.ask_within(path, AT_ONCE)
    }

    #[track_caller]
    fn ask_within(&self, path: &str, patience: Duration) -> (u16, String) {
        let request = self.http.get(format!("https://{}/{path}", self.address)).timeout(patience);
        let answer = self.runtime.block_on(async {
            let answer = request.send().await?;
            Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.text().await?))
        });
        answer.unwrap_or_else(|error| panic!("{path}: {error:?}\n{}", self.said()))
    }

    #[track_caller]
    fn json(&self, path: &str) -> Value {
        let (status, text) = self.ask(&format!("api/v1/{path}"));
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The command line, from elsewhere.
    fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(["--daemon", &format!("https://localhost:{}", self.address.port())]);
        command.arg("--daemon-ca").arg(self.site.at("ca.crt")).arg("--token-file").arg(self.site.at("ann.token"));
        command.args(arguments).current_dir(self.site.dir.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run_cli(&self, arguments: &[&str]) -> Output {
        self.cli(arguments).output().unwrap()
    }

    #[track_caller]
    fn start(&self, verb: &str) -> String {
        let request = self.http.post(format!("https://{}/api/v1/runs", self.address)).timeout(PATIENCE);
        let request = request.json(&json!({ "tenant": "hospital", "instance": "clinic", "verb": verb }));
        let answer = self.runtime.block_on(async { request.send().await.unwrap().json::<Value>().await.unwrap() });
        answer["run"].as_str().unwrap_or_else(|| panic!("{verb}: {answer}")).to_owned()
    }

    fn runs(&self) -> Vec<Value> {
        self.json("runs?limit=500")["runs"].as_array().unwrap().clone()
    }

    /// A run that is over: its line.
    #[track_caller]
    fn ended(&mut self, run: &str) -> Value {
        self.wait("end of a run", PATIENCE, |world| {
            let line = world.json(&format!("runs/{run}"))["line"].take();
            (line["phase"] == "ended").then_some(line)
        })
    }

    /// A backup that the schedule began from now on, and that passed.
    #[track_caller]
    fn backup_passes(&mut self) {
        let now = jiff::Timestamp::now();
        self.wait("backup that passed", PATIENCE, |world| {
            let is_it = |run: &Value| {
                run["verb"] == "backup"
                    && run["outcome"] == "passed"
                    && run["started"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() > now
            };
            world.runs().iter().any(is_it).then_some(())
        });
    }

    /// Something is committed at the source; it is held soon, as the daemon's metrics tell.
    fn commit(&self) -> f64 {
        let sql = "INSERT INTO entry (word) VALUES ('x'); SELECT extract(epoch FROM now())";
        self.cluster.psql("demo", sql).unwrap().parse().unwrap()
    }

    #[track_caller]
    fn is_held(&mut self, commit: f64) {
        self.wait("commit in the repository", A_MINUTE, |world| {
            let (_, metrics) = world.ask("metrics");
            let line = metrics.lines().find(|line| line.starts_with("lifeboat_newest_commit_timestamp_seconds"))?;
            (line.rsplit_once(' ')?.1.parse::<f64>().unwrap() >= commit).then_some(())
        });
    }

    fn trouble(&self, of: &str) -> Option<Value> {
        let status = self.json("status");
        status["troubles"].as_array().unwrap().iter().find(|trouble| trouble["of"] == of).cloned()
    }

    /// Told in every way, in words that name it, with what to do next.
    #[track_caller]
    fn is_told(&mut self, of: &str, words: &[&str]) {
        // A question that was under way when it was taken away tells of that in other words than the next one.
        let is_so = |trouble: &Value| words.iter().all(|word| trouble["text"].as_str().unwrap().contains(word));
        let trouble = self.wait(&format!("{of}: {words:?}"), A_MINUTE, |world| world.trouble(of).filter(is_so));
        let next = trouble["next"].as_str().unwrap();
        assert!(next.starts_with("lifeboat "), "{next}");
        let status = self.run_cli(&["status"]);
        let status = text(&status);
        assert!(status.contains(&format!("{of}: ")) && status.contains(&format!("next: {next}")), "{status}");
        let said = self.said();
        let line = said.lines().rfind(|line| line.contains(" WARN ") && line.contains(&format!("{of}: ")));
        let line = line.unwrap_or_else(|| panic!("no line of {of}: {said}"));
        assert!(words.iter().all(|word| line.contains(word)) && line.contains(next), "{line}");
        assert!(self.metric_of(of), "no metric of {of}");
        let (status, page) = self.ask("");
        assert!(
            status == 200 && words.iter().all(|word| page.contains(word)),
            "the page does not tell {words:?}: {status}"
        );
    }

    fn metric_of(&self, of: &str) -> bool {
        let (_, metrics) = self.ask("metrics");
        let label = format!("of=\"{of}\"");
        metrics.lines().any(|line| line.starts_with("lifeboat_daemon_trouble{") && line.contains(&label))
    }

    /// And so is its end.
    #[track_caller]
    fn is_over(&mut self, of: &str) {
        self.wait("end of a trouble", A_MINUTE, |world| world.trouble(of).is_none().then_some(()));
        assert!(!self.metric_of(of));
        assert!(self.said().contains(&format!("{of}: it answers again")), "{}", self.said());
    }

    /// Locks a table until the answer is dropped.
    fn lock(&self, table: &str) -> tokio_postgres::Client {
        self.runtime.block_on(async {
            let dsn = self.cluster.superuser_dsn("demo");
            let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute(&format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).await.unwrap();
            client
        })
    }

    /// Somebody stands before a locked table.
    #[track_caller]
    fn somebody_waits_for(&mut self, table: &str) {
        let sql = format!("SELECT count(*) FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted");
        self.wait("wait for a lock", PATIENCE, |world| {
            (world.cluster.psql("demo", &sql).unwrap() != "0").then_some(())
        });
    }

    /// Containers of this site.
    fn containers(&self) -> Vec<String> {
        let format = "{{.ID}} {{.Label \"lifeboat.work\"}}";
        let list = ["container", "ls", "-a", "--filter", "label=lifeboat.drill", "--format", format];
        let output = Command::new("docker").args(list).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let below = self.site.dir.path().display().to_string();
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().filter(|line| line.contains(&below)).map(str::to_owned).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn server_of(endpoint: &url::Url) -> SocketAddr {
    endpoint.socket_addrs(|| None).unwrap().into_iter().find(SocketAddr::is_ipv4).unwrap()
}

/// The testbed's bucket, by way of a cable.
fn repository(through: SocketAddr) -> String {
    let secrets = testbed::state_dir().join("secrets");
    let options = bucket::options(&bucket::random_prefix("away"));
    format!(
        "[repository.s3]\nendpoint = \"http://{through}\"\nbucket = {:?}\nprefix = {:?}\nregion = {:?}\npath_style = true\n\
         access_key_file = {:?}\nsecret_key_file = {:?}",
        options.bucket,
        options.prefix,
        options.region,
        secrets.join("s3-access-key"),
        secrets.join("s3-secret-key")
    )
}

/// An authority of the house, and a certificate from it.
fn certificate(site: &Site) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=of the house", "-keyout", "ca.key", "-out", "ca.crt"];
    let server = ["req", "-x509", "-days", "2", "-subj", "/CN=localhost", "-CA", "ca.crt", "-CAkey", "ca.key"];
    let names =
        ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
    let files = ["-keyout", "server.key", "-out", "server.crt"];
    for arguments in [[&authority[..], &key].concat(), [&server[..], &names, &files, &key].concat()] {
        let made = Command::new("openssl").args(arguments).current_dir(site.dir.path()).output().unwrap();
        assert!(made.status.success(), "{}", text(&made));
    }
    fs::set_permissions(site.at("server.key"), fs::Permissions::from_mode(0o600)).unwrap();
}

/// The process of a run of this site.
fn process(site: &Site, words: &str) -> Option<PathBuf> {
    let config = site.at("lifeboat.toml").display().to_string();
    let is_it = |path: &PathBuf| {
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains("--until-stdin-closes") && line.contains(&config) && line.contains(words)
    };
    fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path())).find(is_it)
}

#[test]
fn what_is_taken_away_is_told_borne_and_gone_when_it_is_given_back() {
    if !testbed::enabled() {
        return;
    }
    let begun = Instant::now();
    let mut world = World::new();
    let took = |what: &str| eprintln!("{what}: {:.1} s", begun.elapsed().as_secs_f64());
    called_off(&mut world);
    took("called off");
    fs::write(world.site.at("schedules/backups.toml"), BACKUPS).unwrap(); // seen within two seconds
    without_docker(&mut world);
    took("without Docker");
    without_postgres(&mut world);
    took("without PostgreSQL");
    without_storage(&mut world);
    took("without storage");
    at_the_end(world);
    took("at the end");
}

/// A backup that is asked for over TLS, followed, called off in its middle; the next one is good.
fn called_off(world: &mut World) {
    let stranger = Command::new(env!("CARGO_BIN_EXE_lifeboat"))
        .args(["--daemon", &format!("https://localhost:{}", world.address.port()), "status"])
        .output()
        .unwrap();
    assert_eq!(stranger.status.code(), Some(10), "nobody vouches for it: {}", text(&stranger));
    world.wait("lead", PATIENCE, |world| world.said().contains("works for the tenant now").then_some(()));

    let lock = world.lock("partner");
    let following = world.cli(&["backup", "clinic", "--json"]).spawn().unwrap();
    world.somebody_waits_for("partner");
    world.postgres.squeeze(); // the server cannot even be told
    let is_backup = |run: &&Value| run["verb"] == "backup" && run["phase"] == "running";
    let run = world.runs().iter().find(is_backup).unwrap()["run"].as_str().unwrap().to_owned();
    let cancelled = world.run_cli(&["runs", "cancel", &run]);
    assert!(cancelled.status.success(), "{}", text(&cancelled));
    let followed = following.wait_with_output().unwrap();
    assert_eq!(followed.status.code(), Some(130), "{}", text(&followed));
    let told: Value = serde_json::from_slice(&followed.stdout).unwrap();
    assert_eq!(told["line"]["outcome"], "interrupted", "{told}");
    assert_eq!(told["line"]["reason"], "called off by ann", "{told}");
    assert_eq!(process(&world.site, " backup clinic"), None, "it is over, and its process is there");
    world.postgres.release();
    drop(lock);
    assert_eq!(world.site.points(), [""; 0], "a backup that was called off left something that looks like a point");

    let followed = world.run_cli(&["backup", "clinic"]);
    assert_eq!(followed.status.code(), Some(0), "{}", text(&followed));
    assert_eq!(world.site.points().len(), 1);
    let commit = world.commit();
    world.is_held(commit);
}

/// A dump by an image is cut off in its middle; backups and the stream go on.
fn without_docker(world: &mut World) {
    let lock = world.lock("draft");
    let cut_off = world.start("dump");
    world.somebody_waits_for("draft");
    world.docker.pull();
    let socket = world.site.at("docker.sock").display().to_string();
    world.is_told("docker", &[&socket, "does not answer"]);
    let ended = world.ended(&cut_off);
    assert!(ended["outcome"] == "failed" && ended["reason"].as_str().unwrap().contains("Docker"), "{ended}");
    let refused = world.start("dump");
    let refused = world.ended(&refused);
    assert!(refused["outcome"] == "failed" && refused["reason"].as_str().unwrap().contains(&socket), "{refused}");
    let commit = world.commit();
    world.is_held(commit);
    world.backup_passes();
    drop(lock);

    world.docker.plug();
    world.is_over("docker");
    let dump = world.start("dump");
    let dump = world.ended(&dump);
    assert_eq!(dump["outcome"], "passed", "{dump}");
    assert_eq!(world.containers(), [""; 0], "also what was cut off from Docker is gone");
}

/// What needs the repository alone goes on.
fn without_postgres(world: &mut World) {
    world.postgres.pull();
    let address = world.postgres.address().to_string();
    world.is_told("postgres clinic", &["PostgreSQL", &address, "refused"]);
    let signs = world.start("signs");
    let signs = world.ended(&signs);
    assert_eq!(signs["outcome"], "passed", "{signs}");
    let failed = world.wait("backup that failed", A_MINUTE, |world| {
        let is_it = |run: &Value| run["verb"] == "backup" && run["outcome"] == "failed";
        world.runs().into_iter().find(is_it)
    });
    assert!(failed["reason"].as_str().unwrap().contains(&address), "{failed}");
    let commit = world.commit();

    world.postgres.plug();
    world.is_over("postgres clinic");
    world.is_held(commit);
    world.backup_passes();
}

/// What is known is shown; the stream, whose process is killed besides, is there again as soon as storage is.
fn without_storage(world: &mut World) {
    world.storage.pull();
    let endpoint = world.storage.address().to_string();
    world.is_told("repository main", &["s3://", &endpoint]);
    for path in [
        "api/v1/status",
        "api/v1/runs",
        "api/v1/schedules",
        "tenants/hospital/instances/clinic",
        "schedules",
        "storage",
    ] {
        let (status, answer) = world.ask(path);
        assert_eq!(status, 200, "{path}: {answer}");
    }
    world.wait("reason", A_MINUTE, |world| {
        world.trouble("repository main")?["text"].as_str()?.contains("Connection refused").then_some(())
    });
    let (status, answer) = world.ask_within("api/v1/points/hospital/clinic", Duration::from_secs(10));
    assert!(status == 503 && answer.contains("lifeboat status"), "{status}: {answer}");
    let stream = process(&world.site, " wal stream clinic").unwrap();
    let killed = Command::new("kill").arg("-KILL").arg(stream.file_name().unwrap()).status().unwrap();
    assert!(killed.success());
    world.wait("word of the stream", A_MINUTE, |world| world.trouble("stream clinic"));
    let commit = world.commit();

    world.storage.plug();
    world.is_over("repository main");
    world.is_held(commit);
    assert_eq!(world.trouble("stream clinic"), None);
    world.backup_passes();
}

/// Nothing was lost, doubled or left.
fn at_the_end(mut world: World) {
    fs::remove_file(world.site.at("schedules/backups.toml")).unwrap();
    world.wait("end of all backups", PATIENCE, |world| {
        let is_open = |run: &Value| run["verb"] != "stream" && run["phase"] != "ended";
        let is_gone = world.json("schedules")["schedules"].as_array().unwrap().len() == 2;
        (is_gone && !world.runs().iter().any(is_open)).then_some(())
    });
    let mut passed: BTreeMap<String, usize> = BTreeMap::new();
    let runs = world.runs();
    for run in runs.iter().filter(|run| run["verb"] == "backup" && run["outcome"] == "passed") {
        let due = run["due"].as_str().map_or_else(|| run["run"].to_string(), str::to_owned);
        *passed.entry(due).or_default() += 1;
    }
    assert!(passed.values().all(|times| *times == 1), "done twice: {passed:?}");
    let dumps = runs.iter().filter(|run| run["verb"] == "dump" && run["outcome"] == "passed").count();
    assert_eq!(world.site.points().len(), passed.len() + dumps, "{runs:?}");
    assert_eq!(world.json("status")["troubles"], json!([]));
    let slots = world.cluster.psql("postgres", "SELECT count(*) FROM pg_replication_slots").unwrap();
    assert_eq!(slots, "1");
    assert_eq!(world.containers(), [""; 0]);

    let sent = Command::new("kill").args(["-TERM", &world.daemon.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let ended = world.daemon.wait().unwrap();
    assert!(ended.success(), "{ended}: {}", world.said());
    assert!(world.said().lines().all(|line| !line.contains(" ERROR ")), "{}", world.said());
    assert_eq!(process(&world.site, ""), None);
    world.site.succeed(&["evidence", "verify"]);
}
