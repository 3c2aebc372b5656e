//! Drills of moments between backups, from a real repository: a server that is written to, a stream that stores its log, a
//! backup with an exact witness, and another witness by itself later on.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use lifeboat_drill::{
    DrillRequest, Result,
    point::RepositoryPoint,
    report::DrillReport,
    source::{OwnCopy, Sabotage},
};
use lifeboat_engine::{
    backup,
    context::{self, Context, Initiator},
    recovery::{Target, Wish},
    stream::{self, State, Until},
    witness,
};
use lifeboat_evidence::drill::Comparison;
use lifeboat_model::{
    check::{Outcome, Verdict},
    config::parse,
    id::{Instance, RepositoryId},
    signature::SigningKey,
};
use lifeboat_repo::{progress::Silent, repository::Repository, seal::Identity};
use lifeboat_store::local::LocalStore;
use tokio::sync::watch;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::origin::{Server, addons, check, drill, enabled, failed, nothing_left, request, state, work_root};

/// What was stored, and the keys to it.
struct Stored {
    context: Context,
    recovery: Identity,
    /// Between two commits after the backup.
    moment: Timestamp,
    /// The position of the second witness.
    witnessed: lifeboat_model::lsn::Lsn,
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).expect("the key is written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode is set");
}

async fn context(root: &Path, server: &Server, recovery: &Identity) -> Context {
    let (host, signing) = (Identity::generate(), SigningKey::from_seed(&[7; 32]));
    secret(&root.join("host"), host.to_secret_text().expose());
    secret(&root.join("signing"), signing.to_secret_text().expose());
    let text = format!(
        r#"tenant = "testbed"
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
[instances.demo]
tier = "gold"
[instances.demo.postgres]
host = "127.0.0.1"
port = {}
user = "postgres"
tls = "disable"
databases = ["demo"]
[instances.demo.postgres.wal]
heartbeat = "500ms"
[instances.demo.filestore]
path = "{}"
[instances.demo.config]
paths = ["{}"]
[instances.demo.drill]
postgres_image = "postgres:17"
odoo_image = "odoo:19"
[engine]
state_dir = "state"
"#,
        recovery.recipient(),
        signing.public(),
        server.port,
        state().join("golden/odoo-data/filestore").display(),
        addons().display(),
    );
    let (config, _) = parse(&text, &root.join("lifeboat.toml")).expect("the configuration is right");
    let store = Arc::new(LocalStore::open(&root.join("repository"), true).expect("a folder"));
    let repository = Repository::init(store, RepositoryId([1; 16]), Timestamp::now()).await.expect("a repository");
    let initiator = Initiator { who: "test@here".into(), command: "test".into() };
    Context::new(config, "0".repeat(64), repository, Arc::new(Timestamp::now), initiator)
}

async fn rename_partner(client: &Client, name: &str) {
    let renamed = client.execute("UPDATE res_partner SET comment = $1 WHERE id = 1", &[&name]).await;
    assert_eq!(renamed.expect("the partner is renamed"), 1);
}

/// Streams, backs up, and writes before and after a moment.
async fn store(root: &Path) -> Stored {
    let server = Server::start(root, "moment").expect("a server of our own");
    let recovery = Identity::generate();
    let context = Arc::new(context(root, &server, &recovery).await);
    let (name, config) = context.instance("demo").expect("it is configured");
    let (name, config) = (name.clone(), config.clone());
    let connect = context::connect_options(&config.postgres, &|_| None).expect("no secret is needed");
    let cancel = CancellationToken::new();
    let (sender, mut streamed) = watch::channel(State::default());
    let streaming = {
        let (context, connect, cancel) = (context.clone(), connect.clone(), cancel.clone());
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            runtime.block_on(stream::run(&context, "demo", &connect, Until::Cancelled, &sender, &cancel))
        })
    };
    let client = server.connect().await.expect("a session");
    backup::run(&context, "demo", &connect, Arc::new(Silent), &CancellationToken::new()).await.expect("a backup");
    rename_partner(&client, "before the moment").await;
    let alone = witness::take_alone(&connect, &config.postgres, &context.clock).await.expect("a witness");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let moment = Timestamp::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    rename_partner(&client, "after the moment").await;
    let kept = stream::keep_witness(&context, &name, &alone, Duration::from_secs(60)).await;
    kept.expect("the log past the witness is durable");
    let newest = streamed.wait_for(|state| state.newest_commit.is_some_and(|newest| newest > Timestamp::now()));
    // A heartbeat behind the last change.
    let _ = tokio::time::timeout(Duration::from_secs(5), newest).await;
    cancel.cancel();
    let _ = streaming.await.expect("the stream ends");
    drop(client);
    let context = Arc::into_inner(context).expect("nobody else has it");
    Stored { context, recovery, moment, witnessed: alone.lsn }
}

fn rehearse(stored: &Stored, work: &Path, target: Target) -> DrillRequest {
    let name: Instance = "demo".parse().expect("a valid name");
    let wish = Wish { point: None, target, timeline: None };
    let source = RepositoryPoint::new(
        stored.context.instance_repo(&name),
        wish,
        (stored.context.config.keys.trusted_keys.clone(), vec![stored.recovery.clone()]),
        Arc::new(Timestamp::now),
        Arc::new(Silent),
        CancellationToken::new(),
    );
    DrillRequest { source: Arc::new(source), login_hint: "postgres".into(), ..request(work) }
}

/// Changes one row.
struct ChangeRow;

#[async_trait]
impl Sabotage for ChangeRow {
    fn describe(&self) -> String {
        "one row of res_partner".into()
    }

    async fn replayed(&self, _: &OwnCopy<'_>, clients: &[(String, Client)]) -> Result<()> {
        rename_partner(&clients[0].1, "damaged").await;
        Ok(())
    }
}

fn compared_at(report: &DrillReport, stored: &Stored) {
    assert_eq!(check(report, "data.digests").verdict, Verdict::Passed);
    let Comparison::ExactWitness(exact) = &report.comparison else { panic!("{:?}", report.comparison) };
    assert_eq!(exact.lsn, stored.witnessed, "the newer witness proves more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_is_rehearsed_and_compared_with_the_witness_before_it() {
    if !enabled() {
        return;
    }
    let root = work_root();
    let stored = store(root.path()).await;
    let work = work_root();

    let report = drill(rehearse(&stored, work.path(), Target::Time(stored.moment))).await;
    assert_eq!((failed(&report), report.outcome), (vec![], Outcome::Passed));
    assert!(check(&report, "replay.end").observed.contains("stopped at"), "{}", check(&report, "replay.end").observed);
    compared_at(&report, &stored);
    let newest = report.newest_commit.expect("commits were replayed");
    assert!(newest <= stored.moment && report.rpo.is_some_and(|rpo| rpo < Duration::from_secs(5)), "{newest}");
    nothing_left(&report, work.path());

    let report = drill(rehearse(&stored, work.path(), Target::Latest)).await;
    assert_eq!((failed(&report), report.outcome), (vec![], Outcome::Passed));
    assert!(report.newest_commit.is_some_and(|newest| newest > stored.moment));
    compared_at(&report, &stored);
    nothing_left(&report, work.path());

    let control = DrillRequest {
        sabotage: Some(Arc::new(ChangeRow)),
        ..rehearse(&stored, work.path(), Target::Time(stored.moment))
    };
    let report = drill(control).await;
    assert_eq!(failed(&report).first(), Some(&"data.digests"));
    let observed = &check(&report, "data.digests").observed;
    assert!(observed.contains("res_partner"), "{observed}");

    let late = Timestamp::now() + Duration::from_secs(3600);
    let report = drill(rehearse(&stored, work.path(), Target::Time(late))).await;
    assert_eq!(failed(&report), ["select.point"]);
    assert!(check(&report, "select.point").observed.contains("nearest moment"), "it names what can be reached");
}
